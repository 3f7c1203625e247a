"""The ``fastgd`` command, as a user calls it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from typer.testing import CliRunner

from fastgd import cli
from fastgd.comparison import PROBLEMS, SOLVERS, SUITES, Comparison
from fastgd.comparison.solvers import DEFAULT_SOLVERS
from fastgd.comparison.tuning import FIRST_TUNING_SEED

# Who runs the tests in the background has Ctrl-C switched off, for his children too.
COMMAND = [
    sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from fastgd.cli import main; main()",
]  # fmt: skip
# Few runs, each of them over before one can look.
SMALL = {
    "solvers": "momentum,lbfgs", "problems": "quadratic-1e2", "seeds": "2", "passes": "12",
    "n-jobs": "1",
}  # fmt: skip
TUNED = {"track": "tuned", "trials": "15", "seeds": "1", "problems": "rosenbrock"}

warns = pytest.mark.filterwarnings("default")


def run(*arguments, columns=100):
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": str(columns)})


def compare(path, columns=100, **options):
    """What ``fastgd compare`` says; its file and page go where the path says."""
    options = SMALL | {"json": str(path)} | {k.replace("_", "-"): v for k, v in options.items()}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return run("compare", *arguments, columns=columns)


def compared(path, **options):
    """The comparison that ``fastgd compare`` leaves."""
    result = compare(path, **options)
    assert result.exit_code == 0, result.output
    return Comparison.from_json(path)


def words(text):
    """Text without frames and line breaks."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def keys(comparison):
    return {(run.solver, run.problem, run.seed) for run in comparison.runs}


def records(path, part="runs"):
    """What stands in a file; as objects, NaN would differ from NaN."""
    return json.loads(path.read_text("utf-8"))[part]


def courses(runs):
    """What does not depend on the machine."""
    return [(run.key, run.settings, run.objective, run.passes) for run in runs]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished comparison, its file, and what the command said."""
    path = tmp_path_factory.mktemp("cli") / "runs.json"
    result = compare(path)
    assert result.exit_code == 0, result.output
    return Comparison.from_json(path), path, result


# What is left.


def test_file_and_page_are_left_and_named(small):
    comparison, path, result = small
    page = path.with_suffix(".html")
    assert keys(comparison) == {
        (s, "quadratic-1e2", i) for s in ("momentum", "lbfgs") for i in (0, 1)
    }
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir() if p.suffix not in (".json", ".html")] == []
    assert str(path) in result.stdout
    assert str(page) in result.stdout


def test_table_and_sentences_are_printed(small):
    comparison, _, result = small
    said = words(result.stdout)
    for row in comparison.table():
        solved = " ".join(str(n) for n in row["solved"].values())
        assert f"{row['solver']} {row['area']:.2f} {solved}" in said
    assert all(words(sentence) in said for sentence in comparison.summary())


def test_progress_is_kept_apart_from_results(small):
    """So that the output can go to a file."""
    result = small[2]
    assert "runs" in result.stderr
    assert "4/4" in result.stderr
    assert "4/4" not in result.stdout


def test_page_goes_where_it_is_told(tmp_path):
    compared(tmp_path / "a.json", html=tmp_path / "b.html", seeds=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.html"]


def test_names_of_files_are_printed_as_they_are(tmp_path):
    """What a name has in brackets or between colons is no mark-up."""
    path = tmp_path / "runs[red] :car: [1].json"
    result = compare(path, seeds=1)
    assert result.exit_code == 0
    assert str(path) in result.stdout


@pytest.mark.parametrize("name", ["runs.html", "runs"])
def test_page_never_takes_the_place_of_the_runs(tmp_path, name):
    """A page beside runs.html would be runs.html itself."""
    path = tmp_path / name
    result = compare(path, seeds=1)
    if result.exit_code == 0:
        assert keys(Comparison.from_json(path))
    else:
        assert result.exit_code == 2


def test_default_solvers(tmp_path):
    comparison = compared(tmp_path / "a.json", solvers="default", seeds=1, passes=2)
    assert comparison.solvers == list(DEFAULT_SOLVERS)


def test_names_may_have_spaces_and_be_mixed_with_suites(tmp_path):
    comparison = compared(
        tmp_path / "a.json", solvers=" lbfgs , adam", problems="functions, rosenbrock,iris-tanh",
        seeds=1, passes=2,
    )  # fmt: skip
    assert comparison.solvers == ["lbfgs", "adam"]
    assert comparison.problems == [*SUITES["functions"], "iris-tanh"]


# Options.


def test_passes_are_a_budget(tmp_path):
    comparison = compared(tmp_path / "a.json", passes=7, solvers="momentum")
    assert {run.passes[-1] for run in comparison.runs} == {7}


def test_seconds_are_a_budget(tmp_path):
    comparison = compared(tmp_path / "a.json", passes=1e9, seconds=0.05, solvers="momentum")
    for one in comparison.runs:
        assert one.status == "timed out"
        assert 0.04 <= one.seconds[-1] < 1  # the last point noted before


@warns
def test_tuned_track(tmp_path):
    comparison = compared(tmp_path / "a.json", **TUNED)
    momentum, lbfgs = comparison.tuning
    assert comparison.track == "tuned"
    assert len(momentum.trials) == 15
    assert lbfgs.trials == []
    assert all(trial.seed >= FIRST_TUNING_SEED for trial in momentum.trials)
    settings = {one.solver: one.settings for one in comparison.runs}
    assert settings == {"momentum": momentum.settings, "lbfgs": {}}


@warns
def test_random_state_is_of_the_draws(tmp_path):
    tried = [
        [trial.settings for trial in compared(path, **TUNED, solvers="momentum", passes=2,
                                              random_state=seed).tuning[0].trials]
        for path, seed in ((tmp_path / "a.json", 0), (tmp_path / "b.json", 0),
                           (tmp_path / "c.json", 1))
    ]  # fmt: skip
    assert tried[0] == tried[1] != tried[2]


def test_learning_mode(tmp_path):
    comparison = compared(tmp_path / "a.json", mode="learning", problems="functions,iris-tanh")
    assert comparison.mode == "learning"
    assert comparison.problems == ["iris-tanh"]  # what has samples to validate on
    assert "validation" in words(" ".join(comparison.summary()))


def test_several_runs_at_once_change_no_number(small, tmp_path):
    parallel = compared(tmp_path / "a.json", n_jobs=2)
    assert courses(parallel.runs) == courses(small[0].runs)


# Going on.


def test_resume_runs_only_what_is_missing(small, tmp_path):
    path = small[1]
    result = compare(tmp_path / "b.json", resume=path, solvers="momentum,lbfgs,adam", seeds=3)
    assert result.exit_code == 0, result.output
    assert "5/5" in result.stderr  # one seed more of two solvers, and three of one
    assert len(records(tmp_path / "b.json")) == 9
    # Seconds too, which no second run would repeat.
    old = [run for run in records(tmp_path / "b.json") if run["solver"] != "adam"]
    assert [run for run in old if run["seed"] < 2] == records(path)


def test_resume_of_what_is_finished_changes_nothing(small, tmp_path):
    before, path, _ = small
    after = compared(tmp_path / "b.json", resume=path)
    for part in ("runs", "sensitivity"):
        assert records(tmp_path / "b.json", part) == records(path, part)
    assert after.references.keys() == before.references.keys()


@warns
def test_resume_leaves_out_what_is_not_asked_for(tmp_path):
    """Nothing is told of a problem that is not compared any more."""
    many, few = tmp_path / "many.json", tmp_path / "few.json"
    compared(many, **TUNED | {"problems": "rosenbrock,quadratic-1e2"}, solvers="momentum")
    after = compared(few, **TUNED, solvers="momentum", resume=many)
    assert after.problems == ["rosenbrock"]
    for records in (after.runs, after.tuning, after.sensitivity):
        assert {record.problem for record in records} == {"rosenbrock"}


@warns
def test_resume_with_another_number_of_trials_is_refused_before_it_runs(tmp_path):
    """Unequal tuning is unfair; to say so after all is run would lose the runs."""
    path = tmp_path / "a.json"
    compared(path, **TUNED, solvers="momentum")
    result = compare(
        tmp_path / "b.json", **TUNED | {"trials": "25"}, solvers="momentum,adam", resume=path
    )
    assert result.exit_code == 2
    assert "trials" in words(result.stderr)
    assert "runs" not in re.findall(r"^\w+", result.stderr, re.MULTILINE)


def test_resume_with_another_budget_is_refused(small, tmp_path):
    result = compare(tmp_path / "b.json", resume=small[1], passes=13)
    assert result.exit_code == 2
    assert "budget" in words(result.stderr)
    assert not (tmp_path / "b.json").exists()


# Ctrl-C.


def wait_for(text, file, process):
    """Until a process has written the text; a bar is drawn again and again."""
    until = time.monotonic() + 60
    while text not in file.read_text("utf-8"):
        assert process.poll() is None, file.read_text("utf-8")
        assert time.monotonic() < until, f"no {text} within a minute"
        time.sleep(0.05)


def left_of(session):
    """Commands of the processes of a session that still run."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                yield process.cmdline()
        except (psutil.Error, ProcessLookupError):
            pass  # over in the meantime


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a group of processes")
@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_ctrl_c_keeps_what_is_finished(tmp_path, n_jobs):
    """As a terminal sends it, to the command and its workers, while the second solver runs."""
    arguments = ["--solvers", "lbfgs,momentum", "--problems", "quadratic-1e2", "--seeds", "2"]
    arguments += ["--passes", "1e9", "--seconds", "60", "--n-jobs", n_jobs]
    told = tmp_path / "told"
    with told.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "compare", *arguments, "--json", str(tmp_path / "runs.json")],
            env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "100"},  # a bar that is drawn at once
            stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True,
        )  # fmt: skip
    with process:
        try:
            wait_for("2/4", told, process)
            os.killpg(process.pid, signal.SIGINT)
            stdout, _ = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    # It has done what it could: 0.
    assert process.returncode == 0, told.read_text("utf-8")
    assert "interrupted" in told.read_text("utf-8")
    assert "runs written to" in stdout
    assert (tmp_path / "runs.html").exists()
    comparison = Comparison.from_json(tmp_path / "runs.json")
    assert courses(comparison.runs) == courses(comparison.runs_of("quadratic-1e2", "lbfgs"))
    assert len(comparison.runs) == 2
    assert comparison.solvers == ["lbfgs", "momentum"]
    until = time.monotonic() + 10
    while (left := list(left_of(process.pid))) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []


@warns
def test_what_was_interrupted_can_be_finished(monkeypatch, tmp_path):
    """Ctrl-C at the third run; to resume gives what would have come without it."""
    show, path = cli._Bars.show, tmp_path / "part.json"

    def show_until_third(self, what, n_done, n_total):
        show(self, what, n_done, n_total)
        if (what, n_done) == ("runs", 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cli._Bars, "show", show_until_third)
        part = compared(path)
    assert len(part.runs) == 2
    whole, expected = compared(tmp_path / "whole.json", resume=path), compared(tmp_path / "x.json")
    assert courses(whole.runs) == courses(expected.runs)
    assert courses(whole.sensitivity) == courses(expected.sensitivity)


@warns
def test_a_finished_comparison_is_not_lost_to_an_interrupted_one(monkeypatch, tmp_path):
    path, show = tmp_path / "runs.json", cli._Bars.show
    whole = compared(path)
    before = path.read_bytes(), path.with_suffix(".html").read_bytes()

    def show_until_third(self, what, n_done, n_total):
        show(self, what, n_done, n_total)
        if (what, n_done) == ("runs", 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(cli._Bars, "show", show_until_third)
    result = compare(path)
    assert f"{path.name} has what this comparison has not" in words(result.stdout)
    assert f"Only 2 of {len(whole.runs)} runs are finished." in words(result.stdout)
    assert (path.read_bytes(), path.with_suffix(".html").read_bytes()) == before
    part = Comparison.from_json(tmp_path / "runs-2.json")
    assert len(part.runs) == 2
    assert (tmp_path / "runs-2.html").exists()


def test_runs_that_are_not_asked_for_again_are_not_lost(tmp_path):
    path = tmp_path / "runs.json"
    two, before = compared(path, solvers="momentum,lbfgs"), path.read_bytes()
    result = compare(path, solvers="momentum", resume=path)
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == before
    one = Comparison.from_json(tmp_path / "runs-2.json")
    assert courses(one.runs) == courses(two.runs_of(one.problems[0], "momentum"))
    # What has all of them takes their place.
    compared(path, solvers="momentum,lbfgs,adam", resume=path)
    assert Comparison.from_json(path).solvers == ["momentum", "lbfgs", "adam"]
    assert not (tmp_path / "runs-3.json").exists()


def test_what_another_budget_gave_is_not_lost(tmp_path):
    path, page = tmp_path / "runs.json", tmp_path / "page.html"
    compare(path, html=page)
    before, own = path.read_bytes(), page.read_bytes()
    (tmp_path / "runs-2.html").write_text("of others")
    result = compare(path, html=page, passes=5)
    assert result.exit_code == 0, result.output
    assert (path.read_bytes(), page.read_bytes()) == (before, own)
    assert (tmp_path / "runs-2.html").read_text() == "of others"
    assert Comparison.from_json(tmp_path / "runs-3.json").budget.passes == 5
    assert (tmp_path / "runs-3.html").exists()


def test_a_page_that_was_named_is_written_where_nothing_would_be_lost(tmp_path):
    path, page = tmp_path / "runs.json", tmp_path / "page.html"
    compare(path)
    compare(path, html=page, passes=5)
    assert page.exists()
    assert Comparison.from_json(tmp_path / "runs-2.json").budget.passes == 5


@pytest.mark.parametrize("content", ['{"my": "data"}', '{"format": 99}', "\x00"])
def test_files_of_others_are_left_alone(tmp_path, content):
    path = tmp_path / "runs.json"
    path.write_text(content)
    assert compare(path).exit_code == 0
    assert path.read_text() == content
    assert Comparison.from_json(tmp_path / "runs-2.json").runs


@warns
def test_nobody_is_said_to_have_missed_what_was_interrupted(monkeypatch, tmp_path):
    """The second solver has not run: that it reached no target is not known."""
    path, show = tmp_path / "part.json", cli._Bars.show

    def show_until_third(self, what, n_done, n_total):
        show(self, what, n_done, n_total)
        if (what, n_done) == ("runs", 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(cli._Bars, "show", show_until_third)
    result = compare(path, solvers="lbfgs,momentum", passes=60)
    solved = {row["solver"]: row["solved"] for row in Comparison.from_json(path).table()}
    assert any(solved["lbfgs"].values())
    assert "neither reached" not in words(result.stdout)


# Errors.


def refused(result, *told):
    """Exit code 2, and a message that says what is wrong."""
    assert result.exit_code == 2, (result.output, result.exception)
    message = words(result.stderr)
    for expected in told:
        assert re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", message), message
    assert "Traceback" not in message


@pytest.mark.parametrize(("option", "value", "told"), [
    ("solvers", "adam,adm", "adm"),
    ("solvers", ",", ""),
    ("problems", "moons", "moons"),
    ("problems", ",", ""),
    ("seeds", "0", "1"),
    ("passes", "0", "1"),
    ("passes", "nan", ""),
    ("seconds", "0", "0.01"),
    ("track", "best", "default"),
    ("mode", "best", "learning"),
    ("trials", "16", "15"),
    ("n-jobs", "0", ""),
    ("random-state", "-1", "0"),
    ("json", "nowhere/x", "nowhere/x"),
    ("json", ".", "folder"),
    ("json", "/proc/x.json", "cannot be written"),
    ("html", "nowhere/x", "nowhere/x"),
    ("html", ".", "folder"),
    ("resume", "nowhere", "nowhere"),
    ("resume", ".", ""),
])  # fmt: skip
def test_wrong_values_are_named_with_their_option(tmp_path, monkeypatch, option, value, told):
    monkeypatch.chdir(tmp_path)
    refused(compare("runs", **{option: value}), option, *[told] * bool(told))
    assert list(tmp_path.iterdir()) == []


def test_learning_needs_samples(tmp_path):
    refused(compare(tmp_path / "a.json", mode="learning"), "learning", "samples")


DAMAGED = {
    "nothing": lambda text: "",
    "half of it": lambda text: text[: len(text) // 2],
    "something else": lambda text: "[1, 2]",
    "another version": lambda text: text.replace('"format": 2', '"format": 99'),
    "not text": lambda text: "\x00\x01",
    "a part is missing": lambda text: json.dumps(
        {k: v for k, v in json.loads(text).items() if k != "runs"}
    ),
    "a curve is missing": lambda text: text.replace('"objective"', '"objection"'),
    "a curve is empty": lambda text: re.sub(r'"passes": \[[^]]*\]', '"passes": []', text),
    "no solver": lambda text: json.dumps(json.loads(text) | {"solvers": []}),
    "text in a curve": lambda text: re.sub(r'"seconds": \[0.0', '"seconds": ["q"', text),
    "nothing in a curve": lambda text: re.sub(r'"objective": \[[^,]*', '"objective": [null', text),
    "text for a number": lambda text: re.sub(r'"final": [^,]*,', '"final": null,', text),
    "text for a budget": lambda text: re.sub(r'"passes": [\d.]+, ', '"passes": "x", ', text),
    "no provenance": lambda text: json.dumps(json.loads(text) | {"provenance": None}),
    "text for the seeds": lambda text: json.dumps(json.loads(text) | {"seeds": "q"}),
    "an unknown mode": lambda text: text.replace('"optimisation"', '"guessing"'),
    "an undeclared solver": lambda text: json.dumps(json.loads(text) | {"declared": {}}),
    "of another problem": lambda text: re.sub(
        '"references": {"quadratic-1e2"', '"references": {"other"', text
    ),
}


@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize("command", ["compare", "report"])
def test_damaged_files_are_refused(small, tmp_path, command, how):
    path = tmp_path / "damaged.json"
    path.write_text(DAMAGED[how](small[1].read_text("utf-8")), "utf-8")
    if command == "compare":
        result = compare(tmp_path / "b.json", resume=path)
    else:
        result = run("report", str(path))
    refused(result, "damaged.json")
    assert list(tmp_path.iterdir()) == [path]


# The page again.


def test_report_draws_the_page_again(small, tmp_path):
    _, path, before = small
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    result = run("report", str(copy))
    assert result.exit_code == 0, result.output
    assert copy.read_bytes() == path.read_bytes()
    page = copy.with_suffix(".html")
    titles = [
        re.findall("<li>.*</li>", p.read_text("utf-8")) for p in (page, path.with_suffix(".html"))
    ]
    assert titles[0] == titles[1] != []
    assert str(page) in result.stdout
    assert words(result.stdout).split("page written")[0] in words(before.stdout)


def test_report_puts_the_page_where_it_is_told(small, tmp_path):
    assert run("report", str(small[1]), "--html", str(tmp_path / "x.html")).exit_code == 0
    assert (tmp_path / "x.html").read_text("utf-8").startswith("<!doctype html>")


def test_report_does_not_write_over_its_own_file(small, tmp_path):
    path = tmp_path / "runs.html"
    path.write_bytes(small[1].read_bytes())
    refused(run("report", str(path)), "runs.html")
    assert path.read_bytes() == small[1].read_bytes()


def test_report_of_any_name(small, tmp_path):
    """Files made in Python have names that a terminal's mark-up would swallow."""
    text = small[1].read_text("utf-8").replace("lbfgs", "mine[/b]").replace("momentum", "m[red]")
    (tmp_path / "a.json").write_text(text, "utf-8")
    result = run("report", str(tmp_path / "a.json"))
    assert result.exit_code == 0, result.exception
    assert "mine[/b]" in result.stdout
    assert "m[red]" in result.stdout


@pytest.mark.parametrize(("arguments", "told"), [
    (["nowhere.json"], "nowhere.json"),
    (["."], ""),
    ([], "JSON_FILE"),
])  # fmt: skip
def test_report_without_a_file_is_refused(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    result = run("report", *arguments)
    assert result.exit_code == 2, result.exception
    assert told.lower() in words(result.stderr).lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("html", "told"), [("nowhere/x.html", "nowhere"), (".", "folder")])
def test_report_to_no_folder_is_refused(small, tmp_path, monkeypatch, html, told):
    monkeypatch.chdir(tmp_path)
    refused(run("report", str(small[1]), "--html", html), "--html", told)


# On the screen.

LONGEST = ",".join(sorted(SOLVERS, key=len)[-3:])
LONG_PROBLEMS = ",".join(["quadratic-1e2", "quadratic-1e4", "iris-tanh", "diabetes-tanh"])


def test_narrow_terminals_cut_nothing(tmp_path):
    """80 columns, the solvers with the longest names, and as many problems as are shown."""
    path = tmp_path / "a.json"
    result = compare(path, columns=80, solvers=LONGEST, problems=LONG_PROBLEMS, seeds=1, passes=3)
    assert result.exit_code == 0, result.output
    comparison = Comparison.from_json(path)
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-2])) <= 80
    lines = result.stdout.splitlines()
    for row in comparison.table():
        line = next(line for line in lines if line.strip().startswith(row["solver"]))
        for number in (f"{row['area']:.2f}", f"{row['seconds']:.2f}", f"{row['compile']:.2f}"):
            assert number in line.split()
    for name in (*comparison.solvers, *comparison.problems):
        assert name in words(result.stdout)


def test_output_that_goes_to_a_file_has_no_colours(small):
    assert "\x1b" not in small[2].stdout


# Help.


def test_help_of_compare_lists_everything():
    result = run("compare", "--help", columns=80)
    assert result.exit_code == 0
    said = words(result.stdout)
    for option in cli.typer.main.get_command(cli.app).commands["compare"].params:
        assert option.opts[0] in said
    for name in (*SOLVERS, *PROBLEMS, *SUITES):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", said), name


def test_help_says_what_ctrl_c_does():
    assert "Ctrl-C" in words(run("compare", "--help").stdout)


def test_help_lists_the_commands():
    for arguments in ([], ["--help"]):
        assert {"compare", "report", "warmup"} <= set(run(*arguments).output.split())


def test_installed_command_answers(tmp_path):
    """In a process of its own, from the option to the file."""
    path = tmp_path / "runs.json"
    arguments = [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [*COMMAND, "compare", *arguments, "--json", str(path)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "lbfgs" in done.stdout
    assert len(Comparison.from_json(path).runs) == 4


def test_no_such_command():
    assert run("compair").exit_code == 2


# Pictures and studies.


def test_landscape_draws_what_is_asked_for(tmp_path):
    for what, *options in (
        ("saddle", "--solvers", "adam,lbfgs", "--steps", "5"),
        ("network", "--problem", "iris-tanh", "--solvers", "adam", "--steps", "3"),
    ):
        picture = tmp_path / f"{what}.svg"
        result = run("landscape", what, "--out", str(picture), *options)
        assert result.exit_code == 0, result.output
        assert "<svg" in picture.read_text("utf-8")
        assert picture.name in result.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("landscape", "moon"), "moon"),
        (("landscape", "network", "--problem", "rosenbrock"), "rosenbrock"),
        (("landscape", "network", "--directions", "up"), "up"),
        (("landscape", "--solvers", "adm"), "adm"),
        (("landscape", "--out", "no-such-folder/a.png"), "--out"),
        (("landscape", "--out", "a.xyz", "saddle"), "xyz"),
        (("study", "nothing"), "nothing"),
        (("study", "vanishing", "--out", "no-such-folder"), "--out"),
    ],
)
def test_landscape_and_study_refuse(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run(*arguments), told)
    assert not list(tmp_path.iterdir())


def test_a_study_prints_its_table_and_its_sentence(tmp_path):
    result = run("study", "vanishing", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "study-vanishing.png").read_bytes().startswith(b"\x89PNG")
    said = words(result.stdout)
    assert "logistic" in said
    assert "hidden layers the first layer's gradient is" in said


# Warm-up.

AFTER_WARMUP = """
import warnings
import numpy as np, scipy.sparse
from fastgd import MLPClassifier, MLPRegressor
from fastgd.optimizers import RMSprop

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
MLPClassifier((5,), max_iter=2).fit(X, y).predict(X)
MLPClassifier((5,), "gelu", solver="adamw", dropout=0.5, clip_norm=1.0, max_iter=2).fit(X, y)
MLPClassifier((5,), solver="lbfgs", loss="hinge").fit(X, y > 1).predict(X)
MLPRegressor("poisson", (5,), solver=RMSprop(centered=True), max_iter=2).fit(X, y).predict(X)
sparse = scipy.sparse.csr_matrix(X.astype("f"))
MLPClassifier((5,), "tanh", max_iter=2).fit(sparse, np.arange(40)).predict(sparse)
for solver in "bfgs", "newton-cg", "levenberg-marquardt":
    MLPRegressor(hidden_layer_sizes=(5,), solver=solver, max_iter=2).fit(X, y)
MLPClassifier((5,), "silu", solver="trust-exact", max_iter=2).fit(sparse, y)
wide = rng.normal(size=(64, 3000))
MLPClassifier((64,), batch_size=8, max_iter=2, n_jobs=2).fit(wide, np.arange(64) % 3)
MLPClassifier((600,), batch_size=8, max_iter=1).fit(wide[:, :300], np.arange(64) % 3)
"""


def test_nothing_is_left_to_compile_after_warmup(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", "from fastgd.cli import main; main()", "warmup"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout
    files = set(tmp_path.rglob("*"))
    assert len(files) > 100
    subprocess.run([sys.executable, "-c", AFTER_WARMUP], env=environment, check=True)
    assert set(tmp_path.rglob("*")) == files


def test_warmup_fails_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.setattr(cli, "cache_folder", lambda: None)
    monkeypatch.setattr(cli, "all_steps", lambda: iter(()))
    result = run("warmup")
    assert result.exit_code == 1
    assert "ready" not in result.stdout

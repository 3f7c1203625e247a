"""The page of a comparison: one file that shows, without a network, what the comparison says."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from fastgd import comparison as workbench
from fastgd.comparison import Budget, Comparison, FunctionProblem
from fastgd.comparison.page import page
from fastgd.optimizers import SGD

AXES = ("passes", "seconds")
PLOTS = ("convergence", "profile", "data-profile", "sensitivity")
PROBLEMS = ["quadratic-1e2", "iris-tanh", "diabetes-tanh"]
# What a figure loses by being shown with four digits; a reciprocal loses it twice.
DIGITS = 6e-4
DARK, LIGHT = "#14171b", "#fcfcfd"


# What is shown.


@pytest.fixture(scope="module")
def comparison():
    """Of solvers that reach their targets, that miss them, and one that diverges."""
    return workbench.compare(
        ["momentum", "adam", "lbfgs", "bfgs", SGD(learning_rate=1e30)], PROBLEMS, seeds=3,
        budget=Budget(60, 10), n_jobs=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned():
    return workbench.compare(
        "momentum,lbfgs", "rosenbrock", seeds=1, budget=Budget(20, 10), track="tuned",
        sensitivity=False, n_jobs=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(comparison, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "comparison.json"
    comparison.to_json(path)
    Comparison.from_json(path).to_html(path.with_suffix(".html"))
    return path


@pytest.fixture(scope="module")
def saved(file):
    """The comparison as its file tells it."""
    return Comparison.from_json(file)


def without_runs(comparison):
    return dataclasses.replace(comparison, runs=[], references={}, sensitivity=[], ratios={})


def of_solvers(comparison, *solvers):
    runs = [run for run in comparison.runs if run.solver in solvers]
    return dataclasses.replace(comparison, solvers=list(solvers), runs=runs, sensitivity=[])


def of_one_seed(comparison):
    runs = [run for run in comparison.runs if run.seed == 0]
    return dataclasses.replace(comparison, seeds=1, runs=runs)


def renamed(comparison, solver=str, problem=str):
    """The same with other names of solvers or problems."""

    def record(run):
        return dataclasses.replace(run, solver=solver(run.solver), problem=problem(run.problem))

    return dataclasses.replace(
        comparison,
        solvers=[solver(name) for name in comparison.solvers],
        problems=[problem(name) for name in comparison.problems],
        runs=[record(run) for run in comparison.runs],
        sensitivity=[record(run) for run in comparison.sensitivity],
        references={problem(name): ref for name, ref in comparison.references.items()},
        ratios={problem(name): ratios for name, ratios in comparison.ratios.items()},
        declared={solver(name): what for name, what in comparison.declared.items()},
    )


ODD = {
    "without runs": without_runs,
    "one solver": lambda c: of_solvers(c, "lbfgs"),
    "one seed": of_one_seed,
    "misses only": lambda c: of_solvers(c, "adam", "SGD"),
    "divergence only": lambda c: of_solvers(c, "SGD"),
}
HOSTILE = ["<!--<script>", "<b>x</script>", "\"'&amp;", "%{y}{{ data }}", "naïve – 数\u2028", "a|b"]


# The file.


class Document(HTMLParser):
    """Elements with their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self._within = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, text):
        if self._within == "script":
            self.scripts[-1] += text


def data_of(text):
    """The figures that a page carries."""
    _, figures, _ = Document(text).scripts
    return json.loads(figures)


def leaves(value, place=""):
    """All numbers and texts in nested lists and dictionaries, by where they stand."""
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, one in pairs for k, v in leaves(one, f"{place}/{name}").items()}
    return {place: value}


def test_page_is_one_file(comparison):
    document = Document(page(comparison))
    addresses = [
        value
        for _, attributes in document.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data")
    ]
    assert all(address.startswith("data:") for address in addresses)
    assert {"iframe", "img", "object", "base"}.isdisjoint(tag for tag, _ in document.elements)
    style = re.search("<style>(.*?)</style>", page(comparison), re.DOTALL)[1]
    assert not re.findall(r"@import|url\(", style)


def test_page_of_the_file_is_that_of_the_comparison(comparison, saved):
    ours, its = page(comparison), page(saved)
    numbers, of_file = leaves(data_of(ours)), leaves(data_of(its))
    assert numbers.keys() == of_file.keys()
    for place, number in numbers.items():
        # Nine digits in the file: the fourth may be rounded the other way.
        near = pytest.approx(number, rel=2 * DIGITS) if isinstance(number, float) else number
        assert of_file[place] == near, place
    figures = r'(<script id="data").*?(</script>)'
    assert re.sub(figures, "", ours, flags=re.DOTALL) == re.sub(figures, "", its, flags=re.DOTALL)


@pytest.mark.parametrize("kind", ODD)
def test_page_of_an_odd_comparison_is_made(comparison, kind, tmp_path):
    odd = ODD[kind](comparison)
    odd.to_json(tmp_path / "odd.json")
    data = data_of(page(Comparison.from_json(tmp_path / "odd.json")))
    assert data["solvers"] == odd.solvers
    assert {row["solver"] for row in data["tables"]["passes"]} == set(odd.solvers)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("what", ["solver", "problem"])
def test_any_name_is_only_text(comparison, what, name):
    original = {"solver": "lbfgs", "problem": "iris-tanh"}[what]
    other = renamed(comparison, **{what: lambda old: name if old == original else old})
    plain, hostile = page(comparison), page(other)
    assert name in data_of(hostile)[f"{what}s"]
    tags = [[tag for tag, _ in Document(text).elements] for text in (plain, hostile)]
    assert tags[0] == tags[1]


@pytest.mark.parametrize("name", ["grid", "toString"])
def test_a_solver_may_have_any_name(comparison, name):
    """A user's own method is called what the user's function is; no figure is lost by that."""
    other = renamed(comparison, lambda old: name if old == "lbfgs" else old)
    ours, its = (data_of(page(c))["curves"] for c in (comparison, other))
    assert list(leaves(its).values()) == list(leaves(ours).values())


def test_page_says_what_was_not_tuned_and_what_was(comparison, tuned):
    assert data_of(page(comparison))["tuning"] == []
    assert [t["solver"] for t in data_of(page(tuned))["tuning"]] == ["momentum", "lbfgs"]


# In a browser.


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("needs Chromium")
    arguments = (
        "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
        " --disable-sync --no-first-run"
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=executable, args=arguments.split(), timeout=30_000
        )
        yield browser
        browser.close()


class Tabs:
    """Opens files; what they ask a network for and what they complain of is written down.

    Settings of one kind share a tab, in which a browser need not read Plotly again.
    """

    def __init__(self, browser):
        self._browser, self._tabs = browser, {}
        self.asked, self.complaints = [], []

    def __call__(self, path, kept=False, **settings):
        """Open a file or an address; ``kept`` in a tab that no other file will come into."""
        key = path if kept else repr(settings)
        if key not in self._tabs:
            self._tabs[key] = self._new(settings)
        tab = self._tabs[key]
        tab.goto("about:blank")  # another part of the same address would not be read anew
        tab.goto(path if isinstance(path, str) else path.as_uri())
        tab.wait_for_selector("body[data-ready=yes]")
        return tab

    def _new(self, settings):
        size = {"width": 1280, "height": 900}
        context = self._browser.new_context(**{"viewport": size} | settings)
        context.set_default_timeout(10_000)
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("console", lambda message: self.complaints.append(message.text))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        return context.new_page()


@pytest.fixture(scope="module")
def tabs(browser):
    return Tabs(browser)


@pytest.fixture
def open_tab(tabs):
    """Opens a file that may neither ask for anything else nor complain."""
    tabs.asked.clear()
    tabs.complaints.clear()
    yield tabs
    assert tabs.complaints == []
    assert [url for url in tabs.asked if not re.match("file:|data:|blob:|about:", url)] == []


@pytest.fixture(scope="module")
def only_tab(tabs, file):
    return tabs(file.with_suffix(".html"), kept=True)


@pytest.fixture
def tab(only_tab, open_tab):
    """A tab for tests that read: shared, but with its switches where a page begins."""
    choose(only_tab, axis="passes", problem=PROBLEMS[0], scale="log", target="0.1")
    return only_tab


@pytest.fixture
def own_tab(open_tab, file):
    """A tab for tests that leave something behind."""
    return open_tab(file.with_suffix(".html"))


def choose(tab, **choices):
    for name, choice in choices.items():
        tab.select_option(f"#{name}", choice)


def rows(tab, table):
    """Text of a table's cells, by rows; the head is the first one."""
    return tab.eval_on_selector(
        f"#{table}", "table => [...table.rows].map(r => [...r.cells].map(c => c.textContent))"
    )


def traces(tab, plot):
    return tab.eval_on_selector(f"#{plot}", "plot => plot.data")


def lines(tab, plot):
    """x and y of the lines that a plot has by name, bands apart."""
    return {
        t["name"]: (t["x"], t["y"]) for t in traces(tab, plot) if t.get("showlegend") is not False
    }


def drawn(tab, plot):
    """Names of the solvers that can be seen in a plot."""
    names = "p => p._fullData.filter(t => t.visible === true && t.showlegend).map(t => t.name)"
    return set(tab.eval_on_selector(f"#{plot}", names))


def n_curves(tab, plot):
    """Number of the curves in the picture itself."""
    return tab.locator(f"#{plot} .scatterlayer .trace").count()


def assert_shown(found, expected, rtol=DIGITS, least=0.0):
    """Four digits of what is finite, and nothing of what is not."""
    expected = np.maximum(np.asarray(expected, float), least)
    found = np.array([np.nan if v in (None, "—") else float(v) for v in found])
    np.testing.assert_allclose(found, np.where(np.isfinite(expected), expected, np.nan), rtol=rtol)


def test_page_is_drawn_without_a_network(own_tab, open_tab, file):
    assert open_tab.asked == [file.with_suffix(".html").as_uri()]
    for plot in PLOTS:
        box = own_tab.locator(f"#{plot} .scatterlayer .trace path.js-line").last.bounding_box()
        assert box["width"] > 50
    assert own_tab.locator("#overall tbody tr").count() == 5


def test_summary_is_that_of_the_comparison(tab, saved):
    assert tab.locator("#summary li").all_text_contents() == saved.summary()


def test_provenance_is_shown(tab, saved):
    shown = dict(rows(tab, "provenance")[1:])
    assert shown == {name: str(value) for name, value in saved.provenance.items()}
    assert {"fastgd", "numpy", "processor", "date"} <= shown.keys()


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("axis", AXES)
def test_curves_are_medians_and_bands_over_seeds(tab, saved, axis, problem):
    choose(tab, axis=axis, problem=problem)
    found = {}
    for trace in traces(tab, "convergence"):
        found.setdefault(trace["name"], []).append(trace)
    seen = {name for name in saved.solvers if np.isfinite(saved.curve(problem, name)[1][1]).any()}
    assert seen <= set(found)
    for solver in seen:
        grid, (low, middle, high) = saved.curve(problem, solver, axis)
        for trace, expected in zip(found[solver], (high, low, middle), strict=True):
            assert_shown(trace["x"], grid)
            assert_shown(trace["y"], expected, least=1e-9)
    assert tab.locator("h2 .of").all_text_contents() == [problem] * 3


@pytest.mark.parametrize("axis", AXES)
def test_overall_table(tab, saved, axis):
    choose(tab, axis=axis)
    _, *found = rows(tab, "overall")
    expected = saved.table(axis)
    assert [row[0] for row in found] == [row["solver"] for row in expected]
    for cells, row in zip(found, expected, strict=True):
        troubles = [row[what] for what in ("diverged", "timed out", "failed")]
        assert_shown(cells[1:], [
            row["area"], *row["solved"].values(), *troubles, row["seconds"], row["compile"],
        ])  # fmt: skip
    assert any(row["diverged"] for row in expected)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("axis", AXES)
def test_costs_to_each_target(tab, saved, axis, place):
    target = saved.targets[place]
    choose(tab, axis=axis, target=f"{target:g}")
    head, *found = rows(tab, "costs")
    assert head == ["solver", *saved.problems]
    costs = saved.median_costs(target, axis)
    assert [row[0] for row in found] == saved.solvers
    for name, *cells in found:
        assert_shown(cells, costs[name])
    lowest = np.min(list(costs.values()), axis=0)
    best = [float(text) for text in tab.locator("#costs td.best").all_text_contents()]
    assert set(best) == {float(f"{cost:.4g}") for cost in lowest if np.isfinite(cost)}


@pytest.mark.parametrize("axis", AXES)
def test_profiles(tab, saved, axis):
    choose(tab, axis=axis)
    for plot, profile in (
        ("profile", saved.profile(axis)), ("data-profile", saved.data_profile(axis)),
    ):  # fmt: skip
        found = lines(tab, plot)
        assert list(found) == saved.solvers
        for name, (x, y) in found.items():
            assert_shown(x, profile.x)
            assert_shown(y, profile.shares[name])


def outcome(verdict, first, second):
    if verdict is None:
        return "reached"  # neither a target
    if verdict.winner < 0:
        return "no difference"
    return f"{(first, second)[verdict.winner]} is cheaper"


@pytest.mark.parametrize("first", ["momentum", "bfgs"])
def test_two_solvers_in_both_directions(tab, saved, first):
    for second in [name for name in saved.solvers if name != first]:
        choose(tab, first=first, second=second)
        _, *found = rows(tab, "pair")
        verdicts = [saved.verdict(problem, first, second) for problem in saved.problems]
        assert [row[0] for row in found] == saved.problems
        for cells, verdict in zip(found, verdicts, strict=True):
            assert outcome(verdict, first, second) in cells[4]
            assert_shown(cells[1:4], [np.nan] * 3 if verdict is None else verdict, 2 * DIGITS)


def test_a_solver_against_itself_is_no_pair(tab):
    choose(tab, first="adam", second="adam")
    assert rows(tab, "pair") == [["Choose two solvers."]]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_sensitivity_to_the_learning_rate(tab, saved, problem):
    choose(tab, problem=problem)
    found = lines(tab, "sensitivity")
    assert set(found) == {"momentum", "adam", "SGD"}
    for solver, (rates, gaps) in found.items():
        runs = {run.settings["learning_rate"]: run for run in saved.sensitivity
                if (run.solver, run.problem) == (solver, problem)}  # fmt: skip
        runs[saved.declared[solver]["learning_rate"]] = saved.runs_of(problem, solver)[0]
        assert_shown(rates, sorted(runs))
        assert_shown(gaps, [
            np.inf if runs[rate].status == "diverged" else min(saved.gaps(runs[rate]))
            for rate in sorted(runs)
        ], least=1e-9)  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_each_solver_ended_with(tab, saved, problem):
    choose(tab, problem=problem)
    head, *found = rows(tab, "finals")
    assert [row[0] for row in found] == saved.solvers
    for cells in found:
        row = dict(zip(head, cells, strict=True))
        runs = saved.runs_of(problem, row["solver"])
        for name in ("final", "validation_loss", "test_score", "steps"):
            values = [getattr(run, name) for run in runs]
            assert_shown([row[name.replace("_", " ")]], [np.median(values)])
        assert_shown([row["gap"]], [sorted(min(saved.gaps(run)) for run in runs)[1]])
        assert all(run.stop_reason in row["ends"] for run in runs)


def test_tuning_is_shown(open_tab, tuned, tmp_path):
    tuned.to_html(tmp_path / "tuned.html")
    tab = open_tab(tmp_path / "tuned.html")
    _, momentum, lbfgs = rows(tab, "tuning")
    chosen = {t.solver: t for t in tuned.tuning}["momentum"]
    settings = dict(part.split("=") for part in momentum[2].split(", "))
    assert settings.keys() == chosen.settings.keys()
    assert_shown(settings.values(), list(chosen.settings.values()))
    assert momentum[:2] == ["rosenbrock", "momentum"]
    assert int(momentum[3]) == len(chosen.trials)
    assert lbfgs[1:4] == ["lbfgs", "—", "0"]
    assert tab.locator("#tuning-part").is_visible()


def test_parts_without_figures_are_not_shown(open_tab, comparison, tmp_path):
    dataclasses.replace(comparison, sensitivity=[]).to_html(tmp_path / "plain.html")
    tab = open_tab(tmp_path / "plain.html")
    assert not tab.locator("#tuning-part").is_visible()
    assert not tab.locator("#sensitivity-part").is_visible()


# Switches.


def title(tab, plot):
    return tab.locator(f"#{plot} .xtitle").text_content()


def test_axis_switch_changes_plots_and_tables(tab):
    seen = {}
    for axis in ("seconds", "passes", "seconds"):
        choose(tab, axis=axis)
        now = [traces(tab, plot)[0]["x"] for plot in ("convergence", "data-profile")]
        now += [rows(tab, "overall"), rows(tab, "costs"), title(tab, "convergence")]
        assert seen.setdefault(axis, now) == now
        assert axis in title(tab, "profile")
    assert all(a != b for a, b in zip(*seen.values(), strict=True))


def test_scale_of_cost(tab):
    """A linear scale begins at 0; a log scale has none."""
    for scale, has_zero in (("linear", True), ("log", False), ("linear", True)):
        choose(tab, scale=scale)
        ticks = tab.locator("#convergence .xtick").all_text_contents()
        assert ("0" in ticks) == has_zero
        assert len(ticks) >= 2


def seen_in_frame(tab, plot):
    """Number of points that lie within the axes."""
    return tab.eval_on_selector(f"#{plot}", """plot => {
        const { xaxis, yaxis } = plot._fullLayout;
        const within = (axis, v) => v !== null && axis.c2p(v) >= 0 && axis.c2p(v) <= axis._length;
        return plot._fullData.flatMap((t) => Array.from(t.x, (x, i) =>
            within(xaxis, x) && within(yaxis, t.y[i]))).filter(Boolean).length;
    }""")  # fmt: skip


@pytest.mark.parametrize("choice", [{"axis": "seconds"}, {"scale": "linear"}])
def test_a_zoom_does_not_hide_another_axis(own_tab, choice):
    """Who has zoomed into 10…40 passes must not look for microseconds there."""
    box = own_tab.locator("#convergence .nsewdrag").bounding_box()
    middle = box["y"] + box["height"] / 2
    own_tab.mouse.move(box["x"] + 0.6 * box["width"], middle)
    own_tab.mouse.down()
    own_tab.mouse.move(box["x"] + 0.9 * box["width"], middle, steps=5)
    own_tab.mouse.up()
    own_tab.wait_for_function(
        "document.getElementById('convergence').layout.xaxis.autorange === false"
    )
    zoomed = seen_in_frame(own_tab, "convergence")
    choose(own_tab, **choice)
    assert seen_in_frame(own_tab, "convergence") > zoomed


def test_problem_switch_changes_what_is_of_a_problem(tab):
    before = [lines(tab, "convergence"), lines(tab, "sensitivity"), rows(tab, "finals")]
    of_all = [rows(tab, "overall"), rows(tab, "costs"), lines(tab, "profile")]
    choose(tab, problem="iris-tanh")
    after = [lines(tab, "convergence"), lines(tab, "sensitivity"), rows(tab, "finals")]
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert of_all == [rows(tab, "overall"), rows(tab, "costs"), lines(tab, "profile")]


def test_target_switch_changes_costs(tab, saved):
    seen = []
    for target in saved.targets:
        choose(tab, target=f"{target:g}")
        seen.append(rows(tab, "costs"))
    assert seen[0] != seen[1] != seen[2]


def entry(tab, plot, solver):
    """Where the legend of a plot is clicked."""
    tab.eval_on_selector(f"#{plot}", "plot => plot.scrollIntoView({ block: 'center' })")
    items = tab.locator(f"#{plot} .legend .traces")
    return items.filter(has_text=re.compile(f"^{solver}$")).locator(".legendtoggle")


def pause(tab):
    """Two clicks in a row would be a double click."""
    tab.wait_for_timeout(400)


def test_a_click_hides_a_solver_in_all_plots(own_tab):
    before = {plot: (drawn(own_tab, plot), n_curves(own_tab, plot)) for plot in PLOTS}
    for clicked in PLOTS:
        entry(own_tab, clicked, "adam").click(timeout=5_000)
        for plot, (names, curves) in before.items():
            assert drawn(own_tab, plot) == names - {"adam"}
            assert n_curves(own_tab, plot) < curves
        pause(own_tab)
        entry(own_tab, clicked, "adam").click(timeout=5_000)
        assert before == {p: (drawn(own_tab, p), n_curves(own_tab, p)) for p in PLOTS}
        pause(own_tab)


def test_what_is_hidden_stays_so(own_tab):
    entry(own_tab, "profile", "adam").click(timeout=5_000)
    choose(own_tab, problem="iris-tanh", axis="seconds")
    own_tab.click("#theme")
    assert all("adam" not in drawn(own_tab, plot) for plot in PLOTS)


def test_a_double_click_shows_a_solver_alone_and_another_shows_all(own_tab):
    everyone = {plot: drawn(own_tab, plot) for plot in PLOTS}
    entry(own_tab, "profile", "adam").dblclick(timeout=5_000)
    assert all(drawn(own_tab, plot) == {"adam"} for plot in PLOTS)
    pause(own_tab)
    entry(own_tab, "convergence", "adam").dblclick(timeout=5_000)
    assert {plot: drawn(own_tab, plot) for plot in PLOTS} == everyone


def test_nothing_lies_above_the_first_name_of_a_legend(own_tab):
    """Tools that appear over a plot must not catch what is meant for the legend."""
    for plot in PLOTS:
        name = next(iter(lines(own_tab, plot)))
        entry(own_tab, plot, name).click(timeout=3_000)
        assert name not in drawn(own_tab, plot)
        pause(own_tab)
        entry(own_tab, plot, name).click(timeout=3_000)
        pause(own_tab)


def test_no_tool_sends_anything_away(tab):
    """Plotly can offer to share a plot on a server of theirs."""
    tools = tab.eval_on_selector_all(".modebar-btn", "all => all.map(b => b.dataset.title)")
    assert [name for name in tools if re.search("share|cloud|send|edit", name, re.IGNORECASE)] == []


def test_each_switch_has_a_name(tab):
    """Without one a screen reader says no more than that there is a switch."""
    outline = tab.locator("body").aria_snapshot()
    switches = re.findall("- (?:combobox|button).*", outline)
    assert len(switches) >= 7
    assert [line for line in switches if '"' not in line] == []


@pytest.mark.parametrize("plot", PLOTS)
def test_hover_shows_a_value(tab, plot):
    """The label of a point in the middle of a curve has the solver and both its numbers."""
    tab.locator(f"#{plot}").scroll_into_view_if_needed()
    place = tab.eval_on_selector(f"#{plot}", """plot => {
        const trace = plot._fullData.find((t) => t.name === "momentum" && t.showlegend);
        const { xaxis, yaxis } = plot._fullLayout, { left, top } = plot.getBoundingClientRect();
        const i = trace.y.findLastIndex((y) => y !== null && y > 0);
        return { x: left + xaxis._offset + xaxis.c2p(trace.x[i]) - 1,
                 y: top + yaxis._offset + yaxis.c2p(trace.y[i]) };
    }""")  # fmt: skip
    tab.mouse.move(place["x"] - 3, place["y"])
    tab.mouse.move(place["x"], place["y"], steps=3)
    label = tab.locator(f"#{plot} .hoverlayer .hovertext").first
    label.wait_for()
    text = label.text_content()
    assert "momentum" in text
    assert len(re.findall(r"\d", text)) >= 2
    tab.mouse.move(0, 0)


def ground(tab):
    rgb = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", rgb))


def ink(tab):
    """The colour of a plot's text."""
    return tab.eval_on_selector("#convergence .legendtext", "t => getComputedStyle(t).fill")


@pytest.mark.parametrize(
    ("scheme", "first", "other"), [("dark", DARK, LIGHT), ("light", LIGHT, DARK)]
)
def test_dark_and_light(open_tab, file, scheme, first, other):
    tab = open_tab(file.with_suffix(".html"), color_scheme=scheme)
    assert ground(tab) == first
    before = ink(tab)
    tab.click("#theme")
    assert ground(tab) == other
    assert ink(tab) != before
    tab.click("#theme")
    assert (ground(tab), ink(tab)) == (first, before)


def fits(tab):
    return tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_phone_scrolls_downwards_only(open_tab, file):
    tab = open_tab(
        file.with_suffix(".html"), viewport={"width": 390, "height": 800}, has_touch=True,
        is_mobile=True,
    )  # fmt: skip
    assert fits(tab)
    choose(tab, axis="seconds", problem="diabetes-tanh")
    assert fits(tab)
    for plot in PLOTS:
        box = tab.locator(f"#{plot} .plotbg, #{plot} .nsewdrag").first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["height"] > 150


def test_long_names_fit_on_a_phone(open_tab, comparison, tmp_path):
    """Classes and functions that users bring have names of any length."""
    long = "a_loss_of_mine_with_a_name_that_goes_on_and_on_and_on"
    other = renamed(comparison, str, lambda name: f"{name}_{long}")
    other.to_html(tmp_path / "long.html")
    assert fits(open_tab(tmp_path / "long.html", viewport={"width": 390, "height": 800}))


def test_a_window_that_changes_its_width(own_tab):
    for width in (600, 1280):  # as wide again in the end, for who uses the tab next
        own_tab.set_viewport_size({"width": width, "height": 900})
        own_tab.wait_for_function(
            "Math.abs(document.querySelector('#convergence .main-svg').clientWidth"
            " - document.getElementById('convergence').clientWidth) < 2"
        )
        assert fits(own_tab)


SWITCHES = {"axis": "seconds", "problem": "iris-tanh", "scale": "linear", "target": "0.001"}


def test_address_restores_the_switches(own_tab, open_tab):
    choose(own_tab, **SWITCHES)
    curves, costs = lines(own_tab, "convergence"), rows(own_tab, "costs")
    again = open_tab(own_tab.url)
    assert {name: again.input_value(f"#{name}") for name in SWITCHES} == SWITCHES
    assert lines(again, "convergence") == curves
    assert rows(again, "costs") == costs
    assert title(again, "convergence") == "seconds"


def test_nonsense_in_the_address_is_ignored(open_tab, file):
    address = file.with_suffix(".html").as_uri()
    tab = open_tab(f"{address}#axis=hours&problem=%3Cscript%3E&target=%ZZ&x")
    assert tab.input_value("#axis") == "passes"
    assert tab.input_value("#problem") == PROBLEMS[0]


# What else may come.


@pytest.mark.parametrize("kind", ["without runs", "one solver", "divergence only"])
def test_an_odd_comparison_is_drawn(open_tab, comparison, tmp_path, kind):
    odd = ODD[kind](comparison)
    odd.to_html(tmp_path / "odd.html")
    tab = open_tab(tmp_path / "odd.html")
    choose(tab, axis="seconds", problem="diabetes-tanh")
    assert tab.locator("#overall tbody tr").count() == len(odd.solvers)
    assert tab.locator("#summary li").all_text_contents() == odd.summary()


def test_pair_of_an_interrupted_comparison(open_tab, comparison, tmp_path):
    """Where seeds are missing, nobody has failed to reach a target."""
    runs = [run for run in comparison.runs if run.key != ("quadratic-1e2", "bfgs", 2)]
    dataclasses.replace(comparison, runs=runs).to_html(tmp_path / "part.html")
    tab = open_tab(tmp_path / "part.html")
    choose(tab, first="lbfgs", second="bfgs")
    _, quadratic, *_ = rows(tab, "pair")
    assert quadratic[0] == "quadratic-1e2"
    assert "neither" not in quadratic[4]


# The one that opens a comment would hide from the page what is wrong with the others.
@pytest.mark.parametrize("names", [HOSTILE[:1], HOSTILE[1:]], ids=["comment", "others"])
def test_any_name_is_shown_as_it_is(open_tab, comparison, tmp_path, names):
    """Names are a user's: no mark-up in them takes effect."""
    names = (names * 5)[:5]
    numbered = [f"{name} {i}" for i, name in enumerate(names)]
    solvers = dict(zip(comparison.solvers, numbered, strict=True))
    problems = dict(zip(PROBLEMS, numbered[2:], strict=True))
    other = renamed(comparison, solvers.get, problems.get)
    other.to_html(tmp_path / "hostile.html")
    tab = open_tab(tmp_path / "hostile.html")
    choose(tab, first=other.solvers[0], second=other.solvers[2])
    for problem in other.problems:
        choose(tab, problem=problem)
        assert tab.locator("h2 .of").first.text_content() == problem
        assert set(lines(tab, "convergence")) <= set(other.solvers)
    assert {row[0] for row in rows(tab, "overall")[1:]} == set(other.solvers)
    assert [row[0] for row in rows(tab, "pair")[1:]] == other.problems
    assert rows(tab, "costs")[0] == ["solver", *other.problems]
    assert tab.locator("#summary li").all_text_contents() == other.summary()
    assert tab.locator("main script, main b").count() == 0
    again = open_tab(tab.url)
    assert again.input_value("#problem") == other.problems[-1]


def test_figures_of_a_function_of_ones_own(open_tab, tmp_path):
    """Without samples there is no validation, and the page says so instead of NaN."""
    bowl = FunctionProblem("bowl", lambda x: float(x @ x), lambda x: 2 * x, np.ones(3), 0.0)
    workbench.compare("lbfgs", bowl, seeds=1, n_jobs=1).to_html(tmp_path / "bowl.html")
    tab = open_tab(tmp_path / "bowl.html")
    head, row = rows(tab, "finals")
    assert row[head.index("validation loss")] == "—"
    assert not re.findall("NaN|undefined|null", tab.locator("main").inner_text())

"""The ``fastgd`` command."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastgd._jit import compile_by_two
from fastgd.comparison import PROBLEMS, SOLVERS, SUITES, Budget, Comparison
from fastgd.comparison import compare as run_comparison
from fastgd.comparison.landscape import LANDSCAPES, function_surface, network_surface
from fastgd.comparison.picture import save
from fastgd.comparison.result import AXES, MODES, TRACKS
from fastgd.comparison.table import MOST_PROBLEMS, costs_table, results_table
from fastgd.comparison.tuning import TRIALS
from fastgd.studies import STUDIES
from fastgd.studies.table import study_table
from fastgd.warmup import folder as cache_folder
from fastgd.warmup import steps as all_steps

PICTURES = (".png", ".svg", ".pdf", ".gif")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    help="Train small neural networks fast, and compare optimizers.",
)  # fmt: skip


@app.callback()
def _commands() -> None:
    """Train small neural networks fast, and compare optimizers."""


@app.command()
def compare(
    solvers: Annotated[
        str, typer.Option(help=f"Names with commas, out of: {', '.join(SOLVERS)}.")
    ] = "default",
    problems: Annotated[
        str,
        typer.Option(
            help=f"A suite ({', '.join(SUITES)}), or names with commas, out of:"
            f" {', '.join(PROBLEMS)}."
        ),
    ] = "small",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each solver on each problem.")] = 10,
    passes: Annotated[
        float, typer.Option(min=1, help="Passes over the data that a run has.")
    ] = Budget().passes,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Seconds after which a run is a time-out.")
    ] = Budget().seconds,
    track: Annotated[
        str, typer.Option(help=f"{' or '.join(TRACKS)}: declared settings, or tuned ones.")
    ] = TRACKS[0],
    mode: Annotated[
        str,
        typer.Option(help=f"{' or '.join(MODES)}: by training objective, or by validation."),
    ] = MODES[0],
    trials: Annotated[
        int, typer.Option(help=f"Of the tuned track: {', '.join(map(str, TRIALS))}.")
    ] = TRIALS[0],
    n_jobs: Annotated[int, typer.Option(help="Runs at once; -1: one for each processor.")] = -1,
    random_state: Annotated[int, typer.Option(min=0, help="Of the draws of the tuning.")] = 0,
    json_file: Annotated[Path, typer.Option("--json", help="All runs go here.")] = Path(
        "comparison.json"
    ),
    html_file: Annotated[
        Path | None, typer.Option("--html", help="The page; beside the JSON file if not named.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A JSON file of before: only what it has not is run.")
    ] = None,
) -> None:
    """Compare optimizers fairly: many problems, many seeds, a table, a JSON file and a page.

    All solvers of a problem and a seed begin with the same weights.  A pass is one value with its
    gradient over all training samples; an epoch of mini-batches is one pass.  Compilation and
    evaluation are off the clock.  Ctrl-C keeps what is finished: both files are written, and
    --resume goes on from there.  A file that holds what the new comparison does not, other runs or
    runs of another budget, is left alone: the new one goes beside it.
    """
    _check_target(json_file, "--json")
    is_named = html_file is not None
    html_file = _page_of(json_file, html_file, resume)
    if trials not in TRIALS:
        allowed = ", ".join(map(str, TRIALS))
        raise typer.BadParameter(f"must be one of {allowed}, got {trials}.", param_hint="--trials")
    if n_jobs == 0:
        raise typer.BadParameter("must not be 0.", param_hint="--n-jobs")
    before = None if resume is None else _read(resume, "--resume")
    console = Console(stderr=True)
    try:
        with _Bars(console) as bars, warnings.catch_warnings():
            warnings.showwarning = bars.say
            comparison = run_comparison(
                solvers, [name.strip() for name in problems.split(",") if name.strip()],
                seeds=seeds, budget=Budget(passes, seconds), track=track, mode=mode,
                n_trials=trials, n_jobs=n_jobs, random_state=random_state, resume=before,
                progress=bars.show,
            )  # fmt: skip
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    place = _place_beside(json_file, comparison)
    if place != json_file:
        typer.echo(f"{json_file} has what this comparison has not, and stays as it is")
        if not is_named or html_file.is_file():  # the page of what stays
            html_file = place.with_suffix(".html")
    comparison.to_json(place)
    comparison.to_html(html_file)
    _tell(comparison)
    typer.echo(f"runs written to {place}, the page to {html_file}")


@app.command()
def report(
    json_file: Annotated[Path, typer.Argument(help="A file that fastgd compare wrote.")],
    html_file: Annotated[
        Path | None, typer.Option("--html", help="The page; beside the JSON file if not named.")
    ] = None,
) -> None:
    """Draw the page of a comparison again, from its JSON file alone."""
    comparison = _read(json_file, "JSON_FILE")
    html_file = _page_of(json_file, html_file)
    comparison.to_html(html_file)
    _tell(comparison)
    typer.echo(f"page written to {html_file}")


@app.command()
def landscape(
    what: Annotated[
        str, typer.Argument(help=f"functions, network, or one of {', '.join(LANDSCAPES)}.")
    ] = "functions",
    out: Annotated[
        Path, typer.Option(help="PNG, SVG or PDF; a GIF shows the paths growing.")
    ] = Path("landscape.png"),
    solvers: Annotated[str, typer.Option(help="As for compare; those that suit if none.")] = "",
    problem: Annotated[str, typer.Option(help="The network.")] = "digits-tanh",
    directions: Annotated[
        str, typer.Option(help="pca: in which the paths vary most; filter: random, scaled.")
    ] = "pca",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, or epochs of a network.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the network.")] = 0,
) -> None:
    """Draw the paths of optimizers on functions of two variables, or on a network's loss."""
    _needs_matplotlib()
    _check_target(out, "--out")
    if out.suffix.lower() not in PICTURES:
        message = f"must end in one of {', '.join(PICTURES)}, got {out}."
        raise typer.BadParameter(message, param_hint="--out")
    chosen: dict[str, Any] = {"solvers": solvers} if solvers else {}
    chosen |= {"n_steps": steps} if steps else {}
    try:
        if what == "network":
            surfaces = [network_surface(problem, directions=directions, seed=seed, **chosen)]
        else:
            names = LANDSCAPES if what == "functions" else [what]
            surfaces = [function_surface(name, **chosen) for name in names]
        save(surfaces, out)
    except (ValueError, OSError, MemoryError) as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"picture written to {out}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STUDIES)}, or all.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the pictures, study-NAME.png.")
    ] = Path("."),
) -> None:
    """Run an experiment on real data: a table, a picture, and what the numbers say."""
    if name != "all" and name not in STUDIES:
        raise typer.BadParameter(f"study must be one of {', '.join(STUDIES)} or all, got {name!r}.")
    if not folder.is_dir():
        raise typer.BadParameter(f"the folder {folder} does not exist.", param_hint="--out")
    _needs_matplotlib()
    from matplotlib import pyplot

    console = Console()
    pictures = {one: folder / f"study-{one}.png" for one in (STUDIES if name == "all" else [name])}
    for picture in pictures.values():
        _check_target(picture, "--out")
    for one, picture in pictures.items():
        result = STUDIES[one]()
        figure = result.plot()
        figure.savefig(picture, dpi=130)
        pyplot.close(figure)
        console.print(study_table(result))
        console.print(result.conclusion)
        typer.echo(f"picture written to {picture}")


@app.command()
def warmup() -> None:
    """Compile everything now, so that no later fit has to wait: for images and CI.

    The compiled code is kept beside the package, or where NUMBA_CACHE_DIR says; running this
    again finds it there.
    """
    console = Console(stderr=True)
    started = time.perf_counter()
    names, tasks = zip(*all_steps(), strict=True)
    columns = (TextColumn("compiling"), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(tasks))

        def tell(number: int) -> None:
            progress.update(bar, completed=number, description=names[number])

        compile_by_two(tasks, tell)
    kept_in = cache_folder()
    if kept_in is None:
        raise typer.Exit(1)  # the warning says why, and what to do
    seconds = time.perf_counter() - started
    Console(soft_wrap=True).print(f"ready after {seconds:.0f} s; compiled code is in {kept_in}")


def _needs_matplotlib() -> None:
    try:
        import matplotlib
    except ImportError:
        raise typer.BadParameter('pictures need Matplotlib: pip install "fastgd[plot]".') from None
    matplotlib.use("Agg")  # files only, also where there is no display


class _Bars:
    """A bar for each stage of a comparison, with the time that is left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:15}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True), console=console,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, what: str, n_done: int, n_total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=n_total)
        self._progress.update(self._tasks[what], completed=n_done)

    def say(self, message: Any, *_: object, **__: object) -> None:
        """Show a warning above the bars."""
        self._progress.console.print(str(message), markup=False)


def _check_target(path: Path, option: str) -> None:
    try:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder.", param_hint=option)
        if not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"the folder of {path} does not exist.", param_hint=option)
        if path.exists() and not path.is_file():
            return  # a pipe or a device
        if path.exists() and not os.access(path, os.W_OK):
            raise typer.BadParameter(f"{path} cannot be written.", param_hint=option)
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error}.", param_hint=option) from None


def _page_of(json_file: Path, html_file: Path | None, resume: Path | None = None) -> Path:
    """Where the page of a comparison goes."""
    html_file = json_file.with_suffix(".html") if html_file is None else html_file
    _check_target(html_file, "--html")
    for runs in filter(None, (json_file, resume)):
        if html_file.resolve() == runs.resolve():
            message = f"the page would overwrite the runs in {runs}."
            raise typer.BadParameter(message, param_hint="--html")
    return html_file


def _place_beside(json_file: Path, comparison: Comparison) -> Path:
    """The file itself, or one beside it, where something would be lost that it holds."""
    if not _is_kept(json_file, comparison):
        return json_file
    beside = (json_file.with_stem(f"{json_file.stem}-{n}") for n in itertools.count(2))
    return next(
        place for place in beside
        if not _is_kept(place, comparison)
        and (place.exists() or not place.with_suffix(".html").exists())
    )  # fmt: skip


def _is_kept(path: Path, comparison: Comparison) -> bool:
    """Whether a file is one that a comparison must not replace."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        return not comparison.holds(Comparison.from_json(path))
    except (ValueError, OSError):
        return True  # whatever it is


def _read(path: Path, option: str) -> Comparison:
    try:
        return Comparison.from_json(path)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _tell(comparison: Comparison) -> None:
    console = Console()
    console.print(results_table(comparison))
    if len(comparison.problems) <= MOST_PROBLEMS:
        for axis in AXES:
            console.print(costs_table(comparison, axis))
    for sentence in comparison.summary():
        console.print(f"• {sentence}", markup=False, emoji=False, highlight=False)


def main() -> None:
    """Entry point of the command."""
    app()

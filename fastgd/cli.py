"""The ``fastgd`` command."""

from __future__ import annotations

import itertools
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fastgd.comparison import (
    PROBLEMS,
    SOLVERS,
    Problem,
    Run,
    load_problem,
    results_table,
    run_solver,
)
from fastgd.comparison.solvers import default_solvers
from fastgd.warmup import folder
from fastgd.warmup import steps as all_steps

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    help="Train small neural networks fast, and compare optimizers.",
)  # fmt: skip


@app.callback()
def _commands() -> None:
    """Train small neural networks fast, and compare optimizers."""


@app.command()
def compare(
    problem: Annotated[
        str, typer.Option(help=f"Data to train on: {', '.join(PROBLEMS)}.")
    ] = "digits",
    solvers: Annotated[
        str,
        typer.Option(
            help=f"Names separated by commas, out of: {', '.join(SOLVERS)}."
            " Without it: the first seven, lbfgs and, for small networks, scipy-bfgs."
        ),
    ] = "",
    hidden: Annotated[
        str, typer.Option(help="Units of the hidden layers, separated by commas; '' for none.")
    ] = "16",
    max_iter: Annotated[int, typer.Option(min=1, help="Epochs or iterations of a solver.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides split, initial weights and order of the batches.")
    ] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the runs, loss curves included, here.")
    ] = None,
) -> None:
    """Train one small network with several solvers and print what each reached at which cost.

    All solvers start from the same weights and minimise the same compiled loss.  A pass is one
    value with its gradient over all training samples; an epoch of mini-batches is one pass.
    Compilation (on the first run; it is kept on disk) is timed apart.
    """
    names = [name.strip() for name in solvers.split(",") if name.strip()]
    for name in names:
        if name not in SOLVERS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(SOLVERS)}.")
    if solvers and not names:
        raise typer.BadParameter("solvers must name at least one solver.")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder of --json {json_file} does not exist.")
    if json_file is not None and json_file.is_dir():
        raise typer.BadParameter(f"--json {json_file} is a folder.")
    layers = _layers(hidden)
    try:
        data = load_problem(problem, seed)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    n_outputs = len(np.unique(data.y_train)) if data.task == "classification" else 1
    sizes = (data.X_train.shape[1], *layers, n_outputs)
    if not names:
        n_parameters = sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(sizes))
        names = list(default_solvers(n_parameters))
    runs = _run_all(names, data, layers, max_iter, seed)
    score_name = "accuracy" if data.task == "classification" else "R²"
    network = "-".join(map(str, sizes))
    title = f"{problem}: network {network}, {len(data.X_train)} training samples, seed {seed}"
    console = Console()
    console.print(results_table(runs, title, score_name))
    if json_file is not None:
        json_file.write_text(json.dumps(_record(runs, layers, max_iter), indent=1), "utf-8")
        console.print(f"runs written to {json_file}")


@app.command()
def warmup() -> None:
    """Compile everything now, so that no later fit has to wait: for images and CI.

    The compiled code is kept beside the package, or where NUMBA_CACHE_DIR says; running this
    again finds it there.
    """
    console = Console(stderr=True)
    started = time.perf_counter()
    steps = list(all_steps())
    columns = (TextColumn("compiling"), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(steps))
        for name, compile_it in steps:
            progress.update(task, description=name)
            compile_it()
            progress.advance(task)
    kept_in = folder()
    if kept_in is None:
        raise typer.Exit(1)  # the warning says why, and what to do
    seconds = time.perf_counter() - started
    Console(soft_wrap=True).print(f"ready after {seconds:.0f} s; compiled code is in {kept_in}")


def _layers(hidden: str) -> tuple[int, ...]:
    try:
        layers = tuple(int(size) for size in hidden.split(",") if size.strip())
    except ValueError:
        layers = (0,)
    if any(size < 1 for size in layers):
        raise typer.BadParameter(f"hidden must be positive numbers with commas, got {hidden!r}.")
    return layers


def _run_all(
    names: list[str], data: Problem, layers: tuple[int, ...], max_iter: int, seed: int
) -> list[Run]:
    """Run the solvers one after the other, with a bar for each; Ctrl-C keeps the finished ones."""
    runs: list[Run] = []
    columns = (
        TextColumn("{task.description:17}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        try:
            for name in names:
                task = progress.add_task(name, total=max_iter)

                def report(n_iter: int, task: int = task) -> None:
                    progress.update(task, completed=n_iter)  # type: ignore[arg-type]

                runs.append(
                    run_solver(
                        name, data, hidden=layers, max_iter=max_iter, seed=seed, report=report
                    )
                )
                progress.stop_task(task)
        except KeyboardInterrupt:
            progress.console.print("Interrupted: the table has what was finished.")
    return runs


def _record(runs: list[Run], layers: tuple[int, ...], max_iter: int) -> dict[str, object]:
    packages = ("fastgd", "numba", "numpy", "scipy", "scikit-learn")
    return {
        "hidden": layers,
        "max_iter": max_iter,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "machine": platform.processor() or platform.machine(),
        "runs": [run.as_dict() for run in runs],
    }


def main() -> None:
    """Entry point of the command."""
    app()

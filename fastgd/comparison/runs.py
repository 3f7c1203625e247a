"""One solver on one problem: what it reached and what that cost."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from fastgd.comparison.problems import Problem
from fastgd.comparison.solvers import SOLVERS
from fastgd.neural_network import MLPClassifier, MLPRegressor, TrainingInterrupted


@dataclass(frozen=True)
class Run:
    """The record of one run.

    Attributes
    ----------
    solver, problem, seed
        What was run.
    order : int
        1 or 2, the order of the solver.
    train_loss : float
        Mean loss over the training set at the end, without the penalty; NaN after a divergence.
    test_score : float
        Accuracy, or R² in regression, on the test set.
    n_iter : int
        Epochs or iterations.
    n_passes : int
        Passes over the training set: one for a value with its gradient.
    seconds : float
        Of the fit alone, everything compiled before.
    compile_seconds : float
        What a first short fit took longer than a second one.
    loss_curve : list of float
        Loss after each epoch or iteration, as the estimator reports it.
    """

    solver: str
    problem: str
    seed: int
    order: int
    train_loss: float
    test_score: float
    n_iter: int
    n_passes: int
    seconds: float
    compile_seconds: float
    loss_curve: list[float]

    def as_dict(self) -> dict[str, Any]:
        """The record with None for what is not finite, which JSON does not know."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


class _EpochReport:
    """A callback of the fit that reports the number of finished epochs."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        self._report(estimator.n_iter_)


def run_solver(
    name: str,
    problem: Problem,
    *,
    hidden: tuple[int, ...] = (32,),
    max_iter: int = 100,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> Run:
    """Fit a network to a problem with a solver of the table and record what came of it.

    Parameters
    ----------
    name : str
        A name in ``SOLVERS``.
    problem : Problem
    hidden : tuple of int, default=(32,)
        Units of the hidden layers.
    max_iter : int, default=100
        Epochs or iterations.
    seed : int, default=0
        Decides initial weights and the order of the batches, for every solver alike.
    report : callable, optional
        Told the number of finished epochs.

    Returns
    -------
    run : Run
    """
    if name not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; got {name!r}.")
    solver = SOLVERS[name]
    estimator_class = MLPClassifier if problem.task == "classification" else MLPRegressor
    estimator = estimator_class(
        hidden_layer_sizes=hidden, activation="tanh", max_iter=max_iter, tol=1e-6,
        n_iter_no_change=max_iter, random_state=seed,
        **solver.parameters(len(problem.X_train)),
    )  # fmt: skip
    first = second = seconds = train_loss = test_score = math.nan
    with contextlib.suppress(ValueError):  # what a fit that diverges raises
        first, second = (_fit_seconds(estimator, problem, max_iter=1) for _ in range(2))
        if report is not None:
            estimator.set_callbacks(_EpochReport(report))
        seconds = _fit_seconds(estimator, problem, max_iter=max_iter)
        train_loss, test_score = _evaluate(estimator, problem)
    return Run(
        name, problem.name, seed, solver.order, train_loss, test_score,
        getattr(estimator, "n_iter_", 0), getattr(estimator, "n_passes_", 0),
        seconds, first - second if first > second else 0.0,
        [float(loss) for loss in getattr(estimator, "loss_curve_", [])],
    )  # fmt: skip


def _fit_seconds(estimator: Any, problem: Problem, max_iter: int) -> float:
    estimator.set_params(max_iter=max_iter)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # Ending at max_iter is what a comparison at a fixed budget does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # A fit keeps what an interruption left of it; a comparison has no use for half a run.
        warnings.simplefilter("error", TrainingInterrupted)
        try:
            estimator.fit(problem.X_train, problem.y_train)
        except TrainingInterrupted:
            raise KeyboardInterrupt from None
    return time.perf_counter() - started


def _evaluate(estimator: Any, problem: Problem) -> tuple[float, float]:
    """Training loss and test score of a fitted estimator."""
    score = float(estimator.score(problem.X_test, problem.y_test))
    if problem.task == "classification":
        probabilities = estimator.predict_proba(problem.X_train).astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return float(log_loss(problem.y_train, probabilities, labels=estimator.classes_)), score
    residuals = estimator.predict(problem.X_train) - problem.y_train
    return float(0.5 * np.mean(residuals**2)), score

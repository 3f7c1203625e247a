"""Training by a solver that sees the whole objective, with the estimator's curves and callbacks."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastgd._threads import quiet_blas
from fastgd.kernels.tiles import HAS_TILES
from fastgd.neural_network.fit_tasks import FitTasks, TrainingInterrupted
from fastgd.neural_network.problem import Problem
from fastgd.neural_network.validation import HeldOut
from fastgd.solvers import OF_VECTORS, SOLVERS, Objective


def train_by_solver(
    estimator: Any,
    problem: Problem,
    w: NDArray[Any],
    held_out: HeldOut | None,
    tasks: FitTasks,
    random_state: np.random.RandomState,
) -> bool:
    """Minimise the objective from ``w``, write the result into ``w``, keep the curves.

    Returns whether the user pressed Ctrl-C.
    """
    objective = problem.objective()
    recorder = _Recorder(estimator, problem, objective, w, held_out, tasks)
    estimator.n_iter_, seen = 0, estimator.t_
    terms, grad = objective.terms_and_grad(recorder.x)
    recorder.lowest = sum(terms)
    estimator.loss_ = problem.reported(*terms)
    if not (np.isfinite(estimator.loss_) and np.isfinite(grad).all()):
        raise FloatingPointError(
            f"The objective is {estimator.loss_} at the initial parameters, or its gradient is not"
            " finite. The input data may contain large values and need to be preprocessed."
        )
    # Sums by several threads have other bits, and BLAS's threads would disturb ours.
    is_quiet = estimator.solver in OF_VECTORS or not HAS_TILES
    quiet = quiet_blas() if is_quiet else contextlib.nullcontext()
    try:
        with quiet:
            result = SOLVERS[estimator.solver](
                objective,
                recorder.x.copy(),
                maxiter=estimator.max_iter,
                maxfun=estimator.max_fun,
                tol=estimator.tol,
                random_state=random_state,
                callback=recorder,
            )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", TrainingInterrupted, stacklevel=2)
        estimator.stop_reason_ = "interrupted by the user"
        w[:] = recorder.x
        return True
    finally:
        estimator.n_passes_ = objective.n_passes
    estimator.n_iter_ = min(int(result.nit), estimator.max_iter)
    # Dual annealing does not call back in every iteration.
    estimator.t_ = seen + estimator.n_iter_ * problem.n_samples
    estimator.stop_reason_ = "stopped by a callback" if recorder.stopped else str(result.message)
    x = result.x
    terms, _ = objective.terms_and_grad(x)
    # Written so that NaN is not.
    if not sum(terms) <= recorder.lowest + ROUNDING * abs(recorder.lowest):
        x = recorder.x_lowest
        terms, _ = objective.terms_and_grad(x)
        warnings.warn(
            f"{estimator.solver} came to where the objective is not finite or larger than before;"
            " the best parameters of all iterations are kept.",
            ConvergenceWarning,
            stacklevel=4,
        )
    w[:] = x
    estimator.loss_ = problem.reported(*terms)
    estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
    if result.status != 0 and not recorder.stopped:
        _warn_of(estimator, result)
    return False


# By so much, relative to it, a solver may end above the lowest value of its iterations.
ROUNDING = 1e-6


class _Recorder:
    """Called by SciPy after each iteration."""

    def __init__(
        self,
        estimator: Any,
        problem: Problem,
        objective: Objective,
        w: NDArray[Any],
        held_out: HeldOut | None,
        tasks: FitTasks,
    ) -> None:
        self._estimator, self._problem, self._objective = estimator, problem, objective
        self._held_out, self._tasks = held_out, tasks
        self._dtype = w.dtype
        self._told = w
        self.x = self.x_lowest = w.astype(np.float64)
        self.lowest = np.inf
        self.stopped = False

    def __call__(self, intermediate_result: Any) -> None:
        estimator = self._estimator
        terms, grad = self._objective.terms_and_grad(intermediate_result.x)
        if np.isfinite(terms).all():
            self.x = np.array(intermediate_result.x)
        if sum(terms) < self.lowest:
            self.lowest, self.x_lowest = sum(terms), self.x
        # When it began, nobody knew whether it would end.
        self._tasks.begin(self._told)
        w = self._told = self.x.astype(self._dtype)
        estimator.n_iter_ += 1
        estimator.loss_ = self._problem.reported(*terms)
        estimator.loss_curve_.append(estimator.loss_)
        estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        estimator.grad_norm_curve_.append(self._layer_norms(grad))
        estimator.t_ += self._problem.n_samples
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self._held_out is not None:
            estimator.validation_scores_.append(self._held_out.score(w))
            estimator.validation_loss_curve_.append(self._held_out.loss(w))
            estimator.best_validation_score_ = max(estimator.validation_scores_)
        if self._tasks.end(w):
            self.stopped = True
            raise StopIteration

    def _layer_norms(self, grad: NDArray[Any]) -> NDArray[np.float64]:
        grad = grad.astype(np.float64)
        starts = self._problem.layers["weights"]
        stops = starts + self._problem.layers["n_in"] * self._problem.layers["n_out"]
        return np.array(
            [np.linalg.norm(grad[start:stop]) for start, stop in zip(starts, stops, strict=True)]
        )


def _warn_of(estimator: Any, result: Any) -> None:
    message = (
        f"{estimator.solver} failed to converge after {estimator.n_iter_} iteration(s)"
        f" (status={result.status}):\n{result.message}\n"
    )
    if estimator.n_iter_ == estimator.max_iter:
        message += (
            "\nIncrease the number of iterations to improve the convergence"
            f" (max_iter={estimator.max_iter})."
        )
    message += (
        "\nYou might also want to scale the data as shown in:\n"
        "    https://scikit-learn.org/stable/modules/preprocessing.html"
    )
    warnings.warn(message, ConvergenceWarning, stacklevel=5)

"""Training by epochs: curves, early stopping, learning-rate policy, callbacks, interruption.

Follows scikit-learn 1.9 step by step where scikit-learn has the step.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastgd._threads import quiet_blas
from fastgd.kernels.team import Helpers
from fastgd.kernels.tiles import HAS_TILES
from fastgd.neural_network.epochs import EpochRunner
from fastgd.neural_network.fit_tasks import FitTasks, TrainingInterrupted
from fastgd.neural_network.validation import HeldOut

SMALLEST_ADAPTIVE_RATE = 1e-6


def train_by_epochs(
    estimator: Any,
    runner: EpochRunner,
    w: NDArray[Any],
    held_out: HeldOut | None,
    policy: str,
    tasks: FitTasks,
    max_epochs: int,
    incremental: bool,
) -> bool:
    """Train ``w`` in place and keep the estimator's curves and counters.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Gives ``tol``, ``n_iter_no_change``, ``early_stopping``, ``verbose`` and ``power_t``.
    runner : EpochRunner
    w : ndarray of shape (n,)
    held_out : HeldOut or None
    policy : {"constant", "invscaling", "adaptive"}
        What happens to the learning rate at the end of an epoch.
    tasks : FitTasks
        Where callbacks are told about each epoch.
    max_epochs : int
    incremental : bool
        One epoch, no word about convergence.

    Returns
    -------
    interrupted : bool
        Whether the user pressed Ctrl-C.
    """
    estimator.n_iter_ = estimator.n_passes_ = 0
    best_w = w.copy() if estimator.early_stopping else w
    interrupted = False
    try:
        # Where products are BLAS's, its threads would be more than the caller allows.
        quiet = contextlib.nullcontext() if HAS_TILES else quiet_blas()
        with quiet, Helpers() as helpers:
            for _ in range(max_epochs):
                tasks.begin(w)
                runner.run(w, helpers)
                if not _goes_on(
                    estimator, runner, w, best_w, held_out, policy, tasks, max_epochs, incremental
                ):
                    break
    except KeyboardInterrupt:
        interrupted = True
        estimator.stop_reason_ = "interrupted by the user"
        warnings.warn("Training interrupted by user.", TrainingInterrupted, stacklevel=2)
        if estimator.n_iter_ == 0:
            estimator.loss_ = runner.mean_loss
    if not incremental:
        w[:] = best_w if estimator.early_stopping else runner.solution(w)
    return interrupted


def _goes_on(
    estimator: Any, runner: EpochRunner, w: NDArray[Any], best_w: NDArray[Any],
    held_out: HeldOut | None, policy: str, tasks: FitTasks, max_epochs: int, incremental: bool,
) -> bool:  # fmt: skip
    """Record an epoch; whether another one follows."""
    _record_epoch(estimator, runner)
    solution = runner.solution(w)
    if held_out is not None:
        improved = _record_validation(estimator, held_out, solution)
        if estimator.early_stopping and improved:
            best_w[:] = solution
    if _has_diverged(estimator, w):
        estimator.stop_reason_ = "diverged: the parameters are not finite any more"
        return False
    _count_no_improvement(estimator)
    if policy == "invscaling":
        rule_rate = runner.optimizer.rule.learning_rate
        runner.optimizer.learning_rate = rule_rate / (estimator.t_ + 1) ** estimator.power_t
    if tasks.end(solution):
        estimator.stop_reason_ = "stopped by a callback"
        return False
    if estimator._no_improvement_count > estimator.n_iter_no_change:
        if _stops(estimator, runner, policy):
            if not (incremental or np.isfinite(estimator.loss_)):
                warnings.warn(estimator.stop_reason_, ConvergenceWarning, stacklevel=3)
            return False
        estimator._no_improvement_count = 0
    if incremental:
        estimator.stop_reason_ = "one epoch of partial_fit"
        return False
    if estimator.n_iter_ == max_epochs:
        estimator.stop_reason_ = f"max_iter={max_epochs} epochs"
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({max_epochs}) reached and the"
            " optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=3,
        )
        return False
    return True


def _record_epoch(estimator: Any, runner: EpochRunner) -> None:
    estimator.n_iter_ += 1
    estimator.n_passes_ += 1
    estimator.loss_ = runner.mean_loss
    estimator.t_ += runner.n_samples
    estimator.loss_curve_.append(estimator.loss_)
    estimator.grad_norm_curve_.append(runner.grad_norms)
    if estimator.verbose:
        print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")


def _record_validation(estimator: Any, held_out: HeldOut, w: NDArray[Any]) -> bool:
    """Score the parameters; whether they are the best so far."""
    score = held_out.score(w)
    estimator.validation_scores_.append(score)
    estimator.validation_loss_curve_.append(held_out.loss(w))
    if estimator.verbose:
        print(f"Validation score: {score:f}")
    return bool(score > estimator.best_validation_score_)


def _has_diverged(estimator: Any, w: NDArray[Any]) -> bool:
    """Whether there is nothing left to train; with early stopping the best is kept."""
    if np.isfinite(estimator.loss_) or np.isfinite(w).all():
        return False
    if estimator.early_stopping:
        warnings.warn(
            f"Training diverged in epoch {estimator.n_iter_}: the parameters are not finite any"
            " more. Those with the best validation score are kept. A smaller learning rate or"
            " scaled data may help.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return True


def _count_no_improvement(estimator: Any) -> None:
    if estimator.early_stopping:
        score = estimator.validation_scores_[-1]
        # Written so that NaN is worse.
        worse = not score >= estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
    else:
        worse = estimator.loss_ > estimator.best_loss_ - estimator.tol
        worse = worse or not np.isfinite(estimator.loss_)
        estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        if estimator.validation_scores_:
            estimator.best_validation_score_ = max(
                estimator.best_validation_score_, estimator.validation_scores_[-1]
            )
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0


def _stops(estimator: Any, runner: EpochRunner, policy: str) -> bool:
    """Whether training ends here; the adaptive policy goes on with a smaller rate."""
    what = "Validation score" if estimator.early_stopping else "Training loss"
    reason = (
        f"{what} did not improve more than tol={estimator.tol:f} for"
        f" {estimator.n_iter_no_change} consecutive epochs."
    )
    if not np.isfinite(estimator.loss_):
        reason += f" The loss is {estimator.loss_}: the data may need to be scaled."
    optimizer = runner.optimizer
    if policy != "adaptive":
        decision = "Stopping."
    elif optimizer.learning_rate <= SMALLEST_ADAPTIVE_RATE:
        decision = "Learning rate too small. Stopping."
    else:
        optimizer.learning_rate /= 5.0
        decision = f"Setting learning rate to {optimizer.learning_rate:f}"
    estimator.stop_reason_ = reason
    if estimator.verbose:
        print(f"{reason} {decision}")
    return decision.endswith("Stopping.")

"""The training of an estimator by an update rule, one epoch at a time, for who wants to watch."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastgd.kernels.aligned import PARAMETERS, aligned_copy
from fastgd.optimizers import Optimizer


class Course:
    """What ``fit`` does without stopping rules and held-out samples: the same weights and batches.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its ``solver`` is an update rule.  Its weights are set to the initial ones.
    X, y : array-like
        Training samples.

    Attributes
    ----------
    w : ndarray of shape (n,)
        The parameters, which each epoch changes in place.
    """

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        problem, w = estimator._before_training(X, y)
        # The estimator keeps the initial ones.
        self.w: NDArray[Any] = aligned_copy(w, place=PARAMETERS)
        self._runner, _ = estimator._epoch_runner(problem, self.w, None, estimator._rule(), False)

    @property
    def optimizer(self) -> Optimizer:
        return self._runner.optimizer

    def epoch(self) -> NDArray[Any]:
        """Train for one epoch; the parameters that the rule recommends."""
        self._runner.run(self.w)
        return self._runner.solution(self.w)

"""The held-out samples of a fit: scores, losses, and the best parameters by score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd.neural_network.prediction import Predictor
from fastgd.neural_network.problem import Problem


class HeldOut:
    """Scores parameters on samples that are not trained on.

    Parameters
    ----------
    X : ndarray or CSR matrix
    y : ndarray
        Targets as the user sees them: labels or numbers.
    sample_weight : ndarray or None
    problem : Problem
        The same network and loss over the held-out samples.
    score : callable
        ``score(y, outputs, sample_weight)``; outputs are those of the network.
    """

    def __init__(
        self,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        problem: Problem,
        score: Callable[..., float],
    ) -> None:
        if sample_weight is not None and not sample_weight.any():
            raise ValueError(
                "Sample weights must contain at least one non-zero number, but all samples that are"
                " held out for validation have a weight of 0."
            )
        self._X, self._y, self._sample_weight = X, y, sample_weight
        self._problem, self._score = problem, score
        self._objective = problem._replace(alpha=0.0).objective()
        self._predictor: Predictor | None = None

    def score(self, w: NDArray[Any]) -> float:
        """Accuracy or R² of the parameters; NaN where an output is not finite."""
        problem = self._problem
        w = w.astype(problem.dtype, copy=False)  # solvers work in float64
        if self._predictor is None or self._predictor.w is not w:
            self._predictor = Predictor(problem.layers, w, problem.loss, problem.n_jobs)
        outputs = self._predictor.outputs(self._X)
        if not np.isfinite(outputs).all():
            return np.nan
        # Just before a divergence the squares of finite outputs overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._score(self._y, outputs, self._sample_weight)

    def loss(self, w: NDArray[Any]) -> float:
        """Mean loss of the parameters, without the penalty."""
        return self._problem.reported(*self._objective.terms(w))

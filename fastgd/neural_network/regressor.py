"""The regressor: numbers in, numbers out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metaestimators import available_if

from fastgd.kernels.losses import LOSSES, BinaryLogLoss, KLDivergence, Poisson
from fastgd.neural_network._base import (
    BaseMLP,
    checked_loss,
    set_parameters,
)
from fastgd.neural_network._parameters import ATTRIBUTES, CONSTRAINTS, EXTENSIONS, PARAMETERS
from fastgd.neural_network.problem import check_probabilities

REGRESSION_LOSSES = {
    name: LOSSES[name]
    for name in ("squared_error", "absolute_error", "huber", "quantile", "poisson")
}


class MLPRegressor(RegressorMixin, BaseMLP):
    __doc__ = f"""Multi-layer perceptron regressor on compiled kernels.

    A drop-in replacement of :class:`sklearn.neural_network.MLPRegressor`: with the same
    parameters and ``random_state`` it trains the same model, up to rounding.  The parameters
    after ``max_fun`` are additions.

    Parameters
    ----------
    loss : {{'squared_error', 'absolute_error', 'huber', 'quantile', 'poisson'}} or loss object, \
default='squared_error'
        'squared_error' and 'poisson' are half the squared error and half the Poisson deviance
        (with the exponential as output activation, for y of at least 0).  'huber' and 'quantile'
        have their parameters at the defaults of ``fastgd.losses.Huber`` and ``Quantile``; pass
        such an object to choose others.{PARAMETERS}{EXTENSIONS}

    Attributes
    ----------{ATTRIBUTES}

    See Also
    --------
    MLPClassifier : The same for labels.

    Examples
    --------
    >>> from fastgd import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=5, random_state=0)
    >>> reg = MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", random_state=0, tol=0.1)
    >>> reg.fit(X, y).score(X, y) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "loss": [StrOptions(set(REGRESSION_LOSSES)), HasMethods("value_and_delta")],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        schedule: Any = None,
        n_init: int = 1,
        init: Any = "glorot",
        n_jobs: int | None = None,
    ) -> None:
        set_parameters(self, locals())

    def _check_targets(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        if scipy.sparse.issparse(y):
            raise TypeError("y must be dense, got a sparse matrix; y.toarray() is.")
        X, y = self._validate_training_set(X, y, reset, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _chosen_loss(self) -> Any:
        if isinstance(self.loss, str):
            return REGRESSION_LOSSES[self.loss]()
        loss = checked_loss(self.loss)
        if getattr(loss, "class_numbers", False):
            raise ValueError(f"loss={loss!r} is for classes, not for numbers.")
        return loss

    def _encode(self, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any], Any, int]:
        loss = self._chosen_loss()
        if y.dtype.kind not in "biuf":
            raise ValueError(f"y must be numbers, got an array of {y.dtype}.")
        if isinstance(loss, Poisson) and y.min() < 0:
            raise ValueError(f"loss='poisson' needs targets of at least 0, got {y.min()}.")
        if isinstance(loss, BinaryLogLoss) and not (y.min() >= 0 and y.max() <= 1):
            raise ValueError(f"{loss!r} needs targets in [0, 1], got {y.min()} to {y.max()}.")
        with np.errstate(over="ignore"):  # of which is told next
            targets = y.reshape(len(y), -1).astype(dtype, copy=False)
        if not np.isfinite(targets).all():
            raise ValueError(f"y has numbers beyond those of {dtype}, of {np.abs(y).max():g}.")
        if isinstance(loss, KLDivergence):
            check_probabilities(targets)
        return targets, loss, targets.shape[1]

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predicted values.
        """
        return self._squeeze(self._outputs(X))

    def _squeeze(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _score_outputs(self, y: NDArray[Any], outputs: NDArray[Any], sample_weight: Any) -> float:
        return float(r2_score(y, self._squeeze(outputs), sample_weight=sample_weight))

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train one epoch on the given samples, with the optimizer as the last call left it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative.

        Returns
        -------
        self : object
            The trained estimator.
        """
        return self._fit(X, y, sample_weight, None, None, incremental=True)

"""What an estimator with parameters can do: predict, be pickled, have other parameters put in."""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from fastgd.kernels.layout import layer_table, parameter_views
from fastgd.neural_network.prediction import Network, Predictor
from fastgd.neural_network.problem import flat_parameters, sizes_of
from fastgd.neural_network.settings import Settings

# The predictor of each estimator, with what it was made of; not part of the estimator's state.
_predictors: Any = weakref.WeakKeyDictionary()


class FittedNetwork(Settings, ABC):
    """The side of an estimator that needs its parameters only."""

    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any]]

    @abstractmethod
    def _chosen_loss(self) -> Any:
        """The loss that the parameters ask for."""

    def set_weights(self, w: Any) -> Any:
        """Put in other parameters, such as what an optimizer made of ``objective(X, y).x0``.

        Parameters
        ----------
        w : array-like of shape (n,)
            All weight matrices, layer by layer and row by row, then all biases.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Neither ``fit`` nor ``objective`` has been called.
        ValueError
            The shape is another, or not all numbers are real and finite.
        """
        check_is_fitted(self, "coefs_")
        sizes = sizes_of(self.coefs_)
        old = flat_parameters(self.coefs_, self.intercepts_, sizes)
        if np.iscomplexobj(w):
            raise ValueError("w must be real, got complex numbers.")
        with np.errstate(over="ignore"):  # of which is told below
            w = np.array(w, old.dtype)
        if w.shape != old.shape:
            raise ValueError(f"w must have the shape {old.shape}, got {w.shape}.")
        if not np.isfinite(w).all():
            raise ValueError("w must be finite, but has NaN or infinity.")
        layers = layer_table(sizes, ("identity",) * (len(sizes) - 2))
        self.coefs_, self.intercepts_ = parameter_views(w, layers)
        return self

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Outputs (N, K) of the network for samples that have not been validated."""
        return self._predict_with("outputs", X)

    def _predict_with(self, method: str, X: Any) -> NDArray[Any]:
        """What a method of the estimator's Predictor says of samples, after validating them."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
        # Taken away for the time of the call: another thread that predicts makes its own.
        is_hashable = type(self).__hash__ is not None
        nothing: Any = (None, None)
        network, predictor = _predictors.pop(self, nothing) if is_hashable else nothing
        loss = self._loss if hasattr(self, "_loss") else self._chosen_loss()
        arrays = (*self.coefs_, *self.intercepts_)
        activations = self._activations_of_fit()
        wanted = Network(arrays, activations, loss, self.n_jobs)
        if network is None or not network.is_same(wanted):
            # The network is that of the fit: hidden_layer_sizes, activation and loss may have been
            # changed for a next one.
            sizes = sizes_of(self.coefs_)
            w = flat_parameters(self.coefs_, self.intercepts_, sizes)
            predictor = Predictor(layer_table(sizes, activations), w, loss, self.n_jobs)
        n_features = np.shape(arrays[0])[0]
        is_ready = self._is_ready(X, n_features, predictor.dtype)
        if not is_ready:
            X = self._validate_samples(X, n_features, predictor.dtype)
        result = getattr(predictor, method)(X)
        if is_ready and not predictor.is_finite:
            self._validate_samples(X, n_features, predictor.dtype)
        # A copy of parameters that are no views of one vector would not see them change.
        if is_hashable and getattr(arrays[0], "base", None) is predictor.w:
            _predictors[self] = wanted, predictor
        return result

    def _activations_of_fit(self) -> tuple[str, ...]:
        activations: tuple[str, ...] = getattr(self, "_activations", ())
        if len(activations) == len(self.coefs_) - 1:
            return activations
        return self._per_hidden_layer("activation", len(self.coefs_) - 1)

    def _validate_samples(self, X: Any, n_features: int, dtype: Any) -> Any:
        X = validate_data(self, X, accept_sparse=["csr"], dtype=dtype, order="C", reset=False)
        if X.shape[1] != n_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but coefs_ has the shapes"
                f" {[np.shape(c) for c in self.coefs_]}."
            )
        return X

    def _validate_training_set(self, X: Any, y: Any, reset: bool, **rules: Any) -> tuple[Any, Any]:
        """What ``validate_data`` returns; with ``reset`` it notes the features.

        It takes 250 µs, a third of a call of ``partial_fit`` with a few samples.
        """
        if (
            not reset
            and self._is_ready(X, sizes_of(self.coefs_)[0], getattr(X, "dtype", None))
            and X.dtype in (np.float64, np.float32)
            and type(y) is np.ndarray
            and y.shape == X.shape[:1]
            and y.dtype.kind in "biuf"
            and is_finite(X)
            and is_finite(y)
        ):
            return X, y
        return validate_data(
            self, X, y, accept_sparse=["csr"], multi_output=True, dtype=(np.float64, np.float32),
            order="C", reset=reset, **rules,
        )  # fmt: skip

    def _is_ready(self, X: Any, n_features: int, dtype: Any) -> bool:
        """Whether ``validate_data`` would return ``X`` as it is, if all of it is finite.

        It takes 50 µs; whether all is finite, the kernels see by the way.
        """
        return (
            type(X) is np.ndarray
            and X.dtype == dtype
            and X.ndim == 2
            and X.shape[0] > 0
            and X.shape[1] == n_features == getattr(self, "n_features_in_", None)
            and X.flags.c_contiguous
            and X.flags.aligned
            and not hasattr(self, "feature_names_in_")
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "coefs_"):
            # Pickle stores each view as an array of its own; predictions want one vector.
            sizes = sizes_of(self.coefs_)
            w = flat_parameters(self.coefs_, self.intercepts_, sizes)
            layers = layer_table(sizes, ("identity",) * (len(sizes) - 2))
            self.coefs_, self.intercepts_ = parameter_views(w, layers)


def is_finite(a: NDArray[Any]) -> bool:
    """Whether the sum of all numbers is, for which all of them must be."""
    with np.errstate(all="ignore"):
        return math.isfinite(a.sum())

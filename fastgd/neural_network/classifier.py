"""The classifier: labels in, labels out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d, compute_class_weight, compute_sample_weight
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
)
from sklearn.utils.validation import validate_data

from fastgd.kernels.losses import (
    BinaryLogLoss,
    CategoricalHinge,
    CategoricalLogLoss,
    Hinge,
    KLDivergence,
)
from fastgd.neural_network._base import (
    BaseMLP,
    checked_loss,
    dense,
    set_parameters,
)
from fastgd.neural_network._parameters import ATTRIBUTES, CONSTRAINTS, EXTENSIONS, PARAMETERS
from fastgd.neural_network.labels import class_numbers, distinct_labels, fitted_binarizer
from fastgd.neural_network.problem import check_probabilities

# (one output a class, one output a label)
CLASSIFICATION_LOSSES = {
    "log_loss": (CategoricalLogLoss, BinaryLogLoss),
    "hinge": (CategoricalHinge, Hinge),
    "kl_divergence": (KLDivergence, KLDivergence),
}


def _has_columns(y: Any) -> bool:
    return np.ndim(y) == 2 and np.shape(y)[1] > 1


def _refuse_negative_labels(y: Any) -> None:
    """Labels in columns are 1 or 0; other numbers above 0 count as 1, as in scikit-learn."""
    if y.ndim == 2 and y.dtype.kind in "if" and y.min() < 0:
        raise ValueError(
            "Labels in columns must be 1 for a sample that has the label, else 0, got y with"
            f" numbers from {y.min()} to {y.max()}."
        )


def _gives_margins(estimator: Any) -> bool:
    """By the loss of the fit; before there is one, by the parameter."""
    loss = estimator._loss if hasattr(estimator, "_loss") else estimator._loss_class(False)
    return loss.out_activation not in ("logistic", "softmax")


def _gives_probabilities(estimator: Any) -> bool:
    if _gives_margins(estimator):
        loss = getattr(estimator, "_loss", estimator.loss)
        raise AttributeError(
            f"probabilities are not available with loss={loss!r}, whose outputs are margins."
        )
    return True


class MLPClassifier(ClassifierMixin, BaseMLP):
    __doc__ = f"""Multi-layer perceptron classifier on compiled kernels.

    A drop-in replacement of :class:`sklearn.neural_network.MLPClassifier`: with the same
    parameters and ``random_state`` it trains the same model, up to rounding.  The parameters
    after ``max_fun`` are additions.

    Parameters
    ----------{PARAMETERS}
    loss : {{'log_loss', 'hinge', 'kl_divergence'}} or loss object, default='log_loss'
        'log_loss' is cross-entropy: binary, categorical, or per label.  'hinge' is the hinge
        loss, of Crammer and Singer for several classes; it has margins
        (``decision_function``) instead of probabilities.
        'kl_divergence' takes as ``y`` a matrix (n_samples, n_classes) of probabilities.
    class_weight : dict, list of dict, 'balanced' or None, default=None
        Weights of the classes, multiplied with ``sample_weight``; 'balanced': inversely
        proportional to their number of samples; a list for labels, a dict each.{EXTENSIONS}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.{ATTRIBUTES}

    See Also
    --------
    MLPRegressor : The same for numbers.

    Examples
    --------
    >>> from fastgd import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = MLPClassifier((16,), solver="lbfgs", random_state=1).fit(X, y)
    >>> clf.predict(X[:3])
    array([0, 0, 0])
    >>> clf.score(X, y) > 0.97
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "loss": [StrOptions(set(CLASSIFICATION_LOSSES)), HasMethods("value_and_delta")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
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
        loss: Any = "log_loss",
        class_weight: Any = None,
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

    # Targets.

    @property
    def _takes_probabilities(self) -> bool:
        is_named = isinstance(self.loss, str) and self.loss == "kl_divergence"
        return is_named or isinstance(self.loss, KLDivergence)

    def _check_targets(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        if self._takes_probabilities and _has_columns(y):
            return self._check_probabilities(X, y, incremental, reset)
        X, y = self._validate_training_set(X, y, reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        _refuse_negative_labels(y)
        self._note_classes(y, incremental)
        if self._has_labels_in_columns:
            fits = y.ndim == 2 and y.shape[1] == len(self._label_binarizer.classes_)
            # It takes single labels, too, or complains; but it looks at all of y several times.
            y = dense(y if fits else self._label_binarizer.transform(y)) != 0
        return X, y

    def _note_classes(self, y: Any, incremental: bool) -> None:
        """Learn which classes there are, or see that they are those of the first fit."""
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = fitted_binarizer(y)
            self.classes_ = self._label_binarizer.classes_
            return
        classes = distinct_labels(y)
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous"
                    f" call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`."
                f" `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _knows(self, classes: Any) -> bool:
        """Whether these are ``classes_``, as they are in most calls of ``partial_fit``."""
        if not hasattr(self, "classes_") or not np.array_equal(self.classes_, classes):
            return False
        return np.asarray(classes).dtype.kind == self.classes_.dtype.kind

    def _check_validation_set(self, X_val: Any, y_val: Any, dtype: Any) -> tuple[Any, Any]:
        X_val, y_val = super()._check_validation_set(X_val, y_val, dtype)
        if self._has_labels_in_columns:
            _refuse_negative_labels(y_val)
            n_labels, kind = len(self._label_binarizer.classes_), type_of_target(y_val)
            if kind != "multilabel-indicator" or y_val.shape[1] != n_labels:
                raise ValueError(
                    f"y_val must be labels in {n_labels} columns, as y is, but is {kind} of shape"
                    f" {y_val.shape}."
                )
            y_val = dense(y_val) != 0
        return X_val, y_val

    @property
    def _has_labels_in_columns(self) -> bool:
        """Whether a sample may have several labels: then y is True in their columns."""
        kind = self._label_binarizer.y_type_.startswith("multilabel")
        return kind and not self._takes_probabilities

    def _check_probabilities(
        self, X: Any, y: Any, incremental: bool, reset: bool
    ) -> tuple[Any, Any]:
        X, y = validate_data(
            self, X, dense(y), accept_sparse=["csr"], multi_output=True, y_numeric=True,
            dtype=(np.float64, np.float32), order="C", reset=reset,
        )  # fmt: skip
        check_probabilities(y)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self.classes_ = np.arange(y.shape[1])
            self._label_binarizer = fitted_binarizer(self.classes_)
        elif len(self.classes_) != y.shape[1]:
            raise ValueError(
                f"y has {y.shape[1]} columns of probabilities, but `self.classes_` has"
                f" {self.classes_}."
            )
        return X, y

    @property
    def _one_output_a_class(self) -> bool:
        return bool(self._label_binarizer.y_type_ == "multiclass")

    def _loss_class(self, one_output_a_class: bool) -> Any:
        if isinstance(self.loss, str):
            return CLASSIFICATION_LOSSES[self.loss][0 if one_output_a_class else 1]
        return type(self.loss)

    def _chosen_loss(self) -> Any:
        if isinstance(self.loss, str):
            return self._loss_class(self._one_output_a_class)()
        loss = checked_loss(self.loss)
        multiclass = self._one_output_a_class
        if getattr(loss, "class_numbers", False) and not multiclass:
            raise ValueError(f"loss={loss!r} is for more than two classes, y has two or is labels.")
        if loss.out_activation == "logistic" and multiclass:
            raise ValueError(
                f"loss={loss!r} is for two classes or for labels, y has {len(self.classes_)}"
                " classes. 'log_loss' chooses the right one."
            )
        return loss

    def _encode(self, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any], Any, int]:
        loss = self._chosen_loss()
        if isinstance(loss, KLDivergence):
            if y.ndim == 1:
                y = np.eye(len(self.classes_))[self._class_numbers(y)]
            y = dense(y)
            check_probabilities(y)
            return y.astype(dtype), loss, y.shape[1]
        if self._has_labels_in_columns:
            return y.astype(dtype), loss, y.shape[1]
        codes = self._class_numbers(y)[:, np.newaxis]
        if not self._one_output_a_class:
            return codes.astype(dtype), loss, 1
        if getattr(loss, "class_numbers", False):
            return codes.astype(np.int64), loss, len(self.classes_)
        return np.eye(len(self.classes_), dtype=dtype)[codes.ravel()], loss, len(self.classes_)

    def _class_numbers(self, y: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each label in ``classes_``."""
        if y.ndim != 1:
            raise ValueError(
                f"y must be one label for each sample, as in the first fit, got shape {y.shape}."
            )
        return class_numbers(y, self.classes_)

    def _weigh_classes(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which does not see all"
                " samples. Pass the weights that compute_class_weight('balanced', ...) gives for"
                " all of them as a dict."
            )
        if self._is_probabilities(y):
            raise ValueError(
                "class_weight is for labels, but y has probabilities of classes. Pass sample_weight"
                " in its place."
            )
        weights = self._class_weights(y)
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(
                f"class_weight must be finite and not negative, got {self.class_weight!r}."
            )
        with np.errstate(over="ignore"):  # of which is told by who asked
            return weights if sample_weight is None else weights * sample_weight

    def _class_weights(self, y: Any) -> NDArray[Any]:
        """The weight of each sample; a batch need not have all classes that have one."""
        of = self.class_weight
        if isinstance(of, dict) and np.ndim(y) == 1:
            weights = compute_class_weight(of, classes=self.classes_, y=y)
            return weights[self._class_numbers(y)]
        if isinstance(of, list) and not self._has_labels_in_columns:
            raise ValueError(
                "class_weight may be a list of dicts, one for each column, where y has labels in"
                f" columns, but y is one label for each sample. Got {of!r}."
            )
        if isinstance(of, list) and all(isinstance(one, dict) for one in of):
            of = [{0: 1.0, 1: 1.0} | one for one in of]
        return compute_sample_weight(of, y)

    # Prediction.

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The predicted labels.
        """
        if hasattr(self, "_label_binarizer") and self._one_output_a_class:
            return self.classes_[self._predict_with("codes", X)]
        return self._labels(self._outputs(X))

    @property
    def _threshold(self) -> Any:
        """Outputs above it mean the second of two classes."""
        return getattr(self._loss, "threshold", 0.5)

    def _labels(self, outputs: NDArray[Any]) -> NDArray[Any]:
        if self._one_output_a_class:
            return self.classes_[outputs.argmax(axis=1)]
        threshold = self._threshold
        if outputs.shape[1] == 1:
            outputs = outputs.ravel()
            if self.classes_.size == 2:
                return self.classes_[(outputs > threshold).view(np.int8)]
        return self._label_binarizer.inverse_transform(outputs, threshold)

    def _score_outputs(self, y: NDArray[Any], outputs: NDArray[Any], sample_weight: Any) -> float:
        if self._is_probabilities(y):
            y = self.classes_[y.argmax(axis=1)]
        is_right = y == self._labels(outputs)
        if is_right.ndim == 2:
            is_right = is_right.all(axis=1)
        # scikit-learn's function looks at both for a millisecond, as long as many an epoch.
        return float(np.average(is_right, weights=sample_weight))

    def _is_probabilities(self, y: Any) -> bool:
        return _has_columns(y) and isinstance(self._loss, KLDivergence)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of ``predict(X)``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels; with the KL divergence also probabilities, whose largest is the label.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        score : float
            Share of the samples that are predicted right.
        """
        if hasattr(self, "_loss") and self._is_probabilities(y):
            y = self.classes_[np.asarray(dense(y)).argmax(axis=1)]
        return float(super().score(X, y, sample_weight=sample_weight))

    @available_if(_gives_margins)
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Margins, for the losses that have no probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        margins : ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, above 0 means ``classes_[1]``.
        """
        outputs = self._outputs(X)
        if not self._one_output_a_class:
            outputs = outputs - self._threshold
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            The probability of each class, in the order of ``classes_``.
        """
        outputs = self._outputs(X)
        # The one of a single class, with a softmax, is 1.
        if outputs.shape[1] == 1 and self._loss.out_activation == "logistic":
            return np.hstack([1 - outputs, outputs])
        return outputs

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of the probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``.
        """
        y_prob = self.predict_proba(X)
        return np.log(y_prob, out=y_prob)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Train one epoch on the given samples, with the optimizer as the last call left it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : {array-like, sparse matrix} of shape (n_samples,) or (n_samples, n_labels)
            Class labels; or 1 in the columns of all labels that a sample has, else 0.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur in any call; needed in the first one.

        Returns
        -------
        self : object
            The trained estimator.
        """
        with self._kept_if_this_fails():
            if not self._knows(classes) and _check_partial_fit_first_call(self, classes):
                multilabel = type_of_target(y).startswith("multilabel")
                multilabel = multilabel and not self._takes_probabilities
                self._label_binarizer = fitted_binarizer(y if multilabel else classes)
            self._fit_checked(X, y, sample_weight, None, None, incremental=True)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

"""What the classifier and the regressor share: validation, the course of a fit, prediction."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context, is_classifier
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastgd._record import checked
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.kernels.epoch import Limits
from fastgd.kernels.layout import layer_table, parameter_views
from fastgd.neural_network._parameters import POLICIES
from fastgd.neural_network.deterministic import train_by_solver
from fastgd.neural_network.epochs import EpochRunner
from fastgd.neural_network.fit_tasks import FitTasks
from fastgd.neural_network.initialization import initial_parameters
from fastgd.neural_network.problem import (
    Problem,
    as_data,
    flat_parameters,
    predict,
)
from fastgd.neural_network.stochastic import train_by_epochs
from fastgd.neural_network.validation import HeldOut
from fastgd.optimizers import OPTIMIZERS, SGD, Adam, Optimizer, is_rule, schedules

DEFAULT_RATE = 0.001

# What is known of the classes and of a training that goes on, beside the public attributes.
PRIVATE_STATE = ("_label_binarizer", "_optimizer", "_no_improvement_count", "_random_state")

# What one start of training leaves behind; ``n_init`` keeps these of the best start.
TRAINED = (
    "coefs_", "intercepts_", "n_iter_", "n_passes_", "t_", "loss_", "best_loss_", "loss_curve_",
    "grad_norm_curve_", "validation_scores_", "validation_loss_curve_", "best_validation_score_",
    "_optimizer", "_no_improvement_count",
)  # fmt: skip


class BaseMLP(CallbackSupportMixin, BaseEstimator, ABC):
    """Base of the perceptrons; not to be used directly."""

    # What the classifier and the regressor each have their own of.

    @abstractmethod
    def _check_targets(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Validated X and y; y as the user sees it."""

    @abstractmethod
    def _encode(self, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any], Any, int]:
        """Targets for the kernels, the loss, and the number of outputs."""

    @abstractmethod
    def _score_outputs(self, y: NDArray[Any], outputs: NDArray[Any], sample_weight: Any) -> float:
        """Accuracy or R² of the outputs of the network."""

    def _weigh_classes(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        return sample_weight

    # Reading the parameters.

    @property
    def _hidden_sizes(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(not isinstance(size, Integral) or size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return tuple(int(size) for size in sizes)

    def _per_hidden_layer(self, name: str) -> tuple[Any, ...]:
        """The values of a parameter that may be given once or for each hidden layer."""
        value, n_hidden = getattr(self, name), len(self._hidden_sizes)
        if isinstance(value, (str, Real)):
            return (value,) * n_hidden
        values = tuple(value)
        if len(values) != n_hidden:
            raise ValueError(
                f"{name} must be one value, or one for each of the {n_hidden} hidden layers,"
                f" got {len(values)}: {value!r}."
            )
        return values

    def _network(self, n_features: int, n_outputs: int) -> NDArray[Any]:
        """The layer table."""
        activations = self._per_hidden_layer("activation")
        for name in activations:
            if name not in ACTIVATIONS:
                raise ValueError(
                    f"activation must be one of {sorted(ACTIVATIONS)}, or one of them for each"
                    f" hidden layer, got {name!r}."
                )
        dropout = self._per_hidden_layer("dropout")
        if not all(isinstance(rate, Real) and 0 <= float(rate) < 1 for rate in dropout):
            raise ValueError(f"dropout must have rates in [0, 1), got {self.dropout!r}.")
        sizes = (n_features, *self._hidden_sizes, n_outputs)
        return layer_table(sizes, activations, tuple(float(rate) for rate in dropout))

    def _rule(self) -> Any:
        """The update rule that ``solver`` asks for."""
        if is_rule(self.solver):
            return checked(self.solver)
        if not isinstance(self.solver, str):
            raise ValueError(
                "solver must be the name of a solver, or an update rule: a NamedTuple with a field"
                f" learning_rate and a method step. Got {self.solver!r}."
            )
        if self.solver == "sgd":
            return SGD(
                learning_rate=float(self.learning_rate_init),
                momentum=float(self.momentum),
                nesterov=bool(self.nesterovs_momentum and self.momentum > 0),
                rate_in_velocity=True,
            )
        if self.solver == "adam":
            return Adam(
                learning_rate=float(self.learning_rate_init),
                beta_1=float(self.beta_1),
                beta_2=float(self.beta_2),
                epsilon=float(self.epsilon),
                epsilon_hat=True,
            )
        rule = OPTIMIZERS[self.solver]
        if self.learning_rate_init != DEFAULT_RATE:
            warnings.warn(
                f"learning_rate_init={self.learning_rate_init} has no effect with"
                f" solver={self.solver!r}, which has its own default. Pass"
                f" solver=fastgd.optimizers.{rule.__name__}"
                f"(learning_rate={self.learning_rate_init}) instead.",
                stacklevel=4,
            )
        return rule()

    @property
    def _is_stochastic(self) -> bool:
        return not isinstance(self.solver, str) or self.solver in OPTIMIZERS

    def _check_solver(self) -> bool:
        if not self._is_stochastic:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers."
                f" {self.solver} is not stochastic."
            )
        return True

    def _learning_rate_policy(self) -> tuple[str, Any]:
        """What happens to the rate at the end of an epoch, and a factor for each step or None."""
        if self.schedule is None:
            return (self.learning_rate if self.solver == "sgd" else "constant"), None
        if isinstance(self.schedule, str):
            if self.schedule in POLICIES:
                return self.schedule, None
            return "constant", schedules.SCHEDULES[self.schedule]()
        return "constant", self.schedule

    # The course of a fit.

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Any:
        """Fit the network to the samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data; float32 and float64 are kept, C-contiguous arrays are not copied.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels or numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative.
        X_val, y_val : array-like, default=None
            A validation set of one's own.  Its scores and losses are recorded after each epoch;
            with ``early_stopping=True`` it is what stops the training, and all of ``X`` is
            trained on.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            A parameter or an input is not valid, or the training diverged.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, incremental=False)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, incremental: bool
    ) -> Any:
        """Fit, or leave the estimator as it was."""
        before = self._fitted_state()
        try:
            self._fit_checked(X, y, sample_weight, X_val, y_val, incremental)
        except BaseException:
            for name in self._fitted_state():
                del self.__dict__[name]
            self.__dict__.update(before)
            raise
        return self

    def _fitted_state(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in vars(self).items()
            if (name.endswith("_") and not name.startswith("_")) or name in PRIVATE_STATE
        }

    def _fit_checked(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, incremental: bool
    ) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if (X_val is None) != (y_val is None):
            missing = "y_val" if y_val is None else "X_val"
            raise ValueError(f"X_val and y_val belong together, but {missing} is None.")
        self._network(1, 1)  # complain about parameters before anything changes
        rule = self._rule() if self._is_stochastic else None
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._check_targets(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if not first_pass:
            X = X.astype(np.asarray(self.coefs_[0]).dtype, copy=False)
        if X_val is not None:
            X_val, y_val = self._check_validation_set(X_val, y_val, X.dtype)

        targets, loss, n_outputs = self._encode(y, X.dtype)
        layers = self._network(X.shape[1], n_outputs)
        weights = self._weigh_classes(y, sample_weight, incremental)
        problem = Problem(
            layers, loss, float(self.alpha), as_data(X, targets, weights), X.shape[0], X.dtype
        )
        self.n_outputs_, self.n_layers_ = n_outputs, len(layers) + 1
        self.out_activation_ = loss.out_activation
        self._random_state = check_random_state(self.random_state)
        context = None
        if hasattr(self, "_skl_callbacks") and not incremental:
            n_tasks = self.max_iter * (self.n_init if first_pass else 1)
            context = self._init_callback_context(max_subtasks=n_tasks + 1)
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        samples = X, y, sample_weight, X_val, y_val
        if first_pass:
            self._fit_from_random_starts(problem, samples, rule, context, incremental)
        else:
            self._fit_from_parameters(problem, samples, rule, context, incremental)
        if context is not None:
            context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)

    def _check_validation_set(self, X_val: Any, y_val: Any, dtype: Any) -> tuple[Any, Any]:
        X_val, y_val = validate_data(
            self, X_val, y_val, accept_sparse=["csr"], multi_output=True, dtype=dtype,
            order="C", reset=False,
        )  # fmt: skip
        if y_val.ndim == 2 and y_val.shape[1] == 1:
            y_val = y_val.ravel()
        return X_val, y_val

    def _fit_from_random_starts(
        self, problem: Problem, samples: Any, rule: Any, context: Any, incremental: bool
    ) -> None:
        """Train from new weights; with ``n_init`` above 1 keep the best of several starts."""
        sizes = (int(problem.layers["n_in"][0]), *map(int, problem.layers["n_out"]))
        hidden = self._per_hidden_layer("activation")
        # The output layer is drawn as the layer below it, which is scikit-learn's choice.
        last = hidden[-1] if hidden else str(self.activation)
        best: dict[str, Any] | None = None
        failure: FloatingPointError | None = None
        for _ in range(1 if incremental else self.n_init):
            w = initial_parameters(
                self.init, self._random_state, sizes, (*hidden, last), problem.dtype
            )
            self._forget()
            try:
                interrupted = self._train(problem, w, samples, rule, context, incremental)
            except FloatingPointError as error:
                failure = error
                continue
            if best is None or self._merit() > best["merit"]:
                kept = {name: vars(self)[name] for name in TRAINED if name in vars(self)}
                best = {"merit": self._merit(), "kept": kept}
            if interrupted:
                break
        if best is None:
            raise ValueError(str(failure)) from None
        self.__dict__.update(best["kept"])

    def _merit(self) -> float:
        if self.validation_scores_:
            return float(self.best_validation_score_ or 0.0)
        return -float(self.loss_)

    def _forget(self) -> None:
        """Set the counters and curves to how a first fit finds them."""
        self.n_iter_ = self.t_ = self._no_improvement_count = 0
        self.loss_curve_: list[float] = []
        self.grad_norm_curve_: list[NDArray[np.float64]] = []
        self.best_loss_: float | None = None if self._stops_early else np.inf
        self.validation_scores_: list[float] | None = None
        self.validation_loss_curve_: list[float] | None = None
        self.best_validation_score_: float | None = None
        self.__dict__.pop("_optimizer", None)

    @property
    def _stops_early(self) -> bool:
        return bool(self.early_stopping and self._is_stochastic)

    def _fit_from_parameters(
        self, problem: Problem, samples: Any, rule: Any, context: Any, incremental: bool
    ) -> None:
        """Go on from the parameters of the last fit."""
        w = flat_parameters(self.coefs_, self.intercepts_, problem.layers).copy()
        if not hasattr(self, "grad_norm_curve_"):  # parameters that the user set by hand
            self._forget()
        try:
            self._train(problem, w, samples, rule, context, incremental)
        except FloatingPointError as error:
            raise ValueError(str(error)) from None

    def _train(
        self, problem: Problem, w: NDArray[Any], samples: Any, rule: Any, context: Any,
        incremental: bool,
    ) -> bool:  # fmt: skip
        """Train ``w`` and keep what came of it; whether the user interrupted it."""
        X, y, sample_weight, X_val, y_val = samples
        rows, held_out = None, None
        if X_val is not None:
            held_out = self._hold_out(problem, X_val, y_val, None)
        elif self._stops_early:
            rows, held_out = self._split(problem, X, y, sample_weight)
        if held_out is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -np.inf
        stochastic = self._is_stochastic
        told: tuple[Any, ...] = (X, y, sample_weight)
        if rows is not None and context is not None:
            told = tuple(None if a is None else a[rows] for a in told)
        tasks = FitTasks(
            self, context, "epoch" if stochastic else "iteration", problem.layers, *told
        )
        if stochastic:
            runner, policy = self._epoch_runner(problem, w, rows, rule, incremental)
            interrupted = train_by_epochs(
                self, runner, w, held_out, policy, tasks, self.max_iter, incremental
            )
        else:
            interrupted = train_by_solver(self, problem, w, held_out, tasks)
        if not np.isfinite(w).all():
            raise FloatingPointError(
                "Solver produced non-finite parameter weights. The input data may contain large"
                " values and need to be preprocessed."
            )
        self.coefs_, self.intercepts_ = parameter_views(w, problem.layers)
        return interrupted

    def _split(
        self, problem: Problem, X: Any, y: Any, sample_weight: Any
    ) -> tuple[NDArray[np.int64], HeldOut]:
        """Choose the samples to train on and the samples to stop by, as scikit-learn does."""
        stratify = None
        if is_classifier(self) and self.n_outputs_ == 1:
            stratify = np.asarray(problem.data.y).astype(bool)
        rows, val = train_test_split(
            np.arange(X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if val.size < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of"
                " your dataset."
            )
        weights = None if sample_weight is None else sample_weight[val]
        return rows, self._hold_out(problem, X[val], y[val], weights)

    def _hold_out(self, problem: Problem, X: Any, y: Any, sample_weight: Any) -> HeldOut:
        targets, _, _ = self._encode(y, problem.dtype)
        held = problem._replace(data=as_data(X, targets, sample_weight), n_samples=X.shape[0])
        return HeldOut(X, y, sample_weight, held, self._score_outputs)

    def _epoch_runner(
        self, problem: Problem, w: NDArray[Any], rows: Any, rule: Any, incremental: bool
    ) -> tuple[EpochRunner, str]:
        n_samples = problem.n_samples if rows is None else rows.size
        batch_size = min(200, n_samples)
        if self.batch_size != "auto":
            if self.batch_size > n_samples:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be"
                    " clipped",
                    stacklevel=4,
                )
            batch_size = int(min(self.batch_size, n_samples))
        optimizer: Any = getattr(self, "_optimizer", None) if incremental else None
        if optimizer is None or type(optimizer.rule) is not type(rule):
            optimizer = Optimizer(rule, w)
        self._optimizer = optimizer
        policy, schedule = self._learning_rate_policy()
        if schedule is not None:
            schedule = schedules.over(schedule, self.max_iter * -(-n_samples // batch_size))
        limits = Limits(
            float(self.clip_value or 0), float(self.clip_norm or 0), float(self.max_norm or 0)
        )
        runner = EpochRunner(
            problem, rows, batch_size, optimizer,
            shuffle=self.shuffle, random_state=self._random_state,
            dropout=bool(problem.layers["dropout"].any()), limits=limits, schedule=schedule,
        )  # fmt: skip
        return runner, policy

    # Prediction.

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Outputs (N, K) of the network for samples that have not been validated."""
        check_is_fitted(self)
        dtype = np.asarray(self.coefs_[0]).dtype
        X = validate_data(self, X, accept_sparse=["csr"], dtype=dtype, order="C", reset=False)
        n_outputs = np.asarray(self.intercepts_[-1]).size
        layers = self._network(X.shape[1], n_outputs)
        w = flat_parameters(self.coefs_, self.intercepts_, layers)
        return predict(layers, w, self._fitted_loss(), X)

    @abstractmethod
    def _fitted_loss(self) -> Any:
        """The loss of the last fit, whose link predictions go through."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "coefs_"):
            # Pickle stores each view as an array of its own; predictions want one vector.
            layers = self._network(self.coefs_[0].shape[0], self.intercepts_[-1].size)
            w = flat_parameters(self.coefs_, self.intercepts_, layers)
            self.coefs_, self.intercepts_ = parameter_views(w, layers)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def set_parameters(estimator: Any, values: dict[str, Any]) -> None:
    """Store the arguments of a constructor as they came, which is scikit-learn's convention."""
    for name, value in values.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)

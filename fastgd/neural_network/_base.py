"""What the classifier and the regressor share: validation, the course of a fit, prediction."""

from __future__ import annotations

import contextlib
import functools
import warnings
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import _fit_context, is_classifier
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastgd._record import checked
from fastgd.kernels.aligned import PARAMETERS, aligned_copy
from fastgd.kernels.layout import parameter_views
from fastgd.kernels.limits import Limits
from fastgd.kernels.losses import is_loss
from fastgd.kernels.shuffle import shuffle
from fastgd.neural_network.deterministic import train_by_solver
from fastgd.neural_network.epochs import EpochRunner
from fastgd.neural_network.fit_tasks import FitTasks
from fastgd.neural_network.fitted import FittedNetwork
from fastgd.neural_network.initialization import initial_parameters
from fastgd.neural_network.problem import (
    Problem,
    as_data,
    flat_parameters,
    sizes_of,
    weight_exponent,
)
from fastgd.neural_network.stochastic import train_by_epochs
from fastgd.neural_network.validation import HeldOut
from fastgd.optimizers import Optimizer, is_rule, schedules
from fastgd.solvers import Objective

# What is known of the classes and of a training that goes on, beside the public attributes.
PRIVATE_STATE = (
    "_label_binarizer", "_loss", "_activations", "_optimizer", "_no_improvement_count",
    "_random_state", "_kept_by_score",
)  # fmt: skip

# What one start of training leaves behind; ``n_init`` keeps these of the best start.
TRAINED = (
    "coefs_", "intercepts_", "n_iter_", "n_passes_", "t_", "loss_", "best_loss_", "loss_curve_",
    "grad_norm_curve_", "stop_reason_", "validation_scores_", "validation_loss_curve_",
    "best_validation_score_", "_optimizer", "_no_improvement_count", "_kept_by_score",
)  # fmt: skip


class BaseMLP(CallbackSupportMixin, FittedNetwork):
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
        with self._kept_if_this_fails():
            self._fit_checked(X, y, sample_weight, X_val, y_val, incremental)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def objective(self, X: Any, y: Any, sample_weight: Any = None) -> Objective:
        """The training objective as a function of the parameters, for any optimizer.

        The estimator is then as after a fit without a step: it knows features and classes, and has
        its initial weights; ``set_weights`` puts better ones in.  Dropout, schedules and the like,
        which belong to mini-batches, have no part in it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        objective : fastgd.Objective
            With ``x0``: the initial weights that ``fit`` would draw, or with ``warm_start`` those
            of the last fit.

        Raises
        ------
        ValueError
            A parameter or an input is not valid.
        """
        with self._kept_if_this_fails():
            problem, w = self._before_training(X, y, sample_weight)
            return problem.objective(w)

    def _before_training(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> tuple[Problem, NDArray[Any]]:
        """The problem, and the parameters that a fit begins with, which are the estimator's now."""
        self._network(1, 1)  # complain about parameters before anything changes
        first_pass = not (self.warm_start and hasattr(self, "coefs_"))
        _, _, _, problem = self._problem(X, y, sample_weight, False, first_pass)
        if first_pass:
            w = self._initial_parameters(problem)
            self._forget()
            for name in ("loss_", "n_passes_"):
                self.__dict__.pop(name, None)
        else:
            w = flat_parameters(self.coefs_, self.intercepts_, problem.sizes)
            w = aligned_copy(w, place=PARAMETERS)
        self.coefs_, self.intercepts_ = parameter_views(w, problem.layers)
        return problem, w

    @contextlib.contextmanager
    def _kept_if_this_fails(self) -> Iterator[None]:
        """Leave the estimator as it was if an exception ends the block."""
        before = self._fitted_state()
        try:
            yield
        except BaseException:
            for name in self._fitted_state():
                del self.__dict__[name]
            self.__dict__.update(before)
            raise

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
        rule = None
        if self._is_stochastic:
            rule = self._rule()
        else:
            self._warn_of_useless_parameters()
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y, sample_weight, problem = self._problem(X, y, sample_weight, incremental, first_pass)
        if X_val is not None:
            X_val, y_val = self._check_validation_set(X_val, y_val, X.dtype)
            if self._stops_early and X_val.shape[0] < 2 and not is_classifier(self):
                raise ValueError("X_val must have at least 2 samples: the R² of one is no number.")
        context = None
        if hasattr(self, "_skl_callbacks") and not incremental:
            # Of what dual annealing calls back for, there is no limit.
            n_tasks = self.max_iter * (self.n_init if first_pass else 1)
            unlimited = self.solver == "dual-annealing"
            context = self._init_callback_context(max_subtasks=None if unlimited else n_tasks)
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        samples = X, y, sample_weight, X_val, y_val
        if first_pass:
            self._fit_from_random_starts(problem, samples, rule, context, incremental)
        else:
            self._fit_from_parameters(problem, samples, rule, context, incremental)
        if context is not None:
            context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)

    def _problem(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, first_pass: bool
    ) -> tuple[Any, Any, Any, Problem]:
        """Validate the samples, note what they say of outputs and classes; the problem."""
        X, y = self._check_targets(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if not first_pass:
            sizes = (X.shape[1], *sizes_of(self.coefs_)[1:])
            X = X.astype(flat_parameters(self.coefs_, self.intercepts_, sizes).dtype, copy=False)
        targets, loss, n_outputs = self._encode(y, X.dtype)
        self.out_activation_, self._loss = loss.out_activation, loss
        layers = self._network(X.shape[1], n_outputs)
        self._activations = self._per_hidden_layer("activation", len(layers) - 1)
        weights = self._weigh_classes(y, sample_weight, incremental)
        with np.errstate(over="ignore"):  # of which is told next
            data = as_data(X, targets, weights)
            alpha = float(np.ldexp(float(self.alpha), weight_exponent(weights)))
        if weights is not None and not (np.isfinite(data.weight).all() and data.weight.any()):
            raise ValueError(
                f"No sample has a weight above 0 in {X.dtype}, or one is infinite; a weight is"
                " that of sample_weight times that of class_weight."
            )
        if alpha > float(np.finfo(X.dtype).max):
            raise ValueError(f"alpha={self.alpha} is too large for weights of {weights.max():g}.")
        problem = Problem(layers, loss, alpha, data, X.shape[0], X.dtype, self.n_jobs)
        self.n_outputs_, self.n_layers_ = n_outputs, len(layers) + 1
        self._random_state = self._generator()
        return X, y, sample_weight, problem

    def _check_validation_set(self, X_val: Any, y_val: Any, dtype: Any) -> tuple[Any, Any]:
        X_val, y_val = validate_data(
            self, X_val, y_val, accept_sparse=["csr"], multi_output=True, dtype=dtype,
            order="C", reset=False, y_numeric=not is_classifier(self),
        )  # fmt: skip
        if y_val.ndim == 2 and y_val.shape[1] == 1:
            y_val = dense(y_val).ravel()
        return X_val, y_val

    def _fit_from_random_starts(
        self, problem: Problem, samples: Any, rule: Any, context: Any, incremental: bool
    ) -> None:
        """Train from new weights; with ``n_init`` above 1 keep the best of several starts."""
        best: dict[str, Any] | None = None
        failure: FloatingPointError | None = None
        split: list[Any] = []
        for _ in range(1 if incremental else self.n_init):
            w = self._initial_parameters(problem)
            self._forget()
            try:
                interrupted = self._train(problem, w, samples, rule, context, incremental, split)
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

    def _initial_parameters(self, problem: Problem) -> NDArray[Any]:
        sizes = problem.sizes
        hidden = self._per_hidden_layer("activation", len(sizes) - 2)
        # The output layer is drawn as the layer below it, which is scikit-learn's choice.
        last = hidden[-1] if hidden else str(self.activation)
        return initial_parameters(
            self.init, self._random_state, sizes, (*hidden, last), problem.dtype
        )

    def _merit(self) -> float:
        """What ``n_init`` compares: of the parameters that are kept, and never NaN."""
        scores = self.validation_scores_
        if scores is None:
            merit = -self.loss_
        elif scores:
            merit = self.best_validation_score_ if self._stops_early else scores[-1]
        else:  # interrupted before the first one
            merit = None
        return -np.inf if merit is None or np.isnan(merit) else float(merit)

    def _forget(self) -> None:
        """Set the counters and curves to how a first fit finds them."""
        self.n_iter_ = self.t_ = self._no_improvement_count = 0
        self.stop_reason_ = "not trained"
        self._kept_by_score: int | None = None  # a checksum of what early stopping has kept
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
        w = aligned_copy(
            flat_parameters(self.coefs_, self.intercepts_, problem.sizes), problem.dtype, PARAMETERS
        )
        if not hasattr(self, "grad_norm_curve_"):  # parameters that the user set by hand
            self._forget()
        if self.best_loss_ is None and not self._stops_early:
            self.best_loss_ = np.inf
        try:
            self._train(problem, w, samples, rule, context, incremental, None)
        except FloatingPointError as error:
            raise ValueError(str(error)) from None

    def _train(
        self, problem: Problem, w: NDArray[Any], samples: Any, rule: Any, context: Any,
        incremental: bool, split: list[Any] | None,
    ) -> bool:  # fmt: skip
        """Train ``w`` and keep what came of it; whether the user interrupted it.

        All starts of a fit have one ``split``; it is None for what goes on from another fit.
        """
        goes_on = split is None
        split = [] if split is None else split
        X, y, sample_weight, X_val, y_val = samples
        rows, held_out = None, None
        if X_val is not None:
            held_out = self._hold_out(problem, X_val, y_val, None)
        elif self._stops_early:
            if not split:  # once for all starts, or their scores could not be compared
                split.append(self._split(problem, X, y, sample_weight))
            rows, held_out = split[0]
        if held_out is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -np.inf
        if held_out is not None and goes_on and self._stops_early and (
            X_val is not None or getattr(self, "_kept_by_score", None) != zlib.crc32(w.data)
        ):  # fmt: skip
            # The best of before is not there any more, or was so for other samples.
            self.best_validation_score_ = float(np.nan_to_num(held_out.score(w), nan=-np.inf))
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
            if incremental:
                runner.keep_plan()
        else:
            interrupted = train_by_solver(self, problem, w, held_out, tasks, self._random_state)
        if not np.isfinite(w).all():
            raise FloatingPointError(
                "Solver produced non-finite parameter weights. The input data may contain large"
                " values and need to be preprocessed."
            )
        self.coefs_, self.intercepts_ = parameter_views(w, problem.layers)
        self._kept_by_score = zlib.crc32(w.data) if self._stops_early else None
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
        weights = self._weigh_classes(y, sample_weight, incremental=False)
        if weights is not None and not problem.data.weight[rows].any():
            raise ValueError(
                "No sample that is trained on has a weight above 0: all that have one are held out"
                " for validation. Pass X_val, or another random_state."
            )
        held_weights = None if weights is None else weights[val]
        return rows, self._hold_out(problem, X[val], y[val], held_weights)

    def _hold_out(self, problem: Problem, X: Any, y: Any, weights: Any) -> HeldOut:
        targets, _, n_outputs = self._encode(y, problem.dtype)
        if n_outputs != self.n_outputs_:
            raise ValueError(f"y_val has {n_outputs} outputs, but y has {self.n_outputs_}.")
        held = problem._replace(data=as_data(X, targets, weights), n_samples=X.shape[0])
        return HeldOut(X, y, weights, held, self._score_outputs)

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
        chunks = problem.chunks(batch_size)
        optimizer: Any = getattr(self, "_optimizer", None) if incremental else None
        # A copy: if this fit fails, the next one goes on from where the last good one ended.
        optimizer = None if optimizer is None else optimizer.successor(rule, w, chunks)
        if optimizer is None:
            optimizer = Optimizer(rule, w, chunks)
        elif is_rule(self.solver) and optimizer.rule != rule:
            optimizer.rule, optimizer.learning_rate = rule, rule.learning_rate
        self._optimizer = optimizer
        policy, schedule = self._learning_rate_policy()
        if schedule is not None:
            schedule = schedules.over(schedule, self.max_iter * -(-n_samples // batch_size))
        limits = Limits(
            float(self.clip_value or 0), float(self.clip_norm or 0), float(self.max_norm or 0)
        )
        runner = EpochRunner(
            problem, rows, batch_size, optimizer,
            shuffle=self._shuffler(), random_state=self._random_state,
            dropout=bool(problem.layers["dropout"].any()), limits=limits, schedule=schedule,
        )  # fmt: skip
        return runner, policy

    def _shuffler(self) -> Callable[[NDArray[np.int64]], None] | None:
        """What draws the order of an epoch: faster from a generator that is ours alone."""
        if not self.shuffle:
            return None
        if isinstance(self.random_state, Integral):
            return functools.partial(shuffle, self._random_state)
        return self._random_state.shuffle

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def dense(y: Any) -> Any:
    """Targets as an array."""
    return y.toarray() if scipy.sparse.issparse(y) else y


def checked_loss(loss: Any) -> Any:
    """A loss object with its fields checked."""
    if not is_loss(loss):
        raise ValueError(
            "loss must be the name of a loss, or a NamedTuple with the methods value_and_delta and"
            f" link and the class attribute out_activation. Got {loss!r}."
        )
    return checked(loss)


def set_parameters(estimator: Any, values: dict[str, Any]) -> None:
    """Store the arguments of a constructor as they came, which is scikit-learn's convention."""
    for name, value in values.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)

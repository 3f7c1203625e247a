"""What the parameters of an estimator ask for: the network, the update rule, the schedule."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.random import MT19937, RandomState
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from fastgd._record import checked
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.kernels.layout import layer_table
from fastgd.neural_network._parameters import POLICIES
from fastgd.optimizers import OPTIMIZERS, SGD, Adam, is_rule, schedules

DEFAULT_RATE = 0.001

_PARAMETER_NAMES: WeakKeyDictionary[type, list[str]] = WeakKeyDictionary()


def _is_count(size: Any) -> bool:
    return isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0


class Settings(BaseEstimator):
    """Reads the parameters of an estimator, and complains of those that do not go together."""

    @classmethod
    def _get_param_names(cls) -> list[str]:
        # scikit-learn inspects the signature each time, for 65 µs.
        if cls not in _PARAMETER_NAMES:
            _PARAMETER_NAMES[cls] = super()._get_param_names()
        return list(_PARAMETER_NAMES[cls])

    @property
    def _hidden_sizes(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        sizes = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(not _is_count(size) for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, and whole numbers, got {sizes}.")
        return tuple(int(size) for size in sizes)

    def _per_hidden_layer(self, name: str, n_hidden: int) -> tuple[Any, ...]:
        """The values of a parameter that may be given once or for each hidden layer."""
        value = getattr(self, name)
        if np.ndim(value) == 0:
            return (value.item() if isinstance(value, np.ndarray) else value,) * n_hidden
        values = tuple(value)
        if len(values) != n_hidden:
            raise ValueError(
                f"{name} must be one value, or one for each of the {n_hidden} hidden layers,"
                f" got {len(values)}: {value!r}."
            )
        return values

    def _network(self, n_features: int, n_outputs: int) -> NDArray[Any]:
        """The layer table."""
        hidden_sizes = self._hidden_sizes
        activations = self._per_hidden_layer("activation", len(hidden_sizes))
        for name in activations:
            if name not in ACTIVATIONS:
                raise ValueError(
                    f"activation must be one of {sorted(ACTIVATIONS)}, or one of them for each"
                    f" hidden layer, got {name!r}."
                )
        dropout = self._per_hidden_layer("dropout", len(hidden_sizes))
        if not all(isinstance(rate, Real) and 0 <= float(rate) < 1 for rate in dropout):
            raise ValueError(f"dropout must have rates in [0, 1), got {self.dropout!r}.")
        sizes = (n_features, *hidden_sizes, n_outputs)
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

    def _warn_of_useless_parameters(self) -> None:
        names = ("dropout", "clip_norm", "clip_value", "max_norm", "schedule")
        useless = [name for name in names if np.any(getattr(self, name))]
        if useless:
            warnings.warn(
                f"{', '.join(useless)} has no effect with solver={self.solver!r}, which sees the"
                " whole objective.",
                stacklevel=4,
            )

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

    def _generator(self) -> RandomState:
        """What ``check_random_state`` gives; from a seed in a third of the time."""
        seed: Any = self.random_state
        if not isinstance(seed, Integral):
            return check_random_state(seed)
        no_entropy: Any = _NoEntropy()
        generator = RandomState(MT19937(no_entropy))
        generator.seed(int(seed))
        return generator


class _NoEntropy(ISeedSequence):
    """The first state of a generator that will be seeded: the system's entropy takes 80 µs.

    It is read number by number, for which a list takes a tenth of the time of an array.
    """

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return [0] * n_words

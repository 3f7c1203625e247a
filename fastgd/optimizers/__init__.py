"""Update rules of gradient descent, one file each, and the table of their names.

A rule is a NamedTuple of hyper-parameters with a compiled method::

    def step(self, w, g, state, scalars, t, learning_rate)

that changes the parameters ``w`` (n,) in place by the gradient ``g`` (n,).  ``state`` (rows, n)
has one row for each name in the class attribute ``state``, ``scalars`` one float64 for each name
in ``scalars``; both begin as zeros and are the rule's own.  ``t`` counts the steps from 1, and
``learning_rate`` is the field of that name times the factor of the schedule.  A class that a
user writes in a script is served, and compiled, exactly as the ones here.

PyTorch's formulas and defaults are canonical; each docstring says which variant it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd._record import checked
from fastgd.kernels.epoch import Memory, apply_step
from fastgd.optimizers import schedules
from fastgd.optimizers.adadelta import Adadelta
from fastgd.optimizers.adagrad import Adagrad
from fastgd.optimizers.adam import Adam
from fastgd.optimizers.adamax import Adamax
from fastgd.optimizers.adamw import AdamW
from fastgd.optimizers.asgd import ASGD
from fastgd.optimizers.lion import Lion
from fastgd.optimizers.nadam import NAdam
from fastgd.optimizers.radam import RAdam
from fastgd.optimizers.rmsprop import RMSprop
from fastgd.optimizers.rprop import Rprop
from fastgd.optimizers.sgd import SGD

OPTIMIZERS: dict[str, type] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "adamax": Adamax,
    "nadam": NAdam,
    "radam": RAdam,
    "rprop": Rprop,
    "asgd": ASGD,
    "lion": Lion,
}

__all__ = [
    "ASGD",
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "is_rule",
    "schedules",
]


def is_rule(candidate: object) -> bool:
    """Whether an object is an update rule: a NamedTuple with a learning rate and a step."""
    return (
        isinstance(candidate, tuple)
        and "learning_rate" in getattr(candidate, "_fields", ())
        and callable(getattr(candidate, "step", None))
    )


class Optimizer:
    """An update rule at work on one parameter vector: the rule, its memory, its step count.

    Parameters
    ----------
    rule : NamedTuple
        An update rule.
    w : ndarray of shape (n,), float32 or float64
        The parameters that it will update; only shape and dtype are used.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optimizers import SGD, Optimizer
    >>> w = np.array([1.0, 2.0])
    >>> Optimizer(SGD(learning_rate=0.5), w).update(w, g=np.array([1.0, -1.0]))
    >>> w
    array([0.5, 2.5])
    """

    def __init__(self, rule: Any, w: NDArray[Any]) -> None:
        if not is_rule(rule):
            raise TypeError(
                "rule must be a NamedTuple with a field learning_rate and a method step,"
                f" got {rule!r}."
            )
        self.rule = checked(rule)
        self.learning_rate: float = self.rule.learning_rate
        self.n_updates = 0
        self._expects = w.size, w.dtype
        self.memory = Memory(
            np.zeros((len(getattr(self.rule, "state", ())), w.size), w.dtype),
            np.zeros(len(getattr(self.rule, "scalars", ()))),
        )

    def successor(self, rule: Any, w: NDArray[Any]) -> Optimizer | None:
        """A copy that goes on with ``rule``'s parameters; None if its memory is of another kind."""
        fresh = Optimizer(rule, w)
        mine, its = self.memory, fresh.memory
        if type(rule) is not type(self.rule) or mine.arrays.shape != its.arrays.shape:
            return None
        fresh.rule, fresh.learning_rate = self.rule, self.learning_rate
        fresh.n_updates = self.n_updates
        fresh.memory = Memory(mine.arrays.astype(w.dtype), mine.scalars.copy())
        return fresh

    def update(self, w: NDArray[Any], g: NDArray[Any]) -> None:
        """Change ``w`` in place by one step with the gradient ``g``.

        Raises
        ------
        ValueError
            The arrays are not C-contiguous and of the shape and dtype that this was made for.
        """
        n, dtype = self._expects
        for name, a in (("w", w), ("g", g)):
            if a.shape != (n,) or a.dtype != dtype or not a.flags.c_contiguous:
                raise ValueError(
                    f"{name} must be a contiguous array of shape ({n},) and dtype {dtype},"
                    f" got shape {a.shape}, dtype {a.dtype}, strides {a.strides}."
                )
        self.n_updates += 1
        apply_step(self.rule, w, g, self.memory, self.n_updates, self.learning_rate)

    def solution(self, w: NDArray[Any]) -> NDArray[Any]:
        """What the rule recommends after its last step: an average, or ``w`` itself."""
        name = getattr(self.rule, "solution", None)
        if name is None or self.n_updates == 0:
            return w
        return self.memory.arrays[self.rule.state.index(name)]

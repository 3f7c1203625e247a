"""Update rules of gradient descent, one file each, and the table of their names.

A rule is a NamedTuple of hyper-parameters with a compiled method::

    def step(self, w, g, state, scalars, t, learning_rate)

that changes the parameters ``w`` (n,) in place by the gradient ``g`` (n,).  ``state`` (rows, n)
has one row for each name in the class attribute ``state``, ``scalars`` one float64 for each name
in ``scalars``; both begin as zeros and are the rule's own.  ``t`` counts the steps from 1, and
``learning_rate`` is the field of that name times the factor of the schedule.  A class that a
user writes in a script is served as the ones here, and compiled once per process.

A rule whose class attribute ``elementwise`` is true looks at each parameter by itself; it is
called for one part of the parameters after the other, by several threads.  Any other gets all of
them at once.

A rule is also a method of ``scipy.optimize.minimize``, for any function with a gradient; one's own
is by the decorator ``update_rule``.

PyTorch's formulas and defaults are canonical; each docstring says which variant it has.
"""

from __future__ import annotations

from fastgd.optimizers import schedules
from fastgd.optimizers.adadelta import Adadelta
from fastgd.optimizers.adagrad import Adagrad
from fastgd.optimizers.adam import Adam
from fastgd.optimizers.adamax import Adamax
from fastgd.optimizers.adamw import AdamW
from fastgd.optimizers.asgd import ASGD
from fastgd.optimizers.lion import Lion
from fastgd.optimizers.nadam import NAdam
from fastgd.optimizers.optimizer import Optimizer, is_rule
from fastgd.optimizers.radam import RAdam
from fastgd.optimizers.rmsprop import RMSprop
from fastgd.optimizers.rprop import Rprop
from fastgd.optimizers.scipy_method import minimize_by_rule
from fastgd.optimizers.sgd import SGD
from fastgd.optimizers.update_rule import update_rule

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
    "minimize_by_rule",
    "schedules",
    "update_rule",
]

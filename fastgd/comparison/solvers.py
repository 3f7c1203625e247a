"""The solvers that can be compared, with their declared settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastgd.optimizers import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)

MINI_BATCH = 32


@dataclass(frozen=True)
class Solver:
    """One entry of a comparison.

    Attributes
    ----------
    solver : str or update rule
        What the estimator gets as ``solver``.
    order : int
        1: steps along the gradient; 2: curvature is estimated or computed.
    settings : dict
        Further parameters of the estimator.
    full_batch : bool
        Whether each update sees all samples.
    """

    solver: Any
    order: int = 1
    full_batch: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def parameters(self, n_samples: int) -> dict[str, Any]:
        """Parameters of the estimator for a training set of this size."""
        batch_size = n_samples if self.full_batch else min(MINI_BATCH, n_samples)
        return {"solver": self.solver, "batch_size": batch_size, **self.settings}


SOLVERS: dict[str, Solver] = {
    "gradient-descent": Solver(SGD(learning_rate=0.5), full_batch=True),
    "sgd": Solver(SGD(learning_rate=0.1)),
    "momentum": Solver(SGD(learning_rate=0.02, momentum=0.9)),
    "nesterov": Solver(SGD(learning_rate=0.02, momentum=0.9, nesterov=True)),
    "adagrad": Solver(Adagrad(learning_rate=0.05)),
    "rmsprop": Solver(RMSprop(learning_rate=0.002)),
    "adam": Solver(Adam(learning_rate=0.003)),
    "adadelta": Solver(Adadelta()),
    "adamw": Solver(AdamW(learning_rate=0.003)),
    "adamax": Solver(Adamax(learning_rate=0.005)),
    "nadam": Solver(NAdam(learning_rate=0.003)),
    "radam": Solver(RAdam(learning_rate=0.003)),
    "rprop": Solver(Rprop(), full_batch=True),
    "asgd": Solver(ASGD(learning_rate=0.1)),
    "lion": Solver(Lion(learning_rate=0.0005)),
    "scipy-bfgs": Solver("scipy-bfgs", order=2),
    "bfgs": Solver("bfgs", order=2),
    "lbfgs": Solver("lbfgs", order=2),
    "newton-cg": Solver("newton-cg", order=2),
    "newton": Solver("newton", order=2),
    "trust-krylov": Solver("trust-krylov", order=2),
    "trust-exact": Solver("trust-exact", order=2),
    "levenberg-marquardt": Solver("levenberg-marquardt", order=2),
}

DEFAULT_SOLVERS = (
    "gradient-descent", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam",
    "scipy-bfgs", "bfgs", "lbfgs", "newton-cg", "trust-krylov",
)  # fmt: skip

# SciPy's BFGS multiplies n × n matrices in each iteration: minutes an iteration beyond this.
LARGEST_FOR_DENSE_BFGS = 5_000


def default_solvers(n_parameters: int) -> tuple[str, ...]:
    """The solvers to compare on a network of this size where none are named."""
    if n_parameters <= LARGEST_FOR_DENSE_BFGS:
        return DEFAULT_SOLVERS
    return tuple(name for name in DEFAULT_SOLVERS if name != "scipy-bfgs")

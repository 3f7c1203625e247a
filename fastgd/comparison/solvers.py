"""The solvers that can be compared, with their declared settings and search spaces."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
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
    is_rule,
)
from fastgd.solvers import SOLVERS as WHOLE_OBJECTIVE

MINI_BATCH = 32
# Where a rule's own search space is not declared: around its default.
AROUND_DEFAULT = 100.0


@dataclass(frozen=True)
class Solver:
    """One entry of a comparison.

    Attributes
    ----------
    name : str
    method : update rule, str or callable
        A rule; a name of ``fastgd.solvers`` or of a method of ``scipy.optimize.minimize``; or a
        method of one's own, as ``scipy.optimize.minimize`` takes it.
    order : int
        1: steps along the gradient; 2: curvature is estimated or computed; 0: no gradient at all.
    full_batch : bool
        Whether each update of a rule sees all samples.
    space : dict
        For tuning: lowest and highest value of some fields of the rule, searched on a log scale,
        the same on every problem.
    """

    name: str
    method: Any
    order: int = 1
    full_batch: bool = False
    space: dict[str, tuple[float, float]] = field(default_factory=dict)

    def with_settings(self, settings: dict[str, float]) -> Solver:
        """The same with other values of some of its fields."""
        return Solver(
            self.name, self.method._replace(**settings), self.order, self.full_batch, self.space
        )


def _rule(
    name: str, method: Any, low: float, high: float, full_batch: bool = False, **space: Any
) -> Solver:
    space = {"learning_rate": (low, high), **space}
    return Solver(name, method, full_batch=full_batch, space=space)


BETA = (0.5, 0.99)
# With a large epsilon and a large rate an adaptive rule becomes momentum: Choi et al. 2019.
EPSILON = (1e-8, 1e0)

SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        _rule("gradient-descent", SGD(learning_rate=0.5), 1e-3, 1e1, full_batch=True),
        _rule("sgd", SGD(learning_rate=0.1), 1e-4, 1e1),
        _rule("momentum", SGD(learning_rate=0.02, momentum=0.9), 1e-5, 1e0, momentum=BETA),
        _rule(
            "nesterov", SGD(learning_rate=0.02, momentum=0.9, nesterov=True), 1e-5, 1e0,
            momentum=BETA,
        ),
        _rule("adagrad", Adagrad(learning_rate=0.05), 1e-4, 1e0),
        _rule("rmsprop", RMSprop(learning_rate=0.002), 1e-4, 1e0, epsilon=EPSILON),
        _rule("adam", Adam(learning_rate=0.003), 1e-4, 1e0, epsilon=EPSILON),
        _rule("adadelta", Adadelta(), 1e-2, 1e1),
        _rule("adamw", AdamW(learning_rate=0.003), 1e-5, 1e-1, weight_decay=(1e-5, 1e-1)),
        _rule("adamax", Adamax(learning_rate=0.005), 1e-5, 1e-1),
        _rule("nadam", NAdam(learning_rate=0.003), 1e-4, 1e0, epsilon=EPSILON),
        _rule("radam", RAdam(learning_rate=0.003), 1e-5, 1e-1),
        _rule("rprop", Rprop(), 1e-4, 1e0, full_batch=True),
        _rule("asgd", ASGD(learning_rate=0.1), 1e-4, 1e1),
        _rule("lion", Lion(learning_rate=0.0005), 1e-6, 1e-2),
        Solver("scipy-bfgs", "scipy-bfgs", order=2),
        Solver("bfgs", "bfgs", order=2),
        Solver("lbfgs", "lbfgs", order=2),
        Solver("newton-cg", "newton-cg", order=2),
        Solver("newton", "newton", order=2),
        Solver("trust-krylov", "trust-krylov", order=2),
        Solver("trust-exact", "trust-exact", order=2),
        Solver("levenberg-marquardt", "levenberg-marquardt", order=2),
        Solver("differential-evolution", "differential-evolution", order=0),
        Solver("dual-annealing", "dual-annealing", order=0),
    )
}  # fmt: skip

DEFAULT_SOLVERS = (
    "gradient-descent", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw",
    "scipy-bfgs", "bfgs", "lbfgs", "newton-cg", "trust-krylov",
)  # fmt: skip


def as_solvers(wanted: Any) -> list[Solver]:
    """The solvers that a user named or brought, each once and under a name of its own.

    Parameters
    ----------
    wanted : str, update rule, callable, Solver, or a sequence of these
        A string may name several, separated by commas; "default" stands for ``DEFAULT_SOLVERS``.

    Raises
    ------
    ValueError
        A name is not known, or something is none of these.
    """
    if isinstance(wanted, str):
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        wanted = DEFAULT_SOLVERS if names == ["default"] else names
    elif is_rule(wanted) or callable(wanted) or isinstance(wanted, Solver):
        wanted = [wanted]
    if not isinstance(wanted, Sequence) or not wanted:
        raise ValueError(
            "solvers must be names, update rules, methods of scipy.optimize.minimize, or several"
            f" of these; got {wanted!r}."
        )
    solvers: dict[str, Solver] = {}
    for one in wanted:
        solver = _as_solver(one)
        _check_space(solver)
        name, i = solver.name, 2
        while name in solvers:
            name, i = f"{solver.name}-{i}", i + 1
        solvers[name] = Solver(name, solver.method, solver.order, solver.full_batch, solver.space)
    return list(solvers.values())


def _check_space(solver: Solver) -> None:
    fields = solver.method._fields if is_rule(solver.method) else ()
    for name, ends in solver.space.items():
        if name not in fields:
            raise ValueError(
                f"The space of {solver.name!r} has {name!r}, which must be a field of an update"
                f" rule; fields are {', '.join(fields) or 'none'}."
            )
        low, high = ends
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"The space of {solver.name!r} must have 0 < low < high for {name!r}, which is"
                f" searched on a log scale, got {ends}."
            )


def _as_solver(one: Any) -> Solver:
    if isinstance(one, Solver):
        return one
    if isinstance(one, str):
        if one not in SOLVERS:
            raise ValueError(
                f"solvers must be among {', '.join(SOLVERS)}; got {one!r}. One of SciPy's is"
                ' Solver("cg", "CG").'
            )
        return SOLVERS[one]
    if is_rule(one):
        rate = one.learning_rate
        space = {"learning_rate": (rate / AROUND_DEFAULT, rate * AROUND_DEFAULT)} if rate else {}
        return Solver(type(one).__name__, one, space=space)
    if callable(one) and not isinstance(one, type):
        return Solver(getattr(one, "__name__", type(one).__name__), one, order=2)
    raise ValueError(f"A solver must be a name, an update rule or a method, got {one!r}.")


def description(value: Any) -> str:
    """A method, or what one is set to, in words that are the same in every process."""
    if isinstance(value, functools.partial):
        given = [description(one) for one in value.args]
        given += [f"{name}={description(one)}" for name, one in value.keywords.items()]
        return f"{description(value.func)}({', '.join(given)})"
    if not callable(value) or (is_dataclass(value) and not isinstance(value, type)):
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def is_ours(method: Any) -> bool:
    """Whether a method is a name in ``fastgd.solvers``."""
    return isinstance(method, str) and method in WHOLE_OBJECTIVE

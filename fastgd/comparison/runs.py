"""One solver on one problem at one seed: what it reached on the way and in the end, at what cost.

Cost is counted twice.  *Passes*: a value with its gradient over all training samples is 1, an epoch
of mini-batches too; what else a solver asks for is charged at its measured ratio (``CostRatios``).
*Seconds*: of the solver alone; kernels were compiled before, and while the parameters are
evaluated the clock stands still.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import threadpoolctl
from sklearn.base import clone

from fastgd.comparison.problems import FunctionInstance, Instance, NetworkInstance, Problem
from fastgd.comparison.solvers import MINI_BATCH, Solver, is_ours
from fastgd.comparison.watch import (
    Budget,
    CostRatios,
    Metered,
    NReached,
    OverBudgetError,
    Watch,
)
from fastgd.neural_network.course import Course
from fastgd.optimizers import Optimizer, is_rule
from fastgd.solvers import SOLVERS

# More iterations than any budget allows: budgets end runs, not counters.
MANY = 10**6
# What this process has run before.
_compiled: set[tuple[Any, ...]] = set()
# Which of SciPy's methods take more than the gradient, and which none.
TAKES_HESSP = ("newton-cg", "trust-ncg", "trust-krylov", "trust-constr")
DERIVATIVE_FREE = ("nelder-mead", "powell", "cobyla", "cobyqa")


def single_threaded() -> Any:
    """Context in which the numerical libraries use one thread, as fastgd's own runs do."""
    return _libraries().limit(limits=1)


_libraries = functools.cache(threadpoolctl.ThreadpoolController)


# Of a run beforehand, in which all is called that has to be compiled.
TO_COMPILE = Budget(10.0, 1.0)


@dataclass(frozen=True)
class Run:
    """The record of one run.

    Attributes
    ----------
    solver, problem, seed
        What was run.
    settings : dict
        What was set otherwise than declared, by tuning.
    status : str
        "finished" (budget used up, or converged), "diverged", "timed out" or "failed".
    stop_reason : str
        In words.
    initial, final : float
        The training objective before and after; ``final`` is the lowest on the way in
        optimisation, and that of the chosen parameters in learning.
    validation_loss, validation_score, test_loss, test_score : float
        At the parameters with the best validation loss in learning, at the last in optimisation.
        These, and ``final``, know nothing of what came after the budget.
    passes, seconds, objective, validation : list of float
        The curves: cost so far on both axes, training objective and validation loss.
    steps : int
        Updates, or iterations.
    evaluations : dict of str to int
        Number of calls of the objective of each kind.
    compile_seconds : float
        What the first run of this solver took for compilation, not part of ``seconds``.
    """

    solver: str
    problem: str
    seed: int
    settings: dict[str, float]
    status: str
    stop_reason: str
    initial: float
    final: float
    validation_loss: float
    validation_score: float
    test_loss: float
    test_score: float
    passes: list[float]
    seconds: list[float]
    objective: list[float]
    validation: list[float]
    steps: int
    evaluations: dict[str, int]
    compile_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies it within a comparison."""
        return self.problem, self.solver, self.seed

    @property
    def curves(self) -> tuple[list[float], ...]:
        """Passes, seconds, training objective, validation loss."""
        return self.passes, self.seconds, self.objective, self.validation


def run_solver(
    solver: Solver,
    problem: Problem,
    seed: int,
    *,
    budget: Budget,
    mode: str = "optimisation",
    ratios: CostRatios = CostRatios(),  # noqa: B008
    settings: dict[str, float] | None = None,
    compile_first: bool = True,
    n_reached: NReached | None = None,
) -> Run:
    """Run a solver on a problem and record what came of it.

    Parameters
    ----------
    solver : Solver
    problem : Problem
    seed : int
        Fixes initial parameters, split and order of the batches, for every solver alike.
    budget : Budget
    mode : {"optimisation", "learning"}
    ratios : CostRatios
        Of this problem.
    settings : dict, default=None
        Other values of fields of the rule, from tuning.
    compile_first : bool, default=True
        Whether to make a step beforehand, off the clock.
    n_reached : callable, default=None
        See ``Watch``.

    Returns
    -------
    run : Run
    """
    settings = settings or {}
    if settings:
        solver = solver.with_settings(settings)
    instance = problem.at(seed)
    compile_seconds = 0.0
    if compile_first:
        compile_seconds = _compile(solver, problem, instance, seed, mode, ratios)
    watch = Watch(instance, budget, mode, n_reached)
    with single_threaded(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a budget that ends a solver is no reason to warn
        try:
            follow(solver, instance, watch, ratios, budget, seed)
        except (Exception, SystemExit) as error:
            # Whatever a solver or a user's function raises is a result, not the end of the others.
            watch.status, watch.reason = "failed", f"{type(error).__name__}: {error}"
            if not watch.objective:
                watch.begin()
    evaluations = {name: n for name, n in instance.objective.counts.items() if n}
    chosen = watch.best[1] if mode == "learning" else watch.last_allowed
    validation, test = instance.validation(chosen), instance.test(chosen)
    final = instance.objective.fun(chosen) if mode == "learning" else watch.lowest
    return Run(
        solver.name, problem.name, seed, settings, watch.status, watch.reason,
        watch.objective[0], final, validation.loss, validation.score, test.loss, test.score,
        watch.passes, watch.spent, watch.objective, watch.validation, watch.steps,
        evaluations, compile_seconds,
    )  # fmt: skip


def failed_run(
    solver: Solver, problem: Problem, seed: int, settings: dict[str, float], begin: Any,
    error: BaseException,
) -> Run:  # fmt: skip
    """The record of a run that could not even begin, where its reference did."""
    nan = math.nan
    return Run(
        solver.name, problem.name, seed, settings, "failed", f"{type(error).__name__}: {error}",
        begin.initial, begin.initial, begin.initial_validation, nan, nan, nan,
        [0.0], [0.0], [begin.initial], [begin.initial_validation], 0, {},
    )  # fmt: skip


def _compile(
    solver: Solver, problem: Problem, instance: Instance, seed: int, mode: str, ratios: CostRatios
) -> float:
    """Make a few steps of the solver; how much longer that took than it takes again."""
    # What is compiled depends on the class of a rule, not on its numbers, and on the kind of data.
    method: Any = type(solver.method) if is_rule(solver.method) else solver.method
    if type(method).__hash__ is None:  # a dataclass that can be called, say
        method = id(method)
    data = getattr(instance.objective, "dtype", None), type(getattr(instance, "X", None))
    key = method, repr(problem), *data
    if key in _compiled:
        return 0.0
    _compiled.add(key)
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        run_solver(solver, problem, seed, budget=TO_COMPILE, mode=mode, ratios=ratios,
                   compile_first=False)  # fmt: skip
        taken.append(time.perf_counter() - started)
    return max(taken[0] - taken[1], 0.0)


def follow(
    solver: Solver, instance: Instance, watch: Watch, ratios: CostRatios, budget: Budget, seed: int
) -> None:
    """Run until the watch says that it is over."""
    if not is_rule(solver.method):
        _run_on_objective(solver, instance, watch, ratios, budget, seed)
    elif isinstance(instance, NetworkInstance):
        _run_epochs(solver, instance, watch)
    else:
        _run_steps(solver, instance, watch)


def _run_epochs(solver: Solver, instance: NetworkInstance, watch: Watch) -> None:
    n_samples = instance.X.shape[0]
    batch_size = n_samples if solver.full_batch else min(MINI_BATCH, n_samples)
    estimator = clone(instance.estimator).set_params(solver=solver.method, batch_size=batch_size)
    course = Course(estimator, instance.X, instance.y)
    watch.begin()
    for epoch in itertools.count(1):
        w = course.epoch()
        watch.steps = course.optimizer.n_updates
        if watch.tell(w, float(epoch)):
            return


def _run_steps(solver: Solver, instance: FunctionInstance, watch: Watch) -> None:
    objective = instance.objective
    w = objective.x0.copy()
    optimizer = Optimizer(solver.method, w)
    watch.begin()
    while True:
        optimizer.update(w, objective.grad(w))
        watch.steps = optimizer.n_updates
        # By steps: where a rule stands still, the objective remembers the point.
        if watch.tell(np.array(optimizer.solution(w)), float(watch.steps)):
            return


def _run_on_objective(
    solver: Solver, instance: Instance, watch: Watch, ratios: CostRatios, budget: Budget, seed: int
) -> None:
    objective = instance.objective

    def passes() -> float:
        return ratios.passes(objective.counts, objective.n_parameters)

    def told(intermediate_result: Any) -> None:
        watch.steps += 1
        # A method of a user's may call back with the point alone.
        if watch.tell(np.asarray(getattr(intermediate_result, "x", intermediate_result)), passes()):
            raise StopIteration

    watch.begin()
    metered = Metered(objective, ratios, watch, budget)
    try:
        result = _minimize(solver.method, metered, told, seed)
    except StopIteration:
        return  # a method of a user's that lets it through
    except OverBudgetError:
        watch.stop_within_an_iteration(passes())
        return
    if not watch.reason:
        watch.reason = str(getattr(result, "message", "the method ended"))
        watch.end(np.asarray(result.x), passes())


def _minimize(method: Any, objective: Any, callback: Callable[..., None], seed: int) -> Any:
    x0 = objective.x0.copy()
    if is_ours(method):
        return SOLVERS[method](
            objective, x0, maxiter=MANY, maxfun=MANY, tol=0.0,
            random_state=np.random.RandomState(seed), callback=callback,
        )  # fmt: skip
    name = method.lower() if isinstance(method, str) else ""
    if name in DERIVATIVE_FREE:
        return scipy.optimize.minimize(objective.fun, x0, method=name, callback=callback)
    hessp = objective.hessp if name in TAKES_HESSP else None
    return scipy.optimize.minimize(
        objective.fun_and_grad, x0, method=method, jac=True, callback=callback, hessp=hessp
    )

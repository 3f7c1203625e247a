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
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import threadpoolctl
from numpy.typing import NDArray
from sklearn.base import clone

from fastgd.comparison.problems import FunctionInstance, Instance, NetworkInstance, Problem
from fastgd.comparison.solvers import MINI_BATCH, Solver, is_ours
from fastgd.neural_network.course import Course
from fastgd.optimizers import Optimizer, is_rule
from fastgd.solvers import SOLVERS

# An objective so many times the initial one will not come back.
DIVERGED = 1e6
# More iterations than any budget allows: budgets end runs, not counters.
MANY = 10**6
# A whole run keeps about this many points; more would be seen by nobody.
MOST_POINTS = 200
# What this process has run before.
_compiled: set[tuple[Any, ...]] = set()
# Which of SciPy's methods take more than the gradient, and which none.
TAKES_HESSP = ("newton-cg", "trust-ncg", "trust-krylov", "trust-constr")
DERIVATIVE_FREE = ("nelder-mead", "powell", "cobyla", "cobyqa")


def single_threaded() -> Any:
    """Context in which the numerical libraries use one thread, as fastgd's own runs do."""
    return _libraries().limit(limits=1)


_libraries = functools.cache(threadpoolctl.ThreadpoolController)


class Budget(NamedTuple):
    """When a run ends, whatever comes first.

    Attributes
    ----------
    passes : float
        Over the training data.
    seconds : float
        Of the solver's own time; a run that needs more is counted as a time-out.
    """

    passes: float = 100.0
    seconds: float = 10.0

    def allows(self, passes: float, seconds: float) -> bool:
        """Whether what was reached at this cost counts."""
        return passes <= self.passes and seconds <= self.seconds


# Of a run beforehand, in which all is called that has to be compiled.
TO_COMPILE = Budget(10.0, 1.0)


class CostRatios(NamedTuple):
    """Cost of an evaluation in passes, that is, relative to a value with its gradient.

    That of normal equations is what they cost besides the value and the gradient.
    """

    fun: float = 0.4
    hessp: float = 2.0
    normal_equations: float = 4.0

    def passes(self, counts: dict[str, int], n_parameters: int) -> float:
        """What the evaluations that an objective has counted cost."""
        charged = (
            (1.0, counts["fun_and_grad"]),
            (self.fun, counts["fun"]),
            (self.hessp, counts.get("hessp", 0) + n_parameters * counts.get("hess", 0)),
            (self.normal_equations, counts.get("normal_equations", 0)),
        )
        # What a problem has not, its ratio being NaN, was not asked for either.
        return sum(ratio * n for ratio, n in charged if n > 0)


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


class Watch:
    """Follows a run: stops the clock, evaluates the parameters, and says when it is over.

    Parameters
    ----------
    instance : Instance
    budget : Budget
    mode : {"optimisation", "learning"}
        What counts as the best parameters so far.
    """

    def __init__(self, instance: Instance, budget: Budget, mode: str) -> None:
        self._instance, self._budget, self._mode = instance, budget, mode
        self._counts = getattr(instance.objective, "counts", {})
        self.passes: list[float] = []
        self.spent: list[float] = []
        self.objective: list[float] = []
        self.validation: list[float] = []
        self.best: tuple[float, NDArray[Any]] = (math.inf, instance.objective.x0)
        self.lowest = math.inf  # value of the objective
        self.last = self.last_allowed = instance.objective.x0
        self.steps = 0  # updates, or iterations
        self.status, self.reason = "finished", ""
        self._seconds = 0.0
        self._every = 1
        self._n_told = 0
        self._resumed = time.perf_counter()

    @property
    def seconds(self) -> float:
        """What the solver has spent by now."""
        return self._seconds + time.perf_counter() - self._resumed

    def begin(self) -> None:
        """Note the initial parameters, and start the clock."""
        self._note(0.0, self._instance.objective.x0)
        self._resumed = time.perf_counter()

    def tell(self, w: NDArray[Any], passes: float) -> bool:
        """Note where the run is, after so many passes; whether it is to end."""
        self._seconds = self.seconds
        self._n_told += 1
        over = not np.isfinite(w).all() or self._is_over(passes)
        if self._n_told % self._every == 0 or over:
            self._note(passes, w)
            if len(self.passes) > 2 * MOST_POINTS:
                self._thin()
        over = self._has_diverged() or over
        self._resumed = time.perf_counter()
        return over

    def end(self, w: NDArray[Any], passes: float) -> None:
        """Note where a solver ended by itself."""
        self._seconds = self.seconds
        if passes > self.passes[-1] or not np.array_equal(w, self.last):
            self._note(passes, w)
        if not self._has_diverged():
            self._is_over(passes)

    def _note(self, passes: float, w: NDArray[Any]) -> None:
        counts = dict(self._counts)
        value = self._instance.objective.fun(w)
        self._counts.update(counts)  # looking costs the solver nothing
        held_out = self._instance.validation(w).loss
        self.passes.append(passes)
        self.spent.append(self._seconds)
        self.objective.append(value)
        self.validation.append(held_out)
        self.last = np.array(w)
        if not self._budget.allows(passes, self._seconds):
            return
        self.last_allowed = self.last
        # Functions have no validation loss.
        learns = self._mode == "learning" and not math.isnan(self.validation[0])
        judged = held_out if learns else value
        if judged < self.best[0]:
            self.best = judged, self.last
        self.lowest = min(self.lowest, value) if math.isfinite(value) else self.lowest

    def _thin(self) -> None:
        """Keep each second point, and look half as often from now on."""
        self._every *= 2
        for curve in (self.passes, self.spent, self.objective, self.validation):
            curve[1:-1] = curve[2:-1:2]

    def stop_within_an_iteration(self, passes: float) -> None:
        """Note that a solver was stopped where it had not called back for long."""
        self._seconds = self.seconds
        self._note(passes, self.last)
        self._is_over(passes)
        self.reason += ", within an iteration"

    def _is_over(self, passes: float) -> bool:
        if passes >= self._budget.passes:
            self.reason = f"budget of {self._budget.passes:g} passes"
        elif self._seconds >= self._budget.seconds:
            self.status = "timed out"
            self.reason = f"budget of {self._budget.seconds:g} seconds"
        else:
            return False
        return True

    def _has_diverged(self) -> bool:
        """Whether the last point that was noted is none to go on from."""
        value, first = self.objective[-1], self.objective[0]
        too_large = value - first > DIVERGED * max(abs(first), 1.0)
        if math.isfinite(value) and np.isfinite(self.last).all() and not too_large:
            return False
        self.status, self.reason = "diverged", "the objective is not finite or grew a millionfold"
        return True


class OverBudgetError(Exception):
    """A solver that calls back too rarely has used up twice its budget."""


class Metered:
    """An objective that stops a solver which goes on without calling back.

    Parameters
    ----------
    objective : Objective or FunctionObjective
    ratios : CostRatios
    watch : Watch
        Knows the seconds.
    budget : Budget
        Of which a solver may spend twice as much within an iteration.
    """

    def __init__(self, objective: Any, ratios: CostRatios, watch: Watch, budget: Budget) -> None:
        self._objective, self._ratios, self._watch = objective, ratios, watch
        self._budget = budget

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def fun(self, w: NDArray[Any]) -> float:
        self._check()
        return self._objective.fun(w)

    def fun_and_grad(self, w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        self._check()
        return self._objective.fun_and_grad(w)

    def _check(self) -> None:
        objective = self._objective
        passes = self._ratios.passes(objective.counts, objective.n_parameters)
        if passes >= 2 * self._budget.passes or self._watch.seconds >= 2 * self._budget.seconds:
            raise OverBudgetError


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
    watch = Watch(instance, budget, mode)
    with single_threaded(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a budget that ends a solver is no reason to warn
        try:
            follow(solver, instance, watch, ratios, budget, seed)
        except Exception as error:
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


def _compile(
    solver: Solver, problem: Problem, instance: Instance, seed: int, mode: str, ratios: CostRatios
) -> float:
    """Make a few steps of the solver; how much longer that took than it takes again."""
    # What is compiled depends on the class of a rule, not on its numbers, and on the kind of data.
    method = type(solver.method) if is_rule(solver.method) else solver.method
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

"""Comparisons: the promises of the protocol, records of runs, files, what users bring."""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import sys
import time
import warnings
from typing import NamedTuple

import matplotlib
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import threadpoolctl
from sklearn.base import clone

from fastgd import MLPClassifier, MLPRegressor
from fastgd.comparison import (
    PROBLEMS,
    SOLVERS,
    SUITES,
    Budget,
    Comparison,
    FunctionProblem,
    NetworkProblem,
    Run,
    Solver,
    compare,
)
from fastgd.comparison.function_objective import FunctionObjective
from fastgd.comparison.page import page
from fastgd.comparison.problems import Figures, NetworkInstance, as_problems
from fastgd.comparison.reference import REPEATS, Reference, cost_ratios, reference
from fastgd.comparison.runs import DERIVATIVE_FREE, run_solver
from fastgd.comparison.solvers import DEFAULT_SOLVERS, as_solvers, description
from fastgd.comparison.tuning import (
    FIRST_TUNING_SEED,
    REPETITIONS,
    TRIALS,
    Trial,
    choose,
    draw,
    on_edge,
    tune,
)
from fastgd.comparison.watch import MOST_POINTS, CostRatios
from fastgd.kernels.losses import identity_link, sum_pointwise
from fastgd.optimizers import OPTIMIZERS, SGD, Adam
from fastgd.solvers import SOLVERS as WHOLE_OBJECTIVE

matplotlib.use("Agg")
# The module, whose name its function has as well.
COMPARE = sys.modules[compare.__module__]


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    """With vectors of ten numbers, threads only wait for each other."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


# Problems of a few parameters, and comparisons of a few milliseconds.


def samples(n_outputs=1):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = np.tanh(X @ rng.normal(size=(2, n_outputs))) + 0.1 * rng.normal(size=(100, n_outputs))
    return X, y.squeeze(axis=1) if n_outputs == 1 else y


def classes():
    X, y = samples()
    return X, np.digitize(y, [-0.4, 0.4])


SCALES = np.array([1.0, 0.5, 0.1])

BOWL = FunctionProblem(
    "bowl", lambda x: float(0.5 * x @ (SCALES * x)), lambda x: SCALES * x,
    lambda rng: rng.normal(size=3), 0.0, lambda x, v: SCALES * v,
)  # fmt: skip
NET = NetworkProblem(
    "net", MLPRegressor(hidden_layer_sizes=(2,), activation="tanh", alpha=0.01), samples
)
CLASSES = NetworkProblem(
    "classes", MLPClassifier(hidden_layer_sizes=(2,), activation="tanh", alpha=0.01), classes
)

quickly = functools.partial(compare, seeds=2, budget=6, sensitivity=False)


def figures(comparison):
    """All that must not depend on how fast the computer is, NaN being equal to itself."""
    runs = [
        dataclasses.replace(run, seconds=[], compile_seconds=0.0)
        for run in (*comparison.runs, *comparison.sensitivity)
    ]
    tuning = [
        (t.solver, t.problem, t.settings, [trial._replace(seconds=0.0) for trial in t.trials])
        for t in comparison.tuning
    ]
    return sorted(map(repr, (*runs, *tuning, *comparison.references.items())))


def made_run(problem, solver, seed, cost, budget=100.0, status="finished"):
    """A run that comes down all the way at a cost, the same on both axes."""
    met = math.isfinite(cost)
    ways = [0.0, cost] if met else [0.0, budget]
    values = [1.0, 0.0] if met else [1.0, 1.0]
    nan = math.nan
    return Run(
        solver, problem, seed, {}, status, "", 1.0, values[-1], nan, nan, nan, nan,
        ways, list(ways), values, [nan, nan], 1, {},
    )  # fmt: skip


def made(costs, budget=100.0):
    """A comparison of which only the costs of each seed to all targets are given."""
    solvers, problems = list(costs), list(next(iter(costs.values())))
    seeds = max(len(of) for by_problem in costs.values() for of in by_problem.values())
    runs = [
        made_run(problem, solver, seed, cost, budget)
        for solver, by_problem in costs.items()
        for problem, of_seeds in by_problem.items()
        for seed, cost in enumerate(of_seeds)
    ]
    references = {name: [Reference(1.0, 0.0, math.nan, math.nan)] * seeds for name in problems}
    return Comparison(
        solvers, problems, seeds, "optimisation", "default", Budget(budget, budget), runs,
        references, {name: CostRatios() for name in problems}, {name: {} for name in solvers},
    )  # fmt: skip


@pytest.fixture(scope="module")
def comparison():
    """Two kinds of problems, first and second order, with all that a comparison can have."""
    return compare(["momentum", "adam", "lbfgs"], [BOWL, NET], seeds=3, budget=12)


@pytest.fixture(scope="module")
def tuned():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings on the edge of their space
        return compare(
            ["momentum", "adam", "lbfgs"], [BOWL, NET], seeds=3, budget=12, track="tuned",
            sensitivity=False,
        )  # fmt: skip


edge_is_no_matter = pytest.mark.filterwarnings("ignore:.*lies on the edge")


# The protocol tests itself.


def curves(comparison, solver):
    """What is compared bit for bit between two solvers."""
    return [
        (run.problem, run.seed, run.passes, run.objective, repr(run.validation), run.steps)
        for run in comparison.runs
        if run.solver == solver
    ]


def test_momentum_zero_is_gradient_descent():
    plain, zero = SGD(learning_rate=0.1), SGD(learning_rate=0.1, momentum=0.0, dampening=0.5)
    result = quickly([plain, zero], [BOWL, NET, CLASSES])
    assert curves(result, "SGD") == curves(result, "SGD-2")


@pytest.mark.parametrize("solver", ["momentum", "lbfgs", "newton-cg"])
def test_the_same_solver_twice_ties(solver, monkeypatch):
    monkeypatch.setattr(COMPARE, "cost_ratios", lambda problem, **_: CostRatios())
    result = quickly([solver, "adam", solver], [BOWL, NET], budget=20)
    twin = f"{solver}-2"
    assert result.solvers == [solver, "adam", twin]
    assert curves(result, solver) == curves(result, twin)
    for problem in result.problems:
        verdict = result.verdict(problem, solver, twin)
        assert verdict is None or (verdict == (1, 1, 1) and verdict.winner == -1)
    profile = result.profile()
    np.testing.assert_array_equal(profile.shares[solver], profile.shares[twin])
    assert f"{solver} needed fewer passes than {twin}" not in " ".join(result.summary())
    assert f"{twin} needed fewer passes than {solver}" not in " ".join(result.summary())


@edge_is_no_matter
def test_tuned_adam_is_not_worse_than_momentum():
    """With epsilon in its space it can become momentum (Choi et al. 2019)."""
    result = compare(
        ["adam", "momentum"], [NET, CLASSES], seeds=5, budget=60, track="tuned", sensitivity=False
    )
    assert "epsilon" in SOLVERS["adam"].space
    verdicts = [result.verdict(problem, "adam", "momentum") for problem in result.problems]
    assert any(verdicts)
    assert all(verdict.winner != 1 for verdict in verdicts if verdict is not None)


def test_profiles_depend_on_the_company_but_pairs_do_not():
    pair = {"a": {"p": [1.0], "q": [8.0]}, "b": {"p": [2.0], "q": [4.0]}}
    alone, company = made(pair), made(pair | {"c": {"p": [0.1], "q": [0.1]}})
    assert company.profile().area["a"] < alone.profile().area["a"]
    assert company.profile(solvers=["a", "b"]).area == alone.profile().area


# Pairing.

LAZY = SGD(learning_rate=0.0), Adam(learning_rate=0.0)


@pytest.mark.parametrize("problem", [NET, CLASSES], ids=lambda p: p.name)
@pytest.mark.parametrize("mode", ["optimisation", "learning"])
def test_a_seed_gives_every_solver_the_same_start_and_split(problem, mode):
    """Held-out losses of solvers that do not move tell that the split is the same."""
    result = quickly([*LAZY, "lbfgs"], problem, mode=mode)
    first, second, third = (curves(result, solver) for solver in result.solvers)
    assert first == second
    for mine, other in zip(first, third, strict=True):
        assert mine[3][0] == other[3][0]
    assert first[0][3] != first[1][3]  # of another seed


def test_a_seed_gives_every_solver_the_same_batches():
    """A velocity that remembers nothing takes the steps of none, in whatever order they come."""
    same = quickly([SGD(0.05), SGD(0.05, momentum=1e-300)], NET)
    assert curves(same, "SGD") == curves(same, "SGD-2")
    full = run_solver(Solver("sgd", SGD(0.05), full_batch=True), NET, 0, budget=Budget(6))
    assert full.objective != same.runs[0].objective


def test_seeds_of_functions_begin_elsewhere():
    first, second = quickly("lbfgs", BOWL).runs
    assert first.initial != second.initial
    near = FunctionProblem("near", BOWL.fun, BOWL.grad, np.ones(3))
    starts = [near.at(seed).objective.x0 for seed in range(3)]
    assert len({start.tobytes() for start in starts}) == 3
    np.testing.assert_allclose(starts, np.ones((3, 3)), atol=0.5)
    np.testing.assert_array_equal(starts[1], near.at(1).objective.x0)


@pytest.mark.parametrize("problem", [NET, CLASSES], ids=lambda p: p.name)
def test_split(problem):
    instance = problem.at(0)
    parts = [instance.X, instance._validation._X, instance._test._X]
    assert [len(part) for part in parts] == [60, 20, 20]
    rows = {row.tobytes() for part in parts for row in part}
    assert len(rows) == 100  # no sample in two parts
    np.testing.assert_allclose(instance.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(instance.X.std(axis=0), 1)


@pytest.mark.parametrize("name", SUITES["networks"])
def test_bundled_networks_are_scaled_and_begin_finite(name):
    instance = PROBLEMS[name].at(1)
    spread = instance.X.std(axis=0)
    np.testing.assert_allclose(spread[spread > 0], 1)
    assert np.isfinite(instance.objective.fun(instance.objective.x0))
    assert np.isfinite(instance.validation(instance.objective.x0)).all()


def test_final_seeds_are_not_those_of_the_tuning(tuned):
    final = {run.seed for run in tuned.runs}
    trials = {trial.seed for t in tuned.tuning for trial in t.trials}
    assert final == set(range(3))
    assert trials == {FIRST_TUNING_SEED + i for i in range(REPETITIONS)}
    assert not final & trials


# What a run costs.


@pytest.mark.parametrize(
    ("counts", "passes"),
    [
        ({"fun_and_grad": 3, "fun": 0}, 3),
        ({"fun_and_grad": 1, "fun": 5}, 3),
        ({"fun_and_grad": 1, "fun": 0, "hessp": 2}, 5),
        ({"fun_and_grad": 1, "fun": 0, "hess": 1}, 1 + 7 * 2),  # a product for each parameter
        ({"fun_and_grad": 0, "fun": 0, "normal_equations": 2}, 6),
        ({"fun_and_grad": 0, "fun": 0}, 0),
    ],
)
def test_charges(counts, passes):
    ratios = CostRatios(fun=0.4, hessp=2.0, normal_equations=3.0)
    assert ratios.passes(counts, n_parameters=7) == pytest.approx(passes)


def test_what_a_problem_has_not_is_not_charged():
    assert CostRatios(0.5, 1.0, math.nan).passes({"fun_and_grad": 2, "fun": 0}, 3) == 2


@pytest.mark.parametrize("solver", ["lbfgs", "bfgs", "newton-cg", "newton", "trust-krylov"])
def test_every_evaluation_of_a_solver_is_charged(solver):
    """Counted by the function itself; what is looked at between steps is not charged."""
    called = dict.fromkeys(("fun", "grad", "hessp"), 0)

    def counted(name, function):
        def call(*arguments):
            called[name] += 1
            return function(*arguments)

        return call

    problem = FunctionProblem(
        "counted", counted("fun", scipy.optimize.rosen), counted("grad", scipy.optimize.rosen_der),
        [-1.0, 1.0], 0.0, counted("hessp", scipy.optimize.rosen_hess_prod),
    )  # fmt: skip
    run = run_solver(
        SOLVERS[solver], problem, 0, budget=Budget(60), ratios=CostRatios(0.5, 3.0, 9.0),
        compile_first=False,
    )  # fmt: skip
    values = called["fun"] - called["grad"] - len(run.passes)
    assert values == run.evaluations.get("fun", 0)
    assert run.passes[-1] == called["grad"] + 3 * called["hessp"] + 0.5 * values
    assert run.final < run.initial
    assert called["grad"] > run.steps  # line searches and rejected steps are among them


def test_work_after_the_last_step_is_charged():
    """Of a last search that has found nothing."""

    def method(fun, x0, args=(), jac=None, callback=None, **options):
        x = 0.5 * x0
        callback(scipy.optimize.OptimizeResult(x=x, fun=fun(x)))
        for i in range(7):
            fun(x + i + 1)
        return scipy.optimize.OptimizeResult(x=x, fun=fun(x), message="found nothing")

    run = run_solver(Solver("vain", method), BOWL, 0, budget=Budget(100), compile_first=False)
    assert run.passes[-1] == run.evaluations["fun_and_grad"] == 9


def test_an_epoch_of_batches_is_a_pass():
    run = quickly("sgd", NET, seeds=1).runs[0]
    assert run.passes == list(range(7))
    assert run.steps == 12  # 60 samples are two batches
    full = quickly("gradient-descent", BOWL, seeds=1).runs[0]
    assert full.passes == list(range(7))
    assert full.evaluations == {"fun_and_grad": 6}


@pytest.mark.parametrize("rule", [SGD(1.0), *LAZY], ids=["at the minimum", "sgd", "adam"])
def test_a_rule_that_does_not_move_still_pays(rule):
    """Whoever stands still has steps, and a budget that ends."""
    ball = FunctionProblem("ball", lambda x: 0.5 * x @ x, lambda x: x, np.ones(2), 0.0)
    run = run_solver(Solver("rule", rule), ball, 0, budget=Budget(5, 0.3), compile_first=False)
    assert (run.status, run.steps, run.passes[-1]) == ("finished", 5, 5)


def test_ratios_are_measured():
    ratios = cost_ratios(NET)
    assert all(ratio > 0 for ratio in ratios)
    assert np.isnan(cost_ratios(CLASSES).normal_equations)  # is no squared error


def test_normal_equations_are_charged_once(monkeypatch):
    """Their value and gradient are counted by themselves."""
    monkeypatch.setattr("fastgd.comparison.reference._seconds", lambda call: 2.0)
    ratios = cost_ratios(NET)  # as if all took the same time, and a gradient half of it
    assert ratios == CostRatios(fun=2.0, hessp=2.0, normal_equations=1.0)
    assert all(float(f"{ratio:.2g}") == ratio for ratio in ratios)


def slowed(monkeypatch, owner, name, seconds):
    """Make a method slow; how often it was called."""
    fast, calls = getattr(owner, name), []

    def slow(*arguments):
        calls.append(name)
        time.sleep(seconds)
        return fast(*arguments)

    monkeypatch.setattr(owner, name, slow)
    return calls


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_evaluation_is_off_the_clock(solver, monkeypatch):
    quickly(solver, NET, seeds=1)  # compiles
    looks = slowed(monkeypatch, NetworkInstance, "validation", 0.05)
    run = run_solver(SOLVERS[solver], NET, 0, budget=Budget(6), mode="learning")
    assert len(looks) > 4
    assert run.seconds[-1] < 0.05


def stepping(first_seconds=0.0, name="stepping"):
    """A method for ``scipy.optimize.minimize`` that is slow at first, like one that compiles."""
    waits = iter([first_seconds])

    def method(fun, x0, args=(), jac=None, callback=None, **options):
        time.sleep(next(waits, 0.0))
        x = np.array(x0)
        with contextlib.suppress(StopIteration):
            for _ in range(20):
                x = x - 0.5 * jac(x)
                callback(scipy.optimize.OptimizeResult(x=x, fun=fun(x)))
        return scipy.optimize.OptimizeResult(x=x, fun=fun(x), message="20 steps", success=True)

    method.__name__ = name
    return method


def test_compilation_is_off_the_clock():
    first, second = quickly(stepping(0.3), BOWL, budget=1000).runs
    assert first.compile_seconds > 0.2
    assert second.compile_seconds == 0
    assert first.seconds[-1] < 0.2


def test_compilation_of_another_method_of_the_same_name_is_off_the_clock():
    quickly(stepping(name="twice"), BOWL, seeds=1)
    run = quickly(stepping(0.3, name="twice"), BOWL, seeds=1).runs[0]
    assert run.seconds[-1] < 0.2
    assert run.compile_seconds > 0.2


def test_a_run_has_the_threads_that_are_reported(comparison):
    threads = []

    def method(fun, x0, **options):
        threads.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info())
        return scipy.optimize.OptimizeResult(x=x0, fun=fun(x0), message="")

    with threadpoolctl.threadpool_limits(2):
        run_solver(Solver("threads", method), BOWL, 0, budget=Budget(5))
    assert {*threads} == {comparison.provenance["threads of a run"]}


# How a run ends.


def test_budget_of_passes():
    run = quickly("sgd", NET, seeds=1, budget=4).runs[0]
    assert (run.status, run.stop_reason, run.passes[-1]) == (
        "finished", "budget of 4 passes", 4,
    )  # fmt: skip


def test_convergence_ends_a_run_before_its_budget():
    run = quickly("lbfgs", BOWL, seeds=1, budget=1000).runs[0]
    assert run.status == "finished"
    assert run.passes[-1] < 100
    assert run.final < 1e-10
    assert "budget" not in run.stop_reason


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_budget_of_seconds(solver):
    def slow(x):
        time.sleep(0.02)
        return scipy.optimize.rosen_der(x)

    problem = FunctionProblem("slow", scipy.optimize.rosen, slow, [-1.2, 1.0], 0.0)
    run = run_solver(SOLVERS[solver], problem, 0, budget=Budget(10**6, 0.05), compile_first=False)
    assert run.status == "timed out"
    assert run.stop_reason == "budget of 0.05 seconds"
    assert 0.05 <= run.seconds[-1] < 0.5


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_keeps_to_its_budget(solver):
    """Up to an iteration that is under way; whatever a solver does at the end is counted too."""
    run = run_solver(SOLVERS[solver], NET, 0, budget=Budget(40, 2.0))
    assert run.status == "finished"
    assert run.passes[0] == run.seconds[0] == 0
    assert run.passes == sorted(run.passes)
    assert run.seconds == sorted(run.seconds)
    assert len({len(c) for c in (run.passes, run.seconds, run.objective, run.validation)}) == 1
    reached = [value for value, cost in zip(run.objective, run.passes, strict=True) if cost <= 40]
    assert run.final == min(reached) <= run.initial
    assert run.seconds[-1] < 3


def test_what_is_reached_beyond_the_budget_does_not_count():
    """An iteration of Newton's method costs as many products as there are parameters."""
    problem = PROBLEMS["quadratic-1e2"]
    result = quickly(["newton", "lbfgs"], problem, budget=5)
    costs = [
        result.costs(problem.name, solver, target, "passes")
        for solver in result.solvers
        for target in result.targets
    ]
    reached = np.concatenate(costs)
    assert (reached[np.isfinite(reached)] <= 5).all()


WILD = SGD(learning_rate=1e4)


@pytest.mark.parametrize("problem", [BOWL, NET], ids=lambda p: p.name)
def test_divergence_is_counted_and_not_dropped(problem):
    result = quickly([WILD, "lbfgs"], problem, seeds=3, budget=200)
    runs = result.runs_of(problem.name, "SGD")
    assert [run.seed for run in runs] == [0, 1, 2]
    assert {run.status for run in runs} == {"diverged"}
    assert all("not finite or grew" in run.stop_reason for run in runs)
    assert all(run.passes[-1] < 200 for run in runs)
    row = next(row for row in result.table() if row["solver"] == "SGD")
    assert row["diverged"] == 3
    for target in result.targets:
        assert np.isinf(result.median_costs(target)["SGD"]).all()
    assert any("SGD" in s and "3 diverged" in s for s in result.summary())


def broken(fun, x0, **options):
    raise RuntimeError("it broke")


class Late(NamedTuple):
    """A user's rule with a mistake that shows after some steps."""

    learning_rate: float = 0.01

    def step(self, w, g, state, scalars, t, learning_rate):
        if t > 2:
            raise ValueError("too late")


NO_HESSIAN = dataclasses.replace(BOWL, name="no-hessian", hessp=None)


@pytest.mark.parametrize(
    ("solver", "problem", "reason"),
    [
        ("levenberg-marquardt", CLASSES, "squared error"),
        ("levenberg-marquardt", BOWL, "squared error"),
        ("newton", NO_HESSIAN, "needs hessp"),
        ("trust-krylov", NO_HESSIAN, "needs hessp"),
        (Solver("no-such", "no-such-method"), BOWL, "Unknown solver"),
        (broken, BOWL, "it broke"),
        (Late(), BOWL, "too late"),
        (Late(), NET, "too late"),
    ],
)
def test_a_failure_is_recorded_and_the_comparison_goes_on(solver, problem, reason):
    result = quickly([solver, "adam"], problem)
    failed = result.runs_of(problem.name, result.solvers[0])
    assert [run.status for run in failed] == ["failed"] * 2
    assert all(reason in run.stop_reason for run in failed)
    assert [run.status for run in result.runs_of(problem.name, "adam")] == ["finished"] * 2
    rows = {row["solver"]: row for row in result.table()}
    assert rows[result.solvers[0]]["failed"] == 2
    assert rows["adam"]["failed"] == 0
    assert "2 failed" in " ".join(result.summary())


def wandering(points, last):
    """A method that tells of given points, and ends at one that it has not told of."""

    def method(fun, x0, args=(), jac=None, callback=None, **options):
        for x in points:
            callback(scipy.optimize.OptimizeResult(x=np.full(3, x), fun=0.0))
        return scipy.optimize.OptimizeResult(x=np.full(3, last), fun=0.0, message="over")

    return Solver("wandering", method)


@pytest.mark.parametrize("n_steps", [3, 2 * MOST_POINTS + 2, 5 * MOST_POINTS + 2])
def test_where_a_run_ended_is_in_its_curve(n_steps):
    """However few of the points on the way are kept."""
    points = np.linspace(1.0, 0.5, n_steps)
    run = run_solver(wandering(points, 0.0), BOWL, 0, budget=Budget(10**6))
    assert run.final == run.objective[-1] == 0
    assert run.steps == n_steps
    assert len(run.objective) <= 2 * MOST_POINTS + 2


@pytest.mark.parametrize("place", [7, 8, 3 * MOST_POINTS + 1])
def test_final_is_the_best_on_the_way(place):
    """Also where that point is not among those that are kept."""
    points = np.ones(4 * MOST_POINTS)
    points[place] = 0.0
    run = run_solver(wandering(points, 1.0), BOWL, 0, budget=Budget(10**6))
    assert run.final == 0


@pytest.mark.parametrize("solver", ["dual-annealing", "differential-evolution"])
def test_a_search_that_finds_nothing_more_ends(solver):
    """Though it may never again tell of a better point."""
    left = iter(range(20_000))

    def fun(x):
        if next(left, None) is None:
            raise ArithmeticError("many times the budget is used up")
        return BOWL.fun(x)

    problem = dataclasses.replace(BOWL, fun=fun)
    run = run_solver(SOLVERS[solver], problem, 0, budget=Budget(1000), compile_first=False)
    assert run.status == "finished"
    assert 1000 <= run.passes[-1] < 2 * 1000 + 2  # what it has cost, not where it last told of


def test_long_curves_are_thinned_evenly():
    run = run_solver(SOLVERS["sgd"], BOWL, 0, budget=Budget(5000))
    assert MOST_POINTS <= len(run.passes) <= 2 * MOST_POINTS + 1
    assert (run.passes[0], run.passes[-1]) == (0, 5000)
    steps = np.diff(run.passes)
    assert len(set(steps[:-1])) == 1
    assert run.steps == 5000


# Targets and references.


@pytest.mark.parametrize(
    ("value", "gap"), [(5.0, 1), (3.0, 0.5), (1.0, 0), (0.5, 0), (9.0, 2), (np.nan, np.inf)]
)
def test_gap_is_the_share_of_the_way_that_is_left(value, gap):
    assert Reference(5.0, 1.0, np.nan, np.nan).gap(value, "optimisation") == gap
    assert Reference(np.nan, np.nan, 5.0, 1.0).gap(value, "learning") == gap


def test_there_is_no_way_from_a_minimum():
    assert Reference(1.0, 1.0, 1.0, 1.0).gap(1.0, "optimisation") == 0
    assert Reference(1.0, 1.0, 1.0, 1.0).gap(1.5, "optimisation") == np.inf


def test_a_wrong_gradient_is_told_of():
    with pytest.warns(UserWarning, match="rosen: nothing lower was found than where seed 0 begins"):
        quickly(
            ["adam"], (scipy.optimize.rosen, lambda x: -scipy.optimize.rosen_der(x), [0.5, 0.5])
        )


@pytest.mark.parametrize("passes", [100, 1_000, 10_000])
def test_costs_to_a_target_do_not_depend_on_the_budget(passes):
    """However few points of a long run are kept."""
    result = quickly(["momentum", "adam"], "quadratic-1e2", seeds=2, budget=passes)
    costs = [result.costs("quadratic-1e2", name, 0.1, "passes").tolist() for name in result.solvers]
    short = quickly(["momentum", "adam"], "quadratic-1e2", seeds=2, budget=100)
    for name, known in zip(result.solvers, costs, strict=True):
        expected = short.costs("quadratic-1e2", name, 0.1, "passes")
        np.testing.assert_array_equal(known, np.where(np.isfinite(expected), expected, known))


def test_a_gradient_of_one_variable_may_be_a_number():
    result = quickly(["adam", "lbfgs"], (lambda x: float(x[0] ** 2), lambda x: 2 * x[0], [1.0]))
    assert {run.status for run in result.runs} == {"finished"}


def test_a_problem_that_fails_later_loses_nothing():
    calls = itertools.count()

    def load():
        if next(calls) > 6:
            raise OSError("the disk is gone")
        return samples()

    problem = NetworkProblem("late", NET.estimator, load)
    result = quickly(["adam", "sgd"], [BOWL, problem], seeds=2)
    assert [run.status for run in result.runs if run.problem == BOWL.name] == ["finished"] * 4
    late = [run for run in result.runs if run.problem == "late"]
    assert len(late) == 4
    assert late[-1].status == "failed"
    assert late[-1].stop_reason == "OSError: the disk is gone"


def test_a_problem_that_cannot_go_on_leaves_what_was_finished():
    values = itertools.count()
    restless = FunctionProblem("restless", lambda x: float(next(values)), lambda x: x, [1.0])
    with pytest.warns(UserWarning, match="has what was finished before ValueError"):
        result = quickly(["adam"], [BOWL, restless], seeds=2)
    assert [run.problem for run in result.runs] == [BOWL.name] * 2


def test_a_method_that_ends_the_process_is_a_failure():
    def method(fun, x0, **options):
        raise SystemExit("enough")

    result = quickly([Solver("quits", method), "adam"], BOWL, seeds=1)
    assert {run.solver: run.status for run in result.runs}["quits"] == "failed"


def test_known_minimum_is_the_reference():
    found = reference(dataclasses.replace(BOWL, minimum=-7.0), 0, "optimisation")
    assert found.lowest == -7
    searched = reference(dataclasses.replace(BOWL, minimum=None), 0, "optimisation")
    assert 0 <= searched.lowest < 1e-12
    assert searched.initial == BOWL.at(0).objective.fun(BOWL.at(0).objective.x0)


@pytest.mark.parametrize("name", SUITES["functions"])
def test_functions_have_the_minimum_and_derivatives_that_they_claim(name):
    objective = PROBLEMS[name].at(0).objective
    x, v = objective.x0, np.ones(objective.n_parameters)
    step = 1e-6
    slope = (objective.fun(x + step * v) - objective.fun(x - step * v)) / (2 * step)
    np.testing.assert_allclose(objective.grad(x) @ v, slope, rtol=1e-6)
    bend = (objective.grad(x + step * v) - objective.grad(x - step * v)) / (2 * step)
    np.testing.assert_allclose(objective.hessp(x, v), bend, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(objective.hess(x) @ v, objective.hessp(x, v), rtol=1e-9, atol=1e-9)
    searched = reference(dataclasses.replace(PROBLEMS[name], minimum=None), 0, "optimisation")
    assert searched.lowest == pytest.approx(PROBLEMS[name].minimum, abs=1e-10)


@pytest.mark.parametrize("name", SUITES["convex"])
def test_convex_problems_are_solved_to_the_hardest_target(name):
    """The reference is a minimum, which an independent solver comes to but not below."""
    result = quickly("bfgs", name, seeds=1, budget=1000)
    gaps = result.gaps(result.runs[0])
    assert gaps[0] == 1
    assert min(gaps) < min(result.targets)
    found = result.references[name][0]
    assert result.runs[0].final >= found.lowest - 1e-9 * abs(found.initial)


def test_gaps_begin_at_one(comparison):
    for run in comparison.runs:
        gaps = comparison.gaps(run)
        assert gaps[0] == pytest.approx(1)
        assert len(gaps) == len(run.passes)


def test_learning_has_targets_of_its_own():
    result = quickly("lbfgs", NET, mode="learning")
    for found in result.references["net"]:
        assert found.lowest_validation <= found.initial_validation
    assert result.targets != made({"a": {"p": [1.0]}}).targets
    run = result.runs[0]
    first = result.references["net"][0]
    expected = [first.gap(value, "learning") for value in run.validation]
    assert result.gaps(run) == expected


# Learning.


def test_learning_chooses_by_validation():
    for run in quickly(["adam", "lbfgs"], [NET, CLASSES], mode="learning", budget=40).runs:
        chosen = int(np.argmin(run.validation))
        assert run.validation_loss == run.validation[chosen]
        assert run.final == run.objective[chosen]


def test_optimisation_reports_the_last_parameters():
    for run in quickly(["adam", "lbfgs"], [NET, CLASSES], budget=40).runs:
        assert run.validation_loss == run.validation[-1]
        assert run.final == min(run.objective)


@edge_is_no_matter
@pytest.mark.parametrize("mode", ["optimisation", "learning"])
def test_test_samples_decide_nothing(mode, monkeypatch):
    arguments = {"mode": mode, "track": "tuned", "seeds": 1}
    honest = quickly(["adam", "lbfgs"], NET, **arguments)
    assert all(np.isfinite((run.test_loss, run.test_score)).all() for run in honest.runs)
    monkeypatch.setattr(NetworkInstance, "test", lambda self, w: Figures(-7.0, 7.0))
    other = quickly(["adam", "lbfgs"], NET, **arguments)
    assert all((run.test_loss, run.test_score) == (-7, 7) for run in other.runs)
    unreported = [
        [dataclasses.replace(run, test_loss=0.0, test_score=0.0) for run in result.runs]
        for result in (honest, other)
    ]
    for result, runs in zip((honest, other), unreported, strict=True):
        result.runs = runs
    assert figures(honest) == figures(other)


def test_held_out_figures_are_those_of_the_estimator():
    for problem in (NET, CLASSES):
        instance = problem.at(0)
        w = instance.objective.x0
        X, y = instance._test._X, instance._test._y
        net = clone(instance.estimator).set_params(random_state=0)
        net.objective(instance.X, instance.y)
        score = net.set_weights(w).score(X, y)
        assert instance.test(w).score == pytest.approx(score, abs=1e-12)
    p = net.predict_proba(X)[np.arange(len(y)), y]
    assert instance.test(w).loss == pytest.approx(-np.log(p).mean())


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_held_out_loss_is_the_networks_own(loss):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 3)), rng.standard_t(2, size=(100, 2))
    (problem,) = as_problems((MLPRegressor(loss, (4,), alpha=10.0), X, y))
    instance = problem.at(0)
    w, test = instance.objective.x0, instance._test
    own = MLPRegressor(loss, (4,), alpha=0.0).objective(test._X, test._y).fun(w)
    # As a fit reports them: squared errors averaged over the outputs.
    expected = own / 2 if loss == "squared_error" else own
    assert instance.test(w).loss == pytest.approx(expected, rel=1e-12)


def test_a_hinge_loss_can_be_validated():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 3)), rng.integers(3, size=100)
    net = MLPClassifier((4,), loss="hinge")
    result = quickly("adam", (net, X, y), seeds=1, mode="learning")
    assert np.isfinite(result.runs[0].validation).all()


# The result.


def test_runs_are_complete_and_in_order(comparison):
    expected = [
        (problem, solver, seed)
        for problem in comparison.problems
        for solver in comparison.solvers
        for seed in range(3)
    ]
    assert [run.key for run in comparison.runs] == expected


def test_curve_is_a_band_over_a_common_grid(comparison):
    for problem in comparison.problems:
        for axis in ("passes", "seconds"):
            grid = comparison.grid(problem, axis, 30)
            assert grid.shape == (30,)
            assert grid[0] == 0
            assert (np.diff(grid) > 0).all()
            runs = [run for run in comparison.runs if run.problem == problem]
            assert grid[-1] == pytest.approx(max(getattr(run, axis)[-1] for run in runs))
            for solver in comparison.solvers:
                same, (low, middle, high) = comparison.curve(problem, solver, axis, 30)
                np.testing.assert_array_equal(same, grid)
                assert (low <= middle).all()
                assert (middle <= high).all()
                assert (np.diff(middle) <= 0).all()
                assert middle[0] == pytest.approx(1)


def test_curve_of_a_solver_without_runs_is_nan(comparison):
    fewer = dataclasses.replace(
        comparison, runs=[run for run in comparison.runs if run.solver != "adam"]
    )
    assert np.isnan(fewer.curve("net", "adam")[1]).all()


INF = math.inf
RACE = {
    "slow": {"p": [40, 40, 40], "q": [INF, INF, INF]},
    "fast": {"p": [10, 10, 10], "q": [20, 21, 20]},
    "never": {"p": [INF, INF, 50], "q": [INF, INF, INF]},
}


def test_table_is_sorted_and_counts():
    race = made(RACE)
    statuses = {("never", "q"): "failed", ("never", "p"): "timed out", ("slow", "q"): "diverged"}
    race.runs = [
        dataclasses.replace(run, status=statuses.get((run.solver, run.problem), "finished"))
        for run in race.runs
    ]
    rows = race.table()
    assert [row["solver"] for row in rows] == ["fast", "slow", "never"]
    areas = [row["area"] for row in rows]
    assert areas == sorted(areas, reverse=True)
    counts = {
        row["solver"]: (*row["solved"].values(), row["diverged"], row["timed out"], row["failed"])
        for row in rows
    }
    assert counts == {
        "fast": (2, 2, 2, 0, 0, 0),
        "slow": (1, 1, 1, 3, 0, 0),
        "never": (0, 0, 0, 0, 3, 3),
    }
    assert next(iter(rows[0]["solved"])) == race.targets[0]
    assert rows[0]["seconds"] == 10 * 3 + 20 + 21 + 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope", "sgd", "adam"), r"problem must be one of .* got 'nope'"),
        (("bowl", "zzz", "adam"), r"first must be one of .* got 'zzz'"),
        (("bowl", "sgd", "zzz"), r"second must be one of .* got 'zzz'"),
        (("bowl", "sgd", "adam", "hours"), "axis must be one of passes, seconds, got 'hours'"),
    ],
)
def test_verdict_of_what_is_not_there(arguments, message):
    with pytest.raises(ValueError, match=message):
        quickly(["sgd", "adam"], BOWL, seeds=1).verdict(*arguments)


def test_a_class_is_no_estimator():
    with pytest.raises(ValueError, match=r"such as MLPRegressor\(\), got the class MLPRegressor"):
        quickly("sgd", (MLPRegressor, *samples()))


def test_verdict_is_at_the_hardest_target_that_one_reaches():
    race = made({"a": {"p": [5, 6, 7]}, "b": {"p": [50, 60, 70]}})
    verdict = race.verdict("p", "a", "b")
    assert verdict.ratio == pytest.approx(10)
    assert verdict.winner == 0
    assert race.verdict("p", "b", "a").winner == 1
    assert made({"a": {"p": [INF]}, "b": {"p": [INF]}}).verdict("p", "a", "b") is None
    easy = race.runs[0]
    race.runs[0] = dataclasses.replace(easy, objective=[1.0, 0.05])
    assert race.targets[0] >= 0.05 > race.targets[1]
    harder = dataclasses.replace(race, runs=list(race.runs)).verdict("p", "a", "b")
    assert harder.ratio < verdict.ratio  # of the others only, this seed being a miss


def test_summary_is_computed():
    assert "fast needed fewer passes than slow on 2 of 2 problems" in " ".join(made(RACE).summary())
    turned = made({"slow": RACE["fast"], "fast": RACE["slow"]})
    assert "slow needed fewer passes than fast on 2 of 2 problems" in " ".join(turned.summary())
    first = made(RACE).summary()[0]
    assert "3 solvers on 2 problems with 3 seeds each" in first
    assert "at most 1e-05 of the way to the reference on 2 of 2 problems" in made(RACE).summary()[1]


def test_summary_of_twins_shows_no_difference():
    race = made({"a": RACE["fast"], "b": RACE["fast"]})
    assert "on 2 of 2 problems no difference between them could be shown" in race.summary()[2]
    assert "needed fewer" not in " ".join(race.summary())


def test_summary_does_not_rank_by_one_seed():
    race = made({"a": {"p": [10]}, "b": {"p": [11]}})
    assert "needed fewer" not in " ".join(race.summary())


def test_summary_of_an_interrupted_comparison_says_nothing_false():
    """The first solver has reached every target, with all of its seeds."""
    race = made({"a": {"p": [10, 10, 10]}, "b": {"p": [20]}})
    assert "neither reached a target" not in " ".join(race.summary())


def test_summary_of_an_interrupted_comparison_ranks_nobody():
    """Runs that are missing would count as misses."""
    race = made({"a": {"p": [10, 11, 12]}, "b": {"p": [20]}})
    said = " ".join(race.summary())
    assert "Only 4 of 6 runs are finished." in said
    assert "largest area" not in said


def in_seconds(race, seconds):
    """The same costs in passes, others in seconds."""
    for place, run in enumerate(race.runs):
        race.runs[place] = dataclasses.replace(run, seconds=[0.0, seconds[run.solver][run.seed]])
    return race


@pytest.mark.parametrize(
    ("of_b", "is_ahead"),
    [([3.0, 4.0, 5.0], True), ([5.9, 8.5, 6.9], False)],
    ids=["faster", "noise"],
)
def test_summary_in_seconds_needs_a_difference_that_can_be_shown(of_b, is_ahead):
    race = made({"a": {"p": [10, 11, 12]}, "b": {"p": [20, 21, 22]}})
    race = in_seconds(race, {"a": [6.0, 8.0, 7.0], "b": of_b})
    assert race.table("seconds")[0]["solver"] == "b"
    assert ("Counted in seconds instead, b is ahead." in race.summary()) == is_ahead


def test_summary_averages_over_all_problems_that_both_have():
    race = made({"a": {"p": [10, 10], "q": [10, 10]}, "b": {"p": [40, 41], "q": [5, 20]}})
    verdicts = [race.verdict(problem, "a", "b") for problem in race.problems]
    assert [verdict.winner for verdict in verdicts] == [0, -1]
    assert f"ratio {math.sqrt(verdicts[0].ratio * verdicts[1].ratio):.2g}" in " ".join(
        race.summary()
    )


def test_what_came_after_one_budget_counts_on_no_axis():
    race = made({"a": {"p": [50]}})
    race.runs[0] = dataclasses.replace(race.runs[0], passes=[0.0, 101.0], seconds=[0.0, 1.0])
    for axis in ("passes", "seconds"):
        assert race.costs("p", "a", race.targets[0], axis).tolist() == [INF]
        assert (race.curve("p", "a", axis)[1] == 1.0).all()


def test_the_lowest_gap_may_lie_between_the_points():
    """A long run keeps some of them only."""
    race = made({"a": {"p": [INF]}})
    race.runs[0] = dataclasses.replace(race.runs[0], final=0.25)
    assert race.lowest_gap(race.runs[0]) == 0.25


def test_a_run_down_to_the_smallest_numbers_has_not_diverged():
    """Until 1 / yᵀs overflows."""
    result = quickly("bfgs", "quadratic-1e2", seeds=1, budget=1000)
    (run,) = result.runs
    assert run.final < 1e-100
    assert (run.status, run.stop_reason) == ("finished", "as near to 0 as numbers go")


def test_below_zero_is_not_near_it():
    """A function whose minimum is negative, and a step that leaves where it is defined."""
    problem = FunctionProblem(
        "entropy",
        lambda x: float(np.sum(x * np.log(x))),
        lambda x: np.log(x) + 1,
        lambda rng: np.array([2.6, 2.4]),
    )
    with np.errstate(invalid="ignore"):
        (run,) = quickly(SGD(learning_rate=1.2), problem, seeds=1).runs
    assert run.status == "diverged"


def test_a_method_that_cannot_be_hashed():
    @dataclasses.dataclass
    class Method:
        def __call__(self, fun, x0, args=(), **options):
            return scipy.optimize.OptimizeResult(x=x0, fun=fun(x0), nit=0, message="done")

    (run,) = quickly(Solver("mine", Method()), BOWL, seeds=1).runs
    assert run.status == "finished", run.stop_reason


def test_summary_without_runs():
    assert made({"a": {"p": []}, "b": {"p": [1]}}).summary()
    nothing = dataclasses.replace(made(RACE), runs=[])
    assert nothing.summary()[-1] == "No run was finished."
    assert [row["area"] for row in nothing.table()] == [0, 0, 0]


def test_sensitivity_is_to_the_learning_rate(comparison):
    rates = {}
    for run in comparison.sensitivity:
        assert run.seed == 0
        rates.setdefault((run.problem, run.solver), []).append(run.settings["learning_rate"])
    assert set(rates) == {(p, s) for p in ("bowl", "net") for s in ("momentum", "adam")}
    for (_, solver), tried in rates.items():
        used = SOLVERS[solver].method.learning_rate
        assert min(tried) < used < max(tried)
        assert len(set(tried)) == len(tried) > 2


def test_plot(comparison):
    from matplotlib import pyplot as plt

    display = comparison.plot("net")
    assert display.figure_ is display.ax_.figure
    assert [line.get_label() for line in display.lines_] == comparison.solvers
    for solver, line in zip(comparison.solvers, display.lines_, strict=True):
        grid, (_, middle, _) = comparison.curve("net", solver)
        np.testing.assert_array_equal(line.get_xdata(), grid)
        np.testing.assert_array_equal(line.get_ydata(), middle)
    _, ax = plt.subplots()
    given = comparison.plot(axis="seconds", ax=ax)
    assert given.ax_ is ax
    assert ax.get_xlabel() == "seconds"
    assert ax.get_title() == comparison.problems[0]
    display.figure_.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": "nope"}, r"problem must be one of \['bowl', 'net'\], got 'nope'"),
        ({"axis": "hours"}, "axis must be one of .* got 'hours'"),
    ],
)
def test_plot_refuses(comparison, arguments, message):
    with pytest.raises(ValueError, match=message):
        comparison.plot(**arguments)


# Fairness.


def with_runs(comparison, **changes):
    """The comparison with something of its first run planted."""
    first, *rest = comparison.runs
    return dataclasses.replace(comparison, runs=[dataclasses.replace(first, **changes), *rest])


def with_tuning(comparison, **changes):
    first, *rest = comparison.tuning
    return dataclasses.replace(comparison, tuning=[first._replace(**changes), *rest])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": FIRST_TUNING_SEED}, "the seed belongs to the tuning"),
        ({"passes": [0.0, 2.0, 1.0]}, "passes must grow from 0"),
        ({"passes": [1.0, 2.0, 3.0]}, "passes must grow from 0"),
        ({"seconds": [0.0, -1.0]}, "seconds must grow from 0"),
    ],
)
def test_unfair_runs_are_noticed(comparison, changes, message):
    with pytest.raises(ValueError, match=message):
        with_runs(comparison, **changes).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"trials": t.trials * 2}, "unequal numbers of trials"),
        (lambda t: {"trials": t.trials[:-1]}, "unequal numbers of trials"),
        (lambda t: {"allowed_seconds": 2 * t.allowed_seconds}, "unequal seconds"),
        (lambda t: {"trials": [x._replace(seed=0) for x in t.trials]}, "on the final seeds"),
    ],
)
def test_unfair_tuning_is_noticed(tuned, change, message):
    with pytest.raises(ValueError, match=message):
        with_tuning(tuned, **change(tuned.tuning[0])).check()


# Files.


def test_file_holds_everything(tuned, tmp_path):
    path = tmp_path / "c.json"
    tuned.to_json(path)
    again = Comparison.from_json(path)
    for field in dataclasses.fields(Comparison):
        if field.name != "declared":  # whose tuples are lists in JSON
            assert repr(getattr(again, field.name)) == repr(getattr(tuned, field.name)), field.name
    again.to_json(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["again.json", "c.json"]


def test_file_keeps_what_is_no_number(tmp_path):
    race = made(RACE)
    run = dataclasses.replace(race.runs[0], objective=[1.0, INF], validation=[math.nan, -INF])
    race = dataclasses.replace(race, runs=[run], ratios={"p": CostRatios(0.5, 1.0, math.nan)})
    path = tmp_path / "c.json"
    race.to_json(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # which JSON does not know
    again = Comparison.from_json(path)
    assert repr(again.runs) == repr(race.runs)
    assert repr(again.ratios) == repr(race.ratios)


def test_names_stay_names(tmp_path):
    """Whatever they look like."""
    made({"inf": {"nan": [3.0]}}).to_json(tmp_path / "c.json")
    assert Comparison.from_json(tmp_path / "c.json").runs[0].key == ("nan", "inf", 0)


def test_what_was_reached_is_the_same_after_reading(tmp_path):
    """Of a function far from zero, too."""
    high = FunctionProblem("high", lambda x: BOWL.fun(x) + 1e6, BOWL.grad, BOWL.start, 1e6)
    result = quickly(["lbfgs", "momentum"], high, budget=60)
    result.to_json(tmp_path / "c.json")
    again = Comparison.from_json(tmp_path / "c.json")
    for target in result.targets:
        for solver, costs in result.median_costs(target).items():
            np.testing.assert_array_equal(again.median_costs(target)[solver], costs)


def test_same_sentences_after_reading(comparison, tmp_path):
    comparison.to_json(tmp_path / "c.json")
    again = Comparison.from_json(tmp_path / "c.json")
    assert again.summary() == comparison.summary()
    assert [row["solver"] for row in again.table()] == [row["solver"] for row in comparison.table()]


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "3", "null", "{}", '{"runs": []}', "\x00", '"format"']
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"c\.json is not a comparison written by fastgd"):
        Comparison.from_json(path)


def test_pictures_are_no_comparisons(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="not a comparison"):
        Comparison.from_json(path)


def damaged(path, change):
    """Rewrite a file."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=99), "has the format 99, but this version reads"),
        (lambda r: r.pop("runs"), "damaged"),
        (lambda r: r.pop("solvers"), "damaged"),
        (lambda r: r.update(more=1), "damaged"),
        (lambda r: r.update(runs=[1]), "damaged"),
        (lambda r: r.update(runs=None), "damaged"),
        (lambda r: r.update(references=[]), "damaged"),
        (lambda r: r.update(budget=3), "damaged"),
        (lambda r: r["runs"][0].pop("seed"), "damaged"),
        (lambda r: r["runs"][0].update(passes=[]), "damaged|must grow"),
        (lambda r: r["runs"][0].update(passes=["a"]), "damaged|must grow"),
        (lambda r: r["tuning"][0]["trials"].pop(), "unequal numbers of trials"),
        (lambda r: r["runs"][0].update(seed=FIRST_TUNING_SEED), "belongs to the tuning"),
    ],
)
def test_damaged_and_unfair_files_are_refused(change, message, tuned, tmp_path):
    path = tmp_path / "c.json"
    tuned.to_json(path)
    damaged(path, change)
    with pytest.raises(ValueError, match=message):
        Comparison.from_json(path)


def test_provenance(comparison):
    assert {
        "fastgd",
        "numpy",
        "scipy",
        "processor",
        "blas",
        "python",
    } <= comparison.provenance.keys()
    json.dumps(comparison.provenance)


# The same on any number of processors, in one go or in several.

SEVERAL = {"solvers": ["adam", "lbfgs", "newton-cg"], "problems": [BOWL, NET]}


@pytest.fixture
def fixed_ratios(monkeypatch):
    """Which are measured otherwise, a little different each time."""
    monkeypatch.setattr(COMPARE, "cost_ratios", lambda problem, **_: CostRatios())


@edge_is_no_matter
@pytest.mark.usefixtures("fixed_ratios")
def test_processors_change_nothing_but_seconds():
    arguments = SEVERAL | {"track": "tuned", "sensitivity": True}
    one, two = (quickly(**arguments, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert figures(one) == figures(two)
    assert one.solvers == two.solvers
    assert one.declared == two.declared


@pytest.fixture
def executed(monkeypatch):
    """Keys of the runs that a comparison has made itself."""
    keys = []

    def noted(solver, problem, seed, **arguments):
        keys.append((problem.name, solver.name, seed))
        return run_solver(solver, problem, seed, **arguments)

    monkeypatch.setattr(COMPARE, "run_solver", noted)
    return keys


PARTS = {
    "fewer seeds": {"seeds": 1},
    "fewer solvers": {"solvers": ["newton-cg", "adam"]},
    "fewer problems": {"problems": [NET]},
    "nothing missing": {},
    "more of all": {
        "seeds": 3, "solvers": [*SEVERAL["solvers"], "sgd"], "problems": [CLASSES, BOWL, NET],
    },
}  # fmt: skip


@edge_is_no_matter
@pytest.mark.usefixtures("fixed_ratios")
@pytest.mark.parametrize("track", ["default", "tuned"])
@pytest.mark.parametrize("part", PARTS)
def test_resume_runs_what_is_missing(part, track, executed):
    arguments = SEVERAL | {"track": track, "sensitivity": True}
    whole = quickly(**arguments)
    wanted = {run.key for run in whole.runs}
    begun = quickly(**arguments | PARTS[part])
    before = figures(begun)
    executed.clear()
    resumed = quickly(**arguments, resume=begun)
    assert {key for key in executed if key[2] > 0} == {
        key for key in wanted - {run.key for run in begun.runs} if key[2] > 0
    }
    assert figures(resumed) == figures(whole)
    assert [run.key for run in resumed.runs] == [run.key for run in whole.runs]
    assert figures(begun) == before  # is the user's, and stays as it was


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 7}, "budget"),
        ({"budget": Budget(6, 3.0)}, "budget"),
        ({"mode": "learning"}, "mode"),
        ({"track": "tuned"}, "track"),
        ({"solvers": Solver("adam", Adam(0.5))}, "another solver 'adam'"),
    ],
)
def test_resume_refuses_another_comparison(change, message):
    begun = quickly("adam", NET)
    with pytest.raises(ValueError, match=rf"resume has .*{message}"):
        quickly(**{"solvers": "adam", "problems": NET} | change, resume=begun)


def test_resume_refuses_another_tuning(tuned):
    """Half of the solvers with more trials would be unfair; it is said before any of them runs."""
    told = []
    with pytest.raises(ValueError, match="n_trials"):
        quickly(
            [*tuned.solvers, "sgd"], [BOWL, NET], budget=12, track="tuned", n_trials=25,
            resume=tuned, progress=lambda *arguments: told.append(arguments),
        )  # fmt: skip
    assert not told


def test_resume_tells_of_another_machine():
    begun = quickly("adam", NET, seeds=1)
    begun.provenance |= {"processor": "another one", "numpy": "1.0", "date": "long ago"}
    with pytest.warns(UserWarning, match="seconds of runs before .* processor of runs before"):
        resumed = quickly("adam", NET, seeds=2, resume=begun)
    kept = {"processor of runs before": ["another one"], "numpy of runs before": ["1.0"]}
    assert {name: of for name, of in resumed.provenance.items() if "before" in name} == kept
    here, resumed.provenance["processor"] = resumed.provenance["processor"], "a third one"
    with pytest.warns(UserWarning, match="a third one, another one"):
        again = quickly("adam", NET, seeds=3, resume=resumed)
    assert again.provenance["processor"] == here
    assert again.provenance["processor of runs before"] == ["a third one", "another one"]


@edge_is_no_matter
@pytest.mark.usefixtures("fixed_ratios")
@pytest.mark.filterwarnings("ignore:Comparison interrupted")
def test_resume_from_a_file(tmp_path):
    arguments = SEVERAL | {"track": "tuned"}
    whole = quickly(**arguments)
    quickly(**arguments, progress=interrupt("runs", 3)).to_json(tmp_path / "c.json")
    resumed = quickly(**arguments, resume=Comparison.from_json(tmp_path / "c.json"))
    assert figures(resumed) == figures(whole)


def test_resume_refuses_another_problem_of_the_same_name():
    begun = quickly("adam", (lambda x: float(x @ x), lambda x: 2 * x, [1.0, 2.0]))
    other = lambda x: 100 + float(x @ x), lambda x: 2 * x, [1.0, 2.0]
    with pytest.raises(ValueError, match="another problem '<lambda>'"):
        quickly("adam", other, seeds=3, resume=begun)


def test_budgets_without_an_end(tmp_path):
    """Of passes alone, or of seconds alone."""
    budget = Budget(20, math.inf)
    result = quickly(["adam", "lbfgs"], BOWL, seeds=3, budget=budget)
    result.to_json(tmp_path / "c.json")
    read = Comparison.from_json(tmp_path / "c.json")
    assert read.budget == budget
    read.to_html(tmp_path / "c.html")
    assert quickly(["adam", "lbfgs"], BOWL, seeds=3, budget=budget, resume=read).runs == read.runs
    assert read.verdict("bowl", "lbfgs", "adam", "seconds").ratio > 0


def test_an_objective_that_is_no_number_is_a_result():
    nowhere = lambda x: math.nan * x.sum(), lambda x: math.nan * x, [1.0, 2.0]
    result = quickly(["adam", "lbfgs"], nowhere)
    assert len(result.runs) == 4
    assert all(np.isnan(run.initial) for run in result.runs)


def test_seconds_end_a_solver_that_does_not_call_back():
    # It calls back at better points only, and begins at the best.
    bottom = FunctionProblem("bottom", BOWL.fun, BOWL.grad, lambda rng: np.zeros(3), 0.0)
    (run,) = quickly("dual-annealing", bottom, seeds=1, budget=Budget(1e9, 0.1)).runs
    assert run.status == "timed out"
    assert "within an iteration" in run.stop_reason


def test_resume_of_a_users_method_from_a_file(tmp_path):
    """In another process it has another address."""
    first, second = stepping(), stepping()
    quickly(first, BOWL, seeds=1).to_json(tmp_path / "c.json")
    begun = Comparison.from_json(tmp_path / "c.json")
    assert len(quickly(second, BOWL, seeds=2, resume=begun).runs) == 2


def interrupt(stage, n_done):
    """A progress that presses Ctrl-C."""

    def progress(what, done, total):
        if (what, done) == (stage, n_done):
            raise KeyboardInterrupt

    return progress


@edge_is_no_matter
@pytest.mark.usefixtures("fixed_ratios")
@pytest.mark.filterwarnings("ignore:Comparison interrupted")
@pytest.mark.parametrize(
    ("stage", "n_done"),
    [("references", 0), ("references", 3), ("tuning", 2), ("runs", 0), ("runs", 5),
     ("learning rates", 1)],
)  # fmt: skip
def test_ctrl_c_keeps_what_is_finished(stage, n_done, tmp_path):
    arguments = SEVERAL | {"track": "tuned", "sensitivity": True}
    begun = quickly(**arguments, progress=interrupt(stage, n_done))
    kept = {
        "references": sum(map(len, begun.references.values())),
        "tuning": len(begun.tuning),
        "runs": len(begun.runs),
        "learning rates": len(begun.sensitivity),
    }
    assert kept[stage] == n_done
    assert begun.summary()
    assert len(begun.table()) == 3
    begun.to_json(tmp_path / "c.json")
    assert figures(quickly(**arguments, resume=begun)) == figures(quickly(**arguments))


def slow_slope(x):
    time.sleep(0.02)
    return SCALES * x


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_ctrl_c_is_told(n_jobs):
    """By one sentence, though other runs are under way."""
    problem = dataclasses.replace(BOWL, grad=slow_slope)
    with pytest.warns(UserWarning, match="interrupted: it has what was finished") as record:
        begun = quickly("adam", problem, seeds=6, n_jobs=n_jobs, progress=interrupt("runs", 2))
    assert [run.seed for run in begun.runs] == [0, 1]
    assert len(record) == 1


def test_progress_counts_each_stage():
    told = []
    quickly("adam", BOWL, sensitivity=True, progress=lambda *arguments: told.append(arguments))
    stages = dict.fromkeys(what for what, _, _ in told)
    assert [*stages] == ["references", "runs", "learning rates"]
    for stage in stages:
        steps = [(done, total) for what, done, total in told if what == stage]
        assert steps == [(i, steps[-1][1]) for i in range(steps[-1][1] + 1)]


# Tuning.

SPACE = {"learning_rate": (1e-4, 1e0), "momentum": (0.5, 0.99)}


@pytest.mark.parametrize("n_trials", [1, 2, *TRIALS])
def test_draws_lie_in_their_space(n_trials):
    points = draw(SPACE, n_trials, 0)
    assert len(points) == n_trials
    assert len({tuple(point.values()) for point in points}) == n_trials
    for point in points:
        assert point.keys() == SPACE.keys()
        assert all(low <= point[name] <= high for name, (low, high) in SPACE.items())


def test_draws_are_log_uniform():
    """Each quarter of the logarithm has as many, as a Sobol sequence promises."""
    rates = np.log10([point["learning_rate"] for point in draw(SPACE, 64, 3)])
    assert np.histogram(rates, bins=4, range=(-4, 0))[0].tolist() == [16] * 4


def test_draws_depend_on_the_random_state_alone():
    assert draw(SPACE, 15, 1) == draw(SPACE, 15, 1)
    assert draw(SPACE, 15, 1) != draw(SPACE, 15, 2)
    assert draw({}, 15, 1) == []


def trials(*scores):
    return [Trial({"rate": float(i)}, FIRST_TUNING_SEED, s, 0.0) for i, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        # Repetitions are each third trial: the best of them are 1, 2 and 3.
        ((9, 2, 3, 1, 9, 9), 1),
        ((1, 9, 3, 9, 2, 9), 4),
        ((5, 5, 1), 0),
        ((3, INF, 1, INF, INF, INF), 0),
        ((INF, 1, INF), 0),  # most repetitions found nothing
        ((4,), 0),
    ],
)
def test_median_of_the_best_is_chosen(scores, chosen):
    assert choose(trials(*scores))["rate"] == chosen


def test_nothing_to_choose_from():
    assert choose([]) == {}


@pytest.mark.parametrize(
    ("value", "expected"), [(1e-4, True), (1.2e-4, True), (1e-2, False), (0.5, False), (0.9, True)]
)
def test_edge_of_a_space(value, expected):
    assert on_edge(value, 1e-4, 1.0) == expected


@pytest.mark.parametrize("n_trials", [15, 25])
def test_every_solver_has_the_same_trials(n_trials):
    for name in ("adam", "momentum"):
        found = tune(SOLVERS[name], BOWL, n_trials, Budget(5), "optimisation", CostRatios(), 0)
        assert len(found.trials) == n_trials
        assert found.allowed_seconds == n_trials * Budget().seconds
        assert found.settings in [trial.settings for trial in found.trials]
        assert found.settings == choose(found.trials)


def test_tuning_ends_with_its_seconds(monkeypatch):
    def slow(*arguments, **parameters):
        return dataclasses.replace(run_solver(*arguments, **parameters), seconds=[0.0, 3.0])

    monkeypatch.setattr("fastgd.comparison.tuning.run_solver", slow)
    found = tune(SOLVERS["adam"], BOWL, 15, Budget(3, 1.0), "optimisation", CostRatios(), 0)
    assert len(found.trials) == 5
    assert found.seconds == found.allowed_seconds == 15


@pytest.mark.parametrize(("mode", "score"), [("optimisation", "final"), ("learning", "validation")])
def test_trials_are_judged_as_the_final_runs(mode, score):
    found = tune(SOLVERS["adam"], NET, 15, Budget(4), mode, CostRatios(), 0)
    trial = found.trials[4]
    again = run_solver(
        SOLVERS["adam"], NET, trial.seed, budget=Budget(4), mode=mode, settings=trial.settings
    )
    expected = again.final if score == "final" else min(again.validation)
    assert trial.score == expected


def test_final_runs_use_what_was_chosen(tuned):
    chosen = {(t.problem, t.solver): t.settings for t in tuned.tuning}
    for run in tuned.runs:
        assert run.settings == chosen[run.problem, run.solver]
    assert chosen["net", "lbfgs"] == {}
    assert chosen["net", "adam"].keys() == SOLVERS["adam"].space.keys()


def test_diverged_trials_are_never_chosen():
    wild = Solver("wild", SGD(), space={"learning_rate": (1e-3, 1e6)})
    found = tune(wild, BOWL, 15, Budget(200), "optimisation", CostRatios(), 0)
    assert any(math.isinf(trial.score) for trial in found.trials)
    assert found.settings["learning_rate"] < 2 / SCALES.max()


def test_best_on_the_edge_is_told():
    """Whoever may only go too slowly goes as fast as it may."""
    timid = Solver("timid", SGD(), space={"learning_rate": (1e-9, 1e-7)})
    with pytest.warns(UserWarning, match="timid on bowl: the best learning_rate lies on the edge"):
        result = quickly(timid, BOWL, track="tuned", n_trials=75)
    assert result.tuning[0].on_edge == ["learning_rate"]
    assert "learning_rate of timid on bowl lies on the edge" in result.summary()[-1]


def test_settings_change_only_what_is_tuned():
    solver = SOLVERS["nesterov"].with_settings({"learning_rate": 0.5})
    assert solver.method == SOLVERS["nesterov"].method._replace(learning_rate=0.5)
    assert solver.name == "nesterov"


# What users bring.


class Signs(NamedTuple):
    """A user's rule, written without any of our help."""

    learning_rate: float = 0.05

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            w[i] -= learning_rate * np.sign(g[i])


def custmin(fun, x0, args=(), maxfev=None, stepsize=0.1, maxiter=100, callback=None, **options):
    """The custom minimizer of SciPy's tutorial, which knows neither gradients nor how to stop."""
    bestx, besty, funcalls, niter = x0, fun(x0), 1, 0
    improved = True
    while improved and niter < maxiter:
        improved = False
        niter += 1
        for dim in range(np.size(x0)):
            for s in (bestx[dim] - stepsize, bestx[dim] + stepsize):
                testx = np.copy(bestx)
                testx[dim] = s
                testy = fun(testx, *args)
                funcalls += 1
                if testy < besty:
                    besty, bestx, improved = testy, testx, True
        if callback is not None:
            callback(bestx)
    return scipy.optimize.OptimizeResult(
        fun=besty, x=bestx, nit=niter, nfev=funcalls, success=niter > 1
    )


@pytest.mark.parametrize(
    ("solver", "name"),
    [
        (Adam(learning_rate=0.05), "Adam"),
        (Signs(), "Signs"),
        (stepping(), "stepping"),
        (custmin, "custmin"),
        (functools.partial(custmin, stepsize=0.05), "partial"),
        (Solver("mine", "CG", order=2), "mine"),
        (Solver("krylov", "Newton-CG", order=2), "krylov"),
    ],
)
@pytest.mark.parametrize("problem", [BOWL, NET], ids=lambda p: p.name)
def test_a_users_solver(solver, name, problem):
    result = quickly([solver, "sgd"], problem, budget=40)
    assert result.solvers == [name, "sgd"]
    for run in result.runs_of(problem.name, name):
        assert run.status == "finished"
        assert run.final < run.initial
        assert len(run.passes) > 1


def test_solvers_get_names_of_their_own():
    rules = [Adam(0.1), "adam", Adam(0.2), "sgd", Adam(0.3), "sgd"]
    solvers = as_solvers(rules)
    assert [s.name for s in solvers] == ["Adam", "adam", "Adam-2", "sgd", "Adam-3", "sgd-2"]
    assert [s.method.learning_rate for s in solvers[::2]] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("wanted", ["default", " default "])
def test_default_solvers(wanted):
    assert tuple(s.name for s in as_solvers(wanted)) == DEFAULT_SOLVERS


def test_names_in_one_string():
    assert [s.name for s in as_solvers("adam, sgd,lbfgs")] == ["adam", "sgd", "lbfgs"]


def test_everything_there_is_can_be_compared():
    methods = [solver.method for solver in SOLVERS.values()]
    assert {type(m) for m in methods if not isinstance(m, str)} == set(OPTIMIZERS.values())
    assert {m for m in methods if isinstance(m, str)} == set(WHOLE_OBJECTIVE)
    for solver in SOLVERS.values():
        for field, (low, high) in solver.space.items():
            assert low <= getattr(solver.method, field) <= high or field == "weight_decay"


class LogCosh(NamedTuple):
    """A user's loss without second derivatives, which only some solvers need."""

    out_activation = "identity"
    link = identity_link
    value_and_delta = sum_pointwise

    def pointwise(self, z, y):
        return np.log(np.cosh(z - y)), np.tanh(z - y)


LABELS = (samples()[0] > 0).astype(int)
REGRESSION = MLPRegressor(hidden_layer_sizes=(2,), activation="tanh")
CLASSIFIER = MLPClassifier(hidden_layer_sizes=(2,), activation="tanh")
BROUGHT = {
    "regression": (REGRESSION, *samples()),
    "two outputs": (REGRESSION, *samples(2)),
    "classes": (CLASSIFIER, *classes()),
    "words": (CLASSIFIER, samples()[0], np.where(samples()[1] > 0, "up", "down")),
    "labels": (CLASSIFIER, samples()[0], LABELS),
    "lists": (REGRESSION, samples()[0].tolist(), samples()[1].tolist()),
    "float32": (REGRESSION, *(a.astype(np.float32) for a in samples())),
    "sparse": (REGRESSION, scipy.sparse.csr_array(samples()[0]), samples()[1]),
    "trained": (clone(REGRESSION).set_params(max_iter=5, tol=10.0, n_iter_no_change=1), *samples()),
    **{
        f"loss {name}": (clone(REGRESSION).set_params(loss=name), samples()[0], samples()[1] + 9)
        for name in ("absolute_error", "huber", "poisson", LogCosh())
    },
}


@pytest.mark.parametrize("mode", ["optimisation", "learning"])
@pytest.mark.parametrize("kind", BROUGHT)
def test_a_users_network(kind, mode):
    result = quickly(["adam", "lbfgs"], BROUGHT[kind], mode=mode, budget=10)
    (name,) = result.problems
    assert name == type(BROUGHT[kind][0]).__name__
    for run in result.runs:
        assert run.status == "finished"
        assert min(run.objective) < run.initial
        assert np.isfinite([run.test_score, run.validation_score]).all()
    if mode == "learning":
        assert all(np.isfinite(run.validation).all() for run in result.runs)


def test_a_network_in_float32_has_the_figures_of_one_in_float64():
    """Solvers work in float64, and the network must not take their vector for one of its own."""
    single, double = (
        quickly("lbfgs", (REGRESSION, *(a.astype(dtype) for a in samples())), budget=10).runs
        for dtype in (np.float32, np.float64)
    )
    for one, other in zip(single, double, strict=True):
        for name in ("validation_loss", "validation_score", "test_loss", "test_score"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-3)


def test_a_users_estimator_stays_as_it_was():
    net = MLPRegressor(hidden_layer_sizes=(2,), solver="adam", random_state=7)
    before = dict(vars(net))
    quickly("adam", (net, *samples()))
    assert vars(net) == before


def test_a_users_function():
    result = quickly(
        "lbfgs", (scipy.optimize.rosen, scipy.optimize.rosen_der, [0.5, 0.5]), budget=99
    )
    assert result.problems == ["rosen"]
    assert all(run.final < 1e-6 for run in result.runs)


def test_problems_get_names_of_their_own():
    function = (scipy.optimize.rosen, scipy.optimize.rosen_der, [0.5, 0.5])
    network = BROUGHT["regression"]
    problems = as_problems([function, network, function, "iris-tanh", network, "iris-tanh"])
    assert [p.name for p in problems] == [
        "rosen", "MLPRegressor", "rosen-2", "iris-tanh", "MLPRegressor-2",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_several_problems_in_any_sequence(kind, n):
    for wanted in ([BOWL, NET, CLASSES, NO_HESSIAN], [*SUITES["convex"]]):
        assert len(as_problems(kind(wanted[:n]))) == n


@pytest.mark.parametrize("suite", SUITES)
def test_suites_name_problems(suite):
    assert [p.name for p in as_problems(suite)] == [*SUITES[suite]]
    assert SUITES[suite]


def test_suites_are_what_the_protocol_asks_for():
    networks = [PROBLEMS[name] for name in SUITES["networks"]]
    assert len(networks) >= 6
    assert {problem.estimator.activation for problem in networks} >= {"tanh", "relu"}
    assert {type(problem.estimator) for problem in networks} == {MLPClassifier, MLPRegressor}
    assert {"rosenbrock", *SUITES["convex"], *SUITES["networks"]} == {*SUITES["small"]}


def test_function_objective_refuses_what_it_has_not():
    objective = FunctionObjective(BOWL.fun, BOWL.grad, np.ones(3), None)
    with pytest.raises(ValueError, match="needs hessp"):
        objective.hessp(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="squared error"):
        objective.normal_equations(np.ones(3))
    assert not any(objective.counts.values())


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solvers": "adm"}, r"solvers must be among .*lbfgs.*; got 'adm'"),
        ({"solvers": ["adam", "adm"]}, r"solvers must be among .*; got 'adm'"),
        ({"solvers": []}, r"solvers must be .*; got \[\]"),
        ({"solvers": ""}, r"solvers must be .*; got"),
        ({"solvers": 3}, "solvers must be .*; got 3"),
        ({"solvers": None}, "solvers must be .*; got None"),
        ({"solvers": Adam}, "solver.* must be .*Adam"),  # the class instead of a rule
        ({"solvers": [3]}, "solver must be a name, an update rule or a method, got 3"),
        ({"problems": "moons"}, r"problems must be one of .*small.*iris-tanh.*; got 'moons'"),
        ({"problems": ["moons"]}, "problems must be one of .*; got 'moons'"),
        ({"problems": []}, r"problems must be .*; got \[\]"),
        ({"problems": 3}, "problems must be .*; got 3"),
        ({"problems": None}, "problems must be .*; got None"),
        ({"problems": (1, 2, 3)}, r"problems must be .*\(estimator, X, y\).* got 1"),
        ({"mode": "both"}, r"mode must be one of .*optimisation.*learning.*, got 'both'"),
        ({"mode": "learning"}, "mode='learning' needs problems with samples"),
        ({"track": "slow"}, r"track must be one of .*default.*tuned.*, got 'slow'"),
        ({"n_trials": 16}, r"n_trials must be one of .*15.*75.*, got 16"),
        ({"seeds": 0}, "seeds must be a whole number from 1 to 1000000, got 0"),
        ({"seeds": 2.5}, "seeds must be a whole number from 1 to 1000000, got 2.5"),
        ({"seeds": "3"}, "seeds must be a whole number from 1 to 1000000, got '3'"),
        ({"budget": 0}, "budget must be positive, got .*0"),
        ({"budget": -1}, "budget must be positive, got .*-1"),
        ({"budget": Budget(10, 0)}, "budget must be positive, got .*seconds=0"),
        ({"budget": math.nan}, "budget must be positive, got .*nan"),
        ({"budget": "much"}, "budget must be .*'much'"),
        ({"budget": [1, 2]}, r"budget must be .*\[1, 2\]"),
        ({"random_state": "x", "track": "tuned"}, "random_state must be .*'x'"),
        ({"random_state": -1, "track": "tuned"}, "random_state must be .*-1"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"n_jobs": "many"}, "n_jobs"),
        ({"resume": "c.json"}, "resume must be .*'c.json'"),
        ({"progress": 3}, "progress must be .*3"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"solvers": "adam", "problems": BOWL, "seeds": 1, "budget": 2} | arguments)


def test_numbers_of_numpy_are_numbers():
    result = compare("adam", BOWL, seeds=np.int64(1), budget=np.float64(2), sensitivity=False)
    assert len(result.runs) == 1


def test_passes_alone_are_a_budget():
    assert quickly("adam", BOWL, budget=3).budget == Budget(3.0, Budget().seconds)
    assert quickly("adam", BOWL, budget=Budget(3, 1.0)).budget == (3, 1.0)


def test_functions_are_left_out_of_learning():
    assert quickly("adam", [BOWL, NET], mode="learning").problems == ["net"]


def test_compare_is_at_hand():
    import fastgd

    assert fastgd.compare is compare


# Where a comparison must not flatter, nor lose what it has.


def test_a_value_alone_is_measured_where_it_is_not_known():
    problem = PROBLEMS["iris-tanh"]
    instance = problem.at(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkProblem, "at", lambda self, seed: instance)
        assert cost_ratios(problem, normal_equations=False).fun > 0
    assert instance.objective.counts["fun"] == REPEATS + 1


def test_normal_equations_are_measured_for_who_asks_for_them(monkeypatch):
    asked = []

    def measure(problem, **options):
        asked.append(options["normal_equations"])
        return CostRatios(0.5, 1.0, 3.0 if options["normal_equations"] else np.nan)

    monkeypatch.setattr(COMPARE, "cost_ratios", measure)
    begun = quickly("adam", NET, seeds=1)
    both = quickly(["adam", "levenberg-marquardt"], NET, seeds=1, resume=begun)
    assert asked == [False, True]
    assert np.isnan(begun.ratios["net"].normal_equations)
    assert both.ratios["net"] == (0.5, 1.0, 3.0)


@pytest.mark.parametrize(
    ("fun", "grad"),
    [
        (lambda x: np.nan, lambda x: 2 * x),
        (lambda x: np.inf, lambda x: 2 * x),
        (lambda x: float(x @ x), lambda x: 1 / 0),
        (lambda x: float(x @ x), lambda x: -2 * x),
        (lambda x: float(x @ x), lambda x: np.zeros(3)),
    ],
    ids=["no number", "no value", "no gradient", "a wrong gradient", "a gradient of another shape"],
)
@pytest.mark.filterwarnings("ignore:.*Is the gradient right?")
def test_nobody_reaches_what_is_not_known(fun, grad):
    result = quickly(["adam", "lbfgs"], (fun, grad, [1.0, 2.0]), budget=20)
    assert all(solved == 0 for row in result.table() for solved in row["solved"].values())
    assert "No solver reached any target within the budget." in result.summary()
    (name,) = result.problems
    assert not any(np.isinf(of.lowest) for of in result.references[name])


def test_a_function_that_complains_somewhere_ends_no_comparison():
    def fun(x):
        if abs(x[0]) > 3:
            raise ArithmeticError("domain")
        return float(x[0] ** 4 + x[1] ** 2 - 8 * x[0])

    grad = lambda x: np.array([4 * x[0] ** 3 - 8, 2 * x[1]])  # noqa: E731
    result = quickly(["adam", "lbfgs"], (fun, grad, [-2.5, 1.0]), budget=20)
    assert {run.solver for run in result.runs} == {"adam", "lbfgs"}
    assert all(np.isfinite(of.lowest) for of in result.references["fun"])


def test_a_run_that_is_stopped_within_an_iteration_has_its_costs():
    bottom = FunctionProblem(
        "bottom", lambda x: float(x @ x), lambda x: 2 * x, lambda rng: np.zeros(3), 0.0
    )
    run = run_solver(SOLVERS["dual-annealing"], bottom, 0, budget=Budget(1e9, 0.05))
    assert run.status == "timed out"
    assert run.seconds[-1] >= 0.05
    assert run.passes[-1] > 0


@pytest.mark.parametrize("mode", ["optimisation", "learning"])
def test_figures_are_of_what_was_reached_within_the_budget(mode):
    """The first step of Newton's method costs more passes than there are."""
    problem = PROBLEMS["iris-tanh"]
    options = {"mode": mode, "ratios": CostRatios()}
    run = run_solver(SOLVERS["newton"], problem, 0, budget=Budget(80), **options)
    begin = run_solver(SOLVERS["newton"], problem, 0, budget=Budget(1), **options)
    assert run.passes[-1] > 80
    assert run.final == run.initial == begin.final
    assert (run.test_loss, run.test_score) == (begin.test_loss, begin.test_score)


def test_a_method_that_ends_after_its_time_has_timed_out():
    def late(fun, x0, **options):
        ended = time.perf_counter() + 0.1
        while time.perf_counter() < ended:
            pass
        return scipy.optimize.OptimizeResult(x=x0 * 0.9, fun=fun(x0 * 0.9), message="done")

    run = run_solver(Solver("late", late), BOWL, 0, budget=Budget(1e9, 0.08))
    assert run.status == "timed out"


def test_a_result_without_a_message_is_no_failure():
    def silent(fun, x0, jac=None, **options):
        x = x0 - 0.5 * jac(x0)
        return scipy.optimize.OptimizeResult(x=x, fun=fun(x), nit=1, success=True)

    run = run_solver(Solver("silent", silent), BOWL, 0, budget=Budget(100))
    assert (run.status, run.final < run.initial) == ("finished", True)


def test_failed_runs_have_their_steps():
    def breaks(fun, x0, callback=None, **options):
        for _ in range(3):
            x0 = x0 * 0.9
            fun(x0)
            callback(scipy.optimize.OptimizeResult(x=x0, fun=fun(x0)))
        raise ArithmeticError("no more")

    run = run_solver(Solver("breaks", breaks), BOWL, 0, budget=Budget(100))
    assert (run.status, run.steps) == ("failed", 3)


def test_looking_is_no_evaluation_of_the_solver():
    run = run_solver(SOLVERS["sgd"], NET, 0, budget=Budget(6), mode="learning")
    assert run.evaluations == {}


@pytest.mark.parametrize("of", [*DERIVATIVE_FREE, "Nelder-Mead"])
def test_methods_without_gradients_pay_for_values(of):
    run = run_solver(Solver("free", of), NET, 0, budget=Budget(30))
    assert set(run.evaluations) == {"fun"}


def rule_like(name, factor):
    """A class of a name that others have, too."""

    class Rule(NamedTuple):
        learning_rate: float = 0.01

        def step(self, w, g, state, scalars, t, learning_rate):
            for i in range(w.size):
                w[i] -= factor * learning_rate * g[i]

    Rule.__qualname__ = name
    return Rule()


def test_each_class_of_rules_is_compiled_off_the_clock():
    runs = [
        run_solver(Solver("m", rule_like("Mine", factor)), NET, 0, budget=Budget(3))
        for factor in (1.0, 1.5)
    ]
    assert all(run.compile_seconds > 10 * run.seconds[-1] for run in runs)


def step_down(fun, x0, jac=None, callback=None, rate=0.1, **options):
    for _ in range(50):
        x0 = x0 - rate * jac(x0)
        callback(scipy.optimize.OptimizeResult(x=x0, fun=fun(x0)))
    return scipy.optimize.OptimizeResult(x=x0, fun=fun(x0), message="done")


DIFFERENT = {
    "batches": (Solver("x", SGD(0.1)), Solver("x", SGD(0.1), full_batch=True)),
    "space": (
        Solver("x", SGD(0.1), space={"learning_rate": (1e-3, 1e-2)}),
        Solver("x", SGD(0.1), space={"learning_rate": (1e-2, 1e-1)}),
    ),
    "partial": tuple(
        Solver("x", functools.partial(step_down, rate=rate)) for rate in (0.1, 0.2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT)
def test_resume_takes_no_runs_of_a_solver_that_is_set_otherwise(what, tmp_path):
    one, other = DIFFERENT[what]
    begun = quickly(one, NET, seeds=1)
    begun.to_json(tmp_path / "begun.json")
    begun = Comparison.from_json(tmp_path / "begun.json")
    assert quickly(one, NET, seeds=1, resume=begun).runs == begun.runs
    with pytest.raises(ValueError, match="resume has another solver 'x'"):
        quickly(other, NET, seeds=1, resume=begun)


def test_resume_takes_no_runs_of_a_network_that_is_set_otherwise():
    """Though it begins at the same objective."""
    dropped = clone(REGRESSION).set_params(dropout=0.5)
    begun = quickly("sgd", (REGRESSION, *samples()), seeds=1)
    with pytest.raises(ValueError, match="resume has another problem 'MLPRegressor'"):
        quickly("sgd", (dropped, *samples()), seeds=1, resume=begun)


def falling(step):
    return 1 / (1 + step)


@pytest.mark.parametrize(
    "change", [{"random_state": 5}, {"max_iter": 7}, {"solver": "sgd"}, {"verbose": True}]
)
def test_resume_does_not_mind_what_the_comparison_sets_itself(change):
    network = clone(REGRESSION).set_params(schedule=falling)
    begun = quickly("sgd", (network, *samples()), seeds=1)
    changed = clone(network).set_params(**change)
    assert quickly("sgd", (changed, *samples()), seeds=1, resume=begun).runs == begun.runs


def test_descriptions_are_the_same_in_every_process():
    network = clone(REGRESSION).set_params(schedule=falling, loss=LogCosh())
    given = functools.partial(step_down, rate=falling)
    for text in (description(given), as_problems((network, *samples()))[0].description):
        assert "falling" in text
        assert " at 0x" not in text


def test_files_without_descriptions_are_read_and_resumed(tmp_path):
    begun = quickly(functools.partial(step_down, rate=0.1), NET, seeds=1)
    begun.to_json(tmp_path / "c.json")
    record = json.loads((tmp_path / "c.json").read_text())
    del record["descriptions"]
    record["format"] = 1
    (declared,) = record["declared"].values()
    declared["method"] = "functools.partial"
    (tmp_path / "old.json").write_text(json.dumps(record))
    old = Comparison.from_json(tmp_path / "old.json")
    both = quickly(functools.partial(step_down, rate=0.1), NET, seeds=2, resume=old)
    assert len(both.runs) == 2


def test_curves_are_drawn_within_the_budget():
    result = quickly(["adam", "newton"], PROBLEMS["iris-tanh"], seeds=1, budget=50)
    assert max(run.passes[-1] for run in result.runs) > 50
    assert result.grid("iris-tanh", "passes")[-1] <= 50 * (1 + 1e-12)


def test_a_function_of_chance_is_refused_at_its_first_run():
    rng = np.random.default_rng(0)
    made = []

    def fun(x):
        return float(x @ x + rng.normal())

    def tell(what, n_done, n_total):
        made.append((what, n_done))

    with pytest.raises(ValueError, match="the same point must have the same value"):
        quickly("adam", (fun, lambda x: 2 * x, [1.0, 2.0]), seeds=3, progress=tell)
    assert ("runs", 1) not in made


@pytest.mark.parametrize("x0", [1.0, [[1.0, 2.0]], []])
def test_functions_begin_at_a_vector(x0):
    with pytest.raises(ValueError, match="must begin at a vector, but x0 has the shape"):
        quickly("adam", (lambda x: float((x * x).sum()), lambda x: 2 * x, x0))


def test_classes_in_a_column_are_split_by_class():
    X, y = samples()[0], np.array([0] * 46 + [1] * 46 + [2] * 8)
    flat, column = (quickly("adam", (CLASSIFIER, X, t)).runs for t in (y, y[:, np.newaxis]))
    assert [run.objective for run in flat] == [run.objective for run in column]


def test_a_constant_target_is_scaled_without_a_division_by_0():
    problem = NetworkProblem("flat", REGRESSION, lambda: (samples()[0], np.full(100, 0.1)))
    assert all(np.isfinite(run.final) for run in quickly("adam", problem).runs)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Solver("x", SGD(0.1), space={"speed": (1, 2)}), "'speed', which must be a field"),
        (Solver("x", SGD(0.1), space={"learning_rate": (0.0, 1.0)}), "must have 0 < low < high"),
        (Solver("x", "lbfgs", space={"tol": (1, 2)}), "fields are none"),
    ],
)
def test_spaces_are_checked_before_anything_runs(solver, message):
    with pytest.raises(ValueError, match=message):
        quickly(solver, NET, track="tuned")


def test_names_with_bars_keep_their_pairs():
    solvers = [Solver(name, SGD(0.1)) for name in ("a", "b|c", "a|b", "c")]
    text = page(quickly(solvers, BOWL))
    assert all(f'"{i}|{k}":' in text for i, k in itertools.combinations(range(4), 2))


def test_ties_are_named():
    result = quickly([Solver("one", SGD(0.5)), Solver("other", SGD(0.5))], BOWL, budget=100)
    assert any("one (as other) has the largest area" in line for line in result.summary())


@pytest.mark.parametrize("write", ["to_json", "to_html"])
def test_a_file_of_before_stays_if_writing_fails(write, tmp_path, comparison, monkeypatch):
    path = tmp_path / "kept"
    path.write_text("of before")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        getattr(comparison, write)(path)
    assert path.read_text() == "of before"
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]


def fail(*_):
    raise OSError("no space")

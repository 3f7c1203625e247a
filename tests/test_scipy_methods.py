"""Update rules as methods of ``scipy.optimize.minimize``: PyTorch's paths, and SciPy's interface.

The minima and paths are those of ``objectives.py``; what SciPy asks of a method, and what its own
methods do with odd input, is tested on one easy bowl with every rule.
"""

import copy
import inspect
import itertools
import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import (
    Bounds,
    LinearConstraint,
    OptimizeResult,
    OptimizeWarning,
    basinhopping,
    minimize,
)
from sklearn.base import clone

import naive
from fastgd import MLPClassifier, optimizers
from fastgd.optimizers import ASGD, OPTIMIZERS, SGD, Adam, Lion, update_rule
from objectives import OBJECTIVES

RECORDED = np.load(Path(__file__).parent / "recorded" / "trajectories.npz")
CASES = json.loads(str(RECORDED["cases"]))
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}

# Fields of each rule, and the learning rates with which it comes to rest at each minimum.
# (AdamW and ASGD draw towards zero by default, which is no minimum.)
AT_MINIMA = {
    "sgd": ({"momentum": 0.9}, (3e-3, 1e-2, 1e-2, 3e-2, 3e-4)),
    "adagrad": ({}, (0.5, 1.0, 1.0, 1.0, 2.0)),
    "adadelta": ({"epsilon": 0.01}, (2e-3, 2e-2, 0.1, 1e-2, 0.1)),
    "rmsprop": ({"momentum": 0.9}, (1e-4, 1e-3, 1e-3, 1e-3, 3e-3)),
    "adam": ({}, (0.3, 0.3, 0.3, 0.3, 0.3)),
    "adamw": ({"weight_decay": 1e-5}, (0.3, 0.3, 0.3, 0.3, 0.3)),
    "adamax": ({}, (0.3, 0.3, 0.3, 0.3, 0.3)),
    "nadam": ({}, (3e-3, 0.1, 0.3, 3e-2, 0.1)),
    "radam": ({}, (1e-3, 3e-2, 3e-2, 3e-2, 2e-4)),
    "rprop": ({}, (1e-2, 1e-2, 1e-2, 1e-2, 1e-2)),
    "asgd": ({"decay": 1e-6}, (1.5e-3, 1e-2, 1e-2, 1e-2, 1.9e-4)),
    "lion": ({}, (1e-3, 1e-3, 1e-3, 1e-3, 1e-3)),
}
WITH_MINIMUM = [name for name, objective in OBJECTIVES.items() if objective.minimum]

BOWL = OBJECTIVES["quadratic_1e2"]
RULES = [cls(learning_rate=0.01) for cls in OPTIMIZERS.values()]
every_rule = pytest.mark.parametrize("rule", RULES, ids=OPTIMIZERS)
# What the methods share is independent of the rule.
RULE = Adam(learning_rate=0.01)


def descend(objective, rule, maxiter=20, tol=0.0, **arguments):
    """The result, and the points and values that the callback was told."""
    path, values = [], []

    def told(intermediate_result):
        path.append(intermediate_result.x)
        values.append(intermediate_result.fun)

    result = minimize(
        objective.fun, objective.x0, method=rule, tol=tol, callback=told,
        options={"maxiter": maxiter}, **({"jac": objective.jac} | arguments),
    )  # fmt: skip
    return result, np.array(path), np.array(values)


def bowl(rule=RULE, **arguments):
    return descend(BOWL, rule, **arguments)[0]


def assert_same(a, b):
    """Two results agree to the last bit."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class Counted:
    """A function that counts its calls."""

    def __init__(self, fun):
        self.fun, self.n_calls = fun, 0

    def __call__(self, *arguments):
        self.n_calls += 1
        return self.fun(*arguments)


def scripted(values):
    """A function that returns one value after the other, wherever it is called."""
    values = iter(values)
    return lambda x: next(values)


# The steps and where they lead.


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['rule']}{c['fields']}{c['objective']}")
def test_pytorch_over_20_closed_steps(case):
    rule = getattr(optimizers, case["rule"])(**case["fields"])
    result, path, _ = descend(OBJECTIVES[case["objective"]], rule)
    np.testing.assert_allclose(path, RECORDED[case["key"]], **ROUNDING)
    average = RECORDED.get(case["key"] + "_average", path[-1])
    np.testing.assert_allclose(result.x, average, **ROUNDING)


def test_every_rule_of_pytorch_is_recorded():
    names = {cls.__name__ for cls in OPTIMIZERS.values()} - {"Lion"}
    assert {(case["rule"], case["objective"]) for case in CASES} == set(
        itertools.product(names, OBJECTIVES)
    )


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_formula_of_the_paper_over_20_closed_steps(name, objective):
    rule = OPTIMIZERS[name](learning_rate=1e-4)
    formula = naive.OPTIMIZERS[name](np.array(objective.x0), **rule._asdict())
    expected = [next(formula)]
    for _ in range(20):
        expected.append(formula.send(objective.jac(expected[-1])))
    _, path, _ = descend(objective, rule)
    np.testing.assert_allclose(path, expected[1:], **ROUNDING)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("at", range(len(WITH_MINIMUM)), ids=WITH_MINIMUM)
def test_known_minimum(name, at):
    objective = OBJECTIVES[WITH_MINIMUM[at]]
    fields, learning_rates = AT_MINIMA[name]
    rule = OPTIMIZERS[name](learning_rate=learning_rates[at], **fields)
    result = minimize(
        objective.fun, objective.x0, jac=objective.jac, method=rule, tol=1e-3,
        options={"maxiter": 30_000},
    )  # fmt: skip
    np.testing.assert_allclose(result.x, objective.minimum, atol=0.01, rtol=0)


@every_rule
def test_no_rule_rests_on_a_saddle(rule):
    saddle = OBJECTIVES["saddle"]
    result, path, _ = descend(saddle, rule, maxiter=100)
    assert result.fun < saddle.fun(saddle.x0)
    assert (np.diff(np.abs(path[:, 1])) > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 4), st.floats(0.01, 0.99))
def test_plain_descent_never_climbs_a_convex_quadratic(data, n, share):
    """With a learning rate below one over the largest curvature."""
    whole = st.lists(st.integers(-4, 4), min_size=n, max_size=n).map(np.array)
    B = np.array([data.draw(whole) for _ in range(n)])
    x0, minimum = data.draw(whole), data.draw(whole)
    steepest = max(np.linalg.eigvalsh(B.T @ B)[-1], 1.0)
    values = []
    minimize(
        lambda x: ((B @ (x - minimum)) ** 2).sum() / 2, x0, jac=lambda x: B.T @ B @ (x - minimum),
        method=SGD(learning_rate=share / steepest), options={"maxiter": 50},
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
    )  # fmt: skip
    assert all(after <= before + 1e-12 * values[0] for before, after in itertools.pairwise(values))


@every_rule
def test_copies_of_a_problem_side_by_side(rule):
    """A vector of many chunks."""
    n = 20_000

    def fun(x):
        return sum(BOWL.fun(x.reshape(n, 2).T))

    def jac(x):
        return BOWL.jac(x.reshape(n, 2).T).T.ravel()

    together = minimize(
        fun, np.tile(BOWL.x0, n), jac=jac, method=rule, tol=0, options={"maxiter": 5}
    )
    alone = bowl(rule, maxiter=5)
    np.testing.assert_allclose(together.x.reshape(n, 2), np.tile(alone.x, (n, 1)), **ROUNDING)


@every_rule
def test_a_rule_remembers_nothing_of_earlier_runs(rule):
    first = bowl(rule)
    descend(OBJECTIVES["beale"], rule)
    assert_same(bowl(rule), first)


@every_rule
def test_runs_inside_of_runs_and_beside_each_other(rule):
    alone = bowl(rule)

    def fun(x):
        assert_same(bowl(rule), alone)
        return BOWL.fun(x)

    assert_same(descend(BOWL._replace(fun=fun), rule)[0], alone)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: bowl(rule), range(8)):
            assert_same(result, alone)


# Functions and gradients.


@every_rule
def test_three_forms_of_a_gradient(rule):
    by_hand = bowl(rule)
    both = BOWL._replace(fun=lambda x: (BOWL.fun(x), BOWL.jac(x)))
    assert_same(descend(both, rule, jac=True)[0], by_hand)
    differences = bowl(rule, jac=None)
    # The differences are off by half the curvature times their step of 1.5e-8.
    np.testing.assert_allclose(differences.x, by_hand.x, rtol=1e-6, atol=1e-6)
    for unused in (False, "2-point"):
        assert_same(bowl(rule, jac=unused), differences)


@pytest.mark.parametrize("x0", [0.0, 1e-3, 1.0, -1e6, 1e9, -1e12])
def test_differences_are_those_of_scipy(x0):
    def fun(x):
        return ((x - 3 * x0 - 1) ** 2).sum()

    ours, theirs = (
        minimize(fun, [x0, 2.0], method=method, options={"maxiter": 0}) for method in (RULE, "BFGS")
    )
    np.testing.assert_array_equal(ours.jac, theirs.jac)


@every_rule
@pytest.mark.parametrize("jac", [lambda p, a, b: 2 * a * (p - b), None], ids=["jac", "differences"])
def test_arguments_are_passed_on(rule, jac):
    a, b = 3.0, np.array([1.0, 2.0])

    def fun(p, a, b):
        return (a * (p - b) ** 2).sum()

    options = {"method": rule, "options": {"maxiter": 20}}
    given = minimize(fun, [0.0, 0.0], args=(a, b), jac=jac, **options)
    bound = minimize(
        lambda p: fun(p, a, b), [0.0, 0.0], jac=jac and (lambda p: jac(p, a, b)), **options
    )
    assert_same(given, bound)


@pytest.mark.parametrize("single", [2.0, [1.0, 2.0], np.array([1.0, 2.0]), None, "a"])
def test_a_single_argument_that_is_no_tuple(single):
    seen = []

    def fun(p, argument):
        seen.append(argument)
        return (p**2).sum()

    def jac(p, argument):
        seen.append(argument)
        return 2 * p

    minimize(fun, [1.0], args=single, jac=jac, method=RULE, options={"maxiter": 2})
    assert len(seen) == 6
    assert all(argument is single for argument in seen)


@pytest.mark.parametrize(
    "form",
    [list, tuple, np.float32, lambda g: g[::-1].copy()[::-1], lambda g: g[np.newaxis], np.matrix],
    ids=["list", "tuple", "float32", "backwards", "row", "matrix"],
)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_gradients_of_any_form(form):
    def rounded(x):
        return BOWL.jac(x).astype(np.float32).astype(float)

    assert_same(bowl(jac=lambda x: form(rounded(x))), bowl(jac=rounded))


@pytest.mark.parametrize("jac", [BOWL.jac, None], ids=["jac", "differences"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_value_in_an_array(shape, jac):
    boxed = BOWL._replace(fun=lambda x: np.full(shape, BOWL.fun(x)))
    result = descend(boxed, RULE, jac=jac)[0]
    assert_same(result, bowl(jac=jac))
    assert isinstance(result.fun, float)


@pytest.mark.parametrize("jac", [BOWL.jac, None], ids=["jac", "differences"])
@pytest.mark.parametrize("wrong", [np.zeros(2), np.zeros((1, 2)), [1.0, 2.0], []])
def test_objective_that_is_no_number(wrong, jac):
    with pytest.raises(ValueError, match="objective must return a number"):
        descend(BOWL._replace(fun=lambda x: wrong), RULE, jac=jac)


@pytest.mark.parametrize("wrong", [0.0, [], np.zeros(1), np.zeros(3), np.eye(2)])
def test_gradient_of_the_wrong_shape(wrong):
    with pytest.raises(ValueError, match="gradient must have 2 elements"):
        bowl(jac=lambda x: wrong)
    with pytest.raises(ValueError, match="gradient must have 2 elements"):
        minimize(lambda x: (BOWL.fun(x), wrong), BOWL.x0, jac=True, method=RULE)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        *itertools.product(("fun", "jac", "callback"), (ZeroDivisionError, KeyboardInterrupt)),
        ("fun", StopIteration),
        ("jac", StopIteration),
    ],
)
def test_errors_of_a_user_come_through(broken, error):
    user = {"fun": BOWL.fun, "jac": BOWL.jac, "callback": id}
    calls = itertools.count(1)

    def fails(x):
        if next(calls) == 3:
            raise error("mine")
        return user[broken](x)

    with pytest.raises(error, match="mine"):
        minimize(x0=BOWL.x0, method=RULE, **(user | {broken: fails}))


@pytest.mark.parametrize("value", [None, "much", 1j])
def test_value_that_is_no_number(value):
    with pytest.raises((TypeError, ValueError)):
        descend(BOWL._replace(fun=lambda x: value), RULE)


# What is handed over is a copy, and what is handed in is left as it was.


@every_rule
def test_nobody_changes_the_point_from_outside(rule):
    def spoils(fun):
        def spoiled(x):
            result = fun(x)
            x[:] = np.nan
            return result

        return spoiled

    spoiled = {"fun": spoils(BOWL.fun), "jac": spoils(BOWL.jac), "callback": spoils(id)}
    options = {"x0": BOWL.x0, "method": rule, "tol": 0, "options": {"maxiter": 20}}
    assert_same(minimize(**spoiled, **options), bowl(rule))

    def spoils_result(intermediate_result):
        intermediate_result.x[:] = intermediate_result.fun = np.nan

    assert_same(minimize(**(spoiled | {"callback": spoils_result}), **options), bowl(rule))
    both = spoils(lambda x: (BOWL.fun(x), BOWL.jac(x)))
    assert_same(minimize(both, jac=True, **options), bowl(rule))


@every_rule
def test_a_gradient_that_is_written_into_one_array(rule):
    buffer = np.empty(2)

    def jac(x):
        buffer[:] = BOWL.jac(x)
        return buffer

    result = bowl(rule, jac=jac)
    expected = bowl(rule)
    buffer[:] = np.nan
    assert_same(result, expected)


@pytest.mark.parametrize(
    "x0",
    [
        np.array([3.0, 1.0]),
        np.array([3, 1]),
        np.array([3, 1], np.int8),
        np.array([3, 1], np.float32),
        np.array([3, 1], ">f8"),
        np.array([3.0, 0.0, 1.0])[::2],
        [3, 1],
        (3.0, 1.0),
    ],
    ids=lambda x0: str(getattr(x0, "dtype", type(x0).__name__)),
)
def test_first_point_of_any_form(x0):
    before = copy.deepcopy(x0)
    if isinstance(x0, np.ndarray):
        x0.flags.writeable = False
    result, path, _ = descend(BOWL._replace(x0=x0), RULE)
    assert_same(result, bowl())
    assert path.dtype == result.x.dtype == result.jac.dtype == np.float64
    np.testing.assert_array_equal(x0, before)


@pytest.mark.parametrize("maxiter", [0, 3])
def test_result_is_nobody_elses_array(maxiter):
    x0 = np.array(BOWL.x0)
    result, path, _ = descend(BOWL._replace(x0=x0), RULE, maxiter=maxiter)
    assert not any(np.shares_memory(result.x, other) for other in (x0, path, result.jac))


@every_rule
@pytest.mark.parametrize("x0", [2.0, 2, np.float32(2), np.array(2.0), [2.0]])
def test_first_point_of_one_number(rule, x0):
    shapes = set()

    def fun(x):
        shapes.add(x.shape)
        return (x**2).sum()

    result = minimize(fun, x0, jac=lambda x: 2 * x, method=rule, options={"maxiter": 5})
    assert shapes == {(1,)}
    assert result.x.shape == result.jac.shape == (1,)
    assert result.x[0] < 2


@pytest.mark.parametrize(
    ("x0", "message"), [([], "at least one element"), (np.zeros((2, 2)), "one dimension")]
)
def test_first_point_of_no_use(x0, message):
    with pytest.raises(ValueError, match=message):
        minimize(BOWL.fun, x0, jac=BOWL.jac, method=RULE)


# What a rule cannot do.


@every_rule
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bounds", [(0, 1), (0, 1)]),
        ("bounds", Bounds(0, 1)),
        ("constraints", {"type": "eq", "fun": sum}),
        ("constraints", [{"type": "ineq", "fun": sum}]),
        ("constraints", LinearConstraint(np.eye(2), 0, 1)),
    ],
)
def test_limits_are_refused(rule, kind, value):
    with pytest.raises(ValueError, match=rf"{type(rule).__name__} cannot handle {kind}"):
        bowl(rule, **{kind: value})


@pytest.mark.parametrize("nothing", [(), [], None])
def test_no_constraints(nothing):
    assert_same(bowl(constraints=nothing), bowl())


@every_rule
@pytest.mark.parametrize(
    ("arguments", "category", "message"),
    [
        ({"hess": lambda x: np.eye(2)}, RuntimeWarning, r"second derivatives \(hess\)"),
        ({"hessp": lambda x, p: p}, RuntimeWarning, r"second derivatives \(hessp\)"),
        ({"options": {"gtol": 1, "eps": 2}}, OptimizeWarning, "Unknown solver options: gtol, eps"),
    ],
)
def test_what_is_of_no_use_is_named_where_it_was_said(rule, arguments, category, message):
    with pytest.warns(category, match=message) as caught:
        minimize(BOWL.fun, BOWL.x0, jac=BOWL.jac, method=rule, **arguments)
    assert [warning.filename for warning in caught] == [__file__]


def test_bad_hyper_parameter_is_named():
    with pytest.raises(ValueError, match="learning_rate must be a number"):
        bowl(Adam(learning_rate=-1.0))
    with pytest.raises(TypeError, match="NamedTuple with a field learning_rate"):
        bowl(partial(optimizers.minimize_by_rule, (1, 2)))


# What a callback hears.


@every_rule
def test_callback_is_called_once_a_step(rule):
    points, results = [], []

    def takes_result(*, intermediate_result):
        results.append(intermediate_result)

    for callback in (points.append, takes_result):
        minimize(
            BOWL.fun, BOWL.x0, jac=BOWL.jac, method=rule, callback=callback, tol=0,
            options={"maxiter": 7},
        )  # fmt: skip
    assert len(results) == len({id(result.x) for result in results}) == 7
    np.testing.assert_array_equal(points, [result.x for result in results])
    assert all(isinstance(result, OptimizeResult) for result in results)
    assert [result.fun for result in results] == [BOWL.fun(x) for x in points]


@every_rule
@pytest.mark.parametrize("name", ["xk", "intermediate_result"])
def test_callback_that_stops(rule, name):
    calls = itertools.count(1)

    def stops(**what):
        if next(calls) == 4:
            raise StopIteration

    callback = {
        "xk": lambda xk: stops(xk=xk),
        "intermediate_result": lambda intermediate_result: stops(),
    }[name]
    result = minimize(BOWL.fun, BOWL.x0, jac=BOWL.jac, method=rule, callback=callback, tol=0)
    assert (result.status, result.success, result.nit) == (99, False, 4)
    assert "StopIteration" in result.message
    np.testing.assert_array_equal(result.x, bowl(rule, maxiter=4).x)


# What the result says.

# Arguments, and the status in the end.
ENDS = {
    "converged": ({"tol": 1e3}, 0),
    "after some steps": ({"tol": 14.7, "maxiter": 500}, 0),
    "out of steps": ({"maxiter": 3}, 1),
    "no steps": ({"maxiter": 0}, 1),
    "no steps needed": ({"maxiter": 0, "tol": 1e3}, 0),
}


@every_rule
@pytest.mark.parametrize("jac", [BOWL.jac, None], ids=["jac", "differences"])
@pytest.mark.parametrize(("arguments", "status"), ENDS.values(), ids=ENDS)
def test_result_says_what_happened(rule, arguments, status, jac):
    tol = arguments.get("tol", 0)
    objective = BOWL._replace(fun=Counted(BOWL.fun), jac=jac and Counted(jac))
    result, path, _ = descend(objective, rule, **arguments, jac=objective.jac)
    assert isinstance(result, OptimizeResult)
    assert result.status == status
    assert result.success is (status == 0)
    assert isinstance(result.message, str)
    assert result.nit == len(path) <= arguments.get("maxiter", 20)
    assert result.nfev == objective.fun.n_calls
    assert result.fun == BOWL.fun(result.x)
    if jac:
        assert result.njev == objective.jac.n_calls
        assert result.nfev == result.njev == result.nit + 1
        np.testing.assert_array_equal(result.jac, BOWL.jac(result.x))
    else:
        assert result.nfev == 3 * result.njev
        np.testing.assert_allclose(result.jac, BOWL.jac(result.x), atol=1e-5)
    if result.success:
        assert np.abs(result.jac).max() <= tol


@pytest.mark.parametrize("end", ["converged", "out of steps", "no steps"])
def test_statuses_and_messages_are_those_of_scipy(end):
    ours, theirs = (bowl(method, **ENDS[end][0]) for method in (RULE, "BFGS"))
    for name in ("status", "success", "message", "nit"):
        assert ours[name] == theirs[name]


@every_rule
def test_tolerance_stops_at_the_first_point_that_satisfies_it(rule):
    tol = ENDS["after some steps"][0]["tol"]
    result, path, _ = descend(BOWL, rule, tol=tol, maxiter=500)
    steep = [np.abs(BOWL.jac(x)).max() > tol for x in (BOWL.x0, *path)]
    assert steep == [True] * result.nit + [False]
    assert result.success
    again = minimize(BOWL.fun, BOWL.x0, jac=BOWL.jac, method=rule, options={"tol": tol})
    assert_same(again, result)


@every_rule
def test_no_learning_no_motion(rule):
    still = rule._replace(learning_rate=0.0)
    if "step_size_min" in rule._fields:
        still = still._replace(step_size_min=0.0)
    result = bowl(still)
    np.testing.assert_array_equal(result.x, BOWL.x0)
    assert (result.status, result.nit, result.nfev, result.njev) == (1, 20, 1, 1)


def test_steps_must_be_a_number_that_is_reached():
    with pytest.raises(ValueError, match="maxiter must not be negative, got -1"):
        bowl(maxiter=-1)
    assert bowl(maxiter=np.int64(5)).nit == bowl(maxiter=5.0).nit == 5


@pytest.mark.parametrize("method", ["BFGS", RULE])
def test_steps_end_at_a_fraction_as_well(method):
    """At the next whole number, as in SciPy's own methods."""
    calls = itertools.count()

    def callback(x):
        assert next(calls) < 10, "never ends"

    options = {"maxiter": 2.5}
    result = minimize(
        BOWL.fun, BOWL.x0, jac=BOWL.jac, method=method, tol=0, callback=callback, options=options
    )
    assert result.nit == 3


def test_default_tolerance_and_number_of_steps():
    options = {"fun": BOWL.fun, "x0": BOWL.x0, "jac": BOWL.jac}
    near = minimize(**options, method=SGD(learning_rate=0.015))
    assert near.success
    assert 1e-6 < np.abs(near.jac).max() <= 1e-5
    far = minimize(**options, method=SGD(learning_rate=1e-9))
    assert (far.nit, far.status) == (1000, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"maxiter": 2}, "Maximum number of iterations has been exceeded."),
        ({"tol": 1e3}, "Optimization terminated successfully."),
    ],
)
@pytest.mark.parametrize("disp", [True, False])
def test_display(arguments, told, disp, capsys):
    options = {"maxiter": arguments.get("maxiter", 20), "disp": disp}
    minimize(
        BOWL.fun, BOWL.x0, jac=BOWL.jac, method=RULE, tol=arguments.get("tol"), options=options
    )
    out, err = capsys.readouterr()
    assert err == ""
    assert (told in out, "Adam" in out) == (disp, disp)


# Where the function ends.


@every_rule
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_point_where_nothing_is_defined(rule, value):
    for bad in ({"fun": lambda x: value}, {"jac": lambda x: np.array([1.0, value])}):
        with pytest.raises(ValueError, match="not finite at x0"):
            descend(BOWL._replace(**bad), rule)
    with pytest.raises(ValueError, match="not finite at x0"), np.errstate(invalid="ignore"):
        descend(BOWL._replace(x0=(value, 1.0)), rule)


@every_rule
@pytest.mark.parametrize("end", [np.nan, np.inf, -np.inf])
def test_function_that_ends_halfway(rule, end):
    """Its best value is that after the first of four steps."""
    values = [5.0, 1.0, 3.0, 2.0, end]
    where = []

    def run(**broken):
        objective = BOWL._replace(fun=scripted(values[:-1] + [0.0]), jac=lambda x: np.ones(2))
        with pytest.warns(
            RuntimeWarning, match=f"{type(rule).__name__} .* after 4 steps"
        ) as caught:
            result, path, told = descend(objective._replace(**broken), rule)
        where.extend(warning.filename for warning in caught)
        assert (result.status, result.success, result.nit) == (3, False, 4)
        assert told.tolist() == values[1:-1]
        assert result.fun == 1.0
        np.testing.assert_array_equal(result.x, path[0])
        np.testing.assert_array_equal(result.jac, [1.0, 1.0])
        return result

    by_value = run(fun=scripted(values))
    by_gradient = run(jac=scripted([(1.0, 1.0)] * 4 + [(1.0, end)]))
    assert_same(by_value, by_gradient)
    assert by_value.message == "NaN result encountered."
    assert where == [__file__] * 2


def test_function_that_ends_after_the_first_point():
    with pytest.warns(RuntimeWarning, match="after 1 steps"):
        result, path, _ = descend(BOWL._replace(fun=scripted([2.0, np.nan])), RULE)
    np.testing.assert_array_equal(result.x, BOWL.x0)
    assert (result.fun, len(path)) == (2.0, 0)


@every_rule
@pytest.mark.parametrize("learning_rate", [1e10, 1e150, 1e300])
def test_huge_learning_rate(rule, learning_rate):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        result = bowl(rule._replace(learning_rate=learning_rate), maxiter=200)
    assert np.isfinite([*result.x, *result.jac, result.fun]).all()
    assert result.fun == BOWL.fun(result.x)
    assert result.status in (1, 3)
    if result.status == 3:
        assert result.fun <= BOWL.fun(BOWL.x0)


@pytest.mark.parametrize(
    ("rule", "jac"),
    [
        # A step to infinity, where the function has levelled off.
        (SGD(learning_rate=1e308), lambda x: np.array([-10.0, 0.0]) / np.cosh(min(x[0], 99.0))),
        # Zero by zero in a coordinate that the function does not look at.
        (Adam(learning_rate=0.1, epsilon=0.0), lambda x: np.array([-1.0, 0.0])),
    ],
    ids=["infinite", "nan"],
)
@pytest.mark.filterwarnings("ignore:.*not finite:RuntimeWarning")
def test_a_point_that_is_not_finite_is_never_returned(rule, jac):
    """Though the function is finite there."""
    result = minimize(
        lambda x: -10 * np.tanh(x[0]), [0.0, 0.0], jac=jac, method=rule, options={"maxiter": 5}
    )
    assert np.isfinite(result.x).all()


# Rules of a user, and rules as the records that they are.


class Halving(NamedTuple):
    """Steps of half the length each time, by the sign of the sum of gradients."""

    learning_rate: float = 1.0
    factor: float = 0.5
    state = ("total",)
    scalars = ("length",)

    def step(self, w, g, state, scalars, t, learning_rate):
        total = state[0]
        scalars[0] = learning_rate if t == 1 else scalars[0] * self.factor
        for i in range(w.size):
            total[i] += g[i]
            w[i] -= scalars[0] * np.sign(total[i])


@update_rule(state=("total",), scalars=("length",))
class DecoratedHalving(NamedTuple):
    learning_rate: float = 1.0
    factor: float = 0.5
    step = Halving.step


@update_rule(state=("mean",), solution="mean")
class Averaged(NamedTuple):
    """Plain descent that recommends the mean of its points."""

    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            w[i] -= learning_rate * g[i]
            state[0, i] += (w[i] - state[0, i]) / t


@pytest.mark.parametrize(
    "method", [DecoratedHalving(), partial(optimizers.minimize_by_rule, Halving())]
)
def test_rule_of_a_user(method):
    ones = BOWL._replace(fun=lambda x: x.sum(), jac=np.ones_like)
    _, path, _ = descend(ones, method, maxiter=10)
    expected = np.array(BOWL.x0) - np.cumsum(0.5 ** np.arange(10))[:, np.newaxis]
    np.testing.assert_allclose(path, expected, **ROUNDING)
    with pytest.raises(ValueError, match="Halving cannot handle bounds"):
        bowl(method, bounds=[(0, 1)] * 2)


def test_decorated_rule_of_a_user_is_a_record():
    rule = DecoratedHalving(factor=0.25)
    assert rule == pickle.loads(pickle.dumps(rule)) == copy.deepcopy(rule)
    assert rule != Halving(factor=0.25)
    assert len({rule, DecoratedHalving(factor=0.25), DecoratedHalving()}) == 2


# (PyTorch's average begins with the second point after average_start.)
averages = pytest.mark.parametrize(
    "rule", [Averaged(0.01), ASGD(0.01, decay=0.0, average_start=-1.0)], ids=["user", "ASGD"]
)


@averages
@pytest.mark.parametrize("arguments", [{"maxiter": 15}, {"tol": 1.0, "maxiter": 500}])
def test_average_is_returned_with_its_own_value_and_gradient(rule, arguments):
    objective = BOWL._replace(fun=Counted(BOWL.fun), jac=Counted(BOWL.jac))
    result, path, _ = descend(objective, rule, **arguments)
    np.testing.assert_allclose(result.x, path.mean(axis=0), **ROUNDING)
    assert result.fun == BOWL.fun(result.x)
    np.testing.assert_array_equal(result.jac, BOWL.jac(result.x))
    assert result.nit == len(path)
    assert result.nfev == objective.fun.n_calls
    assert result.njev == objective.jac.n_calls


@averages
def test_average_is_no_success_where_it_is_steep(rule):
    result = bowl(rule, tol=1.0, maxiter=500)
    assert result.success == (np.abs(result.jac).max() <= 1.0)


@averages
def test_average_until_a_callback_stopped(rule):
    points = []

    def stops(xk):
        points.append(xk)
        if len(points) == 4:
            raise StopIteration

    result = minimize(BOWL.fun, BOWL.x0, jac=BOWL.jac, method=rule, callback=stops, tol=0)
    assert result.status == 99
    np.testing.assert_allclose(result.x, np.mean(points, axis=0), **ROUNDING)


@every_rule
def test_rules_are_still_records(rule):
    for twin in (copy.deepcopy(rule), pickle.loads(pickle.dumps(rule)), clone(rule, safe=False)):
        assert twin == rule
        assert hash(twin) == hash(rule)
        assert_same(bowl(twin), bowl(rule))
    assert rule != rule._replace(learning_rate=0.5)
    assert rule != tuple(rule)
    assert eval(repr(rule), vars(optimizers)) == rule


@every_rule
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rules_are_still_solvers(rule, digits):
    X, y = digits
    clf = MLPClassifier((4,), solver=rule, max_iter=2, random_state=0).fit(X, y)
    assert clone(clf).solver == clf.solver == rule
    assert pickle.loads(pickle.dumps(clf)).score(X, y) == clf.score(X, y)


@every_rule
def test_a_rule_is_called_as_a_method_only(rule):
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'fun' and 'x0'"):
        rule()
    direct = rule(BOWL.fun, BOWL.x0, jac=BOWL.jac, tol=0, maxiter=20)
    assert_same(direct, bowl(rule))
    assert next(iter(inspect.signature(type(rule).__call__).parameters)) == "rule"


@pytest.mark.parametrize("rule", [Adam(learning_rate=0.3), Lion(learning_rate=0.1)])
def test_global_method_around_a_rule(rule):
    himmelblau = OBJECTIVES["himmelblau"]
    result = basinhopping(
        himmelblau.fun, himmelblau.x0, niter=2, rng=0,
        minimizer_kwargs={"method": rule, "jac": himmelblau.jac, "options": {"maxiter": 300}},
    )  # fmt: skip
    assert result.fun < 1e-6


@pytest.mark.parametrize("option", ["maxiter", "tol"])
@pytest.mark.parametrize("value", [np.nan, "a", [1, 2]])
def test_options_that_are_no_numbers(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a number"):
        minimize(BOWL.fun, BOWL.x0, jac=BOWL.jac, method=RULE, options={option: value})


def test_options_that_are_arrays_without_dimensions():
    found = minimize(
        BOWL.fun, BOWL.x0, jac=BOWL.jac, method=RULE, tol=np.array(1e-3),
        options={"maxiter": np.array(3)},
    )  # fmt: skip
    assert found.nit == 3

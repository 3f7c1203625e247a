"""Update rules: PyTorch's recorded trajectories, the papers' formulas, and how rules behave."""

import copy
import json
import pickle
import platform
import re
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import naive
from fastgd import MLPClassifier, _jit, optimizers
from fastgd._record import BOUNDS, checked
from fastgd.kernels import epoch
from fastgd.kernels.aligned import CACHE_LINE
from fastgd.kernels.epoch import Memory
from fastgd.kernels.team import together
from fastgd.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, RMSprop
from fastgd.optimizers.adam import adam_step

RECORDED = np.load(Path(__file__).parent / "recorded" / "optimizers.npz")
CASES = json.loads(str(RECORDED["cases"]))
DEFAULTS = json.loads(str(RECORDED["defaults"]))
# Two unequal values of each field, none of them the default of any rule.
UNUSUAL = {
    "learning_rate": (0.003, 0.05),
    "learning_rate_decay": (0.01, 0.2),
    "momentum": (0.5, 0.8),
    "dampening": (0.1, 0.3),
    "weight_decay": (0.02, 0.2),
    "beta_1": (0.8, 0.95),
    "beta_2": (0.98, 0.995),
    "epsilon": (1e-3, 1e-2),
    "rho": (0.8, 0.95),
    "initial_accumulator": (0.1, 0.7),
    "momentum_decay": (1e-3, 2e-2),
    "eta_minus": (0.4, 0.7),
    "eta_plus": (1.1, 1.4),
    "step_size_min": (1e-4, 1e-3),
    "step_size_max": (0.05, 1.0),
    "decay": (1e-3, 0.05),
    "power": (0.5, 0.9),
    "average_start": (0.0, 10.0),
}
# What a field needs beside it to matter.
BESIDE = {"dampening": {"momentum": 0.9}, "nesterov": {"momentum": 0.9}}
BESIDE |= {"momentum_decay": {}, "decoupled_weight_decay": {"weight_decay": 0.1}}
BESIDE |= {"rate_in_velocity": {"momentum": 0.9}, "step_size_max": {"learning_rate": 2.0}}


def unusual_cases():
    for name, cls in OPTIMIZERS.items():
        yield name, {}
        for field, default in cls._field_defaults.items():
            for value in (True,) if isinstance(default, bool) else UNUSUAL[field]:
                yield name, {**BESIDE.get(field, {}), field: value}


def run(rule, w, gradients):
    w = w.copy()
    optimizer = Optimizer(rule, w)
    iterates, solutions = [], []
    for g in gradients:
        optimizer.update(w, g.astype(w.dtype))
        iterates.append(w.copy())
        solutions.append(optimizer.solution(w).copy())
    return np.array(iterates), np.array(solutions)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}{case['fields']}")
def test_pytorch_over_1000_recorded_gradients(case):
    rule = getattr(optimizers, case["rule"])(**case["fields"])
    iterates, solutions = run(rule, RECORDED["w0"], RECORDED["gradients"])
    at = RECORDED["steps"] - 1
    np.testing.assert_allclose(iterates[at], RECORDED[case["key"]], rtol=1e-12, atol=1e-12)
    if case["rule"] == "ASGD":
        average = RECORDED[case["key"] + "_average"]
        np.testing.assert_allclose(solutions[at], average, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_pytorch(name):
    ours = getattr(optimizers, name)()._asdict()
    assert {field: ours[field] for field in DEFAULTS[name]} == DEFAULTS[name]


# Rules that divide by a root, in two stages.
ROOTED = ["adam", "adamw", "nadam", "radam", "rmsprop", "adagrad", "adadelta"]

# Elements that fill no register of any processor; and some for registers in two stages, for one
# that is left over, and single ones.
FEW, MANY = 7, 125


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "fields"), list(unusual_cases()))
def test_formula_of_the_paper(name, fields, dtype, n):
    rule = OPTIMIZERS[name](**fields)
    w = np.resize(RECORDED["w0"], n)
    gradients = np.array([np.resize(g, n) for g in RECORDED["gradients"][:50]])
    expected = naive.trajectory(name, w, gradients, rule._asdict())
    iterates, _ = run(rule, w.astype(dtype), gradients)
    assert iterates.dtype == dtype
    # 50 steps of rounding; Rprop compares signs of float32 products with those of float64.
    tolerance = 1e-11 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(iterates, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_field_matters(name):
    """A field that the step forgot would change nothing."""
    w, gradients = RECORDED["w0"], RECORDED["gradients"][:30]
    for case_name, fields in unusual_cases():
        if case_name == name and fields:
            field = list(fields)[-1]
            others = {key: value for key, value in fields.items() if key != field}
            base = run(OPTIMIZERS[name](**others), w, gradients)
            changed = run(OPTIMIZERS[name](**fields), w, gradients)
            assert any((a != b).any() for a, b in zip(base, changed, strict=True)), field


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rules_are_records(name):
    cls = OPTIMIZERS[name]
    rule = cls(learning_rate=0.25)
    assert rule == cls(learning_rate=0.25)
    assert rule != cls(learning_rate=0.5)
    assert hash(rule) == hash(cls(learning_rate=0.25))
    assert repr(rule).startswith(f"{cls.__name__}(learning_rate=0.25")
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert copy.deepcopy(rule) == rule
    assert clone(MLPClassifier(solver=rule)).solver == rule
    with pytest.raises(AttributeError):
        rule.learning_rate = 1.0


def test_rules_of_different_classes_differ_even_with_equal_values():
    assert Adam()._replace(weight_decay=0.01)[:6] == tuple(AdamW())
    assert AdamW() != Adam(weight_decay=0.01)
    assert AdamW() != tuple(AdamW())
    assert len({SGD(), SGD(), Adam()}) == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 10**400, "fast", "0.1", b"0.1", None])
def test_bad_field_is_named_with_its_value(name, bad):
    with pytest.raises(ValueError, match=rf"learning_rate must be a number in .* got {bad!r}"):
        Optimizer(OPTIMIZERS[name](learning_rate=bad), np.zeros(2))


def test_fields_that_exclude_each_other():
    with pytest.raises(ValueError, match="nesterov=True needs a momentum"):
        checked(SGD(nesterov=True))
    with pytest.raises(ValueError, match="step_size_min must not exceed"):
        checked(optimizers.Rprop(step_size_min=100.0))
    with pytest.raises(TypeError, match="NamedTuple with a field learning_rate"):
        Optimizer((1, 2), np.zeros(2))


def test_bounds_name_fields_that_exist():
    fields = {field for cls in OPTIMIZERS.values() for field in cls._fields}
    assert fields >= set(BOUNDS) - {"delta", "quantile"}


class SignDescent(NamedTuple):
    """A rule that is none of ours, written as a user would."""

    learning_rate: float = 0.01
    memory: float = 0.5
    state = ("average",)
    scalars = ("n_calls",)

    def step(self, w, g, state, scalars, t, learning_rate):
        average = state[0]
        scalars[0] += 1
        for i in range(w.size):
            average[i] = self.memory * average[i] + (1 - self.memory) * g[i]
            w[i] -= learning_rate * np.sign(average[i])


def test_rule_of_a_user_works_everywhere(digits):
    rule = SignDescent(learning_rate=0.5)
    w = np.array([1.0, -1.0])
    optimizer = Optimizer(rule, w)
    optimizer.update(w, np.array([2.0, -3.0]))
    assert w.tolist() == [0.5, -0.5]
    assert optimizer.scalars[0] == 1
    X, y = digits
    clf = MLPClassifier(
        (8,), solver=SignDescent(0.005), batch_size=16, max_iter=30, random_state=0, tol=0
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        assert clf.fit(X, y).score(X, y) > 0.9
    assert clone(clf).solver == clf.solver
    assert isinstance(pickle.loads(pickle.dumps(clf)).solver, SignDescent)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rules_go_into_a_grid(digits):
    X, y = digits
    grid = {"solver": [SGD(learning_rate=1e-6), Adam(learning_rate=0.05), AdamW(), "rmsprop"]}
    estimator = MLPClassifier((8,), max_iter=5, random_state=0)
    search = GridSearchCV(estimator, grid, cv=2).fit(X, y)
    assert search.best_params_["solver"] == Adam(learning_rate=0.05)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5),
    st.integers(1, 12),
)
def test_zero_gradient_without_decay_moves_nothing(name, w, n_steps):
    rule = OPTIMIZERS[name]()
    fields = {field: 0.0 for field in ("weight_decay", "decay") if field in rule._fields}
    w = np.array(w)
    iterates, _ = run(rule._replace(**fields), w, np.zeros((n_steps, w.size)))
    np.testing.assert_array_equal(iterates[-1], w)


def test_momentum_zero_equals_plain_descent():
    w, gradients = RECORDED["w0"], RECORDED["gradients"][:20]
    plain, _ = run(SGD(learning_rate=0.1), w, gradients)
    np.testing.assert_allclose(plain, w - 0.1 * np.cumsum(gradients, axis=0), rtol=1e-13)


N_LONG = 150  # parameters of a vector of several chunks, the last one shorter


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of 64 parameters, each of which has its own part of a rule's memory."""
    monkeypatch.setattr(optimizers.optimizer, "CHUNK_PARAMETERS", 64)


def long_vectors(n_steps=12, n=N_LONG):
    rng = np.random.default_rng(7)
    return rng.normal(size=n), rng.normal(size=(n_steps, n))


@pytest.mark.parametrize(
    ("cuts", "expected"), [([4, 7], [1, 2, 2]), ([], [1]), ([3, 5], [1, 1, 2])]
)
def test_scalars_of_parameters_that_are_cut_elsewhere(cuts, expected):
    """Those of the chunk in which one begins."""
    memories = [
        Memory(np.zeros(10), np.zeros((len(chunks) - 1, 8)), np.array(chunks), 1, 1)
        for chunks in ([0, 4, 10], [0, *cuts, 10])
    ]
    memories[0].scalars[:, 0] = 1, 2
    memories[1].take_over(memories[0])
    assert memories[1].scalars[:, 0].tolist() == expected


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "fields"), list(unusual_cases()))
def test_formula_of_the_paper_in_chunks(name, fields, dtype):
    """Also what a rule counts in its scalars, which each chunk has for itself."""
    rule = OPTIMIZERS[name](**fields)
    assert rule.elementwise
    w, gradients = long_vectors()
    assert Optimizer(rule, w).memory.chunks.tolist() == [0, 64, 128, 150]
    expected = naive.trajectory(name, w, gradients, rule._asdict())
    iterates, solutions = run(rule, w.astype(dtype), gradients)
    tolerance = 1e-11 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(iterates, expected, rtol=tolerance, atol=tolerance)
    # The same rule with one chunk: the memory may lie elsewhere, the numbers are the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers.optimizer, "CHUNK_PARAMETERS", 10**6)
        for a, b in zip(run(rule, w.astype(dtype), gradients), (iterates, solutions), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rule", [Adam(), AdamW(beta_1=0.5, beta_2=0.99)])
@pytest.mark.usefixtures("short_chunks")
def test_bias_corrections_after_thousands_of_steps(rule):
    """They are added up step by step; rounding must not show."""
    w, (g, *_) = long_vectors()
    optimizer = Optimizer(rule, w)
    for step in range(1, 3001):
        optimizer.update(w, g)
        if step in (1, 2, 10, 3000):
            expected = [1.0 - rule.beta_1**step, 1.0 - rule.beta_2**step]
            np.testing.assert_allclose(optimizer.scalars, [expected] * 3, rtol=1e-13)


def test_a_first_update_that_fails_leaves_nothing_behind(monkeypatch):
    """Ctrl-C while it compiles: the next one is corrected as a first one."""
    w, g = np.zeros(3), np.ones(3)
    optimizer = Optimizer(Adam(learning_rate=0.1), w)
    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "_ready_plans", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            optimizer.update(w, g)
    assert optimizer.n_updates == 0
    for step in range(1, 4):
        optimizer.update(w, g)
        np.testing.assert_allclose(w, -0.1 * step, rtol=1e-7)


def raise_interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.usefixtures("short_chunks")
def test_the_scalars_of_each_chunk_have_cache_lines_of_their_own():
    """Or the threads that have the chunks would take the lines from each other, each step."""
    scalars = Optimizer(Adam(), np.ones(150)).memory.scalars
    assert scalars.shape[0] == 3
    assert scalars.ctypes.data % CACHE_LINE == 0
    assert scalars.strides[0] % CACHE_LINE == 0


@pytest.mark.parametrize(
    ("n", "expected"),
    [(0, [0, 0]), (1, [0, 1]), (64, [0, 64]), (65, [0, 64, 65]), (128, [0, 64, 128])],
)
@pytest.mark.usefixtures("short_chunks")
def test_chunks_of_a_vector(n, expected):
    w = np.ones(n)
    optimizer = Optimizer(Adam(), w)
    assert optimizer.memory.chunks.tolist() == expected
    optimizer.update(w, np.ones(n))
    assert (w < 1).all()
    assert optimizer.state.shape == (len(Adam().state), n)


class Diary(NamedTuple):
    """A rule whose state tells which gradients it has seen, at which places."""

    learning_rate: float = 1.0
    elementwise = True
    state = ("sum", "last", "weighted")

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            state[0, i] += g[i]
            state[1, i] = g[i]
            state[2, i] += t * g[i]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 200), st.lists(st.integers(1, 199), max_size=6), st.sampled_from("fd"),
    st.integers(1, 4),
)  # fmt: skip
def test_state_is_one_row_for_each_name_however_it_is_cut(n, cuts, kind, n_steps):
    chunks = np.array([0, *sorted({cut for cut in cuts if cut < n}), n])
    w, gradients = np.zeros(n, kind), long_vectors(n_steps, n)[1].round().astype(kind)
    optimizer = Optimizer(Diary(), w, chunks)
    for g in gradients:
        optimizer.update(w, g)
    expected = gradients.sum(axis=0), gradients[-1], np.arange(1, n_steps + 1) @ gradients
    np.testing.assert_array_equal(optimizer.state, expected)
    assert optimizer.state.dtype == w.dtype
    # A copy that goes on, or that was pickled, remembers the same.
    for heir in (pickle.loads(pickle.dumps(optimizer)), optimizer.successor(Diary(), w, chunks)):
        np.testing.assert_array_equal(heir.state, optimizer.state)
        heir.update(w, gradients[0])
        assert heir.n_updates == n_steps + 1
    np.testing.assert_array_equal(optimizer.state, expected)  # and is a copy
    # Also where parameters are cut elsewhere, on another processor, say.
    heir = optimizer.successor(Diary(), w, np.unique([0, n // 2, n]))
    np.testing.assert_array_equal(heir.state, optimizer.state)
    assert heir.n_updates == n_steps
    assert optimizer.successor(Diary(), np.zeros(n + 1, kind), np.array([0, n + 1])) is None


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_several_threads_update_as_one(name, dtype, monkeypatch):
    w, gradients = long_vectors()
    alone = run(OPTIMIZERS[name](), w.astype(dtype), gradients)
    sizes = []

    def noted(kernel, plans, size, *arguments):
        sizes.append(size)
        return together(kernel, plans, size, *arguments)

    monkeypatch.setattr(optimizers.optimizer, "together", noted)
    # It reads gradient, parameters and state, and writes the latter two.
    moved = (3 + 2 * len(getattr(OPTIMIZERS[name](), "state", ()))) * w.astype(dtype).nbytes
    monkeypatch.setattr(optimizers.optimizer, "WORTH_THREADS", moved)
    monkeypatch.setattr("fastgd._threads._n_processors", lambda: 4)
    for n_threads in (2, 4):
        monkeypatch.setattr(optimizers.optimizer, "allowed_threads", lambda n=n_threads: n)
        team = run(OPTIMIZERS[name](), w.astype(dtype), gradients)
        assert set(sizes) == {n_threads}
        sizes.clear()
        for a, b in zip(team, alone, strict=True):
            np.testing.assert_array_equal(a, b)
    # One byte less is not worth it.
    monkeypatch.setattr(optimizers.optimizer, "WORTH_THREADS", moved + 1)
    run(OPTIMIZERS[name](), w.astype(dtype), gradients[:1])
    assert not sizes


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without the compiler there is no code")
@pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64"}, reason="looks for x86-64 instructions"
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ROOTED)
def test_roots_come_by_registers_and_the_divider_is_left_alone(name, dtype):
    @_jit.njit(entry=True)
    def update(rule, w, g, state, scalars):
        epoch.step(rule, w, g, state, scalars, 10, 0.1)

    w = np.ones(40, dtype)
    update(OPTIMIZERS[name](), w, w.copy(), np.zeros((3, w.size), dtype), np.zeros(2))
    (assembly,) = update.inspect_asm().values()
    if _jit.processor_has("avx2", "fma"):
        assert re.search(r"\bvsqrtp[sd]\b", assembly)
        assert not re.search(r"\bvdivp[sd]\b", assembly)


@pytest.mark.parametrize(
    ("name", "fields"), [case for case in unusual_cases() if case[0] in ROOTED]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_compiled_rules_are_those_of_plain_python(name, fields, dtype, monkeypatch):
    """Also where a gradient is no number, which nothing forgets, is large, or is 0."""
    rule = OPTIMIZERS[name](**fields)

    @_jit.njit(entry=True)
    def update(rule, w, g, state, scalars, t):
        epoch.step(rule, w, g, state, scalars, t, 0.01)

    g = np.resize(RECORDED["gradients"][:20].astype(dtype), (5, MANY))
    g[1, ::9], g[2, 1::9], g[3, 2::9] = np.nan, 1e18, 0
    compiled = [np.resize(RECORDED["w0"], MANY).astype(dtype), np.zeros((3, MANY), dtype)]
    plain = [array.copy() for array in compiled]
    scalars = np.zeros((2, 2))
    for t, gradient in enumerate(g, 1):
        update(rule, compiled[0], gradient, compiled[1], scalars[0], t)
    for module in (optimizers.adam, optimizers.adamw):
        monkeypatch.setattr(module, "adam_step", getattr(adam_step, "py_func", adam_step))
    with np.errstate(all="ignore"):
        for t, gradient in enumerate(g, 1):
            rule.step(plain[0], gradient, plain[1], scalars[1], t, 0.01)
    assert np.isnan(plain[0][::9]).all()
    tolerance = 100 * np.finfo(dtype).eps
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="plain Python takes any layout")
@pytest.mark.parametrize("wrong", ["strided w", "float64 gradient", "transposed state"])
def test_compiled_stages_refuse_what_they_cannot_step_through(wrong):
    @_jit.njit(entry=True)
    def update(w, g, state, scalars):
        adam_step(w, g, state, scalars, 1, 0.1, 0.9, 0.999, 1e-8, 0.0, 0.0, False, False)

    w, g, state = np.ones(9, np.float32), np.ones(9, np.float32), np.zeros((2, 9), np.float32)
    if wrong == "strided w":
        w = np.ones(18, np.float32)[::2]
    elif wrong == "float64 gradient":
        g = g.astype(np.float64)
    else:
        state = np.zeros((9, 2), np.float32).T
    with pytest.raises(numba.TypingError, match="must be C-contiguous and of one dtype"):
        update(w, g, state, np.zeros(2))


class Normalised(NamedTuple):
    """A user's rule that needs the whole gradient: every step has the same length."""

    learning_rate: float = 0.25
    scalars = ("size", "n_calls")

    def step(self, w, g, state, scalars, t, learning_rate):
        total = 0.0
        for i in range(g.size):
            total += g[i] * g[i]
        for i in range(w.size):
            w[i] -= learning_rate * g[i] / np.sqrt(total)
        scalars[0] = w.size
        scalars[1] += 1


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("chunks", [None, np.array([0, 64, N_LONG])])
def test_a_rule_that_is_not_elementwise_gets_the_whole_vector(chunks, monkeypatch):
    monkeypatch.setattr(optimizers.optimizer, "WORTH_THREADS", 1)
    monkeypatch.setattr(optimizers.optimizer, "allowed_threads", lambda: 3)
    monkeypatch.setattr("fastgd._threads._n_processors", lambda: 4)
    w, (g, *_) = long_vectors()
    before = w.copy()
    optimizer = Optimizer(Normalised(), w, chunks)
    optimizer.update(w, g)
    np.testing.assert_allclose(w, before - 0.25 * g / np.linalg.norm(g), rtol=1e-12)
    assert optimizer.scalars.tolist() == [[N_LONG, 1]]
    assert optimizer.state.shape == (0, N_LONG)


class Forgetful(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        average = state[0]  # which is not declared
        for i in range(w.size):
            average[i] += g[i]
            w[i] -= learning_rate * average[i]


class Strict(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        if t > 2:
            raise ValueError("too late", t)


def test_a_rule_that_reaches_for_what_it_has_not_declared():
    """Compiled code would write to wherever that happens to be."""
    with pytest.raises(ValueError, match=r"Forgetful\.step.*class attributes state and scalars"):
        Optimizer(Forgetful(), np.zeros(3))


def test_an_error_of_a_rule_keeps_its_arguments():
    w = np.zeros(3)
    optimizer = Optimizer(Strict(), w)
    optimizer.update(w, w)
    optimizer.update(w, w)
    with pytest.raises(ValueError, match="too late") as caught:
        optimizer.update(w, w)
    assert caught.value.args == ("too late", 3)


def test_parameters_that_cannot_be_changed():
    w = np.zeros(3)
    optimizer = Optimizer(SGD(), w)
    w.flags.writeable = False
    with pytest.raises(ValueError, match="w must be writeable"):
        optimizer.update(w, np.ones(3))
    with pytest.raises(ValueError, match="float32 or float64, got int64"):
        Optimizer(SGD(), np.zeros(3, np.int64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_variance_of_a_constant_gradient_is_not_negative(dtype):
    """A mean of squares, less the square of a mean, each rounded."""
    g = np.random.default_rng(0).normal(size=100).astype(dtype)
    w = np.zeros(100, dtype)
    optimizer = Optimizer(RMSprop(rho=0.5, centered=True), w)
    for _ in range(300):
        before = w.copy()
        optimizer.update(w, g)
        assert (np.sign(w - before) == -np.sign(g)).all()


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_without_momentum_has_no_memory_of_large_gradients(name):
    w = np.zeros(40, np.float32)
    optimizer = Optimizer(OPTIMIZERS[name](beta_1=0.0), w)
    for gradient in (np.full_like(w, 1e8), np.arange(40, dtype=np.float32)):
        optimizer.update(w, gradient)
        np.testing.assert_array_equal(optimizer.state[0], gradient)


# Rules of one's own.


class ThirdIsZero(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            w[i] -= learning_rate * g[i]
        w[2] = 0.0


def test_a_rule_may_look_at_any_parameter():
    w = np.ones(50)
    Optimizer(ThirdIsZero(), w).update(w, np.ones(50))
    expected = np.full(50, 0.9)
    expected[2] = 0.0
    np.testing.assert_allclose(w, expected)


@pytest.mark.parametrize("attribute", ["state", "scalars"])
@pytest.mark.parametrize("names", ["average", 1, ("a", 2)])
def test_names_of_a_rule_are_a_tuple(attribute, names):
    rule = type("Mine", (ThirdIsZero,), {attribute: names})()
    with pytest.raises(ValueError, match=f"Mine: {attribute} must be a tuple of names"):
        Optimizer(rule, np.ones(3))


@pytest.mark.parametrize("w", [[1.0, 2.0], np.ones(2, int)])
def test_parameters_are_an_array_of_real_numbers(w):
    with pytest.raises(ValueError, match="w must be an array of dtype float32 or float64, got"):
        Optimizer(SGD(), w)


def test_parameters_and_gradients_are_vectors():
    with pytest.raises(ValueError, match=r"w must be a vector, got an array of shape \(2, 2\)"):
        Optimizer(SGD(), np.ones((2, 2)))
    with pytest.raises(ValueError, match="g must be an array, got list"):
        Optimizer(SGD(), np.ones(2)).update(np.ones(2), [1.0, 1.0])


def test_a_flag_is_no_learning_rate():
    with pytest.raises(ValueError, match=r"SGD: learning_rate must be a number .* got True"):
        Optimizer(SGD(learning_rate=True), np.ones(2))


class UndeclaredOfThree(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(3):
            state[0, i] = 0.9 * state[0, i] + g[i]
            w[i] -= learning_rate * state[0, i]


class LastIsZero(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        w[9_999] = 0.0


class FirstStepIsShort(NamedTuple):
    learning_rate: float = 0.1
    state = ("velocity",)

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            velocity = state[0 if t == 1 else 1]
            velocity[i] = 0.9 * velocity[i] + g[i]
            w[i] -= learning_rate * velocity[i]


class CountsLateSteps(NamedTuple):
    learning_rate: float = 0.1
    elementwise = True

    def step(self, w, g, state, scalars, t, learning_rate):
        if t > 100:
            scalars[0] += 1


class RemembersGains(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            if g[i] > 0:
                state[0, i] += g[i]


class Ring(NamedTuple):
    """Another state array in each of three steps, which it counts by itself."""

    learning_rate: float = 0.1
    state = ("first", "second", "third")
    scalars = ("began",)

    def step(self, w, g, state, scalars, t, learning_rate):
        if t - scalars[0] == 3:
            scalars[0] = t
        place = t - int(scalars[0])
        for i in range(w.size):
            state[place, i] = g[i]
            w[i] -= learning_rate * g[i]


def test_a_rule_that_counts_its_steps_is_right():
    w = np.ones(3)
    optimizer = Optimizer(Ring(), w)
    for t in range(1, 8):
        optimizer.update(w, np.full(3, float(t)))
    np.testing.assert_array_equal(optimizer.state[:, 0], [6.0, 7.0, 5.0])


@pytest.mark.parametrize(
    ("rule", "n"),
    [
        (UndeclaredOfThree(), 3), (ThirdIsZero(), 2), (LastIsZero(), 9_999),
        (FirstStepIsShort(), 3), (CountsLateSteps(), 1), (RemembersGains(), 1),
    ],
)  # fmt: skip
def test_rules_that_reach_beyond_what_there_is(rule, n):
    with pytest.raises(ValueError, match="out of bounds"):
        Optimizer(rule, np.ones(n))


def test_a_rule_may_look_at_the_last_of_many_parameters():
    w = np.ones(10_000)
    Optimizer(LastIsZero(), w).update(w, np.ones(10_000))
    assert w.sum() == 9_999

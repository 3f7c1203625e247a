"""The elementary functions: the error that each docstring states, edge values, packed code.

``python tests/test_elementary.py`` measures the errors over every float32 and over ten million
float64 arguments, which takes a quarter of an hour, and the time per element.  Set
``NUMBA_CPU_NAME=generic`` to measure without fused multiply-add.
"""

from __future__ import annotations

import functools
import math
import platform
import re
import time

import numba
import numpy as np
import pytest

from fastgd import _jit
from fastgd.kernels import elementary

# The project's flags, in functions that Python may call.
njit = functools.partial(_jit.njit, entry=True)

NAMES = ["exp", "expm1", "log1p", "tanh", "logistic", "softplus", "normal_cdf"]
REALS = [np.float32, np.float64]

needs_compiler = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="without the compiler NumPy stands in"
)
needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="np.longdouble is no more precise than float64"
)
every_function = pytest.mark.parametrize("name", NAMES)
every_real = pytest.mark.parametrize("real", REALS)


def make_loop(name, **flags):
    function = getattr(elementary, name)

    @njit(**flags)
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


@njit()
def divide_all(a, b, out):
    for i in range(a.size):
        out[i] = elementary.divide(a[i], b[i])


def quotients(a, b):
    out = np.empty_like(a)
    divide_all(a, b, out)
    return out


@needs_compiler
def test_quotients_are_as_close_as_stated():
    rng = np.random.default_rng(0)
    n = 200_000 + 24  # whole registers of all kinds, and elements that fill none
    a = (rng.standard_normal(n) * 10.0 ** rng.uniform(-15, 15, n)).astype(np.float32)
    b = (rng.uniform(1, 2, n) * 10.0 ** rng.uniform(-18, 18, n)).astype(np.float32)
    exact = a.astype(np.float64) / b
    error = np.abs(quotients(a, b) - exact) / np.spacing(np.abs(exact).astype(np.float32))
    bound, with_fma, with_avx512 = (
        float(re.search(rf"([\d.]+)\s+{where}", elementary.divide.__doc__)[1])
        for where in ("ulp off\\.", "ulp off in float32", "in whole registers")
    )
    assert error.max() <= (with_fma if _jit.processor_has("fma") else bound)
    if _jit.processor_has("avx512f"):
        assert error[:200_000].max() <= with_avx512
    assert error.max() > 0.4  # or the bound says nothing


@needs_compiler
@needs_long_double
def test_quotients_of_float64_are_as_close_as_stated():
    rng = np.random.default_rng(0)
    n = 200_000
    a = rng.standard_normal(n) * 10.0 ** rng.uniform(-120, 120, n)
    b = rng.uniform(1, 2, n) * 10.0 ** rng.uniform(-120, 120, n)
    exact = a.astype(np.longdouble) / b
    got = quotients(a, b)
    error = np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float64))
    stated = re.search(r"and ([\d.]+) in float64", elementary.divide.__doc__)
    assert error.max() <= float(stated[1])
    np.testing.assert_array_equal(got, a / b)
    # Where the estimate is worst, and at both ends of what it is made for.
    mantissas = np.linspace(1, 2, 100_001)[:-1]
    for scale in (1.0, 2.0**-1022, 2.0**1020):
        b = mantissas * scale
        np.testing.assert_array_equal(quotients(np.ones_like(b), b), 1 / b)
    # What they leave over is below the normal numbers.
    a = 10.0 ** rng.uniform(-307, -291, n)
    b = 10.0 ** rng.uniform(-10, 0, n)
    stated = re.search(r"may cost (\S+) of", elementary.divide.__doc__)
    np.testing.assert_allclose(quotients(a, b), a / b, rtol=float(stated[1]), atol=0)


@needs_compiler
@pytest.mark.skipif(not _jit.processor_has("fma"), reason="no fused multiply-add here")
@every_real
def test_the_divider_is_left_alone(real):
    x = np.ones(4, real)
    divide_all(x, x, x)
    assert not re.search(r"\bv?divp[sd]\b", "".join(divide_all.inspect_asm().values()))


@needs_compiler
@every_real
def test_quotients_at_the_edges(real):
    """An average that overflowed moves nothing, and a NaN is never lost."""
    nan, inf = real(np.nan), real(np.inf)
    a = np.array([0, 1, -1, nan, 1, nan, nan], real)
    b = np.array([1, inf, inf, 1, nan, nan, inf], real)
    # Repeated, so that vectors and what is left over are both seen.
    got = quotients(np.repeat(a, 37), np.repeat(b, 37)).reshape(a.size, 37)
    expected = np.array([0, 0, 0, nan, nan, nan, nan], real)
    expected = np.repeat(expected[:, np.newaxis], 37, axis=1)
    # By infinity it may be a number below the normal ones.
    np.testing.assert_allclose(got, expected, rtol=0, atol=np.finfo(np.float32).tiny)
    for a, b in ((1, 0), (0, 0), (inf, 1)):
        assert not np.isfinite(quotients(np.full(37, a, real), np.full(37, b, real))).any()


def make_loop_in_place(name):
    function = getattr(elementary, name)

    @njit()
    def loop(x):
        for i in range(x.size):
            x[i] = function(x[i])

    return loop


LOOPS = {name: make_loop(name) for name in NAMES}


def evaluate(name, x):
    x = np.atleast_1d(x)
    out = np.empty_like(x)
    LOOPS[name](x, out)
    return out


def stated_bound(name, real):
    bounds = re.search(
        r"([\d.]+)\s+ulp\s+off\s+in\s+float32,\s+([\d.]+)\s+in\s+float64",
        getattr(elementary, name).__doc__,
    )
    return float(bounds[REALS.index(real) + 1])


# --- references in a wider precision -------------------------------------------------------


def lower_tail(t):
    """Phi(-t) for t >= 0, in the precision of ``t``, which must have bits to spare."""
    # The head's square is exact: the exponential would multiply its rounding error.
    head = t.astype(np.float32).astype(t.dtype)
    density = np.exp(-head * head / 2) * np.exp(-(t - head) * (t + head) / 2)
    density /= np.sqrt(2 * np.arctan(t.dtype.type(1)) * 4)
    near = np.minimum(t, 2)
    term = near
    series = near.copy()
    for n in range(1, 60):
        term = term * near * near / (2 * n + 1)
        series += term
    far = np.maximum(t, 2)
    fraction = far.copy()
    for n in range(200, 0, -1):
        fraction = far + n / fraction
    return np.where(t < 2, 0.5 - density * series, density / fraction)


def reference(name, x):
    """Value of a function in the precision of ``x``, which must have bits to spare."""
    with np.errstate(all="ignore"):
        if name == "logistic":
            return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
        if name == "softplus":
            return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
        if name == "normal_cdf":
            tail = lower_tail(np.minimum(np.abs(x), 40))
            return np.where(x > 0, 1 - tail, tail)
        return getattr(np, name)(x)


def error_in_ulps(got, exact):
    real = got.dtype.type
    with np.errstate(all="ignore"):
        rounded = exact.astype(real)
        last_place = np.spacing(np.minimum(np.abs(rounded), np.finfo(real).max))
        errors = np.abs(got - exact) / last_place.astype(exact.dtype)
    right = (got == rounded) & (np.isinf(got) | (got == exact))
    errors = np.where(right | (np.isnan(got) & np.isnan(exact)), 0, errors)
    return np.where(np.isnan(errors), np.inf, errors).astype(np.float64)


# --- arguments -----------------------------------------------------------------------------


def neighbours(points, real, radius):
    """The floats next to each of some points."""
    bits = {np.float32: np.int32, np.float64: np.int64}[real]
    centers = np.array(points, dtype=real).view(bits)
    return (centers[:, np.newaxis] + np.arange(-radius, radius + 1, dtype=bits)).ravel().view(real)


# Where an exponential overflows, underflows to denormal numbers or to zero; where an interval
# of the reduced argument ends; where a result turns constant.
EDGES = {
    np.float32: [88.72284, 88.376, -87.33655, -103.97208, 9.0108, -17.32868, 14.17],
    np.float64: [709.782712893384, -708.3964185322641, -745.1332191019411, 19.06, -37.43, 38.57],
}
COMMON_EDGES = [0.34657359, -0.34657359, 0.41421356, -0.29289322, 1.0397208, -0.99999, 2.0, 1e-7]


def without_signalling(x):
    """The same with quiet NaNs only: to convert the others warns."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x)


def float32_sample():
    every = np.arange(0, 2**32, 4999, dtype=np.uint32).view(np.float32)
    busy = np.arange(0x3C000000, 0x43000000, 997, dtype=np.uint32).view(np.float32)
    edges = neighbours(EDGES[np.float32] + COMMON_EDGES, np.float32, 1000)
    return without_signalling(np.concatenate([every, busy, -busy, edges, -edges]))


def float64_sample(size, seed):
    rng = np.random.RandomState(seed)
    edges = neighbours(EDGES[np.float64] + COMMON_EDGES, np.float64, 200)
    x = np.concatenate(
        [
            rng.randint(0, 2**64, size // 4, dtype=np.uint64).view(np.float64),
            rng.uniform(-1.5, 1.5, size // 4),
            rng.uniform(-40, 40, size // 4),
            rng.uniform(-750, 710, size // 8),
            rng.choice([-1.0, 1.0], size // 8) * np.exp(rng.uniform(-50, 5, size // 8)),
            edges,
            -edges,
        ]
    )
    return without_signalling(x)


# --- tests ---------------------------------------------------------------------------------


@needs_compiler
@every_function
def test_float32_error_stays_within_the_stated_bound(name):
    x = float32_sample()
    errors = error_in_ulps(evaluate(name, x), reference(name, x.astype(np.float64)))
    worst = np.argmax(errors)
    assert errors[worst] <= stated_bound(name, np.float32), f"at {x[worst]!r}"


@needs_compiler
@needs_long_double
@every_function
def test_float64_error_stays_within_the_stated_bound(name):
    x = float64_sample(200_000, seed=0)
    errors = error_in_ulps(evaluate(name, x), reference(name, x.astype(np.longdouble)))
    worst = np.argmax(errors)
    assert errors[worst] <= stated_bound(name, np.float64), f"at {x[worst]!r}"


INF = math.inf
SPECIAL_VALUES = [
    ("exp", [(-INF, 0.0), (0.0, 1.0), (INF, INF), (-2000.0, 0.0), (2000.0, INF)]),
    ("expm1", [(-INF, -1.0), (0.0, 0.0), (INF, INF), (-2000.0, -1.0), (2000.0, INF)]),
    ("log1p", [(-INF, math.nan), (-1.5, math.nan), (-1.0, -INF), (0.0, 0.0), (INF, INF)]),
    ("tanh", [(-INF, -1.0), (0.0, 0.0), (INF, 1.0), (-50.0, -1.0), (50.0, 1.0)]),
    ("logistic", [(-INF, 0.0), (0.0, 0.5), (INF, 1.0), (-2000.0, 0.0), (2000.0, 1.0)]),
    ("softplus", [(-INF, 0.0), (INF, INF), (-2000.0, 0.0), (2000.0, 2000.0)]),
    ("normal_cdf", [(-INF, 0.0), (0.0, 0.5), (INF, 1.0), (-50.0, 0.0), (50.0, 1.0)]),
]


@every_real
@pytest.mark.parametrize(("name", "pairs"), SPECIAL_VALUES)
def test_special_values(name, pairs, real):
    x, expected = np.array([*pairs, (math.nan, math.nan)], dtype=real).T.copy()
    np.testing.assert_array_equal(evaluate(name, x), expected)


@every_real
@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh"])
def test_tiny_arguments_come_back_unchanged(name, real):
    smallest = np.finfo(real).smallest_subnormal
    x = np.array([smallest, 5 * smallest, np.finfo(real).tiny, 1e-30, -1e-30], dtype=real)
    np.testing.assert_array_equal(evaluate(name, x), x)


def test_results_underflow_gradually():
    expected = np.array([3.783506e-44], dtype=np.float32)
    for name in ("exp", "logistic", "softplus"):
        np.testing.assert_array_equal(evaluate(name, np.float32([-100.0])), expected)


@every_real
def test_tanh_is_odd_and_bounded(real):
    x = np.linspace(0.0, 25.0, 2001).astype(real)
    np.testing.assert_array_equal(evaluate("tanh", -x), -evaluate("tanh", x))
    assert evaluate("tanh", x).max() == 1.0


@every_function
@every_real
def test_precision_follows_the_argument(name, real):
    assert getattr(elementary, name)(real(0.5)).dtype == real

    function = getattr(elementary, name)

    @njit()
    def value(x):
        return function(x[0])

    value(np.ones(1, dtype=real))
    if not numba.config.DISABLE_JIT:
        (signature,) = value.nopython_signatures
        assert signature.return_type == numba.from_dtype(np.dtype(real))


@every_function
@every_real
def test_python_and_compiled_values_agree(name, real):
    x = np.linspace(-90.0, 80.0, 401).astype(real)
    x = x[x > -1.0] if name == "log1p" else x
    info = np.finfo(real)
    expected = [getattr(elementary, name)(value) for value in x]
    np.testing.assert_allclose(evaluate(name, x), expected, rtol=1000 * info.eps, atol=info.tiny)


@every_function
@every_real
def test_flags_of_the_caller_change_nothing(name, real):
    x = np.linspace(-20.0, 20.0, 1001).astype(real)
    out = np.empty_like(x)
    make_loop(name, reduction=True)(x, out)
    np.testing.assert_array_equal(out, evaluate(name, x))


@needs_compiler
@pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64"}, reason="looks for x86-64 instructions"
)
@every_function
@every_real
@pytest.mark.parametrize("in_place", [False, True])
def test_loops_are_packed(name, real, in_place):
    x = np.zeros(100, dtype=real)
    if in_place:
        loop = make_loop_in_place(name)
        loop(x)
    else:
        loop = make_loop(name)
        loop(x, x.copy())
    (assembly,) = loop.inspect_asm().values()
    suffix = "ps" if real is np.float32 else "pd"
    packed = re.findall(rf"\bv?(?:mul|fmadd\d+|fnmadd\d+){suffix}\s.*%[xyz]mm", assembly)
    assert packed
    assert not re.search(rf"call.*\b_?{name}f?\b", assembly)
    if real is np.float32:
        assert "cvtss2sd" not in assembly
        assert "cvtps2pd" not in assembly


# --- the full measurement ------------------------------------------------------------------

EXACT = {
    "exp": math.exp,
    "expm1": math.expm1,
    "log1p": math.log1p,
    "tanh": math.tanh,
    "logistic": _jit.njit(lambda x: math.exp(min(x, 0.0)) / (1.0 + math.exp(-abs(x)))),
    "softplus": _jit.njit(lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x)))),
    "normal_cdf": _jit.njit(lambda x: 0.5 * math.erfc(-x * math.sqrt(0.5))),
}


def worst_float32_error(name):
    """Largest error, in ulps, over all float32 arguments, and where."""
    function, exact_function = getattr(elementary, name), EXACT[name]

    @njit()
    def worst_of(x):
        worst, at = 0.0, x[0]
        for value in x:
            got, exact = np.float64(function(value)), exact_function(np.float64(value))
            if got == exact or (math.isnan(got) and math.isnan(exact)):
                continue
            if math.isinf(got) and np.float32(exact) == got:
                continue
            exponent = min(max(math.frexp(exact)[1], -125), 128)
            error = abs(got - exact) * math.ldexp(1.0, 24 - exponent)
            if not error <= worst:
                worst, at = error, value
        return worst, at

    found = (0.0, np.float32(0.0))
    for start in range(0, 2**32, 2**24):
        bits = np.arange(start, start + 2**24, dtype=np.int64).astype(np.uint32)
        here = worst_of(bits.view(np.float32))
        if not here[0] <= found[0]:
            found = here
    return found


def worst_float64_error(name, size=10_000_000):
    """Largest error, in ulps, over a stratified sample of float64 arguments, and where."""
    found = (0.0, 0.0)
    for seed in range(size // 1_000_000):
        x = float64_sample(1_000_000, seed)
        errors = error_in_ulps(evaluate(name, x), reference(name, x.astype(np.longdouble)))
        worst = np.argmax(errors)
        if errors[worst] > found[0]:
            found = (errors[worst], x[worst])
    return found


def nanoseconds_per_element(name, real, size=10_000):
    x = np.random.RandomState(0).standard_normal(size).astype(real)
    out = np.empty_like(x)
    best = math.inf
    for _ in range(1000):
        start = time.perf_counter()
        LOOPS[name](x, out)
        best = min(best, time.perf_counter() - start)
    return 1e9 * best / size


def print_table():
    print("function    real     max ulp  at                        ns/element")
    for name in NAMES:
        for real, measure in ((np.float32, worst_float32_error), (np.float64, worst_float64_error)):
            speed = nanoseconds_per_element(name, real)
            worst, at = measure(name)
            print(f"{name:11} {real.__name__} {worst:8.3f}  {at!s:25} {speed:8.3f}", flush=True)


if __name__ == "__main__":
    print_table()

"""Elementary functions that vectorise: ``exp``, ``expm1``, ``log1p``, ``tanh`` and their kin.

A loop that calls ``math.exp`` calls the C library once per element.  The functions here are
straight-line arithmetic, with selects in place of branches, and are inlined into the loop that
calls them, so that the compiler makes packed instructions of it, many times as fast.  Use them in
kernels as ``exp(x)``; the precision follows the argument, float32 or float64.

The methods are the classical ones (Cody & Waite 1980, "Software Manual for the Elementary
Functions"; Moshier's Cephes; Muller 2016, "Elementary Functions", 3rd ed.): reduce the argument
to a small interval, evaluate a polynomial there, and put the power of two back in through the
exponent's bits.  The coefficients are our own.

The docstrings state the largest error measured, rounded up, in units of the last place of the
exact result: over all float32 arguments, and over 10**7 float64 arguments, with and without fused
multiply-add.
``python tests/test_elementary.py`` repeats the measurement.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from fastgd._jit import compiler_flags, njit, processor_has
from fastgd.kernels.vectors import call_on_numbers

Number = Any  # a float32 or a float64
Function = Callable[[Number], Number]


class Coefficients(NamedTuple):
    """What the two precisions do not share.

    The polynomials are minimax fits by the Remez exchange in 50 digits, lowest power first.  Each
    minimises the relative error of the function in the comment, not that of the polynomial.
    """

    # ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
    ln2_high: float
    ln2_low: float
    # (exp(r) - 1 - r)/r**2 for |r| <= ln(2)/2; expm1(r) is what is fitted
    exp: tuple[float, ...]
    # (2 atanh(s) - 2s)/s**3 as a polynomial in s**2, for |s| <= (sqrt(2) - 1)/(sqrt(2) + 1)
    log: tuple[float, ...]
    # (t + 4) exp(t**2/2) Phi(-t) as a polynomial in (t - 4)/(t + 4), from t = 0 to where Phi(-t)
    # underflows.  This change of variable is that of Schonfelder 1978, "Chebyshev
    # expansions for the error and related functions", Math. Comp. 32; 4 serves both precisions.
    normal: tuple[float, ...]


SINGLE = Coefficients(
    ln2_high=0.693359375,
    ln2_low=-2.1219444005469057e-4,
    exp=(
        0.5,
        0.166666672,
        0.0416663475,
        0.00833333936,
        0.0013941552,
        0.000198813199,
    ),
    log=(
        0.666667759,
        0.399775416,
        0.298717588,
    ),
    normal=(
        0.755285144,
        -0.607896626,
        0.387137324,
        -0.186521545,
        0.0603980199,
        -0.00754306046,
        -0.00349070225,
        0.00163803005,
        0.000170290456,
        -0.00022380249,
        -4.70941777e-05,
    ),
)

DOUBLE = Coefficients(
    ln2_high=0.6931471803691238,
    ln2_low=1.9082149292705877e-10,
    exp=(
        0.5,
        0.16666666666666677,
        0.0416666666666666,
        0.008333333333320958,
        0.001388888888890695,
        0.00019841269888058114,
        2.480158729831793e-05,
        2.7557242064139773e-06,
        2.7557282032170855e-07,
        2.510984665768168e-08,
        2.0916431205524316e-09,
    ),
    log=(
        0.6666666666666666,
        0.4000000000000624,
        0.2857142856908728,
        0.22222222646582016,
        0.18181775682975404,
        0.1538708998334205,
        0.13250135799167548,
        0.13251166747652215,
    ),
    normal=(
        0.7552851304157515,
        -0.6078966419718921,
        0.3871374007422148,
        -0.18652185795965856,
        0.060396574890920623,
        -0.007540188966685922,
        -0.003479692367041771,
        0.0016308184570192905,
        0.0001333443084025512,
        -0.00023109493100444354,
        -1.9082316778961187e-06,
        3.514466910707846e-05,
        7.16553809448194e-07,
        -5.920136923880598e-06,
        -6.293912450003949e-07,
        1.0215298270009207e-06,
        2.71269132383951e-07,
        -1.5502831174690465e-07,
        -8.48223338565506e-08,
        1.3445209453553893e-08,
        1.925538022288084e-08,
        1.7673281827502578e-09,
        -2.423971751791579e-09,
        -6.746730968093782e-10,
    ),
)


def _horner(typing_context: Any, x: Any, coefficients: Any) -> Any:
    """``c[0] + x*(c[1] + x*(c[2] + ...))``: the type, and the instructions, without a loop."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, packed = args
        *lower, value = (builder.extract_value(packed, i) for i in range(len(coefficients)))
        for coefficient in reversed(lower):
            value = builder.fadd(builder.fmul(value, x), coefficient)
        return value

    return x(x, coefficients), generate


_SAME_WIDTH: dict[Any, Any] = {
    types.float32: types.uint32,
    types.float64: types.uint64,
    types.uint32: types.float32,
    types.uint64: types.float64,
}


def _bitcast(typing_context: Any, value: Any) -> Any:
    """The bits of a float as an unsigned integer of its width, and of that as a float."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return _SAME_WIDTH[value](value), generate


_polynomial: Any = intrinsic(_horner)
_recast: Any = intrinsic(_bitcast)


def _implementations(real: Any, bits: Any, c: Coefficients) -> dict[str, Function]:
    """Build the functions for one precision: ``real``, and the unsigned integer of its width.

    Every constant is made a ``real`` or a ``bits`` here: a Python float would turn float32
    arithmetic into float64, and the sum of two ``bits`` is 64 bits wide until it is cast back.
    """
    info = np.finfo(real)
    bias = info.maxexp - 1
    zero, half, one, two, four = (real(value) for value in (0, 0.5, 1, 2, 4))
    quarter = real(0.25)
    inf, nan = real(np.inf), real(np.nan)
    log2_e = real(np.log2(np.e))
    ln2_high, ln2_low = real(c.ln2_high), real(c.ln2_low)
    exp_terms = tuple(real(value) for value in c.exp)
    log_terms = tuple(real(value) for value in c.log)
    normal_terms = tuple(real(value) for value in c.normal)

    # Beyond these arguments the results are 0 or inf, -1 or inf, 1, and 0 or 1.
    exp_min = real(np.floor(np.log(info.smallest_subnormal) - np.log(2.0)))
    exp_max = real(np.ceil(np.log(info.max)))
    expm1_min = real(np.floor(np.log(info.eps / 4)))
    tanh_max = real(one - half * expm1_min)
    normal_max = real(np.sqrt(-two * exp_min))
    # Up to here expm1(x) is x to the last bit.
    tiny = real(info.eps / 32)

    mantissa_bits = bits(info.nmant)
    unit = bits(1)
    exponent_mask = bits((2 * bias + 1) << info.nmant)
    # Keeps half of a mantissa, so that the square of what is left is exact.
    half_mask = bits(2 ** (8 * info.dtype.itemsize) - 2 ** (info.nmant // 2 + 1))
    # Adding this to a number rounds it to an integer, which then stands in the lowest bits; with
    # the exponent's bias on top, these bits need only be shifted to make a power of two.
    rounder = 1.5 * 2.0**info.nmant
    rounder_two = real(rounder + 2 * bias)
    rounder_one = real(rounder + bias)
    rounder_half = real(rounder + bias - 1)
    # Moves the limit between two exponents from 1 to sqrt(1/2).
    to_root_half = bits(one.view(bits) - np.sqrt(half).view(bits))
    # Bits of four times two to the minus k, less the biased exponent of two to the k.
    four_over = bits((2 * bias + 2) << info.nmant)
    # An integer in the mantissa of this number, less the number, is that integer as a float.
    whole = real(2.0**info.nmant)
    whole_bits = whole.view(bits)
    whole_and_bias = real(whole + bias)
    root_two_less_one = real(np.sqrt(2.0) - 1.0)

    @njit(inline=True)
    def exp_of_sum(x: Number, low: Number) -> Number:
        """exp(x + low), where ``low`` is what did not fit into ``x``."""
        x = exp_min if x < exp_min else x
        x = exp_max if x > exp_max else x
        rounded = x * log2_e + rounder_two
        k = rounded - rounder_two
        r = (x - k * ln2_high) - k * ln2_low + low
        y = one + (r + r * r * _polynomial(r, exp_terms))
        # Two powers of two of half the exponent each: that of the whole may be beyond the range
        # where the result is not, or is a denormal number.
        n = _recast(rounded)
        first = bits(n >> unit)
        second = bits(n - first)
        return y * _recast(bits(first << mantissa_bits)) * _recast(bits(second << mantissa_bits))

    @njit(inline=True)
    def expm1_parts(x: Number, rounder: Number) -> tuple[Number, Number]:
        """expm1(r) and a power of two p, where exp(x) is p exp(r) or, by ``rounder``, 2p exp(r)."""
        rounded = x * log2_e + rounder
        k = rounded - rounder
        r = (x - k * ln2_high) - k * ln2_low
        power = _recast(bits(_recast(rounded) << mantissa_bits))
        return r + r * r * _polynomial(r, exp_terms), power

    @njit(inline=True)
    def log1p_reduced(f: Number, low: Number) -> Number:
        """log1p(f) + low, for sqrt(1/2) <= 1 + f <= sqrt(2)."""
        # log1p(f) = 2 atanh(s) with s = f/(2 + f), and 2s = f - s f: in this form the largest
        # term, f, is exact.
        s = f / (two + f)
        z = s * s
        square = half * f * f
        return f - ((square - s * (square + z * _polynomial(z, log_terms))) - low)

    def exp(x: Number) -> Number:
        return exp_of_sum(x, zero)

    def expm1(x: Number) -> Number:
        y = expm1_min if x < expm1_min else x
        y = exp_max if y > exp_max else y
        # Half the result, since the power of two itself overflows before the result does.
        p, power = expm1_parts(y, rounder_half)
        y = power * p + (power - half)
        # A denormal argument has no bit to spare for the halving.
        return x if abs(x) < tiny else y + y

    def log1p(x: Number) -> Number:
        # 1 + x = 2**k (1 + f).  The sum is rounded, but only k is taken from it; f, from x, is
        # exact or nearly so.  The factor 4 keeps the power of two from underflow.
        n = bits(_recast(one + x) + to_root_half)
        k = _recast(bits(bits(n >> mantissa_bits) | whole_bits)) - whole_and_bias
        four_power = _recast(bits(four_over - bits(n & exponent_mask)))
        f = quarter * (x * four_power + (four_power - four))
        y = k * ln2_high + log1p_reduced(f, k * ln2_low)
        y = y if x < inf else x
        return y if x > -one else (-inf if x == -one else (nan if x < -one else x))

    def tanh(x: Number) -> Number:
        y = abs(x)
        y = tanh_max if y > tanh_max else y
        p, power = expm1_parts(y + y, rounder_one)
        e = power * p + (power - one)
        y = e / (e + two)
        return -y if x < zero else y

    def logistic(x: Number) -> Number:
        e = exp_of_sum(-abs(x), zero)
        return (e if x < zero else one) / (one + e)

    def softplus(x: Number) -> Number:
        # The same as log1p above, but that here 0 <= e <= 1, so that k is 0 or 1.
        e = exp_of_sum(-abs(x), zero)
        above = e > root_two_less_one
        f = half * e - half if above else e
        y = log1p_reduced(f, ln2_low if above else zero) + (ln2_high if above else zero)
        return y + (x if x > zero else zero)

    def normal_cdf(x: Number) -> Number:
        t = abs(x)
        t = normal_max if t > normal_max else t
        # t**2 must be known beyond the last place, since exp turns absolute errors into relative.
        head = _recast(bits(_recast(t) & half_mask))
        density = exp_of_sum(-half * head * head, -half * (t - head) * (t + head))
        v = one / (t + four)
        # 2 t v - 1 is (t - 4) v, with the smaller error where t is small.
        y = density * v * _polynomial(two * t * v - one, normal_terms)
        return one - y if x > zero else y

    functions = (exp, expm1, log1p, tanh, logistic, softplus, normal_cdf)
    return {function.__name__: function for function in functions}


@functools.cache
def _implementations_for(number: Any) -> dict[str, Function]:
    """The functions for a type of number, built when a kernel first needs them."""
    if number == types.float32:
        return _implementations(np.float32, np.uint32, SINGLE)
    if number == types.float64:
        return _implementations(np.float64, np.uint64, DOUBLE)
    return {}


def _vectorised(function: Function) -> Function:
    """Let jitted code that calls ``function`` have the implementation for the argument's type.

    The decorated body serves Python, and so the runs without the compiler.
    """

    def choose(x: Number) -> Function | None:
        return _implementations_for(x).get(function.__name__)

    overload(function, jit_options=compiler_flags(inline=True))(choose)
    return function


@_vectorised
def exp(x: Number) -> Number:
    """Return e**x; at most 0.99 ulp off in float32, 0.98 in float64."""
    with np.errstate(over="ignore"):
        return np.exp(x)


@_vectorised
def expm1(x: Number) -> Number:
    """Return exp(x) - 1; at most 1.52 ulp off in float32, 2.0 in float64."""
    with np.errstate(over="ignore"):
        return np.expm1(x)


@_vectorised
def log1p(x: Number) -> Number:
    """Return log(1 + x); at most 1.44 ulp off in float32, 1.5 in float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(x)


@_vectorised
def tanh(x: Number) -> Number:
    """Return expm1(2x)/(expm1(2x) + 2); at most 2.43 ulp off in float32, 2.6 in float64."""
    return np.tanh(x)


@_vectorised
def logistic(x: Number) -> Number:
    """Return 1/(1 + exp(-x)); at most 2.41 ulp off in float32, 2.4 in float64."""
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


@_vectorised
def softplus(x: Number) -> Number:
    """Return log(1 + exp(x)); at most 1.73 ulp off in float32, 1.8 in float64."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@_vectorised
def normal_cdf(x: Number) -> Number:
    """Return Phi(x) = erfc(-x/sqrt(2))/2; at most 4.41 ulp off in float32, 4.2 in float64."""
    from scipy import special  # what compiles has no use for it, and it takes long to import

    return special.ndtr(x)


def divide(a: Number, b: Number) -> Number:
    """Return a / b for a finite a and a normal b above 0; in float32 at most 2.8 ulp off.

    With fused multiply-add it is at most 2.0 ulp off in float32, 0.55 in whole registers of
    AVX-512, and 0.51 in float64, where an a that is not 0 but less than 1e-291 may cost 5e-11 of
    the quotient; without, that of float64 is the processor's.  Processors divide slowly, a vector
    in the time of ten multiplications and in float64 of thirty, and roots wait for the same unit;
    an estimate of 1 / b becomes exact in a few multiplications.  The last elements of an array may
    be estimated by shorter registers: equal quotients can differ from one element to the next.  So
    can it be whether a quotient that overflows, that of an infinite a, or by less than the smallest
    normal number (in float32 by less than 3e-39), is NaN; that by more than 8e37 may be 0 in
    float32, and by more than 2e307 is that by 2e307 in float64.
    """
    return a / b


@intrinsic
def maximum(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger one; a NaN if one of them is (IEEE 754-2019); either of 0 and -0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = args[0].type
        name = f"llvm.maximum.f{a.bitwidth}"
        declared = ir.FunctionType(number, [number, number])
        function = cgutils.get_or_insert_function(builder.module, declared, name)
        return builder.call(function, args, fastmath=("nsz",))

    return a(a, a), generate


# These bits less those of b, as integers, are a number within 5.1 % of 1 / b: exponents are
# subtracted, and mantissas nearly straight lines (the constant is the best one of a search).
RECIPROCAL_BITS = 0x7FDE623800000000
# Up to here the reciprocal, and what it is refined by, are normal numbers.
LARGEST_DIVISOR = 2.0**1021


def emit_quotient(builder: Any, a: Any, b: Any) -> Any:
    """The instructions of ``divide``, for single numbers or for registers of them."""
    kind = a.type
    is_vector = isinstance(kind, ir.VectorType)
    is_single = (kind.element if is_vector else kind) == ir.FloatType()

    def constant(kind: Any, value: Any) -> Any:
        return ir.Constant(kind, [value] * kind.count if is_vector else value)

    def at_most(limit: float) -> Any:
        most = constant(kind, limit)
        return builder.select(builder.fcmp_ordered(">", b, most), most, b)

    if is_single:
        # Which the compiler may make of an estimate of 1 / b and a step of Newton's method.
        flags = ("arcp", "contract", "ninf")
        return builder.fdiv(a, at_most(float(np.finfo(np.float32).max)), flags=flags)
    if not processor_has("fma"):
        return builder.fdiv(a, b)
    word = ir.IntType(64)
    bits = ir.VectorType(word, kind.count) if is_vector else word
    fma = functools.partial(call_on_numbers, builder, "fma")
    d = at_most(LARGEST_DIVISOR)
    minus_d, one = builder.fneg(d), constant(kind, 1.0)
    # The error of y is squared three times: 5e-2, 3e-3, 7e-6, 4e-11.
    y = builder.sub(constant(bits, RECIPROCAL_BITS), builder.bitcast(d, bits))
    y = builder.bitcast(y, kind)
    for _ in range(3):
        y = fma(y, fma(minus_d, y, one), y)
    # What the quotient has left over is known to more digits than are needed (Markstein 1990),
    # and squares the error once more: the sum is the processor's to the last bit, as a rule.
    q = builder.fmul(a, y)
    return fma(fma(builder.fneg(q), d, a), y, q)


@intrinsic
def _quotient(typing_context: Any, a: Any, b: Any) -> Any:
    """See ``divide``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_quotient(builder, *args)

    return a(a, a), generate


@overload(divide, jit_options=compiler_flags(inline=True))
def _divide(a: Number, b: Number) -> Callable[..., Any]:
    def run(a: Number, b: Number) -> Number:
        return _quotient(a, b)

    def exact(a: Number, b: Number) -> Number:
        return a / b

    return run if a == b and isinstance(a, types.Float) else exact

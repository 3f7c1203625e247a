"""Loss functions on raw outputs, each with the link that turns raw outputs into predictions.

A loss is a NamedTuple (its fields are its parameters) with two compiled methods:

- ``value_and_delta(self, z, y, weight, n_rows, k, delta)`` returns the weighted sum of the loss
  over the rows and writes its derivatives by the raw outputs;
- ``link(self, z, n_rows, k)`` replaces raw outputs by predictions.

and, for second-order methods, a third one:

- ``hessian_product(self, z, y, weight, n_rows, k, t)`` replaces each row t by weight · H t, where
  H are the second derivatives by the raw outputs; it may overwrite ``z``.

``weight`` are shares of all that is averaged over, so that the sums over a batch are means.  ``z``,
``delta`` and ``t`` are flat, rows of ``k`` outputs.  Because a loss sees raw outputs it can use a
form that neither overflows nor cancels, whatever the size of ``z``; no caller pairs a loss with an
output activation.  A loss that is a sum over single outputs needs only ``pointwise(self, z, y) ->
(value, slope)`` and ``curvature(self, z, y)``, and takes ``value_and_delta = sum_pointwise`` and
``hessian_product = multiply_by_curvature``.  A loss that is made of straight pieces has the
curvature 0.
Class attributes: ``out_activation`` names the link; where ``class_numbers`` is true, y holds one
class number a row, else ``k`` numbers a row; outputs above ``threshold`` (0.5) mean the second of
two classes.

To add one: its class here, one line in ``LOSSES``, its formula in ``tests/naive.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastgd._jit import njit
from fastgd._record import record
from fastgd.kernels.elementary import exp, log1p, logistic
from fastgd.kernels.loss_parts import NARROW_NAMES, curvature, identity_link, pointwise
from fastgd.kernels.plan import smaller, stack_array
from fastgd.kernels.rows import softmax_rows

# float32 constants leave float32 arithmetic in float32, and are promoted by float64.
ONE = np.float32(1.0)
TWO = np.float32(2.0)
HALF = np.float32(0.5)
ZERO = np.float32(0.0)

# Single outputs come VECTOR at a time, the logarithms of narrow rows STRIP at a time: multiples of
# the numbers, and of the rows, that make a vector.
VECTOR, STRIP = 16, 64


def sum_pointwise(self, z, y, weight, n_rows, k, delta):
    return _sum_pointwise(self, z, y, weight, n_rows, k, delta)


@njit(reduction=True)
def _sum_pointwise(self, z, y, weight, n_rows, k, delta):
    # Only the sum over samples may be reordered, not the arithmetic within ``pointwise``.
    for i in range(n_rows):
        for p in range(i * k, (i + 1) * k):
            delta[p] = weight[i]
    # A fixed number at a time: a compiler's vectors, several side by side, would leave a rest,
    # element by element, which of a small batch would be all.
    zero, total = z.dtype.type(0.0), 0.0
    some_z, some_y = stack_array(VECTOR, zero), stack_array(VECTOR, zero)
    values, slopes = stack_array(VECTOR, zero), stack_array(VECTOR, zero)
    for start in range(0, n_rows * k, VECTOR):
        m = smaller(VECTOR, n_rows * k - start)
        of_z, of_y, of_delta = (
            z[start : start + m], y[start : start + m], delta[start : start + m],
        )  # fmt: skip
        for j in range(m):
            some_z[j], some_y[j] = of_z[j], of_y[j]
        for j in range(m, VECTOR):
            some_z[j], some_y[j] = of_z[0], of_y[0]
        for j in range(VECTOR):
            values[j], slopes[j] = pointwise(self, some_z[j], some_y[j])
        for j in range(m):
            total += np.float64(of_delta[j] * values[j])
            of_delta[j] *= slopes[j]
    return total


def multiply_by_curvature(self, z, y, weight, n_rows, k, t):
    for i in range(n_rows):
        for p in range(i * k, (i + 1) * k):
            t[p] *= weight[i] * curvature(self, z[p], y[p])


def no_hessian(self, z, y, weight, n_rows, k, t):
    for p in range(n_rows * k):
        t[p] *= ZERO * z[p]


def softmax_hessian_product(self, z, y, weight, n_rows, k, t):
    multiply_by_covariance(z, weight, n_rows, k, t)


@njit
def multiply_by_covariance(z, weight, n_rows, k, t):
    """Replace each row t by weight · (p t − p (p · t)) with p = softmax(z)."""
    softmax(z, n_rows, k)
    for i in range(n_rows):
        top = i * k
        for p in range(i * k, (i + 1) * k):
            top = p if z[p] > z[top] else top
        # From the most probable one on, or the difference to the mean would cancel.
        origin, mean = t[top], z.dtype.type(0.0)
        for p in range(i * k, (i + 1) * k):
            t[p] -= origin
            mean += z[p] * t[p]
        for p in range(i * k, (i + 1) * k):
            t[p] = weight[i] * z[p] * (t[p] - mean)


def logistic_link(self, z, n_rows, k):
    for p in range(n_rows * k):
        z[p] = logistic(z[p])


def exponential_link(self, z, n_rows, k):
    for p in range(n_rows * k):
        z[p] = exp(z[p])


def softmax_link(self, z, n_rows, k):
    softmax(z, n_rows, k)


@njit
def softmax(z, n_rows, k):
    exp_shifted(z, n_rows, k, z)
    for i in range(n_rows):
        total = z.dtype.type(0.0)
        for p in range(i * k, (i + 1) * k):
            total += z[p]
        for p in range(i * k, (i + 1) * k):
            z[p] /= total


@njit
def exp_shifted(z, n_rows, k, out):
    """``exp(z - max of its row)``: the largest term is 1, so no sum overflows."""
    for i in range(n_rows):
        highest = z[i * k]
        for p in range(i * k + 1, (i + 1) * k):
            highest = z[p] if z[p] > highest else highest
        for p in range(i * k, (i + 1) * k):
            out[p] = z[p] - highest
    # One flat loop, so that short rows are vectorised too.
    for p in range(n_rows * k):
        out[p] = exp(out[p])


def narrow_softmax(lanes: int, alone: bool) -> Callable[..., Any]:
    """The categorical log loss for at most ``lanes`` outputs, which stay in registers.

    One function for each number of lanes, so that nobody waits for the code of the others; each row
    ``alone``, or several side by side.
    """
    most = 1 if alone else STRIP

    @njit(inline=True)
    def strip_loss(z, y, weight, start, stop, k, delta):
        """Of the rows from ``start`` to ``stop``, at most STRIP."""
        zero = z.dtype.type(0.0)
        rest, gap = stack_array(STRIP, zero), stack_array(STRIP, zero)
        i = 0
        while start + i < stop:
            i += softmax_rows(z, y, weight, start, i, stop, k, delta, rest, gap, lanes, most)
        return sum_log_losses(rest, gap, weight, start, stop)

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        total = 0.0
        for start in range(0, n_rows, STRIP):
            total += strip_loss(z, y, weight, start, smaller(start + STRIP, n_rows), k, delta)
        return total

    return value_and_delta


@njit(reduction=True)
def sum_log_losses(rest, gap, weight, start, stop):
    """Weighted sum of the losses of a strip; see ``softmax_rows``."""
    total = 0.0
    for i in range(stop - start):
        total += np.float64(weight[start + i] * (log1p(rest[i]) + gap[i]))
    return total


@njit(reduction=True)
def top_and_rest(z, shifted, start, stop):
    """Where the largest of a row lies, and the sum of the other exponentials.

    log1p of the rest keeps the digits of a small loss, which the log of 1 + rest would lose.
    """
    top = start
    for p in range(start + 1, stop):
        if z[p] > z[top]:
            top = p
    rest = z.dtype.type(0.0)
    for p in range(start, stop):
        if p != top:
            rest += shifted[p]
    return top, rest


@record(
    out_activation="identity",
    reports_mean_of_outputs=True,
    link=identity_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class SquaredError(NamedTuple):
    """½ (z − y)²; identity link."""

    def pointwise(self, z, y):
        r = z - y
        return HALF * r * r, r

    def curvature(self, z, y):
        return ONE + ZERO * z


@record(
    out_activation="identity",
    link=identity_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class AbsoluteError(NamedTuple):
    """|z − y|; identity link.  The derivative at the kink is 0."""

    def pointwise(self, z, y):
        r = z - y
        # r - r keeps the dtype and lets a NaN through.
        return abs(r), ONE if r > 0 else (-ONE if r < 0 else r - r)

    def curvature(self, z, y):
        return ZERO * z


@record(
    out_activation="identity",
    link=identity_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class Huber(NamedTuple):
    """½ r² for |r| ≤ δ, else δ(|r| − ½δ), with r = z − y (Huber 1964); identity link."""

    delta: float = 1.0

    def pointwise(self, z, y):
        r = z - y
        size = abs(r)
        if size > self.delta:
            return self.delta * (size - 0.5 * self.delta), math.copysign(self.delta, r)
        return 0.5 * r * r, 1.0 * r

    def curvature(self, z, y):
        r = z - y
        return ZERO * r if abs(r) > self.delta else ONE + ZERO * r


@record(
    out_activation="identity",
    link=identity_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class Quantile(NamedTuple):
    """Pinball loss max(q (y − z), (q − 1)(y − z)) (Koenker & Bassett 1978); identity link."""

    quantile: float = 0.5

    def pointwise(self, z, y):
        r = y - z
        slope = -self.quantile if r > 0 else (1.0 - self.quantile if r < 0 else r - r)
        return -slope * r, slope

    def curvature(self, z, y):
        return ZERO * z


@record(
    out_activation="exp",
    link=exponential_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class Poisson(NamedTuple):
    """Half the Poisson deviance, eᶻ − y z + y log y − y; exponential link."""

    def pointwise(self, z, y):
        mean = exp(z)
        own = y * np.log(y) - y if y > 0 else y
        return mean - y * z + own, mean - y

    def curvature(self, z, y):
        return exp(z)


@record(
    out_activation="logistic",
    link=logistic_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class BinaryLogLoss(NamedTuple):
    """log(1 + eᶻ) − y z for y in {0, 1}, per output; logistic link."""

    def pointwise(self, z, y):
        # max(z, 0) − y z is exactly 0 for a confident right answer: nothing cancels.
        positive = z if z > 0 else ZERO * y
        return (positive - y * z) + log1p(exp(-abs(z))), logistic(z) - y

    def curvature(self, z, y):
        return logistic(z) * logistic(-z)


@record(
    class_numbers=True,
    out_activation="softmax",
    link=softmax_link,
    hessian_product=softmax_hessian_product,
    **{name: narrow_softmax(*kind) for name, kind in NARROW_NAMES.items()},
)
class CategoricalLogLoss(NamedTuple):
    """−log softmax(z)_y for an integer class y; softmax link."""

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        exp_shifted(z, n_rows, k, delta)
        total = 0.0
        for i in range(n_rows):
            top, rest = top_and_rest(z, delta, i * k, (i + 1) * k)
            own = i * k + y[i]
            total += np.float64(weight[i] * (log1p(rest) + (z[top] - z[own])))
            scale = weight[i] / (ONE + rest)
            for p in range(i * k, (i + 1) * k):
                delta[p] *= scale
            delta[own] -= weight[i]
        return total


@record(out_activation="softmax", link=softmax_link)
class KLDivergence(NamedTuple):
    """Σ y log(y / softmax(z)) for rows y of probabilities; softmax link."""

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        exp_shifted(z, n_rows, k, delta)
        total = 0.0
        for i in range(n_rows):
            top, rest = top_and_rest(z, delta, i * k, (i + 1) * k)
            log_mass = log1p(rest)
            sum_y = z.dtype.type(0.0)
            value = 0.0
            for p in range(i * k, (i + 1) * k):
                if y[p] > 0:
                    value += y[p] * (np.log(y[p]) + (z[top] - z[p]) + log_mass)
                sum_y += y[p]
            total += np.float64(weight[i]) * value
            for p in range(i * k, (i + 1) * k):
                delta[p] = weight[i] * (sum_y * delta[p] / (ONE + rest) - y[p])
        return total

    def hessian_product(self, z, y, weight, n_rows, k, t):
        multiply_by_covariance(z, weight, n_rows, k, t)
        for i in range(n_rows):
            sum_y = z.dtype.type(0.0)
            for p in range(i * k, (i + 1) * k):
                sum_y += y[p]
            for p in range(i * k, (i + 1) * k):
                t[p] *= sum_y


@record(
    threshold=0.0,
    out_activation="identity",
    link=identity_link,
    value_and_delta=sum_pointwise,
    hessian_product=multiply_by_curvature,
)
class Hinge(NamedTuple):
    """max(0, 1 − s z) with s = 2 y − 1 for y in {0, 1}, per output; identity link."""

    def pointwise(self, z, y):
        sign = TWO * y - ONE
        margin = ONE - sign * z
        return (margin, -sign) if not margin <= 0 else (ZERO * sign, ZERO * sign)

    def curvature(self, z, y):
        return ZERO * z


@record(
    class_numbers=True,
    out_activation="identity",
    link=identity_link,
    hessian_product=no_hessian,
)
class CategoricalHinge(NamedTuple):
    """max(0, 1 + max_{j≠y} z_j − z_y) (Crammer & Singer 2001); identity link."""

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        total = 0.0
        for i in range(n_rows):
            own = i * k + y[i]
            rival = -1
            for p in range(i * k, (i + 1) * k):
                delta[p] = 0
                if p != own and (rival < 0 or not z[p] <= z[rival]):
                    rival = p
            margin = ONE + z[rival] - z[own]
            if not margin <= 0:
                total += np.float64(weight[i] * margin)
                delta[rival] = weight[i]
                delta[own] = -weight[i]
        return total


def is_loss(candidate: object) -> bool:
    """Whether an object is a loss: a NamedTuple with the two methods and a named link."""
    return (
        isinstance(candidate, tuple)
        and hasattr(candidate, "_fields")
        and callable(getattr(candidate, "value_and_delta", None))
        and callable(getattr(candidate, "link", None))
        and isinstance(getattr(candidate, "out_activation", None), str)
    )


LOSSES = {
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
    "quantile": Quantile,
    "poisson": Poisson,
    "binary_log_loss": BinaryLogLoss,
    "categorical_log_loss": CategoricalLogLoss,
    "hinge": Hinge,
    "categorical_hinge": CategoricalHinge,
    "kl_divergence": KLDivergence,
}

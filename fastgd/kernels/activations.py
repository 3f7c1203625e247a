"""Activations of the hidden layers: forward and derivative side by side, and one table of names.

A layer names its activation by a code in the layer table, so that each layer can have its own
without a recompilation.  Where it can be, the derivative is a function of the *output*, so that
nothing else has to be kept; the activations in ``NEEDS_RAW`` are not monotonic and keep the
values before the activation as well.

To add one: its pair of loops under a new code below, its name in ``ACTIVATIONS``, its formula in
``tests/naive.py``.
"""

from __future__ import annotations

import math

from fastgd._jit import njit
from fastgd.kernels.elementary import exp, expm1, logistic, normal_cdf, softplus, tanh

IDENTITY, LOGISTIC, TANH, RELU, LEAKY_RELU, ELU, SELU, SOFTPLUS, SILU, GELU = range(10)

ACTIVATIONS = {
    "identity": IDENTITY,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "selu": SELU,
    "softplus": SOFTPLUS,
    "silu": SILU,
    "gelu": GELU,
}
NEEDS_RAW = frozenset({"silu", "gelu"})

LEAKY_SLOPE = 0.01  # Maas, Hannun & Ng 2013
# Klambauer, Unterthiner, Mayr & Hochreiter 2017, "Self-normalizing neural networks", eq. 2
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
INVERSE_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)


@njit
def activate(code, z):
    """Replace the raw values ``z`` by the activation of them."""
    n = z.size
    zero = z.dtype.type(0.0)
    if code == LOGISTIC:
        for i in range(n):
            z[i] = logistic(z[i])
    elif code == TANH:
        for i in range(n):
            z[i] = tanh(z[i])
    elif code == RELU:
        for i in range(n):
            # Not max(z, 0): a NaN has to stay one, or a diverged network would go unseen.
            z[i] = zero if z[i] < zero else z[i]
    elif code == LEAKY_RELU:
        slope = z.dtype.type(LEAKY_SLOPE)
        for i in range(n):
            z[i] = slope * z[i] if z[i] < zero else z[i]
    elif code in (ELU, SELU):
        # Clevert, Unterthiner & Hochreiter 2016, with alpha = 1; SELU scales both branches.
        scale = z.dtype.type(SELU_SCALE if code == SELU else 1.0)
        alpha = z.dtype.type(SELU_SCALE * SELU_ALPHA if code == SELU else 1.0)
        for i in range(n):
            z[i] = alpha * expm1(z[i]) if z[i] < zero else scale * z[i]
    elif code == SOFTPLUS:
        for i in range(n):
            z[i] = softplus(z[i])
    elif code == SILU:
        for i in range(n):
            z[i] = z[i] * logistic(z[i])
    elif code == GELU:
        # Hendrycks & Gimpel 2016, the exact form: z Φ(z).
        for i in range(n):
            z[i] = z[i] * normal_cdf(z[i])


@njit
def activate_backward(code, a, raw, delta):
    """Multiply ``delta`` by the derivative, given the outputs ``a`` (and ``raw`` values)."""
    n = delta.size
    zero = delta.dtype.type(0.0)
    one = delta.dtype.type(1.0)
    if code == LOGISTIC:
        for i in range(n):
            delta[i] *= a[i] * (one - a[i])
    elif code == TANH:
        for i in range(n):
            delta[i] *= one - a[i] * a[i]
    elif code == RELU:
        for i in range(n):
            delta[i] = zero if a[i] == zero else delta[i]
    elif code == LEAKY_RELU:
        slope = delta.dtype.type(LEAKY_SLOPE)
        for i in range(n):
            delta[i] = slope * delta[i] if a[i] < zero else delta[i]
    elif code in (ELU, SELU):
        scale = delta.dtype.type(SELU_SCALE if code == SELU else 1.0)
        alpha = delta.dtype.type(SELU_SCALE * SELU_ALPHA if code == SELU else 1.0)
        for i in range(n):
            delta[i] *= a[i] + alpha if a[i] < zero else scale
    elif code == SOFTPLUS:
        for i in range(n):
            delta[i] *= -expm1(-a[i])
    elif code == SILU:
        for i in range(n):
            s = logistic(raw[i])
            delta[i] *= s + a[i] * (one - s)
    elif code == GELU:
        half = delta.dtype.type(0.5)
        density = delta.dtype.type(INVERSE_ROOT_TWO_PI)
        for i in range(n):
            z = raw[i]
            delta[i] *= normal_cdf(z) + z * density * exp(-half * z * z)

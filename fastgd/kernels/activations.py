"""Activations of the hidden layers: forward and derivative side by side, and one table of names.

Each pair is compiled by itself, when a network first asks for it; kernels call it by its address.
Where it can be, the derivative is a function of the *output*, so that nothing else has to be
kept; the activations in ``NEEDS_RAW`` are not monotonic and keep the values before the activation
as well.

To add one: its pair of functions, its name in ``ACTIVATIONS``, its formula in ``tests/naive.py``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fastgd._jit import native_address
from fastgd.kernels.elementary import exp, expm1, logistic, normal_cdf, softplus, tanh
from fastgd.kernels.parts import activate_backward_signature, activate_signature

LEAKY_SLOPE = 0.01  # Maas, Hannun & Ng 2013
# Klambauer, Unterthiner, Mayr & Hochreiter 2017, "Self-normalizing neural networks", eq. 2
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
INVERSE_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)


def identity(z):
    pass


def identity_backward(a, raw, delta):
    pass


def logistic_forward(z):
    for i in range(z.size):
        z[i] = logistic(z[i])


def logistic_backward(a, raw, delta):
    one = delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= a[i] * (one - a[i])


def tanh_forward(z):
    for i in range(z.size):
        z[i] = tanh(z[i])


def tanh_backward(a, raw, delta):
    one = delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= one - a[i] * a[i]


def relu(z):
    zero = z.dtype.type(0.0)
    for i in range(z.size):
        # Not max(z, 0): a NaN has to stay one, or a diverged network would go unseen.
        z[i] = zero if z[i] < zero else z[i]


def relu_backward(a, raw, delta):
    zero = delta.dtype.type(0.0)
    for i in range(delta.size):
        delta[i] = zero if a[i] == zero else delta[i]


def leaky_relu(z):
    zero, slope = z.dtype.type(0.0), z.dtype.type(LEAKY_SLOPE)
    for i in range(z.size):
        z[i] = slope * z[i] if z[i] < zero else z[i]


def leaky_relu_backward(a, raw, delta):
    zero, slope = delta.dtype.type(0.0), delta.dtype.type(LEAKY_SLOPE)
    for i in range(delta.size):
        delta[i] = slope * delta[i] if a[i] < zero else delta[i]


def elu(z):
    # Clevert, Unterthiner & Hochreiter 2016, with alpha = 1.
    zero = z.dtype.type(0.0)
    for i in range(z.size):
        z[i] = expm1(z[i]) if z[i] < zero else z[i]


def elu_backward(a, raw, delta):
    zero, one = delta.dtype.type(0.0), delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= a[i] + one if a[i] < zero else one


def selu(z):
    zero = z.dtype.type(0.0)
    scale, alpha = z.dtype.type(SELU_SCALE), z.dtype.type(SELU_SCALE * SELU_ALPHA)
    for i in range(z.size):
        z[i] = alpha * expm1(z[i]) if z[i] < zero else scale * z[i]


def selu_backward(a, raw, delta):
    zero = delta.dtype.type(0.0)
    scale, alpha = delta.dtype.type(SELU_SCALE), delta.dtype.type(SELU_SCALE * SELU_ALPHA)
    for i in range(delta.size):
        delta[i] *= a[i] + alpha if a[i] < zero else scale


def softplus_forward(z):
    for i in range(z.size):
        z[i] = softplus(z[i])


def softplus_backward(a, raw, delta):
    for i in range(delta.size):
        delta[i] *= -expm1(-a[i])


def silu(z):
    for i in range(z.size):
        z[i] = z[i] * logistic(z[i])


def silu_backward(a, raw, delta):
    one = delta.dtype.type(1.0)
    for i in range(delta.size):
        s = logistic(raw[i])
        delta[i] *= s + a[i] * (one - s)


def gelu(z):
    # Hendrycks & Gimpel 2016, the exact form: z Φ(z).
    for i in range(z.size):
        z[i] = z[i] * normal_cdf(z[i])


def gelu_backward(a, raw, delta):
    half, density = delta.dtype.type(0.5), delta.dtype.type(INVERSE_ROOT_TWO_PI)
    for i in range(delta.size):
        z = raw[i]
        delta[i] *= normal_cdf(z) + z * density * exp(-half * z * z)


ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "identity": (identity, identity_backward),
    "logistic": (logistic_forward, logistic_backward),
    "tanh": (tanh_forward, tanh_backward),
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "elu": (elu, elu_backward),
    "selu": (selu, selu_backward),
    "softplus": (softplus_forward, softplus_backward),
    "silu": (silu, silu_backward),
    "gelu": (gelu, gelu_backward),
}
NAMES = tuple(ACTIVATIONS)  # the layer table names an activation by its place
NEEDS_RAW = frozenset({"silu", "gelu"})


@functools.cache
def activation_addresses(name: str, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Where the compiled pair lies; compiles it, or loads it from disk, on its first use.

    The identity, which has nothing to do, lies at 0.
    """
    if name == "identity":
        return 0, 0
    real = numba.from_dtype(dtype)
    signatures = activate_signature(real), activate_backward_signature(real)
    forward, backward = (
        native_address(function, signature, f"{function.__module__}.{function.__name__}", ours=True)
        for function, signature in zip(ACTIVATIONS[name], signatures, strict=True)
    )
    return forward, backward

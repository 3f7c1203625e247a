"""Activations of the hidden layers: each with its two derivatives, and one table of names.

``φ(z)`` replaces raw values by the activation of them, ``φ_backward(a, raw, delta)`` multiplies
``delta`` by φ′, and ``φ_curvature(a, raw, delta)`` by φ″.  Each is compiled by itself, when a
network first asks for it; kernels call it by its address.  Where it can be, a derivative is a
function of the *output*, so that nothing else has to be kept; the activations in ``NEEDS_RAW`` are
not monotonic and keep the values before the activation as well.

To add one: its three functions, its name in ``ACTIVATIONS``, its formula in ``tests/naive.py``.
At a kink the second derivative is that of the sides, as the first one is.

None leaves an element as it is in a branch of its own: LLVM makes a masked store of that, for which
some processors take tens of cycles.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fastgd._jit import native_address
from fastgd.kernels.elementary import exp, expm1, logistic, maximum, normal_cdf, softplus, tanh
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


def no_curvature(a, raw, delta):
    """Of an activation made of straight pieces."""
    for i in range(delta.size):
        delta[i] = 0


def logistic_forward(z):
    for i in range(z.size):
        z[i] = logistic(z[i])


def logistic_backward(a, raw, delta):
    one = delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= a[i] * (one - a[i])


def logistic_curvature(a, raw, delta):
    one, two = delta.dtype.type(1.0), delta.dtype.type(2.0)
    for i in range(delta.size):
        delta[i] *= a[i] * (one - a[i]) * (one - two * a[i])


def tanh_forward(z):
    for i in range(z.size):
        z[i] = tanh(z[i])


def tanh_backward(a, raw, delta):
    one = delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= one - a[i] * a[i]


def tanh_curvature(a, raw, delta):
    one, two = delta.dtype.type(1.0), delta.dtype.type(2.0)
    for i in range(delta.size):
        delta[i] *= -two * a[i] * (one - a[i] * a[i])


def relu(z):
    zero = z.dtype.type(0.0)
    for i in range(z.size):
        # A NaN stays one, or a diverged network would go unseen.
        z[i] = maximum(zero, z[i])


def relu_backward(a, raw, delta):
    zero = delta.dtype.type(0.0)
    for i in range(delta.size):
        # Written so, it becomes a masked load.
        delta[i] = zero if a[i] == zero else delta[i]


def leaky_relu(z):
    zero, one, slope = z.dtype.type(0.0), z.dtype.type(1.0), z.dtype.type(LEAKY_SLOPE)
    for i in range(z.size):
        z[i] *= slope if z[i] < zero else one


def leaky_relu_backward(a, raw, delta):
    zero, one = delta.dtype.type(0.0), delta.dtype.type(1.0)
    slope = delta.dtype.type(LEAKY_SLOPE)
    for i in range(delta.size):
        delta[i] *= slope if a[i] < zero else one


def elu(z):
    # Clevert, Unterthiner & Hochreiter 2016, with alpha = 1.
    zero = z.dtype.type(0.0)
    for i in range(z.size):
        z[i] = max(z[i], zero) + expm1(min(z[i], zero))


def elu_backward(a, raw, delta):
    zero, one = delta.dtype.type(0.0), delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= a[i] + one if a[i] < zero else one


def elu_curvature(a, raw, delta):
    zero, one = delta.dtype.type(0.0), delta.dtype.type(1.0)
    for i in range(delta.size):
        delta[i] *= a[i] + one if a[i] < zero else zero


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


def selu_curvature(a, raw, delta):
    zero, alpha = delta.dtype.type(0.0), delta.dtype.type(SELU_SCALE * SELU_ALPHA)
    for i in range(delta.size):
        delta[i] *= a[i] + alpha if a[i] < zero else zero


def softplus_forward(z):
    for i in range(z.size):
        z[i] = softplus(z[i])


def softplus_backward(a, raw, delta):
    for i in range(delta.size):
        delta[i] *= -expm1(-a[i])


def softplus_curvature(a, raw, delta):
    for i in range(delta.size):
        slope = -expm1(-a[i])
        delta[i] *= slope * exp(-a[i])


def silu(z):
    for i in range(z.size):
        z[i] = z[i] * logistic(z[i])


def silu_backward(a, raw, delta):
    one = delta.dtype.type(1.0)
    for i in range(delta.size):
        s = logistic(raw[i])
        delta[i] *= s + a[i] * (one - s)


def silu_curvature(a, raw, delta):
    one, two = delta.dtype.type(1.0), delta.dtype.type(2.0)
    for i in range(delta.size):
        s = logistic(raw[i])
        delta[i] *= s * (one - s) * (two + raw[i] * (one - two * s))


def gelu(z):
    # Hendrycks & Gimpel 2016, the exact form: z Φ(z).
    for i in range(z.size):
        z[i] = z[i] * normal_cdf(z[i])


def gelu_backward(a, raw, delta):
    half, density = delta.dtype.type(0.5), delta.dtype.type(INVERSE_ROOT_TWO_PI)
    for i in range(delta.size):
        z = raw[i]
        delta[i] *= normal_cdf(z) + z * density * exp(-half * z * z)


def gelu_curvature(a, raw, delta):
    half, two = delta.dtype.type(0.5), delta.dtype.type(2.0)
    density = delta.dtype.type(INVERSE_ROOT_TWO_PI)
    for i in range(delta.size):
        z = raw[i]
        delta[i] *= density * exp(-half * z * z) * (two - z * z)


ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "identity": (identity, identity_backward, no_curvature),
    "logistic": (logistic_forward, logistic_backward, logistic_curvature),
    "tanh": (tanh_forward, tanh_backward, tanh_curvature),
    "relu": (relu, relu_backward, no_curvature),
    "leaky_relu": (leaky_relu, leaky_relu_backward, no_curvature),
    "elu": (elu, elu_backward, elu_curvature),
    "selu": (selu, selu_backward, selu_curvature),
    "softplus": (softplus_forward, softplus_backward, softplus_curvature),
    "silu": (silu, silu_backward, silu_curvature),
    "gelu": (gelu, gelu_backward, gelu_curvature),
}
NAMES = tuple(ACTIVATIONS)  # the layer table names an activation by its place
NEEDS_RAW = frozenset({"silu", "gelu"})


@functools.cache
def activation_addresses(name: str, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Where the activation and its derivative lie; compiles them, or loads them, on first use.

    The identity, which has nothing to do, lies at 0.
    """
    if name == "identity":
        return 0, 0
    real = numba.from_dtype(dtype)
    forward, backward, _ = ACTIVATIONS[name]
    return (
        _address(forward, activate_signature(real)),
        _address(backward, activate_backward_signature(real)),
    )


@functools.cache
def curvature_address(name: str, dtype: np.dtype[Any]) -> int:
    """Where the second derivative of an activation lies; 0 if it is 0 everywhere."""
    curvature = ACTIVATIONS[name][2]
    if curvature is no_curvature:
        return 0
    return _address(curvature, activate_backward_signature(numba.from_dtype(dtype)))


def _address(function: Callable[..., Any], signature: Any) -> int:
    name = f"{function.__module__}.{function.__name__}"
    return native_address(function, signature, name, ours=True)

"""Bounds on a training step: clipping of the gradient, largest norm of a unit's weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from fastgd._jit import dispatch_on_class, njit
from fastgd.kernels.linalg import sum_of_squares
from fastgd.kernels.parts import NOTHING, Part, clip_signature, constrain_signature, make_part
from fastgd.kernels.plan import LAYER

# The squares of numbers so many times smaller than any are no longer too large for float64.
SHRINK = 2.0**600


class Limits(NamedTuple):
    """Bounds on a training step; 0 switches one off."""

    clip_value: float  # of each element of the gradient
    clip_norm: float  # of the Euclidean norm of the whole gradient
    max_norm: float  # of the norm of the weights into one unit

    def clip(self, grad):
        if self.clip_value > 0.0:
            bound = grad.dtype.type(self.clip_value)
            for i in range(grad.size):
                grad[i] = bound if grad[i] > bound else (-bound if grad[i] < -bound else grad[i])
        if self.clip_norm > 0.0:
            norm = math.sqrt(sum_of_squares(grad))
            if norm == math.inf:  # of squares that float64 does not hold
                multiply(grad, 1.0 / SHRINK)
                norm = math.sqrt(sum_of_squares(grad))
                multiply(grad, min(self.clip_norm / norm, SHRINK))
            elif norm > self.clip_norm:
                multiply(grad, self.clip_norm / norm)

    def constrain(self, layers, w, norms):
        if self.max_norm > 0.0:
            for l in range(layers.size):
                scale_columns(w, layers[l], self.max_norm, norms)


@njit
def multiply(x, factor):
    """``x *= factor``."""
    factor = x.dtype.type(factor)
    for i in range(x.size):
        x[i] *= factor


@njit
def scale_columns(w, layer, max_norm, norms):
    """Scale down the weights into each unit of a layer whose norm exceeds ``max_norm``."""
    h = layer.n_out
    for j in range(h):
        norms[j] = 0
    for i in range(layer.n_in):
        for j in range(h):
            value = w[layer.weights + i * h + j]
            norms[j] += value * value
    for j in range(h):
        norm = math.sqrt(np.float64(norms[j]))
        if norm == math.inf:  # of squares that float32 does not hold
            total = 0.0
            for i in range(layer.n_in):
                total += np.float64(w[layer.weights + i * h + j]) ** 2
            norm = math.sqrt(total)
        norms[j] = max_norm / norm if norm > max_norm else 1.0
    for i in range(layer.n_in):
        for j in range(h):
            w[layer.weights + i * h + j] *= norms[j]


@dispatch_on_class
def clip(limits, grad):
    """Bound the gradient, first element by element, then as a whole."""
    limits.clip(grad)


@dispatch_on_class
def constrain(limits, layers, w, norms):
    """Bound the parameters after an update; ``norms`` is room for one number a unit."""
    limits.constrain(layers, w, norms)


def limit_parts(limits: Limits, dtype: Any) -> dict[str, Part]:
    """What the kernels call for some limits: ``clip`` and ``constrain``."""
    if not any(limits):
        return {"clip": NOTHING, "constrain": NOTHING}
    real = numba.from_dtype(np.dtype(dtype))
    constrains = constrain_signature(numba.from_dtype(LAYER), real)
    return {
        "clip": make_part(limits, _clip_part, "clip", clip_signature(real)),
        "constrain": make_part(limits, _constrain_part, "constrain", constrains),
    }


def _clip_part(rebuild: Any, cls: type) -> Any:
    def run(fields, grad):
        clip(rebuild(fields), grad)

    return run


def _constrain_part(rebuild: Any, cls: type) -> Any:
    def run(fields, layers, w, norms):
        constrain(rebuild(fields), layers, w, norms)

    return run

"""Initial weights: one function a scheme, and one table of names.

Each takes (random_state, fan_in, fan_out, activation) and returns a weight matrix
(fan_in, fan_out) and a bias vector (fan_out,).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from fastgd.kernels.aligned import PARAMETERS, aligned_empty

Layer = tuple[NDArray[Any], NDArray[Any]]


def glorot(random_state: RandomState, fan_in: int, fan_out: int, activation: str) -> Layer:
    """U(±√(6 / (fan_in + fan_out))), biases too; 2 instead of 6 for the logistic function.

    Glorot & Bengio 2010, eq. 16; number for number what scikit-learn draws.
    """
    bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + fan_out))
    weights = random_state.uniform(-bound, bound, (fan_in, fan_out))
    return weights, random_state.uniform(-bound, bound, fan_out)


def he(random_state: RandomState, fan_in: int, fan_out: int, activation: str) -> Layer:
    """N(0, 2 / fan_in), zero biases: He et al. 2015, eq. 10, for rectifiers."""
    scale = np.sqrt(2.0 / fan_in)
    return random_state.normal(0.0, scale, (fan_in, fan_out)), np.zeros(fan_out)


def lecun(random_state: RandomState, fan_in: int, fan_out: int, activation: str) -> Layer:
    """N(0, 1 / fan_in), zero biases: LeCun et al. 1998, eq. 16; the one that SELU needs."""
    scale = np.sqrt(1.0 / fan_in)
    return random_state.normal(0.0, scale, (fan_in, fan_out)), np.zeros(fan_out)


def orthogonal(random_state: RandomState, fan_in: int, fan_out: int, activation: str) -> Layer:
    """A random matrix with orthonormal rows or columns, zero biases: Saxe et al. 2014."""
    tall = random_state.normal(size=(max(fan_in, fan_out), min(fan_in, fan_out)))
    q, r = np.linalg.qr(tall)
    # Without the signs the distribution would not be uniform over the orthogonal group.
    q *= np.sign(np.diag(r))
    return (q if fan_in >= fan_out else q.T), np.zeros(fan_out)


INITIALIZERS: dict[str, Callable[[RandomState, int, int, str], Layer]] = {
    "glorot": glorot,
    "he": he,
    "lecun": lecun,
    "orthogonal": orthogonal,
}


def initial_parameters(
    init: str | Callable[..., Any],
    random_state: RandomState,
    sizes: tuple[int, ...],
    activations: tuple[str, ...],
    dtype: Any,
) -> NDArray[Any]:
    """The flat parameter vector (n,) that training starts from.

    ``activations`` has one name for each layer with weights.  A callable ``init`` is called with
    (fan_in, fan_out, random_state) and returns the weights (fan_in, fan_out); biases are then 0.
    """
    n_weights = sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes))
    w = aligned_empty(n_weights + sum(sizes[1:]), dtype, PARAMETERS)
    weights, biases = 0, n_weights
    for fan_in, fan_out, activation in zip(sizes[:-1], sizes[1:], activations, strict=True):
        if callable(init):
            drawn = np.asarray(init(fan_in, fan_out, random_state))
            drawn = drawn.astype(np.float64) if np.isrealobj(drawn) else drawn
            layer = drawn, np.zeros(fan_out)
        else:
            layer = INITIALIZERS[init](random_state, fan_in, fan_out, activation)
        drawn = layer[0]
        is_good = np.isrealobj(drawn) and np.isfinite(drawn).all()
        if drawn.shape != (fan_in, fan_out) or not is_good:
            raise ValueError(
                f"init must return finite real weights of shape {(fan_in, fan_out)},"
                f" got an array of shape {drawn.shape} and {drawn.dtype} from {init!r}."
            )
        w[weights : weights + fan_in * fan_out] = np.ravel(layer[0])
        w[biases : biases + fan_out] = layer[1]
        weights, biases = weights + fan_in * fan_out, biases + fan_out
    return w

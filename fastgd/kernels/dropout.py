"""Inverted dropout with a counter-based generator.

Whether an output is dropped is a pure function of (seed, position): the backward pass draws the
same mask again instead of storing it, the loop vectorises, and the result does not depend on the
order in which anything is computed.

Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting";
the mixing function is SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from fastgd._jit import dispatch_on_class, njit
from fastgd.kernels.parts import Part, drop_signature, make_part

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
TO_32_BITS = np.uint64(32)


@njit(inline=True)
def uniform_32_bits(seed, position):
    """32 random bits that belong to this seed and position."""
    bits = seed + GOLDEN * np.uint64(position + 1)
    bits = (bits ^ (bits >> SHIFTS[0])) * MIX_1
    bits = (bits ^ (bits >> SHIFTS[1])) * MIX_2
    return (bits ^ (bits >> SHIFTS[2])) >> TO_32_BITS


class Dropout(NamedTuple):
    """The masks of one fit."""

    seed: int

    def drop(self, a, first, rate, step, layer):
        seed = layer_seed(self.seed, step, layer)
        threshold = np.uint64(rate * 4294967296.0)
        scale = a.dtype.type(1.0 / (1.0 - rate))
        zero = a.dtype.type(0.0)
        for i in range(a.size):
            a[i] = zero if uniform_32_bits(seed, first + i) < threshold else a[i] * scale


@dispatch_on_class
def drop(dropout, a, first, rate, step, layer):
    """Set a share ``rate`` of ``a`` to zero and scale up the rest.

    The same elements for outputs and, on the way back, for derivatives; ``first`` is the place of
    ``a[0]`` among all outputs of the layer for the batch.
    """
    dropout.drop(a, first, rate, step, layer)


def dropout_part(dropout: Any, dtype: Any) -> Part:
    """What the kernels call for a record with a method ``drop``."""
    return make_part(dropout, _drop_part, "drop", drop_signature(numba.from_dtype(np.dtype(dtype))))


def _drop_part(rebuild: Any, cls: type) -> Any:
    def run(fields, a, first, rate, step, layer):
        drop(rebuild(fields), a, first, rate, step, layer)

    return run


@njit
def layer_seed(seed, step, layer):
    """A seed for one layer in one training step."""
    return mixed(mixed(np.uint64(seed), step), layer)


@njit
def mixed(seed, number):
    """64 bits that belong to this seed and number."""
    high, low = uniform_32_bits(seed, 2 * number), uniform_32_bits(seed, 2 * number + 1)
    return (high << TO_32_BITS) | low

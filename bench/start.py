"""What all peers begin with: the same weights, and a generator that draws the same orders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from bench.cells import SEED, Cell
from fastgd.kernels.layout import layer_table, parameter_views
from fastgd.neural_network.initialization import initial_parameters

Arrays = list[NDArray[Any]]


def start(cell: Cell, seed: int = SEED) -> tuple[NDArray[Any], RandomState]:
    """The flat vector of initial parameters, and the generator that drew it.

    Number for number what a fit with ``random_state=seed`` draws; its shuffles come next.
    """
    random_state = RandomState(seed)
    names = (cell.activation,) * (len(cell.sizes) - 1)
    return initial_parameters("glorot", random_state, cell.sizes, names, cell.dtype), random_state


def views(cell: Cell, w: NDArray[Any]) -> tuple[Arrays, Arrays]:
    """Weight matrices (fan_in, fan_out) and bias vectors within the flat vector."""
    layers = layer_table(cell.sizes, (cell.activation,) * (len(cell.sizes) - 2))
    return parameter_views(w, layers)


def flat(weights: Any, biases: Any) -> NDArray[Any]:
    """The flat vector of the given weights (fan_in, fan_out) and biases."""
    return np.concatenate([np.asarray(a).ravel() for a in (*weights, *biases)])

"""Where everything lies: the layer table, the flat parameter vector, the workspace of a batch.

The parameter vector holds all weight matrices, then all bias vectors, in the order in which
scikit-learn packs its own; so the part that the L2 penalty sees is ``w[:n_weights]``.

Shape letters: B rows of a batch, L layers with weights, n parameters.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgd.kernels.activations import ACTIVATIONS, NEEDS_RAW
from fastgd.kernels.gemm import Engine, make_engine

LAYER = np.dtype(
    [
        ("n_in", np.int64),
        ("n_out", np.int64),
        ("weights", np.int64),  # offset in w of the (n_in, n_out) matrix
        ("biases", np.int64),  # offset in w of the (n_out,) vector
        ("outputs", np.int64),  # offset in the workspace, to be multiplied by B
        ("raw", np.int64),  # the same for the values before the activation; -1: not kept
        ("activation", np.int64),
        ("dropout", np.float64),  # share of the outputs that training sets to zero
    ]
)


class Workspace(NamedTuple):
    """What a batch needs; one per thread."""

    x: NDArray[Any]  # gathered rows of the input, B × D
    units: NDArray[Any]  # outputs of all layers, and raw values where an activation asks
    delta: NDArray[Any]  # derivatives by the raw values, B × the widest layer
    delta_below: NDArray[Any]
    y: NDArray[Any]  # targets of the batch
    weight: NDArray[Any]  # sample weights of the batch, (B,)
    engine: Engine  # what computes matrix products


@functools.lru_cache(maxsize=128)
def layer_table(
    sizes: tuple[int, ...], activations: tuple[str, ...], dropout: tuple[float, ...] = ()
) -> NDArray[Any]:
    """Describe a network to the kernels.

    Parameters
    ----------
    sizes : tuple of int
        Number of features, of units of each hidden layer, and of outputs.
    activations : tuple of str
        Activation of each hidden layer; the last layer's outputs stay raw, for the loss.
    dropout : tuple of float, default=()
        Dropout rate of each hidden layer; empty: none.

    Returns
    -------
    table : ndarray of shape (L,) and dtype LAYER
        Shared between calls: not to be written to.
    """
    n_layers = len(sizes) - 1
    table = np.zeros(n_layers, LAYER)
    table["n_in"], table["n_out"] = sizes[:-1], sizes[1:]
    n_weights = table["n_in"] * table["n_out"]
    table["weights"] = np.cumsum(n_weights) - n_weights
    table["biases"] = n_weights.sum() + np.cumsum(table["n_out"]) - table["n_out"]
    names = (*activations, "identity")
    table["activation"] = [ACTIVATIONS[name] for name in names]
    table["dropout"][: len(dropout)] = dropout
    offset = 0
    for layer, name in zip(table, names, strict=True):
        layer["outputs"], offset = offset, offset + layer["n_out"]
        layer["raw"] = -1
        if name in NEEDS_RAW:
            layer["raw"], offset = offset, offset + layer["n_out"]
    return table


def n_parameters(layers: NDArray[Any]) -> int:
    """Length n of the flat parameter vector."""
    return int((layers["n_in"] * layers["n_out"] + layers["n_out"]).sum())


def parameter_views(
    w: NDArray[Any], layers: NDArray[Any]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Weight matrices (n_in, n_out) and bias vectors (n_out,) as views of ``w``."""
    coefs, intercepts = [], []
    for layer in layers:
        n_in, n_out, start = int(layer["n_in"]), int(layer["n_out"]), int(layer["weights"])
        coefs.append(w[start : start + n_in * n_out].reshape(n_in, n_out))
        intercepts.append(w[int(layer["biases"]) : int(layer["biases"]) + n_out])
    return coefs, intercepts


def make_workspace(
    layers: NDArray[Any], batch_size: int, dtype: DTypeLike, y: NDArray[Any], gather: bool
) -> Workspace:
    """Allocate the buffers for batches of at most ``batch_size`` rows.

    ``gather`` says whether rows of a dense input will be copied together.
    """
    last = layers[-1]
    kept = layers["outputs"].max() + last["n_out"]
    widest = int(layers["n_out"].max())
    n_features = int(layers["n_in"][0]) if gather else 0
    return Workspace(
        x=np.empty(batch_size * n_features, dtype),
        units=np.empty(batch_size * int(kept), dtype),
        delta=np.empty(batch_size * widest, dtype),
        delta_below=np.empty(batch_size * widest, dtype),
        y=np.empty(batch_size * y.shape[1], y.dtype),
        weight=np.ones(batch_size, dtype),
        engine=make_engine(dtype, widest),
    )

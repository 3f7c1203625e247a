"""Where everything lies: the layer table, the flat parameter vector, the buffers of a batch.

The parameter vector holds all weight matrices, then all bias vectors, in the order in which
scikit-learn packs its own; so the part that the L2 penalty sees is ``w[:n_weights]``.

Shape letters: B rows of a batch, L layers with weights, n parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastgd.kernels.activations import ACTIVATIONS, NAMES, NEEDS_RAW, activation_addresses
from fastgd.kernels.aligned import (
    CACHE_LINE,
    GRADIENT,
    LINE_NUMBERS,
    aligned_copy,
    aligned_empty,
    aligned_zeros,
    whole_lines,
)
from fastgd.kernels.gemm import SMALL, product_entries
from fastgd.kernels.halves import halves_entries
from fastgd.kernels.listed import room_like
from fastgd.kernels.network import losses_and_deltas_entry
from fastgd.kernels.panels import panels_entry
from fastgd.kernels.plan import LAYER, Plan
from fastgd.kernels.shares import even_out_entry, shares_of
from fastgd.kernels.tiles import HAS_TILES
from fastgd.kernels.zeros import COLUMNS_BYTES

T = TypeVar("T")

# Parameters are dealt out to threads in chunks of about this many, in small networks of an eighth
# of all, and of whole rows: a multiple of the rows of a tile on every CPU, if the chunks are large.
# The smallest networks, which seldom have two threads, are one chunk: each costs 0.1 µs.
CHUNK_PARAMETERS, SMALLEST_CHUNK = 27_000, 2_600
ROW_MULTIPLE, ROW_MULTIPLE_OF_SMALL = 12, 4
# The derivatives of a wide layer are packed: in panels, once for all chunks, or for each chunk, and
# then more rows make that worth it.  More are also worth a search in each sample, if it is sparse.
WIDE, ROWS_BY_PANELS, ROWS_OF_A_WIDE_LAYER = 512, 64, 192
# Inputs from which panels are used so often that they are worth it.  (10 % slower: 10 inputs.)
LEAST_INPUTS = 192
# Numbers in a row of a panel, on any CPU, or a multiple of them.
PANEL_MULTIPLE = 32
# Multiplications a step from which two threads may be worth it in a small network.
WORTH_PARTS = 800_000
# Multiplications of a batch from which members of a team help each other with its rows, for which
# more of them pass over all weights: those must stay in a second-level cache, or the members take
# as many rows as they are fast.
WORTH_DEALING, MOST_BYTES_TO_DEAL = 20_000_000, 2**21
# Features for each row of a batch from which two threads take a half of them each.
MANY_FEATURES = 3
# Rows whose losses are summed at a time, at least.
LOSS_ROWS = 16
# Rows of a batch for each thread at least.
ROWS_OF_A_THREAD = 12


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
    for name in activations:
        if name not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}.")
    names = (*activations, "identity")
    table["activation"] = [NAMES.index(name) for name in names]
    table["deltas"] = np.cumsum(table["n_out"]) - table["n_out"]
    table["dropout"][: len(dropout)] = dropout
    is_packed = (table["n_out"] >= WIDE) & (table["n_in"] >= LEAST_INPUTS)
    widths = np.where(is_packed, whole_panels(table["n_out"]), 0)
    table["panels"] = np.where(is_packed, np.cumsum(widths) - widths, -1)
    offset = 0
    for layer, name in zip(table, names, strict=True):
        layer["outputs"], offset = offset, offset + layer["n_out"]
        layer["raw"] = -1
        if name in NEEDS_RAW:
            layer["raw"], offset = offset, offset + layer["n_out"]
        layer["undropped"] = -1
        if layer["dropout"] > 0.0:
            layer["undropped"], offset = offset, offset + layer["n_out"]
    return table


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """Remember what a function of a layer table and of numbers returned.

    NumPy takes microseconds for each sum over a few layers, and some fits take a millisecond.
    """

    @functools.lru_cache(maxsize=256)
    def of_bytes(table: bytes, *numbers: int) -> T:
        return function(np.frombuffer(table, LAYER), *numbers)

    @functools.wraps(function)
    def of_table(layers: NDArray[Any], *numbers: int) -> T:
        return of_bytes(layers.tobytes(), *numbers)

    return of_table


@remembered
def n_parameters(layers: NDArray[Any]) -> int:
    """Length n of the flat parameter vector."""
    last = layers[-1]
    return int(last["biases"] + last["n_out"])


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


def whole_panels(n_out: NDArray[np.int64]) -> NDArray[np.int64]:
    """Units of panels that hold those of a layer."""
    return -(-n_out // PANEL_MULTIPLE) * PANEL_MULTIPLE


@remembered
def n_panel_units(layers: NDArray[Any]) -> int:
    """Numbers in the ``panels`` of a sample."""
    return int(whole_panels(layers["n_out"][layers["panels"] >= 0]).sum())


@remembered
def multiplications(layers: NDArray[Any], n_rows: int) -> int:
    """Number of multiplications of a training step on ``n_rows`` samples, about."""
    return 3 * n_rows * int((layers["n_in"] * layers["n_out"]).sum())


def chunk_bounds(
    layers: NDArray[Any], in_panels: bool = False, group_rows: int = 1
) -> NDArray[np.int64]:
    """Where the chunks of the parameter vector begin and end, shape (C + 1,).

    A chunk is what one thread computes the gradient of and updates at a time.  The chunks do not
    depend on the number of threads.  Those of the first layer's weights consist, if that is not 1,
    of so many rows, or a multiple of them.
    """
    n, n_weights = n_parameters(layers), int(layers[0]["biases"])
    target = min(max(n // 8, SMALLEST_CHUNK), CHUNK_PARAMETERS)
    widest = int(layers["n_out"].max())
    if group_rows > 1:
        target = min(target, max(group_rows * widest, SMALLEST_CHUNK))
    if widest >= WIDE:
        target = max(target, widest * (ROWS_BY_PANELS if in_panels else ROWS_OF_A_WIDE_LAYER))
    least = max(target // 2, 1)
    # An even number, so that two threads have the same to do.
    n_chunks = 2 * round(n / (2 * target)) or 1
    bounds = [0]
    for wanted in range(1, n_chunks):
        place = min(n * wanted // n_chunks, n_weights - 1)
        layer = layers[np.searchsorted(layers["weights"], place, side="right") - 1]
        n_in, n_out, start = int(layer["n_in"]), int(layer["n_out"]), int(layer["weights"])
        is_small = 4 * ROW_MULTIPLE * n_out > target
        multiple = ROW_MULTIPLE_OF_SMALL if is_small else ROW_MULTIPLE
        if start == 0 and target >= group_rows * n_out:
            multiple = max(multiple, group_rows)
        row = min(round((place - start) / (n_out * multiple)) * multiple, n_in)
        if start + row * n_out - bounds[-1] >= least:
            bounds.append(start + row * n_out)
    # What is left over, and the biases, belong to the last one.
    bounds[max(len(bounds) - (n - bounds[-1] < least), 1) :] = [n]
    return np.array(bounds)


@remembered
def kept_units(layers: NDArray[Any]) -> int:
    """Numbers in the ``units`` of a sample: outputs of all layers, and what else is kept."""
    return int(layers["outputs"].max() + layers[-1]["n_out"])


@remembered
def n_units(layers: NDArray[Any]) -> int:
    """Number of units of all layers."""
    return int(layers["n_out"].sum())


def network_plan(
    layers: NDArray[Any], dtype: Any, rows: int, by_amx: bool = False, with_zeros: bool = False
) -> Plan:
    """A plan for a network with what a forward pass of at most ``rows`` samples needs.

    Parameters
    ----------
    layers : record array of shape (L,)
    dtype : dtype
        Precision, float32 or float64.
    rows : int
    by_amx : bool, default=False
        Whether large products may be given to the matrix unit.
    with_zeros : bool, default=False
        Whether it is worth it to look for zeros in large products, and to compile that.
    """
    plan = Plan(dtype)
    dtype = np.dtype(dtype)
    addresses = [activation_addresses(NAMES[place], dtype) for place in layers["activation"]]
    return plan.set(
        layers=layers,
        n_layers=layers.size,
        rows=rows,
        activations=np.array(addresses, np.int64),
        units=aligned_empty(rows * kept_units(layers), dtype),
        **product_entries(
            dtype,
            longest_sum(layers, rows),
            by_amx=by_amx,
            with_zeros=with_zeros and has_products_with_zeros(layers, rows, dtype.itemsize),
        ),
    )


@remembered
def has_products_with_zeros(layers: NDArray[Any], rows: int, itemsize: int) -> bool:
    """Whether products are so large that it is worth it to look for zeros."""
    n_in, n_out = layers["n_in"], layers["n_out"]
    is_wide = n_out * itemsize >= COLUMNS_BYTES
    return HAS_TILES and bool((is_wide & (rows * n_in * n_out >= SMALL)).any())


def has_shares(layers: NDArray[Any], rows: int, dtype: np.dtype[Any], by_amx: bool) -> bool:
    """Whether members of a team take as many rows of a batch as they are fast.

    In long steps, where to help each other out would bring all weights into the cache once more.
    For the matrix unit these are written anew in each pass, however few its rows.
    """
    leave_cache = n_parameters(layers) * dtype.itemsize > MOST_BYTES_TO_DEAL
    return multiplications(layers, rows) >= WORTH_DEALING and (leave_cache or by_amx)


def set_for_training(
    plan: Plan,
    n_outputs_y: int,
    y_dtype: Any,
    n_gathered: int,
    in_panels: bool = False,
    group_rows: int = 1,
) -> Plan:
    """Give the plan of a network what the way back needs besides.

    Parameters
    ----------
    plan : Plan
    n_outputs_y : int
        Numbers in a row of y.
    y_dtype : dtype
    n_gathered : int
        Number of features, if rows of a dense input will be gathered, else 0.
    in_panels : bool, default=False
        Whether the derivatives of wide layers are packed once for all chunks of the gradient.
    group_rows : int, default=1
        See ``chunk_bounds``.
    """
    layers, rows, dtype, y_dtype = plan["layers"], plan["rows"], plan.dtype, np.dtype(y_dtype)
    chunks = chunk_bounds(layers, in_panels, group_rows)
    # Several for each thread, and long enough to be worth a call.
    loss_rows = LOSS_ROWS * max(1, rows // (8 * LOSS_ROWS))
    squares_row = whole_lines(layers.size + 1)
    if has_shares(layers, rows, dtype, by_amx=plan["pieces"] is not None):
        plan.set(shares=shares_of(-(-rows // loss_rows)), **even_out_entry())
    else:
        plan.set(deals_rows=multiplications(layers, rows) >= WORTH_DEALING)
    if in_panels:
        plan.set(panels=aligned_empty(rows * n_panel_units(layers), dtype), **panels_entry(dtype))
    return plan.set(
        chunks=chunks,
        n_chunks=chunks.size - 1,
        target_words=n_outputs_y * y_dtype.itemsize // 4,
        x=aligned_empty(rows * n_gathered, dtype),
        delta=aligned_empty(rows * n_units(layers), dtype),
        targets=aligned_empty(rows * n_outputs_y, y_dtype),
        weights=aligned_empty(rows, dtype),
        ones=aligned_copy(np.ones(rows), dtype),
        squares=aligned_zeros((chunks.size - 1) * squares_row, np.float64),
        squares_row=squares_row,
        loss_rows=loss_rows,
        losses=aligned_zeros(-(-rows // loss_rows) * LINE_NUMBERS, np.float64),
        **losses_and_deltas_entry(dtype),
    )


def are_parts_worth_it(layers: NDArray[Any], rows: int, is_sparse: bool) -> bool:
    """Whether a step is long enough for what ``set_parts`` does, on dense samples."""
    return HAS_TILES and not is_sparse and multiplications(layers, rows) >= WORTH_PARTS


def middle_of(layers: NDArray[Any], rows: int, dtype: np.dtype[Any]) -> int:
    """Where the second half of so many features begins that they are halved; of fewer, 0."""
    n_in, line = int(layers["n_in"][0]), CACHE_LINE // dtype.itemsize
    middle = -(-n_in // (2 * line)) * line
    return middle if n_in >= MANY_FEATURES * rows and middle < n_in else 0


def set_parts(plan: Plan) -> Plan:
    """Let the plan of a training say what two threads do each for itself, and then add.

    What a processor has written comes to another one line by line, ten nanoseconds each, which is
    as long as a part of the products; so they exchange what is least:

    - in a network with many features, sums over one half of them, in place of the first layer's
      weights; each thread needs those of its half, which it has updated itself;
    - gradients by all parameters, each of a half of the rows;
    - or what the layers put out and their derivatives, each of a half of the rows.

    One thread alone, or more than two, add the same numbers, and get the same bits.
    """
    layers, rows = plan["layers"], plan["rows"]
    if not are_parts_worth_it(layers, rows, is_sparse=plan["indptr"] is not None):
        return plan
    n_in, n_out = (int(layers[name][0]) for name in ("n_in", "n_out"))
    middle = middle_of(layers, rows, plan.dtype)
    if middle > 0:
        part_units = aligned_empty(rows * n_out, plan.dtype)
        if plan["shares"] is not None:
            plan.set(half_shares=shares_of(2 * -(-rows // plan["loss_rows"])))
        return plan.set(middle=middle, part_units=part_units, **halves_entries(plan.dtype))
    exchanged = rows * (n_in + 2 * n_units(layers))
    if n_parameters(layers) > exchanged:
        return plan
    part_grad = aligned_empty(n_parameters(layers), plan.dtype)
    # A member goes on with the gradient of its own rows, without waiting for others.
    plan.forget("shares")
    return plan.set(n_parts=2, deals_rows=False, part_grad=part_grad)


def tasks_of_parts(
    layers: NDArray[Any], rows: int, dtype: np.dtype[Any], is_sparse: bool
) -> list[Callable[[], Any]]:
    """What ``set_parts`` compiles, as tasks for whoever has time."""
    has_halves = are_parts_worth_it(layers, rows, is_sparse) and middle_of(layers, rows, dtype) > 0
    return [functools.partial(halves_entries, dtype)] if has_halves else []


def make_room_for_gradient(plan: Plan) -> Plan:
    """Give a plan room for the gradient: for all of it, or for a chunk, which each thread has then.

    The gradient by a chunk that is updated at once, and is no sum of two parts, is never looked at
    again.  To keep it would push other things out of the caches, and take memory.
    """
    if plan["at_once"] and plan["n_parts"] == 1:
        longest = int(np.diff(plan["chunks"]).max())
        return plan.set(piece=aligned_empty(longest, plan.dtype, GRADIENT))
    return plan.set(grad=aligned_empty(n_parameters(plan["layers"]), plan.dtype, GRADIENT))


@remembered
def longest_sum(layers: NDArray[Any], rows: int) -> int:
    """Largest k of the matrix products of a network."""
    return max(int(layers["n_in"].max()), int(layers["n_out"].max()), rows)


def team_size(n_threads: int, rows: int) -> int:
    """How many threads can share a batch of so many rows; one where the products are not ours."""
    return max(1, min(n_threads, rows // ROWS_OF_A_THREAD)) if HAS_TILES else 1


def plan_of_helper(plan: Plan) -> Plan:
    """The plan of one more thread: the same buffers, but for the rooms that it works in alone."""
    longest = longest_sum(plan["layers"], plan["rows"])
    other = plan.copy()
    if plan["piece"] is not None:
        other.set(piece=aligned_empty(plan["piece"].size, plan.dtype, GRADIENT))
    return other.set(
        **room_like(plan),
        **product_entries(
            plan.dtype,
            longest,
            by_amx=plan["pieces"] is not None,
            with_zeros=bool(plan["without_zeros"]),
        ),
    )

"""The plan of a network and its samples, with which all that looks at them begins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd._jit.cache import is_ours
from fastgd.kernels.activations import NAMES, activation_addresses
from fastgd.kernels.amx_product import LEAST_NUMBERS, LEAST_SIDE
from fastgd.kernels.gemm import multiplies_by_amx, tasks_of_products
from fastgd.kernels.layout import (
    has_products_with_zeros,
    has_shares,
    n_panel_units,
    n_units,
    network_plan,
    set_for_training,
)
from fastgd.kernels.linalg import CSR, Dense, input_code, input_entries, kind_of
from fastgd.kernels.listed import room_for_lists
from fastgd.kernels.loss_parts import loss_part
from fastgd.kernels.network import Data, losses_and_deltas_entry
from fastgd.kernels.panels import panels_entry
from fastgd.kernels.plan import Plan
from fastgd.kernels.shares import even_out_entry
from fastgd.kernels.tiles import HAS_TILES
from fastgd.kernels.users_loss import check_loss
from fastgd.kernels.zeros import COLUMNS_BYTES

# A block of rows keeps its units within the second-level cache, and memory within bounds.
BLOCK_BYTES = 2**21
# Rows of a batch from which it is worth it to write all weights anew for the matrix unit; of a
# layer with many weights, beside which there is less that is no product, fewer are enough.
ROWS_FOR_AMX, ROWS_WITH_MANY_WEIGHTS, MANY_WEIGHTS = 384, 256, 2**19
# Rows in a group at least, else chunks would be tiny, and groups that are many.
LEAST_GROUP, MANY_GROUPS = 64, 4


def block_rows(layers: NDArray[Any], n_samples: int, dtype: Any) -> int:
    """Number of samples to send through a network at once."""
    units = n_units(layers) + 2 * int(layers["n_out"].max())
    return int(np.clip(BLOCK_BYTES // (units * np.dtype(dtype).itemsize), 64, max(n_samples, 1)))


def data_plan(
    layers: NDArray[Any], data: Data, n_samples: int, loss: Any, alpha: float, dtype: Any,
    rows: int, gather: bool,
) -> Plan:  # fmt: skip
    """A plan for a network and its samples, with buffers for batches of ``rows``.

    ``gather`` says whether the samples will be taken in another order.
    """
    n_gathered = data.X.n_features if gather and isinstance(data.X, Dense) else 0
    by_amx = has_products_for_amx(layers, rows)
    plan = network_plan(layers, dtype, rows, by_amx, with_zeros=True)
    cut = cut_of_chunks(layers, data.X, np.dtype(dtype), rows)
    set_for_training(plan, data.y.shape[1], data.y.dtype, n_gathered, **cut)
    return set_samples(plan, data, n_samples, loss, alpha)


def set_samples(plan: Plan, data: Data, n_samples: int, loss: Any, alpha: float) -> Plan:
    """Give samples to a plan, which may have had others of the same kind."""
    check_data(plan["layers"], data, n_samples, plan.dtype)
    n_outputs = int(plan["layers"]["n_out"][-1])
    check_loss(loss, n_outputs, plan.dtype)
    return plan.set(
        y=data.y, weight=data.weight, n_samples=n_samples, alpha=alpha,
        loss=loss_part(loss, plan.dtype, n_outputs, plan["rows"]),
        **input_entries(data.X, plan.dtype),
        **_lists(plan, data.X),
    )  # fmt: skip


def _lists(plan: Plan, X: Dense | CSR) -> dict[str, Any]:
    """Room to list the entries of a sparse batch."""
    if isinstance(X, Dense):
        return {}
    return room_for_lists(X.indptr, X.n_features, plan["rows"], plan["n_chunks"], plan.dtype)


def tasks_of_plan(
    layers: NDArray[Any], data: Data, loss: Any, dtype: np.dtype[Any], rows: int
) -> list[Callable[[], Any]]:
    """What ``data_plan`` compiles, as tasks for whoever has time; the long ones come first.

    A loss that is not ours is not among them: another process may not have it, and it is not kept.
    """
    by_amx = has_products_for_amx(layers, rows)
    tasks: list[Callable[[], Any]] = [
        *tasks_of_products(dtype, by_amx, has_products_with_zeros(layers, rows, dtype.itemsize)),
        partial(losses_and_deltas_entry, dtype),
    ]
    if has_shares(layers, rows, dtype, are_for_amx(layers, dtype, rows)):
        tasks.append(even_out_entry)
    if packs_deltas(layers, data.X, dtype, rows):
        tasks.append(partial(panels_entry, dtype))
    if is_ours(type(loss)):
        tasks.append(partial(loss_part, loss, dtype, int(layers["n_out"][-1]), rows))
    tasks.append(partial(input_code, kind_of(data.X), dtype))
    names = {NAMES[place] for place in layers["activation"]}
    return [*tasks, *(partial(activation_addresses, name, dtype) for name in sorted(names))]


def packs_deltas(layers: NDArray[Any], X: Dense | CSR, dtype: np.dtype[Any], rows: int) -> bool:
    """Whether derivatives of wide layers are packed once for all chunks of the gradient.

    The matrix unit and BLAS pack for themselves; in the rows of sparse samples each chunk searches.
    """
    if not (HAS_TILES and isinstance(X, Dense) and n_panel_units(layers) > 0):
        return False
    return not are_for_amx(layers, dtype, rows)


def group_rows(layers: NDArray[Any], X: Dense | CSR, dtype: np.dtype[Any], rows: int) -> int:
    """Rows of the first layer's weights whose gradients are computed together, if it has many.

    That is where the derivatives have zeros, as those of ReLU units have (``kernels.zeros``).
    """
    group = max(LEAST_GROUP, COLUMNS_BYTES // dtype.itemsize)
    first = layers[0]
    gives_zeros = NAMES[first["activation"]] == "relu" or first["dropout"] > 0.0
    has_groups = isinstance(X, Dense) and first["n_in"] >= MANY_GROUPS * group
    if not (gives_zeros and has_groups and has_products_with_zeros(layers, rows, dtype.itemsize)):
        return 1
    return 1 if are_for_amx(layers, dtype, rows) else group


def cut_of_chunks(
    layers: NDArray[Any], X: Dense | CSR, dtype: np.dtype[Any], rows: int
) -> dict[str, Any]:
    """What ``chunk_bounds`` asks for besides the layers."""
    return {
        "in_panels": packs_deltas(layers, X, dtype, rows),
        "group_rows": group_rows(layers, X, dtype, rows),
    }


def are_for_amx(layers: NDArray[Any], dtype: np.dtype[Any], rows: int) -> bool:
    """Whether there is a matrix unit, and batches of ``rows`` have products for it."""
    return multiplies_by_amx(dtype) and has_products_for_amx(layers, rows)


def has_products_for_amx(layers: NDArray[Any], rows: int) -> bool:
    """Whether batches of ``rows`` have products that are worth the matrix unit.

    Those by weights have columns and terms as many as a layer has units, those that make the
    gradient have terms as many as there are rows; ``product_by_amx`` decides on each.
    """
    n_in, n_out = layers["n_in"], layers["n_out"]
    if rows < ROWS_FOR_AMX:
        large = (rows >= ROWS_WITH_MANY_WEIGHTS) & (n_out * n_in >= MANY_WEIGHTS)
    else:
        large = n_out * np.maximum(n_in, rows) >= LEAST_NUMBERS
    return bool((large & (n_out >= LEAST_SIDE)).any())


def check_data(layers: NDArray[Any], data: Data, n_samples: int, dtype: np.dtype[Any]) -> None:
    """Kernels believe what they are told of sizes and types."""
    values = data.X.values if isinstance(data.X, Dense) else data.X.data
    n_rows = values.shape[0] if isinstance(data.X, Dense) else data.X.indptr.size - 1
    if data.X.n_features != layers["n_in"][0] or n_rows != n_samples or values.dtype != dtype:
        raise ValueError(
            f"X must have the shape ({n_samples}, {layers['n_in'][0]}) and dtype {dtype}, got"
            f" ({n_rows}, {data.X.n_features}) and {values.dtype}."
        )
    if data.y.ndim != 2 or data.y.shape[0] != n_samples or data.y.dtype not in (dtype, np.int64):
        raise ValueError(
            f"y must have {n_samples} rows and dtype {dtype} or int64, got the shape"
            f" {data.y.shape} and {data.y.dtype}."
        )
    if data.weight.dtype != dtype or data.weight.size not in (0, n_samples):
        raise ValueError(
            f"weight must have {n_samples} numbers or none and dtype {dtype}, got"
            f" {data.weight.size} and {data.weight.dtype}."
        )

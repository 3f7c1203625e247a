"""A user's loss, tried out in plain Python before it is compiled."""

from __future__ import annotations

import functools
from numbers import Real
from typing import Any

import numpy as np

from fastgd._jit.cache import is_ours
from fastgd._record import index_error
from fastgd.kernels.losses import sum_pointwise

FEW = 16  # outputs for which a try takes no time


def check_loss(loss: Any, k: int, dtype: Any) -> None:
    """Call the methods of a loss that is not ours for a few rows, which notices wrong indices.

    Parameters
    ----------
    loss : NamedTuple
    k : int
        Number of outputs.
    dtype : dtype

    Raises
    ------
    ValueError
        A method reaches for what is not there, or does not return what it must.
    """
    cls: Any = type(loss)
    if not is_ours(cls):
        _check_once(cls, cls.value_and_delta, loss, k, np.dtype(dtype))


@functools.lru_cache(maxsize=128)  # by the class, too: tuples of different ones may be equal
def _check_once(cls: Any, method: Any, loss: Any, k: int, dtype: np.dtype[Any]) -> None:
    complaint = _complaint(loss, min(k, FEW), dtype)
    if complaint and k > FEW:  # a loss may be made for a certain number of outputs
        complaint = _complaint(loss, k, dtype)
    if complaint:
        raise ValueError(f"{cls.__name__}.{complaint}")


def _complaint(loss: Any, k: int, dtype: np.dtype[Any]) -> str:
    # Not as many as outputs, or who mixes them up would not be noticed.
    n_rows = k + 2 if k <= FEW else 2
    z = np.linspace(-1.0, 1.0, n_rows * k).astype(dtype)
    one_a_row = getattr(loss, "class_numbers", False)
    y = np.arange(n_rows) % k if one_a_row else (np.arange(n_rows * k) % 2).astype(dtype)
    weight, result = np.full(n_rows, 1.0 / n_rows, dtype), np.ones_like(z)
    values: list[Any] = []

    def returned(method: Any, *arguments: Any) -> None:
        values.append(method(*arguments))

    for name in ("value_and_delta", "hessian_product"):
        method = getattr(loss, name, None)
        if method is None:
            continue
        error = index_error(returned, method, z.copy(), y, weight, n_rows, k, result)
        if error is not None:
            return (
                f"{name}: {error}, with n_rows={n_rows} and k={k}. z and what is written are"
                f" n_rows * k numbers, weight n_rows, y {'n_rows' if one_a_row else 'n_rows * k'}."
            )
        if name == "value_and_delta" and values and not isinstance(values[0], Real):
            return f"{name} must return the weighted sum of the losses, got {values[0]!r}."
    if hasattr(loss, "link"):
        error = index_error(loss.link, z.copy(), n_rows, k)
        if error is not None:
            return f"link: {error}, with n_rows={n_rows} and k={k}. z is n_rows * k numbers."
    values.clear()
    if getattr(type(loss), "value_and_delta", None) is sum_pointwise:
        index_error(returned, loss.pointwise, z[0], y[0])
        if values and not (isinstance(values[0], tuple) and len(values[0]) == 2):
            return f"pointwise must return the value and the slope, got {values[0]!r}."
    return ""

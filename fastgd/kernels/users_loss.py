"""A user's loss, tried out in plain Python before it is compiled."""

from __future__ import annotations

import functools
from numbers import Real
from typing import Any

import numpy as np

from fastgd._jit.cache import is_ours
from fastgd._record import tried
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
    weight, written = np.full(n_rows, 1.0 / n_rows, dtype), np.ones_like(z)
    arguments = {
        "value_and_delta": (z.copy(), y, weight, n_rows, k, written),
        "hessian_product": (z.copy(), y, weight, n_rows, k, written),
        "link": (z.copy(), n_rows, k),
    }
    results = {
        name: tried(getattr(loss, name), *of)
        for name, of in arguments.items() if hasattr(loss, name)
    }  # fmt: skip
    for name, result in results.items():
        if isinstance(result, IndexError):
            return (
                f"{name}: {result}, with n_rows={n_rows} and k={k}. z and what is written are"
                f" n_rows * k numbers, weight n_rows, y {'n_rows' if one_a_row else 'n_rows * k'}."
            )
    value = results["value_and_delta"]
    if value is not NotImplemented and not isinstance(value, Real):
        return f"value_and_delta must return the weighted sum of the losses, got {value!r}."
    if type(loss).value_and_delta is sum_pointwise:
        pair = tried(loss.pointwise, z[0], y[0])
        if pair is not NotImplemented and not (isinstance(pair, tuple) and len(pair) == 2):
            return f"pointwise must return the value and the slope, got {pair!r}."
    return ""

"""Which classes there are among labels, and the number of each label's class.

Whole numbers, which most labels are, are counted or compared: to sort them, or to look each up
among the classes, takes a large part of a short fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import unique_labels


def fitted_binarizer(y: Any) -> LabelBinarizer:
    """``LabelBinarizer().fit(y)``, which looks at all of y six times."""
    binarizer = LabelBinarizer()
    if _are_whole_numbers(y) and y.ndim == 1:
        binarizer.classes_ = distinct_labels(y)
        binarizer.y_type_ = "multiclass" if binarizer.classes_.size > 2 else "binary"
    elif _are_whole_numbers(y) and _is_indicator(y):
        binarizer.classes_, binarizer.y_type_ = np.arange(y.shape[1]), "multilabel-indicator"
    else:
        return binarizer.fit(y)
    binarizer.sparse_input_ = False
    return binarizer


def _is_indicator(y: NDArray[Any]) -> bool:
    """Whether a matrix has several columns of at most two different numbers."""
    if y.ndim != 2 or y.shape[1] < 2:
        return False
    return bool(((y == y.min()) | (y == y.max())).all())


def distinct_labels(y: Any) -> NDArray[Any]:
    """``unique_labels(y)``."""
    if not _are_whole_numbers(y) or y.ndim != 1:
        return unique_labels(y)
    low, high = int(y.min()), int(y.max())
    if high - low >= y.size:
        return np.unique(y)
    counts = np.bincount(y.astype(np.int64, copy=False) - low)
    return (np.flatnonzero(counts) + low).astype(y.dtype)


def class_numbers(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """The place of each label in ``classes``, which are in ascending order.

    Raises
    ------
    ValueError
        A label is not among the classes.
    """
    if _are_whole_numbers(y) and _are_whole_numbers(classes):
        first, last = int(classes[0]), int(classes[-1])
        has_no_gap = last - first == classes.size - 1
        if has_no_gap and first <= int(y.min()) and int(y.max()) <= last:
            return y.astype(np.int64, copy=False) - first
    codes = np.searchsorted(classes, y)
    unknown = classes.take(codes, mode="clip") != y
    if unknown.any():
        raise ValueError(
            f"y has the labels {np.unique(y[unknown])}, which are not among the classes {classes}."
        )
    return codes


def _are_whole_numbers(y: Any) -> bool:
    """Whether y is an array of integers that int64 holds; not an empty one."""
    return (
        type(y) is np.ndarray
        and y.size > 0
        and y.dtype.kind in "iu"
        and y.dtype.isnative
        and np.can_cast(y.dtype, np.int64)
    )

"""Which classes there are among labels, and the number of each label's class.

Labels that are whole numbers close to each other, the usual ones, are counted: to sort them, or to
look each up among the classes, takes a large part of a short fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import unique_labels


def fitted_binarizer(y: Any) -> LabelBinarizer:
    """``LabelBinarizer().fit(y)``, which looks at all of y six times."""
    if not _are_whole_numbers(y):
        return LabelBinarizer().fit(y)
    binarizer = LabelBinarizer()
    binarizer.classes_ = distinct_labels(y)
    binarizer.y_type_ = "multiclass" if binarizer.classes_.size > 2 else "binary"
    binarizer.sparse_input_ = False
    return binarizer


def distinct_labels(y: Any) -> NDArray[Any]:
    """``unique_labels(y)``."""
    if not _are_whole_numbers(y):
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
        if has_no_gap and y.size and first <= int(y.min()) and int(y.max()) <= last:
            return y.astype(np.int64, copy=False) - first
    codes = np.searchsorted(classes, y)
    unknown = classes.take(codes, mode="clip") != y
    if unknown.any():
        raise ValueError(
            f"y has the labels {np.unique(y[unknown])}, which are not among the classes {classes}."
        )
    return codes


def _are_whole_numbers(y: Any) -> bool:
    """Whether y is a vector of integers that int64 holds."""
    return (
        isinstance(y, np.ndarray)
        and y.ndim == 1
        and y.size > 0
        and y.dtype.kind in "iu"
        and np.can_cast(y.dtype, np.int64)
    )

"""Labels: what is counted here must be what scikit-learn finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import unique_labels

from fastgd.neural_network.labels import class_numbers, distinct_labels, fitted_binarizer

WHOLE = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"]
VECTORS = st.sampled_from(WHOLE).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.integers(1, 12),
        elements=st.one_of(st.integers(0, 3), hnp.from_dtype(np.dtype(dtype))),
    )
)
MATRICES = st.sampled_from(["i1", "i8", "u4", "f4", "?"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.booleans() if dtype == "?" else st.integers(0, 2),
    )
)


def outcome(call):
    """What a call returns, or the error that it raises."""
    try:
        return call()
    except ValueError as error:
        return str(error)


def assert_same_binarizer(y):
    ours, theirs = outcome(lambda: fitted_binarizer(y)), outcome(lambda: LabelBinarizer().fit(y))
    if isinstance(theirs, str):
        assert ours == theirs
        return
    assert vars(ours).keys() == vars(theirs).keys()
    assert (ours.y_type_, ours.sparse_input_) == (theirs.y_type_, theirs.sparse_input_)
    assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert_array_equal(ours.transform(y), theirs.transform(y))


@given(VECTORS)
def test_whole_numbers(y):
    assert_same_binarizer(y)
    assert_array_equal(distinct_labels(y), unique_labels(y))
    classes = np.unique(y)
    codes = class_numbers(y, classes)
    assert_array_equal(classes[codes], y)
    assert codes.dtype == np.int64


@given(MATRICES)
def test_labels_in_columns(y):
    assert_same_binarizer(y)


@pytest.mark.parametrize(
    "y",
    [
        np.array(["b", "a", "b"]),
        np.array(["b", "a"], object),
        np.array([True, False]),
        np.array([0.0, 2.0, 1.0]),
        np.array([0.5, 2.0]),
        np.array([2**63, 1], np.uint64),
        np.array([-(2**63), 2**63 - 1]),
        np.array([], np.int64),
        np.zeros((2, 2, 2), np.int64),
        [3, 1, 2],
    ],
    ids=str,
)
def test_all_other_labels(y):
    assert_same_binarizer(y)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([0, 1, 3], [0, 1, 2]),
        ([-1, 0], [0, 1]),
        ([4, 6], [4, 5, 7]),
        (["a", "c"], ["a", "b"]),
        ([0.5], [0.0, 1.0]),
        ([1.5, 1.0], [0, 1, 2]),
    ],
)
def test_labels_of_no_class_are_named(y, classes):
    y, classes = np.array(y), np.array(classes)
    unknown = np.setdiff1d(y, classes)
    with pytest.raises(ValueError, match="not among the classes") as error:
        class_numbers(y, classes)
    assert str(unknown) in str(error.value)


@pytest.mark.parametrize(("y", "classes"), [([2, 2, 9], [2, 5, 9]), ([1.0, 0.0], [0, 1])])
def test_classes_with_gaps_and_of_other_types(y, classes):
    assert_array_equal(np.array(classes)[class_numbers(np.array(y), np.array(classes))], y)

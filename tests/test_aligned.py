"""Arrays that begin at a cache line, and are otherwise as any other."""

import pickle

import numpy as np
import pytest

from fastgd.kernels.aligned import (
    ALIGNMENT,
    CACHE_LINE,
    aligned_copy,
    aligned_empty,
    aligned_zeros,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("n", [0, 1, 7, 1000, 300_000])
def test_they_begin_at_a_cache_line(n, dtype):
    for array in (
        aligned_empty(n, dtype),
        aligned_zeros(n, dtype),
        aligned_copy(np.ones(n), dtype),
    ):
        assert array.shape == (n,)
        assert array.dtype == dtype
        assert array.ctypes.data % CACHE_LINE == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert (aligned_zeros(n, dtype) == 0).all()
    np.testing.assert_array_equal(aligned_copy(np.arange(n), dtype), np.arange(n))


def test_nobody_else_is_on_their_lines():
    """What one thread writes there takes them from all others."""
    ours, others = [], []
    for _ in range(100):
        others.append(np.empty(3))
        ours.append(aligned_empty(3, np.float64))

    def lines(array):
        first = array.ctypes.data
        return {first // ALIGNMENT, (first + array.nbytes - 1) // ALIGNMENT}

    assert len(set().union(*map(lines, ours))) == len(ours)
    assert not set().union(*map(lines, ours)) & set().union(*map(lines, others))


def test_views_know_their_base():
    """By which the parameters behind ``coefs_`` are found again."""
    array = aligned_zeros(12, np.float32)
    assert array[2:8].reshape(2, 3).base is array
    copy = pickle.loads(pickle.dumps(array[2:8]))
    np.testing.assert_array_equal(copy, array[2:8])

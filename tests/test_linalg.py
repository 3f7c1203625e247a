"""Matrix products on flat buffers, and the two kinds of input, against NumPy.

All numbers are small integers, so that every result is exact in either precision and no tolerance
is needed.
"""

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd.kernels.gemm import gemm, make_engine
from fastgd.kernels.layout import layer_table, n_parameters, parameter_views
from fastgd.kernels.linalg import CSR, Dense, accumulate, affine
from fastgd.neural_network.problem import as_matrix, read_only

DTYPES = st.sampled_from([np.float32, np.float64])


@numba.njit
def call_gemm(engine, m, n, k, alpha, a, ia, ra, ca, b, ib, rb, cb, beta, d, id, rd, c, ic, rc):
    gemm(engine, m, n, k, alpha, a, ia, ra, ca, b, ib, rb, cb, beta, d, id, rd, c, ic, rc)


@numba.njit
def forward_and_back(
    engine, x, order, first, n_rows, w, layers, buffer, out, start, scale, keep, d, grad
):
    affine(x, order, first, n_rows, w, layers[0], buffer, out, start, engine)
    accumulate(x, order, first, n_rows, scale, d, keep, grad, buffer, grad, layers[0], engine)


def engine_for(dtype, by_blas, longest=70):
    """Our tiles where this CPU has them, or BLAS."""
    return make_engine(dtype, longest)._replace(**{"blas_from": 0} if by_blas else {})


def integers(rng, size, dtype):
    return rng.integers(-8, 9, size).astype(dtype)


def embedded(rng, shape, dtype):
    """A flat array that holds a matrix somewhere: the array, the offset, the row length, a view."""
    rows, columns = shape
    offset, gap, rest = (int(i) for i in rng.integers(0, 4, 3))
    row_length = columns + gap
    flat = integers(rng, offset + rows * row_length + rest, dtype)
    matrix = flat[offset : offset + rows * row_length].reshape(rows, row_length)[:, :columns]
    return flat, offset, row_length, matrix


@settings(deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 70)] * 3),
    transposes=st.tuples(st.booleans(), st.booleans()),
    one_row_of_d=st.booleans(),
    by_blas=st.booleans(),
    alpha=st.sampled_from([0.0, 1.0, -0.5, 3.0]),
    beta=st.sampled_from([0.0, 1.0, -0.5, 3.0]),
    dtype=DTYPES,
    seed=st.integers(0, 2**32 - 1),
)
def test_gemm(sizes, transposes, one_row_of_d, by_blas, alpha, beta, dtype, seed):
    rng = np.random.default_rng(seed)
    m, n, k = sizes
    ta, tb = transposes
    a, ia, lda, A = embedded(rng, (k, m) if ta else (m, k), dtype)
    b, ib, ldb, B = embedded(rng, (n, k) if tb else (k, n), dtype)
    c, ic, ldc, _ = embedded(rng, (m, n), dtype)
    d, id, ldd, D = embedded(rng, (1 if one_row_of_d else m, n), dtype)
    expected = c.copy()
    offset = ic
    product = alpha * (A.T if ta else A) @ (B.T if tb else B) + beta * D
    for row in product:
        expected[offset : offset + n] = row
        offset += ldc
    a.flags.writeable = b.flags.writeable = False
    call_gemm(
        engine_for(dtype, by_blas), m, n, k, alpha, a, ia, *((1, lda) if ta else (lda, 1)),
        b, ib, *((1, ldb) if tb else (ldb, 1)), beta, d, id, 0 if one_row_of_d else ldd, c, ic, ldc,
    )  # fmt: skip
    # The whole array: what lies around the matrix stays.
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize("by_blas", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gemm_without_keeping_overwrites_even_nan(dtype, by_blas):
    """beta = 0 means that C was never written before."""
    a, b, c = np.array([2.0], dtype), np.array([3.0], dtype), np.array([np.nan], dtype)
    engine = engine_for(dtype, by_blas)
    call_gemm(engine, 1, 1, 1, 1.0, a, 0, 1, 1, b, 0, 1, 1, 0.0, c, 0, 1, c, 0, 1)
    assert c.tolist() == [6.0]


def csr_of(rng, n_rows, n_features, dtype, index_type):
    """Rows with repeated and unsorted columns, and empty ones; also as a dense matrix."""
    lengths = rng.integers(0, 2 * n_features + 1, n_rows) * (rng.random(n_rows) < 0.7)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(index_type)
    indices = rng.integers(0, n_features, indptr[-1]).astype(index_type)
    data = integers(rng, indices.size, dtype)
    dense = np.zeros((n_rows, n_features), dtype)
    np.add.at(dense, (np.repeat(np.arange(n_rows), lengths), indices), data)
    return CSR(read_only(data), read_only(indices), read_only(indptr), n_features), dense


@settings(deadline=None)
@given(
    kind=st.sampled_from(["dense", np.int32, np.int64]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(1, 6)),
    keep=st.sampled_from([0.0, 1.0]),
    scale=st.sampled_from([1.0, 0.25, -2.0]),
    dtype=DTYPES,
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_first_layer(kind, sizes, keep, scale, dtype, seed, data):
    """``affine`` and ``accumulate``, on some rows in any order, or on a range of them."""
    rng = np.random.default_rng(seed)
    n_samples, n_features, n_out = sizes
    if kind == "dense":
        X = integers(rng, (n_samples, n_features), dtype)
        x = as_matrix(X)
        assert isinstance(x, Dense)
    else:
        x, X = csr_of(rng, n_samples, n_features, dtype, kind)
    order = rng.permutation(n_samples) if data.draw(st.booleans()) else np.empty(0, np.int64)
    first = data.draw(st.integers(0, n_samples - 1))
    n_rows = data.draw(st.integers(1, n_samples - first))
    rows = (order if order.size else np.arange(n_samples))[first : first + n_rows]

    # Two layers, so that the biases do not follow right after the weights.
    layers = layer_table((n_features, n_out, 2), ("identity",))
    w = integers(rng, n_parameters(layers), dtype)
    (W, _), (bias, _) = parameter_views(w, layers)
    start = 3
    out = integers(rng, start + n_rows * n_out + 2, dtype)
    delta = integers(rng, n_rows * n_out + 2, dtype)
    grad = integers(rng, w.size, dtype)
    gradient_before = parameter_views(grad.copy(), layers)[0][0]
    if keep == 0.0:
        parameter_views(grad, layers)[0][0][:] = np.nan
    expected_out, expected_grad = out.copy(), grad.copy()
    expected_out[start : start + n_rows * n_out] = (X[rows] @ W + bias).ravel()
    parameter_views(expected_grad, layers)[0][0][:] = (
        scale * X[rows].T @ delta[: n_rows * n_out].reshape(n_rows, n_out) + keep * gradient_before
    )
    gathers = kind == "dense" and order.size > 0
    buffer = np.full(n_rows * n_features if gathers else 0, np.nan, dtype)

    forward_and_back(
        engine_for(dtype, data.draw(st.booleans())),
        x, order, first, n_rows, w, layers, buffer, out, start, scale, keep, delta, grad,
    )  # fmt: skip
    np.testing.assert_array_equal(out, expected_out)
    np.testing.assert_array_equal(grad, expected_grad)


def test_dense_keeps_any_share_of_the_gradient():
    """A dense input may keep any part of the old gradient."""
    X = np.array([[1.0, 2.0]])
    layers = layer_table((2, 1), ())
    w, grad, out = np.zeros(3), np.array([4.0, 8.0, 5.0]), np.zeros(1)
    order, delta = np.empty(0, np.int64), np.ones(1)
    forward_and_back(
        engine_for(X.dtype, False),
        as_matrix(X), order, 0, 1, w, layers, np.empty(0), out, 0, 1.0, 0.5, delta, grad,
    )  # fmt: skip
    assert grad.tolist() == [3.0, 6.0, 5.0]


def test_as_matrix_copies_only_what_it_must():
    X = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(as_matrix(X).values, X)
    turned = np.asfortranarray(X)
    assert as_matrix(turned).values.tolist() == X.ravel().tolist()
    every_other = np.arange(12.0).reshape(2, 6)[:, ::2]
    assert as_matrix(every_other).values.tolist() == every_other.ravel().tolist()
    assert not as_matrix(X).values.flags.writeable
    assert X.flags.writeable


def test_a_cpu_without_wide_registers(tmp_path):
    """All products go to BLAS there."""
    code = (
        "import numpy as np; from fastgd import MLPClassifier;"
        "X = np.random.RandomState(0).normal(size=(60, 5)); y = (X[:, 0] > 0) * 1;"
        "clf = MLPClassifier((7, 6), random_state=0, max_iter=3, n_iter_no_change=9);"
        "print([float(loss) for loss in clf.fit(X, y).loss_curve_])"
    )
    curves = [
        json.loads(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code],
                env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **extra},
                capture_output=True, text=True, check=True,
            ).stdout
        )
        for extra in ({}, {"NUMBA_CPU_NAME": "generic"})
    ]  # fmt: skip
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-12)

"""Products that leave out zeros: the same bits as with them, whichever factor has them."""

import numba
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import MLPClassifier
from fastgd.kernels import gemm as products
from fastgd.kernels import samples
from fastgd.kernels.aligned import address, aligned_empty
from fastgd.kernels.gemm import DEPTH, PACKED_ROWS, gemm, gemm_by_panels, product_entries
from fastgd.kernels.layout import chunk_bounds, has_products_with_zeros, layer_table
from fastgd.kernels.masks import BYTE, WORD, find_masks, share_of_zeros
from fastgd.kernels.packing import FAR_BYTES, PANEL_ROW_BYTES, pack_panels
from fastgd.kernels.plan import Plan, array_at
from fastgd.kernels.tiles import HAS_TILES
from fastgd.kernels.zeros import (
    COLUMNS_BYTES,
    ENOUGH_ROWS,
    FEWEST_TERMS,
    MOST_COLUMNS,
    MOST_ROWS,
    ROWS,
    call_without_zeros,
    zeros_entries,
)
from fastgd.neural_network import prediction
from fastgd.neural_network.problem import as_matrix
from threads import several_threads

pytestmark = [
    pytest.mark.skipif(not HAS_TILES, reason="products are BLAS's, which looks for no zeros"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

# Few columns, and about as many as there are masks for.
WIDTHS = st.integers(2, 300) | st.integers(MOST_ROWS - BYTE, MOST_ROWS + 2 * BYTE)
DTYPES = st.sampled_from([np.float32, np.float64])
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@numba.njit
def multiply(plans, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    gemm(plans[0], m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row)


@numba.njit
def multiply_by_panels(plans, m, n, k, a, a_col, b, panels, n_rows, beta, d, c):
    plan = plans[0]
    pack_panels(b, n, k, n, panels, n_rows, plan.real)
    gemm_by_panels(plan, m, n, k, a, 1, a_col, panels, n_rows, beta, d, n, c, n)


@numba.njit
def leave_out(plans, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, c):
    plan = plans[0]
    beta = array_at(c, 1, plan.real).dtype.type(beta)
    return call_without_zeros(
        plan.without_zeros, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, c, n, c, n
    )


def columns_of(dtype):
    """Columns of a group."""
    return COLUMNS_BYTES // np.dtype(dtype).itemsize


def matrix(rng, n_rows, n_columns, density, transposed, gap, dtype):
    """A matrix, its address, and the steps from row to row and from column to column."""
    shape = (n_columns, n_rows) if transposed else (n_rows, n_columns)
    stored = aligned_empty(shape[0] * (shape[1] + gap), dtype).reshape(shape[0], -1)
    stored[:] = np.nan
    view = stored[:, : shape[1]]
    view[:] = rng.normal(size=shape) * (rng.random(shape) < density)
    step = stored.shape[1]
    return (view.T, address(stored), 1, step) if transposed else (view, address(stored), step, 1)


def both(dtype, k):
    """Two plans, of which the first looks for zeros."""
    return [
        Plan(dtype).set(**product_entries(dtype, k, with_zeros=with_zeros))
        for with_zeros in (True, False)
    ]


@settings(deadline=None, max_examples=300)
@given(
    m=st.integers(1, 2 * PACKED_ROWS), n=WIDTHS,
    k=st.sampled_from([1, 31, 32, 63, 64, 65, 128, 200, DEPTH, DEPTH + 1, 2 * DEPTH + 70]),
    ta=st.booleans(), tb=st.booleans(), gaps=st.tuples(*[st.sampled_from([0, 1, FAR_BYTES])] * 2),
    densities=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.65, 1.0])] * 2),
    beta=st.sampled_from([0.0, 1.0, -0.5]), d_is=st.sampled_from(["c", "a row", "another"]),
    dtype=DTYPES, seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_same_bits_as_with_zeros(
    m, n, k, ta, tb, gaps, densities, beta, d_is, dtype, seed
):  # fmt: skip
    rng = np.random.default_rng(seed)
    a, *of_a = matrix(rng, m, k, densities[0], ta, gaps[0], dtype)
    b, *of_b = matrix(rng, k, n, densities[1], tb, gaps[1], dtype)
    d = rng.normal(size=(m, n)).astype(dtype)
    results = []
    for plan in both(dtype, k):
        c = d.copy() if d_is == "c" else np.full((m, n), np.nan, dtype)
        source, step = (c, n) if d_is == "c" else (d, 0 if d_is == "a row" else n)
        args = (*of_a, *of_b, beta, address(source), step, address(c), n)
        multiply(plan.record, m, n, k, *args)
        results.append(c)
    np.testing.assert_array_equal(*results)
    added = np.float64(beta) * (d[:1] if d_is == "a row" else d)
    terms = np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(added)
    error = np.abs(a.astype(np.float64) @ b + added - results[0])
    assert (error <= (k + 2) * np.finfo(dtype).eps * terms).all()


@settings(deadline=None, max_examples=100)
@given(
    m=st.integers(1, 200), n=WIDTHS, k=st.sampled_from([32, 64, 100, DEPTH + 3]),
    more=st.integers(0, 3), densities=st.tuples(*[st.sampled_from([0.1, 0.5, 1.0])] * 2),
    beta=st.sampled_from([0.0, 1.0, -0.5]), dtype=DTYPES, seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_same_bits_by_panels(m, n, k, more, densities, beta, dtype, seed):
    rng = np.random.default_rng(seed)
    stored_a, a, _, a_col = matrix(rng, m, k, densities[0], True, 1, dtype)
    stored_b, b, _, _ = matrix(rng, k, n, densities[1], False, 0, dtype)
    two = PANEL_ROW_BYTES // np.dtype(dtype).itemsize
    panels = aligned_empty((k + more) * (n + -n % two), dtype)
    panels[:] = np.nan
    d = rng.normal(size=(m, n)).astype(dtype)
    results = []
    for plan in both(dtype, k):
        c = np.full((m, n), np.nan, dtype)
        multiply_by_panels(
            plan.record, m, n, k, a, a_col, b, address(panels), k + more, beta, address(d),
            address(c),
        )  # fmt: skip
        results.append(c)
    np.testing.assert_array_equal(*results)
    terms = np.abs(stored_a).astype(np.float64) @ np.abs(stored_b) + np.abs(beta * d)
    error = np.abs(stored_a.astype(np.float64) @ stored_b + beta * d - results[0])
    assert (error <= (k + 2) * np.finfo(dtype).eps * terms).all()


def left_out(m, n, k, densities, ta=False, tb=False, d_is_c=False, dtype=np.float32):
    """What is computed without zeros: so many columns, or less than 0: so many rows."""
    rng = np.random.default_rng(0)
    _a, *of_a = matrix(rng, m, k, densities[0], ta, 0, dtype)
    _b, *of_b = matrix(rng, k, n, densities[1], tb, 0, dtype)
    plan, c = Plan(dtype).set(**product_entries(dtype, k, with_zeros=True)), np.zeros((m, n), dtype)
    return leave_out(plan.record, m, n, k, *of_a, *of_b, float(d_is_c), address(c))


@BOTH
def test_where_zeros_are_left_out(dtype):
    group = columns_of(dtype)
    half, many = (0.5, 1.0), 3 * group + 5
    for ta in (False, True):
        assert left_out(20, many, 100, half, ta, dtype=dtype) == 3 * group
        assert left_out(20, group, WORD, half, ta, True, dtype=dtype) == group
        assert left_out(20, group - 1, WORD, half, ta, dtype=dtype) == 0
        assert left_out(BYTE - 1, group, WORD, half, ta, dtype=dtype) == 0
        assert left_out(20, group, WORD, (0.9, 1.0), ta, dtype=dtype) == 0
    # The last two groups overlap if the rest would cost more in tiles.
    sparser = (0.2, 1.0)
    assert left_out(20, 2 * group - 1, WORD, sparser, dtype=dtype) == 2 * group - 1
    assert left_out(20, group + group // 4, WORD, sparser, dtype=dtype) == group
    assert left_out(20, 2 * group - 1, WORD, sparser, d_is_c=True, dtype=dtype) == group
    # Far rows of B are packed, if there are so many rows of A.
    far = FAR_BYTES // np.dtype(dtype).itemsize + 1
    assert left_out(ENOUGH_ROWS, far, WORD, half, dtype=dtype) > 0
    assert left_out(ENOUGH_ROWS - 1, far, WORD, half, dtype=dtype) == 0
    assert left_out(ENOUGH_ROWS - 1, far, WORD, half, tb=True, dtype=dtype) > 0
    # Of a row of fewer terms than a mask has bits no mask can be made.
    assert left_out(20, group, WORD - 1, half, dtype=dtype) == 0
    assert left_out(20, group, FEWEST_TERMS, half, True, dtype=dtype) == group
    assert left_out(20, group, FEWEST_TERMS - 1, half, True, dtype=dtype) == 0


@BOTH
def test_where_zeros_of_b_are_left_out(dtype):
    group, half = columns_of(dtype), (1.0, 0.5)
    assert left_out(group, 40, WORD, half, True, dtype=dtype) == -group
    assert left_out(2 * group + 9, 40, WORD, half, True, dtype=dtype) == -2 * group
    assert left_out(2 * group - 1, 40, WORD, (1.0, 0.1), True, dtype=dtype) == 1 - 2 * group
    assert left_out(group - 1, 40, WORD, half, True, dtype=dtype) == 0
    assert left_out(group, 40, WORD, (1.0, 0.8), True, dtype=dtype) == 0
    # These lie in another order.
    assert left_out(group, 40, WORD, half, False, dtype=dtype) == 0
    assert left_out(group, 40, WORD, half, True, True, dtype=dtype) == 0
    # A has as many.
    assert left_out(group, group, WORD, (0.5, 0.5), True, dtype=dtype) == group


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("m", [MOST_ROWS, MOST_ROWS + 1, MOST_ROWS + BYTE, 2 * MOST_ROWS + 3])
def test_more_rows_than_there_are_masks(m, ta):
    """Integers are exact; what is left of so many rows must be enough for some masks."""
    rng = np.random.default_rng(0)
    n, k = columns_of(np.float32), WORD
    for sizes, densities in (((m, n), (0.5, 1.0)), ((n, m), (1.0, 0.5))):
        a, *of_a = matrix(rng, sizes[0], k, densities[0], ta, 0, np.float32)
        b, *of_b = matrix(rng, k, sizes[1], densities[1], False, 0, np.float32)
        for x in (a, b):
            x[:] = np.rint(4 * x)
        c = np.full(sizes, np.nan, np.float32)
        args = (*of_a, *of_b, 0.0, address(c), sizes[1], address(c), sizes[1])
        plan = both(np.float32, k)[0]
        multiply(plan.record, *sizes, k, *args)
        np.testing.assert_array_equal(c, a @ b)


@pytest.mark.parametrize("m", range(MOST_COLUMNS, MOST_COLUMNS + BYTE + 1))
def test_rows_left_over_from_a_transposed_a(m):
    assert left_out(m, columns_of(np.float32), 100, (0.5, 1.0), True) > 0
    test_the_same_bits_as_with_zeros.hypothesis.inner_test(
        m, columns_of(np.float32) + 6, 100, True, False, (0, 0), (0.5, 1.0), 1.0, "c", np.float32, 0
    )


@BOTH
def test_nan_is_no_zero(dtype):
    rng = np.random.default_rng(0)
    m, n, k = ROWS + 3, columns_of(dtype), 3 * WORD
    for ta in (False, True):
        a, *of_a = matrix(rng, m, k, 0.5, ta, 0, dtype)
        _b, *of_b = matrix(rng, k, n, 1.0, False, 0, dtype)
        a[2, 5], a[m - 1, k - 1], a[3, 0] = np.nan, np.inf, -0.0
        c = np.empty((m, n), dtype)
        plan = both(dtype, k)[0]
        assert leave_out(plan.record, m, n, k, *of_a, *of_b, 0.0, address(c)) == n
        finite = np.isfinite(c).all(axis=1)
        assert np.flatnonzero(~finite).tolist() == [2, m - 1]
        assert np.isnan(c[2]).all()
        assert np.isinf(c[m - 1]).all()


@numba.njit
def masks_of(plans, m, k, a, a_row, a_col, a_more, masks, room):
    find_masks(m, k, a, a_row, a_col, a_more, masks, room, plans[0].real)


@settings(deadline=None)
@given(
    m=st.integers(BYTE, 40), k=st.integers(WORD, 3 * WORD + 1), ta=st.booleans(),
    gap=st.integers(0, 2), density=st.floats(0, 1), dtype=DTYPES,
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_masks(m, k, ta, gap, density, dtype, seed):
    rng = np.random.default_rng(seed)
    a, *of_a = matrix(rng, m, k, density, ta, gap, dtype)
    n_words = -(-k // WORD)
    masks, room = np.zeros(n_words * m, np.uint64), np.empty(WORD, np.uint8)
    masks_of(Plan(dtype).record, m, k, *of_a, 0, address(masks), address(room))
    bits = np.zeros((m, n_words * WORD), bool)
    bits[:, :k] = a != 0
    words = np.packbits(bits, axis=1, bitorder="little").view("<u8")
    np.testing.assert_array_equal(masks.reshape(n_words, m), words.T)


@numba.njit
def look(plans, m, k, a, a_row, a_col):
    return share_of_zeros(m, k, a, a_row, a_col, plans[0].real)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("m", [BYTE, 200])
def test_a_few_words_tell_how_many_zeros_there_are(m, ta):
    plan = Plan(np.float32)
    for density in (0.0, 0.5, 1.0):
        _a, *of_a = matrix(np.random.default_rng(0), m, 300, density, ta, 0, np.float32)
        assert abs(look(plan.record, m, 300, *of_a) - (1 - density)) < 0.2


def test_zeros_at_the_edges_are_not_all_that_is_seen():
    """Images are darker there: of these rows the first and the last word are 0, a third of all."""
    image = aligned_empty(20 * 6 * WORD, np.float32).reshape(20, 6 * WORD)
    image[:] = 1
    image[:, :WORD] = image[:, -WORD:] = 0
    share = look(Plan(np.float32).record, 20, 6 * WORD, address(image), 6 * WORD, 1)
    assert 0 < share < 0.6


# Networks


def test_small_networks_do_not_compile_it():
    for sizes, rows in (((4, 8, 3), 16), ((64, 32, 10), 200), ((8, 64, 64, 2), 8)):
        table = layer_table(sizes, ("relu",) * (len(sizes) - 2))
        assert not has_products_with_zeros(table, rows, 4)
    group = columns_of(np.float32)
    table = layer_table((64, group, 10), ("relu",))
    assert has_products_with_zeros(table, 64, 4)


def fitted(hidden, X, y, with_zeros, monkeypatch, **settings):
    monkeypatch.undo()
    monkeypatch.setattr(prediction, "WORTH_ZEROS", 1)
    if not with_zeros:
        monkeypatch.setattr(products, "zeros_entries", lambda dtype, longest: {})
    net = MLPClassifier(hidden, max_iter=3, random_state=0, **settings)
    with several_threads():
        net.fit(X, y)
        return net, net.predict_proba(X)


@BOTH
@pytest.mark.parametrize("settings", [
    {"batch_size": 64}, {"batch_size": 64, "activation": "tanh"}, {"batch_size": 50, "alpha": 0.0},
    {"batch_size": 100, "dropout": 0.5}, {"batch_size": 100, "solver": "lbfgs"},
    {"batch_size": 200, "clip_norm": 0.1},
], ids=str)  # fmt: skip
def test_a_fit_is_the_same_bit_by_bit(settings, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    # As images have: some features are mostly 0, and some never.
    X = rng.normal(size=(400, 300)) * (rng.random((400, 300)) < np.linspace(0, 1, 300))
    X, y = X.astype(dtype), np.arange(400) % 3
    for hidden in ((150, 130), (600,)):
        nets = [
            fitted(hidden, X, y, with_zeros, monkeypatch, n_jobs=n_jobs, **settings)
            for with_zeros in (True, False) for n_jobs in (1, 2)
        ]  # fmt: skip
        first, predicted = nets[0]
        for net, probabilities in nets[1:]:
            np.testing.assert_array_equal(net.loss_curve_, first.loss_curve_)
            for one, other in zip(net.coefs_, first.coefs_, strict=True):
                np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(probabilities, predicted)


def test_chunks_of_the_first_layer_are_groups_of_rows(monkeypatch):
    """Else the transpose of the gradient could not be computed where derivatives have zeros."""
    dtype = np.dtype(np.float32)
    dense, sparse = as_matrix(np.ones((2, 784), "f")), as_matrix(scipy.sparse.csr_array((2, 784)))
    relu = layer_table((784, 256, 128, 10), ("relu",) * 2)
    for sizes in ((784, 256, 128, 10), (784, 150, 10)):
        layers = layer_table(sizes, ("relu",) * (len(sizes) - 2))
        cut = samples.cut_of_chunks(layers, dense, dtype, 128)
        assert cut["group_rows"] >= columns_of(dtype)
        bounds = chunk_bounds(layers, **cut)
        in_first = bounds[bounds < sizes[0] * sizes[1]]
        assert in_first.size > 5
        assert (in_first // sizes[1] % cut["group_rows"] == 0).all()
    # Samples are searched anew for each chunk, or there are no zeros, or too few rows of weights.
    assert samples.group_rows(relu, sparse, dtype, 128) == 1
    assert samples.group_rows(layer_table((784, 256, 10), ("tanh",)), dense, dtype, 128) == 1
    dropped = layer_table((784, 256, 10), ("tanh",), (0.5,))
    assert samples.group_rows(dropped, dense, dtype, 128) > 1
    few = as_matrix(np.ones((2, 100), "f"))
    assert samples.group_rows(layer_table((100, 256, 10), ("relu",)), few, dtype, 128) == 1
    monkeypatch.setattr(samples, "multiplies_by_amx", lambda dtype: True)
    assert samples.group_rows(relu, dense, dtype, 500) == 1


def test_few_predictions_do_not_wait_for_the_compiler(monkeypatch):
    """A fit of small batches has not compiled what is only worth it for many samples."""
    compiled = []

    def noted(dtype, longest):
        compiled.append(longest)
        return zeros_entries(dtype, longest)

    X, y = np.random.default_rng(0).normal(size=(2000, 300)).astype("f"), np.arange(2000) % 3
    net = MLPClassifier((256,), batch_size=1, max_iter=1, random_state=0).fit(X[:20], y[:20])
    monkeypatch.setattr(products, "zeros_entries", noted)
    one = net.predict_proba(X[:1])
    net.predict(X[:100])
    assert not compiled
    net.predict(X)
    assert compiled
    np.testing.assert_array_equal(net.predict_proba(X[:1]), one)

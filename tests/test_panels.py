"""Derivatives of wide layers in panels: the same numbers as without, not by a bit another one."""

import numba
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import MLPClassifier
from fastgd.kernels import layout, samples
from fastgd.kernels.gemm import (
    DEPTH,
    FAR_BYTES,
    PACKED_ROWS,
    gemm,
    gemm_by_panels,
    product_entries,
)
from fastgd.kernels.packing import pack_panels
from fastgd.kernels.plan import Plan
from fastgd.kernels.tiles import HAS_TILES
from fastgd.kernels.vectors import VECTOR_BYTES
from fastgd.losses import LOSSES
from fastgd.neural_network.problem import Problem, as_data, as_matrix
from threads import derivatives_in_panels, several_threads

pytestmark = [
    pytest.mark.skipif(not HAS_TILES, reason="no panels where products are BLAS's"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

DTYPES = st.sampled_from([np.float32, np.float64])


@numba.njit
def multiply(plans, m, n, k, n_rows, a, a_col, b, panels, beta, d, c, by_panels):
    plan = plans[0]
    if by_panels:
        gemm_by_panels(plan, m, n, k, a, 1, a_col, panels, n_rows, beta, d, n, c, n)
    else:
        gemm(plan, m, n, k, a, 1, a_col, b, n, 1, beta, d, n, c, n)


@numba.njit
def pack(plans, b, n, lo, hi, panels, n_rows, size, row_bytes):
    pack_panels(b + lo * n * size, n, hi - lo, n, panels + lo * row_bytes, n_rows, plans[0].real)


def address(array):
    return array.__array_interface__["data"][0]


@settings(deadline=None)
@given(
    m=st.integers(1, 2 * PACKED_ROWS), gap=st.sampled_from([0, FAR_BYTES]), n=st.integers(2, 100),
    k=st.sampled_from([1, 7, 64, 65, DEPTH + 3]), more=st.integers(0, 3), cut=st.floats(0, 1),
    beta=st.sampled_from([0.0, 1.0, -0.5]),
    dtype=DTYPES, seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_products_by_panels(m, gap, n, k, more, cut, beta, dtype, seed):
    """Packed in two parts, as members of a team do it, into panels with more rows than are used."""
    rng = np.random.default_rng(seed)
    # Rows of A that lie far apart are packed, a number of columns at a time.
    a, b = (rng.integers(-8, 9, (k, columns)).astype(dtype) for columns in (m + gap, n))
    d = rng.integers(-8, 9, (m, n)).astype(dtype)
    two, n_rows = 2 * VECTOR_BYTES // a.itemsize, k + more
    panels = np.full(-(-n // two) * two * n_rows, np.nan, dtype)
    plan = Plan(dtype).set(**product_entries(dtype, k))
    middle = round(cut * k)
    for lo, hi in ((0, middle), (middle, k)):
        row_bytes = 2 * VECTOR_BYTES
        pack(plan.record, address(b), n, lo, hi, address(panels), n_rows, b.itemsize, row_bytes)
    c = np.full((m, n), np.nan, dtype)
    multiply(
        plan.record, m, n, k, n_rows, address(a), m + gap, address(b), address(panels), beta,
        address(d), address(c), True,
    )  # fmt: skip
    np.testing.assert_array_equal(c, a[:, :m].T @ b + beta * d)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_by_panels_have_the_bits_of_others(dtype):
    """Sums that are rounded, of which the other product packs some itself."""
    rng = np.random.default_rng(0)
    for m, n, k in (
        (60, 600, 300),
        (700, 600, 300),
        (12, 600, 70),
        (60, 33, 70),
        (60, 600, DEPTH + 9),
    ):
        a, b, d = (rng.normal(size=shape).astype(dtype) for shape in ((k, m), (k, n), (m, n)))
        two = 2 * VECTOR_BYTES // a.itemsize
        panels = np.zeros(-(-n // two) * two * k, dtype)
        plan = Plan(dtype).set(**product_entries(dtype, k))
        pack(plan.record, address(b), n, 0, k, address(panels), k, b.itemsize, 2 * VECTOR_BYTES)
        results = np.zeros((2, m, n), dtype)
        for by_panels, c in enumerate(results):
            multiply(
                plan.record, m, n, k, k, address(a), m, address(b), address(panels), 0.3,
                address(d), address(c), bool(by_panels),
            )  # fmt: skip
        np.testing.assert_array_equal(*results)


def fitted(kind, dtype, n_jobs, in_parts=False, **kw):
    """Weights after some batches, of which the last is a short one; and the sizes of the teams."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(90, 60)) * (rng.random((90, 60)) < 0.5)).astype(dtype)
    X, y = scipy.sparse.csr_array(X) if kind == "csr" else X, rng.integers(0, 3, 90)
    with several_threads(in_parts=in_parts) as sizes:
        clf = MLPClassifier(
            (61, 38), batch_size=40, max_iter=3, random_state=0, n_jobs=n_jobs, alpha=0.1, **kw
        ).fit(X, y)
    assert set(sizes) <= {1, n_jobs}
    return np.concatenate([np.ravel(p) for p in clf.coefs_ + clf.intercepts_])


@pytest.mark.parametrize("wide", [1, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("kw", [{}, {"dropout": 0.3, "clip_norm": 0.5}, {"in_parts": True}])
def test_fits(kw, kind, dtype, wide, monkeypatch):
    """Whatever the number of threads; where the gradient is clipped, all of it is kept."""
    with derivatives_in_panels(monkeypatch, wide):
        with monkeypatch.context() as patch:
            patch.setattr("fastgd.kernels.samples.packs_deltas", lambda *_: False)
            expected = fitted(kind, dtype, 1, **kw)
        plans = noted_plans(monkeypatch)
        for n_jobs in (1, 2, 2, 3):
            np.testing.assert_array_equal(fitted(kind, dtype, n_jobs, **kw), expected)
        assert plans
        assert all((plan["panels"] is not None) == (kind == "dense") for plan in plans)
        # A member that has a part of the batch begins in the midst of the panels.
        in_parts = "in_parts" in kw and kind == "dense"
        assert all(plan["n_parts"] == 1 + in_parts for plan in plans)


def noted_plans(patch):
    """The list of the plans with which networks are trained from now on."""
    plans = []

    def noted(plan, *args, **cut):
        plans.append(set_for_training(plan, *args, **cut))
        return plans[-1]

    set_for_training = layout.set_for_training
    patch.setattr("fastgd.kernels.samples.set_for_training", noted)
    return plans


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("block_bytes", [2**22, 1])
def test_objectives(kind, block_bytes, monkeypatch):
    """Gradients and products of Hessians, also where the samples are more than a block."""
    monkeypatch.setattr("fastgd.kernels.samples.BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 30)), rng.normal(size=(90, 3))
    X = scipy.sparse.csr_array(X) if kind == "csr" else X

    def derivatives(n_jobs):
        with several_threads():
            layers = layout.layer_table((30, 24, 20, 3), ("tanh", "gelu"))
            data = as_data(X, y, None)
            dtype = np.dtype(np.float64)
            problem = Problem(layers, LOSSES["squared_error"](), 0.3, data, 90, dtype, n_jobs)
            f = problem.objective()
            w, v = 0.3 * np.random.default_rng(1).normal(size=(2, f.n_parameters))
            # Elsewhere once more: the last gradient is remembered.
            products = f.hessp(w, v), f.gauss_newton_product(w, v)
            return f.grad(w), *products, f.grad(w + v)

    expected = derivatives(1)
    with derivatives_in_panels(monkeypatch):
        plans = noted_plans(monkeypatch)
        for n_jobs in (1, 2, 3):
            for result, other in zip(derivatives(n_jobs), expected, strict=True):
                np.testing.assert_array_equal(result, other)
        assert plans
        assert all((plan["panels"] is not None) == (kind == "dense") for plan in plans)


def test_room_for_panels():
    """Each wide layer has its own, whole lines of it; one of few units or few inputs has none."""
    layers = layout.layer_table((200, 600, 3, 513, 520, 1000, 2), ("relu",) * 5)
    assert layers["panels"].tolist() == [0, -1, -1, 608, 608 + 544, -1]
    assert layout.n_panel_units(layers) == 608 + 544 + 1024
    for number in (np.float32, np.float64):
        two_registers = 2 * VECTOR_BYTES // np.dtype(number).itemsize
        assert layout.PANEL_MULTIPLE % two_registers == 0


def test_who_packs_derivatives(monkeypatch):
    """Wide layers of dense samples, whose products are those of tiles; then chunks are small."""
    wide, narrow = (layout.layer_table((784, n, n, 10), ("relu",) * 2) for n in (800, 400))
    float32 = np.dtype(np.float32)
    dense, sparse = as_matrix(np.ones((2, 784), "f")), as_matrix(scipy.sparse.csr_array((2, 784)))
    monkeypatch.setattr(samples, "multiplies_by_amx", lambda dtype: False)
    assert samples.packs_deltas(wide, dense, float32, 500)
    assert not samples.packs_deltas(narrow, dense, float32, 500)
    assert not samples.packs_deltas(wide, sparse, float32, 500)
    monkeypatch.setattr(samples, "multiplies_by_amx", lambda dtype: dtype == np.float32)
    assert not samples.packs_deltas(wide, dense, float32, 500)
    assert samples.packs_deltas(wide, dense, float32, 50)  # too few for the unit
    assert samples.packs_deltas(wide, dense, np.dtype(np.float64), 500)
    small, large = (np.diff(layout.chunk_bounds(wide, in_panels)) for in_panels in (True, False))
    assert small.max() < 1.5 * layout.ROWS_BY_PANELS * 800
    assert large.min() > 2 * small.max()

"""Products by the matrix unit: exact on integers, as precise as BLAS on others, at every edge."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import MLPClassifier
from fastgd.kernels import amx_product as module
from fastgd.kernels.amx import has_amx
from test_linalg import Product, check_gemm, place
from threads import several_threads

pytestmark = pytest.mark.skipif(not has_amx(), reason="this processor has no AMX")


@numba.njit
def call_multiply(plans, m, n, k, a, ra, ca, b, rb, cb, beta, d, rd, c, rc):
    module.multiply_by_amx(plans[0], m, n, k, a, ra, ca, b, rb, cb, np.float32(beta), d, rd, c, rc)


BY_AMX = {"by_amx": True, "kernel": call_multiply}  # whatever the sizes


def multiply(A, B, ta=False, tb=False, **how):
    """A B for arrays, either of which may be stored transposed."""
    (m, k), n = A.shape, B.shape[1]
    a, b = (np.ascontiguousarray(x.T if turned else x) for x, turned in ((A, ta), (B, tb)))
    C = np.full((m, n), np.nan, np.float32)
    Product(np.float32, max(m, n, k), **how)(
        m, n, k, place(a), *((1, m) if ta else (k, 1)), place(b), *((1, k) if tb else (n, 1)),
        0.0, place(C), n, place(C), n,
    )  # fmt: skip
    return C


@settings(deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 140)] * 3),
    transposes=st.tuples(st.booleans(), st.booleans()),
    gaps=st.tuples(*[st.integers(0, 3)] * 4),
    d=st.sampled_from(["rows", "one row", "c"]),
    beta=st.sampled_from([0.0, 1.0, -0.5, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_sizes(sizes, transposes, gaps, d, beta, seed):
    check_gemm(
        sizes, ta=transposes[0], tb=transposes[1], gaps=gaps, beta=beta,
        one_row_of_d=d == "one row", d_is_c=d == "c", dtype=np.float32, seed=seed, **BY_AMX,
    )  # fmt: skip


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_more_than_is_packed_at_a_time(ta, tb):
    sizes = module.PACKED_ROWS + 33, module.PACKED_COLUMNS + 17, module.DEPTH + 47
    check_gemm(
        sizes, ta=ta, tb=tb, gaps=(0, 1, 2, 3), beta=3.0, one_row_of_d=True, dtype=np.float32,
        **BY_AMX,
    )  # fmt: skip


def test_it_is_the_unit_that_computes_large_products():
    """Else the other tests of the package would not notice that it never does."""
    rng = np.random.default_rng(0)
    A, B = (rng.normal(size=shape).astype(np.float32) for shape in ((50, 512), (512, 256)))
    by_unit = multiply(A, B, **BY_AMX)
    np.testing.assert_array_equal(multiply(A, B, by_amx=True), by_unit)
    by_tiles = multiply(A, B)
    assert (by_tiles != by_unit).mean() > 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastgd.kernels.gemm.has_amx", lambda: False)  # the system refuses it
        np.testing.assert_array_equal(multiply(A, B, by_amx=True), by_tiles)
    B = B[:, :255]
    np.testing.assert_array_equal(multiply(A, B, by_amx=True), multiply(A, B))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("k", [31, 1000])
@pytest.mark.parametrize("positive", [False, True])
def test_it_is_as_precise_as_blas(k, scale, positive):
    """Also where all terms have one sign, so that what is left out might add up."""
    rng = np.random.default_rng(0)
    A, B = (rng.normal(size=shape) for shape in ((96, k), (k, 64)))
    if positive:
        A, B = abs(A), abs(B)
    A, B = (A * scale).astype(np.float32), B.astype(np.float32)
    exact = A.astype(np.float64) @ B.astype(np.float64)

    def error(C):
        return np.sqrt(np.mean((C - exact) ** 2))

    assert error(multiply(A, B, **BY_AMX)) <= error(A @ B)
    assert abs(np.mean(multiply(A, B, **BY_AMX) / exact - 1.0)) < 2e-7 or not positive


def test_products_of_small_numbers_lose_digits_little_by_little():
    """As the module says: below 2⁻¹¹⁰, where pieces begin to be less than a normal number."""
    exponents = np.arange(-120, -90)
    A = np.full((exponents.size, 1), 1.0 + 2.0**-23, np.float32) * 2.0 ** exponents[:, None]
    error = abs(multiply(A.astype(np.float32), np.ones((1, 1), np.float32), **BY_AMX) / A - 1)[:, 0]
    assert (error[exponents >= -102] == 0.0).all()
    assert (error < 2.0 ** (-126 - exponents + 1)).all()


@given(st.floats(2.0**-100, 2.0**127, width=32), st.booleans())
def test_a_number_is_the_sum_of_its_pieces(x, is_negative):
    """Times 1 it is itself, all 24 digits of it."""
    x = np.float32(-x if is_negative else x)
    one = np.ones((1, 1), np.float32)
    assert multiply(np.full((1, 1), x), one, **BY_AMX)[0, 0] == x
    assert multiply(one, np.full((1, 1), x), **BY_AMX)[0, 0] == x


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, np.finfo(np.float32).max])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_what_is_not_finite_gives_what_tiles_give(value, beta):
    """Infinity stays infinite, and the other rows and columns finite."""
    rng = np.random.default_rng(0)
    A, B = (rng.uniform(1, 2, shape).astype(np.float32) for shape in ((70, 40), (40, 50)))
    A[33, 7] = value
    B[3, 20] = -value
    D = rng.normal(size=(70, 50)).astype(np.float32)
    results = []
    for how in (BY_AMX, {}):
        C = D.copy()
        Product(np.float32, 70, **how)(
            70, 50, 40, place(A), 40, 1, place(B), 50, 1, beta, place(C), 50, place(C), 50,
        )  # fmt: skip
        results.append(C)
    np.testing.assert_allclose(*results, rtol=1e-5)
    others = np.delete(np.delete(results[0], 33, 0), 20, 1)
    assert np.isfinite(others).all()


def test_an_element_does_not_depend_on_the_number_of_rows():
    """So that threads may share the rows."""
    rng = np.random.default_rng(0)
    A, B = (rng.normal(size=shape).astype(np.float32) for shape in ((100, 70), (70, 90)))
    whole = multiply(A, B, **BY_AMX)
    for cut in (1, 5, 16, 33, 64, 99):
        parts = multiply(A[:cut], B, **BY_AMX), multiply(A[cut:], B, ta=True, **BY_AMX)
        np.testing.assert_array_equal(np.vstack(parts), whole)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_does_not_depend_on_the_number_of_threads(monkeypatch):
    """Nor, but for rounding, on who multiplies."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 400)).astype(np.float32)  # the last batch is shorter
    y = (X[:, :9].sum(axis=1) > 0).astype(int)

    def fitted(n_jobs):
        model = MLPClassifier((410, 420), batch_size=400, max_iter=3, n_jobs=n_jobs, random_state=0)
        with several_threads() as sizes:
            model.fit(X, y)
        assert set(sizes) == {n_jobs}
        return model

    alone = fitted(1)
    for n_jobs in (2, 3):
        for one, other in zip(alone.coefs_, fitted(n_jobs).coefs_, strict=True):
            np.testing.assert_array_equal(one, other)
    monkeypatch.setattr("fastgd.kernels.samples.ROWS_FOR_AMX", 10**9)
    by_tiles = fitted(1)
    np.testing.assert_allclose(alone.loss_curve_, by_tiles.loss_curve_, rtol=1e-4)
    assert (alone.coefs_[0] != by_tiles.coefs_[0]).any()

"""Matrix products at addresses, and the two kinds of input, against NumPy.

All numbers are small integers, so that every result is exact in either precision and no tolerance
is needed.
"""

import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd.kernels import gemm as module
from fastgd.kernels.aligned import address, aligned_empty
from fastgd.kernels.gemm import gemm, product_entries
from fastgd.kernels.layout import (
    layer_table,
    longest_sum,
    n_parameters,
    network_plan,
    parameter_views,
    set_for_training,
)
from fastgd.kernels.linalg import (
    CSR,
    STRIP,
    Dense,
    affine,
    call_accumulate,
    input_entries,
    sum_of_squares,
    sums_of_squares,
)
from fastgd.kernels.packing import CROWDED_BYTES
from fastgd.kernels.plan import Plan
from fastgd.neural_network.problem import as_data, as_matrix

DTYPES = st.sampled_from([np.float32, np.float64])
GUARDS = 64


@numba.njit
def call_gemm(plans, m, n, k, a, ra, ca, b, rb, cb, beta, d, rd, c, rc):
    gemm(plans[0], m, n, k, a, ra, ca, b, rb, cb, beta, d, rd, c, rc)


@numba.njit
def call_first_layer(plans, first, cut, n_rows, out, n_out, back, kept, source, top, bottom):
    """Forward in two shares of the rows, as two threads would do it, then back from one on."""
    plan = plans[0]
    affine(plan, first, 0, cut, out)
    if cut < n_rows:
        affine(plan, first, cut, n_rows, out + cut * n_out * plan.itemsize)
    call_accumulate(
        plan.accumulate, plan, first, back, n_rows, kept, source, plan.grad, top, bottom
    )


def guarded(room):
    """The same room, between numbers that nobody may change."""
    around = aligned_empty(room.size + 2 * GUARDS, room.dtype)
    around[:] = 77
    return around, around[GUARDS : GUARDS + room.size]


class Product:
    """``gemm`` with rooms of the smallest allowed size, and guards around them."""

    def __init__(self, dtype, longest, by_blas=False, by_amx=False, kernel=call_gemm):
        entries = product_entries(dtype, longest, by_blas or not module.HAS_TILES, by_amx)
        self._kernel, self._around = kernel, {}
        for name in {"panel", "packed", "pieces"} & entries.keys():
            self._around[name], entries[name] = guarded(entries[name])
        self.plan = Plan(dtype).set(**entries)

    def __call__(self, *args):
        self._kernel(self.plan.record, *args)
        for name, around in self._around.items():
            assert (around[:GUARDS] == 77).all(), name
            assert (around[-GUARDS:] == 77).all(), name


def integers(rng, size, dtype):
    return rng.integers(-8, 9, size).astype(dtype)


def embedded(rng, shape, dtype, gap, around):
    """A flat array that holds a matrix somewhere: the array, the row length, a view.

    ``around`` stands before the matrix, behind it and between its rows.
    """
    rows, columns = shape
    offset, row_length = GUARDS + int(rng.integers(0, 4)), columns + gap
    flat = np.full(offset + rows * row_length + GUARDS, around, dtype)
    matrix = flat[offset : offset + rows * row_length].reshape(rows, row_length)[:, :columns]
    matrix[:] = integers(rng, shape, dtype)
    return flat, row_length, matrix


def place(matrix):
    return matrix.__array_interface__["data"][0]


def check_gemm(
    sizes, *, ta=False, tb=False, gaps=(0, 0, 0, 0), beta=0.0, one_row_of_d=False, d_is_c=False,
    dtype=np.float64, seed=0, **how,
):  # fmt: skip
    """One product, whose every number has to be right, and nothing else changed.

    ``gaps`` are the numbers between the rows of A, B, C and D as they lie in memory; ``how`` tells
    ``Product`` who multiplies.
    """
    rng = np.random.default_rng(seed)
    m, n, k = sizes
    # What lies beside A, B and D must not be used: a NaN would spread.
    nan = np.nan
    a, lda, A = embedded(rng, (k, m) if ta else (m, k), dtype, gaps[0], nan)
    b, ldb, B = embedded(rng, (n, k) if tb else (k, n), dtype, gaps[1], nan)
    c, ldc, C = embedded(rng, (m, n), dtype, gaps[2], 77.0)
    d, ldd, D = embedded(rng, (1 if one_row_of_d else m, n), dtype, gaps[3], nan)
    if d_is_c:
        ldd, D = ldc, C
    before = a.copy(), b.copy(), d.copy()
    product = (A.T if ta else A) @ (B.T if tb else B) + beta * D
    expected = c.copy()
    expected[(place(C) - place(c)) // c.itemsize :][: m * ldc].reshape(m, ldc)[:, :n] = product
    if beta == 0.0:
        D[:] = nan  # with a beta of 0, D was perhaps never written
        before[2][:] = d
    Product(dtype, k, **how)(
        m, n, k, place(A), *((1, lda) if ta else (lda, 1)),
        place(B), *((1, ldb) if tb else (ldb, 1)), beta, place(D), 0 if one_row_of_d else ldd,
        place(C), ldc,
    )  # fmt: skip
    # The whole arrays: what lies around the matrix stays, and so does what is only read.
    np.testing.assert_array_equal(c, expected)
    for array, old in zip((a, b, d), before, strict=True):
        np.testing.assert_array_equal(array, old)


@settings(deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 70)] * 3),
    transposes=st.tuples(st.booleans(), st.booleans()),
    gaps=st.tuples(*[st.integers(0, 3)] * 4),
    d=st.sampled_from(["rows", "one row", "c"]),
    by_blas=st.booleans(),
    beta=st.sampled_from([0.0, 1.0, -0.5, 3.0]),
    dtype=DTYPES,
    seed=st.integers(0, 2**32 - 1),
)
def test_gemm(sizes, transposes, gaps, d, by_blas, beta, dtype, seed):
    check_gemm(
        sizes, ta=transposes[0], tb=transposes[1], gaps=gaps, beta=beta,
        one_row_of_d=d == "one row", d_is_c=d == "c", by_blas=by_blas, dtype=dtype, seed=seed,
    )  # fmt: skip


def lanes(dtype):
    """Numbers in a register."""
    return module.VECTOR_BYTES // np.dtype(dtype).itemsize


BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TRANSPOSES = pytest.mark.parametrize(
    ("ta", "tb"), [(False, False), (False, True), (True, False), (True, True)]
)


@BOTH
@TRANSPOSES
def test_gemm_of_every_width_around_the_edges(dtype, ta, tb):
    """One number more or less than one, two, four registers, and than a group of panels."""
    one = lanes(dtype)
    for whole in (one, 2 * one, 4 * one, module.PANELS * 2 * one):
        for n in (whole - 1, whole, whole + 1):
            for m in (1, 4, module.TILE_ROWS, 2 * module.TILE_ROWS - 1, 37):
                check_gemm((m, n, 5), ta=ta, tb=tb, beta=1.0, gaps=(1, 2, 3, 1), dtype=dtype)


@BOTH
def test_gemm_of_a_transposed_b_that_is_no_whole_number_of_squares(dtype):
    """It is transposed in squares of a register a side, of which only as much as is there."""
    one = lanes(dtype)
    for k in (*range(1, one + 2), 2 * one + 3):
        for n in (1, one - 1, one, one + 1, 2 * one, 2 * one + 1, 5 * one + 2):
            check_gemm((3, n, k), tb=True, gaps=(0, 1, 1, 0), dtype=dtype)


@BOTH
@TRANSPOSES
@pytest.mark.parametrize("one_row_of_d", [False, True])
def test_gemm_of_a_long_sum(dtype, ta, tb, one_row_of_d):
    """More than DEPTH terms are summed block by block; D counts once."""
    for k in (module.DEPTH, module.DEPTH + 1, 2 * module.DEPTH + 3):
        check_gemm(
            (7, 2 * lanes(dtype) + 1, k), ta=ta, tb=tb, beta=3.0,
            one_row_of_d=one_row_of_d, dtype=dtype,
        )  # fmt: skip


def far(dtype, length, more=1):
    """The gap that makes rows of this length lie ``more`` numbers farther apart than FAR_BYTES.

    Those that are longer lie farther apart anyway.
    """
    return max(module.FAR_BYTES // np.dtype(dtype).itemsize + more - length, 1)


@BOTH
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("often", [module.OFTEN - 1, module.OFTEN, module.OFTEN + 1])
def test_gemm_with_far_rows_of_b(dtype, more, often):
    """Packed by groups of panels, if there are so many rows in C that it pays."""
    group = module.PANELS * 2 * lanes(dtype)
    for n in (1, 2 * lanes(dtype) + 1, group - 1, group, group + 1, 2 * group + 3):
        check_gemm((often, n, 11), gaps=(1, far(dtype, n, more), 2, 1), beta=-0.5, dtype=dtype)


@BOTH
@pytest.mark.parametrize("often", [module.OFTEN - 1, module.OFTEN])
def test_gemm_with_rows_of_b_that_crowd_a_cache(dtype, often):
    """Packed as far ones are, where registers are short."""
    row = CROWDED_BYTES // np.dtype(dtype).itemsize
    for n in (row - 1, row, row + 1, 2 * row):
        check_gemm((often, n, 64), gaps=(1, -n % row, 2, 1), beta=-0.5, dtype=dtype)


@BOTH
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("often", [module.OFTEN - 1, module.OFTEN, module.OFTEN + 1])
def test_gemm_with_far_rows_of_a_transposed_a(dtype, more, often):
    """Packed by tiles, a block of PACKED_ROWS at a time."""
    tile, block = module.TILE_ROWS, module.PACKED_ROWS
    for m in (1, tile - 1, tile, tile + 1, block - 1, block, block + 1, 2 * block + 5):
        check_gemm(
            (m, often, 11), ta=True, gaps=(far(dtype, m, more), 1, 2, 1), beta=-0.5,
            dtype=dtype,
        )  # fmt: skip


@BOTH
@pytest.mark.parametrize("tb", [False, True])
def test_gemm_with_far_rows_in_a_long_sum(dtype, tb):
    """All ways to pack together: both operands, several groups of panels, blocks of k and rows."""
    m, n, k = module.PACKED_ROWS + 5, module.PANELS * 2 * lanes(dtype) + 9, module.DEPTH + 6
    gaps = far(dtype, m, 2), far(dtype, k if tb else n, 3), 1, 0
    check_gemm((m, n, k), ta=True, tb=tb, gaps=gaps, beta=1.0, d_is_c=True, dtype=dtype)


@BOTH
@pytest.mark.parametrize("is_column", [True, False])
@pytest.mark.parametrize("k", [1, 37])
def test_gemm_gives_the_same_bits_whatever_the_number_of_rows(dtype, is_column, k):
    """So that threads may share the rows; with numbers that round, unlike all others here."""
    rng = np.random.default_rng(0)
    m, n = module.OFTEN + 11, 1 if is_column else 6 * lanes(dtype) + 3
    for ta, tb in ((False, False), (False, True), (True, False)):
        A, B = rng.normal(size=(k, m) if ta else (m, k)), rng.normal(size=(k, n))
        A, B = A.astype(dtype), np.ascontiguousarray(B.T if tb else B, dtype)
        run = Product(dtype, k)
        if not module.HAS_TILES:
            pytest.skip("BLAS promises no such thing")

        def product(top, bottom, A=A, B=B, ta=ta, tb=tb, run=run):
            C = np.full((bottom - top, n), np.nan, dtype)
            run(
                bottom - top, n, k, place(A[:, top:] if ta else A[top:]),
                *((1, m) if ta else (k, 1)), place(B), *((1, k) if tb else (n, 1)), 0.0, place(C),
                n, place(C), n,
            )  # fmt: skip
            return C

        whole = product(0, m)
        assert np.abs(whole - (A.T if ta else A) @ (B.T if tb else B)).max() < 1e-4
        for cut in (1, 5, 12, 17, m - 1):
            np.testing.assert_array_equal(np.vstack([product(0, cut), product(cut, m)]), whole)


def test_the_product_that_benchmarks_know(monkeypatch):
    """They are run by hand, so nobody else would notice that they call it in another way."""
    root = Path(__file__).parents[1]
    if not (root / "bench").is_dir():
        pytest.skip("no benchmarks lie beside the tests")
    monkeypatch.syspath_prepend(root)
    own_product = importlib.import_module("bench.own_product").own_product
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((9, 5), (7, 5)))
    c = np.full((9, 7), np.nan, np.float32)
    own_product(a, b.T, c, 2)()
    np.testing.assert_allclose(c, a @ b.T, rtol=1e-5, atol=1e-6)


def csr_of(rng, n_rows, n_features, dtype, index_type):
    """Rows with repeated columns, and empty ones, which came unsorted; also as a dense matrix."""
    lengths = rng.integers(0, 2 * n_features + 1, n_rows) * (rng.random(n_rows) < 0.7)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = rng.integers(0, n_features, indptr[-1])
    data = integers(rng, indices.size, dtype)
    dense = np.zeros((n_rows, n_features), dtype)
    np.add.at(dense, (np.repeat(np.arange(n_rows), lengths), indices), data)
    X = scipy.sparse.csr_matrix((data, indices, indptr), (n_rows, n_features))
    x = as_data(X, np.zeros((n_rows, 1)), None).X
    assert isinstance(x, CSR)
    x = x._replace(indices=x.indices.astype(index_type), indptr=x.indptr.astype(index_type))
    return x, dense


@settings(deadline=None)
@given(
    kind=st.sampled_from(["dense", np.int32, np.int64]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(1, 6)),
    kept=st.sampled_from([0.0, 0.5, 1.0]),
    dtype=DTYPES,
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_first_layer(kind, sizes, kept, dtype, seed, data):
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
    cut = data.draw(st.integers(1, n_rows))
    back = data.draw(st.integers(0, n_rows - 1))
    top = data.draw(st.integers(0, n_features - 1))
    bottom = data.draw(st.integers(top + 1, n_features))
    rows = (order if order.size else np.arange(n_samples))[first : first + n_rows]

    # Two layers, so that the biases do not follow right after the weights.
    layers = layer_table((n_features, n_out, 2), ("identity",))
    w = integers(rng, n_parameters(layers), dtype)
    (W, _), (bias, _) = parameter_views(w, layers)
    start = 3
    out = integers(rng, start + n_rows * n_out + 2, dtype)
    grad = integers(rng, w.size, dtype)
    # What is kept may be that of another vector: of the parameters, for the penalty.
    source = grad if data.draw(st.booleans()) else integers(rng, w.size, dtype)
    kept_part = kept * parameter_views(source.copy(), layers)[0][0]
    if kept == 0.0:
        parameter_views(source, layers)[0][0][:] = np.nan
    gathers = kind == "dense" and order.size > 0
    batch_rows = n_rows + data.draw(st.integers(0, 2))
    plan = set_for_training(
        network_plan(layers, dtype, batch_rows), 1, np.int64, n_features if gathers else 0
    )
    plan.set(w=w, grad=grad, order=order, n_samples=n_samples, **input_entries(x, dtype))
    if data.draw(st.booleans()):
        plan.set(**product_entries(dtype, longest_sum(layers, batch_rows), by_blas=True))
    around, x_room = guarded(plan["x"])
    plan.set(x=x_room)
    deltas = plan["delta"][: n_rows * n_out]
    plan["delta"][:] = np.nan
    deltas[:] = integers(rng, deltas.size, dtype)

    expected_out, expected_grad = out.copy(), grad.copy()
    expected_out[start : start + n_rows * n_out] = (X[rows] @ W + bias).ravel()
    gradient = X[rows[back:]].T @ deltas.reshape(n_rows, n_out)[back:] + kept_part
    parameter_views(expected_grad, layers)[0][0][top:bottom] = gradient[top:bottom]
    call_first_layer(
        plan.record, first, cut, n_rows, place(out[start:]), n_out, back, kept,
        address(source), top, bottom,
    )  # fmt: skip
    np.testing.assert_array_equal(out, expected_out)
    np.testing.assert_array_equal(grad, expected_grad)
    assert (around[:GUARDS] == 77).all()
    assert (around[-GUARDS:] == 77).all()


@numba.njit
def squares_of(x, y):
    return sum_of_squares(x), *sums_of_squares(x, y)


@BOTH
@pytest.mark.parametrize("n", [0, 1, 31, 200, STRIP - 1, STRIP, 3 * STRIP + 5])
def test_sums_of_squares_of_any_size(dtype, n):
    """Of numbers whose squares ``dtype`` does not hold, too: each sum by itself."""
    rng = np.random.RandomState(0)
    numbers = rng.standard_normal((2, n)).astype(dtype)
    scales = [1e-30, 1e-9, 1.0, 1e17, 1e30]
    for x, y in itertools.product(numbers[0] * np.array([scales], dtype).T, repeat=2):
        exact = [np.sum(z.astype(np.float64) ** 2) for z in (x, x, y)]
        np.testing.assert_allclose(squares_of(x, y), exact, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sums_of_squares_of_what_is_not_finite(dtype, bad):
    x, y = np.ones((2, 100), dtype)
    x[70] = bad
    np.testing.assert_array_equal(squares_of(x, y), [abs(bad), abs(bad), 100.0])
    np.testing.assert_array_equal(squares_of(y, x), [100.0, 100.0, abs(bad)])


@pytest.mark.parametrize("index", [-1, 5])
def test_as_matrix_refuses_columns_that_are_not_there(index):
    X = scipy.sparse.csr_matrix(np.eye(4, 5))
    X.indices[2] = index
    with pytest.raises(ValueError, match="must be from 0 to 4, got"):
        as_matrix(X)


def test_as_matrix_copies_only_what_it_must():
    X = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(as_matrix(X).values, X)
    for other in (np.asfortranarray(X), np.arange(12.0).reshape(2, 6)[:, ::2]):
        values = as_matrix(other).values
        assert values.flags.c_contiguous
        assert values.tolist() == other.tolist()
    assert X.flags.writeable


def on_another_cpu(code, tmp_path, **environment):
    """Run a script that compiles for another CPU than this one; what it printed."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **own, **environment}, cwd=root, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


LOSS_CURVE = """
import numpy as np
from fastgd import MLPClassifier
from fastgd.kernels.gemm import HAS_TILES

X = np.random.RandomState(0).normal(size=(60, 5))
clf = MLPClassifier((7, 6), random_state=0, max_iter=3, n_iter_no_change=9)
curve = [float(loss) for loss in clf.fit(X, X[:, 0] > 0).loss_curve_]
"""


BLAS_WITH_THREADS = """
from threadpoolctl import threadpool_limits

X = np.random.RandomState(0).normal(size=(600, 120))

def weights(n_threads):
    clf = MLPClassifier((150, 77), batch_size=300, random_state=0, max_iter=3)
    with threadpool_limits(n_threads):
        return clf.fit(X, X[:, 0] > 0).coefs_[0]

same = bool((weights(1) == weights(2)).all())
print(json.dumps([HAS_TILES, curve, same]))
"""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_cpu_without_wide_registers(tmp_path):
    """All products go to BLAS there."""
    here = {}
    exec(LOSS_CURVE, here)
    assert here["HAS_TILES"] == module.HAS_TILES
    code = "import json" + LOSS_CURVE + BLAS_WITH_THREADS
    has_tiles, curve, same = json.loads(on_another_cpu(code, tmp_path, NUMBA_CPU_NAME="generic"))
    assert not has_tiles
    np.testing.assert_allclose(curve, here["curve"], rtol=1e-12)
    assert same


NARROWER = """
import sys
from llvmlite import binding

features = binding.get_host_cpu_features()
for name in list(features):
    features[name] = features[name] and not name.startswith("avx512")
binding.get_host_cpu_features = lambda: features
import pytest
from fastgd.kernels.gemm import HAS_TILES
from fastgd.kernels.vectors import VECTOR_BYTES

assert (HAS_TILES, VECTOR_BYTES) == (True, 32)
sys.exit(pytest.main(["-q", "-x", *{files!r}, "-k", "test_gemm or quotients"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs mprotect")
def test_nothing_beyond_an_array_is_touched():
    script = Path(__file__).with_name("flush.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_another_cpu_runs_is_a_program():
    """Where it is skipped, too."""
    compile(NARROWER.format(files=[]), "narrower", "exec")


@pytest.mark.skipif(module.VECTOR_BYTES != 64, reason="the tests above have run with these tiles")
def test_a_cpu_with_registers_of_half_the_width(tmp_path):
    """Most CPUs have AVX2 only: other tiles, which this CPU can run as well."""
    files = [__file__, str(Path(__file__).with_name("test_elementary.py"))]
    assert " passed" in on_another_cpu(NARROWER.format(files=files), tmp_path)

"""Matrix products: register tiles for small and middle-sized ones, BLAS where it has many threads.

A tile of C, some rows by one or two vectors, stays in registers while the sum over k runs; each
step loads the vectors of B once and broadcasts one element of A for each row.  That is the inner
kernel of Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication", without
the packing, which does not pay for matrices that fit into the cache.  Columns beyond the edge are
masked, so every shape runs at full width.

At 32 × 64 × 32 a call to BLAS costs three times what the product costs.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.np.arrayobj import make_array
from numba.np.linalg import ensure_blas
from numpy.typing import NDArray

from fastgd._jit import compile_c_function, njit

# Numba looks for a BLAS when it compiles a product of its own, which it never does here.
ensure_blas()


def _registers() -> tuple[bool, int, int]:
    """Whether tiles beat BLAS on this CPU; bytes of a register; rows of a tile that fit."""
    known = numba.config.CPU_NAME in (None, "", "host")
    features = binding.get_host_cpu_features() if known else {}
    if features.get("avx512f"):
        return True, 64, 12
    if features.get("avx2") and features.get("fma"):
        return True, 32, 6
    return False, 16, 4


HAS_TILES, VECTOR_BYTES, TILE_ROWS = _registers()

# Multiplications above which the threads of BLAS win against a single one of ours.
WORTH_THREADS = 4_000_000
NEVER = 2**62


@intrinsic
def _get(typingctx, address, like):
    """The number at an address, of the type of ``like``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = context.get_value_type(sig.return_type).as_pointer()
        return builder.load(builder.inttoptr(args[0], pointer))

    return like(types.intp, like), codegen


@intrinsic
def _set(typingctx, address, value):
    """Write a number to an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        builder.store(args[1], builder.inttoptr(args[0], args[1].type.as_pointer()))

    return types.void(types.intp, value), codegen


def _tile(n_rows: int, n_vectors: int) -> Any:
    """Build the kernel for a tile of C of ``n_rows`` by ``n_vectors`` registers."""

    @intrinsic
    def tile(typingctx, k, alpha, a, a_row, a_col, b, ldb, beta, d, ldd, c, ldc, n):
        lanes = VECTOR_BYTES * 8 // alpha.bitwidth
        i = types.intp
        signature = types.void(i, alpha, i, i, i, i, i, alpha, i, i, i, i, i)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
            k, alpha, a, a_row, a_col, b, ldb, beta, d, ldd, c, ldc, n = args
            element = context.get_value_type(sig.args[1])
            vector = _Vectors(builder, element, lanes, n_vectors, n)
            pointer = element.as_pointer()
            a, b, c, d = (builder.inttoptr(address, pointer) for address in (a, b, c, d))
            sums = _sum_over_k(builder, vector, n_rows, k, a, a_row, a_col, b, ldb)
            _store(builder, vector, element, sums, alpha, beta, d, ldd, c, ldc)

        return signature, codegen

    return tile


class _Vectors:
    """Loads, stores and broadcasts of ``count`` registers in a row, masked to ``n`` columns."""

    def __init__(self, builder: Any, element: Any, lanes: int, count: int, n: Any) -> None:
        self._builder, self._lanes, self.count = builder, lanes, count
        self.type = ir.VectorType(element, lanes)
        self.zero = ir.Constant(self.type, [0.0] * lanes)
        self._align = ir.Constant(ir.IntType(32), 4 if element == ir.FloatType() else 8)
        index = ir.VectorType(ir.IntType(64), lanes)
        limit = self.broadcast(n, index)
        self._masks = [
            builder.icmp_signed(
                "<", ir.Constant(index, list(range(i * lanes, (i + 1) * lanes))), limit
            )
            for i in range(count)
        ]
        mask = ir.VectorType(ir.IntType(1), lanes)
        pointer, i32 = self.type.as_pointer(), ir.IntType(32)
        suffix = f"v{lanes}{'f32' if element == ir.FloatType() else 'f64'}.p0"
        self._load = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.type, [pointer, i32, mask, self.type]),
            f"llvm.masked.load.{suffix}",
        )
        self._store = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [self.type, pointer, i32, mask]),
            f"llvm.masked.store.{suffix}",
        )

    def broadcast(self, value: Any, kind: Any = None) -> Any:
        """A vector with ``value`` in each lane."""
        kind = kind or self.type
        undefined = ir.Constant(kind, ir.Undefined)
        first = self._builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self._lanes), [0] * self._lanes)
        return self._builder.shuffle_vector(first, undefined, lanes)

    def _at(self, pointer: Any, i: int) -> Any:
        moved = self._builder.gep(pointer, [ir.Constant(ir.IntType(64), i * self._lanes)])
        return self._builder.bitcast(moved, self.type.as_pointer())

    def load(self, pointer: Any, i: int) -> Any:
        """Register ``i`` of the row that begins at ``pointer``; 0 beyond the edge."""
        arguments = [self._at(pointer, i), self._align, self._masks[i], self.zero]
        return self._builder.call(self._load, arguments)

    def store(self, value: Any, pointer: Any, i: int) -> None:
        """Write register ``i`` of a row, up to the edge."""
        arguments = [value, self._at(pointer, i), self._align, self._masks[i]]
        self._builder.call(self._store, arguments)


def _sum_over_k(
    builder: Any, vector: _Vectors, n_rows: int, k: Any, a: Any, a_row: Any, a_col: Any, b: Any,
    ldb: Any,
) -> list[list[Any]]:  # fmt: skip
    """The loop over k; returns the sums, ``n_rows`` lists of registers."""
    fused = ("contract",)
    i64 = ir.IntType(64)
    before = builder.block
    loop, done = builder.append_basic_block("sum"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    p = builder.phi(i64)
    p.add_incoming(ir.Constant(i64, 0), before)
    sums = [[builder.phi(vector.type) for _ in range(vector.count)] for _ in range(n_rows)]
    row_of_b = builder.gep(b, [builder.mul(p, ldb)])
    column_of_a = builder.gep(a, [builder.mul(p, a_col)])
    of_b = [vector.load(row_of_b, v) for v in range(vector.count)]
    grown = []
    for i in range(n_rows):
        place = builder.gep(column_of_a, [builder.mul(ir.Constant(i64, i), a_row)])
        of_a = vector.broadcast(builder.load(place))
        products = [builder.fmul(of_a, x, flags=fused) for x in of_b]
        grown.append(
            [builder.fadd(s, x, flags=fused) for s, x in zip(sums[i], products, strict=True)]
        )
    following = builder.add(p, ir.Constant(i64, 1))
    p.add_incoming(following, loop)
    for phis, values in zip(sums, grown, strict=True):
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(vector.zero, before)
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, k), loop, done)
    builder.position_at_end(done)
    return grown


def _store(
    builder: Any, vector: _Vectors, element: Any, sums: list[list[Any]], alpha: Any, beta: Any,
    d: Any, ldd: Any, c: Any, ldc: Any,
) -> None:  # fmt: skip
    """C = alpha · sums + beta · D; with a beta of 0, D may be anything."""
    without_d = builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0))
    alpha, beta = vector.broadcast(alpha), vector.broadcast(beta)
    for i, row in enumerate(sums):
        number = ir.Constant(ir.IntType(64), i)
        row_of_d = builder.gep(d, [builder.mul(number, ldd)])
        row_of_c = builder.gep(c, [builder.mul(number, ldc)])
        for v, total in enumerate(row):
            old = builder.select(without_d, vector.zero, vector.load(row_of_d, v))
            scaled, kept = builder.fmul(alpha, total), builder.fmul(beta, old, flags=("contract",))
            vector.store(builder.fadd(scaled, kept, flags=("contract",)), row_of_c, v)


@intrinsic
def _blas(typingctx, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """Row-major ``C = alpha op(A) op(B) + beta C`` by the BLAS behind ``np.dot``."""
    i = types.intp
    flag = types.boolean
    signature = types.void(flag, flag, i, i, i, alpha, i, i, i, i, alpha, i, i)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        char, size, pointer = ir.IntType(8), ir.IntType(64), cgutils.voidptr_t
        transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = args

        def letter(value: Any) -> Any:
            yes, no = ir.Constant(char, ord("t")), ir.Constant(char, ord("n"))
            return builder.select(value, yes, no)

        def slot(value: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, value), pointer)

        a, b, c = (builder.inttoptr(address, pointer) for address in (a, b, c))
        kind = ir.Constant(char, ord("s" if sig.args[5] == types.float32 else "d"))
        # BLAS counts by columns: the transpose of a row-major product, operands exchanged.
        values = [kind, letter(transpose_b), letter(transpose_a), n, m, k]
        values += [slot(alpha), b, ldb, a, lda, slot(beta), c, ldc]
        kinds = [char] * 3 + [size] * 3
        kinds += [pointer, pointer, size, pointer, size, pointer, pointer, size]
        declared = ir.FunctionType(ir.IntType(32), kinds)
        name = "numba_xxgemm"
        builder.call(cgutils.get_or_insert_function(builder.module, declared, name), values)

    return signature, codegen


def _column(n_vectors: int) -> Any:
    """Build the loop over the tiles of a column of C that is ``n_vectors`` registers wide."""
    tall, four, one = _tile(TILE_ROWS, n_vectors), _tile(4, n_vectors), _tile(1, n_vectors)

    @njit
    def run(m, size, k, alpha, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n):
        i = 0
        while i + TILE_ROWS <= m:
            tall(k, alpha, a + i * a_row * size, a_row, a_col, b, b_row,
                 beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row, n)  # fmt: skip
            i += TILE_ROWS
        while i + 4 <= m:
            four(k, alpha, a + i * a_row * size, a_row, a_col, b, b_row,
                 beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row, n)  # fmt: skip
            i += 4
        while i < m:
            one(k, alpha, a + i * a_row * size, a_row, a_col, b, b_row,
                beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row, n)  # fmt: skip
            i += 1

    return run


_wide, _narrow = _column(2), _column(1)


def _product(
    m, n, k, size, alpha, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row,
    panel, blas_from,
):  # fmt: skip
    """``C = alpha A B + beta D`` by addresses; ``size`` is that of an element in bytes."""
    if m * n * k >= blas_from:
        if beta != 0.0:
            for i in range(m):
                for j in range(n):
                    _set(c + (i * c_row + j) * size, _get(d + (i * d_row + j) * size, beta))
        _blas(
            a_col != 1, b_col != 1, m, n, k, alpha, a, a_col if a_col != 1 else max(a_row, k),
            b, b_col if b_col != 1 else max(b_row, n), beta, c, c_row,
        )  # fmt: skip
        return
    lanes = VECTOR_BYTES // size
    for j in range(0, n, 2 * lanes):
        width = min(2 * lanes, n - j)
        columns, row = b + j * size, b_row
        if b_col != 1:
            # The columns of a transposed B lie far apart: bring them together once.
            for q in range(width):
                for p in range(k):
                    value = _get(b + ((j + q) * b_col + p * b_row) * size, alpha)
                    _set(panel + (p * 2 * lanes + q) * size, value)
            columns, row = panel, 2 * lanes
        at = j * size
        if width > lanes:
            _wide(m, size, k, alpha, a, a_row, a_col, columns, row,
                  beta, d + at, d_row, c + at, c_row, width)  # fmt: skip
        else:
            _narrow(m, size, k, alpha, a, a_row, a_col, columns, row,
                    beta, d + at, d_row, c + at, c_row, width)  # fmt: skip


@functools.cache
def _compiled_product(dtype: np.dtype[Any]) -> Any:
    i, real = types.intp, numba.from_dtype(dtype)
    signature = types.void(i, i, i, i, real, i, i, i, i, i, i, real, i, i, i, i, i, i)
    return compile_c_function(_product, signature)


class Engine(NamedTuple):
    """What computes the products."""

    address: int  # of the compiled ``_product``
    panel: NDArray[Any]  # room for columns of a transposed B
    blas_from: int  # number of multiplications from which BLAS does a product


def make_engine(dtype: Any, longest: int) -> Engine:
    """The engine for a precision; compiles it, or loads it from disk, on its first use.

    ``longest`` is the largest k of a product with a transposed B.
    """
    dtype = np.dtype(dtype)
    panel = np.empty(longest * 2 * VECTOR_BYTES // dtype.itemsize, dtype)
    if not HAS_TILES:
        blas_from = 0
    elif (os.cpu_count() or 1) > 2:
        blas_from = WORTH_THREADS
    else:
        # One thread here is as fast as two there, and leaves the other core alone.
        blas_from = NEVER
    return Engine(int(_compiled_product(dtype).address), panel, blas_from)


@intrinsic
def gemm(
    typingctx, engine, m, n, k, alpha, a, ia, a_row, a_col, b, ib, b_row, b_col,
    beta, d, id, d_row, c, ic, c_row,
):  # fmt: skip
    """``C = alpha A B + beta D`` for matrices inside flat arrays of one dtype.

    Parameters
    ----------
    engine : Engine
    m, n, k : int
        A is (m, k), B is (k, n), C and D are (m, n); all at least 1.
    alpha, beta : float
        Scalars; they are cast to the arrays' precision.
    a, b, c, d : ndarray, float32 or float64
        Flat arrays that hold the matrices; D may be C.
    ia, ib, ic, id : int
        Where each matrix begins.
    a_row, a_col, b_row, b_col : int
        Elements from one row to the next, and from one column to the next, one of which is 1:
        (columns, 1) for a row-major matrix, (1, rows) for a transposed one.
    c_row, d_row : int
        The same for rows of C and D; a d_row of 0 adds one row to all.
    """
    i, dtype = types.intp, c.dtype
    if not all(array.dtype == dtype for array in (a, b, d)):
        return None
    real = types.float64
    signature = types.void(
        engine, i, i, i, real, a, i, i, i, b, i, i, i, real, d, i, i, c, i, i
    )  # fmt: skip

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        (engine, m, n, k, alpha, a, ia, a_row, a_col, b, ib, b_row, b_col,
         beta, d, id, d_row, c, ic, c_row) = args  # fmt: skip
        integer = ir.IntType(64)

        def address(array_type: Any, array: Any, offset: Any) -> Any:
            data = make_array(array_type)(context, builder, array).data
            return builder.ptrtoint(builder.gep(data, [offset]), integer)

        zero = ir.Constant(integer, 0)
        a, b = address(sig.args[5], a, ia), address(sig.args[9], b, ib)
        d, c = address(sig.args[14], d, id), address(sig.args[17], c, ic)
        target, panel, blas_from = (builder.extract_value(engine, place) for place in range(3))
        panel = address(sig.args[0].types[1], panel, zero)
        alpha, beta = (context.cast(builder, x, real, dtype) for x in (alpha, beta))
        size = ir.Constant(integer, dtype.bitwidth // 8)
        values = [m, n, k, size, alpha, a, a_row, a_col, b, b_row, b_col]
        values += [beta, d, d_row, c, c_row, panel, blas_from]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(target, function.as_pointer()), values)

    return signature, codegen

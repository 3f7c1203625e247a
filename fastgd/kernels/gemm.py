"""Matrix products: register tiles for small and middle-sized ones, BLAS where it has many threads.

A tile of C, some rows by one or two vectors, stays in registers while the sum over k runs; each
step loads the vectors of B once and broadcasts one element of A for each row.  That is the inner
kernel of Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication", with
packing only where it pays: where B is transposed, and where rows lie so far apart that they push
each other out of the cache.  Columns beyond the edge are masked, so every shape runs at full width.

An element of C is summed over k in the same order whatever the number of rows, so a product that
several threads share by rows gives the same bits as one thread alone.

At 32 × 64 × 32 a call to BLAS costs three times what the product costs.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.np.linalg import ensure_blas

from fastgd._jit import native_address, njit
from fastgd.kernels.parts import native_call
from fastgd.kernels.plan import larger, smaller

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

DEPTH = 1024  # k is cut into blocks of this length, so that a packed panel of B stays in the L2
PACKED_ROWS = 20 * TILE_ROWS  # of A at a time
PANELS = 4  # of B, that are packed together
FAR_BYTES = 2048  # rows that lie farther apart than this are packed, if they are used often enough
OFTEN = 48
SMALL = 2**17  # multiplications below which neither cutting nor packing is thought about


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


@intrinsic
def _copy_row(typingctx, source, target, n, like):
    """Copy ``n`` numbers of the type of ``like``, at most two registers."""
    lanes = VECTOR_BYTES * 8 // like.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_value_type(like)
        vector = _Vectors(builder, element, lanes, 2, args[2])
        source, target = (builder.inttoptr(x, element.as_pointer()) for x in args[:2])
        for v in range(2):
            vector.store(vector.load(source, v), target, v)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, like), codegen


@intrinsic
def _transpose(typingctx, source, row, n_rows, n_columns, target, like):
    """Write the transpose of at most a register's length of rows and columns.

    Rows of the target are two registers long, and are written up to the first one's end.
    """
    lanes = VECTOR_BYTES * 8 // like.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, row, n_rows, n_columns, target, _ = args
        element, i64 = context.get_value_type(like), ir.IntType(64)
        numbers = [ir.Constant(i64, i) for i in range(lanes)]
        nothing = ir.Constant(i64, 0)
        source, target = (builder.inttoptr(x, element.as_pointer()) for x in (source, target))
        rows = []
        for i in numbers:
            width = builder.select(builder.icmp_signed("<", i, n_rows), n_columns, nothing)
            vector = _Vectors(builder, element, lanes, 1, width)
            rows.append(vector.load(builder.gep(source, [builder.mul(i, row)]), 0))
        # Squares of ``half`` a side change places across the diagonal, for half = 1, 2, 4, …
        half = 1
        while half < lanes:
            for i in (i for i in range(lanes) if not i & half):
                rows[i], rows[i + half] = _exchange(builder, rows[i], rows[i + half], half, lanes)
            half *= 2
        whole = ir.Constant(i64, lanes)
        for i, values in zip(numbers, rows, strict=True):
            width = builder.select(builder.icmp_signed("<", i, n_columns), whole, nothing)
            place = builder.gep(target, [builder.mul(i, ir.Constant(i64, 2 * lanes))])
            _Vectors(builder, element, lanes, 1, width).store(values, place, 0)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, i, i, i, like), codegen


def _exchange(builder: Any, upper: Any, lower: Any, half: int, lanes: int) -> tuple[Any, Any]:
    kind = ir.VectorType(ir.IntType(32), lanes)
    left = [j if not j & half else lanes + j - half for j in range(lanes)]
    right = [j + half if not j & half else lanes + j for j in range(lanes)]
    return (
        builder.shuffle_vector(upper, lower, ir.Constant(kind, left)),
        builder.shuffle_vector(upper, lower, ir.Constant(kind, right)),
    )


@njit
def _pack_transposed(b, b_col, k, width, lanes, size, like, panel):
    """Columns of a transposed B, which lie far apart, as rows of ``panel``."""
    for q in range(0, width, lanes):
        for p in range(0, k, lanes):
            _transpose(
                b + (q * b_col + p) * size, b_col, smaller(lanes, width - q), smaller(lanes, k - p),
                panel + (p * 2 * lanes + q) * size, like,
            )  # fmt: skip


def _tiles(m, n, k, size, alpha, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row):
    """The tiles of a column of C that is at most two registers wide."""
    if n * size > VECTOR_BYTES:
        _wide(m, size, k, alpha, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n)
    else:
        _narrow(m, size, k, alpha, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n)


def _tiles_signature(real: Any) -> Any:
    i = types.intp
    return types.void(i, i, i, i, real, i, i, i, i, i, real, i, i, i, i)


@intrinsic
def _call_tiles(
    typingctx, tiles, m, n, k, size, alpha, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row,
    real,
):  # fmt: skip
    """Call ``_tiles`` by its address: it would be optimised again within each caller.

    ``real`` is a number of the precision of the matrices.
    """
    signature = _tiles_signature(real)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return native_call(context, builder, args[0], signature, args[1:-1])

    return types.void(types.intp, *signature.args, real), codegen


@njit
def _slab(
    tiles, m, n, k, size, alpha, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row,
    panel, packed,
):  # fmt: skip
    """The product where k is at most DEPTH, and m at most PACKED_ROWS if A may be packed."""
    two = 2 * VECTOR_BYTES // size
    far_a = a_row == 1 and a_col * size > FAR_BYTES and n >= OFTEN
    far_b = b_col == 1 and b_row * size > FAR_BYTES and m >= OFTEN
    if far_a:
        for i in range(0, m, TILE_ROWS):
            for p in range(k):
                target = packed + (i * k + p * TILE_ROWS) * size
                _copy_row(a + (p * a_col + i) * size, target, smaller(TILE_ROWS, m - i), alpha)
    for j in range(0, n, two):
        width = smaller(two, n - j)
        columns, row = b + j * b_col * size, b_row
        if b_col != 1:
            _pack_transposed(columns, b_col, k, width, two // 2, size, alpha, panel)
            columns, row = panel, two
        elif far_b:
            # Several panels at once: the rows lie far apart, and each way there is long.
            part = j // two % PANELS
            if part == 0:
                for p in range(k):
                    for q in range(0, smaller(PANELS * two, n - j), two):
                        _copy_row(
                            columns + (p * b_row + q) * size, panel + (q * k + p * two) * size,
                            smaller(two, n - j - q), alpha,
                        )  # fmt: skip
            columns, row = panel + part * two * k * size, two
        at_c, at_d = c + j * size, d + j * size
        if not far_a:
            _call_tiles(
                tiles, m, width, k, size, alpha, a, a_row, a_col, columns, row,
                beta, at_d, d_row, at_c, c_row, alpha,
            )  # fmt: skip
        else:
            for i in range(0, m, TILE_ROWS):
                _call_tiles(
                    tiles, smaller(TILE_ROWS, m - i), width, k, size, alpha,
                    packed + i * k * size, 1, TILE_ROWS, columns, row, beta,
                    at_d + i * d_row * size, d_row,
                    at_c + i * c_row * size, c_row, alpha,
                )  # fmt: skip


def _product(
    m, n, k, size, alpha, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row,
    panel, packed, tiles, by_blas,
):  # fmt: skip
    """``C = alpha A B + beta D`` by addresses; ``size`` is that of an element in bytes."""
    if by_blas:
        if beta != 0.0:
            for i in range(m):
                for j in range(n):
                    _set(c + (i * c_row + j) * size, _get(d + (i * d_row + j) * size, beta))
        _blas(
            a_col != 1, b_col != 1, m, n, k, alpha, a, a_col if a_col != 1 else larger(a_row, k),
            b, b_col if b_col != 1 else larger(b_row, n), beta, c, c_row,
        )  # fmt: skip
        return
    rows = PACKED_ROWS if a_row == 1 else m
    for p in range(0, k, DEPTH):
        depth = smaller(DEPTH, k - p)
        for i in range(0, m, rows):
            _slab(
                tiles, smaller(rows, m - i), n, depth, size, alpha,
                a + (i * a_row + p * a_col) * size, a_row, a_col,
                b + p * b_row * size, b_row, b_col, beta, d + i * d_row * size, d_row,
                c + i * c_row * size, c_row, panel, packed,
            )  # fmt: skip
        beta, d, d_row = beta * 0 + 1, c, c_row


def product_signature(real: Any) -> Any:
    i = types.intp
    return types.void(i, i, i, i, real, i, i, i, i, i, i, real, i, i, i, i, i, i, i, types.boolean)


@functools.cache
def _compiled(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Addresses of ``_product`` and ``_tiles``."""
    real = numba.from_dtype(dtype)
    return (
        native_address(_product, product_signature(real), f"{__name__}.product", ours=True),
        native_address(_tiles, _tiles_signature(real), f"{__name__}.tiles", ours=True),
    )


def product_entries(dtype: Any, longest: int) -> dict[str, Any]:
    """What a plan needs for products; compiles the code, or loads it, on its first use.

    ``longest`` is the largest k of a product.
    """
    dtype = np.dtype(dtype)
    depth = min(longest, DEPTH)
    product, tiles = _compiled(dtype)
    return {
        "product": product,
        "tiles": tiles,
        "panel": np.empty(PANELS * depth * 2 * VECTOR_BYTES // dtype.itemsize, dtype),
        "packed": np.empty(depth * PACKED_ROWS, dtype),
        "by_blas": not HAS_TILES,
    }


@intrinsic
def _call_product(
    typingctx, product, m, n, k, size, alpha, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
    c, c_row, panel, packed, tiles, by_blas, real,
):  # fmt: skip
    signature = product_signature(real)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return native_call(context, builder, args[0], signature, args[1:-1])

    return types.void(types.intp, *signature.args, real), codegen


@njit
def gemm(plan, m, n, k, alpha, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``C = alpha A B + beta D`` for matrices at addresses, in the precision of the plan.

    Parameters
    ----------
    plan : record
    m, n, k : int
        A is (m, k), B is (k, n), C and D are (m, n); all at least 1.
    alpha, beta : float
        With a beta of 0, D may be anything.
    a, b, c, d : int
        Addresses of the first elements; D may be C.
    a_row, a_col, b_row, b_col : int
        Elements from one row to the next, and from one column to the next, one of which is 1:
        (columns, 1) for a row-major matrix, (1, rows) for a transposed one.
    c_row, d_row : int
        The same for rows of C and D; a d_row of 0 adds one row to all.
    """
    if b_col == 1 and m * n * k < SMALL and plan.by_blas == 0:
        width = 2 * VECTOR_BYTES // plan.itemsize
        for j in range(0, n, width):
            at = j * plan.itemsize
            _call_tiles(
                plan.tiles, m, smaller(width, n - j), k, plan.itemsize, alpha, a, a_row, a_col,
                b + at, b_row, beta, d + at, d_row, c + at, c_row, plan.real,
            )  # fmt: skip
        return
    _call_product(
        plan.product, m, n, k, plan.itemsize, alpha, a, a_row, a_col, b, b_row, b_col, beta,
        d, d_row, c, c_row, plan.panel, plan.packed, plan.tiles, plan.by_blas != 0, plan.real,
    )  # fmt: skip

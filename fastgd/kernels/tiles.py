"""Register tiles: the inner kernel of a matrix product, written as vector instructions.

A tile of C, some rows by one or two vectors or one row by four, stays in registers while the sum
over k runs; each step loads the vectors of B once and broadcasts one element of A for each row.
That is the inner kernel of Goto & van de Geijn 2008, "Anatomy of high-performance matrix
multiplication".  Every shape runs at full width: of two vectors the second ends with the last
column, and so may have some columns of the first one once more; a single one is masked, which
takes an instruction a load on some processors.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import size_of
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors, prefetch_line

# Others have no fused products, or too few registers, to beat a BLAS.
HAS_TILES = VECTOR_BYTES > 16
# Rows of a tile by its registers in a row: the sums, a row of B and an element of A must fit into
# 32 registers, or 16 of the shorter ones.
_ROWS = {64: {1: 16, 2: 12}, 32: {1: 12, 2: 6}, 16: {1: 8, 2: 4}}[VECTOR_BYTES]
TILE_ROWS = _ROWS[2]


def _tile(n_rows: int, n_vectors: int) -> Any:
    """Build the kernel for a tile of C of ``n_rows`` by ``n_vectors`` registers."""

    @intrinsic
    def tile(typingctx, k, a, a_row, a_col, b, ldb, beta, d, ldd, c, ldc, n):
        lanes = VECTOR_BYTES * 8 // beta.bitwidth
        i = types.intp
        signature = types.void(i, i, i, i, i, i, beta, i, i, i, i, i)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
            k, a, a_row, a_col, b, ldb, beta, d, ldd, c, ldc, n = args
            element = context.get_value_type(sig.args[6])
            vector = Vectors(builder, element, lanes, n_vectors, n, masked=n_vectors == 1)
            pointer = element.as_pointer()
            a, b, c, d = (builder.inttoptr(address, pointer) for address in (a, b, c, d))
            long = builder.icmp_signed(">=", k, ir.Constant(k.type, PREFETCH_FROM))
            without_d = builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0))
            with builder.if_then(builder.and_(long, builder.not_(without_d))):
                _prefetch(builder, n_rows, n_vectors, d, ldd)
            with builder.if_then(long):
                _prefetch(builder, n_rows, n_vectors, c, ldc)
            sums = _sum_over_k(builder, vector, n_rows, k, a, a_row, a_col, b, ldb)
            store_sums(builder, vector, element, sums, beta, d, ldd, c, ldc)

        return signature, codegen

    return tile


# Terms of a sum from which its results are asked for in time.
PREFETCH_FROM = 96


def _prefetch(builder: Any, n_rows: int, n_vectors: int, matrix: Any, row: Any) -> None:
    """Ask for ``n_rows`` rows of a matrix."""
    lanes = VECTOR_BYTES * 8 // (32 if matrix.type.pointee == ir.FloatType() else 64)
    for _ in range(n_rows):
        for v in range(n_vectors):
            place = builder.gep(matrix, [ir.Constant(ir.IntType(64), v * lanes)])
            prefetch_line(builder, place, level=1)
        matrix = builder.gep(matrix, [row])


# So many rows before it is used, a row of B is asked for.
AHEAD = 24
# Rows of A that are found from one address by multiples of the distance between rows.  Left alone,
# the compiler goes from each row to the next one, and these additions, which wait for one another,
# can take twice as long as the products of a tile of one vector.
TOGETHER = 3
# So few rows need not be hidden, which would keep the compiler from unrolling their loop.
FEW = 4


def hidden(builder: Any, value: Any) -> Any:
    """The same value; the compiler does not know how it came about."""
    kind = ir.FunctionType(value.type, [value.type])
    return builder.asm(kind, "", "=r,0", [value], side_effect=False)


def _sum_over_k(
    builder: Any, vector: Vectors, n_rows: int, k: Any, a: Any, a_row: Any, a_col: Any, b: Any,
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
    of_b = [vector.load(row_of_b, v) for v in range(vector.count)]
    if vector.count > 1 and n_rows > FEW:
        ahead = builder.gep(row_of_b, [builder.mul(ir.Constant(i64, AHEAD), ldb)])
        _prefetch(builder, 1, vector.count, ahead, ldb)
    column_of_a = builder.gep(a, [builder.mul(p, a_col)])
    grown = []
    for i in range(n_rows):
        if i % TOGETHER == 0:
            above = builder.gep(column_of_a, [builder.mul(ir.Constant(i64, i), a_row)])
            above = hidden(builder, above) if n_rows > FEW else above
        row = builder.mul(ir.Constant(i64, i % TOGETHER), a_row)
        of_a = vector.broadcast(builder.load(builder.gep(above, [row])))
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


def store_sums(
    builder: Any, vector: Vectors, element: Any, sums: list[list[Any]], beta: Any, d: Any, ldd: Any,
    c: Any, ldc: Any,
) -> None:  # fmt: skip
    """C = sums + beta · D; with a beta of 0, D may be anything."""
    fused = ("contract",)
    without_d = builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0))

    with builder.if_else(without_d) as (then, otherwise):
        with then:
            vector.store_rows(sums, c, ldc)
        with otherwise:
            beta = vector.broadcast(beta)
            results: list[list[Any]] = []
            for row in sums:
                results.append([])
                for v, total in enumerate(row):
                    kept = builder.fmul(beta, vector.load(d, v), flags=fused)
                    results[-1].append(builder.fadd(total, kept, flags=fused))
                d = builder.gep(d, [ldd])
                if vector.count > 1:
                    c = vector.store_rows(results[-1:], c, ldc)
            # Where rows are short, the register that a load asks for reaches into the next rows,
            # and it would wait for what was stored there; so all loads come first.
            if vector.count == 1:
                vector.store_rows(results, c, ldc)


@intrinsic
def _outer(typingctx, m, a, a_row, b, beta, d, d_row, c, c_row, n):
    """``C = A B + beta D`` of a column A and a row B, at most two registers long."""
    lanes = VECTOR_BYTES * 8 // beta.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        m, a, a_row, b, beta, d, d_row, c, c_row, n = args
        element = context.get_value_type(sig.args[4])
        vector = Vectors(builder, element, lanes, 2, n, masked=False)
        a, b, c, d = (builder.inttoptr(x, element.as_pointer()) for x in (a, b, c, d))
        of_b = [vector.load(b, v) for v in range(2)]
        nothing, fused = ir.Constant(m.type, 0), ("contract",)
        with cgutils.for_range(builder, m) as loop:
            place = builder.mul(loop.index, a_row)
            of_a = vector.broadcast(builder.load(builder.gep(a, [place])))
            # Added to 0, as in all tiles, which makes 0 of -0.
            products = [builder.fmul(of_a, x, flags=fused) for x in of_b]
            row = [builder.fadd(vector.zero, x, flags=fused) for x in products]
            of_d, of_c = (
                builder.gep(matrix, [builder.mul(loop.index, step)])
                for matrix, step in ((d, d_row), (c, c_row))
            )
            store_sums(builder, vector, element, [row], beta, of_d, nothing, of_c, nothing)

    i = types.intp
    return types.void(i, i, i, i, beta, i, i, i, i, i), codegen


def _column(n_vectors: int) -> Any:
    """Build the loop over the tiles of a column of C that is ``n_vectors`` registers wide."""
    rows = _ROWS[n_vectors]
    tall, four, one = _tile(rows, n_vectors), _tile(4, n_vectors), _tile(1, n_vectors)

    @njit(inline=True)
    def run(m, k, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n):
        i, size = 0, size_of(beta)
        # Twice four are faster than six and two single ones.
        while i + rows <= m and not 8 <= m - i <= 9:
            tall(k, a + i * a_row * size, a_row, a_col, b, b_row,
                 beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row, n)  # fmt: skip
            i += rows
        while i + 4 <= m:
            four(k, a + i * a_row * size, a_row, a_col, b, b_row,
                 beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row, n)  # fmt: skip
            i += 4
        while i < m:
            one(k, a + i * a_row * size, a_row, a_col, b, b_row,
                beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row, n)  # fmt: skip
            i += 1

    return run


_wide, _narrow = _column(2), _column(1)
# Two sums of a single row would wait for their last products most of the time; four do so less.
ROW_BYTES = 4 * VECTOR_BYTES
_row = _tile(1, 4)


def column_of_tiles(m, n, k, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row):
    """The tiles of a column of C at most two registers wide; or of ROW_BYTES, if m is 1."""
    if n * size_of(beta) == ROW_BYTES:
        _row(k, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n)
    elif n * size_of(beta) > VECTOR_BYTES and k == 1:
        _outer(m, a, a_row, b, beta, d, d_row, c, c_row, n)
    elif n * size_of(beta) > VECTOR_BYTES:
        _wide(m, k, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n)
    else:
        _narrow(m, k, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row, n)


def tiles_signature(real: Any) -> Any:
    i = types.intp
    return types.void(i, i, i, i, i, i, i, i, real, i, i, i, i)


@intrinsic
def call_tiles(typingctx, address, m, n, k, a, a_row, a_col, b, b_row, beta, d, d_row, c, c_row):
    """Call ``column_of_tiles`` by its address: it would be optimised again within each caller."""
    return call_at(tiles_signature(beta))

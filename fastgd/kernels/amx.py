"""The matrix unit of some Intel processors, AMX, and when it may be used.

It multiplies tiles of bfloat16 numbers, 16 rows by 32 columns of A, and adds the products in
float32.  Intel 64 and IA-32 Architectures Software Developer's Manual 1, chapter 18.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import processor_has

FLOAT_BYTES = 4
TILE = 16  # rows of a tile, and columns of one of C
STEP = 2 * TILE  # terms of a sum that one instruction adds
ROW_BYTES = 64  # of a tile
TILE_BYTES = ROW_BYTES * TILE
BLOCK = 2 * TILE  # rows and columns of C that are computed together
PIECES = 3
STEP_BYTES = 2 * PIECES * TILE_BYTES  # of the rows or columns of a block, in pieces

I8, I64 = ir.IntType(8), ir.IntType(64)
# Linux gives the rights to a process that asks: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA).
ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA = 158, 0x1023, 18


@functools.cache
def has_amx() -> bool:
    """Whether this processor has the unit, and the system lets this process use it."""
    if platform.system() != "Linux" or not processor_has("avx512f", "amx-tile", "amx-bf16"):
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0)


def _call(builder: Any, name: str, *args: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


@intrinsic
def configure_tiles(typingctx):
    """Make all eight tiles of this thread 16 rows of 64 bytes."""
    # Palette 1; bytes of a row of each tile; rows of each.
    content = struct.pack("<2B14x8H16x8B8x", 1, 0, *[ROW_BYTES] * 8, *[TILE] * 8)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        settings = cgutils.global_constant(
            builder, "tiles", ir.Constant(ir.ArrayType(I8, len(content)), bytearray(content))
        )
        _call(builder, "ldtilecfg", builder.bitcast(settings, I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def release_tiles(typingctx):
    """Give them back: a thread that has any is slower to interrupt."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


# Which pieces of A and B are multiplied, tile by tile, and when the next ones are loaded.  What is
# left out is less than a float32 number is rounded by.  Each tile is loaded as soon as the last
# product that needs what it held has begun, so that none waits: a load takes three times as long
# while the other thread of a core is busy.  ``a0=1``: the upper tile of A gets its second pieces;
# ``01``: the product of that one with the right tile of B.
BEGINNING = "a0=0 b0=2 a1=0 b1=2"
SCHEDULE = """
    00 10 b0=1 01 11 b1=1
    00 10 01 a0=1 11 a1=1
    00 01 10 b0=0 11 b1=0
    00 10 01 a0=2 11 a1=2
    00 01 a0=0 10 11 a1=0
    00 01 a0=3 10 b0=5 11 a1=3 b1=5
"""  # pieces from the fourth on are those of the next step


def _block(n_rows: int, n_columns: int) -> Any:
    """Build the kernel for so many tiles of C, at most two by two."""
    present = {"a": n_rows, "b": n_columns}
    of_c = [[I8(2 * i + j) for j in range(2)] for i in range(2)]
    tiles = {"a": (I8(4), I8(5)), "b": (I8(6), I8(7))}

    @intrinsic
    def block(typingctx, steps, a, b, c):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            steps, a, b, c = args
            places = [(i, j) for i in range(n_rows) for j in range(n_columns)]

            def run(schedule: str, moved: Any) -> None:
                for order in schedule.split():
                    if order[0] in tiles:
                        operand, i, piece = order[0], int(order[1]), int(order[3])
                        if i < present[operand]:
                            place = builder.add(a if operand == "a" else b, moved)
                            place = builder.add(place, I64((2 * piece + i) * TILE_BYTES))
                            _load(builder, tiles[operand][i], place)
                    elif (place := (int(order[0]), int(order[1]))) in places:
                        i, j = place
                        _call(builder, "tdpbf16ps", of_c[i][j], tiles["a"][i], tiles["b"][j])

            for i, j in places:
                _call(builder, "tilezero", of_c[i][j])
            run(BEGINNING, I64(0))
            with cgutils.for_range(builder, steps) as loop:
                run(SCHEDULE, builder.mul(loop.index, I64(STEP_BYTES)))
            for i, j in places:
                place = builder.add(c, I64(FLOAT_BYTES * (i * TILE * BLOCK + j * TILE)))
                place = builder.inttoptr(place, I8.as_pointer())
                _call(builder, "tilestored64", of_c[i][j], place, I64(FLOAT_BYTES * BLOCK))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, types.intp), codegen

    return block


def _load(builder: Any, tile: Any, place: Any) -> None:
    _call(builder, "tileloadd64", tile, builder.inttoptr(place, I8.as_pointer()), I64(ROW_BYTES))


block_of_2_by_2, block_of_2_by_1 = _block(2, 2), _block(2, 1)
block_of_1_by_2, block_of_1_by_1 = _block(1, 2), _block(1, 1)

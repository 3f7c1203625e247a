"""Numbers below the smallest normal one count as zero while a network trains.

The averages of an update rule for a weight whose gradient stays 0, as behind a dead unit, halve
every few steps until they are subnormal, and there they stay: 0.9 times the smallest one is rounded
to itself.  Processors compute with such numbers many times slower, an update of Adam three times.
So the loop over batches lets the processor take them for 0, as XLA does, which changes a float32
weight by less than 1e-38.  What is not x86 is left as it is.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import is_x86

I32 = ir.IntType(32)
# Bits of the control register MXCSR: results, and operands, that are subnormal count as 0.
FLUSHED = 0x8040


def _move(builder: Any, name: str, slot: Any) -> None:
    pointer = cgutils.voidptr_t
    kind = ir.FunctionType(ir.VoidType(), [pointer])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(slot, pointer)])


@intrinsic
def flush_subnormals(typingctx):
    """Take them for 0 from now on, in this thread; returns what ``restore_subnormals`` needs."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not is_x86():
            return ir.Constant(ir.IntType(64), 0)
        slot = cgutils.alloca_once(builder, I32)
        _move(builder, "stmxcsr", slot)
        before = builder.load(slot)
        builder.store(builder.or_(before, ir.Constant(I32, FLUSHED)), slot)
        _move(builder, "ldmxcsr", slot)
        return builder.zext(before, ir.IntType(64))

    return types.int64(), codegen


@intrinsic
def restore_subnormals(typingctx, before):
    """Do with them what was done before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if is_x86():
            before = builder.trunc(args[0], I32)
            _move(builder, "ldmxcsr", cgutils.alloca_once_value(builder, before))
        return context.get_dummy_value()

    return types.void(types.int64), codegen

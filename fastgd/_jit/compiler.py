"""Numba's compiler without what our code does not need."""

from __future__ import annotations

import secrets
from typing import Any

from numba.core.compiler import Compiler

from fastgd._jit.garbage import no_garbage_collection
from fastgd._jit.libraries import InlinedLibrary, WholeLibrary
from fastgd._jit.operators import operators_remembered

# What Numba does for code that ours is not: closures, ``with``, ``literally``, array expressions,
# ``literal_unroll``, inlining of its own, exceptions that allocate, constant indices of what is no
# array, a report that nobody reads.
NOT_NEEDED = frozenset(
    {
        "with_lifting",
        "inline_closure_likes",
        "Rewrite dynamic raises",
        "make_function_op_code_to_jit_function",
        "inline_inlinables",
        "find_literally",
        "literal_unroll",
        "LiteralPropagation",
        "nopython_rewrites",
        "dead_branch_prune",
        "inline_overloads",
        "annotate_types",
        "generic_rewrites",
        "reconstruct_ssa",
        "strip_phis",
    }
)


# Says where variables end, which is where references are given back.  Code that counts none does
# without it, in half as many instructions of Numba's.
ENDS_OF_VARIABLES = "ir_legalization"


def _compiler(library_class: type) -> type:
    class LibraryCompiler(Compiler):
        def __init__(self, typingctx: Any, targetctx: Any, library: Any, *others: Any) -> None:
            library = library_class(targetctx.codegen(), "fastgd")
            library.enable_object_caching()
            super().__init__(typingctx, targetctx, library, *others)

        def compile_extra(self, function: Any) -> Any:
            with no_garbage_collection(), operators_remembered():
                return super().compile_extra(function)

        def _compile_bytecode(self) -> Any:
            # Numba counts functions in each process anew: two that were compiled in different
            # processes would be one and the same to the linker of a third, which loads both
            # from disk.
            self.state.func_id.unique_id = secrets.randbits(64)
            return super()._compile_bytecode()

        def define_pipelines(self) -> list[Any]:
            pipelines = super().define_pipelines()
            counts_references = self.state.flags.nrt
            unwanted = NOT_NEEDED if counts_references else NOT_NEEDED | {ENDS_OF_VARIABLES}
            for pipeline in pipelines:
                needed = [p for p in pipeline.passes if p[0].name() not in unwanted]
                pipeline.passes[:] = needed
                pipeline.finalize()
            return pipelines

    return LibraryCompiler


INLINED, WHOLE = _compiler(InlinedLibrary), _compiler(WholeLibrary)

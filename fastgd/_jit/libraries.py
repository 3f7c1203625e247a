"""How LLVM optimises and links our code: once, where it stands for itself."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary

# On many processors of Intel's LLVM makes vectors of half a register, for programs that seldom use
# whole ones.  Ours do all the time, and what was written by halves comes back late to a load of the
# whole.
WHOLE_REGISTERS = '"prefer-vector-width"="512"'


class WideLibrary(JITCodeLibrary):
    """Code whose loops use registers as long as the processor has them."""

    def add_ir_module(self, ir_module: Any) -> None:
        for function in ir_module.functions:
            if function.blocks:
                # llvmlite's own ``add`` knows no attributes with values.
                set.add(function.attributes, WHOLE_REGISTERS)
        super().add_ir_module(ir_module)


class InlinedLibrary(WideLibrary):
    """Code that becomes part of other code, and is optimised there: not here as well.

    Numba optimises a function, and emits machine code for it, by itself and again within each
    function that calls it, and within each that calls that; what a function calls is linked to it
    at each of these levels.
    """

    class codegen:  # noqa: N801
        """No machine code, so no place in it for what a call from Python would need."""

        @staticmethod
        def set_env(name: str, environment: Any) -> None:
            pass

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = "linkonce_odr"  # whoever links it may also have it from others
        self._finalize_dynamic_globals()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """For code that is not ours, a user's loss for instance: with all that this calls."""
        return self._with_all_that_it_calls

    @functools.cached_property
    def _with_all_that_it_calls(self) -> Any:
        module = self._final_module.clone()
        _link_what_it_calls(self, module)
        return module


class WholeLibrary(WideLibrary):
    """Code that stands for itself, optimised once: Numba's first pass is for reference counts."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        _link_what_it_calls(self, self._final_module)
        self._linking_libraries.clear()  # nothing is left to link
        super().finalize()

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


def _link_what_it_calls(library: JITCodeLibrary, module: Any) -> None:
    """Put all that a library calls into a module, and what that calls if it is inlined, each once.

    Callers come before what they call: LLVM links only what is asked for by then.
    """
    seen, waiting = set(), list(library._linking_libraries)
    while waiting:
        called = waiting.pop()
        if called in seen:
            continue
        seen.add(called)
        library._reload_init.update(called._reload_init)
        if isinstance(called, InlinedLibrary):
            module.link_in(called._final_module, preserve=True)
            waiting += called._linking_libraries
        else:
            module.link_in(called._get_module_for_linking(), preserve=True)

"""The project's one ``njit``: compiler flags, disk cache, and compile-time methods.

Compiler flags leak from a caller into every callee that sets none (numba issue 7168), so every
kernel states its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from numba.core import config
from numba.core.compiler import Compiler
from numba.extending import overload

from fastgd._jit.cache import KernelCache, is_ours
from fastgd._jit.compiler import INLINED, WHOLE
from fastgd._jit.interruptions import uninterrupted
from fastgd._jit.processor import is_x86 as is_x86
from fastgd._jit.processor import processor_has as processor_has
from fastgd._jit.second_process import compile_by_two as compile_by_two

# Numba offers this type under a name that its stubs do not know.
BaseNamedTuple: Any = numba.core.types.BaseNamedTuple

# ``reassoc`` stays out: it would remove the rounding tricks of the elementary functions.
# ``nnan`` and ``ninf`` stay out: with them a diverged loss goes unseen.
ELEMENTWISE = frozenset({"contract", "nsz"})
# A sum is vectorised only if its terms may be added in another order.
REDUCTION = ELEMENTWISE | {"reassoc"}


def compiler_flags(
    entry: bool = False, reduction: bool = False, inline: bool = False, allocates: bool = False
) -> dict[str, Any]:
    """Numba's options; see ``njit``.  What is not ours may allocate."""
    flags = {
        # Our kernels look at arrays that Python owns; they neither allocate nor count references.
        "_nrt": allocates,
        # What is not ours may raise what needs the environment that inlined code has not.
        "pipeline_class": WHOLE if entry else Compiler if allocates else INLINED,
        "fastmath": set(REDUCTION if reduction else ELEMENTWISE),
        "error_model": "numpy",
        "nogil": entry,
        # Two wrappers a function, and a fifth of the time to compile, that only Python needs.
        "no_cpython_wrapper": not entry,
        "no_cfunc_wrapper": True,
    }
    return flags | {"forceinline": True} if inline else flags


def njit(
    function: Callable[..., Any] | None = None,
    *,
    entry: bool = False,
    reduction: bool = False,
    inline: bool = False,
) -> Any:
    """Compile a function in nopython mode with the project's flags.

    Parameters
    ----------
    function : callable, optional
        What to compile; left out when used as ``@njit(...)``.
    entry : bool, default=False
        Called from Python: keep the machine code on disk, and run without the GIL.  All other
        functions can be called by compiled code only.
    reduction : bool, default=False
        Let the compiler add terms in another order, without which sums do not vectorise.
    inline : bool, default=False
        Leave no call behind; for the scalar functions that vectorised loops are made of, for what
        has one caller, and for what only hands its many arguments on.
    """
    if function is None:
        return functools.partial(njit, entry=entry, reduction=reduction, inline=inline)
    # Where an exception with arguments becomes one of Python's, they are allocated.
    flags = compiler_flags(entry, reduction, inline, allocates=entry)
    dispatcher = numba.njit(**flags)(function)
    if config.DISABLE_JIT:
        return dispatcher
    if not entry:
        _refuse_calls_from_python(dispatcher)
        _take_constants_as_numbers(dispatcher)
        return dispatcher
    # Called by us, and by Numba for a call, before which it looks for extensions.
    dispatcher.compile = uninterrupted()(dispatcher.compile)
    dispatcher._compile_for_args = uninterrupted()(dispatcher._compile_for_args)
    if is_ours(function):
        # Sorted, because the order of a set of strings differs from process to process.
        dispatcher._cache = KernelCache(function, repr(sorted(flags["fastmath"])))
    return dispatcher


@uninterrupted()
def native_address(function: Callable[..., Any], signature: Any, name: str, ours: bool) -> int:
    """Compile a function that kernels call by its address; keep it on disk if it is ``ours``.

    What is called by address is compiled once.  What is called by name is optimised anew within
    each function that calls it, and within each that calls that: too slow for large code, and
    for code that is one of many.

    Parameters
    ----------
    function : callable
    signature : numba signature
    name : str
        Under which it is kept; two functions of one name and signature must be the same.
    ours : bool
        Whether all that the function calls is part of the package; what is not, such as a user's
        update rule, is not kept: nothing would notice that the user edited it.
    """
    if config.DISABLE_JIT:
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set; without the compiler only Optimizer.update works."
        )
    flags = compiler_flags(allocates=not ours) | {"pipeline_class": WHOLE if ours else Compiler}
    dispatcher = numba.njit(**flags)(function)
    if ours:
        dispatcher._cache = KernelCache(function, repr(sorted(flags["fastmath"])), name)
    dispatcher.compile(signature)
    (result,) = dispatcher.overloads.values()
    _ALIVE.append(dispatcher)
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def is_at_hand(dispatcher: Any, types: tuple[Any, ...]) -> bool:
    """Whether a function that Python calls is compiled for arguments, here or on disk.

    Or could not be kept there if it were.
    """
    if config.DISABLE_JIT or types in dispatcher.overloads:
        return True
    return bool(dispatcher._cache.holds(types, dispatcher.targetctx))


# An address must not outlive its code.
_ALIVE: list[Any] = []


def cache_folders() -> list[str]:
    """Where the functions compiled so far are kept; none where no folder can be written."""
    caches = (getattr(dispatcher, "_cache", None) for dispatcher in _ALIVE)
    paths = {cache.cache_path for cache in caches if isinstance(cache, KernelCache)}
    return sorted(path for path in paths if path is not None)


def _refuse_calls_from_python(dispatcher: Any) -> None:
    """Without its wrapper a call from Python would jump to nowhere; make it an error."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise TypeError(f"{dispatcher.py_func.__name__} can be called by compiled code only.")

    dispatcher._compile_for_args = refuse
    # What is compiled for a kernel must not become known to the dispatcher's fast path.
    dispatcher._insert = lambda *args, **kwargs: None


def _take_constants_as_numbers(dispatcher: Any) -> None:
    """Compile once for ``f(0)`` and ``f(n)``: Numba has a type of its own for each constant."""
    get_call_template = dispatcher.get_call_template

    def of_numbers(args: Any, kws: Any) -> Any:
        unliteral = numba.core.types.unliteral
        kws = {name: unliteral(kind) for name, kind in kws.items()}
        return get_call_template(tuple(map(unliteral, args)), kws)

    dispatcher.get_call_template = of_numbers


def dispatch_on_class(stub: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``stub(obj, ...)`` call, inside kernels, the method of that name of ``obj``'s class.

    The choice falls at compile time, on the NamedTuple class of the first argument: only the
    method in use is compiled, one of ours is inlined, and a class that a user writes in a script
    is served as one of ours.  The stub's own body does the same in plain Python.
    """

    def chooser(ours: bool) -> Callable[..., Any]:
        def choose(instance: Any, *others: Any) -> Callable[..., Any] | None:
            if isinstance(instance, BaseNamedTuple) and is_ours(instance.instance_class) == ours:
                return getattr(instance.instance_class, stub.__name__)
            return None

        return choose

    for ours in (True, False):
        # Not strict: a method may name its parameters as it likes.
        flags = compiler_flags(inline=ours, allocates=not ours)
        overload(stub, strict=False, jit_options=flags)(chooser(ours))
    return stub

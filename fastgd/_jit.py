"""The project's one ``njit``: compiler flags, disk cache, and compile-time methods.

Three rules of Numba that this module enforces, each of which fails silently otherwise:

- Compiler flags leak from a caller into every callee that sets none (numba issue 7168), so
  every kernel states its own.
- Numba's disk cache sees only the function's own file: an edited or upgraded *helper* would
  keep returning the old numbers (numba issue 1833).  Here the key of an entry holds a digest
  of all sources of the package, the versions of Numba and llvmlite, and the flags.
- Numba numbers its data files, so two processes that write at once can exchange their code.
  Here a data file is named by the digest of its key.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import pickle
import secrets
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite.binding import Linkage
from numba.core import config
from numba.core.caching import CompileResultCacheImpl
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.extending import overload

# Numba offers this type under a name that its stubs do not know.
BaseNamedTuple: Any = numba.core.types.BaseNamedTuple

DIGEST_BYTES = hashlib.sha256().digest_size
PACKAGE = Path(__file__).resolve().parent

# ``reassoc`` stays out: it would remove the rounding tricks of the elementary functions.
# ``nnan`` and ``ninf`` stay out: with them a diverged loss goes unseen.
ELEMENTWISE = frozenset({"contract", "nsz"})
# A sum is vectorised only if its terms may be added in another order.
REDUCTION = ELEMENTWISE | {"reassoc"}


def _source_stamp() -> str:
    """Digest of everything that decides what the compiler emits, the signature apart."""
    versions = f"{sys.implementation.cache_tag} {numba.__version__} {llvmlite.__version__}"
    digest = hashlib.sha256(versions.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Taken now, while the sources are what this process imports: they may be edited while it runs.
SOURCE_STAMP = _source_stamp()


def is_ours(thing: Any) -> bool:
    """Whether a function or class is part of the package, and so of its source stamp."""
    return bool(thing.__module__.partition(".")[0] == __package__)


class KernelCache:
    """Disk cache of one dispatcher; stands where Numba puts its own ``FunctionCache``."""

    def __init__(self, py_func: Callable[..., Any], flags: str, name: str = "") -> None:
        self._py_func = py_func
        self._flags = flags
        self._name = name or f"{py_func.__module__}.{py_func.__qualname__}"
        self._enabled = True

    @functools.cached_property
    def _impl(self) -> CompileResultCacheImpl | None:
        try:
            return CompileResultCacheImpl(self._py_func)
        except RuntimeError:
            _warn_once_that_nothing_is_cached()
            return None

    @property
    def cache_path(self) -> str | None:
        """Folder of the data files, or None where no folder can be written."""
        return None if self._impl is None else self._impl.locator.get_cache_path()

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Delete this function's data files."""
        for path in self._data_files():
            path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compile result kept for a signature, or None."""
        path = self._data_path(sig, target_context.codegen())
        if path is None:
            return None
        target_context.refresh()
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        # A damaged file must cost a compilation, never a fit: machine code is run as it is.
        if hashlib.sha256(payload).digest() != digest:
            return None
        return self._impl.rebuild(target_context, pickle.loads(payload))  # type: ignore[union-attr]

    def save_overload(self, sig: Any, result: Any) -> None:
        """Keep a compile result; a full or read-only disk is no reason to fail."""
        path = self._data_path(sig, result.codegen)
        if path is None or not self._impl.check_cachable(result):  # type: ignore[union-attr]
            return
        payload = numba.core.serialize.dumps(self._impl.reduce(result))  # type: ignore[union-attr]
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            return
        for old in self._data_files():
            if not old.name.startswith(self._prefix()):
                old.unlink(missing_ok=True)

    def _data_files(self) -> list[Path]:
        if self._impl is None:
            return []
        return list(Path(self._impl.locator.get_cache_path()).glob(f"{self._stem()}*.nbc"))

    def _stem(self) -> str:
        return f"{self._name}-"

    def _prefix(self) -> str:
        # The CPU is not part of the prefix: machines that share a home share the folder.
        return f"{self._stem()}{SOURCE_STAMP[:16]}"

    def _data_path(self, sig: Any, codegen: Any) -> Path | None:
        if not self._enabled or self._impl is None:
            return None
        key = repr((sig, codegen.magic_tuple(), self._flags, bool(config.BOUNDSCHECK)))
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        return Path(self._impl.locator.get_cache_path()) / f"{self._prefix()}-{digest}.nbc"


@functools.cache
def _warn_once_that_nothing_is_cached() -> None:
    warnings.warn(
        "fastgd found no folder where it can keep its compiled code, so every process compiles"
        " anew. Make one writable: the package's __pycache__, the user's cache folder"
        f" or the one that NUMBA_CACHE_DIR names (now {config.CACHE_DIR!r};"
        f" temporary folder {tempfile.gettempdir()!r}).",
        RuntimeWarning,
        stacklevel=2,
    )


class _InlinedLibrary(JITCodeLibrary):
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


class _WholeLibrary(JITCodeLibrary):
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
        if isinstance(called, _InlinedLibrary):
            module.link_in(called._final_module, preserve=True)
            waiting += called._linking_libraries
        else:
            module.link_in(called._get_module_for_linking(), preserve=True)


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

_collects_later = False  # whether garbage collection was on before a compilation


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collections, each of which looks at all objects of the process, are a tenth of a compilation.

    Numba compiles in one thread at a time, which is why two of these never overlap.
    """
    global _collects_later
    if not gc.isenabled():
        yield
        return
    try:
        _collects_later = True
        gc.disable()
        yield
    finally:
        try:
            _let_all_grow_old()
        finally:
            _collect_again()


def _let_all_grow_old() -> None:
    """Put all objects among the old ones without looking at them, a thirtieth of a compilation.

    What a compilation leaves lives as long as the process.
    """
    if gc.get_freeze_count() == 0:
        try:
            gc.freeze()
        finally:
            gc.unfreeze()


def _collect_again() -> None:
    """Also in the child of a fork that another thread made meanwhile."""
    global _collects_later
    if _collects_later:
        gc.enable()
        _collects_later = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_collect_again)


def _compiler(library_class: type) -> type:
    class LibraryCompiler(Compiler):
        def __init__(self, typingctx: Any, targetctx: Any, library: Any, *others: Any) -> None:
            library = library_class(targetctx.codegen(), "fastgd")
            library.enable_object_caching()
            super().__init__(typingctx, targetctx, library, *others)

        def compile_extra(self, function: Any) -> Any:
            with _no_garbage_collection():
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


_INLINED, _WHOLE = _compiler(_InlinedLibrary), _compiler(_WholeLibrary)


def compiler_flags(
    entry: bool = False, reduction: bool = False, inline: bool = False, allocates: bool = False
) -> dict[str, Any]:
    """Numba's options; see ``njit``.  What is not ours may allocate."""
    flags = {
        # Our kernels look at arrays that Python owns; they neither allocate nor count references.
        "_nrt": allocates,
        # What is not ours may raise what needs the environment that inlined code has not.
        "pipeline_class": _WHOLE if entry else Compiler if allocates else _INLINED,
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
    elif is_ours(function):
        # Sorted, because the order of a set of strings differs from process to process.
        dispatcher._cache = KernelCache(function, repr(sorted(flags["fastmath"])))
    return dispatcher


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
    flags = compiler_flags(allocates=not ours) | {"pipeline_class": _WHOLE if ours else Compiler}
    dispatcher = numba.njit(**flags)(function)
    if ours:
        dispatcher._cache = KernelCache(function, repr(sorted(flags["fastmath"])), name)
    dispatcher.compile(signature)
    (result,) = dispatcher.overloads.values()
    _ALIVE.append(dispatcher)
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


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

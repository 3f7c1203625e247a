"""Who takes part: fastgd and the others, each written as its own experts would.

A peer is a module; what it has no function for it does not take part in.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from threadpoolctl import threadpool_limits

MODULES = {
    "fastgd": "bench.peers.fastgd_peer",
    "NumPy": "bench.peers.numpy_peer",
    "scikit-learn": "bench.peers.sklearn_peer",
    "PyTorch": "bench.peers.torch_peer",
    "torch.compile": "bench.peers.torch_compiled",
    "JAX": "bench.peers.jax_peer",
}
EVERYBODY = tuple(MODULES)


@functools.cache
def module(peer: str) -> ModuleType | str:
    """The module of a peer, or the reason why it cannot take part."""
    try:
        return importlib.import_module(MODULES[peer])
    except ImportError as error:
        return f"{peer} does not take part: {error}"


def present() -> list[str]:
    """Those who take part."""
    return [peer for peer in EVERYBODY if isinstance(module(peer), ModuleType)]


def absent() -> list[str]:
    """The reasons of those who cannot take part."""
    return [found for found in map(module, EVERYBODY) if isinstance(found, str)]


def runs(
    question: str, *subject: Any, among: tuple[str, ...] = EVERYBODY, **options: Any
) -> dict[str, Any]:
    """What each peer that is there and has an answer makes of a question."""
    makers = {peer: getattr(module(peer), question, None) for peer in among}
    made = {peer: make(*subject, **options) for peer, make in makers.items() if make}
    return {peer: run for peer, run in made.items() if run is not None}


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Context in which every library has this number of threads.

    All but JAX, where only the start of the process decides.
    """
    torch_peer = module("PyTorch")
    with threadpool_limits(number):
        if not isinstance(torch_peer, ModuleType):
            yield
            return
        before = torch_peer.torch.get_num_threads()
        torch_peer.torch.set_num_threads(number)
        try:
            yield
        finally:
            torch_peer.torch.set_num_threads(before)

"""PyTorch with torch.compile: forward, loss, backward and update are one compiled function."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from numpy.typing import NDArray
from torch.func import functional_call, grad_and_value

from bench.cells import Cell
from bench.peers import torch_peer
from bench.peers.trainer import fit_run

Tensors = list[torch.Tensor]


def sgd(w: torch.Tensor, g: torch.Tensor, t: torch.Tensor, state: Tensors) -> None:
    """A step of gradient descent."""
    w.sub_(1e-3 * g)


def adam(w: torch.Tensor, g: torch.Tensor, t: torch.Tensor, state: Tensors) -> None:
    """A step of PyTorch's Adam."""
    m, v = state
    m.lerp_(g, 0.1)
    v.mul_(0.999).addcmul_(g, g, value=0.001)
    root = torch.sqrt(1.0 - 0.999**t)
    w.sub_(1e-3 / (1.0 - 0.9**t) * m / (v.sqrt() / root + 1e-8))


RULES = {"sgd": (sgd, 0), "adam": (adam, 2)}


class Trainer(torch_peer.Trainer):
    """See ``bench.peers.trainer``."""

    def __init__(self, cell: Cell, X: Any, y: NDArray[Any]) -> None:
        super().__init__(cell, X, y)
        self._rule, n_states = RULES[cell.solver]
        named = dict(self._net.named_parameters())
        self._names, self._w = list(named), [p.detach() for p in named.values()]
        self._state = [[torch.zeros_like(p) for _ in range(n_states)] for p in self._w]
        self._t, self._total = torch.zeros(()), torch.zeros(1, dtype=self._w[0].dtype)
        # Each cell has a function of its own: no cell's shapes make another's general.
        torch._dynamo.reset()
        self._compiled = torch.compile(self._step)

    def reset(self, w: NDArray[Any]) -> None:
        torch_peer.load(self._net, self._cell, w)
        self._t.zero_()
        for tensor in itertools.chain(*self._state):
            tensor.zero_()

    def _step(self, w: Tensors, state: list[Tensors], t: Any, total: Any, x: Any, y: Any) -> None:
        def loss_of(w: Tensors) -> torch.Tensor:
            named = dict(zip(self._names, w, strict=True))
            return torch_peer.data_loss(self._cell, functional_call(self._net, named, (x,)), y)

        gradients, loss = grad_and_value(loss_of)(w)
        t.add_(1.0)
        total.add_(loss)
        for p, g, memory in zip(w, gradients, state, strict=True):
            self._rule(p, g + self._cell.alpha / self._cell.batch_size * p, t, memory)

    @torch.no_grad()
    def epoch(self, order: torch.Tensor) -> torch.Tensor:
        self._total.zero_()
        for x, y in self.batches(order):
            self._compiled(self._w, self._state, self._t, self._total, x, y)
        return self._total / (len(order) // self._cell.batch_size) + self.penalty()


training = functools.partial(fit_run, Trainer)

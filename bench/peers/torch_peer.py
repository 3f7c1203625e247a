"""PyTorch, eager, with fused optimizers where it has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from bench.cells import Cell, samples
from bench.peers.trainer import fit_run
from bench.start import flat, start, views

Run = Callable[[], tuple[Any, ...]]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
RULES = {
    "sgd": functools.partial(torch.optim.SGD, fused=True),
    "adagrad": functools.partial(torch.optim.Adagrad, fused=True),
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": functools.partial(torch.optim.Adam, fused=True),
    "adamw": functools.partial(torch.optim.AdamW, fused=True),
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
}
BLOCK = 8192  # rows of a prediction


class Words(nn.Module):
    """A linear layer on rows of a fixed number of words, which PyTorch calls a bag."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in).T.contiguous())  # (n_in, n_out)
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, words: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        columns, values = words
        bags = functional.embedding_bag(columns, self.weight, mode="sum", per_sample_weights=values)
        return bags + self.bias


def network(cell: Cell) -> nn.Sequential:
    """The network of a cell, its parameters not set."""
    modules: list[nn.Module] = []
    for l, (n_in, n_out) in enumerate(zip(cell.sizes[:-1], cell.sizes[1:], strict=True)):
        kind = Words if l == 0 and cell.density < 1.0 else nn.Linear
        modules += [kind(n_in, n_out), ACTIVATIONS[cell.activation]()]
    return nn.Sequential(*modules[:-1]).to(getattr(torch, cell.dtype))


def matrices(net: nn.Sequential) -> list[Any]:
    """Views (fan_in, fan_out) of the weights."""
    layers = net[::2]
    return [l.weight.data if isinstance(l, Words) else l.weight.data.T for l in layers]


def load(net: nn.Sequential, cell: Cell, w: NDArray[Any]) -> None:
    """Set the parameters to those of the flat vector."""
    weights, biases = views(cell, w)
    for mine, theirs in zip(matrices(net), weights, strict=True):
        mine.copy_(torch.from_numpy(theirs))
    for layer, theirs in zip(net[::2], biases, strict=True):
        layer.bias.data.copy_(torch.from_numpy(theirs))


def data_loss(cell: Cell, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Loss of a batch without the L2 penalty."""
    if cell.loss == "log_loss":
        return functional.cross_entropy(outputs, y)
    if cell.loss == "labels":
        total = functional.binary_cross_entropy_with_logits(outputs, y, reduction="sum")
        return total / y.shape[0]
    return 0.5 * functional.mse_loss(outputs[:, 0], y)


class Trainer:
    """See ``bench.peers.trainer``."""

    def __init__(self, cell: Cell, X: Any, y: NDArray[Any]) -> None:
        self._cell, self._net = cell, network(cell)
        self._X = tensors(X)
        kind = np.int64 if cell.loss == "log_loss" else cell.dtype
        self._y = torch.from_numpy(y.astype(kind))

    def as_order(self, order: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(order)

    def reset(self, w: NDArray[Any]) -> None:
        load(self._net, self._cell, w)
        # On the biases too, which changes nothing to speak of and spares a second group.
        self._optimizer = RULES[self._cell.solver](
            self._net.parameters(), lr=1e-3, weight_decay=self._cell.alpha / self._cell.batch_size
        )

    def batches(self, order: torch.Tensor) -> Any:
        """Inputs and targets of each batch, gathered at once."""
        B = self._cell.batch_size
        order = order[: len(order) // B * B]
        parts = [part[order].split(B) for part in self._X]
        inputs = parts[0] if len(parts) == 1 else zip(*parts, strict=True)
        return zip(inputs, self._y[order].split(B), strict=True)

    def epoch(self, order: torch.Tensor) -> torch.Tensor:
        optimizer, total = self._optimizer, torch.zeros(())
        for x, y in self.batches(order):
            optimizer.zero_grad(set_to_none=True)
            loss = data_loss(self._cell, self._net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total / (len(order) // self._cell.batch_size) + self.penalty()

    def penalty(self) -> Any:
        """Once an epoch: the updates know the penalty as weight decay."""
        squares = sum(float((W * W).sum()) for W in matrices(self._net))
        return 0.5 * self._cell.alpha / self._cell.batch_size * squares

    def predict(self, X: Any) -> NDArray[np.int64]:
        return predict(self._net, torch.from_numpy(X))


def tensors(X: Any) -> tuple[torch.Tensor, ...]:
    """The input; of a CSR matrix the columns and the values of each row."""
    if not scipy.sparse.issparse(X):
        return (torch.from_numpy(X),)
    shape = X.shape[0], -1
    columns, values = X.indices.reshape(shape), X.data.reshape(shape)
    return torch.from_numpy(columns.astype(np.int64)), torch.from_numpy(values)


@torch.inference_mode()
def predict(net: nn.Sequential, X: torch.Tensor) -> NDArray[np.int64]:
    """Class numbers, block by block."""
    return torch.cat([net(block).argmax(1) for block in X.split(BLOCK)]).numpy()


training = functools.partial(fit_run, Trainer)


def prediction(cell: Cell, X: NDArray[Any]) -> Run:
    """Class numbers of X."""
    net, inputs = network(cell), torch.from_numpy(X)
    load(net, cell, start(cell)[0])
    return lambda: (predict(net, inputs),)


def objective(cell: Cell) -> tuple[nn.Sequential, Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
    """The network at its start, and the function of its data loss and penalty."""
    X, y = samples(cell)
    net, X, y = network(cell), torch.from_numpy(X), torch.from_numpy(y)
    load(net, cell, start(cell)[0])

    def terms() -> tuple[torch.Tensor, torch.Tensor]:
        squares = sum((l.weight**2).sum() for l in net[::2])
        return data_loss(cell, net(X), y), 0.5 * cell.alpha / len(X) * squares

    return net, terms


def gradient(cell: Cell) -> Run:
    """Loss and gradient of all samples at once."""
    net, terms = objective(cell)
    layers = net[::2]

    def collected() -> NDArray[Any]:
        return flat([l.weight.grad.T for l in layers], [l.bias.grad for l in layers])

    def run() -> tuple[Any, ...]:
        net.zero_grad(set_to_none=True)
        loss, penalty = terms()
        (loss + penalty).backward()
        return float(loss), collected

    return run


def hessian_product(cell: Cell, v: NDArray[Any]) -> Run:
    """Product of the Hessian with a direction, by differentiating the gradient."""
    net, terms = objective(cell)
    of_weights, of_biases = views(cell, v)
    parameters = [*(l.weight for l in net[::2]), *(l.bias for l in net[::2])]
    direction = [*(torch.from_numpy(V).T.contiguous() for V in of_weights),
                 *map(torch.from_numpy, of_biases)]  # fmt: skip

    def run() -> tuple[Any, ...]:
        grad = torch.autograd.grad(sum(terms()), parameters, create_graph=True)
        product = torch.autograd.grad(grad, parameters, direction)
        weights, biases = product[: len(of_weights)], product[len(of_weights) :]
        return (lambda: flat([W.T for W in weights], biases),)

    return run


def update_rule(name: str, gradients: NDArray[Any], steps: int) -> Run | None:
    """Updates by gradients that take turns, from zeros."""
    if name not in RULES:
        return None
    w = nn.Parameter(torch.zeros(gradients.shape[1]))
    both, optimizer = torch.from_numpy(gradients), RULES[name]([w])
    t = 0

    def run() -> tuple[Any, ...]:
        nonlocal t
        for _ in range(steps):
            t += 1
            w.grad = both[t % 2]
            optimizer.step()
        return (lambda: w.detach().numpy(),)

    return run

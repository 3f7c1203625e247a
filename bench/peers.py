"""The same work in plain NumPy, as somebody would write it who knows NumPy well.

All buffers are allocated once, every operation writes in place, the parameters are one flat
vector so that an update is a dozen calls whatever the number of layers, and an epoch gathers its
shuffled samples at once.  Update rules have only what their default options ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from fastgd.kernels.layout import layer_table, parameter_views
from fastgd.neural_network.initialization import initial_parameters

Array = NDArray[Any]
Step = Callable[[Array, Array, int], None]


class Network:
    """A relu network with softmax and cross-entropy on batches of one fixed size."""

    def __init__(self, sizes: tuple[int, ...], batch_size: int, w: Array, alpha: float) -> None:
        layers = layer_table(sizes, ("relu",) * (len(sizes) - 2))
        self.w, self.grad, self.alpha = w, np.empty_like(w), alpha
        self.coefs, self.intercepts = parameter_views(w, layers)
        self._coef_grads, self._intercept_grads = parameter_views(self.grad, layers)
        shapes = [(batch_size, n_out) for n_out in sizes[1:]]
        self._units = [np.empty(shape, w.dtype) for shape in shapes]
        self._deltas = [np.empty(shape, w.dtype) for shape in shapes[:-1]]
        self._active = [np.empty(shape, bool) for shape in shapes[:-1]]
        self._column = np.empty((batch_size, 1), w.dtype)
        self._rows = np.arange(batch_size)
        n_weights = int(layers["biases"][0])
        self._weights, self._weight_grads = w[:n_weights], self.grad[:n_weights]
        self._scratch = np.empty(n_weights, w.dtype)

    def _shifted_outputs(self, X: Array) -> Array:
        """Raw outputs less the largest of their row, which softmax does not see."""
        a = X
        for W, b, z in zip(self.coefs, self.intercepts, self._units, strict=True):
            np.matmul(a, W, out=z)
            z += b
            if z is not self._units[-1]:
                np.maximum(z, 0, out=z)
            a = z
        np.maximum.reduce(a, axis=1, keepdims=True, out=self._column)
        a -= self._column
        return a

    def forward(self, X: Array) -> Array:
        """Probabilities (B, K); overwritten by the next call."""
        z = self._shifted_outputs(X)
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, keepdims=True, out=self._column)
        z /= self._column
        return z

    def gradient(self, X: Array, y: Array) -> float:
        """Objective of a batch; its gradient goes to ``grad``."""
        z, column, batch_size = self._shifted_outputs(X), self._column, len(X)
        own = float(z[self._rows, y].sum())
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, keepdims=True, out=column)
        # One division a row gives softmax and the mean over the batch.
        loss = float(np.log(column).sum()) - own
        column *= batch_size
        z /= column
        z[self._rows, y] -= 1.0 / batch_size
        self._backward(X, z)
        np.multiply(self._weights, self.alpha / batch_size, out=self._scratch)
        self._weight_grads += self._scratch
        squares = float(np.dot(self._weights, self._weights))
        return (loss + 0.5 * self.alpha * squares) / batch_size

    def _backward(self, X: Array, delta: Array) -> None:
        for l in range(len(self.coefs) - 1, -1, -1):
            a = self._units[l - 1] if l else X
            np.matmul(a.T, delta, out=self._coef_grads[l])
            np.add.reduce(delta, axis=0, out=self._intercept_grads[l])
            if l:
                below, active = self._deltas[l - 1], self._active[l - 1]
                np.matmul(delta, self.coefs[l].T, out=below)
                np.greater(a, 0, out=active)
                np.multiply(below, active, out=below)
                delta = below


def fit(
    sizes: tuple[int, ...], batch_size: int, X: Array, y: Array, n_epochs: int, alpha: float,
    seed: int,
) -> list[float]:  # fmt: skip
    """Train from scikit-learn's start in scikit-learn's order with its Adam; the loss curve."""
    random_state = RandomState(seed)
    w = initial_parameters("glorot", random_state, sizes, ("relu",) * (len(sizes) - 1), X.dtype)
    network = Network(sizes, batch_size, w, alpha)
    update = adam(w.size, w.dtype, epsilon_hat=True)
    order = np.arange(len(X))
    _, codes = np.unique(y, return_inverse=True)
    X_epoch, y_epoch = np.empty_like(X), np.empty_like(codes)
    curve, t = [], 0
    for _ in range(n_epochs):
        random_state.shuffle(order)
        # "clip" spares the bounds check, and with it a copy.
        np.take(X, order, axis=0, out=X_epoch, mode="clip")
        np.take(codes, order, out=y_epoch, mode="clip")
        total = 0.0
        for first in range(0, len(X), batch_size):
            rows = slice(first, first + batch_size)
            total += network.gradient(X_epoch[rows], y_epoch[rows])
            t += 1
            update(w, network.grad, t)
        curve.append(total * batch_size / len(X))
    return curve


# Update rules: each makes a function of (w, g, t) that changes w in place.


def sgd(n: int, dtype: Any, rate: float = 1e-3) -> Step:
    a = np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        np.multiply(g, rate, out=a)
        np.subtract(w, a, out=w)

    return step


def adagrad(n: int, dtype: Any, rate: float = 1e-2, epsilon: float = 1e-10) -> Step:
    s, a, b = np.zeros(n, dtype), np.empty(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        np.multiply(g, g, out=a)
        np.add(s, a, out=s)
        np.sqrt(s, out=a)
        np.add(a, epsilon, out=a)
        np.multiply(g, rate, out=b)
        np.divide(b, a, out=a)
        np.subtract(w, a, out=w)

    return step


def adadelta(
    n: int, dtype: Any, rate: float = 1.0, rho: float = 0.9, epsilon: float = 1e-6
) -> Step:
    v, u, a, b = np.zeros(n, dtype), np.zeros(n, dtype), np.empty(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        average_of_squares(v, g, rho, a)
        np.add(u, epsilon, out=a)
        np.add(v, epsilon, out=b)
        np.divide(a, b, out=a)
        np.sqrt(a, out=a)  # of the quotient: one root instead of two
        np.multiply(a, g, out=a)
        average_of_squares(u, a, rho, b)
        if rate != 1.0:
            np.multiply(a, rate, out=a)
        np.subtract(w, a, out=w)

    return step


def rmsprop(
    n: int, dtype: Any, rate: float = 1e-2, rho: float = 0.99, epsilon: float = 1e-8
) -> Step:
    v, a, b = np.zeros(n, dtype), np.empty(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        average_of_squares(v, g, rho, a)
        np.sqrt(v, out=a)
        np.add(a, epsilon, out=a)
        np.multiply(g, rate, out=b)
        np.divide(b, a, out=a)
        np.subtract(w, a, out=w)

    return step


def adam(
    n: int, dtype: Any, rate: float = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999,
    epsilon: float = 1e-8, decay: float = 0.0, epsilon_hat: bool = False,
) -> Step:  # fmt: skip
    m, v, a = np.zeros(n, dtype), np.zeros(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        root = math.sqrt(1.0 - beta_2**t)
        average(m, g, beta_1, a)
        average_of_squares(v, g, beta_2, a)
        np.sqrt(v, out=a)
        np.add(a, epsilon if epsilon_hat else epsilon * root, out=a)
        np.divide(m, a, out=a)
        np.multiply(a, rate * root / (1.0 - beta_1**t), out=a)
        if decay:
            np.multiply(w, 1.0 - rate * decay, out=w)
        np.subtract(w, a, out=w)

    return step


def adamw(n: int, dtype: Any) -> Step:
    return adam(n, dtype, decay=1e-2)


def adamax(
    n: int, dtype: Any, rate: float = 2e-3, beta_1: float = 0.9, beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> Step:  # fmt: skip
    m, u, a = np.zeros(n, dtype), np.zeros(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        average(m, g, beta_1, a)
        np.abs(g, out=a)
        np.add(a, epsilon, out=a)
        np.multiply(u, beta_2, out=u)
        np.maximum(u, a, out=u)
        np.divide(m, u, out=a)
        np.multiply(a, rate / (1.0 - beta_1**t), out=a)
        np.subtract(w, a, out=w)

    return step


def nadam(
    n: int, dtype: Any, rate: float = 2e-3, beta_1: float = 0.9, beta_2: float = 0.999,
    epsilon: float = 1e-8, momentum_decay: float = 4e-3,
) -> Step:  # fmt: skip
    m, v, a, b = np.zeros(n, dtype), np.zeros(n, dtype), np.empty(n, dtype), np.empty(n, dtype)
    product = 1.0

    def step(w: Array, g: Array, t: int) -> None:
        nonlocal product
        now = beta_1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))
        then = beta_1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        product *= now
        root = math.sqrt(1.0 - beta_2**t)
        average(m, g, beta_1, a)
        average_of_squares(v, g, beta_2, a)
        np.multiply(g, rate * root * (1.0 - now) / (1.0 - product), out=a)
        np.multiply(m, rate * root * then / (1.0 - product * then), out=b)
        np.add(a, b, out=a)
        np.sqrt(v, out=b)
        np.add(b, epsilon * root, out=b)
        np.divide(a, b, out=a)
        np.subtract(w, a, out=w)

    return step


def radam(
    n: int, dtype: Any, rate: float = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> Step:  # fmt: skip
    m, v, a = np.zeros(n, dtype), np.zeros(n, dtype), np.empty(n, dtype)
    longest = 2.0 / (1.0 - beta_2) - 1.0

    def step(w: Array, g: Array, t: int) -> None:
        average(m, g, beta_1, a)
        average_of_squares(v, g, beta_2, a)
        rate_t, left = rate / (1.0 - beta_1**t), 1.0 - beta_2**t
        length = longest - 2.0 * t * beta_2**t / left
        if length > 5.0:
            shares = (length - 4.0) * (length - 2.0) * longest
            shares /= (longest - 4.0) * (longest - 2.0) * length
            np.sqrt(v, out=a)
            np.add(a, epsilon, out=a)
            np.divide(m, a, out=a)
            np.multiply(a, rate_t * math.sqrt(left * shares), out=a)
        else:
            np.multiply(m, rate_t, out=a)
        np.subtract(w, a, out=w)

    return step


def rprop(
    n: int, dtype: Any, rate: float = 1e-2, minus: float = 0.5, plus: float = 1.2,
    lowest: float = 1e-6, highest: float = 50.0,
) -> Step:  # fmt: skip
    before, a, b = np.zeros(n, dtype), np.empty(n, dtype), np.empty(n, dtype)
    size = np.full(n, rate, dtype)
    same, opposite = np.empty(n, bool), np.empty(n, bool)
    # Scalars of the array's own type, because a boolean operand has none to give.
    real = np.dtype(dtype).type
    grow, shrink = real(plus - 1.0), real(1.0 - minus)

    def step(w: Array, g: Array, t: int) -> None:
        np.multiply(g, before, out=a)
        np.greater(a, 0, out=same)
        np.less(a, 0, out=opposite)
        # Arithmetic on masks: ``where=`` takes ten times as long.
        np.multiply(same, grow, out=a)
        np.add(a, 1.0, out=a)
        np.multiply(opposite, shrink, out=b)
        np.subtract(a, b, out=a)
        np.multiply(size, a, out=size)
        np.maximum(size, lowest, out=size)
        np.minimum(size, highest, out=size)
        np.logical_not(opposite, out=opposite)
        np.multiply(g, opposite, out=before)
        np.sign(before, out=a)
        np.multiply(a, size, out=a)
        np.subtract(w, a, out=w)

    return step


def asgd(
    n: int, dtype: Any, rate: float = 1e-2, decay: float = 1e-4, power: float = 0.75,
    average_start: float = 1e6,
) -> Step:  # fmt: skip
    mean, a = np.zeros(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        eta = rate / (1.0 + decay * rate * (t - 1)) ** power
        share = 1.0 / max(1.0, t - 1 - average_start)
        np.multiply(w, 1.0 - decay * eta, out=w)
        np.multiply(g, eta, out=a)
        np.subtract(w, a, out=w)
        if share == 1.0:
            np.copyto(mean, w)
        else:
            average(mean, w, 1.0 - share, a)

    return step


def lion(n: int, dtype: Any, rate: float = 1e-4, beta_1: float = 0.9, beta_2: float = 0.99) -> Step:
    m, a, b = np.zeros(n, dtype), np.empty(n, dtype), np.empty(n, dtype)

    def step(w: Array, g: Array, t: int) -> None:
        np.multiply(m, beta_1, out=a)
        np.multiply(g, 1.0 - beta_1, out=b)
        np.add(a, b, out=a)
        np.sign(a, out=b)  # in place it takes ten times as long
        np.multiply(b, rate, out=b)
        np.subtract(w, b, out=w)
        average(m, g, beta_2, a)

    return step


def average(m: Array, g: Array, beta: float, scratch: Array) -> None:
    """``m ← beta · m + (1 − beta) · g``."""
    np.multiply(m, beta, out=m)
    np.multiply(g, 1.0 - beta, out=scratch)
    np.add(m, scratch, out=m)


def average_of_squares(v: Array, g: Array, beta: float, scratch: Array) -> None:
    """``v ← beta · v + (1 − beta) · g²``."""
    np.multiply(g, g, out=scratch)
    np.multiply(scratch, 1.0 - beta, out=scratch)
    np.multiply(v, beta, out=v)
    np.add(v, scratch, out=v)


RULES: dict[str, Callable[..., Step]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "rprop": rprop,
    "asgd": asgd,
    "lion": lion,
}

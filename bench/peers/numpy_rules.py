"""Update rules in plain NumPy: each makes a function of (w, g, t) that changes w in place.

All buffers are allocated once and every operation writes in place.  The rules have only what
their default options ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Step = Callable[[Array, Array, int], None]


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

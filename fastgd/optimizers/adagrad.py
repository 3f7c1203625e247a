"""Adagrad: Duchi, Hazan & Singer 2011, "Adaptive subgradient methods"."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastgd.kernels.stages import quotient, root, two_stages
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("sum_of_squares",))
class Adagrad(NamedTuple):
    """Learning rates that shrink with the sum of squared gradients.

    With g = gradient + weight_decay · w::

        s ← s + g²
        w ← w − learning_rate / (1 + (t − 1) · learning_rate_decay) · g / (√s + epsilon)

    PyTorch's form, epsilon outside of the root; Keras and optax have √(s + ε) and s₀ = 0.1.

    Parameters
    ----------
    learning_rate : float, default=1e-2
    learning_rate_decay : float, default=0
    weight_decay : float, default=0
        Coupled: added to the gradient.
    initial_accumulator : float, default=0
        Value of s before the first step.
    epsilon : float, default=1e-10
    """

    learning_rate: float = 1e-2
    learning_rate_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator: float = 0.0
    epsilon: float = 1e-10

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        total = state[0]
        if t == 1:
            start = real(self.initial_accumulator)
            for i in range(w.size):
                total[i] = start
        rate = real(learning_rate / (1.0 + (t - 1) * self.learning_rate_decay))
        _update(w, g, state, Constants(rate, real(self.epsilon), real(self.weight_decay)))


class Constants(NamedTuple):
    """Of one step."""

    rate: Any
    epsilon: Any
    decay: Any


def _add_square(c, g, w, total):
    g = g + c.decay * w
    total = total + g * g
    return (total,), (c.rate * g, root(total) + c.epsilon)


def _descend(c, w, numerator, denominator):
    return (w - quotient(numerator, denominator),)


_update = two_stages(_add_square, _descend, n_state=1)

"""Adadelta: Zeiler 2012 (arXiv 1212.5701), algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastgd.kernels.stages import quotient, root, two_stages
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("square_average", "square_delta_average"))
class Adadelta(NamedTuple):
    """Steps in the units of the parameters, from running averages of g² and of Δ².

    With g = gradient + weight_decay · w::

        v ← rho · v + (1 − rho) · g²
        Δ = √(u + epsilon) / √(v + epsilon) · g
        u ← rho · u + (1 − rho) · Δ²
        w ← w − learning_rate · Δ

    Parameters
    ----------
    learning_rate : float, default=1
        The paper has none.
    rho : float, default=0.9
        Smoothing of both averages.
    epsilon : float, default=1e-6
        Inside of both roots, as in the paper.
    weight_decay : float, default=0
        Coupled: added to the gradient.
    """

    learning_rate: float = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        constants = Constants(
            rho=real(self.rho), rest=real(1.0 - self.rho), rate=real(learning_rate),
            epsilon=real(self.epsilon), decay=real(self.weight_decay),
        )  # fmt: skip
        _update(w, g, state, constants)


class Constants(NamedTuple):
    """Of one step."""

    rho: Any
    rest: Any
    rate: Any
    epsilon: Any
    decay: Any


def _average(c, g, w, v, u):
    g = g + c.decay * w
    v = c.rho * v + c.rest * g * g
    return (v,), (g, root(u + c.epsilon), root(v + c.epsilon))


def _descend(c, w, u, g, numerator, denominator):
    change = quotient(numerator, denominator) * g
    return w - c.rate * change, c.rho * u + c.rest * change * change


_update = two_stages(_average, _descend, n_state=2)

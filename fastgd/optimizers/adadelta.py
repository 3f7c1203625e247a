"""Adadelta: Zeiler 2012 (arXiv 1212.5701), algorithm 1."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastgd.kernels.elementary import divide
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
        v, u = state[0], state[1]
        decay = real(self.weight_decay)
        epsilon = real(self.epsilon)
        rate = real(learning_rate)
        rho = real(self.rho)
        rest = real(1.0 - self.rho)
        for i in range(w.size):
            d = g[i] + decay * w[i]
            v[i] = rho * v[i] + rest * d * d
            change = divide(math.sqrt(u[i] + epsilon), math.sqrt(v[i] + epsilon)) * d
            u[i] = rho * u[i] + rest * change * change
            w[i] -= rate * change

"""Adamax: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

from fastgd.kernels.elementary import divide
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("average", "largest"))
class Adamax(NamedTuple):
    """Adam with the infinity norm.

    With g = gradient + weight_decay · w::

        m ← beta_1 · m + (1 − beta_1) · g
        u ← max(beta_2 · u, |g| + epsilon)
        w ← w − learning_rate / (1 − beta_1ᵗ) · m / u

    PyTorch's form; Keras adds epsilon after the maximum.

    Parameters
    ----------
    learning_rate : float, default=2e-3
    beta_1, beta_2 : float, default=0.9 and 0.999
    epsilon : float, default=1e-8
    weight_decay : float, default=0
        Coupled: added to the gradient.
    """

    learning_rate: float = 2e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        m, u = state[0], state[1]
        rate = real(learning_rate / (1.0 - self.beta_1 ** float(t)))
        decay = real(self.weight_decay)
        epsilon = real(self.epsilon)
        b1, rest_1 = real(self.beta_1), real(1.0 - self.beta_1)
        b2 = real(self.beta_2)
        for i in range(w.size):
            d = g[i] + decay * w[i]
            m[i] = b1 * m[i] + rest_1 * d
            size = abs(d) + epsilon
            faded = b2 * u[i]
            u[i] = faded if faded > size else size
            w[i] -= divide(rate * m[i], u[i])

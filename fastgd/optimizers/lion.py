"""Lion: Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("average",))
class Lion(NamedTuple):
    """The sign of an interpolated momentum, with decoupled weight decay (arXiv 2302.06675).

    ::

        c = beta_1 · m + (1 − beta_1) · g
        w ← w − learning_rate · (sign(c) + weight_decay · w)
        m ← beta_2 · m + (1 − beta_2) · g

    Parameters
    ----------
    learning_rate : float, default=1e-4
    beta_1, beta_2 : float, default=0.9 and 0.99
    weight_decay : float, default=0
        Decoupled.
    """

    learning_rate: float = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        m = state[0]
        rate = real(learning_rate)
        decay = real(self.weight_decay)
        b1, rest_1 = real(self.beta_1), real(1.0 - self.beta_1)
        b2, rest_2 = real(self.beta_2), real(1.0 - self.beta_2)
        for i in range(w.size):
            c = b1 * m[i] + rest_1 * g[i]
            w[i] -= rate * (np.sign(c) + decay * w[i])
            m[i] = b2 * m[i] + rest_2 * g[i]

"""RMSprop: Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv 1308.0850."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastgd.kernels.elementary import divide
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True)
class RMSprop(NamedTuple):
    """Gradient over a running root mean square of it.

    With g = gradient + weight_decay · w::

        v ← rho · v + (1 − rho) · g²
        m ← rho · m + (1 − rho) · g                 (centered)
        r = √v + epsilon                            (centered: √max(v − m², 0) + epsilon)
        w ← w − learning_rate · g / r               (momentum 0)
        b ← momentum · b + g / r;  w ← w − learning_rate · b

    PyTorch's form: epsilon outside of the root, the learning rate outside of the momentum;
    Keras and optax have both inside, and rho = 0.9.

    Parameters
    ----------
    learning_rate : float, default=1e-2
    rho : float, default=0.99
        Smoothing; PyTorch calls it alpha.
    epsilon : float, default=1e-8
    weight_decay : float, default=0
        Coupled: added to the gradient.
    momentum : float, default=0
    centered : bool, default=False
    """

    learning_rate: float = 1e-2
    rho: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    @property
    def state(self) -> tuple[str, ...]:
        if self.centered:
            return ("square_average", "velocity", "average")
        return ("square_average", "velocity") if self.momentum else ("square_average",)

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        v = state[0]
        decay = real(self.weight_decay)
        epsilon = real(self.epsilon)
        rate = real(learning_rate)
        rho = real(self.rho)
        rest = real(1.0 - self.rho)
        momentum = real(self.momentum)
        if self.centered:
            velocity, m = state[1], state[2]
            zero = real(0.0)
            for i in range(w.size):
                d = g[i] + decay * w[i]
                v[i] = rho * v[i] + rest * d * d
                m[i] = rho * m[i] + rest * d
                variance = v[i] - m[i] * m[i]
                # Of a constant gradient it is 0, but for rounding.
                variance = zero if variance < zero else variance
                b = momentum * velocity[i] + divide(d, math.sqrt(variance) + epsilon)
                velocity[i] = b
                w[i] -= rate * b
        elif self.momentum != 0.0:
            velocity = state[1]
            for i in range(w.size):
                d = g[i] + decay * w[i]
                v[i] = rho * v[i] + rest * d * d
                b = momentum * velocity[i] + divide(d, math.sqrt(v[i]) + epsilon)
                velocity[i] = b
                w[i] -= rate * b
        else:
            for i in range(w.size):
                d = g[i] + decay * w[i]
                v[i] = rho * v[i] + rest * d * d
                w[i] -= divide(rate * d, math.sqrt(v[i]) + epsilon)

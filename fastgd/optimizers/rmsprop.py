"""RMSprop: Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv 1308.0850."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastgd.kernels.elementary import divide
from fastgd.kernels.stages import quotient, root, two_stages
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
        rho, rest = real(self.rho), real(1.0 - self.rho)
        rate, momentum = real(learning_rate), real(self.momentum)
        epsilon, decay = real(self.epsilon), real(self.weight_decay)
        constants = Constants(rho, rest, rate, momentum, epsilon, decay)
        if self.centered:
            v, velocity, m = state[0], state[1], state[2]
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
            _update_with_momentum(w, g, state, constants)
        else:
            _update(w, g, state, constants)


class Constants(NamedTuple):
    """Of one step."""

    rho: Any
    rest: Any
    rate: Any
    momentum: Any
    epsilon: Any
    decay: Any


def _average(c, g, w, v, *velocity):
    g = g + c.decay * w
    v = c.rho * v + c.rest * g * g
    return (v,), (g, root(v) + c.epsilon)


def _descend(c, w, g, denominator):
    return (w - quotient(c.rate * g, denominator),)


def _descend_by_velocity(c, w, velocity, g, denominator):
    velocity = c.momentum * velocity + quotient(g, denominator)
    return w - c.rate * velocity, velocity


_update = two_stages(_average, _descend, n_state=1)
_update_with_momentum = two_stages(_average, _descend_by_velocity, n_state=2)

"""ASGD: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"."""

from __future__ import annotations

from typing import NamedTuple

from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("average",), solution="average")
class ASGD(NamedTuple):
    """Gradient descent with a decreasing rate, and the average of its iterates.

    With g = gradient + weight_decay · w and η₁ = learning_rate, μ₁ = 1::

        w ← (1 − decay · η) · w − η · g
        a ← a + μ (w − a)
        η ← learning_rate / (1 + decay · learning_rate · t)^power
        μ ← 1 / max(1, t − average_start)

    PyTorch's form.  Until ``average_start`` steps were made the average is the iterate itself;
    ``fit`` returns the average, ``partial_fit`` the iterate, from which it goes on.

    Parameters
    ----------
    learning_rate : float, default=1e-2
    decay : float, default=1e-4
        Bottou's λ; PyTorch calls it lambd.
    power : float, default=0.75
        PyTorch calls it alpha.
    average_start : float, default=1e6
        Number of steps before averaging begins; PyTorch calls it t0.
    weight_decay : float, default=0
        Coupled: added to the gradient.
    """

    learning_rate: float = 1e-2
    decay: float = 1e-4
    power: float = 0.75
    average_start: float = 1e6
    weight_decay: float = 0.0

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        average = state[0]
        rate = learning_rate
        share = 1.0
        if t > 1:
            rate = learning_rate / (1.0 + self.decay * learning_rate * (t - 1)) ** self.power
            share = 1.0 / max(1.0, t - 1 - self.average_start)
        keep = real(1.0 - self.decay * rate)
        eta = real(rate)
        mu = real(share)
        weight_decay = real(self.weight_decay)
        for i in range(w.size):
            d = g[i] + weight_decay * w[i]
            w[i] = keep * w[i] - eta * d
        if share == 1.0:
            for i in range(w.size):
                average[i] = w[i]
        else:
            for i in range(w.size):
                average[i] += mu * (w[i] - average[i])

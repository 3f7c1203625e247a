"""Stochastic gradient descent with momentum (Polyak 1964) and Nesterov's momentum (1983)."""

from __future__ import annotations

from typing import NamedTuple

from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True)
class SGD(NamedTuple):
    """Gradient descent, with momentum if ``momentum`` is not 0.

    With g = gradient + weight_decay · w::

        b ← momentum · b + (1 − dampening) · g      (first step: b = g)
        w ← w − learning_rate · b                   (nesterov: g + momentum · b instead of b)

    This is PyTorch's form: the learning rate stays outside of the velocity b.

    Parameters
    ----------
    learning_rate : float, default=1e-3
    momentum : float, default=0
    dampening : float, default=0
    weight_decay : float, default=0
        Coupled: added to the gradient.
    nesterov : bool, default=False
        The form of Sutskever et al. 2013, "On the importance of initialization and momentum in
        deep learning", eq. 3-4, at shifted parameters.
    rate_in_velocity : bool, default=False
        The variant of scikit-learn and Keras: b gathers learning_rate · g, so that a change of
        the learning rate acts on future gradients only.

    Examples
    --------
    >>> from fastgd.optimizers import SGD
    >>> SGD(learning_rate=0.1, momentum=0.9, nesterov=True).momentum
    0.9
    """

    learning_rate: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    rate_in_velocity: bool = False

    @property
    def state(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def check(self) -> None:
        if self.nesterov and (self.momentum == 0.0 or self.dampening != 0.0):
            raise ValueError(
                "SGD: nesterov=True needs a momentum above 0 and a dampening of 0, got"
                f" momentum={self.momentum} and dampening={self.dampening}."
            )

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        decay = real(self.weight_decay)
        if self.momentum == 0.0:
            rate = real(learning_rate)
            for i in range(w.size):
                w[i] -= rate * (g[i] + decay * w[i])
            return
        outer = real(1.0 if self.rate_in_velocity else learning_rate)
        inner = real(learning_rate if self.rate_in_velocity else 1.0)
        velocity = state[0]
        momentum = real(self.momentum)
        damp = real(1.0 if t == 1 else 1.0 - self.dampening)
        # One loop serves both forms of momentum: what of g and of b goes into the update.
        share_g = real(1.0 if self.nesterov else 0.0)
        share_b = real(self.momentum if self.nesterov else 1.0)
        for i in range(w.size):
            d = inner * (g[i] + decay * w[i])
            b = momentum * velocity[i] + damp * d
            velocity[i] = b
            w[i] -= outer * (share_g * d + share_b * b)

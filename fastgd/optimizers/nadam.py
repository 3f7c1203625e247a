"""NAdam: Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastgd.kernels.stages import root, two_stages
from fastgd.optimizers.adam import descend
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("average", "square_average"), scalars=("momentum_product",))
class NAdam(NamedTuple):
    """Adam with Nesterov's momentum and a warm-up of beta_1.

    With g = gradient + weight_decay · w::

        μₜ = beta_1 · (1 − ½ · 0.96^(t · momentum_decay)),  Πₜ = μ₁ … μₜ
        m, v as in Adam
        w ← w − learning_rate · ((1 − μₜ) g / (1 − Πₜ) + μₜ₊₁ m / (1 − Πₜ₊₁)) / (√v̂ + epsilon)

    PyTorch's form; Keras has 0.96ᵗ and optax no warm-up.

    Parameters
    ----------
    learning_rate : float, default=2e-3
    beta_1, beta_2 : float, default=0.9 and 0.999
    epsilon : float, default=1e-8
    weight_decay : float, default=0
        Coupled: added to the gradient.
    momentum_decay : float, default=4e-3
    decoupled_weight_decay : bool, default=False
        Decay the parameters as AdamW does instead.
    """

    learning_rate: float = 2e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        now = self.beta_1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay))
        then = self.beta_1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * self.momentum_decay))
        product = now if t == 1 else scalars[0] * now
        scalars[0] = product
        correction = math.sqrt(1.0 - self.beta_2 ** float(t))
        lost = learning_rate * self.weight_decay if self.decoupled_weight_decay else 0.0
        constants = Constants(
            b1=real(self.beta_1), rest_1=real(1.0 - self.beta_1),
            b2=real(self.beta_2), rest_2=real(1.0 - self.beta_2),
            rate_g=real(learning_rate * correction * (1.0 - now) / (1.0 - product)),
            rate_m=real(learning_rate * correction * then / (1.0 - product * then)),
            epsilon=real(self.epsilon * correction),
            decay=real(0.0 if self.decoupled_weight_decay else self.weight_decay),
            keep=real(1.0 - lost),
        )  # fmt: skip
        _update(w, g, state, constants)


class Constants(NamedTuple):
    """Of one step."""

    b1: Any
    rest_1: Any
    b2: Any
    rest_2: Any
    rate_g: Any
    rate_m: Any
    epsilon: Any
    decay: Any
    keep: Any


def _average(c, g, w, m, v):
    g = g + c.decay * w
    m = c.b1 * m + c.rest_1 * g
    v = c.b2 * v + c.rest_2 * g * g
    return (m, v), (c.rate_g * g + c.rate_m * m, root(v) + c.epsilon)


_update = two_stages(_average, descend, n_state=2)

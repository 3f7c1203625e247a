"""RAdam: Liu et al. 2020, "On the variance of the adaptive learning rate", algorithm 2."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastgd.kernels.stages import two_stages
from fastgd.optimizers.adam import Constants, average_with_decay, descend
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("average", "square_average"))
class RAdam(NamedTuple):
    """Adam that waits for its second moment: momentum alone while the variance is unknown.

    arXiv 1908.03265.

    With g = gradient + weight_decay · w, m and v as in Adam::

        ρ∞ = 2 / (1 − beta_2) − 1,  ρₜ = ρ∞ − 2 t beta_2ᵗ / (1 − beta_2ᵗ)
        ρₜ > 5:  w ← w − learning_rate · m̂ · r · √(1 − beta_2ᵗ) / (√v + epsilon)
                 with r² = (ρₜ − 4)(ρₜ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρₜ)
        else:    w ← w − learning_rate · m̂

    PyTorch's form; optax has ρₜ ≥ 5.

    Parameters
    ----------
    learning_rate : float, default=1e-3
    beta_1, beta_2 : float, default=0.9 and 0.999
    epsilon : float, default=1e-8
    weight_decay : float, default=0
        Coupled: added to the gradient.
    decoupled_weight_decay : bool, default=False
        Decay the parameters as AdamW does instead.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        rate = learning_rate / (1.0 - self.beta_1 ** float(t))
        left = 1.0 - self.beta_2 ** float(t)
        longest = 2.0 / (1.0 - self.beta_2) - 1.0
        length = longest - 2.0 * t * self.beta_2 ** float(t) / left
        rectified = length > 5.0
        if rectified:
            rate *= math.sqrt(
                left
                * (length - 4.0) * (length - 2.0) * longest
                / ((longest - 4.0) * (longest - 2.0) * length)
            )  # fmt: skip
        lost = learning_rate * self.weight_decay if self.decoupled_weight_decay else 0.0
        constants = Constants(
            b1=real(self.beta_1), rest_1=real(1.0 - self.beta_1),
            b2=real(self.beta_2), rest_2=real(1.0 - self.beta_2),
            rate=real(rate), epsilon=real(self.epsilon),
            decay=real(0.0 if self.decoupled_weight_decay else self.weight_decay),
            keep=real(1.0 - lost),
        )  # fmt: skip
        if rectified:
            _update(w, g, state, constants)
        else:
            _update_by_average(w, g, state, constants)


def _average_alone(c, g, w, m, v):
    kept, (numerator, _) = average_with_decay(c, g, w, m, v)
    return kept, (numerator,)


def _descend_by_average(c, w, numerator):
    return (c.keep * w - numerator,)


_update = two_stages(average_with_decay, descend, n_state=2)
_update_by_average = two_stages(_average_alone, _descend_by_average, n_state=2)

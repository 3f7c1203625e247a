"""AdamW: Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

from fastgd.optimizers.adam import ADAM_SCALARS, adam_state, adam_step
from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, scalars=ADAM_SCALARS)
class AdamW(NamedTuple):
    """Adam with decoupled weight decay: w ← w · (1 − learning_rate · weight_decay), then Adam.

    Parameters
    ----------
    learning_rate : float, default=1e-3
    beta_1, beta_2 : float, default=0.9 and 0.999
    epsilon : float, default=1e-8
        Added to the bias-corrected root.
    weight_decay : float, default=1e-2
        Decoupled, times the learning rate, as in PyTorch.
    amsgrad : bool, default=False
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    amsgrad: bool = False

    @property
    def state(self) -> tuple[str, ...]:
        return adam_state(self.amsgrad)

    def step(self, w, g, state, scalars, t, learning_rate):
        adam_step(
            w, g, state, scalars, t, learning_rate, self.beta_1, self.beta_2, self.epsilon,
            0.0, self.weight_decay, self.amsgrad, False,
        )  # fmt: skip

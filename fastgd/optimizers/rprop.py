"""Rprop: Riedmiller & Braun 1993, in the form iRprop⁻ of Igel & Hüsken 2000, algorithm 4."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastgd.optimizers.update_rule import update_rule


@update_rule(elementwise=True, state=("gradient_before", "step_size"))
class Rprop(NamedTuple):
    """A step size for each parameter, from the sign of the gradient alone; for full batches.

    ::

        g g₋₁ > 0:  s ← min(s · eta_plus, step_size_max)
        g g₋₁ < 0:  s ← max(s · eta_minus, step_size_min);  g ← 0
        w ← w − sign(g) · s

    Parameters
    ----------
    learning_rate : float, default=1e-2
        The first step size.
    eta_minus, eta_plus : float, default=0.5 and 1.2
    step_size_min, step_size_max : float, default=1e-6 and 50
    """

    learning_rate: float = 1e-2
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_size_min: float = 1e-6
    step_size_max: float = 50.0

    def check(self) -> None:
        if self.step_size_min > self.step_size_max:
            raise ValueError(
                "Rprop: step_size_min must not exceed step_size_max, got"
                f" {self.step_size_min} and {self.step_size_max}."
            )

    def step(self, w, g, state, scalars, t, learning_rate):
        real = w.dtype.type
        before, size = state[0], state[1]
        minus, plus = real(self.eta_minus), real(self.eta_plus)
        lowest, highest = real(self.step_size_min), real(self.step_size_max)
        zero = real(0.0)
        one = real(1.0)
        if t == 1:
            start = real(learning_rate)
            for i in range(w.size):
                before[i] = zero
                size[i] = start
        for i in range(w.size):
            turn = g[i] * before[i]
            factor = plus if turn > zero else (minus if turn < zero else one)
            s = factor * size[i]
            s = lowest if s < lowest else (highest if s > highest else s)
            d = zero if turn < zero else g[i]
            size[i] = s
            before[i] = d
            w[i] -= np.sign(d) * s

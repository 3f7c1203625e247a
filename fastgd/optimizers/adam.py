"""Adam: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1; AMSGrad: Reddi, Kale & Kumar 2018."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastgd._jit import njit
from fastgd.kernels.stages import larger_of, quotient, root, two_stages
from fastgd.optimizers.update_rule import update_rule

ADAM_SCALARS = ("average_correction", "square_average_correction")


@update_rule(elementwise=True, scalars=ADAM_SCALARS)
class Adam(NamedTuple):
    """Gradient average over the root of the squared-gradient average, both bias-corrected.

    With g = gradient + weight_decay · w::

        m ← beta_1 · m + (1 − beta_1) · g
        v ← beta_2 · v + (1 − beta_2) · g²          (amsgrad: the largest v so far is used)
        w ← w − learning_rate · m / (1 − beta_1ᵗ) / (√(v / (1 − beta_2ᵗ)) + epsilon)

    Parameters
    ----------
    learning_rate : float, default=1e-3
    beta_1, beta_2 : float, default=0.9 and 0.999
    epsilon : float, default=1e-8
        Added to the bias-corrected root, as in algorithm 1 and in PyTorch.
    weight_decay : float, default=0
        Coupled: added to the gradient.  See AdamW for the decoupled form.
    amsgrad : bool, default=False
    epsilon_hat : bool, default=False
        The variant at the end of the paper's section 2, used by scikit-learn and Keras: epsilon
        is added to √v before the bias correction.

    Examples
    --------
    >>> from fastgd.optimizers import Adam
    >>> Adam(learning_rate=0.01) == Adam(learning_rate=0.01)
    True
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    epsilon_hat: bool = False

    @property
    def state(self) -> tuple[str, ...]:
        return adam_state(self.amsgrad)

    def step(self, w, g, state, scalars, t, learning_rate):
        adam_step(
            w, g, state, scalars, t, learning_rate, self.beta_1, self.beta_2, self.epsilon,
            self.weight_decay, 0.0, self.amsgrad, self.epsilon_hat,
        )  # fmt: skip


def adam_state(amsgrad: bool) -> tuple[str, ...]:
    """Names of Adam's state arrays."""
    averages = ("average", "square_average")
    return (*averages, "largest_square_average") if amsgrad else averages


class Constants(NamedTuple):
    """Of one step."""

    b1: Any
    rest_1: Any
    b2: Any
    rest_2: Any
    rate: Any
    epsilon: Any
    decay: Any
    keep: Any


def average(c, g, w, m, v):
    """First stage of Adam: both averages with one gradient more."""
    m = c.b1 * m + c.rest_1 * g
    v = c.b2 * v + c.rest_2 * g * g
    return (m, v), (c.rate * m, root(v) + c.epsilon)


def average_with_decay(c, g, w, m, v):
    """The same with coupled weight decay."""
    return average(c, g + c.decay * w, w, m, v)


def _average_amsgrad(c, g, w, m, v, largest):
    (m, v), (numerator, _) = average_with_decay(c, g, w, m, v)
    largest = larger_of(v, largest)
    return (m, v, largest), (numerator, root(largest) + c.epsilon)


def descend(c, w, numerator, denominator):
    """Second stage of Adam and its kin, with decoupled weight decay."""
    return (c.keep * w - quotient(numerator, denominator),)


_update = two_stages(average, descend, n_state=2)
_update_with_decay = two_stages(average_with_decay, descend, n_state=2)
_update_amsgrad = two_stages(_average_amsgrad, descend, n_state=3)


@njit(inline=True)
def adam_step(
    w, g, state, scalars, t, learning_rate, beta_1, beta_2, epsilon, coupled, decoupled, amsgrad,
    epsilon_hat,
):  # fmt: skip
    """Adam's update; ``coupled`` and ``decoupled`` are the two kinds of weight decay."""
    real = w.dtype.type
    # 1 − beta_1ᵗ and 1 − beta_2ᵗ: powers take as long as the update of 150 parameters.
    scalars[0] = beta_1 * scalars[0] + (1.0 - beta_1)
    scalars[1] = beta_2 * scalars[1] + (1.0 - beta_2)
    correction = math.sqrt(scalars[1])
    constants = Constants(
        b1=real(beta_1), rest_1=real(1.0 - beta_1), b2=real(beta_2), rest_2=real(1.0 - beta_2),
        # Multiplying numerator and denominator by the root leaves one division an element.
        rate=real(learning_rate * correction / scalars[0]),
        epsilon=real(epsilon if epsilon_hat else epsilon * correction),
        decay=real(coupled),
        # Adam's own is a constant, and the compiler leaves the multiplication out.
        keep=real(1.0 - learning_rate * decoupled) if decoupled != 0.0 else real(1.0),
    )  # fmt: skip
    if amsgrad:
        _update_amsgrad(w, g, state, constants)
    elif coupled != 0.0:
        _update_with_decay(w, g, state, constants)
    else:
        _update(w, g, state, constants)

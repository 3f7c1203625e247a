"""Loss functions as objects, for ``MLPRegressor(loss=fastgd.losses.Huber(delta=0.5))``."""

from fastgd.kernels.losses import (
    LOSSES,
    AbsoluteError,
    BinaryLogLoss,
    CategoricalHinge,
    CategoricalLogLoss,
    Hinge,
    Huber,
    KLDivergence,
    Poisson,
    Quantile,
    SquaredError,
)

__all__ = [
    "LOSSES",
    "AbsoluteError",
    "BinaryLogLoss",
    "CategoricalHinge",
    "CategoricalLogLoss",
    "Hinge",
    "Huber",
    "KLDivergence",
    "Poisson",
    "Quantile",
    "SquaredError",
]

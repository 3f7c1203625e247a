"""Fast neural networks on the CPU behind scikit-learn's interface."""

from typing import TYPE_CHECKING, Any

from fastgd import datasets, losses, optimizers
from fastgd.neural_network import MLPClassifier, MLPRegressor
from fastgd.solvers import Objective, minimize_bfgs

if TYPE_CHECKING:
    from fastgd.comparison import Comparison, compare

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "MLPClassifier",
    "MLPRegressor",
    "Objective",
    "__version__",
    "compare",
    "datasets",
    "losses",
    "minimize_bfgs",
    "optimizers",
]


def __getattr__(name: str) -> Any:
    # Who only trains should not wait for what only comparisons import.
    if name in ("Comparison", "compare"):
        from fastgd import comparison

        return getattr(comparison, name)
    raise AttributeError(f"module 'fastgd' has no attribute {name!r}")

"""Fast neural networks on the CPU behind scikit-learn's interface."""

from fastgd import datasets, losses, optimizers
from fastgd.neural_network import MLPClassifier, MLPRegressor
from fastgd.solvers import Objective, minimize_bfgs

__version__ = "0.1.0"
__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "Objective",
    "__version__",
    "datasets",
    "losses",
    "minimize_bfgs",
    "optimizers",
]

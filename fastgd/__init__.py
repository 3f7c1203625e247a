"""Fast neural networks on the CPU behind scikit-learn's interface."""

from fastgd import datasets, losses, optimizers
from fastgd.neural_network import MLPClassifier, MLPRegressor

__version__ = "0.1.0"
__all__ = ["MLPClassifier", "MLPRegressor", "__version__", "datasets", "losses", "optimizers"]

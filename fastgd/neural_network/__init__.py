"""Multi-layer perceptrons behind scikit-learn's interface."""

from fastgd.neural_network.classifier import MLPClassifier
from fastgd.neural_network.fit_tasks import TrainingInterrupted
from fastgd.neural_network.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "TrainingInterrupted"]

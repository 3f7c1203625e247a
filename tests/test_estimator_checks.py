"""scikit-learn's checks of the estimator contract, over both estimators and several solvers."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgd import MLPClassifier, MLPRegressor
from fastgd.optimizers import RMSprop

SOLVERS = ["adam", "sgd", "lbfgs", "scipy-bfgs", "adamw", RMSprop(learning_rate=0.01)]

# Few units and iterations: the checks are about the contract, not about the fit.
ESTIMATORS = [
    cls(solver=solver, max_iter=100, hidden_layer_sizes=(20,))
    for cls in (MLPClassifier, MLPRegressor)
    for solver in SOLVERS
]


@pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning",
    "default::sklearn.exceptions.SkipTestWarning",
    "default::RuntimeWarning",
    "default::UserWarning",
    "default::FutureWarning",
)
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    check(estimator)

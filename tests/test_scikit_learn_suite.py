"""scikit-learn's own tests of its perceptrons, run on ours.

The module is executed anew with our classes under scikit-learn's names, so that its
parametrisations pick them up.
"""

import importlib.util
from unittest import mock

import pytest
import sklearn.neural_network

import fastgd

# These reach into scikit-learn's private attributes; the value says which.
PRIVATE = {
    "test_gradient": "_loss_grad_lbfgs",
}


def _load():
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None:
        pytest.skip("this build of scikit-learn comes without its tests", allow_module_level=True)
    module = importlib.util.module_from_spec(spec)
    with (
        mock.patch.object(sklearn.neural_network, "MLPClassifier", fastgd.MLPClassifier),
        mock.patch.object(sklearn.neural_network, "MLPRegressor", fastgd.MLPRegressor),
    ):
        spec.loader.exec_module(module)
    return module


suite = _load()
TESTS = {
    name: test
    for name, test in vars(suite).items()
    if name.startswith("test_") and name not in PRIVATE
}
globals().update(TESTS)

# The suite lets its fits end at max_iter and its losses overflow, as scikit-learn's settings do.
pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning", "default::RuntimeWarning"
)


@pytest.fixture
def global_random_seed():
    return 42


def test_the_suite_is_all_there():
    assert len(TESTS) >= 36
    assert suite.MLPClassifier is fastgd.MLPClassifier

"""Fixtures that many tests share."""

import signal

import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.preprocessing import scale


@pytest.fixture(scope="session")
def digits():
    """300 handwritten digits, scaled to [0, 1]."""
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16.0, y[:300]


@pytest.fixture(scope="session")
def regression():
    """150 samples of a linear problem with two outputs, scaled."""
    X, y = make_regression(150, 8, n_targets=2, noise=5.0, random_state=3)
    return X, scale(y)


def pytest_configure():
    # Who runs the tests in the background has Ctrl-C switched off, which some tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)

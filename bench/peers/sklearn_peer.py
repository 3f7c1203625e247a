"""scikit-learn: its public interface, and the gradient that its L-BFGS gets."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import neural_network

from bench.cells import Cell, samples
from bench.peers import estimators
from bench.start import start

training = functools.partial(estimators.fit_run, neural_network)
prediction = functools.partial(estimators.prediction_run, neural_network)
learner = functools.partial(estimators.Learner, neural_network)


def gradient(cell: Cell) -> Callable[[], tuple[Any, ...]]:
    """Loss and gradient of all samples at once."""
    X, y = samples(cell)
    model = estimators.at_start(neural_network, cell)
    w, targets = start(cell)[0], np.eye(cell.sizes[-1], dtype=bool)[y]
    n_layers = len(cell.sizes) - 1
    activations, deltas = [X, *[None] * n_layers], [None] * n_layers
    coef_grads = [np.empty_like(coef) for coef in model.coefs_]
    intercept_grads = [np.empty_like(intercept) for intercept in model.intercepts_]
    # What ``fit`` prepares before it calls L-BFGS: where each array begins and ends.
    shapes = [np.shape(a) for a in (*model.coefs_, *model.intercepts_)]
    spans = itertools.pairwise(np.cumsum([0, *map(math.prod, shapes)]))
    places = [(*span, shape) for span, shape in zip(spans, shapes, strict=True)]
    model._coef_indptr = places[:n_layers]
    model._intercept_indptr = [(begin, end) for begin, end, _ in places[n_layers:]]
    return lambda: model._loss_grad_lbfgs(
        w, X, targets, None, activations, deltas, coef_grads, intercept_grads
    )

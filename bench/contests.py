"""The contests: for each question the runs of all peers, which must agree in their results.

A run does a whole number of steps (batches, or updates) and returns what it computed.  All peers
of a contest start from the same parameters and see the same data in the same order, in float32.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as ReferenceMLP
from threadpoolctl import threadpool_limits

from bench import peers
from bench.loops import batch_gradients, rule_steps
from bench.problems import ALPHA, SEED, Cell, samples
from fastgd import MLPClassifier
from fastgd.kernels.layout import layer_table, make_workspace, parameter_views
from fastgd.kernels.losses import CategoricalLogLoss
from fastgd.kernels.network import predict_blocks
from fastgd.neural_network.initialization import initial_parameters
from fastgd.neural_network.problem import as_data
from fastgd.optimizers import OPTIMIZERS, Optimizer

TOLERANCE = 1e-3

Run = Callable[[], tuple[Any, ...]]


class Contest(NamedTuple):
    """One question at one size."""

    question: str
    cell: str
    steps: int  # that each run does
    threads: int  # that BLAS may use, the same for all peers
    runs: dict[str, Run]

    def limits(self) -> Any:
        """Context in which all peers have the contest's number of BLAS threads."""
        return threadpool_limits(self.threads, user_api="blas")

    def check(self) -> Contest:
        """Run everybody once, which also compiles, and compare what they computed."""
        # On one thread: the pools of two BLAS libraries, one after the other, get in their way.
        with threadpool_limits(1, user_api="blas"):
            results = {peer: run() for peer, run in self.runs.items()}
        for peer, result in results.items():
            for ours, theirs in zip(results["fastgd"], result, strict=True):
                ours, theirs = np.asarray(ours), np.asarray(theirs)
                error = np.linalg.norm(ours - theirs) / np.linalg.norm(ours)
                # Written so that NaN fails.
                if not error <= TOLERANCE:
                    raise AssertionError(
                        f"{self.question}, {self.cell}: fastgd and {peer} do not do the same work,"
                        f" relative difference {error:.2g}."
                    )
        return self


def blas_threads(cell: Cell) -> int:
    """All processors for a large network; one for a small one, whose products have no use."""
    return joblib.cpu_count() if cell.large else 1


def _start(cell: Cell) -> tuple[Any, Any]:
    """The layer table, and the parameters that all peers start from."""
    hidden = ("relu",) * (len(cell.sizes) - 2)
    w = initial_parameters("glorot", RandomState(SEED), cell.sizes, (*hidden, "relu"), np.float32)
    return layer_table(cell.sizes, hidden), w


def _parameters(cell: Cell, max_iter: int) -> dict[str, Any]:
    return {
        "hidden_layer_sizes": cell.sizes[1:-1],
        "activation": "relu",
        "solver": "adam",
        "alpha": ALPHA,
        "batch_size": cell.batch_size,
        "max_iter": max_iter,
        "n_iter_no_change": math.inf,  # nobody stops early
        "random_state": SEED,
    }


def _batches(cell: Cell) -> list[slice]:
    return [slice(i, i + cell.batch_size) for i in range(0, cell.n_samples, cell.batch_size)]


@functools.cache
def forward(cell: Cell) -> Contest:
    """Probabilities of all samples, batch by batch."""
    X, _ = samples(cell)
    shape = cell.n_samples, cell.sizes[-1]
    runs = {
        "fastgd": _fastgd_forward(cell, X, np.empty(shape, X.dtype)),
        "numpy": _numpy_forward(cell, X, np.empty(shape, X.dtype)),
        "sklearn": _sklearn_forward(cell, X, np.empty(shape, X.dtype)),
    }
    return Contest("forward", str(cell), cell.n_batches, blas_threads(cell), runs).check()


def _fastgd_forward(cell: Cell, X: Any, out: Any) -> Run:
    layers, w = _start(cell)
    data = as_data(X, np.zeros((len(X), 1), np.int64), None)
    work = make_workspace(layers, cell.batch_size, X.dtype, out, gather=False)

    def run() -> tuple[Any, ...]:
        predict_blocks(
            layers, w, data.X, len(X), cell.batch_size, CategoricalLogLoss(), work, out
        )  # fmt: skip
        return (out,)

    return run


def _numpy_forward(cell: Cell, X: Any, out: Any) -> Run:
    network = peers.Network(cell.sizes, cell.batch_size, _start(cell)[1], ALPHA)
    batches = _batches(cell)

    def run() -> tuple[Any, ...]:
        for rows in batches:
            out[rows] = network.forward(X[rows])
        return (out,)

    return run


def _sklearn_at_start(cell: Cell) -> ReferenceMLP:
    """scikit-learn's network with the common parameters, ready for its inner functions."""
    X, y = samples(cell)
    network = ReferenceMLP(**_parameters(cell, 1)).partial_fit(
        X, y, classes=np.arange(cell.sizes[-1])
    )
    layers, w = _start(cell)
    network.coefs_, network.intercepts_ = parameter_views(w, layers)
    return network


def _sklearn_forward(cell: Cell, X: Any, out: Any) -> Run:
    # The inner function: ``predict_proba`` would add a validation to each batch.
    network, batches = _sklearn_at_start(cell), _batches(cell)

    def run() -> tuple[Any, ...]:
        for rows in batches:
            out[rows] = network._forward_pass_fast(X[rows], check_input=False)
        return (out,)

    return run


@functools.cache
def gradient(cell: Cell) -> Contest:
    """Sum of the batches' losses, and the gradient of the last batch."""
    runs = {
        "fastgd": _fastgd_gradient(cell),
        "numpy": _numpy_gradient(cell),
        "sklearn": _sklearn_gradient(cell),
    }
    return Contest("gradient", str(cell), cell.n_batches, blas_threads(cell), runs).check()


def _fastgd_gradient(cell: Cell) -> Run:
    X, y = samples(cell)
    layers, w = _start(cell)
    grad, data = np.empty_like(w), as_data(X, y[:, np.newaxis], None)
    work = make_workspace(layers, cell.batch_size, X.dtype, data.y, gather=False)

    def run() -> tuple[Any, ...]:
        loss = batch_gradients(
            layers, w, grad, data, len(X), cell.batch_size, ALPHA, CategoricalLogLoss(), work
        )
        return loss, grad

    return run


def _numpy_gradient(cell: Cell) -> Run:
    X, y = samples(cell)
    network = peers.Network(cell.sizes, cell.batch_size, _start(cell)[1], ALPHA)
    batches = _batches(cell)

    def run() -> tuple[Any, ...]:
        return sum(network.gradient(X[rows], y[rows]) for rows in batches), network.grad

    return run


def _sklearn_gradient(cell: Cell) -> Run:
    X, y = samples(cell)
    network, batches = _sklearn_at_start(cell), _batches(cell)
    targets = np.eye(cell.sizes[-1], dtype=bool)[y]
    n_layers = len(cell.sizes) - 1
    activations, deltas = [None] * (n_layers + 1), [None] * n_layers
    coef_grads = [np.empty_like(coef) for coef in network.coefs_]
    intercept_grads = [np.empty_like(intercept) for intercept in network.intercepts_]

    def run() -> tuple[Any, ...]:
        total = 0.0
        for rows in batches:
            activations[0] = X[rows]
            loss, *_ = network._backprop(
                X[rows], targets[rows], None, activations, deltas, coef_grads, intercept_grads
            )
            total += loss
        flat = np.concatenate([grad.ravel() for grad in (*coef_grads, *intercept_grads)])
        return total, flat

    return run


@functools.cache
def update_rule(name: str, n: int) -> Contest:
    """Parameters after updates by two gradients in turn, the rule's options at their defaults."""
    # A vector of 10⁵ numbers is long against the price of a call, a short one is not.
    steps = 50 if n < 50_000 else 10
    gradients = np.random.RandomState(SEED).normal(size=(2, n)).astype(np.float32)
    runs = {
        "fastgd": _fastgd_rule(name, gradients, steps),
        "numpy": _numpy_rule(name, gradients, steps),
    }
    return Contest(name, f"n = {n:,}", steps, 1, runs).check()


def _fastgd_rule(name: str, gradients: Any, steps: int) -> Run:
    w = np.zeros(gradients.shape[1], np.float32)
    optimizer = Optimizer(OPTIMIZERS[name](), w)

    def run() -> tuple[Any, ...]:
        optimizer.n_updates = rule_steps(
            optimizer.rule, w, gradients, optimizer.memory, optimizer.n_updates,
            optimizer.learning_rate, steps,
        )  # fmt: skip
        return (w,)

    return run


def _numpy_rule(name: str, gradients: Any, steps: int) -> Run:
    w = np.zeros(gradients.shape[1], np.float32)
    step = peers.RULES[name](w.size, w.dtype)
    t = 0

    def run() -> tuple[Any, ...]:
        nonlocal t
        for _ in range(steps):
            t += 1
            step(w, gradients[t % 2], t)
        return (w,)

    return run


@functools.cache
def epoch(cell: Cell, threads: int | None = None) -> Contest:
    """Loss curves of whole fits: relu, log-loss, Adam, shuffled mini-batches.

    The time is that of ``fit`` with ``max_iter=cell.n_epochs``, validation of the input, initial
    weights and all.  fastgd also records the norms of the gradients, which the others do not.
    """
    X, y = samples(cell)
    parameters = _parameters(cell, cell.n_epochs)

    def numpy_run() -> tuple[Any, ...]:
        curve = peers.fit(cell.sizes, cell.batch_size, X, y, cell.n_epochs, ALPHA, SEED)
        return (curve,)

    runs = {
        "fastgd": _fit_run(MLPClassifier(**parameters), X, y),
        "numpy": numpy_run,
        "sklearn": _fit_run(ReferenceMLP(**parameters), X, y),
    }
    steps, threads = cell.n_epochs * cell.n_batches, threads or blas_threads(cell)
    return Contest("epoch", str(cell), steps, threads, runs).check()


def _fit_run(estimator: Any, X: Any, y: Any) -> Run:
    def run() -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return (estimator.fit(X, y).loss_curve_,)

    return run

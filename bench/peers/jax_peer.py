"""JAX with optax: an epoch is one compiled function, a scan over the batches."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from bench.cells import Cell, samples
from bench.peers.trainer import fit_run
from bench.start import flat, start, views

Run = Callable[[], tuple[Any, ...]]

RULES = {"adam": optax.scale_by_adam, "sgd": optax.identity}
# With PyTorch's defaults; optax has no ASGD, and other forms of NAdam and Rprop.
UPDATES = {
    "sgd": optax.sgd(1e-3),
    "adagrad": optax.adagrad(1e-2, initial_accumulator_value=0.0, eps=1e-10),
    "rmsprop": optax.rmsprop(1e-2, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adadelta": optax.adadelta(1.0, rho=0.9, eps=1e-6),
    "adam": optax.adam(1e-3),
    "adamw": optax.adamw(1e-3, weight_decay=1e-2),
    "adamax": optax.adamax(2e-3),
    "radam": optax.radam(1e-3, threshold=5.0),
    "lion": optax.lion(1e-4, b1=0.9, b2=0.99, weight_decay=0.0),
}
BLOCK = 10_000  # rows of a prediction
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}

# How experts write it: parameters as a tree or as one vector, samples gathered at once or batch
# by batch.  None is the fastest everywhere, so each cell takes the fastest of a trial.  Steps
# unrolled by four, and optax.flatten, were tried too: at best some percent, at worst a half.
VARIANTS = (("tree", "at once"), ("tree", "by batch"), ("flat", "at once"))


def precision(cell: Cell) -> Any:
    """Context in which 64-bit numbers exist if the cell has them."""
    return jax.enable_x64(cell.dtype == "float64")


def parameters(cell: Cell, w: NDArray[Any]) -> Any:
    """Pairs of weights and bias."""
    return [tuple(map(jnp.array, layer)) for layer in zip(*views(cell, w), strict=True)]


def outputs(cell: Cell, params: Any, x: Any) -> Any:
    """Raw outputs; the input is a tuple of one array, or of columns and values of words."""
    first, bias = params[0]
    if len(x) == 1:
        z = x[0] @ first + bias
    else:
        columns, values = x
        z = jnp.einsum("bl,blh->bh", values, first[columns]) + bias
    for W, b in params[1:]:
        z = ACTIVATIONS[cell.activation](z) @ W + b
    return z


def objective(cell: Cell, params: Any, x: Any, y: Any) -> Any:
    """Loss of a batch without the L2 penalty."""
    z = outputs(cell, params, x)
    if cell.loss == "log_loss":
        return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
    if cell.loss == "labels":
        return optax.sigmoid_binary_cross_entropy(z, y).sum() / y.shape[0]
    return optax.l2_loss(z[:, 0], y).mean()


class Trainer:
    """See ``bench.peers.trainer``."""

    def __init__(self, cell: Cell, X: Any, y: NDArray[Any], variant: Any = None) -> None:
        self._cell = cell
        with precision(cell):
            kind = np.int32 if cell.loss == "log_loss" else cell.dtype
            self._X, self._y = arrays(X), jnp.asarray(y.astype(kind))
            self.variant = variant or self._fastest(X, y)
            self._compile(*self.variant)

    def _fastest(self, X: Any, y: NDArray[Any]) -> tuple[str, str]:
        """The fastest variant, by two epochs each after the one that compiles."""
        seconds = {}
        for variant in VARIANTS:
            trial = Trainer(self._cell, X, y, variant)
            trial.reset(start(self._cell)[0])
            order = trial.as_order(np.arange(len(y)))
            float(trial.epoch(order))
            seconds[variant] = min(trial._seconds(order) for _ in range(2))
        return min(seconds, key=seconds.__getitem__)

    def _seconds(self, order: Any) -> float:
        started = time.perf_counter()
        float(self.epoch(order))
        return time.perf_counter() - started

    def _compile(self, form: str, gather: str) -> None:
        cell, B = self._cell, self._cell.batch_size
        self._rule = optax.chain(
            optax.add_decayed_weights(cell.alpha / B), RULES[cell.solver](), optax.scale(-1e-3)
        )
        zeros = parameters(cell, np.zeros(cell.n_parameters, cell.dtype))
        self._form = ravel_pytree if form == "flat" else lambda tree: (tree, lambda same: same)
        as_tree = self._form(zeros)[1]

        def step(carried: Any, batch: Any) -> Any:
            params, state = carried
            loss, grad = jax.value_and_grad(lambda p: objective(cell, as_tree(p), *batch))(params)
            updates, state = self._rule.update(grad, state, params)
            return (optax.apply_updates(params, updates), state), loss

        def gathered(X: Any, y: Any, rows: Any) -> Any:
            return tuple(a[rows] for a in X), y[rows]

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def epoch(params: Any, state: Any, X: Any, y: Any, order: Any) -> Any:
            def gather_and_step(carried: Any, rows: Any) -> Any:
                return step(carried, gathered(X, y, rows))

            rows, begin = order.reshape(-1, B), (params, state)
            if gather == "at once":
                (params, state), losses = jax.lax.scan(step, begin, gathered(X, y, rows))
            else:
                (params, state), losses = jax.lax.scan(gather_and_step, begin, rows)
            squares = sum((W * W).sum() for W, _ in as_tree(params))
            return params, state, losses.mean() + 0.5 * cell.alpha / B * squares

        self._epoch, self._as_tree = epoch, as_tree

    def reset(self, w: NDArray[Any]) -> None:
        with precision(self._cell):
            self._params = self._form(parameters(self._cell, w))[0]
            self._state = self._rule.init(self._params)

    def as_order(self, order: NDArray[np.int64]) -> Any:
        B = self._cell.batch_size
        return jnp.asarray(order[: len(order) // B * B].astype(np.int32))

    def epoch(self, order: Any) -> Any:
        with precision(self._cell):
            self._params, self._state, loss = self._epoch(
                self._params, self._state, self._X, self._y, order
            )
        return loss

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(outputs(self._cell, self._as_tree(self._params), (X,)).argmax(1))


def arrays(X: Any) -> tuple[Any, ...]:
    """The input; of a CSR matrix the columns and the values of each row."""
    if not scipy.sparse.issparse(X):
        return (jnp.asarray(X),)
    shape = X.shape[0], -1
    return jnp.asarray(X.indices.reshape(shape)), jnp.asarray(X.data.reshape(shape))


training = functools.partial(fit_run, Trainer)


def prediction(cell: Cell, X: NDArray[Any]) -> Run:
    """Class numbers of X, block by block where the units of all rows would leave the cache."""
    params, x = parameters(cell, start(cell)[0]), jnp.asarray(X)

    def classes(params: Any, x: Any) -> Any:
        return outputs(cell, params, (x,)).argmax(1)

    def by_blocks(params: Any, x: Any) -> Any:
        blocks = x.reshape(-1, BLOCK, x.shape[1])
        return jax.lax.map(lambda block: classes(params, block), blocks).reshape(-1)

    # A rest would have to be cut off and put back, which takes longer than all the blocks.
    predict = jax.jit(by_blocks if len(X) % BLOCK == 0 else classes)
    return lambda: (np.asarray(predict(params, x)),)


def update_rule(name: str, gradients: NDArray[Any], steps: int) -> Run | None:
    """Updates by gradients that take turns, from zeros."""
    if name not in UPDATES:
        return None
    rule, taken = UPDATES[name], [jnp.asarray(g) for g in gradients]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(w: Any, state: Any, g: Any) -> Any:
        updates, state = rule.update(g, state, w)
        return optax.apply_updates(w, updates), state

    w = jnp.zeros_like(taken[0])
    state, t = rule.init(w), 0

    def run() -> tuple[Any, ...]:
        nonlocal w, state, t
        for _ in range(steps):
            t += 1
            w, state = step(w, state, taken[t % 2])
        return (np.asarray(jax.block_until_ready(w)),)

    return run


def full_objective(cell: Cell) -> Any:
    """Loss of all samples with the L2 penalty, a function of the parameters."""
    X, y = samples(cell)
    x, y = arrays(X), jnp.asarray(y.astype(np.int32))

    def penalised(params: Any) -> Any:
        squares = sum((W * W).sum() for W, _ in params)
        return objective(cell, params, x, y) + 0.5 * cell.alpha / len(X) * squares

    return penalised


def gradient(cell: Cell) -> Run:
    """Loss and gradient of all samples at once."""
    params = parameters(cell, start(cell)[0])
    both = jax.jit(jax.value_and_grad(full_objective(cell)))

    def run() -> tuple[Any, ...]:
        loss, grad = both(params)
        jax.block_until_ready(grad)
        return float(loss), lambda: flat(*zip(*grad, strict=True))

    return run


def hessian_product(cell: Cell, v: NDArray[Any]) -> Run:
    """Product of the Hessian with a direction, forward over reverse."""
    params, direction = parameters(cell, start(cell)[0]), parameters(cell, v)
    grad = jax.grad(full_objective(cell))
    multiply = jax.jit(lambda params, direction: jax.jvp(grad, (params,), (direction,))[1])

    def run() -> tuple[Any, ...]:
        product = jax.block_until_ready(multiply(params, direction))
        return (lambda: flat(*zip(*product, strict=True)),)

    return run

"""Nothing is read or written beyond an array, and nothing is read before it is written.

Each network is trained twice, with arrays between forbidden pages and without, in a process of its
own, which such an access would end; both must give the same bits.
"""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from bounds import guarded, guarded_buffers
from fastgd import MLPClassifier, MLPRegressor
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.optimizers import OPTIMIZERS
from threads import several_threads

N_NETWORKS = 40


def draw(rng):
    """An estimator, its samples and their weights, of any kind and of awkward sizes."""
    n, d = int(rng.integers(12, 70)), int(rng.choice([1, 2, 7, 16, 33, 130]))
    hidden = tuple(int(rng.choice([1, 3, 8, 16, 17, 40, 130])) for _ in range(rng.integers(0, 4)))
    dtype = rng.choice([np.float32, np.float64])
    X = rng.normal(size=(n, d)).astype(dtype)
    common = {
        "hidden_layer_sizes": hidden,
        "activation": str(rng.choice(sorted(ACTIVATIONS))),
        "batch_size": int(rng.choice([1, 2, 7, 16, 33, n])),
        "solver": str(rng.choice([*OPTIMIZERS, "adam", "sgd", "lbfgs", "newton-cg"])),
        "learning_rate_init": 1e-3,
        "max_iter": 2,
        "random_state": 0,
        "dropout": float(rng.choice([0.0, 0.0, 0.4])) if hidden else 0.0,
        "max_norm": rng.choice([None, None, 0.5]),
        "clip_norm": rng.choice([None, None, 0.5]),
        "early_stopping": False,
    }
    k = int(rng.choice([1, 2, 3, 4, 9, 10, 17]))
    if rng.random() < 0.5:
        loss = str(rng.choice(["squared_error", "absolute_error", "huber", "poisson"]))
        y = np.abs(rng.normal(size=(n, k) if k > 1 else n)).astype(dtype)
        return MLPRegressor(loss=loss, **common), X, y, rng.random(n)
    kind = rng.choice(["classes", "labels"])
    if kind == "labels":
        y = rng.integers(0, 2, (n, k + 1))
    else:
        y = np.arange(n) % max(k, 2)
    loss = str(rng.choice(["log_loss", "hinge"]))
    weight = rng.random(n) if kind == "classes" else None
    return MLPClassifier(loss=loss, **common), X, y, weight


def use(net, X, y, weight, of_arrays, is_sparse):
    """What a network gives, whose arrays went through ``of_arrays``."""
    y = of_arrays(y)
    X = sparse(X, of_arrays) if is_sparse else of_arrays(X)
    weight = None if weight is None else of_arrays(weight)
    net.fit(X, y, weight)
    figures = [*net.coefs_, *net.intercepts_, net.loss_curve_, net.predict(X), net.predict(X[:1])]
    if hasattr(net, "predict_proba"):
        figures.append(net.predict_proba(X[:9]))
    figures.append(net.score(X, y, weight))
    objective = net.objective(X, y, weight)
    direction = of_arrays(np.linspace(-1.0, 1.0, objective.n_parameters))
    figures += [objective.fun(objective.x0), objective.grad(objective.x0)]
    figures.append(objective.hessp(objective.x0, direction))
    figures.append(objective.gauss_newton_product(objective.x0, direction))
    if getattr(net, "loss", "") == "squared_error":
        figures += [objective.residuals(objective.x0), objective.jac(objective.x0)]
        *figures[len(figures) :], matrix = objective.normal_equations(objective.x0)
        figures.append(np.tril(matrix))  # of which alone it makes a promise
    return figures


def sparse(X, of_arrays):
    """A matrix whose numbers, and their places, went through ``of_arrays``."""
    matrix = scipy.sparse.csr_array(np.where(np.abs(X) < 0.7, X.dtype.type(0), X))
    arrays = map(of_arrays, (matrix.data, matrix.indices, matrix.indptr))
    return scipy.sparse.csr_array(tuple(arrays), shape=X.shape)


def compare(seed, behind, team):
    rng = np.random.default_rng(seed)
    net, X, y, weight = draw(rng)
    print(f"seed {seed}, behind={behind}, team={team}: X {X.dtype} {X.shape}, {net}", flush=True)

    def of_arrays(array):
        return guarded(array, behind)

    is_sparse = rng.random() < 0.3
    with several_threads(in_parts=True) if team else nullcontext():
        expected = use(net, X, y, weight, np.array, is_sparse)
        with guarded_buffers(behind):
            found = use(net, X, y, weight, of_arrays, is_sparse)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX's")
@pytest.mark.parametrize("team", [False, True])
@pytest.mark.parametrize("behind", [True, False])
def test_nobody_goes_beyond(behind, team):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(int(behind)), str(int(team))],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "this system protects no memory" in done.stderr:
        pytest.skip("this system protects no memory")
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]} {done.stderr[-3000:]}"
    assert done.stdout.count("seed ") == N_NETWORKS


if __name__ == "__main__":
    for seed in range(N_NETWORKS):
        compare(seed, bool(int(sys.argv[1])), bool(int(sys.argv[2])))

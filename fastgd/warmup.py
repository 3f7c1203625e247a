"""Compile everything beforehand: for images, for CI, and for those who do not like to wait."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from fastgd._jit import cache_folders
from fastgd._record import checked
from fastgd.kernels.activations import ACTIVATIONS, activation_addresses, curvature_address
from fastgd.kernels.dropout import Dropout, dropout_part
from fastgd.kernels.epoch import rule_part
from fastgd.kernels.gemm import product_entries
from fastgd.kernels.halves import halves_entries
from fastgd.kernels.limits import Limits, limit_parts
from fastgd.kernels.linalg import KINDS, input_code, outer_code
from fastgd.kernels.loss_parts import FEW, LANES, link_part, loss_curvature_part, loss_part
from fastgd.kernels.losses import LOSSES
from fastgd.kernels.panels import panels_entry
from fastgd.kernels.shares import even_out_entry
from fastgd.kernels.team import team_entries
from fastgd.kernels.tiles import HAS_TILES
from fastgd.kernels.zeros import without_zeros_code
from fastgd.neural_network import MLPClassifier, MLPRegressor
from fastgd.optimizers import OPTIMIZERS, Optimizer
from fastgd.solvers.cholesky import solve_definite


def steps() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What there is to compile: names, and functions that compile it or load it from disk."""
    yield "teams of threads", team_entries
    yield "shares of a batch", even_out_entry
    for dtype in (np.dtype(np.float64), np.dtype(np.float32)):
        yield f"training and prediction in {dtype}", partial(_train, dtype)
        for name in ACTIVATIONS:
            yield name, partial(activation_addresses, name, dtype)
            yield name, partial(curvature_address, name, dtype)
        for name, loss in LOSSES.items():
            for k in (*LANES, 100):
                for n_rows in (1, FEW):
                    yield name, partial(loss_part, checked(loss()), dtype, k, n_rows)
            yield name, partial(loss_curvature_part, checked(loss()), dtype)
            yield name, partial(link_part, checked(loss()), dtype)
        for name, rule in OPTIMIZERS.items():
            yield name, partial(rule_part, checked(rule()), dtype)
        for kind in KINDS:
            yield f"{kind} input", partial(input_code, kind, dtype)
            yield f"{kind} input", partial(outer_code, kind, dtype)
        yield "halves of many features", partial(halves_entries, dtype)
        yield "derivatives in panels", partial(panels_entry, dtype)
        if HAS_TILES:
            yield "products without zeros", partial(without_zeros_code, dtype)
        yield "products by a matrix unit", partial(product_entries, dtype, 1, by_amx=True)
        yield "dropout", partial(dropout_part, Dropout(0), dtype)
        yield "limits", partial(limit_parts, Limits(1.0, 1.0, 1.0), dtype)


def _train(dtype: np.dtype[Any]) -> None:
    """Run each kernel that Python calls, as a user would, in this process alone."""
    X, y = np.eye(6, dtype=dtype), np.arange(6) % 3
    for solver in "adam", "bfgs":
        with warnings.catch_warnings(action="ignore"):  # it does not converge
            model = MLPClassifier((2,), solver=solver, max_iter=2, n_jobs=1).fit(X, y)
    f = MLPRegressor(hidden_layer_sizes=(2,), n_jobs=1).objective(X, X)
    f.hessp(f.x0, f.x0)
    f.residuals(f.x0)
    f.normal_equations(f.x0)
    solve_definite(np.eye(2), 0.0, np.ones(2))
    model.predict(X)
    model.predict(scipy.sparse.csr_array(X))
    w = np.zeros(3, dtype)
    Optimizer(OPTIMIZERS["sgd"](), w).update(w, w.copy())


def folder() -> Path | None:
    """Where the compiled code is kept; None if it cannot be kept anywhere."""
    folders = cache_folders()
    return Path(os.path.commonpath(folders)) if folders else None

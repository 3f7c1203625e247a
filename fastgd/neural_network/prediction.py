"""Outputs of a trained network; a second call for a few rows costs microseconds."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd._threads import reserved, threads_worth
from fastgd.kernels.aligned import LINE_NUMBERS, aligned_zeros
from fastgd.kernels.layout import network_plan
from fastgd.kernels.linalg import Dense, input_entries
from fastgd.kernels.loss_parts import link_part
from fastgd.kernels.losses import softmax_link
from fastgd.kernels.network import predict_blocks
from fastgd.kernels.parts import NOTHING, Part
from fastgd.kernels.plan import Plan
from fastgd.kernels.samples import block_rows
from fastgd.kernels.team import together
from fastgd.kernels.tiles import HAS_TILES
from fastgd.neural_network.problem import as_matrix
from fastgd.solvers.objective import LEAST_A_PASS

# Up to so many numbers of all layers together, the buffers are kept for the next call.
FEW_UNITS = 2**18

NOWHERE = np.empty(0)


class Predictor:
    """A network that is ready to predict; for one thread of the user's at a time.

    Parameters
    ----------
    layers : record array of shape (L,)
    w : ndarray of shape (n,)
    loss : NamedTuple
        Its link turns raw outputs into predictions.
    n_jobs : int or None
        Most threads of one call.

    Attributes
    ----------
    is_finite : bool
        False if there was NaN or infinity in the dense input of the last call, and perhaps if it
        only had a sum beyond all numbers.
    """

    def __init__(self, layers: NDArray[Any], w: NDArray[Any], loss: Any, n_jobs: int | None):
        self._layers, self._loss, self._n_jobs = layers, loss, n_jobs
        self.w, self.dtype = w, w.dtype
        self._link = link_part(loss, w.dtype)
        # The largest raw output has the largest probability, be it that rounding gives another one
        # the same.
        self._link_of_codes = NOTHING if type(loss).link is softmax_link else self._link
        self._kept: Plan | None = None
        self.is_finite = True

    def outputs(self, X: Any) -> NDArray[Any]:
        """Outputs (N, K) for validated samples."""
        out = np.empty((X.shape[0], int(self._layers["n_out"][-1])), self.w.dtype)
        self._run(X, self._link, out=out)
        return out

    def codes(self, X: Any) -> NDArray[np.int64]:
        """Number of the largest output (N,) for validated samples."""
        codes = np.empty(X.shape[0], np.int64)
        self._run(X, self._link_of_codes, codes=codes)
        return codes

    def _run(self, X: Any, link: Part, **results: NDArray[Any]) -> None:
        n_samples = X.shape[0]
        matrix = as_matrix(X)
        units = int(self._layers["n_out"].sum())
        if n_samples * units <= FEW_UNITS and isinstance(matrix, Dense):
            if self._kept is None or self._kept["rows"] < n_samples:
                self._kept = self._new_plan(max(16, n_samples), matrix)
            plan = self._kept
            if plan["link"] is not link:
                plan.set(link=link)
            plan.set(values=matrix.values, n_samples=n_samples, **results)
            plan["input_sum"][0] = 0.0
            together(predict_blocks, [plan], 1)
            self.is_finite = math.isfinite(plan["input_sum"][0])
            # The user's arrays are not kept.
            plan.set(values=NOWHERE, out=NOWHERE, codes=NOWHERE)
            return
        work = n_samples * self.w.size
        n_threads = threads_worth(work, self._n_jobs, LEAST_A_PASS) if HAS_TILES else 1
        rows = block_rows(self._layers, n_samples, self.w.dtype)
        rows = min(rows, -(-n_samples // n_threads))
        # Each thread predicts other rows, so each has all buffers of its own.
        plans = [self._new_plan(rows, matrix) for _ in range(n_threads)]
        for plan in plans:
            plan.set(n_samples=n_samples, link=link, **results)
        with reserved(n_threads) as size:
            together(predict_blocks, plans, size)
        if isinstance(matrix, Dense):
            self.is_finite = all(math.isfinite(plan["input_sum"][0]) for plan in plans)

    def _new_plan(self, rows: int, matrix: Any) -> Plan:
        plan = network_plan(self._layers, self.w.dtype, rows)
        entries = input_entries(matrix, self.w.dtype)
        if isinstance(matrix, Dense):
            entries["input_sum"] = aligned_zeros(LINE_NUMBERS, np.float64)
        return plan.set(w=self.w, **entries)


class Network(NamedTuple):
    """What a predictor was made of: as long as these are the same, it is good."""

    arrays: tuple[NDArray[Any], ...]
    activations: tuple[str, ...]
    loss: Any
    n_jobs: int | None

    def is_same(self, other: Network) -> bool:
        return (
            len(self.arrays) == len(other.arrays)
            and all(map(operator.is_, self.arrays, other.arrays))
            and self.activations == other.activations
            and self.loss is other.loss
            and self.n_jobs == other.n_jobs
        )

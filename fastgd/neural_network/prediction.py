"""Outputs of a trained network; a second call for a few rows costs microseconds."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd._threads import reserved, threads_worth
from fastgd.kernels.aligned import LINE_NUMBERS, aligned_zeros
from fastgd.kernels.layout import n_units, network_plan
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

# Buffers of up to so many numbers are kept for the next call; they have room for so many rows.
FEW_NUMBERS, FEW_ROWS = 2**18, 16
# Multiplications of a call from which zeros are looked for: the code for that may not be there yet.
WORTH_ZEROS = 100_000_000
# Each of several threads has so many blocks, if they have so many rows.
MOST_BLOCKS, ROWS_OF_A_BLOCK = 4, 120


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
        self._block_rows = block_rows(layers, sys.maxsize, w.dtype)
        self._n_units = n_units(layers)
        self._kept: list[Plan] = []
        self._kept_rows = 0
        self._with_zeros = False
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
        n_samples, matrix = X.shape[0], as_matrix(X)
        n_threads = 1
        if HAS_TILES:
            n_threads = threads_worth(n_samples * self.w.size, self._n_jobs, LEAST_A_PASS)
        if n_samples * self.w.size >= WORTH_ZEROS and not self._with_zeros:
            self._with_zeros, self._kept, self._kept_rows = True, [], 0
        n_blocks = n_threads
        if n_threads > 1:  # one of them may have a slower processor
            n_blocks *= min(max(n_samples // (n_threads * ROWS_OF_A_BLOCK), 1), MOST_BLOCKS)
        rows = min(self._block_rows, -(-n_samples // n_blocks))
        plans = self._plans_for(matrix, rows, n_threads)
        for plan in plans:
            if plan["link"] is not link:
                plan.set(link=link)
            plan.set(rows=rows, n_samples=n_samples, **results)
        if n_threads == 1:
            together(predict_blocks, plans, 1)
        else:
            with reserved(n_threads) as size:
                together(predict_blocks, plans, size)
        if isinstance(matrix, Dense):
            self.is_finite = all(math.isfinite(plan["input_sum"][0]) for plan in plans)
            for plan in plans:  # the user's arrays are not kept
                plan.forget("values", *results)

    def _plans_for(self, matrix: Any, rows: int, n_threads: int) -> list[Plan]:
        """Plans with the samples: one for each thread, which predicts other rows than the rest."""
        kept = self._kept
        n_numbers = n_threads * rows * self._n_units
        if not isinstance(matrix, Dense) or n_numbers > FEW_NUMBERS:
            return [self._new_plan(rows, matrix) for _ in range(n_threads)]
        if rows > self._kept_rows or n_threads > len(kept):
            self._kept_rows = max(FEW_ROWS, rows, self._kept_rows)
            kept = [self._new_plan(self._kept_rows, matrix) for _ in range(n_threads)]
            self._kept = kept
        for plan in kept[:n_threads]:
            plan.set(values=matrix.values)
            plan["input_sum"][0] = 0.0
        return kept[:n_threads]

    def _new_plan(self, rows: int, matrix: Any) -> Plan:
        plan = network_plan(self._layers, self.w.dtype, rows, with_zeros=self._with_zeros)
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

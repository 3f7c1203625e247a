"""From validated arrays to what the kernels take, and back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from fastgd.kernels.layout import chunk_bounds
from fastgd.kernels.linalg import CSR, Dense, kind_of
from fastgd.kernels.network import Data
from fastgd.kernels.plan import Plan
from fastgd.kernels.samples import cut_of_chunks, data_plan, set_samples, tasks_of_plan
from fastgd.solvers import Objective

# Largest power of 2 of weights that are taken as they are.
USUAL_EXPONENT = 40
# By so much the probabilities of a sample may miss 1.
SUM_TOLERANCE = 1e-3


class Problem(NamedTuple):
    """One training problem: a network, a loss, and the samples."""

    layers: NDArray[Any]
    loss: Any
    alpha: float
    data: Data
    n_samples: int
    dtype: np.dtype[Any]
    n_jobs: int | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of features, of units of each hidden layer, and of outputs."""
        return (int(self.layers["n_in"][0]), *(int(n_out) for n_out in self.layers["n_out"]))

    def plan(self, rows: int, gather: bool) -> Plan:
        """A plan with the samples, and with buffers for batches of ``rows``."""
        return data_plan(
            self.layers, self.data, self.n_samples, self.loss, self.alpha, self.dtype, rows, gather
        )

    def set_samples(self, plan: Plan) -> None:
        """Give the samples to a plan that was made for others of the same kind."""
        set_samples(plan, self.data, self.n_samples, self.loss, self.alpha)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the buffers of a plan depend on."""
        y = self.data.y
        return self.layers.tobytes(), self.dtype, kind_of(self.data.X), y.shape[1], y.dtype

    def tasks(self, rows: int) -> list[Callable[[], Any]]:
        """What such a plan compiles, as tasks for whoever has time."""
        return tasks_of_plan(self.layers, self.data, self.loss, self.dtype, rows)

    def chunks(self, rows: int) -> NDArray[np.int64]:
        """Where such a plan cuts the parameters."""
        return chunk_bounds(
            self.layers, **cut_of_chunks(self.layers, self.data.X, self.dtype, rows)
        )

    def objective(self, x0: NDArray[Any] | None = None) -> Objective:
        return Objective(
            self.layers, self.data, self.n_samples, self.loss, self.alpha, self.dtype, self.n_jobs,
            x0,
        )  # fmt: skip

    def reported(self, data_term: float, penalty: float) -> float:
        """The loss as scikit-learn reports it: squared errors averaged over the outputs."""
        if getattr(self.loss, "reports_mean_of_outputs", False):
            data_term /= int(self.layers["n_out"][-1])
        return data_term + penalty


def as_matrix(X: Any) -> Dense | CSR:
    """Wrap a validated input, C-contiguous or CSR, without a copy.

    Raises
    ------
    ValueError
        A sparse X has an index of a column that is not there.
    """
    if scipy.sparse.issparse(X):
        columns = X.indices[: X.nnz]
        if columns.size and not 0 <= columns.min() <= columns.max() < X.shape[1]:
            raise ValueError(
                f"The indices of a sparse X must be from 0 to {X.shape[1] - 1}, got"
                f" {columns.min()} to {columns.max()}."
            )
        # Native byte order, and one type of index, which is what the kernels take.
        index = np.result_type(X.indices, X.indptr).newbyteorder("=")
        data, indices, indptr = (
            np.ascontiguousarray(a, dtype)
            for a, dtype in (
                (X.data, X.data.dtype.newbyteorder("=")), (X.indices, index), (X.indptr, index),
            )
        )  # fmt: skip
        return CSR(data, indices, indptr, X.shape[1])
    X = np.require(np.asarray(X), requirements=["C", "A"])
    return Dense(X, X.shape[1])


def as_data(X: Any, y: NDArray[Any], sample_weight: NDArray[Any] | None) -> Data:
    """Samples as the kernels that train take them."""
    if scipy.sparse.issparse(X):
        X = _in_ascending_order(X)
    weight = np.empty(0, X.dtype)
    if sample_weight is not None:
        exponent = weight_exponent(sample_weight)
        weight = np.ldexp(sample_weight, exponent) if exponent else sample_weight
        weight = weight.astype(X.dtype)
    return Data(as_matrix(X), np.ascontiguousarray(y), weight)


def check_probabilities(y: NDArray[Any]) -> None:
    """Complain of rows that are no distributions."""
    sums = y.sum(axis=1)
    if y.min() < 0 or np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise ValueError(
            "With the KL divergence each row of y must be probabilities that sum to 1, got"
            f" values from {y.min()} to {y.max()} and sums from {sums.min()} to {sums.max()}."
        )


def weight_exponent(sample_weight: NDArray[Any] | None) -> int:
    """The power of 2 by which weights, and with them alpha, are multiplied; 0 for usual ones.

    The objective depends on their ratios alone, but products of very small or large ones with
    losses and derivatives would be lost in float32.
    """
    if sample_weight is None:
        return 0
    exponent = int(np.frexp(sample_weight.max())[1])
    return 0 if abs(exponent) <= USUAL_EXPONENT else -exponent


def _in_ascending_order(X: Any) -> Any:
    """A CSR matrix whose rows are so: X itself, or a copy.

    Another matrix of the same arrays is asked, because X remembers what it answered before, and its
    indices may have been changed in place since.
    """
    same = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
    return X if same.has_sorted_indices else same.sorted_indices()


def sizes_of(coefs: list[NDArray[Any]]) -> tuple[int, ...]:
    """Number of features, of units of each hidden layer, and of outputs."""
    shapes = [np.shape(c) for c in coefs]
    if any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"coefs_ must be matrices, but have the shapes {shapes}.")
    return (shapes[0][0], *(shape[1] for shape in shapes))


def flat_parameters(
    coefs: list[NDArray[Any]], intercepts: list[NDArray[Any]], sizes: tuple[int, ...]
) -> NDArray[Any]:
    """The flat vector behind ``coefs`` and ``intercepts``; a new one if they are not its views.

    They are not after unpickling, or when somebody put other arrays into the lists.
    """
    arrays = [np.asarray(a) for a in (*coefs, *intercepts)]
    expected = [*itertools.pairwise(sizes), *((n_out,) for n_out in sizes[1:])]
    if [a.shape for a in arrays] != expected:
        raise ValueError(
            f"coefs_ and intercepts_ have the shapes {[a.shape for a in arrays]}, but the"
            f" parameters of this estimator and its input ask for {expected}."
        )
    base = arrays[0].base
    if isinstance(base, np.ndarray) and _lie_one_after_the_other(arrays, base):
        return base
    dtype = np.result_type(*arrays)
    dtype = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)
    return np.concatenate([a.ravel() for a in arrays]).astype(dtype, copy=False)


def _lie_one_after_the_other(arrays: list[NDArray[Any]], vector: NDArray[Any]) -> bool:
    """Whether arrays are all that there is of a vector, from its beginning to its end."""
    dtype = vector.dtype
    is_usual = dtype in (np.float32, np.float64) and dtype.isnative
    if vector.ndim != 1 or not is_usual or not vector.flags.c_contiguous:
        return False
    place = vector.ctypes.data
    end = place + vector.nbytes
    for a in arrays:
        if a.dtype != dtype or not a.flags.c_contiguous or a.ctypes.data != place:
            return False
        place += a.nbytes
    return place == end

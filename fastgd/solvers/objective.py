"""The whole training problem as a function of the flat parameter vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd._threads import reserved, threads_worth
from fastgd.kernels.layout import (
    multiplications,
    n_parameters,
    network_plan,
    plans_of_team,
    set_for_training,
    team_size,
)
from fastgd.kernels.linalg import Dense, input_entries
from fastgd.kernels.losses import loss_part
from fastgd.kernels.network import Data, objective
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import together

# A block of rows keeps its units within the second-level cache, and memory within bounds.
BLOCK_BYTES = 2**22

# Multiplications of a pass over the data from which another thread is worth its start.
LEAST_A_PASS = 20_000_000


def block_rows(layers: NDArray[Any], n_samples: int, dtype: Any) -> int:
    """Number of samples to send through a network at once."""
    units = int(layers["n_out"].sum() + 2 * layers["n_out"].max())
    return int(np.clip(BLOCK_BYTES // (units * np.dtype(dtype).itemsize), 64, max(n_samples, 1)))


def data_plan(
    layers: NDArray[Any], data: Data, n_samples: int, loss: Any, alpha: float, dtype: Any,
    rows: int, gather: bool,
) -> Plan:  # fmt: skip
    """A plan for a network and its samples, with buffers for batches of ``rows``.

    ``gather`` says whether the samples will be taken in another order.
    """
    _check_data(layers, data, n_samples, np.dtype(dtype))
    n_gathered = data.X.n_features if gather and isinstance(data.X, Dense) else 0
    plan = network_plan(layers, dtype, rows)
    set_for_training(plan, data.y.shape[1], data.y.dtype, n_gathered)
    return plan.set(
        y=data.y, weight=data.weight, n_samples=n_samples, alpha=alpha,
        loss=loss_part(loss, dtype, int(layers["n_out"][-1]), rows), **input_entries(data.X, dtype),
    )  # fmt: skip


def _check_data(layers: NDArray[Any], data: Data, n_samples: int, dtype: np.dtype[Any]) -> None:
    """Kernels believe what they are told of sizes and types."""
    values = data.X.values if isinstance(data.X, Dense) else data.X.data
    n_rows = values.shape[0] if isinstance(data.X, Dense) else data.X.indptr.size - 1
    if data.X.n_features != layers["n_in"][0] or n_rows != n_samples or values.dtype != dtype:
        raise ValueError(
            f"X must have the shape ({n_samples}, {layers['n_in'][0]}) and dtype {dtype}, got"
            f" ({n_rows}, {data.X.n_features}) and {values.dtype}."
        )
    if data.y.ndim != 2 or data.y.shape[0] != n_samples or data.y.dtype not in (dtype, np.int64):
        raise ValueError(
            f"y must have {n_samples} rows and dtype {dtype} or int64, got the shape"
            f" {data.y.shape} and {data.y.dtype}."
        )
    if data.weight.dtype != dtype or data.weight.size not in (0, n_samples):
        raise ValueError(
            f"weight must have {n_samples} numbers or none and dtype {dtype}, got"
            f" {data.weight.size} and {data.weight.dtype}."
        )


class Objective:
    """Weighted mean of the loss over all samples plus the L2 penalty, and its gradient.

    ``fun(w) = Σᵢ sᵢ loss(xᵢ, yᵢ) / Σᵢ sᵢ + alpha / 2 · ‖weights‖² / Σᵢ sᵢ``, the loss being summed
    over outputs.  The kernels work in the precision of the data; SciPy always sees float64.

    Parameters
    ----------
    layers : record array of shape (L,)
        The layer table.
    data : Data
        Samples, targets and weights.
    n_samples : int
    loss : NamedTuple
        A loss function.
    alpha : float
        Strength of the L2 penalty.
    dtype : dtype
        Precision of the data.
    n_jobs : int or None, default=None
        Largest number of threads; None: as many as are worth it.

    Attributes
    ----------
    n_passes : int
        Passes over the data so far: 1 for a value with its gradient.
    """

    def __init__(
        self,
        layers: NDArray[Any],
        data: Data,
        n_samples: int,
        loss: Any,
        alpha: float,
        dtype: Any,
        n_jobs: int | None = None,
    ) -> None:
        self.layers, self.data, self.n_samples = layers, data, n_samples
        self.loss, self.alpha, self.dtype = loss, float(alpha), np.dtype(dtype)
        self.n_parameters = n_parameters(layers)
        self.n_passes = 0
        plan = data_plan(
            layers, data, n_samples, loss, self.alpha, dtype,
            block_rows(layers, n_samples, dtype), gather=False,
        )  # fmt: skip
        work = multiplications(layers, n_samples)
        n_threads = threads_worth(work, n_jobs, LEAST_A_PASS)
        self._plans = plans_of_team(plan, team_size(n_threads, plan["rows"]))
        self._grad = np.empty(self.n_parameters, dtype)
        self._nothing = np.empty(0, dtype)
        self._seen: tuple[NDArray[Any], tuple[float, float]] | None = None

    def terms(self, w: NDArray[Any], grad: NDArray[Any]) -> tuple[float, float]:
        """Data term and penalty at ``w``; the gradient goes to ``grad`` unless that is empty."""
        w = np.ascontiguousarray(w, self.dtype)
        if w.shape != (self.n_parameters,):
            raise ValueError(f"w must have the shape ({self.n_parameters},), got {w.shape}.")
        self.n_passes += 1
        for plan in self._plans:
            plan.set(w=w, grad=grad)
        with reserved(len(self._plans)) as n_threads, np.errstate(all="ignore"):
            return together(objective, self._plans, n_threads, grad.size > 0)

    def fun(self, w: NDArray[Any]) -> float:
        """Value at ``w``, an array of shape (n,)."""
        return sum(self.terms(w, self._nothing))

    def fun_and_grad(self, w: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient (n,) at ``w``, an array of shape (n,)."""
        terms, grad = self.terms_and_grad(w)
        return sum(terms), grad.astype(np.float64)

    def terms_and_grad(self, w: NDArray[Any]) -> tuple[tuple[float, float], NDArray[Any]]:
        """Data term and penalty, and the gradient in the precision of the data.

        Asking again for the same ``w`` costs nothing.  The gradient is overwritten by the next
        evaluation.
        """
        if self._seen is None or not np.array_equal(self._seen[0], w):
            self._seen = np.array(w), self.terms(w, self._grad)
        return self._seen[1], self._grad

"""The whole training problem as a function of the flat parameter vector."""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd._jit import compile_by_two, is_at_hand
from fastgd._threads import allowed_threads, reserved, threads_worth
from fastgd.kernels.curvature import hessian_product, plans_of_direction
from fastgd.kernels.gemm import product_entries
from fastgd.kernels.jacobian import jacobian, normal_equations
from fastgd.kernels.layout import multiplications, n_parameters, plan_of_helper, team_size
from fastgd.kernels.linalg import outer_entry
from fastgd.kernels.losses import SquaredError
from fastgd.kernels.network import Data, compile_objective, objective, objective_types
from fastgd.kernels.plan import Plan
from fastgd.kernels.samples import block_rows, data_plan, tasks_of_plan
from fastgd.kernels.team import together
from fastgd.solvers.memory import require_memory

# Multiplications of a pass over the data from which another thread is worth its start.
LEAST_A_PASS = 20_000_000
# A block of rows of the Jacobian takes about this many bytes.
JACOBIAN_BYTES = 2**22


class NormalEquations(NamedTuple):
    """Where the model ½ ‖r + J p‖² of the objective comes from.

    Attributes
    ----------
    fun : float
        ½ ‖r‖².
    grad : ndarray of shape (n,)
        Jᵀr.
    matrix : ndarray of shape (n, n)
        JᵀJ; only its lower triangle is filled in.
    """

    fun: float
    grad: NDArray[np.float64]
    matrix: NDArray[Any]


class Objective:
    """The training objective of a network as a function of its parameters.

    ``fun(w) = Σᵢ sᵢ loss(xᵢ, yᵢ) / Σᵢ sᵢ + alpha / 2 · ‖weights‖² / Σᵢ sᵢ``, the loss being summed
    over outputs, with its derivatives.  Made by ``objective(X, y)`` of an estimator.  Whatever
    works on a function of a vector can train the network with it: SciPy's methods, our solvers,
    one's own.  The kernels work in the precision of the data; what they are given and what they
    return is float64, but for the matrix of ``normal_equations``.

    An objective works with buffers of its own and serves one thread at a time; another one that
    comes meanwhile waits.

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
    x0 : ndarray of shape (n,), default=None
        Where to begin; zeros if there is none.

    Attributes
    ----------
    x0 : ndarray of shape (n,), float64
        The parameters to begin with: all weight matrices, then all biases.
    n_parameters : int
        Length n of the parameter vector.
    counts : dict of str to int
        Number of evaluations of each kind so far; what was remembered is none.
    n_passes : int
        Number of passes over the data so far, by any method.

    Examples
    --------
    >>> import numpy as np, scipy.optimize
    >>> from fastgd import MLPRegressor
    >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
    >>> net = MLPRegressor(hidden_layer_sizes=(3,), activation="tanh", random_state=0)
    >>> f = net.objective(X, X.ravel() ** 2)
    >>> result = scipy.optimize.minimize(
    ...     f.fun_and_grad, f.x0, jac=True, hessp=f.hessp, method="trust-ncg")
    >>> net = net.set_weights(result.x)
    >>> bool(net.score(X, X.ravel() ** 2) > 0.99)
    True
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
        x0: NDArray[Any] | None = None,
    ) -> None:
        self.layers, self.data, self.n_samples = layers, data, n_samples
        self.loss, self.alpha, self.dtype = loss, float(alpha), np.dtype(dtype)
        self.n_parameters = n_parameters(layers)
        self.x0 = np.zeros(self.n_parameters) if x0 is None else x0.astype(np.float64)
        self._lock = threading.RLock()
        self.n_passes = 0
        self.counts = dict.fromkeys(
            ("fun", "fun_and_grad", "hessp", "gauss_newton_product", "hess", "residuals", "jac",
             "normal_equations"), 0,
        )  # fmt: skip
        self._n_jobs = n_jobs
        rows = block_rows(layers, n_samples, dtype)
        self._compile(rows)
        self._plans = self._team(rows)
        self._grad = np.empty(self.n_parameters, dtype)
        self._nothing = np.empty(0, dtype)
        self._seen: tuple[NDArray[Any], tuple[float, float]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Plans hold addresses in this process, and their buffers belong to one objective.
        made_of = (
            self.layers, self.data, self.n_samples, self.loss, self.alpha, self.dtype,
            self._n_jobs, self.x0,
        )  # fmt: skip
        return type(self), made_of, {"counts": dict(self.counts), "n_passes": self.n_passes}

    def __repr__(self) -> str:
        sizes = "-".join(str(n) for n in (self.layers["n_in"][0], *self.layers["n_out"]))
        return (
            f"<Objective of a network {sizes} with {self.n_parameters} parameters,"
            f" {type(self.loss).__name__} on {self.n_samples} samples, {self.dtype}>"
        )

    # Value and gradient.

    def fun(self, w: NDArray[Any]) -> float:
        """Value at ``w``, an array of shape (n,)."""
        return sum(self.terms(w))

    def terms(self, w: NDArray[Any]) -> tuple[float, float]:
        """Data term and penalty, whose sum is the value."""
        with self._lock:
            if self._seen is not None and np.array_equal(self._seen[0], w):
                return self._seen[1]
            self.counts["fun"] += 1
            return self._terms(self._checked("w", w), self._nothing)

    def grad(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """Gradient (n,) at ``w``; costs nothing where ``fun_and_grad`` has just been."""
        return self.fun_and_grad(w)[1]

    def fun_and_grad(self, w: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient (n,) at ``w``, an array of shape (n,)."""
        with self._lock:
            terms, grad = self.terms_and_grad(w)
            return sum(terms), grad.astype(np.float64)

    def terms_and_grad(self, w: NDArray[Any]) -> tuple[tuple[float, float], NDArray[Any]]:
        """Data term and penalty, and the gradient in the precision of the data.

        Asking again for the same ``w`` costs nothing.  The gradient is overwritten by the next
        evaluation.
        """
        if self._seen is None or not np.array_equal(self._seen[0], w):
            self.counts["fun_and_grad"] += 1
            self._seen = None
            terms = self._terms(self._checked("w", w), self._grad)
            self._seen = np.array(w), terms
        return self._seen[1], self._grad

    def _terms(self, w: NDArray[Any], grad: NDArray[Any]) -> tuple[float, float]:
        for plan in self._plans:
            plan.set(w=w, grad=grad)
        return self._run(objective, self._plans, grad.size > 0)

    # Curvature.

    def hessp(self, w: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
        """Product (n,) of the Hessian at ``w`` with a direction ``v``, both of shape (n,).

        Exact, by the R-operator (Pearlmutter 1994), for less than the cost of three gradients.
        At the kinks of relu or of a hinge loss it is the Hessian of the sides.

        Raises
        ------
        ValueError
            The loss is one's own and has no method ``hessian_product``.
        """
        self.counts["hessp"] += 1
        return self._product(w, v, exact=True)

    def gauss_newton_product(self, w: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
        """Product of the generalised Gauss–Newton matrix at ``w`` with ``v`` (Schraudolph 2002).

        The Hessian without the second derivatives of the network; for the squared error it is
        ``jac(w).T @ jac(w) @ v``.  Positive semidefinite where the loss is convex.
        """
        self.counts["gauss_newton_product"] += 1
        return self._product(w, v, exact=False)

    def _product(self, w: NDArray[Any], v: NDArray[Any], exact: bool) -> NDArray[np.float64]:
        w, v = self._checked("w", w), self._checked("v", v)
        product = np.empty(self.n_parameters, self.dtype)
        with self._lock:
            for plan, direction in zip(self._plans, self._directions, strict=True):
                plan.set(w=w)
                direction.set(w=v, grad=product)
            self._run(hessian_product, self._plans, exact)
        return product.astype(np.float64)

    @functools.cached_property
    def _directions(self) -> list[Plan]:
        return plans_of_direction(self._plans, self.loss)

    def hess(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """The Hessian (n, n) at ``w``: n products, for small networks.

        Raises
        ------
        MemoryError
            The matrix would not fit into memory.
        """
        n = self.n_parameters
        require_memory(8 * n * n, f"The Hessian of {n} parameters")
        self.counts["hess"] += 1
        matrix, direction = np.empty((n, n)), np.zeros(n)
        for i in range(n):
            direction[i] = 1.0
            matrix[i] = self._product(w, direction, exact=True)
            direction[i] = 0.0
        for i in range(n):  # row by row, which needs no second matrix
            mean = 0.5 * (matrix[i, i:] + matrix[i:, i])
            matrix[i, i:] = matrix[i:, i] = mean
        return matrix

    # The squared error as a sum of squares.

    def residuals(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """Residuals r with ``fun(w) = ½ ‖r‖²``, for the squared error.

        ``√(sᵢ / Σs) (zᵢ − yᵢ)``, row after row, and ``√(alpha / Σs)`` times each weight if there is
        a penalty: what ``scipy.optimize.least_squares(f.residuals, f.x0, f.jac)`` takes.

        Raises
        ------
        ValueError
            The loss is not the squared error.
        """
        self.counts["residuals"] += 1
        return self._residuals_and_jacobian(w, with_jacobian=False)[0]

    def jac(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """Derivatives of ``residuals`` at ``w``, one row for each.

        Raises
        ------
        MemoryError
            The matrix would not fit into memory.
        """
        self.counts["jac"] += 1
        return self._residuals_and_jacobian(w, with_jacobian=True)[1]

    def normal_equations(self, w: NDArray[Any]) -> NormalEquations:
        """½ ‖r‖², Jᵀr and JᵀJ at ``w``, for the squared error.

        Rows of J are made block by block, so besides N K residuals memory grows with n² alone.

        Raises
        ------
        MemoryError
            The matrix would not fit.
        """
        self.counts["normal_equations"] += 1
        n, n_weights = self.n_parameters, self._n_weights
        w = self._checked("w", w)
        plans = self._least_squares_plans
        rows = plans[0]["rows"]
        require_memory(self.dtype.itemsize * n * n, f"JᵀJ of {n} parameters")
        residuals = np.empty((self.n_samples, self._n_outputs), self.dtype)
        matrix = np.empty((n, n), self.dtype)
        block = np.empty((rows * self._n_outputs, n), self.dtype)
        with self._lock:
            for plan in plans:
                plan.set(w=w, out=residuals, jacobian=block, normal=matrix)
            self._run(normal_equations, plans)
            value, gradient = self.fun_and_grad(w)
        matrix[np.arange(n_weights), np.arange(n_weights)] += self._penalty_weight
        return NormalEquations(value, gradient, matrix)

    def _residuals_and_jacobian(
        self, w: NDArray[Any], with_jacobian: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n, n_data = self.n_parameters, self.n_samples * self._n_outputs
        n_penalised = self._n_weights if self.alpha > 0.0 else 0
        w, plans = self._checked("w", w), self._least_squares_plans
        n_rows = n_data + n_penalised if with_jacobian else 0
        copy = 0 if self.dtype == np.float64 else 8
        require_memory(
            (self.dtype.itemsize + copy) * n_rows * n, f"The Jacobian of {n_rows} residuals"
        )
        residuals = np.empty(n_data + n_penalised, self.dtype)
        derivatives = np.empty((n_rows, n), self.dtype)
        with self._lock:
            for plan in plans:
                plan.set(w=w, out=residuals, jacobian=derivatives)
            self._run(jacobian, plans, with_jacobian)
        root = np.sqrt(self._penalty_weight)
        residuals[n_data:] = root * w[:n_penalised]
        if with_jacobian:
            derivatives[n_data:] = 0
            derivatives[n_data + np.arange(n_penalised), np.arange(n_penalised)] = root
        return residuals.astype(np.float64), derivatives.astype(np.float64, copy=False)

    @functools.cached_property
    def _least_squares_plans(self) -> list[Plan]:
        if not isinstance(self.loss, SquaredError):
            raise ValueError(
                "Only the squared error is a sum of squares of residuals, but the loss is"
                f" {type(self.loss).__name__}."
            )
        of_a_sample = self._n_outputs * self.n_parameters * self.dtype.itemsize
        most = block_rows(self.layers, self.n_samples, self.dtype)
        plans = self._team(int(np.clip(JACOBIAN_BYTES // of_a_sample, 16, most)))
        for plan in plans:
            # The sums of JᵀJ are over the rows of a block.
            longest = max(plan["rows"] * self._n_outputs, int(self.layers["n_in"].max()))
            plan.set(
                outer=outer_entry(self.data.X, self.dtype),
                **product_entries(self.dtype, max(longest, int(self.layers["n_out"].max()))),
            )
        return plans

    # What all of them need.

    def _compile(self, rows: int) -> None:
        """Let two processes compile what an evaluation calls, if it is not on disk."""
        is_there = is_at_hand(objective, objective_types(self.dtype))
        if not is_there and allowed_threads(self._n_jobs) > 1:
            tasks = tasks_of_plan(self.layers, self.data, self.loss, self.dtype, rows)
            compile_by_two([functools.partial(compile_objective, self.dtype), *tasks])

    def _team(self, rows: int) -> list[Plan]:
        """Plans for as many threads as are worth it, with buffers for blocks of ``rows``."""
        plan = data_plan(
            self.layers, self.data, self.n_samples, self.loss, self.alpha, self.dtype, rows,
            gather=False,
        )  # fmt: skip
        work = multiplications(self.layers, self.n_samples)
        size = team_size(threads_worth(work, self._n_jobs, LEAST_A_PASS), rows)
        return [plan, *(plan_of_helper(plan) for _ in range(1, size))]

    def _run(self, kernel: Any, plans: list[Plan], *arguments: Any) -> Any:
        """Let a team make one pass over the data."""
        self.n_passes += 1
        with reserved(len(plans)) as n_threads, np.errstate(all="ignore"):
            return together(kernel, plans, n_threads, *arguments)

    def _checked(self, name: str, vector: NDArray[Any]) -> NDArray[Any]:
        if np.iscomplexobj(vector):
            raise ValueError(f"{name} must be real, got complex numbers.")
        vector = np.ascontiguousarray(vector, self.dtype)
        if vector.shape != (self.n_parameters,):
            raise ValueError(
                f"{name} must have the shape ({self.n_parameters},), got {vector.shape}."
            )
        return vector

    @property
    def _n_outputs(self) -> int:
        return int(self.layers["n_out"][-1])

    @property
    def _n_weights(self) -> int:
        return int(self.layers["biases"][0])

    @property
    def _penalty_weight(self) -> float:
        weight = self.data.weight
        return self.alpha / float(weight.sum(dtype=np.float64) if weight.size else self.n_samples)

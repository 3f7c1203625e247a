"""Solving with a symmetric matrix, if it is positive definite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd.kernels.cholesky import solve_in_place


def solve_definite(
    matrix: NDArray[Any], shift: float, right: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Solve (A + shift I) x = right by Cholesky's factorisation.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        A; only its lower triangle is looked at.
    shift : float
    right : ndarray of shape (n,)

    Returns
    -------
    x : ndarray of shape (n,) or None
        None where the matrix is not positive definite to working precision, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> solve_definite(np.diag([1.0, 3.0]), 1.0, np.array([2.0, 8.0]))
    array([1., 2.])
    """
    shifted = np.array(matrix, np.float64, order="C")
    shifted[np.diag_indices_from(shifted)] += shift
    solution = np.array(right, np.float64)
    if not solve_in_place(shifted, solution):
        return None
    return solution if np.isfinite(solution).all() else None

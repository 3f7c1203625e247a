"""Solving with a symmetric matrix, if it is positive definite."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from fastgd._threads import one_blas_thread


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
    """
    shifted = matrix.astype(np.float64)
    shifted[np.diag_indices_from(shifted)] += shift
    try:
        with one_blas_thread():
            factor = scipy.linalg.cho_factor(
                shifted, lower=True, overwrite_a=True, check_finite=False
            )
            solution = scipy.linalg.cho_solve(factor, right, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    return solution if np.isfinite(solution).all() else None

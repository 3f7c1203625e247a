"""Solving with a symmetric positive definite matrix, by Cholesky's factorisation.

LAPACK's is faster on a quiet machine, but its threads wait for each other where another process has
a processor (a matrix of 300 rows then takes 100 ms instead of 0.3), and their number can only be
changed for everybody.
"""

from __future__ import annotations

import math

from fastgd._jit import njit


@njit(entry=True, reduction=True)
def solve_in_place(matrix, x):
    """Replace x (n,) by the solution of A x = b; False if A is not positive definite.

    Of A (n, n) the lower triangle is looked at, and overwritten by its factor, row by row.
    """
    n = x.size
    for i in range(n):
        row = matrix[i]
        for j in range(i + 1):
            other = matrix[j]
            total = 0.0
            for k in range(j):
                total += row[k] * other[k]
            rest = row[j] - total
            if j < i:
                row[j] = rest / other[j]
            elif rest > 0.0:  # which NaN is not
                row[i] = math.sqrt(rest)
            else:
                return False
        total = 0.0
        for k in range(i):
            total += row[k] * x[k]
        x[i] = (x[i] - total) / row[i]
    for i in range(n - 1, -1, -1):
        row = matrix[i]
        x[i] /= row[i]
        for k in range(i):
            x[k] -= row[k] * x[i]
    return True

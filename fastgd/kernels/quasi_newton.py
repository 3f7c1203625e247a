"""The matrix of quasi-Newton methods: one pass that updates it and multiplies it by a vector."""

from __future__ import annotations

from fastgd._jit import njit


@njit(entry=True, reduction=True)
def update_and_multiply(matrix, s, h, once, twice, g, product):
    """``H ← H − once (s hᵀ + h sᵀ) + twice s sᵀ`` by its lower triangle; ``product = H g``."""
    n = g.size
    for i in range(n):
        row = matrix[i]
        of_h, of_s = once * s[i], once * h[i] - twice * s[i]
        total, factor = 0.0, g[i]
        for j in range(i):
            element = row[j] - of_h * h[j] - of_s * s[j]
            row[j] = element
            total += element * g[j]
            product[j] += element * factor
        row[i] = row[i] - of_h * h[i] - of_s * s[i]
        product[i] += total + row[i] * factor

"""Matrix products on flat buffers, and the two kinds of input matrix: dense and CSR.

Shape letters: N samples, B rows of a batch, D features, H outputs of a layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.np.arrayobj import make_array
from numba.np.linalg import ensure_blas
from numpy.typing import NDArray

from fastgd._jit import dispatch_on_class, njit

# Numba looks for a BLAS when it compiles a product of its own, which it never does here.
ensure_blas()


@intrinsic
def gemm(
    typingctx, transpose_a, transpose_b, m, n, k, alpha, a, ia, lda, b, ib, ldb, beta, c, ic, ldc
):
    """``C = alpha op(A) op(B) + beta C`` for row-major matrices inside flat arrays.

    This is the BLAS behind ``np.dot``, with everything that ``np.dot`` hides.

    Parameters
    ----------
    transpose_a, transpose_b : bool
        Whether op transposes.
    m, n, k : int
        op(A) is (m, k), op(B) is (k, n) and C is (m, n); all at least 1.
    alpha, beta : float
        Scalars; they are cast to the arrays' precision.
    a, b, c : ndarray of one dtype, float32 or float64
        Flat arrays that hold the matrices.
    ia, ib, ic : int
        Where each matrix begins.
    lda, ldb, ldc : int
        Elements from one row to the next.
    """
    dtype = c.dtype
    if a.dtype != dtype or b.dtype != dtype:
        return None
    flags, sizes = (types.boolean,) * 2, (types.intp,) * 3
    place = (types.intp,) * 2
    signature = types.void(*flags, *sizes, dtype, a, *place, b, *place, dtype, c, *place)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        char, size, pointer = ir.IntType(8), ir.IntType(64), cgutils.voidptr_t
        kind = ir.Constant(char, ord("s" if dtype == types.float32 else "d"))

        def flag(value: Any) -> Any:
            yes, no = ir.Constant(char, ord("t")), ir.Constant(char, ord("n"))
            return builder.select(value, yes, no)

        def address(array_type: Any, array: Any, offset: Any) -> Any:
            data = make_array(array_type)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [offset]), pointer)

        def slot(value: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, value), pointer)

        (ta, tb, m, n, k, alpha, a, ia, lda, b, ib, ldb, beta, c, ic, ldc) = args
        signature = [char] * 3 + [size] * 3
        signature += [pointer, pointer, size] + [pointer, size, pointer] + [pointer, size]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), signature), "numba_xxgemm"
        )
        # BLAS counts by columns: the transpose of a row-major product, operands exchanged.
        builder.call(
            function,
            [
                kind, flag(tb), flag(ta), n, m, k, slot(alpha),
                address(sig.args[9], b, ib), ldb,
                address(sig.args[6], a, ia), lda,
                slot(beta), address(sig.args[13], c, ic), ldc,
            ],
        )  # fmt: skip

    return signature, codegen


class Dense(NamedTuple):
    """A C-contiguous matrix (N, D) as one flat array."""

    values: NDArray[Any]
    n_features: int

    def affine(self, order, first, n_rows, w, layer, buffer, out, start):
        """``out[start:] = X[rows] W + b``; gathered rows stay in ``buffer``."""
        d = self.n_features
        h = layer.n_out
        fill_rows(w, layer.biases, n_rows, h, out, start)
        if order.size == 0:
            gemm(
                False, False, n_rows, h, d, 1.0, self.values, first * d, d,
                w, layer.weights, h, 1.0, out, start, h,
            )  # fmt: skip
        else:
            for i in range(n_rows):
                source = order[first + i] * d
                target = i * d
                for j in range(d):
                    buffer[target + j] = self.values[source + j]
            gemm(
                False, False, n_rows, h, d, 1.0, buffer, 0, d,
                w, layer.weights, h, 1.0, out, start, h,
            )  # fmt: skip

    def accumulate(self, order, first, n_rows, scale, keep, delta, buffer, grad, layer):
        """``grad = scale X[rows]ᵀ delta + keep grad``, after ``affine`` on the same rows."""
        d = self.n_features
        h = layer.n_out
        if order.size == 0:
            gemm(
                True, False, d, h, n_rows, scale, self.values, first * d, d,
                delta, 0, h, keep, grad, layer.weights, h,
            )  # fmt: skip
        else:
            gemm(
                True, False, d, h, n_rows, scale, buffer, 0, d,
                delta, 0, h, keep, grad, layer.weights, h,
            )  # fmt: skip


class CSR(NamedTuple):
    """A sparse matrix (N, D) in compressed rows, never made dense."""

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]
    n_features: int

    def affine(self, order, first, n_rows, w, layer, buffer, out, start):
        """``out[start:] = X[rows] W + b``."""
        h = layer.n_out
        fill_rows(w, layer.biases, n_rows, h, out, start)
        for i in range(n_rows):
            row = order[first + i] if order.size > 0 else first + i
            target = start + i * h
            for p in range(self.indptr[row], self.indptr[row + 1]):
                value = self.data[p]
                source = layer.weights + np.int64(self.indices[p]) * h
                for j in range(h):
                    out[target + j] += value * w[source + j]

    def accumulate(self, order, first, n_rows, scale, keep, delta, buffer, grad, layer):
        """``grad = scale X[rows]ᵀ delta + keep grad``; ``keep`` is 0 or 1."""
        h = layer.n_out
        if keep == 0.0:
            for p in range(layer.weights, layer.weights + self.n_features * h):
                grad[p] = 0
        factor = grad.dtype.type(scale)
        for i in range(n_rows):
            row = order[first + i] if order.size > 0 else first + i
            source = i * h
            for p in range(self.indptr[row], self.indptr[row + 1]):
                value = factor * self.data[p]
                target = layer.weights + np.int64(self.indices[p]) * h
                for j in range(h):
                    grad[target + j] += value * delta[source + j]


@njit
def fill_rows(w, biases, n_rows, h, out, start):
    """Write the bias vector into each row, so that the product can add to it."""
    for i in range(n_rows):
        target = start + i * h
        for j in range(h):
            out[target + j] = w[biases + j]


@dispatch_on_class
def affine(x, order, first, n_rows, w, layer, buffer, out, start):
    """``out = X[rows] W + b`` for either kind of matrix; rows are ``order[first:]``,
    or ``first, first + 1, …`` where ``order`` is empty.
    """
    x.affine(order, first, n_rows, w, layer, buffer, out, start)


@dispatch_on_class
def accumulate(x, order, first, n_rows, scale, keep, delta, buffer, grad, layer):
    """``grad = scale X[rows]ᵀ delta + keep grad`` for either kind of matrix."""
    x.accumulate(order, first, n_rows, scale, keep, delta, buffer, grad, layer)

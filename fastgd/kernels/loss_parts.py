"""How kernels call a loss: its methods, chosen by its class, and the parts compiled of them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from fastgd._jit import dispatch_on_class
from fastgd.kernels.parts import (
    NOTHING,
    Part,
    link_signature,
    loss_curvature_signature,
    loss_signature,
    make_part,
)
from fastgd.kernels.plan import array_at

# Rows of at most so many outputs fit into registers, several side by side; of fewer than FEW rows
# each comes alone.
LANES, FEW = (4, 8, 16, 32), 4


@dispatch_on_class
def value_and_delta(loss, z, y, weight, n_rows, k, delta):
    """Weighted sum of ``loss`` over ``n_rows`` rows; its derivatives go to ``delta``."""
    return loss.value_and_delta(z, y, weight, n_rows, k, delta)


def narrow_name(lanes: int, alone: bool) -> str:
    """Name of the method for at most ``lanes`` outputs, of losses that have a faster way then."""
    return f"value_and_delta_{lanes}{'_alone' if alone else ''}"


@dispatch_on_class
def pointwise(loss, z, y):
    """Value and derivative of ``loss`` at one raw output."""
    return loss.pointwise(z, y)


@dispatch_on_class
def hessian_product(loss, z, y, weight, n_rows, k, t):
    """Replace the rows of ``t`` by their products with the second derivatives of ``loss``."""
    loss.hessian_product(z, y, weight, n_rows, k, t)


@dispatch_on_class
def curvature(loss, z, y):
    """Second derivative of ``loss`` at one raw output."""
    return loss.curvature(z, y)


@dispatch_on_class
def link(loss, z, n_rows, k):
    """Replace raw outputs by the predictions that ``loss`` makes of them."""
    loss.link(z, n_rows, k)


def identity_link(self, z, n_rows, k):
    """Raw outputs are the predictions."""


def loss_part(loss: Any, dtype: Any, k: int, n_rows: int) -> Part:
    """What training calls for a loss of ``k`` outputs and batches of ``n_rows``."""
    signature = loss_signature(numba.from_dtype(np.dtype(dtype)))
    name = narrow_name(min((lanes for lanes in LANES if k <= lanes), default=0), n_rows < FEW)
    if name in _NARROW_PARTS and _definer(loss, name) is _definer(loss, "value_and_delta"):
        return make_part(loss, _NARROW_PARTS[name], name, signature)
    return make_part(loss, _loss_part, "value_and_delta", signature)


def _definer(loss: Any, method: str) -> type | None:
    """The class that a method comes from: who overrides one of two means the other one as well."""
    return next((cls for cls in type(loss).__mro__ if method in vars(cls)), None)


def loss_curvature_part(loss: Any, dtype: Any) -> Part:
    """What second-order methods call for a loss.

    Raises
    ------
    ValueError
        The loss does not know its second derivatives.
    """
    if not hasattr(loss, "hessian_product"):
        raise ValueError(
            f"The loss {type(loss).__name__} has no method hessian_product, which this needs; take"
            " a solver that needs only gradients, or add the method."
        )
    signature = loss_curvature_signature(numba.from_dtype(np.dtype(dtype)))
    return make_part(loss, _loss_curvature_part, "hessian_product", signature)


def link_part(loss: Any, dtype: Any) -> Part:
    """What prediction calls for a loss."""
    if getattr(loss, "link", None) is identity_link:
        return NOTHING
    return make_part(loss, _link_part, "link", link_signature(numba.from_dtype(np.dtype(dtype))))


def _loss_part(rebuild: Any, cls: type) -> Any:
    return _loss_function(rebuild, cls, value_and_delta)


def _loss_curvature_part(rebuild: Any, cls: type) -> Any:
    return _loss_function(rebuild, cls, hessian_product)


def _loss_function(rebuild: Any, cls: type, method: Any) -> Any:
    if getattr(cls, "class_numbers", False):

        def run(fields, z, y, weight, n_rows, k, result):
            numbers = array_at(y, n_rows, np.int64(0))
            return method(rebuild(fields), z, numbers, weight, n_rows, k, result)

    else:

        def run(fields, z, y, weight, n_rows, k, result):
            numbers = array_at(y, n_rows * k, z[0])
            return method(rebuild(fields), z, numbers, weight, n_rows, k, result)

    return run


def _link_part(rebuild: Any, cls: type) -> Any:
    def run(fields, z, n_rows, k):
        link(rebuild(fields), z, n_rows, k)

    return run


def _narrow_part(name: str) -> Any:
    def value_and_delta(loss, z, y, weight, n_rows, k, delta):
        return getattr(loss, name)(z, y, weight, n_rows, k, delta)

    value_and_delta.__name__ = name
    dispatch_on_class(value_and_delta)

    def part(rebuild: Any, cls: type) -> Any:
        return _loss_function(rebuild, cls, value_and_delta)

    return part


NARROW_NAMES = {
    narrow_name(lanes, alone): (lanes, alone) for lanes in LANES for alone in (False, True)
}
_NARROW_PARTS = {name: _narrow_part(name) for name in NARROW_NAMES}

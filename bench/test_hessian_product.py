"""How long is a product with the Hessian, and a gradient beside it?"""

import pytest

from bench import hessian_product

NAMES = ["fastgd", "PyTorch", "JAX", hessian_product.GRADIENT, hessian_product.GAUSS_NEWTON]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cell", hessian_product.CELLS, ids=str)
def test_hessian_product(race, cell, name):
    race(lambda: hessian_product.contest(cell), name)

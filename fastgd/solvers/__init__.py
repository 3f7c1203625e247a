"""Methods that see the whole objective, and the table of their names."""

from fastgd.solvers.bfgs import scipy_bfgs
from fastgd.solvers.lbfgs import lbfgs
from fastgd.solvers.objective import Objective

SOLVERS = {
    "lbfgs": lbfgs,
    "scipy-bfgs": scipy_bfgs,
}

__all__ = ["SOLVERS", "Objective", "lbfgs", "scipy_bfgs"]

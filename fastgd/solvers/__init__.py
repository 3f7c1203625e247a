"""Methods that see the whole objective, one file each, and the table of their names.

A solver is a function ``solve(objective, x0, *, maxiter, maxfun, tol, random_state, callback)``
that returns SciPy's ``OptimizeResult``.  ``callback(intermediate_result)`` hears of each iteration,
and raises ``StopIteration`` to end it.
"""

from collections.abc import Callable
from typing import Any

from fastgd.solvers.bfgs import bfgs, minimize_bfgs
from fastgd.solvers.differential_evolution import differential_evolution
from fastgd.solvers.dual_annealing import dual_annealing
from fastgd.solvers.lbfgs import lbfgs
from fastgd.solvers.levenberg_marquardt import levenberg_marquardt
from fastgd.solvers.newton import newton
from fastgd.solvers.newton_cg import newton_cg
from fastgd.solvers.objective import Objective
from fastgd.solvers.scipy_bfgs import scipy_bfgs
from fastgd.solvers.trust_exact import trust_exact
from fastgd.solvers.trust_krylov import trust_krylov

SOLVERS: dict[str, Callable[..., Any]] = {
    "lbfgs": lbfgs,
    "bfgs": bfgs,
    "scipy-bfgs": scipy_bfgs,
    "newton": newton,
    "newton-cg": newton_cg,
    "trust-krylov": trust_krylov,
    "trust-exact": trust_exact,
    "levenberg-marquardt": levenberg_marquardt,
    "differential-evolution": differential_evolution,
    "dual-annealing": dual_annealing,
}

# Between evaluations these compute with vectors alone: threads of BLAS would only disturb ours.
OF_VECTORS = frozenset({"lbfgs", "newton-cg", "trust-krylov"})

__all__ = [
    "OF_VECTORS",
    "SOLVERS",
    "Objective",
    "bfgs",
    "differential_evolution",
    "dual_annealing",
    "lbfgs",
    "levenberg_marquardt",
    "minimize_bfgs",
    "newton",
    "newton_cg",
    "scipy_bfgs",
    "trust_exact",
    "trust_krylov",
]

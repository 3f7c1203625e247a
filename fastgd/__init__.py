"""Fast neural networks on the CPU behind scikit-learn's interface."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgd import datasets, losses, optimizers
    from fastgd.comparison import Comparison, compare
    from fastgd.neural_network import MLPClassifier, MLPRegressor
    from fastgd.solvers import Objective, minimize_bfgs

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "MLPClassifier",
    "MLPRegressor",
    "Objective",
    "__version__",
    "compare",
    "datasets",
    "losses",
    "minimize_bfgs",
    "optimizers",
]

# Where they are.  Imported when they are asked for: who only trains should not wait for what only
# comparisons import, nor a process that only compiles for scikit-learn.
_HOMES = {
    "Comparison": "comparison",
    "MLPClassifier": "neural_network",
    "MLPRegressor": "neural_network",
    "Objective": "solvers",
    "compare": "comparison",
    "minimize_bfgs": "solvers",
}


if not TYPE_CHECKING:  # which would then take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"fastgd.{_HOMES[name]}"), name)
        if name in __all__ or name in _HOMES.values():
            return importlib.import_module(f"fastgd.{name}")
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

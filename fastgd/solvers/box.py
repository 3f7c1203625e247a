"""Where the global searches look: a box around zero that the initial weights decide."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

# Trained weights of small networks stay within some times the size of the initial ones.
TIMES_INITIAL = 10.0
# Parameters from which a search of the whole box is hopeless.
MANY = 200


def search_box(x0: NDArray[Any], solver: str) -> scipy.optimize.Bounds:
    """The same interval for all parameters: ten times the largest initial one to both sides.

    Warns where there are too many parameters for a global search.
    """
    if x0.size > MANY:
        warnings.warn(
            f"solver={solver!r} searches a box in {x0.size} dimensions; it is meant for at most"
            f" some {MANY} parameters, and will be slow and far from the minimum. Use a solver"
            " that takes gradients, with n_init for several starts.",
            stacklevel=2,
        )
    half = TIMES_INITIAL * float(np.abs(x0).max(initial=0.0)) or 1.0
    return scipy.optimize.Bounds(np.full(x0.size, -half), np.full(x0.size, half))

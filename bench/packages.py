"""The two packages that have scikit-learn's interface."""

from __future__ import annotations

from types import ModuleType

from sklearn import neural_network

import fastgd

PACKAGES: dict[str, ModuleType] = {"fastgd": fastgd, "scikit-learn": neural_network}

"""Optimizers side by side, fairly: problems, the protocol, tables, profiles and a page.

The protocol follows DeepOBS, Schmidt et al. 2021 (arXiv 2007.01547), AlgoPerf (arXiv 2502.15015),
Sivaprasad et al. 2020 (arXiv 1910.11758), Choi et al. 2019 (arXiv 1910.05446), Dolan & Moré 2002,
Moré & Wild 2009:

- A seed fixes initial weights, split and order of batches, the same for every solver.
- Cost is counted in passes over the data and in seconds, compilation and evaluation apart.
- Two tracks: declared settings, or settings tuned with equal trials and seconds on other seeds.
- Two modes: by the training objective, or by validation samples; test samples are reported only.
- A target is reached when a share of the way from the initial to the lowest known objective is
  left; a miss is ∞, and divergence and time-outs are counted, never dropped.
"""

from fastgd.comparison.compare import compare
from fastgd.comparison.problems import (
    PROBLEMS,
    SUITES,
    FunctionProblem,
    NetworkProblem,
)
from fastgd.comparison.result import Comparison
from fastgd.comparison.runs import Run
from fastgd.comparison.solvers import SOLVERS, Solver
from fastgd.comparison.watch import Budget

__all__ = [
    "PROBLEMS",
    "SOLVERS",
    "SUITES",
    "Budget",
    "Comparison",
    "FunctionProblem",
    "NetworkProblem",
    "Run",
    "Solver",
    "compare",
]

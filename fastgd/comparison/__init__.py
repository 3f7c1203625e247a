"""Optimizers side by side: problems, runs, and the table of results."""

from fastgd.comparison.problems import PROBLEMS, Problem, load_problem
from fastgd.comparison.runs import Run, run_solver
from fastgd.comparison.solvers import SOLVERS, Solver
from fastgd.comparison.table import results_table

__all__ = [
    "PROBLEMS",
    "SOLVERS",
    "Problem",
    "Run",
    "Solver",
    "load_problem",
    "results_table",
    "run_solver",
]

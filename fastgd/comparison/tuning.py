"""The tuned track: the same number of trials and the same seconds for every solver.

Settings are drawn by a scrambled Sobol sequence, log-uniformly from the solver's declared space,
the same on every problem (Choi et al. 2019; Schmidt et al. 2021).  15 trials are 3 repetitions of
5: the score of a solver is the median over the repetitions of the best of each (Sivaprasad et al.
2020), and the settings of that median repetition go on to the final runs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import qmc

from fastgd.comparison.problems import Problem
from fastgd.comparison.runs import run_solver
from fastgd.comparison.solvers import Solver
from fastgd.comparison.watch import Budget, CostRatios

REPETITIONS = 3
TRIALS = (15, 25, 50, 75)
# Seeds of the trials; the final ones count from 0 and never come here.
FIRST_TUNING_SEED = 1_000_000
# Within this share of the log width from an end, a best value lies on the edge of its space.
EDGE = 0.05


class Trial(NamedTuple):
    """Settings and what they reached; lower is better."""

    settings: dict[str, float]
    seed: int
    score: float
    seconds: float


class Tuned(NamedTuple):
    """What tuning chose for a solver on a problem.

    Attributes
    ----------
    solver, problem : str
    settings : dict of str to float
    trials : list of Trial
    seconds : float
        Spent on all trials, and allowed.
    allowed_seconds : float
    on_edge : list of str
        Fields whose chosen value lies on the edge of the search space.
    """

    solver: str
    problem: str
    settings: dict[str, float]
    trials: list[Trial]
    seconds: float
    allowed_seconds: float
    on_edge: list[str]


def tune(
    solver: Solver, problem: Problem, n_trials: int, budget: Budget, mode: str,
    ratios: CostRatios, random_state: int,
) -> Tuned:  # fmt: skip
    """Search a solver's space; a solver without one has nothing to tune.

    Every solver has ``n_trials`` trials and ``n_trials`` times the seconds of the budget.
    """
    allowed = n_trials * budget.seconds
    trials: list[Trial] = []
    spent = 0.0
    for i, settings in enumerate(draw(solver.space, n_trials, random_state)):
        if spent >= allowed:
            break
        seed = FIRST_TUNING_SEED + i % REPETITIONS
        run = run_solver(solver, problem, seed, budget=budget, mode=mode, ratios=ratios,
                         settings=settings)  # fmt: skip
        score = run.validation_loss if mode == "learning" else run.final
        if run.status in ("diverged", "failed") or not math.isfinite(score):
            score = math.inf
        trials.append(Trial(settings, seed, score, run.seconds[-1]))
        spent += run.seconds[-1]
    best = choose(trials)
    edges = [name for name, value in best.items() if on_edge(value, *solver.space[name])]
    return Tuned(solver.name, problem.name, best, trials, spent, allowed, edges)


def draw(
    space: dict[str, tuple[float, float]], n_trials: int, random_state: int
) -> list[dict[str, float]]:
    """Points of a space on a log scale; none of an empty one."""
    if not space:
        return []
    sobol = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(random_state))
    unit = sobol.random(1 << max(n_trials - 1, 1).bit_length())[:n_trials]
    low, high = np.log(np.array(list(space.values()))).T
    points = np.exp(low + unit * (high - low))
    return [dict(zip(space, map(float, point), strict=True)) for point in points]


def choose(trials: list[Trial]) -> dict[str, float]:
    """Settings of the repetition whose best trial is the median of the best."""
    best = [
        min(part, key=lambda trial: trial.score)
        for part in (trials[i::REPETITIONS] for i in range(REPETITIONS))
        if part
    ]
    if not best:
        return {}
    return sorted(best, key=lambda trial: trial.score)[(len(best) - 1) // 2].settings


def on_edge(value: float, low: float, high: float) -> bool:
    """Whether a value lies at an end of its search space, so that a better one may lie beyond."""
    share: Any = np.log(value / low) / np.log(high / low)
    return bool(share < EDGE or share > 1 - EDGE)

"""What a comparison has shown, in plain sentences computed from its figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgd.comparison.result import Comparison


def summary(comparison: Comparison) -> list[str]:
    """Sentences: what was run, who is ahead, what could not be told apart, what went wrong."""
    rows = comparison.table("passes")
    sentences = [_what(comparison)]
    if not comparison.runs:
        return [*sentences, "No run was finished."]
    if comparison.n_missing:
        n = len(comparison.runs)
        sentences.append(f"Only {n} of {n + comparison.n_missing} runs are finished.")
    best = rows[0]["solver"]
    if not comparison.n_missing:  # which would count as misses
        sentences.append(_ahead(comparison, rows))
    sentences += [_against(comparison, best, row["solver"]) for row in rows[1:4]]
    by_seconds = comparison.table("seconds")[0]["solver"]
    if not comparison.n_missing and _wins_somewhere(comparison, by_seconds, best):
        sentences.append(f"Counted in seconds instead, {by_seconds} is ahead.")
    sentences += filter(None, map(_troubles, rows))
    for tuned in comparison.tuning:
        if tuned.on_edge:
            sentences.append(
                f"The best {', '.join(tuned.on_edge)} of {tuned.solver} on {tuned.problem} lies on"
                " the edge of its search space: a better one may lie beyond."
            )
    return sentences


def _what(comparison: Comparison) -> str:
    judged = {
        "optimisation": "by the training objective",
        "learning": "by the loss on validation samples",
    }[comparison.mode]
    settings = _tuned(comparison) if comparison.track == "tuned" else "with declared settings"
    budget = comparison.budget
    return (
        f"{_n(len(comparison.solvers), 'solver')} on {_n(len(comparison.problems), 'problem')}"
        f" with {_n(comparison.seeds, 'seed')} each, {settings}, judged {judged}; a run has"
        f" {budget.passes:g} passes over the data and at most {budget.seconds:g} seconds."
    )


def _tuned(comparison: Comparison) -> str:
    """What was tuned; a solver without a search space has nothing to tune."""
    without = [name for name in comparison.solvers if not comparison.declared[name].get("space")]
    but = f" but {', '.join(without)}, which have no search space," if without else ""
    return f"each{but} tuned with the same number of trials and the same seconds"


def _ahead(comparison: Comparison, rows: list[dict[str, Any]]) -> str:
    hardest = comparison.targets[-1]
    best = rows[0]
    if best["area"] == 0:
        return "No solver reached any target within the budget."
    solved = best["solved"]
    ties = [row["solver"] for row in rows[1:] if row["area"] == best["area"]]
    also = f" (as {', '.join(ties)})" if ties else ""
    return (
        f"Counted in passes, {best['solver']}{also} has the largest area under its performance"
        f" profile, {best['area']:.2f}; it left at most {hardest:g} of the way to the reference on"
        f" {solved[hardest]} of {len(comparison.problems)} problems."
    )


def _wins_somewhere(comparison: Comparison, first: str, second: str) -> bool:
    """Whether the first solver is shown to take fewer seconds on some problem."""
    if first == second:
        return False
    verdicts = (
        comparison.verdict(problem, first, second, "seconds") for problem in comparison.problems
    )
    return any(verdict is not None and verdict.winner == 0 for verdict in verdicts)


def _against(comparison: Comparison, best: str, other: str) -> str:
    """One solver against another, problem by problem."""
    wins = losses = ties = nothing = missing = 0
    ratios = []
    for problem in comparison.problems:
        verdict = comparison.verdict(problem, best, other)
        if not comparison.common_seeds(problem, best, other):
            missing += 1
        elif verdict is None:
            nothing += 1
        elif verdict.winner < 0:
            ties += 1
        else:
            wins += verdict.winner == 0
            losses += verdict.winner == 1
        if verdict is not None:
            ratios.append(verdict.ratio)
    n = len(comparison.problems)
    missed = "twice the budget"
    if math.isinf(comparison.budget.passes):
        missed = "twice the largest cost"
    parts = []
    if wins or losses:
        middle = math.exp(sum(map(math.log, ratios)) / len(ratios))
        parts.append(
            f"{best} needed fewer passes than {other} on {wins} of {n} problems and more on"
            f" {losses} (geometric mean of the ratio {middle:.2g}, a miss counting as"
            f" {missed})"
        )
    if ties:
        parts.append(f"on {ties} of {n} problems no difference between them could be shown")
    if nothing:
        parts.append(f"on {nothing} neither reached a target")
    if missing:
        parts.append(f"on {missing} of {n} problems runs are missing")
    sentence = "; ".join(parts)
    if not (wins or losses):
        sentence = f"{best} and {other}: {sentence}"
    return f"{sentence}."


def _troubles(row: dict[str, object]) -> str:
    said = [f"{row[what]} {what}" for what in ("diverged", "timed out", "failed") if row[what]]
    return f"Runs of {row['solver']} that ended otherwise: {', '.join(said)}." if said else ""


def _n(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

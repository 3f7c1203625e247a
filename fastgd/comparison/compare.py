"""``fastgd.compare``: who runs on what, in which order, on how many processors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import joblib

from fastgd.comparison.problems import FunctionProblem, Problem, as_problems
from fastgd.comparison.provenance import provenance
from fastgd.comparison.reference import Reference, cost_ratios, n_reached, reference
from fastgd.comparison.result import MODES, TRACKS, Comparison
from fastgd.comparison.runs import Run, failed_run, run_solver, single_threaded
from fastgd.comparison.solvers import Solver, as_solvers, description
from fastgd.comparison.tuning import FIRST_TUNING_SEED, TRIALS, Tuned, tune
from fastgd.comparison.watch import Budget

# Learning rates of the sensitivity, as multiples of the one that is used.
RATE_FACTORS = (0.1, 0.3, 3.0, 10.0)

Progress = Callable[[str, int, int], None]


def compare(
    solvers: Any = "default",
    problems: Any = "small",
    *,
    seeds: int = 10,
    budget: Budget | float | None = None,
    track: str = "default",
    mode: str = "optimisation",
    n_trials: int = TRIALS[0],
    sensitivity: bool = True,
    n_jobs: int | None = None,
    random_state: int = 0,
    resume: Comparison | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare optimizers fairly: many problems, many seeds, two cost axes.

    Every solver gets the same initial weights, splits, batches and budget.  What is measured, and
    from which publications that comes, is told in the module documentation of
    ``fastgd.comparison``.

    Parameters
    ----------
    solvers : str, update rule, callable, or a sequence of these, default="default"
        Names out of ``fastgd.comparison.SOLVERS``, update rules such as ``Adam(1e-2)``, methods
        as ``scipy.optimize.minimize`` takes them.
    problems : str, problem, tuple, or a sequence of these, default="small"
        A suite, a name, ``(estimator, X, y)``, ``(fun, grad, x0)``.
    seeds : int, default=10
        Runs of each solver on each problem.
    budget : Budget or float, default=None
        ``Budget(passes, seconds)`` of a run, or its passes; None: 100 passes and 10 seconds.
    track : {"default", "tuned"}, default="default"
        With the declared settings, or with settings that each solver is tuned to on each problem,
        all with the same number of trials and the same seconds.
    mode : {"optimisation", "learning"}, default="optimisation"
        Judge by the training objective, or by validation samples (test samples are reported only).
    n_trials : {15, 25, 50, 75}, default=15
        Of the tuned track.
    sensitivity : bool, default=True
        Whether to run the rules at other learning rates as well, on one seed.
    n_jobs : int or None, default=None
        Runs at once, by joblib, whose ``parallel_config`` chooses the backend; a run has one
        thread.  Only seconds depend on it.  (What Hessian products and the like cost in passes is
        measured anew in each comparison, before the runs.)
    random_state : int, default=0
        Of the draws of the tuning.
    resume : Comparison, default=None
        Only what is missing in it is run.
    progress : callable, default=None
        ``progress(what, n_done, n_total)``.

    Returns
    -------
    comparison : Comparison
        Of what was finished, if Ctrl-C or an error ended it early.

    Raises
    ------
    ValueError
        A parameter is not valid.

    Examples
    --------
    >>> import fastgd
    >>> result = fastgd.compare(["momentum", "lbfgs"], "quadratic-1e2", seeds=3, sensitivity=False)
    >>> result.table()[0]["solver"]
    'lbfgs'
    """
    if not (resume is None or isinstance(resume, Comparison)):
        raise ValueError(f"resume must be a Comparison, got {resume!r}.")
    if not (progress is None or callable(progress)):
        raise ValueError(f"progress must be callable, got {progress!r}.")
    if not (n_jobs is None or (isinstance(n_jobs, Integral) and n_jobs != 0)):
        raise ValueError(f"n_jobs must be None or a whole number other than 0, got {n_jobs!r}.")
    request = _request(solvers, problems, seeds, budget, track, mode, n_trials, random_state)
    comparison = _begun(request, resume)
    stages, n_before = _stages(request, comparison, sensitivity), len(comparison.runs)
    try:
        for what, jobs, keep in stages:
            _run_all(what, jobs, keep, n_jobs, progress)
    except KeyboardInterrupt:
        warnings.warn("Comparison interrupted: it has what was finished.", stacklevel=2)
    except Exception as error:
        if len(comparison.runs) == n_before:
            raise
        warnings.warn(
            f"The comparison has what was finished before {type(error).__name__}: {error}",
            stacklevel=2,
        )
    names = {name: i for i, name in enumerate(comparison.problems)}
    order = {name: i for i, name in enumerate(comparison.solvers)}
    comparison.runs.sort(key=lambda run: (names[run.problem], order[run.solver], run.seed))
    comparison.check()
    return comparison


class Request(NamedTuple):
    """The checked arguments."""

    solvers: list[Solver]
    problems: list[Problem]
    seeds: int
    budget: Budget
    track: str
    mode: str
    n_trials: int
    random_state: int


def _request(
    solvers: Any, problems: Any, seeds: int, budget: Any, track: str, mode: str, n_trials: int,
    random_state: int,
) -> Request:  # fmt: skip
    for name, value, allowed in (
        ("track", track, TRACKS), ("mode", mode, MODES), ("n_trials", n_trials, TRIALS),
    ):  # fmt: skip
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}.")
    if not isinstance(n_trials, Integral):
        raise ValueError(f"n_trials must be a whole number, got {n_trials!r}.")
    if not isinstance(seeds, Integral) or not 1 <= seeds <= FIRST_TUNING_SEED:
        raise ValueError(
            f"seeds must be a whole number from 1 to {FIRST_TUNING_SEED}, got {seeds!r}."
        )
    if budget is None:
        budget = Budget()
    elif isinstance(budget, Real):
        budget = Budget(passes=float(budget))
    if not isinstance(budget, Budget):
        raise ValueError(f"budget must be a number of passes or a Budget, got {budget!r}.")
    if not all(isinstance(one, Real) and one > 0 for one in budget):
        raise ValueError(f"budget must be positive, got {budget}.")
    if all(map(math.isinf, budget)):
        raise ValueError(f"budget must end a run by passes or by seconds, got {budget}.")
    if not isinstance(random_state, Integral) or random_state < 0:
        raise ValueError(
            f"random_state must be a whole number, not negative, got {random_state!r}."
        )
    chosen = as_problems(problems)
    if mode == "learning":
        chosen = [problem for problem in chosen if not isinstance(problem, FunctionProblem)]
        if not chosen:
            raise ValueError("mode='learning' needs problems with samples, but got functions only.")
    return Request(
        as_solvers(solvers), chosen, int(seeds), budget, track, mode, n_trials, random_state
    )


def _begun(request: Request, resume: Comparison | None) -> Comparison:
    """A comparison without runs, or the one to go on with."""
    declared = {
        solver.name: {
            "method": description(solver.method), "order": solver.order,
            "space": {name: list(ends) for name, ends in solver.space.items()},
            "full_batch": solver.full_batch,
            "learning_rate": getattr(solver.method, "learning_rate", None),
        }
        for solver in request.solvers
    }  # fmt: skip
    fresh = Comparison(
        [solver.name for solver in request.solvers],
        [problem.name for problem in request.problems],
        request.seeds, request.mode, request.track, request.budget, [], {}, {}, declared,
        provenance=provenance(), n_trials=request.n_trials, random_state=request.random_state,
        descriptions={problem.name: problem.description for problem in request.problems},
    )  # fmt: skip
    if resume is None:
        return fresh
    names = ("mode", "track", "budget")
    for name in (*names, "n_trials", "random_state") if request.track == "tuned" else names:
        mine, its = getattr(fresh, name), getattr(resume, name)
        if mine != its:
            raise ValueError(f"resume has {name}={its!r}, which must be the same, got {mine!r}.")
    for solver, mine in declared.items():
        its = resume.declared.get(solver, mine)
        different = {name: its.get(name) for name in mine if its.get(name) != mine[name]}
        if different == {"method": "functools.partial"}:
            continue  # what former files say of all of them
        if different:
            raise ValueError(f"resume has another solver {solver!r}: {different}.")
    for problem in request.problems:
        its = resume.descriptions.get(problem.name, problem.description)
        if its != problem.description:
            raise ValueError(f"resume has another problem {problem.name!r}: {its}.")
        # Of two functions or networks of one name, the objectives differ where they begin.
        for known in resume.references.get(problem.name, ())[:1]:
            instance = problem.at(0)
            x0 = instance.objective.x0
            begin = instance.objective.fun(x0), instance.validation(x0).loss
            if not known.begins_at(*begin, request.mode):
                raise ValueError(f"resume has another problem {problem.name!r}.")
    wanted = set(fresh.solvers), set(fresh.problems), range(request.seeds)
    fresh.runs = [
        run for run in resume.runs
        if run.solver in wanted[0] and run.problem in wanted[1] and run.seed in wanted[2]
    ]  # fmt: skip
    fresh.sensitivity = [
        run for run in resume.sensitivity if run.solver in wanted[0] and run.problem in wanted[1]
    ]
    fresh.tuning = [
        tuned for tuned in resume.tuning if tuned.solver in wanted[0] and tuned.problem in wanted[1]
    ]
    fresh.ratios = {name: r for name, r in resume.ratios.items() if name in wanted[1]}
    fresh.references = {
        name: list(of_seeds[: request.seeds])
        for name, of_seeds in resume.references.items() if name in wanted[1]
    }  # fmt: skip
    if fresh.runs:
        fresh.provenance |= _differences(fresh.provenance, resume.provenance)
    return fresh


OF_BEFORE = " of runs before"


def _differences(mine: dict[str, Any], its: dict[str, Any]) -> dict[str, Any]:
    """What was otherwise when the runs were made that are resumed, which is told, too."""
    values: dict[str, list[str]] = {}  # of each name, those of all runs before
    for name, value in its.items():
        before = value if name.endswith(OF_BEFORE) else [str(value)]
        values.setdefault(name.removesuffix(OF_BEFORE), []).extend(before)
    others = {
        name + OF_BEFORE: sorted(set(of))
        for name, of in values.items()
        if name != "date" and set(of) != {str(mine.get(name))}
    }
    if others:
        told = "; ".join(f"{name}: {', '.join(of)}" for name, of in others.items())
        warnings.warn(
            f"The seconds of runs before and of new ones may not be comparable: {told}.",
            stacklevel=4,
        )
    return others


Job = Callable[[], Any]


def _alone(job: Job) -> Any:
    """Do a job, in whatever process, with one thread."""
    with single_threaded():
        return job()


Stage = tuple[str, Sequence[Job], Callable[[Any], None]]


def _stages(request: Request, comparison: Comparison, sensitivity: bool) -> Iterator[Stage]:
    """What there is to do, each part when the one before it is done."""
    _measure_ratios(request, comparison)
    yield _references(request, comparison)
    if request.track == "tuned":
        yield _tuning(request, comparison)
    yield _final_runs(request, comparison)
    if sensitivity:
        yield _sensitivity(request, comparison)


def _measure_ratios(request: Request, comparison: Comparison) -> None:
    """What evaluations cost; one problem after the other and alone, because they are timed."""
    asked_for = any(solver.method == "levenberg-marquardt" for solver in request.solvers)
    for problem in request.problems:
        known = comparison.ratios.get(problem.name)
        if known is not None and not (asked_for and math.isnan(known.normal_equations)):
            continue
        found = _alone(partial(cost_ratios, problem, normal_equations=asked_for))
        if known is not None:  # runs were measured by the others
            found = known._replace(normal_equations=found.normal_equations)
        comparison.ratios[problem.name] = found


def _references(request: Request, comparison: Comparison) -> Stage:
    jobs = [
        partial(_named_reference, problem, seed, request.mode)
        for problem in request.problems
        for seed in range(len(comparison.references.get(problem.name, ())), request.seeds)
    ]

    def keep(result: tuple[str, int, Reference]) -> None:
        name, seed, found = result
        of_seeds = comparison.references.setdefault(name, [])
        of_seeds.append(found)  # results come in the order of the jobs
        assert len(of_seeds) == seed + 1
        lost = [math.isfinite(one.initial) and math.isnan(one.lowest) for one in of_seeds]
        if lost[-1] and not any(lost[:-1]):
            warnings.warn(
                f"{name}: nothing lower was found than where seed {seed} begins. Is the gradient"
                " right? No solver will count as having solved it.",
                stacklevel=2,
            )

    return "references", jobs, keep


def _named_reference(problem: Problem, seed: int, mode: str) -> tuple[str, int, Reference]:
    return problem.name, seed, reference(problem, seed, mode)


def _tuning(request: Request, comparison: Comparison) -> Stage:
    done = {(tuned.problem, tuned.solver) for tuned in comparison.tuning}
    jobs = [
        partial(tune, solver, problem, request.n_trials, request.budget, request.mode,
                comparison.ratios[problem.name], request.random_state)
        for problem in request.problems
        for solver in request.solvers
        if (problem.name, solver.name) not in done
    ]  # fmt: skip

    def keep(tuned: Tuned) -> None:
        comparison.tuning.append(tuned)
        if tuned.on_edge:
            warnings.warn(
                f"{tuned.solver} on {tuned.problem}: the best {', '.join(tuned.on_edge)} lies on"
                " the edge of the search space; a better one may lie beyond.",
                stacklevel=2,
            )

    return "tuning", jobs, keep


def _final_runs(request: Request, comparison: Comparison) -> Stage:
    done = {run.key for run in comparison.runs}
    settings = {(tuned.problem, tuned.solver): tuned.settings for tuned in comparison.tuning}
    jobs = [
        _job(
            request, comparison, solver, problem, seed,
            settings.get((problem.name, solver.name), {}),
        )
        for problem in request.problems
        for solver in request.solvers
        for seed in range(request.seeds)
        if (problem.name, solver.name, seed) not in done
    ]  # fmt: skip

    def keep(run: Run) -> None:
        comparison.check_run(run)  # now, not when all the others have been made in vain
        comparison.runs.append(run)

    return "runs", jobs, keep


def _sensitivity(request: Request, comparison: Comparison) -> Stage:
    """The rules at other learning rates, on the first seed."""
    done = {(*run.key, run.settings["learning_rate"]) for run in comparison.sensitivity}
    chosen = {(tuned.problem, tuned.solver): tuned.settings for tuned in comparison.tuning}
    jobs = []
    for problem in request.problems:
        for solver in request.solvers:
            if "learning_rate" not in solver.space:
                continue
            settings = chosen.get((problem.name, solver.name), {})
            rate = settings.get("learning_rate", solver.method.learning_rate)
            for factor in RATE_FACTORS:
                other = settings | {"learning_rate": float(f"{rate * factor:.9g}")}
                if (problem.name, solver.name, 0, other["learning_rate"]) not in done:
                    jobs.append(_job(request, comparison, solver, problem, 0, other))
    return "learning rates", jobs, comparison.sensitivity.append


def _job(
    request: Request, comparison: Comparison, solver: Solver, problem: Problem, seed: int,
    settings: dict[str, float],
) -> Job:  # fmt: skip
    begin = comparison.references[problem.name][seed]
    return partial(
        _run_or_failure, solver, problem, seed, begin, settings, budget=request.budget,
        mode=request.mode, ratios=comparison.ratios[problem.name],
        n_reached=partial(n_reached, begin, comparison.targets, request.mode),
    )  # fmt: skip


def _run_or_failure(
    solver: Solver, problem: Problem, seed: int, begin: Reference, settings: dict[str, float],
    **options: Any,
) -> Run:  # fmt: skip
    """A run, or the record of one that could not begin: it must not end the others."""
    try:
        return run_solver(solver, problem, seed, settings=settings, **options)
    except Exception as error:
        return failed_run(solver, problem, seed, settings, begin, error)


def _run_all(
    what: str, jobs: Sequence[Job], keep: Callable[[Any], None], n_jobs: int | None,
    progress: Progress | None,
) -> None:  # fmt: skip
    """Run the jobs, and keep each result as it comes."""
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    if progress is not None:
        progress(what, 0, len(jobs))
    results = parallel(joblib.delayed(_alone)(job) for job in jobs)
    try:
        for i, result in enumerate(results, 1):
            keep(result)
            if progress is not None:
                progress(what, i, len(jobs))
    finally:
        with warnings.catch_warnings(action="ignore"):  # of jobs that an interruption leaves undone
            results.close()

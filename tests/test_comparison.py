"""Problems, runs and the table of a comparison."""

import json
import math

import numpy as np
import pytest
from rich.console import Console
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from fastgd import MLPClassifier
from fastgd.comparison import PROBLEMS, SOLVERS, load_problem, results_table, run_solver
from fastgd.optimizers import OPTIMIZERS, SGD


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "mnist"])
def test_bundled_problems_are_scaled_and_split_by_the_seed(name):
    problem = load_problem(name, seed=1)
    assert problem.X_train.dtype == problem.X_test.dtype == np.float32
    spread = problem.X_train.std(axis=0)
    np.testing.assert_allclose(spread[spread > 0], 1.0, atol=1e-3)
    same, other = load_problem(name, seed=1), load_problem(name, seed=2)
    np.testing.assert_array_equal(problem.X_test, same.X_test)
    assert (problem.X_test != other.X_test).any()
    share = len(problem.X_test) / (len(problem.X_test) + len(problem.X_train))
    assert abs(share - 0.2) < 0.01


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"problem must be one of digits.*got 'moons'"):
        load_problem("moons")
    with pytest.raises(ValueError, match=r"solver must be one of gradient-descent.*got 'adm'"):
        run_solver("adm", load_problem("iris"))


def test_every_rule_can_be_compared():
    compared = {type(solver.solver) for solver in SOLVERS.values()}
    assert compared >= set(OPTIMIZERS.values())


@pytest.mark.parametrize("name", ["momentum", "scipy-bfgs"])
def test_a_run_records_what_the_estimator_did(name):
    problem = load_problem("iris")
    epochs = []
    run = run_solver(name, problem, hidden=(5,), max_iter=12, seed=3, report=epochs.append)
    solver = SOLVERS[name]
    clf = MLPClassifier(
        hidden_layer_sizes=(5,), activation="tanh", max_iter=12, tol=1e-6, n_iter_no_change=12,
        random_state=3, **solver.parameters(len(problem.X_train)),
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        clf.fit(problem.X_train, problem.y_train)
    assert run.loss_curve == clf.loss_curve_
    proba = clf.predict_proba(problem.X_train).astype(float)
    proba /= proba.sum(axis=1, keepdims=True)
    assert math.isclose(run.train_loss, log_loss(problem.y_train, proba), rel_tol=1e-6)
    assert run.test_score == clf.score(problem.X_test, problem.y_test)
    assert (run.n_iter, run.n_passes, run.order) == (clf.n_iter_, clf.n_passes_, solver.order)
    assert epochs[: run.n_iter] == list(range(1, run.n_iter + 1))
    assert run.seconds > 0
    assert run.compile_seconds >= 0


def test_solvers_start_from_the_same_weights(monkeypatch):
    problem = load_problem("iris")
    for name in ("gradient-descent", "sgd", "adam"):
        frozen = SOLVERS[name].solver._replace(learning_rate=0.0)
        monkeypatch.setitem(SOLVERS, name, type(SOLVERS[name])(frozen, 1, name[0] == "g"))
    losses = {run_solver(name, problem, max_iter=1).train_loss for name in ("sgd", "adam")}
    assert losses == {run_solver("gradient-descent", problem, max_iter=1).train_loss}


def test_divergence_is_counted_not_dropped(monkeypatch):
    diverging = type(SOLVERS["sgd"])(SGD(learning_rate=1e30))
    monkeypatch.setitem(SOLVERS, "sgd", diverging)
    run = run_solver("sgd", load_problem("diabetes"), max_iter=3)
    assert math.isnan(run.train_loss)
    record = json.loads(json.dumps(run.as_dict()))
    assert record["train_loss"] is None
    console = Console(record=True, width=100)
    console.print(results_table([run], "title", "R²"))
    assert "diverged" in console.export_text()


def test_table_marks_the_best():
    problem = load_problem("iris")
    runs = [run_solver(name, problem, hidden=(), max_iter=5) for name in ("adam", "lbfgs")]
    console = Console(record=True, width=100, force_terminal=True)
    console.print(results_table(runs, "iris", "accuracy"))
    text = console.export_text(styles=True)
    best = min(run.train_loss for run in runs)
    assert f"\x1b[1m{best:.3g}\x1b[0m" in text

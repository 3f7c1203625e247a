"""The ``fastgd`` command, as a user calls it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from fastgd import cli
from fastgd.comparison.solvers import DEFAULT_SOLVERS, default_solvers

COMPARE = ["compare", "--problem", "iris", "--hidden", "4", "--max-iter", "3"]


def run(*arguments):
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "100"})


def test_table_and_json(tmp_path):
    path = tmp_path / "runs.json"
    result = run(*COMPARE, "--solvers", "adam, lbfgs", "--seed", "5", "--json", str(path))
    assert result.exit_code == 0, result.output
    for expected in ("adam", "lbfgs", "loss", "accuracy", "passes", "compile", "4-4-3"):
        assert expected in result.stdout
    record = json.loads(path.read_text("utf-8"))
    assert [r["solver"] for r in record["runs"]] == ["adam", "lbfgs"]
    assert {r["seed"] for r in record["runs"]} == {5}
    assert record["hidden"] == [4]
    assert all(len(r["loss_curve"]) == r["n_iter"] for r in record["runs"])
    assert record["versions"]["fastgd"]


def test_all_default_solvers(tmp_path):
    path = tmp_path / "runs.json"
    result = run(*COMPARE, "--json", str(path))
    assert result.exit_code == 0, result.output
    found = [r["solver"] for r in json.loads(path.read_text("utf-8"))["runs"]]
    assert found == list(DEFAULT_SOLVERS)


def test_a_large_network_is_not_given_to_dense_bfgs():
    assert set(DEFAULT_SOLVERS) - set(default_solvers(12_730)) == {"scipy-bfgs"}
    assert default_solvers(1_210) == DEFAULT_SOLVERS


def test_regression_and_no_hidden_layer():
    arguments = ["--problem", "diabetes", "--hidden", "", "--solvers", "rprop", "--max-iter", "2"]
    result = run("compare", *arguments)
    assert result.exit_code == 0, result.output
    assert "R²" in result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--solvers", "adam,adm"], "'adm' is not one of"),
    (["--solvers", ","], "at least one solver"),
    (["--problem", "moons"], "problem must be one of"),
    (["--hidden", "8,x"], "hidden must be positive numbers"),
    (["--hidden", "0"], "hidden must be positive numbers"),
    (["--max-iter", "0"], "max-iter"),
    (["--json", "no/such/folder/x.json"], "does not exist"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    result = run("compare", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_ctrl_c_keeps_what_is_finished(monkeypatch, tmp_path):
    real = cli.run_solver

    def run_solver(name, *args, **kwargs):
        if name == "lbfgs":
            raise KeyboardInterrupt
        return real(name, *args, **kwargs)

    monkeypatch.setattr(cli, "run_solver", run_solver)
    result = run(*COMPARE, "--solvers", "adam,lbfgs,sgd")
    assert result.exit_code == 0, result.output
    assert "adam" in result.stdout
    assert "lbfgs" not in result.stdout
    assert "Interrupted" in result.stderr


def test_ctrl_c_during_a_fit(tmp_path):
    """As a terminal sends it, while the second solver trains."""
    # Who runs the tests in the background has the signal switched off, for his children too.
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    command = [sys.executable, "-c", f"{listens} from fastgd.cli import main; main()", "compare"]
    command += ["--problem", "iris", "--hidden", "4", "--solvers", "lbfgs,sgd,adam"]
    command += ["--max-iter", "10000000", "--json", str(tmp_path / "runs.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        time.sleep(25)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "Interrupted: the table has what was finished." in stderr
    record = json.loads((tmp_path / "runs.json").read_text("utf-8"))
    assert [run["solver"] for run in record["runs"]] == ["lbfgs"]


def test_help_explains_itself():
    result = run("compare", "--help")
    assert result.exit_code == 0
    for expected in ("--problem", "--solvers", "--hidden", "--seed", "--json", "digits", "adagrad"):
        assert expected in result.stdout


def test_installed_command_answers():
    code = "from fastgd.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert "compare" in result.stdout


AFTER_WARMUP = """
import warnings
import numpy as np, scipy.sparse
from fastgd import MLPClassifier, MLPRegressor
from fastgd.optimizers import RMSprop

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
MLPClassifier((5,), max_iter=2).fit(X, y).predict(X)
MLPClassifier((5,), "gelu", solver="adamw", dropout=0.5, clip_norm=1.0, max_iter=2).fit(X, y)
MLPClassifier((5,), solver="lbfgs", loss="hinge").fit(X, y > 1).predict(X)
MLPRegressor("poisson", (5,), solver=RMSprop(centered=True), max_iter=2).fit(X, y).predict(X)
sparse = scipy.sparse.csr_matrix(X.astype("f"))
MLPClassifier((5,), "tanh", max_iter=2).fit(sparse, np.arange(40)).predict(sparse)
"""


def test_nothing_is_left_to_compile_after_warmup(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", "from fastgd.cli import main; main()", "warmup"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout
    files = set(tmp_path.rglob("*"))
    assert len(files) > 100
    subprocess.run([sys.executable, "-c", AFTER_WARMUP], env=environment, check=True)
    assert set(tmp_path.rglob("*")) == files


def test_warmup_fails_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.setattr(cli, "folder", lambda: None)
    monkeypatch.setattr(cli, "all_steps", lambda: iter(()))
    result = run("warmup")
    assert result.exit_code == 1
    assert "ready" not in result.stdout

"""Two processes compile for a first fit: each task once, and nobody is hurt by what becomes of one.

The tasks are functions of this file, which both processes can import.
"""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fastgd._jit import second_process
from fastgd._jit.second_process import compile_by_two

SECONDS = 60  # until the other process is given up, where it should not be


def note(folder, name):
    """A task that tells who has done it."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def meet(folder, name):
    """A task that ends when each of two processes does one."""
    note(folder, name)
    end = time.monotonic() + SECONDS
    while len(set(done(folder))) < 2 and time.monotonic() < end:
        time.sleep(0.01)


def done(folder):
    """Who has done what: a process for each time that a task was done."""
    return [int(line) for file in folder.iterdir() for line in file.read_text().splitlines()]


def by(folder, name):
    """Who has done one task."""
    return int((folder / name).read_text())


def end_unless(first, folder, name):
    """A task that the other process does not survive."""
    meet(folder, name)
    if os.getpid() != first:
        os._exit(1)


def sleep_unless(first, folder, name):
    """A task that the other process does not end."""
    meet(folder, name)
    while os.getpid() != first:
        time.sleep(1)


def tell_of_blas(folder):
    """A task that tells what its process has imported, and whether SciPy's BLAS can be."""
    from numba.np.linalg import ensure_blas

    imported = sorted({"numba.np.arraymath", "scipy.linalg"} & set(sys.modules))
    ensure_blas()
    (folder / "imported").write_text(json.dumps(imported))


def fail(folder, name):
    note(folder, name)
    raise ValueError(name)


def is_running(process):
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(second_process, "_n_processors", lambda: 2)
    folder = tmp_path / "done"
    folder.mkdir()
    return folder


def test_each_task_is_done_once_and_both_processes_take_part(folder):
    many = [partial(note, folder, str(number)) for number in range(20)]
    compile_by_two([*many[:10], partial(meet, folder, "a"), partial(meet, folder, "b"), *many[10:]])
    assert len(done(folder)) == 22
    assert len(set(done(folder))) == 2
    assert not any(is_running(process) for process in set(done(folder)) - {os.getpid()})


def test_who_wants_to_know_is_told_what_this_process_begins(folder):
    told = []
    tasks = [partial(meet, folder, "a"), partial(meet, folder, "b"), partial(note, folder, "c")]
    compile_by_two(tasks, told.append)
    own = [number for number, name in enumerate("abc") if by(folder, name) == os.getpid()]
    assert 1 <= len(told) < 3
    assert told == own


def test_a_process_that_dies_leaves_the_rest_to_the_other(folder):
    tasks = [partial(end_unless, os.getpid(), folder, name) for name in "ab"]
    compile_by_two([*tasks, *(partial(note, folder, str(number)) for number in range(20))])
    # What it had begun is done as well.
    assert len(done(folder)) == 23
    assert done(folder).count(os.getpid()) == 22


def test_the_other_process_imports_a_blas_where_one_is_needed_and_only_there(folder):
    process = second_process._start(partial(tell_of_blas, folder))
    assert process.wait(SECONDS) == 0
    assert json.loads((folder / "imported").read_text()) == ["numba.np.arraymath"]


def test_threads_of_one_process_have_one_second_process(folder, monkeypatch):
    started = []
    monkeypatch.setattr(second_process, "_start", started.append)
    compile_by_two([partial(compile_by_two, [partial(note, folder, "inner")])])
    assert len(started) == 1
    assert done(folder) == []
    compile_by_two([partial(note, folder, "later")])
    assert done(folder) == [os.getpid()]


def test_what_is_second_starts_no_third(folder, monkeypatch):
    monkeypatch.setenv(second_process.IS_SECOND, "1")
    compile_by_two([partial(note, folder, str(number)) for number in range(3)])
    assert done(folder) == [os.getpid()] * 3


def test_a_process_that_does_not_end_is_ended(folder, monkeypatch):
    monkeypatch.setattr(second_process, "PATIENCE", 0.5)
    compile_by_two([partial(sleep_unless, os.getpid(), folder, name) for name in "ab"])
    (other,) = set(done(folder)) - {os.getpid()}
    assert not is_running(other)


def test_an_error_of_a_task_is_raised_and_ends_the_other_process(folder, monkeypatch):
    processes = []
    start = second_process._start
    monkeypatch.setattr(
        second_process, "_start", lambda work: processes.append(start(work)) or processes[0]
    )
    with pytest.raises(ValueError, match="a task"):
        compile_by_two([partial(fail, folder, "a task")])
    assert processes[0].returncode is not None


@pytest.mark.parametrize(
    "executable", ["", None, "/nowhere/python3", sys.prefix, "/bin/sh", "/bin/python_app"]
)
def test_without_another_process_this_one_does_everything(folder, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    compile_by_two([partial(note, folder, str(number)) for number in range(3)])
    assert done(folder) == [os.getpid()] * 3


@pytest.mark.parametrize("what", ["TemporaryDirectory", "touch"])
def test_without_room_for_files_everything_is_done(folder, monkeypatch, what):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    tasks = [partial(note, folder, str(number)) for number in range(3)]
    monkeypatch.setattr(second_process.tempfile if what != "touch" else Path, what, full)
    compile_by_two(tasks)
    assert {file.name for file in folder.iterdir()} == {"0", "1", "2"}
    assert done(folder).count(os.getpid()) == 3


def test_one_processor_has_one_process(folder, monkeypatch):
    monkeypatch.setattr(second_process, "_n_processors", lambda: 1)
    compile_by_two([partial(note, folder, str(number)) for number in range(3)])
    assert done(folder) == [os.getpid()] * 3


FIT = """
import json, sys, warnings
from functools import partial

import numpy as np
import scipy.sparse
from fastgd import MLPClassifier, MLPRegressor
from fastgd._jit import cache
from fastgd.neural_network import epochs
from fastgd.solvers import objective

warnings.simplefilter("ignore")
X = np.random.RandomState(0).normal(size=(400, 5))
FITS = {
    "dense": partial(MLPClassifier((6,)).fit, X.astype("f"), X[:, 0] > 0),
    "large": partial(
        MLPClassifier((800, 700), batch_size=400, solver="sgd").fit,
        X.astype("f"), np.arange(400) % 12,
    ),
    "wide": partial(
        MLPClassifier((90,), batch_size=20, solver="sgd").fit,
        np.repeat(X, 40, axis=1).astype("f"), X[:, 0] > 0,
    ),
    "sparse": partial(
        MLPRegressor(hidden_layer_sizes=(6,), activation="tanh", solver="lbfgs").fit,
        scipy.sparse.csr_array(X), X[:, :2],
    ),
}
for fit in FITS.values():
    fit.func.__self__.set_params(random_state=0, max_iter=2)
before = None
compiled = []
save = cache.KernelCache.save_overload


def noting(self, types, result):
    compiled.append(self._name)
    save(self, types, result)


cache.KernelCache.save_overload = noting
epochs.allowed_threads = objective.allowed_threads = lambda n_jobs: int(sys.argv[2])
"""
REPORT = """
model = FITS[sys.argv[1]]()
parameters = [a.tolist() for a in model.coefs_]
print(json.dumps({"parameters": parameters, "compiled": sorted(compiled), "before": before}))
"""
# As if there were no other process; then what the tasks have compiled is known.
ALONE = """
def alone(tasks):
    global before
    for task in tasks:
        task()
    before = sorted(compiled)


epochs.compile_by_two = objective.compile_by_two = alone
"""


def run(cache, script, *arguments):
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(second_process._n_processors() < 2, reason="there is one processor")
def test_a_first_fit_is_the_same_by_two_processes_as_by_one(tmp_path):
    one = run(tmp_path / "one", FIT + REPORT, "dense", "1")
    two = run(tmp_path / "two", FIT + REPORT, "dense", "2")
    assert two["parameters"] == one["parameters"]
    # Each has compiled something that the other needs, and nothing is missing.
    assert 0 < len(two["compiled"]) < len(one["compiled"])
    names = [{path.name for path in (tmp_path / n).rglob("*.nbc")} for n in ("one", "two")]
    assert names[0] == names[1]
    again = run(tmp_path / "two", FIT + REPORT, "dense", "2")
    assert again["compiled"] == []


@pytest.mark.parametrize("fit", ["large", "wide", "sparse"])
def test_the_tasks_are_all_that_a_fit_compiles(tmp_path, fit):
    result = run(tmp_path, FIT + ALONE + REPORT, fit, "2")
    assert len(result["before"]) > 8
    assert result["compiled"] == result["before"]


def test_what_compiles_imports_no_scikit_learn_and_its_kin():
    """Which would take the other process as long as all that it saves."""
    code = (
        "import sys; import fastgd.kernels.samples, fastgd.kernels.epoch, fastgd.kernels.network,"
        " fastgd.kernels.shuffle, fastgd.kernels.team, fastgd.losses, fastgd.optimizers;"
        "print({'sklearn', 'joblib', 'scipy.linalg', 'scipy.optimize', 'scipy.special'}"
        " & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "set()\n"

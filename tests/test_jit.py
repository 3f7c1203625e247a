"""The disk cache: never an old number, never a needless compilation, never in the way.

Each test of it works on a copy of the package with a cache folder of its own, in processes of its
own.  Then what compiled code must leave as it was: references, and the collection of garbage.
"""

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding
from numba import TypingError
from sklearn.exceptions import ConvergenceWarning

import fastgd
import naive
from fastgd import _jit
from fastgd.kernels.cholesky import solve_in_place
from fastgd.kernels.epoch import run_batches, run_batches_types
from fastgd.kernels.plan import Plan
from fastgd.kernels.quasi_newton import update_and_multiply
from fastgd.optimizers import OPTIMIZERS, Optimizer

PRELUDE = """
import json, sys, warnings
from pathlib import Path

import numpy as np
from numba.core.dispatcher import Dispatcher
from fastgd import _jit
from fastgd.optimizers import OPTIMIZERS, SGD, Adam, Optimizer


def step(rule, dtype="float64"):
    w = np.array([1, -2, 3], dtype)
    Optimizer(rule, w).update(w, np.array([0.5, 0.25, -1], dtype))
    return w.tolist()


def report(*results):
    functions = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "fastgd"
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    }
    # Those that kernels call by their addresses are known by no name.
    functions |= {id(function): function for function in _jit._ALIVE}
    hits, misses = (
        sum(sum(getattr(function.stats, kind).values()) for function in functions.values())
        for kind in ("cache_hits", "cache_misses")
    )
    # Numba's implementations of all that can be compiled, which takes long to set up.
    set_up = "numba.np.arraymath" in sys.modules
    print(json.dumps({"results": results, "hits": hits, "misses": misses, "set_up": set_up}))
"""
ADAM = PRELUDE + "report(step(Adam(0.1)))"
# Adam's first step is its learning rate, against the sign of the gradient.
AFTER_ADAM = [0.9, -2.1, 3.1]
SGD = PRELUDE + "report(step(SGD(0.5)))"
AFTER_SGD = [0.75, -2.125, 3.5]
TWICE_THE_STEP = "rate * (g[i]", "2 * rate * (g[i]"
TWICE_AFTER_SGD = [0.5, -2.25, 4.0]


class Installation:
    """A copy of the package that can be edited, and its cache folder."""

    def __init__(self, folder):
        self.package = folder / "site" / "fastgd"
        self.cache = folder / "cache"
        self.folder = folder
        shutil.copytree(
            Path(fastgd.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__")
        )

    def start(self, script, **environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PYTHON"))}
        own = {
            "PYTHONPATH": str(self.package.parent),
            # Python itself takes an edit of the same second and length for no edit.
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(self.cache),
        }
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script],
            env={**inherited, **own, **environment},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script, **environment):
        return finish(self.start(script, **environment))

    def edit(self, file, old, new):
        path = self.package / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} does not have {old!r} once; edit another line"
        path.write_text(text.replace(old, new))

    def data_files(self, pattern="*.nbc"):
        return sorted(self.cache.rglob(pattern))


def finish(process):
    """Wait for a process; the last line that it printed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def installation(tmp_path):
    return Installation(tmp_path)


PREDICT = """
from fastgd.kernels.layout import layer_table, n_parameters
from fastgd.losses import SquaredError
from fastgd.neural_network.prediction import Predictor

layers = layer_table((1, 1, 1), ("leaky_relu",))
w = np.array([1.0, 1.0, 0.0, 0.0])
predictor = Predictor(layers, w, SquaredError(), None)
report(step(SGD(0.5)), predictor.outputs(np.array([[-1.0], [2.0]])).tolist())
"""


def test_an_edited_helper_gives_new_numbers(installation):
    """Although the file of the function that is called stays as it is."""
    script = PRELUDE + PREDICT
    before = installation.run(script)
    assert before["results"] == [AFTER_SGD, [[-0.01], [2.0]]]
    assert installation.run(script)["misses"] == 0
    old_files = installation.data_files()
    old_update = installation.data_files("*.apply_step-*.nbc")
    old_rule = installation.data_files("*.SGD.step-*.nbc")
    old_predict = installation.data_files("*.predict_blocks-*.nbc")
    assert len(old_update) == len(old_rule) == len(old_predict) == 1
    # The activation that was edited is called by its address.
    assert len(installation.data_files("*.leaky_relu-*.nbc")) == 1

    installation.edit("kernels/activations.py", "LEAKY_SLOPE = 0.01", "LEAKY_SLOPE = 0.25")
    after = installation.run(ADAM)
    assert after["misses"] > 0
    # The function that was compiled anew has swept, the others are not yet concerned.
    assert set(old_files) - set(installation.data_files()) == set(old_update)
    after = installation.run(script)
    assert after["results"] == [AFTER_SGD, [[-0.25], [2.0]]]
    assert set(old_files).isdisjoint(installation.data_files())

    installation.edit("optimizers/sgd.py", *TWICE_THE_STEP)
    assert installation.run(SGD)["results"] == [TWICE_AFTER_SGD]


def test_an_edit_while_a_process_runs(installation):
    """An upgrade below an open notebook: what it compiles from the old code is no longer valid."""
    edited = installation.package / "optimizers" / "sgd.py"
    script = PRELUDE + (
        "path = Path(sys.modules[SGD.__module__].__file__)\n"
        "text = path.read_text()\n"
        f"path.write_text(text.replace{TWICE_THE_STEP})\n"
        "report(step(SGD(0.5)))"
    )
    assert installation.run(script)["results"] == [AFTER_SGD]
    assert TWICE_THE_STEP[1] in edited.read_text()
    assert installation.run(SGD)["results"] == [TWICE_AFTER_SGD]


FIT = """
from sklearn.exceptions import ConvergenceWarning

from fastgd import MLPClassifier

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
    # By one process, or another would compile a part of what is counted here.
    clf = MLPClassifier((4,), max_iter=2, random_state=0, n_jobs=1).fit(X, y)
report(step(SGD(0.5)), clf.predict_proba(X).tolist())
"""


def test_a_second_process_compiles_nothing(installation):
    """Whatever the order of its sets: the key of a data file must not depend on it."""
    cold = installation.run(PRELUDE + FIT)
    assert cold["hits"] == 0
    assert cold["set_up"]
    files = installation.data_files()
    # The epoch, the prediction and the single step; the loss, the link, the two rules, the
    # activation and its derivative, the two products of the input, the product and its tiles.
    assert len(files) >= 13
    for hash_seed in ("0", "1", "2", "4242"):
        warm = installation.run(PRELUDE + FIT, PYTHONHASHSEED=hash_seed)
        assert warm["misses"] == 0, hash_seed
        assert not warm["set_up"]
        assert warm["hits"] == len(files)
        assert warm["results"] == cold["results"]
    assert installation.data_files() == files


def test_two_processes_start_at_once(installation):
    """Neither may find the other's machine code under the name of its own."""
    processes = [
        installation.start(
            PRELUDE + "print('ready', flush=True)\ninput()\n"
            f"report(*(step(rule, {dtype!r}) for rule in (Adam(0.1), SGD(0.5))))"
        )
        for dtype in ("float32", "float64")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    both = [finish(process) for process in processes]
    for run in both:
        np.testing.assert_allclose(run["results"], [AFTER_ADAM, AFTER_SGD], rtol=1e-6)
        assert run["hits"] == 0
    third = installation.run(
        PRELUDE + "report(*(step(rule, dtype) for dtype in ('float32', 'float64')"
        " for rule in (Adam(0.1), SGD(0.5))))"
    )
    assert third["misses"] == 0
    # For each type of numbers the two rules, and the one kernel that calls them.
    assert third["hits"] == len(installation.data_files()) == 6
    assert third["results"] == both[0]["results"] + both[1]["results"]


def test_without_a_writable_folder(installation):
    """One warning, at the first call; not at the import, and not for each function."""
    # Root may write everywhere, so files stand where the folders would have to be.
    for folder in (installation.package, installation.package / "kernels"):
        (folder / "__pycache__").touch()
    home = installation.folder / "home"
    home.touch()
    script = PRELUDE + (
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    results = [step(rule, dtype) for rule in (SGD(0.5), Adam(0.1))"
        " for dtype in ('float32', 'float64')]\n"
        "report(results[1], results[3], [[w.category.__name__, str(w.message)] for w in caught])"
    )
    run = installation.run(
        script,
        NUMBA_CACHE_DIR=str(home / "cache"),
        **{name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE")},
    )
    after_sgd, after_adam, [(category, message)] = run["results"]
    assert after_sgd == AFTER_SGD
    np.testing.assert_allclose(after_adam, AFTER_ADAM)
    assert category == "RuntimeWarning"
    assert "found no folder" in message
    assert str(home / "cache") in message
    assert not installation.data_files()
    assert not list(installation.folder.rglob("*.nb[ci]"))


@pytest.mark.parametrize(
    "damages",
    [
        [lambda data: b"", lambda data: data[:-1], lambda data: bytes(range(256)) * 8],
        pytest.param([lambda data: pickle.dumps({"no": "machine code"})]),
        # What a power cut leaves of a page that never got to the disk.
        pytest.param(
            [lambda data: data[:8192] + bytes(4096) + data[12288:]],
        ),
    ],
    ids=["no pickle", "a pickle of something else", "an empty page"],
)
def test_a_damaged_data_file_costs_a_compilation(installation, damages):
    cold = installation.run(SGD)
    # The kernel, and the rule that it calls by its address.
    sound = {file: file.read_bytes() for file in installation.data_files()}
    assert len(sound) == 2
    for damage in damages:
        for file, content in sound.items():
            file.write_bytes(damage(content))
        run = installation.run(SGD)
        assert run["results"] == cold["results"] == [AFTER_SGD]
        assert run["misses"] == cold["misses"]
    assert installation.run(SGD)["misses"] == 0, "the last damage was not repaired"


USERS_RULE = """
from typing import NamedTuple

class MyRule(NamedTuple):
    learning_rate: float = 0.5

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            w[i] -= {factor} * learning_rate * g[i]

report(step(MyRule()), step(SGD(0.5)))
"""


def test_a_rule_of_the_users_is_not_kept_on_disk(installation):
    """Nothing would tell that the user edited it; ours beside it is kept."""
    cold = installation.run(PRELUDE + USERS_RULE.format(factor=1.0))
    assert cold["results"] == [AFTER_SGD] * 2
    files = installation.data_files()
    assert ["apply_step" in file.name for file in files] == [True, False]
    assert "SGD" in files[1].name
    warm = installation.run(PRELUDE + USERS_RULE.format(factor=2.0))
    assert warm["results"] == [TWICE_AFTER_SGD, AFTER_SGD]
    assert (warm["hits"], warm["misses"]) == (2, 1)
    assert installation.data_files() == files


USERS_LOSS = """
from typing import NamedTuple

from fastgd.kernels.layout import layer_table, n_parameters
from fastgd.neural_network.problem import Problem, as_data

class Scaled(NamedTuple):
    {fields}

    out_activation = "identity"

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        for p in range(n_rows * k):
            delta[p] = self.a - self.b
        return 10.0 * self.a + self.b

    def link(self, z, n_rows, k):
        pass

def value(loss):
    X = np.ones((1, 1))
    layers = layer_table((1, 1), ())
    problem = Problem(layers, loss, 0.0, as_data(X, X, None), 1, X.dtype)
    value, gradient = problem.objective().fun_and_grad(np.zeros(2))
    return [value, *gradient.tolist()]

report(*(value(Scaled(*fields)) for fields in {values}))
"""


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ("a: float = 1.0; b: float = 2.0", [(1.0, 2.0), (3.0, 5.0)]),
        # Fields travel as float64, and come out as what they were; types may change.
        ("a: int = 1; b: bool = True", [(1, True), (3, False), (2.5, True), (2**40, 0.5)]),
    ],
)
def test_fields_reach_a_part(installation, fields, values):
    """One record of each class and type is compiled, its values are given at each call."""
    run = installation.run(PRELUDE + USERS_LOSS.format(fields=fields, values=values))
    assert run["results"] == [[10.0 * a + b, a - b, a - b] for a, b in values]


def test_rules_run_in_plain_python(installation):
    """Without the compiler, for a debugger or a coverage report."""
    gradients = np.random.default_rng(0).normal(size=(4, 3))
    script = PRELUDE + (
        f"gradients = np.array({gradients.tolist()})\n"
        "results = {}\n"
        "for name, cls in OPTIMIZERS.items():\n"
        "    w = np.array([1.0, -2.0, 3.0])\n"
        "    optimizer = Optimizer(cls(), w)\n"
        "    for g in gradients:\n"
        "        optimizer.update(w, g)\n"
        "    results[name] = w.tolist()\n"
        "report(results)"
    )
    run = installation.run(script, NUMBA_DISABLE_JIT="1")
    assert run["hits"] == run["misses"] == 0
    assert not installation.data_files()
    (results,) = run["results"]
    assert results.keys() == OPTIMIZERS.keys()
    for name, cls in OPTIMIZERS.items():
        start = np.array([1.0, -2.0, 3.0])
        expected = naive.trajectory(name, start, gradients, cls._field_defaults)[-1]
        np.testing.assert_allclose(results[name], expected, rtol=1e-12, err_msg=name)


LOSSES_OF_FITS = """
import json, sys, warnings
import numpy as np
from fastgd import MLPClassifier

warnings.simplefilter("ignore")
X = np.random.RandomState(0).normal(size=(60, 5))
losses = {}
for task in sys.argv[1:]:
    n_classes, solver = task.split(",")
    clf = MLPClassifier((6,), solver=solver, random_state=0, max_iter=5, n_iter_no_change=99)
    losses[task] = float(clf.fit(X, np.arange(60) % int(n_classes)).loss_)
print(json.dumps(losses))
"""


def test_parts_that_were_compiled_in_different_processes_stay_different(tmp_path):
    """Each process has compiled one part only, under the same number; then all are loaded."""

    def losses(*tasks):
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path)}
        run = subprocess.run(
            [sys.executable, "-c", LOSSES_OF_FITS, *tasks],
            env=environment, capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        return json.loads(run.stdout)

    tasks = ["2,adam", "3,adam", "10,adam", "3,adagrad", "3,rmsprop"]
    alone = {}
    for task in tasks:
        alone |= losses(task)
    assert len(set(alone.values())) == len(tasks)
    assert losses(*tasks) == alone
    assert losses(*reversed(tasks)) == alone


def test_kernels_give_back_the_arrays_that_they_were_given():
    rng = np.random.default_rng(0)
    matrix, vector, other = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    matrix = matrix @ matrix.T + np.eye(4)
    optimizer = Optimizer(fastgd.optimizers.Adam(), vector)
    calls = {
        "update": lambda: optimizer.update(vector, other),
        "solve": lambda: solve_in_place(matrix.copy(), vector),
        "factorise and solve": lambda: solve_in_place(matrix, other),
        "quasi-Newton": lambda: update_and_multiply(
            matrix, vector, other, 0.5, 0.25, vector.copy(), other
        ),
    }
    arrays = matrix, vector, other
    start = [array.copy() for array in arrays]
    for name, call in calls.items():
        for array, numbers in zip(arrays, start, strict=True):
            array[:] = numbers
        call()
        before = [sys.getrefcount(array) for array in arrays]
        for _ in range(5):
            call()
        assert [sys.getrefcount(array) for array in arrays] == before, name


def test_kernels_give_back_the_plans_that_they_were_given(monkeypatch):
    records = []
    make = Plan.__init__

    def noted(plan, dtype):
        make(plan, dtype)
        records.append(weakref.ref(plan.record))

    monkeypatch.setattr(Plan, "__init__", noted)
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40.0)
    for solver in ("adam", "lbfgs", "newton-cg", "levenberg-marquardt"):
        model = fastgd.MLPRegressor(hidden_layer_sizes=(4,), solver=solver, max_iter=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y).predict(X)
    objective = model.objective(X, y)
    objective.jac(objective.x0)
    objective.normal_equations(objective.x0)
    del model, objective
    gc.collect()
    assert len(records) > 10
    assert [record() for record in records if record() is not None] == []


def test_garbage_is_collected_again_after_a_compilation():
    @_jit.njit(entry=True)
    def fails(x):
        return x.no_such_thing

    @_jit.njit(entry=True)
    def collects():
        return 1

    for was_enabled in (True, False):
        try:
            (gc.enable if was_enabled else gc.disable)()
            with pytest.raises(TypingError):
                fails(1.0)
            assert gc.isenabled() == was_enabled
        finally:
            gc.enable()
    assert collects() == 1
    assert gc.isenabled()


TYPES = """
import json, sys, warnings

import numpy as np
import scipy.sparse
from numba.core import ir, types
from numba.core.typed_passes import NativeLowering

converted, n_functions = [], 0
lower = NativeLowering.run_pass


def check(self, state):
    global n_functions
    n_functions += 1
    for block in state.func_ir.blocks.values():
        for statement in block.find_insts(ir.Assign):
            target, value = state.typemap[statement.target.name], statement.value
            if isinstance(value, ir.Var):
                source = state.typemap[value.name]
            elif isinstance(value, ir.Expr) and value in state.calltypes:
                source = getattr(state.calltypes[value], "return_type", target)
            else:
                continue
            target, source = types.unliteral(target), types.unliteral(source)
            if target != source and isinstance(target, types.Float):
                converted.append(f"{state.func_id.func_qualname}: {statement}, {source}")
    return lower(self, state)


NativeLowering.run_pass = check

from fastgd import MLPClassifier, MLPRegressor

warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
X = rng.normal(size=(40, 5)).astype("f")
settings = {"hidden_layer_sizes": (7, 70), "max_iter": 2}
limited = MLPClassifier(**settings, dropout=0.5, clip_norm=1.0, max_norm=1.0)
limited.fit(X, rng.randint(3, size=40)).predict(X)
MLPRegressor(**settings, activation="tanh").fit(scipy.sparse.csr_matrix(X), X[:, 0]).predict(X)
print(json.dumps([n_functions, converted]))
"""


def test_variables_of_kernels_have_one_type(installation):
    """Without the pass that gives a variable of two types two names, it would have the wider."""
    n_functions, converted = installation.run(TYPES)
    assert n_functions > 50
    assert converted == []


def test_code_for_a_processor_that_is_named_is_kept_apart(monkeypatch):
    """Were it this very one: nothing is known of it then, and other code is compiled."""
    signature, codegen = run_batches_types(np.dtype(np.float32)), run_batches.targetctx.codegen()
    monkeypatch.setattr("numba.core.config.CPU_NAME", None)
    monkeypatch.setattr("numba.core.config.CPU_FEATURES", None)
    usual = run_batches._cache._data_path(signature, codegen)
    assert usual == run_batches._cache._data_path(signature, codegen)
    monkeypatch.setattr("numba.core.config.CPU_NAME", binding.get_host_cpu_name())
    assert run_batches._cache._data_path(signature, codegen) != usual


def test_another_processor_has_nothing(monkeypatch):
    monkeypatch.setattr(
        "llvmlite.binding.get_host_cpu_features", lambda: {"fma": True, "avx": False}
    )
    monkeypatch.setattr("numba.core.config.CPU_NAME", None)
    monkeypatch.setattr("numba.core.config.CPU_FEATURES", None)
    assert _jit.processor_has("fma")
    assert not _jit.processor_has("fma", "avx")
    assert not _jit.processor_has("unknown")
    monkeypatch.setattr("numba.core.config.CPU_FEATURES", "-fma")
    assert not _jit.processor_has("fma")
    monkeypatch.setattr("numba.core.config.CPU_FEATURES", None)
    monkeypatch.setattr("numba.core.config.CPU_NAME", "generic")
    assert not _jit.processor_has("fma")

"""The house rules that a machine can check: who imports whom, documentation, size, completeness."""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import types
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import fastgd
import naive
from fastgd import losses, optimizers
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.losses import LOSSES
from fastgd.optimizers import OPTIMIZERS
from fastgd.optimizers.schedules import SCHEDULES

PACKAGE = Path(fastgd.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in FILES}

# From the roof to the ground.  A room may import those below it, never one beside or above it.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"comparison", "studies", "warmup"},
    {"neural_network"},
    {"optimizers", "solvers", "losses"},
    {"kernels", "datasets"},
    {"_jit", "_record", "_threads", "_custom_method"},
    {"_files"},
]
# These packages may be imported by these rooms only.
RESERVED = {
    "numba": {"_jit", "kernels", "optimizers", "solvers"},
    "llvmlite": {"_jit", "kernels", "optimizers", "solvers"},
    "sklearn": {"neural_network", "comparison", "studies"},
    "plotly": {"comparison"},
    "psutil": {"solvers"},
    "typer": {"cli"},
    "joblib": {"_threads", "comparison"},
    "threadpoolctl": {"_threads", "comparison"},
}
# So may these rooms of ours: kernels do what they are told by however many threads there are.
RESERVED_ROOMS = {"_threads": {"optimizers", "solvers", "neural_network"}}


def room_of(module):
    """The room of a module of the package, "" for the package itself."""
    return (module.split(".") + [""])[1]


def imports(file, source):
    """Full names of the modules, and perhaps of names in them, that a file imports."""
    package = ["fastgd", *file.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            # ``from fastgd import losses`` names a room as much as ``from fastgd.losses import``.
            if base == "fastgd":
                yield from ((node.lineno, f"fastgd.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def wrong_arrows(file, source):
    floor = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    own = file.removesuffix(".py").split("/")[0]
    for line, module in imports(file, source):
        top, other = module.split(".")[0], room_of(module)
        if top != "fastgd":
            if own not in RESERVED.get(top, {own}):
                yield f"{file}:{line}: only {sorted(RESERVED[top])} may import {top}"
        elif other not in floor:
            yield f"{file}:{line}: {module} is in no room below"
        elif other != own and (
            floor[other] <= floor[own] or own not in RESERVED_ROOMS.get(other, {own})
        ):
            yield f"{file}:{line}: {own} may not import {other}"


def test_every_file_has_its_room():
    rooms = {file.removesuffix(".py").split("/")[0] for file in SOURCES} - {"__init__"}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("file", [file for file in SOURCES if file != "__init__.py"])
def test_imports_point_downwards(file):
    assert not list(wrong_arrows(file, SOURCES[file]))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("kernels/epoch.py", "from fastgd.optimizers import SGD"),
        ("kernels/epoch.py", "from ..optimizers.sgd import SGD"),
        ("kernels/epoch.py", "from .. import optimizers"),
        ("kernels/epoch.py", "import fastgd"),
        ("optimizers/sgd.py", "def f():\n    from fastgd import neural_network"),
        ("optimizers/sgd.py", "from fastgd.solvers import lbfgs"),
        ("_jit/cache.py", "import fastgd.kernels.linalg as linalg"),
        ("neural_network/_base.py", "import numba.core"),
        ("solvers/lbfgs.py", "from sklearn.utils import check_array"),
        ("cli.py", "from fastgd.somewhere import something"),
        ("kernels/team.py", "from fastgd._threads import reserved"),
        ("kernels/team.py", "from joblib import cpu_count"),
        ("_threads.py", "from fastgd import _jit"),
        ("_jit/compiler.py", "from fastgd._threads import reserved"),
    ],
)
def test_wrong_arrows_are_seen(file, source):
    """The test above would pass as well if it read no imports at all."""
    assert len(list(wrong_arrows(file, source))) == 1


@pytest.mark.parametrize("file", SOURCES)
def test_files_stay_small(file):
    assert len(SOURCES[file].splitlines()) <= 500


@pytest.mark.parametrize("file", SOURCES)
def test_no_machine_paths(file):
    assert not re.findall(
        r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt|opt|usr|var)/[\w.]|\b[A-Z]:\\", SOURCES[file]
    )


def documentation(thing):
    """The docstring that somebody wrote: not inherited, not made by NamedTuple or dataclass."""
    text = vars(thing).get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)
    return "" if not text or text.startswith(f"{thing.__name__}(") else text


PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (fastgd, optimizers, losses)
    for name in module.__all__
    if isinstance(getattr(module, name), (type, types.FunctionType, types.ModuleType))
}
PUBLIC |= {f"schedules.{cls.__name__}": cls for cls in SCHEDULES.values()}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    assert documentation(PUBLIC[name])


def test_what_is_in_a_table_is_public():
    for table, module in ((OPTIMIZERS, optimizers), (LOSSES, losses)):
        assert {cls.__name__ for cls in table.values()} <= set(module.__all__)
    for module in (fastgd, optimizers, losses):
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


MODULES = ["fastgd", *(m.name for m in pkgutil.walk_packages(fastgd.__path__, "fastgd."))]


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_documented_and_their_examples_run(name, capsys):
    module = importlib.import_module(name)
    # An empty __init__.py only makes a folder a package.
    file = Path(module.__file__)
    assert module.__doc__ or not file.read_text("utf-8").strip()
    failed, _ = doctest.testmod(module)
    assert failed == 0, capsys.readouterr().out


def test_there_are_examples_to_run():
    finder = doctest.DocTestFinder()
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in tests) >= 20


def parameters(formula):
    # Of an older NumPy's functions there is no signature, and none has fields.
    return set() if isinstance(formula, np.ufunc) else set(inspect.signature(formula).parameters)


@pytest.mark.parametrize(
    ("table", "formulas"),
    [
        (ACTIVATIONS, naive.ACTIVATIONS),
        (LOSSES, naive.LOSSES),
        (OPTIMIZERS, naive.OPTIMIZERS),
    ],
    ids=["activations", "losses", "optimizers"],
)
def test_everything_in_a_table_has_its_formula(table, formulas):
    assert table.keys() == formulas.keys()
    for name, entry in table.items():
        fields = set(getattr(entry, "_fields", ()))
        assert fields <= parameters(formulas[name]), f"{name}: its formula does not know a field"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_rule_has_its_file(name):
    assert OPTIMIZERS[name].__module__ == f"fastgd.optimizers.{name}"


def test_the_oldest_dependencies_are_those_of_the_tests():
    """A floor that nobody has stood on may be none."""
    lines = Path(__file__).with_name("oldest.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    for text in importlib.metadata.requires("fastgd"):
        requirement = Requirement(text)
        marker = requirement.marker
        is_tested = marker is None or any(marker.evaluate({"extra": x}) for x in ("plot", "test"))
        if is_tested and requirement.name != "fastgd":
            (floor,) = (part.version for part in requirement.specifier if part.operator == ">=")
            floor = Version(floor).release
            assert Version(pins[requirement.name]).release[: len(floor)] == floor, text

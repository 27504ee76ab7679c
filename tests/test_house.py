"""The house rules that a machine can hold: imports point one way, importing changes nothing, names are there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ecjax

PACKAGE = Path(ecjax.__file__).parent
MODULES = {
    ".".join(["ecjax", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
DOORS = ("ecjax.__main__", "ecjax.cli", "ecjax.runs", "ecjax.plots", "ecjax.report", "ecjax.datasets")
PHASES = ("ecjax.expand", "ecjax.cluster", "ecjax.reconstruct")
RECORDS = (
    "ecjax.activations",
    "ecjax.networks",
    "ecjax.precision",
    "ecjax.imitation",
    "ecjax.queries",
    "ecjax.progress",
)
DOOR_PACKAGES = (
    "tyro",
    "rich",
    "matplotlib",
    "pooch",
    "threadpoolctl",
)  # scikit-learn too, which teachers load when a digits teacher is asked for


def _within(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(root + ".") for root in roots)


def _imports(module: str) -> set[str]:
    """Every module that `module` names in an import, wherever in the file it stands."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{name.name}" for name in node.names if f"{source}.{name.name}" in MODULES}
    return found


def _python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


CORE = [module for module in MODULES if not _within(module, DOORS)]


def test_doors_and_core_are_both_there():
    assert len(CORE) > 5
    assert len(CORE) < len(MODULES)


@pytest.mark.parametrize("module", CORE)
def test_the_core_does_not_know_its_doors(module):
    wrong = {name for name in _imports(module) if _within(name, DOORS + DOOR_PACKAGES)}
    assert not wrong


@pytest.mark.parametrize("module", [module for module in CORE if _within(module, PHASES)])
def test_phases_do_not_know_who_calls_them(module):
    wrong = {name for name in _imports(module) if _within(name, ("ecjax.recover", "ecjax.compare", "ecjax.teachers"))}
    assert not wrong


@pytest.mark.parametrize("module", [module for module in CORE if _within(module, RECORDS)])
def test_records_and_mathematics_stand_below_the_phases(module):
    wrong = {name for name in _imports(module) if _within(name, (*PHASES, "ecjax.recover", "ecjax.compare"))}
    assert not wrong


@pytest.mark.parametrize("module", MODULES)
def test_no_pickles_and_no_global_settings(module):
    assert not {name for name in _imports(module) if _within(name, ("pickle", "joblib", "dill", "cloudpickle"))}
    settings = [
        node
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "jax.config.update"
    ]
    assert not settings


def test_importing_changes_nothing_and_loads_no_door():
    _python(f"""
import jax, sys
before = dict(jax.config.values)
import ecjax
assert jax.config.values == before
doors = [name for name in sys.modules if name.split(".")[0] in {(*DOOR_PACKAGES, "sklearn")} or name in {DOORS}]
assert not doors, doors
""")


def test_every_public_name_is_there_and_explained():
    public = [
        (name.asname, name.name)
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom) and node.level
        for name in node.names
    ]
    assert {"recover", "compare"} <= {exported for exported, _ in public}
    for exported, name in public:
        assert exported == name, f"re-export {name} as itself"
        thing = getattr(ecjax, exported)
        if callable(thing):
            assert thing.__doc__, exported


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()

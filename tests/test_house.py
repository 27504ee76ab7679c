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
# Rooms from the ground floor up: each imports from itself and from those before it, none from those after.
ROOMS = (
    "base",
    "network",
    "doors",
    "objective",
    "data",
    "judge",
    "expand",
    "probe",
    "cluster",
    "reconstruct",
    "flow",
    "road",
    "runs",
    "sklearn",
    "figures",
    "report",
    "cli",
)
FACE = ("ecjax", "ecjax.__main__")
DOORS = ("ecjax.sklearn", "ecjax.figures", "ecjax.report", "ecjax.cli")
# What networks and tables are taken from and given to: each in its file of ecjax.doors, imported where it is called.
LIBRARIES = ("torch", "keras", "onnx", "onnxruntime", "pandas", "polars", "pyarrow")
DOOR_PACKAGES = ("tyro", "rich", "matplotlib", "pooch", "threadpoolctl", "sklearn", "vl_convert", *LIBRARIES)
# Imported where they are called, never at import: scikit-learn for its digits, pooch for downloads, threadpoolctl
# where it is there.
INSIDE = {
    "ecjax.data.teachers": {"sklearn"},
    "ecjax.data.images": {"pooch"},
    "ecjax.base.threads": {"threadpoolctl"},
    "ecjax.doors.keras3": {"keras"},
    "ecjax.doors.onnx_graph": {"onnx", "onnxruntime"},
    "ecjax.doors.pytorch": {"torch"},
    "ecjax.doors.sklearn": {"sklearn"},
}


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


def _room(module: str) -> str:
    return module.split(".")[1]


CORE = [module for module in MODULES if module not in FACE and not _within(module, DOORS)]


def test_every_module_has_a_room():
    assert {_room(module) for module in MODULES if module not in FACE} == set(ROOMS)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in FACE])
def test_imports_point_one_way(module):
    above = ROOMS[ROOMS.index(_room(module)) + 1 :]
    wrong = {name for name in _imports(module) if _within(name, tuple(f"ecjax.{room}" for room in above))}
    assert not wrong


@pytest.mark.parametrize("module", CORE)
def test_the_core_does_not_know_its_doors(module):
    wrong = {name for name in _imports(module) if _within(name, DOORS + DOOR_PACKAGES)}
    assert {name.split(".")[0] for name in wrong} <= INSIDE.get(module, set())


def _calls(module: str) -> set[str]:
    """The last names of what is called in a module: `layer.activation(z)` is a call of `activation`."""
    called = (node.func for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Call))
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in called}


# Where an activation may be called: the forward pass, Flax's own, and where claims of symmetry are put to the test.
CALL_ACTIVATIONS = ("ecjax.network.forward", "ecjax.doors.nnx", "ecjax.network.activation")


@pytest.mark.parametrize("module", [module for module in MODULES if module not in (*FACE, *CALL_ACTIVATIONS)])
def test_there_is_one_forward_pass(module):
    """Everybody else asks for `hidden_states`."""
    assert "activation" not in _calls(module)


def _is_limit(node: ast.AST) -> bool:
    """A number, or a constant of a module, other than 0 and infinity."""
    if isinstance(node, ast.UnaryOp):
        return _is_limit(node.operand)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and node.value not in (0, 1)
    return isinstance(node, ast.Name) and node.id.strip("_").isupper()


@pytest.mark.parametrize("module", [module for module in MODULES if module not in FACE])
def test_losses_are_compared_with_limits_by_the_judge_alone(module):
    """Losses may be compared with each other, and with what the settings of a stage say; not with a number."""
    if module == "ecjax.judge.exactness":
        return
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = " ".join(ast.unparse(side) for side in sides)
            of_losses = any(word in names for word in ("loss", "error", "cost", "contribution", "residual"))
            assert not (of_losses and any(map(_is_limit, sides))), ast.unparse(node)
            assert "exact_below" not in names


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
doors = [name for name in sys.modules if name.split(".")[0] in {DOOR_PACKAGES} or name in {DOORS}]
assert not doors, doors
for each in ("scipy.stats", "flax"):  # a fifth, and as much again, of the time that importing takes; needed by few
    assert each not in sys.modules, each
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

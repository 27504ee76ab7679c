"""Precision: every matrix product whose accuracy something depends on asks for all bits, where it is compiled or not.

Recent accelerators multiply float32 in 10 bits of mantissa unless a product says otherwise. What a program asks for
stands in its text before it is compiled, on any machine.
"""

import ast
import functools
import importlib
import re
from pathlib import Path

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest

import ecjax
from ecjax.base.devices import COPIED, SPREAD, placed, students_mesh
from ecjax.data import teachers
from ecjax.expand import (
    BFGS,
    LBFGS,
    Adam,
    Conjugate,
    Flow,
    Inexact,
    LevenbergMarquardt,
    Minibatch,
    Newton,
    Orthogonal,
    Road,
    Subsampled,
    minibatch,
    narrowing,
    students_axis,
)
from ecjax.flow import Discrete, Ode, Until, critical, landscape, minimum
from ecjax.flow import dynamics as flow_dynamics
from ecjax.flow.dynamics import Asked
from ecjax.flow.problem import posed
from ecjax.flow.until import limits
from ecjax.judge import jacobian
from ecjax.network import respond
from ecjax.objective import Samples, flatten, imitation_loss
from ecjax.objective.scaling import scaling

LAST = importlib.import_module("ecjax.reconstruct.last")
FINETUNE = importlib.import_module("ecjax.reconstruct.finetune")  # the room has a function of that name

SINGLE = jnp.float32
SHAPES = [(3, 4, 2), (3, 4, 5, 2)]
STAGES = {
    "adam": Adam(n_steps=2),
    "flow": Flow(max_steps=2),
    "explicit flow": Flow(solver="tsit5", max_steps=2),
    "levenberg_marquardt": LevenbergMarquardt(),
    "newton": Newton(),
    "orthogonal": Orthogonal(),
    "conjugate": Conjugate(),
    "inexact": Inexact(),
    "subsampled": Subsampled(n_steps=2),
    "bfgs": BFGS(),
    "lbfgs": LBFGS(),
}


def problem(shape=SHAPES[0], weighted=False):
    net = drawn.network(shape, "softplus", key=jr.key(0), dtype=SINGLE)
    x = drawn.normal(jr.key(1), (20, 3), SINGLE)
    return net, Samples(x, x[:, :2], jnp.ones(20, SINGLE) if weighted else None)


def students_of(net):
    return drawn.students(2, net.shape, net.activations, key=jr.key(0), dtype=SINGLE)


def products(text):
    """The matrix products of a program's text, and those of them that are left to the machine."""
    every = [
        line.strip() for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|dot|convolution)\b", line)
    ]
    return every, [line for line in every if "precision = [HIGHEST, HIGHEST]" not in line]


def assert_full(program, *arguments):
    """All bits of float32, and no more: a session with float64 switched on takes no array along to it."""
    text = program.lower(*arguments).as_text()
    every, left = products(text)
    assert every, "no matrix product at all: the test looks at the wrong text"
    assert not left, left
    wider = re.findall(r".*tensor<(?:\d+x)+f64>.*", text)
    assert not wider, wider[:3]


# --- compiled programs -----------------------------------------------------------------------------------------------

PROGRAMS = {}  # by the name of the jitted function that a case belongs to


def program(name, **cases):
    """A case, or several, of the public jitted function of that name."""

    def note(fn):
        PROGRAMS.setdefault(name, {}).update({case: functools.partial(fn, *given) for case, given in cases.items()})
        return fn

    return note


@program("students_axis._solve_one", **{name: (stage, SHAPES[0]) for name, stage in STAGES.items()})
@program("students_axis._solve_one", deep=(STAGES["conjugate"], SHAPES[1]))
def _one(stage, shape):
    net, samples = problem(shape)
    assert_full(students_axis._solve_one, stage, net, (samples,))


@program("students_axis._solve_batch", road=())
def _batch():
    net, samples = problem(weighted=True)
    assert_full(students_axis._solve_batch, Road((Adam(n_steps=2), LBFGS())), students_of(net), (samples,))


@program("students_axis._solve_spread", mesh=())
def _spread():
    net, samples = problem()
    mesh = students_mesh()
    students, data = placed(students_of(net), mesh, SPREAD), placed((samples,), mesh, COPIED)
    assert_full(students_axis._solve_spread, LevenbergMarquardt(), students, data, mesh, False)


MOVES = {"flow": Ode(), "explicit": Ode(solver="tsit5"), "adam": Discrete(optimiser=optax.adam)}


def _moving(dynamics, priced):
    net, samples = problem()
    what = posed(samples, net, barrier=0.1 if priced else float("inf"))
    given = limits(Until(steps=5), net.dtype), Asked(jnp.array([1.0, jnp.inf], SINGLE), jnp.array(True), jnp.array(0))
    return net, what, given


@program("dynamics._begin", **{name: (one,) for name, one in MOVES.items()})
def _begins(moves):
    net, what, _ = _moving(moves, False)
    assert_full(flow_dynamics._begin, moves, flatten(net)[0], what)


@program("dynamics._one_further", **{name: (one,) for name, one in MOVES.items()})
def _moves(moves):
    net, what, given = _moving(moves, True)
    start = flow_dynamics._begin(moves, flatten(net)[0], what)
    assert_full(flow_dynamics._one_further, moves, start, jnp.array(0), what, *given, jnp.array(9))


@program("dynamics._batch_further", **{name: (MOVES[name],) for name in ("flow", "explicit")})
def _move_together(moves):
    net, what, given = _moving(moves, False)
    start = flow_dynamics._begin(moves, flatten(net)[0], what)
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (start, jnp.array(0)))
    assert_full(flow_dynamics._batch_further, moves, *two, what, *given, jnp.array(9))


@program("critical._derivatives", hessian=())
def _critical():
    assert_full(critical._derivatives, *problem())


@program("minimum._measured", stack=())
def _measured_ends():
    net, samples = problem()
    assert_full(minimum._measured, students_of(net), samples)


@program("minimum._value_and_gradient", one=())
def _value_and_gradient():
    net, samples = problem()
    assert_full(minimum._value_and_gradient, flatten(net)[0], net, samples)


@program("landscape._values", points=())
def _on_a_plane():
    net, samples = problem()
    assert_full(landscape._values, jnp.stack([flatten(net)[0]] * 2), net, samples)


@program("minibatch._train", highest=())
def _epochs():
    net, samples = problem()
    config, key = Minibatch(batch=5, max_epochs=2), jr.key(0)
    state = minibatch._begin(students_of(net), config, key)
    assert_full(minibatch._train, state, samples.x, samples.y, key, config)


@program("minibatch._expansion", highest=())
def _measured():
    net, samples = problem()
    config = Minibatch(batch=6, max_epochs=2)
    state = minibatch._begin(students_of(net), config, jr.key(0))
    assert_full(minibatch._expansion, state, samples.x, samples.y, config)


@program("teachers._train", teacher=())
def _teacher():
    net, samples = problem()
    options = {"n_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.1}
    given = (net, samples.x, jnp.zeros(20, int))
    assert_full(eqx.filter_jit(lambda *given: teachers._train(*given, key=jr.key(0), **options)), *given)


@program("finetune._descend_to", descent=())
def _descend_to():
    net, samples = problem()
    free, target = jnp.ones(net.n_parameters, bool), jnp.zeros((), net.dtype)
    assert_full(FINETUNE._descend_to, LevenbergMarquardt(), target, net, samples, free)


@program("finetune._on_some", some=())
def _on_some():
    net, samples = problem()
    assert_full(FINETUNE._on_some, FINETUNE._STIR, net, samples, jnp.ones(net.n_parameters, bool))


@program("last._rows", deep=())
def _rows():
    net, samples = problem(SHAPES[1])
    assert_full(LAST._rows, net, samples.x, jnp.ones_like(samples.y))


@program("last._gradient", deep=())
def _gradient():
    assert_full(LAST._gradient, *problem(SHAPES[1]))


@program("last._bend", deep=())
def _bend():
    net, samples = problem(SHAPES[1])
    assert_full(LAST._bend, net, samples, jnp.ones(net.n_parameters, net.dtype))


@program("jacobian.answers_by_weights", shallow=(SHAPES[0],), deep=(SHAPES[1],))
def _answers_by_weights(shape):
    net, samples = problem(shape)
    assert_full(jacobian.answers_by_weights, net, samples.x)


LONG = [("dynamics._batch_further", "flow")]  # seconds to trace: alone, and an explicit flow in a batch, are quick


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=[pytest.mark.slow] if (name, case) in LONG else [])
        for name, cases in PROGRAMS.items()
        for case in cases
    ],
)
def test_compiled_programs_ask_for_all_bits(name, case):
    PROGRAMS[name][case]()


def test_every_compiled_program_is_looked_at():
    """All but those of the cluster phase, whose products have a test of their own, draws, which have none, and what
    refuses float32."""
    found = set()
    for path in Path(ecjax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and path.parent.name != "cluster":
                how = " ".join(map(ast.unparse, node.decorator_list))
                found |= {f"{path.stem}.{node.name}"} if re.search(r"compiled|jit", how) else set()
    assert found == set(PROGRAMS) | {"network._linear_stack", "without_matrix.normal"}


def test_a_setting_may_ask_for_less():
    """So that the tests above can fail, and since some want their speed."""
    net, samples = problem()
    for config, least in ((Minibatch(batch=5, precision="default"), 3), (Minibatch(batch=5, precision="high"), 3)):
        state = minibatch._begin(students_of(net), config, jr.key(0))
        _, left = products(minibatch._train.lower(state, samples.x, samples.y, jr.key(0), config).as_text())
        assert len(left) >= least


# --- what runs operation by operation --------------------------------------------------------------------------------

EAGER = {
    "respond": lambda net, samples: respond(net, samples.x),
    "imitation_loss": lambda net, samples: imitation_loss(net, samples.x, samples.y),
    "value": lambda net, samples: samples.value(net),
    "residuals": lambda net, samples: samples.residuals(net),
    "gradient": lambda net, samples: samples.gradient(net),
    "jacobian": lambda net, samples: samples.jacobian(net),
    "hessian": lambda net, samples: samples.curvature(net, exact=True),
    "gauss_newton": lambda net, samples: samples.curvature(net, exact=False),
    "products": lambda net, samples: samples.products(net)[1](samples.products(net)[0](flatten(net)[0])),
    "bend": lambda net, samples: samples.bend(net, flatten(net)[0]),
    "scaling": lambda net, samples: scaling(*SEEN, standardise="common").samples(samples.x, samples.y),
    **{name: (lambda net, samples, stage=stage: stage(net, samples)) for name, stage in STAGES.items()},
}
SEEN = (drawn.normal(jr.key(1), (20, 3), SINGLE), drawn.normal(jr.key(2), (20, 2), SINGLE))


SAME_AT_ANY_DEPTH = ("scaling", *STAGES)
LOOKED_AT = set(STAGES) - {"adam", "levenberg_marquardt"}  # above, as students go through them
CASES = [
    pytest.param(name, shape, marks=[pytest.mark.slow] if name in LOOKED_AT else [])
    for name in EAGER
    for shape in SHAPES
    if shape == SHAPES[0] or name not in SAME_AT_ANY_DEPTH
]


@pytest.mark.parametrize(("name", "shape"), CASES, ids=lambda part: part if isinstance(part, str) else str(len(part)))
def test_so_does_what_is_called_by_itself(name, shape):
    assert_full(eqx.filter_jit(EAGER[name]), *problem(shape, weighted=name == "gauss_newton"))


def test_teachers_are_drawn_in_full_precision():
    """JAX's own draws are left out: they are made in float64 where that is switched on."""
    draw = jax.jit(lambda key: ecjax.synthetic_teacher(3, (4, 5), 2, "g", key=key, dtype=SINGLE))
    every, left = products(draw.lower(jr.key(0)).as_text())
    assert every
    assert not left, left


def test_students_are_narrowed_in_full_precision(monkeypatch):
    """On the host but for one forward pass, whose scope is looked at."""
    seen = []
    original = narrowing.hidden_states

    def watched(*given):
        seen.append(jax.config.jax_default_matmul_precision)
        return original(*given)

    monkeypatch.setattr(narrowing, "hidden_states", watched)
    net, samples = problem()
    narrowing.shrunk(students_of(net), samples.x, (2,))
    assert seen == ["highest"] * 2
    assert jax.config.jax_default_matmul_precision is None  # outside nothing has changed

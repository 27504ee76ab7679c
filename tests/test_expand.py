"""Expansion: what gradient flow conserves, how solvers end and say so, and the axis of students."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from ecjax.data.teachers import synthetic_teacher
from ecjax.expand import (
    RESULTS,
    AdamConfig,
    ExpandConfig,
    FlowConfig,
    MinibatchConfig,
    RefineConfig,
    adam,
    choose_method,
    expand,
    gradient_flow,
    over_students,
    refine,
)
from ecjax.expand.expansion import judged
from ecjax.expand.refine import Bend
from ecjax.network.activations import ACTIVATIONS
from ecjax.network.networks import random_network, random_students, respond, student
from ecjax.objective.imitation import flatten, gradient, imitation_loss, jacobian, residuals

SHAPE = (2, 4, 1)
SHORT = RefineConfig(max_steps=20)


def problem(activation="tanh", *, n_students=3, n_samples=40):
    """A teacher of width 2, students of width 4, queries and answers. The same in every test, to compile once."""
    teacher_key, student_key, x_key = jr.split(jr.key(2), 3)
    teacher = synthetic_teacher(2, 2, 1, activation, key=teacher_key)
    x = jr.normal(x_key, (n_samples, 2))
    return teacher, random_students(n_students, SHAPE, activation, key=student_key), x, respond(teacher, x)


def disturbed(net, size=0.05):
    theta, unflatten = flatten(net)
    return unflatten(theta + size * jr.normal(jr.key(5), theta.shape))


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the type checks of these tests, which would stand before ecjax's own refusals."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def assert_equal(a, b):
    """Bit for bit, NaN being equal to NaN."""
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


@eqx.filter_jit
def flow(net, x, y, config):
    return gradient_flow(net, x, y, config=config)


@eqx.filter_jit
def refined(net, x, y, config=None, solver="levenberg_marquardt", free=None):
    return refine(net, x, y, config=config, solver=solver, free=free)


# --- gradient flow -------------------------------------------------------------------------------------------------


def test_flow_keeps_each_relu_neuron_in_balance():
    """Gradient flow conserves |w|² + b² - |a|² for ReLU (Du, Hu, Lee 2018, arXiv:1806.00900)."""
    _, students, x, y = problem("relu")
    start = student(students, 0)
    balance = lambda net: jnp.sum(net.layers[0].w ** 2, 1) + net.layers[0].b ** 2 - jnp.sum(net.layers[1].w ** 2, 0)
    end = flow(start, x, y, FlowConfig(solver="tsit5", t_end=3.0, rtol=1e-6, atol=1e-8))
    assert bool(end.result == RESULTS.reached_end)
    moved = np.abs(flatten(end.network)[0] - flatten(start)[0]).max()
    assert moved > 0.1
    assert float(end.loss) < 0.9 * float(imitation_loss(start, x, y))
    np.testing.assert_allclose(balance(end.network), balance(start), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "solver",
    [
        "kvaerno5",
        "tsit5",
        pytest.param("kvaerno3", marks=pytest.mark.slow),
        pytest.param("dopri8", marks=pytest.mark.slow),
    ],
)
def test_every_solver_follows_the_same_flow(solver):
    """Where the exact flow ends after a given time does not depend on who solves it."""
    _, students, x, y = problem()
    start = student(students, 0)
    config = FlowConfig(solver=solver, t_end=3.0, rtol=1e-7, atol=1e-10, root_tol=1e-8)
    end = flow(start, x, y, config)
    assert bool(end.result == RESULTS.reached_end)

    theta, unflatten = flatten(start)
    step = 1e-3
    slope = lambda theta: -flatten(gradient(unflatten(theta), x, y))[0]
    midpoint = lambda _, theta: theta + step * slope(theta + step / 2 * slope(theta))
    np.testing.assert_allclose(flatten(end.network)[0], jax.lax.fori_loop(0, 3000, midpoint, theta), rtol=0, atol=1e-5)
    assert float(end.loss) < float(imitation_loss(start, x, y))


FLOW_ENDS = {
    "reached_end": {"t_end": 0.1},
    "max_steps": {"max_steps": 2},
    "reached_target": {"target_loss": 0.5},
    "flat": {"gradient_norm": 0.2},
}


@pytest.mark.parametrize("reason", FLOW_ENDS)
def test_flow_says_why_it_stopped(reason):
    _, students, x, y = problem()
    config = FlowConfig(solver="tsit5", **FLOW_ENDS[reason])
    end = flow(student(students, 0), x, y, config)
    assert bool(end.result == getattr(RESULTS, reason))
    assert int(end.n_steps) > 0
    if reason == "reached_target":
        assert 0.1 < float(end.loss) <= 0.5  # at once, not at the end of time
    if reason == "flat":
        assert 0.01 < float(end.gradient_norm) <= 0.2


# --- refinement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["levenberg_marquardt", "newton", "orthogonal", "conjugate", "bfgs", "lbfgs"])
def test_every_solver_finds_the_teacher_nearby(solver):
    teacher, _, x, y = problem()
    end = refined(disturbed(teacher), x, y, RefineConfig(), solver)
    assert float(end.loss) < 1e-27
    np.testing.assert_allclose(flatten(end.network)[0], flatten(teacher)[0], rtol=0, atol=1e-10)


def test_refinement_says_why_it_stopped():
    teacher, _, x, y = problem()
    start, default = disturbed(teacher), RefineConfig()
    noise = jr.normal(jr.key(0), y.shape)
    ends = {
        "reached_target": refined(start, x, y, default),
        "stalled": refined(start, x, noise, RefineConfig(gradient_norm=0.0)),
        "max_steps": refined(start, x, y, RefineConfig(max_steps=2)),
        "flat": refined(start, x, noise, RefineConfig(gradient_norm=1e-3)),
        "diverged": refined(jax.tree.map(lambda leaf: jnp.nan * leaf, start), x, y, default),
    }
    for reason, end in ends.items():
        assert bool(end.result == getattr(RESULTS, reason)), reason
    assert int(ends["max_steps"].n_steps) == 2
    assert float(ends["flat"].gradient_norm) <= 1e-3
    assert not np.isfinite(ends["diverged"].loss)


@pytest.mark.parametrize("solver", ["levenberg_marquardt", "orthogonal", "conjugate"])
def test_frozen_parameters_do_not_move(solver):
    teacher, _, x, y = problem()
    start = disturbed(teacher)
    theta, _ = flatten(start)
    free = np.arange(theta.size) % 3 > 0
    end = refined(start, x, y, SHORT, solver, jnp.array(free))
    moved = np.asarray(flatten(end.network)[0] != theta)
    n_free = teacher.layers[0].w.size + teacher.layers[0].b.size if solver == "conjugate" else theta.size
    np.testing.assert_array_equal(moved[:n_free], free[:n_free])  # "conjugate" fits the output layer, whatever is free
    assert float(end.loss) < float(imitation_loss(start, x, y))


def test_the_bend_is_the_second_derivative_of_the_residuals_along_the_step():
    """By finite differences, seen through the Jacobian, and nothing of it on frozen parameters."""
    teacher, _, x, y = problem()
    start = disturbed(teacher)
    theta, unflatten = flatten(start)
    step, free = jr.normal(jr.key(7), theta.shape), jnp.arange(theta.size) % 4 > 0
    at = lambda t: residuals(unflatten(theta + t * step), x, y).reshape(-1)
    h = 1e-4
    second = (at(h) - 2 * at(0) + at(-h)) / h**2
    expected = 2 / y.size * jacobian(start, x).reshape(y.size, -1).T @ second
    found = Bend(start, x, y, free)(theta, step)
    np.testing.assert_allclose(found, jnp.where(free, expected, 0), atol=1e-6 * float(jnp.abs(expected).max()))


def test_judged_tells_the_weights_loss_and_gradient():
    _, students, x, y = problem()
    net = student(students, 1)
    told = judged(flatten(net)[0], net, x, y, n_steps=jnp.array(3), result=RESULTS.flat, target_loss=0.0)
    assert_equal(told.network, net)
    np.testing.assert_allclose(told.loss, imitation_loss(net, x, y), rtol=1e-14)
    np.testing.assert_allclose(told.gradient_norm, jnp.linalg.norm(flatten(gradient(net, x, y))[0]), rtol=1e-14)
    assert bool(told.result == RESULTS.flat)


def test_adam_goes_down():
    _, students, x, y = problem("relu")
    start = student(students, 0)
    end = adam(start, x, y, config=AdamConfig(n_steps=200, learning_rate=3e-2))
    assert float(end.loss) < 0.1 * float(imitation_loss(start, x, y))
    assert int(end.n_steps) == 200
    assert bool(end.result == RESULTS.max_steps)


# --- methods -------------------------------------------------------------------------------------------------------

METHODS = {
    "levenberg_marquardt": "tanh",
    "flow": "tanh",
    "flow_newton": "tanh",
    "flow_bfgs": "tanh",
    "adam_levenberg_marquardt": "relu",
    "adam_lbfgs": "relu",
    "minibatch": "tanh",
    "minibatch_lbfgs": "tanh",
    "minibatch_conjugate": "tanh",
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_its_road(method):
    _, students, x, y = problem(METHODS[method])
    config = ExpandConfig(
        method=method,
        adam=AdamConfig(n_steps=100),
        flow=FlowConfig(max_steps=30),
        minibatch=MinibatchConfig(batch=40, learning_rate=1e-2, max_epochs=20),
        refine=SHORT,
        lbfgs=SHORT,
    )
    expansion = expand(students, x, y, config=config, key=jr.key(1))
    assert expansion.method == method
    start = jnp.stack([imitation_loss(student(students, i), x, y) for i in range(3)])
    assert (expansion.loss < 0.5 * start).all()
    # Every stage counts its steps.
    first = {"adam": 100, "flow": 30, "minibatch": 20 * (len(x) // 40)}.get(method.split("_")[0], 0)
    more = 0 if method == "minibatch" else 20
    assert ((first + min(more, 1) <= expansion.n_steps) & (expansion.n_steps <= first + more)).all()
    assert (expansion.history is not None) == method.startswith("minibatch")
    for i in range(3):
        end = student(expansion.students, i)
        np.testing.assert_allclose(expansion.loss[i], imitation_loss(end, x, y), rtol=1e-6)


def test_auto_chooses_by_smoothness_and_size():
    assert choose_method(ACTIVATIONS["tanh"], 100) == "levenberg_marquardt"
    assert choose_method(ACTIVATIONS["relu"], 100) == "adam_levenberg_marquardt"
    assert choose_method(ACTIVATIONS["tanh"], 100_000) == choose_method(ACTIVATIONS["relu"], 100_000) == "adam_lbfgs"
    smooth = [
        name for name, activation in ACTIVATIONS.items() if choose_method(activation, 10) == "levenberg_marquardt"
    ]
    assert set(ACTIVATIONS) - set(smooth) == {"relu", "leaky_relu", "elu", "selu", "abs"}


# --- the students axis ---------------------------------------------------------------------------------------------


def few_adam_steps(net, x, y):
    return adam(net, x, y, config=AdamConfig(n_steps=5))


def test_placements_agree():
    """One at a time, all at once, and in chunks that do not divide the number of students."""
    _, students, x, y = problem()
    run = lambda **placement: over_students(few_adam_steps, students, x, y, **placement)
    one_by_one = run(placement="map")
    for other in (run(placement="vmap"), run(placement="vmap", chunk=2)):
        for a, b in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert_equal(run(), run(placement="map" if jax.default_backend() == "cpu" else "vmap"))


def test_a_diverging_student_is_marked_and_stops_nobody():
    _, students, x, y = problem()
    config = ExpandConfig(refine=SHORT)
    sound = expand(students, x, y, config=config)
    sick = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), students)
    expansion = expand(sick, x, y, config=config)
    assert sound.finite.all()
    np.testing.assert_array_equal(expansion.finite, [True, False, True])
    assert expansion.reasons()[1] == RESULTS[RESULTS.diverged]
    assert RESULTS[RESULTS.diverged] not in sound.reasons()
    for i in (0, 2):
        assert_equal(student(expansion.students, i), student(sound.students, i))


def test_students_of_a_store_are_not_trained_again():
    _, students, x, y = problem()
    store = {}
    whole = over_students(few_adam_steps, students, x, y, store=store)
    assert sorted(store) == [0, 1, 2]

    def never(net, x, y):
        raise AssertionError("trained again")

    assert_equal(over_students(never, students, x, y, store=store), whole)
    with pytest.raises(AssertionError, match="trained again"):
        over_students(never, students, x, y, store={0: store[0]})


@pytest.mark.parametrize("placement", [{"placement": "map"}, {"placement": "vmap", "chunk": 2}], ids=str)
def test_an_interrupted_expansion_goes_on_where_it_was(placement):
    _, students, x, y = problem()
    run = lambda **more: over_students(few_adam_steps, students, x, y, **placement, **more)
    store, seen = {}, []

    def interrupted(phase, done, total, *, losses):
        seen.append((phase, done, total, len(losses)))
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store=store, progress=interrupted)
    assert 0 < len(store) < 3
    assert seen == [("expand", 0, 3, 0), ("expand", len(store), 3, len(store))]
    resumed = run(store=store, progress=lambda *at, losses: seen.append((*at, len(losses))))
    assert seen[2][1] == seen[1][1]  # what the store holds counts as done from the start
    assert seen[-1] == ("expand", 3, 3, 3)
    assert_equal(resumed, run())


# --- bad settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamConfig(n_steps=0), "`n_steps` of Adam"),
        (lambda: AdamConfig(learning_rate=0.0), "`learning_rate` is positive"),
        (lambda: FlowConfig(solver="euler"), "`solver` of the flow is one of"),
        (lambda: FlowConfig(t_end=-1.0), "`t_end` is a positive"),
        (lambda: FlowConfig(max_steps=0), "`max_steps` is at least 1"),
        (lambda: RefineConfig(max_steps=0), "`max_steps` and `patience`"),
        (lambda: RefineConfig(patience=0), "`max_steps` and `patience`"),
        (lambda: ExpandConfig(method="sgd"), "`method` is one of .*got 'sgd'"),
    ],
)
def test_bad_settings_are_refused(make, message, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_placements_and_solvers_are_refused(key, as_users_run_it):
    _, students, x, y = problem()
    net = random_network(SHAPE, "tanh", key=key)
    with pytest.raises(ValueError, match="`chunk` is how many students"):
        over_students(few_adam_steps, students, x, y, chunk=0)
    with pytest.raises(ValueError, match="`placement` is"):
        over_students(few_adam_steps, students, x, y, placement="gpu")
    with pytest.raises(ValueError, match="`solver` is one of"):
        refine(net, x, y, solver="sgd")

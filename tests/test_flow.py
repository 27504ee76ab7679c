"""Flows obey their laws: loss falls, what is conserved stays, images stay images, and stopping changes nothing."""

import inspect
import itertools

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax import flow
from ecjax.flow import Discrete, Ode, Until, follow, log_times
from ecjax.flow.following import _asked, dynamics_of
from ecjax.flow.problem import Penalised, posed
from ecjax.flow.until import REASONS
from ecjax.network import (
    Layer,
    Network,
    mixture,
    permute_neurons,
    random_network,
    random_students,
    respond,
    student,
)
from ecjax.objective import Objective, Population, Samples, flatten


class Size(Objective):
    """Has no samples."""

    def value(self, net):
        return jnp.sum(flatten(net)[0] ** 2)


SHARP = Ode(rtol=1e-9, atol=1e-11)
EXACT = Ode(solver="dopri8", rtol=1e-11, atol=1e-13)  # where nothing is stiff, and half as long to compile
SOLVERS = [
    "kvaerno5",  # an implicit one in every run, against an explicit one; the others in test_flow_solvers
    *(pytest.param(one, marks=pytest.mark.slow) for one in ("tsit5", "kvaerno3", "kencarp58", "dopri8")),
]


def task(key, shape=(2, 3, 1), activation="tanh", n=60, weights=None):
    """A teacher's answers."""
    teacher = drawn.network(shape, activation, key=key)
    x = drawn.normal(jr.fold_in(key, 1), (n, shape[0]))
    return Samples(x, drawn.answers(teacher, x), weights)


def stack_of(key, n=3, shape=(2, 4, 1), activation="tanh"):
    return drawn.students(n, shape, activation, key=jr.fold_in(key, 2))


def same(one, other):
    """Whether two trajectories are the same, bit for bit."""
    assert one.reasons() == other.reasons()
    for name in ("time", "theta", "loss", "gradient_norm", "n_saved", "n_steps", "n_kept"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# --- laws of the flow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree_on_the_path(solver, key):
    """To 1e-6: a thousand times the tolerance of a step, of which there are a hundred."""
    objective, students = task(key), stack_of(key)
    until, saves = Until(time=20.0), [0.5, 3.0, 11.0]
    path = follow(students, objective, until=until, saves=saves, solver=Ode(solver=solver, rtol=1e-9, atol=1e-11))
    other = follow(students, objective, until=until, saves=saves, solver=EXACT)
    np.testing.assert_array_equal(path.time, [[0.0, *saves, 20.0]] * 3)
    np.testing.assert_allclose(path.theta, other.theta, atol=1e-6)
    assert set(path.reasons()) == {"the end of its time"}


@pytest.mark.parametrize(
    ("activation", "solver"),
    [
        ("tanh", "tsit5"),
        *(pytest.param(one, "kvaerno5", marks=pytest.mark.slow) for one in ("tanh", "softplus", "g", "sin")),
    ],
)
def test_the_loss_falls_along_every_flow(activation, solver, key):
    students, objective = stack_of(key, activation=activation), task(key, activation=activation)
    path = follow(students, objective, saves=1, until=Until(steps=200), solver=solver)
    for i in range(path.n_students):
        loss = path.loss[i, : path.n_saved[i]]
        assert np.all(np.diff(loss) <= 1e-15)  # the rounding of a loss of order 1
        assert np.all(np.diff(path.time[i, : path.n_saved[i]]) > 0)


@pytest.mark.parametrize(("activation", "shape"), [("relu", (3, 5, 2)), ("identity", (3, 4, 5, 2))])
@pytest.mark.slow  # the quick one of this law is in test_expand
def test_layers_stay_in_balance(activation, shape, key):
    """|w|^2 + b^2 - |a|^2 of relu neurons, W W' + b b' - A'A of linear layers (Du, Hu, Lee 2018, arXiv:1806.00900)."""
    students = stack_of(key, shape=shape, activation=activation)
    solver = Ode(solver="tsit5", rtol=1e-9, atol=1e-11)  # implicit stages of kinks do not converge
    path = follow(students, task(key, shape, activation), until=Until(time=3.0), solver=solver, saves=[1.0, 2.0])
    for i in range(path.n_students):
        nets = jax.tree.map(np.asarray, path.networks(i))
        for inner, outer in zip(nets.hidden, nets.layers[1:], strict=True):
            incoming = inner.w @ inner.w.mT + inner.b[..., :, None] * inner.b[..., None, :]
            balance = incoming - outer.w.mT @ outer.w
            kept = balance if activation == "identity" else np.diagonal(balance, axis1=1, axis2=2)
            # A kink that a sample crosses within a step costs that step its order; some do.
            np.testing.assert_allclose(kept, np.broadcast_to(kept[:1], kept.shape), atol=1e-6)


def test_images_stay_images(key):
    """Of a permutation and a change of signs; a solver's steps depend on the norm of its error, which has no sides."""
    objective, net = task(key), student(stack_of(key), 0)
    flipped = jnp.asarray([1.0, -1.0, 1.0, -1.0])

    def image(net):
        inner, outer = net.layers
        inner = Layer(inner.w * flipped[..., :, None], inner.b * flipped, inner.activation)
        return permute_neurons(Network((inner, Layer(outer.w * flipped[None], outer.b))), [2, 0, 3, 1], layer=0)

    until = Until(time=50.0)
    own = follow(net, objective, until=until, solver=EXACT)
    other = follow(image(net), objective, until=until, solver=EXACT)
    expected = flatten(image(student(own.final, 0)))[0]
    np.testing.assert_allclose(other.theta[0, -1], expected, atol=1e-9)  # rounding, spread by 1e5 at most


@pytest.mark.slow
def test_a_deep_mixture_flows(key):
    layers = [mixture(tanh=2, softplus=2), "sin"]
    students = drawn.students(2, (2, 4, 3, 1), layers, key=key)
    path = follow(students, task(key), saves=[1.0], until=Until(time=5.0))
    assert np.all(path.final_loss < path.loss[:, 0])


@pytest.mark.slow
def test_a_population_is_followed_and_is_the_limit_of_many_samples(key):
    teacher = drawn.network((2, 2, 1), "erf", key=key)
    students = stack_of(key, 2, (2, 3, 1), "erf")
    x = drawn.normal(jr.fold_in(key, 1), (40_000, 2))
    options = {"until": Until(time=5.0), "saves": 1, "solver": "tsit5"}
    limit = follow(students, Population(teacher), **options)
    near = follow(students, Samples(x, respond(teacher, x)), **options)
    for i in range(2):
        assert np.all(np.diff(limit.loss[i, : limit.n_saved[i]]) <= 1e-15)
    np.testing.assert_allclose(flatten(student(near.final, 0))[0], flatten(student(limit.final, 0))[0], atol=0.05)


# --- stopping and going on -------------------------------------------------------------------------------------------

WAYS = {"flow": Ode(solver="tsit5"), "implicit": Ode(), "adam": Discrete(optimiser=optax.adam, rate=0.01, batch=7)}


SAVES = {"none": None, "times": (0.1, 0.3, 0.75), "every third": 3}  # as many times in all tests: a number, a program
EVERY_RUN = (("flow", "times"),)


@pytest.mark.parametrize(
    ("way", "saves"),
    [
        *EVERY_RUN,
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in itertools.product(WAYS, SAVES)
            if each not in EVERY_RUN
        ),
    ],
)
def test_going_on_is_as_if_it_had_never_stopped(way, saves, key):
    objective, students = task(key), stack_of(key)
    options = {"solver": WAYS[way], "saves": SAVES[saves]}
    whole = follow(students, objective, until=Until(time=1.5), **options)
    parts = follow(students, objective, until=Until(time=0.3), **options)
    parts = follow(parts, objective, until=Until(steps=int(parts.n_steps.max()) + 4, time=0.8), **options)
    parts = follow(parts, objective, until=Until(loss=float(parts.final_loss.max()) * 0.97, time=1.2), **options)
    same(follow(parts, objective, until=Until(time=1.5), **options), whole)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.01, 4.9), min_size=3, max_size=3, unique=True), st.integers(0, 3))  # a number, a program
def test_what_is_saved_does_not_change_the_path(times, seed):
    key = jr.key(seed)
    objective, students = task(key), stack_of(key, 1)
    options = {"until": Until(time=5.0), "solver": Ode(solver="tsit5")}
    bare = follow(students, objective, **options)
    saved = follow(students, objective, saves=np.sort(times), **options)
    np.testing.assert_array_equal(saved.time[0], [0.0, *np.sort(times), 5.0])
    np.testing.assert_array_equal(saved.theta[0, -1], bare.theta[0, -1])
    assert saved.n_steps == bare.n_steps


@pytest.mark.parametrize("way", ["flow", pytest.param("adam", marks=pytest.mark.slow)])
def test_students_do_not_see_each_other(way, key):
    """In a batch, by several threads, alone: rounding apart, which batches change."""
    objective, students = task(key), stack_of(key, 5)
    options = {"until": Until(time=2.0), "solver": WAYS[way], "saves": [0.5, 1.0, 1.5]}
    alone = follow(students, objective, **options)
    same(follow(students, objective, threads=2, **options), alone)
    np.testing.assert_allclose(follow(students, objective, together=3, **options).theta, alone.theta, atol=1e-12)
    one = follow(student(students, 3), objective, **options)
    np.testing.assert_array_equal(one.theta[0], alone.theta[3])


@pytest.mark.slow
def test_those_that_have_stopped_leave_the_batch(key):
    objective, students = task(key), stack_of(key, 5)
    until = Until(loss=3e-3, steps=400)
    alone = follow(students, objective, until=until)
    together = follow(students, objective, until=until, together=5)
    assert together.reasons() == alone.reasons()
    np.testing.assert_allclose(together.final_loss, alone.final_loss, rtol=1e-6)


STOPS = {
    "the end of its time": Until(time=0.1),
    "the target loss": Until(loss=10.0),
    "the gradient vanished": Until(gradient_norm=100.0),
    "the limit of its norm": Until(norm=0.01),
    "out of steps": Until(steps=5),
}


@pytest.mark.parametrize("reason", STOPS)
def test_every_reason_to_stop(reason, key):
    path = follow(stack_of(key, 1), task(key), until=STOPS[reason], solver="tsit5")
    assert path.reasons() == [reason]
    assert reason in REASONS


def test_who_is_at_rest_above_the_gradient_that_is_asked_says_so(key):
    """Steps double until they are longer than any curvature can show; the student stays where it is at rest."""
    path = follow(stack_of(key, 1, (2, 2, 1)), task(key), until=Until(gradient_norm=0.0, loss=0.0))
    assert path.reasons() == ["no further in this precision"]
    assert path.n_steps[0] < 500
    assert path.final_gradient_norm[0] < 1e-13


@pytest.mark.slow
def test_students_come_to_the_end_of_narrow_valleys():
    """Long steps leave a curved valley to second order: with one Hessian a step their stages are not solved, and no
    such student came to a gradient of 1e-10 within 5,000 steps. One of these runs to infinity."""
    teacher = random_network((2, 8, 1), "tanh", key=jr.key(0))
    x = jr.normal(jr.key(1), (500, 2))
    samples = Samples(x, respond(teacher, x))
    students = random_students(4, (2, 8, 1), "tanh", key=jr.fold_in(jr.key(3), 2))  # these four
    until = Until(gradient_norm=1e-12, loss=0.0, norm=1e3)
    ends = []
    for solver in ("kvaerno5", "kencarp58"):
        path = follow(students, samples, until=until, solver=solver, saves=1)
        assert path.reasons() == [*["the gradient vanished"] * 2, "the limit of its norm", "the gradient vanished"]
        assert path.n_steps.max() < 2000
        for i in range(4):
            losses = path.loss[i, : path.n_saved[i]]
            assert np.all(np.diff(losses) <= 1e-6 * losses[:-1])
        ends.append(np.maximum(path.final_loss, 1e-14))
    np.testing.assert_allclose(*ends, rtol=0.01)


def test_a_student_that_fails_does_not_stop_the_others(key):
    students = stack_of(key, 2)
    broken = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), students)
    path = follow(broken, task(key), until=Until(time=1.0), solver="tsit5")
    assert path.reasons() == ["not finite", "the end of its time"]


# --- what is followed ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_price_has_the_derivatives_that_it_says(key):
    objective, net = task(key), student(stack_of(key), 0)
    number = lambda one: jnp.asarray(one, float)
    priced = Penalised(objective, number(0.02), number(3.0), number(0.1))
    assert float(priced.penalty(net)) > 0
    theta, unflatten = flatten(net)
    value = lambda theta: priced.value(unflatten(theta))
    np.testing.assert_allclose(flatten(priced.gradient(net))[0], jax.grad(value)(theta), atol=1e-14)
    np.testing.assert_allclose(priced.curvature(net, exact=True), jax.hessian(value)(theta), atol=1e-13)


def test_a_barrier_holds_the_norm(key):
    """At the end the price of going further out is as steep as the loss: the norm stays near the barrier's."""
    objective, students = task(key), stack_of(key)
    bound = 0.1
    options = {"until": Until(time=1e3, gradient_norm=1e-8), "solver": "tsit5"}
    path = follow(students, objective, barrier=bound, barrier_strength=1e4, **options)
    norms = np.mean(path.theta[:, -1] ** 2, axis=-1) / 2
    assert np.all(norms < 1.2 * bound)
    free = follow(students, objective, barrier=1e6, **options)  # far away: none
    assert np.all(np.mean(free.theta[:, -1] ** 2, axis=-1) / 2 > norms)


@pytest.mark.slow
def test_weight_decay_ends_where_loss_and_decay_balance(key):
    objective, students = task(key), stack_of(key)
    path = follow(students, objective, decay=0.01, until=Until(gradient_norm=1e-10))
    assert set(path.reasons()) == {"the gradient vanished"}
    pull = flatten(objective.gradient(student(path.final, 0)))[0] + 0.01 * path.theta[0, -1]
    assert np.linalg.norm(pull) < 1e-9


def test_time_constants_freeze_biases_and_scale_time(key):
    objective, students = task(key), stack_of(key)
    still = flow.time_constants(students, b=float("inf"))
    path = follow(students, objective, time_constants=still, until=Until(time=3.0), solver="tsit5")
    np.testing.assert_array_equal(path.final.layers[0].b, 0)
    np.testing.assert_array_equal(path.final.layers[1].b, 0)
    own = follow(students, objective, until=Until(time=3.0), solver=EXACT)
    slow = follow(students, objective, time_constants=2.0, until=Until(time=6.0), solver=EXACT)
    np.testing.assert_allclose(slow.theta[:, -1], own.theta[:, -1], atol=1e-7)
    slower = flow.time_constants(students, by_layer=(1.0, float("inf")))
    path = follow(students, objective, time_constants=slower, until=Until(time=3.0), solver="tsit5")
    np.testing.assert_array_equal(path.final.layers[1].w, students.layers[1].w)


@pytest.mark.slow
def test_a_sample_that_counts_twice_is_there_twice(key):
    objective, students = task(key, n=20), stack_of(key)
    twice = jnp.concatenate([jnp.arange(20), jnp.arange(5)])
    weights = jnp.where(jnp.arange(20) < 5, 2.0, 1.0)
    options = {"until": Until(time=2.0), "solver": "tsit5"}
    weighted = follow(students, Samples(objective.x, objective.y, weights), **options)
    repeated = follow(students, objective.take(twice), **options)
    np.testing.assert_allclose(weighted.theta, repeated.theta, atol=1e-12)


# --- discrete dynamics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", [pytest.param(optax.sgd, marks=pytest.mark.slow), optax.adam])
def test_discrete_dynamics_are_those_of_optax(optimiser, key):
    objective, net = task(key), student(stack_of(key), 0)
    path = follow(net, objective, solver=Discrete(optimiser=optimiser, rate=0.05), until=Until(steps=20), saves=7)
    theta, unflatten = flatten(net)
    step, by_hand = optimiser(0.05), [theta]

    @jax.jit
    def further(theta, memory):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
            change, memory = step.update(flatten(objective.gradient(unflatten(theta)))[0], memory, theta)
        return theta + change, memory

    memory = step.init(theta)
    for _ in range(20):
        theta, memory = further(theta, memory)
        by_hand.append(theta)
    np.testing.assert_allclose(path.time[0], 0.05 * np.array([0, 7, 14, 20]), rtol=1e-14)
    np.testing.assert_allclose(path.theta[0], np.array(by_hand)[[0, 7, 14, 20]], atol=1e-13)


@pytest.mark.slow
def test_small_steps_of_gradient_descent_follow_the_flow(key):
    """The distance falls with the rate, Euler's order."""
    objective, net = task(key), student(stack_of(key), 0)
    until, saves = Until(time=2.0, steps=10_000), [0.5, 1.0, 1.5]
    exact = follow(net, objective, until=until, saves=saves, solver=SHARP)
    errors = [
        np.abs(follow(net, objective, until=until, saves=saves, solver=Discrete(rate=rate)).theta - exact.theta).max()
        for rate in (0.02, 0.01, 0.005)
    ]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, 1, atol=0.1)


@pytest.mark.slow
def test_a_mini_batch_of_all_samples_is_all_of_them(key):
    objective, net = task(key, n=12), student(stack_of(key), 0)
    until = Until(steps=30)
    full = follow(net, objective, until=until, solver=Discrete(rate=0.1))
    some = follow(net, objective, until=until, solver=Discrete(rate=0.1, batch=12, seed=4))
    np.testing.assert_allclose(some.theta, full.theta, atol=1e-13)
    drawn = [follow(net, objective, until=until, solver=Discrete(rate=0.1, batch=4, seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0].theta, drawn[1].theta)
    assert np.abs(drawn[0].theta[:, -1] - drawn[2].theta[:, -1]).max() > 1e-6
    priced = follow(net, objective, until=until, solver=Discrete(rate=0.1, batch=12), decay=0.1)
    whole = follow(net, objective, until=until, solver=Discrete(rate=0.1), decay=0.1)
    np.testing.assert_allclose(priced.theta, whole.theta, atol=1e-13)


# --- records ---------------------------------------------------------------------------------------------------------


DAMAGED = (  # arrays of a saved trajectory of three students with three rows that are none of it, or missing
    {"reason": None},
    {"reason": np.full(3, 99)},
    {"n_saved": np.full(3, 99)},
    {"n_saved": np.zeros(3, int)},
    {"theta": np.ones(())},
    {"time": np.full((3, 3), "now")},
    {"time": np.zeros((0, 3))},
    {"n_steps": np.zeros(5, int)},
    {"moving0": np.zeros(7)},
    {"moving1": np.array("far")},
    {"moving3": None},
    {"movingx": np.zeros(3)},
)


def test_a_trajectory_is_saved_read_and_gone_on_with(key, tmp_path):
    objective, students = task(key), stack_of(key)
    path = follow(students, objective, until=Until(time=1.0), saves=[0.2], solver="tsit5")
    path.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["w1"].shape == (3, 3, 4, 2)
        assert list(file["reasons"]) == path.reasons()
        np.testing.assert_array_equal(file["w2"][:, -1], path.final.layers[1].w)
    again = flow.load_trajectory(tmp_path / "a.npz", students, path.dynamics)
    same(again, path)
    options = {"until": Until(time=2.0), "saves": [0.2, 1.2, 1.5]}
    same(follow(again, objective, **options), follow(path, objective, **options))
    with pytest.raises(ValueError, match="other dynamics"):
        flow.load_trajectory(tmp_path / "a.npz", stack_of(key, shape=(2, 5, 1)), path.dynamics)
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no readable file"):
        flow.load_trajectory(tmp_path / "b.npz", students, path.dynamics)
    with np.load(tmp_path / "a.npz") as file:
        held = dict(file)
    for changed in DAMAGED:
        np.savez(tmp_path / "c.npz", **{name: array for name, array in (held | changed).items() if array is not None})
        with pytest.raises(ValueError, match=r"c.npz (is no readable file|holds students)"):
            flow.load_trajectory(tmp_path / "c.npz", students, path.dynamics)


def test_slices_of_a_stack_are_joined(key):
    objective, students = task(key), stack_of(key)
    options = {"until": Until(time=1.0), "saves": 4, "solver": "tsit5"}
    slices = [follow(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], students), objective, **options) for i in range(3)]
    same(flow.joined(slices), follow(students, objective, **options))
    with pytest.raises(ValueError, match="the same dynamics"):
        flow.joined([])


def test_means_are_over_common_times(key):
    objective, students = task(key), stack_of(key)
    path = follow(students, objective, until=Until(time=1.0), saves=log_times(0.01, 0.5, 3), solver="tsit5")
    mean = path.mean()
    np.testing.assert_allclose(mean["time"], [0, *log_times(0.01, 0.5, 3), 1.0])
    np.testing.assert_allclose(mean["loss"], path.loss.mean(axis=0))
    times, thetas = path.path(1)
    assert len(times) == len(thetas) == path.networks(1).layers[0].b.shape[0]
    with pytest.raises(ValueError, match="common times"):
        follow(students, objective, until=Until(steps=9), solver="tsit5").mean()


def test_a_flow_has_the_precision_of_its_students(key):
    net = drawn.network((2, 4, 1), "tanh", key=key, dtype=jnp.float32)
    x = drawn.normal(key, (30, 2), jnp.float32)
    path = follow(net, Samples(x, x[:, :1]), until=Until(time=1.0), saves=[0.5], solver="tsit5")
    assert path.theta.dtype == np.float32
    assert path.final.dtype == jnp.float32


def test_progress_is_told(key):
    told = []
    follow(
        stack_of(key),
        task(key),
        until=Until(time=0.1),
        solver="tsit5",
        progress=lambda phase, done, total, **info: told.append((phase, done, total, len(info["losses"]))),
    )
    assert told == [("flow", n, 3, n) for n in (1, 2, 3)]


WRONG = {
    "solver": {"solver": "euler"},
    "together": {"together": 0},
    "threads": {"threads": 0},
    "increasing": {"saves": [2.0, 1.0]},
    "at least 1": {"saves": 0},
    "barrier": {"barrier": -1.0},
    "decay": {"decay": -1.0},
    "positive, infinite": {"time_constants": 0.0},
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_arguments_are_refused(said, key):
    with pytest.raises(ValueError, match=said):
        follow(stack_of(key), task(key), **WRONG[said])


def test_things_of_another_kind_are_refused(key):
    """Without the checker of types, which only tests have."""
    students, objective = stack_of(key), task(key)
    one, bare = student(students, 0), inspect.unwrap
    for wrong, said in (
        (lambda: bare(follow)([one], objective), "`ecjax.network.stack` makes one"),
        (lambda: bare(follow)(students, objective, until=10.0), r"Until\(time"),
        (lambda: bare(follow)(students, objective, together=2.5), "number of students"),
        (lambda: bare(dynamics_of)(optax.adam(1e-3)), "Discrete"),
        (lambda: bare(_asked)("often", Until(), jnp.float64), "increasing flow times"),
        (lambda: bare(posed)((objective.x, objective.y), one), "Samples"),
        (lambda: bare(posed)(objective, one, time_constants={"w": 1.0}), "a number or"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong()


def test_wrong_settings_are_refused(key):
    students, objective = stack_of(key), task(key)
    for wrong in (
        lambda: Until(time=0.0),
        lambda: Until(steps=0),
        lambda: Until(norm=0.0),
        lambda: Ode(rtol=0.0),
        lambda: Discrete(rate=0.0),
        lambda: Discrete(batch=0),
        lambda: log_times(1.0, 0.5, 3),
        lambda: flow.time_constants(students, by_layer=(1.0,)),
        lambda: posed(objective, student(students, 0), time_constants=students),
        lambda: follow(students, objective, solver=Discrete(batch=61)),
        lambda: follow(jax.tree.map(lambda leaf: leaf[None], students), objective),
        lambda: follow(jax.tree.map(lambda leaf: leaf[:0], students), objective),
        lambda: follow(students, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), objective)),
        lambda: follow(students, objective, saves=True),
        lambda: Until(loss=float("nan")),
        lambda: Until(gradient_norm=-1.0),
    ):
        with pytest.raises(ValueError, match="`"):
            wrong()
    for other in (drawn.students(2, shape, "tanh", key=key) for shape in ((3, 3, 1), (2, 3, 2))):
        with pytest.raises(ValueError, match="the network has"):  # two outputs would each be compared with the one
            follow(other, objective)
    with pytest.raises(ValueError, match="samples to choose from"):
        follow(students, Size(), solver=Discrete(batch=2))
    far = follow(students, objective, until=Until(steps=40), solver="tsit5")
    with pytest.raises(ValueError, match="lie ahead"):
        follow(far, objective, until=Until(time=float(far.final_time.min()) / 2))

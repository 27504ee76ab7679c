"""Expansion: what gradient flow conserves, how solvers end and say so, and the axis of students."""

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from ecjax.expand import (
    BFGS,
    LBFGS,
    RESULTS,
    Adam,
    Conjugate,
    ExpandConfig,
    Flow,
    LevenbergMarquardt,
    Newton,
    Orthogonal,
    Stopping,
    expand,
    expand_problems,
    judged,
    over_students,
)
from ecjax.expand.levenberg_marquardt import Acceleration
from ecjax.network import student
from ecjax.objective import Samples, flatten

SHAPE = (2, 4, 1)
SHORT = Stopping(max_steps=20)


def problem(activation="tanh", *, n_students=3, n_samples=40):
    """A teacher of width 2, students of width 4, queries and answers. The same in every test, to compile once."""
    teacher_key, student_key, x_key = jr.split(jr.key(2), 3)
    teacher = drawn.teacher(2, 2, 1, activation, key=teacher_key)
    x = drawn.normal(x_key, (n_samples, 2))
    samples = Samples(x, drawn.answers(teacher, x))
    return teacher, drawn.students(n_students, SHAPE, activation, key=student_key), samples


def disturbed(net, size=0.05):
    theta, unflatten = flatten(net)
    return unflatten(theta + size * drawn.normal(jr.key(5), theta.shape))


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the type checks of these tests, which would stand before ecjax's own refusals."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def assert_equal(a, b):
    """Bit for bit, NaN being equal to NaN."""
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


@eqx.filter_jit
def after(stage, net, samples, **free):
    return stage(net, samples, **free)


@eqx.filter_jit
def loss_and_gradient(net, samples):
    return samples.value(net), samples.gradient(net)


# --- gradient flow -------------------------------------------------------------------------------------------------


def test_flow_keeps_each_relu_neuron_in_balance():
    """Gradient flow conserves |w|² + b² - |a|² for ReLU (Du, Hu, Lee 2018, arXiv:1806.00900)."""
    _, students, samples = problem("relu")
    start = student(students, 0)
    balance = lambda net: jnp.sum(net.layers[0].w ** 2, 1) + net.layers[0].b ** 2 - jnp.sum(net.layers[1].w ** 2, 0)
    end = after(Flow(solver="tsit5", t_end=3.0, rtol=1e-6, atol=1e-8), start, samples)
    assert bool(end.result == RESULTS.reached_end)
    moved = np.abs(flatten(end.network)[0] - flatten(start)[0]).max()
    assert moved > 0.1
    assert float(end.loss) < 0.9 * float(loss_and_gradient(start, samples)[0])
    np.testing.assert_allclose(balance(end.network), balance(start), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "solver",
    [
        "tsit5",  # the others in every run are those of test_flow
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("kvaerno5", "kvaerno3", "dopri8")),
    ],
)
def test_every_solver_follows_the_same_flow(solver):
    """Where the exact flow ends after a given time does not depend on who solves it."""
    _, students, samples = problem()
    start = student(students, 0)
    end = after(Flow(solver=solver, t_end=3.0, rtol=1e-7, atol=1e-10, root_tol=1e-8), start, samples)
    assert bool(end.result == RESULTS.reached_end)

    theta, unflatten = flatten(start)
    step = 1e-3
    slope = lambda theta: -flatten(samples.gradient(unflatten(theta)))[0]
    midpoint = lambda _, theta: theta + step * slope(theta + step / 2 * slope(theta))
    np.testing.assert_allclose(flatten(end.network)[0], jax.lax.fori_loop(0, 3000, midpoint, theta), rtol=0, atol=1e-5)
    assert float(end.loss) < float(loss_and_gradient(start, samples)[0])


FLOW_ENDS = {
    "reached_end": {"t_end": 0.1},
    "max_steps": {"max_steps": 2},
    "reached_target": {"target_loss": 0.5},
    "flat": {"gradient_norm": 0.2},
}


@pytest.mark.parametrize(
    "reason",
    ["reached_target", *(pytest.param(one, marks=pytest.mark.slow) for one in ("flat", "reached_end", "max_steps"))],
)
def test_flow_says_why_it_stopped(reason):
    _, students, samples = problem()
    end = after(Flow(solver="tsit5", **FLOW_ENDS[reason]), student(students, 0), samples)
    assert bool(end.result == getattr(RESULTS, reason))
    assert int(end.n_steps) > 0
    if reason == "reached_target":
        assert 0.1 < float(end.loss) <= 0.5  # at once, not at the end of time
    if reason == "flat":
        assert 0.01 < float(end.gradient_norm) <= 0.2


# --- descents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "descent",
    [
        *(LevenbergMarquardt, Newton, Orthogonal),  # in every run; quasi-Newton ones in test_stages
        *(pytest.param(one, marks=pytest.mark.slow) for one in (BFGS, LBFGS, Conjugate)),
    ],
)
def test_every_descent_finds_the_teacher_nearby(descent):
    teacher, _, samples = problem()
    end = after(descent(), disturbed(teacher), samples)
    assert float(end.loss) < 1e-27
    np.testing.assert_allclose(flatten(end.network)[0], flatten(teacher)[0], rtol=0, atol=1e-10)


def test_a_descent_says_why_it_stopped():
    teacher, _, samples = problem()
    start, descent = disturbed(teacher), LevenbergMarquardt()
    noise = samples.with_answers(drawn.normal(jr.key(1), samples.y.shape))
    ends = {
        "reached_target": after(descent, start, samples),
        "stalled": after(LevenbergMarquardt(Stopping(gradient_norm=0.0)), start, noise),
        "max_steps": after(LevenbergMarquardt(Stopping(max_steps=2)), start, samples),
        "flat": after(LevenbergMarquardt(Stopping(gradient_norm=1e-3)), start, noise),
        "diverged": after(descent, jax.tree.map(lambda leaf: jnp.nan * leaf, start), samples),
    }
    for reason, end in ends.items():
        assert bool(end.result == getattr(RESULTS, reason)), reason
    assert int(ends["max_steps"].n_steps) == 2
    assert float(ends["flat"].gradient_norm) <= 1e-3
    assert not np.isfinite(ends["diverged"].loss)


@pytest.mark.parametrize(
    "descent", [LevenbergMarquardt, *(pytest.param(one, marks=pytest.mark.slow) for one in (Orthogonal, Conjugate))]
)
def test_frozen_parameters_do_not_move(descent):
    teacher, _, samples = problem()
    start = disturbed(teacher)
    theta, _ = flatten(start)
    free = np.arange(theta.size) % 3 > 0
    end = after(descent(SHORT), start, samples, free=jnp.array(free))
    moved = np.asarray(flatten(end.network)[0] != theta)
    n_free = teacher.layers[0].w.size + teacher.layers[0].b.size if descent is Conjugate else theta.size
    np.testing.assert_array_equal(moved[:n_free], free[:n_free])  # Conjugate fits the output layer, whatever is free
    assert float(end.loss) < float(loss_and_gradient(start, samples)[0])


def test_a_step_is_bent_as_long_as_the_correction_is_small():
    """Half the step along which H + lambda I undoes the residuals' bend, and nothing of it on frozen parameters."""
    teacher, _, samples = problem()
    net = disturbed(teacher)
    theta, _ = flatten(net)
    step, free = drawn.normal(jr.key(7), theta.shape), np.arange(theta.size) % 4 > 0
    accelerated = eqx.filter_jit(Acceleration(net, samples, jnp.asarray(free)))
    bend = np.where(free, eqx.filter_jit(samples.bend)(net, step), 0)
    small, large = (lambda v, share=share: share * v for share in (1e-3, 1e3))
    np.testing.assert_allclose(accelerated(theta, step, small), step - 1e-3 * bend / 2, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(accelerated(theta, step, large), step)


def test_judged_tells_the_weights_loss_and_gradient():
    _, students, samples = problem()
    net = student(students, 1)
    theta, _ = flatten(net)
    told = eqx.filter_jit(judged)(theta, net, samples, n_steps=jnp.array(3), result=RESULTS.flat, target_loss=0.0)
    assert_equal(told.network, net)
    loss, gradient = loss_and_gradient(net, samples)
    np.testing.assert_allclose(told.loss, loss, rtol=1e-14)
    np.testing.assert_allclose(told.gradient_norm, np.linalg.norm(flatten(gradient)[0]), rtol=1e-14)
    assert bool(told.result == RESULTS.flat)


def test_adam_goes_down():
    _, students, samples = problem("relu")
    start = student(students, 0)
    end = after(Adam(n_steps=200, learning_rate=3e-2), start, samples)
    assert float(end.loss) < 0.1 * float(loss_and_gradient(start, samples)[0])
    assert int(end.n_steps) == 200
    assert bool(end.result == RESULTS.max_steps)


# --- the students axis ---------------------------------------------------------------------------------------------


FEW = Adam(n_steps=5)


def test_placements_agree():
    """One at a time, all at once, and in chunks that do not divide the number of students."""
    _, students, samples = problem()
    run = lambda **placement: over_students(FEW, students, samples, **placement)
    one_by_one = run(placement="map")
    for other in (run(placement="vmap"), run(placement="vmap", chunk=2)):
        for a, b in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert_equal(run(), run(placement="map" if jax.default_backend() == "cpu" else "vmap"))


def test_a_diverging_student_is_marked_and_stops_nobody():
    _, students, samples = problem()
    config = ExpandConfig(descent=SHORT)
    sound = expand(students, samples, config=config)
    sick = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), students)
    expansion = expand(sick, samples, config=config)
    assert sound.finite.all()
    np.testing.assert_array_equal(expansion.finite, [True, False, True])
    assert expansion.reasons()[1] == RESULTS[RESULTS.diverged]
    assert RESULTS[RESULTS.diverged] not in sound.reasons()
    for i in (0, 2):
        assert_equal(student(expansion.students, i), student(sound.students, i))


def test_students_of_a_store_are_not_trained_again():
    _, students, samples = problem()
    store = {}
    whole = over_students(FEW, students, samples, store=store)
    assert sorted(store) == ["student-000000", "student-000001", "student-000002"]

    def never(net, samples):
        raise AssertionError("trained again")

    assert_equal(over_students(never, students, samples, store=store), whole)
    with pytest.raises(AssertionError, match="trained again"):
        over_students(never, students, samples, store={"student-000000": store["student-000000"]})


@pytest.mark.parametrize("placement", [{"placement": "map"}, {"placement": "vmap", "chunk": 2}], ids=str)
def test_an_interrupted_expansion_goes_on_where_it_was(placement):
    _, students, samples = problem()
    run = lambda **more: over_students(FEW, students, samples, **placement, **more)
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
        (lambda: Adam(n_steps=0), "`n_steps` is at least 1"),
        (lambda: Adam(learning_rate=0.0), "`learning_rate` is above 0"),
        (lambda: Flow(solver="euler"), "`solver` of a flow is one of"),
        (lambda: Flow(t_end=-1.0), "`t_end` is above 0"),
        (lambda: Flow(max_steps=0), "`max_steps` is at least 1"),
        (lambda: Stopping(max_steps=0), "is at least 1"),
        (lambda: Stopping(patience=0), "is at least 1"),
        (lambda: ExpandConfig(method="sgd"), "`method` is one of .*got 'sgd'"),
        (lambda: ExpandConfig(method=()), "`method` is a name or a tuple of stages, at least one"),
        (lambda: ExpandConfig(method=Adam()), "`method` is a name or a tuple of stages"),
        (lambda: ExpandConfig(method=[Adam()]), "`method` is a name or a tuple of stages"),
        (lambda: ExpandConfig(method=(Adam(), "flow")), "`method` is a name or a tuple of stages"),
        (lambda: ExpandConfig(placement="gpu"), "`placement` is one of"),
    ],
)
def test_bad_settings_are_refused(make, message, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_placements_are_refused(as_users_run_it):
    _, students, samples = problem()
    with pytest.raises(ValueError, match="`chunk` is how many students"):
        over_students(FEW, students, samples, chunk=0)
    with pytest.raises(ValueError, match="`placement` is"):
        over_students(FEW, students, samples, placement="gpu")


def test_problems_that_do_not_belong_together_are_refused():
    _, students, samples = problem()
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (students, samples))
    with pytest.raises(ValueError, match="`method` 'minibatch' trains the students of one problem at a time"):
        expand_problems(*two, config=ExpandConfig(method="minibatch"))
    with pytest.raises(ValueError, match=r"`students` have leading axes \[problems, students\].*got \(3,\)"):
        expand_problems(students, two[1])
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \[1\]"):
        expand_problems(two[0], jax.tree.map(lambda leaf: leaf[:1], two[1]))


@pytest.mark.slow
def test_problems_side_by_side_end_as_each_alone():
    """Over two problems with other students and other data; the store counts through."""
    config, store = ExpandConfig(descent=SHORT), {}
    problems = [problem(), problem("tanh", n_students=3)]
    students = [each[1] for each in problems]
    students[1] = jax.tree.map(lambda leaf: 0.5 * leaf, students[1])
    samples = [each[2] for each in problems]
    samples[1] = samples[1].with_answers(jnp.sin(samples[1].y))
    together = expand_problems(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *students),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *samples),
        config=config,
        store=store,
    )
    assert sum(name.startswith("student-") for name in store) == 6
    for one, its_students, its_samples in zip(together, students, samples, strict=True):
        alone = expand(its_students, its_samples, config=config)
        np.testing.assert_allclose(one.loss, alone.loss, rtol=1e-6)
        assert one.method == alone.method == "levenberg_marquardt"

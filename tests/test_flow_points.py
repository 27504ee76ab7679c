"""Critical points and what makes their directions flat; moves between them; minima, lines, planes and paths."""

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax import flow
from ecjax.flow import Ode, Until, critical_point, distance, find_minimum, follow
from ecjax.network import (
    ACTIVATIONS,
    grow,
    merge_neurons,
    random_network,
    respond,
    shrink,
    split_neuron,
    stack,
    student,
    take_neurons,
)
from ecjax.objective import Population, Samples, flatten


def task(key, shape=(2, 3, 1), activation="tanh", n=80):
    teacher = drawn.network(shape, activation, key=key)
    x = drawn.normal(jr.fold_in(key, 1), (n, shape[0]))
    return teacher, Samples(x, drawn.answers(teacher, x))


# --- critical points -------------------------------------------------------------------------------------------------


def test_the_teacher_is_a_minimum(key):
    teacher, samples = task(key)
    point = critical_point(teacher, samples)
    assert point.kind == "minimum"
    assert (point.n_negative, point.n_zero) == (0, 0)
    curvature = jax.jit(lambda net: samples.curvature(net, exact=True))(teacher)
    np.testing.assert_allclose(point.spectrum, np.linalg.eigvalsh(curvature), atol=1e-14)


def test_copies_make_it_degenerate(key):
    """An exact split neuron: one exchange of outgoing weights, and of incoming vectors one for each input and bias."""
    teacher, samples = task(key)
    point = critical_point(split_neuron(teacher, 1, layer=0, share=0.3), samples)
    assert point.kind == "degenerate"
    assert point.degeneracy.duplicates == ((0, 1, 3),)
    assert point.n_zero == point.degeneracy.accounted["duplicates"] == 1 + 3
    assert "duplicates" in point.summary()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gaussian", "erf", "relu"])
def test_copies_up_to_a_symmetry_are_copies(activation, key):
    """The mirror image of a neuron and, of relus, a multiple have as many flat directions as a plain copy has."""
    teacher, samples = task(key, activation=activation)
    plain = split_neuron(teacher, 1, layer=0, share=0.3)
    law = ACTIVATIONS[activation].symmetry
    factor, gain = (2.5, 1 / 2.5) if law.homogeneous else (-1.0, float(law.parity))
    inner, outer = plain.layers
    shift = 0.0 if law.homogeneous else -law.constant * law.parity
    turned = eqx.tree_at(
        lambda net: (net.layers[0].w, net.layers[0].b, net.layers[1].w, net.layers[1].b),
        plain,
        (
            inner.w.at[3].mul(factor),
            inner.b.at[3].mul(factor),
            outer.w.at[:, 3].mul(gain),
            outer.b + shift * outer.w[:, 3],
        ),
    )
    np.testing.assert_allclose(respond(turned, samples.x), respond(plain, samples.x), atol=1e-12)
    one, other = (critical_point(net, samples) for net in (plain, turned))
    assert one.degeneracy.duplicates == other.degeneracy.duplicates == ((0, 1, 3),)
    assert one.n_zero == other.n_zero == sum(other.degeneracy.accounted.values())


def test_silent_and_constant_neurons_and_scales_are_found(key):
    teacher, samples = task(key)
    silent = grow(teacher, jnp.array([0.4, -1.0]), 0.2, jnp.zeros(1), layer=0)
    point = critical_point(silent, samples)
    assert point.degeneracy.silent == ((0, 3),)
    assert point.n_zero == point.degeneracy.accounted["silent"] == 3
    constant = grow(teacher, jnp.zeros(2), 0.7, jnp.array([0.5]), layer=0)
    bias = constant.layers[1].b - 0.5 * jnp.tanh(0.7)
    constant = eqx.tree_at(lambda net: net.layers[1].b, constant, bias)
    point = critical_point(constant, samples)
    assert point.degeneracy.constant == ((0, 3),)
    assert point.n_zero == point.degeneracy.accounted["constant"] == 2
    relu, samples = task(key, activation="relu")
    point = critical_point(relu, samples)
    assert len(point.degeneracy.scales) == point.n_zero == point.degeneracy.accounted["scales"] == 3


@pytest.mark.slow
def test_a_network_too_narrow_ends_in_a_minimum_and_its_split_in_a_saddle_or_a_valley(key):
    """Fukumizu and Amari (Neural Networks 2000): with a share within (0, 1) or beyond, the matrix of a neuron's own
    second derivatives enters with one sign or the other, and cannot be positive for both unless it is definite."""
    _, samples = task(key, n=60)
    student_ = random_network((2, 2, 1), "tanh", key=jr.fold_in(key, 5))
    end = find_minimum(student_, samples, finish="newton")
    narrow = student(end.networks, 0)
    assert float(end.loss[0]) > 1e-9  # not the teacher
    assert critical_point(narrow, samples).kind == "minimum"
    kinds = []
    for share in (0.5, -0.5):
        split = critical_point(split_neuron(narrow, 0, layer=0, share=share), samples)
        assert split.gradient_norm < 1e-9
        assert split.n_zero >= 1
        kinds.append(split.kind)
    assert "strict saddle" in kinds


def test_points_on_the_way_are_not_critical(key):
    teacher, samples = task(key)
    moved = jax.tree.map(lambda leaf: leaf + 0.1, teacher)
    assert critical_point(moved, samples).kind == "not critical"


def test_a_pair_on_its_way_to_infinity_is_named(key):
    """Two neurons that make a derivative of one: large opposite outgoing weights, nearly one incoming vector."""
    teacher, samples = task(key)
    w, a = teacher.layers[0].w[0], 30.0 * jnp.ones(1)
    pair = grow(grow(teacher, w + 0.01, 0.0, a, layer=0), w - 0.01, 0.0, -a, layer=0)
    assert (0, 3, 4) in critical_point(pair, samples).degeneracy.diverging
    image = grow(grow(teacher, w + 0.01, 0.0, a, layer=0), 0.01 - w, 0.0, a, layer=0)
    assert (0, 3, 4) in critical_point(image, samples).degeneracy.diverging
    far = grow(grow(teacher, 2 * w + 1e-5, 0.0, 1e4 * a, layer=0), 2 * w - 1e-5, 0.0, -1e4 * a, layer=0)
    found = critical_point(far, samples).degeneracy
    assert (found.diverging, found.duplicates, found.silent) == (((0, 3, 4),), (), ())


def test_frozen_parameters_have_no_directions(key):
    teacher, samples = task(key)
    free = np.ones(teacher.n_parameters, bool)
    free[-1] = False
    assert len(critical_point(teacher, samples, free=free).spectrum) == teacher.n_parameters - 1
    with pytest.raises(ValueError, match="one network"):
        critical_point(stack([teacher, teacher]), samples)
    with pytest.raises(ValueError, match="0 or above"):
        critical_point(teacher, samples, tolerance=-1.0)
    with pytest.raises(ValueError, match="if it moves"):
        critical_point(teacher, samples, free=free[1:])


def test_a_network_that_is_not_finite_is_no_critical_point(key):
    teacher, samples = task(key)
    point = critical_point(jax.tree.map(lambda leaf: leaf * jnp.nan, teacher), samples)
    assert point.kind == "not critical"
    assert (point.n_negative, point.n_zero) == (0, 0)


# --- moves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_merging_undoes_splitting(layer, key):
    net = drawn.network((2, 3, 4, 2), "tanh", key=key)
    whole = merge_neurons(split_neuron(net, 1, layer=layer, share=0.7), 1, net.widths[layer], layer=layer)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(net), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-15)
    students = drawn.students(3, (2, 3, 1), "tanh", key=key)
    assert merge_neurons(students, 0, 2, layer=0).widths == (2,)


def test_growing_and_shrinking(key):
    net = drawn.network((2, 3, 1), "tanh", key=key)
    x = drawn.normal(key, (7, 2))
    wider = grow(net, jnp.ones(2), 0.5, jnp.zeros(1), layer=0)
    np.testing.assert_allclose(respond(wider, x), respond(net, x), atol=1e-15)
    assert eqx.tree_equal(shrink(wider, 3, layer=0), net)
    for wrong, said in (
        (lambda: grow(net, jnp.ones(3), 0.5, jnp.zeros(1), layer=0), "lengths"),
        (lambda: shrink(net, 3, layer=0), "0 ... 2"),
        (lambda: merge_neurons(net, 1, 1, layer=0), "two neurons"),
        (lambda: merge_neurons(net, 1, 5, layer=0), "0 ... 2"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong()


# --- minima ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["newton", "bfgs", "levenberg_marquardt", "slsqp"])
def test_every_finish_comes_to_the_bottom(finish, key):
    teacher, x = drawn.teacher(2, 4, 1, key=key), drawn.queries(60, 2, key=jr.fold_in(key, 1))  # test_flow's shapes
    samples = Samples(x, drawn.answers(teacher, x))
    theta, unflatten = flatten(teacher)
    near = unflatten(theta + 0.05 * drawn.normal(jr.fold_in(key, 2), theta.shape))
    end = find_minimum(near, samples, finish=finish, until=Until(time=10.0), solver="tsit5")
    # SLSQP stops where its merit function no longer falls by more than rounding; the others reach float64's floor.
    assert float(end.loss[0]) < (1e-12 if finish == "slsqp" else 1e-26)
    assert float(end.loss[0]) <= float(end.flow.final_loss[0])
    assert end.finish == finish


@pytest.mark.slow
def test_the_finish_is_that_of_the_paper(key):
    teacher, samples = task(key, n=60)
    until = Until(steps=5)
    assert find_minimum(teacher, samples, until=until, solver="tsit5").finish == "newton"
    wider = drawn.network((2, 9, 1), "tanh", key=key)
    assert find_minimum(wider, samples, until=until, solver="tsit5", n_steps=2).finish == "slsqp"
    with pytest.raises(ValueError, match="sums of squares"):
        find_minimum(teacher, Population(teacher), finish="levenberg_marquardt")


# --- lines, planes and paths -----------------------------------------------------------------------------------------


def test_losses_on_a_line_and_a_plane(key):
    teacher, samples = task(key)
    one, other = (drawn.network((2, 3, 1), "tanh", key=jr.fold_in(key, i)) for i in (6, 7))
    where, losses = flow.loss_on_line(samples, teacher, one, n=11, beyond=0.0)
    np.testing.assert_allclose(losses[[0, -1]], [0.0, float(samples.value(one))], atol=1e-15)
    assert where[0] == 0.0
    plane = flow.Plane.through(teacher, one, other)
    np.testing.assert_allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-14)
    at = plane.coordinates(np.asarray(flatten(other)[0]))
    np.testing.assert_allclose(plane.point(at), flatten(other)[0], atol=1e-13)
    grid = plane.losses(samples, np.array([0.0, at[0]]), np.array([0.0, at[1]]))
    np.testing.assert_allclose([grid[0, 0], grid[1, 1]], [0.0, float(samples.value(other))], atol=1e-15)
    lowest = plane.lowest(samples, at)
    assert float(samples.value(lowest)) < float(samples.value(other))
    np.testing.assert_allclose(plane.coordinates(np.asarray(flatten(lowest)[0])), at, atol=1e-9)
    with pytest.raises(ValueError, match="one line"):
        flow.Plane.through(teacher, one, one)
    with pytest.raises(ValueError, match="one space"):
        flow.loss_on_line(samples, teacher, take_neurons(teacher, [0, 1], layer=0))


@pytest.mark.slow
def test_paths_have_a_distance(key):
    _, samples = task(key)
    students = drawn.students(2, (2, 3, 1), "tanh", key=jr.fold_in(key, 4))
    sharp = Ode(solver="dopri8", rtol=1e-8, atol=1e-10)
    dense = follow(students, samples, until=Until(time=3.0), saves=np.linspace(0.01, 2.9, 200), solver=sharp)
    some = follow(students, samples, until=Until(time=3.0), saves=[0.35, 1.0], solver=sharp)
    for closest, then in zip(distance(some, dense), distance(some, dense, same_time=True), strict=True):
        assert np.all(closest.distance <= then.distance + 1e-12)
        assert np.all(then.distance < 1e-4)  # of straight pieces, as long as a hundredth of the way
        np.testing.assert_allclose(closest.time_there, some.time[0], atol=0.02)
    slow = follow(students, samples, until=Until(time=6.0), saves=[0.7, 2.0], time_constants=2.0, solver=sharp)
    for closest in distance(slow, dense):
        np.testing.assert_allclose(closest.time_there, [0.0, 0.35, 1.0, 3.0], atol=0.02)
        assert np.all(closest.distance < 1e-4)
    other = drawn.students(1, (2, 3, 1), "tanh", key=key)
    lone = follow(other, samples, until=Until(time=1e-6), solver=sharp)
    with pytest.raises(ValueError, match="same students"):
        distance(lone, dense)


@pytest.mark.slow
def test_neurons_are_followed_to_the_teachers(key):
    teacher, samples = task(key)
    near = jax.tree.map(lambda leaf: leaf + 0.05, teacher)
    path = follow(near, samples, until=Until(gradient_norm=1e-9), saves=5)
    neurons = flow.neuron_paths(path, 0)
    assert neurons.incoming.shape == (len(neurons.time), 3, 3)
    np.testing.assert_array_equal(neurons.incoming[0, :, :2], near.layers[0].w)
    np.testing.assert_array_equal(neurons.outgoing[-1], student(path.final, 0).layers[1].w)
    cosines = flow.overlaps(path, 0, teacher)
    assert cosines.shape == (len(neurons.time), 3, 3)
    np.testing.assert_allclose(np.diagonal(cosines[-1]), 1, atol=1e-3)
    with pytest.raises(ValueError, match="inputs to layer"):
        flow.overlaps(path, 0, drawn.network((3, 3, 1), "tanh", key=key))

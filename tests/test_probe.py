"""Probes: what each of them finds of a planted network, and what it costs."""

import drawn
import jax
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecjax as ec
from ecjax.probe import (
    LINE,
    N_PAIRS,
    Isolated,
    NoRestError,
    Reach,
    columns,
    crossing_places,
    fit_profile,
    hessians,
    long_steps,
    named,
    natural_scale,
    pieces,
    polished,
    proposals,
    row_space,
    shape_far_out,
    sharpened,
    sweep,
)
from ecjax.probe.curves import bends, slope_values, values
from ecjax.probe.differences import gradient, gradient_step, hessian, slopes
from ecjax.probe.isolate import far
from ecjax.probe.lines import Line, kinks
from ecjax.probe.polish import Shallow

EPS = float(np.finfo(float).eps)
KNOWN = {name: one for name, one in ec.ACTIVATIONS.items() if not one.symmetry.polynomial}
NAMED = ("tanh", "sigmoid", "gaussian", "softplus", "relu")  # one of each kind in every run
# One function but for scales and constants: nobody can tell these apart.
SAME = {"sigmoid": "tanh", "normal_cdf": "erf", "cos": "sin"}


class Planted:
    """A network that counts what it is asked."""

    def __init__(self, shape, activation, seed=0):
        net = drawn.teacher(*shape, activation, key=jr.key(seed))
        self.net, self.activation, self.asked = net, net.layers[0].activation, 0
        (self.w, self.b), (self.a, self.c) = ((np.asarray(layer.w), np.asarray(layer.b)) for layer in net.layers)

    def __call__(self, x):
        self.asked += len(x)
        return values(self.activation, x @ self.w.T + self.b) @ self.a.T + self.c

    @property
    def unit(self):
        return self.w / np.linalg.norm(self.w, axis=1, keepdims=True)


def drawing(n, scale, seed=0):
    """Random questions, one at a time, as `row_space` wants them."""
    rng = np.random.default_rng(seed)
    return lambda: 0.7 * scale * rng.standard_normal(n)


def angles(wanted, found):
    """Sine of the angle of every wanted direction to the nearest found one."""
    cosine = np.clip(np.abs(wanted @ found.T).max(axis=1), 0, 1)
    return np.sqrt(1 - cosine**2)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("g", *NAMED) else [pytest.mark.slow]) for name in KNOWN]
)
def test_curves_are_the_activation_and_its_derivatives(name):
    activation = KNOWN[name]
    few, many = np.linspace(-5, 5, 7), np.linspace(-30, 30, 5000).reshape(50, 100)
    wanted = np.asarray(jax.jit(activation.fn)(np.concatenate([few, many.ravel()])))
    for z, exact in ((few, wanted[:7]), (many, wanted[7:].reshape(50, 100))):
        np.testing.assert_allclose(values(activation, z), exact, rtol=1e-12, atol=1e-15)
        assert slope_values(activation, z).shape == bends(activation, z).shape == z.shape


def test_differences_of_a_quadratic_are_its_derivatives():
    matrix = np.array([[2.0, -1.0, 0.5], [-1.0, 3.0, 0.0], [0.5, 0.0, -1.0]])
    ask = lambda x: np.stack([np.einsum("ni,ij,nj->n", x, matrix, x) / 2, x.sum(axis=1)], axis=1)
    point = np.array([0.3, -0.2, 1.0])
    exact = np.stack([matrix @ point, np.ones(3)], axis=1)
    np.testing.assert_allclose(gradient(ask, point, np.eye(3), 1e-2), exact, atol=1e-12)
    np.testing.assert_allclose(hessian(ask, point, 1e-1), [matrix, np.zeros((3, 3))], atol=1e-12)
    linear = lambda x: x @ matrix
    np.testing.assert_allclose(slopes(linear, point, np.eye(3), 7.0), matrix, atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(["tanh", "softplus", "sin"]), st.integers(2, 6), st.integers(0, 100))
def test_row_space_is_that_of_the_weights(name, width, seed):
    teacher = Planted((9, width, 2), name, seed)
    space = row_space(teacher, 9, precision=EPS, scale=0.7, question=drawing(9, 0.7, seed))
    assert space.rank == width
    outside = teacher.w - teacher.w @ space.basis.T @ space.basis
    assert np.abs(outside).max() < 1e-5


def test_questions_with_a_kink_within_a_step_are_passed_over():
    teacher = Planted((9, 5, 2), "relu")
    space = row_space(teacher, 9, precision=EPS, scale=4.0, question=drawing(9, 4.0), is_straight=True)
    assert space.rank == 5
    assert np.abs(teacher.w - teacher.w @ space.basis.T @ space.basis).max() < 1e-11


def test_a_neuron_that_is_rarely_heard_is_in_the_row_space():
    """It is silent at fourteen of fifteen questions, so that most often none of the first gradients hears it."""
    teacher = Planted((9, 5, 2), "relu")
    teacher.b = teacher.b - 1.5 * 0.7 * 4.0 * np.linalg.norm(teacher.w, axis=1) * (np.arange(5) == 0)
    space = row_space(teacher, 9, precision=EPS, scale=4.0, question=drawing(9, 4.0), is_straight=True)
    assert space.rank == 5


@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_not_taken_for_a_kink(seed):
    """From answers in float32 second differences are rounding wherever there is no kink: one try a point or two do."""
    teacher = Planted((16, 8, 3), "abs", seed)
    ask = lambda x: teacher(x).astype(np.float32).astype(float)
    eps = float(np.finfo(np.float32).eps)
    space = row_space(ask, 16, precision=eps, scale=4.0, question=drawing(16, 4.0, seed), is_straight=True)
    assert space.rank == 8
    assert teacher.asked < 2 * 12 * 33 + 200


def test_answers_that_never_change_have_no_row_space():
    silent = lambda x: np.ones((len(x), 2))
    assert row_space(silent, 3, precision=EPS, scale=1.0, question=drawing(3, 1.0)).rank == 0


def test_silence_at_the_first_points_is_not_the_end_of_the_row_space():
    """One neuron, which is silent at the first question and within a step of it."""
    hinge, place = np.array([1.0, 2.0, -1.0]), iter([np.array([-1.0, -1.0, 0.0])])
    draw = drawing(3, 4.0)
    ask = lambda x: np.maximum(x @ hinge, 0)[:, None]
    space = row_space(ask, 3, precision=EPS, scale=4.0, question=lambda: next(place, draw()), is_straight=True)
    np.testing.assert_allclose(abs(space.basis @ hinge), np.linalg.norm(hinge), rtol=1e-6)


def test_row_space_of_more_neurons_than_inputs_is_everything():
    teacher = Planted((3, 8, 2), "tanh")
    space = row_space(teacher, 3, precision=EPS, scale=0.7, question=drawing(3, 0.7))
    assert space.is_all


@pytest.mark.parametrize("name", ["tanh", "softplus", "sin", "gaussian", "g"])
def test_pairs_of_hessians_propose_the_neurons(name):
    teacher = Planted((5, 5, 3), name)
    rng = np.random.default_rng(0)
    found = hessians(teacher, 0.25 * rng.standard_normal((4, 5)), precision=EPS, scale=0.5)
    vectors, proposer = proposals(found, rng=rng)
    assert set(proposer) == set(range(N_PAIRS))
    assert angles(teacher.unit, vectors).max() < 1e-3


def test_hessians_together_are_less_noisy_than_pairs_of_them():
    rng, width, noise = np.random.default_rng(0), 12, 1e-3
    w = np.linalg.qr(rng.standard_normal((width, width)))[0] + 0.1 * rng.standard_normal((width, width))
    clean = np.einsum("ki,ij,il->kjl", rng.standard_normal((20, width)), w, w)
    found = clean + noise * np.abs(clean).mean() * (lambda e: e + e.transpose(0, 2, 1))(
        rng.standard_normal(clean.shape)
    )
    vectors, proposer = proposals(found, rng=rng)
    assert len(vectors) == width * len(set(proposer))
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    off = [angles(unit, vectors[proposer == pair]) for pair in set(proposer)]
    assert np.max(off) < 3 * noise  # the worst of one pair's eigenvectors are off by some hundred times that


@pytest.mark.parametrize("name", ["tanh", "softplus"])
def test_long_steps_in_a_box_sharpen_directions(name):
    """By a factor of some hundred each time, down to the rounding of the steps. No question leaves the box."""
    teacher, rng = Planted((9, 5, 3), name), np.random.default_rng(0)
    basis = np.linalg.qr(teacher.w.T)[0].T
    reach = Reach.of(teacher, basis, 0.5, 0.0, 1.0)
    w, b = teacher.w @ basis.T, teacher.b + teacher.w @ reach.rest
    size = np.linalg.norm(w, axis=1, keepdims=True)
    rough = w + 1e-4 * rng.standard_normal(w.shape)
    rough *= size / np.linalg.norm(rough, axis=1, keepdims=True)
    taken = long_steps(reach, reach.middle + 0.5 * (reach.points(2, rng) - reach.middle))
    corner = np.ones(5) * taken.step
    assert all(reach.holds(point + side * np.eye(5) * corner) for point in taken.points for side in (-1, 1))
    off = lambda found: np.abs(found - w).max()
    net = Shallow(teacher.activation, rough, b, teacher.a, teacher.c)
    once = sharpened(net, taken)
    assert off(once) < off(rough) / 20
    for _ in range(6):
        net = net._replace(w=sharpened(net, taken))
    assert off(net.w) < 1e-9


def test_hessians_that_miss_a_neuron_propose_nothing():
    blind = np.zeros((4, 3, 3))
    blind[:, :2, :2] = np.random.default_rng(0).standard_normal((4, 2, 2))
    vectors, proposer = proposals(blind, rng=np.random.default_rng(0))
    assert vectors.shape == (0, 3)
    assert not len(proposer)


@pytest.mark.parametrize("name", KNOWN)
def test_a_profile_gives_back_scale_and_shift(name):
    activation, alpha, beta = KNOWN[name], 1.3, -0.4
    line = values(activation, alpha * LINE + beta)[:, None] * np.array([[0.7, -1.2]]) + np.array([[0.3, 5.0]])
    found = fit_profile(activation, LINE, line)
    assert found.misfit < 1e-9
    again = values(activation, found.alpha * LINE + found.beta)[:, None] * found.a + found.c
    np.testing.assert_allclose(again, line, atol=1e-8)


@pytest.mark.parametrize(  # those of a sigmoid take four seconds
    "name",
    [pytest.param(name, marks=[] if name in NAMED and name != "sigmoid" else [pytest.mark.slow]) for name in KNOWN],
)
def test_the_activation_is_named(name):
    rng, activation = np.random.default_rng(0), KNOWN[name]
    lines = [
        values(activation, alpha * LINE + beta)[:, None] * rng.standard_normal((1, 2))
        for alpha, beta in ((0.8, 0.5), (1.5, -1.0), (2.1, 0.2))
    ]
    # What grows looks like relu from far enough: who has seen that nothing bends asks for no other.
    known = [one for one in KNOWN.values() if one.symmetry.homogeneous == activation.symmetry.homogeneous]
    assert named(known, LINE, lines)[0].name == SAME.get(name, name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in NAMED else [pytest.mark.slow])
        for name in KNOWN
        if name not in ("sin", "cos")
    ],
)
def test_isolated_neurons_are_exact_from_a_rough_start(name):
    teacher, rng = Planted((5, 5, 2), name), np.random.default_rng(0)
    rough = teacher.w + 1e-5 * rng.standard_normal(teacher.w.shape)
    found = Isolated(teacher, teacher.activation, rough, teacher.b + 1e-5, rng)
    size = 1.0
    if teacher.activation.symmetry.homogeneous:
        size = np.linalg.norm(teacher.w, axis=1) / np.linalg.norm(found.w, axis=1)
    np.testing.assert_allclose(found.w * np.reshape(size, (-1, 1)), teacher.w, atol=1e-9)


@pytest.mark.parametrize("fan_out", [1, 3])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_gradients_on_pieces_are_exact_from_a_rough_start(name, fan_out):
    teacher, rng = Planted((6, 6, fan_out), name), np.random.default_rng(0)
    reach = Reach.of(teacher, np.eye(6), 1.0)
    rough = teacher.w + 1e-2 * rng.standard_normal(teacher.w.shape)
    teacher.asked = 0
    found = pieces(reach, teacher.activation, rough, teacher.b + 1e-2, rng)
    np.testing.assert_allclose(found, teacher.unit, atol=1e-12)
    assert teacher.asked <= 1 + 7 * max(12, 3.2 * 6 / fan_out + 1)  # a gradient serves all neurons


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_what_never_rests_can_not_be_isolated(name):
    with pytest.raises(NoRestError, match=name):
        far(KNOWN[name])


@pytest.mark.parametrize("name", ["tanh", "g", "gaussian"])
def test_polish_and_columns_end_in_rounding(name):
    teacher, rng = Planted((9, 5, 2), name), np.random.default_rng(0)
    space = row_space(teacher, 9, precision=EPS, scale=0.7, question=drawing(9, 0.7))
    reach = Reach.of(teacher, space.basis, 0.7)
    w = teacher.w @ space.basis.T
    points = lambda n: reach.points(n, rng)
    net = polished(reach, teacher.activation, w * 1.00001, teacher.b + 1e-5, points=points)
    np.testing.assert_allclose(net.w, w, atol=1e-11)
    np.testing.assert_allclose(net.b, teacher.b, atol=1e-11)
    np.testing.assert_allclose(net.a, teacher.a, atol=1e-11)
    found = columns(reach, net.stack, rng=rng)
    np.testing.assert_allclose(found, teacher.w, atol=1e-11)


@pytest.mark.parametrize(("name", "shape"), [("tanh", "steps"), ("softplus", "kinks"), ("relu", "kinks")])
def test_sweeps_see_neurons_one_by_one(name, shape):
    teacher, rng = Planted((3, 7, 2), name), np.random.default_rng(0)
    reach = Reach.of(teacher, np.eye(3), 1.0)
    assert shape_far_out(reach, distance=1e5, rng=rng) == shape
    found = sweep(reach, shape, distance=1e5, precision=EPS, rng=rng)
    directions = np.stack([crossing.direction for crossing in found])
    assert angles(directions, teacher.unit).max() < 1e-3
    assert np.sum(angles(teacher.unit, directions) < 1e-4) >= 6


def test_answers_at_rest_do_not_grow_by_their_rounding():
    at_rest = lambda x: 0.3 + 1e-16 * np.arange(len(x))[:, None]
    assert shape_far_out(Reach.of(at_rest, np.eye(3), 1.0), distance=1e5, rng=np.random.default_rng(0)) == "steps"


@pytest.mark.parametrize(("name", "sloped"), [("tanh", False), ("sigmoid", False), ("softplus", True), ("gelu", True)])
def test_a_neuron_is_where_its_profile_is(name, sloped):
    """On lines that add constants of their own, and slopes where others are straight, in two outputs."""
    kind, rng = ec.ACTIVATIONS[name], np.random.default_rng(0)
    answer = lambda t, place: np.outer(values(kind, 1.5 * (t - place)), [0.7, -0.2])
    profile = fit_profile(kind, LINE, answer(LINE, 0.0), sloped=sloped)
    t, places = np.linspace(-3, 3, 7) / 1.5, rng.uniform(-0.3, 0.3, 5)
    others = [rng.standard_normal(2) + sloped * np.outer(t, rng.standard_normal(2)) for _ in places]
    lines = [answer(t, place) + other for place, other in zip(places, others, strict=True)]
    found, misfit = crossing_places(kind, profile, t, lines, sloped=sloped)
    np.testing.assert_allclose(found, places, atol=1e-9)
    assert misfit.max() < 1e-9
    _, misfit = crossing_places(kind, profile, t, [lines[0] + answer(t, 1.0)], sloped=sloped)
    assert misfit[0] > 1e-3  # another neuron is near


def test_bends_take_no_more_questions_than_kinks():
    """A bend is some scales wide: halving it further says nothing more of where its neuron is."""
    counts = {}
    for name in ("relu", "softplus"):
        teacher = Planted((4, 12, 1), name)
        reach = Reach.of(teacher, np.eye(4), 1.0)
        line = reach.line(1e5, np.random.default_rng(0))
        found = kinks(teacher, line, EPS, is_sharp=name == "relu")
        assert len(found) <= 13
        counts[name] = teacher.asked
    assert counts["softplus"] < 1.5 * counts["relu"]


def test_a_line_without_crossings_has_none():
    nothing = lambda x: np.ones((len(x), 1))
    assert kinks(nothing, Line(np.ones(2), np.array([1.0, -1.0]), -np.inf, np.inf, 1e3), EPS) == []
    for shape in ("steps", "kinks"):
        reach = Reach.of(nothing, np.eye(2), 1.0)
        assert sweep(reach, shape, distance=1e3, precision=EPS, rng=np.random.default_rng(0)) == []


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6, unique=True))
def test_all_kinks_of_a_line_are_located(places):
    places = np.sort(np.array(places))
    if len(places) > 1 and np.diff(places).min() < 1e-2:
        return
    ask = lambda x: np.maximum(x[:, :1] - places, 0) @ np.linspace(1.0, 2.0, len(places))[:, None]
    found = kinks(ask, Line(np.zeros(1), np.ones(1), -np.inf, np.inf, 1.0), EPS)
    assert len(found) == len(places)
    for (low, high), place in zip(found, places, strict=True):
        assert low <= place <= high


@pytest.mark.parametrize("unit", [1e-2, 1.0, 30.0])
@pytest.mark.parametrize("name", ["tanh", "softplus", "gaussian", "sin"])
def test_the_scale_of_the_inputs_is_found(name, unit):
    teacher = Planted((6, 5, 2), name)
    scale = natural_scale(lambda x: teacher(x / unit), 6, precision=EPS, rng=np.random.default_rng(0))
    assert not scale.is_straight
    assert 0.05 < scale.unit / unit < 3


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_straight_pieces_are_seen(name):
    assert natural_scale(Planted((6, 5, 2), name), 6, precision=EPS, rng=np.random.default_rng(0)).is_straight


def test_steps_follow_the_precision():
    assert gradient_step(1e-16, 2.0) < gradient_step(1e-7, 2.0) < 2.0

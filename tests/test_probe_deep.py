"""Probes of networks with several hidden layers: where may be asked, and what gradients behind other layers say."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import ecjax as ec
from ecjax.base.progress import silent
from ecjax.judge import Judge
from ecjax.network.moves import split_neuron
from ecjax.probe import Reach, RowSpace, growing, inverse, sweep
from ecjax.probe.behind import by_rank, profile_behind
from ecjax.probe.curves import slope_values, values
from ecjax.probe.differences import gradient
from ecjax.probe.lines import kink
from ecjax.probe.profile import LINE
from ecjax.probe.stack import Weights, answers, sensitivities, states
from ecjax.reconstruct import Neurons
from ecjax.road import probing_box
from ecjax.road.probing import Asking
from ecjax.road.probing_far import _nearer
from ecjax.road.probing_refine import network_of

EPS = float(np.finfo(float).eps)
GROWING = ("tanh", "sigmoid", "erf", "softplus", "relu", "leaky_relu", "gelu", "elu", "abs")


def stack_of(*widths, kind="tanh", seed=0):
    """A network on the host."""
    rng = np.random.default_rng(seed)
    layers = [
        Weights(rng.standard_normal((n, m)) / np.sqrt(m) * 1.5, 0.3 * rng.standard_normal(n), ec.ACTIVATIONS[kind])
        for m, n in itertools.pairwise(widths)
    ]
    return [*layers[:-1], layers[-1]._replace(activation=None)]


@pytest.mark.parametrize("name", GROWING)
def test_hidden_states_tell_pre_activations(name):
    kind = ec.ACTIVATIONS[name]
    branch = growing(kind)
    assert branch is not None
    z = np.linspace(0.1, 2.5, 50)
    np.testing.assert_allclose(inverse(kind, values(kind, z)), z, rtol=1e-12)
    if not np.isfinite(branch.high):
        np.testing.assert_allclose(inverse(kind, values(kind, 1e5 * z)), 1e5 * z, rtol=1e-12)


@pytest.mark.parametrize("name", ["sin", "cos", "gaussian"])
def test_what_does_not_grow_tells_nothing(name):
    assert growing(ec.ACTIVATIONS[name]) is None


def test_a_box_and_an_orthant_are_never_left():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((7, 3)))[0].T
    for low, high in ((-1.0, 2.0), (0.0, np.inf)):
        reach = Reach.of(lambda x: x, basis, 1.0, low, high)
        questions = reach.questions(200, rng)
        assert (questions > low).all()
        assert (questions < high).all()
        inside = reach if reach.is_box else reach.beside(questions[0])
        place = questions[0] @ basis.T if not reach.is_box else reach.middle
        along = rng.standard_normal(3)
        ends = inside.segment(place, along)
        assert ends[0] < 0 < ends[1]
        assert inside.holds(place + np.array(ends)[:, None].clip(-1e6, 1e6) * along)
        if reach.is_box:
            assert reach.holds(reach.points(200, rng))
        line = reach.line(1e3, rng) if not reach.is_box else None
        if line is not None:
            assert (line(line.grid()) > low).all()


def test_the_corners_of_a_box_bend_all_layers():
    """More than questions all over it, in the weakest direction and in the layer above."""
    rng = np.random.default_rng(0)
    stack = stack_of(24, 12, 6, 2, seed=1)
    _, heard, basis = np.linalg.svd(stack[0].w, full_matrices=False)
    reach = Reach.of(lambda h: answers(stack, h), basis, 1.0, -1.0, 1.0)
    near, over = reach.corners(2000, heard, rng), reach.questions(2000, rng)
    assert np.abs(near).max() < 1
    assert near.std() > 1.3 * over.std()
    spread = lambda h: [z.std(axis=0).min() for z in states(stack, h @ stack[0].w.T + stack[0].b)[:2]]
    assert (np.array(spread(near)) > np.array([1.8, 1.3]) * np.array(spread(over))).all()


def test_neurons_that_others_replace_are_left_out():
    stack = stack_of(5, 4, 3, seed=3)
    net = network_of(stack)
    x = np.random.default_rng(0).standard_normal((200, 5))
    right = np.concatenate([stack[0].w, stack[0].b[:, None]], axis=1)
    proposed = Neurons(np.concatenate([right[:2], right[1:2] + 1e-6, right[2:], right[:1] - 0.3]), net.activations[0])
    samples = ec.Samples(jnp.asarray(x), jnp.asarray(answers(stack, x)))
    found = probing_box._needed(proposed, net, samples, Judge.of(samples))
    assert found.width == 4
    np.testing.assert_allclose(found.vectors, right, atol=1e-5)


@pytest.mark.parametrize("gate", ["costs tell", "steps alone tell"])
def test_a_large_network_loses_copies_and_nothing_else(gate, monkeypatch):
    """The cheapest neuron of a teacher may cost little: without it steps do no longer come as near."""
    if gate == "steps alone tell":
        monkeypatch.setattr(Judge, "is_needless", lambda self, cost: True)
    monkeypatch.setattr(probing_box, "quick_steps", lambda net, samples, **_: (net, float(samples.value(net))))
    teacher = network_of(stack_of(5, 4, 3, 2, seed=3))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((300, 5)))
    samples = ec.Samples(x, ec.respond(teacher, x) + 1e-4)
    wide = split_neuron(split_neuron(teacher, 1, layer=0), 2, layer=0)
    net, loss = probing_box._careful(wide, samples, Judge.of(samples, accepted=1e-30))
    assert net.widths == teacher.widths
    assert loss == pytest.approx(1e-8, rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "largest", [ec.expand.SECOND_ORDER_UP_TO, 0], ids=["by a matrix", "on other samples each step"]
)
def test_students_of_the_layers_above_a_box_agree(largest, key, monkeypatch):
    """A few, which two of three hidden layers of this size do not need more of."""
    monkeypatch.setattr(probing_box, "_SMALL_STUDENTS", (3, 2 / 3))
    monkeypatch.setattr(probing_box, "SECOND_ORDER_UP_TO", largest)
    stack, rng = stack_of(6, 4, 3, 2, seed=2), np.random.default_rng(0)
    teacher = ec.Teacher(lambda h: answers(stack, h), fan_in=6)
    teacher(np.zeros((1, 6)))
    asking = Asking(teacher, None, key, silent, ec.expand.Stopping())
    _, heard, basis = np.linalg.svd(stack[0].w, full_matrices=False)
    reach = Reach.of(teacher, basis, 1.0, -1.0, 1.0)
    found = probing_box.above(asking, reach, RowSpace(basis, heard, 1.0), (ec.ACTIVATIONS["tanh"],) * 2)
    assert [len(each.b) for each in found.stack] == [4, 3, 2]
    h = reach.questions(100, rng)
    np.testing.assert_allclose(answers(found.stack, h @ basis.T), answers(stack, h), atol=1e-8)
    assert [each.probes.who for each in found.layers] == ["students", "students"]


@pytest.mark.parametrize("widths", [(4, 3, 2), (5, 4, 3, 2)])
def test_sensitivities_are_derivatives(widths):
    stack, rng = stack_of(*widths), np.random.default_rng(1)
    z = rng.standard_normal((6, widths[1]))
    exact = sensitivities(stack, states(stack, z))
    for i in range(6):
        found = gradient(lambda z: states(stack, z)[-1], z[i], np.eye(widths[1]), 1e-5)
        np.testing.assert_allclose(exact[i].T, found, atol=1e-8)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "erf"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_rank_of_gradients_tells_scales_and_biases(name, seed):
    """Whatever is above: only its width matters, which is found, too."""
    kind, rng, width, rank = ec.ACTIVATIONS[name], np.random.default_rng(seed), 12, 5
    alpha, beta = rng.uniform(0.5, 2, width), rng.uniform(-1, 1, width)
    t = (rng.uniform(-1.5, 1.5, (40, width)) - beta) / alpha
    above = rng.standard_normal((40, 2, rank)) @ rng.standard_normal((rank, width))
    gradients = (above * (alpha * slope_values(kind, alpha * t + beta))[:, None, :]).transpose(0, 2, 1)
    start = alpha * (1 + 3e-3 * rng.standard_normal(width)), beta + 0.05 * rng.standard_normal(width)
    found = by_rank(kind, t, gradients, *start)
    assert found is not None
    assert len(found.basis) == rank
    np.testing.assert_allclose(found.alpha, alpha, rtol=1e-6)
    np.testing.assert_allclose(found.beta, beta, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neurons_astray_are_brought_back(seed):
    """From one bias far off the search may end at a rank too high by one, that neuron in a dimension of its own."""
    kind, rng, width, rank = ec.ACTIVATIONS["tanh"], np.random.default_rng(seed), 8, 3
    alpha, beta = rng.uniform(0.5, 2, width), rng.uniform(-1, 1, width)
    t = (rng.uniform(-1.5, 1.5, (24, width)) - beta) / alpha
    above = rng.standard_normal((24, 2, rank)) @ rng.standard_normal((rank, width))
    gradients = (above * (alpha * slope_values(kind, alpha * t + beta))[:, None, :]).transpose(0, 2, 1)
    start = alpha * (1 + 3e-3 * rng.standard_normal(width)), beta + 1.5 * (np.arange(width) == 2)
    found = by_rank(kind, t, gradients, *start)
    assert found is not None
    assert len(found.basis) == rank
    np.testing.assert_allclose(found.beta, beta, atol=1e-6)


def test_gradients_of_full_rank_tell_nothing():
    rng = np.random.default_rng(0)
    t, gradients = rng.uniform(-1, 1, (40, 6)), rng.standard_normal((40, 6, 2))
    assert by_rank(ec.ACTIVATIONS["tanh"], t, gradients, np.ones(6), np.zeros(6)) is None


def test_a_profile_behind_a_smooth_layer_gives_the_scale():
    kind, above = ec.ACTIVATIONS["tanh"], stack_of(1, 4, 2, seed=3)
    y = answers(above, 0.05 * np.tanh(1.7 * LINE[:, None] + 0.2))
    fit = profile_behind(kind, LINE, y, 1.0)
    assert abs(fit.alpha - 1.7) < 0.02
    assert abs(fit.beta - 0.2) < 0.3  # a shift is a change of what is above


def test_sweeps_recognise_what_they_know_and_ask_less():
    stack = stack_of(6, 5, 3, seed=1)
    count = [0]

    def teacher(x):
        count[0] += len(x)
        return answers(stack, x)

    reach, rng = Reach.of(teacher, np.eye(6), 1.0), np.random.default_rng(0)
    wide = stack[0].w / np.linalg.norm(stack[0].w, axis=1, keepdims=True)
    first = sweep(reach, "steps", distance=1e5, precision=EPS, rng=rng)
    count[0], state = 0, rng.bit_generator.state
    again = sweep(reach, "steps", distance=1e5, precision=EPS, rng=rng, known=first)
    knowing, count[0] = count[0], 0
    rng.bit_generator.state = state
    alone = sweep(reach, "steps", distance=1e5, precision=EPS, rng=rng)
    assert knowing < count[0]
    assert len(again) == len(alone)
    for one in (*first, *again):
        assert np.abs(wide @ one.direction).max() > 1 - 1e-6


def test_a_kink_is_where_two_lines_meet():
    t = np.array([-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0])
    y = np.stack([3 + 2 * t + np.maximum(t - 0.1, 0), -t], axis=1)
    assert abs(kink(t, y, EPS) - 0.1) < 1e-13
    assert kink(t, y[:, 1:], EPS) is None  # nothing bends
    assert kink(t, y + (t > 0.6)[:, None], EPS) is None  # something else happens


@pytest.mark.parametrize("off", [0.0, 1.0, 7.0, -12.0])
def test_a_bias_that_is_units_off_is_found_nearer_and_nearer(off, key):
    """A direction that is wrong by 1e-4 makes ten units of it where a sweep sees it cross, 1e5 away."""
    first, last = stack_of(6, 6, 3, kind="leaky_relu", seed=4)
    teacher = ec.Teacher(lambda x: answers([first, last], x), fan_in=6)
    teacher(np.zeros((1, 6)))
    asking = Asking(teacher, None, key, silent, ec.expand.Stopping())
    along, exact = np.linalg.inv(first.w)[:, 2], float(first.b[2])
    kind = ec.ACTIVATIONS["leaky_relu"]
    found = _nearer(asking, Reach.of(teacher, np.eye(6), 1.0), kind, first.w[2], exact + off, along)
    assert found == pytest.approx(exact, abs=1e-9)

"""Reconstruction: outgoing weights, signs, what a neuron is worth, and networks rid of all that is not needed."""

from dataclasses import replace
from itertools import pairwise

import drawn
import jax
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.cluster import ClusterConfig, cluster_neurons
from ecjax.expand import Stopping
from ecjax.judge import Judge
from ecjax.network import ACTIVATIONS, Layer, Network, mixture, respond, split_neuron
from ecjax.objective import Samples
from ecjax.reconstruct import (
    Candidate,
    Neurons,
    Tools,
    assemble,
    contributions,
    eliminate,
    finetune,
    fit_output,
    likely_signs,
    merge,
    nested_choices,
    neurons_of,
    removal_costs,
)
from ecjax.reconstruct.output import cheapest_first, fit_columns, responses

EVEN_LINEAR = [
    name
    for name, activation in ACTIVATIONS.items()
    if Neurons(np.ones((1, 2)), activation).symmetries.leaves_linear_map.all()
]
STOP, PAD_TO = Stopping(max_steps=60, patience=20), 9  # one compiled program


def tools_for(samples: Samples) -> Tools:
    return Tools(STOP, Judge.of(samples), pad_to=PAD_TO)


def problem(activation="tanh", d_in=3, width=3, d_out=1, n_samples=200, *, key):
    """A teacher, its neurons, queries and answers."""
    teacher_key, x_key = jr.split(key)
    teacher = drawn.teacher(d_in, width, d_out, activation, key=teacher_key)
    x = drawn.normal(x_key, (n_samples, d_in))
    return teacher, neurons_of(teacher), x, drawn.answers(teacher, x)


def some_columns(seed, n_inputs, n_outputs, width=5, n_samples=30):
    draw = np.random.default_rng(seed)
    phi = draw.normal(size=(n_samples, width)) * 10.0 ** draw.uniform(-3, 3, width)
    return phi, draw.normal(size=(n_samples, n_inputs)), draw.normal(size=(n_samples, n_outputs))


SIZES = {"seed": st.integers(0, 2**32 - 1), "n_inputs": st.integers(0, 3), "n_outputs": st.integers(1, 3)}


# --- outgoing weights ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(**SIZES)
def test_fit_is_least_squares(seed, n_inputs, n_outputs):
    phi, inputs, y = some_columns(seed, n_inputs, n_outputs)
    fit = fit_columns(phi, inputs, y)
    columns = np.column_stack([phi, inputs, np.ones(len(phi))])
    wanted, *_ = np.linalg.lstsq(columns, y, rcond=None)
    np.testing.assert_allclose(np.column_stack([fit.a, fit.linear, fit.c]), wanted.T, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(fit.loss, np.mean((columns @ wanted - y) ** 2), rtol=1e-9)


@pytest.mark.parametrize("with_linear", [False, True])
def test_outgoing_weights_and_bias_of_a_teacher_come_back(with_linear, key):
    teacher, neurons, x, y = problem(d_out=2, key=key)
    fit = fit_output(neurons, x, y, with_linear=with_linear)
    np.testing.assert_allclose(fit.a, teacher.layers[1].w, rtol=1e-10)
    np.testing.assert_allclose(fit.c, teacher.layers[1].b, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.linear, np.zeros((2, 3)), atol=1e-11)
    again = Network((neurons.layer(x.dtype), fit.layer(x.dtype)))
    np.testing.assert_allclose(respond(again, x), y, rtol=0, atol=1e-11)


@settings(deadline=None)
@given(**SIZES)
def test_removal_cost_is_the_rise_of_the_refitted_loss(seed, n_inputs, n_outputs):
    phi, inputs, y = some_columns(seed, n_inputs, n_outputs)
    full = fit_columns(phi, inputs, y).loss
    rise = [fit_columns(np.delete(phi, i, axis=1), inputs, y).loss - full for i in range(phi.shape[1])]
    np.testing.assert_allclose(removal_costs(phi, inputs, y), rise, rtol=1e-6, atol=1e-12)


@settings(deadline=None)
@given(**SIZES)
def test_cheapest_first_takes_each_time_what_costs_least(seed, n_inputs, n_outputs):
    """Against fits of what is left, by all samples: the order, and that the rises add up."""
    phi, inputs, y = some_columns(seed, n_inputs, n_outputs)
    left = list(range(phi.shape[1]))
    fitted = lambda columns: fit_columns(phi[:, columns], inputs[:, :0], y).loss
    for neuron, rise in cheapest_first(phi, y):
        rises = {i: fitted([j for j in left if j != i]) - fitted(left) for i in left}
        assert rises[neuron] <= min(rises.values()) * (1 + 1e-6) + 1e-12
        np.testing.assert_allclose(rise, rises[neuron], rtol=1e-6, atol=1e-12)
        left.remove(neuron)
    assert len(left) == 1


def test_what_others_can_say_costs_nothing():
    """A copy, a constant neuron, a silent one: each can be left out, and the rest of the columns still counts."""
    phi, inputs, _ = some_columns(0, 0, 1, width=3)
    y = phi @ np.array([[1.0], [2.0], [-1.0]]) / phi.std(0).max()
    phi = np.column_stack([phi, phi[:, 0], np.full(len(phi), 0.7), np.zeros(len(phi))])
    costs = removal_costs(phi, inputs, y)
    np.testing.assert_allclose(costs[[0, 3, 4, 5]], 0, atol=1e-12)
    without = fit_columns(np.delete(phi, 1, axis=1), inputs, y).loss
    np.testing.assert_allclose(costs[1], without, rtol=1e-3)  # the floor under singular values costs some digits here
    assert costs[1] > 1e-9


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-40])
def test_a_neuron_that_never_answers_is_not_listened_to(size):
    """Neither by weights of 1e290, which rounding made of a column of zeros, nor at the cost of others."""
    phi, inputs, y = some_columns(1, 2, 2)
    silent = np.column_stack([phi, size * np.abs(phi[:, 0])])
    fit, wanted = fit_columns(silent, inputs, y), fit_columns(phi, inputs, y)
    np.testing.assert_allclose(fit.a, np.pad(wanted.a, ((0, 0), (0, 1))), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fit.linear, wanted.linear, rtol=1e-9)
    assert removal_costs(silent, inputs, y)[-1] <= 1e-12


def test_contribution_is_what_a_neuron_moves_the_outputs(key):
    teacher, neurons, x, _ = problem(d_out=2, key=key)
    phi, a = responses(neurons, x), np.asarray(teacher.layers[1].w)
    wanted = [np.sqrt(np.mean(np.square(np.outer(phi[:, i] - phi[:, i].mean(), a[:, i])))) for i in range(3)]
    np.testing.assert_allclose(contributions(teacher, x), wanted, rtol=1e-12)


# --- signs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "width"),
    [
        *((name, 4) for name in EVEN_LINEAR),
        *(
            pytest.param(name, 20, marks=[] if name in ("softplus", "relu") else [pytest.mark.slow])
            for name in EVEN_LINEAR
        ),
    ],
)
def test_planted_signs_are_found(activation, width, key):
    """All combinations are compared up to 16 neurons; beyond, the rounded solution must do."""
    _, neurons, x, y = problem(activation, 5, width, 5, 400, key=key)
    sign = np.array([1.0, -1.0, -1.0, 1.0, -1.0] * 4)[:width]
    flipped = neurons.flipped(sign)
    fit = fit_output(flipped, x, y, with_linear=True)
    assert fit.loss < 1e-20
    (best, left), *others = likely_signs(flipped, fit, x, n_best=3)
    np.testing.assert_array_equal(best, sign)
    assert left < 1e-8
    assert len(others) == (2 if width <= 16 else 0)
    assert all(rms > 1e-2 for _, rms in others)
    assert others == sorted(others, key=lambda other: other[1])


def test_signs_are_open_only_where_a_flip_leaves_a_linear_map():
    assert set(EVEN_LINEAR) == {"softplus", "silu", "gelu", "gelu_tanh", "relu", "leaky_relu"}


def test_only_neurons_of_open_sign_are_turned(key):
    """In a mixture of softplus and tanh, flips are tried on the softplus neurons alone."""
    teacher, neurons, x, y = problem(mixture(tanh=2, softplus=2), 3, 4, 2, key=key)
    fit = fit_output(neurons.flipped(np.array([-1.0, 1.0, -1.0, 1.0])), x, y, with_linear=True)
    signs = likely_signs(neurons.flipped(np.array([-1.0, 1.0, -1.0, 1.0])), fit, x, n_best=4)
    assert len(signs) == 4
    assert all((sign[:2] == 1).all() for sign, _ in signs)
    np.testing.assert_array_equal(signs[0][0], [1, 1, -1, 1])
    assert teacher.layers[0].activation.name == "tanh x 2, softplus x 2"


def test_assembled_neurons_are_turned_to_the_teachers_signs(key):
    teacher, neurons, x, y = problem("softplus", key=key)
    samples = Samples(x, y)
    found = assemble(neurons.flipped(np.array([-1.0, 1.0, -1.0])), samples, teacher, tools_for(samples))
    assert found.is_exact
    assert not found.linear.any()
    np.testing.assert_allclose(found.neurons.vectors, neurons.vectors, rtol=0, atol=1e-8)


def test_a_linear_map_that_no_signs_explain_is_kept(key):
    teacher, neurons, x, y = problem("softplus", key=key)
    planted = np.array([[0.7, -1.1, 0.4]])
    samples = Samples(x, y + x @ planted.T)
    flipped = neurons.flipped(np.array([-1.0, 1.0, 1.0]))
    found = assemble(flipped, samples, teacher, tools_for(samples))
    assert found.is_exact
    # The neuron's own map is kept with the planted one: nothing here tells which sign is the teacher's.
    own = np.asarray(teacher.layers[1].w)[:, :1] * neurons.vectors[:1, :-1]
    np.testing.assert_allclose(found.linear, planted + own, rtol=0, atol=1e-8)
    answer = respond(found.network, x) + np.asarray(x) @ found.linear.T
    np.testing.assert_allclose(answer, samples.y, rtol=0, atol=1e-9)
    without = assemble(flipped, samples, teacher, replace(tools_for(samples), keep_linear=False))
    assert not without.linear.any()
    assert not without.is_exact


# --- clusters to neurons -------------------------------------------------------------------------------------------


def test_merge_takes_the_best_student_among_the_typical():
    """The student of the lowest loss strays from the rest in one cluster, so another one speaks for it there."""
    draw = np.random.default_rng(0)
    planted = np.array([[1.0, 0.0, 0.3], [0.0, 1.0, -0.4], [-0.7, 0.7, 1.0]])
    neurons = planted + 1e-6 * draw.normal(size=(8, 3, 3))  # students, neurons, inputs
    neurons[2, 0] += 2e-3
    loss = np.array([5.0, 4.0, 0.0, 1.0, 2.0, 3.0, 6.0, 7.0]) * 1e-20
    student = np.repeat(np.arange(8), 3)
    g = ACTIVATIONS["g"]
    clustering = cluster_neurons(
        neurons.reshape(-1, 3),
        student,
        n_students=8,
        symmetry=g.symmetry,
        moment=None,
        config=ClusterConfig(metric="euclidean"),
    )
    kept = clustering.kept_clusters
    merged = merge(clustering, loss, g, clusters=kept)
    assert merged.width == 3
    assert merged.activation is g
    for vector, cluster in zip(merged.vectors, kept, strict=True):
        members = clustering.members(cluster)
        (which,) = np.flatnonzero((clustering.neurons[members] == vector).all(axis=1))
        centre = np.median(clustering.neurons[members], axis=0)
        distance = np.linalg.norm(clustering.neurons[members] - centre, axis=1)
        typical = np.argsort(distance)[: (len(members) + 1) // 2]
        assert which == min(typical, key=lambda i: loss[clustering.student[members[i]]])
        assert distance[which] < 1e-5
    assert merge(clustering, loss, g, clusters=kept[:0]).vectors.shape == (0, 3)


# --- refinement and elimination ------------------------------------------------------------------------------------


def test_frozen_neurons_change_nothing(key):
    """A network padded with silent neurons is refined to the same answer as the network itself."""
    _, neurons, x, y = problem(key=key)
    samples = Samples(x, y)
    judge, off = Judge.of(samples), neurons._replace(vectors=neurons.vectors + 0.05)
    start = Network((off.layer(x.dtype), fit_output(off, x, y).layer(x.dtype)))
    net, loss = finetune(start, samples, stop=STOP, judge=judge)
    padded, padded_loss = finetune(start, samples, stop=STOP, judge=judge, pad_to=PAD_TO)
    assert padded.shape == net.shape == (3, 3, 1)
    assert judge.fits(loss)
    assert judge.fits(padded_loss)
    np.testing.assert_allclose(neurons_of(net).vectors, neurons.vectors, rtol=0, atol=1e-9)
    np.testing.assert_allclose(neurons_of(padded).vectors, neurons_of(net).vectors, rtol=0, atol=1e-9)


def with_neurons(net: Network, vectors, a, bias=0.0) -> Network:
    """The network with more neurons of these incoming vectors and outgoing weights, `bias` added to its answer."""
    hidden, output = net.layers
    vectors = np.asarray(vectors)
    w, b = np.concatenate([hidden.w, vectors[:, :-1]]), np.concatenate([hidden.b, vectors[:, -1]])
    wider = (np.concatenate([output.w, [a]], axis=1), np.asarray(output.b) + bias)
    hidden = Layer(drawn.on_device(w), drawn.on_device(b), hidden.activation)
    return Network((hidden, Layer(*map(drawn.on_device, wider))))


value = jax.jit(Samples.value)


def as_candidate(net: Network, samples: Samples, loss: float | None = None) -> Candidate:
    loss = float(value(samples, net)) if loss is None else loss
    fan_in, *_, fan_out = net.shape
    origin = tuple(range(net.widths[0]))
    return Candidate(net, np.zeros((fan_out, fan_in)), loss, Judge.of(samples), origin)


SCAFFOLDING = {
    "a copy": lambda net: split_neuron(net, 1, layer=0, share=0.3),
    "a zero group": lambda net: with_neurons(net, [[0.3, 1.0, -0.2, 0.4]] * 2, [0.8, -0.8]),
    "a constant": lambda net: with_neurons(net, [[0.0, 0.0, 0.0, 0.7]], [0.5], bias=-0.5 * np.tanh(0.7)),
    "a silent neuron": lambda net: with_neurons(net, [[1.0, 0.2, 0.1, 0.0]], [0.0]),
    "nothing": lambda net: net,
}


@pytest.mark.parametrize("planted", [*([name] for name in SCAFFOLDING), list(SCAFFOLDING)], ids=str)
def test_scaffolding_goes_and_nothing_else(planted, key):
    """What an exact student may hold beyond the teacher (Şimşek et al., ICML 2021), each by itself and all at once."""
    teacher, neurons, x, y = problem(key=jr.key(3))
    samples, net = Samples(x, y), teacher
    for name in planted:
        net = SCAFFOLDING[name](net)
    start = as_candidate(net, samples)
    assert start.is_exact
    smallest = eliminate(start, samples, tools_for(samples))
    assert smallest.is_exact
    assert smallest.network.widths == (3,)
    found, wanted = smallest.neurons.vectors, neurons.vectors
    distance = np.minimum(
        np.linalg.norm(found[:, None] - wanted, axis=-1), np.linalg.norm(found[:, None] + wanted, axis=-1)
    )
    assert sorted(distance.argmin(1)) == [0, 1, 2]
    assert distance.min(1).max() < 1e-8
    # What stayed is said by its place in the start, from where it was only refined.
    stayed = neurons_of(net).vectors[list(smallest.origin)]
    assert len(smallest.origin) == 3
    np.testing.assert_allclose(found, stayed, rtol=0, atol=1e-6)


def test_elimination_from_an_inexact_start_ends_at_the_teacher_or_where_it_began(key):
    teacher, _, x, y = problem(key=jr.key(3))
    samples = Samples(x, y)
    near = as_candidate(with_neurons(teacher, [[1.0, 0.2, 0.1, 0.0]], [0.01]), samples, loss=1e-3)
    assert not near.is_exact
    assert eliminate(near, samples, tools_for(samples)).network.widths == (3,)
    # Targets that no network of this size can meet: nothing is taken away.
    noise = Samples(x, drawn.normal(key, y.shape))
    hopeless = as_candidate(teacher, noise, loss=1.0)
    assert eliminate(hopeless, noise, tools_for(noise)) is hopeless


def test_choices_are_nested_and_hold_the_planted_neurons_first(key):
    _, neurons, x, y = problem(width=4, d_in=3, key=key)
    decoys = neurons_of(drawn.network((3, 6, 1), "tanh", key=key))
    order = np.array([4, 0, 5, 6, 1, 2, 7, 8, 3, 9])
    candidates = neurons._replace(vectors=np.concatenate([neurons.vectors, decoys.vectors])[order])
    planted = set(np.flatnonzero(order < 4))
    choices = [set(chosen.tolist()) for chosen in nested_choices(candidates, x, y, Judge.of(Samples(x, y)))]
    assert choices[-1] == set(range(10))
    assert all(a < b for a, b in pairwise(choices))
    assert planted in choices
    assert all(chosen <= planted or chosen >= planted for chosen in choices)


def test_one_candidate_is_one_choice(key):
    _, neurons, x, y = problem(key=key)
    (choice,) = nested_choices(neurons.take(np.array([0])), x, y, Judge.of(Samples(x, y)))
    np.testing.assert_array_equal(choice, [0])

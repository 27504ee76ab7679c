"""Reconstruction: outgoing weights, signs, what a neuron is worth, and networks rid of all that is not needed."""

from itertools import pairwise

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.cluster import ClusterConfig, cluster_neurons
from ecjax.data.teachers import synthetic_teacher
from ecjax.expand import RefineConfig
from ecjax.network.activations import ACTIVATIONS
from ecjax.network.networks import Layer, Network, random_network, respond, split_neuron
from ecjax.reconstruct import (
    Candidate,
    contributions,
    eliminate,
    finetune,
    fit_output,
    likely_signs,
    merge,
    nested_choices,
    settle,
)
from ecjax.reconstruct.finetune import exact_loss
from ecjax.reconstruct.output import as_network, fit_columns, leaves_linear_map, removal_costs, responses, vectors_of

EVEN_LINEAR = [name for name, activation in ACTIVATIONS.items() if leaves_linear_map(activation)]
EXACT = exact_loss(np.float64)
TOOLS = {"config": RefineConfig(max_steps=60, patience=20), "exact_below": EXACT, "pad_to": 9}  # one compiled program


def problem(activation="tanh", d_in=3, width=3, d_out=1, n_samples=200, *, key):
    """A teacher, its incoming vectors, queries and answers."""
    teacher_key, x_key = jr.split(key)
    teacher = synthetic_teacher(d_in, width, d_out, activation, key=teacher_key)
    x = jr.normal(x_key, (n_samples, d_in))
    return teacher, vectors_of(teacher), x, respond(teacher, x)


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
    teacher, vectors, x, y = problem(d_out=2, key=key)
    fit = fit_output(vectors, x, y, teacher.activation, with_linear=with_linear)
    np.testing.assert_allclose(fit.a, teacher.layers[1].w, rtol=1e-10)
    np.testing.assert_allclose(fit.c, teacher.layers[1].b, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.linear, np.zeros((2, 3)), atol=1e-11)
    again = as_network(vectors, fit, teacher.activation, x.dtype)
    np.testing.assert_allclose(respond(again, x), y, rtol=0, atol=1e-11)


@settings(deadline=None)
@given(**SIZES)
def test_removal_cost_is_the_rise_of_the_refitted_loss(seed, n_inputs, n_outputs):
    phi, inputs, y = some_columns(seed, n_inputs, n_outputs)
    full = fit_columns(phi, inputs, y).loss
    rise = [fit_columns(np.delete(phi, i, axis=1), inputs, y).loss - full for i in range(phi.shape[1])]
    np.testing.assert_allclose(removal_costs(phi, inputs, y), rise, rtol=1e-6, atol=1e-12)


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


def test_contribution_is_what_a_neuron_moves_the_outputs(key):
    teacher, vectors, x, _ = problem(d_out=2, key=key)
    phi, a = responses(vectors, x, teacher.activation), np.asarray(teacher.layers[1].w)
    wanted = [np.sqrt(np.mean(np.square(np.outer(phi[:, i] - phi[:, i].mean(), a[:, i])))) for i in range(3)]
    np.testing.assert_allclose(contributions(teacher, x), wanted, rtol=1e-12)


# --- signs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 20])
@pytest.mark.parametrize("activation", EVEN_LINEAR)
def test_planted_signs_are_found(activation, width, key):
    """All combinations are compared up to 16 neurons; beyond, the rounded solution must do."""
    teacher, vectors, x, y = problem(activation, 5, width, 5, 400, key=key)
    sign = np.array([1.0, -1.0, -1.0, 1.0, -1.0] * 4)[:width]
    flipped = sign[:, None] * vectors
    fit = fit_output(flipped, x, y, teacher.activation, with_linear=True)
    assert fit.loss < 1e-20
    (best, left), *others = likely_signs(flipped, fit, x, teacher.activation, n_best=3)
    np.testing.assert_array_equal(best, sign)
    assert left < 1e-8
    assert len(others) == (2 if width <= 16 else 0)
    assert all(rms > 1e-2 for _, rms in others)
    assert others == sorted(others, key=lambda other: other[1])


def test_signs_are_open_only_where_a_flip_leaves_a_linear_map():
    assert set(EVEN_LINEAR) == {"softplus", "silu", "gelu", "gelu_tanh", "relu", "leaky_relu"}


def test_settle_turns_neurons_to_the_teachers_signs(key):
    teacher, vectors, x, y = problem("softplus", key=key)
    settled = settle(vectors * [[-1.0], [1.0], [-1.0]], x, y, teacher, **TOOLS)
    assert settled.is_exact
    assert not settled.linear.any()
    np.testing.assert_allclose(settled.vectors, vectors, rtol=0, atol=1e-8)


def test_settle_keeps_a_linear_map_that_no_signs_explain(key):
    teacher, vectors, x, y = problem("softplus", key=key)
    planted = np.array([[0.7, -1.1, 0.4]])
    settled = settle(vectors * [[-1.0], [1.0], [1.0]], x, y + x @ planted.T, teacher, **TOOLS)
    assert settled.is_exact
    # The neuron's own map is kept with the planted one: nothing here tells which sign is the teacher's.
    own = np.asarray(teacher.layers[1].w)[:, :1] * vectors[:1, :-1]
    np.testing.assert_allclose(settled.linear, planted + own, rtol=0, atol=1e-8)
    answer = respond(settled.network, x) + np.asarray(x) @ settled.linear.T
    np.testing.assert_allclose(answer, y + x @ planted.T, rtol=0, atol=1e-9)


# --- clusters to neurons -------------------------------------------------------------------------------------------


def test_merge_takes_the_best_student_among_the_typical():
    """The student of the lowest loss strays from the rest in one cluster, so another one speaks for it there."""
    draw = np.random.default_rng(0)
    planted = np.array([[1.0, 0.0, 0.3], [0.0, 1.0, -0.4], [-0.7, 0.7, 1.0]])
    neurons = planted + 1e-6 * draw.normal(size=(8, 3, 3))  # students, neurons, inputs
    neurons[2, 0] += 2e-3
    loss = np.array([5.0, 4.0, 0.0, 1.0, 2.0, 3.0, 6.0, 7.0]) * 1e-20
    student = np.repeat(np.arange(8), 3)
    clustering = cluster_neurons(
        neurons.reshape(-1, 3),
        student,
        n_students=8,
        symmetry=ACTIVATIONS["g"].symmetry,
        moment=None,
        config=ClusterConfig(metric="euclidean"),
    )
    kept = clustering.kept_clusters
    merged = merge(clustering, loss, clusters=kept)
    assert len(merged) == 3
    for vector, cluster in zip(merged, kept, strict=True):
        members = clustering.members(cluster)
        (which,) = np.flatnonzero((clustering.neurons[members] == vector).all(axis=1))
        centre = np.median(clustering.neurons[members], axis=0)
        distance = np.linalg.norm(clustering.neurons[members] - centre, axis=1)
        typical = np.argsort(distance)[: (len(members) + 1) // 2]
        assert which == min(typical, key=lambda i: loss[clustering.student[members[i]]])
        assert distance[which] < 1e-5
    assert merge(clustering, loss, clusters=kept[:0]).shape == (0, 3)


# --- refinement and elimination ------------------------------------------------------------------------------------


def test_frozen_neurons_change_nothing(key):
    """A network padded with silent neurons is refined to the same answer as the network itself."""
    teacher, vectors, x, y = problem(key=key)
    start = as_network(
        vectors + 0.05, fit_output(vectors + 0.05, x, y, teacher.activation), teacher.activation, x.dtype
    )
    net, loss = finetune(start, x, y, **{**TOOLS, "pad_to": 0})
    padded, padded_loss = finetune(start, x, y, **TOOLS)
    assert padded.shape == net.shape == (3, 3, 1)
    assert max(loss, padded_loss) < exact_loss(x.dtype)
    np.testing.assert_allclose(vectors_of(net), vectors, rtol=0, atol=1e-9)
    np.testing.assert_allclose(vectors_of(padded), vectors_of(net), rtol=0, atol=1e-9)


def with_neurons(net: Network, vectors, a, bias=0.0) -> Network:
    """The network with more neurons of these incoming vectors and outgoing weights, `bias` added to its answer."""
    hidden, output = net.layers
    vectors = jnp.asarray(vectors, float)
    hidden = Layer(jnp.concatenate([hidden.w, vectors[:, :-1]]), jnp.concatenate([hidden.b, vectors[:, -1]]))
    return Network(
        (hidden, Layer(jnp.concatenate([output.w, jnp.asarray([a])], axis=1), output.b + bias)), net.activation
    )


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
    teacher, vectors, x, y = problem(key=jr.key(3))
    net = teacher
    for name in planted:
        net = SCAFFOLDING[name](net)
    start = Candidate(net, np.zeros((1, 3)), float(np.mean((respond(net, x) - y) ** 2)), EXACT)
    assert start.is_exact
    smallest = eliminate(start, x, y, **TOOLS)
    assert smallest.is_exact
    assert smallest.network.widths == (3,)
    found = smallest.vectors
    distance = np.minimum(
        np.linalg.norm(found[:, None] - vectors, axis=-1), np.linalg.norm(found[:, None] + vectors, axis=-1)
    )
    assert sorted(distance.argmin(1)) == [0, 1, 2]
    assert distance.min(1).max() < 1e-8


def test_elimination_from_an_inexact_start_ends_at_the_teacher_or_where_it_began(key):
    teacher, _, x, y = problem(key=jr.key(3))
    near = Candidate(
        with_neurons(teacher, [[1.0, 0.2, 0.1, 0.0]], [0.01]),
        np.zeros((1, 3)),
        1e-3,
        EXACT,
    )
    assert not near.is_exact
    assert eliminate(near, x, y, **TOOLS).network.widths == (3,)
    # Targets that no network of this size can meet: nothing is taken away.
    noise = jr.normal(key, y.shape)
    hopeless = Candidate(teacher, np.zeros((1, 3)), 1.0, EXACT)
    assert eliminate(hopeless, x, noise, **TOOLS) is hopeless


def test_choices_are_nested_and_hold_the_planted_neurons_first(key):
    teacher, vectors, x, y = problem(width=4, d_in=3, key=key)
    decoys = vectors_of(random_network((3, 6, 1), "tanh", key=key))
    order = np.array([4, 0, 5, 6, 1, 2, 7, 8, 3, 9])
    candidates = np.concatenate([vectors, decoys])[order]
    planted = set(np.flatnonzero(order < 4))
    choices = [set(chosen.tolist()) for chosen in nested_choices(candidates, x, y, teacher.activation)]
    assert choices[-1] == set(range(10))
    assert all(a < b for a, b in pairwise(choices))
    assert planted in choices
    assert all(chosen <= planted or chosen >= planted for chosen in choices)


def test_one_candidate_is_one_choice(key):
    teacher, vectors, x, y = problem(key=key)
    (choice,) = nested_choices(vectors[:1], x, y, teacher.activation)
    np.testing.assert_array_equal(choice, [0])


def test_exact_means_rounding_of_the_precision_in_use():
    for dtype in (np.float32, np.float64):
        assert 1e4 < exact_loss(dtype) / np.finfo(dtype).eps ** 2 < 1e9

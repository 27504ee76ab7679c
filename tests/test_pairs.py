"""Two neurons that do the work of one become one; weights that nothing depends on begin anew."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.expand import Stopping
from ecjax.judge import Judge
from ecjax.network.moves import grow, split_neuron, with_layers
from ecjax.objective import Samples
from ecjax.reconstruct import eliminate_in_all_layers
from ecjax.reconstruct.faint import faintest_first, without_faint
from ecjax.reconstruct.pairs import joined, parallel_pairs
from ecjax.reconstruct.swap import swapped

SMOOTH = ["g", "tanh", "sigmoid", "softplus", "gelu"]


def planted(activation, shape=(6, 5, 4), n=2000, seed=0):
    teacher = jax.tree.map(lambda leaf: 1.5 * leaf, ec.random_network(shape, activation, key=jr.key(seed)))
    x = jr.normal(jr.key(seed + 1), (n, shape[0]))
    return teacher, Samples(x, ec.respond(teacher, x))


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("layer", [0, 1])
def test_copies_become_one_neuron_again(activation, layer):
    teacher, samples = planted(activation, (6, 5, 4, 3))
    doubled = split_neuron(teacher, 2, layer=layer, share=0.3)
    assert parallel_pairs(doubled, layer)[0] == (2, teacher.widths[layer])
    found = joined(doubled, layer, (2, teacher.widths[layer]), samples)
    assert found.widths == teacher.widths
    # As near as a linear map of the inputs comes to its pre-activations, up to their scale and shift.
    without = joined(doubled, layer, (0, 1), samples)  # two that have nothing in common
    assert samples.value(found) < 0.5 * samples.value(without)


def test_a_linear_neuron_that_two_stand_for_is_found():
    """softplus(z) - softplus(-z) is z: two neurons in the place of one that is nearly linear."""
    teacher, samples = planted("softplus")
    first, output = teacher.layers
    straight = replace(first, b=first.b.at[3].set(9.0))
    teacher = ec.Network((straight, output))
    samples = samples.with_answers(ec.respond(teacher, samples.x))
    w, a = straight.w[3], output.w[:, 3]
    outer = replace(output, b=output.b + 9 * a)
    net = grow(ec.Network((replace(straight, b=first.b.at[3].set(0.0)), outer)), -w, 0.0, -a, layer=0)
    assert float(samples.value(net)) < 1e-5  # as good as linear
    assert parallel_pairs(net, 0) == [(3, 5)]
    found = joined(net, 0, (3, 5), samples)
    assert found.widths == (5,)
    assert float(samples.value(found)) < 1e-5
    z = lambda net: np.asarray(samples.x @ net.layers[0].w[3] + net.layers[0].b[3])
    cosine = z(found) @ z(teacher) / np.linalg.norm(z(found)) / np.linalg.norm(z(teacher))
    assert abs(cosine) > 0.99


@pytest.mark.parametrize("activation", SMOOTH)
def test_two_that_cancel_cost_nothing(activation):
    teacher, samples = planted(activation)
    first, a = teacher.layers[0], jnp.array([1.0, -2.0, 0.5, 1.5])
    net = grow(teacher, first.w[0], float(first.b[0]), a, layer=0)
    net = grow(net, first.w[0], float(first.b[0]), -a, layer=0)
    found = joined(net, 0, (5, 6), samples)
    assert found.widths == (6,)
    assert float(samples.value(found)) < 1e-20


def test_towards_one_output_parallel_says_nothing():
    teacher, _ = planted("tanh", (6, 5, 1))
    assert parallel_pairs(teacher, 0) == []
    teacher, _ = planted("tanh")
    assert parallel_pairs(teacher, 0) == []


def faint_inputs(n=2000, faint=3):
    x = np.random.default_rng(5).standard_normal((n, 9))
    x[:, :faint] *= 1e-4
    turn, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((9, 9)))
    return jnp.asarray(x @ turn), jnp.asarray(turn)


def test_weights_that_nothing_depends_on_begin_anew():
    x, turn = faint_inputs()
    teacher = ec.random_network((9, 6, 3), "tanh", key=jr.key(2))
    samples = Samples(x, ec.respond(teacher, x))
    judge = Judge.of(samples)
    first = teacher.layers[0]
    wild = with_layers(teacher, 0, replace(first, w=first.w + 3 * turn[:3].sum(axis=0)[None]), teacher.output)
    found, n = without_faint(wild, samples, faintest_first(x), judge)
    assert n == 3
    np.testing.assert_allclose(found.layers[0].w @ turn[:3].T, 0, atol=1e-4)
    np.testing.assert_allclose(found.layers[0].w @ turn[3:].T, first.w @ turn[3:].T, atol=1e-3)


def test_among_white_inputs_no_weight_begins_anew():
    teacher, samples = planted("tanh")
    found, n = without_faint(teacher, samples, faintest_first(samples.x), Judge.of(samples))
    assert n == 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, teacher)


@pytest.mark.parametrize("activation", ["g", "tanh"])
def test_a_single_layer_is_swapped_into_the_teacher(activation):
    teacher, samples = planted(activation)
    judge = Judge.of(samples)
    near = jax.tree.map(lambda leaf: leaf * (1 + 1e-2 * jr.normal(jr.key(leaf.size), leaf.shape)), teacher)
    doubled = split_neuron(near, 1, layer=0, share=0.4)
    inner = doubled.layers[0]
    apart = with_layers(doubled, 0, replace(inner, w=inner.w.at[-1].add(0.2)), doubled.output)
    held = [np.zeros((1, 7))]
    stop = Stopping(max_steps=50, gradient_norm=0.0)
    found = swapped(apart, samples, held, stop=stop, judge=judge)
    found, _ = eliminate_in_all_layers(found, float(samples.value(found)), samples, stop=stop, judge=judge)
    assert found.widths == teacher.widths
    assert judge.fits(float(samples.value(found)))
    assert ec.compare(found, teacher, samples.x).parameter_error < 1e-8

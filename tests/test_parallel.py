"""Neurons that do the work of one become one; scales and shifts, and weights that nothing depends on, begin anew."""

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
from ecjax.reconstruct.parallel import parallel_groups
from ecjax.reconstruct.profile import profile_of_many, profile_of_one
from ecjax.reconstruct.swap import swapped

SMOOTH = ["g", "tanh", "sigmoid", "softplus", "gelu"]


def joined(net, layer, places, samples):
    """The network with one neuron in the place of several."""
    profile = profile_of_many(net, layer, places, samples)
    return profile.within(profile.best(), samples)


def planted(activation, shape=(6, 5, 4), n=2000, seed=0):
    teacher = jax.tree.map(lambda leaf: 1.5 * leaf, ec.random_network(shape, activation, key=jr.key(seed)))
    x = jr.normal(jr.key(seed + 1), (n, shape[0]))
    return teacher, Samples(x, ec.respond(teacher, x))


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("layer", [0, 1])
def test_copies_become_one_neuron_again(activation, layer):
    teacher, samples = planted(activation, (6, 5, 4, 3))
    doubled = split_neuron(teacher, 2, layer=layer, share=0.3)
    assert parallel_groups(doubled, layer)[0] == (2, teacher.widths[layer])
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
    assert parallel_groups(net, 0) == [(3, 5)]
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


@pytest.mark.parametrize("activation", SMOOTH)
def test_many_copies_become_one_neuron_at_once(activation):
    teacher, samples = planted(activation)
    many = split_neuron(split_neuron(split_neuron(teacher, 2, layer=0), 2, layer=0), 4, layer=0)
    groups = parallel_groups(many, 0)
    assert groups[0] == (2, 5, 6)
    assert set(groups[1:]) == {(2, 5), (2, 6), (5, 6), (4, 7)}
    found = joined(many, 0, (2, 5, 6), samples)
    assert found.widths == (6,)
    assert samples.value(found) < 0.5 * samples.value(joined(many, 0, (0, 1, 3), samples))


@pytest.mark.parametrize("activation", SMOOTH)
def test_a_neuron_of_another_scale_is_given_its_own_back(activation):
    teacher, samples = planted(activation)
    inner = teacher.layers[0]
    by, shift = (jnp.ones(5).at[1].set(one) for one in (3.0, 2.0))
    wrong = with_layers(teacher, 0, replace(inner, w=by[:, None] * inner.w, b=by * inner.b + shift - 1), teacher.output)
    profile = profile_of_one(wrong, 0, 1, samples)
    z = lambda net: np.asarray(samples.x @ net.layers[0].w[1] + net.layers[0].b[1])[: len(profile.along)]
    np.testing.assert_allclose(profile.now, [z(wrong).std(), z(wrong).mean()], rtol=1e-6)
    own = np.array([z(teacher).std(), z(teacher).mean()])
    assert profile.left(own[None])[0] < 1e-12 < 1e-4 < profile.left(profile.now[None])[0]
    found = profile.within(profile.best(), samples)
    assert float(samples.value(found)) < 1e-6
    if not found.hidden[0].activation.symmetry.linear:  # of others the opposite neuron may be as good
        np.testing.assert_allclose(abs(profile.best()), abs(own), rtol=1e-2, atol=1e-2)


def test_what_is_left_is_the_loss_of_least_squares():
    teacher, samples = planted("tanh", (6, 5, 4, 3), n=40)  # no more than the profile looks at
    wrong = jax.tree.map(lambda leaf: 1.1 * leaf, teacher)
    profile = profile_of_one(wrong, 1, 2, samples)
    trial = np.array([0.7, 0.3])
    found = profile.within(trial, samples)
    z = lambda net: np.asarray(ec.network.hidden_states(net, samples.x)[1].z)
    assert z(found)[:, 2].std() == pytest.approx(0.7, rel=1e-6)
    assert z(found)[:, 2].mean() == pytest.approx(0.3, rel=1e-6)
    loss = np.mean(np.square(samples.errors(found))) / np.mean(np.var(samples.y, axis=0))
    assert profile.left(trial[None])[0] == pytest.approx(float(loss), rel=1e-6)


def test_towards_one_output_parallel_says_nothing():
    teacher, _ = planted("tanh", (6, 5, 1))
    assert parallel_groups(teacher, 0) == []
    teacher, _ = planted("tanh")
    assert parallel_groups(teacher, 0) == []


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

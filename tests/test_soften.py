"""Soft kinks become sharp ones, change no function on the way, and bring samples to the right side."""

import sys

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.judge import Judge
from ecjax.network import hidden_states, mixture
from ecjax.network.moves import with_unit_pre_activations
from ecjax.objective import flatten
from ecjax.reconstruct import finetune
from ecjax.reconstruct.soften import SHARPNESS, softened, with_soft_kinks

HOMOGENEOUS = [name for name, activation in ec.ACTIVATIONS.items() if activation.symmetry.homogeneous]


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_a_soft_kink_is_near_the_sharp_one_and_nearer_the_sharper(name, sharpness):
    """Largest at the kink, where the soft one is log(2) / sharpness times half the jump of the slope away."""
    activation, z = ec.ACTIVATIONS[name], jnp.linspace(-3, 3, 601)
    soft = softened(activation, sharpness)
    bend = (float(activation(jnp.ones(()))) + float(activation(-jnp.ones(())))) / 2
    gap = np.asarray(soft(z) - activation(z))
    assert np.all(gap >= -1e-12)
    assert gap.max() == pytest.approx(bend * np.log(2) / sharpness)
    assert np.argmax(gap) == 300
    np.testing.assert_allclose(soft.d1(z), jax.vmap(jax.grad(soft.fn))(z), atol=1e-12)
    assert softened(activation, sharpness) is soft  # compiled once


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_unit_pre_activations_are_the_same_function(name, key):
    net_key, x_key = jr.split(key)
    net = drawn.network((3, 4, 5, 2), name, key=net_key)
    x = drawn.normal(x_key, (50, 3))
    scaled = with_unit_pre_activations(net, x)
    np.testing.assert_allclose(ec.respond(scaled, x), ec.respond(net, x), atol=1e-12)
    for state in hidden_states(scaled, x):
        np.testing.assert_allclose(jnp.mean(state.z**2, axis=0), 1)


def test_kinks_alone_are_softened(key):
    """In a mixture the other neurons keep their activation, and so do all layers of the network their weights."""
    net = drawn.network((3, 4, 3, 2), (mixture(relu=2, tanh=2), "g"), key=key)
    soft = with_soft_kinks(net, 10.0)
    relu, tanh = ec.ACTIVATIONS["relu"], ec.ACTIVATIONS["tanh"]
    assert soft.layers[0].activation.each == (softened(relu, 10.0),) * 2 + (tanh,) * 2
    assert soft.layers[1].activation is ec.ACTIVATIONS["g"]
    assert soft.layers[2].activation is net.layers[2].activation
    for ours, theirs in zip(jax.tree.leaves(soft), jax.tree.leaves(net), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_kinks_pass_the_samples_between_them_and_their_places(monkeypatch):
    """From a teacher disturbed as much as it is large, without a matrix: 3 of 4, and 2 of 4 by sharp kinks alone."""
    module = sys.modules["ecjax.reconstruct.finetune"]  # the room's `finetune` is the function
    monkeypatch.setattr(module, "is_small", lambda net: False)
    stop = ec.Stopping(max_steps=40, patience=3, target_loss=1e-20)
    judge = Judge(eps=1e-16, n_numbers=200, accepted=1e-20)
    ends = {}
    for soft in (True, False):
        if not soft:
            monkeypatch.setattr(module, "SHARPNESS", ())
        ends[soft] = []
        for seed in range(4):
            teacher_key, x_key, key = jr.split(jr.key(seed), 3)
            teacher = drawn.teacher(5, 4, 1, "relu", key=teacher_key)
            x = drawn.queries(200, 5, key=x_key)
            theta, unflatten = flatten(teacher)
            start = unflatten(theta + drawn.normal(key, theta.shape))
            _, loss = finetune(start, ec.Samples(x, ec.respond(teacher, x)), stop=stop, judge=judge)
            ends[soft].append(loss)
    n_exact = {soft: sum(loss <= 1e-20 for loss in losses) for soft, losses in ends.items()}
    assert n_exact[True] >= max(3, n_exact[False])

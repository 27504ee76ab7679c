"""Soft kinks become sharp ones, change no function on the way, and bring samples to the right side."""

import importlib

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.reconstruct import finetune
from ecjax.reconstruct.soften import SHARPNESS, softened, with_unit_pre_activations

HOMOGENEOUS = [name for name, activation in ec.ACTIVATIONS.items() if activation.symmetry.homogeneous]


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


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
    net = ec.random_network((3, 4, 5, 2), name, key=net_key)
    x = jr.normal(x_key, (50, 3))
    scaled = with_unit_pre_activations(net, x)
    np.testing.assert_allclose(ec.respond(scaled, x), ec.respond(net, x), atol=1e-12)
    h = x
    for layer in scaled.layers[:-1]:
        z = h @ layer.w.T + layer.b[None]
        np.testing.assert_allclose(jnp.mean(z**2, axis=0), 1)
        h = net.activation(z)


@pytest.mark.slow
def test_kinks_pass_the_samples_between_them_and_their_places(monkeypatch):
    """From a teacher disturbed as much as it is large, without a matrix: 3 of 4, and 2 of 4 by sharp kinks alone."""
    module = importlib.import_module("ecjax.reconstruct.finetune")  # the package's name is that of its function
    monkeypatch.setattr(module, "SECOND_ORDER_UP_TO", 0)
    config = ec.RefineConfig(max_steps=40, patience=3, target_loss=1e-20)
    ends = {}
    for soft in (True, False):
        if not soft:
            monkeypatch.setattr(module, "SHARPNESS", ())
        ends[soft] = []
        for seed in range(4):
            teacher_key, x_key, key = jr.split(jr.key(seed), 3)
            teacher = ec.synthetic_teacher(5, 4, 1, "relu", key=teacher_key)
            x = ec.gaussian_queries(200, 5, key=x_key)
            theta, unflatten = jax.flatten_util.ravel_pytree(teacher)
            start = unflatten(theta + jr.normal(key, theta.shape))
            _, loss = finetune(start, x, ec.respond(teacher, x), config=config, exact_below=1e-20)
            ends[soft].append(loss)
    n_exact = {soft: sum(loss <= 1e-20 for loss in losses) for soft, losses in ends.items()}
    assert n_exact[True] >= max(3, n_exact[False])

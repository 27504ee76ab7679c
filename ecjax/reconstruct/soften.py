"""Kinks made soft, and sharp again: the way of a refinement past samples that lie on the wrong side of a kink.

A neuron whose kink is nearly in place has a few samples on the wrong side of it. On these its derivative is that of the
other side, so that no gradient asks the kink to pass them, and a refinement stops in a minimum made by them. A soft
kink is felt by samples on both sides. With a network refined for a very soft one, then for sharper and sharper ones,
the kinks pass their samples one after another.

Every positive homogeneous function of one number is m z + s |z|; |z| is softened to log(2 + 2 cosh(2 k z)) / (2 k), the
mean of |z + noise| over logistic noise of scale 1 / (2 k) but for a constant at 0 that vanishes as k grows.

Source: graduated non-convexity, Blake and Zisserman, Visual Reconstruction (MIT Press 1987), chapter 3.
"""

from functools import cache

import jax
import jax.numpy as jnp

from ..network import Activation, Network
from ..network.moves import with_activation

# Sharpness k of the kinks, one after another, for pre-activations of root mean square 1.
SHARPNESS = (2.5, 10.0, 50.0)


@cache  # one compiled program for each
def softened(activation: Activation, sharpness: float) -> Activation:
    """A positive homogeneous activation without its kink."""
    right, left = float(activation.fn(jnp.ones(()))), float(activation.fn(-jnp.ones(())))
    slope, bend = (right - left) / 2, (right + left) / 2

    def fn(z):
        return (slope - bend) * z + bend * jax.nn.softplus(2 * sharpness * z) / sharpness

    return Activation(fn, symmetry=activation.symmetry, name=f"{activation.name}, softened")


def with_soft_kinks(net: Network, sharpness: float) -> Network:
    """The same weights, positive homogeneous activations softened."""
    return with_activation(net, lambda one: softened(one, sharpness) if one.symmetry.homogeneous else one)

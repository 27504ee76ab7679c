"""Activations and their derivatives as functions on the host, quick for the thousand short arrays of a fit."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..network import Activation

Curve = Float[np.ndarray, "*shape"]
_SIZES = (64, 4096, 2**17)  # to which arrays are padded, so that a program for each serves all shapes


def values(activation: Activation, z: Curve) -> Curve:
    """The activation."""
    return _evaluated(activation, 0, z)


def slope_values(activation: Activation, z: Curve) -> Curve:
    """Its derivative."""
    return _evaluated(activation, 1, z)


def bends(activation: Activation, z: Curve) -> Curve:
    """Its second derivative."""
    return _evaluated(activation, 2, z)


def _evaluated(activation: Activation, order: int, z: Curve) -> Curve:
    flat = np.ravel(z).astype(float)
    size = next((size for size in _SIZES if len(flat) <= size), len(flat))
    return np.asarray(_program(activation, order)(np.pad(flat, (0, size - len(flat)))))[: len(flat)].reshape(
        np.shape(z)
    )


@lru_cache(maxsize=128)
def _program(activation: Activation, order: int):
    fn = (activation.fn, activation.d1, activation.d2)[order]
    return jax.jit(lambda z: fn(jnp.asarray(z)))  # elementwise: no product, whose precision would have to be asked for

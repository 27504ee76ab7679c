"""Networks and queries for tests in which any will do: drawn by NumPy, so that no program is compiled for their shapes.

Keys are JAX's, as in the library: the same key draws the same numbers, which are not those of the library's functions.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec
from ecjax.expand import RESULTS, Expansion
from ecjax.network import Layer, Network, respond
from ecjax.network.catalogue import IDENTITY
from ecjax.network.network import as_activations

# Recoveries in which any size will do share theirs, and with it compiled programs: some 2 s for each refinement. Those
# of the first are what `ecjax recover toy` has in the tests of the command line.
TOY, N_TOY = ec.RecoveryConfig.toy(4, 4), 100  # of 2 inputs
TOY_FLOAT32, N_FLOAT32 = ec.RecoveryConfig.toy(12, 8), 500  # of 3 inputs


def generator(key):
    return np.random.default_rng(np.asarray(jr.key_data(key)))


def on_device(numbers, dtype=None):
    """Without a program for their shape, which JAX compiles where it has to find or change the dtype by itself."""
    return jnp.asarray(np.asarray(numbers, dtype or float), dtype or float)


def normal(key, shape, dtype=None):
    return on_device(generator(key).normal(size=shape), dtype)


def queries(n_samples, d_in, *, key, dtype=None):
    """Standard normal."""
    return normal(key, (n_samples, d_in), dtype)


answers = jax.jit(respond)  # one program where `respond` by itself is one for each of its operations


def network(shape, activation, *, key, dtype=None, biases=0.0):
    """Weights of the spread of `random_network`; the biases' is given."""
    rng = generator(key)
    layers = []
    activations = (*as_activations(activation, len(shape) - 2), IDENTITY)
    for fan_in, fan_out, one in zip(shape[:-1], shape[1:], activations, strict=True):
        w = rng.normal(scale=np.sqrt(2 / (fan_in + fan_out)), size=(fan_out, fan_in))
        b = biases * rng.normal(size=fan_out)
        layers.append(Layer(on_device(w, dtype), on_device(b, dtype), one))
    return Network(tuple(layers))


def students(n_students, shape, activation, *, key, dtype=None):
    """A stack of them, without biases."""
    seeds = generator(key).integers(2**31, size=n_students)
    each = [network(shape, activation, key=jr.key(int(seed)), dtype=dtype) for seed in seeds]
    return jax.tree.map(lambda *leaves: on_device(np.stack(leaves), dtype), *each)


def teacher(d_in, width, d_out=1, activation="tanh", *, key, dtype=None):
    """Neurons like those of `synthetic_teacher`, all of which matter; its outputs have a spread of order 1."""
    rng = generator(key)
    widths = (width,) if isinstance(width, int) else width
    layers = []
    for fan_in, fan_out, one in zip((d_in, *widths), widths, as_activations(activation, len(widths)), strict=False):
        w = rng.normal(size=(fan_out, fan_in))
        w *= 1.5 / np.linalg.norm(w, axis=1, keepdims=True)
        layers.append((w, rng.uniform(-1.5, 1.5, size=fan_out), one))
    shape = (d_out, widths[-1])
    a = rng.uniform(0.5, 1.5, size=shape) * rng.choice([-1.0, 1.0], size=shape) / np.sqrt(widths[-1])
    layers.append((a, rng.normal(size=d_out), IDENTITY))
    return Network(tuple(Layer(on_device(w, dtype), on_device(b, dtype), one) for w, b, one in layers))


def expansion(students, loss=0.0):
    """Of students that nobody trained, with one loss for all."""
    n = students.layers[0].w.shape[0]
    result = jax.tree.map(lambda leaf: jnp.stack([leaf] * n), RESULTS.stalled)
    return Expansion(students, jnp.full(n, loss), jnp.zeros(n), jnp.zeros(n, int), result, "planted")

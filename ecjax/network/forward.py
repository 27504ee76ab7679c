"""The forward pass, for everybody: pre-activations and activations of every hidden layer, and the answers.

Nobody else multiplies weights with inputs and applies an activation to it. Matrix products are taken in the precision
that the caller is in: `respond` and all compiled programs of ecjax enter full precision (`ecjax.base.precision`), and
training on mini-batches what its settings say.
"""

import math
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base.memory import require_memory
from ..base.precision import in_full_precision
from .activation import Activation
from .mixtures import LayerActivation
from .network import Layer, Network


class Hidden(NamedTuple):
    """What one hidden layer makes of the queries."""

    z: Float[Array, "*samples width"]  # pre-activations
    h: Float[Array, "*samples width"]  # activations


def pre_activations(layer: Layer, x: Float[Array, "*samples fan_in"]) -> Float[Array, "*samples width"]:
    """z = w x + b of one network's layer; the answers, where the layer is the last."""
    return x @ layer.w.T + layer.b.reshape((1,) * (x.ndim - 1) + layer.b.shape)


def layer_state(layer: Layer, x: Float[Array, "*samples fan_in"]) -> Hidden:
    """Pre-activations and activations of one hidden layer of one network."""
    z = pre_activations(layer, x)
    return Hidden(z, layer.activation(z))


def hidden_states(net: Network, x: Float[Array, "*samples fan_in"]) -> tuple[Hidden, ...]:
    """Pre-activations and activations of every hidden layer of one network, first to last."""
    states = []
    for layer in net.hidden:
        states.append(layer_state(layer, x))
        x = states[-1].h
    return tuple(states)


def answers(net: Network, x: Float[Array, "*samples fan_in"]) -> Float[Array, "*samples fan_out"]:
    """The answers of one network, in the precision of products that the caller is in."""
    states = hidden_states(net, x)
    return pre_activations(net.output, states[-1].h if states else x)


@in_full_precision
def respond(net: Network, x: Float[Array, "*samples fan_in"]) -> Float[Array, "*samples fan_out"]:
    """Answer of one network to one input, or to each of a batch. `vmap` it over students.

    Raises:
        ValueError: If the inputs are not the network's, if it is a stack, or if the memory is not enough.
    """
    if net.is_stack or x.shape[-1:] != net.shape[:1]:
        of = f"a stack of {len(net.output.b)} networks (take one: ecjax.network.student)" if net.is_stack else "one"
        raise ValueError(f"`x` has {net.shape[0]} inputs in its last axis, for one network; got {x.shape} for {of}.")
    if not isinstance(x, jax.core.Tracer):
        n_samples, widest = math.prod(x.shape[:-1]), max(net.shape)
        what = f"Answers of a network of width {widest:,} to {n_samples:,} samples"
        require_memory(2 * n_samples * widest * x.dtype.itemsize, what, "lower the width or the number of samples")
    return answers(net, x)


# --- a stack of students, neurons before samples -------------------------------------------------------------------


def stack_answers(students: Network, x: Float[Array, "samples fan_in"]) -> Float[Array, "students fan_out samples"]:
    """Answers of all students of a stack to the same inputs: the forward pass of training on mini-batches.

    The first layer of all of them is one matrix product. Neurons come before samples, [students, width, samples]: that
    is how the record stores weights, so that only small weight matrices are ever transposed.
    """
    first, *upper = students.layers
    n_students, width, fan_in = first.w.shape
    z = (first.w.reshape(-1, fan_in) @ x.T).reshape(n_students, width, -1) + first.b[..., None]
    for layer, below in zip(upper, students.layers, strict=False):
        z = _product(layer.w, _with_closed_derivative(below.activation)(z)) + layer.b[..., None]
    return z


@jax.custom_vjp
def _product(
    w: Float[Array, "students fan_out fan_in"], h: Float[Array, "students fan_in samples"]
) -> Float[Array, "students fan_out samples"]:
    """w @ h, with w laid out the other way round first: on a CPU, XLA's small products take 0.6 of the time so."""
    transposed = jax.lax.optimization_barrier(w.mT)
    return jnp.einsum("sio,sib->sob", transposed, h)


def _product_backward(factors, cotangent):
    w, h = factors
    return cotangent @ h.mT, w.mT @ cotangent  # both are quick as they are


_product.defvjp(lambda w, h: (_product(w, h), (w, h)), _product_backward)


def _with_closed_derivative(activation: LayerActivation):
    """The activation, differentiated by its d1: one pass over the pre-activations instead of one for each term."""
    # Neurons come before samples here; an activation does not care, a mixture acts on its last axis.
    turned = (lambda fn: fn) if isinstance(activation, Activation) else lambda fn: lambda z: fn(z.mT).mT

    @jax.custom_jvp
    def fn(z):
        return turned(activation)(z)

    fn.defjvp(lambda primals, tangents: (fn(*primals), turned(activation.d1)(*primals) * tangents[0]))
    return fn

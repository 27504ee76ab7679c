"""Networks as records: one network, or a stack of students along leading axes, of any depth.

    z = w x + b,  h = activation(z)  for every hidden layer,  then  y = w h + b  for the linear output layer

Row i of a layer's `w` is the *incoming weight vector* of neuron i; column i of the next layer's `w` holds its *outgoing
weights*. Every layer has an activation of its own, the output layer the identity.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.checks import as_kind, check_key, whole_number
from ..base.memory import require_memory
from ..base.precision import to_device
from .catalogue import IDENTITY, as_activation
from .mixtures import LayerActivation

Activations = LayerActivation | str | Sequence[LayerActivation | str]  # one for all hidden layers, or one for each


class Layer(eqx.Module):
    """One dense layer, or the same layer of a stack of students along leading axes."""

    w: Float[Array, "*students width fan_in"]  # row i: incoming weight vector of neuron i
    b: Float[Array, "*students width"]
    # The identity in an output layer. A name is made the activation of that name.
    activation: LayerActivation = eqx.field(static=True, default=IDENTITY, converter=as_activation)

    def __check_init__(self):
        w, b = (getattr(each, "shape", None) for each in (self.w, self.b))
        if w is None or b is None:
            raise ValueError(
                f"`w` and `b` of a layer are arrays; got {type(self.w).__name__}, {type(self.b).__name__}."
            )
        if len(w) < 2 or b != w[:-1]:
            raise ValueError(f"`w` of a layer is [width, fan_in] and `b` [width]; got shapes {w} and {b}.")


def n_parameters(shape: Sequence[int]) -> int:
    """How many weights and biases a network of this shape has.

    Args:
        shape: (fan_in, width, ..., fan_out).
    """
    return sum(fan_out * (fan_in + 1) for fan_in, fan_out in itertools.pairwise(shape))


class Network(eqx.Module):
    """Hidden layers and a linear output layer; one network, or a stack of students."""

    layers: tuple[Layer, ...] = eqx.field(converter=tuple)  # layers[l + 1].w[..., :, i]: outgoing weights of neuron i

    def __check_init__(self):
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"`layers` are ecjax.Layer records, at least one; got {self.layers!r}.")
        for number, (below, above) in enumerate(itertools.pairwise(self.layers), start=1):
            if above.w.shape[-1] != below.w.shape[-2] or above.w.shape[:-2] != below.w.shape[:-2]:
                raise ValueError(
                    f"`layers` follow each other: layer {number} has {below.w.shape[-2]} neurons, the one after it "
                    f"weights of shape {above.w.shape}."
                )

    def __call__(self, x: Any) -> Float[Array, "*samples fan_out"]:
        """The answer of one network to one input, or to each of a batch: `ecjax.respond`, of NumPy's arrays too."""
        from .forward import respond  # which knows this record

        return respond(self, to_device(x, "x"))

    def predict(self, x: Any) -> Float[np.ndarray, "samples fan_out"]:
        """Answers of one network to inputs in rows, as NumPy arrays, lists or tables have them.

        Raises:
            ValueError: If these are not rows of as many numbers as the network has inputs.
        """
        rows = np.asarray(x)
        if rows.ndim != 2 or rows.dtype.kind not in "fiub":
            raise ValueError(f"`x` is numbers, [samples, {self.shape[0]}]; got shape {rows.shape} of {rows.dtype}.")
        return np.asarray(self(jnp.asarray(rows, self.dtype)))

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """The hidden layers, first to last."""
        return self.layers[:-1]

    @property
    def output(self) -> Layer:
        """The linear output layer."""
        return self.layers[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """(fan_in, width, ..., fan_out)."""
        return (self.layers[0].w.shape[-1], *(layer.w.shape[-2] for layer in self.layers))

    @property
    def widths(self) -> tuple[int, ...]:
        """How many neurons each hidden layer has, first to last."""
        return self.shape[1:-1]

    @property
    def activations(self) -> tuple[LayerActivation, ...]:
        """Of the hidden layers, first to last."""
        return tuple(layer.activation for layer in self.hidden)

    @property
    def smooth(self) -> bool:
        """Whether all activations are: second-order methods need that."""
        return all(activation.smooth for activation in self.activations)

    @property
    def n_parameters(self) -> int:
        """How many weights and biases one network of the stack has."""
        return n_parameters(self.shape)

    @property
    def dtype(self) -> jnp.dtype:
        """Precision of the weights."""
        return self.layers[0].w.dtype

    @property
    def is_stack(self) -> bool:
        """Whether this is a stack of students and not one network."""
        return self.layers[0].w.ndim > 2


def as_activations(activation: Activations, n_hidden: int) -> tuple[LayerActivation, ...]:
    """The activation of each of so many hidden layers.

    Raises:
        ValueError: If there is a sequence of another length, or no activation has that name.
    """
    if isinstance(activation, Sequence) and not isinstance(activation, str):
        if len(activation) != n_hidden:
            raise ValueError(
                f"`activation` is one for all hidden layers, or one for each of {n_hidden}; got {len(activation)}."
            )
        return tuple(as_activation(one) for one in activation)
    return (as_activation(activation),) * n_hidden


def random_network(shape: Sequence[int], activation: Activations, *, key: PRNGKeyArray, dtype=None) -> Network:
    """Draw a Glorot-normal network with zero biases (standard deviation sqrt(2 / (fan_in + fan_out))).

    The draws are those of `jax.nn.initializers.glorot_normal`: cut off at about two standard deviations, with the
    variance made good for it, where the paper's are not cut off.

    Args:
        shape: (fan_in, width, ..., fan_out).
        activation: An `Activation`, a `Mixture` or a name; or one of these for each hidden layer.
        key: Not to be used again.
        dtype: Of the weights; by default JAX's default float.

    Raises:
        ValueError: If a size is below 1, an activation is unknown, or a mixture is of another width than its layer;
            if `key` is no key, or the weights do not fit in memory.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), initialisation of the students.
    """
    dtype = dtype or jnp.zeros(()).dtype
    shape, activations = _checked(shape, activation, key, 1, dtype)
    return _with_activations(_linear_network(shape, key, dtype), activations)


def random_students(
    n_students: int, shape: Sequence[int], activation: Activations, *, key: PRNGKeyArray, dtype=None
) -> Network:
    """Draw a stack of students; student i is the same whatever `n_students` is. `key` is not to be used again.

    Raises:
        ValueError: See `random_network`.
    """
    dtype = dtype or jnp.zeros(()).dtype
    shape, activations = _checked(shape, activation, key, n_students, dtype)
    return _with_activations(_linear_stack(n_students, shape, key, dtype), activations)


def _checked(
    shape: Sequence[int], activation: Activations, key: PRNGKeyArray, n_students: int, dtype: Any
) -> tuple[tuple[int, ...], tuple[LayerActivation, ...]]:
    """The shape and the activation of each layer, the last one's included; refuses what is none, or too large."""
    check_key(key)
    n_students = whole_number(n_students, "n_students")
    shape = tuple(as_kind(n, int, "shape") for n in shape)
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise ValueError(f"`shape` is (fan_in, width, ..., fan_out), each at least 1; got {shape}.")
    n_bytes = n_students * n_parameters(shape) * jnp.dtype(dtype).itemsize
    what = f"{n_students:,} networks of shape {'-'.join(map(str, shape))}"
    require_memory(n_bytes, what, "lower `n_students` or the width")
    activations = (*as_activations(activation, len(shape) - 2), IDENTITY)
    for width, one in zip(shape[1:], activations, strict=True):
        one.groups(width)  # refuses a mixture of another width
    return shape, activations


def _with_activations(net: Network, activations: Sequence[LayerActivation]) -> Network:
    each = zip(net.layers, activations, strict=True)
    return Network(tuple(Layer(layer.w, layer.b, activation) for layer, activation in each))


def _linear_network(shape: Sequence[int], key: PRNGKeyArray, dtype) -> Network:
    keys = jr.split(key, len(shape) - 1)  # one key a layer, none used twice
    draw = jax.nn.initializers.glorot_normal(in_axis=-1, out_axis=-2)
    each = zip(keys, shape[:-1], shape[1:], strict=True)
    return Network(tuple(Layer(draw(k, (n_out, n_in), dtype), jnp.zeros(n_out, dtype)) for k, n_in, n_out in each))


@eqx.filter_jit  # one program for all activations, where some twenty small ones took half as long again to compile
def _linear_stack(n_students: int, shape: Sequence[int], key: PRNGKeyArray, dtype) -> Network:
    # fold_in, not split: split(key, n)[i] depends on n, and a larger ensemble should contain the smaller one.
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(jnp.arange(n_students))
    return eqx.filter_vmap(lambda key: _linear_network(shape, key, dtype))(keys)


def student(students: Network, i: int) -> Network:
    """Student i of a stack."""
    return jax.tree.map(lambda leaf: leaf[i], students)


def stack(networks: Sequence[Network]) -> Network:
    """Networks of one shape and activation as one stack of students.

    Raises:
        ValueError: If they are of several kinds.
    """
    shapes = {(net.shape, net.activations) for net in networks}
    if len(shapes) != 1:
        raise ValueError(f"A stack needs networks of one shape and activation; got {len(shapes)} kinds: {shapes}.")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)

"""Networks as records: one network, or a stack of students along leading axes, of any depth.

    z = w x + b,  h = activation(z)  for every hidden layer,  then  y = w h + b  for the linear output layer

Row i of a layer's `w` is the *incoming weight vector* of neuron i; column i of the next layer's `w` holds its *outgoing
weights*. Everything here is a pure function of these records.
"""

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..base.precision import to_device
from .activations import ACTIVATIONS, Activation, as_activation


class Layer(eqx.Module):
    """One dense layer, or the same layer of a stack of students along leading axes."""

    w: Float[Array, "*students width fan_in"]  # row i: incoming weight vector of neuron i
    b: Float[Array, "*students width"]

    def __call__(self, x: Float[Array, "samples fan_in"]) -> Float[Array, "samples width"]:
        """What the neurons of one network's layer make of its inputs: pre-activations, or answers of the last layer."""
        return x @ self.w.T + self.b[None]


class Network(eqx.Module):
    """Hidden layers and a linear output layer; one network, or a stack of students."""

    layers: tuple[Layer, ...]  # layers[l + 1].w[..., :, i]: outgoing weights of neuron i of layer l
    activation: Activation = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """(fan_in, width, ..., fan_out)."""
        return (self.layers[0].w.shape[-1], *(layer.w.shape[-2] for layer in self.layers))

    @property
    def widths(self) -> tuple[int, ...]:
        """How many neurons each hidden layer has, first to last."""
        return self.shape[1:-1]

    @property
    def n_parameters(self) -> int:
        """How many weights and biases one network of the stack has."""
        return sum(fan_out * (fan_in + 1) for fan_in, fan_out in itertools.pairwise(self.shape))


def respond(net: Network, x: Float[Array, "*samples fan_in"]) -> Float[Array, "*samples fan_out"]:
    """Answer of one network to one input, or to each of a batch. `vmap` it over students."""

    def answer(x: Float[Array, " fan_in"]) -> Float[Array, " fan_out"]:
        *hidden, output = net.layers
        for layer in hidden:
            x = net.activation(layer.w @ x + layer.b)
        return output.w @ x + output.b

    return jnp.vectorize(answer, signature="(i)->(o)")(x)


def random_network(shape: Sequence[int], activation: Activation | str, *, key: PRNGKeyArray, dtype=None) -> Network:
    """Draw a Glorot-normal network with zero biases (standard deviation sqrt(2 / (fan_in + fan_out))).

    The draws are those of `jax.nn.initializers.glorot_normal`: cut off at about two standard deviations, with the
    variance made good for it, where the paper's are not cut off.

    Args:
        shape: (fan_in, width, ..., fan_out).
        activation: An `Activation` or its name.
        key: Used up.
        dtype: Of the weights; by default JAX's default float.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), initialisation of the students.
    """
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise ValueError(f"`shape` is (fan_in, width, ..., fan_out), each at least 1; got {tuple(shape)}.")
    keys = jr.split(key, len(shape) - 1)  # one key a layer, none used twice

    def layer(key, fan_in, fan_out):
        w = jax.nn.initializers.glorot_normal(in_axis=-1, out_axis=-2)(
            key, (fan_out, fan_in), dtype or jnp.zeros(()).dtype
        )
        return Layer(w, jnp.zeros(fan_out, w.dtype))

    layers = tuple(layer(*each) for each in zip(keys, shape[:-1], shape[1:], strict=True))
    return Network(layers, as_activation(activation))


def random_students(
    n_students: int, shape: Sequence[int], activation: Activation | str, *, key: PRNGKeyArray, dtype=None
) -> Network:
    """Draw a stack of students; student i is the same whatever `n_students` is. Uses `key` up."""
    # fold_in, not split: split(key, n)[i] depends on n, and a larger ensemble should contain the smaller one.
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(jnp.arange(n_students))
    return eqx.filter_vmap(lambda key: random_network(shape, activation, key=key, dtype=dtype))(keys)


def student(students: Network, i: int) -> Network:
    """Student i of a stack."""
    return jax.tree.map(lambda leaf: leaf[i], students)


def stack(networks: Sequence[Network]) -> Network:
    """Networks of one shape and activation as one stack of students."""
    shapes = {(net.shape, net.activation) for net in networks}
    if len(shapes) != 1:
        raise ValueError(f"A stack needs networks of one shape and activation; got {len(shapes)} kinds: {shapes}.")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def _with_layers(net: Network, layer: int, inner: Layer, outer: Layer) -> Network:
    layers = (*net.layers[:layer], inner, outer, *net.layers[layer + 2 :])
    return Network(layers, net.activation)


def take_neurons(net: Network, order: Int[Array, " neurons"] | Sequence[int], *, layer: int) -> Network:
    """The network with neurons `order` of hidden layer `layer`, in that order; the others are removed."""
    order = jnp.asarray(order, dtype=int)
    inner, outer = net.layers[layer], net.layers[layer + 1]
    return _with_layers(
        net,
        layer,
        Layer(inner.w[..., order, :], inner.b[..., order]),
        Layer(outer.w[..., :, order], outer.b),
    )


def permute_neurons(net: Network, order: Int[Array, " width"] | Sequence[int], *, layer: int) -> Network:
    """The same function with the neurons of hidden layer `layer` in another order.

    Raises:
        ValueError: If `order` is not a permutation of that layer's neurons.
    """
    width = net.widths[layer]
    if sorted(np.asarray(order).tolist()) != list(range(width)):
        raise ValueError(f"`order` is a permutation of 0 ... {width - 1}; got {np.asarray(order).tolist()}.")
    return take_neurons(net, order, layer=layer)


def split_neuron(net: Network, neuron: int, *, layer: int, share: float = 0.5) -> Network:
    """The same function with one neuron replaced by two copies that share its outgoing weights.

    The copy comes last; it carries `share` of the outgoing weights, the original the rest. Any real `share` leaves the
    function unchanged, which is why overparameterised students have flat valleys (Şimşek et al., ICML 2021).
    """
    width = net.widths[layer]
    if not 0 <= neuron < width:
        raise ValueError(f"`neuron` is within 0 ... {width - 1} of hidden layer {layer}; got {neuron}.")
    doubled = take_neurons(net, [*range(width), neuron], layer=layer)
    outer = doubled.layers[layer + 1]
    w = outer.w.at[..., :, neuron].multiply(1 - share).at[..., :, width].multiply(share)
    return _with_layers(net, layer, doubled.layers[layer], Layer(w, outer.b))


# --- Flax ----------------------------------------------------------------------------------------------------------


def to_nnx(net: Network) -> Any:
    """The network as a Flax `nnx` module: an MLP whose `layers` are `nnx.Linear`.

    Raises:
        ValueError: If `net` is a stack of students; pick one with `student(students, i)`.
    """
    from flax import nnx

    if net.layers[0].w.ndim != 2:
        raise ValueError("`net` is a stack of students; pick one with ecjax.student(students, i).")

    class MLP(nnx.Module):
        """Hidden layers with one activation, and a linear output layer."""

        def __init__(self, layers):
            self.layers = nnx.List(layers)

        def __call__(self, x):
            *hidden, output = self.layers
            for layer in hidden:
                x = net.activation(layer(x))
            return output(x)

    def linear(layer: Layer) -> nnx.Linear:
        fan_out, fan_in = layer.w.shape
        made = nnx.Linear(fan_in, fan_out, param_dtype=layer.w.dtype, rngs=nnx.Rngs(0))
        made.kernel[...] = layer.w.T
        made.bias[...] = layer.b  # pyright: ignore[reportOptionalSubscript]
        return made

    return MLP([linear(layer) for layer in net.layers])


def _linears(part) -> Iterator[Any]:
    """The Linear layers of a module in the order of declaration (nnx's own iterators sort by attribute name)."""
    from flax import nnx

    if isinstance(part, nnx.Linear):
        yield part
    elif isinstance(part, nnx.Module):
        yield from itertools.chain.from_iterable(map(_linears, vars(part).values()))
    elif isinstance(part, list | tuple | nnx.List):
        yield from itertools.chain.from_iterable(map(_linears, part))


def from_nnx(module: Any, activation: Activation | str) -> Network:
    """The `nnx.Linear` layers of a Flax module, in the order in which they were declared, as a Network.

    Args:
        module: An MLP: every hidden layer an `nnx.Linear` followed by `activation`, the last layer linear.
        activation: The activation between them; a module does not say.

    Raises:
        ValueError: If the module has no `nnx.Linear`, or their shapes do not chain.
    """
    linears = list(_linears(module))
    if not linears:
        raise ValueError(f"`module` has no nnx.Linear layer to take weights from; got {type(module).__name__}.")
    kernels = [layer.kernel[...] for layer in linears]
    for before, after in itertools.pairwise(kernels):
        if before.shape[1] != after.shape[0]:
            raise ValueError(
                f"`module` is not one chain of layers: {[k.shape for k in kernels]} (fan_in, fan_out). "
                "Build the Network by hand from ecjax.Layer(w, b)."
            )
    layers = tuple(
        Layer(kernel.T, jnp.zeros(kernel.shape[1], kernel.dtype) if layer.bias is None else layer.bias[...])
        for layer, kernel in zip(linears, kernels, strict=True)
    )
    return Network(layers, as_activation(activation))


# --- files ---------------------------------------------------------------------------------------------------------


def save_network(net: Network, path: str | os.PathLike) -> None:
    """Write weights and activation name as safetensors; the file appears whole or not at all."""
    path = Path(path)
    tensors = {}
    for i, layer in enumerate(net.layers):
        tensors |= {f"layers.{i}.w": np.asarray(layer.w), f"layers.{i}.b": np.asarray(layer.b)}
    partial = path.with_name(path.name + ".partial")
    # safetensors writes the buffer of an array, so strided views (a transposed weight) are made contiguous first.
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(tensors, partial, metadata={"format": "ecjax.Network", "activation": net.activation.name})
    os.replace(partial, path)


def load_network(path: str | os.PathLike, *, activation: Activation | None = None) -> Network:
    """Read a network, or a stack of students, that `save_network` wrote.

    Args:
        path: The safetensors file.
        activation: Needed for an activation of your own, which a file can only name.

    Raises:
        ValueError: If the file is not such a network, or names an activation that ecjax does not know.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"`path`: {path} is not a readable safetensors file ({error}).") from error
    n_layers = len(tensors) // 2
    wanted = {f"layers.{i}.{part}" for i in range(n_layers) for part in "wb"}
    if metadata.get("format") != "ecjax.Network" or n_layers < 1 or wanted != set(tensors):
        raise ValueError(f"`path`: {path} holds no ecjax network (metadata {json.dumps(metadata)}, {sorted(tensors)}).")
    name = metadata["activation"]
    if activation is None and name not in ACTIVATIONS:
        raise ValueError(f"{path} was made with your own activation {name!r}: pass it as `activation`.")
    layers = (
        Layer(to_device(tensors[f"layers.{i}.w"], path), to_device(tensors[f"layers.{i}.b"], path))
        for i in range(n_layers)
    )
    return Network(tuple(layers), activation or ACTIVATIONS[name])

"""Flax nnx: a module whose `nnx.Linear` layers are a chain."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..network import IDENTITY, Activations, Layer, Network, as_activations


def to_nnx(net: Network) -> Any:
    """The network as a Flax `nnx` module: an MLP whose `layers` are `nnx.Linear`.

    Raises:
        ValueError: If `net` is a stack of students; pick one with `ecjax.network.student(students, i)`.
    """
    from flax import nnx

    if net.is_stack:
        raise ValueError("`net` is a stack of students; pick one with ecjax.network.student(students, i).")

    class MLP(nnx.Module):
        """Hidden layers with their activations, and a linear output layer."""

        def __init__(self, layers):
            self.layers = nnx.List(layers)

        def __call__(self, x):
            for activation, layer in zip(net.activations, self.layers, strict=False):
                x = activation(layer(x))
            return self.layers[-1](x)

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


def from_nnx(module: Any, activation: Activations) -> Network:
    """The `nnx.Linear` layers of a Flax module, in the order in which they were declared, as a Network.

    Args:
        module: An MLP: every hidden layer an `nnx.Linear` followed by its activation, the last layer linear.
        activation: The activation between them, or one for each hidden layer; a module does not say.

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
                "Build the Network by hand from ecjax.Layer(w, b, activation)."
            )
    biases = [
        jnp.zeros(kernel.shape[1], kernel.dtype) if layer.bias is None else layer.bias[...]
        for layer, kernel in zip(linears, kernels, strict=True)
    ]
    activations = (*as_activations(activation, len(linears) - 1), IDENTITY)
    parts = zip(kernels, biases, activations, strict=True)
    return Network(tuple(Layer(kernel.T, bias, one) for kernel, bias, one in parts))


def fan_in(model: Any) -> int | None:
    """How many inputs the first linear layer has."""
    return next((each.in_features for each in _linears(model)), None)


def dtype(model: Any) -> Any:
    """Of the weights."""
    return next((np.dtype(each.kernel[...].dtype) for each in _linears(model)), np.dtype(np.float32))


def answers(model: Any):
    """The module as a function of NumPy arrays."""
    return lambda x: np.asarray(model(jnp.asarray(x)))

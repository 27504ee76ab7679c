"""Flax Linen: the parameters of a chain of `nn.Dense`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..network import ACTIVATIONS, Activations, Network
from .chain import Affine, network_of, plain


def from_linen(variables: Any, activation: Activations) -> Network:
    """The `nn.Dense` layers of a Linen module's variables, in the order of their numbers, as a Network.

    Args:
        variables: What `module.init` returned ({"params": {"Dense_0": {"kernel": ..., "bias": ...}, ...}}), its
            parameters alone, or the bound module (`module.bind(variables)`).
        activation: The activation between them, or one for each hidden layer; variables do not say.

    Raises:
        ValueError: If there is no dense layer, or their shapes do not chain.
    """
    if not isinstance(variables, Mapping):
        variables = _variables(variables)
    params = variables.get("params", variables)
    steps = [
        Affine(np.asarray(kernel).T, None if bias is None else np.asarray(bias)) for kernel, bias in _dense(params)
    ]
    return network_of(steps, "Flax Linen", activation=activation)


def _variables(module: Any) -> Mapping[str, Any]:
    if getattr(module, "scope", None) is None:
        raise ValueError("`model` is a Flax Linen module without its weights: bind them, module.bind(variables).")
    return module.variables


def _dense(params: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Kernels and biases, Dense_2 before Dense_10."""
    if "kernel" in params:
        yield params["kernel"], params.get("bias")
        return
    number = lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    for name in sorted(params, key=number):
        if isinstance(params[name], Mapping):
            yield from _dense(params[name])


def to_linen(net: Any) -> tuple[Any, dict[str, Any]]:
    """The network as a Linen module and its variables: answers = module.apply(variables, x).

    Args:
        net: A Network, or a Recovery.

    Raises:
        ValueError: If Linen has no such chain.
    """
    from flax import linen as nn

    layers = plain(net, "Flax Linen")

    class MLP(nn.Module):
        """Dense layers with their activations between them."""

        widths: tuple[int, ...]
        kinds: tuple[str, ...]
        param_dtype: Any

        @nn.compact
        def __call__(self, x):
            for width, kind in zip(self.widths, self.kinds, strict=True):
                x = ACTIVATIONS[kind].fn(nn.Dense(width, dtype=self.param_dtype, param_dtype=self.param_dtype)(x))
            return x

    module = MLP(tuple(len(each.w) for each in layers), tuple(each.kind for each in layers), layers[0].w.dtype)
    params = {
        f"Dense_{i}": {"kernel": jnp.asarray(each.w.T), "bias": jnp.asarray(each.b)} for i, each in enumerate(layers)
    }
    return module, {"params": params}


def fan_in(model: Any) -> int | None:
    """How many inputs the first dense layer has."""
    params = _variables(model)
    return next((int(np.shape(kernel)[0]) for kernel, _ in _dense(params.get("params", params))), None)


def dtype(model: Any) -> Any:
    """Of the weights."""
    params = _variables(model)
    return next((np.dtype(kernel.dtype) for kernel, _ in _dense(params.get("params", params))), np.dtype(np.float32))


def answers(model: Any):
    """The bound module as a function of NumPy arrays."""
    return lambda x: np.asarray(model(jnp.asarray(x)))

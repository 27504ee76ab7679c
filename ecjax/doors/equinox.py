"""Equinox: `eqx.nn.MLP`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..network import ACTIVATIONS, Activations, Network
from .chain import Affine, network_of, plain


def from_equinox(model: Any, activation: Activations | None = None) -> Network:
    """An `eqx.nn.MLP` as a Network.

    Args:
        model: The MLP.
        activation: Of the hidden layers, where ecjax does not know the model's.

    Raises:
        ValueError: If it has a final activation, or one that ecjax does not know.
    """
    if not isinstance(model, eqx.nn.MLP):
        raise ValueError(f"`model` is an eqx.nn.MLP; got {type(model).__name__}.")
    steps = []
    for layer in model.layers:
        steps += [Affine(np.asarray(layer.weight), None if layer.bias is None else np.asarray(layer.bias))]
        steps += [_function(model.activation)]
    ends = np.linspace(-3.0, 3.0, 7, dtype=np.float32)
    last = np.asarray(_function(model.final_activation)(ends))
    if not np.array_equal(last, ends):
        raise ValueError("`model` has a final_activation: a Network ends with a linear layer. Leave it out.")
    return network_of(steps[:-1], "Equinox", activation=activation)


def _function(fn: Any):
    """An activation as it stands in an MLP, where each neuron has a copy of its own: the first one's."""
    one = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, fn)
    return lambda z: jax.vmap(one)(jnp.asarray(z))


def to_equinox(net: Any) -> Any:
    """The network as an `eqx.nn.MLP`; all its hidden layers have one width and one activation.

    Args:
        net: A Network, or a Recovery.

    Raises:
        ValueError: If widths or activations differ.
    """
    layers = plain(net, "Equinox")
    widths, kinds = {len(each.w) for each in layers[:-1]}, {each.kind for each in layers[:-1]}
    if len(widths) > 1 or len(kinds) > 1:
        raise ValueError(
            f"`net` has hidden layers of widths {sorted(widths)} and activations {sorted(kinds)}; an eqx.nn.MLP has "
            "one of each. A Network is an Equinox module itself: use it as it is."
        )
    model = eqx.nn.MLP(
        layers[0].w.shape[1],
        len(layers[-1].w),
        width_size=next(iter(widths), 1),
        depth=len(layers) - 1,
        activation=ACTIVATIONS[next(iter(kinds), "identity")].fn,
        dtype=layers[0].w.dtype,
        key=jax.random.key(0),  # of weights that are replaced
    )
    of = lambda model: [part for layer in model.layers for part in (layer.weight, layer.bias)]
    return eqx.tree_at(of, model, [jnp.asarray(part) for layer in layers for part in (layer.w, layer.b)])


def fan_in(model: Any) -> int | None:
    """How many inputs it has."""
    return model.in_size if isinstance(model.in_size, int) else 1


def dtype(model: Any) -> Any:
    """Of the weights."""
    return np.dtype(model.layers[0].weight.dtype)


def answers(model: Any):
    """The model as a function of NumPy arrays."""
    return lambda x: np.asarray(jax.vmap(model)(jnp.asarray(x))).reshape(len(x), -1)

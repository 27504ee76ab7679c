"""Networks as files: weights and the names of activations, as safetensors."""

import json
import os
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..base.files import read_arrays_and_words, write_arrays
from ..base.precision import to_device
from .catalogue import ACTIVATIONS, IDENTITY
from .mixtures import LayerActivation, Mixture
from .network import Activations, Layer, Network, as_activations

_FORMAT = "ecjax.Network"


def save_network(net: Network, path: str | os.PathLike) -> None:
    """Write weights and the activations' names as safetensors; the file appears whole or not at all."""
    about = {"format": _FORMAT, "activations": json.dumps([_named(one) for one in net.activations])}
    write_arrays(path, arrays_of(net, "layers."), about=about)


def load_network(path: str | os.PathLike, *, activation: Activations | None = None) -> Network:
    """Read a network, or a stack of students, that `save_network` wrote.

    Args:
        path: The safetensors file.
        activation: Needed for an activation of your own, which a file can only name.

    Raises:
        ValueError: If the file is not such a network, or names an activation that ecjax does not know.
    """
    tensors, about = read_arrays_and_words(path)
    n_layers = len(tensors) // 2
    wanted = {f"layers.{i}.{part}" for i in range(n_layers) for part in "wb"}
    named = "activations" in about or "activation" in about
    if about.get("format") != _FORMAT or not named or n_layers < 1 or wanted != set(tensors):
        raise ValueError(f"`path`: {path} holds no ecjax network (metadata {json.dumps(about)}, {sorted(tensors)}).")
    if activation is None:
        try:
            names = _names(about, n_layers - 1)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} names no activations: {json.dumps(about)}.") from error
        activation = [_known(name, path) for name in names]
    whole = sorted(name for name, tensor in tensors.items() if tensor.dtype.kind != "f")
    if whole:
        raise ValueError(f"{path} has weights of {tensors[whole[0]].dtype} in {whole}, not floating point numbers.")
    tensors = {name: to_device(tensor, path) for name, tensor in tensors.items()}
    try:
        return network_of(tensors, "layers.", as_activations(activation, n_layers - 1))
    except ValueError as error:
        raise ValueError(f"{path} holds no whole network: {error}") from error


def arrays_of(net: Network, prefix: str = "") -> dict[str, Array | np.ndarray]:
    """Weights and biases by name: 0.w, 0.b, 1.w, ... after a prefix."""
    return {f"{prefix}{i}.{part}": getattr(layer, part) for i, layer in enumerate(net.layers) for part in "wb"}


def network_of(
    arrays: Mapping[str, Array | np.ndarray], prefix: str, activations: Sequence[LayerActivation]
) -> Network:
    """The network that `arrays_of` took apart; other names are passed over."""
    array = lambda i, part: jnp.asarray(arrays[f"{prefix}{i}.{part}"])
    return Network(tuple(Layer(array(i, "w"), array(i, "b"), one) for i, one in enumerate((*activations, IDENTITY))))


def _names(about: Mapping[str, str], n_hidden: int) -> list[str | list[str]]:
    """The activations' names in the words of a file; those of the first versions name one for all hidden layers."""
    if "activations" not in about:
        return [about["activation"]] * n_hidden
    names = json.loads(about["activations"])
    each = [name for named in names for name in (named if isinstance(named, list) else [named])]
    if not all(isinstance(name, str) for name in each):
        raise TypeError("an activation has a name")
    return names


def _named(activation: LayerActivation) -> str | list[str]:
    return [one.name for one in activation.each] if isinstance(activation, Mixture) else activation.name


def _known(name: str | list[str], path: str | os.PathLike) -> LayerActivation:
    each = [name] if isinstance(name, str) else name
    for one in each:
        if one not in ACTIVATIONS:
            raise ValueError(f"{path} was made with your own activation {one!r}: pass it as `activation`.")
    return ACTIVATIONS[name] if isinstance(name, str) else Mixture(tuple(ACTIVATIONS[one] for one in each))

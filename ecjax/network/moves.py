"""Moves in the space of networks: neurons taken, permuted, split, rescaled, added; most of them keep the function."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .activation import Activation
from .forward import hidden_states
from .mixtures import LayerActivation, Mixture
from .network import Layer, Network
from .symmetries import symmetries

Order = Int[Array, " neurons"] | Int[np.ndarray, " neurons"] | Sequence[int]


def with_layers(net: Network, layer: int, inner: Layer, outer: Layer) -> Network:
    """The network with another hidden layer `layer`, and another one after it."""
    return Network((*net.layers[:layer], inner, outer, *net.layers[layer + 2 :]))


def take_neurons(net: Network, order: Order, *, layer: int) -> Network:
    """The network with neurons `order` of hidden layer `layer`, in that order; the others are removed."""
    which = np.asarray(order, dtype=int)
    inner, outer = net.layers[layer], net.layers[layer + 1]
    return with_layers(
        net,
        layer,
        Layer(inner.w[..., which, :], inner.b[..., which], inner.activation.take(which)),
        replace(outer, w=outer.w[..., :, which]),
    )


def permute_neurons(net: Network, order: Order, *, layer: int) -> Network:
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
    return with_layers(net, layer, doubled.layers[layer], replace(outer, w=w))


def rescale_neurons(net: Network, size: Float[Array, " width"], *, layer: int) -> Network:
    """The same function with incoming vectors (w, b) divided by `size`, for positive homogeneous neurons.

    Args:
        net: One network.
        size: Positive; 0 counts as 1, so that silent neurons stay as they are, and so do neurons of other activations.
        layer: Which hidden layer.
    """
    inner, outer = net.layers[layer], net.layers[layer + 1]
    size = jnp.where(jnp.asarray(symmetries(inner.activation, net.widths[layer]).homogeneous) & (size > 0), size, 1)
    hidden = replace(inner, w=inner.w / size[:, None], b=inner.b / size)
    return with_layers(net, layer, hidden, replace(outer, w=outer.w * size[None]))


def with_unit_vectors(net: Network) -> Network:
    """The same function with incoming vectors (w, b) of norm 1, wherever activations are positive homogeneous."""
    for layer in range(len(net.widths)):
        hidden = net.layers[layer]  # scaled by the layer before
        net = rescale_neurons(net, jnp.sqrt(jnp.sum(hidden.w**2, axis=-1) + hidden.b**2), layer=layer)
    return net


def with_unit_pre_activations(net: Network, x: Float[Array, "samples fan_in"]) -> Network:
    """The same function with pre-activations of root mean square 1, wherever activations are positive homogeneous."""
    for layer, state in enumerate(hidden_states(net, x)):
        # The layers below were rescaled without a change of what they answer: these states are still theirs.
        net = rescale_neurons(net, jnp.sqrt(jnp.mean(state.z**2, axis=0)), layer=layer)
    return net


def pad_neurons(net: Network, width: int, *, layer: int) -> Network:
    """The same function with silent neurons at the end of a hidden layer, so that it has `width` of them.

    Raises:
        ValueError: If it has more already.
    """
    inner, outer = net.layers[layer], net.layers[layer + 1]
    n, extra = len(inner.b), width - len(inner.b)
    if extra < 0:
        raise ValueError(f"`width` is at least {n}, that of hidden layer {layer}; got {width}.")
    order = [*range(n), *[n - 1] * extra]  # of a mixture the last one's activation
    padded = Layer(jnp.pad(inner.w, ((0, extra), (0, 0))), jnp.pad(inner.b, (0, extra)), inner.activation.take(order))
    return with_layers(net, layer, padded, replace(outer, w=jnp.pad(outer.w, ((0, 0), (0, extra)))))


def with_activation(net: Network, change: Callable[[Activation], Activation]) -> Network:
    """The same weights with every hidden neuron's activation replaced by what `change` makes of it."""

    def changed(one: LayerActivation) -> LayerActivation:
        return Mixture(tuple(map(change, one.each))) if isinstance(one, Mixture) else change(one)

    return Network((*(replace(layer, activation=changed(layer.activation)) for layer in net.hidden), net.output))


def merge_neurons(net: Network, one: int, other: int, *, layer: int) -> Network:
    """The network in which one neuron takes another's outgoing weights over, and the other is removed.

    It undoes `split_neuron`, and keeps the function if the two have the same incoming vector; otherwise the incoming
    vector is their mean, weighted by the norms of their outgoing weights.

    Raises:
        ValueError: If they are not two neurons of that layer.
    """
    inner, outer = net.layers[layer], net.layers[layer + 1]
    _require_neurons(net, (one, other), layer)
    if one == other:
        raise ValueError(f"`one` and `other` are two neurons; got {one} twice.")
    size = jnp.linalg.norm(outer.w[..., :, [one, other]], axis=-2)
    total = size.sum(axis=-1)
    share = jnp.where(total > 0, size[..., 0] / jnp.where(total > 0, total, 1), 0.5)
    mean = lambda mine, theirs, share: share * mine + (1 - share) * theirs
    w = inner.w.at[..., one, :].set(mean(inner.w[..., one, :], inner.w[..., other, :], share[..., None]))
    b = inner.b.at[..., one].set(mean(inner.b[..., one], inner.b[..., other], share))
    a = outer.w.at[..., :, one].add(outer.w[..., :, other])
    joined = with_layers(net, layer, replace(inner, w=w, b=b), replace(outer, w=a))
    return shrink(joined, other, layer=layer)


def grow(
    net: Network, w: Float[Array, " fan_in"], b: float | Float[Array, ""], a: Float[Array, " fan_out"], *, layer: int
) -> Network:
    """The network with another neuron at the end of a hidden layer; of a mixture it has the last one's activation.

    Without outgoing weights, a = 0, the function stays what it was.

    Raises:
        ValueError: If the vectors have other lengths.
    """
    inner, outer = net.layers[layer], net.layers[layer + 1]
    fan_in, fan_out = inner.w.shape[-1], outer.w.shape[-2]
    w, a = jnp.asarray(w, net.dtype), jnp.asarray(a, net.dtype)
    if w.shape != (fan_in,) or a.shape != (fan_out,):
        raise ValueError(f"`w` and `a` have lengths {fan_in} and {fan_out}; got shapes {w.shape} and {a.shape}.")
    wider = pad_neurons(net, net.widths[layer] + 1, layer=layer)
    inner, outer = wider.layers[layer], wider.layers[layer + 1]
    inner = replace(inner, w=inner.w.at[-1].set(w), b=inner.b.at[-1].set(b))
    return with_layers(wider, layer, inner, replace(outer, w=outer.w.at[:, -1].set(a)))


def shrink(net: Network, neuron: int, *, layer: int) -> Network:
    """The network without one neuron.

    Raises:
        ValueError: If that layer has no such neuron.
    """
    _require_neurons(net, (neuron,), layer)
    return take_neurons(net, [i for i in range(net.widths[layer]) if i != neuron], layer=layer)


def _require_neurons(net: Network, neurons: Sequence[int], layer: int) -> None:
    width = net.widths[layer]
    if not all(0 <= neuron < width for neuron in neurons):
        raise ValueError(f"Neurons of hidden layer {layer} are 0 ... {width - 1}; got {list(neurons)}.")

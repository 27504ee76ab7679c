"""What no question can reveal: neurons whose weights leave no trace in the answers to the queries at hand."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Array, Float

from ..network.networks import Network


def unrecoverable_neurons(network: Network, x: Float[Array, "samples inputs"]) -> list[str]:
    """What of a network its answers over x can't show, in words; hidden layers and neurons count from 1.

    Neurons that never change; neurons of relu and its like that never cross their kink, so that they are a part of the
    linear map; neurons that are copies of another; neurons that nothing listens to. In a teacher these are the neurons
    that no recovery can find, in a recovered network those that are not to be trusted.

    Args:
        network: One network.
        x: The queries that it is asked.
    """
    notes = []
    for number, (z, out) in enumerate(_hidden(network, x), start=1):
        a = np.asarray(network.activation(z), float)
        z = np.asarray(z, float)
        deviation = a.std(axis=0)
        is_constant = deviation <= 1e-5 * np.maximum(deviation.max(), np.abs(a).max(axis=0))
        is_one_sided = network.activation.symmetry.homogeneous & ~is_constant & ((z > 0).all(0) | (z < 0).all(0))
        heard = deviation * np.linalg.norm(out, axis=0)
        is_unheard = ~is_constant & (heard <= 1e-5 * heard.max())
        standard = (a - a.mean(axis=0)) / np.where(is_constant, 1, deviation)
        alike = np.triu(np.abs(standard.T @ standard / len(a)) > 1 - 1e-6, k=1)
        is_copy = alike.any(axis=0) & ~is_constant & ~is_one_sided
        notes += [
            f"hidden layer {number}: {_named(which)} {said}"
            for which, said in (
                (is_constant, "never changed over these queries (dead or saturated): students have no use for it"),
                (is_one_sided, "never crossed the kink over these queries: a part of the linear map, no neuron"),
                (is_copy, "did the same as another over these queries: the two are found as one"),
                (is_unheard, "has no influence on the layer above"),
            )
            if which.any()
        ]
    return notes


def _hidden(network: Network, x: Array) -> Iterator[tuple[Array, np.ndarray]]:
    """Of every hidden layer: pre-activations [samples, width] and outgoing weights."""
    for layer, above in zip(network.layers, network.layers[1:], strict=False):
        z = layer(x)
        yield z, np.asarray(above.w, float)
        x = network.activation(z)


def _named(which: np.ndarray) -> str:
    numbers = ", ".join(str(i + 1) for i in np.flatnonzero(which))
    return f"neuron {numbers}" if which.sum() == 1 else f"each of the neurons {numbers}"

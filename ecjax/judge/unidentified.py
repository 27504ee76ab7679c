"""What no question can reveal: neurons whose weights leave no trace in the answers to the queries at hand."""

import numpy as np
from jaxtyping import Array, Float

from ..base.precision import in_full_precision
from ..network import Network, hidden_states
from ..network.symmetries import symmetries

# A neuron whose answers vary by less than this share of their size, or that moves the next layer by less than this
# share of what the strongest neuron does, has half of float32's digits left at most; students have no use for it.
_NOTHING = 1e-5
_ALIKE = 1e-6  # 1 - correlation of two neurons that are found as one


@in_full_precision
def unrecoverable_neurons(network: Network, x: Float[Array, "samples inputs"]) -> list[str]:
    """What of a network its answers over x can't show, in words; hidden layers and neurons count from 1.

    Neurons that never change; neurons of relu and its like that never cross their kink, so that they are a part of the
    linear map; neurons that are copies of another; neurons that nothing listens to. In a teacher these are the neurons
    that no recovery can find, in a recovered network those that are not to be trusted.

    Each neuron is looked at in its own unit: a neuron whose weights are small and whose outgoing weights are large is
    as alive as any.

    Args:
        network: One network.
        x: The queries that it is asked.
    """
    notes = []
    for number, (state, layer, above) in enumerate(
        zip(hidden_states(network, x), network.layers, network.layers[1:], strict=False), start=1
    ):
        z, a, out = (np.asarray(each, float) for each in (state.z, state.h, above.w))
        deviation, size = a.std(axis=0), np.abs(a).max(axis=0)
        symmetry = symmetries(layer.activation, len(size))
        is_constant = deviation <= _NOTHING * size
        is_one_sided = symmetry.homogeneous & ~is_constant & ((z > 0).all(0) | (z < 0).all(0))
        heard = deviation * np.linalg.norm(out, axis=0)
        is_unheard = ~is_constant & (heard <= _NOTHING * heard.max())
        standard = (a - a.mean(axis=0)) / np.where(is_constant, 1, deviation)
        alike = np.triu(np.abs(standard.T @ standard / len(a)) > 1 - _ALIKE, k=1)
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


def _named(which: np.ndarray) -> str:
    numbers = ", ".join(str(i + 1) for i in np.flatnonzero(which))
    return f"neuron {numbers}" if which.sum() == 1 else f"each of the neurons {numbers}"

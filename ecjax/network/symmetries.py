"""The symmetries of a layer's neurons, neuron by neuron: a layer may be a mixture of activations."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .activation import Activation
from .mixtures import LayerActivation

PerNeuron = Float[np.ndarray, " width"]


class Symmetries(NamedTuple):
    """What a change of sign, scale or phase does to each neuron of a layer; see `Symmetry`."""

    each: tuple[Activation, ...]
    parity: PerNeuron
    constant: PerNeuron
    linear: PerNeuron
    homogeneous: Bool[np.ndarray, " width"]
    antiperiod: PerNeuron  # NaN where there is none

    @property
    def leaves_linear_map(self) -> Bool[np.ndarray, " width"]:
        """Whether a change of sign leaves a linear map behind, so that signs have to be resolved."""
        return (self.parity != 0) & (self.linear != 0)


def symmetries(activation: LayerActivation, width: int) -> Symmetries:
    """Of the neurons of a layer of that width."""
    of_neuron = {int(i): one for one, members in activation.groups(width) for i in members}
    each = tuple(of_neuron[i] for i in range(width))
    told = [one.symmetry for one in each]
    number = lambda name: np.array([getattr(symmetry, name) for symmetry in told], float)
    return Symmetries(
        each,
        number("parity"),
        number("constant"),
        number("linear"),
        number("homogeneous").astype(bool),
        np.array([np.nan if symmetry.antiperiod is None else symmetry.antiperiod for symmetry in told], float),
    )

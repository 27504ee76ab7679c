"""Scale and shift of a neuron whose direction is known, when all else is left to least squares.

Along a direction a neuron is s(alpha t + beta), and what it explains of what the next layer wants depends on two
numbers alone. Few samples may tell them: of a neuron whose kink only 3% of the images see the rest is a straight line,
as it is at other scales, and refinement then ends in a wrong one. A grid sees them all.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ..network import LayerActivation, Network
from ..objective import Inputs, Samples
from .eliminate import inputs_of, with_neurons
from .output import Neurons, neurons_of, responses, wanted

Trials = Float[np.ndarray, "trials 2"]  # scale, shift

_SEEN = 1e-6  # root mean square of responses below which rounding decides what they look like
_ROWS = 10  # for each input, on which the one neuron is looked for
# Scales and shifts of its pre-activations, in units of their deviation: from nearly linear to nearly a step, and so far
# out that only a tail is seen.
_SCALES = np.geomspace(0.1, 30, 12)
_SHIFTS = np.concatenate([-np.geomspace(30, 0.1, 10), [0.0], np.geomspace(0.1, 30, 10)])
TRIALS = np.array(list(itertools.product([*-_SCALES, *_SCALES], _SHIFTS)))


class Profile(NamedTuple):
    """What a neuron along one direction may do in the place of one neuron, or several, of a hidden layer.

    Attributes:
        net: The network.
        layer: The hidden layer.
        places: Neurons in whose place it comes; it takes the first of them.
        now: Scale and shift of the pre-activations before.
        vector: Incoming weights and bias, for pre-activations of mean 0 and deviation 1.
        along: These pre-activations, on some of the samples.
        others: Orthonormal columns for what the layer's other neurons, and a constant, do there.
        goal: What the next layer wants beside these.
        unit: Sum of squares of all that it wants, without its mean.
    """

    net: Network
    layer: int
    places: tuple[int, ...]
    now: Float[np.ndarray, "2"]
    vector: Float[np.ndarray, " fan_in_1"]
    along: Float[np.ndarray, " samples"]
    others: Float[np.ndarray, "samples columns"]
    goal: Float[np.ndarray, "samples wanted"]
    unit: float

    @property
    def activation(self) -> LayerActivation:
        """Of the one neuron."""
        return self.net.hidden[self.layer].activation.take(self.places[:1])

    def left(self, trials: Trials) -> Float[np.ndarray, " trials"]:
        """What the best outgoing weights leave at each scale and shift: a loss, in units of what is wanted."""
        neurons = Neurons(trials, self.activation.take([0] * len(trials)))
        alone = _beside(self.others, responses(neurons, jnp.asarray(self.along[:, None])))
        size = np.linalg.norm(alone, axis=0)
        visible = size > _SEEN * np.sqrt(len(alone))
        told = np.linalg.norm(self.goal.T @ alone, axis=0) / np.where(visible, size, np.inf)
        return (np.sum(self.goal**2) - told**2) / self.unit

    def best(self) -> Float[np.ndarray, "2"]:
        """The scale and the shift that leave least."""
        start = TRIALS[np.argmin(self.left(TRIALS))]
        return minimize(lambda trial: self.left(trial[None])[0], start, method="Nelder-Mead").x

    def within(self, trial: Float[np.ndarray, "2"], samples: Samples) -> Network:
        """The network with the neuron at this scale and shift, for whom its layer makes good by least squares.

        Args:
            trial: Scale and shift.
            samples: Queries and targets.
        """
        scale, shift = trial
        own = neurons_of(self.net, self.layer)
        first, *gone = self.places
        own.vectors[first] = scale * self.vector
        own.vectors[first, -1] += shift
        rest = own.take(np.delete(np.arange(own.width), gone))
        return with_neurons(self.net, self.layer, rest, samples)


def profile_of_one(net: Network, layer: int, neuron: int, samples: Samples) -> Profile:
    """A neuron along its own direction."""
    own, inputs = neurons_of(net, layer), _some(net, layer, samples)
    return _profile(net, layer, (neuron,), own.vectors[neuron], inputs, responses(own, inputs), samples)


def profile_of_many(net: Network, layer: int, places: tuple[int, ...], samples: Samples) -> Profile:
    """One neuron for several, along the linear map of the inputs that is nearest to what these do together.

    Args:
        net: Whose neurons these are.
        layer: The hidden layer that they belong to.
        places: Neurons whose outgoing vectors are parallel.
        samples: Queries and targets.
    """
    own, inputs = neurons_of(net, layer), _some(net, layer, samples)
    h, a = responses(own, inputs), np.asarray(net.layers[layer + 1].w, float)[:, list(places)]
    direction = np.linalg.svd(a, full_matrices=False)[0][:, 0]
    done = h[:, list(places)] @ (a.T @ direction)  # by these neurons, along it
    vector, *_ = np.linalg.lstsq(_with_constant(inputs), done, rcond=None)
    return _profile(net, layer, places, vector, inputs, h, samples)


def _beside(
    others: Float[np.ndarray, "samples columns"], columns: Float[np.ndarray, "samples n"]
) -> Float[np.ndarray, "samples n"]:
    """What is left of columns beside what orthonormal ones explain."""
    return columns - others @ (others.T @ columns)


def _profile(
    net: Network,
    layer: int,
    places: tuple[int, ...],
    vector: Float[np.ndarray, " fan_in_1"],
    inputs: Inputs,
    h: Float[np.ndarray, "samples width"],
    samples: Samples,
) -> Profile:
    z = _with_constant(inputs) @ vector
    mean, spread = z.mean(), z.std() + np.finfo(float).tiny  # nothing, where several cancel
    along, vector = (z - mean) / spread, vector / spread
    vector[-1] -= mean / spread
    others, _ = np.linalg.qr(_with_constant(np.delete(h, places, axis=1)))
    all_wanted = np.asarray(wanted(Network(net.layers[layer:]), inputs, samples.y[: len(h)]), float)
    unit = float(all_wanted.size * np.mean(np.var(all_wanted, axis=0)))
    goal = _beside(others, all_wanted)
    return Profile(net, layer, places, np.array([spread, mean]), vector, along, others, goal, unit)


def _some(net: Network, layer: int, samples: Samples) -> Inputs:
    inputs = inputs_of(net, layer, samples.x)
    return inputs[: _ROWS * inputs.shape[1]]


def _with_constant(columns: Inputs | np.ndarray) -> Float[np.ndarray, "samples n"]:
    return np.column_stack([np.asarray(columns, float), np.ones(len(columns))])

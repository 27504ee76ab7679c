"""Two neurons that do the work of one, and the one in their place.

Of a neuron that is nearly linear over the queries, students often make two: far out on both sides of zero, with nearly
opposite incoming vectors, whose sum is as linear. No small step leads from there to the one neuron, and both stay where
all others are right (784-16-10 of g on MNIST: 15 of 16 neurons within 1e-4, and two at a loss of 2e-6 for the last).

What gives them away are their outgoing vectors. Those of two neurons of the teacher have no reason to be parallel;
those of two that share the work of one are (0.9999998 there, where no other pair exceeded 0.66). The one neuron sees
the linear map of the inputs that is nearest to what the two do together, at the scale and shift that explain most.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ..network import Network
from ..objective import Samples
from .eliminate import inputs_of, with_neurons
from .output import Neurons, neurons_of, responses, wanted

Pair = tuple[int, int]

_PARALLEL = 0.99  # cosine of outgoing vectors
_SEEN = 1e-6  # root mean square of responses below which rounding decides what they look like
_ROWS = 10  # for each input, on which the one neuron is looked for
# Scales and shifts of its pre-activations, in units of their deviation: from nearly linear to nearly a step, and so far
# out that only a tail is seen.
_SCALES = np.geomspace(0.1, 30, 12)
_SHIFTS = np.concatenate([-np.geomspace(30, 0.1, 10), [0.0], np.geomspace(0.1, 30, 10)])


def parallel_pairs(net: Network, layer: int) -> list[Pair]:
    """Pairs of neurons of a hidden layer whose outgoing vectors are parallel, the most parallel first.

    Towards a single output all vectors are parallel, and say nothing.
    """
    a = np.asarray(net.layers[layer + 1].w, float)
    if len(a) < 2:
        return []
    a = a / (np.linalg.norm(a, axis=0) + np.finfo(float).tiny)
    cosine = np.abs(a.T @ a)
    pairs = [pair for pair in itertools.combinations(range(a.shape[1]), 2) if cosine[pair] > _PARALLEL]
    return sorted(pairs, key=lambda pair: -cosine[pair])


def joined(net: Network, layer: int, pair: Pair, samples: Samples) -> Network:
    """The network with one neuron in the place of two, for whom all of its layer make good as least squares can.

    Args:
        net: With two neurons whose outgoing vectors are parallel.
        layer: The hidden layer that they belong to.
        pair: Which.
        samples: Queries and targets.
    """
    own, a = neurons_of(net, layer), np.asarray(net.layers[layer + 1].w, float)
    inputs = inputs_of(net, layer, samples.x)
    inputs = inputs[: _ROWS * inputs.shape[1]]
    h = responses(own, inputs)
    one, other = list(pair), [i for i in range(own.width) if i not in pair]
    direction = np.linalg.svd(a[:, one], full_matrices=False)[0][:, 0]
    done = h[:, one] @ (a[:, one].T @ direction)  # by the two, along it

    # The linear map of the inputs that is nearest to what they do, as pre-activations of mean 0 and deviation 1.
    inputs_1 = np.column_stack([np.asarray(inputs, float), np.ones(len(h))])
    vector, *_ = np.linalg.lstsq(inputs_1, done, rcond=None)
    along = inputs_1 @ vector
    vector[-1] -= along.mean()
    spread = along.std() + np.finfo(float).tiny  # nothing, where two cancel
    along, vector = (along - along.mean()) / spread, vector / spread

    # Its scale and shift, by how much of what the next layer wants such a neuron explains that the others can't.
    others, _ = np.linalg.qr(np.column_stack([h[:, other], np.ones(len(h))]))
    alone = lambda columns: columns - others @ (others.T @ columns)
    goal = alone(np.asarray(wanted(Network(net.layers[layer:]), inputs, samples.y[: len(h)]), float))

    def left(trials: Float[np.ndarray, "trials 2"]) -> Float[np.ndarray, " trials"]:
        neurons = Neurons(trials, own.activation.take([one[0]] * len(trials)))
        candidates = alone(responses(neurons, jnp.asarray(along[:, None], inputs.dtype)))
        size = np.linalg.norm(candidates, axis=0)
        told = np.linalg.norm(goal.T @ candidates, axis=0) / np.where(size > _SEEN * np.sqrt(len(h)), size, np.inf)
        return 1 - told**2 / (np.sum(goal**2) + np.finfo(float).tiny)

    trials = np.array(list(itertools.product([*-_SCALES, *_SCALES], _SHIFTS)))
    start = trials[np.argmin(left(trials))]
    scale, shift = minimize(lambda trial: left(trial[None])[0], start, method="Nelder-Mead").x
    vector = scale * vector
    vector[-1] += shift

    vectors = own.vectors.copy()
    vectors[one[0]] = vector
    return with_neurons(net, layer, own._replace(vectors=vectors).without(one[1]), samples)

"""From a layer's neurons to a network: outgoing weights, signs, a linear map if need be, refinement."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base.precision import in_full_precision
from ..expand import Stopping
from ..judge import Judge
from ..network import Network
from ..objective import Samples
from .finetune import finetune
from .output import Neurons, OutputFit, fit_output, likely_signs, neurons_of, wanted


@dataclass(frozen=True)
class Tools:
    """How candidates are refined and judged.

    Attributes:
        stop: When a refinement stops.
        judge: What counts as exact.
        pad_to: See `finetune`.
        keep_linear: Whether a linear map of the inputs that no signs explain may stand beside the neurons.
        n_signs: How many combinations of signs to try.
    """

    stop: Stopping
    judge: Judge
    pad_to: int = 0
    keep_linear: bool = True
    n_signs: int = 4


class Candidate(NamedTuple):
    """A network whose first hidden layer was reconstructed, refined, and how well it imitates."""

    network: Network
    linear: Float[np.ndarray, "fan_out fan_in"]  # added to the network's answers; zero unless signs stay undecided
    loss: float  # mean squared error
    judge: Judge
    origin: tuple[int, ...]  # of each neuron, its place among those that were proposed

    @property
    def neurons(self) -> Neurons:
        """Of the first hidden layer."""
        return neurons_of(self.network)

    @property
    def fits(self) -> bool:
        """Whether the loss is that of an exact network, be it by chance."""
        return self.judge.fits(self.loss)

    @property
    def is_exact(self) -> bool:
        """Whether the loss is one that no network of a wrong width reaches."""
        return self.judge.is_exact(self.loss, self.network.n_parameters)


def assemble(
    neurons: Neurons, samples: Samples, within: Network, tools: Tools, *, origin: tuple[int, ...] | None = None
) -> Candidate:
    """The best network whose first hidden layer starts from these neurons.

    Outgoing weights come from least squares; signs, where the activation leaves them open, from the linear map that
    such a fit needs; everything is refined together, until it is exact. Of the likely combinations of signs the first
    exact one is taken.

    Args:
        neurons: The first hidden layer.
        samples: Queries and targets.
        within: The network whose first hidden layer they replace; what stands above it, is kept.
        tools: How candidates are refined and judged.
        origin: Places of the neurons among those that were proposed; by default their own.
    """
    x, dtype, above, judge = samples.x, samples.x.dtype, within.layers[2:], tools.judge
    origin = tuple(range(neurons.width)) if origin is None else origin
    stop = replace(tools.stop, target_loss=judge.target(tools.stop.target_loss))
    refine = lambda net, samples: finetune(net, samples, stop=stop, judge=judge, pad_to=tools.pad_to)
    network_of = lambda neurons, fit: Network(
        (neurons.layer(dtype), replace(within.layers[1], w=fit.layer(dtype).w, b=fit.layer(dtype).b), *above)
    )
    z = wanted(within, x, samples.y)
    plain = fit_output(neurons, x, z)
    starts: list[tuple[Neurons, OutputFit]] = [(neurons, plain)]
    helped = None
    if neurons.symmetries.leaves_linear_map.any():
        helped = fit_output(neurons, x, z, with_linear=True)
        for sign, _ in likely_signs(neurons, helped, x, n_best=tools.n_signs):
            flipped = neurons.flipped(sign)
            starts.append((flipped, fit_output(flipped, x, z)))
        starts = sorted(starts, key=lambda start: start[1].loss)[: tools.n_signs]

    none = np.zeros((samples.y.shape[1], x.shape[1]))
    best = None
    for start, fit in starts:
        network, loss = refine(network_of(start, fit), samples)
        if best is None or loss < best.loss:
            best = Candidate(network, none, loss, judge, origin)
        if best.fits:
            return best
    assert best is not None  # the plain fit is always among the starts
    if tools.keep_linear and helped is not None and not above and 10 * helped.loss < best.loss:
        # No combination of signs explains the linear map: it is kept beside the neurons, which are refined without it.
        rest = samples.with_answers(less_linear(samples, helped.linear))
        network, loss = refine(network_of(neurons, helped), rest)
        return Candidate(network, helped.linear, loss, judge, origin)
    return best


@in_full_precision
def less_linear(samples: Samples, linear: Float[np.ndarray, "fan_out fan_in"]):
    """The targets without a linear map of the queries."""
    return samples.y - jnp.asarray(np.asarray(samples.x, float) @ linear.T, samples.y.dtype)

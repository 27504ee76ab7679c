"""Refinement as a judge: a network of the right width falls to machine precision in a few steps, a wrong one does not.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), final fine-tuning of the reconstructed network.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..expand import SECOND_ORDER_UP_TO, RefineConfig, refine
from ..network.networks import Layer, Network, respond
from ..objective.imitation import Inputs, Outputs, flatten, imitation_loss
from .output import OutputFit, Vectors, as_network, fit_output, leaves_linear_map, likely_signs, vectors_of
from .soften import SHARPNESS, softened, with_unit_pre_activations

# Orthogonal factors of a Jacobian of so many entries, times parameters, take about a second a step.
_ORTHOGONAL_UP_TO = 10_000_000_000
_SOFT_STEPS = 10  # of a refinement with soft kinks, whose network is not the end
# Loss below which rounding in the normal equations may be what is in the way; above, it is a wrong network.
_NEARLY = 1e-8


class Candidate(NamedTuple):
    """A network whose first hidden layer was reconstructed, refined, and how well it imitates."""

    network: Network
    linear: Float[np.ndarray, "fan_out fan_in"]  # added to the network's answers; zero unless signs stay undecided
    loss: float  # mean squared error
    exact_below: float  # loss at which it counts as exact

    @property
    def vectors(self) -> Vectors:
        """Incoming weight vectors, bias last."""
        return vectors_of(self.network)

    @property
    def is_exact(self) -> bool:
        """Whether the loss is one that no network of a wrong width reaches."""
        return self.loss <= self.exact_below


def exact_loss(dtype) -> float:
    """Largest mean squared error, for targets of unit variance, that rounding alone can explain.

    An answer is a sum of contributions that may be some hundred times larger than itself, each rounded, and a solver
    that works with rounded gradients stops a few times above that: 10,000 eps leaves room. In float64 the loss is then
    5e-24, more than ten orders of magnitude below what networks of a wrong width reach.
    """
    return float((1e4 * np.finfo(dtype).eps) ** 2)


@eqx.filter_jit
def _refine(net: Network, free, x, y, solver, config):
    return refine(net, x, y, solver=solver, free=free, config=config)


def finetune(
    net: Network, x: Inputs, y: Outputs, *, config: RefineConfig, exact_below: float, pad_to: int = 0
) -> tuple[Network, float]:
    """Refine all weights of one network together.

    Levenberg-Marquardt, then its orthogonal form if that is affordable and still needed; without a matrix where there
    are too many parameters for one.

    Args:
        net: Where to start.
        x: Queries.
        y: Targets.
        config: When to stop.
        exact_below: Loss at which the network is exact and the orthogonal form is not needed any more.
        pad_to: Frozen, silent neurons are added to the first hidden layer for the computation, so that networks of many
            widths share a compiled program: up to this width, its half or its quarter.

    Returns:
        The refined network, and its loss; the given one if it could not be improved.
    """
    width = net.widths[0]
    dense = net.n_parameters <= SECOND_ORDER_UP_TO
    padded, free = _padded(net, _shared_width(width, pad_to) if dense else width)
    if not dense:
        padded = _past_kinks(padded, free, x, y, config, exact_below)
        refined = _refine(padded, free, x, y, "conjugate", config)
    else:
        refined = _refine(padded, free, x, y, "levenberg_marquardt", config)
        affordable = y.size * padded.n_parameters**2 <= _ORTHOGONAL_UP_TO
        if affordable and exact_below < float(refined.loss) < _NEARLY:
            more = _refine(refined.network, free, x, y, "orthogonal", config)
            refined = more if float(more.loss) < float(refined.loss) else refined
    hidden, following, *above = refined.network.layers
    layers = (Layer(hidden.w[:width], hidden.b[:width]), Layer(following.w[:, :width], following.b), *above)
    return Network(layers, net.activation), float(refined.loss)


def _past_kinks(net: Network, free, x: Inputs, y: Outputs, config: RefineConfig, exact_below: float) -> Network:
    """The network refined with softer kinks, if it has any, until they are in their places among the samples."""
    if not net.activation.symmetry.homogeneous:
        return net
    activation, net = net.activation, with_unit_pre_activations(net, x)
    config = replace(config, max_steps=min(config.max_steps, _SOFT_STEPS))
    for sharpness in SHARPNESS:
        if float(imitation_loss(net, x, y)) <= exact_below:
            break
        soft = Network(net.layers, softened(activation, sharpness))
        net = Network(_refine(soft, free, x, y, "conjugate", config).network.layers, activation)
    return net


def _shared_width(width: int, pad_to: int) -> int:
    return next((shared for shared in (pad_to // 4, pad_to // 2, pad_to) if width <= shared), width)


def _padded(net: Network, width: int) -> tuple[Network, jax.Array]:
    extra = width - net.widths[0]
    grow = lambda net: Network(
        (
            Layer(jnp.pad(net.layers[0].w, ((0, extra), (0, 0))), jnp.pad(net.layers[0].b, (0, extra))),
            Layer(jnp.pad(net.layers[1].w, ((0, 0), (0, extra))), net.layers[1].b),
            *net.layers[2:],
        ),
        net.activation,
    )
    free, _ = flatten(grow(jax.tree.map(jnp.ones_like, net)))
    return grow(net), free > 0


def wanted(net: Network, x: Inputs, y: Outputs) -> Float[Array, "samples n_wanted"]:
    """What the first hidden layer's outgoing weights have to make of it.

    The targets, or in a deeper network the pre-activations of the next layer.
    """
    return y if len(net.layers) == 2 else before_next(net, x)


def before_next(net: Network, x: Inputs) -> Float[Array, "samples width_2"]:
    """What the first hidden layer makes of the queries: pre-activations of the second layer."""
    return respond(Network(net.layers[:2], net.activation), x)


def settle(
    vectors: Vectors,
    x: Inputs,
    y: Outputs,
    within: Network,
    *,
    config: RefineConfig,
    exact_below: float,
    pad_to: int = 0,
    n_signs: int = 4,
    keep_linear: bool = True,
) -> Candidate:
    """The best network whose first hidden layer starts from these incoming weight vectors.

    Outgoing weights come from least squares; signs, where the activation leaves them open, from the linear map that
    such a fit needs; everything is refined together, until it is exact. Of the likely combinations of signs the first
    exact one is taken.

    Args:
        vectors: Incoming weight vectors, bias last.
        x: Queries.
        y: Targets.
        within: The network whose first hidden layer they replace; what stands above it, is kept.
        config: When the refinement stops.
        exact_below: Loss at which a network is exact.
        pad_to: See `finetune`.
        n_signs: How many combinations of signs to try.
        keep_linear: Whether a linear map of x that no signs explain may stand beside the neurons.
    """
    dtype, activation, above = x.dtype, within.activation, within.layers[2:]
    config = replace(config, target_loss=max(config.target_loss, exact_below))
    tools = {"config": config, "exact_below": exact_below, "pad_to": pad_to}
    z = wanted(within, x, y)
    plain = fit_output(vectors, x, z, activation)
    starts: list[tuple[Vectors, OutputFit]] = [(vectors, plain)]
    helped = None
    if leaves_linear_map(activation) and len(vectors):
        helped = fit_output(vectors, x, z, activation, with_linear=True)
        for sign, _ in likely_signs(vectors, helped, x, activation, n_best=n_signs):
            flipped = sign[:, None] * vectors
            starts.append((flipped, fit_output(flipped, x, z, activation)))
        starts = sorted(starts, key=lambda start: start[1].loss)[:n_signs]

    none = np.zeros((y.shape[1], x.shape[1]))
    best = None
    for start, fit in starts:
        shallow = as_network(start, fit, activation, dtype)
        network, loss = finetune(Network((*shallow.layers, *above), activation), x, y, **tools)
        if best is None or loss < best.loss:
            best = Candidate(network, none, loss, exact_below)
        if best.is_exact:
            return best
    assert best is not None  # the plain fit is always among the starts
    if keep_linear and helped is not None and not above and 10 * helped.loss < best.loss:
        # No combination of signs explains the linear map: it is kept beside the neurons, which are refined without it.
        rest = y - jnp.asarray(np.asarray(x, float) @ helped.linear.T, dtype)
        network, loss = finetune(as_network(vectors, helped, activation, dtype), x, rest, **tools)
        return Candidate(network, helped.linear, loss, exact_below)
    return best

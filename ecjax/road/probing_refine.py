"""All layers that probes have found, refined together on new questions."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from ..expand import is_small
from ..judge import Judge
from ..network import Activation, Layer, Network
from ..objective import Scaling
from ..objective.scaling import scaling_of_outputs
from ..probe import Reach
from ..probe.stack import Stack, Weights
from ..reconstruct import finetune
from .probing import Asking

_NUMBERS = 3.0  # asked for each weight


def network_of(stack: Stack) -> Network:
    """A stack as a record."""
    return Network(
        tuple(
            Layer(jnp.asarray(each.w), jnp.asarray(each.b), *(() if each.activation is None else (each.activation,)))
            for each in stack
        )
    )


def stack_of(network: Network) -> Stack:
    """A record as a stack."""
    kinds = [each if isinstance(each, Activation) else None for each in network.activations]
    return [
        Weights(np.asarray(one.w), np.asarray(one.b), kind)
        for one, kind in zip(network.layers, [*kinds, None], strict=True)
    ]


def scaled(network: Network, scale: Scaling) -> Network:
    """The network for outputs in units of their own spread."""
    last, unit = network.output, jnp.asarray(1 / scale.y_scale)
    last = replace(last, w=last.w * unit[:, None], b=(last.b - jnp.asarray(scale.y_mean)) * unit)
    return Network((*network.hidden, last))


def refined(asking: Asking, reach: Reach, stack: Stack) -> Stack:
    """Every weight in the coordinates of the row space, on some more numbers than there are weights."""
    asking.tell("finetune", 0, 1)
    network = network_of(stack)
    n = int(np.ceil(_NUMBERS * network.n_parameters / len(stack[-1].b)))
    x = reach.points(n, asking.rng)
    y = reach(x)
    scale = scaling_of_outputs(jnp.asarray(y), reach.rank)
    samples = scale.samples(jnp.asarray(x), jnp.asarray(y))
    start, judge = scaled(network, scale), Judge(eps=asking.teacher.precision, n_numbers=y.size)
    loss = float(samples.value(start))
    stop = asking.stop if is_small(network) else replace(asking.stop, target_loss=judge.target(asking.stop.target_loss))
    found, reached = finetune(start, samples, stop=stop, judge=judge, is_near=True)
    asking.tell("finetune", 1, 1)
    return stack_of(scale.undo(found, None)[0]) if reached < loss else stack

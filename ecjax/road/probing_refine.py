"""All layers that probes have found, refined together on new questions."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..expand import Stopping, is_small
from ..judge import Judge
from ..network import Activation, Layer, Network
from ..objective import Samples, Scaling
from ..objective.scaling import scaling_of_outputs
from ..probe import Reach, growing, inverse
from ..probe.stack import Stack, Weights
from ..reconstruct import finetune
from ..reconstruct.finetune import quick_steps
from .probing import Asking

_NUMBERS = 3.0  # asked for each weight
_NEAR = 24  # steps at most; networks that are to come out are exact after twenty, and of large ones one takes 12 s
_TO_AVERAGE = 3  # steps; the first one only looks at where it is


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


def fitted(
    network: Network, samples: Samples, scale: Scaling, *, stop: Stopping, judge: Judge, is_near: bool = False
) -> Network:
    """The network refined on scaled samples, in the units of the answers.

    Where steps are cheap, or few as they begin nearby, exact is not enough: they go on to rounding.
    """
    if not (is_small(network) or is_near):
        stop = replace(stop, target_loss=judge.target(stop.target_loss))
    found, _ = finetune(scaled(network, scale), samples, stop=stop, judge=judge, is_near=is_near)
    return scale.undo(found, None)[0]


def averaged(asking: Asking, network: Network, x: Float[np.ndarray, "questions fan_in"]) -> Network:
    """The least squares fit beside a large network that is right but for the rounding of few answers.

    Probes solve equations between some hundred answers; those to many questions have as many roundings, and these are
    independent. Near the end two steps are enough: of 784-128-10 from answers in float32 2e-6 becomes 2e-7.

    Args:
        asking: Who answers.
        network: Nearly right.
        x: Questions, more numbers in answer than weights.
    """
    asking.tell("finetune", 0, 1)
    with asking.seconds.of("finetune"):
        y = jnp.asarray(asking.teacher(x))
        scale = scaling_of_outputs(y, x.shape[1])
        samples = scale.samples(jnp.asarray(x), y)
        near, stop = scaled(network, scale), Stopping(max_steps=_TO_AVERAGE, target_loss=1e-31)
        found, loss = quick_steps(near, samples, stop=stop, widths=network.widths, careful=True)
        is_better = loss < float(samples.value(near))
    asking.tell("finetune", 1, 1)
    return scale.undo(found, None)[0] if is_better else network


def _bending(reach: Reach, stack: Stack, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n rank"]:
    """Questions among which the neurons of all layers bend.

    Where the first layer saturates, these are the corners of its box: from random ones the last of three hidden layers
    of 784-64-48-32-10 is right to 4e-6 after 30 steps, from these to 2e-11 after 18.
    """
    first, second = stack[0], stack[1]
    branch = None if first.activation is None else growing(first.activation)
    is_box = branch is not None and np.isfinite([branch.low, branch.high]).all()
    if not is_box or len(stack) < 3 or not reach.is_open or len(first.b) != reach.rank:
        return reach.points(n, rng)
    assert branch is not None
    assert first.activation is not None
    _, heard, basis = np.linalg.svd(second.w, full_matrices=False)
    h = Reach.of(reach.teacher, basis, 1.0, branch.low, branch.high).corners(n, heard, rng)
    return (inverse(first.activation, h) - first.b) @ np.linalg.inv(first.w).T


def refined(asking: Asking, reach: Reach, stack: Stack) -> Stack:
    """Every weight in the coordinates of the row space, on some more numbers than there are weights."""
    asking.tell("finetune", 0, 1)
    network = network_of(stack)
    n = int(np.ceil(_NUMBERS * network.n_parameters / len(stack[-1].b)))
    x = _bending(reach, stack, n, asking.rng)
    y = reach(x)
    scale = scaling_of_outputs(jnp.asarray(y), reach.rank)
    samples = scale.samples(jnp.asarray(x), jnp.asarray(y))
    judge = Judge(eps=asking.teacher.precision, n_numbers=y.size)
    stop = replace(asking.stop, max_steps=min(asking.stop.max_steps, _NEAR))
    found = fitted(network, samples, scale, stop=stop, judge=judge, is_near=True)
    loss_of = lambda network: float(samples.value(scaled(network, scale)))
    is_better = loss_of(found) < loss_of(network)
    asking.tell("finetune", 1, 1)
    return stack_of(found) if is_better else stack

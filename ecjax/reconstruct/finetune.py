"""Refinement as a judge: a network of the right width falls to machine precision in a few steps, a wrong one does not.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), final fine-tuning of the reconstructed network.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from ..base.precision import compiled
from ..expand import (
    Conjugate,
    Descent,
    Inexact,
    LevenbergMarquardt,
    Orthogonal,
    Stopping,
    Student,
    Subsampled,
    fewer,
    is_small,
)
from ..judge import Judge
from ..network import Mixture, Network
from ..network.moves import pad_neurons, take_neurons, with_unit_pre_activations
from ..network.symmetries import symmetries
from ..objective import Samples, flatten
from .soften import SHARPNESS, with_soft_kinks

# Orthogonal factors of a Jacobian of so many entries, times parameters, take about a second a step.
_ORTHOGONAL_UP_TO = 10_000_000_000
MATRIX_UP_TO = 6000  # parameters, for which a step with the matrix takes some ten seconds
ANSWERS = 10.0  # for each parameter, before all of them are looked at
_SOFT_STEPS = 10  # of a refinement with soft kinks, whose network is not the end
_FURTHER = 1e-4  # of the loss that rounding may explain, for networks that are nearly right from the start
QUICK_PATIENCE = 10  # with quick steps, which show whether careful ones are worth their cost
_STIR = Subsampled(n_steps=100)
# Numbers of samples times parameters from which a step on all samples takes too long (six seconds on one core). Fewer
# ones do not decide: on two answers for each parameter of 784-128-10 their loss falls and that of the others rises. So
# each step sees others, and its damping falls with the loss: a student of g, at 1.4e-5, is at 7e-6 after 20 steps at a
# hundredth of that, and no further after 20 more at a thousandth.
_DEAR = 2e9
_COOLING = Subsampled(n_steps=20, answers=2.0, damping=1e-11, of_loss=1e-2, first=1e-11)
_LEADS_ON = 1.2  # times less loss at least, where so many more of them are taken
_CAREFUL = partial(Inexact, products=600)  # near the end some hundred are what makes a step Newton's


def _descend(descent: Callable[[Stopping], Descent], stop: Stopping, net: Network, samples: Samples, free) -> Student:
    """One compiled program for all targets: a limit that follows what students reached differs in every recovery."""
    target = jnp.asarray(stop.target_loss, net.dtype)
    return _descend_to(descent(replace(stop, target_loss=0.0)), target, net, samples, free)


@compiled
def _descend_to(descent: Descent, target_loss, net: Network, samples: Samples, free) -> Student:
    return descent(net, samples, free=free, target_loss=target_loss)


def finetune(
    net: Network, samples: Samples, *, stop: Stopping, judge: Judge, pad_to: int = 0, is_near: bool = False
) -> tuple[Network, float]:
    """Refine all weights of one network together.

    Levenberg-Marquardt, then its orthogonal form if that is affordable and still needed; without a matrix where there
    are too many parameters for one.

    Args:
        net: Where to start.
        samples: Queries and targets.
        stop: When to stop.
        judge: Says at which loss the orthogonal form is not needed any more.
        pad_to: Frozen, silent neurons are added to the first hidden layer for the computation, so that networks of many
            widths share a compiled program: up to this width, its half or its quarter.
        is_near: Whether the network is nearly right from the start, so that careful steps alone are enough.

    Returns:
        The refined network, and its loss; the given one if it could not be improved.
    """
    if not is_small(net):
        return _large(net, samples, stop, judge, is_near)
    width = net.widths[0]
    padded, free = _padded(net, (_shared_width(width, pad_to),))
    refined = _descend(LevenbergMarquardt, stop, padded, samples, free)
    affordable = samples.n_numbers * padded.n_parameters**2 <= _ORTHOGONAL_UP_TO
    if affordable and judge.needs_orthogonal_steps(float(refined.loss), stop.target_loss):
        more = _descend(Orthogonal, stop, refined.network, samples, free)
        refined = more if float(more.loss) < float(refined.loss) else refined
    return take_neurons(refined.network, range(width), layer=0), float(refined.loss)


def are_judged_together(students: Network, judge: Judge) -> bool:
    """Whether layers are taken in passing, and judged when all of them are there.

    Those of students too large for a matrix, smooth if there are several, whose neurons can be swapped. Of a single
    layer errors in the answers weigh the neurons (`ecjax.reconstruct.evidence`).
    """
    if is_small(students) or any(isinstance(kind, Mixture) for kind in students.activations):
        return False
    return not judge.is_noisy if len(students.hidden) == 1 else students.smooth


def quick_steps(
    net: Network, samples: Samples, *, stop: Stopping, widths: Sequence[int], careful: bool = False
) -> tuple[Network, float]:
    """Refine all weights of a smooth network without a matrix, by a compiled program for all up to these widths.

    Args:
        net: Where to start.
        samples: Queries and targets.
        stop: When to stop.
        widths: Of its hidden layers and of others that are refined likewise, at least its own.
        careful: Whether a step may take the products that make it a Newton step near the end.

    Returns:
        The refined network, and its loss.
    """
    padded, free = _padded(net, widths)
    refined = _descend(_CAREFUL if careful else Inexact, stop, padded, samples, free)
    return _as_wide(refined.network, net.widths), float(refined.loss)


def affordable_steps(
    net: Network, samples: Samples, *, stop: Stopping, widths: Sequence[int], careful: bool = False
) -> tuple[Network, float]:
    """As `quick_steps`, but where these are dear each step sees some of the samples."""
    if not are_dear(net, samples):
        return quick_steps(net, samples, stop=stop, widths=widths, careful=careful)
    padded, free = _padded(net, widths)
    refined, loss = _cooled(padded, samples, free, stop)
    return _as_wide(refined, net.widths), loss


def are_dear(net: Network, samples: Samples) -> bool:
    """Whether steps of a smooth network on all these samples take so long that it is refined on some of them each."""
    return net.smooth and len(samples.x) * net.n_parameters > _DEAR


def stirred(net: Network, samples: Samples, *, widths: Sequence[int], times: int = 1) -> tuple[Network, float]:
    """Take a network past minima, by a hundred steps that see other samples each; where such are dear, cooler ones.

    Args:
        net: Where to start.
        samples: Queries and targets.
        widths: Of its hidden layers and of others that share the compiled program, at least its own.
        times: How often a hundred steps are taken.

    Returns:
        The network, and its loss, which may be above that of the start.
    """
    padded, free = _padded(net, widths)
    if are_dear(net, samples):
        stop = Stopping(max_steps=times * _STIR.n_steps // _COOLING.n_steps, target_loss=0.0)
        padded, loss = _cooled(padded, samples, free, stop)
        return _as_wide(padded, net.widths), loss
    for _ in range(times):
        padded, loss = _on_some(_STIR, padded, samples, free)
    return _as_wide(padded, net.widths), float(loss)


def _cooled(net: Network, samples: Samples, free, stop: Stopping) -> tuple[Network, float]:
    """A network after steps that see some samples each, as long as they lead on, and its loss."""
    loss = float(samples.value(net))
    for _ in range(stop.max_steps):
        if loss <= stop.target_loss:
            break
        before, (further, after) = loss, _on_some(_COOLING, net, samples, free)
        if float(after) < loss:
            net, loss = further, float(after)
        if not loss < before / _LEADS_ON:
            break
    return net, loss


@compiled
def _on_some(steps: Subsampled, net: Network, samples: Samples, free) -> tuple[Network, jax.Array]:
    end = steps(net, samples, free=free)
    return end.network, end.loss


def _large(net: Network, samples: Samples, stop: Stopping, judge: Judge, is_near: bool) -> tuple[Network, float]:
    """Without a matrix, and no further than rounding: a step costs hundreds of gradients.

    Near the end, where steps are quadratic, it goes a little further: two or three more of them are two more digits.
    First on no more answers than the weights need. Who explains these explains all of them, but for their noise.
    """
    everything = jnp.ones(net.n_parameters, bool)
    if not is_near and are_dear(net, samples):
        return _cooled(net, samples, everything, replace(stop, target_loss=judge.target(stop.target_loss)))
    stop = replace(stop, target_loss=max(stop.target_loss, judge.rounding * (_FURTHER if is_near else 1.0)))

    def refine(net: Network, samples: Samples) -> Student:
        if is_near:
            return _descend(Conjugate, stop, net, samples, everything)
        start = _past_kinks(net, everything, samples, stop, judge)
        if not net.smooth:
            return _descend(Conjugate, stop, start, samples, everything)
        hasty = replace(stop, patience=min(stop.patience, QUICK_PATIENCE))
        quick = _descend(Inexact, hasty, start, samples, everything)
        if judge.fits(float(quick.loss)) or not judge.is_wide_enough(float(quick.loss)):
            return quick
        return _descend(_CAREFUL, hasty, quick.network, samples, everything)

    some = fewer(samples, net, ANSWERS)
    if some is not samples:
        near = refine(net, some).network
        loss = float(samples.value(near))
        if loss <= stop.target_loss and not judge.noise:
            return near, loss
        net = near if loss <= float(samples.value(net)) else net
    refined = refine(net, samples)
    return refined.network, float(refined.loss)


def _past_kinks(net: Network, free, samples: Samples, stop: Stopping, judge: Judge) -> Network:
    """The network refined with softer kinks, if it has any, until they are in their places among the samples."""
    if not any(symmetries(layer.activation, len(layer.b)).homogeneous.any() for layer in net.hidden):
        return net
    sharp, net = net, with_unit_pre_activations(net, samples.x)
    stop = replace(stop, max_steps=min(stop.max_steps, _SOFT_STEPS))
    for sharpness in SHARPNESS:
        if judge.fits(float(samples.value(net))):
            break
        soft = _descend(Conjugate, stop, with_soft_kinks(net, sharpness), samples, free).network
        net = jax.tree.unflatten(jax.tree.structure(sharp), jax.tree.leaves(soft))
    return net


def _shared_width(width: int, pad_to: int) -> int:
    return next((shared for shared in (pad_to // 4, pad_to // 2, pad_to) if width <= shared), width)


def _as_wide(net: Network, widths: Sequence[int]) -> Network:
    """The first neurons of each hidden layer, so many."""
    for layer, width in enumerate(widths):
        net = take_neurons(net, range(width), layer=layer)
    return net


def _padded(net: Network, widths: Sequence[int]) -> tuple[Network, jax.Array]:
    """The network with silent neurons up to these widths, first layer first, and which parameters are its own."""
    own = jax.tree.map(jnp.ones_like, net)
    for layer, width in enumerate(widths):
        net, own = pad_neurons(net, width, layer=layer), pad_neurons(own, width, layer=layer)
    return net, flatten(own)[0] > 0

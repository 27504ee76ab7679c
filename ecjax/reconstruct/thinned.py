"""A large layer thinned in a few strokes, where it holds the teacher's neurons among many others.

Least squares say which neurons the others replace. In a nearly right network those that do nothing go at once: 144
neurons of 784-128-10 on MNIST, at 6.8e-6, lose sixteen at 1e-7 all in all, and the next one costs 1e-4. Where the
teacher's neurons are not quite in their places, others make good for that, and so they cost something; a hundred steps
that see other samples each make good for it in turn, and the next stroke follows. 784-16-10 of softplus on
Fashion-MNIST: 28 neurons to 17 in four strokes, with all sixteen of the teacher's, where one neuron at a time took
twelve refinements.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..base.progress import Progress, silent
from ..judge import Judge
from ..network import Network
from ..objective import Samples
from .eliminate import with_neurons
from .finetune import stirred
from .output import cheapest_first, neurons_of, responses

_FEWER = 4.0  # by which a stroke is made smaller that took too many
_LEAST = 0.01  # of the largest stroke, after which none is tried
_SHARED = 4  # widths up to whose next multiple share a compiled program


def thinned(net: Network, samples: Samples, *, judge: Judge, progress: Progress = silent) -> Network:
    """A network of one hidden layer, without most of its needless neurons if it is mostly right.

    Args:
        net: To narrow.
        samples: Queries and targets in units of their deviation.
        judge: Which neurons do nothing, and what steps may make good.
        progress: Called after every stroke.
    """
    loss = float(samples.value(net))
    if not judge.is_mostly_right(loss):
        return net
    net, loss = _stirred(without_cheapest(net, samples, lets_go=partial(judge.is_idle, loss=loss)), samples)
    lowest, size = loss, 1.0
    while size > _LEAST:
        progress("finetune", 0, 1, widths=net.widths, losses=[loss])
        narrow = without_cheapest(net, samples, lets_go=partial(judge.may_be_made_good, loss=size * loss))
        if narrow is net:
            break
        narrow, after = _stirred(narrow, samples)
        if judge.is_about_as_good(after, lowest):
            net, loss, lowest = narrow, after, min(lowest, after)
        else:
            size /= _FEWER
    return net


def _stirred(net: Network, samples: Samples) -> tuple[Network, float]:
    return stirred(net, samples, widths=[-(-width // _SHARED) * _SHARED for width in net.widths])


def without_cheapest(net: Network, samples: Samples, *, lets_go: Callable[[float], bool]) -> Network:
    """The network without those neurons of its only hidden layer whose going costs little, all at once.

    Args:
        net: To narrow.
        samples: Queries and targets.
        lets_go: Whether neurons may go that cost so much together, by least squares.
    """
    neurons = neurons_of(net)
    going, cost = [], 0.0
    for neuron, rise in cheapest_first(responses(neurons, samples.x), np.asarray(samples.y, float)):
        cost += rise
        if not lets_go(cost):
            break
        going.append(neuron)
    kept = np.delete(np.arange(neurons.width), going)
    return with_neurons(net, 0, neurons.take(kept), samples) if going else net

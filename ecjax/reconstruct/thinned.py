"""Large layers thinned in a few strokes, where they hold the teacher's neurons among many others.

Least squares say which neurons the others replace. In a nearly right network those that do nothing go at once: 144
neurons of 784-128-10 on MNIST, at 6.8e-6, lose sixteen at 1e-7 all in all, and the next one costs 1e-4. Where the
teacher's neurons are not quite in their places, others make good for that, and so they cost something; a hundred steps
that see other samples each make good for it in turn, and the next stroke follows. 784-16-10 of softplus on
Fashion-MNIST: 28 neurons to 17 in four strokes, with all sixteen of the teacher's, where one neuron at a time took
twelve refinements.

Of several hidden layers the last one goes first. A wide layer wants mixtures that the teacher's neurons below do not
give alone, and least squares for these take away some of the teacher's with the others. A student 784-36-36-10 of
784-12-12-10 g on MNIST, at 1.5e-5, holds 11 of the first layer's 12 within 1 - cosine < 1e-2, 6 below 1e-4: the second
layer loses 26 neurons in a stroke (two of the teacher's are nearly linear), then the first one 13, and the network is
at 1.4e-5 with 11 and 9. The first layer before the second: 19 neurons, at 4e-5, 10 of them the teacher's.
"""

from bisect import bisect
from collections.abc import Callable
from functools import partial

import numpy as np

from ..base.progress import Progress, silent
from ..judge import Judge
from ..network import Network
from ..objective import Samples
from .eliminate import inputs_of, with_neurons
from .finetune import MATRIX_UP_TO, stirred
from .output import cheapest_first, neurons_of, responses, wanted

_FEWER = 4.0  # by which a stroke is made smaller that took too many
_LEAST = 0.01  # of the largest stroke, after which none is tried
_SHARED = 4  # widths up to whose next multiple share a compiled program


def thinned(net: Network, samples: Samples, *, judge: Judge, progress: Progress = silent) -> Network:
    """A network without most of its needless neurons, if it is mostly right.

    Args:
        net: To narrow. Several hidden layers are thinned if they are wrong, and too large for steps with a matrix.
        samples: Queries and targets in units of their deviation.
        judge: Which neurons do nothing, and what steps may make good.
        progress: Called after every stroke.
    """
    loss, layers = float(samples.value(net)), range(len(net.widths))[::-1]
    if not _is_worth_it(net, loss, judge):
        return net
    for layer in layers:
        net = without_cheapest(net, samples, layer=layer, lets_go=partial(judge.is_idle, loss=loss))
    net, loss = _stirred(net, samples)
    lowest, size = loss, dict.fromkeys(layers, 1.0)
    while any(size.values()):
        for layer in (layer for layer in layers if size[layer]):
            progress("finetune", 0, 1, widths=net.widths, losses=[loss])
            lets_go = partial(judge.may_be_made_good, loss=size[layer] * loss)
            narrow = without_cheapest(net, samples, layer=layer, lets_go=lets_go)
            if narrow is net:
                size[layer] = 0.0
                continue
            narrow, after = _stirred(narrow, samples)
            if judge.is_about_as_good(after, lowest):
                net, loss, lowest = narrow, after, min(lowest, after)
            else:
                size[layer] = size[layer] / _FEWER if size[layer] > _FEWER * _LEAST else 0.0
    return net


def _is_worth_it(net: Network, loss: float, judge: Judge) -> bool:
    if len(net.widths) == 1:
        return judge.is_mostly_right(loss)
    return net.n_parameters > MATRIX_UP_TO and judge.may_be_wrong(loss) and judge.is_nearly_right(loss)


def _stirred(net: Network, samples: Samples) -> tuple[Network, float]:
    widths = [-(-width // _SHARED) * _SHARED for width in net.widths]
    return stirred(net, samples, widths=widths, times=len(widths))


def without_cheapest(net: Network, samples: Samples, *, lets_go: Callable[[float], bool], layer: int = 0) -> Network:
    """The network without those neurons of a hidden layer whose going costs little, all at once.

    Args:
        net: To narrow.
        samples: Queries and targets.
        lets_go: Whether neurons may go that cost the answers so much together, the others fitted by least squares
            to what the next layer wants.
        layer: Which hidden layer.
    """
    x, neurons = inputs_of(net, layer, samples.x), neurons_of(net, layer)
    targets = np.asarray(wanted(Network(net.layers[layer:]), x, samples.y), float)
    order, rises = zip(*cheapest_first(responses(neurons, x), targets), strict=True) if neurons.width > 1 else ((), ())
    without = lambda n: with_neurons(net, layer, neurons.take(np.delete(np.arange(neurons.width), order[:n])), samples)
    if layer == len(net.widths) - 1:
        cost = np.cumsum([0.0, *rises]).__getitem__
    else:
        before = float(samples.value(net))
        cost = lambda n: float(samples.value(without(n))) - before
    n_going = bisect(range(1, neurons.width), False, key=lambda n: not lets_go(cost(n)))
    return without(n_going) if n_going else net

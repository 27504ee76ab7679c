"""Neurons swapped: those that a large network lacks come in, those that it has no need of go.

Layers found one by one may lack a neuron that too few students held, or have some too many, most of which large ones
have lost before (`thinned`). Once all are there, the network is nearly right, and small, and says so itself: what
it leaves tells which neuron it lacks (`missing`). What can go, where the network is still not exact, is tried: neurons
that do the work of one (`parallel`), and those without which least squares do best. What can be otherwise is tried,
too: scale and shift of neurons for which others do nearly as well (`profile`), and weights that nearly nothing depends
on, which begin anew (`faint`). Steps that see other samples each take a trial past minima, and refinement judges.

Where none of this leads on and the network is still wrong, it gets room: neurons of random vectors in each layer, with
which such steps find what no student held; those that are not needed then go in the same way. 784-16-10 of softplus on
Fashion-MNIST, whose students were at 9e-5, seven of the teacher's neurons within 1 - cosine < 1e-2: 15 neurons at 5e-5,
with four more 5e-6 and fifteen of the teacher's, with two of these gone, and careful steps, 8e-8 and all sixteen.

From an exact network needless neurons go in `eliminate_in_all_layers`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import numpy as np

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..expand import Stopping, fewer
from ..judge import Judge
from ..network import Network
from ..objective import Samples
from .eliminate import removal, removals
from .faint import Directions, faintest_first, without_faint
from .finetune import ANSWERS, MATRIX_UP_TO, QUICK_PATIENCE, affordable_steps, are_dear, stirred
from .last import last_steps
from .missing import Held, Vectors, most_wanted, with_room
from .parallel import parallel_groups
from .profile import TRIALS, profile_of_many, profile_of_one
from .thinned import thinned

_WORTH = 0.1  # share of the residuals that a neuron explains if it is missing; others do not reach a third of it ...
_PERHAPS = 0.03  # ... nor this; a missing one may not explain more, as long as needless ones do some of its work
_LACKING, _MOST_LACKING = 0.25, 8  # of the neurons of the widest layer may come in, and how many at most
_TRIED = 3  # of the neurons that cost least; a missing one's twin may cost more than the least of the teacher's
_ALONE = 10.0  # times as much may be made good for one neuron as for several at once
_PROGRESS = 2.0  # by which refinement has to lower a loss to be repeated
_STEPS = 30  # of a refinement that judges, which is at its minimum after ten to thirty
_HOPELESS = 10.0  # times the loss after stirring, beyond which a trial is not refined ...
_WARM = 1e-6  # ... or this, at which such steps leave networks of images that are right
_STIRS = 3  # of a network with room
_ROOMS = 2  # with other vectors each, before a network counts as wrong for good
_LOOSE = 4  # scales and shifts that are tried, of neurons that few samples tell
_OTHER = 0.5  # change of its pre-activations from which they are others, in units of their deviation

Refined = tuple[Network, float]


@dataclass(frozen=True)
class _Tools:
    """How trials are refined and judged."""

    samples: Samples
    judge: Judge
    stop: Stopping
    widths: tuple[int, ...]  # of hidden layers, those of nearly all trials, which share a compiled program
    held: Held

    @cached_property
    def directions(self) -> Directions:
        """Of the queries."""
        return faintest_first(self.samples.x)

    def padded(self, net: Network) -> list[int]:
        """The widths that a network is computed with."""
        return [max(both) for both in zip(net.widths, self.widths, strict=True)]

    def refined(self, net: Network, *, careful: bool = False) -> Refined:
        return affordable_steps(net, self.samples, stop=self.stop, widths=self.padded(net), careful=careful)

    def stirred(self, net: Network, times: int = 1) -> Refined:
        return stirred(net, self.samples, widths=self.padded(net), times=times)

    def is_clear(self, net: Network, loss: float) -> bool:
        """Whether a network says itself which neurons it has no need of.

        In the only hidden layer of a mostly right one, costs are those of the answers: those of the teacher's neurons
        are a thousand times what is left, before and after steps past minima.
        """
        return len(net.widths) == 1 and self.judge.is_mostly_right(loss)

    def tried(self, net: Network, than: float) -> Refined:
        """A network after steps past minima, and refined if it comes near that loss.

        Among nearly exact ones such steps alone tell, without a neuron too many they stay so; of clear ones, too.
        """
        net, loss = self.stirred(net)
        are_wrong = self.judge.may_be_wrong(than) and self.judge.may_be_wrong(loss)
        is_open = are_wrong and not self.is_clear_without(net, loss, than)
        return self.refined(net) if is_open and self.may_come_near(loss, than) else (net, loss)

    def is_clear_without(self, net: Network, loss: float, than: float) -> bool:
        """Whether a narrower network at this loss after such steps lacks nothing that it had at another one."""
        return self.is_clear(net, loss) and self.judge.is_about_as_good(loss, than)

    def may_do_without(self, net: Network, cost: float, loss: float) -> bool:
        """Whether a neuron that costs so much by least squares may be needless."""
        return not self.is_clear(net, loss) or self.judge.may_be_made_good(cost, _ALONE * loss)

    @staticmethod
    def may_come_near(loss: float, than: float) -> bool:
        """Whether refinement may lead from one loss to about the other one."""
        return loss < _HOPELESS * max(than, _WARM)


def swapped(
    net: Network,
    samples: Samples,
    held: Sequence[Vectors],
    *,
    stop: Stopping,
    judge: Judge,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> Network:
    """The network with the neurons that it lacks, and without those that keep it from being exact.

    Args:
        net: Nearly right, with hidden layers of one activation each, smooth if there are several.
        samples: Queries and targets in units of their deviation.
        held: For each hidden layer the incoming vectors (w, b) of students' neurons, in the answers of the layer below.
        stop: When a refinement stops at the latest.
        judge: What counts as exact.
        progress: Called with every better network.
        deadline: After which no neuron is tried.
    """
    net = thinned(net, samples, judge=judge, progress=progress) if len(net.widths) == 1 else net
    some = fewer(samples, net, ANSWERS)
    most = min(max(1, int(_LACKING * max(net.widths))), _MOST_LACKING)
    target = max(stop.target_loss, judge.limit if are_dear(net, some) else min(judge.rounding, judge.limit))
    stop = Stopping(max_steps=_STEPS, patience=QUICK_PATIENCE, gradient_norm=0.0, target_loss=target)
    students = Held.by(net, some, held)
    tools = _Tools(some, judge, stop, tuple(width + most for width in net.widths), students)
    tell = lambda: progress("finetune", 0, 1, widths=net.widths, losses=[loss])

    net, loss = tools.refined(net)
    for _ in range(most):
        tell()
        missing = most_wanted(net, some, students.vectors(net, some))
        if judge.fits(loss) or missing.share < _WORTH or deadline.leaves_out("neurons that the network lacks"):
            break
        net, loss = tools.refined(missing.within(net))
    rooms, before = 0, net.widths
    while loss > target and not deadline.leaves_out("neurons that the network does not need"):
        tell()
        better = next(_better(net, loss, before, tools), None)
        while better is None and judge.may_be_wrong(loss) and rooms < _ROOMS:
            if deadline.leaves_out("neurons that no student had"):
                break
            better, rooms = _roomier(net, loss, most, rooms, tools), rooms + 1
        if better is None:
            break
        before, (net, loss) = net.widths, better
    return net


def _better(net: Network, loss: float, before: Sequence[int], tools: _Tools) -> Iterator[Refined]:
    """Networks that do better, or as well with a neuron less, and their losses; cheap moves first.

    Args:
        net: To better.
        loss: Which it leaves.
        before: Widths of the network that it was bettered from.
        tools: How trials are refined and judged.
    """
    if tools.judge.fits(loss):
        return _with_faint_anew(net, loss, tools)
    may_be_wrong, is_clear = tools.judge.may_be_wrong(loss), tools.is_clear(net, loss)
    return chain(
        _without_needless(net, loss, before, tools) if is_clear else (),
        _with_missing(net, loss, tools) if may_be_wrong else (),
        _with_one_for_several(net, loss, tools),
        _with_faint_anew(net, loss, tools),
        () if is_clear else _without_needless(net, loss, before, tools),
        _nearer(net, loss, tools),
        _with_other_scales(net, loss, tools) if may_be_wrong and tools.judge.is_mostly_right(loss) else (),
    )


def _with_missing(net: Network, loss: float, tools: _Tools) -> Iterator[Refined]:
    """If it lacks one: of a mostly right network, one more does in a bent valley what careful steps do without it."""
    missing = most_wanted(net, tools.samples, tools.held.vectors(net, tools.samples))
    if missing.share > _PERHAPS:
        if tools.judge.is_mostly_right(loss):
            yield from _nearer(net, loss, tools)
        more, after = tools.refined(missing.within(net))
        if after < loss / _PROGRESS:
            yield more, after


def _with_one_for_several(net: Network, loss: float, tools: _Tools) -> Iterator[Refined]:
    return _narrower(_few(_joined(net, tools.samples)), loss, tools)


def _with_faint_anew(net: Network, loss: float, tools: _Tools) -> Iterator[Refined]:
    rested, n_faint = without_faint(net, tools.samples, tools.directions, tools.judge)
    if n_faint:
        again, after = tools.refined(rested)
        if after < loss / _PROGRESS:
            yield again, after


def _without_needless(net: Network, loss: float, before: Sequence[int], tools: _Tools) -> Iterator[Refined]:
    n_tried = len(net.widths) + (_TRIED - 1 if tools.judge.may_be_wrong(loss) else 0)
    return _narrower(islice(_without_one(net, loss, before, tools), n_tried), loss, tools)


def _narrower(trials: Iterator[Network], loss: float, tools: _Tools) -> Iterator[Refined]:
    """Those that do as well; of a mostly right network the nearest one may get there along a bent valley, too."""
    judge, nearest = tools.judge, None
    for trial in trials:
        narrower, after = tools.tried(trial, loss)
        if judge.does_without(after, loss) or tools.is_clear_without(narrower, after, loss):
            yield narrower, after
        if nearest is None or after < nearest[1]:
            nearest = narrower, after
    if nearest and judge.may_be_wrong(loss) and judge.is_mostly_right(loss) and tools.may_come_near(nearest[1], loss):
        narrower, after = tools.refined(nearest[0], careful=True)
        if judge.does_without(after, loss):
            yield narrower, after


def _with_other_scales(net: Network, loss: float, tools: _Tools) -> Iterator[Refined]:
    for other in islice(_loose(net, tools.samples, tools.judge), _LOOSE):
        other, after = tools.tried(other, loss)
        if after < loss / _PROGRESS:
            yield other, after


def _nearer(net: Network, loss: float, tools: _Tools) -> Iterator[Refined]:
    if net.n_parameters <= MATRIX_UP_TO and not tools.judge.may_be_wrong(loss):
        more, after = last_steps(net, tools.samples, stop=tools.stop)
    else:
        more, after = tools.refined(net, careful=True)
    if after < loss / _PROGRESS:
        yield more, after


def _roomier(net: Network, loss: float, n: int, seed: int, tools: _Tools) -> Refined | None:
    """A better network with room: those neurons that no student had among others, which go again; or none.

    Args:
        net: That is wrong.
        loss: Which it leaves.
        n: How many neurons each layer gets.
        seed: Of their vectors.
        tools: How trials are refined and judged.
    """
    wide = with_room(net, tools.samples, n, seed=seed)
    wide, left = tools.refined(tools.stirred(wide, _STIRS)[0])
    return (wide, left) if left < loss / _PROGRESS else None


def _few(networks: Iterator[Network]) -> Iterator[Network]:
    return islice(networks, _TRIED)


def _joined(net: Network, samples: Samples) -> Iterator[Network]:
    """Networks with one neuron in the place of several that do its work."""
    for layer in range(len(net.widths)):
        for places in parallel_groups(net, layer)[:_TRIED]:
            profile = profile_of_many(net, layer, places, samples)
            yield profile.within(profile.best(), samples)


def _loose(net: Network, samples: Samples, judge: Judge) -> Iterator[Network]:
    """Networks with a neuron of another scale and shift, as far as least squares leave them nearly right, best first.

    Few samples may see where a neuron bends, and the scale that refinement gave it is then any (784-16-10 of g: 1.27
    for 2.98, at a loss of 7e-6 and a right direction; exact from 2.24, and from 3.77).
    """
    found = []
    for layer, width in enumerate(net.widths):
        for neuron in range(width):
            profile = profile_of_one(net, layer, neuron, samples)
            others = TRIALS[np.linalg.norm(TRIALS - profile.now, axis=1) > _OTHER * profile.now[0]]
            cost = profile.left(others) - profile.left(profile.now[None])
            cheapest = np.argsort(cost, kind="stable")[:_TRIED]
            nearly = (i for i in cheapest if judge.is_nearly_right(float(cost[i])))
            found += [(cost[i], layer, neuron, others[i]) for i in nearly]
    for _, layer, neuron, trial in sorted(found, key=lambda each: each[0]):  # profiles are large: made anew
        yield profile_of_one(net, layer, neuron, samples).within(trial, samples)


def _without_one(net: Network, loss: float, before: Sequence[int], tools: _Tools) -> Iterator[Network]:
    """Networks without one neuron: of each layer the one that costs least, then the next ones.

    Costs of different layers do not compare: each is in units of what the next layer wants. A layer that was wider
    before comes first: it had a neuron too many.
    """
    costs = {layer: removals(net, layer, tools.samples) for layer, width in enumerate(net.widths) if width > 1}
    order = {layer: np.argsort(of_layer, kind="stable") for layer, of_layer in costs.items()}
    layers = sorted(costs, key=lambda layer: (net.widths[layer] >= before[layer], layer))
    for number in range(max(net.widths)):
        for layer in (layer for layer in layers if number < net.widths[layer]):
            neuron = int(order[layer][number])
            if tools.may_do_without(net, float(costs[layer][neuron]), loss):
                yield removal(net, layer, neuron, tools.samples)

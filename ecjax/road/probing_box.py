"""All layers above known ones, where these leave a box of hidden states to be asked in: second-order students.

    questions in the box -> expand -> cluster -> the layer, and students over it, which go on -> cluster -> ...
                         -> all layers refined, neurons swapped where it lacks some

A layer between others has bounded inputs below and a curved world above: it is never far out, and no probe isolates its
neurons. Students need not. What makes them quick here is that inputs are few and chosen: in the coordinates of the row
space, as many as the layer has neurons, and near the corners of the box (`ecjax.probe.Reach.corners`), where neurons of
all layers bend.

Such students are nearly right in every layer at once, and more so over layers that were found. So nothing is refined to
the end until all layers are there.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..cluster import ClusterConfig, Clustering
from ..expand import (
    SECOND_ORDER_UP_TO,
    Adam,
    ExpandConfig,
    Expansion,
    LevenbergMarquardt,
    Stopping,
    Subsampled,
    better_of,
    expand,
    fewer,
    renewed,
)
from ..expand.methods import Stages
from ..judge import Judge
from ..network import Activation, Network, hidden_states, n_parameters, random_students, stack, student
from ..objective import Samples
from ..objective.derivatives import sensitivities
from ..objective.scaling import scaling_of_outputs
from ..probe import STUDENTS, Probes, Reach, RowSpace
from ..probe.stack import Stack
from ..reconstruct import Neurons, eliminate_in_all_layers, fit_output, merge, wanted
from ..reconstruct.eliminate import inputs_of, removal, removals
from ..reconstruct.finetune import ANSWERS, quick_steps
from ..reconstruct.last import last_steps
from ..reconstruct.missing import Vectors
from ..reconstruct.output import cheapest_first, responses
from ..reconstruct.swap import swapped
from .layers import cluster_students, held_by
from .probing import Asking, Layered, ProbesFailedError
from .probing_refine import stack_of
from .settings import RecoveryConfig

# Students beside the row space, whose dimensions the first of their layers has neurons; layers above are taken to be no
# wider. Small ones cost nothing, and are at least so wide.
_WIDER, _SMALL_WIDER, _NARROWEST = 1.25, 1.5, 12
# Of 784-64-48-32-10 teachers every student finds every neuron. Small networks may lie awkwardly; so there are many.
_STUDENTS, _SMALL_STUDENTS = (3, 2 / 3), (10, 0.5)  # how many, and the share that has to agree
_ROUNDS = 2
_ANSWERS = 10.0  # for each parameter of a student
_FEWEST = 2000  # questions
# Trained teachers are curved less than drawn ones: with four times as many steps of Adam as elsewhere, second-order
# steps find the way. Those that see other questions each are quick enough for large students: of 100-100-100 neurons
# above the exact first layer of 784-128-80-40-32-10 sigmoid one has all others after 176 s, a step on all questions
# takes 15 s.
_ADAM = Adam(n_steps=8000, learning_rate=5e-3, batch=256)
# Damping is half of the temperature, and falls: neurons come where it is high, and become exact where it is low. The
# same student is at 2.8e-7 after 600 steps at 1e-5, with 5 of the last layer's 32 neurons to 1e-4; at 6e-9 and 18 with
# the last 400 of them so. With 125 steps at first in the place of 400, five of 32 are missing, four after 150 more.
_METHOD: Stages = (
    _ADAM,
    Subsampled(n_steps=400),
    Subsampled(n_steps=100, damping=1e-6),
    Subsampled(n_steps=100, damping=1e-7),
    Subsampled(n_steps=50, damping=1e-7, answers=3.0, products=120),
)
# Over layers that were found students are narrower, and right again after these.
_OVER: Stages = (Subsampled(n_steps=50, damping=1e-6), Subsampled(n_steps=100, damping=1e-7))
# Loss of the network at which nothing is gained by going on, and up to which what is left may come from layers below
# that are known to 1e-9.
_ENOUGH, _EXACT = 1e-14, 1e-12
_REFINED = Stopping(max_steps=100, patience=20, target_loss=_ENOUGH, gradient_norm=0.0)
# What such steps leave lies along directions that answers hardly show, and only a matrix does: some 90 s a step for
# 11,362 weights, three times that for the most that are taken. The layers below leave 1e-18.
_LAST = Stopping(max_steps=5, target_loss=1e-16)
_MATRIX_UP_TO = 16_000
_STANDING = Stopping(max_steps=20, patience=6, target_loss=_ENOUGH, gradient_norm=0.0)  # or standing still
_WITHOUT = Stopping(max_steps=30, patience=5, target_loss=_ENOUGH, gradient_norm=0.0)  # one of its neurons


class Above(NamedTuple):
    """The layers above known ones.

    Attributes:
        stack: The first in the coordinates of the row space, the last is the output.
        layers: Who proposed the neurons of each hidden one.
    """

    stack: Stack
    layers: list[Layered]


class _Agreed(NamedTuple):
    """The network that students agree on, refined."""

    network: Network
    clusterings: list[Clustering]
    loss: float


def above(asking: Asking, reach: Reach, space: RowSpace, kinds: tuple[Activation, ...]) -> Above:
    """All layers above a box.

    Args:
        asking: Whom is asked.
        reach: A box of inputs to the first of these layers, in the coordinates of its row space.
        space: The row space, whose singular values say along which of its directions answers change most.
        kinds: Activations of the hidden layers, first to last.

    Raises:
        ProbesFailedError: If students do not come to agree on a network that explains the answers.
    """
    fan_out = asking.teacher.fan_out or 1
    widths_of = lambda wider: (max(_NARROWEST, int(np.ceil(wider * reach.rank))),) * len(kinds)
    size_of = lambda widths: n_parameters((reach.rank, *widths, fan_out))
    is_few = size_of(widths_of(_SMALL_WIDER)) <= SECOND_ORDER_UP_TO
    widths = widths_of(_SMALL_WIDER if is_few else _WIDER)
    size = size_of(widths)
    with asking.seconds.of("ask"):
        n = max(_FEWEST, int(np.ceil(_ANSWERS * size / fan_out)))
        h = reach.corners(n, space.singular[: reach.rank], asking.rng)
        y = jnp.asarray(reach.teacher(h))
    unit = float(np.median(reach.high - reach.low)) / 2
    x = jnp.asarray((h @ reach.basis.T - reach.middle) / unit)
    scale = scaling_of_outputs(y, reach.rank)
    samples = scale.samples(x, y)
    config = _config(widths, *(_SMALL_STUDENTS if is_few else _STUDENTS), "auto" if is_few else _METHOD)
    agreed = _students_agree(asking, samples, kinds, config)
    first, *rest = stack_of(scale.undo(agreed.network, None)[0])
    w = first.w / unit
    return Above(
        (first._replace(w=w, b=first.b - w @ reach.middle), *rest),
        [
            _proposed(asking, clustering, space if number == 0 else None)
            for number, clustering in enumerate(agreed.clusterings)
        ],
    )


def _config(widths: tuple[int, ...], n_students: int, gamma: float, method: str | Stages) -> RecoveryConfig:
    return RecoveryConfig(
        student_width=widths,
        n_students=n_students,
        expand=ExpandConfig(method=method, answers=_ANSWERS),
        cluster=ClusterConfig(gamma=gamma),
    )


def _students_agree(asking: Asking, samples: Samples, kinds: tuple[Activation, ...], config: RecoveryConfig) -> _Agreed:
    """Rounds of students, until there is a network that explains the answers.

    Raises:
        ProbesFailedError: If there is none.
    """
    shape = (samples.x.shape[1], *config.widths(len(kinds)), samples.y.shape[1])
    begun = random_students(config.n_students, shape, kinds, key=jr.fold_in(asking.key, 0), dtype=samples.x.dtype)
    judge, expansion, trouble = Judge.of(samples, accepted=_EXACT), None, ""
    for turn in range(_ROUNDS):
        if expansion is not None:
            begun = renewed(expansion, key=jr.fold_in(asking.key, turn))
        with asking.seconds.of("expand"):
            progress = lambda phase, done, total, **info: asking.progress(
                phase, done, total, **info, questions=asking.teacher.asked
            )
            trained = expand(begun, samples, config=config.expand, key=jr.fold_in(asking.key, turn), progress=progress)
            expansion = trained if expansion is None else better_of(expansion, trained)
        agreed = _agreed(asking, expansion, samples, config, judge)
        if agreed is None:
            trouble = "agree on nothing"
            continue
        if judge.fits(agreed.loss):
            return agreed
        trouble = f"agree on {'-'.join(map(str, agreed.network.widths))} neurons with a loss of {agreed.loss:.1g}"
    names = "-".join(dict.fromkeys(each.name for each in kinds))
    raise ProbesFailedError(
        f"{config.n_students} {names} students of widths {'-'.join(map(str, shape[1:-1]))} of the hidden layers above, "
        f"asked in {shape[0]} directions of a box, {trouble}."
    )


def _agreed(
    asking: Asking, expansion: Expansion, samples: Samples, config: RecoveryConfig, judge: Judge
) -> _Agreed | None:
    """Layer by layer what students agree on, over which they go on; then all layers refined.

    None if of some layer there is nothing that they agree on.
    """
    is_large = student(expansion.students, 0).n_parameters > SECOND_ORDER_UP_TO
    clusterings, held = [], []
    for depth, kind in enumerate(expansion.students.activations):
        asking.tell("cluster", depth, len(expansion.students.hidden))
        with asking.seconds.of("cluster"):
            best = student(expansion.students, int(np.argmin(expansion.ranked_loss)))
            here = replace(samples, x=inputs_of(best, depth, samples.x))
            above = replace(expansion, students=Network(expansion.students.layers[depth:]))
            clustering = cluster_students(above, here.x, config)
            assert isinstance(clustering, Clustering)  # no mixtures here
            if not clustering.width:
                return None
            clusterings.append(clustering)
            held.append(held_by(above))
            found = merge(clustering, expansion.ranked_loss, kind, clusters=clustering.kept_clusters)
            found = _needed(found, Network(best.layers[depth:]), here, judge)
            below = (*best.layers[:depth], found.layer(here.x.dtype))
            uppers = _carried(above.students, found, here)
        with asking.seconds.of("expand"):
            over = stack([Network((*below, *student(uppers, i).layers)) for i in range(expansion.n_students)])
            over = replace(expansion, students=over)
            expansion = expand(over.students, samples, config=ExpandConfig(method=_OVER)) if is_large else over
    asking.tell("cluster", 1, 1)
    network = student(expansion.students, int(np.argmin(expansion.ranked_loss)))
    asking.tell("reconstruct", 0, 1)
    with asking.seconds.of("reconstruct"):
        network, loss = _refined(asking, network, samples, held, judge, is_large=is_large)
    asking.tell("reconstruct", 1, 1)
    return _Agreed(network, clusterings, loss)


def _refined(
    asking: Asking, network: Network, samples: Samples, held: list[Vectors], judge: Judge, *, is_large: bool
) -> tuple[Network, float]:
    """All layers refined; neurons that it lacks from what students held, and none that it does not need if it fits."""
    if is_large:
        network, loss = _careful(network, samples, judge)
        if network.n_parameters <= _MATRIX_UP_TO:
            network, loss = last_steps(network, samples, stop=_LAST, progress=asking.progress)
        if judge.fits(loss):
            return network, loss
    else:
        done = expand(stack([network]), samples, config=ExpandConfig(method=(LevenbergMarquardt(_REFINED),)))
        network, loss = student(done.students, 0), float(done.loss[0])
    if network.smooth and not judge.fits(loss):
        network = swapped(network, samples, held, stop=_REFINED, judge=judge, progress=asking.progress)
        loss = float(samples.value(network))
    if judge.fits(loss):
        network, loss = eliminate_in_all_layers(network, loss, samples, stop=_WITHOUT, judge=judge)
    return network, loss


def _careful(network: Network, samples: Samples, judge: Judge) -> tuple[Network, float]:
    """A large network refined, and what two clusters were made of taken away: beside copies steps soon stand still."""
    some, widths = fewer(samples, network, ANSWERS), network.widths
    refined = lambda net: quick_steps(net, some, stop=_STANDING, widths=widths, careful=True)
    network, loss = refined(network)
    for layer in range(len(widths)):
        while network.widths[layer] > 1:
            costs = removals(network, layer, some)
            if not judge.is_needless(float(costs.min())):
                break
            narrower, after = refined(removal(network, layer, int(np.argmin(costs)), some))
            if not (judge.fits(after) or judge.is_as_good(after, loss)):
                break
            network, loss = narrower, after
    if not judge.fits(loss) and network.n_parameters > _MATRIX_UP_TO:
        network, _ = refined(network)
    return network, float(samples.value(network))


def _needed(neurons: Neurons, one: Network, samples: Samples, judge: Judge) -> Neurons:
    """Without those that the others replace, as far as the answers of a student hear what its next layer wants."""
    wants = np.asarray(wanted(one, samples.x, samples.y), float)
    if len(one.hidden) > 1:
        by_next = sensitivities(one, hidden_states(one, samples.x))[1]
        wants = wants * np.sqrt(np.mean(np.asarray(by_next, float) ** 2, axis=(0, 1)))
    unit, needless = np.mean(np.var(wants, axis=0)), []
    for neuron, rise in cheapest_first(responses(neurons, samples.x), wants):
        if not judge.is_needless(float(rise / unit)):
            break
        needless.append(neuron)
    return neurons.take(np.delete(np.arange(neurons.width), needless))


def _carried(students: Network, found: Neurons, samples: Samples) -> Network:
    """Students of the layers above, whose inputs are the neurons that were found."""
    uppers = []
    for i in range(len(students.layers[0].w)):
        one = student(students, i)
        fit = fit_output(found, samples.x, jnp.nan_to_num(wanted(one, samples.x, samples.y))).layer(samples.x.dtype)
        uppers.append(Network((replace(one.layers[1], w=fit.w, b=fit.b), *one.layers[2:])))
    return stack(uppers)


def _proposed(asking: Asking, clustering: Clustering, space: RowSpace | None) -> Layered:
    """Who proposed the neurons of a layer: students, in the coordinates that they were trained in."""
    basis, singular = (np.eye(clustering.fan_in_1 - 1), np.zeros(0)) if space is None else space[:2]
    proposed = clustering.neurons, clustering.student, clustering.n_students
    return Layered(Probes(*proposed, basis, singular, STUDENTS, asking.teacher.asked), clustering)

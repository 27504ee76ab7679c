"""One hidden layer by asking.

    row space -> proposals (Hessians, or sweeps far out) -> cluster -> profile, isolate, polish -> columns -> Found

Every phase asks questions of its own.
"""

from contextlib import suppress

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..judge import Judge, answers_by_weights, certify
from ..network import Activation, Layer, Network
from ..objective import Samples
from ..objective.scaling import scaling_of_outputs
from ..probe import (
    LINE,
    N_PAIRS,
    Crossing,
    Isolated,
    NoRestError,
    Profile,
    Reach,
    RowSpace,
    Shallow,
    Shape,
    columns,
    crossing_places,
    fit_profile,
    hessians,
    long_steps,
    named,
    pieces,
    polished,
    proposals,
    shape_far_out,
    sharpened,
    signed,
)
from ..probe.stack import Weights
from ..reconstruct.assemble import Tools, assemble
from ..reconstruct.eliminate import eliminate
from ..reconstruct.output import Neurons
from .probing import FAR, LOOKED_AT, SWEEPS, Asking, Found, Layered, ProbesFailedError, Swept, directions_of
from .probing_refine import network_of

_PRECISE = 1e-12  # answers from which one round of isolated neurons is exact
_AGAIN = 3  # how often in a row sweeps have to show as many neurons
_ENOUGH = 8  # questions for each incoming weight, of a refinement with more neurons than inputs
_CHOICE = 5  # times as many questions to choose these from
_NEAR_AND_FAR = (-2.0, 5.0)  # of them, in powers of two
_POINTS = (2, 4, 8, 16, 32)  # at which Hessians are taken, more and more as long as neurons are missing
# Questions about Hessians, before sweeps are tried. Those at the first points are half of what two sweeps need.
_AFFORDABLE = 100_000
_NEARER = 0.7  # of the points, beside those of other probes
_BESIDE = np.array([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])  # pre-activations, where a crossing is looked at again
_ALONE = 1e-6  # misfit there of a neuron that no other is near
_ROUNDS = 8  # of long steps; three to five reach rounding
_CHECKS, _NEAR = 64, 1e-2  # new questions, and the share of their deviation by which a network may be off
# Of the least misfit: up to which another activation may be the right one, and by which those of one function differ.
_DOUBTFUL, _SAME = 3.0, 1e-3
_NO_PROFILE = 1e-2  # misfit of directions that are no neurons'; of neurons some 1e-5


def shallow(asking: Asking) -> Found:
    """A network of one hidden layer, in the inputs as they are.

    Raises:
        ProbesFailedError: If no probe finds one that explains the answers.
    """
    reach, space, is_straight = asking.begun()
    candidates = asking.candidates(0, is_straight)
    trouble = []
    ways = [last_layer, by_sweeps]
    if reach.is_box:
        ways = [last_layer]
    elif is_straight or space.is_all:  # with more neurons than inputs, Hessians show what is not there
        ways = [by_sweeps] if is_straight else ways[::-1]
    for way in ways:
        try:
            net, layer = way(asking, reach, space, candidates)
        except ProbesFailedError as error:
            trouble.append(str(error))
            continue
        if way != ways[-1] and not _explains(asking, net, reach):
            trouble.append(f"what {layer.probes.method} show does not explain new answers.")
            continue
        return in_inputs(asking, Found(net.stack, (layer,), reach))
    raise ProbesFailedError(" ".join(trouble))


def in_inputs(asking: Asking, found: Found) -> Found:
    """The network with its first layer in the inputs as they are."""
    first, *above = found.stack
    reach = found.reach
    if reach.rank == len(reach.low) or len(first.b) != reach.rank:
        w = first.w @ reach.basis
    else:
        with asking.seconds.of("measure"):
            w = columns(reach, found.stack, rng=asking.rng)
    return found._replace(stack=(Weights(w, first.b - w @ reach.rest, first.activation), *above))


def last_layer(asking: Asking, reach: Reach, space: RowSpace, candidates: list[Activation]) -> tuple[Shallow, Layered]:
    """The last hidden layer from Hessians of the answers, in the coordinates of the row space.

    Raises:
        ProbesFailedError: If there are not as many neurons as directions.
    """
    found, n_found, rank = np.zeros((0, reach.rank, reach.rank)), 0, reach.rank
    for n_points in _POINTS:
        if n_points > _POINTS[0] and n_points * rank**2 > _AFFORDABLE:
            break
        asking.tell("probe", len(found), 0)
        with asking.seconds.of("probe"):
            n_there = n_points - round(len(found) / (asking.teacher.fan_out or 1))
            points = _nearer_to_the_middle(reach, max(1, n_there), asking)
            more = hessians(reach, points, precision=asking.teacher.precision, scale=reach.scale)
            found = np.concatenate([found, more])
            vectors, proposer = proposals(found, rng=asking.rng)
        if len(vectors) < 2:
            continue
        layer = asking.clustered(vectors, proposer, N_PAIRS, N_PAIRS / 2, space, "Hessians")
        n_found = layer.clustering.width
        if n_found == rank:
            directions = directions_of(layer.clustering)
            measured = _measured_within if reach.is_box else _measured
            return measured(asking, reach, directions, candidates), layer
    raise ProbesFailedError(f"Hessians show {n_found} neurons in {rank} directions.")


def by_sweeps(asking: Asking, reach: Reach, space: RowSpace, candidates: list[Activation]) -> tuple[Shallow, Layered]:
    """The first hidden layer from crossings far out, be there more neurons than inputs or not.

    Raises:
        ProbesFailedError: If nothing crosses, or sweeps do not come to agree.
    """
    shape = shape_far_out(reach, distance=FAR * reach.scale, rng=asking.rng)
    swept, kept = Swept([], []), []
    for number in range(SWEEPS):
        swept = asking.swept(reach, shape, swept)
        if len(swept.crossings) < 2 or swept.proposer[-1] < 1:
            continue  # nothing to agree with
        layer = asking.agreed(swept, space)
        width = layer.clustering.width
        kept.append(width)
        if width == reach.rank and not space.is_all:
            return _measured(asking, reach, directions_of(layer.clustering), candidates), layer
        is_steady = width > 1 and kept[-_AGAIN:] == [width] * _AGAIN
        if is_steady and number >= min(reach.rank, SWEEPS - 1):  # as many crossings as a plane has dimensions
            net = _overcomplete(asking, reach, swept.crossings, layer, candidates, shape)
            if _explains(asking, net, reach) or number + _AGAIN > SWEEPS:
                return net, layer
            kept.clear()  # some neuron was never alone: further sweeps may show it
    raise ProbesFailedError(
        f"{SWEEPS} sweeps far out show {', '.join(map(str, kept)) or 'no'} neurons in {reach.rank} directions."
    )


def _explains(asking: Asking, net: Shallow, reach: Reach) -> bool:
    """Whether a network is near the answers to new questions, in the coordinates of the row space."""
    u = reach.points(_CHECKS, asking.rng)
    y = reach(u)
    return bool(np.mean(net.errors(u, y) ** 2) < asking.rough(_NEAR) ** 2 * np.mean(np.var(y, axis=0)))


def _overcomplete(
    asking: Asking,
    reach: Reach,
    crossings: list[Crossing],
    layer: Layered,
    candidates: list[Activation],
    shape: Shape,
) -> Shallow:
    """More neurons than inputs: each is looked at where it crosses, all others being far from their middle."""
    asking.tell("measure", 0, 1)
    clustering = layer.clustering
    with asking.seconds.of("measure"):
        line, sloped = reach.scale * LINE, shape == "kinks"
        members = [[crossings[i] for i in clustering.aligned(k).members] for k in clustering.kept_clusters]
        lines = [reach(each[0].place + line[:, None] * each[0].direction) for each in members]
        kind, _ = named(candidates, line, lines[:LOOKED_AT], sloped=sloped)
        fits = [fit_profile(kind, line, one, sloped=sloped) for one in lines]
        if not kind.symmetry.homogeneous:  # whose straight pieces meet where it crosses
            members = [_centred(reach, kind, each, fit, sloped) for each, fit in zip(members, fits, strict=True)]
        found = np.stack([_plane(each, fit) for each, fit in zip(members, fits, strict=True)])
    if kind.symmetry.homogeneous:
        found = found / np.linalg.norm(found[:, :-1], axis=1, keepdims=True)
    with asking.seconds.of("measure"):
        roughly = Shallow(kind, found[:, :-1], found[:, -1], np.stack([fit.a for fit in fits], axis=1), fits[0].c)
        x = _telling(roughly, reach, _ENOUGH * found.size, asking.rng)
        y = reach(x)
        if kind.symmetry.linear:
            roughly = signed(roughly, x, y)
            found = np.concatenate([roughly.w, roughly.b[:, None]], axis=1)
        samples = Samples(jnp.asarray(x), jnp.asarray(y))
        scale = scaling_of_outputs(samples.y, reach.rank)
        samples = scale.samples(samples.x, samples.y)
        judge = Judge.of(samples)
        output = Layer(jnp.zeros((samples.y.shape[1], len(found))), jnp.zeros(samples.y.shape[1]))
        within = Network((Layer(jnp.asarray(found[:, :-1]), jnp.asarray(found[:, -1]), kind), output))
        tools = Tools(asking.stop, judge, keep_linear=False)
        done = assemble(Neurons(found, kind), samples, within, tools)
        if done.fits and not certify(done.network, samples.x, samples.y, judge=judge).certified:
            done = eliminate(done, samples, tools)  # a neuron too many has a direction in which no answer changes
        network, _ = scale.undo(done.network, None)
    asking.tell("measure", 1, 1)
    first, last = network.layers
    return Shallow(kind, *(np.asarray(each, float) for each in (first.w, first.b, last.w, last.b)))


def _measured(asking: Asking, reach: Reach, directions: np.ndarray, candidates: list[Activation]) -> Shallow:
    """Activation, scales, biases and output layer of as many neurons as directions."""
    asking.tell("measure", 0, 1)
    with asking.seconds.of("measure"):
        dual = np.linalg.inv(directions)
        size = np.linalg.norm(dual, axis=0)
        places = reach.scale * LINE  # along each dual direction, made a unit vector
        lines = [reach(places[:, None] * one[None]) for one in (dual / size).T]
        profiles = _fits(asking, candidates, places, lines)
        nets = []
        for kind, fits in profiles:
            with suppress(np.linalg.LinAlgError):  # neurons of a wrong activation need not be independent
                nets.append(_from_profiles(asking, reach, directions, size, kind, fits))
        if not nets:
            names = " nor ".join(kind.name for kind, _ in profiles)
            raise ProbesFailedError(f"Profiles along {len(directions)} directions make no network of {names}.")
        net = _nearest(asking, reach, nets)
    asking.tell("measure", 1, 1)
    return net


def _nearest(asking: Asking, reach: Reach, nets: list[Shallow]) -> Shallow:
    """The network that is nearest to the answers to new questions, which one alone need not be asked.

    Raises:
        ProbesFailedError: If there is none.
    """
    if not nets:
        raise ProbesFailedError("what directions there are make no network.")
    if len(nets) == 1:
        return nets[0]
    u = reach.points(_CHECKS, asking.rng)
    y = reach(u)
    return min(nets, key=lambda net: float(np.mean(net.errors(u, y) ** 2)))


def _from_profiles(
    asking: Asking, reach: Reach, directions: np.ndarray, size: np.ndarray, kind: Activation, fits: list[Profile]
) -> Shallow:
    """The network of one activation, from profiles along the dual directions of so much length."""
    alpha, b = np.array([fit.alpha for fit in fits]) * size, np.array([fit.beta for fit in fits])
    shrink = 1 / np.abs(alpha) if kind.symmetry.homogeneous else np.ones_like(alpha)  # their scale is anything
    w, b = (shrink * alpha)[:, None] * directions, shrink * b
    if kind.symmetry.homogeneous:
        w = pieces(reach, kind, w, b, asking.rng)
    else:
        w, b = _one_by_one(asking, reach, kind, w, b)
    return polished(reach, kind, w, b, points=lambda n: reach.points(n, asking.rng))


def _one_by_one(
    asking: Asking, reach: Reach, kind: Activation, w: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of neurons measured where the others have come to rest."""
    try:
        for _ in range(1 if asking.teacher.precision < _PRECISE else 2):  # the first is as rough as its start
            isolated = Isolated(reach, kind, w, b, asking.rng)
            w, b = isolated.w, isolated.b
    except NoRestError:
        pass  # sin and cos: what is left to do is the refinement's
    return w, b


def _measured_within(asking: Asking, reach: Reach, directions: np.ndarray, candidates: list[Activation]) -> Shallow:
    """The same in a box, where lines are short, and no neuron is alone."""
    asking.tell("measure", 0, 1)
    with asking.seconds.of("measure"):
        dual, middle = np.linalg.inv(directions).T, reach.middle
        places = LINE / LINE.max()
        longest = np.array([min(-low, high) for low, high in (reach.segment(middle, one) for one in dual)])
        lines = [reach(middle + far * places[:, None] * one) for far, one in zip(longest, dual, strict=True)]
        kind, fits = _fits(asking, candidates, places, lines)[0]
        w = (np.array([fit.alpha for fit in fits]) / longest)[:, None] * directions
        b = np.array([fit.beta for fit in fits]) - w @ middle
        fitted = lambda w, b: polished(reach, kind, w, b, points=lambda n: reach.points(n, asking.rng))
        net, least = fitted(w, b), np.inf
        taken = long_steps(reach, _nearer_to_the_middle(reach, _POINTS[0], asking))
        for _ in range(_ROUNDS):
            w = sharpened(net, taken)
            change = float(np.abs(w - net.w).max())
            if not change < least / 2:
                break  # as small as rounding lets it become
            net, least = fitted(w, net.b), change
    asking.tell("measure", 1, 1)
    return net


def _nearer_to_the_middle(reach: Reach, n: int, asking: Asking) -> np.ndarray:
    """Points of second differences, beside those of other probes."""
    return reach.middle + _NEARER * (reach.points(n, asking.rng) - reach.middle)


def _fits(
    asking: Asking, candidates: list[Activation], places: np.ndarray, lines: list[np.ndarray]
) -> list[tuple[Activation, list[Profile]]]:
    """The activation, and the profile of every neuron; of rough answers, others that fit about as well, too.

    Raises:
        ProbesFailedError: If most of the lines are no profiles.
    """
    strongest = np.argsort([-np.ptp(line, axis=0).max() for line in lines])[:LOOKED_AT]
    kind, misfit = named(candidates, places, [lines[i] for i in strongest])
    kinds = [kind]
    if asking.teacher.precision > _PRECISE:  # directions are so far off that others are heard on the lines
        least = misfit[kind.name]
        for one in candidates:
            is_other = all(abs(misfit.get(one.name, np.inf) - misfit[same.name]) > _SAME * least for same in kinds)
            kinds += [one] if is_other and misfit.get(one.name, np.inf) < _DOUBTFUL * least else []
    found = [(one, [fit_profile(one, places, line) for line in lines]) for one in kinds]
    if np.median([fit.misfit for fit in found[0][1]]) > asking.rough(_NO_PROFILE):
        raise ProbesFailedError(f"Along {len(lines)} directions the answers are no profiles of single neurons.")
    return found


def _telling(net: Shallow, reach: Reach, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n rank"]:
    """Of many possible questions, near and far, those whose answers say most of the weights.

    These are the ones with the highest leverage, which needs no answers: neurons that nearly do the same are apart only
    where few of the random questions are. Of 2-8-1 teachers the weights are known some thousand times better.
    """
    pool = reach.points(_CHOICE * n, rng) * 2.0 ** rng.uniform(*_NEAR_AND_FAR, (_CHOICE * n, 1))
    by_weights = np.asarray(answers_by_weights(network_of(list(net.stack)), jnp.asarray(pool)))
    basis = np.linalg.qr(by_weights.reshape(len(pool) * len(net.c), -1))[0]
    telling = np.sum(basis.reshape(len(pool), -1) ** 2, axis=1)
    return pool[np.argsort(telling)[-n:]]


def _centred(reach: Reach, kind: Activation, crossings: list[Crossing], fit: Profile, sloped: bool) -> list[Crossing]:
    """The crossings of one neuron, whose places a sweep knows to a share of the scale, moved to where the first one is.

    Along the first one's line the profile says where the neuron is; along the others the same profile, shifted, does.
    Those that others come too near to are left out, as far as a plane does without them.
    """
    typical, t = crossings[0].direction, _BESIDE / abs(fit.alpha)
    signs = [float(np.sign(each.direction @ typical)) for each in crossings]
    lines = reach(
        np.concatenate(
            [each.place + sign * t[:, None] * each.direction for each, sign in zip(crossings, signs, strict=True)]
        )
    )
    places, misfit = crossing_places(kind, fit, t, np.split(lines, len(crossings)), sloped=sloped)
    order = np.argsort(misfit, kind="stable")
    kept = order[: max(len(typical), int(np.sum(misfit < _ALONE)))]
    shift = places + fit.beta / fit.alpha
    return [
        crossings[i]._replace(place=crossings[i].place + signs[i] * shift[i] * crossings[i].direction) for i in kept
    ]


def _plane(crossings: list[Crossing], fit: Profile) -> np.ndarray:
    """Weights and bias of a neuron from where it crosses: the plane through all these places.

    A direction that is right to 1e-7 is wrong by 1e-2 at a distance of 1e5; places that far apart say it to 1e-10.
    """
    typical = crossings[0].direction
    signs = np.sign([each.direction @ typical for each in crossings])
    middle = -fit.beta / fit.alpha
    places = np.stack(
        [each.place + sign * middle * each.direction for each, sign in zip(crossings, signs, strict=True)]
    )
    normal = typical
    if len(places) >= len(typical) > 1:
        normal = np.linalg.svd(places - places.mean(axis=0))[2][-1]
        normal = normal * np.sign(normal @ typical)
    return fit.alpha * np.append(normal, -normal @ places.mean(axis=0))

"""The phases of a recovery by asking: from questions about nothing to the last hidden layer, in the row space's terms.

    row space  ->  proposals (Hessians, or sweeps far out)  ->  cluster  ->  profile, isolate, polish  ->  Found

Every phase asks questions of its own.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.progress import Progress, Stopwatch
from ..cluster import ClusterConfig, Clustering, cluster_neurons
from ..data import Teacher
from ..expand import Stopping
from ..judge import Judge
from ..network import ACTIVATIONS, Activation, Layer, Network
from ..objective import Samples
from ..objective.scaling import scaling_of_outputs
from ..probe import (
    DIRECTIONS,
    LINE,
    N_PAIRS,
    Crossing,
    Isolated,
    NoRestError,
    Probes,
    Profile,
    RowSpace,
    Shallow,
    Shape,
    columns,
    fit_profile,
    hessians,
    named,
    natural_scale,
    polished,
    proposals,
    row_space,
    shape_far_out,
    sweep,
)
from ..probe.differences import Asked
from ..reconstruct.assemble import Tools, assemble
from ..reconstruct.eliminate import eliminate
from ..reconstruct.output import Neurons

_AGREED = 1e-3  # distance of vectors that agree, in units of their norm; probes are right to 1e-5, or quite wrong
_PRECISE = 1e-12  # answers from which one round of isolated neurons is exact
_ROUGH = 4.0  # of eps^(1/4): in float32 the worst of 128 neurons is 0.03 off
_FAR = 1e5  # of a sweep, in units of the inputs' scale
_SWEEPS, _AGAIN = 12, 3  # sweeps at most; how often in a row they have to show as many neurons
_ENOUGH = 8  # questions for each incoming weight, of a refinement with more neurons than inputs
_POINTS = (2, 4, 8, 16, 32)  # at which Hessians are taken, more and more as long as neurons are missing
_AFFORDABLE = 100_000  # questions about Hessians, before sweeps are tried
_CHECKS, _NEAR = 64, 1e-2  # new questions, and the share of their deviation by which a network may be off
LOOKED_AT = 7  # neurons whose profiles name the activation
_NO_PROFILE = 1e-2  # misfit of directions that are no neurons'; of neurons some 1e-5
SPREAD = 0.7  # of the last questions, in units of the inputs' scale


class ProbesFailedError(ValueError):
    """No probe found a network that explains the answers."""


class Found(NamedTuple):
    """The last hidden layer as probes found it."""

    net: Shallow  # in the coordinates of the row space
    probes: Probes
    clustering: Clustering


class Asking:
    """One recovery by asking: the teacher, the precision of its answers, and what all probes share."""

    def __init__(
        self,
        teacher: Teacher,
        activation: Activation | None,
        key: PRNGKeyArray,
        progress: Progress,
        stop: Stopping,
    ):
        self.teacher, self.progress, self.seconds, self.stop = teacher, progress, Stopwatch(), stop
        self.rng = np.random.default_rng(np.asarray(jr.key_data(key), np.uint32))
        known = [one for one in ACTIVATIONS.values() if not one.symmetry.polynomial]
        self.candidates = known if activation is None else [activation]
        self.activation = activation

    def tell(self, phase: str, done: int, total: int) -> None:
        """Progress, with the questions asked so far."""
        self.progress(phase, done, total, questions=self.teacher.asked)

    def rough(self, limit: float) -> float:
        """A limit of what second differences make, where answers are less precise than float64."""
        return max(limit, _ROUGH * self.teacher.precision**0.25)

    def shallow(self) -> tuple[Found, RowSpace]:
        """A network of one hidden layer, in the inputs as they are."""
        teacher, rng, fan_in = self.teacher, self.rng, self.teacher.fan_in
        self.tell("row space", 0, 1)
        with self.seconds.of("row space"):
            teacher(np.zeros((1, fan_in)))  # the first answer tells how precise answers are
            scale = natural_scale(teacher, fan_in, precision=teacher.precision, rng=rng)
            space = row_space(
                teacher,
                fan_in,
                precision=teacher.precision,
                scale=scale.unit,
                rng=rng,
                is_straight=scale.is_straight,
            )
        # Any activation that grows looks like relu from far enough: it is no candidate where nothing bends.
        straight = [one for one in self.candidates if one.symmetry.homogeneous == scale.is_straight]
        self.candidates = straight or self.candidates
        self.tell("row space", 1, 1)
        ask = space.within(teacher)
        trouble = []
        ways = [self.last_layer, self.by_sweeps]
        if scale.is_straight or space.is_all:  # with more neurons than inputs, Hessians show what is not there
            ways = [self.by_sweeps] if scale.is_straight else ways[::-1]
        for way in ways:
            try:
                found = way(ask, space)
            except ProbesFailedError as error:
                trouble.append(str(error))
                continue
            net = found.net
            if way != ways[-1] and not self.explains(ask, net, space):
                trouble.append(f"what {found.probes.method} show does not explain new answers.")
                continue
            if space.is_all or len(net.w) != space.rank:
                return found._replace(net=net._replace(w=net.w @ space.basis)), space
            with self.seconds.of("measure"):
                w = columns(teacher, net.activation, space.basis, net.w, net.b, net.a, scale=space.scale, rng=rng)
            return found._replace(net=net._replace(w=w)), space
        raise ProbesFailedError(" ".join(trouble))

    def last_layer(self, ask: Asked, space: RowSpace) -> Found:
        """The last hidden layer from Hessians of the answers, in the coordinates of the row space.

        Raises:
            ProbesFailedError: If there are not as many neurons as directions.
        """
        found, n_found = np.zeros((0, space.rank, space.rank)), 0
        for n_points in _POINTS:
            if n_points * space.rank**2 > _AFFORDABLE:
                break
            self.tell("probe", len(found), 0)
            with self.seconds.of("probe"):
                n_there = n_points - round(len(found) / (self.teacher.fan_out or 1))
                options = {"precision": self.teacher.precision, "scale": space.scale, "rng": self.rng}
                found = np.concatenate([found, hessians(ask, space.rank, n_points=max(1, n_there), **options)])
                vectors, proposer = proposals(found, rng=self.rng)
            if len(vectors) < 2:
                continue
            vectors = np.concatenate([vectors, np.zeros((len(vectors), 1))], axis=1)
            probes = Probes(
                vectors, proposer, N_PAIRS, space.basis, space.singular, "Hessians", self.teacher.asked
            )  # fmt: skip
            clustering = self.clustered(probes)
            n_found = clustering.width
            if n_found == space.rank:
                directions = np.stack([clustering.aligned(k).vectors[0][:-1] for k in clustering.kept_clusters])
                directions /= np.linalg.norm(directions, axis=1, keepdims=True)
                return Found(self.measured(ask, directions, space.scale), probes, clustering)
        raise ProbesFailedError(f"Hessians show {n_found} neurons in {space.rank} directions.")

    def explains(self, ask: Asked, net: Shallow, space: RowSpace) -> bool:
        """Whether a network is near the answers to new questions, in the coordinates of the row space."""
        u = SPREAD * space.scale * self.rng.standard_normal((_CHECKS, space.rank))
        y = ask(u)
        return bool(np.mean(net.errors(u, y) ** 2) < self.rough(_NEAR) ** 2 * np.mean(np.var(y, axis=0)))

    def by_sweeps(self, ask: Asked, space: RowSpace) -> Found:
        """The first hidden layer from crossings far out, be there more neurons than inputs or not.

        Raises:
            ProbesFailedError: If nothing crosses, or sweeps do not come to agree.
        """
        distance, precision = _FAR * space.scale, self.teacher.precision
        shape = shape_far_out(ask, space.rank, distance=distance, rng=self.rng)
        crossings, proposer, kept = [], [], []
        for number in range(_SWEEPS):
            self.tell("sweep", number, _SWEEPS)
            with self.seconds.of("probe"):
                options = {"distance": distance, "scale": space.scale, "precision": precision, "rng": self.rng}
                swept = sweep(ask, space.rank, shape, **options)
            crossings += swept
            proposer += [number] * len(swept)
            if number == 0 or len(crossings) < 2:
                continue
            directions = np.stack([crossing.direction for crossing in crossings])
            vectors = np.concatenate([directions, np.zeros((len(directions), 1))], axis=1)
            probes = Probes(
                vectors, np.array(proposer), number + 1, space.basis, space.singular, "sweeps", self.teacher.asked
            )
            clustering = self.clustered(probes)
            kept.append(clustering.width)
            if clustering.width == space.rank and not space.is_all:
                directions = np.stack([clustering.aligned(k).vectors[0][:-1] for k in clustering.kept_clusters])
                directions /= np.linalg.norm(directions, axis=1, keepdims=True)
                return Found(self.measured(ask, directions, space.scale), probes, clustering)
            is_steady = kept[-1] > 1 and kept[-_AGAIN:] == [kept[-1]] * _AGAIN
            if is_steady and number >= min(space.rank, _SWEEPS - 1):  # as many crossings as a plane has dimensions
                found = self.overcomplete(ask, space, crossings, probes, clustering, shape)
                if self.explains(ask, found.net, space) or number + _AGAIN > _SWEEPS:
                    return found
                kept.clear()  # some neuron was never alone: further sweeps may show it
        raise ProbesFailedError(
            f"{_SWEEPS} sweeps far out show {', '.join(map(str, kept)) or 'no'} neurons in {space.rank} directions."
        )

    def overcomplete(
        self,
        ask: Asked,
        space: RowSpace,
        crossings: list[Crossing],
        probes: Probes,
        clustering: Clustering,
        shape: Shape,
    ) -> Found:
        """More neurons than inputs: each is looked at where it crosses, all others being far from their middle."""
        self.tell("measure", 0, 1)
        with self.seconds.of("measure"):
            line, sloped = space.scale * LINE, shape == "kinks"
            members = [[crossings[i] for i in clustering.aligned(k).members] for k in clustering.kept_clusters]
            lines = [ask(each[0].place + line[:, None] * each[0].direction) for each in members]
            kind, _ = named(self.candidates, line, lines[:LOOKED_AT], sloped=sloped)
            fits = [fit_profile(kind, line, one, sloped=sloped) for one in lines]
            found = np.stack([_plane(each, fit) for each, fit in zip(members, fits, strict=True)])
        if kind.symmetry.homogeneous:
            found = found / np.linalg.norm(found[:, :-1], axis=1, keepdims=True)
        with self.seconds.of("measure"):
            x = SPREAD * space.scale * self.rng.standard_normal((_ENOUGH * found.size, space.rank))
            samples = Samples(jnp.asarray(x), jnp.asarray(ask(x)))
            scale = scaling_of_outputs(samples.y, space.rank)
            samples = scale.samples(samples.x, samples.y)
            judge = Judge.of(samples)
            output = Layer(jnp.zeros((samples.y.shape[1], len(found))), jnp.zeros(samples.y.shape[1]))
            within = Network((Layer(jnp.asarray(found[:, :-1]), jnp.asarray(found[:, -1]), kind), output))
            tools = Tools(self.stop, judge, keep_linear=False)
            done = assemble(Neurons(found, kind), samples, within, tools)
            if done.fits:
                done = eliminate(done, samples, tools)
            network, _ = scale.undo(done.network, None)
        self.tell("measure", 1, 1)
        first, last = network.layers
        return Found(Shallow(kind, *(np.asarray(each, float) for each in (first.w, first.b, last.w, last.b))),
                     probes, clustering)  # fmt: skip

    def clustered(self, probes: Probes) -> Clustering:
        """What independent probes agree on: half of the pairs of Hessians, or some sweeps.

        Two sweeps are enough where several outputs have told which crossings are alone, and up to three otherwise.
        """
        n, is_told = probes.n_proposers, (self.teacher.fan_out or 1) > 1
        needed = n / 2 if probes.method == "Hessians" else 2 if is_told else max(2, min(3, n // 2))
        near = self.rough(_AGREED) * float(np.median(np.linalg.norm(probes.vectors, axis=1)))
        config = ClusterConfig(metric="euclidean", gamma=needed / n, policy="height", height=near)
        with self.seconds.of("cluster"):
            return cluster_neurons(
                probes.vectors, probes.proposer, n_students=n, symmetry=DIRECTIONS, config=config
            )  # fmt: skip

    def measured(self, ask: Asked, directions: np.ndarray, scale: float) -> Shallow:
        """Activation, scales, biases and output layer of as many neurons as directions."""
        self.tell("measure", 0, 1)
        with self.seconds.of("measure"):
            dual = np.linalg.inv(directions)
            size = np.linalg.norm(dual, axis=0)
            places = scale * LINE  # along each dual direction, made a unit vector
            lines = [ask(places[:, None] * one[None]) for one in (dual / size).T]
            strongest = np.argsort([-np.ptp(line, axis=0).max() for line in lines])[:LOOKED_AT]
            kind, _ = named(self.candidates, places, [lines[i] for i in strongest])
            fits = [fit_profile(kind, places, line) for line in lines]
            if np.median([fit.misfit for fit in fits]) > self.rough(_NO_PROFILE):
                raise ProbesFailedError(f"Along {len(lines)} directions the answers are no profiles of single neurons.")
            alpha, b = np.array([fit.alpha for fit in fits]) * size, np.array([fit.beta for fit in fits])
            shrink = 1 / np.abs(alpha) if kind.symmetry.homogeneous else np.ones_like(alpha)  # their scale is anything
            w, b = (shrink * alpha)[:, None] * directions, shrink * b
            try:
                for _ in range(1 if self.teacher.precision < _PRECISE else 2):  # the first is as rough as its start
                    isolated = Isolated(ask, kind, w, b, self.rng)
                    w, b = isolated.w, isolated.b
            except NoRestError:
                pass  # sin and cos: what is left to do is the refinement's
            net = polished(ask, kind, w, b, scale=SPREAD * scale, rng=self.rng)
        self.tell("measure", 1, 1)
        return net


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

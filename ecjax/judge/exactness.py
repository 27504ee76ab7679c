"""The judge: what counts as exact, given the precision and noise of the answers, and how many numbers explain how many
weights. The one place where a loss is compared with a limit; all other code asks.

Losses are mean squared errors in units of the targets' variance. Every limit has its reason beside it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

# An answer is a sum of contributions that may be some hundred times larger than itself, each rounded, and a solver that
# works with rounded gradients stops a few times above that: 10,000 eps leaves room. In float64 the loss is then 5e-24,
# more than ten orders of magnitude below what networks of a wrong width reach.
_ROUNDINGS = 1e4
# Where students reached less, rounding has been shown to be smaller here. A network of the teacher's width does as well
# as wide students do but for a condition of its own; a factor 100 in amplitude bounds that ...
_BEYOND_STUDENTS = 1e4
# ... and no answer is computed to better than some ten operations on numbers of its own size, each a few roundings.
_FEWEST_ROUNDINGS = 1e2
_ROUNDINGS_AT_REST = 1e1  # that refined networks of toys leave at most
# Wider students imitate better over slightly wrong layers than the teacher's own width, by a factor 1e3 at most (deep
# toys and images), as long as that is a loss which a narrower network does not reach.
_ROOM_ABOVE, _RIGHT_ABOVE = 1e3, 1e-6
# A loss is near that of students if it is no more than 10 times that in amplitude: so 203 of 205 recovered toys ended.
_NEAR_STUDENTS = 1e2
# Loss below which rounding in the normal equations, which square a condition number of up to 1e6, may be what is in the
# way (1e-16 * 1e6 squared is 1e-20; with gradients of that error losses up to 1e-8 were seen to come down by
# orthogonal factors); above, it is a wrong network.
_NEARLY = 1e-8
# Rise of a loss that more steps make good for, without a neuron that is not needed: 1.25 at most were seen, and 1.8
# where a network that lacked one lost another one of the teacher's.
_AS_GOOD = 1.5
# Rise of a loss after steps that end anywhere about a minimum, of a network with fewer neurons in excess, which hide
# what the others lack: 3 was seen where nothing was lost (28 neurons to 16).
_ABOUT = 4.0
# Loss from which the scale of a neuron may be what is wrong, or one neuron too many; above, it is most of them (images:
# one wrong scale left 2e-5, a network with twelve of sixteen neurons 5e-5).
_MOSTLY_RIGHT = 3e-5
# Share of a loss that neurons may cost, all together, and count as doing nothing (784-128-10: sixteen cost 0.018 of it,
# the next one 14 times as much as all that is left).
_IDLE = 0.05
# Likewise, to be made good by a hundred steps (784-16-10 of softplus: 28 neurons to 18, at 27 times the loss; the
# teacher's cheapest costs 1e-3, 80 times what is left then).
_MADE_GOOD = 30.0
# Share of the targets' variance, left unexplained by least squares on candidate neurons, from which a refinement may
# still recover; also that an intermediate network may leave while neurons are taken away.
_HOPEFUL = 2e-2
# Rise of the loss by least squares beyond which refinement has never made good for the loss of a neuron of an exact
# network.
_FREE = 1e-2
# The same that students on which a layer is based explain by errors of their own, before anything is refined: of
# 784-64-48-32-10 teachers neurons in excess cost 5e-8 at most, the teacher's own 4e-6 at least.
_IN_EXCESS = 1e-6
# Rms contribution at which a neuron counts as silent: its square, 1e-12, is below any loss that is not exact.
_SILENT = 1e-6
# Loss at which a width suffices in a short run: no teacher's neuron is so small that students do as well without it.
_WIDE_ENOUGH = 1e-5
# Loss that wide students of a wrong activation do not reach in some hundred steps (the best of 19 on a softplus
# teacher: silu, 2e-9).
_OTHER_KINDS = 1e-11
# Answers of a network that is nearly right err by a hundredth of their deviation: from there steps lead back to it.
_NEARLY_RIGHT = 1e-4
# By how much the loss on fresh queries may exceed what is exact: they may lie further out.
_FRESH = 1e2
# Bound of the parameter error, in units of the largest parameter, to which a network is certified: half the digits of
# the precision (1e-7 in float64, 2e-3 in float32), so that a wrong network that imitates by chance has no such bound.
_SURE_ROOTS = 7.0  # of eps
# Intervals are of first order: they hold where a weight moves by less than its own size.
_SURE_AMONG_ERRORS = 0.5
_SIGMAS = 4.0  # of the mean square of noise, whose relative deviation is sqrt(2 / n)
# A sum of some thousand numbers computed in one precision errs by this many roundings of its own size, in amplitude.
_COMPUTED = 1e2
# Such errors are functions of the queries, of which one more neuron explains some: 74 nats where 70 are chance for
# independent ones (float32 probabilities of a 13-4-3 classifier), while a neuron of the teacher is worth 55,000.
_OF_COMPUTATION = 4.0
# Errors told of and errors seen are not the same where they differ by more than this factor in amplitude.
_OTHER_NOISE = 2.0

Origin = Literal["", "told", "rounding", "computed", "seen"]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What counts as exact.

    Attributes:
        eps: Relative rounding error of one number, in the precision of the answers.
        n_numbers: How many numbers there are to explain.
        accepted: Loss that the user takes for exact, where rounding errors are out of reach; None for rounding.
        noise: Mean square of the errors in the answers themselves, in units of the targets' variance.
        origin: Where that is known from: "told" by the user; from the answers' "rounding", or the precision in which
            they were "computed"; or "seen", what no student explains.
        reached: Lowest loss that students reached on the same numbers; infinite if none was trained.
        excused: Loss that is right whatever the width, because of layers above or below; see `beside_students`.
    """

    # Numbers to explain for each parameter. Numbers beyond one for each agree to twelve digits by no chance; twice as
    # many leaves no doubt that is worth the name.
    numbers_for_each: ClassVar[int] = 2

    eps: float
    n_numbers: int
    accepted: float | None = None
    noise: float = 0.0
    origin: Origin = ""
    reached: float = float("inf")
    excused: float = 0.0

    def __post_init__(self):
        if self.accepted is not None and not self.accepted > 0:
            raise ValueError(f"`exact_loss` is a positive mean squared error; got {self.accepted:g}.")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"`noise` is 0 or above, and finite; got {self.noise:g}.")

    @staticmethod
    def of(samples: Any, *, accepted: float | None = None, noise: float = 0.0, origin: Origin = "") -> "Judge":
        """The judge of these answers: anything with `y` [samples, fan_out].

        Args:
            samples: Queries and answers.
            accepted: See `Judge`.
            noise: Standard deviation of the errors in the answers, in units of each output's own.
            origin: See `Judge`; by default "told", where there is noise.
        """
        eps = float(np.finfo(samples.y.dtype).eps)
        origin = origin or ("told" if noise else "")
        return Judge(eps=eps, n_numbers=samples.y.size, accepted=accepted, noise=noise**2, origin=origin)

    def seeing(self, noise: float) -> "Judge":
        """The same judge, where noise of this mean square was seen in the answers."""
        return replace(self, noise=noise, origin=self.origin if self.origin == "computed" else "seen")

    @property
    def may_see_noise(self) -> bool:
        """Whether errors that nobody told of may turn out to be in the answers."""
        return self.accepted is None and self.origin in ("", "computed")

    def may_be_noise(self, noise: float) -> bool:
        """Whether errors of this mean square may be in the answers: not less than rounding, which explains itself, nor
        more than what the precision of a computation adds up to."""
        most = _COMPUTED**2 * self.noise if self.origin == "computed" else 1.0
        return self.limit < noise < most

    def informed(self, reached: float) -> "Judge":
        """The same judge, once students have shown what can be reached on these numbers."""
        return replace(self, reached=min(self.reached, reached))

    def beside_students(
        self, reached: float, *, frozen_below: bool, wide_above: bool, in_passing: bool = False
    ) -> "Judge":
        """The judge of one layer of a deep network, for which no width may reach rounding errors.

        Below wide layers, which keep a refinement in flat valleys, a layer is right if the network imitates as well
        with it as the student did with its own; without one of the teacher's neurons it is worse by orders of
        magnitude. So it is above layers that are right but for small errors: no width explains the targets exactly, but
        the right one nearly as well as the much wider student.

        Args:
            reached: Lowest loss of the students.
            frozen_below: Whether the queries are answers of reconstructed layers.
            wide_above: Whether layers of the students stand above.
            in_passing: Whether a layer is left to the judgement of the whole network, where it comes near the students,
                because careful steps are too expensive.
        """
        if in_passing and not frozen_below:
            return replace(self, excused=max(reached, min(_NEAR_STUDENTS * reached, _WIDE_ENOUGH)))
        if not (frozen_below or wide_above):
            return self.informed(reached)
        room = 1.0 if wide_above else _ROOM_ABOVE
        return replace(self, excused=max(reached, min(room * reached, _RIGHT_ABOVE)))

    @property
    def rounding(self) -> float:
        """The largest loss that rounding errors may explain, whatever was accepted or reached."""
        return (_ROUNDINGS * self.eps) ** 2

    @property
    def limit(self) -> float:
        """The largest loss that counts as exact."""
        rounding = self.rounding if self.accepted is None else self.accepted
        shown = max(_BEYOND_STUDENTS * self.reached, (_FEWEST_ROUNDINGS * self.eps) ** 2)
        noise = self.noise * (1 + _SIGMAS * np.sqrt(2 / max(self.n_numbers, 1)))
        return float(max(min(rounding, shown), noise, self.excused))

    def is_at_rounding(self, loss: float) -> bool:
        """Whether no refinement could do better."""
        return bool(loss <= (_ROUNDINGS_AT_REST * self.eps) ** 2)

    def explains(self, n_parameters: int) -> bool:
        """Whether there are enough numbers for so many parameters, so that none is explained by chance."""
        return self.n_numbers >= self.numbers_for_each * n_parameters

    def fits(self, loss: float) -> bool:
        """Whether a loss is small enough to be exact, be it by chance. NaN is not."""
        return bool(loss <= self.limit)

    def is_exact(self, loss: float, n_parameters: int) -> bool:
        """Whether a network with so many parameters that leaves this loss is exact, and not by chance."""
        return self.fits(loss) and self.explains(n_parameters)

    def is_excused(self) -> bool:
        """Whether more counts as exact than in the judgement of a whole network."""
        return self.excused > replace(self, excused=0.0).limit

    @property
    def is_noisy(self) -> bool:
        """Whether errors in the answers, more than rounding in the work itself, decide."""
        return self.noise > self.rounding

    def chance(self, n_parameters: int) -> float:
        """By how much, in nats, so many more parameters may raise the log likelihood by chance.

        Half of log n for each, which is what they cost in the evidence to leading order, and grows so that chance
        exceeds it ever more rarely. Source: Schwarz, Annals of Statistics 6 (1978), 461.
        """
        dependent = _OF_COMPUTATION if self.origin == "computed" else 1.0
        return dependent * n_parameters / 2 * math.log(max(self.n_numbers, 2))

    def gain(self, loss: float, than: float) -> float:
        """By how much, in nats, the log likelihood of a network is above that of another one with Gaussian errors.

        Args:
            loss: Of the network.
            than: Loss of the other one.
        """
        if than <= (_FEWEST_ROUNDINGS * self.eps) ** 2:  # where nothing is left to explain
            return 0.0
        if self.is_noisy and self.origin in ("told", "rounding"):  # of known variance
            return self.n_numbers * (than - loss) / (2 * self.noise)
        return self.n_numbers / 2 * math.log(than / loss) if loss > 0 else math.inf

    def lets_go(self, loss: float, than: float, n_fewer: int) -> bool:
        """Whether a network is as exact as another one that has so many parameters more."""
        if not self.fits(loss):
            return False
        return not self.is_noisy or self.gain(than, loss) <= self.chance(n_fewer)

    def score(self, loss: float, n_parameters: int) -> float:
        """By how much, in nats, the evidence is against a network: the lower, the better; for comparisons only.

        Minus the log likelihood, and what its parameters explain by chance. Networks that are exact without errors in
        the answers differ by their parameters alone.
        """
        left = 0.0 if self.fits(loss) and not self.is_noisy else -self.gain(loss, 1.0)
        return left + self.chance(n_parameters) if np.isfinite(loss) else math.inf

    def contradicts(self, seen: float) -> str:
        """What is wrong with the errors that are known of, in words, where residuals show this mean square."""
        if self.origin not in ("told", "rounding") or not seen > 0:
            return ""
        told, shown = math.sqrt(self.noise), math.sqrt(seen)
        if self.origin == "rounding":
            other = "or they have fewer decimals or digits than you told of, or noise"
            left = f"errors of {shown:.1g} are left, where rounding makes {told:.1g}: this is another network, {other}"
            return left if shown > _OTHER_NOISE * told else ""
        if shown < told / _OTHER_NOISE:
            return f"the answers' errors are {shown:.1g}, less than the {told:.1g} that you told of"
        left = f"errors of {shown:.1g} are left, where you told of {told:.1g}: leave `noise` out to have it looked for"
        return left if shown > _OTHER_NOISE * told else ""

    def is_far_above_students(self, loss: float) -> bool:
        """Whether a network that counts as exact leaves so much more than students that it may lack a neuron."""
        return bool(loss > _NEAR_STUDENTS * max(self.reached, (_FEWEST_ROUNDINGS * self.eps) ** 2))

    def explains_nothing(self, loss: float, n_parameters: int) -> bool:
        """Whether a network with so many parameters that leaves this loss explains no more than chance does."""
        return self.gain(loss, 1.0) <= self.chance(n_parameters)

    def needs_orthogonal_steps(self, loss: float, target: float) -> bool:
        """Whether a refinement that had `target` in mind stopped for the rounding errors of its normal equations.

        A network that is to be exact is asked to come near what students reached, who have the same rounding errors.
        """
        floor = _NEAR_STUDENTS * max(self.reached, self.eps**2) if self.reached < self.limit else self.limit
        return max(target, floor) < loss < _NEARLY

    def does_without(self, loss: float, than: float) -> bool:
        """Whether a network that leaves this loss after some steps lacks nothing that it had at another one: it is as
        good, or so nearly exact as no wrong network is."""
        return bool(loss <= _NEARLY or self.is_as_good(loss, than))

    def is_as_good(self, loss: float, than: float) -> bool:
        """Whether a network that leaves this loss after some steps is as good as another one, but for further steps."""
        return bool(loss <= _AS_GOOD * than)

    def is_about_as_good(self, loss: float, than: float) -> bool:
        """Whether a narrower network that leaves this loss after steps that see other samples each, and leave none at
        its minimum, may hold what another one held."""
        return bool(loss <= _ABOUT * than)

    def may_be_wrong(self, loss: float) -> bool:
        """Whether a network that leaves this loss after refinement needs other neurons, not further steps alone."""
        return bool(not self.fits(loss) and not loss <= _NEARLY)

    def is_mostly_right(self, loss: float) -> bool:
        """Whether a network that leaves this loss after refinement is wrong in few of its neurons."""
        return bool(loss < _MOSTLY_RIGHT)

    def target(self, asked: float) -> float:
        """The loss at which a refinement may stop, where `asked` is wanted: no further than what is exact."""
        return max(asked, self.limit)

    def is_hopeful(self, loss: float) -> bool:
        """Whether a refinement may still recover from this loss of a least squares fit."""
        return bool(loss <= _HOPEFUL)

    def is_free(self, cost: float) -> bool:
        """Whether a neuron at this cost by least squares may turn out not to be needed."""
        return bool(cost <= _FREE)

    def is_needless(self, cost: float) -> bool:
        """Whether a neuron at this cost by least squares is none, in a layer that was not refined yet."""
        return bool(cost <= _IN_EXCESS)

    def is_idle(self, cost: float, loss: float) -> bool:
        """Whether neurons without which least squares leave so much more do nothing in a network with this loss."""
        return bool(cost <= _IDLE * loss)

    def may_be_made_good(self, cost: float, loss: float) -> bool:
        """Whether steps may make good for neurons without which least squares leave so much more, in a network with
        this loss."""
        return bool(cost <= _MADE_GOOD * loss)

    def is_audible(self, contribution: np.ndarray) -> np.ndarray:
        """Which neurons, by the rms of what they contribute, are more than silent."""
        return contribution > _SILENT

    def is_suspicious(self, loss: float) -> bool:
        """Whether students that end at this loss may be of another kind than the teacher, whom its own kind imitates to
        rounding, or to the errors of its answers."""
        return bool(not self.fits(loss) and not loss <= _OTHER_KINDS)

    def is_wide_enough(self, loss: float) -> bool:
        """Whether networks that came to this loss in a short run lack no neuron."""
        return bool(loss <= _WIDE_ENOUGH)

    def is_nearly_right(self, loss: float) -> bool:
        """Whether a network of the right width leads back to a lower loss from here."""
        return bool(loss <= _NEARLY_RIGHT)

    def holds_on_fresh(self, loss: float) -> bool:
        """Whether a network that is exact leaves no more than this on queries it was not fitted to."""
        return bool(loss <= _FRESH * self.limit)

    def is_sure(self, bound: float, largest: float) -> bool:
        """Whether a bound of the parameter error, beside the largest parameter, makes a network certain."""
        share = _SURE_AMONG_ERRORS if self.is_noisy else _SURE_ROOTS * np.sqrt(self.eps)
        return bool(bound <= share * largest)

    def words(self) -> str:
        """What exact means here."""
        if self.is_noisy:
            size = f"{math.sqrt(self.noise):.1g} standard deviations"
            return {
                "rounding": f"exact to the rounding of the answers ({size})",
                "computed": f"exact to the precision in which the answers were computed ({size})",
                "seen": f"exact to the noise of the answers ({size}, as seen)",
            }.get(self.origin, f"exact to the noise of the answers ({size})")
        return "exact to machine precision" if self.accepted is None else "exact"

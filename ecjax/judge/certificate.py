"""How sure a recovered network is the teacher, and how hard a teacher is to identify: both by the same matrix.

J is the Jacobian of a network's answers with respect to its weights, a row for every number that was answered, divided
by the root of how many there are. J^T J is the Fisher information of the weights under noise of unit variance in the
answers. Its smallest eigenvalue says how little the answers change along the direction that they show worst:

* for a teacher it is the `ease` with which the queries identify it;
* for a recovered network, with the error that is left in its answers, it bounds how far the weights can be from the
  teacher's (`certify`), as long as there is one teacher of that width near by.

A neuron too many (a copy, a silent one, a constant one) has a direction of its own in which no answer changes, so a
network with one is never certified. Directions that no input can reveal are left out: the scale of a neuron of a
positive homogeneous activation, and weights along inputs that never vary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from ..base.memory import require_memory
from ..network import Layer, Network, respond
from ..objective import Inputs, Outputs, Samples
from ..objective.variation import variation
from .evidence import Evidence
from .exactness import Judge
from .intervals import half_widths
from .jacobian import AT_ONCE, answers_by_weights, by_pre_activations, n_invisible, n_rescaled
from .without_matrix import determined

_AFFORDABLE = 1e11  # operations of the spectrum that a recovery spends on its certificate: some seconds
_WITHOUT_MATRIX = 4.0  # times as many where it takes products alone, which seldom need all of them

# Numbers for each parameter that the spectrum of J is taken of: more change its smallest value by less than 1 / 20.
_ENOUGH = 1000


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Whether a network is the teacher itself, and the numbers that say so.

    Attributes:
        loss: Mean squared error over the queries, in units of the variance of each output.
        fresh_loss: The same over queries that had no part in the recovery; None if there were none.
        condition: Largest over smallest singular value of the Jacobian; infinite if some direction is invisible, None
            if it was not looked at.
        parameter_bound: How far any parameter can be from a teacher's of the same width near by, to first order; None
            likewise. Among errors in the answers: half of the width of the widest 95% confidence interval.
        n_parameters: Of the network.
        n_numbers: How many numbers it explains.
        doubts: Why it is not certified; none if it is.
        noise: Root mean square of the errors in the answers, in standard deviations of the outputs, as the residuals
            show it; None if only rounding in the work itself is left.
        n_unseen: Directions in which the inputs do not vary. Weights along them are no part of the other numbers.
        pre_activation_bound: How far any pre-activation of the first hidden layer can be from the teacher's, root mean
            square over the queries, or any parameter above it, likewise; None where it was not looked at. Queries
            determine pre-activations even where they leave weights open.
    """

    loss: float
    fresh_loss: float | None
    condition: float | None
    parameter_bound: float | None
    n_parameters: int
    n_numbers: int
    doubts: tuple[str, ...]
    noise: float | None = None
    n_unseen: int = 0
    pre_activation_bound: float | None = None

    @property
    def certified(self) -> bool:
        """Whether the network is the teacher, for all that numbers can tell."""
        return not self.doubts

    def summary(self) -> str:
        """The verdict in a line."""
        if not self.certified:
            return "Not certified: " + "; ".join(self.doubts) + "."
        fresh = "" if self.fresh_loss is None else f", loss {self.fresh_loss:.0e} on fresh queries"
        if self.noise is not None:
            return (
                f"Certified to the errors of the answers ({self.noise:.1e} standard deviations): {self.n_numbers:,} "
                f"numbers explained by {self.n_parameters:,} parameters{fresh}, each of the teacher's within "
                f"{self.parameter_bound:.0e} in 95% of such cases{self._beside()} (condition number "
                f"{self.condition:.0e})."
            )
        return (
            f"Certified: {self.n_numbers:,} numbers explained by {self.n_parameters:,} parameters{fresh}, each "
            f"within {self.parameter_bound:.0e} of the teacher's{self._beside()} (condition number "
            f"{self.condition:.0e})."
        )

    def _beside(self) -> str:
        """What the bound does not speak of, and what is known nevertheless."""
        if not self.n_unseen:
            return ""
        along = "the direction" if self.n_unseen == 1 else f"the {self.n_unseen} directions"
        known = "" if self.pre_activation_bound is None else f"; pre-activations within {self.pre_activation_bound:.0e}"
        return f" but for weights along {along} in which the inputs do not vary{known}"


def certify(
    network: Network,
    x: Inputs,
    y: Outputs,
    *,
    judge: Judge | None = None,
    fresh: Any = None,
    linear: Layer | None = None,
    evidence: Sequence[Evidence] = (),
    errors: Network | None = None,
    weights: Array | None = None,
    affordable: float = _AFFORDABLE,
) -> Certificate:
    """Judge a recovered network by its answers and by how well they determine its weights.

    With residuals r (root mean square, in standard deviations of the outputs) and smallest singular value s of J, the
    teacher's parameters, if they are near, are at a distance |J^+ r| <= r / s.

    Args:
        network: What was recovered.
        x: Queries.
        y: The teacher's answers.
        judge: What counts as exact; by default what rounding explains.
        fresh: Queries and answers that had no part in the recovery: `Samples`, or a pair of arrays.
        linear: A linear map beside the network whose signs stayed undecided; such a network is not certified.
        evidence: For the width of each hidden layer, where answers have errors.
        errors: Standard errors of the weights, likewise (`ecjax.judge.standard_errors`).
        weights: How much each row counts, where errors differ from row to row.
        affordable: Operations that the spectrum of J may take; beyond, fewer queries are looked at, and if these do not
            suffice, none.

    Raises:
        ValueError: If answers are not finite, or an output is constant.

    Source:
        Identifiability by the rank of the Jacobian: Rothenberg, Econometrica 39 (1971), theorem 1.
    """
    fresh = fresh if fresh is None or isinstance(fresh, Samples) else Samples(*fresh)
    for name, answers in (("y", y), ("fresh", None if fresh is None else fresh.y)):
        if answers is not None and not np.isfinite(np.asarray(answers)).all():
            raise ValueError(f"`{name}` has answers that are NaN or infinite: drop these samples.")
    y_scale = np.asarray(y, float).std(axis=0)
    if not y_scale.all():
        constant = np.flatnonzero(y_scale == 0).tolist()
        raise ValueError(f"`y` is constant in columns {constant}: no unit to measure errors in. Drop these outputs.")
    samples = Samples(x, y, weights)
    judge = Judge.of(samples) if judge is None else judge
    loss_over = lambda samples: _loss(network, samples, linear, y_scale)
    loss = loss_over(samples)
    fresh_loss = None if fresh is None else loss_over(fresh)
    n_parameters = network.n_parameters
    doubts = []
    if linear is not None:
        doubts.append("the signs of some neurons are undecided")
    if not judge.fits(loss):
        what = "the errors of the answers explain" if judge.is_noisy else "rounding explains"
        doubts.append(f"a loss of {loss:.0e} is more than {what} ({judge.limit:.0e})")
    doubts += [each.words() for each in evidence if not each.stands]
    if fresh_loss is not None and not judge.holds_on_fresh(fresh_loss):
        doubts.append(f"the loss is {fresh_loss:.0e} on fresh queries")
    if not judge.explains(n_parameters):
        doubts.append(
            f"{judge.n_numbers} numbers are too few: fewer than {judge.numbers_for_each} for each of {n_parameters} "
            "parameters"
        )

    condition = bound = of_pre_activations = found = None
    n_affordable = int(affordable / (2 * y.shape[1] * n_parameters**2))
    n_samples = min(len(x), n_affordable, math.ceil(_ENOUGH * n_parameters / y.shape[1]))
    if n_samples * y.shape[1] >= judge.numbers_for_each * n_parameters:
        some = samples.take(slice(n_samples))  # residuals and Jacobian of the same queries: the bound holds for any
        triangle = _triangle(network, some.x, y_scale)
        singular = _singular(triangle, n_invisible(network, some.x))
        noise = np.sqrt(loss_over(some)) + float(np.finfo(x.dtype).eps)
        visible = bool(singular[-1] > 0)
        condition = float(singular[0] / singular[-1]) if visible else float("inf")
        bound = float(noise / singular[-1]) if visible else float("inf")
        if judge.is_noisy and errors is not None:
            widths = jax.tree.leaves(half_widths(errors, judge.n_numbers))
            bound = max(float(np.max(each, where=np.isfinite(each), initial=0)) for each in map(np.asarray, widths))
        else:
            seen = _singular(by_pre_activations(triangle, network, some.x), n_rescaled(network))[-1]
            of_pre_activations = float(noise / seen) if seen > 0 else None
    elif judge.explains(n_parameters) and not judge.is_noisy and weights is None:
        residuals = (np.asarray(respond(network, x), float) - np.asarray(y, float)) / y_scale
        least = {"numbers_for_each": judge.numbers_for_each, "affordable": _WITHOUT_MATRIX * affordable}
        found = determined(network, x, residuals, y_scale, **least)
        if found is not None and np.isfinite(found.distance):
            bound, of_pre_activations, condition = found
    if bound is not None:
        largest = max(float(np.abs(part).max()) for layer in network.layers for part in (layer.w, layer.b))
        if not judge.is_sure(bound, largest):
            what = "some parameter" if judge.is_noisy else "some combination of parameters"
            known = "" if of_pre_activations is None else f", pre-activations to {of_pre_activations:.0e}"
            doubts.append(f"{what} is known to {bound:.0e} only{known}")
    elif judge.explains(n_parameters):  # too few queries are said to be too few, above
        doubts.append(
            f"the Jacobian of {n_parameters} parameters was not looked at: it is too large"
            if found is None
            else f"the Jacobian of {n_parameters} parameters is too large, and products show no bound"
        )
    remaining = loss * judge.n_numbers / max(1, judge.n_numbers - n_parameters)
    doubts += filter(None, [judge.contradicts(remaining)])
    return Certificate(
        loss=loss,
        fresh_loss=fresh_loss,
        condition=condition,
        parameter_bound=bound,
        n_parameters=n_parameters,
        n_numbers=judge.n_numbers,
        doubts=tuple(doubts),
        noise=float(np.sqrt(remaining)) if judge.is_noisy else None,
        n_unseen=x.shape[1] - variation(x).rank,
        pre_activation_bound=of_pre_activations,
    )


def ease(teacher: Network, x: Inputs) -> float:
    """How easily queries identify a teacher: the smallest eigenvalue of its Fisher information.

    Computed from the teacher and the queries alone, in units of the variance of its answers. Small where neurons do
    nearly the same, are nearly linear or nearly constant over the queries, or matter little to the answers.

    Args:
        teacher: One network.
        x: Queries, more numbers answered than it has parameters.

    Raises:
        ValueError: If there are too few queries.
    """
    return float(spectrum(teacher, x)[-1] ** 2)


def spectrum(
    network: Network, x: Inputs, *, y_scale: Float[np.ndarray, " fan_out"] | None = None
) -> Float[np.ndarray, " visible_parameters"]:
    """Singular values of J, largest first, without those of the directions that no input can reveal.

    Args:
        network: One network.
        x: Queries.
        y_scale: Unit of each output; by default its standard deviation over the queries.

    Raises:
        ValueError: If fewer numbers are answered than there are parameters.
    """
    n_numbers = len(x) * network.shape[-1]
    if n_numbers < network.n_parameters:
        raise ValueError(
            f"`x` has {len(x)} queries, {n_numbers} numbers in answer, for {network.n_parameters} parameters: their "
            "information is singular whatever the network. Ask more."
        )
    scale = np.asarray(respond(network, x), float).std(axis=0) if y_scale is None else y_scale
    return _singular(_triangle(network, x, scale), n_invisible(network, x))


def _triangle(
    network: Network, x: Inputs, y_scale: Float[np.ndarray, " fan_out"]
) -> Float[np.ndarray, "parameters parameters"]:
    """R of J = Q R, whose singular values are those of J; J itself is never there as a whole."""
    what = f"The Fisher information of {network.n_parameters:,} parameters and its factors"
    require_memory(3 * 8 * network.n_parameters**2, what, "take a narrower network")
    scale = np.where(y_scale == 0, 1, y_scale)
    size = max(1, int(AT_ONCE / (network.n_parameters * network.shape[-1])))
    r = np.zeros((0, network.n_parameters))
    for start in range(0, len(x), size):
        j = np.asarray(answers_by_weights(network, x[start : start + size]), float) / scale[None, :, None]
        r = np.linalg.qr(np.concatenate([r, j.reshape(-1, network.n_parameters)]), mode="r")
    return r / np.sqrt(len(x) * network.shape[-1])


def _singular(triangle: Float[np.ndarray, "rows columns"], n_hidden: int) -> Float[np.ndarray, " visible"]:
    """Singular values, largest first, without those of so many directions that no answer shows."""
    return np.linalg.svd(triangle, compute_uv=False)[: triangle.shape[1] - n_hidden]


def _loss(network: Network, samples: Samples, linear: Layer | None, y_scale: np.ndarray) -> float:
    answers = np.asarray(respond(network, samples.x), float)
    if linear is not None:
        answers = answers + np.asarray(respond(Network((linear,)), samples.x), float)
    squares = np.mean(((answers - np.asarray(samples.y, float)) / y_scale) ** 2, axis=1)
    return float(np.average(squares, weights=samples.weights))

"""Outliers: rows whose answers are wrong altogether, found as what no student explains who explains most others.

    wide students  ->  what they leave  ->  rows far beyond the usual count less  ->  students go on, until that settles

A row counts by 1 / (1 + (r / c s)^2), with r what is left of it, s the median of that over all rows as a standard
deviation, and c the constant of Cauchy's weights: no row pulls beyond a bound, and none is given up before the end. As
the fit comes down to rounding, s does, too, and outliers stand out by orders of magnitude; among errors of a usual size
they are what Gaussian errors exceed once in a hundred tables.

A row far out in a student's Jacobian draws the fit to itself, and leaves little: what is left counts in units of its
own standard deviation, sqrt(1 - leverage) of that of the errors. Even so, a wide student may spend a neuron on one row;
another student does not spend it on the same, so that the one to whom an answer is strangest counts.

Source: Holland and Welsch, "Robust regression using iteratively reweighted least-squares", Communications in
    Statistics A6 (1977), 813; c for 95% efficiency among Gaussian errors.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray
from scipy.special import ndtri

from ..base.progress import Progress
from ..data import Data
from ..expand import expand
from ..judge.jacobian import leverage
from ..network import LayerActivation, Network, random_students, respond
from ..network import student as student_of
from ..objective import Samples
from .choice import Choice
from .following import ROWS, enough_rows, judge_of
from .recovery import Recovery
from .trials import N_TRIED

_CAUCHY = 2.385
_TURNS, _STEPS = 12, 40  # of reweighting, and of the students in each; most tables settle in 3 to 8
_SETTLED = 0.5  # of the scale of what is left: no less than that is gained in a turn any more
_BY_CHANCE = 1e-2  # tables without outliers in which one is seen
_TO_DEVIATION = 1 / float(ndtri(0.75))  # from the median of absolute Gaussian numbers
_OWN = 1e-6  # of one minus a leverage, least: fits are not known better
_NAMED = 12  # rows that are named one by one


class Kept(NamedTuple):
    """What is left of the data, and what was set aside."""

    data: Data
    aside: Bool[np.ndarray, " samples"]


def without_outliers(
    data: Data,
    activations: tuple[LayerActivation, ...],
    choice: Choice,
    *,
    key: PRNGKeyArray,
    progress: Progress,
) -> Kept:
    """The data without rows that students cannot explain.

    Args:
        data: Queries and answers.
        activations: Of the students' hidden layers; of another kind than the teacher's, they see large outliers only.
        choice: How students are trained, and how wide they are.
        key: Not to be used again.
        progress: Called after each turn.

    Raises:
        ValueError: If students of this method are not trained one by one.
    """
    config = choice.config
    if config.expand.trains_stacks or config.student_width == "auto":
        raise ValueError(
            "`answers.outliers` are looked for by students of a given `student_width` that are trained one by one; got "
            f"width {config.student_width!r} and method {config.expand.method!r}."
        )
    scale = data.scaling(config.standardise)
    everything = data.scaled(scale)
    shape = (everything.x.shape[1], *config.widths(len(activations)), everything.y.shape[1])
    students = random_students(N_TRIED, shape, activations, key=key, dtype=everything.x.dtype)
    students = jax.tree.map(lambda leaf: config.init_scale * leaf, students)
    rows = enough_rows(everything, ROWS * students.n_parameters)
    seen = everything.take(jnp.asarray(rows))
    short = replace(config.expand, descent=replace(config.expand.descent, max_steps=_STEPS), answers=None)
    floor = float(np.sqrt(judge_of(data, scale, config).limit))
    y = np.asarray(seen.y, float)
    left, usual = np.abs(y - np.median(y, axis=0)), np.inf  # of nobody, at first
    fitted, beyond = [], np.zeros(len(y), bool)
    for turn in range(_TURNS):
        weights = _weights(left, floor)
        weighted = Samples(seen.x, seen.y, jnp.asarray(weights, seen.y.dtype))
        done = expand(students, weighted, config=short, key=jr.fold_in(key, turn))
        students = done.students
        if not done.finite.any():
            raise ValueError("`answers.outliers`: all students diverged; look at the scale of x.")
        fitted = [student_of(students, i) for i in np.flatnonzero(done.finite).tolist()]
        own = lambda one, weights=weights: np.sqrt(np.maximum(1 - leverage(one, seen.x, weights), _OWN))
        left = _most([_left(one, seen) / own(one) for one in fitted])
        before, usual = usual, max(float(np.median(left)), floor)
        known, beyond = beyond, _beyond(left, _scale(left, floor), len(fitted))
        progress("outliers", turn + 1, _TURNS)
        if usual >= _SETTLED * before and (known == beyond).all():
            break
    of_seen, left = left, _most([_left(one, everything) for one in fitted])
    left[rows] = of_seen
    aside = _beyond(left, _scale(left, floor), len(fitted))
    return Kept(data.only(~aside) if aside.any() else data, aside)


def in_words(recovery: Recovery, data: Data, aside: Bool[np.ndarray, " samples"]) -> str:
    """What was set aside, and what the recovered network says of it.

    Args:
        recovery: From what was left.
        data: All of it.
        aside: Which rows were not.
    """
    if not aside.any():
        return "no outliers among the answers"
    rows = np.flatnonzero(aside)
    named = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
    linear = 0 if recovery.linear is None else np.asarray(data.x[aside] @ recovery.linear.w.T, float)
    off = np.asarray(respond(recovery.network, data.x[aside]) - data.y[aside], float) + linear
    left = np.abs(off) / recovery.scaling.y_scale
    explained = int((~_beyond(left, np.full(left.shape[1], np.sqrt(recovery.judge.limit)), 1)).sum())
    after_all = f"; {explained} of them the network explains after all" if explained else ""
    return f"{len(rows)} of {len(aside)} rows set aside as outliers, those at index {named}{after_all}"


def _left(net: Network, samples: Samples) -> Float[np.ndarray, "samples fan_out"]:
    return np.abs(np.asarray(samples.errors(net), float))


def _most(lefts: list[Float[np.ndarray, "samples fan_out"]]) -> Float[np.ndarray, "samples fan_out"]:
    """What is left by that student to whom an answer is strangest, all in units of what is usual for the best."""
    usual = [np.maximum(np.median(left, axis=0), np.finfo(float).tiny) for left in lefts]
    least = np.min(usual, axis=0)
    return np.max([left * least / own for left, own in zip(lefts, usual, strict=True)], axis=0)


def _scale(left: Float[np.ndarray, "samples fan_out"], floor: float) -> Float[np.ndarray, " fan_out"]:
    return np.maximum(_TO_DEVIATION * np.median(left, axis=0), floor)


def _weights(left: Float[np.ndarray, "samples fan_out"], floor: float) -> Float[np.ndarray, " samples"]:
    far = (left / _scale(left, floor)).max(axis=1)
    return 1 / (1 + (far / _CAUCHY) ** 2)


def _beyond(
    left: Float[np.ndarray, "samples fan_out"], scale: Float[np.ndarray, " fan_out"], n_fits: int
) -> Bool[np.ndarray, " samples"]:
    """Rows with an answer further off than any is by chance in one of so many fits."""
    far = left / scale
    return far.max(axis=1) > -ndtri(_BY_CHANCE / (2 * n_fits * far.size))

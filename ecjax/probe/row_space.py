"""The row space of the first layer: the directions of the inputs that the answers depend on at all.

Gradients of the answers at m points are m * fan_out vectors, all of them combinations of the first layer's incoming
weight vectors. Where these are fewer than the inputs, the singular values of the gradients fall by many orders of
magnitude at their number: the width, if they are independent. All further questions live in so many coordinates.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .differences import Asked, gradient, gradient_step

# Gradients for each dimension of the space, before its end is believed to have been seen.
_GRADIENTS = 1.3
# Of steps where answers are straight but for kinks, in units of the scale. Along single inputs neurons move by a
# hundredth of that: of 784-128-80-40-32-10 some few per cent of the questions have a kink within all their steps.
_STEP = 1e-3
_POINTS = 12  # at least: a relu neuron is silent at half of them
_CHECKS = 50  # new questions beside the space; some relu neurons are silent at most of them
# A drop of the singular values below the noise of the differences, eps^(2/3) of the largest, is the end of the space;
# noise itself falls by much less from one to the next. Signals down to 1e-8 were seen in trained teachers.
_DROP = 30.0
# Second difference beside the first, or roundings of the answers, that say nothing of a kink; and how many points are
# tried for one without.
_BENT, _ROUNDINGS, _TRIES = 1e-6, 8.0, 20
_NOISE = 1e4


class RowSpace(NamedTuple):
    """An orthonormal basis of the directions that the answers depend on.

    Attributes:
        basis: Directions, one a row.
        singular: Singular values of the gradients, in units of the largest.
        scale: Of the inputs.
    """

    basis: Float[np.ndarray, "rank fan_in"]
    singular: Float[np.ndarray, " values"]
    scale: float

    @property
    def rank(self) -> int:
        """How many directions there are."""
        return len(self.basis)

    @property
    def is_all(self) -> bool:
        """Whether the answers depend on all inputs, so that the rank says nothing of the width."""
        return self.rank == self.basis.shape[1]


def row_space(
    ask: Asked,
    fan_in: int,
    *,
    precision: float,
    scale: float,
    question: Callable[[], Float[np.ndarray, " fan_in"]],
    is_straight: bool = False,
    step: float | None = None,
) -> RowSpace:
    """Find it by central differences along all inputs, at as many points as it takes; 2 fan_in + 1 questions each.

    No answer changes beside it, at 50 new questions. Of a teacher whose answers never change it has no direction.

    Args:
        ask: The teacher.
        fan_in: How many inputs it has.
        precision: Relative error of its answers.
        scale: Of its inputs: about how far one has to go for its neurons to bend.
        question: A random one, among which neurons bend.
        is_straight: Whether the answers are straight but for kinks. Steps are longer then, for rounding is all they err
            by, at questions without a kink within them: one inside makes a direction that is none.
        step: How short, if that is known better.
    """
    usual = _STEP * scale if is_straight else gradient_step(precision, scale)
    short = usual if step is None else step
    tries = _TRIES if is_straight else 1
    rows, n_points, heard = np.zeros((0, fan_in)), 0, None
    while True:
        there = question if heard is None else (lambda here=heard: here)
        more = _gradients(ask, there, fan_in, short, tries, precision)
        rows, n_points, heard = np.concatenate([rows, more]), n_points + 1, None
        # Below twice the inputs a decomposition a point is cheap; the points are few.
        _, singular, basis = np.linalg.svd(rows, full_matrices=False)
        rank = _rank(singular, precision)
        if rank == fan_in:
            return RowSpace(basis, singular / singular[0], scale)
        if n_points >= _POINTS and len(rows) > max(_GRADIENTS * rank, rank + 1):
            heard = _heard_beside(ask, question, basis[:rank], short, _DROP * float(singular[rank]))
            if heard is None:
                return RowSpace(basis[:rank], singular / (singular[0] or 1.0), scale)


def _heard_beside(
    ask: Asked,
    question: Callable[[], Float[np.ndarray, " fan_in"]],
    basis: Float[np.ndarray, "rank fan_in"],
    step: float,
    noise: float,
) -> Float[np.ndarray, " fan_in"] | None:
    """A question from which a random direction beside the space changes the answers by more than noise, if one does."""
    for _ in range(_CHECKS):
        here = question()
        beside = question() - here
        beside -= beside @ basis.T @ basis
        along = gradient(ask, here, beside[None] / np.linalg.norm(beside), step)
        if np.abs(along).max() > noise:
            return here
    return None


def _gradients(
    ask: Asked, question: Callable[[], np.ndarray], fan_in: int, step: float, tries: int, precision: float
) -> Float[np.ndarray, "fan_out fan_in"]:
    """Gradients of all answers at the first of some questions that has no kink within a step of it, or the last."""
    found = np.zeros((0, fan_in))
    for number in range(tries):
        here = question()
        answers = ask(np.concatenate([here[None], here + step * np.eye(fan_in), here - step * np.eye(fan_in)]))
        middle, ahead, behind = answers[0], answers[1 : fan_in + 1], answers[fan_in + 1 :]
        found = ((ahead - behind) / (2 * step)).T
        bent, rounding = np.abs(ahead + behind - 2 * middle).max(), _ROUNDINGS * precision * np.abs(answers).max()
        if number == tries - 1 or bent <= max(_BENT * np.abs(ahead - behind).max(), rounding):
            break
    return found


def _rank(singular: Float[np.ndarray, " values"], precision: float) -> int:
    """Where singular values end: at the widest drop into noise, or not at all; at none, if nothing was heard."""
    if singular[0] == 0:
        return 0
    singular = np.maximum(singular / singular[0], np.finfo(float).tiny)
    drop = singular[:-1] / singular[1:]
    drop = np.where(singular[1:] < _NOISE * precision ** (2 / 3), drop, 0)
    return int(np.argmax(drop)) + 1 if len(drop) and drop.max() > _DROP else len(singular)

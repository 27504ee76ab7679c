"""Where many students of one problem end: at points of which kinds, and how many at each."""

from dataclasses import dataclass

import numpy as np

from ..network import student
from ..objective import Objective
from .critical import NOT_CRITICAL, CriticalPoint, critical_point
from .trajectory import Trajectory
from .until import NORM

INFINITE, MOVING, FAILED = "ran to infinity", "still moving", "not finite"

# Losses of one point differ by what each student has still left to go, those of different points by some percent.
_RATIO = 1.01


@dataclass(frozen=True)
class Kind:
    """Students that ended at one kind of point.

    Attributes:
        members: Which students.
        kind: "minimum", "strict saddle" or "degenerate"; or why there is none: "ran to infinity", "still moving" or
            "not finite".
        loss: The median of theirs.
        n_negative: Negative eigenvalues, the median.
        n_zero: Zero eigenvalues, the median.
        n_neurons: Different neurons with outgoing weights, over all hidden layers.
        diverging: Pairs of neurons along which a channel runs to infinity.
    """

    members: tuple[int, ...]
    kind: str
    loss: float
    n_negative: int
    n_zero: int
    n_neurons: int
    diverging: int


@dataclass(frozen=True)
class Study:
    """The ends of many students.

    Attributes:
        points: The end of each student.
        ends: The kind of each one; see `Kind`.
        kinds: What kinds there are, the lowest loss first.
    """

    points: tuple[CriticalPoint, ...]
    ends: tuple[str, ...]
    kinds: tuple[Kind, ...]

    def table(self) -> str:
        """The kinds as a table in Markdown."""
        head = "| students | kind | loss | negative | zero | neurons | to infinity |\n|---|---|---|---|---|---|---|\n"
        row = "| {} | {} | {:.3g} | {} | {} | {} | {} |\n"
        return head + "".join(
            row.format(len(k.members), k.kind, k.loss, k.n_negative, k.n_zero, k.n_neurons, k.diverging)
            for k in self.kinds
        )


def study_ends(path: Trajectory, objective: Objective, *, gradient_norm: float = 1e-6, floor: float = 1e-14) -> Study:
    """Look at where students ended, and sort them by kind.

    Args:
        path: The students.
        objective: What they followed.
        gradient_norm: Up to which an end counts as a critical point.
        floor: Losses at or below it count as one, those of exact students: a flow that stops at a gradient g still has
            a loss of g^2 over twice the smallest curvature to go.
    """
    ends = path.final
    points = tuple(
        critical_point(student(ends, i), objective, gradient_norm=gradient_norm) for i in range(path.n_students)
    )
    kind_of = tuple(_kind(point, int(reason)) for point, reason in zip(points, path.reason, strict=True))
    widths = path.like.widths
    by_kind: dict[tuple, list[int]] = {}
    for i, point in enumerate(points):
        by_kind.setdefault((kind_of[i], _n_neurons(point, widths), len(point.degeneracy.diverging)), []).append(i)
    kinds = []
    for (kind, n_neurons, diverging), members in by_kind.items():
        for same in _alike(members, np.array([points[i].loss for i in members]), floor):
            median = lambda name, same=same: float(np.median([getattr(points[i], name) for i in same]))
            counts = int(median("n_negative")), int(median("n_zero"))
            kinds.append(Kind(tuple(same), kind, median("loss"), *counts, n_neurons, diverging))
    return Study(points, kind_of, tuple(sorted(kinds, key=lambda kind: (kind.loss, -len(kind.members)))))


def _kind(point: CriticalPoint, reason: int) -> str:
    if not np.isfinite(point.loss):
        return FAILED
    if reason == NORM:
        return INFINITE
    return MOVING if point.kind == NOT_CRITICAL else point.kind


def _n_neurons(point: CriticalPoint, widths: tuple[int, ...]) -> int:
    """Neurons that differ and answer; copies count once."""
    gone = set(point.degeneracy.silent) | {(layer, later) for layer, _, later in point.degeneracy.duplicates}
    return sum(widths) - len(gone | set(point.degeneracy.constant))


def _alike(members: list[int], values: np.ndarray, floor: float) -> list[list[int]]:
    """Members whose losses follow each other within a few percent."""
    height = np.log(np.maximum(np.nan_to_num(values, nan=np.inf, posinf=1e300), floor))
    order = np.argsort(height, kind="stable")
    cuts = np.flatnonzero(np.diff(height[order]) > np.log(_RATIO)) + 1
    return [sorted(members[int(i)] for i in part) for part in np.split(order, cuts)]

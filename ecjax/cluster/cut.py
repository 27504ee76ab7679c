"""The cut: which nodes of the dendrogram are neurons. One sweep over the merges, whatever the policy.

A *large* cluster has members from at least gamma * N distinct students. The paper counts vectors instead and cuts at
the height with the most large clusters. That rule is kept as `paper`, and is fragile: it splits a tight cluster in two
wherever it has 2 gamma N members (a neuron that every student holds twice), and it prefers heights at which dust merges
with dust once dust abounds. The default, `agreement`, chooses no height at all. It walks up the tree, and

* the large nodes on a path without branching are one neuron with more or fewer strays: of these it takes the one that
  stays alone for the longest, on a logarithmic scale of heights;
* two large nodes that merge are two neurons if they are farther apart than their own spread tells, and else one.

Source:
    Martinelli et al., ICML 2024 (arXiv:2304.12794), section on clustering, for `paper`; Campello, Moulavi and Sander
    (PAKDD 2013) for the excess of mass behind `stability`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .tree import Tree

Policy = Literal["agreement", "stability", "paper", "plateau", "count", "height"]

# Two clusters are two neurons if they merge above this many times the spread of the tighter one. The smaller, the
# nearer two neurons may be; the larger, the rarer a neuron falls apart whose copies form streaks. Measured on both in
# docs/cluster.md (`benchmarks.cluster_constants`): of the values tried, the largest that tells all pairs apart whose
# distance is eight times their errors.
SEPARATION = 3.0
# Two neurons of a teacher share at least this share of their students. Of neurons that are each found by a share p of
# the students, whatever the others find, that is p: 0.8 at the default gamma; of a neuron that students place here or
# there, it is the few that hold it twice. Halfway.
_SHARED = 0.5
_ROUNDING = 1e-9  # slack for gamma * n_students, a product that should be whole but is off by some eps * n_students


class Curve(eqx.Module):
    """How many large clusters a flat cut at each height gives; the figure of the dendrogram draws it."""

    height: Float[np.ndarray, " heights"]
    n_clusters: Int[np.ndarray, " heights"]


@dataclass(frozen=True)
class Cut:
    """Chosen nodes: disjoint, in order of their vectors in the tree; `height` is nan where no one height was cut at."""

    nodes: Int[np.ndarray, " clusters"]
    height: float


def is_agreement(gamma: float, n_students: int) -> bool:
    """Whether so large a share of the students is two of them at least: one student's word is no agreement."""
    return gamma * n_students >= 2 - _ROUNDING


def n_needed(gamma: float, n_students: int) -> int:
    """The smallest whole number of students that is at least gamma * n_students.

    Raises:
        ValueError: If gamma * n_students is below two.
    """
    if not is_agreement(gamma, n_students):
        raise ValueError(
            f"gamma * n_students = {gamma * n_students:g} is below 2: one student alone would make a cluster. Raise "
            f"`n_students` (now {n_students}) or `gamma`."
        )
    return math.ceil(gamma * n_students - _ROUNDING)


def curve(linkage: Float[np.ndarray, "merges 4"], size: Int[np.ndarray, " nodes"], needed: int) -> Curve:
    """Number of nodes with `size` of at least `needed` against the height of a flat cut, one entry a height.

    A merge adds a large cluster if it makes one, and takes away those that it is made of.
    """
    n = len(size) - len(linkage)
    large = (size >= needed).astype(int)
    children = linkage[:, :2].astype(int)
    count = large[:n].sum() + np.cumsum(large[n:] - large[children[:, 0]] - large[children[:, 1]])
    height = linkage[:, 2]
    last = np.flatnonzero(np.append(height[1:] > height[:-1], True)[: len(height)])  # merges of one height go together
    return Curve(np.concatenate([[0.0], height[last]]), np.concatenate([[large[:n].sum()], count[last]]))


def flat_cut(tree: Tree, size: Int[np.ndarray, " nodes"], needed: int, height: float) -> Cut:
    """The large nodes that stand when every merge up to `height`, and none above, is made."""
    standing = (tree.height <= height) & ((tree.parent < 0) | (tree.height[tree.parent] > height))
    return _cut(tree, np.flatnonzero(standing & (size >= needed)), height)


def paper_height(curve: Curve) -> float:
    """The height with the most large clusters: the end of the first run of the maximum."""
    best = curve.n_clusters == curve.n_clusters.max()
    first = int(np.argmax(best))
    after = np.flatnonzero(~best[first:])
    return float(curve.height[first + after[0] - 1 if len(after) else -1])


def plateau_height(curve: Curve, top: float, floor: float, n_clusters: int | None = None) -> float | None:
    """The middle of the widest range of heights, on a logarithmic scale, with one positive number of clusters.

    Args:
        curve: Of the large clusters.
        top: Height at which the last plateau ends.
        floor: Height added to all, below which differences count for little.
        n_clusters: The number wanted; None if it cannot be reached at any height.
    """
    change = np.flatnonzero(np.diff(curve.n_clusters, prepend=-1))
    start, count = curve.height[change], curve.n_clusters[change]
    end = np.append(start[1:], max(top, curve.height[-1]))
    wanted = count > 0 if n_clusters is None else count == n_clusters
    if not wanted.any():
        return None
    width = np.where(wanted, np.log((end + floor) / (start + floor)), -1)
    widest = np.argmax(width)
    return float(np.sqrt((start[widest] + floor) * (end[widest] + floor)) - floor)


def lifetime(tree: Tree, floor: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
    """How long every node stays alone: log of the height at which it merges over the height at which it was made."""
    return np.log((tree.top + floor) / (tree.height + floor))


def agreement(
    tree: Tree,
    student: Int[np.ndarray, " neurons"],
    needed: int,
    *,
    floor: Float[np.ndarray, " nodes"],
    narrow: Float[np.ndarray, " nodes"],
) -> Cut:
    """The default policy; see the head of this file.

    Args:
        tree: To cut.
        student: Of every vector.
        needed: Number of distinct students that make a node large.
        floor: Added to heights, node by node: below it, differences count for little.
        narrow: Height up to which each node is narrow enough to pass as one neuron.
    """
    lives = lifetime(tree, floor)
    best: dict[int, int | None] = {}  # of each large node: the node that stands for it; None once it is several neurons
    chosen: list[int] = []
    for node, *children in _large(tree, needed):
        below = [best.pop(child) for child in children if child in best]
        if not below:
            best[node] = node
        elif len(below) == 1:
            (one,) = below
            best[node] = node if one is not None and lives[node] > lives[one] else one
        elif (
            below[0] is not None
            and below[1] is not None
            and _are_one(tree, student, node, below[0], below[1], floor[node], narrow[node])
        ):
            best[node] = node
        else:
            best[node] = None
            chosen += [one for one in below if one is not None]
    chosen += [one for one in best.values() if one is not None]
    return _cut(tree, np.array(chosen, int), np.nan)


def _large(tree: Tree, needed: int) -> list[list[int]]:
    """Every large node with its two children, children first. A node of two students or more is no lone vector."""
    nodes = np.flatnonzero(tree.n_students >= needed)
    return np.column_stack([nodes, tree.linkage[nodes - len(tree.order), :2].astype(int)]).tolist()


def _are_one(tree: Tree, student: np.ndarray, node: int, a: int, b: int, floor: float, narrow: float) -> bool:
    """Whether two clusters that merge at `node` are copies of one neuron."""
    # The tighter one decides: a loose cloud around a tight cluster must not swallow it.
    spread = min(tree.core_height(a), tree.core_height(b))
    if tree.height[node] + floor <= SEPARATION * (spread + floor):
        return True
    # Two neurons of the teacher are both in most students; one neuron that some students place here and others there
    # is once in each.
    students_a, students_b = (np.unique(student[tree.members(one)]) for one in (a, b))
    shared = len(np.intersect1d(students_a, students_b)) / min(len(students_a), len(students_b))
    return bool(shared < _SHARED and tree.height[node] <= narrow)


def stability(tree: Tree, needed: int, *, floor: Float[np.ndarray, " nodes"]) -> Cut:
    """Nodes by excess of mass, as HDBSCAN selects them, with distinct students in place of a smallest size.

    A path of large nodes without branching is one cluster; its mass is the sum of n_vectors (1/height - 1/top) over its
    nodes. Where two clusters merge, the result stands if its mass exceeds theirs. Of the nodes of a chosen path the one
    with the greatest mass is reported.
    """
    mass = tree.n_vectors * (1 / (tree.height + floor) - 1 / (tree.top + floor))
    path: dict[int, tuple[float, int, float, list[int]]] = {}  # mass, heaviest node; mass and nodes chosen below
    for node, *children in _large(tree, needed):
        below = [path.pop(child) for child in children if child in path]
        if len(below) == 1:
            ((total, heaviest, rival, nodes),) = below
            path[node] = (total + mass[node], max(heaviest, node, key=lambda at: mass[at]), rival, nodes)
        else:
            settled = [_settle(*each) for each in below]
            path[node] = (mass[node], node, sum(m for m, _ in settled), [at for _, nodes in settled for at in nodes])
    return _cut(tree, np.array([at for each in path.values() for at in _settle(*each)[1]], int), np.nan)


def _settle(total: float, heaviest: int, rival: float, nodes: list[int]) -> tuple[float, list[int]]:
    return (rival, nodes) if nodes and rival > total else (total, [heaviest])


def _cut(tree: Tree, nodes: np.ndarray, height: float) -> Cut:
    return Cut(nodes[np.argsort(tree.start[nodes], kind="stable")], float(height))

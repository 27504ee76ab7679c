"""The dendrogram as a tree that can be cut again and again without linking.

Nodes are numbered as in SciPy: 0 ... n - 1 are the vectors, n + i is the result of merge i. Merges are in order of
height. A dendrogram that is known only up to some height is a forest: nodes that are still apart there have no parent.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Tree:
    """What a cut has to know of a dendrogram, node by node.

    Attributes:
        linkage: SciPy's layout, one row a merge: the two nodes, the height, how many vectors.
        parent: Of every node; -1 where there is none.
        height: Height of the merge that made the node; 0 for a vector.
        top: Height at which the node merges into its parent. For a node without one, the height up to which the
            dendrogram is known or, at the root, the distance of unrelated vectors (never less than `height`).
        n_vectors: How many vectors the node holds.
        n_students: From how many distinct students they come.
        order: The vectors in an order in which every node is an interval...
        start: ... that starts here.
    """

    linkage: Float[np.ndarray, "merges 4"]
    parent: Int[np.ndarray, " nodes"]
    height: Float[np.ndarray, " nodes"]
    top: Float[np.ndarray, " nodes"]
    n_vectors: Int[np.ndarray, " nodes"]
    n_students: Int[np.ndarray, " nodes"]
    order: Int[np.ndarray, " neurons"]
    start: Int[np.ndarray, " nodes"]

    def members(self, node: int | np.integer) -> Int[np.ndarray, " members"]:
        """The vectors of a node."""
        return self.order[self.start[node] : self.start[node] + self.n_vectors[node]]

    def children(self, node: int | np.integer) -> tuple[int, int]:
        """The two nodes that merged into this one."""
        left, right = self.linkage[node - len(self.order), :2].astype(int)
        return int(left), int(right)

    def core_height(self, node: int | np.integer) -> float:
        """Height at which at least half of the node's vectors are together for the first time.

        A robust measure of a cluster's spread, as a median is: a stray vector that joins late does not change it.
        """
        half, n = self.n_vectors[node] / 2, len(self.order)
        while node >= n:
            heavy = max(self.children(node), key=lambda child: self.n_vectors[child])
            if self.n_vectors[heavy] < half:
                break
            node = heavy
        return float(self.height[node])


def tree(
    linkage: Float[np.ndarray, "merges 4"], student: Int[np.ndarray, " neurons"], *, known_up_to: float, far: float
) -> Tree:
    """The tree of a dendrogram, in one sweep over its merges.

    Args:
        linkage: Merges in order of height, in SciPy's layout; fewer than n - 1 of them if the rest is not known.
        student: The student of every vector.
        known_up_to: Height up to which the dendrogram is known; infinite if it is complete.
        far: Distance at which unrelated vectors lie, which is where a root is taken to end.
    """
    n, merges = len(student), len(linkage)
    left, right = linkage[:, 0].astype(int), linkage[:, 1].astype(int)
    made = n + np.arange(merges)
    parent = np.full(n + merges, -1)
    parent[left] = parent[right] = made
    height = np.concatenate([np.zeros(n), linkage[:, 2]])
    top = np.where(parent >= 0, height[parent], np.maximum(height, known_up_to if np.isfinite(known_up_to) else far))
    n_vectors = np.concatenate([np.ones(n, int), linkage[:, 3].astype(int)])
    return Tree(
        linkage,
        parent,
        height,
        top,
        n_vectors,
        _count_students(left, right, student),
        *_intervals(left, right, parent, n_vectors, n),
    )


def _count_students(left: np.ndarray, right: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Distinct students below every node: one bit a student, one `or` a merge."""
    names, bit = np.unique(student, return_inverse=True)
    powers = [1 << i for i in range(len(names))]
    masks: list = [powers[i] for i in bit.tolist()]
    counts = [1] * len(student)
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        mask = masks[a] | masks[b]
        masks[a] = masks[b] = None  # a child's students are not asked for again
        masks.append(mask)
        counts.append(mask.bit_count())
    return np.array(counts)


def _intervals(left, right, parent, n_vectors, n) -> tuple[np.ndarray, np.ndarray]:
    """Where every node's vectors start in an order in which nodes are intervals; parents before children."""
    roots = np.flatnonzero(parent < 0)
    start = np.zeros(len(parent), int)
    start[roots] = np.concatenate([[0], np.cumsum(n_vectors[roots])[:-1]])
    places, sizes = start.tolist(), n_vectors.tolist()
    for node, a, b in zip(range(len(parent) - 1, n - 1, -1), left[::-1].tolist(), right[::-1].tolist(), strict=True):
        places[a] = places[node]
        places[b] = places[node] + sizes[a]
    start = np.array(places)
    order = np.empty(n, int)
    order[start[:n]] = np.arange(n)
    return order, start

"""Average linkage: of a distance matrix, of weighted points, and the bookkeeping of merges.

    height of a merge = mean distance between the members of the two clusters (UPGMA)

Merges are first triples (vector, vector, height): any one vector of either side names the cluster it is in at that
height. `dendrogram` turns them into SciPy's layout, so that parts linked separately need no common numbering.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster import hierarchy

Merges = tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"], Float[np.ndarray, "_"]]


def average_linkage(condensed: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, "merges 4"]:
    """Average linkage from condensed distances, in SciPy's layout. SciPy makes a copy of the distances."""
    return hierarchy.linkage(condensed, "average")


def merges_of(linkage: Float[np.ndarray, "merges 4"], vectors: Int[np.ndarray, " vectors"]) -> Merges:
    """The merges of a dendrogram in SciPy's layout whose leaves are `vectors`."""
    names = np.concatenate([vectors, np.zeros(len(linkage), int)]).tolist()
    n = len(vectors)
    left, right = linkage[:, 0].astype(int).tolist(), linkage[:, 1].astype(int).tolist()
    for i, a in enumerate(left):
        names[n + i] = names[a]
    return np.array([names[a] for a in left], int), np.array([names[b] for b in right], int), linkage[:, 2]


def weighted_linkage(distances: Float[np.ndarray, "clusters clusters"], sizes: Int[np.ndarray, " clusters"]) -> Merges:
    """Average linkage of clusters that already hold `sizes` vectors each, from their mean distances.

    Lance and Williams's update with the sizes as starting weights continues a dendrogram exactly where it stopped.
    Nearest-neighbour chain: follow nearest neighbours until two are each other's, merge them, go on from there.

    Args:
        distances: Symmetric matrix of mean distances; it is overwritten.
        sizes: Starting weights.
    """
    d, flat = distances, distances.reshape(-1)
    np.fill_diagonal(d, np.inf)
    m, left = len(d), len(d)
    size, name, alive = sizes.astype(float).tolist(), list(range(m)), np.ones(m, bool)
    # A merge rewrites one row. The other rows learn of it when they are looked at next: writing the column at once
    # would touch a cache line for every row, needed or not.
    into, gone, done, knows = np.empty(m, int), np.empty(m, int), 0, [0] * m
    chain: list[int] = []
    merges = []

    def current(x: int) -> np.ndarray:
        row, late = d[x], into[knows[x] : done]
        row[late] = d[late, x]
        row[gone[knows[x] : done]] = np.inf
        knows[x] = done
        return row

    while left > 1:
        if not chain:
            chain.append(int(np.argmax(alive)))
        while True:
            x = chain[-1]
            row = current(x)
            y = int(row.argmin())
            if len(chain) > 1 and row[chain[-2]] <= row[y]:
                y = chain[-2]
                break
            chain.append(y)
        del chain[-2:]
        total = size[x] + size[y]
        merges.append((name[x], name[y], row[y]))
        kept = current(y)
        kept *= size[y] / total
        row *= size[x] / total
        kept += row
        kept[[x, y]] = np.inf
        into[done], gone[done], alive[x], size[y] = y, x, False, total
        done += 1
        knows[y] = done
        left -= 1
        if 256 < left < 0.6 * m:  # drop dead rows and columns, in place: no second matrix
            keep = np.flatnonzero(alive)
            for old in keep.tolist():
                current(old)
            for k, old in enumerate(keep.tolist()):
                flat[k * left : (k + 1) * left] = d[old][keep]
            place = np.cumsum(alive) - 1
            chain = [int(place[c]) for c in chain]
            d, m = flat[: left * left].reshape(left, left), left
            size, name, alive = [size[k] for k in keep], [name[k] for k in keep], np.ones(m, bool)
            into, gone, done, knows = into[:m], gone[:m], 0, [0] * m
    a, b, heights = zip(*merges, strict=True) if merges else ((), (), ())
    order = np.argsort(heights, kind="stable")
    return np.array(a, int)[order], np.array(b, int)[order], np.array(heights, float)[order]


def gathered(parts: list[Merges]) -> Merges:
    """The merges of all parts, one part after the other."""
    none = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    a, b, heights = (np.concatenate(each) for each in zip(none, *parts, strict=True))
    return a, b, heights


def dendrogram(n: int, parts: list[Merges]) -> Float[np.ndarray, "merges 4"]:
    """Merges of n vectors, part by part, as one dendrogram in SciPy's layout (a forest if they are fewer than n - 1).

    Within a part merges come in the order of their heights; parts that build upon others come after them.
    """
    a, b, heights = gathered(parts)
    order = np.argsort(heights, kind="stable")  # stable: at equal heights children stay before parents
    node, size = list(range(n)), [1] * n  # node and size of the cluster that each root of the union-find stands for
    above = list(range(n))
    rows = []
    for i, j, height in zip(a[order].tolist(), b[order].tolist(), heights[order].tolist(), strict=True):
        i, j = _root(above, i), _root(above, j)
        if size[i] < size[j]:
            i, j = j, i
        above[j] = i
        size[i] += size[j]
        rows.append((min(node[i], node[j]), max(node[i], node[j]), height, size[i]))
        node[i] = n + len(rows) - 1
    return np.array(rows, float).reshape(-1, 4)


def _root(above: list[int], i: int) -> int:
    while above[i] != i:
        above[i] = above[above[i]]
        i = above[i]
    return i

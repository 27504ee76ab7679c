"""The large path, end to end: more vectors than a matrix of their distances would ever fit, half copies, half dust.

    python -m benchmarks.cluster_large --n 100000 --dim 785
    python -m benchmarks.cluster_large --n 1000000 --dim 785      # up to 40 minutes on 2 cores, under 20 GiB

    python -m benchmarks.cluster_large --n 20000 --dim 17 --memory 0.5 --compare    # with all distances

Writes one line of JSON: seconds, peak memory, what was found, how the dendrogram was made. With --compare also the
largest relative difference of a height from SciPy's, up to the height that is known, and the largest difference of a
height from the mean distance between the clusters that it merges, beside the stated bound on it.
"""

import argparse
import json
import resource
import time

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

from ecjax.cluster import ClusterConfig, cluster_neurons
from ecjax.cluster.tree import tree
from ecjax.network import ACTIVATIONS

from .cluster_planted import score


def large_layer(n, dim, n_students, rng):
    """Planted as in `cluster_planted.planted`, with noise of 1e-6 to 1e-3, filled in place: no second matrix."""
    n_teacher = max(1, round(n / 2 / (1.5 * n_students)))
    truth = np.concatenate([np.repeat(np.arange(n_teacher), rng.integers(1, 3, n_teacher)) for _ in range(n_students)])
    truth = np.concatenate([truth[: n // 2], np.full(n - min(len(truth), n // 2), -1)])
    # Students own equal shares of the copies, in order, and of the dust.
    copies = int((truth >= 0).sum())
    student = np.concatenate([np.arange(copies) * n_students // copies, rng.integers(n_students, size=n - copies)])
    order = rng.permutation(n)
    truth, student = truth[order], student[order]
    teacher = rng.standard_normal((n_teacher, dim))
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    neurons = np.empty((n, dim))
    for start in range(0, n, 8192):
        rows = neurons[start : start + 8192]
        rows[:] = rng.standard_normal(rows.shape)
        is_copy = truth[start : start + 8192] >= 0
        rows[~is_copy] /= np.linalg.norm(rows[~is_copy], axis=1, keepdims=True)
        rows[is_copy] *= 10 ** rng.uniform(-6, -3, (is_copy.sum(), 1)) / np.sqrt(dim)
        rows[is_copy] += teacher[truth[start : start + 8192][is_copy]]
    return neurons, student, truth


def compared(found):
    """How the dendrogram differs from that of all distances; takes 6 * n^2 numbers."""
    forest = tree(found.linkage, found.student, known_up_to=found.known_up_to, far=1.0)
    distances = pdist(found.neurons[forest.order])
    whole, known = hierarchy.linkage(distances, "average")[:, 2], found.linkage[:, 2]
    distances, off = squareform(distances), []
    for node in range(len(found.neurons), len(forest.height)):
        a, b = (slice(forest.start[k], forest.start[k] + forest.n_vectors[k]) for k in forest.children(node))
        off.append(forest.height[node] - distances[a, b].mean())
    return {
        "merges": len(known),
        "merges_up_to_there": int(np.sum(whole <= found.known_up_to)),
        "largest_relative_difference": float(np.max(np.abs(known - whole[: len(known)]) / whole[: len(known)])),
        "largest_error": float(np.max(np.abs(off))),
        "height_error": found.height_error,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=785)
    parser.add_argument("--students", type=int, default=None, help="by default so many that each has n / 1000 neurons")
    parser.add_argument("--activation", default="g", help="whose symmetry the neurons have")
    parser.add_argument("--linkage", default="auto")
    parser.add_argument("--compare", action="store_true", help="with SciPy's dendrogram of all distances")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB for distances")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    n_students = args.students or 1000
    neurons, student, truth = large_layer(args.n, args.dim, n_students, np.random.default_rng(args.seed))
    config = ClusterConfig(metric="euclidean", memory=args.memory, linkage=args.linkage)
    start = time.perf_counter()
    found = cluster_neurons(
        neurons, student, n_students=n_students, symmetry=ACTIVATIONS[args.activation].symmetry, config=config
    )
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "n": args.n,
                "dim": args.dim,
                "n_students": n_students,
                "seconds": round(seconds, 1),
                "peak_GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                **score(found.label, found.kept, truth),
                "known_up_to": found.known_up_to,
                "how": found.how,
                **(compared(found) if args.compare else {}),
            }
        )
    )


if __name__ == "__main__":
    main()

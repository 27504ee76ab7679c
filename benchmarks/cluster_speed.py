"""The whole cluster phase against a plain reimplementation of the reference procedure, in the same run.

    python benchmarks/cluster_speed.py                       # n = 10,000, dimensions 17 and 785, against the reference
    python benchmarks/cluster_speed.py --sizes 200 1000 3000 10000 50000 --dims 17

Half of the vectors are copies with noise of 1e-6 to 1e-3, half are dust. The reference procedure, written from its
description: SciPy's pdist, average linkage, fcluster at every height, scans over lists to find the large clusters and
filter them by angle. Compilation happens in a first, untimed run; the answers of all are compared. Prints a table,
writes JSON with --out.
"""

import argparse
import json
import resource
import time

import jax
import numpy as np
from cluster_planted import planted, score
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from ecjax.activations import SYMMETRIES
from ecjax.cluster import ClusterConfig, cluster_neurons
from ecjax.cluster import cut as cutting
from ecjax.cluster.distances import distance_tiles
from ecjax.cluster.embedding import embed
from ecjax.cluster.linkage import library

GAMMA, BETA, N_STUDENTS = 0.8, np.pi / 24, 10


def reference(neurons, n_students=N_STUDENTS, gamma=GAMMA, beta=BETA):
    """Labels of the kept clusters (-1 elsewhere), the heights, and seconds by part."""
    clock = [time.perf_counter()]
    distances = pdist(neurons)
    clock.append(time.perf_counter())
    linkage = hierarchy.linkage(distances, "average")
    clock.append(time.perf_counter())
    needed = int(np.ceil(gamma * n_students - 1e-9))
    best, best_labels, ended = -1, None, False
    for height in linkage[:, 2]:
        labels = hierarchy.fcluster(linkage, height, "distance")
        large = int((np.bincount(labels) >= needed).sum())
        if large > best:
            best, best_labels, ended = large, labels, False
        elif large == best and not ended:
            best_labels = labels
        else:
            ended = True
    clock.append(time.perf_counter())
    labels = best_labels.tolist()
    kept = np.full(len(neurons), -1)
    for k in sorted(set(labels)):
        members = [i for i, label in enumerate(labels) if label == k]
        if len(members) < needed:
            continue
        angles = np.arccos(np.clip(1 - pdist(neurons[members], "cosine"), -1, 1))
        if np.median(angles) <= beta:
            kept[members] = k
    clock.append(time.perf_counter())
    return kept, linkage, dict(zip(("distances", "linkage", "cut", "filters"), np.diff(clock).tolist(), strict=True))


def timed(neurons, student, config):
    start = time.perf_counter()
    found = cluster_neurons(neurons, student, n_students=N_STUDENTS, symmetry=SYMMETRIES["none"], config=config)
    return found, time.perf_counter() - start


def parts(neurons, student, config):
    """Seconds of our phase split as the reference's, by running it with the later parts measured apart."""
    found, whole = timed(neurons, student, config)
    from ecjax.cluster.clustering import recut

    start = time.perf_counter()
    again = recut(found)
    judged = time.perf_counter() - start
    start = time.perf_counter()
    large = cutting.n_needed(config.gamma, N_STUDENTS)
    cutting.curve(found.linkage, np.concatenate([np.ones(len(neurons), int), found.linkage[:, 3].astype(int)]), large)
    cut = time.perf_counter() - start
    assert again.width == found.width
    return found, {
        "distances and linkage": whole - judged,
        "cut and filters": judged,
        "of which curve": cut,
        "all": whole,
    }


def product_share(dim, n=4096):
    """Share of this machine's matrix-product peak that the distances of n vectors reach."""
    x = np.random.default_rng(0).standard_normal((n, dim))
    points = embed(x, metric="euclidean", symmetry=SYMMETRIES["none"])
    with jax.enable_x64(True):
        square = jax.numpy.asarray(np.random.default_rng(0).standard_normal((2048, 2048)))
        product = jax.jit(lambda a: a @ a)
        product(square).block_until_ready()
        peak = min(_seconds(lambda: product(square).block_until_ready()) for _ in range(5))
    sweep = lambda: [None for _ in distance_tiles(points)]
    sweep()
    seconds = min(_seconds(sweep) for _ in range(3))
    flops = n * n * dim  # on and above the diagonal, two for each multiplication and addition
    return {"GFlop/s": flops / seconds / 1e9, "peak GFlop/s": 2 * 2048**3 / peak / 1e9}


def _seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[17, 785])
    parser.add_argument("--reference-up-to", type=int, default=10_000, help="vectors; beyond, only ours is timed")
    parser.add_argument("--linkages", nargs="+", default=["matrix", "components", "balls"])
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    rows = []
    for dim in args.dims:
        share = product_share(dim)
        print(f"dim {dim}: distances at {share['GFlop/s']:.0f} of {share['peak GFlop/s']:.0f} GFlop/s (matrix product)")
        for n in args.sizes:
            neurons, student, truth = planted(
                n=n, dim=dim, noise=(1e-6, 1e-3), dust=0.5, n_students=N_STUDENTS, rng=np.random.default_rng(n)
            )
            row = {"n": len(neurons), "dim": dim, "product": share}
            base = None
            if n <= args.reference_up_to:
                kept, linkage, seconds = reference(neurons)
                base = sum(seconds.values())
                names = np.unique(kept[kept >= 0])
                tally = score(kept, np.isin(np.arange(kept.max() + 2), names), truth)
                row["reference"] = {**seconds, "all": base, **tally}
                print(f"  n {len(neurons):6d} reference  {base:8.2f} s  ", _words(seconds), tally)
            for method in args.linkages:
                config = ClusterConfig(metric="euclidean", gamma=GAMMA, beta=BETA, linkage=method, memory=16.0)
                if method == "matrix" and n > 20_000:
                    continue
                timed(neurons, student, config)
                found, seconds = parts(neurons, student, config)
                tally = score(found.label, found.kept, truth)
                row[method] = {**seconds, **tally, "how": found.how, "height_error": found.height_error}
                faster = f"{base / seconds['all']:5.1f} times faster" if base else ""
                print(f"  n {len(neurons):6d} {method:10s} {seconds['all']:8.2f} s  ", _words(seconds), tally, faster)
                if base and np.isinf(found.known_up_to):
                    off = np.max(np.abs(found.linkage[:, 2] - linkage[:, 2]) / linkage[:, 2])
                    row[method]["largest relative difference of a height"] = off
            row["peak GiB so far"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            row["library"] = library(n)
            rows.append(row)
    for dim in args.dims:
        for method in ("reference", *args.linkages):
            points = [(r["n"], r[method]["all"]) for r in rows if r["dim"] == dim and method in r]
            if len(points) > 2:
                exponent = np.polyfit(*np.log(np.array(points[-3:])).T, 1)[0]
                print(f"dim {dim} {method}: seconds grow as n^{exponent:.2f} over the last three sizes")
    if args.out:
        with open(args.out, "w") as file:
            json.dump(rows, file, indent=1)


def _words(seconds):
    return ", ".join(f"{name} {value:.2f}" for name, value in seconds.items() if name != "all")


if __name__ == "__main__":
    main()

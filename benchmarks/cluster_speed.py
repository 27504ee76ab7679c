"""The whole cluster phase against a plain reimplementation of the reference procedure, in the same run.

    python -m benchmarks.cluster_speed                       # n = 10,000, dimensions 17 and 785, against the reference
    python -m benchmarks.cluster_speed --sizes 200 1000 3000 10000 50000 --dims 17

Half of the vectors are copies with noise of 1e-6 to 1e-3, half are dust. The reference procedure, written from its
description: SciPy's pdist, average linkage, fcluster at every height, scans over lists to find the large clusters and
filter them by angle. The better of two runs of it is told, and the best of four of ours, the first of which compiles
(beyond 10,000 vectors: of one). Peak memory is ours alone, measured in a process of its own, in condensed float64
matrices of all distances. Prints tables in Markdown, writes JSON with --out.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from ecjax.cluster import ClusterConfig, cluster_neurons, clustering
from ecjax.cluster import cut as cutting
from ecjax.cluster import link as linking
from ecjax.cluster import verdict as judging
from ecjax.cluster.distances import distance_tiles
from ecjax.cluster.embedding import embed
from ecjax.network import SYMMETRIES

from .cluster_planted import planted, score

GAMMA, BETA, N_STUDENTS = 0.8, np.pi / 24, 10


def reference(neurons, n_students=N_STUDENTS, gamma=GAMMA, beta=BETA):
    """Labels of the kept clusters (-1 elsewhere), the heights, and seconds by part."""
    clock = [time.perf_counter()]
    distances = pdist(neurons)
    clock.append(time.perf_counter())
    linkage = hierarchy.linkage(distances, "average")
    clock.append(time.perf_counter())
    needed = cutting.n_needed(gamma, n_students)
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


# Which part of the phase a function belongs to; what is left of `link` is linkage, and of `judge` filters.
_DISTANCES = ["bound", "_radius", "_fitting_components", "member_distances", "mean_distances", "centres"]
PARTS = {
    "distances": {linking: ["condensed_distances", "square_distances", *_DISTANCES]},
    "cut": {judging: ["tree", "_choose"], cutting: ["curve"]},
}


def run(neurons, student, config):
    return cluster_neurons(neurons, student, n_students=N_STUDENTS, symmetry=SYMMETRIES["none"], config=config)


def timed(neurons, student, config):
    """The clustering, and seconds by part."""
    spent = dict.fromkeys(("distances", "linkage", "cut", "filters", "all"), 0.0)

    def clocked(function, part):
        def run_and_clock(*args, **settings):
            start = time.perf_counter()
            result = function(*args, **settings)
            spent[part] += time.perf_counter() - start
            return result

        return run_and_clock

    names = [(module, name, part) for part, of in PARTS.items() for module, names in of.items() for name in names]
    names += [(clustering, "link", "linkage"), (clustering, "judge", "filters")]
    was = [getattr(module, name) for module, name, _ in names]
    try:
        for (module, name, part), function in zip(names, was, strict=True):
            setattr(module, name, clocked(function, part))
        found = clocked(run, "all")(neurons, student, config)
    finally:
        for (module, name, _), function in zip(names, was, strict=True):
            setattr(module, name, function)
    spent["linkage"] -= spent["distances"]
    spent["filters"] -= spent["cut"]
    return found, spent


def layer(n, dim):
    rng = np.random.default_rng(n)
    return planted(n=n, dim=dim, noise=(1e-6, 1e-3), dust=0.5, n_students=N_STUDENTS, rng=rng)


def ask(method):
    return ClusterConfig(metric="euclidean", gamma=GAMMA, beta=BETA, linkage=method, memory=16.0)


def peak_memory(n, dim, method):
    """GiB that our phase takes at its peak beyond the imports, the compiled functions and the input. Linux only.

    To be called in a process that does nothing else.
    """
    run(*layer(1500, dim)[:2], ask(method))  # compiles
    neurons, student, _ = layer(n, dim)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = _status("VmRSS")
    run(neurons, student, ask(method))
    return (_status("VmHWM") - before) / 2**20


def _status(name):
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(name + ":"))
    return int(line.split()[1])


def peak_memory_alone(n, dim, method):
    command = [sys.executable, "-m", "benchmarks.cluster_speed", "--peak-memory", str(n), str(dim), method]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


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
    parser.add_argument("--matrix-up-to", type=int, default=10_000, help="vectors; beyond, only what needs no matrix")
    parser.add_argument("--linkages", nargs="+", default=["matrix", "components", "balls"])
    parser.add_argument("--out", help="JSON file")
    parser.add_argument("--peak-memory", nargs=3, metavar=("N", "DIM", "LINKAGE"), help="only this, in GiB")
    args = parser.parse_args()
    if args.peak_memory:
        n, dim, method = args.peak_memory
        print(peak_memory(int(n), int(dim), method))
        return
    rows = []
    for dim in args.dims:
        share = product_share(dim)
        print(f"\nDimension {dim}: distances at {share['GFlop/s']:.0f} of {share['peak GFlop/s']:.0f} GFlop/s.\n")
        print("| n | method | distances | linkage | cut | filters | all (s) | faster | peak memory | found |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for n in args.sizes:
            neurons, student, truth = layer(n, dim)
            base, heights = None, None
            if n <= args.reference_up_to:
                kept, linkage, seconds = min(
                    (reference(neurons) for _ in range(2)), key=lambda one: sum(one[2].values())
                )
                tally = score(kept, np.isin(np.arange(kept.max() + 1), kept), truth)
                base, heights = {**seconds, "all": sum(seconds.values())}, linkage[:, 2]
                rows.append({"n": n, "dim": dim, "method": "reference", **base, **tally})
                print(_line(rows[-1]))
            for method in args.linkages:
                if method == "matrix" and n > args.matrix_up_to:
                    continue
                timed(neurons, student, ask(method))
                found, seconds = min(
                    (timed(neurons, student, ask(method)) for _ in range(3)), key=lambda r: r[1]["all"]
                )
                row = {"n": n, "dim": dim, "method": method, **seconds, **score(found.label, found.kept, truth)}
                row |= {"how": found.how, "height_error": found.height_error, "product": share}
                row["matrices"] = peak_memory_alone(n, dim, method) * 2**30 / (4 * len(neurons) * (len(neurons) - 1))
                if base:
                    row["faster"] = base["all"] / seconds["all"]
                    row["off"] = float(np.max(np.abs(found.linkage[:, 2] - heights) / heights))
                rows.append(row)
                print(_line(row), flush=True)
        for method in ("reference", *args.linkages):
            sizes, seconds = np.array(
                [(r["n"], r["all"]) for r in rows if (r["dim"], r["method"]) == (dim, method)] or [(1, 1)]
            )[-3:].T
            if len(sizes) > 2:
                exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
                print(f"{method}: seconds grow as n^{exponent:.2f} over the last three sizes.")
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=1))


def _line(row):
    cells = [f"{row['n']:,}", row["method"], *(f"{row[part]:.3f}" for part in ("distances", "linkage", "cut"))]
    cells += [f"{row['filters']:.3f}", f"{row['all']:.2f}", f"{row['faster']:.1f}" if "faster" in row else ""]
    cells += [f"{row['matrices']:.2f}" if "matrices" in row else "", f"{row['found']} of {row['planted']}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

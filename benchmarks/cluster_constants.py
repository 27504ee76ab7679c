"""What the constants of the cut are good for: planted layers in which each of them decides, over a range of values.

    python -m benchmarks.cluster_constants --write docs/cluster.md      # a minute on two cores

Ten students, eight neurons (or pairs) of norm 1 in 17 dimensions, and as many vectors of dust as copies. Copies are
off by normal errors of a size (root mean square, as a share of the norm) that is given, or drawn from a range uniformly
in its exponent:

    loose        errors of 1e-2, one or two copies in each student
    stretched    errors of 1e-2 along two directions only, two to four copies, gamma 0.5: copies form streaks
    pairs        neurons with a partner at a distance of 8e-3, errors of 1e-3
    near pairs   neurons with a partner at a distance of 1e-2, errors of 1e-6 to 1e-3
    halves       every student puts a neuron here or there, 0.05 apart, one in ten students in both places; gamma 0.4
    rare pairs   neurons with a partner at a distance of 0.05, each in 8 of 10 students, drawn for itself; gamma 0.5

A cell is the share of the planted neurons that are kept, and kept once, in percent.
"""

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecjax.cluster import ClusterConfig, cluster_neurons, cut
from ecjax.network import SYMMETRIES

N_STUDENTS, N_NEURONS, DIM = 10, 8, 17
SCENARIOS = {
    "loose": {"error": 1e-2},
    "stretched": {"error": 1e-2, "directions": 2, "copies": (2, 3, 4), "gamma": 0.5},
    "pairs": {"error": 1e-3, "apart": 8e-3},
    "near pairs": {"error": (1e-6, 1e-3), "apart": 1e-2},
    "halves": {"error": 1e-3, "apart": 0.05, "both": 0.1, "copies": (1,), "gamma": 0.4},
    "rare pairs": {"error": 1e-3, "apart": 0.05, "present": 0.8, "copies": (1,), "gamma": 0.5},
}
VALUES = {
    "SEPARATION": (1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0),
    "_SHARED": (0.1, 0.3, 0.5, 0.7, 0.9),
    "resolution": (1e-6, 1e-4, 1e-3, 3e-3, 1e-2, 1e-1),
}
MARKS = ("<!-- constants: begin -->", "<!-- constants: end -->")


def planted(rng, *, error, directions=DIM, copies=(1, 2), apart=0.0, both=None, present=1.0, gamma=0.8):
    """Neurons, their students, and the neuron of each (-1 for dust)."""
    teacher = _sphere(N_NEURONS, rng)
    if apart:
        teacher = np.concatenate([teacher, teacher + apart * _sphere(N_NEURONS, rng)])
    times = rng.choice(copies, size=(N_STUDENTS, len(teacher)))
    if both is not None:  # one place of two, or both
        first = rng.permuted(np.tile(np.arange(N_STUDENTS) % 2 == 0, (N_NEURONS, 1)), axis=1).T
        in_both = rng.uniform(size=first.shape) < both
        times *= np.concatenate([first | in_both, ~first | in_both], axis=1)
    elif present < 1:
        ranks = np.argsort(rng.uniform(size=times.shape), axis=0)
        times *= ranks < round(present * N_STUDENTS)
    truth = np.concatenate([np.repeat(np.arange(len(teacher)), of) for of in times])
    student = np.repeat(np.arange(N_STUDENTS), times.sum(axis=1))
    along = np.stack([_sphere(directions, rng) for _ in teacher])
    low, high = np.log10(np.broadcast_to(error, 2))
    size = 10 ** rng.uniform(low, high, (len(truth), 1)) / np.sqrt(directions)
    errors = np.einsum("ni,nij->nj", size * rng.standard_normal((len(truth), directions)), along[truth])
    neurons = np.concatenate([teacher[truth] + errors, _sphere(len(truth), rng)])
    student = np.concatenate([student, rng.integers(N_STUDENTS, size=len(truth))])
    truth = np.concatenate([truth if both is None else truth % N_NEURONS, np.full(len(truth), -1)])
    return neurons, student, truth, ClusterConfig(metric="euclidean", gamma=gamma)


def _sphere(n, rng):
    directions = rng.standard_normal((n, DIM))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@contextlib.contextmanager
def constant(name, value):
    """The constant of `ecjax.cluster.cut` at another value."""
    was = getattr(cut, name)
    setattr(cut, name, value)
    try:
        yield
    finally:
        setattr(cut, name, was)


def kept_once(scenario, draws, resolution):
    """Percentage of the planted neurons that are one kept cluster."""
    right, n_planted = 0, 0
    for draw in range(draws):
        neurons, student, truth, config = planted(np.random.default_rng(draw), **scenario)
        config = replace(config, resolution=resolution)
        found = cluster_neurons(neurons, student, n_students=N_STUDENTS, symmetry=SYMMETRIES["none"], config=config)
        owners = [np.bincount(truth[found.members(k)] + 1).argmax() - 1 for k in found.kept_clusters]
        right += int(np.sum(np.bincount([owner for owner in owners if owner >= 0], minlength=1) == 1))
        n_planted += truth.max() + 1
    return round(100 * right / n_planted)


def table(draws):
    """Markdown."""
    used = {"SEPARATION": cut.SEPARATION, "_SHARED": cut._SHARED, "resolution": ClusterConfig().resolution}
    lines = [
        f"Neurons kept, and kept once, in percent of those planted in {draws} draws; the values in use in bold.",
        "",
        f"| constant | value | {' | '.join(SCENARIOS)} |",
        "|---|---|" + "---|" * len(SCENARIOS),
    ]
    for name, values in VALUES.items():
        for value in values:
            with contextlib.nullcontext() if name == "resolution" else constant(name, value):
                resolution = value if name == "resolution" else used["resolution"]
                cells = [kept_once(scenario, draws, resolution) for scenario in SCENARIOS.values()]
            mark = "**" if value == used[name] else ""
            lines.append(f"| {name} | {mark}{value:g}{mark} | {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--write", type=Path, help="Markdown file whose table between the marks is replaced")
    args = parser.parse_args()
    text = table(args.draws)
    if args.write:
        page = args.write.read_text()
        begin, end = (page.index(mark) for mark in MARKS)
        args.write.write_text(f"{page[: begin + len(MARKS[0])]}\n{text}\n{page[end:]}")


if __name__ == "__main__":
    main()

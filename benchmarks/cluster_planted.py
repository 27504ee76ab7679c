"""Planted layers: neurons whose clusters are known, for the studies and benchmarks of the cluster phase."""

import numpy as np


def planted(*, n, dim, noise, dust, n_students=10, rng, copies=(1, 2)):
    """Neurons of one layer, pooled over students: copies of teacher neurons with noise, and dust of the same norm.

    Args:
        n: Number of vectors, about.
        dim: Coordinates of a vector, bias included.
        noise: Norm of a copy's error, as a share of its neuron's norm (root mean square): one number, or a range of
            which the exponent is drawn uniformly, copy by copy.
        dust: Share of the vectors that belong to no teacher neuron: directions uniform on the sphere.
        copies: How often a student holds each teacher neuron: drawn uniformly from these.

    Returns:
        (neurons, student, truth): truth is the teacher neuron of every vector, -1 for dust. In random order.
    """
    n_teacher = max(1, round(n * (1 - dust) / (n_students * np.mean(copies))))
    teacher = _sphere(n_teacher, dim, rng)
    times = rng.choice(copies, size=(n_students, n_teacher))
    truth = np.concatenate([np.repeat(np.arange(n_teacher), t) for t in times])
    student = np.repeat(np.arange(n_students), times.sum(axis=1))
    low, high = np.log10(np.broadcast_to(noise, 2))
    error = rng.standard_normal((len(truth), dim)) / np.sqrt(dim)
    neurons = teacher[truth] + 10 ** rng.uniform(low, high, (len(truth), 1)) * error
    n_dust = round(len(truth) * dust / (1 - dust))
    neurons = np.concatenate([neurons, _sphere(n_dust, dim, rng)])
    student = np.concatenate([student, rng.integers(n_students, size=n_dust)])
    truth = np.concatenate([truth, np.full(n_dust, -1)])
    order = rng.permutation(len(truth))
    return neurons[order], student[order], truth[order]


def _sphere(n, dim, rng):
    directions = rng.standard_normal((n, dim))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def score(label, kept, truth):
    """How many planted neurons were found, missed, returned twice, and how many false clusters were kept.

    A kept cluster is of the teacher neuron that most of its members are copies of, if those are more than half; else it
    is false.
    """
    owners = []
    for k in np.flatnonzero(kept):
        names, counts = np.unique(truth[label == k], return_counts=True)
        best = np.argmax(counts)
        owners.append(names[best] if 2 * counts[best] > counts.sum() else -1)
    owners = np.array(owners, int)
    true = owners[owners >= 0]
    n_teacher, found = truth.max() + 1, len(np.unique(true))
    return {
        "planted": int(n_teacher),
        "found": found,
        "missed": int(n_teacher - found),
        "false": int((owners < 0).sum()),
        "twice": len(true) - found,
    }

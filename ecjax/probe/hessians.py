"""Incoming weight vectors of the last hidden layer from Hessians of the answers, whatever the (smooth) activation.

In the coordinates of the row space, where W is square, the Hessian of every output at every point is

    H = W^T diag(a s''(z)) W,

so for two of them H_1 H_2^-1 has the columns of W^T as eigenvectors, and the generalised eigenvectors of the pair are
the columns of W^-1. Every pair of random combinations of all Hessians is a proposer of its own: noise in the
differences, and two eigenvalues that happen to be near each other, spoil vectors of one pair and not of the next.

Source: entangled weights from Hessians: Fornasier, Klock, Rauchensteiner (arXiv:1907.00485); here by one generalised
    eigenproblem, as Hessians of several outputs are at hand.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, eig

from .differences import Asked, hessian, hessian_step

N_PAIRS = 8  # proposers
# The rounding of a second difference spoils all directions alike; its truncation is made of the same few weight
# vectors. So a step ten times that of plain differences is better: worst 1 - cosine 3e-5 against 5e-10 (784-128-10).
_LONGER = 10.0
_SEEN = 1e-5  # singular value of all Hessians together, beside the largest, that a neuron makes
_REAL = 1e-3  # share of an eigenvector that may be imaginary, by rounding


def hessians(
    ask: Asked, points: Float[np.ndarray, "points rank"], *, precision: float, scale: float
) -> Float[np.ndarray, "hessians rank rank"]:
    """Hessians of all outputs at some points, each of norm 1; about rank^2 questions a point."""
    step = min(_LONGER * hessian_step(precision, scale), scale / 4)
    found = [hessian(ask, point, step) for point in points]
    found = np.concatenate(found)
    norm = np.linalg.norm(found, axis=(1, 2))
    return found[norm > 0] / norm[norm > 0, None, None]


def proposals(
    hessians: Float[np.ndarray, "hessians rank rank"], *, n_pairs: int = N_PAIRS, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "proposed rank"], Int[np.ndarray, " proposed"]]:
    """Unit vectors along incoming weight vectors, and the pair of combinations that proposes each."""
    vectors, proposer = [], []
    rank = hessians.shape[1]
    _, seen, _ = np.linalg.svd(hessians.reshape(-1, rank), full_matrices=False)
    if len(seen) < rank or seen[-1] < _SEEN * seen[0]:
        n_pairs = 0  # elu and selu have straight sides: there a neuron has no second derivative
    for pair in range(n_pairs):
        first, second = np.tensordot(rng.standard_normal((2, len(hessians))), hessians, 1)
        try:
            columns = eig(first, second)[1]
            rows = np.linalg.inv(columns)
        except (LinAlgError, np.linalg.LinAlgError):
            continue  # a pair that is singular proposes nothing
        size = np.linalg.norm(rows.real, axis=1)
        real = np.linalg.norm(rows.imag, axis=1) < _REAL * size
        vectors.append(rows.real[real] / size[real, None])
        proposer += [pair] * int(real.sum())
    return np.concatenate([np.zeros((0, rank)), *vectors]), np.array(proposer, int)

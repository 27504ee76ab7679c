"""Incoming weight vectors of the last hidden layer from Hessians of the answers, whatever the (smooth) activation.

In the coordinates of the row space, where W is square, the Hessian of every output at every point is

    H = W^T diag(a s''(z)) W,

so for two of them H_1 H_2^-1 has the columns of W^T as eigenvectors, and the generalised eigenvectors of the pair are
the columns of W^-1. Noise in the differences, and two eigenvalues that happen to be near each other, spoil some. All
Hessians together have no such accidents: V that makes V^T H V most nearly diagonal for all of them is found from there
in some five steps, each of which solves two unknowns for every pair of neurons,

    V <- V (I + X),      d_ij + x_ij d_ii + x_ji d_jj = 0    by least squares over all Hessians,  d = V^T H V.

With answers in float32 a typical vector is off by 0.01 after one pair, and by 3e-4 after all. Every pair of random
combinations is a start, and a proposer, of its own: where there is no such V, they do not come to agree.

Sources: entangled weights from Hessians: Fornasier, Klock, Rauchensteiner (arXiv:1907.00485). Diagonalising several
    matrices together: Ziehe, Laskov, Nolte, Mueller (JMLR 5, 2004), there with equal weights; here Newton's step.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, eig

from .differences import Asked, hessian, hessian_step

N_PAIRS = 8  # proposers
# The truncation of a second difference is made of the same few weight vectors, and hurts less than rounding does. With
# twenty Hessians of 784-128-10 together and answers in float32 a typical vector is off by 5e-4 with steps 2.5 times as
# long as usual, 3e-4 with 4, and 1e-3 with 10.
_LONGER = 4.0
_SEEN = 1e-5  # singular value of all Hessians together, beside the largest, that a neuron makes
_STEPS = 20  # together; five to seven where all are neurons
_LONGEST = 0.3  # entry of X
_DISTINCT = 1e-6  # squared sine of the curvatures of two neurons, all Hessians together; below, they are not told apart


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
    rank = hessians.shape[1]
    _, seen, _ = np.linalg.svd(hessians.reshape(-1, rank), full_matrices=False)
    if len(seen) < rank or seen[-1] < _SEEN * seen[0]:
        n_pairs = 0  # elu and selu have straight sides: there a neuron has no second derivative
    vectors, proposer = np.zeros((0, rank)), []
    for pair in range(n_pairs):
        first, second = np.tensordot(rng.standard_normal((2, len(hessians))), hessians, 1)
        try:
            rows = np.linalg.inv(together(hessians, _start(first, second)))
        except (LinAlgError, np.linalg.LinAlgError):
            continue  # a pair that is singular proposes nothing
        vectors = np.concatenate([vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True)])
        proposer += [pair] * rank
    return vectors, np.array(proposer, int)


def _start(first: Float[np.ndarray, "rank rank"], second: Float[np.ndarray, "rank rank"]) -> np.ndarray:
    """Generalised eigenvectors, one a column; of two that are complex by noise, the plane that they span."""
    vectors = np.asarray(eig(first, second)[1])
    real, imaginary = np.real(vectors), np.imag(vectors)
    is_complex = np.any(imaginary != 0, axis=0)  # conjugates stand one after the other
    return np.where(is_complex & (np.cumsum(is_complex) % 2 == 0), imaginary, real)


def together(hessians: Float[np.ndarray, "hessians rank rank"], v: Float[np.ndarray, "rank rank"]) -> np.ndarray:
    """The V near a start with which all V^T H V are as diagonal as they become."""
    for _ in range(_STEPS):
        v = v / np.linalg.norm(v, axis=0)
        turned = v.T @ hessians @ v
        own = np.diagonal(turned, axis1=1, axis2=2)  # [hessians, rank]
        products = own.T @ own
        mixed = np.einsum("kij,ki->ij", turned, own)  # sum over Hessians of d_ij d_ii
        size = np.outer(np.diag(products), np.diag(products))
        x = (products * mixed.T - mixed * np.diag(products)) / np.maximum(size - products**2, _DISTINCT * size)
        np.fill_diagonal(x, 0)
        largest = float(np.abs(x).max(initial=0))
        v = v + v @ x * min(1.0, _LONGEST / max(largest, _LONGEST))
        if largest < np.sqrt(np.finfo(float).eps):
            break  # steps are Newton's
    return v

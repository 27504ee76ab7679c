"""How hard a teacher is to identify, in numbers that need no student.

`ease` is the smallest eigenvalue of the teacher's Fisher information over the queries, J^T J / n with J the derivatives
of the answers by the weights: how much the answers change, at least, when the weights move by one in any direction.
The others are simpler numbers that might say as much.
"""

import numpy as np

from ecjax import Network, jacobian


def ease_numbers(teacher: Network, x) -> dict[str, float]:
    """The ease of a teacher with one output, and its rivals.

    Args:
        teacher: Whose weights are to be found.
        x: Queries.

    Returns:
        `ease`; `ease_scaled`, the same with every weight in units of its own influence (columns of J of norm 1);
        `n_parameters`; `closest_pair`, the smallest Euclidean distance of two neurons' (w, b).
    """
    j = np.asarray(jacobian(teacher, x), float).reshape(len(x), -1)
    hidden = teacher.layers[0]
    vectors = np.concatenate([np.asarray(hidden.w, float), np.asarray(hidden.b, float)[:, None]], axis=1)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1) + np.where(np.eye(len(vectors)) > 0, np.inf, 0)
    return {
        "ease": _smallest(j) / len(x),
        "ease_scaled": _smallest(j / np.linalg.norm(j, axis=0)),
        "n_parameters": teacher.n_parameters,
        "closest_pair": float(apart.min()),
    }


def _smallest(j: np.ndarray) -> float:
    """Smallest eigenvalue of J^T J, from the singular values of J: no rounding of squares."""
    return float(np.linalg.svd(j, compute_uv=False)[-1] ** 2)

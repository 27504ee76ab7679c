"""What rows of a table say of themselves: queries that came twice, outputs that are functions of the others."""

import numpy as np
from jaxtyping import Float

# Singular values of outputs in units of their own spread, below which a direction is rounding: some roundings of a sum.
_ROUNDING = 1e2
_AT_ONCE = 10_000  # rows, of a copy


def repeated(x: Float[np.ndarray, "samples fan_in"], y: Float[np.ndarray, "samples fan_out"]) -> tuple[int, float]:
    """How many queries came before, and by how much their answers differ.

    Args:
        x: Queries.
        y: Answers.

    Returns:
        How many rows repeat the query of another one; and the standard deviation of the errors that these show, root
        mean square over outputs, in units of each output's own.
    """
    mark = _marks(x)
    order = np.argsort(mark, kind="stable")
    near = np.flatnonzero(np.diff(mark[order]) == 0)
    one, other = order[near], order[near + 1]
    same = (x[one] == x[other]).all(axis=1)
    one, other = one[same], other[same]
    if not len(one):
        return 0, 0.0
    spread = y.std(axis=0)
    off = (y[one] - y[other]) / np.where(spread > 0, spread, 1)
    return len(one), float(np.sqrt(np.mean(off**2) / 2))


def _marks(x: np.ndarray) -> np.ndarray:
    """A number for each row, equal for equal ones: sums by rows, as a product of matrices may add in other orders."""
    direction = np.random.default_rng(0).standard_normal(x.shape[1])
    pieces = (slice(start, start + _AT_ONCE) for start in range(0, len(x), _AT_ONCE))
    return np.concatenate([np.sum(x[piece] * direction, axis=1) for piece in pieces])


def independent_outputs(y: Float[np.ndarray, "samples fan_out"]) -> int:
    """How many outputs are no linear function of the others and a constant."""
    centred = y - y.mean(axis=0)
    spread = centred.std(axis=0)
    singular = np.linalg.svd(np.linalg.qr(centred / np.where(spread > 0, spread, 1), mode="r"), compute_uv=False)
    return int(np.sum(singular > _ROUNDING * np.finfo(float).eps * np.sqrt(len(y)) * singular.max(initial=0)))

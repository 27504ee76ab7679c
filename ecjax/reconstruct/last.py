"""The last steps to an exact network, with the matrix of all its weights.

Along some directions of all layers together answers hardly change: singular values of J lie a million times below the
largest. Conjugate gradients see such directions only after thousands of products, and a loss of 1e-12 leaves errors of
1e-2 in some weights. A matrix sees them at once. Of the layers above the first of 784-128-80-40-32-10 sigmoid, 11,362
weights, at 1.6e-12 and errors of 1.2e-2, two steps of 85 s lead to 6e-27 and 5e-9; twenty without a matrix, 100 s, to
a tenth of the loss and no better weights.

Three things are needed for that. Damping is next to nothing, and only as much as the loss asks for: a hundred times
more, and the directions that are wanted stay hidden. Valleys are bent, and a straight step of that length raises the
loss (errors of 1.9e-4 at 4e-12); its geodesic correction takes the same step to 1.8e-5 and 1e-13. And J^T J is summed
over blocks of samples by a product that knows itself symmetric, so that J is never there.

Where the way is long, first steps gain little: 40-32-24-16-6 sigmoid, at 1.5e-12, is another three tenths of its
weights' norm from the end. With dampings ten times apart, of which each step takes the best, fifteen steps of 1.6 s
lead from there to rounding: the first twelve to a tenth of the loss, the last two from 5e-17 to 4e-22.

Source: as `ecjax.expand.levenberg_marquardt`, whose matrix is XLA's, and whose damping begins at the residuals' norm.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import dsyrk  # pyright: ignore[reportAttributeAccessIssue]  # made as SciPy is imported

from ..base.precision import compiled
from ..base.progress import Progress, silent
from ..expand import Stopping, fewer
from ..network import Network
from ..objective import Samples, flatten
from ..objective.derivatives import jacobian_rows

_NUMBERS = 3.0  # for each parameter
_LEAST, _FIRST, _MOST = 1e-14, 1e-12, 1e-3  # damping, in units of the mean of the diagonal
_APART = 10.0  # dampings that are tried
_PLENTY = 100.0  # by which a step lowers a loss for no other damping to be tried
_PROGRESS = 1.02  # by which one has to lower it for another step
_AT_ONCE = 256  # samples


def last_steps(net: Network, samples: Samples, *, stop: Stopping, progress: Progress = silent) -> tuple[Network, float]:
    """Take a smooth network that is nearly exact down to rounding errors.

    A step takes three times the third power of the number of parameters in operations, and memory for two matrices.

    Args:
        net: Where to start.
        samples: Queries and targets, of which those are taken that the parameters need.
        stop: When to stop: steps, and the loss.
        progress: Called after every step.

    Returns:
        The refined network, and its loss on all samples; the given one if they would not have it better.
    """
    some, start = fewer(samples, net, _NUMBERS), (net, float(samples.value(net)))
    loss, damping = float(some.value(net)), _FIRST
    for _ in range(stop.max_steps):
        if loss <= stop.target_loss:
            break
        further = _step(net, some, loss, damping)
        if further is None:
            break
        before, (net, loss, damping) = loss, further
        progress("finetune", 0, 1, losses=[loss])
        if loss > before / _PROGRESS:
            break
    return min(start, (net, float(samples.value(net))), key=lambda each: each[1])


def _step(net: Network, samples: Samples, loss: float, damping: float) -> tuple[Network, float, float] | None:
    """The network after the best step of several dampings, the loss that it leaves, and where the next one may begin.

    None if no step lowers the loss.
    """
    theta, unflatten = flatten(net)
    downhill = -np.asarray(_gradient(net, samples), float) / 2
    matrix = _gram(net, samples)
    unit = float(np.mean(matrix.diagonal()))
    best = None
    while damping < _MOST:
        damped = matrix.copy(order="F")
        damped[np.diag_indices(len(damped))] += damping * unit
        used, damping = damping, _APART * damping
        try:
            factor = cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:  # of a matrix that is singular but for rounding
            continue
        step = cho_solve(factor, downhill, check_finite=False)
        bend = np.asarray(_bend(net, samples, jnp.asarray(step, net.dtype)), float) / 2
        correction = -cho_solve(factor, bend, check_finite=False) / 2
        trial = unflatten(theta + jnp.asarray(step + correction, net.dtype))
        after = float(samples.value(trial))
        if best is not None and not after < best[1]:
            break
        if after < loss:
            best = trial, after, max(used / _APART, _LEAST)
            if after < loss / _PLENTY:
                break
    return best


def _gram(net: Network, samples: Samples) -> Float[np.ndarray, "parameters parameters"]:
    """The lower triangle of J^T J."""
    root = jnp.broadcast_to(jnp.sqrt(samples.share), samples.y.shape)
    total = np.zeros((net.n_parameters, net.n_parameters), order="F")
    for start in range(0, len(samples.x), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        rows = np.asarray(_rows(net, samples.x[block], root[block]))
        total = dsyrk(1.0, rows.T, beta=1.0, c=total, trans=1, lower=1, overwrite_c=1)
    return total


@compiled
def _rows(net: Network, x: Float[Array, "samples fan_in"], root: Float[Array, "samples fan_out"]):
    """A row for every parameter, of its derivatives of all residuals."""
    rows = jacobian_rows(net, x) * root.T[None]
    return rows.reshape(len(rows), -1)


@compiled
def _gradient(net: Network, samples: Samples):
    return flatten(samples.gradient(net))[0]


@compiled
def _bend(net: Network, samples: Samples, step):
    return samples.bend(net, step)

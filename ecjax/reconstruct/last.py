"""The last steps to an exact network, with the matrix of as many of its upper layers as it can be written down for.

Along some directions of all layers together answers hardly change: singular values of J lie a million times below the
largest. Conjugate gradients see such directions only after thousands of products, and a loss of 1e-12 leaves errors of
1e-2 in some weights. A matrix sees them at once. Of the layers above the first of 784-128-80-40-32-10 sigmoid, 11,362
weights, at 1.6e-12 and errors of 1.2e-2, two steps of 85 s lead to 6e-27 and 5e-9; twenty without a matrix, 100 s, to
a tenth of the loss and no better weights.

Three things are needed for that. Damping is next to nothing, and only there for the factor: a hundred times more, and
the directions that are wanted stay hidden. Valleys are bent, and a straight step of that length raises the loss (errors
of 1.9e-4 at 4e-12); its geodesic correction takes the same step to 1.8e-5 and 1e-13. And J^T J is summed over blocks of
samples by a product that knows itself symmetric, so that J is never there.

Layers below those of the matrix move along: conjugate gradients solve for all, preconditioned by the matrix above and
by Kronecker factors below.

Sources: as `ecjax.expand.levenberg_marquardt` and `ecjax.expand.conjugate`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import dsyrk  # pyright: ignore[reportAttributeAccessIssue]  # made as SciPy is imported

from ..base.precision import compiled
from ..base.progress import Progress, silent
from ..expand import Stopping, fewer
from ..expand.conjugate import kronecker_factors, precondition, second_moment, spectrum
from ..network import Network
from ..objective import Samples, flatten
from ..objective.derivatives import jacobian_rows
from .eliminate import inputs_of

Vector = Float[np.ndarray, " parameters"]

_NUMBERS = 3.0  # for each parameter
_DAMPING, _MORE, _MOST = 1e-12, 1e2, 1e-3  # in units of the mean of the diagonal
_AT_ONCE = 256  # samples
_PRODUCTS, _TOLERANCE = 400, 1e-10  # of conjugate gradients, and of their residuals' norm
_PROGRESS = 2.0  # by which a step has to lower the loss for another one


def last_steps(
    net: Network, samples: Samples, *, stop: Stopping, most: int, progress: Progress = silent
) -> tuple[Network, float]:
    """Take a smooth network that is nearly exact down to rounding errors.

    Args:
        net: Where to start.
        samples: Queries and targets, of which those are taken that the parameters need.
        stop: When to stop.
        most: Parameters that the matrix may have. A step takes 3 most^3 operations, and memory for two matrices.
        progress: Called after every step.

    Returns:
        The refined network, and its loss on all samples.

    Raises:
        ValueError: If not even the output layer's parameters are so few.
    """
    some, layer = fewer(samples, net, _NUMBERS), lowest_within(net, most)
    loss = float(some.value(net))
    for _ in range(stop.max_steps):
        if loss <= stop.target_loss:
            break
        further = _step(net, some, layer, loss)
        if further is None:
            break
        before, (net, loss) = loss, further
        progress("finetune", 0, 1, losses=[loss])
        if loss > before / _PROGRESS:
            break
    return net, float(samples.value(net))


def lowest_within(net: Network, most: int) -> int:
    """The lowest layer from which on a network has so few parameters.

    Raises:
        ValueError: If there is none.
    """
    sizes = np.cumsum([layer.w.size + layer.b.size for layer in net.layers[::-1]])
    if sizes[0] > most:
        raise ValueError(f"`most` is at least {sizes[0]:,}, the parameters of the output layer; got {most:,}.")
    return len(sizes) - int(np.searchsorted(sizes, most, side="right"))


def _step(net: Network, samples: Samples, layer: int, loss: float) -> tuple[Network, float] | None:
    """The network after one step, and the loss that it leaves; None if no step lowers it."""
    theta, unflatten = flatten(net)
    downhill = -np.asarray(_gradient(net, samples), float) / 2
    matrix = _gram(net, samples, layer)
    unit = float(np.mean(matrix.diagonal()))
    damping = _DAMPING
    while damping < _MOST:
        solve = _solver(net, samples, matrix, damping * unit)
        damping *= _MORE
        if solve is None:
            continue
        step = solve(downhill)
        correction = -solve(np.asarray(_bend(net, samples, jnp.asarray(step, net.dtype)), float) / 2) / 2
        trial = unflatten(theta + jnp.asarray(step + correction, net.dtype))
        after = float(samples.value(trial))
        if after < loss:
            return trial, after
    return None


def _gram(net: Network, samples: Samples, layer: int) -> Float[np.ndarray, "upper upper"]:
    """The lower triangle of J^T J, of the layers from this one on."""
    upper, x = Network(net.layers[layer:]), inputs_of(net, layer, samples.x)
    root = jnp.broadcast_to(jnp.sqrt(samples.share), samples.y.shape)
    total = np.zeros((upper.n_parameters, upper.n_parameters), order="F")
    for start in range(0, len(x), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        rows = np.asarray(_rows(upper, x[block], root[block]))
        total = dsyrk(1.0, rows.T, beta=1.0, c=total, trans=1, lower=1, overwrite_c=1)
    return total


def _solver(net: Network, samples: Samples, gram: np.ndarray, damping: float) -> Callable[[Vector], Vector] | None:
    """v -> (J^T J + damping)^-1 v; None where rounding leaves no factor."""
    damped = gram.copy(order="F")
    damped[np.diag_indices(len(gram))] += damping
    try:
        factor = cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return None
    first = net.n_parameters - len(gram)
    above = lambda v: cho_solve(factor, v[first:], check_finite=False)
    if not first:
        return above
    factors = _factors(net, samples)
    on_device = lambda v: jnp.asarray(v, net.dtype)
    below = lambda v: np.asarray(_by_factors(net, factors, on_device(damping), on_device(v)))[:first]
    product = lambda v: np.asarray(_product(net, samples, on_device(v))) + damping * v
    nearly = lambda v: np.concatenate([below(v), above(v)])
    return lambda v: _conjugate_gradients(product, v, nearly)


def _conjugate_gradients(
    a: Callable[[Vector], Vector], b: Vector, preconditioner: Callable[[Vector], Vector]
) -> Vector:
    """A^-1 b, in the precision of the matrix above: products go on until the residual is next to nothing."""
    step, residual, z = np.zeros_like(b), b, preconditioner(b)
    direction, rz = z, float(b @ z)
    enough = _TOLERANCE**2 * rz
    for _ in range(_PRODUCTS):
        if not rz > enough:
            break
        a_direction = a(direction)
        length = rz / float(direction @ a_direction)
        step, residual = step + length * direction, residual - length * a_direction
        z = preconditioner(residual)
        before, rz = rz, float(residual @ z)
        direction = z + rz / before * direction
    return step


@compiled
def _rows(net: Network, x: Float[Array, "samples fan_in"], root: Float[Array, "samples fan_out"]):
    """A row for every parameter, of its derivatives of all residuals."""
    rows = jacobian_rows(net, x) * root.T[None]
    return rows.reshape(len(rows), -1)


@compiled
def _gradient(net: Network, samples: Samples):
    return flatten(samples.gradient(net))[0]


@compiled
def _factors(net: Network, samples: Samples):
    everything = jax.tree.map(jnp.ones_like, net)
    return kronecker_factors(net, samples.x, spectrum(second_moment(samples.x)), everything)


@compiled
def _by_factors(net: Network, factors, damping, v):
    """(J^T J + damping)^-1 v by Kronecker factors, of which the lower layers' part is wanted."""
    return flatten(precondition(factors, damping, flatten(net)[1](v)))[0]


@compiled
def _product(net: Network, samples: Samples, v):
    along, back = samples.products(net)
    return back(along(v))


@compiled
def _bend(net: Network, samples: Samples, step):
    return samples.bend(net, step)

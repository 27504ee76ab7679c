"""The loss on a line or a plane through given networks."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from ..base.precision import compiled
from ..base.threads import one_blas_thread
from ..network import Network
from ..objective import Objective, flatten
from .minimum import _value_and_gradient


def loss_on_line(
    objective: Objective, one: Network, other: Network, *, n: int = 101, beyond: float = 0.25
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """The loss on the straight line through two networks.

    Args:
        objective: Whose value.
        one: At 0.
        other: At 1.
        n: Points.
        beyond: How far the line goes on at either end.

    Returns:
        Places on the line, and losses there.
    """
    _require_alike(one, other)
    if n < 2:
        raise ValueError(f"`n` points of a line are at least 2; got {n}.")
    where = np.linspace(-beyond, 1 + beyond, n)
    start, end = (np.asarray(flatten(net)[0], float) for net in (one, other))
    return where, _losses(start + where[:, None] * (end - start), one, objective)


@dataclass(frozen=True)
class Plane:
    """A plane in the space of weights, with orthonormal directions.

    Attributes:
        origin: A point of it.
        directions: Two, orthonormal.
        like: A network of the shape.
    """

    origin: Float[np.ndarray, " parameters"]
    directions: Float[np.ndarray, "2 parameters"]
    like: Network

    @staticmethod
    def through(origin: Network, one: Network, other: Network) -> "Plane":
        """The plane through three networks; the first is its origin, the second lies on its first axis.

        Raises:
            ValueError: If they lie on one line.
        """
        _require_alike(origin, one)
        _require_alike(origin, other)
        start, a, b = (np.asarray(flatten(net)[0], float) for net in (origin, one, other))
        directions, size = np.linalg.qr(np.stack([a - start, b - start]).T)
        if min(abs(np.diag(size))) < 1e-12 * max(abs(np.diag(size)).max(), np.finfo(float).tiny):
            raise ValueError("Three networks on one line make no plane: give others, or use `loss_on_line`.")
        return Plane(start, (directions * np.sign(np.diag(size))).T, origin)

    def coordinates(self, theta: Float[np.ndarray, "*points parameters"]) -> Float[np.ndarray, "*points 2"]:
        """Of the closest points of the plane."""
        return (theta - self.origin) @ self.directions.T

    def point(self, coordinates: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points parameters"]:
        """The parameters there."""
        return self.origin + coordinates @ self.directions

    def losses(
        self, objective: Objective, x: Float[np.ndarray, " columns"], y: Float[np.ndarray, " rows"]
    ) -> Float[np.ndarray, "rows columns"]:
        """The loss on a grid of coordinates."""
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        return _losses(self.point(grid.reshape(-1, 2)), self.like, objective).reshape(grid.shape[:2])

    def lowest(self, objective: Objective, coordinates: Float[np.ndarray, " 2"], *, n_steps: int = 1000) -> Network:
        """The network of lowest loss among those above a point of the plane: all other directions are free (BFGS)."""
        start = self.point(np.asarray(coordinates, float))
        rest = np.linalg.svd(self.directions)[2][2:]

        def fn(free):
            value, gradient = _value_and_gradient(jnp.asarray(start + free @ rest), self.like, objective)
            return float(value), rest @ np.asarray(gradient, float)

        with one_blas_thread():
            done = minimize(
                fn, np.zeros(len(rest)), jac=True, method="BFGS", options={"maxiter": n_steps, "gtol": 1e-12}
            )
        return flatten(self.like)[1](jnp.asarray(start + done.x @ rest))


def _require_alike(one: Network, other: Network) -> None:
    for net in (one, other):
        if not isinstance(net, Network):
            raise ValueError(f"Lines and planes go through networks; got a {type(net).__name__}.")
    if one.is_stack or other.is_stack or one.shape != other.shape:
        raise ValueError(f"Networks of one shape lie in one space, and stacks in none; got {one.shape}, {other.shape}.")


def _losses(theta: np.ndarray, like: Network, objective: Objective) -> np.ndarray:
    return np.asarray(_values(jnp.asarray(theta, like.dtype), like, objective))


@compiled
def _values(theta: Float[Array, "points parameters"], like: Network, objective: Objective):
    unflatten = flatten(like)[1]
    return jax.lax.map(lambda theta: objective.value(unflatten(theta)), theta)

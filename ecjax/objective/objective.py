"""What a network is fitted to: one object with a value, and derivatives of it by the network's weights.

Solvers, gradient flow and students see an objective, never the data behind it. The first kind is `Samples`, the mean
squared error over queries. A new kind needs a `value`; what it does not give in closed form comes from automatic
differentiation.

    theta          a network's weights as one vector, in the order of its record: w, b of the first layer, then the next
    residuals      numbers whose squares add up to the value, where an objective has them
    curvature      the Hessian by theta, or without second derivatives of the residuals (Gauss and Newton): 2 J^T J
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..base.precision import in_full_precision
from ..network import Network

Theta = Float[Array, " parameters"]
Residuals = Float[Array, " residuals"]
Square = Float[Array, "parameters parameters"]


def flatten(net: Network) -> tuple[Theta, Callable[[Theta], Network]]:
    """The weights of one network as a vector, w and b layer by layer, and the way back."""
    return ravel_pytree(net)


class Objective(eqx.Module):
    """A number that says how far a network is from what is wanted, and its derivatives by the weights."""

    @abstractmethod
    def value(self, net: Network) -> Float[Array, ""]:
        """The number: 0 or above, 0 for a network that is what is wanted."""

    def gradient(self, net: Network) -> Network:
        """Gradient of the value, shaped like the network."""
        return jax.grad(self.value)(net)

    def curvature(self, net: Network, *, exact: bool) -> Square:
        """Second derivative of the value by theta.

        Args:
            net: One network.
            exact: The Hessian itself. Otherwise without the second derivatives of residuals, where there are any.
        """
        theta, unflatten = flatten(net)
        return jax.hessian(lambda theta: self.value(unflatten(theta)))(theta)


class LeastSquares(Objective):
    """An objective that is a sum of squares."""

    @abstractmethod
    def residuals(self, net: Network) -> Residuals:
        """Numbers whose squares add up to the value."""

    def value(self, net: Network) -> Float[Array, ""]:
        return jnp.sum(self.residuals(net) ** 2)

    def jacobian(self, net: Network) -> Float[Array, "residuals parameters"]:
        """Derivative of every residual by theta."""
        theta, unflatten = flatten(net)
        return jax.jacrev(lambda theta: self.residuals(unflatten(theta)))(theta)

    def products(self, net: Network) -> tuple[Callable[[Theta], Residuals], Callable[[Residuals], Theta]]:
        """Products with the Jacobian, v -> J v and u -> J^T u, which is never written down."""
        theta, unflatten = flatten(net)
        _, along = jax.linearize(lambda theta: self.residuals(unflatten(theta)), theta)
        back = jax.linear_transpose(along, theta)
        return along, lambda u: back(u)[0]

    def bend(self, net: Network, step: Theta) -> Theta:
        """How a straight step leaves the residuals' tangent: 2 J^T r'', r'' their second derivative along the step."""
        theta, unflatten = flatten(net)
        fn = lambda theta: self.residuals(unflatten(theta))
        along = lambda theta: jax.jvp(fn, (theta,), (step,))[1]
        _, second = jax.jvp(along, (theta,), (step,))
        _, transposed = jax.vjp(fn, theta)
        return 2 * transposed(second)[0]

    @in_full_precision
    def curvature(self, net: Network, *, exact: bool) -> Square:
        if exact:
            return super().curvature(net, exact=True)
        j = self.jacobian(net)
        return 2 * j.T @ j


# --- as functions of theta, with derivatives that solvers build once a step ----------------------------------------


def gradient_field(objective: Objective, like: Network) -> Callable[[Theta], Theta]:
    """The gradient as a function of theta, with the objective's own Hessian as its derivative.

    The tangent is `curvature(theta) @ dtheta` with a matrix that does not depend on the tangent, so implicit solvers,
    which materialise the derivative column by column under `vmap`, build the Hessian once a step.

    Args:
        objective: What is followed downhill.
        like: Any network of the students' shape.
    """
    _, unflatten = flatten(like)

    @jax.custom_jvp
    def field(theta):
        return flatten(objective.gradient(unflatten(theta)))[0]

    @field.defjvp
    def field_jvp(primals, tangents):
        (theta,), (dtheta,) = primals, tangents
        return field(theta), objective.curvature(unflatten(theta), exact=True) @ dtheta

    return field


def residual_field(objective: LeastSquares, like: Network) -> Callable[[Theta], Residuals]:
    """The residuals as a function of theta; the derivative is the objective's own Jacobian, built once a step."""
    _, unflatten = flatten(like)

    @jax.custom_jvp
    def field(theta):
        return objective.residuals(unflatten(theta))

    @field.defjvp
    def field_jvp(primals, tangents):
        (theta,), (dtheta,) = primals, tangents
        return field(theta), objective.jacobian(unflatten(theta)) @ dtheta

    return field

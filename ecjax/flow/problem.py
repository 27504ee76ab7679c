"""What is followed: an objective, a price on large weights, and a time constant for each parameter.

    tau theta' = -grad (value + penalty),    penalty = barrier and weight decay

The barrier is MLPGradientFlow.jl's: nothing up to a norm, then the cube of what exceeds it, so that second derivatives
stay continuous. It holds flows back that run to infinity, as those of two neurons that become a derivative of one.
"""

from collections.abc import Callable
from numbers import Real

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..network import Network
from ..objective import Objective, Theta, flatten, gradient_field


class Penalised(Objective):
    """An objective with a price on large weights.

    Attributes:
        inner: What is fitted.
        barrier: M in strength / 3 * max(|theta|^2 / (2 P) - M, 0)^3 with P the number of parameters; infinite: none.
        strength: Of the barrier; 1 as in MLPGradientFlow.jl for losses that are means over samples.
        decay: lambda in lambda / 2 * |theta|^2.
    """

    inner: Objective
    barrier: Float[Array, ""]
    strength: Float[Array, ""]
    decay: Float[Array, ""]

    def value(self, net: Network) -> Float[Array, ""]:
        return self.inner.value(net) + self.penalty(net)

    def penalty(self, net: Network) -> Float[Array, ""]:
        """What the size of the weights costs."""
        theta, _ = flatten(net)
        return self.strength / 3 * self._excess(theta) ** 3 + self.decay / 2 * jnp.sum(theta**2)

    def gradient(self, net: Network) -> Network:
        theta, unflatten = flatten(net)
        slope = self.strength * self._excess(theta) ** 2 / theta.size + self.decay
        return jax.tree.map(jnp.add, self.inner.gradient(net), unflatten(slope * theta))

    def curvature(self, net: Network, *, exact: bool) -> Float[Array, "parameters parameters"]:
        theta, _ = flatten(net)
        excess = self._excess(theta)
        slope = self.strength * excess**2 / theta.size + self.decay
        bend = 2 * self.strength * excess / theta.size**2
        return self.inner.curvature(net, exact=exact) + slope * jnp.eye(theta.size) + bend * jnp.outer(theta, theta)

    def _excess(self, theta: Theta) -> Float[Array, ""]:
        return jnp.maximum(jnp.sum(theta**2) / (2 * theta.size) - self.barrier, 0)


class Problem(eqx.Module):
    """What all students of a stack follow.

    Attributes:
        objective: With its price on large weights, if there is one.
        rates: One over the time constant of each parameter; 0 for what does not move.
        like: A network of the students' shape.
    """

    objective: Objective
    rates: Theta
    like: Network

    @property
    def plain(self) -> Objective:
        """The objective without the price."""
        return self.objective.inner if isinstance(self.objective, Penalised) else self.objective

    def field(self) -> Callable[[Theta], Theta]:
        """The gradient as a function of theta, with its Hessian in closed form."""
        return gradient_field(self.objective, self.like)

    def measure(self, theta: Theta) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The loss, without the price, and the Euclidean norm of the gradient of the parameters that move, with it."""
        gradient = jnp.where(self.rates > 0, self.field()(theta), 0)
        return self.plain.value(flatten(self.like)[1](theta)), jnp.linalg.norm(gradient)


def posed(
    objective: Objective,
    like: Network,
    *,
    time_constants: Network | float | None = None,
    barrier: float = float("inf"),
    strength: float = 1.0,
    decay: float = 0.0,
) -> Problem:
    """The problem of a stack of students.

    Args:
        objective: What they are fitted to.
        like: A network of their shape.
        time_constants: A positive number for all, or a network's record of them; infinite for what does not move.
        barrier: The mean of theta^2 / 2 beyond which weights have a price.
        strength: Of that price.
        decay: Weight decay.

    Raises:
        ValueError: If a number is out of range, the time constants have another shape, or the objective is none or of
            another precision.
    """
    if not isinstance(objective, Objective):
        raise ValueError(
            "`objective` is what students are fitted to, as `ecjax.Samples(x, y)` or `ecjax.Population(teacher)`; "
            f"got a {type(objective).__name__}."
        )
    kinds = {leaf.dtype for leaf in jax.tree.leaves(objective) if eqx.is_inexact_array_like(leaf)}
    if kinds - {np.dtype(like.dtype)}:
        raise ValueError(
            f"Students and `objective` are of one precision; got students of {like.dtype} and an objective of "
            f"{', '.join(sorted(map(str, kinds)))}: cast one of them."
        )
    for name, number in (("barrier", barrier), ("strength", strength), ("decay", decay)):
        if not number >= 0:
            raise ValueError(f"`{name}` is 0 or above; got {number!r}.")
    theta, _ = flatten(like)
    if isinstance(time_constants, Network):
        if time_constants.shape != like.shape or time_constants.is_stack:
            raise ValueError(
                f"`time_constants` is a number, or one network of the students' shape {like.shape} that holds a time "
                f"constant in the place of each weight; got shape {time_constants.shape}."
            )
        times, _ = flatten(time_constants)
    elif time_constants is None or isinstance(time_constants, Real):
        times = jnp.full_like(theta, 1.0 if time_constants is None else float(time_constants))
    else:
        raise ValueError(
            "`time_constants` is a number or a network's record of them, see `ecjax.flow.time_constants`; got a "
            f"{type(time_constants).__name__}."
        )
    if not bool(jnp.all(times > 0)):
        raise ValueError("`time_constants` are positive, infinite for weights that do not move; got 0 or less.")
    if barrier < float("inf") or decay:
        number = lambda one: jnp.asarray(one, theta.dtype)
        objective = Penalised(objective, number(barrier), number(strength), number(decay))
    return Problem(objective, 1 / times, like)


def time_constants(like: Network, *, w: float = 1.0, b: float = 1.0, by_layer: tuple[float, ...] = ()) -> Network:
    """Time constants for `follow`, in the record of a network.

    Args:
        like: A network of the students' shape, or a stack of them.
        w: Of all weights.
        b: Of all biases; infinite for networks without biases, whose biases are and stay 0.
        by_layer: A factor for each layer, the output layer included.

    Raises:
        ValueError: If there is another number of factors than of layers.
    """
    factors = by_layer or (1.0,) * len(like.layers)
    if len(factors) != len(like.layers):
        raise ValueError(f"`by_layer` has a factor for each of {len(like.layers)} layers; got {len(factors)}.")

    def of_layer(layer, factor):
        w_shape, b_shape = layer.w.shape[-2:], layer.b.shape[-1:]
        filled = jnp.full(w_shape, w * factor, layer.w.dtype), jnp.full(b_shape, b * factor, layer.b.dtype)
        return eqx.tree_at(lambda layer: (layer.w, layer.b), layer, filled)

    return Network(tuple(map(of_layer, like.layers, factors)))

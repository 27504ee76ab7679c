"""Levenberg-Marquardt by conjugate gradients in float32: quick steps of students, and longer ones near the end.

As `ecjax.expand.conjugate`, with the same preconditioner, but all layers move together, and a step is solved for in
float32, whatever the precision of the network. Its errors are those of a step that is not quite the best; the next one
starts from residuals in full precision, as in iterative refinement, and so the end is that precision's rounding.

Products of a step go on as long as they pay. Far from the end sixty are enough: a better step is not taken further.
Near it, what is left lies along small eigenvalues of J^T J, and some hundred products make each step a Newton step
(40-32-24-16-6 sigmoid from errors of 1e-2 to a loss of 1e-15 in eight steps).

Valleys are bent, and a step follows them with its geodesic acceleration, which is one more solution with the same
products. One such network, whose last neuron was at 1e-6, came from 6e-12 to 1e-16 in 20 steps, to 1e-12 without.

Sources: Martens and Grosse, ICML 2015 (arXiv:1503.05671), and Botev, Ritter and Barber, ICML 2017 (arXiv:1706.03662),
    for the Kronecker factors; Martens, ICML 2010, section 4.4, for when to stop; Transtrum, Sethna (arXiv:1201.5885),
    section 5, for the acceleration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float

from ..base.checks import check_settings
from ..network import Network
from ..objective import Samples, flatten
from .conjugate import DAMPING, PreconditionedStep, kronecker_factors, precondition, second_moment, spectrum
from .descent import Descent, Free, GaussNewton, Search, Trust, require
from .levenberg_marquardt import BENT

Tree = TypeVar("Tree")
Vector = Float[Array, " n"]

# Products go on until the last tenth of them, ten at least, has improved the step's quadratic model by less than this
# share for each product (the values of the source).
_PAYS = 5e-4
_LATEST, _FEWEST = 10, 10


@dataclass(frozen=True)
class Inexact(Descent):
    """Levenberg-Marquardt on samples whose steps are solved for in float32, and no further than it pays.

    Attributes:
        products: With J^T J that a step takes at most, and its acceleration.
    """

    products: int = 60

    def __post_init__(self):
        check_settings(self, from_1=("products",))

    def search(self, like: Network, objective: Any, free: Free) -> Search:
        require(objective, Samples, self)
        _, unflatten = flatten(like)
        samples = single(objective)
        descent = InexactStep(like, samples, free, spectrum(second_moment(samples.x)), self.products)
        residuals = lambda theta: objective.residuals(unflatten(theta))
        return Search(residuals, optx.least_squares, GaussNewton(descent=descent, search=Trust()))


class InexactStep(PreconditionedStep):
    """In float32, which the samples have, whatever the precision of the weights."""

    products: int

    def step(self, step_size, state):
        damping = (DAMPING * state.error / step_size).astype(jnp.float32)
        _, unflatten = flatten(single(self.like))
        net = unflatten(state.theta.astype(jnp.float32))
        along, back = self.samples.products(net)
        freed = lambda v: jnp.where(self.free, v, 0)

        def solved(b: Vector) -> tuple[Vector, Float[Array, ""]]:
            """A unit vector in float32, and how long it is: float32 ends at 1e-38, and steps become as small."""
            size = _norm(b)
            v = conjugate_gradients(
                lambda v: freed(back(along(v))) + damping * v,
                freed(b / size).astype(jnp.float32),
                lambda v: freed(flatten(precondition(state.factors, damping, unflatten(v)))[0]),
                most=self.products,
            )
            length = _norm(v)
            return v / length, size * length.astype(size.dtype)

        step, length = solved(-state.gradient)
        turn, bend = solved(-self.samples.bend(net, step) / 2)  # J^T r'', of a step of unit length
        acceleration = length * bend.astype(length.dtype)  # beside the step's own length
        step, turn = step.astype(length.dtype), turn.astype(length.dtype)
        bent = jnp.where(acceleration <= BENT, acceleration / 2, 0)
        return length * (step + bent * turn), optx.RESULTS.successful

    def factors(self, theta):
        net = single(flatten(self.like)[1](theta))
        return kronecker_factors(net, self.samples.x, self.of_inputs, self.moving())


def conjugate_gradients(
    a: Callable[[Vector], Vector], b: Vector, preconditioner: Callable[[Vector], Vector], *, most: int
) -> Vector:
    """A step towards A^-1 b, as long as it pays in the model v^T A v / 2 - b^T v.

    Args:
        a: Product with A, symmetric and positive definite.
        b: What A step is to be.
        preconditioner: Product with something near A^-1.
        most: Products with A at most.

    Source: Martens, Deep learning via Hessian-free optimization, ICML 2010, section 4.4.
    """

    def pays(state):
        *_, rz, number, model = state
        latest = jnp.maximum(_FEWEST, number // _LATEST)
        gained = model[jnp.maximum(number - latest, 0)] - model[number]
        return (number < most) & (rz > 0) & ((number < latest) | (gained >= -latest * _PAYS * model[number]))

    def product(state):
        step, residual, direction, rz, number, model = state
        a_direction = a(direction)
        length = rz / jnp.vdot(direction, a_direction)
        step, residual = step + length * direction, residual - length * a_direction
        z = preconditioner(residual)
        rz_next = jnp.vdot(residual, z)
        model = model.at[number + 1].set(model[number] - length * rz / 2)
        return step, residual, z + rz_next / rz * direction, rz_next, number + 1, model

    z = preconditioner(b)
    start = (jnp.zeros_like(b), b, z, jnp.vdot(b, z), 0, jnp.zeros(most + 1, b.dtype))
    return jax.lax.while_loop(pays, product, start)[0]


def _norm(v: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.linalg.norm(v) + jnp.finfo(v.dtype).tiny


def single(tree: Tree) -> Tree:
    """All numbers in float32."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)

"""One step of Adam for a whole stack of students on one batch.

The first layer of all of them is one matrix product. Neurons come before samples, [students, width, samples]: that is
how the record stores weights, so that only small weight matrices are ever transposed.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ..network.activations import Activation
from ..network.networks import Network
from ..objective.imitation import Inputs, Outputs

ADAM = optax.scale_by_adam()  # without a learning rate: every student has its own


def train_step(
    students: Network, moments: optax.ScaleByAdamState, x: Inputs, y: Outputs, rate: Float[Array, " students"]
) -> tuple[Network, optax.ScaleByAdamState, Float[Array, " students"]]:
    """One step of Adam for all students; those with rate 0 keep their weights, bit for bit.

    Returns:
        Students, moments, and the losses before the step.
    """
    gradient, loss = jax.grad(summed_loss, has_aux=True)(students, x, y)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
        update, moments = ADAM.update(gradient, moments)  # pyright: ignore[reportAssignmentType]

    def moved(weights, update):
        own = rate.reshape(-1, *[1] * (weights.ndim - 1))
        return jnp.where(own > 0, weights - own * jnp.asarray(update, weights.dtype), weights)

    return jax.tree.map(moved, students, update), moments, loss


def summed_loss(students: Network, x: Inputs, y: Outputs):
    """The sum of the students' losses, whose gradient is each student's own, and the losses."""
    residual = stack_answers(students, x) - y.T[None]
    loss = jnp.mean(residual**2, axis=(1, 2))
    return loss.sum(), loss


def stack_answers(students: Network, x: Inputs) -> Float[Array, "students fan_out samples"]:
    """Answers of all students of a stack to the same inputs, neurons before samples."""
    first, *upper = students.layers
    n_students, width, fan_in = first.w.shape
    z = (first.w.reshape(-1, fan_in) @ x.T).reshape(n_students, width, -1) + first.b[..., None]
    activation = _with_closed_derivative(students.activation)
    for layer in upper:
        z = _product(layer.w, activation(z)) + layer.b[..., None]
    return z


@jax.custom_vjp
def _product(
    w: Float[Array, "students fan_out fan_in"], h: Float[Array, "students fan_in samples"]
) -> Float[Array, "students fan_out samples"]:
    """w @ h, with w laid out the other way round first: on a CPU, XLA's small products take 0.6 of the time so."""
    transposed = jax.lax.optimization_barrier(w.mT)
    return jnp.einsum("sio,sib->sob", transposed, h)


def _product_backward(factors, cotangent):
    w, h = factors
    return cotangent @ h.mT, w.mT @ cotangent  # both are quick as they are


_product.defvjp(lambda w, h: (_product(w, h), (w, h)), _product_backward)


def _with_closed_derivative(activation: Activation):
    """The activation, differentiated by its d1: one pass over the pre-activations instead of one for each term."""

    @jax.custom_jvp
    def fn(z):
        return activation(z)

    fn.defjvp(lambda primals, tangents: (fn(*primals), activation.d1(*primals) * tangents[0]))
    return fn

"""Full-batch Adam (optax): the way down where the loss has kinks or students are too wide for second-order steps."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from ..network.networks import Network
from ..objective.imitation import Inputs, Outputs, flatten, gradient
from .expansion import RESULTS, Student, judged


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Full-batch Adam.

    Attributes:
        n_steps: Steps, all of them taken.
        learning_rate: Of the first step; it falls to a hundredth along a cosine.
    """

    n_steps: int = 500
    learning_rate: float = 1e-2

    def __post_init__(self):
        if self.n_steps < 1:
            raise ValueError(f"`n_steps` of Adam is at least 1; got {self.n_steps}.")
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` is positive; got {self.learning_rate:g}.")


def adam(student: Network, x: Inputs, y: Outputs, *, config: AdamConfig | None = None) -> Student:
    """Train one student by Adam on all samples at once. `vmap` it, or map it over students."""
    config = config or AdamConfig()
    theta, unflatten = flatten(student)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.n_steps, alpha=0.01)
    optimiser = optax.adam(rate)

    def step(carry, _):
        theta, state = carry
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
            update, state = optimiser.update(flatten(gradient(unflatten(theta), x, y))[0], state)
        return (theta + jnp.asarray(update, theta.dtype), state), None

    (theta, _), _ = jax.lax.scan(step, (theta, optimiser.init(theta)), length=config.n_steps)
    n_steps = jnp.array(config.n_steps)
    return judged(theta, student, x, y, n_steps=n_steps, result=RESULTS.max_steps, target_loss=0.0)

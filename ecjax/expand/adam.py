"""Full-batch Adam (optax): the way down where the loss has kinks or students are too wide for second-order steps."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from ..base.checks import check_settings
from ..base.precision import in_full_precision
from ..network import Network
from ..objective import Objective, flatten
from .expansion import RESULTS, Student, judged
from .stage import Stage


@dataclass(frozen=True, kw_only=True)
class Adam(Stage):
    """Full-batch Adam.

    Attributes:
        n_steps: Steps, all of them taken.
        learning_rate: Of the first step; it falls to a hundredth along a cosine.
    """

    n_steps: int = 500
    learning_rate: float = 1e-2

    def __post_init__(self):
        check_settings(self, from_1=("n_steps",), above_0=("learning_rate",))

    @in_full_precision
    def __call__(self, student: Network, objective: Objective) -> Student:
        theta, unflatten = flatten(student)
        optimiser = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.n_steps, alpha=0.01))

        def step(carry, _):
            theta, state = carry
            with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
                update, state = optimiser.update(flatten(objective.gradient(unflatten(theta)))[0], state)
            return (theta + jnp.asarray(update, theta.dtype), state), None

        (theta, _), _ = jax.lax.scan(step, (theta, optimiser.init(theta)), length=self.n_steps)
        n_steps = jnp.array(self.n_steps)
        return judged(theta, student, objective, n_steps=n_steps, result=RESULTS.max_steps, target_loss=0.0)

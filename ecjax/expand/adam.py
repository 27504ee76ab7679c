"""Adam (optax): the way down where the loss has kinks or students are too wide for second-order steps alone."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from ..base.checks import check_settings
from ..base.precision import in_full_precision
from ..network import Network
from ..objective import Objective, Samples, flatten
from .expansion import RESULTS, Student, judged
from .stage import Stage


@dataclass(frozen=True, kw_only=True)
class Adam(Stage):
    """Adam on all samples, or on some in each step.

    Attributes:
        n_steps: Steps, all of them taken.
        learning_rate: Of the first step; it falls to a hundredth along a cosine.
        batch: How many samples a step sees, drawn anew for each; None for all.
    """

    n_steps: int = 500
    learning_rate: float = 1e-2
    batch: int | None = None

    def __post_init__(self):
        check_settings(self, from_1=("n_steps", "batch"), above_0=("learning_rate",))

    @in_full_precision
    def __call__(self, student: Network, objective: Objective) -> Student:
        theta, unflatten = flatten(student)
        optimiser = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.n_steps, alpha=0.01))

        def step(carry, number):
            theta, state = carry
            gradient = self._seen(objective, number).gradient(unflatten(theta))
            with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
                update, state = optimiser.update(flatten(gradient)[0], state)
            return (theta + jnp.asarray(update, theta.dtype), state), None

        (theta, _), _ = jax.lax.scan(step, (theta, optimiser.init(theta)), jnp.arange(self.n_steps))
        n_steps = jnp.array(self.n_steps)
        return judged(theta, student, objective, n_steps=n_steps, result=RESULTS.max_steps, target_loss=0.0)

    def _seen(self, objective: Objective, number) -> Objective:
        """What a step sees; always the same in the step of that number, so that a resumed run goes on."""
        if self.batch is None or not isinstance(objective, Samples) or len(objective.x) <= self.batch:
            return objective
        return objective.take(jr.randint(jr.fold_in(jr.key(0), number), (self.batch,), 0, len(objective.x)))

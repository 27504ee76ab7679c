"""What the expansion returns: students, how well each imitates, and why each one stopped."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..network import Network
from ..objective import Objective, Theta, flatten

Tree = TypeVar("Tree")


class RESULTS(eqx.Enumeration):
    """Why a student stopped. Only `diverged` is a failure: the others differ in how far the student came."""

    reached_target = "reached the target loss"
    flat = "the gradient vanished"
    reached_end = "reached the end of its time"
    stalled = "no further progress in this precision"
    max_steps = "ran out of steps: allow more, or widen the students"
    diverged = "diverged: not finite"


class Student(eqx.Module):
    """One student after a stage, or a stack of them."""

    network: Network
    loss: Float[Array, "*students"]  # value of the objective: mean squared error against the targets as given
    gradient_norm: Float[Array, "*students"]  # Euclidean, over all parameters
    n_steps: Int[Array, "*students"]
    result: RESULTS

    def followed_by(self, later: "Student") -> "Student":
        """After a further stage; a later student that is worse, or diverged, gives way to this one."""
        chosen = chosen_by(is_better(later.loss, self.loss), later, self)
        return eqx.tree_at(lambda student: student.n_steps, chosen, self.n_steps + later.n_steps)


class Expansion(eqx.Module):
    """N students after training, side by side."""

    students: Network
    loss: Float[Array, " students"]
    gradient_norm: Float[Array, " students"]
    n_steps: Int[Array, " students"]
    result: RESULTS
    method: str = eqx.field(static=True)  # what was run, stage by stage
    history: Float[np.ndarray, "epochs students"] | None = None  # training loss by epoch, where training has epochs

    @property
    def n_students(self) -> int:
        """How many students there are, failed ones included."""
        return len(self.loss)

    @property
    def finite(self) -> np.ndarray:
        """Which students did not diverge; only these are clustered."""
        return np.isfinite(np.asarray(self.loss))

    @property
    def ranked_loss(self) -> Float[np.ndarray, " students"]:
        """The losses, infinite for students that diverged."""
        return np.where(self.finite, np.asarray(self.loss, float), np.inf)

    @property
    def lowest_loss(self) -> float:
        """Of the best student; infinite if all diverged."""
        return float(self.ranked_loss.min(initial=np.inf))

    def reasons(self) -> list[str]:
        """Why each student stopped, in words."""
        results = (jax.tree.map(lambda leaf, i=i: leaf[i], self.result) for i in range(self.n_students))
        return [str(RESULTS[each]) for each in results]


def is_better(later: Float[Array, "*students"], before: Float[Array, "*students"]) -> Bool[Array, "*students"]:
    """Whether a later loss is no worse than the one before; NaN is worse than everything."""
    return later <= jnp.where(jnp.isnan(before), jnp.inf, before)


def chosen_by(which: Bool[Array, "*students"], one: Tree, other: Tree) -> Tree:
    """Student by student `one` where it is chosen, else `other`."""
    pick = lambda a, b: jnp.where(which.reshape(which.shape + (1,) * (a.ndim - which.ndim)), a, b)
    return jax.tree.map(pick, one, other)


def judged(
    theta: Theta,
    like: Network,
    objective: Objective,
    *,
    n_steps: Int[Array, ""],
    result: RESULTS,
    target_loss: float | Float[Array, ""],
) -> Student:
    """A stage's last weights with the loss and gradient that they really have.

    Args:
        theta: The weights.
        like: A network of the same shape.
        objective: What it was fitted to.
        n_steps: How many steps were taken.
        result: What the stage says of its stop; overruled when the weights are not finite or the target is met.
        target_loss: At or below it, a student has reached its target whatever stopped the stage.
    """
    network = flatten(like)[1](theta)
    loss = objective.value(network)
    norm = jnp.linalg.norm(flatten(objective.gradient(network))[0])
    result = RESULTS.where(loss <= target_loss, RESULTS.reached_target, result)
    result = RESULTS.where(jnp.isfinite(loss), result, RESULTS.diverged)
    return Student(network, loss, norm, jnp.asarray(n_steps, int), result)

"""What the expansion returns: students, how well each imitates, and why each one stopped."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..network.networks import Network
from ..objective.imitation import Inputs, Outputs, Theta, flatten, gradient, imitation_loss


class RESULTS(eqx.Enumeration):
    """Why a student stopped. Only `diverged` is a failure: the others differ in how far the student came."""

    reached_target = "reached the target loss"
    flat = "the gradient vanished"
    reached_end = "reached the end of its time"
    stalled = "no further progress in this precision"
    max_steps = "ran out of steps: allow more, or widen the students"
    diverged = "diverged: not finite"


class Student(eqx.Module):
    """One student after a solver, or a stack of them."""

    network: Network
    loss: Float[Array, "*students"]  # mean squared error against the targets as given
    gradient_norm: Float[Array, "*students"]  # Euclidean, over all parameters
    n_steps: Int[Array, "*students"]
    result: RESULTS


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

    def reasons(self) -> list[str]:
        """Why each student stopped, in words."""
        return [str(RESULTS[each]) for each in self._result_items()]

    def each(self) -> list[Student]:
        """The students one by one, as they came out."""
        done = Student(self.students, self.loss, self.gradient_norm, self.n_steps, self.result)
        done = jax.device_get(done)  # at once, not slice by slice
        return [jax.tree.map(lambda leaf, i=i: leaf[i], done) for i in range(self.n_students)]

    def _result_items(self) -> list[RESULTS]:
        return [jax.tree.map(lambda leaf, i=i: leaf[i], self.result) for i in range(self.n_students)]


def judged(
    theta: Theta, like: Network, x: Inputs, y: Outputs, *, n_steps: Int[Array, ""], result: RESULTS, target_loss: float
) -> Student:
    """A solver's last weights with the loss and gradient that they really have.

    Args:
        theta: The weights.
        like: A network of the same shape.
        x: Queries.
        y: Targets.
        n_steps: How many steps were taken.
        result: What the solver says of its stop; overruled when the weights are not finite or the target is met.
        target_loss: At or below it, a student has reached its target whatever stopped the solver.
    """
    _, unflatten = flatten(like)
    network = unflatten(theta)
    loss = imitation_loss(network, x, y)
    norm = jnp.linalg.norm(flatten(gradient(network, x, y))[0])
    result = RESULTS.where(loss <= target_loss, RESULTS.reached_target, result)
    result = RESULTS.where(jnp.isfinite(loss), result, RESULTS.diverged)
    return Student(network, loss, norm, jnp.asarray(n_steps), result)

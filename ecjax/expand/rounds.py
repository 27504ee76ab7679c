"""Another round for an ensemble that was not enough: who still made progress goes on, others give way to new ones.

A student that stopped for lack of steps is on its way. One that stalled or lies at a minimum is done, whatever its
loss: more steps are lost on it, and a fresh student may do better. Nothing is lost by a round, since every student that
does worse than the one in its place before gives way to that one again.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..network import Network, random_students
from .expansion import RESULTS, Expansion


def renewed(expansion: Expansion, *, key: PRNGKeyArray, scale: float = 1.0) -> Network:
    """Where the next round starts: students that ran out of steps as they are, fresh ones in the place of the others.

    Args:
        expansion: After a round.
        key: For the fresh students. Used up.
        scale: Factor on their Glorot-normal weights.
    """
    students = expansion.students
    fresh = random_students(expansion.n_students, students.shape, students.activations, key=key, dtype=students.dtype)
    on_its_way = expansion.result == RESULTS.max_steps
    return _choose(on_its_way, students, jax.tree.map(lambda leaf: scale * leaf, fresh))


def better_of(before: Expansion, after: Expansion) -> Expansion:
    """Student by student the one with the lower loss, of two rounds; the steps of both count."""
    improved = after.loss < jnp.where(jnp.isfinite(before.loss), before.loss, jnp.inf)
    chosen = _choose(improved, after, before)
    return Expansion(
        chosen.students, chosen.loss, chosen.gradient_norm, before.n_steps + after.n_steps, chosen.result, after.method
    )


def _choose(which: Array, one, other):
    pick = lambda a, b: jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    return jax.tree.map(pick, one, other)

"""Another round for an ensemble that was not enough: who still made progress goes on, others give way to new ones.

A student that stopped for lack of steps is on its way. One that stalled or lies at a minimum is done, whatever its
loss: more steps are lost on it, and a fresh student may do better. Nothing is lost by a round, since every student that
does worse than the one in its place before gives way to that one again.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..network import Network, random_students
from .expansion import RESULTS, Expansion, chosen_by, is_better


def renewed(expansion: Expansion, *, key: PRNGKeyArray, scale: float = 1.0) -> Network:
    """Where the next round starts: students that ran out of steps as they are, fresh ones in the place of the others.

    Args:
        expansion: After a round.
        key: For the fresh students. Not to be used again.
        scale: Factor on their Glorot-normal weights.
    """
    students = expansion.students
    fresh = random_students(expansion.n_students, students.shape, students.activations, key=key, dtype=students.dtype)
    on_its_way = expansion.result == RESULTS.max_steps
    return chosen_by(on_its_way, students, jax.tree.map(lambda leaf: scale * leaf, fresh))


def better_of(before: Expansion, after: Expansion) -> Expansion:
    """Student by student the one with the lower loss, of two trainings; the steps and epochs of both count.

    Args:
        before: All students.
        after: The same after more training, or the first of them, if there was no time for the others.
    """
    history = [each.history for each in (before, after) if each.history is not None]
    before, after = replace(before, history=None, method=after.method), replace(after, history=None)
    n_steps = jnp.asarray(before.n_steps, after.n_steps.dtype)  # epochs are counted in 32 bits, steps in 64
    if after.n_students < before.n_students:
        others = jax.tree.map(lambda leaf: leaf[after.n_students :], replace(before, n_steps=0 * n_steps))
        after = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), after, others)
    better = is_better(after.loss, before.loss)
    chosen = chosen_by(better, after, replace(before, n_steps=n_steps))
    return replace(chosen, n_steps=n_steps + after.n_steps, history=np.concatenate(history) if history else None)

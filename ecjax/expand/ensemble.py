"""The students axis, in one place: one after another, or in batches of one call.

On an accelerator one small student can't fill the device, so students are batched by `vmap`; a batch runs until its
slowest student is done. On a CPU a student at a time ("map") is about twice as fast, and the first finished student
is safe long before the last: both report progress between calls, hand every finished student to `store` at once, and
skip those that `store` already holds, so that an interrupted expansion goes on where it was.
"""

from collections.abc import Callable, MutableMapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..networks import Network
from ..progress import Progress, silent
from .records import Student

Placement = Literal["auto", "map", "vmap"]
# Finished students by number; an ensemble that is trained as a whole keeps its state under the name EPOCHS.
Store = MutableMapping[Any, Any]
EPOCHS = "epochs"


class LayerStore(MutableMapping[Any, Any]):
    """The part of a store that belongs to a later hidden layer of a deep recovery: its keys are (layer, key)."""

    def __init__(self, store: Store, layer: int):
        self.store, self.layer = store, layer

    def __getitem__(self, key):
        return self.store[self.layer, key]

    def __setitem__(self, key, value):
        self.store[self.layer, key] = value

    def __delitem__(self, key):
        del self.store[self.layer, key]

    def __contains__(self, key):
        return (self.layer, key) in self.store

    def __iter__(self):
        return (key[1] for key in self.store if isinstance(key, tuple) and key[0] == self.layer)

    def __len__(self):
        return sum(1 for _ in self)


@eqx.filter_jit
def _solve_one(solve, student, data):
    return solve(student, *data)


@eqx.filter_jit
def _solve_batch(solve, students, data):
    return eqx.filter_vmap(lambda student: solve(student, *data))(students)


def over_students(
    solve: Callable[..., Student],
    students: Network,
    *data: Array,
    placement: Placement = "auto",
    chunk: int | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> Student:
    """Apply `solve` to every student of a stack.

    Args:
        solve: From one student and `data` to one trained student; jax-traceable. Equal ones share a compilation.
        students: The stack.
        data: What all students share: queries and targets.
        placement: "map" (one at a time), "vmap" (batches of `chunk`), or "auto": "vmap" on an accelerator, else "map".
        chunk: Students in one call under "vmap"; all by default. Bounds the memory.
        store: Finished students by number, read and written: a dict, or a folder behind the same interface.
        progress: Called after every finished chunk.

    Returns:
        The trained students as one stack, in the order of `students`.
    """
    if placement not in ("auto", "map", "vmap"):
        raise ValueError(f'`placement` is "auto", "map" or "vmap"; got {placement!r}.')
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is how many students share a call, at least 1; got {chunk}.")
    n_students = students.layers[0].w.shape[0]
    if placement == "auto":
        placement = "map" if jax.default_backend() == "cpu" else "vmap"
    batched = placement == "vmap"
    size = min(chunk or n_students, n_students) if batched else 1
    run = _solve_batch if batched else _solve_one

    store = {} if store is None else store
    losses = [float(store[i].loss) for i in range(n_students) if i in store]
    progress("expand", len(losses), n_students, losses=losses.copy())
    todo = [i for i in range(n_students) if i not in store]
    for start in range(0, len(todo), size):
        members = todo[start : start + size]
        padded = np.array((members + members[-1:] * size)[:size])  # one shape, one compilation
        take = padded if batched else padded[0]
        done = run(solve, jax.tree.map(lambda leaf: leaf[take], students), data)  # noqa: B023
        for place, i in enumerate(members):
            store[i] = jax.tree.map(lambda leaf: leaf[place], done) if batched else done  # noqa: B023
            losses.append(float(store[i].loss))
        progress("expand", len(losses), n_students, losses=losses.copy())
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(store[i] for i in range(n_students)))

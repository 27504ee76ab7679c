"""The students axis, in one place: one after another, in batches of one call, or spread over many devices.

On an accelerator one small student can't fill the device, so students are batched by `vmap`; a batch runs until its
slowest student is done. On a CPU a student at a time ("map") is about twice as fast, and the first finished student
is safe long before the last. On a "mesh" every device has students of its own, which it trains in the way that is right
for it, and waits for the others only at the end of a call.

All report progress between calls, hand every finished student to `store` at once, and skip those that `store` already
holds, so that an interrupted expansion goes on where it was. Where several processes share the work
(`ecjax.base.devices`), the first one's students, data and store count.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..base.deadline import NEVER, Deadline
from ..base.devices import COPIED, SPREAD, free_memory, gathered, is_first, of_first, placed, students_mesh
from ..base.precision import compiled
from ..base.progress import Progress, silent
from .expansion import Student
from .store import Store, student_key

Placement = Literal["auto", "map", "vmap", "mesh"]
Enough = Callable[[Sequence[float]], bool]
_FILLED = 0.9  # of a device's free memory, where nobody said how many students share a call


def two_finite(losses: Sequence[float]) -> bool:
    """Whether these losses are of two students or more that did not diverge, as many as can agree."""
    return int(np.isfinite(losses).sum()) > 1


def any_number(losses: Sequence[float]) -> bool:
    """However many, where the others can stay as they were."""
    return True


def over_students(
    solve: Callable[..., Student],
    students: PyTree[Array],
    *data: PyTree[Array],
    placement: Placement = "auto",
    chunk: int | None = None,
    store: Store | None = None,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
    enough: Enough = two_finite,
) -> Student:
    """Apply `solve` to every student of a stack.

    Args:
        solve: From one student and `data` to one trained student; jax-traceable. Equal ones share a compilation.
        students: The stack: a network whose arrays have the students as leading axis, or a tuple of one and of more
            arrays with that axis.
        data: What all students share: their objective.
        placement: "map" (one at a time), "vmap" (batches), "mesh" (spread over all devices of all processes: on a CPU
            one at a time, on an accelerator in batches), or "auto": "mesh" where there are several devices, else "vmap"
            on an accelerator and "map" on a CPU.
        chunk: Students of one device in one call under "vmap" and "mesh". Bounds the memory. By default as many as the
            device has memory for; on a mesh of CPUs one, which is safe as soon as every device is done with its own.
        store: Finished students by name, read and written; see `ecjax.expand.store`. Of several
            processes only the first one's is looked at and written to.
        progress: Called after every finished chunk.
        deadline: After which no student is begun. Those of a call are begun together.
        enough: Whether students with these losses will do when the time is up. At least one is trained in any case.

    Returns:
        The trained students as one stack, in the order of `students`: all, or the first of them.

    Raises:
        ValueError: If `placement` or `chunk` can't be used.
    """
    if placement not in get_args(Placement):
        raise ValueError(f"`placement` is one of {get_args(Placement)}; got {placement!r}.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is how many students of a device share a call, at least 1; got {chunk}.")
    if placement == "auto":
        alone = "map" if jax.default_backend() == "cpu" else "vmap"
        placement = "mesh" if jax.device_count() > 1 else alone
    if jax.process_count() > 1 and placement != "mesh":
        raise ValueError(f'`placement` is "auto" or "mesh" where processes share the work; got {placement!r}.')
    n_students = len(jax.tree.leaves(students)[0])
    students, data = of_first((students, data))
    store = _of_first(store, solve, students, data)
    name = [student_key(i) for i in range(n_students)]
    losses = {i: float(store[name[i]].loss) for i in range(n_students) if name[i] in store}
    progress("expand", len(losses), n_students, losses=list(losses.values()))
    todo = [i for i in range(n_students) if name[i] not in store]
    if todo:
        run, size = _PLACED[placement](solve, students, data, chunk)
        for members in (todo[start : start + size] for start in range(0, len(todo), size)):
            first, missing = members[0], f"{n_students - members[0]} of {n_students} students"
            if first and enough([losses[i] for i in range(first)]) and deadline.leaves_out(missing):
                name = name[:first]
                break
            padded = np.array((members + members[-1:] * size)[:size])  # one shape, one compilation
            done = jax.device_get(run(padded))
            for place, i in enumerate(members):
                store[name[i]] = _take(done, place)
                losses[i] = float(store[name[i]].loss)
            progress("expand", len(losses), n_students, losses=list(losses.values()))
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *(store[each] for each in name))


def _take(stack, which):
    return jax.tree.map(lambda leaf: leaf[which], stack)


# --- placements: how a call trains students by their numbers, and how many they are ---------------------------------


def _one_by_one(solve, students, data, chunk):
    alone = lambda members: _solve_one(solve, _take(students, members[0]), data)
    return lambda members: jax.tree.map(lambda leaf: leaf[None], alone(members)), 1


def _in_batches(solve, students, data, chunk):
    most = len(jax.tree.leaves(students)[0])
    arguments = lambda members: (solve, _take(students, members), data)
    size = min(chunk, most) if chunk else _that_fit(most, _solve_batch, lambda n: arguments(np.arange(n)))
    return lambda members: _solve_batch(*arguments(members)), size


def _on_a_mesh(solve, students, data, chunk):
    mesh = students_mesh()
    batched = jax.default_backend() != "cpu"
    data = placed(data, mesh, COPIED)
    arguments = lambda members: (solve, placed(_take(students, members), mesh, SPREAD), data, mesh, batched)
    most = -(-len(jax.tree.leaves(students)[0]) // mesh.size)  # on one device
    if chunk:
        size = min(chunk, most)
    elif batched:
        size = _that_fit(most, _solve_spread, lambda n: arguments(np.zeros(n * mesh.size, int)))
    else:
        size = 1
    return lambda members: gathered(_solve_spread(*arguments(members))), size * mesh.size


_PLACED = {"map": _one_by_one, "vmap": _in_batches, "mesh": _on_a_mesh}


@compiled
def _solve_one(solve, student, data):
    return solve(student, *data)


@compiled
def _solve_batch(solve, students, data):
    return eqx.filter_vmap(lambda student: solve(student, *data))(students)


@compiled
def _solve_spread(solve, students, data, mesh, batched):
    def on_one_device(students, data):
        one = lambda student: solve(student, *data)
        return eqx.filter_vmap(one)(students) if batched else jax.lax.map(one, students)

    # Devices exchange nothing; JAX's check of that does not get through the loops of diffrax and optimistix.
    spread = jax.shard_map(on_one_device, mesh=mesh, in_specs=(SPREAD, COPIED), out_specs=SPREAD, check_vma=False)
    return spread(students, data)


def _that_fit(most: int, program, arguments) -> int:
    """How many students of a device may share a call, by the memory that the compiled program asks for."""
    n, free = most, float(of_first(np.asarray(_FILLED * free_memory())))
    while n > 1 and np.isfinite(free):  # a program that fits is not compiled again when it is called
        needed = program.lower(*arguments(n)).compile().compiled.memory_analysis().temp_size_in_bytes
        if needed <= free:
            break
        n = max(1, min(n - 1, int(n * free / needed)))
    return n


def _of_first(store: Store | None, solve, students, data) -> Store:
    """The store; where processes share the work, what the first one's holds, in a dict for the others."""
    store = {} if store is None or not is_first() else store
    if jax.process_count() == 1:
        return store
    n_students = len(jax.tree.leaves(students)[0])
    like = eqx.filter_eval_shape(solve, _take(students, 0), *data)
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    names = [student_key(i) for i in range(n_students)]
    for i in np.flatnonzero(of_first(np.array([name in store for name in names]))).tolist():
        held = of_first(store[names[i]] if is_first() else blank)
        if not is_first():
            store[names[i]] = held
    return store

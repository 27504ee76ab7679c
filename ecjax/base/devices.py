"""Many devices and many hosts: work spread over a mesh of all of them, results brought back to every process.

Where several hosts work together, each runs the same program in a process of its own (`jax.distributed`). Every process
has all the data and comes to all the results; a device trains students of its own and waits for nobody meanwhile.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SPREAD = PartitionSpec("students")  # the leading axis in equal parts, one on every device
COPIED = PartitionSpec()  # everything on every device


def students_mesh() -> Mesh:
    """A mesh with one axis, "students", over all devices of all processes."""
    return Mesh(np.array(jax.devices()), ("students",))


def placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Arrays that every process has, on the devices of a mesh."""
    sharding = NamedSharding(mesh, spec)

    def place(leaf):
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(place, tree)


def gathered(tree: Any) -> Any:
    """Arrays of a mesh as NumPy arrays, whole in every process."""
    return multihost_utils.process_allgather(tree, tiled=True)


def of_first(tree: Any) -> Any:
    """The arrays of the first process, in every process; others give arrays of the same shapes."""
    return multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree


def is_first() -> bool:
    """Whether this is the first process, or the only one: the one that writes files and tells of progress."""
    return jax.process_index() == 0


def free_memory() -> float:
    """Bytes that the fullest device of this process still has; infinite where, as on a CPU, it does not say."""
    told = (device.memory_stats() for device in jax.local_devices())
    free = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in told if stats and "bytes_limit" in stats]
    return min(free, default=np.inf)

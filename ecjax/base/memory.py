"""Memory is asked for before anything large is made: a refusal in a sentence, and not a process that dies."""

import os
from pathlib import Path

import numpy as np

from .devices import free_memory

_GIB = 2**30
_SMALL = 2**26  # bytes that nobody asks about


def require_memory(n_bytes: float, what: str, remedy: str) -> None:
    """Refuse work that does not fit in the memory that is free, of this machine or of its fullest device.

    Args:
        n_bytes: That the work takes, estimated from below.
        what: Takes it: "1,000,000 students of width 16".
        remedy: What to change, in the imperative: "lower `n_students`".

    Raises:
        ValueError: If less than that is free. Nothing has been made then.
    """
    if n_bytes <= _SMALL:
        return
    free = min(free_on_host(), free_memory())
    if n_bytes > free:
        raise ValueError(f"{what} take {_in_words(n_bytes)} of memory, of which {_in_words(free)} are free: {remedy}.")


def free_on_host() -> float:
    """Bytes that this process may still take; infinite where the system does not say."""
    return min(_of_machine(), _of_group())


def _of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:  # no Linux: what there is in all, which is more than is free
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return np.inf


def _of_group() -> float:
    """The limit of a container; what it counts as in use has files in it that give way."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return np.inf


def _in_words(n_bytes: float) -> str:
    gib = n_bytes / _GIB
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"

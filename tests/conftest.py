"""Strict JAX for every test: float64, no silent promotion of dtypes or ranks, one key per test."""

import gc
import os
import zlib
from pathlib import Path

# Compiled programs, all of them, are kept for later runs and for the processes beside this one: most of the time of the
# tests is XLA's, 30 ms for the smallest program, and reading it takes 5. Read when JAX is first imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Traces are many small objects that live on: looking through them for circles whenever there are 700 more, as Python
# does, takes a seventh of the time of a run whose programs are compiled already.
gc.set_threshold(20_000, 20, 100)


@pytest.fixture
def key(request):
    """A key of the test's own, the same in every run."""
    return jr.key(zlib.crc32(request.node.nodeid.encode()))


# A process may map 65,530 pieces of memory (Linux's vm.max_map_count), a compiled program takes several, and XLA ends
# the process where there are no more: seen after some 1,900 tests in one process.
_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def _room_for_compiled_programs():
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MAPS:
        jax.clear_caches()

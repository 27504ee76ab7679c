"""Strict JAX for every test: float64, no silent promotion of dtypes or ranks, one key per test."""

import os
import zlib
from pathlib import Path

# Compiled programs are kept between test runs; read when JAX is first imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key(request):
    """A key of the test's own, the same in every run."""
    return jr.key(zlib.crc32(request.node.nodeid.encode()))

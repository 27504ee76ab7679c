"""Precision without surprises: ecjax follows the precision of its data and never lowers it in silence.

JAX keeps every array in float32 unless it is told otherwise, and casts float64 input down without a word. ecjax
switches nothing on; it refuses, and says what to do.

Recent accelerators multiply float32 in fewer bits (TF32, 10 of mantissa) unless a product asks for all of them. ecjax
asks in one place, here: what is compiled goes through `compiled`, what runs operation by operation through
`in_full_precision`. Inside, a scope may ask for less (`Minibatch.precision`); the innermost one counts.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_P = ParamSpec("_P")
_R = TypeVar("_R")


def in_full_precision(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function with all matrix products inside it in the precision of their factors, libraries' included."""

    @wraps(fn)
    def precise(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with jax.default_matmul_precision("highest"):
            return fn(*args, **kwargs)

    return precise


def compiled(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function compiled (`eqx.filter_jit`), in full precision."""
    return eqx.filter_jit(in_full_precision(fn))  # pyright: ignore[reportReturnType]


def precision_of(array: Array) -> AbstractContextManager:
    """A scope in which numbers that libraries make without a dtype have the precision of this floating point array.

    In a session with float64 switched on, solvers would otherwise start their step sizes and memories in float64, and
    take float32 weights along or stumble over the difference.
    """
    return jax.enable_x64(array.dtype == jnp.float64)


def require_float64(what: str) -> None:
    """Refuse float64 work while JAX is in float32-only mode.

    Raises:
        ValueError: Saying how float64 is switched on.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{what} is float64, but JAX is in float32-only mode and would silently round it. Switch float64 on with "
            '`jax.config.update("jax_enable_x64", True)` at the start of your program, or work inside '
            "`with jax.enable_x64(True):`, or cast to float32 yourself to accept its precision."
        )


def to_device(array: np.ndarray | Array, what: str | os.PathLike) -> Array:
    """The array on JAX's device in the precision it came in; `what` names it in the error.

    Raises:
        ValueError: If it is float64 while JAX is in float32-only mode.
    """
    if array.dtype == np.float64:
        require_float64(f"`{what}`")
    return jnp.asarray(array)

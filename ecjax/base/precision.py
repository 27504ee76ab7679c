"""Float64 without surprises: ecjax follows the precision of its data and never lowers it in silence.

JAX keeps every array in float32 unless it is told otherwise, and casts float64 input down without a word. ecjax
switches nothing on; it refuses, and says what to do.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


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

"""Arrays as people have them: halves, other byte orders, masks and lists become floating point numbers of JAX's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..base.memory import require_memory
from ..base.precision import to_device

_HELD = ("float32", "float64")  # in which the work is done


def as_floats(came: Any, name: str) -> Array:
    """Floating point numbers on JAX's device, in the precision they came in, or the nearest one that is worked in.

    Args:
        came: An array, a list, a table, or something that NumPy reads; what a mask hides is NaN.
        name: In messages.

    Raises:
        ValueError: Naming the argument, what came and what to do; if it is float64 while JAX is in float32-only mode.
    """
    if came is None or callable(came):
        what = "nothing" if came is None else f"the function {getattr(came, '__name__', type(came).__name__)}"
        raise ValueError(
            f"`{name}` is an array of floating point numbers; got {what}. Somebody who can be asked is an "
            "ecjax.Teacher(fn, fan_in=...) in the place of `x`, without `y`."
        )
    array = came if hasattr(came, "dtype") else _from_list(came, name)
    dtype = getattr(array, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"`{name}` is an array of floating point numbers; got {dtype}. Convert it: {name}.astype(float)."
        )
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array, np.nan)
    if not isinstance(array, jax.Array):
        what = f"The numbers of `{name}`, of shape {np.shape(array)},"
        require_memory(np.size(array) * np.dtype(_nearest(dtype)).itemsize, what, "give fewer rows")
    if not _is_held(dtype):
        array = np.asarray(array).astype(_nearest(dtype))
    return to_device(array, name)


def in_words(came: Any, name: str) -> str:
    """What `as_floats` makes of an array that is not worked with as it came; empty for the others."""
    dtype = getattr(came, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or _is_held(dtype):
        return ""
    return f"{name} came as {np.dtype(dtype)}, and is worked with as {_nearest(dtype)}"


def _from_list(came: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(came)
    except (ValueError, TypeError) as error:  # rows of different lengths
        raise ValueError(
            f"`{name}` is an array of floating point numbers; NumPy makes none of it ({error})."
        ) from error


def _is_held(dtype: Any) -> bool:
    return np.dtype(dtype).name in _HELD and np.dtype(dtype).isnative


def _nearest(dtype: Any) -> str:
    """Of halves the precision that JAX has by default; of others their own, in this machine's order of bytes."""
    size = np.dtype(dtype).itemsize
    return jnp.zeros(()).dtype.name if size < 4 else "float32" if size == 4 else "float64"

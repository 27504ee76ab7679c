"""What a question and an answer must be: shapes, dtypes, the box, precision; the rules of `ecjax.data.teacher`."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class Box(NamedTuple):
    """Where questions are allowed: lowest and highest value of every input."""

    low: Float[np.ndarray, " fan_in"]
    high: Float[np.ndarray, " fan_in"]

    def holds(self, x: Float[np.ndarray, "samples fan_in"]) -> bool:
        """Whether all questions lie within, edges included."""
        return bool((x >= self.low).all() and (x <= self.high).all())


def as_box(box: Any, fan_in: int) -> Box | None:
    """The box, checked.

    Raises:
        ValueError: If it is not a pair of finite numbers or vectors, the first below the second.
    """
    if box is None:
        return None
    wanted = f"`box` is a pair (low, high) of numbers or of vectors with {fan_in} entries, low below high"
    try:
        low, high = (np.broadcast_to(np.asarray(side, float), (fan_in,)) for side in box)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}; got {box!r}.") from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"{wanted}, all finite; got {box!r}. Leave it out where every question is allowed.")
    return Box(low, high)


def relative_precision(answers: Any) -> float:
    """The relative error of answers, from a dtype or a number.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(answers, float):
        if not 0 < answers < 1:
            raise ValueError(f"`answers` is a relative error within (0, 1), or a dtype; got {answers:g}.")
        return answers
    try:
        return float(np.finfo(np.dtype(answers)).eps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`answers` is a floating point dtype or a relative error; got {answers!r}.") from error


def checked_questions(x: Any, fan_in: int, box: Box | None) -> np.ndarray:
    """Questions as a matrix of the right width, all finite, all within the box.

    Raises:
        ValueError: If they are not.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != fan_in or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"`x` is a floating point matrix [samples, {fan_in}]; got shape {x.shape} in {x.dtype}. Flatten what has "
            "another shape inside `fn`."
        )
    if not np.isfinite(x).all():
        raise ValueError("`x` has NaN or infinite entries: nobody can be asked there.")
    if box is not None and not box.holds(x):
        raise ValueError("`x` leaves the teacher's `box`: these questions are not allowed, and were not asked.")
    return x


def checked_answers(raw: Any, n: int, fan_out: int | None) -> tuple[np.ndarray, str]:
    """Answers as a matrix in the dtype in which they came, and what is wrong with them, in words.

    Args:
        raw: What the teacher returned.
        n: How many questions it was asked.
        fan_out: How many numbers it answered before; None if this is the first time.
    """
    y = np.asarray(raw.detach().cpu() if hasattr(raw, "detach") else raw)  # of PyTorch, perhaps with a gradient
    if not np.issubdtype(y.dtype, np.floating):
        return y, f"answered in {y.dtype}: floating point numbers are wanted, scores rather than classes."
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or len(y) != n:
        return y, f"answered with shape {y.shape}: one row for each question is wanted."
    if fan_out is not None and y.shape[1] != fan_out:
        return y, f"answered {y.shape[1]} numbers each, where it answered {fan_out} before."
    return y, ""

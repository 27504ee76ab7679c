"""What comes in at the door of `recover` is checked here, before anything compiles."""

import itertools

import numpy as np
from jaxtyping import Array

from ..base.precision import to_device
from ..network.activations import Activation, check_symmetry


def checked_activation(activation: Activation) -> None:
    """Refuse an activation whose neurons nothing can recover, or whose symmetry is not what it claims.

    Raises:
        ValueError: Saying why.
    """
    if activation.symmetry.polynomial:
        raise ValueError(
            f"`activation` {activation.name} is a polynomial: a sum of such neurons can be written in infinitely many "
            "ways, so its layer is not determined by any data. Nothing can be recovered."
        )
    check_symmetry(activation)


def checked_samples(x, y, *, student_widths: tuple[int, ...], allow_few_samples: bool = False) -> tuple[Array, Array]:
    """Queries [samples, fan_in] and answers [samples, fan_out] on the device, in the precision that they came in.

    Args:
        x: Queries.
        y: Answers, [samples, fan_out] or [samples].
        student_widths: Of the students that are to imitate; their parameters should be fewer than the numbers in y.
        allow_few_samples: Go on with fewer.

    Raises:
        ValueError: Naming the argument, what came, what was wanted and what to do.
    """
    x, y = _array(x, "x"), _array(y, "y")
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(
            f"`x` is a matrix [samples, inputs] and `y` [samples, outputs] or [samples]; got shapes {x.shape} and "
            f"{y.shape}. Flatten images to one row each: x.reshape(len(x), -1)."
        )
    if len(x) != len(y):
        raise ValueError(f"`x` and `y` have one row a sample; got {len(x)} and {len(y)} rows.")
    if len(x) < 2 or x.shape[1] < 1:
        raise ValueError(f"`x` has at least 2 samples and 1 input; got shape {x.shape}.")
    for name, array in (("x", x), ("y", y)):
        bad = ~np.isfinite(np.asarray(array)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"`{name}` has NaN or infinite entries in {bad.sum()} rows, the first of them row {np.argmax(bad)}: "
                "drop these samples from x and y."
            )
    if x.dtype != y.dtype:
        raise ValueError(f"`x` and `y` have one dtype, the precision of the work; got {x.dtype} and {y.dtype}.")
    constant = np.flatnonzero(np.ptp(np.asarray(y), axis=0) == 0)
    if len(constant):
        raise ValueError(f"`y` is constant in columns {constant.tolist()}: nothing to imitate. Drop these outputs.")
    host = np.asarray(x, float)
    if np.all(np.ptp(host, axis=0) <= 4 * np.finfo(x.dtype).eps * np.abs(host).max(0)):  # as `scaling` tells it
        raise ValueError("`x` is the same in every sample: ask the teacher at different inputs.")
    shape = (x.shape[1], *student_widths, y.shape[1])
    n_parameters = sum(n * (m + 1) for m, n in itertools.pairwise(shape))
    if y.size < n_parameters and not allow_few_samples:
        raise ValueError(
            f"`y` has {y.size} numbers for students of {n_parameters} parameters, so that students can fit them "
            "without finding the teacher. Ask the teacher more, narrow `student_width`, or say allow_few_samples=True."
        )
    return x, y


def checked_fresh(fresh, x: Array, y: Array) -> tuple[Array, Array] | None:
    """Queries and answers for the certificate, of the same kind as those of the recovery.

    Raises:
        ValueError: If they are not.
    """
    if fresh is None:
        return None
    fresh_x, fresh_y = _array(fresh[0], "fresh[0]"), _array(fresh[1], "fresh[1]")
    fresh_y = fresh_y[:, None] if fresh_y.ndim == 1 else fresh_y
    kinds = [(name, part.shape[1:], part.dtype) for name, part in (("x", x), ("y", y))]
    given = [(name, part.shape[1:], part.dtype) for name, part in (("x", fresh_x), ("y", fresh_y))]
    if given != kinds or len(fresh_x) != len(fresh_y) or not len(fresh_x):
        raise ValueError(
            f"`fresh` is a pair (x, y) with rows like those of the recovery, {x.shape[1]} inputs and {y.shape[1]} "
            f"outputs in {x.dtype}; got shapes {fresh_x.shape} and {fresh_y.shape} in {fresh_x.dtype}, {fresh_y.dtype}."
        )
    return fresh_x, fresh_y


def _array(array, name: str) -> Array:
    if not hasattr(array, "dtype"):
        array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"`{name}` is an array of floating point numbers; got {array.dtype}. Convert it: {name}.astype(float)."
        )
    return to_device(array, name)

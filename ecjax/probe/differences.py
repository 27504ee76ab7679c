"""Derivatives of the answers by finite differences, with steps chosen from the precision of the answers.

Sources: steps of eps^(1/3) for central first and eps^(1/4) for second differences: Press et al., Numerical Recipes,
    section 5.7.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Asked = Callable[[Float[np.ndarray, "samples fan_in"]], Float[np.ndarray, "samples fan_out"]]
Point = Float[np.ndarray, " fan_in"]


def gradient_step(precision: float, scale: float) -> float:
    """The step of a central first difference at which rounding and truncation are of one size."""
    return precision ** (1 / 3) * scale


def hessian_step(precision: float, scale: float) -> float:
    """The same of a second difference."""
    return precision ** (1 / 4) * scale


def gradient(ask: Asked, point: Point, directions: Float[np.ndarray, "directions fan_in"], step: float):
    """Derivatives of all answers along some directions, [directions, fan_out]; two questions a direction."""
    n = len(directions)
    answers = ask(np.concatenate([point + step * directions, point - step * directions]))
    return (answers[:n] - answers[n:]) / (2 * step)


def slopes(ask: Asked, point: Point, directions: Float[np.ndarray, "directions fan_in"], step: float):
    """The same where the answers are linear: one question a direction, one for the point, steps of any size."""
    answers = ask(np.concatenate([point[None], point + step * directions]))
    return (answers[1:] - answers[0]) / step


def hessian(ask: Asked, point: Point, step: float) -> Float[np.ndarray, "fan_out fan_in fan_in"]:
    """Second derivatives of all answers by all inputs; k (k + 1) + 1 questions for k inputs.

    Of two different inputs by f(++) + f(--) - f(+0) - f(-0) - f(0+) - f(0-) + 2 f, two questions of its own for each
    pair where the usual formula has four.
    """
    k = len(point)
    i, j = np.triu_indices(k, 1)
    unit = step * np.eye(k)
    one = ask(np.concatenate([point[None], point + unit, point - unit]))
    f, single = one[0], one[1 : k + 1] + one[k + 1 :]  # [k, fan_out]
    pairs = unit[i] + unit[j]
    double = ask(np.concatenate([point + pairs, point - pairs]))
    double = double[: len(i)] + double[len(i) :]
    found = np.zeros((k, k, f.shape[0]))
    found[i, j] = found[j, i] = (double - single[i] - single[j] + 2 * f) / (2 * step**2)
    found[np.arange(k), np.arange(k)] = (single - 2 * f) / step**2
    return found.transpose(2, 0, 1)

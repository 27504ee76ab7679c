"""About how far one has to go for the neurons to bend: the unit of all steps and points."""

from typing import NamedTuple

import numpy as np

from .differences import Asked, hessian_step

_LINES = 6  # through the origin, taken together: on one of them parts may cancel
_REACH = 2.0 ** np.arange(-14, 15)
# Share of the answers' change that is not linear, at half the scale: pre-activations then deviate by about 1. Where
# they deviate by much less, all activations look like parabolas.
_BENT = 0.3
_AUDIBLE = 1e5  # roundings; below that a change says nothing
# Where second differences are looked at, their step in units of eps^(1/4), roundings below which one is nothing.
_PLACES, _SHORT, _STRAIGHT = 20, 2.0, 30.0
_BEYOND = 8.0  # where kinks begin, some neurons have theirs; all of them have it so many times further out


class Scale(NamedTuple):
    """The unit of the inputs.

    Attributes:
        unit: Deviation of the inputs at which neurons bend.
        is_straight: Whether they do so in kinks, with straight lines in between.
    """

    unit: float
    is_straight: bool


def natural_scale(ask: Asked, fan_in: int, *, precision: float, rng: np.random.Generator) -> Scale:
    """Twice the deviation of inputs at which the answers' change is no longer linear; 1 if that is so everywhere.

    Args:
        ask: The teacher.
        fan_in: How many inputs it has.
        precision: Relative error of its answers.
        rng: For the lines.
    """
    n = len(_REACH)
    bent, size, audible = np.zeros(n - 1), np.zeros(n - 1), np.ones(n - 1, bool)
    for _ in range(_LINES):
        f = ask(np.concatenate([[0.0], _REACH, -_REACH])[:, None] * rng.standard_normal(fan_in))
        up, down = f[1 : n + 1] - f[0], f[n + 1 :] - f[0]
        even, odd = up + down, up - down
        size += np.sum(up**2 + down**2, axis=1)[:-1]
        bent += np.sum(even**2, axis=1)[:-1] + np.sum((odd[1:] - 2 * odd[:-1]) ** 2, axis=1) / 4
        audible &= np.linalg.norm(up, axis=1)[:-1] > _AUDIBLE * precision * np.abs(f).max(axis=1)[1:n]
    share = np.sqrt(np.where(audible, bent / np.where(size > 0, size, 1), 0))
    there = np.flatnonzero(share > _BENT)
    begins = 2 * float(_REACH[there[0]]) if len(there) and (audible & (share <= _BENT)).any() else 1.0
    if _is_straight(ask, fan_in, begins, precision, rng):
        return Scale(max(1.0, _BEYOND * begins), True)
    return Scale(begins, False)


def _is_straight(ask: Asked, fan_in: int, scale: float, precision: float, rng: np.random.Generator) -> bool:
    """Whether second differences vanish at most places."""
    place = scale * rng.standard_normal((_PLACES, fan_in))
    step = _SHORT * hessian_step(precision, scale) * rng.standard_normal((_PLACES, fan_in))
    low, here, high = ask(place - step), ask(place), ask(place + step)
    off = np.abs(low + high - 2 * here).max(axis=1) > _STRAIGHT * precision * np.abs(here).max(axis=1)
    return bool(np.mean(off) < 0.5)

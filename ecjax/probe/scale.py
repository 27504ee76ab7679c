"""About how far one has to go for the neurons to bend: the unit of all steps and points."""

import numpy as np

from .differences import Asked

_LINES = 3  # through the origin, of which the middle one counts
_REACH = 2.0 ** np.arange(-14, 15)
# Share of the answers' change that is not linear, at half the scale: then pre-activations deviate by about 1. Much less,
# and neurons look like parabolas, which all activations do.
_BENT = 0.3
_AUDIBLE = 1e5  # roundings; below that a change says nothing


def natural_scale(ask: Asked, fan_in: int, *, precision: float, rng: np.random.Generator) -> float:
    """Twice the deviation of inputs at which the answers' change is no longer linear; 1 if that is so everywhere.

    Args:
        ask: The teacher.
        fan_in: How many inputs it has.
        precision: Relative error of its answers.
        rng: For the lines.
    """
    n, found = len(_REACH), []
    for _ in range(_LINES):
        line = np.concatenate([[0.0], _REACH, -_REACH])[:, None] * rng.standard_normal(fan_in)
        f = ask(line)
        up, down = f[1 : n + 1] - f[0], f[n + 1 :] - f[0]
        even, odd = up + down, up - down
        size = np.linalg.norm(up, axis=1) + np.linalg.norm(down, axis=1)
        bent = np.linalg.norm(even, axis=1)[:-1] + np.linalg.norm(odd[1:] - 2 * odd[:-1], axis=1) / 2
        audible = size[:-1] > _AUDIBLE * precision * np.abs(f).max(axis=1)[1:n]
        share = np.where(audible, bent / np.where(size[:-1] > 0, size[:-1], 1), 0)
        there = np.flatnonzero(share > _BENT)
        is_everywhere = len(there) == 0 or not (audible & (share <= _BENT)).any()
        found.append(1.0 if is_everywhere else 2 * float(_REACH[there[0]]))
    return float(np.median(found))

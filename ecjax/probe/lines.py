"""Straight lines far out, and where on them something happens, by halving all their intervals at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .differences import Asked

Interval = tuple[float, float]

_START = 256  # intervals of the half circle that a line is seen under
_WIDEST = 1.55  # angle up to which a line is followed: 50 times its distance
_ASKEW = 1e-3  # so that the point nearest to the origin is no end of an interval: a crossing at an end is not seen
# Length of an interval, in units of the distance, at which a kink counts as located; two that are nearer to each other
# are seen as one of rank two, and left to the next sweep.
_LOCATED = 3e-5
# The same of a bend, some ten scales wide to both sides at a distance of 1e5 of them: halving goes no further inside.
_BEND_LOCATED = 3e-4
# The same of a step, which is some scales wide where its neuron lies flat on the line.
_STEP_LOCATED = 5e-4
_OFF = 100.0  # roundings by which the middle of a chord is off it, if something happens in between
_HEARD = 1e4  # roundings that a kink changes the answers by, within the line on which it is measured
_TAIL = 1e-4  # beside the largest difference of two answers: less is the tail of a step, or one that nobody hears


class Line(NamedTuple):
    """A straight line, or a piece of one, in the inputs as they are.

    Attributes:
        nearest: Its point nearest to the origin, or any other.
        along: Its direction, of length 1 in the coordinates that matter.
        low: Where it begins; infinite if it does not.
        high: Where it ends.
        distance: Of the line from the origin.
    """

    nearest: Float[np.ndarray, " fan_in"]
    along: Float[np.ndarray, " fan_in"]
    low: float
    high: float
    distance: float

    def __call__(self, s: Float[np.ndarray, " places"] | list[float]) -> Float[np.ndarray, "places fan_in"]:
        return self.nearest + np.asarray(s)[:, None] * self.along

    def grid(self) -> Float[np.ndarray, " places"]:
        """Places from which to begin: of equal angle for who stands at the origin."""
        widest = self.distance * np.tan(_WIDEST)
        low, high = max(self.low, -widest), min(self.high, widest)
        return self.distance * np.tan(
            np.linspace(np.arctan(low / self.distance), np.arctan(high / self.distance) - _ASKEW, _START + 1)
        )


def kinks(ask: Asked, line: Line, precision: float, *, is_sharp: bool = True) -> list[Interval]:
    """Disjoint intervals of a line in each of which the answers bend.

    Args:
        ask: The teacher.
        line: Where to look.
        precision: Relative error of the answers.
        is_sharp: Whether they bend at a point, and not along some scales.
    """
    located = _LOCATED if is_sharp else _BEND_LOCATED
    s = line.grid()
    f = ask(line(s))
    a, b, fa, fb = s[:-1], s[1:], f[:-1], f[1:]
    largest = np.abs(f).max() / np.abs(s).max()  # what answers are sums of, by the length of the question
    done: list[Interval] = []
    parents = np.full(len(a), -1)  # index of the interval that each is a half of
    before: list[Interval] = []
    while len(a):
        middle = (a + b) / 2
        fm = ask(line(middle))
        size = np.maximum(np.abs(fa), np.abs(fb)).max(axis=1) + largest * (line.distance + np.abs(middle))
        off = np.abs(fm - (fa + fb) / 2).max(axis=1) > _OFF * precision * size
        # What happened right in the middle of a parent is seen in none of its halves.
        lost = set(range(len(before))) - set(parents[off].tolist())
        done += [before[i] for i in sorted(lost)]
        a, b, fa, fb, middle, fm = a[off], b[off], fa[off], fb[off], middle[off], fm[off]
        short = b - a < located * (line.distance + np.abs(middle))
        done += list(zip(a[short].tolist(), b[short].tolist(), strict=True))
        a, b, fa, fb, middle, fm = a[~short], b[~short], fa[~short], fb[~short], middle[~short], fm[~short]
        before = list(zip(a.tolist(), b.tolist(), strict=True))
        parents = np.tile(np.arange(len(a)), 2)
        a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
        fa, fb = np.concatenate([fa, fm]), np.concatenate([fm, fb])
    return _joined(sorted(done))


def steps(ask: Asked, line: Line) -> list[Interval]:
    """Disjoint intervals of a line in each of which the answers go from one constant to another."""
    s = line.grid()
    f = ask(line(s))
    heard = _TAIL * float(np.ptp(f, axis=0).max())
    a, b, fa, fb = s[:-1], s[1:], f[:-1], f[1:]
    done: list[Interval] = []
    while True:
        differs = np.abs(fb - fa).max(axis=1) > heard
        a, b, fa, fb = a[differs], b[differs], fa[differs], fb[differs]
        middle = (a + b) / 2
        short = b - a < _STEP_LOCATED * (line.distance + np.abs(middle))
        done += list(zip(a[short].tolist(), b[short].tolist(), strict=True))
        a, b, fa, fb, middle = a[~short], b[~short], fa[~short], fb[~short], middle[~short]
        if not len(a):
            return _joined(sorted(done))
        fm = ask(line(middle))
        a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
        fa, fb = np.concatenate([fa, fm]), np.concatenate([fm, fb])


def kink(t: Float[np.ndarray, " line"], y: Float[np.ndarray, "line fan_out"], precision: float) -> float | None:
    """Where two straight halves of the answers meet, or None if they are not straight or meet outside of the gap.

    Args:
        t: Places on the line, as many below 0 as above.
        y: Answers there.
        precision: Relative error of the answers.
    """
    halves, n = [], len(t) // 2
    for some in (slice(None, n), slice(n, None)):
        columns = np.stack([t[some], np.ones(n)], axis=1)
        weights = np.linalg.lstsq(columns, y[some], rcond=None)[0]
        if np.abs(columns @ weights - y[some]).max() > _OFF * precision * np.abs(y).max():
            return None
        halves.append(weights)
    (left, low), (right, high) = halves
    jump = right - left
    if np.abs(jump).max() * np.abs(t).max() < _HEARD * precision * np.abs(y).max():
        return None
    place = float((low - high) @ jump / (jump @ jump))
    return place if t[n - 1] < place < t[n] else None


def _joined(intervals: list[Interval]) -> list[Interval]:
    """Intervals that touch as one."""
    joined: list[Interval] = []
    for a, b in intervals:
        if joined and a <= joined[-1][1] * (1 + 1e-12 * np.sign(joined[-1][1])):
            joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
        else:
            joined.append((a, b))
    return joined

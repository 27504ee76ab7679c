"""Neurons measured one by one, where all others have come to rest.

Once all incoming weight vectors are known roughly, there is a question at which neuron i is in the middle of its range
and every other neuron far from its own, where it answers a constant, or a straight line. From there,

    f(u + c e_q) - f(u) = a_i (s(z + c w_iq) - s(z)),

and each weight w_iq is found by itself, from two answers and the activation, without truncation. Straight lines cancel
in the same difference on the other side of the neuron. Errors of the other neurons enter multiplied by their curvature
there, so that the result is exact to rounding after a round or two.
"""

import numpy as np

from ..network import Activation
from .curves import bends, slope_values, values
from .differences import Asked
from .profile import fit_profile

# Pre-activation beyond which a neuron bends by less than this share of a unit, over a distance of its own size ...
_STRAIGHT = 1e-13
# ... or, where that is never (arctan), by so little that errors of the others lose three digits a round.
_NEARLY_STRAIGHT = 1e-3
_FARTHEST = 100.0
_DRAWS = 16  # of the sides on which the others stand; the nearest of these questions is asked
_LINE = np.linspace(-4.0, 4.0, 17)  # pre-activations of a profile
_NEWTON = 30  # steps at most
_ROUNDS = 5  # where neurons never quite rest: three digits each


class NoRestError(ValueError):
    """The activation never comes to rest, so that no neuron can be isolated."""


def far(activation: Activation) -> float:
    """The pre-activation from which a neuron is straight, on both sides.

    Raises:
        NoRestError: If there is none, as for sin and cos.
    """
    z = np.linspace(2.0, _FARTHEST, 197)
    worst = z**2 * np.maximum(np.abs(bends(activation, z)), np.abs(bends(activation, -z)))
    settled = np.flip(np.maximum.accumulate(np.flip(worst)))
    for limit, at_most in ((_STRAIGHT, _FARTHEST), (_NEARLY_STRAIGHT, np.inf)):
        there = np.flatnonzero(settled <= limit)
        if len(there) and z[there[0]] <= at_most:
            return float(z[there[0]]) + float(np.ptp(_LINE)) / 2
    if settled[-1] / _FARTHEST <= _NEARLY_STRAIGHT:
        return _FARTHEST
    raise NoRestError(f"{activation.name} never comes to rest")


class Isolated:
    """Neurons of a square first layer, w [width, width] and b [width], measured one by one.

    Attributes:
        w: Incoming weight vectors in the coordinates of the row space.
        b: Biases.
        a: Outgoing weights, [fan_out, width].
        misfit: Of each neuron's profile.
    """

    def __init__(self, ask: Asked, activation: Activation, w: np.ndarray, b: np.ndarray, rng: np.random.Generator):
        self.activation, self.w, self.b = activation, w.copy(), b.copy()
        self.far = far(activation)
        self._middle = _middle(activation, self.far)
        # At rest a neuron may still have a slope, which cancels on the other side of the measured one.
        self._is_sloped = bool(
            np.abs(slope_values(activation, np.array([-self.far, self.far]))).max() > _NEARLY_STRAIGHT
        )
        self.a = np.zeros((0, len(w)))
        # Where the others never quite rest, what they still do is subtracted as far as it is known by then.
        for _ in range(1 if self.far < _FARTHEST else _ROUNDS):
            inverse = np.linalg.inv(self.w)
            measured = [self._measure(ask, i, inverse, rng) for i in range(len(w))]
            self.w = np.stack([each[0] for each in measured])
            self.b = np.array([each[1] for each in measured])
            self.a = np.stack([each[2] for each in measured], axis=1)
            self.misfit = np.array([each[3] for each in measured])

    def _measure(self, ask: Asked, i: int, inverse: np.ndarray, rng: np.random.Generator):
        """Weights, bias and outgoing weights of neuron i."""
        width, (z_here, z_there) = len(self.w), self._middle
        sides = self.far * rng.choice([-1.0, 1.0], (_DRAWS, width))
        sides[:, i] = 0
        places = (sides - self.b) @ inverse.T
        place, along = places[np.argmin(np.linalg.norm(places, axis=1))], inverse[:, i]
        line = np.concatenate([_LINE, [z_here, z_there]])
        size = np.linalg.norm(self.w[i])
        steps = np.eye(width) / size  # changes the pre-activation by 1 at most
        sites = (place + z_here * along, place + z_there * along)
        questions = [place + line[:, None] * along, sites[0] + steps]
        questions += [sites[1] + steps] if self._is_sloped else []
        asked = np.concatenate(questions)
        answers = ask(asked)
        if len(self.a):
            others = np.delete(np.arange(width), i)
            answers = answers - values(self.activation, asked @ self.w[others].T + self.b[others]) @ self.a[:, others].T
        answers = np.split(answers, np.cumsum([len(each) for each in questions])[:-1])
        profile = fit_profile(self.activation, line, answers[0], (1.0, 0.0), sloped=self._is_sloped)
        # Along the line the pre-activation is alpha t + beta: `along` was made for alpha 1, beta 0 of the last weights.
        moved = answers[1] - answers[0][-2]
        base = [profile.alpha * z + profile.beta for z in (z_here, z_there)]
        if self._is_sloped:
            moved = moved - (answers[2] - answers[0][-1])
        wanted = moved @ profile.a / (profile.a @ profile.a)
        change = steps.diagonal() * self.w[i]
        for _ in range(_NEWTON):
            got = values(self.activation, base[0] + change) - values(self.activation, np.array(base[0]))
            slope = slope_values(self.activation, base[0] + change)
            if self._is_sloped:
                got -= values(self.activation, base[1] + change) - values(self.activation, np.array(base[1]))
                slope = slope - slope_values(self.activation, base[1] + change)
            step = (wanted - got) / slope
            change = change + np.clip(step, -0.5, 0.5)
            if np.abs(step).max() < np.finfo(float).eps:
                break
        w = change / steps.diagonal()
        return w, profile.beta - w @ place, profile.a, profile.misfit


def _middle(activation: Activation, far: float) -> tuple[float, float]:
    """Two pre-activations between which the slope differs most; as far as can be, where both are straight."""
    z = np.concatenate([[far, -far], np.linspace(-3, 3, 121)])
    slope = slope_values(activation, z)
    difference = np.abs(slope - slope[1])
    first = 0 if difference[0] > 0.5 * difference.max() else int(np.argmax(difference))
    return float(z[first]), -far

"""What the differences of the row space could not see: every input's own weights, once all the rest is known.

A question that moves one input by h moves the pre-activations by h times that input's column of W. Asked at a few
points whose pre-activations z are known, the column is the solution of a small system of equations,

    f(p + h e_j) - f(p) = A (s(z + h W e_j) - s(z)),        unknown: W e_j,

for each input by itself. Nothing is truncated: the step may be as long as the neurons' own scale, and the error is that
of the answers. Points of the row space as it was found have pre-activations that are known exactly, however far that
space is from the true one.
"""

import numpy as np
from jaxtyping import Float

from ..network import Activation
from .curves import slope_values, values
from .differences import Asked

_EQUATIONS = 1.6  # for each unknown; twice as many with kinks, as half of the neurons are silent and some points lost
_POINTS = 12  # at least: a relu neuron is silent at every other one
_DRAWS = 16
_ROUNDS = 12  # of chord steps; some six reach rounding
_SPREAD = 0.7  # of the points, in units of the inputs' scale
_STEP = 0.5  # in the same unit
_SHORT_STEP = 1e-2  # with kinks: at 784-128-10 one point in twenty has one within it


def columns(
    ask: Asked,
    activation: Activation,
    basis: Float[np.ndarray, "rank fan_in"],
    w: Float[np.ndarray, "width rank"],
    b: Float[np.ndarray, " width"],
    a: Float[np.ndarray, "fan_out width"],
    *,
    scale: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "width fan_in"]:
    """The incoming weights of a shallow network, input by input.

    Args:
        ask: The teacher, in the inputs as they are.
        activation: Of the hidden layer.
        basis: Of the row space, right but for small errors.
        w: Incoming weights in its coordinates, exactly.
        b: Biases.
        a: Outgoing weights.
        scale: Of the inputs.
        rng: For the points.
    """
    (width, rank), fan_in, fan_out = w.shape, basis.shape[1], len(a)
    is_straight = activation.symmetry.homogeneous
    n = max(_POINTS, int(np.ceil((2 if is_straight else 1) * _EQUATIONS * width / fan_out)))
    # Of several sets of points the one that shows every neuron best: nobody is asked to find that out.
    draws = _SPREAD * scale * rng.standard_normal((_DRAWS, n, rank))
    by_neuron = lambda z: (slope_values(activation, z)[:, None, :] * a).reshape(-1, width)
    inside = max(draws, key=lambda inside: np.linalg.svd(by_neuron(inside @ w.T + b), compute_uv=False)[-1])
    z, points, step = inside @ w.T + b, inside @ basis, (_SHORT_STEP if is_straight else _STEP) * scale
    still = ask(points)
    asked = np.stack([ask(point + step * np.eye(fan_in)) for point in points]) - still[:, None]  # [n, fan_in, fan_out]
    solve = np.linalg.pinv(by_neuron(z)).reshape(width, n, fan_out)
    at_rest = values(activation, z)[:, None, :]
    moved, least = step * (w @ basis).T, np.inf  # [fan_in, width]
    for _ in range(_ROUNDS):
        left = asked - (values(activation, z[:, None, :] + moved[None]) - at_rest) @ a.T
        change = np.tensordot(left, solve, axes=([0, 2], [1, 2]))
        size = float(np.abs(change).max())
        if size >= least:
            break  # as small as rounding lets it become
        moved, least = moved + change, size
        if is_straight:
            moved = _without_kinks(activation, z, moved, asked, a)
            break
    return moved.T / step


def _without_kinks(activation: Activation, z: np.ndarray, moved: np.ndarray, asked: np.ndarray, a: np.ndarray):
    """Of straight activations the solution is linear. Points where a step crosses a kink are left out."""
    here = slope_values(activation, z)
    solved = moved.copy()
    for j, step in enumerate(moved):
        whole = (slope_values(activation, z + step) == here).all(axis=1)
        if whole.all():
            continue
        rows = (here[whole][:, None, :] * a).reshape(-1, len(step))
        solved[j] = np.linalg.lstsq(rows, asked[whole, j].ravel(), rcond=None)[0]
    return solved

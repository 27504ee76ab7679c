"""What the differences of the row space could not see: every input's own weights, once all the rest is known.

A question that moves one input by h moves the first layer's pre-activations by h times that input's column of W. Asked
at a few points whose pre-activations z are known, the column is the solution of a small system of equations,

    f(p + h e_j) - f(p) = G(z + h W e_j) - G(z),        unknown: W e_j, and G all that is above.

for each input by itself. Nothing is truncated: the step may be as long as the neurons' own scale, and the error is that
of the answers. Points of the row space as it was found have pre-activations that are known exactly, however far that
space is from the true one.
"""

import numpy as np
from jaxtyping import Float

from .curves import slope_values
from .reach import Reach
from .stack import Stack, sensitivities, states

_EQUATIONS = 1.6  # for each unknown; twice as many with kinks, as half of the neurons are silent and some points lost
_POINTS = 12  # at least: a relu neuron is silent at every other one
_DRAWS = 16
_ROUNDS = 12  # of chord steps; some six reach rounding
_STEP = 0.5  # in units of the inputs' scale
_SHORT_STEP = 1e-2  # with kinks: at 784-128-10 one point in twenty has one within it
_CENTRAL = 0.4  # of a box, so that a step leads out of it nowhere
_AT_ONCE = 2**22  # numbers


def columns(reach: Reach, stack: Stack, *, rng: np.random.Generator) -> Float[np.ndarray, "width fan_in"]:
    """The first layer's incoming weights, input by input.

    Args:
        reach: The teacher, with a basis of the row space that is right but for small errors.
        stack: The network in the coordinates of the row space, exactly.
        rng: For the points.
    """
    first, fan_in, fan_out = stack[0], reach.basis.shape[1], len(stack[-1].b)
    width = len(first.b)
    is_straight = _is_straight(stack)
    n = max(_POINTS, int(np.ceil((2 if is_straight else 1) * _EQUATIONS * width / fan_out)))
    # Of several sets of points the one that shows every neuron best: nobody is asked to find that out.
    draws = [reach.points(n, rng) for _ in range(_DRAWS)]
    if reach.is_box:
        draws = [reach.middle + _CENTRAL * (points - reach.middle) for points in draws]
    at = lambda points: states(stack, points @ first.w.T + first.b)
    by_neuron = lambda every: sensitivities(stack, every).reshape(-1, width)
    inside = max(draws, key=lambda inside: np.linalg.svd(by_neuron(at(inside)), compute_uv=False)[-1])
    every, points = at(inside), reach.rest + inside @ reach.basis
    step = (_SHORT_STEP if is_straight else _STEP) * reach.scale
    still = reach.teacher(points)
    asked = np.stack([reach.teacher(point + step * np.eye(fan_in)) for point in points]) - still[:, None]
    moved, least = step * (first.w @ reach.basis).T, np.inf  # [fan_in, width]
    if is_straight:
        return _without_kinks(stack, every, moved, asked).T / step
    solve = np.linalg.pinv(by_neuron(every)).reshape(width, n, fan_out)
    for _ in range(_ROUNDS):
        change = np.concatenate(
            [
                np.tensordot(
                    asked[:, some] - (_moved(stack, every[0], moved[some]) - every[-1][:, None]),
                    solve,
                    axes=([0, 2], [1, 2]),
                )
                for some in np.array_split(np.arange(fan_in), 1 + fan_in * n * width // _AT_ONCE)
            ]
        )
        size = float(np.abs(change).max())
        if size >= least:
            break  # as small as rounding lets it become
        moved, least = moved + change, size
    return moved.T / step


def _moved(stack: Stack, z: Float[np.ndarray, "n width"], moved: Float[np.ndarray, "inputs width"]) -> np.ndarray:
    """Answers [n, inputs, fan_out] with pre-activations that inputs have moved."""
    each = (z[:, None, :] + moved).reshape(-1, z.shape[1])
    return states(stack, each)[-1].reshape(*z.shape[:1], len(moved), -1)


def _is_straight(stack: Stack) -> bool:
    return all(layer.activation is None or layer.activation.symmetry.homogeneous for layer in stack)


def _without_kinks(stack: Stack, every: list[np.ndarray], moved: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Of straight activations the equations are linear. Points where a step crosses a kink are left out."""
    rows = sensitivities(stack, every)
    solve = np.linalg.pinv(rows.reshape(-1, rows.shape[-1]))
    slopes = lambda every: [
        slope_values(layer.activation, z) for layer, z in zip(stack, every, strict=True) if layer.activation is not None
    ]
    here = slopes(every)
    solved = np.empty_like(moved)
    for j, step in enumerate(moved):
        there = slopes(states(stack, every[0] + step))
        whole = np.all([(a == b).all(axis=1) for a, b in zip(here, there, strict=True)], axis=0)
        right = asked[:, j]
        if whole.all():
            solved[j] = solve @ right.ravel()
        else:
            solved[j] = np.linalg.lstsq(rows[whole].reshape(-1, rows.shape[-1]), right[whole].ravel(), rcond=None)[0]
    return solved

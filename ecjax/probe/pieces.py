"""A layer of straight activations from gradients on the pieces between their kinks.

On a piece the answers are straight: at question p their gradient is A diag(s'(z_p)) W. Those of many pieces, one below
the other, are

    G = M W,    column i of M:  m_i = s'(z_.i) (x) a_i.

On which side of its kink a neuron is at each question is known as soon as it is known roughly, and so are all slopes
s'(z_pi). So a_i is the vector for which m_i lies in the range of G, and W what solves the equations: nothing is
truncated, no error of a rough weight vector is left in the result, and one gradient serves all neurons. Questions are
placed by pre-activations, so that each neuron is on either side at half of them, and no step comes near a kink.
"""

import numpy as np
from jaxtyping import Float

from ..network import Activation
from .curves import slope_values
from .differences import slopes
from .reach import Reach

_EQUATIONS = 3.2  # for each unknown: 1.6, and half of the neurons are silent
_PIECES = 12  # at least: with fewer, two neurons may be on the same sides everywhere
_NEAREST, _FARTHEST = 0.5, 1.5  # of questions from all kinks, in units of the scale
_STEP = 0.25  # within every piece


def pieces(
    reach: Reach,
    activation: Activation,
    w: Float[np.ndarray, "width rank"],
    b: Float[np.ndarray, " width"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "width rank"]:
    """Incoming weight vectors of norm 1.

    Args:
        reach: The teacher, in the coordinates of `w`.
        activation: Straight but for its kink.
        w: Incoming weights of as many neurons as dimensions, roughly.
        b: Biases, roughly.
        rng: For the questions.
    """
    size = np.linalg.norm(w, axis=1)
    fan_out = len(reach(np.zeros((1, reach.rank)))[0])
    n = max(_PIECES, int(np.ceil(_EQUATIONS * len(w) / fan_out)))
    sides = rng.choice([-1.0, 1.0], (n, len(w))) * rng.uniform(_NEAREST, _FARTHEST, (n, len(w)))
    z = reach.scale * sides * size
    questions = np.linalg.solve(w, (z - b).T).T
    step = _STEP * reach.scale
    gradients = np.concatenate([slopes(reach, each, np.eye(reach.rank), step).T for each in questions])
    seen = np.linalg.svd(gradients, full_matrices=False)[0][:, : len(w)]
    columns = np.empty((len(gradients), len(w)))
    for i, slope in enumerate(slope_values(activation, z).T):
        possible = np.kron(slope[:, None], np.eye(fan_out))
        outside = possible - seen @ (seen.T @ possible)
        columns[:, i] = possible @ np.linalg.svd(outside)[2][-1]
    found = np.linalg.lstsq(columns, gradients, rcond=None)[0]
    found *= np.sign(np.sum(found * w, axis=1, keepdims=True))
    return found / np.linalg.norm(found, axis=1, keepdims=True)

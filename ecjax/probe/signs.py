"""Signs of neurons whose flip leaves a linear map behind, be there more of them than inputs.

Of softplus, gelu, relu and their like s(-z) = s(z) + l z: crossings show a neuron up to its sign, and

    y(u) = sum_i a_i s(w_i u + b_i) + L u + c,    L = sum over flipped neurons of l a_i w_i

holds whatever the signs are said to be. So all weights are refined first, beside a linear map that is anything. Then
a_i w_i and L are right to rounding, and that is what tells the signs: by least squares where there are as many
equations as neurons, else because signs are integers (`ecjax.probe.lattice`).
"""

import numpy as np
from jaxtyping import Float

from .curves import slope_values, values
from .lattice import signs_of_sum
from .polish import Shallow

_ROUNDS = 20  # of Gauss and Newton; three reach rounding


def signed(net: Shallow, u: Float[np.ndarray, "samples rank"], y: Float[np.ndarray, "samples fan_out"]) -> Shallow:
    """A network of more neurons than inputs, refined, each neuron with its sign.

    Args:
        net: Nearly right but for signs; its output layer is not used.
        u: Questions, more numbers in answer than weights.
        y: Answers.

    Returns:
        The network as it came, if no signs explain the linear map that it needs.
    """
    flip = net.activation.symmetry.linear
    found, linear = _beside_linear_map(net, u, y)
    maps = flip * np.einsum("oi,ik->oki", found.a, found.w).reshape(-1, len(found.w))
    total = maps.sum(axis=1) - 2 * linear.reshape(-1)  # sum of sign * map: those that stay less those that are flipped
    if len(maps) < len(found.w):
        sign = signs_of_sum(maps, total)
        if sign is None:
            return net
    else:
        sign = np.where(np.linalg.lstsq(maps, total, rcond=None)[0] < 0, -1.0, 1.0)
    moved = found.a @ np.where(sign < 0, flip * found.b, 0.0)
    return found._replace(w=sign[:, None] * found.w, b=sign * found.b, c=found.c - moved)


def _beside_linear_map(net: Shallow, u: np.ndarray, y: np.ndarray) -> tuple[Shallow, Float[np.ndarray, "fan_out rank"]]:
    """All weights by least squares, and the linear map that the network then needs."""
    inputs = np.concatenate([u, np.ones((len(u), 1))], axis=1)
    width, rank = net.w.shape
    best, least = None, np.inf
    for _ in range(_ROUNDS):
        z = net.z(u)
        columns = np.concatenate([values(net.activation, z), inputs], axis=1)
        q, r = np.linalg.qr(columns)
        weights = np.linalg.lstsq(r, q.T @ y, rcond=1e-14)[0]
        net = net._replace(a=weights[:width].T, c=weights[-1])
        errors = columns @ weights - y
        size = float(np.sqrt(np.mean(errors**2)))
        if not size < least:
            break
        best, least = (net, weights[width:-1].T), size
        slope = slope_values(net.activation, z)
        by_weights = [((a * slope)[:, :, None] * inputs[:, None, :]).reshape(len(u), -1) for a in net.a]
        j = np.concatenate([each - q @ (q.T @ each) for each in by_weights])
        norm = np.maximum(np.linalg.norm(j, axis=0), np.finfo(float).tiny)
        change = np.linalg.lstsq(j / norm, -errors.T.reshape(-1), rcond=1e-13)[0] / norm
        change = change.reshape(width, rank + 1)
        net = net._replace(w=net.w + change[:, :-1], b=net.b + change[:, -1])
    assert best is not None  # the first round always counts, unless answers are not finite
    return best

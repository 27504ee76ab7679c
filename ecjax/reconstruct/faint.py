"""Weights along directions in which inputs hardly vary, set to zero before a last refinement.

A pixel that lights up in five of 10,000 images has weights that nearly nothing depends on. Training moves them as it
moves all others (Adam by as much, however small the gradient), to ten times the size of the teacher's, and then those
five images are explained by wrong weights in ways that no small step mends: on MNIST 81% of what a right network of
loss 1e-8 left were the residuals of ten images. From zero, where teachers themselves began, the same steps lead to
6e-15, and pre-activations are right to 4e-7 instead of 5e-5 (1 - cosine).

How many directions these are, the answers say: all that the network is nearly right without.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base.precision import in_full_precision
from ..judge import Judge
from ..network import Network
from ..network.moves import with_layers
from ..objective import Inputs, Samples

Directions = Float[np.ndarray, "fan_in fan_in"]


def faintest_first(x: Inputs) -> Directions:
    """Directions of the inputs, those along which they are smallest first, one a column."""
    rows = np.asarray(x, float)
    return np.linalg.eigh(rows.T @ rows)[1]


@in_full_precision
def without_faint(net: Network, samples: Samples, directions: Directions, judge: Judge) -> tuple[Network, int]:
    """The network without weights along the faintest directions of its inputs, and how many directions these are.

    As many, faintest first, as leave the network nearly right.

    Args:
        net: Nearly right.
        samples: Queries, and targets in units of their deviation.
        directions: Of the queries, from `faintest_first`.
        judge: Says what is nearly right.
    """
    w = np.asarray(net.layers[0].w, float)

    def without(n: int) -> Network:
        rest = directions[:, n:]
        first = replace(net.layers[0], w=jnp.asarray(w @ rest @ rest.T, net.dtype))
        return with_layers(net, 0, first, net.layers[1])

    least, most = 0, len(directions)  # the loss rises with their number, if not always
    while most - least > 1:
        n = (least + most) // 2
        least, most = (n, most) if judge.is_nearly_right(float(samples.value(without(n)))) else (least, n)
    return without(least), least

"""A stage on no more answers than a student needs: a step costs as much as it has answers to explain.

Beyond some answers for each weight more of them change nothing: whoever explains these explains all. That holds if they
tell of every direction that all of them tell of. A pixel that two images have ink in is told of by these two: without
them its weights are anything, and both answers wrong (784-12-12-10 tanh on MNIST, 8,266 of 10,000 images at random: at
7e-11, all of them at 4e-5, ten of which make up 99.9%). So samples of high leverage are always among the fewer.
What a student is worth is measured on all of them.

Source: Drineas, Mahoney and Muthukrishnan, SIAM Journal on Matrix Analysis 30 (2008), 844, for leverage scores.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..network import Network
from ..objective import Objective, Samples, flatten
from .expansion import Student, judged
from .stage import Stage

_HIGH = 2.0  # leverage, in units of the mean among the fewer: less than half of them can have more
_ROUNDING = 10.0  # of products of all samples, in units of the resolution of numbers


@dataclass(frozen=True)
class OnFewer(Stage):
    """A stage on some of the samples, then judged on all.

    Students with kinks, which agree to the spacing of the queries only, see all samples.

    Attributes:
        stage: Which.
        answers: For each parameter of a student, how many numbers it sees.
    """

    stage: Stage
    answers: float

    def __call__(self, student: Network, objective: Objective) -> Student:
        seen = fewer(objective, student, self.answers) if isinstance(objective, Samples) else objective
        done = self.stage(student, seen)
        if seen is objective:
            return done
        theta, _ = flatten(done.network)
        return judged(theta, student, objective, n_steps=done.n_steps, result=done.result, target_loss=0.0)


def fewer(samples: Samples, net: Network, answers: float) -> Samples:
    """Some of the samples, so many numbers for each parameter of the network; all, if it has kinks.

    Those of high leverage, then any, always the same, so that a resumed run goes on.
    """
    n_samples, fan_out = samples.y.shape
    n = math.ceil(answers * net.n_parameters / fan_out)
    if n >= n_samples or not net.smooth:
        return samples
    turns = jnp.asarray(-np.argsort(np.random.default_rng(0).permutation(n_samples)), samples.x.dtype)
    shares = leverage(samples.x)
    is_high = shares > _HIGH * samples.x.shape[1] / n
    _, rows = jax.lax.top_k(jnp.where(is_high, 1 + shares, turns), n)
    return samples.take(rows)


def leverage(x: Float[Array, "samples n"]) -> Float[Array, " samples"]:
    """Diagonal of x (x^T x)^-1 x^T: the share of a sample in what all tell of its direction."""
    gram = x.T @ x
    rounding = _ROUNDING * jnp.finfo(x.dtype).eps * jnp.trace(gram)
    factor = jax.scipy.linalg.cho_factor(gram + rounding * jnp.eye(len(gram), dtype=x.dtype), lower=True)
    return jnp.sum(x * jax.scipy.linalg.cho_solve(factor, x.T).T, axis=1)

"""A stage on no more answers than a student needs: a step costs as much as it has answers to explain.

Beyond some answers for each weight more of them change nothing: whoever explains these explains all. What a student is
worth is measured on all of them.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from ..network import Network
from ..objective import Objective, Samples, flatten
from .expansion import Student, judged
from .stage import Stage


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
    """Some of the samples, so many numbers for each parameter of the network; all, if it has kinks."""
    n_samples, fan_out = samples.y.shape
    n = math.ceil(answers * net.n_parameters / fan_out)
    if n >= n_samples or not net.smooth:
        return samples
    rows = np.random.default_rng(0).permutation(n_samples)[:n]  # always the same, so that a resumed run goes on
    return samples.take(jnp.asarray(rows))

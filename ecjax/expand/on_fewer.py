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
        if not isinstance(objective, Samples) or not student.smooth:
            return self.stage(student, objective)
        n_samples, fan_out = objective.y.shape
        n = math.ceil(self.answers * student.n_parameters / fan_out)
        if n >= n_samples:
            return self.stage(student, objective)
        rows = np.random.default_rng(0).permutation(n_samples)[:n]  # always the same, so that a resumed run goes on
        done = self.stage(student, objective.take(jnp.asarray(rows)))
        theta, _ = flatten(done.network)
        return judged(theta, student, objective, n_steps=done.n_steps, result=done.result, target_loss=0.0)

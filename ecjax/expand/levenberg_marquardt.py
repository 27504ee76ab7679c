"""Levenberg-Marquardt: H = 2 J^T J from one Gram matrix, by Cholesky, with geodesic acceleration.

The fastest way down from a fresh student. The valleys of an overparameterised loss are bent. A straight step leaves
them, and has to be damped until it hardly moves; its second-order correction -1/2 (H + lambda I)^-1 J^T r'', from the
same factor, follows them. Measured on students of width 32 of 2-8-1 teachers, 500 steps: losses of 1e-13 to 1e-10 in
the place of 1e-9, for a third more time.

Source: Transtrum, Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization"
    (arXiv:1201.5885), section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx

from ..network import Network
from ..objective import LeastSquares, Theta, flatten
from .descent import Curvature, DampedNewton, DampedStep, Descent, Free, Search, loss_field, require, trust_from

# An acceleration that is longer than this share of half the step says that the step left the region where it means
# anything; the value is the paper's.
BENT = 0.75


@dataclass(frozen=True)
class LevenbergMarquardt(Descent):
    """Damped Gauss-Newton steps that follow bent valleys; needs residuals."""

    def search(self, like: Network, objective: Any, free: Free) -> Search:
        require(objective, LeastSquares, self)
        curvature = Curvature(like, objective, free, exact=False)
        descent, search = DampedStep(Acceleration(like, objective, free)), trust_from(like, objective)
        solver = DampedNewton(curvature=curvature, descent=descent, search=search)
        return Search(loss_field(objective, like), optx.minimise, solver)


class Acceleration(eqx.Module):
    """A step with its geodesic correction, as long as that is small beside it."""

    like: Network
    objective: LeastSquares
    free: Free

    def __call__(self, theta: Theta, step: Theta, solve: Callable[[Theta], Theta]) -> Theta:
        bend = self.objective.bend(flatten(self.like)[1](theta), step)
        correction = -solve(jnp.where(self.free, bend, 0)) / 2
        small = 2 * jnp.linalg.norm(correction) <= BENT * jnp.linalg.norm(step)
        return jnp.where(small, step + correction, step)

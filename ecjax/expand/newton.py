"""Newton's method in a trust region: the exact Hessian, by Cholesky, damped until it is positive definite."""

from dataclasses import dataclass

import optimistix as optx

from ..network import Network
from ..objective import Objective
from .descent import Curvature, DampedNewton, DampedStep, Descent, Free, Search, loss_field, trust_from


@dataclass(frozen=True)
class Newton(Descent):
    """Damped Newton steps: the paper's end for students as narrow as the teacher."""

    def search(self, like: Network, objective: Objective, free: Free) -> Search:
        curvature = Curvature(like, objective, free, exact=True)
        solver = DampedNewton(curvature=curvature, descent=DampedStep(None), search=trust_from(like, objective))
        return Search(loss_field(objective, like), optx.minimise, solver)

"""Levenberg-Marquardt by orthogonal factors: the step from the QR factors of [J; sqrt(lambda) I].

It does not square the condition number of J, and takes five to twenty times the time of a step; for small networks that
have to be exact.
"""

from dataclasses import dataclass
from typing import Any

import lineax as lx
import optimistix as optx

from ..network import Network
from ..objective import LeastSquares, residual_field
from .descent import Descent, Free, GaussNewton, Search, require, trust_from


@dataclass(frozen=True)
class Orthogonal(Descent):
    """Optimistix's own damped steps; needs residuals."""

    def search(self, like: Network, objective: Any, free: Free) -> Search:
        require(objective, LeastSquares, self)
        steps = optx.DampedNewtonDescent(linear_solver=lx.QR())
        solver = GaussNewton(descent=steps, search=trust_from(like, objective))
        return Search(residual_field(objective, like), optx.least_squares, solver)

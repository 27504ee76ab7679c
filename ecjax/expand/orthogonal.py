"""Levenberg-Marquardt by orthogonal factors: the step from the QR factors of [J; sqrt(lambda) I].

It does not square the condition number of J, and takes five to twenty times the time of a step; for small networks that
have to be exact.
"""

from dataclasses import dataclass
from typing import Any

import optimistix as optx

from ..network import Network
from ..objective import LeastSquares, residual_field
from .descent import Descent, Free, Search, require


@dataclass(frozen=True)
class Orthogonal(Descent):
    """Optimistix's own Levenberg-Marquardt; needs residuals."""

    def search(self, like: Network, objective: Any, free: Free) -> Search:
        require(objective, LeastSquares, self)
        return Search(residual_field(objective, like), optx.least_squares, optx.LevenbergMarquardt(rtol=0.0, atol=0.0))

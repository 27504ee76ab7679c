"""BFGS, the paper's end for students wider than the teacher: gradients only, and a matrix that learns from them."""

from dataclasses import dataclass

import optimistix as optx

from ..network import Network
from ..objective import Objective
from .descent import Descent, Free, Search, loss_field


@dataclass(frozen=True)
class BFGS(Descent):
    """Optimistix's BFGS."""

    def search(self, like: Network, objective: Objective, free: Free) -> Search:
        return Search(loss_field(objective, like), optx.minimise, optx.BFGS(rtol=0.0, atol=0.0))

"""L-BFGS: many cheap steps for students with too many parameters for a matrix."""

from dataclasses import dataclass

import optimistix as optx

from ..network import Network
from ..objective import Objective
from .descent import Descent, Free, Search, loss_field


@dataclass(frozen=True)
class LBFGS(Descent):
    """Optimistix's L-BFGS."""

    def search(self, like: Network, objective: Objective, free: Free) -> Search:
        return Search(loss_field(objective, like), optx.minimise, optx.LBFGS(rtol=0.0, atol=0.0))

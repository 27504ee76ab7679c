"""What probes propose: the record beside `Expansion`, and what the cluster phase makes of it."""

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ..network import Symmetry

# A direction has neither sign nor length: the symmetry that the cluster phase is told of.
DIRECTIONS = Symmetry(parity=1, homogeneous=True)

STUDENTS = "students"  # who propose where no probe reaches


class Probes(eqx.Module):
    """Incoming weight vectors of one layer as probes propose them, and what they cost.

    Attributes:
        vectors: Unit vectors in the coordinates of the row space, bias (0 where unknown) last.
        proposer: Who proposes each: a sweep, or a pair of combinations of Hessians.
        n_proposers: How many proposers there are.
        basis: Of the row space, in the layer's inputs.
        singular: Singular values of the gradients, in units of the largest; none where these were not looked at.
        method: "Hessians" or "sweeps"; or "students", of layers that have bounded inputs and others above them.
        questions: How many were asked up to the proposals.
        notes: What else there is to say.
    """

    vectors: Float[np.ndarray, "proposed rank_1"]
    proposer: Int[np.ndarray, " proposed"]
    n_proposers: int = eqx.field(static=True)
    basis: Float[np.ndarray, "rank fan_in"]
    singular: Float[np.ndarray, " values"]
    method: str = eqx.field(static=True)
    questions: int = eqx.field(static=True)
    notes: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def who(self) -> str:
        """Who proposed, in a word."""
        return "students" if self.method == STUDENTS else "probes"

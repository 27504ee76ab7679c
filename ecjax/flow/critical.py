"""What kind of point a network is at: the spectrum of the Hessian there, and what its zero eigenvalues come from."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..base.memory import require_memory
from ..base.precision import compiled
from ..network import Network
from ..objective import Objective, Theta, flatten
from .degeneracy import Degeneracy, degeneracy

MINIMUM, SADDLE, DEGENERATE, NOT_CRITICAL = "minimum", "strict saddle", "degenerate", "not critical"

# Rounding of a Hessian of P weights is some P eps of its largest eigenvalue; and a point with gradient g is off by
# about |g| / lambda from the point it stands for, which changes eigenvalues by a third derivative times that.
_ROUNDINGS = 16.0


@dataclass(frozen=True)
class CriticalPoint:
    """A point of the loss, and its kind.

    Attributes:
        loss: There.
        gradient_norm: Euclidean, of the parameters that are free.
        spectrum: Eigenvalues of the Hessian, increasing.
        tolerance: Eigenvalues within it of zero are taken for zero.
        kind: "minimum" (all eigenvalues positive), "strict saddle" (some negative), "degenerate" (none negative, some
            zero: a minimum, perhaps, or a saddle of higher order), or "not critical" (the gradient does not vanish).
        degeneracy: What the zero eigenvalues come from.
    """

    loss: float
    gradient_norm: float
    spectrum: Float[np.ndarray, " free"]
    tolerance: float
    kind: str
    degeneracy: Degeneracy

    @property
    def n_negative(self) -> int:
        """How many eigenvalues are below zero, by more than the tolerance."""
        return int(np.count_nonzero(self.spectrum < -self.tolerance))

    @property
    def n_zero(self) -> int:
        """How many are zero, to the tolerance."""
        return int(np.count_nonzero(np.abs(self.spectrum) <= self.tolerance))

    def summary(self) -> str:
        """In words."""
        found = ", ".join(f"{n} by {what}" for what, n in self.degeneracy.accounted.items() if n) or "none explained"
        return (
            f"{self.kind}: loss {self.loss:.3g}, |gradient| {self.gradient_norm:.2g}, {self.n_negative} negative and "
            f"{self.n_zero} zero of {len(self.spectrum)} eigenvalues within {self.tolerance:.1g} ({found})"
        )


def critical_point(
    net: Network,
    objective: Objective,
    *,
    gradient_norm: float = 1e-6,
    tolerance: float | None = None,
    free: Bool[np.ndarray, " parameters"] | None = None,
) -> CriticalPoint:
    """What kind of point a network is at.

    Args:
        net: One network.
        objective: What it is fitted to.
        gradient_norm: Up to which the point counts as critical.
        tolerance: Of eigenvalues that count as zero; by default what rounding and the rest of the gradient make of one,
            16 P eps of the largest eigenvalue, or the root of the gradient's norm over the largest eigenvalue, times
            the latter, up to a thousandth of it, where the gradient is more than rounding.
        free: Which parameters may move; all, if left out. Frozen ones have no directions.

    Raises:
        ValueError: If `net` is a stack, or a limit is negative.
    """
    if net.is_stack:
        raise ValueError("`net` is one network; got a stack of students: take `student(stack, i)`.")
    if gradient_norm < 0 or (tolerance is not None and tolerance < 0):
        raise ValueError(f"`gradient_norm` and `tolerance` are 0 or above; got {gradient_norm!r}, {tolerance!r}.")
    if free is not None and np.shape(free) != (net.n_parameters,):
        raise ValueError(
            f"`free` says of each of {net.n_parameters} parameters if it moves; got shape {np.shape(free)}."
        )
    what = f"Second derivatives by {net.n_parameters:,} parameters"
    require_memory(3 * 8 * net.n_parameters**2, what, "take a narrower network")
    loss, gradient, hessian = (np.asarray(each, float) for each in _derivatives(net, objective))
    free = np.ones(len(gradient), bool) if free is None else np.asarray(free, bool)
    norm = float(np.linalg.norm(gradient[free]))
    if not (np.isfinite(norm) and np.all(np.isfinite(hessian))):  # a student that failed is no reason to stop a study
        nothing = np.full(np.count_nonzero(free), np.nan)
        return CriticalPoint(
            float(loss), norm, nothing, float("nan"), NOT_CRITICAL, degeneracy(net, np.zeros((len(gradient), 0)))
        )
    spectrum, directions = np.linalg.eigh(hessian[np.ix_(free, free)])
    if tolerance is None:
        tolerance = _tolerance(spectrum, norm, float(jnp.finfo(net.dtype).eps))
    flat = np.zeros((len(gradient), np.count_nonzero(np.abs(spectrum) <= tolerance)))
    flat[free] = directions[:, np.abs(spectrum) <= tolerance]
    if norm > gradient_norm:
        kind = NOT_CRITICAL
    elif spectrum[0] < -tolerance:
        kind = SADDLE
    else:
        kind = DEGENERATE if flat.shape[1] else MINIMUM
    return CriticalPoint(float(loss), norm, spectrum, tolerance, kind, degeneracy(net, flat))


@compiled
def _derivatives(net: Network, objective: Objective) -> tuple[Array, Theta, Array]:
    gradient = flatten(objective.gradient(net))[0]
    return objective.value(net), gradient, objective.curvature(net, exact=True)


def _tolerance(spectrum: np.ndarray, norm: float, eps: float) -> float:
    largest = float(np.abs(spectrum).max(initial=0.0))
    if not largest:
        return eps
    rounding = _ROUNDINGS * len(spectrum) * eps
    # Along a direction of curvature k the gradient is k times the way left, along one without it a higher power of the
    # way: a student that creeps along a valley has curvature there of about the root of its gradient. A gradient that
    # is all rounding says nothing of the kind.
    left = norm / largest if norm > rounding * largest else 0.0
    return largest * max(rounding, min(np.sqrt(left), 1e-3))

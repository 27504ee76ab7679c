"""Solvers of ordinary differential equations by name, and what a step of one makes of a gradient flow."""

from typing import Literal

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Float

from .kencarp58 import KenCarp58

OdeSolver = Literal["kvaerno5", "kvaerno3", "kencarp58", "tsit5", "dopri8"]
IMPLICIT = {"kvaerno5": dfx.Kvaerno5, "kvaerno3": dfx.Kvaerno3, "kencarp58": KenCarp58}
_ITERATIONS = 12  # of Newton's for a stage; those of long steps along valleys take 4 to 8
EXPLICIT = {"tsit5": dfx.Tsit5, "dopri8": dfx.Dopri8}


def ode_solver(name: str, *, root_tol: float) -> dfx.AbstractSolver:
    """The diffrax solver of that name.

    Args:
        name: One of `OdeSolver`.
        root_tol: Tolerance, relative and absolute, to which implicit solvers solve their stages.

    Raises:
        ValueError: If there is no such solver.
    """
    if name in EXPLICIT:
        return EXPLICIT[name]()
    if name not in IMPLICIT:
        raise ValueError(f"`solver` of a flow is one of {(*IMPLICIT, *EXPLICIT)}; got {name!r}.")
    return IMPLICIT[name](root_finder=dfx.VeryChord(rtol=root_tol, atol=root_tol, linear_solver=_LU()))


def newton_solver(name: str, *, slope_error: Float[Array, " parameters"]) -> dfx.AbstractSolver:
    """The implicit solver of that name, whose stages are solved by Newton's method: a Hessian for each iteration.

    Args:
        name: One of `IMPLICIT`.
        slope_error: What is allowed of the last correction of a stage's slope, which is the error of the guess before.
    """
    newton = _Newton(rtol=0.0, atol=1.0, linear_solver=_LU(), cauchy_termination=False, error=slope_error)
    return IMPLICIT[name](root_finder=newton, root_find_max_steps=_ITERATIONS)


class _Newton(optx.Newton):
    """Newton's method that is left alone until it has converged, or has had its iterations.

    Along a narrow curved valley corrections grow before they shrink: a step along the valley leaves it to second order,
    and the next one leads back into it, 3e-3, 3e-5, 9e-5, 8e-7, 2e-8. Tests of the rate of convergence (Hairer and
    Wanner, section IV.8; optimistix's own) give up at the third.
    """

    error: Float[Array, " parameters"] | float = 0.0

    def terminate(self, fn, y, args, options, state, tags):
        lost = (state.step > 0) & ~jnp.isfinite(state.diffsize)
        result = optx.RESULTS.where(lost, optx.RESULTS.nonlinear_divergence, state.result)
        return lost | ((state.step > 0) & jnp.all(jnp.abs(state.diff) <= self.error)), result


class _LU(lx.LU):
    """Lineax's LU for vectors, which also works under `jax.shard_map`.

    Lineax compares the structures of vector and matrix, and on a mesh only one of them knows of it
    (https://github.com/patrick-kidger/lineax/issues/185).
    """

    def compute(self, state, vector, options):
        factors, _, is_transposed = state
        return jax.scipy.linalg.lu_solve(factors, vector, trans=int(is_transposed.value)), lx.RESULTS.successful, {}

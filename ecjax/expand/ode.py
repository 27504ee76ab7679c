"""Solvers of ordinary differential equations by name, and what a step of one makes of a gradient flow."""

from typing import Literal

import diffrax as dfx
import jax
import lineax as lx

from .kencarp58 import KenCarp58

OdeSolver = Literal["kvaerno5", "kvaerno3", "kencarp58", "tsit5", "dopri8"]
IMPLICIT = {"kvaerno5": dfx.Kvaerno5, "kvaerno3": dfx.Kvaerno3, "kencarp58": KenCarp58}
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


class _LU(lx.LU):
    """Lineax's LU for vectors, which also works under `jax.shard_map`.

    Lineax compares the structures of vector and matrix, and on a mesh only one of them knows of it
    (https://github.com/patrick-kidger/lineax/issues/185).
    """

    def compute(self, state, vector, options):
        factors, _, is_transposed = state
        return jax.scipy.linalg.lu_solve(factors, vector, trans=int(is_transposed.value)), lx.RESULTS.successful, {}

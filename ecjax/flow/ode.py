"""Gradient flow as an ordinary differential equation, stepped by diffrax."""

from dataclasses import dataclass
from typing import Any, cast

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base.precision import precision_of
from ..expand.ode import OdeSolver, ode_solver
from ..objective import Theta
from .dynamics import Dynamics, Place, Step
from .problem import Problem


@dataclass(frozen=True, kw_only=True)
class Ode(Dynamics):
    """Gradient flow, tau theta' = -gradient.

    Attributes:
        solver: "kvaerno5", "kvaerno3" or "kencarp58" (implicit, for stiff flows), "tsit5" or "dopri8" (explicit).
        rtol: Relative error allowed in a step. The default is the paper's, and right for where a flow ends; what is
            said of the path between wants 1e-6 or less.
        atol: Absolute error allowed in a step.
        root_tol: Tolerance of the implicit stages, whatever rtol is: two or three of the chord's iterations do. On a
            2-4-1 tanh student at rtol 1e-9, root_tol 1e-3 and 1e-7 gave the same steps and the same error, 5e-11; 1e-9
            rejected half of the steps for stages that rounding did not let converge, and 1e-7 at rtol 1e-3 most.
        first_step: Flow time of the first attempt.
    """

    solver: OdeSolver = "kvaerno5"
    rtol: float = 1e-3
    atol: float = 1e-6
    root_tol: float = 1e-3
    first_step: float = 1e-3

    def __post_init__(self):
        ode_solver(self.solver, root_tol=self.root_tol)  # refuses a name that is none
        for name in ("rtol", "atol", "root_tol", "first_step"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` of a flow is positive; got {getattr(self, name)!r}.")

    @property
    def _solver(self) -> dfx.AbstractSolver:
        return ode_solver(self.solver, root_tol=self.root_tol)

    @property
    def _controller(self) -> dfx.PIDController:
        return dfx.PIDController(rtol=self.rtol, atol=self.atol)

    @property
    def between_steps(self) -> bool:
        return True

    def begin(self, theta: Theta, problem: Problem) -> tuple[Place, Any]:
        solver, term = self._solver, _term(problem)
        with precision_of(theta):
            start, end = jnp.zeros((), theta.dtype), jnp.asarray(self.first_step, theta.dtype)
            memory = solver.init(term, start, end, theta, None)
            order = cast(Any, solver.error_order(term))
            plan = self._controller.init(term, start, end, theta, end, None, solver.func, order)
            return Place(start, theta, _arrays(memory)), _arrays(plan)

    def planned(self, plan: Any, now: Place) -> Float[Array, ""]:
        return plan[0]

    def step(self, start: Place, end_time: Float[Array, ""], plan: Any, problem: Problem) -> Step:
        solver, term, (_, controlled) = self._solver, _term(problem), plan
        with precision_of(start.theta):
            theta, error, _, memory, _ = solver.step(
                term, start.time, end_time, start.theta, None, start.memory, made_jump=False
            )
            error = jnp.where(jnp.isnan(cast(Array, error)), jnp.inf, cast(Array, error))
            kept, _, planned, _, controlled, _ = self._controller.adapt_step_size(
                start.time, end_time, start.theta, theta, None, error, cast(Any, solver.error_order(term)), controlled
            )
            return Step(Place(end_time, theta, _arrays(memory)), jnp.asarray(kept), _arrays((planned, controlled)))


def _term(problem: Problem) -> dfx.ODETerm:
    field = problem.field()
    return dfx.ODETerm(lambda time, theta, args: -problem.rates * field(theta))


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)

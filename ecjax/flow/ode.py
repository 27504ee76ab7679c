"""Gradient flow as an ordinary differential equation, stepped by diffrax."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base.checks import check_settings
from ..base.precision import precision_of
from ..expand.ode import IMPLICIT, OdeSolver, newton_solver, ode_solver
from ..objective import Theta
from .dynamics import Dynamics, Place, Step
from .problem import Problem

# After stages that the chord iteration, with one Hessian a step, did not solve, so many steps are by Newton's method
# from the start: a Hessian for each iteration of each stage costs a step four times as much, the chord's vain attempt a
# third of a step.
_STEPS_BY_NEWTON = 16
# Where stages limit the steps and not their error, a step ten times longer is one in vain: of steps that may grow
# tenfold 55 of 100 were rejected.
_GROWTH_BY_NEWTON = 2.0
# Of the error that a step allows, for the last correction of a stage. The error of a stage adds to the gradient by its
# curvature: 1e-2 left some students with large weights a gradient of 1e-2 where they were at rest to 1e-11; 1e-7
# takes a fifth longer.
_LAST_CORRECTION = 1e-5


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
        check_settings(self, above_0=("rtol", "atol", "root_tol", "first_step"))

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
            return Place(start, theta, _arrays(memory)), (*_arrays(plan), jnp.zeros((), theta.dtype))

    def planned(self, plan: Any, now: Place) -> Float[Array, ""]:
        return plan[0]

    def step(self, start: Place, end_time: Float[Array, ""], plan: Any, problem: Problem) -> Step:
        # Steps to go by Newton's method are a float: in a scope of float32 integers would have another width.
        term, (_, controlled, by_newton) = _term(problem), plan
        length = end_time - start.time
        with precision_of(start.theta):
            none = _Tried(start.theta, jnp.full_like(start.theta, jnp.inf), start.memory)
            tried = jax.lax.cond(by_newton > 0, lambda: none, lambda: _try(self._solver, term, start, end_time))
            if self.solver in IMPLICIT:
                failed = ~jnp.all(jnp.isfinite(tried.error))
                allowed = _LAST_CORRECTION * (self.atol + self.rtol * jnp.abs(start.theta)) / length
                # In a batch both are done for all: those that have no need of it get away with one iteration.
                newton = newton_solver(self.solver, slope_error=jnp.where(failed, allowed, jnp.inf))
                tried = jax.lax.cond(failed, lambda: _try(newton, term, start, end_time), lambda: tried)
                by_newton = jnp.where(failed & (by_newton == 0), _STEPS_BY_NEWTON, jnp.maximum(by_newton - 1, 0))
            kept, _, planned, _, controlled, _ = self._controller.adapt_step_size(
                start.time,
                end_time,
                start.theta,
                tried.theta,
                None,
                tried.error,
                cast(Any, self._solver.error_order(term)),
                controlled,
            )
            within = end_time + _GROWTH_BY_NEWTON * length
            planned = jnp.where(kept & (by_newton > 0), jnp.minimum(planned, within), planned)
            planned = jnp.where(length * jnp.finfo(start.theta.dtype).eps ** 2 < 1, planned, end_time)  # it stays here
            plan = _arrays((planned, controlled, by_newton))
            return Step(Place(end_time, tried.theta, tried.memory), jnp.asarray(kept), plan)


class _Tried(NamedTuple):
    """What came of an attempt."""

    theta: Theta
    error: Theta  # infinite, if stages did not converge
    memory: Any


def _try(solver: dfx.AbstractSolver, term: dfx.ODETerm, start: Place, end_time: Float[Array, ""]) -> _Tried:
    theta, error, _, memory, _ = solver.step(
        term, start.time, end_time, start.theta, None, start.memory, made_jump=False
    )
    error = jnp.where(jnp.isnan(cast(Array, error)), jnp.inf, cast(Array, error))
    return _Tried(theta, error, _arrays(memory))


def _term(problem: Problem) -> dfx.ODETerm:
    field = problem.field()
    return dfx.ODETerm(lambda time, theta, args: -problem.rates * field(theta))


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)

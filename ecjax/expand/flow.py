"""Gradient flow theta' = -grad L(theta), solved as an ordinary differential equation by diffrax.

The flow is stiff: along the flat valleys of an overparameterised loss an A-stable implicit solver takes steps that grow
by many orders of magnitude, where an explicit one stays bound to the largest curvature. The field carries its Hessian
in closed form (`ecjax.objective.gradient_field`), so an implicit step builds it once.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), appendix on synthetic teachers: students follow the flow with a
    stiff solver for up to 5000 steps, to a mean squared error of 1e-31 or a gradient norm of 1e-16.
"""

from dataclasses import dataclass
from typing import cast

import diffrax as dfx
import jax.numpy as jnp

from ..base.checks import check_settings
from ..base.precision import in_full_precision, precision_of
from ..network import Network
from ..objective import Objective, Theta, flatten, gradient_field
from .expansion import RESULTS, Student, judged
from .ode import OdeSolver, ode_solver
from .stage import Stage


@dataclass(frozen=True, kw_only=True)
class Flow(Stage):
    """Gradient flow on an objective: how it is solved and when it stops.

    Attributes:
        solver: "kvaerno5", "kvaerno3" or "kencarp58" (implicit, for stiff flows), "tsit5" or "dopri8" (explicit).
        rtol: Relative error allowed in a step.
        atol: Absolute error allowed in a step.
        root_tol: Tolerance of the implicit stages. Much looser, and half of the steps are rejected because the stages
            had not converged; much tighter only costs time.
        max_steps: Steps, rejected ones included; the paper's 5000.
        t_end: Flow time; gradient descent with step h would take t_end / h steps. Infinite: until another rule stops.
        target_loss: Mean squared error at which the flow has arrived.
        gradient_norm: Euclidean norm of the gradient below which it has come to rest.
    """

    solver: OdeSolver = "kvaerno5"
    rtol: float = 1e-3
    atol: float = 1e-6
    root_tol: float = 1e-3
    max_steps: int = 5000
    t_end: float = float("inf")
    target_loss: float = 1e-31
    gradient_norm: float = 1e-16

    def __post_init__(self):
        ode_solver(self.solver, root_tol=self.root_tol)  # refuses a name that is none
        check_settings(
            self,
            above_0=("rtol", "atol", "root_tol", "t_end"),
            finite=("target_loss", "gradient_norm"),
            from_1=("max_steps",),
            infinite=("t_end",),
        )

    @in_full_precision
    def __call__(self, student: Network, objective: Objective) -> Student:
        theta, unflatten = flatten(student)
        field = gradient_field(objective, student)

        def has_arrived(t, theta, args, **_):
            return objective.value(unflatten(theta)) <= self.target_loss

        def is_flat(t, theta, args, **_):
            return jnp.linalg.norm(field(theta)) <= self.gradient_norm

        with precision_of(theta):
            solution = dfx.diffeqsolve(
                dfx.ODETerm(lambda t, theta, args: -field(theta)),
                ode_solver(self.solver, root_tol=self.root_tol),
                t0=0.0,
                t1=self.t_end,
                dt0=1e-3,
                y0=theta,
                stepsize_controller=dfx.PIDController(rtol=self.rtol, atol=self.atol),
                event=dfx.Event([has_arrived, is_flat]),
                max_steps=self.max_steps,
                throw=False,
            )
        result = RESULTS.where(solution.result == dfx.RESULTS.max_steps_reached, RESULTS.max_steps, RESULTS.stalled)
        result = RESULTS.where(solution.result == dfx.RESULTS.successful, RESULTS.reached_end, result)
        _, at_rest = cast(list, solution.event_mask)
        result = RESULTS.where(at_rest, RESULTS.flat, result)
        return judged(
            cast(Theta, solution.ys)[-1],
            student,
            objective,
            n_steps=solution.stats["num_steps"],
            result=result,
            target_loss=self.target_loss,
        )

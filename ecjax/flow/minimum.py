"""To the bottom: gradient flow for as long as the paper follows it, then a method of second order."""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ..base.precision import compiled
from ..base.progress import Progress, silent
from ..base.threads import one_blas_thread
from ..expand import BFGS, LevenbergMarquardt, Newton, Stopping
from ..expand.stage import Stage
from ..expand.students_axis import over_students
from ..network import Network, stack, student
from ..objective import LeastSquares, Objective, Theta, flatten
from .dynamics import Dynamics
from .following import follow
from .trajectory import Trajectory
from .until import Until

Finish = Literal["newton", "bfgs", "levenberg_marquardt", "slsqp"]
# Martinelli et al. 2024, appendix: 5,000 steps of Newton's trust region, or 250 of BFGS for wider students; a loss of
# 1e-31 or a gradient of 1e-16. Patience as long: the paper has no such rule.
_STEPS = {"newton": 5000, "bfgs": 250, "levenberg_marquardt": 500, "slsqp": 5000}
_ARRIVED = {"target_loss": 1e-31, "gradient_norm": 1e-16}


@dataclass(frozen=True)
class Minima:
    """Where students ended.

    Attributes:
        networks: A stack.
        loss: Of each.
        gradient_norm: Of each, Euclidean.
        n_steps: Steps of each after the flow.
        finish: What was done after the flow.
        flow: The flow before.
    """

    networks: Network
    loss: Float[np.ndarray, " students"]
    gradient_norm: Float[np.ndarray, " students"]
    n_steps: np.ndarray
    finish: str
    flow: Trajectory


def find_minimum(
    students: Network,
    objective: Objective,
    *,
    finish: Finish | None = None,
    until: Until | None = None,
    solver: str | Dynamics = "kvaerno5",
    n_steps: int | None = None,
    progress: Progress = silent,
) -> Minima:
    """Follow every student downhill, then take it to the nearest minimum.

    Args:
        students: A stack, or one network.
        objective: What they are fitted to.
        finish: "newton" (a trust region with the Hessian in closed form), "bfgs", "levenberg_marquardt" (sums of
            squares only), or "slsqp" (SciPy's, on the host, for those who expect NLopt's LD_SLSQP). By default as the
            paper's tool: Newton up to 32 parameters, SLSQP up to 1,000, BFGS beyond.
        until: When the flow stops; by default the paper's rules.
        solver: Of the flow; see `follow`.
        n_steps: After the flow; by default 5,000 of Newton and SLSQP, 250 of BFGS, 500 of Levenberg-Marquardt.
        progress: Called as students finish.

    Returns:
        The networks at their minima; a student that the finish leaves worse stays where the flow left it.

    Raises:
        ValueError: If `finish` is unknown, or not made for the objective.
    """
    if not isinstance(students, Network):
        raise ValueError(f"`students` is a network or a stack of them; got a {type(students).__name__}.")
    if n_steps is not None and n_steps < 1:
        raise ValueError(f"`n_steps` after the flow is at least 1, or left out; got {n_steps}.")
    stacked = students if students.is_stack else stack([students])
    finish = finish or _of_the_paper(stacked.n_parameters)
    if finish not in get_args(Finish):
        raise ValueError(f"`finish` is one of {get_args(Finish)}; got {finish!r}.")
    if finish == "levenberg_marquardt" and not isinstance(objective, LeastSquares):
        raise ValueError(f"`finish` levenberg_marquardt is for sums of squares; got a {type(objective).__name__}.")
    steps = n_steps or _STEPS[finish]
    path = follow(stacked, objective, until=until, solver=solver, progress=progress)
    start = path.final
    if finish == "slsqp":
        ends, taken = _slsqp(start, objective, steps)
    else:
        stop = Stopping(max_steps=steps, patience=steps, **_ARRIVED)
        kinds = {"newton": Newton, "bfgs": BFGS, "levenberg_marquardt": LevenbergMarquardt}
        stage: Stage = kinds[finish](stop=stop)
        with one_blas_thread():
            done = over_students(stage, start, objective, progress=progress)
        ends, taken = done.network, np.asarray(done.n_steps)
    loss, norm = (np.asarray(each) for each in _measured(ends, objective))
    worse = ~(loss <= path.final_loss)
    pick = lambda a, b: jnp.where(worse.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    networks = jax.tree.map(pick, start, ends)
    loss, norm = (np.asarray(each) for each in _measured(networks, objective))
    return Minima(networks, loss, norm, taken, finish, path)


def _of_the_paper(n_parameters: int) -> Finish:
    """As MLPGradientFlow.jl chooses."""
    return "newton" if n_parameters <= 32 else "slsqp" if n_parameters <= 1000 else "bfgs"


@compiled
def _measured(networks: Network, objective: Objective):
    norm = lambda net: jnp.linalg.norm(flatten(objective.gradient(net))[0])
    return jax.vmap(objective.value)(networks), jax.vmap(norm)(networks)


@compiled
def _value_and_gradient(theta: Theta, like: Network, objective: Objective):
    net = flatten(like)[1](theta)
    return objective.value(net), flatten(objective.gradient(net))[0]


def _slsqp(start: Network, objective: Objective, n_steps: int) -> tuple[Network, np.ndarray]:
    ends, taken = [], []
    for i in range(len(start.layers[0].b)):
        net = student(start, i)
        theta, unflatten = flatten(net)
        fn = lambda theta, net=net: tuple(
            np.asarray(each, float) for each in _value_and_gradient(jnp.asarray(theta, net.dtype), net, objective)
        )
        # The tolerance is of a change of the loss: SLSQP knows no target and no gradient.
        with one_blas_thread():
            done = minimize(
                fn, np.asarray(theta, float), jac=True, method="SLSQP", options={"maxiter": n_steps, "ftol": 1e-31}
            )
        ends.append(unflatten(jnp.asarray(done.x, theta.dtype)))
        taken.append(done.nit)
    return stack(ends), np.array(taken)

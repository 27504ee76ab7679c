"""Second-order solvers on optimistix, down to machine precision: the end of a descent, and often the whole of it.

Four share one shape, (H + lambda I) step = -gradient inside a trust region, and differ in H and in how it is solved:

* `levenberg_marquardt`: H = 2/D J^T J from one Gram matrix, by Cholesky, with geodesic acceleration. The fastest way
  down from a fresh student.
* `newton`: the exact Hessian, in closed form, by Cholesky; damped until it is positive definite.
* `orthogonal`: the same step as `levenberg_marquardt` from the QR factors of [J; sqrt(lambda) I], which does not square
  the condition number of J. Five to twenty times the time of a step; for small networks that have to be exact.
* `conjugate`: the same by conjugate gradients, without a matrix (`ecjax.expand.conjugate`); for many parameters.

and two need only gradients: `bfgs` (the paper's choice for wide students) and `lbfgs` for many parameters.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from ..network.networks import Network
from ..objective.imitation import (
    Inputs,
    Outputs,
    Theta,
    flatten,
    gauss_newton,
    hessian,
    imitation_loss,
    residual_field,
    residuals,
)
from .conjugate import conjugate_newton, fit_field, fitted
from .expansion import RESULTS, Student, judged

Solver = Literal["levenberg_marquardt", "newton", "orthogonal", "conjugate", "bfgs", "lbfgs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """When a second-order solver stops.

    Attributes:
        max_steps: Steps, rejected ones included.
        target_loss: Mean squared error that is good enough; 1e-31 is the paper's, and float64's floor for unit targets.
        gradient_norm: Euclidean norm of the gradient below which a student counts as being at a minimum.
        patience: Accepted steps within which the loss has to fall by a tenth, or the student has stalled.
    """

    max_steps: int = 500
    target_loss: float = 1e-31
    gradient_norm: float = 1e-16
    patience: int = 50

    def __post_init__(self):
        if self.max_steps < 1 or self.patience < 1:
            raise ValueError(f"`max_steps` and `patience` are at least 1; got {self.max_steps} and {self.patience}.")


def refine(
    student: Network,
    x: Inputs,
    y: Outputs,
    *,
    solver: Solver = "levenberg_marquardt",
    free: Bool[Array, " parameters"] | None = None,
    config: RefineConfig | None = None,
) -> Student:
    """Bring one student to the nearest minimum of its imitation loss. `vmap` it, or map it over students.

    Args:
        student: Where to start.
        x: Queries.
        y: Targets, best in units of their own standard deviation: the tolerances are absolute.
        solver: See the module.
        free: Which parameters may move, in the order of `imitation.flatten`; by default all. A network of any width up
            to the student's can so be refined by one compiled program, its missing neurons frozen at zero. "conjugate"
            fits the whole output layer, whatever this says of it.
        config: When to stop.
    """
    config = config or RefineConfig()
    start, unflatten = flatten(student)
    free = jnp.ones(start.shape, bool) if free is None else free
    full = lambda theta: jnp.where(free, theta, start)
    if solver == "orthogonal":
        fn, solve = residual_field(student, x, y), optx.least_squares
        inner = optx.LevenbergMarquardt(rtol=0.0, atol=0.0)
    elif solver == "conjugate":
        fn, solve = fit_field(student, x, y), optx.least_squares
        inner = conjugate_newton(student, x, y, free, _TRUST)
    else:
        fn, solve = (lambda theta: imitation_loss(unflatten(theta), x, y)), optx.minimise
        inner = _minimiser(solver, student, x, y, free)
    watched = cast(
        Any, _Watched(inner=inner, config=config)
    )  # any iterative solver does, whatever base class the signatures name
    solution = solve(lambda theta, _: fn(full(theta)), watched, start, max_steps=config.max_steps, throw=False)
    ran_out = solution.result == optx.RESULTS.nonlinear_max_steps_reached
    result = RESULTS.where(ran_out, RESULTS.max_steps, RESULTS.stalled)
    result = RESULTS.where(solution.state.flat, RESULTS.flat, result)
    end = full(solution.value)
    if solver == "conjugate":
        end, _ = flatten(fitted(unflatten(end), x, y)[0])
    return judged(
        end,
        student,
        x,
        y,
        n_steps=solution.stats["num_steps"],
        result=result,
        target_loss=config.target_loss,
    )


def _minimiser(solver: Solver, student: Network, x: Inputs, y: Outputs, free) -> optx.AbstractMinimiser:
    match solver:
        case "bfgs":
            return optx.BFGS(rtol=0.0, atol=0.0)
        case "lbfgs":
            return optx.LBFGS(rtol=0.0, atol=0.0)
        case "levenberg_marquardt":
            curvature = _Curvature(student, x, y, free, exact=False)
            return _DampedNewton(curvature=curvature, descent=_DampedDescent(Bend(student, x, y, free)))
        case "newton":
            return _DampedNewton(curvature=_Curvature(student, x, y, free, exact=True), descent=_DampedDescent(None))
    raise ValueError(f"`solver` is one of {get_args(Solver)}; got {solver!r}.")


# --- when to stop --------------------------------------------------------------------------------------------------


class _WatchedState(eqx.Module):
    inner: Any
    milestone: Float[Array, ""]  # the loss that the next one has to undercut by a tenth
    n_since: Int[Array, ""]
    flat: Bool[Array, ""]
    done: Bool[Array, ""]


class _Watched(optx.AbstractIterativeSolver):
    """Any optimistix solver, stopped by loss, gradient norm and lack of progress instead of by the size of its steps.

    Relative step sizes say nothing in the flat valleys of an overparameterised loss, where no step changes much.
    """

    inner: Any
    config: RefineConfig = eqx.field(static=True)
    rtol: float = 0.0  # asked for by optimistix's base class; the criteria here are absolute
    atol: float = 0.0
    norm: Callable = optx.max_norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        inner = self.inner.init(fn, y, args, options, f_struct, aux_struct, tags)
        no = jnp.array(False)
        return _WatchedState(inner, jnp.array(jnp.inf, y.dtype), jnp.array(0), no, no)

    def step(self, fn, y, args, options, state, tags):
        y, inner, aux = self.inner.step(fn, y, args, options, state.inner, tags)
        at = inner.f_info
        if isinstance(at, optx.FunctionInfo.ResidualJac):  # the loss is the residuals' sum of squares, not half of it
            loss, gradient = 2 * at.as_min(), 2 * at.compute_grad()
        else:
            loss, gradient = at.f, at.grad
        lower = loss < 0.9 * state.milestone
        n_since = jnp.where(lower, 0, state.n_since + 1)
        flat = jnp.linalg.norm(gradient) <= self.config.gradient_norm
        done = (loss <= self.config.target_loss) | flat | (n_since >= self.config.patience)
        return y, _WatchedState(inner, jnp.where(lower, loss, state.milestone), n_since, flat, done), aux

    def terminate(self, fn, y, args, options, state, tags):
        _, result = self.inner.terminate(fn, y, args, options, state.inner, tags)
        return state.done, result

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        return y, aux, {}


# --- damped Newton steps with a Hessian in closed form -------------------------------------------------------------


class _Curvature(eqx.Module):
    """The matrix H as a function of theta; a module, so that its data travel as arguments and not as constants."""

    like: Network
    x: Inputs
    y: Outputs
    free: Bool[Array, " parameters"]
    exact: bool = eqx.field(static=True)

    def __call__(self, theta: Theta) -> lx.MatrixLinearOperator:
        _, unflatten = flatten(self.like)
        matrix = (hessian if self.exact else gauss_newton)(unflatten(theta), self.x, self.y)
        return lx.MatrixLinearOperator(jnp.where(jnp.outer(self.free, self.free), matrix, 0), lx.symmetric_tag)


class Bend(eqx.Module):
    """How a straight step leaves the residuals' tangent: 2/D J^T r'', r'' their second derivative along the step."""

    like: Network
    x: Inputs
    y: Outputs
    free: Bool[Array, " parameters"]

    def __call__(self, theta: Theta, step: Theta) -> Theta:
        _, unflatten = flatten(self.like)
        fn = lambda theta: residuals(unflatten(theta), self.x, self.y)
        along = lambda theta: jax.jvp(fn, (theta,), (step,))[1]
        _, second = jax.jvp(along, (theta,), (step,))
        _, transposed = jax.vjp(fn, theta)
        return jnp.where(self.free, 2 / self.y.size * transposed(second)[0], 0)


class _DampedNewton(optx.AbstractQuasiNewton):
    """Optimistix's quasi-Newton loop with the true curvature in the place of an estimate of it."""

    curvature: _Curvature
    descent: "_DampedDescent"
    rtol: float = 0.0
    atol: float = 0.0
    norm: Callable = optx.max_norm
    use_inverse: bool = False
    search: optx.ClassicalTrustRegion = dataclasses.field(default_factory=lambda: _TRUST)
    verbose: Callable = lambda **_: None

    def init_hessian(self, y, f, grad):
        nothing = lx.MatrixLinearOperator(jnp.zeros((y.size, y.size), y.dtype), lx.symmetric_tag)
        return optx.FunctionInfo.EvalGradHessian(f, grad, nothing), None

    def update_hessian(self, y, y_eval, f_info, f_eval_info, hessian_update_state):
        at = optx.FunctionInfo.EvalGradHessian(f_eval_info.f, f_eval_info.grad, self.curvature(y_eval))
        return at, None


# Steps are judged generously and the damping moves by fours: the textbook's 0.99 for a "very good" step hardly ever
# lowers the damping in these valleys.
_TRUST = optx.ClassicalTrustRegion(high_cutoff=0.5, low_cutoff=1e-4, high_constant=4.0, low_constant=0.25)


# An acceleration that is longer than this share of half the step says that the step left the region where it means
# anything; the value is the paper's.
_BENT = 0.75


class _At(NamedTuple):
    theta: Theta
    f_info: Any


class _DampedDescent(optx.AbstractDescent):
    """-(H + lambda I)^-1 gradient by Cholesky, lambda = 1 / step size, and along the curve that this step begins.

    The valleys of an overparameterised loss are bent. A straight step leaves them, and has to be damped until it hardly
    moves; its second-order correction -1/2 (H + lambda I)^-1 J^T r'', from the same factor, follows them. Measured on
    students of width 32 of 2-8-1 teachers, 500 steps: losses of 1e-13 to 1e-10 in the place of 1e-9, for a third more
    time.

    Where the sum is not positive definite the factor is not finite, the trial point neither, and the trust region
    rejects it and damps more. (optimistix's own descent would end the solve there.)

    Source: Transtrum, Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares
        minimization" (arXiv:1201.5885), section 5.
    """

    bend: Bend | None

    def init(self, y, f_info_struct):
        return _At(y, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), f_info_struct))

    def query(self, y, f_info, state):
        return _At(y, f_info)

    def step(self, step_size, state):
        at = state.f_info
        damped = at.hessian.as_matrix() + jnp.eye(at.grad.size, dtype=at.grad.dtype) / step_size
        factor = jax.scipy.linalg.cho_factor(damped)
        step = -jax.scipy.linalg.cho_solve(factor, at.grad)
        if self.bend is not None:
            correction = -jax.scipy.linalg.cho_solve(factor, self.bend(state.theta, step)) / 2
            small = 2 * jnp.linalg.norm(correction) <= _BENT * jnp.linalg.norm(step)
            step = jnp.where(small, step + correction, step)
        return step, optx.RESULTS.successful

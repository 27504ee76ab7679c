"""Descents on optimistix, down to machine precision: what the second-order stages share, and when they stop.

Levenberg-Marquardt, Newton, its orthogonal form and conjugate gradients share one shape, (H + lambda I) step =
-gradient inside a trust region, and differ in H and in how it is solved; BFGS and L-BFGS need only gradients. Each is a
stage in a file of its own.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from ..base.checks import check_settings
from ..base.precision import in_full_precision, precision_of
from ..network import Network
from ..objective import Objective, Theta, flatten
from .expansion import RESULTS, Student, judged
from .stage import Stage

Free = Bool[Array, " parameters"]


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a descent stops.

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
        check_settings(self, from_1=("max_steps", "patience"), finite=("target_loss", "gradient_norm"))


class Search(NamedTuple):
    """What a descent asks of optimistix."""

    fn: Callable[[Theta], Any]  # the loss, or residuals whose squares add up to it
    solve: Callable  # optx.minimise or optx.least_squares
    solver: Any


@dataclass(frozen=True)
class Descent(Stage):
    """A stage that brings one student to the nearest minimum.

    Attributes:
        stop: When it stops.
    """

    stop: Stopping = Stopping()

    @abstractmethod
    def search(self, like: Network, objective: Any, free: Free) -> Search:
        """How it goes down; `like` has the student's shape."""

    def finish(self, net: Network, objective: Any) -> Network:
        """What is made of the last weights."""
        return net

    @in_full_precision
    def __call__(
        self,
        student: Network,
        objective: Objective,
        *,
        free: Free | None = None,
        target_loss: float | Float[Array, ""] | None = None,
    ) -> Student:
        """The student at the nearest minimum.

        Args:
            student: Where to start.
            objective: What it is fitted to, best in units of the targets' deviation: tolerances are absolute.
            free: Which parameters may move, in the order of `flatten`; by default all. A network of any width up to the
                student's can so be refined by one compiled program, its missing neurons frozen at zero.
            target_loss: In the place of that of `stop`; as an array, it does not belong to the compiled program.
        """
        target = self.stop.target_loss if target_loss is None else target_loss
        start, unflatten = flatten(student)
        free = jnp.ones(start.shape, bool) if free is None else free
        full = lambda theta: jnp.where(free, theta, start)
        fn, solve, inner = self.search(student, objective, free)
        # Any iterative solver does, whatever base class the signatures name.
        watched = cast(Any, _Watched(inner=inner, target_loss=target, stop=self.stop))
        objective_of = lambda theta, _: fn(full(theta))
        with precision_of(start):
            solution = solve(objective_of, watched, start, max_steps=self.stop.max_steps, throw=False)
        ran_out = solution.result == optx.RESULTS.nonlinear_max_steps_reached
        result = RESULTS.where(ran_out, RESULTS.max_steps, RESULTS.stalled)
        result = RESULTS.where(solution.state.flat, RESULTS.flat, result)
        end, _ = flatten(self.finish(unflatten(full(solution.value)), objective))
        n_steps = solution.stats["num_steps"]
        return judged(end, student, objective, n_steps=n_steps, result=result, target_loss=target)


def require(objective: Objective, kind: type, stage: Stage) -> None:
    """Refuse an objective that is not of the kind that a stage is made for.

    Raises:
        ValueError: Naming both.
    """
    if not isinstance(objective, kind):
        raise ValueError(
            f"`objective` of {type(stage).__name__} is {kind.__name__} or a subclass of it; got "
            f"{type(objective).__name__}. Newton, BFGS, LBFGS, Adam and Flow take any: `method` may be such a tuple."
        )


def loss_field(objective: Objective, like: Network) -> Callable[[Theta], Float[Array, ""]]:
    """The value as a function of theta."""
    _, unflatten = flatten(like)
    return lambda theta: objective.value(unflatten(theta))


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
    target_loss: float | Float[Array, ""]
    stop: Stopping = eqx.field(static=True)
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
        flat = jnp.linalg.norm(gradient) <= self.stop.gradient_norm
        done = (loss <= self.target_loss) | flat | (n_since >= self.stop.patience)
        return y, _WatchedState(inner, jnp.where(lower, loss, state.milestone), n_since, flat, done), aux

    def terminate(self, fn, y, args, options, state, tags):
        _, result = self.inner.terminate(fn, y, args, options, state.inner, tags)
        return state.done, result

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        return y, aux, {}


# --- damped Newton steps with a Hessian in closed form -------------------------------------------------------------


class Curvature(eqx.Module):
    """The matrix H as a function of theta; a module, so that its data travel as arguments and not as constants."""

    like: Network
    objective: Objective
    free: Free
    exact: bool = eqx.field(static=True)

    def __call__(self, theta: Theta) -> lx.MatrixLinearOperator:
        matrix = self.objective.curvature(flatten(self.like)[1](theta), exact=self.exact)
        return lx.MatrixLinearOperator(jnp.where(jnp.outer(self.free, self.free), matrix, 0), lx.symmetric_tag)


class DampedNewton(optx.AbstractQuasiNewton):
    """Optimistix's quasi-Newton loop with the true curvature in the place of an estimate of it."""

    curvature: Curvature
    descent: "DampedStep"
    search: "Trust"
    rtol: float = 0.0
    atol: float = 0.0
    norm: Callable = optx.max_norm
    use_inverse: bool = False
    verbose: Callable = lambda **_: None

    def init_hessian(self, y, f, grad):
        nothing = lx.MatrixLinearOperator(jnp.zeros((y.size, y.size), y.dtype), lx.symmetric_tag)
        return optx.FunctionInfo.EvalGradHessian(f, grad, nothing), None

    def update_hessian(self, y, y_eval, f_info, f_eval_info, hessian_update_state):
        at = optx.FunctionInfo.EvalGradHessian(f_eval_info.f, f_eval_info.grad, self.curvature(y_eval))
        return at, None


class GaussNewton(optx.AbstractGaussNewton):
    """Optimistix's Gauss-Newton loop with steps of one's own in a trust region."""

    descent: optx.AbstractDescent
    search: "Trust"
    rtol: float = 0.0
    atol: float = 0.0
    norm: Callable = optx.max_norm
    verbose: Callable = lambda **_: None


class Trust(optx.ClassicalTrustRegion):
    """A trust region whose first step has a size of its own.

    Steps are judged generously and the damping moves by fours: the textbook's 0.99 for a "very good" step hardly ever
    lowers the damping in these valleys.
    """

    high_cutoff: float = 0.5
    low_cutoff: float = 1e-4
    high_constant: float = 4.0
    low_constant: float = 0.25
    first: Float[Array, ""] | float = 1.0

    def init(self, y, f_info_struct):
        state = super().init(y, f_info_struct)
        return eqx.tree_at(lambda state: state.step_size, state, jnp.asarray(self.first, y.dtype))


def trust_from(start: Network, objective: Objective) -> Trust:
    """The trust region of a descent from here: its first damping is the norm of the residuals, at most 1.

    A network that is nearly exact is left a smaller improvement by a damped step than rounding errors of its loss are:
    such steps are rejected by chance, and the damping never falls. (Fan and Yuan, Computing 74, 2005, for damping in
    proportion to the residuals.)
    """
    return Trust(first=1 / jnp.clip(jnp.sqrt(objective.value(start)), jnp.finfo(start.dtype).eps, 1.0))


class _At(NamedTuple):
    theta: Theta
    f_info: Any


class DampedStep(optx.AbstractDescent):
    """-(H + lambda I)^-1 gradient by Cholesky, lambda = 1 / step size, and what follows the step, if anything.

    Where the sum is not positive definite the factor is not finite, the trial point neither, and the trust region
    rejects it and damps more. (optimistix's own descent would end the solve there.)
    """

    correction: Callable[[Theta, Theta, Callable[[Theta], Theta]], Theta] | None

    def init(self, y, f_info_struct):
        return _At(y, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), f_info_struct))

    def query(self, y, f_info, state):
        return _At(y, f_info)

    def step(self, step_size, state):
        at = state.f_info
        damped = at.hessian.as_matrix() + jnp.eye(at.grad.size, dtype=at.grad.dtype) / step_size
        factor = jax.scipy.linalg.cho_factor(damped)
        step = -jax.scipy.linalg.cho_solve(factor, at.grad)
        if self.correction is not None:
            step = self.correction(state.theta, step, lambda v: jax.scipy.linalg.cho_solve(factor, v))
        return step, optx.RESULTS.successful

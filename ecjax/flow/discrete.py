"""Discrete dynamics on the interface of flows: gradient descent, Adam, anything of optax, on all samples or on some."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int

from ..base.checks import check_settings
from ..base.precision import precision_of
from ..objective import Objective, Samples, Theta, flatten
from .dynamics import Dynamics, Place, Step
from .problem import Penalised, Problem


class _Memory(eqx.Module):
    n: Int[Array, ""]  # steps taken
    moments: Any


@dataclass(frozen=True, kw_only=True)
class Discrete(Dynamics):
    """Steps of an optimiser; flow time is steps times rate.

    Attributes:
        optimiser: From a rate to an optax transformation: `optax.sgd`, `optax.adam`, or a function of one's own.
        rate: The step size.
        batch: Samples in each step, drawn anew without repetition, the same ones for all students; None for all.
        seed: Of these draws.
    """

    optimiser: Callable[[float], optax.GradientTransformation] = optax.sgd
    rate: float = 1e-2
    batch: int | None = None
    seed: int = 0

    def __post_init__(self):
        if not callable(self.optimiser):
            raise ValueError(
                "`optimiser` makes a transformation of a rate, as `optax.adam` or lambda rate: optax.sgd(rate, 0.9); "
                f"got a {type(self.optimiser).__name__}, which has its rate already."
            )
        check_settings(self, above_0=("rate",), from_1=("batch",))

    @property
    def between_steps(self) -> bool:
        return False

    def begin(self, theta: Theta, problem: Problem) -> tuple[Place, Any]:
        if self.batch is not None:
            samples = problem.plain
            if not isinstance(samples, Samples):
                raise ValueError(f"`batch` needs samples to choose from; got a {type(samples).__name__}: use None.")
            if self.batch > len(samples.x):
                raise ValueError(f"`batch` is at most the number of samples, {len(samples.x)}; got {self.batch}.")
        with precision_of(theta):
            memory = _Memory(jnp.asarray(0), self.optimiser(self.rate).init(theta))
            return Place(jnp.zeros((), theta.dtype), theta, memory), None

    def planned(self, plan: Any, now: Place) -> Float[Array, ""]:
        return (now.memory.n + 1).astype(now.time.dtype) * self.rate

    def step(self, start: Place, end_time: Float[Array, ""], plan: Any, problem: Problem) -> Step:
        like, memory = flatten(problem.like)[1], start.memory
        gradient = flatten(self._objective(problem, memory.n).gradient(like(start.theta)))[0]
        # optax mixes its step count with the weights' dtype
        with precision_of(start.theta), jax.numpy_dtype_promotion("standard"):
            change, moments = self.optimiser(self.rate).update(
                problem.rates * gradient, memory.moments, cast(Any, start.theta)
            )
        theta = jnp.where(problem.rates > 0, start.theta + cast(Array, change), start.theta)
        return Step(Place(end_time, theta, _Memory(memory.n + 1, moments)), jnp.asarray(True), None)

    def _objective(self, problem: Problem, n: Int[Array, ""]) -> Objective:
        if self.batch is None:
            return problem.objective
        samples = cast(Samples, problem.plain)
        key = jr.fold_in(jr.key(self.seed), n)
        some = samples.take(jr.choice(key, len(samples.x), (self.batch,), replace=False))
        if isinstance(problem.objective, Penalised):
            return eqx.tree_at(lambda penalised: penalised.inner, problem.objective, some)
        return some

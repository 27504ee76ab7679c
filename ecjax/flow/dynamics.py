"""How a student moves: what flows and discrete dynamics have in common, and the compiled loop over their steps.

A student is between two points of its path, `before` and `now`. Times that are to be saved lie between them and are
reached by a step of their own from `before`, which is then forgotten. So what is saved has the order of the solver, not
that of an interpolation; the path does not depend on what is saved of it; and a student that stopped at some time goes
on as if it had never stopped.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..base.precision import compiled
from ..objective import Theta
from .problem import Problem
from .until import RUNNING, TIME, Limits, reason_to_stop

ROWS = 64  # saved points that one call of the compiled program hands to the host


class Place(eqx.Module):
    """A point of a path."""

    time: Float[Array, "*students"]
    theta: Float[Array, "*students parameters"]
    memory: Any  # of the dynamics: slopes, moments


class Moving(eqx.Module):
    """A student on its way, or a stack of them."""

    before: Place
    now: Place
    loss: Float[Array, "*students"]  # of `now`
    gradient_norm: Float[Array, "*students"]
    plan: Any  # of the dynamics: when the next step ends, what its controller remembers
    n_steps: Int[Array, "*students"]
    n_kept: Int[Array, "*students"]  # steps that were not rejected
    to_save: Bool[Array, "*students"]  # whether `now` is one of every n steps, and not yet handed out


class Step(NamedTuple):
    """What came of a step."""

    end: Place
    kept: Bool[Array, ""]
    plan: Any


class Rows(eqx.Module):
    """Points to be saved, in the order in which they were found."""

    time: Float[Array, "*students rows"]
    theta: Float[Array, "*students rows parameters"]
    loss: Float[Array, "*students rows"]
    gradient_norm: Float[Array, "*students rows"]
    n: Int[Array, "*students"]


@dataclass(frozen=True)
class Dynamics(ABC):
    """How a student moves. Hashable, so that equal ones share a compiled program."""

    @abstractmethod
    def begin(self, theta: Theta, problem: Problem) -> tuple[Place, Any]:
        """The first point, and the plan of the first step."""

    @abstractmethod
    def planned(self, plan: Any, now: Place) -> Float[Array, ""]:
        """When the next step ends."""

    @abstractmethod
    def step(self, start: Place, end_time: Float[Array, ""], plan: Any, problem: Problem) -> Step:
        """A step to that time; if it is not kept, its plan says what to try instead."""

    @property
    @abstractmethod
    def between_steps(self) -> bool:
        """Whether there are points between two steps. If not, a time is saved as the first step that reaches it."""


@compiled
def _begin(dynamics: Dynamics, theta: Theta, problem: Problem) -> Moving:
    place, plan = dynamics.begin(theta, problem)
    loss, norm = problem.measure(theta)
    none = jnp.asarray(0)
    return Moving(place, place, loss, norm, plan, none, none, jnp.asarray(False))


def reason_of(moving: Moving, limits: Limits, dynamics: Dynamics) -> Int[Array, ""]:
    """Why a student who is here stops, its time apart; 0 if it goes on."""
    now = moving.now
    return reason_to_stop(
        limits,
        theta=now.theta,
        loss=moving.loss,
        gradient_norm=moving.gradient_norm,
        n_steps=moving.n_steps,
        stalled=~(dynamics.planned(moving.plan, now) > now.time),
    )


class Asked(eqx.Module):
    """What is to be saved, and the end of time.

    Attributes:
        times: Increasing, the end of time among them; after the last one, infinity.
        ends: Whether there is an end of time.
        every: Steps of which each is saved; 0 for none.
    """

    times: Float[Array, " saves"]
    ends: Bool[Array, ""]
    every: Int[Array, ""]


def advance(
    dynamics: Dynamics,
    moving: Moving,
    due: Int[Array, ""],
    problem: Problem,
    limits: Limits,
    asked: Asked,
    most: Int[Array, ""],
) -> tuple[Moving, Int[Array, ""], Rows, Int[Array, ""]]:
    """One student further on its way, until it stops, there is much to hand out, or enough is done for one call.

    Args:
        dynamics: How it moves.
        moving: Where it is.
        due: The number of the next of the times to be saved.
        problem: What it follows.
        limits: When it stops.
        asked: What is to be saved.
        most: Steps of this call.

    Returns:
        Where it is now, the number of the next time, points to save, and why it stopped, 0 if it did not.
    """
    dtype, n_parameters = moving.now.theta.dtype, moving.now.theta.size
    blank = jnp.zeros(ROWS, dtype)
    rows = Rows(blank, jnp.zeros((ROWS, n_parameters), dtype), blank, blank, jnp.zeros_like(due))

    def owes(moving, due):
        return asked.times[due] <= moving.now.time

    def is_over(due):
        return asked.ends & jnp.isinf(asked.times[due])

    def goes_on(carry):
        moving, due, rows, n = carry
        on_its_way = (reason_of(moving, limits, dynamics) == RUNNING) & ~is_over(due)
        return (owes(moving, due) | on_its_way) & (n < most) & (rows.n < ROWS)

    def once(carry):
        moving, due, rows, n = carry
        back = owes(moving, due)
        start = chosen(back, moving.before, moving.now)
        owed = asked.times[due] if dynamics.between_steps else moving.now.time
        end_time = jnp.where(back, owed, dynamics.planned(moving.plan, moving.now))
        step = dynamics.step(start, end_time, moving.plan, problem)
        loss, norm = problem.measure(step.end.theta)
        there = (step.end.time, step.end.theta, loss, norm)
        here = (moving.now.time, moving.now.theta, moving.loss, moving.gradient_norm)

        # `now` is handed out, if it is one of every n steps, when no time before it is owed any more.
        own = moving.to_save & ~back
        row = chosen(own, here, there) if dynamics.between_steps else here
        columns = (rows.time, rows.theta, rows.loss, rows.gradient_norm)
        time, theta, losses, norms = (column.at[rows.n].set(entry) for column, entry in zip(columns, row, strict=True))
        rows = Rows(time, theta, losses, norms, rows.n + count(back | own))

        kept, n_steps = step.kept & ~back, moving.n_steps + count(~back)
        n_kept = moving.n_kept + count(kept)
        to_save = (asked.every > 0) & (n_kept % jnp.maximum(asked.every, 1) == 0)
        forward = Moving(moving.now, step.end, loss, norm, step.plan, n_steps, n_kept, to_save)
        stay = Moving(
            *(moving.before, moving.now, moving.loss, moving.gradient_norm),
            chosen(back, moving.plan, step.plan),
            *(n_steps, n_kept, moving.to_save & back),
        )
        return chosen(kept, forward, stay), due + count(back), rows, n + 1

    count = lambda which: which.astype(due.dtype)
    moving, due, rows, _ = jax.lax.while_loop(goes_on, once, (moving, due, rows, jnp.zeros_like(due)))
    over = jnp.where(is_over(due), TIME, reason_of(moving, limits, dynamics))
    return moving, due, rows, jnp.where(owes(moving, due) | (rows.n == ROWS), RUNNING, over)


def chosen(which: Bool[Array, ""], one: Any, other: Any) -> Any:
    """One of two trees of arrays."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), one, other)


@compiled
def _one_further(dynamics, moving, due, problem, limits, asked, most):
    return advance(dynamics, moving, due, problem, limits, asked, most)


@compiled
def _batch_further(dynamics, moving, due, problem, limits, asked, most):
    return eqx.filter_vmap(lambda moving, due: advance(dynamics, moving, due, problem, limits, asked, most))(
        moving, due
    )

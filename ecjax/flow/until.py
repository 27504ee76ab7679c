"""When a student stops, and what it says of it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..base.checks import check_settings

# By number; 0 is a student on its way.
REASONS = (
    "on its way",
    "the end of its time",
    "the target loss",
    "the gradient vanished",
    "the limit of its norm",
    "out of steps",
    "no further in this precision",
    "not finite",
)
RUNNING, TIME, LOSS, GRADIENT, NORM, STEPS, STALLED, DIVERGED = range(len(REASONS))


@dataclass(frozen=True, kw_only=True)
class Until:
    """When a student stops: whatever comes first. By default the rules of the paper.

    Attributes:
        time: Flow time.
        steps: Steps, rejected ones included.
        loss: Mean squared error at or below which it has arrived.
        gradient_norm: Euclidean norm of the gradient at or below which it has come to rest.
        norm: Euclidean norm of the parameters at or above which it is let go.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), appendix: 5,000 steps, a loss of 1e-31 or a gradient of 1e-16.
    """

    time: float = float("inf")
    steps: int = 5000
    loss: float = 1e-31
    gradient_norm: float = 1e-16
    norm: float = float("inf")

    def __post_init__(self):
        check_settings(
            self,
            above_0=("time", "norm"),
            from_0=("loss", "gradient_norm"),
            from_1=("steps",),
            infinite=("time", "norm", "loss", "gradient_norm"),
        )


class Limits(NamedTuple):
    """The same as numbers that a compiled program is given, so that other limits need no other program."""

    steps: Int[Array, ""]
    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    norm: Float[Array, ""]


def limits(until: Until, dtype: jnp.dtype) -> Limits:
    """In the precision of the students."""
    number = lambda one: jnp.asarray(one, dtype)
    return Limits(jnp.asarray(until.steps), number(until.loss), number(until.gradient_norm), number(until.norm))


def reason_to_stop(
    limits: Limits,
    *,
    theta: Float[Array, " parameters"],
    loss: Float[Array, ""],
    gradient_norm: Float[Array, ""],
    n_steps: Int[Array, ""],
    stalled: Array,
) -> Int[Array, ""]:
    """The number of the first reason that holds for a student who is here; 0 if it goes on."""
    norm = jnp.linalg.norm(theta)
    holds = (
        (DIVERGED, ~(jnp.isfinite(loss) & jnp.isfinite(norm))),
        (LOSS, loss <= limits.loss),
        (GRADIENT, gradient_norm <= limits.gradient_norm),
        (NORM, norm >= limits.norm),
        (STALLED, stalled),
        (STEPS, n_steps >= limits.steps),
    )
    number = jnp.asarray(RUNNING)
    for which, here in reversed(holds):
        number = jnp.where(here, which, number)
    return number

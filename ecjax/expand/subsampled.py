"""Levenberg-Marquardt on other samples in every step: samples as a temperature.

On images second-order steps end in minima that are not the teacher, however small the damping and however many the
products (784-12-12-10 g, widths 24-20: at 7.4e-4). What leads past them is noise. A step sees hardly more numbers than
a student has weights, so it follows what these few samples would have, which the next ones do not confirm unless it is
right: at an exact network the noise is gone. Unlike that of mini-batches under Adam it has the problem's curvature, and
such steps are quick: 25 a second on one core for a student 664-16-16-10 on 1,500 of 10,000 images. Where 60 steps on
all images led from 1.5e-4 to 2.5e-5, 8 of the first layer's 12 neurons within 1 - cosine < 1e-2, 1,000 such steps and
30 on all images led to 5e-6 and 11, in little more time.

A damping that never falls below a floor keeps a step from explaining its few samples to the last digit along directions
in which they hardly differ: the floor is the other half of the temperature.

Sources: Byrd, Chin, Neveitt and Nocedal, SIAM Journal on Optimization 21 (2011), 977, for second-order steps on
    samples; Roosta-Khorasani and Mahoney, arXiv:1601.04737, for how many of them a step needs.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from ..base.checks import check_settings
from ..base.precision import in_full_precision
from ..network import Network
from ..objective import Objective, Samples, Theta, flatten
from .conjugate import kronecker_factors, precondition, second_moment, spectrum
from .descent import Free, require
from .expansion import RESULTS, Student, judged
from .inexact import conjugate_gradients, single
from .stage import Stage

# The damping after a step that helped much, after one that helped, and after one that did not help.
_MUCH, _SOME, _NONE = 1 / 3, 1 / 1.3, 4.0
_HELPS_MUCH = 0.9  # of the loss before is left at most
_LARGEST = 1e4  # damping, for targets of unit variance


class _At(NamedTuple):
    number: Int[Array, ""]
    theta: Theta
    damping: Float[Array, ""]
    loss: Float[Array, ""]  # on the samples of the step before


@dataclass(frozen=True, kw_only=True)
class Subsampled(Stage):
    """Levenberg-Marquardt by conjugate gradients in float32, on some samples in each step.

    Attributes:
        n_steps: Steps at most, those that did not help included.
        answers: How many numbers a step sees for each parameter of the student.
        damping: Which is never less, for targets of unit variance.
        of_loss: Nor than this share of the loss of a step's samples: it falls with what is left to explain.
        first: Damping of the first step, if it is not below that.
        products: With J^T J that a step takes at most.
        target_loss: Of a step's samples, at which the student needs no more steps.
    """

    n_steps: int = 800
    answers: float = 1.4
    damping: float = 1e-5
    of_loss: float = 0.0
    first: float = 1e-4
    products: int = 60
    target_loss: float = 1e-10

    def __post_init__(self):
        check_settings(
            self,
            from_1=("n_steps", "products"),
            above_0=("answers", "damping", "first"),
            from_0=("of_loss",),
            finite=("target_loss",),
        )

    @in_full_precision
    def __call__(self, student: Network, objective: Objective, *, free: Free | None = None) -> Student:
        require(objective, Samples, self)
        assert isinstance(objective, Samples)  # or `require` would have refused
        start, _ = flatten(student)
        samples, (theta, unflatten) = single(objective), flatten(single(student))
        free = jnp.ones(start.shape, bool) if free is None else free
        moving = unflatten(free.astype(theta.dtype))
        n_rows = min(len(samples.x), math.ceil(self.answers * len(theta) / samples.y.shape[1]))
        of_inputs = spectrum(second_moment(samples.x))
        freed = lambda v: jnp.where(free, v, 0)

        def step(at: _At) -> _At:
            net = unflatten(at.theta)
            seen = samples.take(_drawn(at.number, len(samples.x), n_rows))
            before = seen.value(net)
            damping = jnp.maximum(at.damping, self.of_loss * before)
            factors = kronecker_factors(net, seen.x, of_inputs, moving)
            along, back = seen.products(net)
            downhill = freed(-back(seen.residuals(net)))
            size = jnp.linalg.norm(downhill) + jnp.finfo(theta.dtype).tiny
            way = size * conjugate_gradients(
                lambda v: freed(back(along(v))) + damping * v,
                downhill / size,
                lambda v: freed(flatten(precondition(factors, damping, unflatten(v)))[0]),
                most=self.products,
            )
            after = seen.value(unflatten(at.theta + way))
            helps = after < before
            factor = jnp.where(helps, jnp.where(after < _HELPS_MUCH * before, _MUCH, _SOME), _NONE)
            next_one = jnp.clip(damping * factor.astype(theta.dtype), self.damping, _LARGEST)
            return _At(at.number + 1, jnp.where(helps, at.theta + way, at.theta), next_one, before)

        first = jnp.asarray(max(self.first, self.damping), theta.dtype)
        begun = _At(jnp.array(0), theta, first, jnp.asarray(jnp.inf, theta.dtype))
        goes_on = lambda at: (at.number < self.n_steps) & (at.loss > self.target_loss)
        end = jax.lax.while_loop(goes_on, step, begun)
        theta = jnp.where(free, end.theta.astype(start.dtype), start)
        told = {"n_steps": end.number, "result": RESULTS.max_steps, "target_loss": 0.0}
        return judged(theta, student, objective, **told)


def _drawn(number: Int[Array, ""], n: int, n_rows: int) -> Int[Array, " rows"]:
    """Rows of the step of that number, always the same, so that a resumed run goes on; all where there are no more."""
    return jnp.arange(n) if n_rows == n else jr.choice(jr.fold_in(jr.key(0), number), n, (n_rows,), replace=False)

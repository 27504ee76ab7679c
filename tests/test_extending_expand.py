"""How to add an activation, a stage, an objective: each in a few lines beside the library, and used end to end."""

from dataclasses import dataclass

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

import ecjax as ec
from ecjax.expand import RESULTS, LevenbergMarquardt, Stage, Student, expand, judged
from ecjax.network import Network, random_students
from ecjax.objective import LeastSquares, Objective, flatten


def test_how_to_add_an_activation():
    """A function and its symmetry; derivatives come from automatic differentiation where none are given.

    Every claim is put to the test before anything is trained: one that does not hold is refused, one that is missing is
    told in a warning.
    """
    algebraic = ec.Activation(lambda z: z / jnp.sqrt(1 + z**2), symmetry="odd", name="algebraic")

    teacher = drawn.teacher(2, 2, activation=algebraic, key=jr.key(0))
    x = drawn.queries(drawn.N_TOY, 2, key=jr.key(1))
    recovery = ec.recover(x, drawn.answers(teacher, x), activation=algebraic, config=drawn.TOY, key=jr.key(2))

    assert recovery.is_exact
    assert recovery.network.activations == (algebraic,)
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-9


@pytest.mark.slow
def test_how_to_add_a_stage():
    """A frozen record of settings that can be called: from a student and an objective to a student.

    What it sees of the objective is its value and derivatives, never the data behind it. `judged` measures where it
    ended. A tuple of stages is a method; each starts where the one before stopped, and one that makes a student worse
    gives way.
    """

    @dataclass(frozen=True)
    class HeavyBall(Stage):
        """Gradient descent with momentum (Polyak 1964)."""

        n_steps: int = 300
        rate: float = 0.05
        momentum: float = 0.9

        def __call__(self, student: Network, objective: Objective) -> Student:
            theta, unflatten = flatten(student)

            def step(carry, _):
                theta, velocity = carry
                gradient, _ = flatten(objective.gradient(unflatten(theta)))
                velocity = self.momentum * velocity - self.rate * gradient
                return (theta + velocity, velocity), None

            (theta, _), _ = jax.lax.scan(step, (theta, jnp.zeros_like(theta)), length=self.n_steps)
            n_steps = jnp.array(self.n_steps)
            return judged(theta, student, objective, n_steps=n_steps, result=RESULTS.max_steps, target_loss=0.0)

    teacher = ec.synthetic_teacher(2, 2, 1, "tanh", key=jr.key(0))
    x = ec.gaussian_queries(300, 2, key=jr.key(1))
    samples, students = ec.Samples(x, ec.respond(teacher, x)), random_students(3, (2, 6, 1), "tanh", key=jr.key(2))

    alone = expand(students, samples, config=ec.ExpandConfig(method=(HeavyBall(),)))
    assert (alone.loss < 0.1 * jax.vmap(samples.value)(students)).all()

    method = (HeavyBall(n_steps=100), LevenbergMarquardt(ec.Stopping(max_steps=200)))
    config = ec.RecoveryConfig.toy(student_width=6, n_students=5, expand=ec.ExpandConfig(method=method))
    recovery = ec.recover(samples.x, samples.y, activation="tanh", config=config, key=jr.key(3))
    assert recovery.expansion.method == "HeavyBall + LevenbergMarquardt"
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-9


@pytest.mark.slow
def test_how_to_add_an_objective():
    """A record with a `value`; with `residuals`, whose squares add up to it, where there are some.

    What it does not give in closed form, gradient, curvature, Jacobian, comes from automatic differentiation, and every
    stage can go down on it: all of them with residuals; Newton, BFGS, L-BFGS, Adam and the flow with a value alone.
    """

    class Slopes(LeastSquares):
        """Imitate the teacher's answers and how they change with the inputs, sample by sample."""

        x: Float[Array, "samples fan_in"]
        y: Float[Array, "samples fan_out"]
        slope: Float[Array, "samples fan_out fan_in"]

        def residuals(self, net):
            value = (ec.respond(net, self.x) - self.y).reshape(-1)
            slope = (jax.vmap(jax.jacrev(lambda x: ec.respond(net, x)))(self.x) - self.slope).reshape(-1)
            return jnp.concatenate([value / np.sqrt(value.size), slope / np.sqrt(slope.size)])

    teacher = ec.synthetic_teacher(2, 2, 1, "tanh", key=jr.key(0))
    x = ec.gaussian_queries(20, 2, key=jr.key(1))  # few: slopes say more than answers
    objective = Slopes(x, ec.respond(teacher, x), jax.vmap(jax.jacrev(lambda x: ec.respond(teacher, x)))(x))
    assert float(objective.value(teacher)) == 0

    students = random_students(3, (2, 3, 1), "tanh", key=jr.key(2))
    end = expand(students, objective)
    assert end.method == "levenberg_marquardt"
    best = ec.network.student(end.students, int(np.argmin(end.loss)))
    assert end.lowest_loss < 1e-25
    fresh = ec.gaussian_queries(200, 2, key=jr.key(3))
    np.testing.assert_allclose(ec.respond(best, fresh), ec.respond(teacher, fresh), rtol=0, atol=1e-6)

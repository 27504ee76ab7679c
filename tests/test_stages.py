"""Stages: what a road keeps, methods by name and by hand, and objectives that only have a value."""

from dataclasses import dataclass, replace

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.expand import (
    BFGS,
    LBFGS,
    METHODS,
    RESULTS,
    SECOND_ORDER_UP_TO,
    Adam,
    Conjugate,
    ExpandConfig,
    Flow,
    Inexact,
    LevenbergMarquardt,
    Minibatch,
    NarrowedMinibatch,
    Newton,
    Orthogonal,
    Road,
    StackStage,
    Stage,
    Stopping,
    Subsampled,
    choose_method,
    expand,
    judged,
)
from ecjax.network import ACTIVATIONS, student
from ecjax.objective import Objective, Samples, flatten

SHORT = Stopping(max_steps=20)


def problem(activation="tanh", n_students=3):
    teacher_key, student_key, x_key = jr.split(jr.key(2), 3)
    teacher = drawn.network((2, 2, 1), activation, key=teacher_key)
    x = drawn.normal(x_key, (40, 2))
    return drawn.students(n_students, (2, 4, 1), activation, key=student_key), Samples(x, drawn.answers(teacher, x))


@dataclass(frozen=True)
class Shift(Stage):
    """All weights times a factor: worse, better or not finite, as one likes."""

    factor: float

    def __call__(self, student, objective):
        theta = self.factor * flatten(student)[0]
        return judged(theta, student, objective, n_steps=jnp.array(7), result=RESULTS.stalled, target_loss=0.0)


class Size(Objective):
    """How large the weights are."""

    def value(self, net):
        return jnp.sum(flatten(net)[0] ** 2)


# --- roads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "kept"),
    [
        ((0.5, 3.0), 0.5),  # worse gives way
        ((0.5, 0.5), 0.25),  # better stays
        ((0.5, np.nan), 0.5),  # what diverges gives way
        ((0.5, np.inf), 0.5),
        ((2.0, 3.0, 0.1), 0.2),  # each starts from the best so far
        ((np.nan, 0.5), np.nan),  # nothing to come back to
    ],
)
def test_a_road_keeps_the_better(factors, kept):
    net = drawn.network((2, 3, 1), "tanh", key=jr.key(0))
    end = Road(tuple(map(Shift, factors)))(net, Size())
    np.testing.assert_allclose(flatten(end.network)[0], kept * flatten(net)[0], rtol=1e-14)
    assert int(end.n_steps) == 7 * len(factors)  # lost ones too
    assert (end.result == RESULTS.diverged) == bool(np.isnan(kept))


@dataclass(frozen=True)
class Healed(Stage):
    """A stage that starts anew, whatever it is given."""

    def __call__(self, student, objective):
        theta = jnp.ones_like(flatten(student)[0])
        return judged(theta, student, objective, n_steps=jnp.array(1), result=RESULTS.stalled, target_loss=0.0)


def test_whatever_is_finite_is_better_than_what_is_not():
    net = drawn.network((2, 3, 1), "tanh", key=jr.key(0))
    end = Road((Shift(np.nan), Healed()))(net, Size())
    assert float(end.loss) == net.n_parameters


@dataclass(frozen=True)
class ShiftAll(StackStage):
    """The same for a stack."""

    factor: float

    def __call__(self, students, objective, *, key, store, progress=None, deadline=None):
        return expand(students, objective, config=ExpandConfig(method=(Shift(self.factor),)))


@pytest.mark.parametrize(
    ("stages", "kept", "n_steps"),
    [
        ((ShiftAll(0.5), Shift(3.0)), 0.5, 14),
        ((ShiftAll(0.5), Shift(np.nan)), 0.5, 14),
        ((Shift(0.5), ShiftAll(np.nan), Shift(0.5)), 0.25, 21),
        ((ShiftAll(np.nan), Shift(0.5)), np.nan, 14),
    ],
    ids=str,
)
def test_stages_of_a_stack_give_way_like_those_of_a_student(stages, kept, n_steps):
    students, _ = problem()
    end = expand(students, Size(), config=ExpandConfig(method=stages), key=jr.key(0))
    np.testing.assert_allclose(end.students.layers[0].w, kept * students.layers[0].w, rtol=1e-14)
    np.testing.assert_array_equal(end.n_steps, n_steps)


# --- methods ---------------------------------------------------------------------------------------------------------

STAGES = {
    "levenberg_marquardt": (LevenbergMarquardt,),
    "flow": (Flow, LevenbergMarquardt),
    "flow_newton": (Flow, Newton),
    "flow_bfgs": (Flow, BFGS),
    "adam_levenberg_marquardt": (Adam, LevenbergMarquardt),
    "adam_conjugate": (Adam, Inexact),
    "adam_lbfgs": (Adam, LBFGS),
    "adam_subsampled": (Adam, Subsampled),
    "minibatch": (NarrowedMinibatch,),
    "minibatch_lbfgs": (NarrowedMinibatch, LBFGS),
    "minibatch_inexact": (NarrowedMinibatch, Inexact),
    "minibatch_subsampled": (NarrowedMinibatch, Subsampled, Inexact),
    "minibatch_conjugate": (NarrowedMinibatch, Conjugate),
}
CONFIG = ExpandConfig(
    adam=Adam(n_steps=100),
    sampled=Adam(n_steps=100, batch=20),
    flow=Flow(solver="tsit5", max_steps=30),  # implicit solvers take seconds to compile, and are tested in test_expand
    minibatch=Minibatch(batch=40, learning_rate=1e-2, max_epochs=20),
    descent=SHORT,
    conjugate=SHORT,
    subsampled=Subsampled(n_steps=20),
    lbfgs=SHORT,
)


def with_method(method):
    return replace(CONFIG, method=method)


def test_every_name_stands_for_its_stages():
    assert set(STAGES) == set(METHODS)
    students, _ = problem()
    for name, kinds in STAGES.items():
        config = with_method(name)
        chosen, stages = config.chosen(students)
        assert (chosen, tuple(map(type, stages))) == (name, kinds)
        assert config.trains_stacks == name.startswith("minibatch")


# Of stages that other tests and methods have too: these are slow.
COMBINED = (
    "flow_newton",
    "flow_bfgs",
    "adam_conjugate",
    "adam_lbfgs",
    "adam_subsampled",
    "minibatch_lbfgs",
    "minibatch_inexact",
    "minibatch_subsampled",
    "minibatch_conjugate",
)


@pytest.mark.parametrize(
    "method", [pytest.param(one, marks=pytest.mark.slow) if one in COMBINED else one for one in STAGES]
)
def test_every_method_goes_its_road(method):
    kinked = ("adam_levenberg_marquardt", "adam_lbfgs")
    students, samples = problem("relu" if method in kinked else "tanh")
    expansion = expand(students, samples, config=with_method(method), key=jr.key(1))
    assert expansion.method == method
    start = jax.vmap(samples.value)(students)
    assert (expansion.loss < 0.5 * start).all()
    # Every stage counts its steps.
    first = {Adam: 100, Flow: 30, NarrowedMinibatch: 20}.get(STAGES[method][0], 0)
    more = {"minibatch": 0, "minibatch_subsampled": 40}.get(method, 20)
    assert ((first + min(more, 1) <= expansion.n_steps) & (expansion.n_steps <= first + more)).all()
    assert (expansion.history is not None) == method.startswith("minibatch")
    np.testing.assert_allclose(expansion.loss, jax.vmap(samples.value)(expansion.students), rtol=1e-6)


def test_a_method_may_be_a_tuple_of_stages():
    """Named by its stages; what a name stands for gives the same numbers."""
    students, samples = problem()
    by_hand = expand(students, samples, config=ExpandConfig(method=(Adam(n_steps=100), LevenbergMarquardt(SHORT))))
    assert by_hand.method == "Adam + LevenbergMarquardt"
    by_name = expand(students, samples, config=with_method("adam_levenberg_marquardt"))
    for one, other in zip(jax.tree.leaves(by_hand.students), jax.tree.leaves(by_name.students), strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_stages_share_a_compiled_program():
    students, samples = problem()
    traces = []

    @dataclass(frozen=True)
    class Traced(Shift):
        def __call__(self, student, objective):
            traces.append(self.factor)
            return super().__call__(student, objective)

    for factor in (0.5, 0.5, 0.25):
        expand(students, samples, config=ExpandConfig(method=(Traced(factor),)))
    assert traces == [0.5, 0.25]


def test_auto_chooses_by_smoothness_and_size():
    def chosen(name, n_parameters):
        width = (n_parameters - 1) // 4  # of 2 inputs and 1 output
        return choose_method(drawn.network((2, width, 1), name, key=jr.key(0)))

    assert chosen("tanh", SECOND_ORDER_UP_TO) == "levenberg_marquardt"
    assert chosen("relu", SECOND_ORDER_UP_TO) == "adam_levenberg_marquardt"
    assert chosen("tanh", SECOND_ORDER_UP_TO + 10) == chosen("relu", SECOND_ORDER_UP_TO + 10) == "adam_lbfgs"
    with_kinks = {name for name in ACTIVATIONS if chosen(name, 100) != "levenberg_marquardt"}
    assert with_kinks == {"relu", "leaky_relu", "elu", "selu", "abs"}


# --- objectives that have no residuals -------------------------------------------------------------------------------


class Distance(Objective):
    """How far the weights are from others."""

    target: jax.Array

    def value(self, net):
        return jnp.sum(jnp.cosh(flatten(net)[0] - self.target) - 1)


@pytest.mark.parametrize(
    "stage", [Newton(), BFGS(), LBFGS(), Adam(n_steps=1500, learning_rate=3e-2), Flow(solver="tsit5", t_end=20.0)]
)
def test_a_value_is_enough(stage):
    students, _ = problem(n_students=2)
    target = drawn.normal(jr.key(3), (17,))
    end = expand(students, Distance(target), config=ExpandConfig(method=(stage,)))
    for i in range(2):
        np.testing.assert_allclose(flatten(student(end.students, i))[0], target, rtol=0, atol=1e-3)
    assert end.method == type(stage).__name__


@pytest.mark.parametrize(
    ("stage", "kind"),
    [(LevenbergMarquardt(), "LeastSquares"), (Orthogonal(), "LeastSquares"), (Conjugate(), "Samples")],
)
def test_stages_that_need_more_say_so(stage, kind):
    students, _ = problem()
    wanted = f"`objective` of {type(stage).__name__} is {kind} or a subclass of it; got Distance. Newton, BFGS"
    with pytest.raises(ValueError, match=wanted):
        expand(students, Distance(jnp.zeros(17)), config=ExpandConfig(method=(stage,)))
    if isinstance(stage, LevenbergMarquardt):  # which is what "auto" takes
        with pytest.raises(ValueError, match=wanted):
            expand(students, Distance(jnp.zeros(17)))


def test_adam_on_some_samples_takes_others_in_each_step():
    """Another way down than that of all samples, always the same; of no more samples than a batch, exactly that one."""
    students, samples = problem()
    net = student(students, 0)
    after = lambda batch: float(jax.jit(Adam(n_steps=50, batch=batch))(net, samples).loss)
    everything, some = after(None), after(10)
    assert some == after(10) != everything
    assert some < float(samples.value(net))
    assert after(len(samples.x)) == everything

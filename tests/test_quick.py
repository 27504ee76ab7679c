"""The quick first round: fewer answers and steps, nearly right layers taken as they are; and the careful one after."""

import sys
from dataclasses import dataclass, replace

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.expand import RESULTS, OnFewer, Stopping, choose_method, expand, fewer, judged
from ecjax.expand.stage import Stage
from ecjax.judge import Judge
from ecjax.network import random_students
from ecjax.objective import flatten
from ecjax.reconstruct import finetune
from ecjax.road import following


def deep_problem(activation="tanh", seed=0, n=600):
    teacher_key, query_key = jr.split(jr.key(seed))
    teacher = ec.synthetic_teacher(2, (2, 2), 1, activation, key=teacher_key)
    x = ec.gaussian_queries(n, 2, key=query_key)
    return teacher, x, ec.respond(teacher, x)


@pytest.mark.parametrize(
    ("activation", "n", "answers", "seen"),
    [
        ("tanh", 200, 3.0, 33),  # 22 parameters, two outputs
        ("tanh", 30, 3.0, 30),  # all that there are
        ("relu", 200, 3.0, 200),  # students with kinks agree to the spacing of the queries
    ],
)
def test_a_student_sees_so_many_answers_for_each_parameter(activation, n, answers, seen):
    net = drawn.network((2, 4, 2), activation, key=jr.key(0))
    x = drawn.normal(jr.key(1), (n, 2))
    samples = ec.Samples(x, drawn.normal(jr.key(2), (n, 2)), jnp.arange(1.0, n + 1))
    told = []

    @dataclass(frozen=True)
    class Told(Stage):
        def __call__(self, student, objective):
            told.append(objective)
            theta = 0.9 * flatten(student)[0]
            how = {"n_steps": jnp.array(1), "result": RESULTS.max_steps, "target_loss": 0.0}
            return eqx.filter_jit(judged)(theta, student, objective, **how)

    done = OnFewer(Told(), answers)(net, samples)
    (objective,) = told
    assert len(objective.x) == seen
    rows = [int(np.flatnonzero((np.asarray(x) == row).all(axis=1))[0]) for row in np.asarray(objective.x)]
    assert len(set(rows)) == seen  # different ones, each with its answer and weight
    np.testing.assert_array_equal(objective.y, samples.y[np.array(rows)])
    np.testing.assert_array_equal(objective.weights, samples.weights[np.array(rows)])
    np.testing.assert_allclose(done.loss, eqx.filter_jit(samples.value)(done.network), rtol=1e-13)  # judged on all


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_samples_that_alone_tell_of_an_input_are_among_the_fewer(dtype):
    """Two images alone have ink in a pixel: without them its weights are anything, and both answers wrong."""
    x = drawn.normal(jr.key(1), (2000, 8)).at[:, 6:].set(0.0)
    x = x.at[1234, 6].set(1.0).at[jnp.array([7, 1999]), 7].set(0.5) @ drawn.normal(jr.key(2), (8, 8))  # in any basis
    x = x.astype(dtype)
    samples, net = ec.Samples(x, x[:, :2]), drawn.network((8, 5, 2), "tanh", key=jr.key(0), dtype=dtype)
    for of in (fewer, jax.jit(fewer, static_argnums=2)):
        some = of(samples, net, 3.0)
        assert len(some.x) == 86
        rows = {int(np.flatnonzero((np.asarray(x) == row).all(axis=1))[0]) for row in np.asarray(some.x)}
        assert len(rows) == 86
        assert {7, 1234, 1999} <= rows


@pytest.mark.slow
def test_few_answers_are_enough_for_whoever_imitates_exactly():
    teacher = ec.synthetic_teacher(3, 2, 1, "tanh", key=jr.key(3))
    x = ec.gaussian_queries(2000, 3, key=jr.key(4))
    samples = ec.Samples(x, ec.respond(teacher, x))
    students = random_students(6, (3, 6, 1), "tanh", key=jr.key(5))
    of = lambda answers: expand(students, samples, config=ec.ExpandConfig(answers=answers))
    few, whole = of(10.0), of(None)
    assert few.lowest_loss < 1e-25
    assert whole.lowest_loss < 1e-25
    np.testing.assert_allclose(few.loss, jax.vmap(samples.value)(few.students), rtol=1e-6)


def test_answers_for_each_parameter_are_refused_below_one():
    with pytest.raises(ValueError, match="`answers` is at least 1"):
        ec.ExpandConfig(answers=0.5)


def test_only_the_first_of_rounds_that_nobody_asked_for_is_quick():
    config = ec.RecoveryConfig.toy()
    assert config.training(0).answers == 10.0
    assert config.training(0).descent.max_steps == 150
    assert config.training(0).conjugate.max_steps == 60
    assert config.training(1) == config.expand
    assert config.n_rounds == 4
    for other in (replace(config, rounds=3), ec.RecoveryConfig.images()):
        assert other.training(0) == other.expand
    short = replace(config.expand, answers=3.0, descent=Stopping(max_steps=20))
    quick = replace(config, expand=short).training(0)
    assert (quick.answers, quick.descent.max_steps) == (3.0, 6)  # never more than asked for


def test_deep_students_too_large_for_a_matrix_end_by_conjugate_gradients():
    of = lambda shape, activation: choose_method(drawn.students(2, shape, activation, key=jr.key(0)))
    assert of((40, 30, 20, 2), "tanh") == "adam_conjugate"
    assert of((40, 30, 20, 2), "relu") == "adam_lbfgs"
    assert of((100, 30, 2), "tanh") == "adam_lbfgs"
    assert of((4, 8, 8, 1), "tanh") == "levenberg_marquardt"


CONFIG = ec.RecoveryConfig.toy(6, 5, expand=ec.ExpandConfig(descent=Stopping(max_steps=40, patience=40)))


@pytest.mark.slow
def test_a_nearly_right_layer_is_taken_as_it_is_at_first(monkeypatch):
    """And looked at again, with more rounds and a store of its own, where the whole is not exact in the end."""
    teacher, x, y = deep_problem()
    passes, store, finished = [], {}, following.finished
    layers = following._layers

    def watched(*arguments, before=None, **settings):
        passes.append([] if before is None else [each.n_rounds for each in before])
        found = layers(*arguments, before=before, **settings)
        first = found[0]._replace(candidate=replace_judge(found[0].candidate))
        return [first, *found[1:]]

    def replace_judge(candidate):  # as if no student had been exact
        return candidate._replace(judge=replace(candidate.judge, excused=1e-6))

    def not_exact(*arguments):
        recovery = finished(*arguments)
        return replace(recovery, is_exact=len(passes) > 1)

    monkeypatch.setattr(following, "_layers", watched)
    monkeypatch.setattr(following, "finished", not_exact)
    recovery = ec.recover(x, y, activation="tanh", hidden_layers=2, config=CONFIG, key=jr.key(1), store=store)
    assert len(passes) == 2
    assert passes[0] == []
    assert passes[1][0] >= 1
    assert any(name.startswith("again-layer-2/") for name in store)
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-9


@pytest.mark.parametrize(("noise", "n_seen"), [(0.0, (210,)), pytest.param(1e-3, (210, 800), marks=pytest.mark.slow)])
def test_large_networks_are_refined_on_as_many_answers_as_they_need(noise, n_seen, monkeypatch):
    """21 parameters, 10 numbers for each; noise is averaged over all there are."""
    module = sys.modules["ecjax.reconstruct.finetune"]  # the room's `finetune` is the function
    teacher = drawn.teacher(3, 4, 1, "tanh", key=jr.key(6))
    x = drawn.queries(800, 3, key=jr.key(7))
    y = drawn.answers(teacher, x)
    samples = ec.Samples(x, y + noise * drawn.normal(jr.key(8), y.shape))
    theta, unflatten = flatten(teacher)
    start = unflatten(theta + 1e-3 * drawn.normal(jr.key(9), theta.shape))
    seen, descend = [], module._descend
    monkeypatch.setattr(module, "is_small", lambda net: False)
    monkeypatch.setattr(
        module, "_descend", lambda stage, stop, net, samples, free: seen.append(len(samples.x))
        or descend(stage, stop, net, samples, free)
    )  # fmt: skip
    judge = Judge.of(samples, noise=noise)
    net, loss = finetune(start, samples, stop=Stopping(max_steps=60), judge=judge)
    assert tuple(seen) == n_seen
    assert judge.fits(loss)
    np.testing.assert_allclose(loss, eqx.filter_jit(samples.value)(net), rtol=1e-6)
    assert ec.compare(net, teacher, x).parameter_error < (1e-9 if noise == 0 else 0.1)

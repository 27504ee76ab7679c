"""Another round for students that were not enough, and a width that suffices."""

from dataclasses import replace

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.base.progress import Stopwatch, silent
from ecjax.expand import RESULTS, better_of, expand, renewed, sufficient_width
from ecjax.judge import Judge
from ecjax.network import random_students, student
from ecjax.reconstruct import Candidate, NoClustersError
from ecjax.road import layers

SHORT = ec.ExpandConfig(descent=ec.Stopping(max_steps=5, patience=12))


def problem(activation="tanh", d_in=2, width=2, n=drawn.N_TOY, seed=0):
    teacher_key, query_key = jr.split(jr.key(seed))
    teacher = drawn.teacher(d_in, width, 1, activation, key=teacher_key)
    x = drawn.queries(n, d_in, key=query_key)
    return teacher, ec.Samples(x, drawn.answers(teacher, x))


def trained():
    _, samples = problem()
    students = drawn.students(4, (2, 4, 1), "tanh", key=jr.key(1))
    return expand(students, samples, config=SHORT), samples


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def with_results(expansion, results):
    codes = jnp.stack([jax.tree.leaves(result)[0] for result in results])
    return replace(expansion, result=jax.tree.unflatten(jax.tree.structure(expansion.result), [codes]))


def test_who_ran_out_of_steps_goes_on_and_the_others_are_fresh():
    expansion, _ = trained()
    reasons = (RESULTS.max_steps, RESULTS.stalled, RESULTS.diverged, RESULTS.max_steps)
    expansion = with_results(expansion, reasons)
    students = renewed(expansion, key=jr.key(2), scale=0.5)
    fresh = random_students(4, (2, 4, 1), "tanh", key=jr.key(2))
    for i in (0, 3):
        assert same(student(students, i), student(expansion.students, i))
    for i in (1, 2):
        half = jax.tree.map(lambda leaf: 0.5 * leaf, student(fresh, i))
        assert same(student(students, i), half)


def test_nothing_is_lost_by_a_round():
    before, samples = trained()
    after = expand(renewed(before, key=jr.key(3)), samples, config=SHORT)
    best = better_of(before, after)
    np.testing.assert_array_equal(best.loss, np.minimum(before.loss, after.loss))
    np.testing.assert_array_equal(best.n_steps, before.n_steps + after.n_steps)
    for i in range(4):
        source = before if before.loss[i] <= after.loss[i] else after
        assert same(student(best.students, i), student(source.students, i))


def test_a_student_that_diverged_gives_way_to_any_other():
    expansion, _ = trained()
    broken = replace(expansion, loss=expansion.loss.at[1].set(jnp.nan))
    for one, other in ((broken, expansion), (expansion, broken)):
        np.testing.assert_array_equal(better_of(one, other).loss, expansion.loss)


def test_epochs_of_two_trainings_follow_each_other():
    expansion, _ = trained()
    epochs = [np.full((n, 4), float(n)) for n in (2, 3)]
    first, second = (replace(expansion, history=each) for each in epochs)
    np.testing.assert_array_equal(better_of(first, second).history, np.concatenate(epochs))
    np.testing.assert_array_equal(better_of(first, expansion).history, epochs[0])
    assert better_of(expansion, expansion).history is None


# Students of five steps are not enough, those of a second round are.
FEW = replace(drawn.TOY, expand=SHORT, propose=False)


def test_a_network_that_is_not_exact_has_another_round():
    teacher, samples = problem(seed=4)
    store = {}
    ask = {"activation": "tanh", "key": jr.key(5), "config": FEW}
    recovery = ec.recover(samples.x, samples.y, store=store, **ask)
    rounds = {name.split("/")[0] for name in store if "/" in name}
    assert rounds
    assert rounds <= {"round-2", "round-3"}
    assert sum("student" in name for name in store) == FEW.n_students * (1 + len(rounds))
    assert recovery.is_exact
    assert ec.compare(recovery, teacher, samples.x).parameter_error < 1e-9
    some = {name: store[name] for name in ("origin", "student-000000", "student-000001")}
    again = ec.recover(samples.x, samples.y, store=some, **ask)
    assert same(again.network, recovery.network)


EXACT, GOOD, BETTER, BAD = 1e-30, 1e-9, 1e-12, 1e-3  # losses; the first is one that no wrong width reaches
ABOVE = 1e-8  # excused where a layer is judged by what deep students reached


@pytest.mark.parametrize(
    ("losses", "excused", "frozen_below", "n_rounds", "kept"),
    [
        ([EXACT, BAD, BAD], 0.0, False, 1, EXACT),
        ([BAD, EXACT, BAD], 0.0, False, 2, EXACT),
        ([GOOD, BETTER, BAD], 0.0, False, 3, BETTER),  # the last round once overwrote a better answer
        ([GOOD, BAD, BAD], 0.0, False, 3, GOOD),
        ([GOOD, GOOD, BETTER], ABOVE, False, 3, BETTER),  # exact by what students reached: later ones may reach more
        ([GOOD, BAD, BAD], ABOVE, True, 1, GOOD),  # above a reconstructed layer there is no more to be had
        ([None, EXACT, BAD], 0.0, False, 2, EXACT),
        ([BAD, GOOD, None], 0.0, False, 3, GOOD),  # the answer of an earlier round is kept
        ([np.nan, BAD, np.nan], 0.0, False, 3, BAD),
    ],
)
def test_rounds_end_when_the_layer_is_certain_and_keep_the_best(
    monkeypatch, losses, excused, frozen_below, n_rounds, kept
):
    expansion, samples = trained()
    judge = Judge(eps=float(jnp.finfo(float).eps), n_numbers=200, excused=excused)
    rounds = []

    def reconstructed(*_, **__):
        rounds.append(losses[len(rounds)])
        if rounds[-1] is None:
            raise NoClustersError("no cluster")
        network = student(expansion.students, 0)
        return layers.Found(Candidate(network, np.zeros((1, 2)), rounds[-1], judge, (0,)), "clusters", expansion, None)

    monkeypatch.setattr(layers, "reconstructed", reconstructed)
    found = layers.next_layer(
        expansion.students, samples, ec.RecoveryConfig.toy(4, 4, rounds=3, expand=SHORT), judge, key=jr.key(0),
        frozen_below=frozen_below, store=None, progress=silent, seconds=Stopwatch(),
    )  # fmt: skip
    assert len(rounds) == n_rounds
    assert found.candidate.loss == kept


def test_without_a_cluster_in_any_round_there_is_an_error(monkeypatch):
    expansion, samples = trained()

    def reconstructed(*_, **__):
        raise NoClustersError("no cluster")

    monkeypatch.setattr(layers, "reconstructed", reconstructed)
    config = ec.RecoveryConfig.toy(4, 4, rounds=2, expand=SHORT)
    with pytest.raises(NoClustersError):
        layers.next_layer(
            expansion.students, samples, config, Judge.of(samples), key=jr.key(0), frozen_below=False, store=None,
            progress=silent, seconds=Stopwatch(),
        )  # fmt: skip


def test_rounds_are_refused_where_students_are_trained_together():
    with pytest.raises(ValueError, match=r"`rounds` is 1 \(or None\) for method 'minibatch_subsampled'"):
        ec.RecoveryConfig.images_deep(rounds=2)
    with pytest.raises(ValueError, match="`rounds` is at least 1"):
        ec.RecoveryConfig.toy(rounds=0)


# --- the width -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "width"), [("g", 3), ("relu", 2)])
def test_the_width_found_has_room_for_the_teacher(activation, width):
    _, samples = problem(activation, width=width, n=300)
    told = []
    found = sufficient_width(
        samples.with_answers(samples.y / samples.y.std()),
        activation,
        key=jr.key(1),
        progress=lambda *_, **info: told.append(info["width"]),
    )
    assert found == 2 * told[-1]
    assert told == [4 * 2**i for i in range(len(told))]
    assert 2 * width <= found <= 8 * width


@pytest.mark.slow
def test_auto_is_the_width_in_the_recovery():
    teacher, samples = problem(n=300)
    config = ec.RecoveryConfig.toy("auto", 4)
    recovery = ec.recover(samples.x, samples.y, activation="tanh", key=jr.key(2), config=config)
    assert recovery.config.student_width == recovery.expansion.students.widths[0] == 8
    assert recovery.widths == (2,)
    assert ec.compare(recovery, teacher, samples.x).parameter_error < 1e-9
    assert recovery.seconds["width"] > 0


def test_auto_says_when_the_data_are_too_few_or_the_method_has_no_short_runs():
    _, samples = problem(n=9)
    with pytest.raises(ValueError, match="9 numbers are too few for students of width"):
        sufficient_width(samples, "tanh", key=jr.key(1))
    with pytest.raises(ValueError, match="has none: give a number"):
        ec.recover(samples.x, samples.y, activation="tanh", key=jr.key(1), config=ec.RecoveryConfig.images_deep("auto"))
    with pytest.raises(ValueError, match="found in `recover`"):
        ec.RecoveryConfig.toy("auto").widths(1)

"""Another round for students that were not enough, and a width that suffices."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.base.progress import Stopwatch, silent
from ecjax.expand import better_of, expand, renewed, round_store
from ecjax.network.networks import random_students, student
from ecjax.reconstruct import Candidate, NoClustersError
from ecjax.road import layers as layer


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


SHORT = ec.ExpandConfig(refine=ec.RefineConfig(max_steps=4, patience=4))


def problem(activation="tanh", d_in=2, width=2, n=200, seed=0):
    teacher_key, query_key = jr.split(jr.key(seed))
    teacher = ec.synthetic_teacher(d_in, width, 1, activation, key=teacher_key)
    x = ec.gaussian_queries(n, d_in, key=query_key)
    return teacher, x, ec.respond(teacher, x)


def trained(n=4, config=SHORT):
    teacher, x, y = problem()
    students = random_students(n, (2, 4, 1), teacher.activation, key=jr.key(1))
    return expand(students, x, y, config=config), x, y


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def with_results(expansion, results):
    codes = jnp.stack([jax.tree.leaves(result)[0] for result in results])
    result = jax.tree.unflatten(jax.tree.structure(expansion.result), [codes])
    return ec.Expansion(
        expansion.students, expansion.loss, expansion.gradient_norm, expansion.n_steps, result, expansion.method
    )


def test_who_ran_out_of_steps_goes_on_and_the_others_are_fresh():
    expansion, *_ = trained()
    r = ec.RESULTS
    expansion = with_results(expansion, [r.max_steps, r.stalled, r.diverged, r.max_steps])
    students = renewed(expansion, key=jr.key(2), scale=0.5)
    fresh = random_students(4, (2, 4, 1), "tanh", key=jr.key(2))
    for i in (0, 3):
        assert same(student(students, i), student(expansion.students, i))
    for i in (1, 2):
        half = jax.tree.map(lambda leaf: 0.5 * leaf, student(fresh, i))
        assert same(student(students, i), half)


def test_nothing_is_lost_by_a_round():
    before, x, y = trained()
    after = expand(renewed(before, key=jr.key(3)), x, y, config=SHORT)
    best = better_of(before, after)
    np.testing.assert_array_equal(best.loss, np.minimum(before.loss, after.loss))
    np.testing.assert_array_equal(best.n_steps, before.n_steps + after.n_steps)
    for i in range(4):
        source = before if before.loss[i] <= after.loss[i] else after
        assert same(student(best.students, i), student(source.students, i))


def test_a_student_that_diverged_gives_way_to_any_other():
    expansion, *_ = trained()
    broken = ec.Expansion(
        expansion.students,
        expansion.loss.at[1].set(jnp.nan),
        expansion.gradient_norm,
        expansion.n_steps,
        expansion.result,
        expansion.method,
    )
    for one, other in ((broken, expansion), (expansion, broken)):
        np.testing.assert_array_equal(better_of(one, other).loss, expansion.loss)


def test_rounds_share_a_store_without_meeting():
    store = {}
    parts = [store, *(round_store(store, turn, 3) for turn in (1, 2))]
    for turn, part in enumerate(parts):
        for i in range(3):
            part[i] = (turn, i)
    assert sorted(store) == list(range(9))
    for turn, part in enumerate(parts[1:], start=1):
        assert list(part) == [0, 1, 2]
        assert [part[i] for i in part] == [(turn, i) for i in range(3)]
        assert 1 in part
        assert len(part) == 3
    del parts[1][0]
    assert 3 not in store
    assert 0 not in parts[1]


# Students of four steps are never exact, those of a second and third round are.
FEW = ec.RecoveryConfig.toy(
    6, 5, expand=ec.ExpandConfig(refine=ec.RefineConfig(max_steps=12, patience=12)), propose=False
)


def test_a_network_that_is_not_exact_has_another_round():
    teacher, x, y = problem(seed=4)
    ask = {"activation": "tanh", "key": jr.key(5)}
    store = {}
    recovery = ec.recover(x, y, config=FEW, store=store, **ask)
    assert len(store) in (5, 10, 15)
    assert recovery.is_exact
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-9
    again = ec.recover(x, y, config=FEW, store={i: store[i] for i in list(store)[:3]}, **ask)
    assert same(again.network, recovery.network)


# What a round leads to: the loss, and the loss that counts as exact; None where there is no cluster.
EXACT, GOOD, BAD = (1e-30, 1e-26), (1e-9, 1e-8), (1e-3, 1e-26)


@pytest.mark.parametrize(
    ("outcomes", "frozen_below", "wanted"),
    [
        ([EXACT, BAD, BAD], False, 1),
        ([BAD, EXACT, BAD], False, 2),
        ([GOOD, GOOD, GOOD], False, 3),  # judged by what the best deep student reached: later ones may reach more
        ([GOOD, EXACT, BAD], False, 2),
        ([GOOD, BAD, BAD], True, 1),  # above a reconstructed layer nothing is exact
        ([None, EXACT, BAD], False, 2),
        ([BAD, BAD, None], False, 3),  # the answer of an earlier round is kept
    ],
)
def test_rounds_end_when_the_layer_is_certain(monkeypatch, outcomes, frozen_below, wanted):
    expansion, x, y = trained()
    rounds = []

    def reconstructed(*_, **__):
        rounds.append(outcomes[len(rounds)])
        if rounds[-1] is None:
            raise NoClustersError("no cluster")
        loss, exact_below = rounds[-1]
        candidate = Candidate(student(expansion.students, 0), np.zeros((1, 2)), loss, exact_below)
        return layer.Found(candidate, "clusters", expansion, None)

    monkeypatch.setattr(layer, "reconstructed", reconstructed)
    found = layer.next_layer(
        expansion.students, x, y, ec.RecoveryConfig.toy(4, 4, rounds=3, expand=SHORT), key=jr.key(0),
        frozen_below=frozen_below, store=None, progress=silent, seconds=Stopwatch(),
    )  # fmt: skip
    assert len(rounds) == wanted
    last = next(outcome for outcome in reversed(rounds) if outcome is not None)
    assert (found.candidate.loss, found.candidate.exact_below) == last


def test_without_a_cluster_in_any_round_there_is_an_error(monkeypatch):
    expansion, x, y = trained()

    def reconstructed(*_, **__):
        raise NoClustersError("no cluster")

    monkeypatch.setattr(layer, "reconstructed", reconstructed)
    config = ec.RecoveryConfig.toy(4, 4, rounds=2, expand=SHORT)
    with pytest.raises(NoClustersError):
        layer.next_layer(
            expansion.students, x, y, config, key=jr.key(0), frozen_below=False, store=None, progress=silent,
            seconds=Stopwatch(),
        )  # fmt: skip


def test_rounds_are_refused_where_students_are_trained_together():
    with pytest.raises(ValueError, match="`rounds` is 1 for method 'minibatch'"):
        ec.RecoveryConfig.images(rounds=2)
    with pytest.raises(ValueError, match="`rounds` is at least 1"):
        ec.RecoveryConfig.toy(rounds=0)


# --- the width -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "width"), [("tanh", 2), ("relu", 2), ("g", 3)])
def test_the_width_found_has_room_for_the_teacher(activation, width):
    teacher, x, y = problem(activation, width=width, n=300)
    told = []
    found = ec.sufficient_width(
        x, y / y.std(), teacher.activation, key=jr.key(1), progress=lambda *_, **info: told.append(info["width"])
    )
    assert found == 2 * told[-1]
    assert told == [4 * 2**i for i in range(len(told))]
    assert 2 * width <= found <= 8 * width


def test_auto_is_the_width_in_the_recovery():
    teacher, x, y = problem(n=300)
    recovery = ec.recover(x, y, activation="tanh", key=jr.key(2), student_width="auto", n_students=4)
    assert recovery.config.student_width == recovery.expansion.students.widths[0] == 8
    assert recovery.widths == (2,)
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-9
    assert recovery.seconds["width"] > 0


def test_auto_says_when_the_data_are_too_few_or_the_method_has_no_short_runs():
    teacher, x, y = problem("g", width=8, n=60)
    with pytest.raises(ValueError, match="60 numbers are too few for students of width"):
        ec.sufficient_width(x, y, teacher.activation, key=jr.key(1))
    with pytest.raises(ValueError, match="has none: give a number"):
        ec.recover(x, y, activation="g", key=jr.key(1), config=ec.RecoveryConfig.images("auto"))
    with pytest.raises(ValueError, match="found in `recover`"):
        ec.RecoveryConfig.toy("auto").widths(1)

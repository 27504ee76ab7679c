"""Stores: what is finished is kept, and a store knows what it belongs to."""

import functools
from dataclasses import dataclass, replace

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

import ecjax.expand.students_axis
from ecjax.expand import (
    Adam,
    ExpandConfig,
    Flow,
    LevenbergMarquardt,
    Minibatch,
    MinibatchState,
    Narrowing,
    Stopping,
    expand,
)
from ecjax.expand.store import Part, fingerprint, in_words, part
from ecjax.network import ACTIVATIONS, Activation, mixture, respond
from ecjax.objective import Samples

CONFIG = ExpandConfig(method=(Adam(n_steps=5),))
BATCHES = ExpandConfig(
    method="minibatch_lbfgs",
    minibatch=Minibatch(batch=20, max_epochs=6, epochs_per_call=2),
    lbfgs=Stopping(max_steps=5),
)
NAMES = ["student-000000", "student-000001", "student-000002"]


def problem(seed=0, activation="tanh"):
    teacher_key, student_key, x_key = jr.split(jr.key(seed), 3)
    x = drawn.normal(x_key, (40, 2))
    teacher = drawn.network((2, 2, 1), "tanh", key=teacher_key)
    return drawn.students(3, (2, 4, 1), activation, key=student_key), Samples(x, respond(teacher, x))


def assert_equal(one, other):
    for u, v in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(u, v)


def never(*_):
    raise AssertionError("trained again")


# --- what it belongs to ----------------------------------------------------------------------------------------------


def test_the_same_call_trains_nothing_again(monkeypatch):
    students, samples = problem()
    store, told = {}, []
    first = expand(students, samples, config=CONFIG, store=store)
    assert sorted(store) == ["origin", *NAMES]
    monkeypatch.setattr(ecjax.expand.students_axis, "_solve_one", never)
    progress = lambda phase, done, total, losses: told.append((done, total))
    assert_equal(expand(students, samples, config=CONFIG, store=store, progress=progress), first)
    assert told == [(3, 3)]
    with pytest.raises(AssertionError, match="trained again"):
        expand(students, samples, config=CONFIG, store={})


OTHERS = {
    "answers": (lambda students, samples: (students, samples.with_answers(2 * samples.y), CONFIG), "data"),
    "queries": (lambda students, samples: (students, Samples(1 + samples.x, samples.y), CONFIG), "data"),
    "fewer samples": (lambda students, samples: (students, samples.take(slice(39)), CONFIG), "data"),
    "weights": (lambda students, samples: (students, Samples(samples.x, samples.y, jnp.ones(40)), CONFIG), "data"),
    "students": (lambda students, samples: (problem(seed=1)[0], samples, CONFIG), "initial students"),
    "fewer students": (
        lambda students, samples: (jax.tree.map(lambda leaf: leaf[:2], students), samples, CONFIG),
        "initial students",
    ),
    "activation": (lambda students, samples: (problem(activation="sin")[0], samples, CONFIG), "initial students"),
    "steps": (lambda students, samples: (students, samples, ExpandConfig(method=(Adam(n_steps=6),))), "method"),
    "method": (lambda students, samples: (students, samples, ExpandConfig(method="flow")), "method"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_of_something_else_is_refused_by_name(other):
    students, samples = problem()
    store = {}
    expand(students, samples, config=CONFIG, store=store)
    held = dict(store)
    change, named = OTHERS[other]
    students, samples, config = change(students, samples)
    with pytest.raises(ValueError, match=f"`store` belongs to (an)?other {named}.*give an empty one, or repeat"):
        expand(students, samples, config=config, store=store)
    assert store.keys() == held.keys()


def test_all_that_differs_is_named():
    students, samples = problem()
    store = {}
    expand(students, samples, config=CONFIG, store=store)
    others, answers = problem(seed=1)
    with pytest.raises(ValueError, match=r"other initial students .* and to other data .* and to another method"):
        expand(others, answers, config=ExpandConfig(method="flow"), store=store)


def test_the_key_belongs_to_a_store_with_mini_batches():
    students, samples = problem()
    store = {}
    expand(students, samples, config=BATCHES, key=jr.key(0), store=store)
    with pytest.raises(ValueError, match="`store` belongs to another key: give an empty one"):
        expand(students, samples, config=BATCHES, key=jr.key(1), store=store)


def test_where_students_are_trained_does_not_matter():
    students, samples = problem()
    store = {}
    first = expand(students, samples, config=CONFIG, store=store)
    elsewhere = replace(CONFIG, placement="vmap", chunk=2)
    assert_equal(expand(students, samples, config=elsewhere, store=store), first)


def test_entries_of_nobody_knows_what_are_refused(monkeypatch):
    """As the stores of earlier versions were: students by number, and no word about them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose checks stand before ecjax's own
    students, samples = problem()
    with pytest.raises(ValueError, match="`store` holds 2 entries and does not say what they belong to: give an empty"):
        expand(students, samples, config=CONFIG, store={0: "a student", 1: "another"})


def test_two_activations_of_ones_own_are_told_apart_though_they_share_a_name():
    of = lambda fn: fingerprint(problem(activation=Activation(fn))[0])
    assert of(lambda z: jnp.tanh(z)) == of(lambda z: jnp.tanh(z))
    assert of(lambda z: jnp.tanh(z)) != of(lambda z: jnp.tanh(2 * z))


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_an_interrupted_expansion_goes_on_where_it_was():
    students, samples = problem()
    store = {}

    def interrupted(phase, done, total, losses):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand(students, samples, config=CONFIG, store=store, progress=interrupted)
    assert sorted(store) == ["origin", NAMES[0]]
    assert_equal(expand(students, samples, config=CONFIG, store=store), expand(students, samples, config=CONFIG))


def test_epochs_and_later_stages_have_names_of_their_own():
    """Training on mini-batches is interrupted, goes on, and so does the stage after it."""
    students, samples = problem()
    whole = expand(students, samples, config=BATCHES, key=jr.key(0), store=(full := {}))
    assert sorted(full) == ["epochs", "origin", *(f"stage-2/{name}" for name in NAMES)]
    assert isinstance(full["epochs"], MinibatchState)
    assert int(full["epochs"].epoch) == 6
    store = {}

    def interrupted(phase, done, total, losses, epoch):
        if epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand(students, samples, config=BATCHES, key=jr.key(0), store=store, progress=interrupted)
    assert sorted(store) == ["epochs", "origin"]
    assert int(store["epochs"].epoch) == 4
    resumed = expand(students, samples, config=BATCHES, key=jr.key(0), store=store)
    assert_equal(resumed, whole)
    np.testing.assert_array_equal(resumed.history, whole.history)
    half = {name: value for name, value in full.items() if name != f"stage-2/{NAMES[1]}"}
    assert_equal(expand(students, samples, config=BATCHES, key=jr.key(0), store=half), whole)


@pytest.mark.slow
def test_narrower_students_have_epochs_of_their_own():
    students, samples = problem()
    config = replace(BATCHES, method="minibatch", narrowing=Narrowing(factor=0.5, room=1e9))
    store = {}
    end = expand(students, samples, config=config, key=jr.key(0), store=store)
    assert end.students.widths == (1,)
    assert sorted(store) == ["epochs", "epochs-1", "epochs-2", "origin"]


# --- parts -----------------------------------------------------------------------------------------------------------


def test_a_part_is_a_store_that_sees_only_its_own():
    store = {"student-000000": "first"}
    assert part(None, "round-2") is None
    second, third = (part(store, f"round-{n}") for n in (2, 3))
    inner = part(second, "layer-2")
    for i, each in enumerate((second, third, inner)):
        each["student-000000"] = i
        each[f"own-{i}"] = i
    assert list(second) == ["student-000000", "own-0", "layer-2/student-000000", "layer-2/own-2"]
    assert (len(second), len(third), len(inner)) == (4, 2, 2)
    assert dict(inner) == {"student-000000": 2, "own-2": 2}
    assert store["round-2/layer-2/own-2"] == 2
    assert ("own-1" in third, "own-1" in second, 3 in second) == (True, False, False)
    del third["own-1"]
    assert "round-3/own-1" not in store
    with pytest.raises(KeyError):
        third["own-1"]
    third.clear()
    assert len(store) == 5
    assert isinstance(inner, Part)


# --- words -----------------------------------------------------------------------------------------------------------


class Plain:
    """Python would give it a name with an address in memory."""


@dataclass(frozen=True)
class Settings:
    fn: object
    number: float = 0.1


WORDS = {
    "a function": (jnp.tanh, "tanh"),
    "a lambda": (lambda z: z, "<lambda>"),
    "a partial function": (functools.partial(max, 1), "partial"),
    "an object": (Plain(), "Plain"),
    "settings": (Settings(lambda z: z), "Settings(fn=<lambda>, number=0.1)"),
    "a mapping": ({"fn": lambda z: z, "n": 2}, "('fn': <lambda>, 'n': 2)"),
    "a tuple": ((1, "a", None, Plain()), "(1, 'a', None, Plain)"),
    "an activation": (ACTIVATIONS["g"], "g"),
    "a mixture": (mixture(tanh=1, g=1), "Mixture(each=(tanh, g))"),
    "an array": (np.ones(3), "array"),
    "stages": (
        (Adam(n_steps=5), LevenbergMarquardt()),
        "(Adam(n_steps=5, learning_rate=0.01, batch=None), LevenbergMarquardt(stop=Stopping(max_steps=500, "
        "target_loss=1e-31, gradient_norm=1e-16, patience=50)))",
    ),
}


@pytest.mark.parametrize("what", WORDS)
def test_settings_in_words_have_no_addresses(what):
    thing, words = WORDS[what]
    assert in_words(thing) == words


def test_no_setting_of_any_method_has_an_address():
    config = ExpandConfig(flow=Flow(t_end=3.0))
    assert " at 0x" not in in_words(config)
    assert "t_end=3.0" in in_words(config)


def test_a_fingerprint_is_that_of_content():
    same = [fingerprint(problem()) for _ in range(2)]
    assert same[0] == same[1]
    x = np.arange(6.0)
    others = [x, x.astype(np.float32), x.reshape(2, 3), x[::-1], x + 1e-15, {"x": x}, (x, 1.0), (x, 2.0)]
    assert len({fingerprint(each) for each in others}) == len(others)
    assert fingerprint(np.asfortranarray(x.reshape(2, 3))) == fingerprint(x.reshape(2, 3))

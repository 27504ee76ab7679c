"""Activations and depths that nobody named, or named wrongly."""

from dataclasses import replace

import drawn
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.base.progress import Stopwatch, silent
from ecjax.expand import ExpandConfig, Stopping
from ecjax.judge import Judge
from ecjax.network import ACTIVATIONS, student
from ecjax.reconstruct import Candidate
from ecjax.road import layers
from ecjax.road.kinds import CLASSES, likelier, same_functions, tell_apart, tied
from ecjax.road.trials import Trial, trial

CONFIG = ec.RecoveryConfig.toy(student_width=8, n_students=6)


def problem(activation="tanh", widths=(2,), n=400, fan_in=3):
    teacher_key, x_key = jr.split(jr.key(3))
    teacher = ec.synthetic_teacher(fan_in, widths, 1, activation, key=teacher_key)
    x = ec.gaussian_queries(n, fan_in, key=x_key)
    samples = ec.Data.of(x, ec.respond(teacher, x)).scaling("columns").samples(x, ec.respond(teacher, x))
    return teacher, samples, Judge.of(samples)


def test_every_activation_that_can_be_recovered_is_tried_once():
    tried = [name for one, others in CLASSES.items() for name in (one, *others)]
    assert len(set(tried)) == len(tried)
    assert set(tried) == {name for name, one in ACTIVATIONS.items() if not one.symmetry.polynomial}


@pytest.mark.parametrize(("one", "other"), [(one, other) for one, others in CLASSES.items() for other in others])
def test_classes_are_of_the_same_functions(one, other):
    """Each is an affine map of the other, of another scale and shift of its input."""
    z = np.linspace(-3, 3, 101)
    scales, shifts = {"sigmoid": (0.5, 0), "normal_cdf": (2**-0.5, 0), "cos": (1, np.pi / 2)}[other]
    basis = np.stack([np.asarray(ACTIVATIONS[one].fn(jnp.asarray(scales * z + shifts))), np.ones_like(z)], axis=1)
    wanted = np.asarray(ACTIVATIONS[other].fn(jnp.asarray(z)))
    left = wanted - basis @ np.linalg.lstsq(basis, wanted, rcond=None)[0]
    assert np.abs(left).max() < 1e-14
    assert other in same_functions(one)


@pytest.mark.slow
def test_the_right_kind_ends_the_search():
    _, samples, judge = problem()
    told = []
    progress = lambda phase, done, total, **info: told.append((phase, done, total))
    trials = tell_apart(samples, ["erf", "tanh", "relu"], (1,), CONFIG, judge, key=jr.key(0), progress=progress)
    assert [one.name for one in trials] == ["tanh", "erf"]
    assert judge.fits(trials[0].loss)
    assert told == [("kinds", 1, 3), ("kinds", 2, 3)]
    assert tied(trials, samples, CONFIG, judge, key=jr.key(1)) == trials[:1]


def test_depth_is_no_more_than_needed(monkeypatch):
    """Of several depths that imitate, the least; of one that imitates better by far, the deeper."""
    _, samples, judge = problem()

    def planted(losses):
        monkeypatch.setattr("ecjax.road.trials.trial", lambda _, kinds, *__: Trial(kinds, losses[len(kinds) - 1]))
        best = tell_apart(samples, ["tanh"], (1, 2, 3), CONFIG, judge, key=jr.key(0))[0]
        return len(best.activations)

    assert planted([1e-30, 1e-30, 1e-30]) == 1
    assert planted([1e-4, 1e-30, 1e-30]) == 2
    assert planted([1e-4, 3e-5, 1e-5]) == 1
    assert planted([1e-2, 1e-8, 1e-30]) == 3
    assert planted([1e-2, 1e-4, 1e-30]) == 3  # two are hardly better than one
    assert planted([1e-2, 1e-12, 1e-30]) == 2  # which no other depth would reach


@pytest.mark.slow
@pytest.mark.parametrize("names", [("tanh", "softplus", "sin"), ("relu", "elu")])
def test_kinds_in_one_program_reach_what_each_reaches_alone(names):
    _, samples, _ = problem(names[-1], n=200)
    kinds = [ec.network.as_activations(name, 1) for name in (*names, "gaussian", "abs")]
    config = ec.RecoveryConfig.toy(student_width=2, n_students=6)
    for kind in kinds[: len(names)]:
        together, alone = (trial(samples, kind, among, config, jr.key(0)).loss for among in (kinds, [kind]))
        assert together == pytest.approx(alone, rel=1e-3, abs=1e-25)


def test_among_errors_the_kinds_that_need_the_fewest_neurons_are_followed(monkeypatch):
    """All kinds reach the errors with wide students; with narrower ones fewer do, until four at most are left."""
    _, samples, _ = problem()
    judge = Judge.of(samples, noise=1e-2)
    needs = {"tanh": 3, "erf": 3, "arctan": 4, "gelu": 5, "silu": 5, "softplus": 6}
    widths = []

    def planted(samples, kind, among, config, key):
        width = config.widths(1)[0]
        widths.append(width)
        return Trial(kind, 1e-4 * (1.0 if width >= needs[kind[0].name] else 10.0))

    monkeypatch.setattr("ecjax.road.trials.trial", planted)
    trials = [Trial(ec.network.as_activations(name, 1), 1e-4 * (1 - 1e-3 * i)) for i, name in enumerate(needs)]
    left = tied(trials, samples, CONFIG, judge, key=jr.key(0))
    assert {one.name for one in left} == {"tanh", "erf", "arctan"}
    assert set(widths) == {4}
    assert len(tied(trials[:4], samples, CONFIG, judge, key=jr.key(0))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaky_relu", "abs"])
def test_piecewise_linear_kinds_are_told_by_their_linear_parts(name):
    """Each is any other and a linear map; the one that needs none is meant."""
    _, samples, _ = problem(name)
    recovery = ec.recover(samples.x, samples.y, activation="auto", key=jr.key(0), config=CONFIG)
    assert recovery.network.activations[0].name == name
    assert recovery.linear is None
    assert recovery.widths == (2,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("widths", "n", "named", "said"), [((2,), 400, "erf", "tanh"), ((3, 2), 1000, "tanh", "tanh, 2 hidden layers")]
)
def test_a_wrong_name_or_depth_is_noticed_and_the_better_one_said(widths, n, named, said):
    _, samples, judge = problem(widths=widths, n=n)
    kind = ec.network.as_activations(named, 1)
    loss = trial(samples, kind, [kind], CONFIG, jr.key(0)).loss
    better = likelier(samples, kind, loss, CONFIG, judge, key=jr.key(0))
    assert better is not None
    assert better.name == said


def test_widths_of_each_layer_are_no_hindrance_to_trying_another_depth(monkeypatch):
    """Deep students of several widths that imitate badly: deeper ones were refused in the middle of a recovery."""
    _, samples, judge = problem(widths=(3, 2))
    asked = []

    def planted(_, kind, __, config, ___):
        asked.append((len(kind), config.widths(len(kind))))
        return Trial(kind, 1.0)

    monkeypatch.setattr("ecjax.road.trials.trial", planted)
    config, kind = replace(CONFIG, student_width=(6, 4)), ec.network.as_activations("tanh", 2)
    assert likelier(samples, kind, 1.0, config, judge, key=jr.key(0)) is None
    assert set(asked) == {(2, (6, 6)), (3, (6, 6, 6))}


@pytest.mark.parametrize(
    ("widths", "expected"), [((4,), ["clusters", "kinds", "all"]), ((4, 3), ["all", "kinds"])], ids=["one", "several"]
)
def test_what_takes_longest_comes_last_of_other_kinds_and_further_proposals(widths, expected, monkeypatch):
    """Of several hidden layers students of other kinds do: 90 s for nothing, where further proposals took 6 s."""
    _, samples, judge = problem(widths=widths)
    students, order = drawn.students(4, (3, *widths, 1), "tanh", key=jr.key(1)), []

    def reconstructed(expansion, clustering, samples, config, judge, **_):
        order.append("all" if config.propose else "clusters")
        candidate = Candidate(student(expansion.students, 0), np.zeros((1, 3)), 1e-3, judge, (0,))
        return layers.Found(candidate, "one student", expansion, clustering)

    monkeypatch.setattr(layers, "reconstructed", reconstructed)
    short = ExpandConfig(descent=Stopping(max_steps=5))
    doubts = lambda _: order.append("kinds") or ""
    layers.next_layer(
        students, samples, ec.RecoveryConfig.toy(4, 4, rounds=1, expand=short), judge, key=jr.key(0),
        frozen_below=False, store=None, progress=silent, seconds=Stopwatch(), doubts=doubts,
    )  # fmt: skip
    assert order == expected


@pytest.mark.slow
def test_a_recovery_under_a_wrong_name_says_so():
    _, samples, _ = problem(widths=(3,), n=600)
    wrong = ec.recover(samples.x, samples.y, activation="softplus", key=jr.key(0), config=CONFIG)
    assert not wrong.is_exact
    assert 'activation="tanh"' in wrong.advice
    assert "Likely cause" in wrong.summary()


@pytest.mark.slow
def test_an_activation_that_nobody_named_is_found():
    _, samples, _ = problem("softplus")
    recovery = ec.recover(samples.x, samples.y, activation="auto", key=jr.key(0), config=CONFIG)
    assert recovery.network.activations[0].name == "softplus"
    assert recovery.is_exact
    assert any("short runs" in each for each in recovery.chosen)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"activation": ["tanh", "relu"], "hidden_layers": "auto"}, "goes with one activation"),
        ({"activation": "auto", "student_width": "auto"}, "give one of them"),
        ({"activation": "auto", "method": "minibatch"}, "trained one by one"),
        ({"activation": "auto", "hidden_layers": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_found_is_refused(given, named):
    _, samples, _ = problem()
    with pytest.raises(ValueError, match=named):
        ec.recover(samples.x, samples.y, key=jr.key(0), **given)

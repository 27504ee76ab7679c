"""Budgets: when the time is up nothing new is begun, there is an answer all the same, and the same call goes on."""

from dataclasses import replace

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
import tyro

import ecjax as ec
from ecjax import runs
from ecjax.base import deadline as deadlines
from ecjax.base.deadline import Deadline
from ecjax.base.progress import Stopwatch, silent
from ecjax.cli import main
from ecjax.cli.commands import COMMANDS
from ecjax.cluster import ClusterConfig
from ecjax.expand import ExpandConfig, Minibatch, Narrowing, Stopping, better_of, expand
from ecjax.judge import Judge
from ecjax.network import student
from ecjax.reconstruct import Candidate, NoClustersError
from ecjax.road import following, kinds, layers, trials

SHORT = ExpandConfig(descent=Stopping(max_steps=5, patience=12))
FEW = ec.RecoveryConfig.toy(6, 5, expand=SHORT, rounds=3, propose=False)  # one round is not enough, two are
BATCHES = ExpandConfig(
    method="minibatch_lbfgs",
    minibatch=Minibatch(batch=20, max_epochs=6, epochs_per_call=2),
    lbfgs=Stopping(max_steps=5),
)


class Clock:
    """A second passes when a student, a chunk of epochs or a kind is done, and when some are found in a store."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def tick(self, phase, done, total, **info):
        self.now += phase.startswith(("expand", "kinds")) and (done > 0 or "epoch" in info)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(deadlines, "monotonic", clock)
    return clock


class Once(dict):
    """A store in which nothing is written twice."""

    def __setitem__(self, key, value):
        assert key not in self, key
        super().__setitem__(key, value)


def problem(hidden=(2,), n=200, seed=4, activation="tanh"):
    teacher_key, query_key = jr.split(jr.key(seed))
    teacher = ec.synthetic_teacher(2, hidden, 1, activation, key=teacher_key)
    x = ec.gaussian_queries(n, 2, key=query_key)
    return ec.Samples(x, ec.respond(teacher, x))


def asked(samples, config=FEW, **more):
    return ec.recover(samples.x, samples.y, activation="tanh", key=jr.key(5), config=config, **more)


def assert_equal(one, other):
    for u, v in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(u, v)


def assert_same_recovery(one, other):
    for name in ("network", "expansions", "clusterings", "errors"):
        assert_equal(getattr(one, name), getattr(other, name))
    for name in ("loss", "is_exact", "found_by", "chosen", "removed", "certificate", "is_stopped"):
        assert getattr(one, name) == getattr(other, name)


# --- a recovery ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    return asked(problem(), store={})


@pytest.mark.parametrize(("n_trained", "has_rounds"), [(0, False), (3, False), (5, False), (7, True)])
def test_the_time_is_up_and_the_same_call_goes_on(n_trained, has_rounds, whole, clock):
    """From nothing, within the first round, after it and within the second: to the same end, nothing trained twice."""
    samples, store = problem(), Once()
    clock.now = 0.0
    stopped = asked(samples, store=store, progress=clock.tick, budget=max(n_trained, 1e-9))
    assert stopped.is_stopped
    assert stopped.expansion.n_students == min(max(2, n_trained), 5)
    assert sum("student" in name for name in store) == max(2, n_trained)
    assert any(name.startswith("round-2") for name in store) == has_rounds
    assert not any(name.startswith("round-3") for name in store)
    assert stopped.chosen[-1].startswith("stopped by the budget of")
    assert stopped.chosen[-1].endswith("goes on from there")
    assert ("of 5 students" in stopped.chosen[-1]) == (n_trained != 5)
    assert stopped.certificate.summary()
    assert_same_recovery(asked(samples, store=store), whole)


def test_time_that_suffices_changes_nothing(whole, clock):
    recovery = asked(problem(), store={}, progress=clock.tick, budget=1e9)
    assert_same_recovery(recovery, whole)
    assert not recovery.is_stopped


def test_a_resumed_call_may_be_stopped_again(whole, clock):
    samples, store = problem(), Once()
    for n_trained in (2, 3, 4, 5):
        stopped = asked(samples, store=store, progress=clock.tick, budget=2.0)
        assert stopped.expansion.n_students == n_trained
    assert_same_recovery(asked(samples, store=store), whole)


def test_without_a_store_there_is_nothing_to_go_on_from(clock):
    stopped = asked(problem(), progress=clock.tick, budget=1.0)
    assert stopped.chosen[-1].startswith("stopped by the budget of 1 s, without 3 of 5 students")
    assert "goes on" not in stopped.chosen[-1]


@pytest.mark.slow
def test_layers_above_a_stopped_one_are_done_and_not_kept(clock):
    samples = problem((2, 2))
    config = replace(FEW, rounds=1, propose=True)
    full = Once()
    end = asked(samples, config, hidden_layers=2, store=full)
    store = Once()
    stopped = asked(samples, config, hidden_layers=2, store=store, progress=clock.tick, budget=3.0)
    assert len(stopped.widths) == 2
    assert [each.n_students for each in stopped.expansions] == [3, 2]
    assert not any(name.startswith("layer-2") for name in store)
    clock.now = 0.0  # all students of the first layer are there, and 3 of the second will be
    store = Once({name: value for name, value in full.items() if "/" not in name})
    stopped = asked(samples, config, hidden_layers=2, store=store, progress=clock.tick, budget=4.0)
    assert [each.n_students for each in stopped.expansions] == [5, 3]
    assert sum(name.startswith("layer-2/student") for name in store) == 3
    assert_same_recovery(asked(samples, config, hidden_layers=2, store=store), end)


def test_only_layers_above_complete_ones_have_a_place_in_the_store(monkeypatch, clock):
    """Otherwise they would be of students that are others, once there is more time below."""
    samples, students = problem(), drawn.students(2, (2, 3, 3, 3, 1), "tanh", key=jr.key(1))
    seconds, stores = Stopwatch(Deadline(1.0)), []

    def next_layer(*_, store, **__):
        stores.append(None if store is None else getattr(store, "prefix", ""))
        clock.now += len(stores) == 2
        seconds.deadline.leaves_out("further rounds")
        return layers.Found(None, "clusters", None, None)

    monkeypatch.setattr(following, "next_layer", next_layer)
    monkeypatch.setattr(following, "upper_students", lambda *_, **__: (students, samples.x))
    following._layers(students, samples, FEW, Judge.of(samples), jr.key(0), store={}, progress=silent, seconds=seconds,
                      trained=None, doubts=None)  # fmt: skip
    assert stores == ["", "layer-2/", None]


def test_without_a_cluster_proposals_come_before_a_round_that_there_is_no_time_for(monkeypatch, clock):
    samples = problem()
    students = drawn.students(4, (2, 6, 1), "tanh", key=jr.key(1))
    judge, seen = Judge.of(samples), []

    def reconstructed(expansion, clustering, samples, config, judge, **_):
        seen.append(config.propose)
        clock.now = 1.0
        if len(seen) == 1:
            raise NoClustersError("no cluster")
        candidate = Candidate(student(expansion.students, 0), np.zeros((1, 2)), 1e-3, judge, (0,))
        return layers.Found(candidate, "one student", expansion, clustering)

    monkeypatch.setattr(layers, "reconstructed", reconstructed)
    config = ec.RecoveryConfig.toy(6, 4, rounds=3, expand=SHORT)
    found = layers.next_layer(
        students, samples, config, judge, key=jr.key(0), frozen_below=False, store=None, progress=silent,
        seconds=Stopwatch(Deadline(1.0)), doubts=lambda loss: "another kind",
    )  # fmt: skip
    assert seen == [False, True]  # before other kinds are looked for, then in the place of a round
    assert (found.n_rounds, found.found_by, found.advice) == (1, "one student", "")


@pytest.mark.slow
def test_of_unknown_kinds_the_first_is_the_answer(clock):
    samples, config = problem(activation="softplus"), ec.RecoveryConfig.toy(6, 5)
    told = {"activation": "auto", "key": jr.key(5), "config": config, "progress": clock.tick}
    stopped = ec.recover(samples.x, samples.y, budget=1.0, store={}, **told)
    assert [each.name for each in stopped.network.activations] == ["tanh"]
    assert not stopped.is_exact
    assert stopped.chosen[-1].startswith(
        "stopped by the budget of 1 s, without other kinds of networks, 3 of 5 students"
    )
    assert "goes on" not in stopped.chosen[-1]  # there is no store of several kinds


def test_where_gamma_asks_for_few_two_students_agree_all_the_same(clock):
    config = replace(FEW, cluster=ClusterConfig(gamma=0.4))
    assert asked(problem(), config, progress=clock.tick, budget=1.0).clusterings[0].needed == 2
    assert ClusterConfig(gamma=0.4).of(5) == ClusterConfig(gamma=0.4)


# --- an expansion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "placement",
    [{"placement": "map"}, pytest.param({"placement": "vmap", "chunk": 2}, marks=pytest.mark.slow)],
    ids=str,
)
def test_no_student_is_begun_when_the_time_is_up(placement, clock):
    samples = problem()
    students, config = drawn.students(5, (2, 6, 1), "tanh", key=jr.key(1)), replace(SHORT, **placement)
    told = []

    def progress(phase, done, total, losses):
        told.append(done)
        clock.now = done

    deadline = Deadline(3.0)
    some = expand(students, samples, config=config, progress=progress, deadline=deadline)
    n = 3 if placement["placement"] == "map" else 4  # two are begun together
    assert some.n_students == told[-1] == n
    assert deadline.left_out == [f"{5 - n} of 5 students"]
    every = expand(students, samples, config=config)
    assert_equal(some, jax.tree.map(lambda leaf: leaf[:n], every))


def test_students_that_diverged_are_not_enough(clock):
    samples = problem()
    students = drawn.students(4, (2, 6, 1), "tanh", key=jr.key(1))
    students = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), students)
    clock.now, deadline = 0.0, Deadline(1.0)
    clock.now = 2.0
    some = expand(students, samples, config=SHORT, deadline=deadline)
    assert some.finite.tolist() == [False, True, True]


def test_students_that_a_later_round_has_no_time_for_stay_as_they_were():
    samples = problem()
    before = expand(drawn.students(3, (2, 6, 1), "tanh", key=jr.key(1)), samples, config=SHORT)
    after = expand(before.students, samples, config=SHORT)
    some = better_of(before, jax.tree.map(lambda leaf: leaf[:1], after))
    every = better_of(before, after)
    for i, end in enumerate((every, before, before)):
        assert_equal(jax.tree.map(lambda leaf, i=i: leaf[i], some), jax.tree.map(lambda leaf, i=i: leaf[i], end))


@pytest.mark.parametrize(
    ("budget", "left_out"),
    [
        (1.0, ["epochs after 2", "later stages of training"]),
        (3.0, ["later stages of training"]),
        (4.0, ["2 of 3 students"]),
    ],
)
def test_training_on_mini_batches_stops_and_goes_on(budget, left_out, clock):
    assert_stops_and_goes_on(BATCHES, budget, left_out, clock)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "left_out"),
    [
        (2.0, ["epochs after 4", "students narrower than 4"]),
        (3.0, ["students narrower than 4"]),
        (4.0, ["epochs after 2", "students narrower than 2"]),
        (9.0, []),
    ],
)
def test_students_are_made_no_narrower_when_the_time_is_up(budget, left_out, clock):
    config = replace(BATCHES, method="minibatch", narrowing=Narrowing(factor=0.5, room=1e9))
    assert_stops_and_goes_on(config, budget, left_out, clock)


def assert_stops_and_goes_on(config, budget, left_out, clock):
    samples, students = problem(n=40), drawn.students(3, (2, 4, 1), "tanh", key=jr.key(1))
    train = lambda **more: expand(students, samples, config=config, key=jr.key(2), **more)
    store, deadline = {}, Deadline(budget)
    some = train(store=store, progress=clock.tick, deadline=deadline)
    assert deadline.left_out == left_out
    assert some.n_students == 3
    end, whole = train(store=store), train()
    assert_equal(end, whole)
    np.testing.assert_array_equal(end.history, whole.history)


# --- kinds -----------------------------------------------------------------------------------------------------------


def test_no_kind_is_tried_when_the_time_is_up(monkeypatch, clock):
    tried = []

    def trial(samples, kind, *_):
        tried.append(kind[0].name)
        return trials.Trial(kind, 1e-3)

    monkeypatch.setattr(trials, "trial", trial)
    samples, judge = problem(), Judge.of(problem())
    told = {"key": jr.key(0), "progress": clock.tick}
    of = lambda budget: kinds.tell_apart(
        samples, ("tanh", "g", "relu"), (1, 2), FEW, judge, deadline=Deadline(budget), **told
    )
    assert [each.name for each in of(1.0)] == ["tanh"]
    assert len(of(2.0)) == 2
    tried.clear()
    assert len(of(3.0)) == len(tried) == 3  # and none with two hidden layers
    many = [trials.Trial(ec.network.network.as_activations(name, 1), 1e-3) for name in list(kinds.CLASSES)[:6]]
    up = Deadline(1.0)
    clock.now += 1
    tried.clear()
    assert kinds.tied(many, samples, FEW, judge, deadline=up, **told) == many[:4]
    assert kinds.likelier(samples, many[0].activations, 1.0, FEW, judge, deadline=up, **told) is None
    assert not tried


# --- what is no budget -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, -1.0, np.nan, "5m", [3]])
def test_what_is_no_budget_is_refused(budget, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose checks stand before ecjax's own
    with pytest.raises(ValueError, match="`budget` is how many seconds the work may take, above 0"):
        asked(problem(), budget=budget)


TIMES = {"90s": 90.0, "5m": 300.0, "1.5h": 5400.0, "300": 300.0, "0.5": 0.5}


@pytest.mark.parametrize("text", TIMES)
def test_a_time_may_have_a_unit(text):
    for name, more in (("recover toy", []), ("recover data", ["a.npz", "--activation", "tanh"])):
        command = tyro.cli(COMMANDS[name], args=[*more, "--budget", text])
        assert command.output.budget == TIMES[text]
    assert tyro.cli(COMMANDS["recover toy"], args=[]).output.budget is None


@pytest.mark.parametrize("text", ["0", "-3m", "5x", "m", "", "nan", "five"])
def test_a_time_that_is_none_is_answered_with_some_that_are(text, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["recover", "toy", "--budget", text])
    assert refused.value.code == 2
    shown = " ".join(each for each in capsys.readouterr().err.split() if each != "│")
    assert "a budget is a time above 0, as 90s, 5m, 1.5h, or in seconds" in shown


# --- run folders -----------------------------------------------------------------------------------------------------

TOY = ["recover", "toy", "--d-in", "2", "--width", "2", "--n-samples", "100", "--student-width", "4", "--n-students"]
TOY += ["4", "--activation", "tanh", "--no-figures"]


@pytest.mark.parametrize("named", [True, False])
def test_a_run_that_its_budget_ended_goes_on_by_the_same_command(named, tmp_path, monkeypatch, clock, capsys):
    monkeypatch.chdir(tmp_path)
    out = ["--out", "runs/mine"] if named else []
    clock.now = 0.0
    with monkeypatch.context() as patch:
        patch.setattr("ecjax.cli.progress_bars.ProgressBars.__call__", lambda _, *told, **info: clock.tick(*told))
        assert main([*TOY, *out, "--budget", "2"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    stopped = runs.load_run(folder).recovery
    assert stopped.is_stopped
    assert "stopped by the budget of 2 s, without 2 of 4 students" in capsys.readouterr().out
    assert sorted(each.name for each in (folder / "students").iterdir()) == [
        "origin.json", "student-000000.safetensors", "student-000001.safetensors"
    ]  # fmt: skip
    if named:
        assert main([*TOY, *out, "--seed", "1"]) == 2  # another run
        assert "exists already" in capsys.readouterr().err
    assert main([*TOY, *out, "--budget", "1h"]) == 0
    assert "2 of 4 students are there" in capsys.readouterr().out
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert not (folder / "students").exists()
    assert main([*TOY, "--out", "whole"]) == 0
    end, whole = (runs.load_run(each).recovery for each in (folder, tmp_path / "whole"))
    assert_same_recovery(end, whole)
    if named:
        assert main([*TOY, *out]) == 2  # it is finished now
        assert "exists already" in capsys.readouterr().err


def test_phases_within_others_count_once(monkeypatch):
    ticks = iter([0.0, 1.0, 4.0, 10.0, 10.0, 12.0])
    monkeypatch.setattr("ecjax.base.progress.time.perf_counter", lambda: next(ticks))
    seconds = Stopwatch()
    with seconds.of("reconstruct"), seconds.of("kinds"):
        pass
    with seconds.of("reconstruct"):
        pass
    assert seconds.seconds == {"kinds": 3.0, "reconstruct": 9.0}

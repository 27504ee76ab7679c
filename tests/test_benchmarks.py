"""The benchmarks run, judge what they time, and ask what the command line asks."""

import importlib
import shlex
from dataclasses import replace
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax import cli
from ecjax.cli import work
from ecjax.runs import read_json

SHAPES = {"shapes": ((2, 4, 1),), "solved": ((2, 4, 1),)}
SMALL = {**SHAPES, "n_samples": 40, "n_steps": 3, "n_students": 2, "n_vectors": 100, "rounds": 1}


@pytest.fixture
def benchmark_named(monkeypatch):
    """A module of benchmarks/, which stands beside the package and is not installed."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def recovery(benchmark_named, monkeypatch):
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # other tests want what is compiled
    return benchmark_named("recovery")


@pytest.fixture
def small(recovery):
    return recovery.Problem(activation="tanh", d_in=2, width=1, student_width=3, seed=1, n_students=4, n_samples=60)


def test_a_problem_is_that_of_the_command_line(recovery, small, monkeypatch):
    """The command that the table prints for a problem leads to the same teacher, queries, key and settings."""
    asked = {}
    monkeypatch.setattr(work, "_recover", lambda name, command, problem, key, console: asked.update(locals()))
    assert cli.main(shlex.split(small.command)[1:]) == 0
    teacher, x, key = recovery.draw(small)
    problem = asked["problem"]
    jax.tree.map(np.testing.assert_array_equal, (problem.x, problem.teacher), (x, teacher))
    np.testing.assert_array_equal(jr.key_data(asked["key"]), jr.key_data(key))
    wanted = ec.RecoveryConfig.toy(small.student_width, small.n_students)
    assert vars(asked["command"].settings) == vars(wanted)


def test_finished_problems_are_read_and_not_solved_again(recovery, small, tmp_path, monkeypatch, capsys):
    path = tmp_path / "recovery.json"
    (row,) = recovery.solve_all([small], path)
    assert row["recovered_width"] == small.width
    assert row["parameter_error"] < 1e-6
    assert row["cold_seconds"] > 0

    worst = row | {"seed": 2, "parameter_error": float("inf"), "found_by": "elimination"}
    del worst["cold_seconds"]
    monkeypatch.setattr(recovery, "solve", lambda problem, cold: worst)
    both = recovery.solve_all([small, replace(small, seed=2)], path)
    assert both == [row, worst]
    monkeypatch.setattr(recovery, "solve", None)
    assert recovery.solve_all([small, replace(small, seed=2)], path) == both  # infinity survives the file
    assert "seed 2" in capsys.readouterr().out

    header, cells = recovery.rate_table(both, 1e-6)
    rate = dict(zip(header, cells, strict=True))
    assert (rate["seeds"], rate["exact width"], rate["error <= 1e-06"]) == ("2", "2", "1")
    assert len(recovery.toy_table(both)) == 3
    lines = recovery.as_text(recovery.toy_table(both), markdown=True).splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_the_tables_cover_what_they_promise(recovery):
    names = {problem.activation for problem in recovery.activation_problems()}
    assert names <= set(ec.ACTIVATIONS)
    classes = {(s.parity, s.linear, s.constant, s.homogeneous) for s in (ec.ACTIVATIONS[n].symmetry for n in names)}
    others = [a.symmetry for a in ec.ACTIVATIONS.values() if not a.symmetry.polynomial and not a.symmetry.antiperiod]
    assert classes == {(s.parity, s.linear, s.constant, s.homogeneous) for s in others}
    assert len(recovery.toy_problems()) == 30


def test_a_wrong_answer_is_listed_with_its_command(recovery, small, tmp_path, monkeypatch, capsys):
    (row,) = recovery.solve_all([small], tmp_path / "one.json")
    wrong = row | {"parameter_error": float("inf"), "recovered_width": 2}
    monkeypatch.setattr(recovery, "solve", lambda problem, cold: wrong | {"seed": problem.seed, "activation": "elu"})
    monkeypatch.setattr(
        recovery, "activation_problems", lambda names, seeds: [replace(small, activation="elu", seed=3)]
    )
    recovery.main(["--tables", "activations", "--markdown", "--out", str(tmp_path / "two.json")])
    said = capsys.readouterr().out
    assert "not recovered: elu" in said
    assert replace(small, activation="elu", seed=3).command in said


@pytest.mark.parametrize("phase", ["gradient", "hessian", "distances", "linkage", "cut"])
def test_phases_are_timed_and_their_answers_judged(phase, benchmark_named):
    phases = benchmark_named("phases")
    rows = list(phases.run((phase,), phases.Sizes(**SMALL)))
    assert rows[0]["times_slower"] == 1
    for row in rows:
        assert row["seconds"] > 0
        assert row["variant"] in phases.line(row)
        assert row["quality"].get("error", 0) < 1e-12
        if row["variant"] == "agreement":
            assert row["quality"]["missed"] == row["quality"]["twice"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["second-order step", "flow step", "ensemble"])
def test_solvers_are_timed_and_their_losses_told(phase, benchmark_named):
    phases = benchmark_named("phases")
    small = phases.Sizes(**SMALL)
    rows = list(phases.run((phase,), small))
    assert len(rows) >= 2
    for row in rows:
        assert 1 <= row["steps"] <= small.n_steps
        assert all(0 <= loss < 10 for loss in row["quality"].values())


def test_phases_are_written_as_json(benchmark_named, tmp_path, capsys):
    path = tmp_path / "phases.json"
    benchmark_named("phases").main(["--phases", "cut", "--vectors", "100", "--rounds", "1", "--out", str(path)])
    written = read_json(path)
    assert {row["phase"] for row in written["rows"]} == {"cut"}
    assert written["about"]["packages"]["jax"] == jax.__version__
    assert "agreement" in capsys.readouterr().out

"""The benchmarks run, judge what they time, and ask what the command line asks."""

import importlib
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax import cli
from ecjax.cli import recovering
from ecjax.expand import RESULTS, Expansion
from ecjax.network import stack
from ecjax.runs import as_json, read_arrays, read_json, write_json

SHAPES = {"shapes": ((2, 4, 1),), "solved": ((2, 4, 1),), "large": (2, 5, 1), "n_large": 50, "side": 64}
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
    return recovery.Problem(activation="tanh", d_in=2, width=2, student_width=4, seed=1, n_students=4, n_samples=100)


def test_a_problem_is_that_of_the_command_line(recovery, small, monkeypatch):
    """The command that the table prints for a problem leads to the same teacher, queries, key and settings."""
    asked = {}
    monkeypatch.setattr(recovering, "_recover", lambda name, command, problem, key, console: asked.update(locals()))
    assert cli.main(shlex.split(small.command)[1:]) == 0
    teacher, x, key = recovery.draw(small)
    problem = asked["problem"]
    jax.tree.map(np.testing.assert_array_equal, (problem.data.x, problem.teacher), (x, teacher))
    np.testing.assert_array_equal(jr.key_data(asked["key"]), jr.key_data(key))
    wanted = ec.RecoveryConfig.toy(small.student_width, small.n_students)
    assert as_json(asked["command"].settings) == as_json(wanted)


def test_finished_problems_are_read_and_not_solved_again(recovery, small, tmp_path, monkeypatch, capsys):
    path = tmp_path / "recovery.json"
    (row,) = recovery.solve_all([small], path)
    assert row["recovered_width"] == small.width
    assert row["parameter_error"] < 1e-6
    assert row["cold_seconds"] > 0

    worst = row | {"seed": 2, "parameter_error": float("inf"), "found_by": "one student"}
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


DEAR = [pytest.param(phase, marks=pytest.mark.slow) for phase in ("gradient", "hessian")]


@pytest.mark.parametrize("phase", ["distances", "linkage", "cut", *DEAR])
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
@pytest.mark.parametrize("phase", ["second-order step", "parts of a step", "flow step", "ensemble"])
def test_solvers_are_timed_and_their_losses_told(phase, benchmark_named):
    phases = benchmark_named("phases")
    small = phases.Sizes(**SMALL)
    rows = list(phases.run((phase,), small))
    assert len(rows) >= 2
    for row in rows:
        assert 1 <= row["steps"] <= small.n_steps
        assert all(0 <= number < 10 for number in row["quality"].values())


def test_phases_are_written_as_json(benchmark_named, tmp_path, capsys):
    path = tmp_path / "phases.json"
    benchmark_named("phases").main(["--phases", "cut", "--vectors", "100", "--rounds", "1", "--out", str(path)])
    written = read_json(path)
    assert {row["phase"] for row in written["rows"]} == {"cut"}
    assert written["about"]["packages"]["jax"] == jax.__version__
    assert "agreement" in capsys.readouterr().out


# --- the paper's images --------------------------------------------------------------------------------------------


@pytest.fixture
def paper(benchmark_named):
    return benchmark_named("paper_images")


@pytest.mark.slow
def test_training_on_images_goes_on_where_it_was(paper, tmp_path, capsys):
    ask = ["--smoke", "--case", "shallow", "--out"]
    paper.main([*ask, str(tmp_path / "pieces"), "--minutes", "0"])
    first = read_json(tmp_path / "pieces" / "shallow" / "result.json")
    assert (first["epochs"], first["sessions"]) == (2, [])  # one call, too short to tell a rate
    for folder in ("pieces", "whole"):
        paper.main([*ask, str(tmp_path / folder), "--minutes", "5"])
    pieces, whole = (read_arrays(tmp_path / name / "shallow" / "state.safetensors") for name in ("pieces", "whole"))
    assert set(pieces) == set(whole)
    for name, array in pieces.items():
        np.testing.assert_array_equal(array, whole[name])

    result = read_json(tmp_path / "whole" / "shallow" / "result.json")
    assert result["epochs"] == 6
    assert result["student_steps_per_s"] > 0
    assert set(result["clusters"]) == {"preactivation", "euclidean"}
    assert result["loss_quantiles"]["0.0"] <= result["loss_quantiles"]["1.0"] < first["loss_quantiles"]["1.0"]
    lines = (tmp_path / "whole" / "table.md").read_text().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "epoch 6" in capsys.readouterr().out


def test_a_folder_of_other_settings_is_refused(paper, tmp_path):
    (tmp_path / "shallow").mkdir()
    write_json(tmp_path / "shallow" / "case.json", {"student": [7]})
    with pytest.raises(ValueError, match="other settings"):
        paper.main(["--smoke", "--case", "shallow", "--minutes", "1", "--out", str(tmp_path)])


@pytest.mark.slow
def test_deep_students_are_trained_and_clustered(paper, tmp_path):
    paper.main(["--smoke", "--case", "deep", "--minutes", "5", "--out", str(tmp_path)])
    assert read_json(tmp_path / "deep" / "result.json")["clusters"]["preactivation"]["teacher"] == 3


@pytest.mark.slow
def test_clusters_are_matched_with_the_teachers_neurons(paper, key):
    """Students that are the teacher and some neurons more hold all of the teacher's neurons."""
    case = paper.cases(smoke=True)["deep"]
    keys = jr.split(key, 6)
    teacher = ec.random_network((784, 3, 2, 10), "g", key=keys[0])

    def student(key):
        more = ec.random_network((784, 2, 2, 10), "g", key=key).layers[0]
        first, second, last = teacher.layers
        wider = {part: jnp.concatenate([getattr(first, part), getattr(more, part)]) for part in "wb"}
        second = replace(second, w=jnp.pad(second.w, ((0, 0), (0, 2))))
        return ec.Network((replace(first, **wider), second, last))

    students = stack([student(each) for each in keys[1:]])
    ones = jnp.ones(len(keys) - 1)
    result = jax.vmap(lambda known: RESULTS.where(known, RESULTS.stalled, RESULTS.max_steps))(ones > 0)
    expansion = Expansion(students, ones, ones, ones.astype(int), result, "minibatch")
    x = ec.gaussian_queries(300, 784, key=key)
    found = paper.first_layer(case, expansion, teacher, x, "preactivation")
    assert (found["matched"], found["excess"], found["kept"]) == (3, 0, 3)
    assert found["cosine_largest"] < 1e-12


def test_floating_point_operations_of_the_papers_settings(paper):
    """Forward and by weights for every layer, by inputs for all but the first, two operations each."""
    cases = paper.cases()
    assert paper.flops(cases["shallow"], 784, 10) == 2 * 640 * (2 * 784 * 512 + 3 * 512 * 10)
    assert (cases["shallow"].student, cases["deep"].student) == ((512,), (90, 90, 90))
    assert cases["deep"].training.max_epochs == 25_000


def test_an_accelerator_needs_the_core_packages_only():
    doors = ("tyro", "rich", "pooch", "matplotlib", "sklearn", "threadpoolctl")
    modules = "benchmarks.gpu, benchmarks.paper_images, benchmarks.synthetic"
    program = f"import sys, {modules}; print([name for name in {doors} if name in sys.modules])"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr


def test_operations_of_a_step_are_those_of_its_matrices(benchmark_named, key):
    """The Gram matrix as a product, by its compiler's count, and Cholesky's textbook n^3 / 3."""
    students = drawn.students(2, (3, 5, 1), "g", key=key)
    columns = 5 * (3 + 1) + 5 + 1
    basis = jnp.zeros((40, columns))
    gram = jax.jit(lambda basis: basis.T @ basis).lower(basis).compile().cost_analysis()["flops"]
    counted = benchmark_named("gpu").operations(students, 40)
    np.testing.assert_allclose(counted, gram + students.n_parameters**3 / 3, rtol=0.05)


@pytest.mark.slow
def test_problems_of_one_shape_are_recovered_as_a_batch(benchmark_named, tmp_path, capsys):
    benchmark_named("gpu").main(["--smoke", "--out", str(tmp_path / "gpu.json")])
    assert "GFLOP/s in all" in capsys.readouterr().out
    (row,) = read_json(tmp_path / "gpu.json")["shapes"]
    assert row["exact_width"] == row["recovered"] == row["n_problems"] == 2
    assert row["n_students"] == 8
    assert 0 < row["in_step"] <= 1
    assert row["operations_per_second"] > 0


@pytest.mark.slow
def test_scaling_is_reported_with_what_it_leaves_alone(benchmark_named, capsys):
    scaling = benchmark_named("scaling")
    arrangements = {name: scaling.ARRANGEMENTS[name] for name in ("1 device", "8 devices")}
    results = {name: scaling.measure(*arrangement, 3, 2, 1) for name, arrangement in arrangements.items()}
    header, first, eight = scaling.table(results, n_cores=2)
    assert len(header) == len(first) == len(eight)
    assert first[header.index("efficiency")] == "100%"
    assert float(eight[-1]) == 0


ROOT = Path(__file__).parent.parent


def _run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_every_benchmark_is_listed_with_a_line_of_its_own():
    done = _run("benchmarks", "--list")
    assert done.returncode == 0, done.stderr
    listed = dict(line.removeprefix("python -m benchmarks.").split(maxsplit=1) for line in done.stdout.splitlines())
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "argparse" in path.read_text()}
    assert programs - {"__main__"} | {"synthetic"} <= set(listed)
    assert all(len(said) > 20 for said in listed.values())


def test_every_benchmark_runs_as_a_module():
    """All in one process, which imports the library once."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "argparse" in path.read_text())
    program = f"""
import contextlib, io, runpy, sys
for name in {[*names, "synthetic"]}:
    sys.argv = [name, "--help"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_module(f"benchmarks.{{name}}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, (name, end.code)
    assert "usage" in said.getvalue(), name
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_committee_asks_where_it_disagrees_and_learns(benchmark_named, monkeypatch):
    rival = benchmark_named("rival_committee")
    net = drawn.network((4, 3, 2), "tanh", key=jr.key(0))
    row = rival.asked.__globals__["Row"]("4-3-2", 0, (3,), "tanh", 1e-12, 100, 1.0, True)
    monkeypatch.setattr(rival, "asked", lambda *_: row)
    few = rival.Committee(students=3, rounds=2, questions=64, steps=60, last=2, batch=32, moves=5)
    monkeypatch.setattr(rival, "find_spec", lambda name: None)
    *ours, said = rival.beside(net, few, 0)
    assert len(ours) == 2
    assert "PyTorch is not installed" in said
    torch = pytest.importorskip("torch")
    model, seen = ec.to_torch(net).to(torch.float32), []

    def answers(x):
        seen.append(len(x))
        return model(x).detach()

    found = rival.committee(answers, net, few, seed=0)
    assert found.questions == sum(seen) == 128
    assert found.losses == tuple(sorted(found.losses))
    assert found.losses[0] < 0.1
    assert found.network.shape == net.shape

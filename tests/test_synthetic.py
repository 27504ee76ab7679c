"""The 150 synthetic problems: fixed, solved once each whatever happens on the way, and told as they are."""

import hashlib
import importlib
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import drawn
import jax
import numpy as np
import pytest

import ecjax as ec
from ecjax import cli
from ecjax.runs import read_json

ROOT = Path(__file__).parent.parent
pd = pytest.importorskip("pandas", reason="the tidy table is made with pandas; pip install pandas")


@pytest.fixture
def suite(monkeypatch):
    """A module of benchmarks/synthetic, which stands beside the package and is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("NPROC", "1")  # else the command line would set it for good
    return lambda name: importlib.import_module(f"benchmarks.synthetic.{name}")


@pytest.fixture
def row(suite):
    """A planted row: a recovered teacher, or what is asked for."""

    def planted(**changes):
        usual = {
            "method": "ours", "expansion": 4, "d_in": 2, "width": 2, "seed": 0, "recovered_width": 2,
            "parameter_error": 1e-12, "n_students": 2, "n_missing": 0, "n_excess": 0, "certified": True, "error": None,
            "student_losses": [1e-30, 1e-9], "seconds": 2.0, "cpu_seconds": 3.0, "ease": 1e-2, "ease_scaled": 1e-3,
            "n_parameters": 9, "closest_pair": 1.0, "loss": 1e-30,
        }  # fmt: skip
        return usual | changes

    return planted


@pytest.fixture
def no_training(suite, row, monkeypatch):
    """The suite, with trials that are solved at once; the list says which were."""
    solved = []

    def solve(trial):
        solved.append(trial)
        rows = [row(**trial.labels), row(**trial.labels | {"method": "plain"})]
        return {"rows": rows[: 2 if trial.method == "ours" else 1], "about": {}}

    monkeypatch.setattr(suite("run"), "solve", solve)
    return solved


# --- problems ------------------------------------------------------------------------------------------------------

# Of the teachers' weights as float32: what a seed draws, not how the last digit of a double was rounded.
FINGERPRINTS = {(2, 2, 0): "1f100a4d9794a4ef", (32, 8, 9): "d3ed442dda5c3acb"}


@pytest.mark.parametrize(
    ("d_in", "width", "seed"),
    [pytest.param(*each, marks=[pytest.mark.slow] if each[0] == 32 else []) for each in FINGERPRINTS],
)
def test_a_problem_never_changes(d_in, width, seed, suite):
    problems = suite("problems")
    drawn = problems.draw(problems.Problem(d_in=d_in, width=width, seed=seed))
    weights = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(drawn.teacher)])
    assert (
        hashlib.sha256(np.round(weights, 6).astype("<f4").tobytes()).hexdigest()[:16] == FINGERPRINTS[d_in, width, seed]
    )
    assert drawn.x.shape == (max(1000, 10 * drawn.teacher.n_parameters), d_in)
    assert drawn.fresh.shape == (10_000, d_in)
    assert drawn.x.dtype == np.float64
    np.testing.assert_array_equal(drawn.y, ec.respond(drawn.teacher, drawn.x))


def test_there_are_150_problems_and_four_expansions_of_each(suite):
    problems = suite("problems")
    everything = problems.trials()
    assert len(everything) == len({trial.name for trial in everything}) == 600
    assert len({trial.problem for trial in everything}) == 150
    assert {trial.problem.n_students for trial in everything if trial.problem.width == 8} == {10}
    assert {trial.problem.n_students for trial in everything if trial.problem.width < 8} == {20}
    few = problems.trials(["paper"], [4], [2, 8], [4], [0, 5])
    assert {trial.kind for trial in few} == {("paper", 4, 2, 4), ("paper", 4, 8, 4)}
    assert [trial.problem.seed for trial in few] == [0, 5, 0, 5]
    assert few[0].student_width == 16


def test_no_trial_has_fewer_answers_than_a_student_has_weights(suite):
    """Such a trial would be refused by `recover`."""
    problems = suite("problems")
    for d_in, width in itertools.product(problems.D_IN, problems.WIDTHS):
        of_width = lambda width, d_in=d_in: width * (d_in + 2) + 1
        n_queries = max(problems.FEWEST_QUERIES, problems.QUERIES_PER_PARAMETER * of_width(width))
        assert n_queries >= of_width(max(problems.EXPANSIONS) * width)


# --- solving -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(suite, monkeypatch):
    """A trial that is solved in a moment: two neurons, few students, short ways."""
    problems, solving = suite("problems"), suite("solve")
    monkeypatch.setattr(problems.Problem, "n_students", 4)
    usual = solving.settings

    def short(trial):
        found = usual(trial)
        flow = replace(found.expand.flow, max_steps=30)
        refinement = replace(found.expand.descent, max_steps=min(found.expand.descent.max_steps, 120))
        return replace(found, expand=replace(found.expand, flow=flow, descent=refinement))

    monkeypatch.setattr(solving, "settings", short)
    return problems.Trial(method="ours", expansion=2, problem=problems.Problem(d_in=2, width=2, seed=0))


@pytest.mark.slow
def test_plain_clusters_are_those_of_the_same_students(suite, tiny, monkeypatch):
    solving, trained = suite("solve"), []
    monkeypatch.setattr(solving, "recover", lambda *a, **k: trained.append(ec.recover(*a, **k)) or trained[-1])
    ours, plain = solving.solve(tiny)["rows"]
    (recovery,) = trained  # once
    assert (ours["method"], plain["method"]) == ("ours", "plain")
    assert ours["student_losses"] == plain["student_losses"] == np.asarray(recovery.expansion.loss).tolist()
    assert ours["student_steps"] == np.asarray(recovery.expansion.n_steps).tolist()
    assert suite("table").is_recovered(ours)
    assert ours["parameter_error"] < 1e-9
    assert set(ours) >= {"seconds_expand", "seconds_cluster", "ease", "device", "jax", "cpu_seconds", "certified"}


@pytest.mark.slow
def test_the_papers_road_ends_as_the_paper_does(suite, tiny):
    solving = suite("solve")
    (row,) = solving.solve(replace(tiny, method="paper"))["rows"]
    assert row["error"] or row["trained_by"] == "flow_bfgs"
    assert len(row["student_losses"]) == 4
    paper = solving.settings(replace(tiny, method="paper", expansion=1))
    assert (paper.expand.method, paper.cluster.metric, paper.propose) == ("flow_newton", "euclidean", False)


def test_a_failure_is_a_row(suite, tiny, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    solving, table = suite("solve"), suite("table")
    monkeypatch.setattr(solving, "recover", fail)
    rows = solving.solve(tiny)["rows"]
    assert [row["error"] for row in rows] == ["RuntimeError: out of memory"] * 2
    assert not any(map(table.is_recovered, rows))
    assert (rows[0]["n_missing"], rows[0]["student_losses"]) == (2, [])
    assert "2 of" not in table.report(table.tidy(rows))
    assert "1 of ours, expansion 2, failed" in table.report(table.tidy(rows))
    assert "out of memory" in suite("run").line(rows[0])


def test_ease_is_the_smallest_eigenvalue_of_the_information(suite, key):
    teacher = drawn.teacher(3, 2, 1, "g", key=key)
    x = drawn.queries(200, 3, key=key)
    numbers = suite("ease").ease_numbers(teacher, x)
    information = np.asarray(ec.Samples(x, ec.respond(teacher, x)).curvature(teacher, exact=False)) / 2
    in_variances = np.linalg.eigvalsh(information)[0] / np.var(ec.respond(teacher, x))
    np.testing.assert_allclose(numbers["ease"], in_variances, rtol=1e-8)
    scale = 1 / np.sqrt(np.diag(information))
    np.testing.assert_allclose(
        numbers["ease_scaled"], np.linalg.eigvalsh(information * scale[:, None] * scale)[0], rtol=1e-8
    )
    assert numbers["n_parameters"] == teacher.n_parameters
    u, v = np.concatenate([teacher.layers[0].w, teacher.layers[0].b[:, None]], axis=1)
    np.testing.assert_allclose(numbers["closest_pair"], np.linalg.norm(u - v))


# --- a killed run --------------------------------------------------------------------------------------------------


def _trials(suite, n=6):
    return suite("problems").trials(["ours"], [4], [2], [2], range(n))


def _numbers(suite, folder, trials):
    rows = [row for trial in trials for row in suite("folder").load(folder, trial)]
    return suite("table").tidy(rows)


def test_a_killed_run_goes_on_where_it_was(suite, no_training, tmp_path, monkeypatch):
    run, trials = suite("run"), _trials(suite)
    usual = run.solve

    def killed(trial):
        if len(no_training) == 3:
            raise KeyboardInterrupt
        return usual(trial)

    monkeypatch.setattr(run, "solve", killed)
    with pytest.raises(KeyboardInterrupt):
        run.run(trials, tmp_path / "killed", say=lambda _: None)
    assert len(list((tmp_path / "killed").glob("*.json"))) == 3
    monkeypatch.setattr(run, "solve", usual)
    assert run.run(trials, tmp_path / "killed", say=lambda _: None) == []
    assert no_training == trials  # each once
    run.run(trials, tmp_path / "whole", say=lambda _: None)
    killed, whole = (_numbers(suite, tmp_path / name, trials).drop(columns="cold") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(killed, whole)


def test_failures_are_solved_again_only_when_asked(suite, no_training, row, tmp_path):
    run, (trial, *_) = suite("run"), _trials(suite)
    failed = row(**trial.labels, error="RuntimeError: no", parameter_error=float("inf"))
    suite("folder").save(tmp_path, trial, {"rows": [failed], "about": {}})
    run.run([trial], tmp_path, say=lambda _: None)
    assert no_training == []
    run.run([trial], tmp_path, retry=True, say=lambda _: None)
    assert no_training == [trial]
    assert suite("folder").load(tmp_path, trial)[0]["error"] is None


def test_no_trial_is_started_that_would_not_end_in_time(suite, no_training, row, tmp_path):
    """One of the kind took an hour, so that no other is begun; those of quick kinds are."""
    run, folder, problems = suite("run"), suite("folder"), suite("problems")
    slow = problems.trials(["ours"], [4], [8], [4], [0, 1])
    bigger = problems.trials(["ours"], [8], [8], [8], [0])
    quick = problems.trials(["ours"], [4], [2], [2], [0, 1])
    folder.save(tmp_path, slow[0], {"rows": [row(**slow[0].labels, seconds=3600.0)], "about": {}})
    said = []
    left = run.run([*slow, *bigger, *quick], tmp_path, minutes=10, say=said.append)
    assert left == [slow[1], *bigger]  # of the bigger kind nothing is known but that it is bigger
    assert no_training == quick
    assert said[-1].endswith("recovered 2 of 2")
    assert run.run([*slow, *bigger, *quick], tmp_path, minutes=1e4, say=said.append) == []


# --- the command line ----------------------------------------------------------------------------------------------

FEW = "--expansion 4 --d-in 2 8 --width 2 --seeds 0 1 2".split()  # noqa: SIM905


@pytest.fixture
def results(suite, row, tmp_path):
    """Six trials of ours and of plain: one missed by plain, one certified though it is wrong."""
    problems, folder = suite("problems"), suite("folder")
    for trial in problems.trials(["ours"], [4], [2, 8], [2], [0, 1, 2]):
        seed, d_in = trial.problem.seed, trial.problem.d_in
        wrong = {"recovered_width": 3, "n_excess": 1, "parameter_error": float("inf")}
        ours = row(**trial.labels, **(wrong if (d_in, seed) == (8, 2) else {}), ease=10.0 ** -(seed + d_in))
        plain = ours | wrong if seed == 1 else ours
        plain = plain | {"method": "plain", "certified": False if plain["n_excess"] else None}
        folder.save(tmp_path / "results", trial, {"rows": [ours, plain], "about": {}})
    return tmp_path / "results"


def test_the_table_counts_what_was_planted(suite, results, capsys):
    assert suite("commands").main(["--table", "--markdown", "--out", str(results)]) == 0
    said = capsys.readouterr().out
    ours, plain = said.split("### plain")
    assert "| 8      | 2/3     | 2/3 |" in ours
    assert "| all    | 5/6     | 5/6 |" in ours
    assert "| all    | 3/6     | 3/6 |" in plain
    assert "CERTIFIED WRONGLY: ours, expansion 4, inputs 8, width 2, seed 2, width 3, error inf" in said
    assert said.count("CERTIFIED WRONGLY") == 1
    assert "1194 of 1200 trials are not there" in said
    suite("commands").main(["--table", "--d-in", "2", "--seeds", "0", "1", "--out", str(results)])
    assert "all     2/2" in capsys.readouterr().out


def test_the_tidy_table_has_a_row_for_each_method(suite, results, tmp_path):
    file = tmp_path / "problems.csv"
    assert suite("commands").main(["--csv", str(file), "--out", str(results)]) == 0
    table = pd.read_csv(file)
    assert len(table) == 12
    assert table.at_zero_loss.eq(0.5).all()
    assert table.recovered.sum() == 8
    assert table.parameter_error.max() == float("inf")
    assert suite("commands").main(["--csv", str(file), "--zero-loss", "1e-8", "--out", str(results)]) == 0
    assert pd.read_csv(file).at_zero_loss.eq(1).all()
    assert suite("commands").main(["--csv", str(file), "--columns", "width", "ease", "--out", str(results)]) == 0
    assert list(pd.read_csv(file)) == ["width", "ease"]
    assert suite("commands").main(["--csv", str(file), "--columns", "luck", "--out", str(results)]) == 2


def test_the_tidy_table_as_parquet(suite, results, tmp_path):
    pytest.importorskip("pyarrow", reason="pandas writes Parquet with pyarrow; pip install pyarrow")
    assert suite("commands").main(["--parquet", str(tmp_path / "p.parquet"), "--out", str(results)]) == 0
    assert len(pd.read_parquet(tmp_path / "p.parquet")) == 12


def test_ease_foretells_what_was_planted(suite, results, row, capsys):
    assert suite("commands").main(["--ease", "--out", str(results)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (ours,) = [line for line in lines if line[:3] == ["ours", "4", "ease"]]
    assert ours[-1] == "1.00"  # the one that is missed has the smallest ease
    told = suite("ease").ease_table(suite("table").tidy([row(seed=seed, ease=1.0 + seed) for seed in range(3)]))
    assert told[1][-2:] == ["", ""]  # all recovered: nothing to foretell


def test_the_figure_is_drawn(suite, results, tmp_path, row):
    assert suite("commands").main(["--figure", str(tmp_path / "ease.png"), "--out", str(results)]) == 0
    assert (tmp_path / "ease.png").read_bytes()[:4] == b"\x89PNG"
    frame = suite("table").tidy([row(seed=s, expansion=e, ease=10.0**-s) for s in range(10) for e in (1, 4)])
    panels = suite("figure").plot_against_ease(frame, title="ours").axes
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == ["expansion 1", "expansion 4"]
    np.testing.assert_array_equal(panels[1].lines[0].get_ydata(), 1)
    assert suite("commands").main(["--figure", "x.png", "--of", "paper", "--out", str(results)]) == 2


def test_a_folder_without_results_says_what_to_do(suite, tmp_path, capsys):
    assert suite("commands").main(["--table", "--out", str(tmp_path)]) == 2
    assert "run the same command without --table" in capsys.readouterr().err


def test_solving_writes_what_is_left_and_how_to_go_on(suite, no_training, tmp_path, monkeypatch, capsys):
    commands, out = suite("commands"), ["--out", str(tmp_path / "r")]
    assert commands.main([*FEW, *out, "--budget", "0"]) == 0
    said = capsys.readouterr().out
    assert "6 of 6 trials are left; the same command goes on" in said
    assert "ours  expansion 4  inputs 8  width 2: 3" in said
    assert commands.main([*FEW, *out, "--part", "2/2"]) == 0
    assert [(trial.problem.d_in, trial.problem.seed) for trial in no_training] == [(2, 1), (8, 0), (8, 2)]

    def stopped(trial):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite("run"), "solve", stopped)
    assert commands.main([*FEW, *out]) == 130
    assert "3 of 6 trials are safe" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b"])
def test_a_part_is_checked(suite, part, capsys):
    with pytest.raises(SystemExit):
        suite("commands").main(["--part", part])
    assert "the second of three is 2/3" in capsys.readouterr().err


def test_workers_share_the_part_of_a_machine(suite, monkeypatch):
    """Two machines with three workers each: together they have every sixth trial, each once."""
    commands, started = suite("commands"), []

    class Worker:
        def __init__(self, command, env):
            started.append(command[command.index("-m") + 2 :])
            assert env["PYTHONPATH"].startswith(str(ROOT))

        def wait(self):
            return 0

    monkeypatch.setattr(commands.subprocess, "Popen", Worker)
    for machine in ("1/2", "2/2"):
        assert commands.main([*FEW, "--workers", "3", "--part", machine]) == 0
    asked = [commands.parser().parse_args(arguments) for arguments in started]
    assert all(each.workers == 1 for each in asked)
    assert sorted(each.part for each in asked) == [(k, 6) for k in range(1, 7)]


@pytest.mark.slow
def test_jobs_are_processes_of_this_machine_where_there_is_no_cluster(suite, tmp_path):
    """The whole way: submitted, started, its part done before and nothing left to solve."""
    pytest.importorskip("submitit", reason="sweeps over a cluster go through submitit; pip install submitit")
    folder, (trial, *_) = suite("folder"), _trials(suite, 1)
    folder.save(tmp_path / "r", trial, {"rows": [{"error": None}], "about": {}})
    ask = ["--expansion", "4", "--d-in", "2", "--width", "2", "--seeds", "0", "--out", str(tmp_path / "r")]
    sweep = ["--submitit", str(tmp_path / "jobs"), "--cluster", "local", "--jobs", "1", "--job", "timeout_min=5"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.synthetic",
        *ask,
        *sweep,
    ]  # not in here: its log keeps to the stream it found
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "jobs on local" in done.stdout
    logs = "".join(path.read_text() for path in (tmp_path / "jobs").glob("*_log.out"))
    assert "1 trials, 1 of them done before" in logs


@pytest.mark.parametrize(("package", "ask"), [("pandas", "--table"), ("submitit", "--submitit")])
def test_a_package_that_is_not_there_is_named(package, ask, suite, results, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    arguments = [ask] if ask == "--table" else [ask, "jobs"]
    assert suite("commands").main([*arguments, "--out", str(results)]) == 2
    assert f"pip install {package}" in capsys.readouterr().err


# --- the door ------------------------------------------------------------------------------------------------------


def test_the_door_hands_everything_on(suite, results, capsys):
    assert cli.main(["bench", "synthetic", "--table", "--seeds", "0", "--out", str(results)]) == 0
    assert "ours, expansion 4" in capsys.readouterr().out
    assert cli.main(["bench"]) == 2
    assert "ecjax bench synthetic" in " ".join(capsys.readouterr().err.split())


def test_without_the_source_tree_the_door_says_where_it_is(tmp_path):
    program = """
import pathlib, sys
import ecjax.cli
root = pathlib.Path(ecjax.__file__).parents[1]
sys.path[:] = [path for path in sys.path if pathlib.Path(path).resolve() != root]
sys.exit(ecjax.cli.main(["bench", "synthetic"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "source tree" in done.stderr


def test_a_result_file_holds_no_more_than_json(suite, no_training, tmp_path):
    suite("run").run(_trials(suite, 1), tmp_path, say=lambda _: None)
    (file,) = tmp_path.glob("*.json")
    assert file.stem == "ours-expansion4-inputs02-width2-seed00"
    assert set(read_json(file)) == {"rows", "about"}

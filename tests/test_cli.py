"""The command line: what a user types, sees and finds on disk."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import ecjax as ec
from ecjax import runs
from ecjax.cli import main
from ecjax.cli.commands import COMMANDS, Settings
from ecjax.cli.screen import Screen

SMALL = "--d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh".split()  # noqa: SIM905


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One finished toy run."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    assert run("recover", "toy", *SMALL, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    return runs.load_run(folder)


def _same(one, other):
    """Whether two records agree in every number, bit for bit."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(leaves) == len(others)
    for leaf, twin in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(leaf, twin)


# --- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"], ["recover", "--help"]])
def test_help_names_every_command(arguments, capsys):
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"ecjax {name}" in shown for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["recover"], ["recover", "tyo"], ["compere", "a"], ["--gamma", "1"]])
def test_an_unknown_command_is_answered_with_the_known_ones(arguments, capsys):
    assert run(*arguments) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_is_explained(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*name.split(), "--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"ecjax {name}" in shown.split("options")[0]  # an example before the settings
    explained = [field.name for field in dataclasses.fields(COMMANDS[name])]
    assert all(each.replace("_", "-") in shown.replace("_", "-").lower() for each in explained if each not in _GROUPS)


_GROUPS = ("settings", "place")


def test_every_setting_of_the_library_is_reachable():
    set_by_hand = "--gamma 0.5 --beta 0.2 --metric euclidean --policy paper --method flow --flow.rtol 1e-4 "
    set_by_hand += "--adam.n-steps 7 --refine.patience 9 --finetune.max-steps 3 --no-propose --chunk 2 --placement vmap"
    settings = tyro.cli(COMMANDS["recover toy"], args=set_by_hand.split()).settings
    assert isinstance(settings, ec.RecoveryConfig)
    assert (settings.cluster.gamma, settings.cluster.beta, settings.cluster.metric) == (0.5, 0.2, "euclidean")
    assert (settings.cluster.policy, settings.expand.method, settings.expand.flow.rtol) == ("paper", "flow", 1e-4)
    assert (settings.expand.adam.n_steps, settings.expand.refine.patience) == (7, 9)
    assert (settings.finetune.max_steps, settings.propose, settings.expand.chunk) == (3, False, 2)


def test_the_door_starts_from_the_library_presets():
    for name, preset in (("recover toy", ec.RecoveryConfig.toy()), ("recover digits", ec.RecoveryConfig.digits())):
        settings = COMMANDS[name]().settings
        assert runs.as_json(settings) == runs.as_json(preset)
        assert {field.name for field in dataclasses.fields(Settings)} == {f.name for f in dataclasses.fields(preset)}


def test_the_console_script_starts():
    done = subprocess.run([sys.executable, "-m", "ecjax", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "ecjax recover toy" in done.stdout


# --- a run ---------------------------------------------------------------------------------------------------------


def test_the_road_is_float64_and_leaves_jax_as_it_was(folder):
    with jax.enable_x64(False):
        assert run("compare", folder) == 0
        assert not jax.config.read("jax_enable_x64")


def test_the_teacher_is_recovered(finished):
    result = json.loads((finished.folder / "result.json").read_text())
    assert result["widths"] == [2]
    assert result["is_exact"]
    assert result["comparison"]["parameter_error"] < 1e-10
    assert ec.compare(finished.recovery, finished.teacher, finished.x).parameter_error < 1e-10
    (students,) = result["students"]  # of one hidden layer
    assert len(students) == 4
    assert {student["stopped"] for student in students} == set(finished.recovery.expansion.reasons())


def test_the_folder_is_complete(folder):
    assert {path.name for path in folder.rglob("*.png")} >= {"losses-1.png", "dendrogram-1.png", "weights-1.png"}
    assert not list(folder.rglob("*.partial"))
    assert not (folder / "students").exists()
    config = json.loads((folder / "config.json").read_text())
    assert config["command"] == "toy"
    assert config["settings"]["student_width"] == 4
    assert "device" in json.loads((folder / "versions.json").read_text())


def test_a_saved_recovery_is_the_recovery(finished, tmp_path):
    partial = runs.open_run(tmp_path / "copy", finished.config)
    runs.save_recovery(partial, finished.recovery, x=finished.x, y=finished.y)
    again = runs.load_run(runs.close_run(partial))
    _same(again.recovery, finished.recovery)
    assert again.recovery.config == finished.recovery.config
    assert again.recovery.summary() == finished.recovery.summary()
    assert again.recovery.clusterings[0].verdict == finished.recovery.clusterings[0].verdict
    assert again.teacher is None


def test_a_linear_map_beside_the_network_is_saved(finished, tmp_path):
    import equinox as eqx

    linear = ec.Layer(jnp.eye(1, 2), jnp.ones(1))
    recovery = eqx.tree_at(lambda r: r.linear, finished.recovery, linear, is_leaf=lambda leaf: leaf is None)
    partial = runs.open_run(tmp_path / "linear", {})
    runs.save_recovery(partial, recovery, x=finished.x, y=finished.y)
    _same(runs.load_run(runs.close_run(partial)).recovery.linear, linear)


def test_the_summary_says_what_was_found_and_where_it_is(folder, capsys):
    assert run("cut", folder, "--out", folder.with_name("shown"), "--no-figures") == 0
    shown = capsys.readouterr().out
    assert "2 of 2 neurons found, none in excess" in shown
    assert f"run      {folder.with_name('shown')}" in shown
    assert not (folder.with_name("shown") / "figures").exists()


# --- interrupted ---------------------------------------------------------------------------------------------------


def test_ctrl_c_loses_no_student_and_changes_no_bit(folder, finished, tmp_path, monkeypatch, capsys):
    out = tmp_path / "interrupted"

    def impatient(screen, phase, done, total, **info):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "__call__", impatient)
        assert run("recover", "toy", *SMALL, "--out", out, "--no-figures") == 130
    assert "2 of 4 students are safe" in capsys.readouterr().err
    assert not out.exists()
    first = (tmp_path / "interrupted.unfinished" / "students" / "000000.safetensors").stat().st_mtime_ns
    assert run("recover", "toy", *SMALL, "--out", out, "--no-figures") == 0
    assert "2 of 4 students are there" in capsys.readouterr().out
    assert first
    _same(runs.load_run(out).recovery.expansion, finished.recovery.expansion)
    _same(runs.load_run(out).recovery.network, finished.recovery.network)


def test_ctrl_c_before_anything_is_no_traceback(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ecjax.cli.recover_toy", interrupt)
    assert run("recover", "toy") == 130
    assert "interrupted" in capsys.readouterr().err


# --- cut and compare -----------------------------------------------------------------------------------------------


def test_another_cut_trains_no_student(folder, finished, tmp_path):
    out = tmp_path / "cut"
    assert run("cut", folder, "--gamma", 1.0, "--beta", 0.3, "--out", out) == 0
    again = runs.load_run(out)
    _same(again.recovery.expansion, finished.recovery.expansion)
    assert (again.recovery.config.cluster.gamma, again.recovery.config.cluster.beta) == (1.0, 0.3)
    assert ec.compare(again.recovery, again.teacher, again.x).parameter_error < 1e-10
    assert run("cut", out, "--policy", "paper", "--out", tmp_path / "twice", "--no-figures") == 0


def test_a_cut_that_leads_nowhere_leaves_nothing(folder, tmp_path, capsys):
    assert run("cut", folder, "--gamma", 7, "--out", tmp_path / "cut") == 2
    assert "`gamma`" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_networks_in_files_are_compared(folder, capsys):
    network, teacher = folder / "network.safetensors", folder / "teacher.safetensors"
    assert run("compare", network, teacher) == 0
    assert run("compare", folder, teacher) == 0
    assert capsys.readouterr().out.count("largest parameter error") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "{folder}/network.safetensors"], "knows of no teacher"),
        (["compare", "{folder}/nothing"], "neither a run folder nor a file"),
        (["compare", "{folder}/config.json", "{folder}/teacher.safetensors"], "not a readable safetensors file"),
        (["compare", "{folder}/figures"], "no finished run"),
        (["cut", "{folder}/figures"], "no finished run"),
        (["recover", "toy", *SMALL, "--out", "{folder}"], "exists already"),
        (["recover", "toy", *SMALL, "--out", "{folder}/figures"], "no run folder"),
        (["recover", "toy", "--activation", "tanhh"], "tanhh"),
        (["recover", "toy", "--gamma", "1.3"], "`gamma` is a share"),
        (["recover", "toy", "--gamma", "0.1", "--n-students", "3"], "is below 2"),
        (["recover", "toy", "--n-samples", "20", "--out", "{folder}/../few"], "allow_few_samples"),
        (["recover", "data", "{folder}/nothing.npz", "--activation", "tanh"], "there is no file"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_message(folder, arguments, message, capsys):
    assert run(*(str(argument).format(folder=folder) for argument in arguments)) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert "Traceback" not in shown
    assert not (folder.parent / "few.unfinished").exists()


# --- data of the user's own ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_a_file_of_answers_is_enough(finished, tmp_path, suffix):
    path = tmp_path / f"answers.{suffix}"
    x, y = np.asarray(finished.x), np.asarray(finished.y)
    if suffix == "npz":
        np.savez(path, x=x, y=y)
    else:
        np.savetxt(path, np.hstack([x, y]), delimiter=",", header="a,b,y", comments="", fmt="%.17g")
    small = ["--activation", "tanh", "--student-width", "4", "--n-students", "4", "--no-figures"]
    assert run("recover", "data", path, *small, "--out", tmp_path / "run") == 0
    found = runs.load_run(tmp_path / "run")
    assert found.teacher is None
    assert ec.compare(found.recovery, finished.teacher, x).parameter_error < 1e-10


@pytest.mark.slow
def test_the_digits_teacher_is_recovered(tmp_path, capsys):
    assert run("recover", "digits", "--out", tmp_path / "digits") == 0
    found = runs.load_run(tmp_path / "digits")
    comparison = ec.compare(found.recovery, found.teacher, found.x)
    assert (comparison.n_missing, comparison.n_excess) == (0, 0)
    assert max(comparison.layers[0].cosine_in) <= 1e-6
    assert "8 of 8 neurons found, none in excess" in capsys.readouterr().out
    assert (tmp_path / "digits" / "figures" / "weights-1.png").is_file()


# --- progress ------------------------------------------------------------------------------------------------------


def test_progress_shows_students_and_the_range_of_their_losses():
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Screen(console) as screen:
        screen("expand", 0, 3, losses=[])
        screen("expand", 2, 3, losses=[1e-30, np.nan])
        screen._bars.refresh()
        screen("cluster", 1, 1)
    shown = console.file.getvalue()
    assert "2/3" in shown
    assert "loss 1e-30 to 1e-30, 1 failed" in shown

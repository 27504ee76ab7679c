"""`ecjax recover images`: from a teacher's folder to a run, its table and its figures, and on from where it was."""

import dataclasses
import io
import json

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tyro
from rich.console import Console
from test_cli_teach import N, write_mnist

import ecjax as ec
from ecjax import runs
from ecjax.cli import main, recovering
from ecjax.cli.options import Output
from ecjax.cli.progress_bars import ProgressBars
from ecjax.cli.recover_commands import RecoverImages, images_default
from ecjax.cli.run_folder import run_folder
from ecjax.figures import save_figures, saving


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder)
    return folder


def teach(folder, data, *hidden):
    out = ("--out", folder, "--data", data, "--n", N, "--n-steps", 100, "--learning-rate", 3e-3)
    assert run("teach", "mnist", "--hidden", *hidden, "--activation", "tanh", *out) == 0


@pytest.fixture(scope="module")
def teachers(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    teach(folder / "shallow", data, 2)
    return folder


@pytest.fixture(scope="module")
def small():
    """A finished recovery of a toy teacher, in the clothes of which `recovered` brings others."""
    teacher = drawn.teacher(2, 2, key=jr.key(0))
    x = drawn.queries(drawn.N_TOY, 2, key=jr.key(1))
    return ec.recover(x, drawn.answers(teacher, x), activation="tanh", config=drawn.TOY, key=jr.key(2))


@pytest.fixture
def recovered(small, monkeypatch):
    """What `recover` is asked; it answers with one neuron too many."""
    asked = {}

    def recover(data, **given):
        asked.update(given, data=data)
        layers = given["hidden_layers"]
        return dataclasses.replace(
            small,
            network=nearly(asked["teacher"]),
            found_by=small.found_by * layers,
            expansions=small.expansions * layers,
            clusterings=small.clusterings * layers,
        )

    monkeypatch.setattr(recovering, "recover", recover)
    read = recovering.read_teacher

    def read_teacher(*given):
        saved = read(*given)
        asked["teacher"] = jax.tree.map(lambda leaf: leaf.astype(float), saved.network)
        return saved

    monkeypatch.setattr(recovering, "read_teacher", read_teacher)
    return asked


def nearly(teacher):
    """The teacher with weights slightly off and one more neuron in its first layer, to which nothing listens."""
    first, second, *rest = teacher.layers
    spare = drawn.normal(jr.key(0), (1, first.w.shape[1]), first.w.dtype)
    w, b = jnp.concatenate([1.001 * first.w, spare]), jnp.concatenate([first.b, jnp.ones(1)])
    more = dataclasses.replace(second, w=jnp.pad(second.w, ((0, 0), (0, 1))))
    return ec.Network((dataclasses.replace(first, w=w, b=b), more, *rest))


# --- a run ---------------------------------------------------------------------------------------------------------


QUICK = "--student-width 3 --n-students 4 --method minibatch_inexact --minibatch.max-epochs 20 --minibatch.batch 50 "
QUICK += "--minibatch.epochs-per-call 5 --finetune.max-steps 2 --no-propose --allow-few-samples"


@pytest.fixture(scope="module")
def whole(teachers, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert (
        run("recover", "images", "--teacher", teachers / "shallow", *QUICK.split(), "--out", out, "--data", data) == 0
    )
    return runs.load_run(out)


@pytest.mark.slow
def test_a_shallow_teacher_goes_the_whole_road(whole):
    assert whole.x.shape == (N, 784)
    assert whole.x.dtype == jnp.float64
    np.testing.assert_allclose(whole.y, ec.respond(whole.teacher, whole.x), rtol=1e-12)
    assert whole.config["preset"] == "images"
    assert any("do not vary" in each for each in whole.recovery.unidentified)  # the border
    assert (whole.folder / "comparison.json").is_file()
    drawn = {path.name for path in (whole.folder / "figures").iterdir()}
    assert drawn >= {"losses-1.png", "history-1.png", "dendrogram-1.png"}


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_changes_no_bit(whole, teachers, data, tmp_path, monkeypatch, capsys):
    def impatient(screen, phase, done, total, **info):
        if info.get("epoch") == 10:
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    ask = ("recover", "images", "--teacher", teachers / "shallow", *QUICK.split(), "--data", data, "--no-figures")
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBars, "__call__", impatient)
        assert run(*ask) == 130
    assert "10 epochs of 4 students are safe" in capsys.readouterr().err
    assert run(*ask) == 0
    assert "10 epochs of 4 students are there" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    again = runs.load_run(folder)
    for leaf, twin in zip(jax.tree.leaves(whole.recovery), jax.tree.leaves(again.recovery), strict=True):
        np.testing.assert_array_equal(leaf, twin)


@pytest.mark.slow
def test_every_layer_of_a_deep_teacher_is_compared_and_drawn(data, tmp_path, recovered, capsys):
    out, deep = tmp_path / "run", tmp_path / "deep"
    teach(deep, data, 3, 2)
    assert run("recover", "images", "--teacher", deep, "--out", out, "--data", data, "--seed", 4) == 0
    assert recovered["hidden_layers"] == 2
    assert np.array_equal(jr.key_data(recovered["key"]), jr.key_data(jr.key(4)))
    data = recovered["data"]
    np.testing.assert_allclose(data.y, ec.respond(recovered["teacher"], data.x), rtol=1e-12)
    rows = json.loads((out / "comparison.json").read_text())["layers"]
    assert [(row["layer"], row["teacher"], row["recovered"], row["missing"]) for row in rows] == [
        (1, 3, 4, 0),
        (2, 2, 2, 0),
    ]
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert drawn >= {
        f"{name}-{i}.png" for name in ("weights", "losses", "dendrogram", "angles", "similarity") for i in (1, 2)
    }
    shown = capsys.readouterr().out
    assert "layer 1: 3 of 3 neurons found, 1 in excess" in shown
    assert "layer 2: 2 of 2 neurons found, none in excess" in shown
    assert "--n-students" in shown  # what to try
    assert run("cut", out, "--gamma", 0.5) == 2
    assert "2 hidden layers" in capsys.readouterr().err


def test_precision_and_number_of_images_are_as_asked(teachers, data, tmp_path, recovered):
    ask = ("recover", "images", "--teacher", teachers / "shallow", "--data", data, "--no-figures")
    assert run(*ask, "--out", tmp_path / "one", "--n", 50, "--precision", "float32") == 0
    data = recovered["data"]
    assert (data.x.shape, data.x.dtype, data.y.dtype) == ((50, 784), jnp.float32, jnp.float32)
    assert run(*ask, "--out", tmp_path / "two") == 0
    assert (len(recovered["data"].x), recovered["data"].x.dtype) == (N, jnp.float64)


def test_a_bare_network_is_a_teacher_too(teachers, data, tmp_path, recovered):
    path = teachers / "shallow" / "teacher.safetensors"
    ask = ("recover", "images", "--teacher", path, "--dataset", "mnist", "--data", data, "--n", 50, "--no-figures")
    assert run(*ask, "--out", tmp_path / "run") == 0
    assert recovered["teacher"].widths == (2,)


# --- presets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["images", "images-deep", "paper-shallow", "paper-deep"])
@pytest.mark.parametrize("spelling", ["--preset {}", "--preset={}"])
def test_a_preset_is_a_start_that_other_settings_change(preset, spelling, tmp_path):
    arguments = [*spelling.format(preset).split(), "--teacher", "here", "--gamma", "0.7"]
    command = tyro.cli(RecoverImages, args=arguments, default=images_default(arguments))
    assert command.preset == preset
    wanted, got = runs.as_json(ec.PRESETS[preset]()), runs.as_json(command.settings)
    assert got["cluster"].pop("gamma") == 0.7
    del wanted["cluster"]["gamma"]
    assert got == wanted


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit):
        run("recover", "images", "--teacher", "here", "--preset", "papers")
    assert "paper-shallow" in capsys.readouterr().err


# --- what can't be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher", "{tmp}/nowhere"], "ecjax teach"),
        (["--teacher", "{tmp}"], "no teacher.json"),
        (["--teacher", "{teachers}/shallow/teacher.safetensors"], "--dataset"),
        (["--teacher", "{teachers}/shallow", "--dataset", "cifar-10"], "has learned mnist"),
        (["--teacher", "{teachers}/shallow/teacher.safetensors", "--dataset", "cifar-10"], "3072 inputs"),
        (["--teacher", "{teachers}/shallow", "--student-width", "5", "5"], "2 widths for 1 hidden layer:"),
        (["--teacher", "{teachers}/shallow", "--n", "0"], "--n"),
        (["--teacher", "{teachers}/shallow", "--data", "{tmp}/nowhere"], "--data"),
    ],
)
def test_what_cannot_be_used_is_said_and_leaves_nothing(
    arguments, message, teachers, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    there = [each.replace("{tmp}", str(tmp_path)).replace("{teachers}", str(teachers)) for each in arguments]
    assert run("recover", "images", "--data", data, *there) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_hopeless_neurons_of_the_teacher_are_said(teachers, data, tmp_path, recovered, capsys):
    network = ec.load_network(teachers / "shallow" / "teacher.safetensors")
    dead = eqx.tree_at(lambda net: net.layers[0].w, network, network.layers[0].w.at[0].set(0.0))
    ec.save_network(dead, tmp_path / "dead.safetensors")
    ask = ("--teacher", tmp_path / "dead.safetensors", "--dataset", "mnist", "--data", data, "--n", 50, "--no-figures")
    assert run("recover", "images", *ask, "--out", tmp_path / "run") == 0
    assert "the teacher's hidden layer 1: neuron 1 never changed" in " ".join(capsys.readouterr().out.split())


# --- the same command again ----------------------------------------------------------------------------------------

TOY = "--d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh --no-figures".split()  # noqa: SIM905


def _interrupt_after(n, monkeypatch):
    def impatient(screen, phase, done, total, **info):
        if done == n:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBars, "__call__", impatient)


def test_the_same_command_goes_on_without_a_folder_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        assert run("recover", "toy", *TOY) == 130
        assert run("recover", "toy", *TOY, "--seed", 1) == 130
    first, second = sorted((tmp_path / "runs").iterdir(), key=lambda path: (path / "config.json").stat().st_mtime_ns)
    assert "the same command goes on from there" in capsys.readouterr().err
    assert run("recover", "toy", *TOY) == 0
    assert f"going on in runs/{first.name}: 2 of 4 students are there" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(
        [first.name.removesuffix(runs.UNFINISHED), second.name]
    )
    assert run("recover", "toy", *TOY) == 0  # nothing unfinished of this command is left: a new run
    assert "going on" not in capsys.readouterr().out
    assert len(list((tmp_path / "runs").iterdir())) == 3

    assert run("recover", "toy", *TOY, "--out", tmp_path / "whole") == 0
    whole, taken_up = (runs.load_run(path) for path in (tmp_path / "whole", tmp_path / "runs" / first.stem))
    for leaf, twin in zip(jax.tree.leaves(whole.recovery), jax.tree.leaves(taken_up.recovery), strict=True):
        np.testing.assert_array_equal(leaf, twin)
    assert not list(taken_up.folder.glob("in-use"))


def test_other_versions_are_not_taken_up(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        assert run("recover", "toy", *TOY) == 130
    (partial,) = (tmp_path / "runs").iterdir()
    versions = json.loads((partial / "versions.json").read_text())
    versions["packages"]["jax"] = "0.0.1"
    (partial / "versions.json").write_text(json.dumps(versions))
    assert run("recover", "toy", *TOY) == 0
    assert "going on" not in capsys.readouterr().out
    assert partial.exists()


def test_two_at_once_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with run_folder(Output(), "toy", {"a": 1}) as (first, was_there):
        assert not was_there
        with run_folder(Output(), "toy", {"a": 1}) as (second, was_there):
            assert second != first
            assert not was_there
        named = Output(out=first.with_name(first.name.removesuffix(runs.UNFINISHED)))
        with pytest.raises(ValueError, match="another process"), run_folder(named, "toy", {"a": 1}):
            pass
    with run_folder(Output(), "toy", {"a": 1}) as (_, was_there):
        assert was_there
    with run_folder(Output(), "toy", {"a": 2}) as (_, was_there):
        assert not was_there


# --- what is shown -------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_records_say(key):
    x = drawn.queries(200, 3, key=key)
    teacher = drawn.network((3, 4, 2, 1), "tanh", key=key)
    comparison = ec.compare(nearly(teacher), teacher, x)
    rows = comparison.rows()
    for row, layer in zip(rows, comparison.layers, strict=True):
        assert row["recovered"] == row["teacher"] - row["missing"] + row["excess"] == layer.recovered_width
        for name in ("cosine_in", "cosine_in_euclidean", "cosine_out"):
            assert row[f"{name}_mean"] == pytest.approx(np.nanmean(getattr(layer, name)))
            assert row[f"{name}_largest"] == np.nanmax(getattr(layer, name))
    table = comparison.summary().removesuffix(comparison.verdict())
    assert f"{rows[0]['cosine_in_mean']:.0e} {rows[0]['cosine_in_largest']:.0e}" in table
    assert max(map(len, table.splitlines())) <= 80  # columns of a terminal
    assert "layer 1: 4 of 4 neurons found, 1 in excess" in comparison.verdict()


def test_a_layer_with_nothing_found_has_no_distances(key):
    x = drawn.queries(200, 3, key=key)
    teacher, other = (drawn.network((3, 2, 1), "g", key=each) for each in jr.split(key))
    other = eqx.tree_at(lambda net: net.layers[0].w, other, -5 * teacher.layers[0].w)
    comparison = ec.compare(other, teacher, x)
    (row,) = comparison.rows()
    assert (row["missing"], row["excess"], row["cosine_in_mean"]) == (2, 2, None)
    assert "- -" in comparison.summary()
    assert "0 of 2 neurons found, 2 in excess" in comparison.verdict()
    assert "a missing one moves the outputs" in comparison.verdict()


def test_epochs_are_shown():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with ProgressBars(console) as screen:
        screen("reconstruct 2", 10, 12)
        screen("expand 2", 0, 3, losses=[1e-3, 1e-5, np.nan], epoch=12300)
        screen._bars.refresh()
    assert "epoch 12,300, loss 1e-05 to 1e-03" in console.file.getvalue()
    assert "expand 2" in console.file.getvalue()


def test_a_file_gets_a_line_when_a_phase_ends(monkeypatch):
    from ecjax.cli import progress_bars

    console = Console(file=io.StringIO(), width=120)
    with ProgressBars(console) as screen:
        for epoch in (10, 20, 30):
            screen("expand", 0, 2, losses=[1e-3], epoch=epoch)
        screen("cluster", 0, 1)
        screen("cluster", 1, 1)
        monkeypatch.setattr(progress_bars, "_SECONDS_BETWEEN_LINES", -1)
        screen("reconstruct", 1, 3)
        screen("reconstruct", 2, 3)
    assert console.file.getvalue().splitlines() == [
        "expand        0/2  epoch 30, loss 1e-03 to 1e-03",
        "cluster       1/1",
        "reconstruct   1/3",
        "reconstruct   2/3",
    ]


def test_pages_of_images(small, tmp_path, monkeypatch, key):
    monkeypatch.setattr(saving, "_PAGE", 2)
    teacher = drawn.network((12, 5, 2), "tanh", key=key)
    x = drawn.queries(100, 12, key=key)
    recovery = dataclasses.replace(small, network=teacher)
    save_figures(tmp_path, recovery, x, teacher, ec.compare(teacher, teacher, x), image=(3, 2, 2))
    assert {path.name for path in tmp_path.glob("weights*")} == {
        "weights-1.png",
        "weights-1-page2.png",
        "weights-1-page3.png",
    }

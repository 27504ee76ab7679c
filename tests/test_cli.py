"""The command line: what a user types, sees and finds on disk."""

import dataclasses
import io
import json
import subprocess
import sys

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from rich.console import Console

import ecjax as ec
from ecjax import runs
from ecjax.cli import main, recovering
from ecjax.cli.commands import COMMANDS
from ecjax.cli.options import named_activations
from ecjax.cli.progress_bars import ProgressBars
from ecjax.cli.report import report
from ecjax.cli.settings import Settings
from ecjax.expand import METHODS, Adam, LevenbergMarquardt
from ecjax.figures import save_figures
from ecjax.road.choice import Choice

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


@pytest.mark.parametrize("is_exact", [True, False])
def test_who_asks_for_an_exact_answer_is_told_by_the_status(is_exact, finished, tmp_path, monkeypatch, capsys):
    answer = dataclasses.replace(finished.recovery, is_exact=is_exact)
    monkeypatch.setattr(recovering, "recover", lambda *_, **__: answer)
    ask = ("recover", "toy", *SMALL, "--no-figures", "--out")
    assert run(*ask, tmp_path / "asked", "--exact-or-fail") == (0 if is_exact else 1)
    assert ("NOT exact" in capsys.readouterr().out) is not is_exact
    assert runs.load_run(tmp_path / "asked").recovery.is_exact is is_exact
    assert run(*ask, tmp_path / "looked") == 0


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


_GROUPS = ("settings", "output")


def test_every_setting_of_the_library_is_reachable():
    set_by_hand = "--gamma 0.5 --beta 0.2 --metric euclidean --policy paper --method flow --flow.rtol 1e-4 "
    set_by_hand += "--adam.n-steps 7 --descent.patience 9 --narrowing.factor 0.5 --finetune.max-steps 3 "
    set_by_hand += "--rounds None --no-propose --chunk 2 --placement vmap"
    settings = tyro.cli(COMMANDS["recover toy"], args=set_by_hand.split()).settings
    assert isinstance(settings, ec.RecoveryConfig)
    assert (settings.cluster.gamma, settings.cluster.beta, settings.cluster.metric) == (0.5, 0.2, "euclidean")
    assert (settings.cluster.policy, settings.expand.method, settings.expand.flow.rtol) == ("paper", "flow", 1e-4)
    assert (settings.expand.adam.n_steps, settings.expand.descent.patience) == (7, 9)
    assert (settings.finetune.max_steps, settings.propose, settings.expand.chunk) == (3, False, 2)
    assert (settings.expand.narrowing.factor, settings.rounds) == (0.5, None)
    read = lambda options: tyro.cli(COMMANDS["recover toy"], args=options.split()).settings.cluster
    assert (read("--policy count --n-clusters 4").n_clusters, read("--policy height --height 0.1").height) == (4, 0.1)


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_methods_go_by_their_names(method):
    settings = tyro.cli(COMMANDS["recover data"], args=["a.npz", "--activation", "g", "--method", method]).settings
    assert settings.expand.method == method
    assert type(settings.config) is ec.RecoveryConfig
    assert type(settings.config.expand) is ec.ExpandConfig
    assert type(settings.config.cluster) is ec.ClusterConfig
    assert Settings.of(settings.config) == settings


def test_an_unknown_method_is_answered_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        run("recover", "toy", "--method", "sgd")
    said = "".join(each for each in capsys.readouterr().err if each not in "│ \n")
    assert all(name in said for name in METHODS)


def test_hidden_layers_may_have_activations_of_their_own():
    assert [one.name for one in named_activations("tanh", 2)] == ["tanh", "tanh"]
    assert [one.name for one in named_activations("tanh, softplus", 2)] == ["tanh", "softplus"]
    with pytest.raises(ValueError, match="one for each of 3"):
        named_activations("tanh,softplus", 3)


def test_the_door_starts_from_the_library_presets():
    for name, preset in (("recover toy", ec.RecoveryConfig.toy()), ("recover digits", ec.RecoveryConfig.digits())):
        settings = COMMANDS[name]().settings
        assert runs.as_json(settings) == runs.as_json(preset)
        assert {field.name for field in dataclasses.fields(Settings)} == {f.name for f in dataclasses.fields(preset)}


def test_the_console_script_starts():
    done = subprocess.run([sys.executable, "-m", "ecjax", "--help"], capture_output=True, text=True, timeout=300)
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
    assert "comparison" not in result  # it has a file of its own
    comparison = ec.compare(finished.recovery, finished.teacher, finished.x)
    told = json.loads((finished.folder / "comparison.json").read_text())
    assert told["layers"] == comparison.rows()
    assert told["parameter_error"] == comparison.parameter_error < 1e-10
    assert [each["partner"] for each in told["neurons"][0]] == comparison.layers[0].partner.tolist()
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
    runs.save_recovery(partial, finished.recovery, data=finished.data)
    again = runs.load_run(runs.close_run(partial))
    _same(again.recovery, finished.recovery)
    assert again.recovery.config == finished.recovery.config
    assert again.recovery.summary() == finished.recovery.summary()
    assert again.recovery.clusterings[0].verdict == finished.recovery.clusterings[0].verdict
    assert again.recovery.judge == finished.recovery.judge
    _same(again.data, finished.data)
    assert len(again.data.fresh.x) == 10_000
    assert again.teacher is None
    assert not (again.folder / "comparison.json").exists()


def test_what_was_chosen_and_removed_is_saved(finished, tmp_path):
    judge = ec.judge.Judge(eps=1e-16, n_numbers=7, accepted=1e-8, noise=1e-6, excused=1e-3)
    recovery = dataclasses.replace(finished.recovery, chosen=("a width",), removed=("a cluster",), judge=judge)
    again = _written_and_read(recovery, finished.data, tmp_path).recovery
    assert (again.chosen, again.removed, again.judge) == (("a width",), ("a cluster",), judge)


def test_stages_of_ones_own_are_saved_by_name(finished, tmp_path):
    method = (Adam(n_steps=7), LevenbergMarquardt(ec.Stopping(max_steps=3)), HalfAdam(n_steps=2))
    config = ec.RecoveryConfig.toy(4, 4, expand=ec.ExpandConfig(method=method))
    recovery = dataclasses.replace(finished.recovery, config=config)
    with pytest.raises(ValueError, match=r"`stages`.*HalfAdam"):
        _written_and_read(recovery, finished.data, tmp_path)
    assert runs.load_run(tmp_path / "copy", stages=[HalfAdam]).recovery.config == config


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfAdam(Adam):
    share: float = 0.5


def _written_and_read(recovery, data, folder, **given):
    partial = runs.open_run(folder / "copy", {})
    runs.save_recovery(partial, recovery, data=data)
    return runs.load_run(runs.close_run(partial), **given)


def test_activations_of_ones_own_are_given_by_name(finished, tmp_path, key):
    """One for all hidden layers, or one for each; those that ecjax knows need not be given."""
    mine, was = ec.Activation(lambda z: jnp.tanh(2 * z), "odd", name="steep"), finished.recovery
    students = [
        drawn.students(4, shape, activations, key=key)
        for shape, activations in (((2, 4, 4, 1), ("g", mine)), ((2, 4, 1), mine))
    ]
    recovery = dataclasses.replace(
        was,
        network=ec.network.student(students[0], 0),
        expansions=tuple(dataclasses.replace(was.expansion, students=each) for each in students),
        clusterings=was.clusterings * 2,
        found_by=was.found_by * 2,
    )
    with pytest.raises(ValueError, match="your own activation 'steep'"):
        _written_and_read(recovery, finished.data, tmp_path)
    for given in (mine, ["tanh", mine], ("g", mine)):
        again = runs.load_run(tmp_path / "copy", activation=given).recovery
        assert again.network.activations == recovery.network.activations == (ec.ACTIVATIONS["g"], mine)
        assert [each.students.activations for each in again.expansions] == [(ec.ACTIVATIONS["g"], mine), (mine,)]
    with pytest.raises(ValueError, match=r"`activation`.*\['steep'\]"):
        runs.load_run(tmp_path / "copy", activation="tanh")
    with pytest.raises(ValueError, match="one for each of 2"):
        runs.load_run(tmp_path / "copy", activation=[mine])


@pytest.fixture(scope="module")
def mixed(finished):
    """A recovery in the clothes of one whose only hidden layer has two activations."""
    activation = ec.mixture(tanh=2, relu=2)
    key, x = jax.random.key(0), finished.x
    students = drawn.students(4, (2, 4, 1), activation, key=key)
    hidden, clusters = students.layers[0], ec.ClusterConfig(gamma=0.5, beta=1.5)
    clustering = ec.cluster.cluster_layer(
        *(np.asarray(part) for part in (hidden.w, hidden.b)),
        activation=activation,
        counted=np.ones(4, bool),
        inputs=np.asarray(x),
        config=clusters,
    )
    assert len(clustering.groups) == 2
    network = ec.network.student(students, 0)
    expansion = dataclasses.replace(finished.recovery.expansion, students=students)
    parts = lambda recovery: (recovery.network, recovery.expansions, recovery.clusterings)
    return eqx.tree_at(parts, finished.recovery, (network, (expansion,), (clustering,)))


def test_layers_with_several_activations_are_saved_group_by_group(mixed, finished, tmp_path):
    again = _written_and_read(mixed, finished.data, tmp_path).recovery
    _same(again, mixed)
    assert again.network.activations == mixed.network.activations
    (clustering,), (before,) = again.clusterings, mixed.clusterings
    assert type(clustering) is type(before)
    assert clustering.verdict == before.verdict
    rows = runs.read_json(tmp_path / "copy" / "result.json")["clusters"][0]
    assert [row["group"] for row in rows] == [before.group_of(k) for k in range(len(rows))]


def test_each_activation_of_a_layer_has_its_dendrogram(mixed, finished, tmp_path, monkeypatch):
    save_figures(tmp_path, mixed, finished.x)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {
        *(f"{name}-1-group{j}.png" for name in ("dendrogram", "similarity", "angles") for j in (1, 2)),
        "losses-1.png",
        "weights-1.png",
    }
    console = Console(file=io.StringIO(), width=120)
    report(console, mixed, None, tmp_path)
    assert " relu " in console.file.getvalue()


def test_an_activation_of_ones_own_in_a_mixture_is_given_by_name(mixed, finished, tmp_path):
    mine = ec.Activation(lambda z: jnp.tanh(2 * z), "odd", name="steep")

    def dressed(net):
        each = tuple(mine if one.name == "tanh" else one for one in net.hidden[0].activation.each)
        return ec.Network((dataclasses.replace(net.hidden[0], activation=ec.Mixture(each)), net.output))

    expansion = dataclasses.replace(mixed.expansion, students=dressed(mixed.expansion.students))
    recovery = dataclasses.replace(mixed, network=dressed(mixed.network), expansions=(expansion,))
    again = _written_and_read(recovery, finished.data, tmp_path, activation=mine).recovery
    assert again.network.activations == recovery.network.activations
    assert again.expansion.students.activations == expansion.students.activations


@pytest.mark.parametrize("damage", ["another version", "a missing entry", "a missing array"])
def test_runs_that_are_not_readable_are_refused_in_a_sentence(finished, tmp_path, damage):
    folder = _written_and_read(finished.recovery, finished.data, tmp_path).folder
    result, arrays = runs.read_json(folder / "result.json"), runs.read_arrays(folder / "layers.safetensors")
    if damage == "another version":
        del result["format"]
    elif damage == "a missing entry":
        del result["found_by"]
    else:
        del arrays["0.0.label"]
    runs.write_json(folder / "result.json", result)
    runs.write_arrays(folder / "layers.safetensors", arrays)
    with pytest.raises(ValueError, match="another version" if damage == "another version" else "is damaged"):
        runs.load_run(folder)


def test_a_run_in_float64_is_not_rounded_in_silence(folder):
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        runs.load_run(folder)


def test_a_linear_map_beside_the_network_is_saved(finished, tmp_path):
    linear = ec.Layer(jnp.eye(1, 2), jnp.ones(1))
    recovery = dataclasses.replace(finished.recovery, linear=linear)
    _same(_written_and_read(recovery, finished.data, tmp_path).recovery.linear, linear)


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
        patch.setattr(ProgressBars, "__call__", impatient)
        assert run("recover", "toy", *SMALL, "--out", out, "--no-figures") == 130
    assert "2 of 4 students are safe" in capsys.readouterr().err
    assert not out.exists()
    first = (tmp_path / "interrupted.unfinished" / "students" / "student-000000.safetensors").stat().st_mtime_ns
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
    assert "--gamma" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_networks_in_files_are_compared(folder, capsys):
    network, teacher = folder / "network.safetensors", folder / "teacher.safetensors"
    assert run("compare", network, teacher) == 0
    assert run("compare", folder, teacher) == 0
    assert capsys.readouterr().out.count("largest parameter error") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "{folder}/network.safetensors"], "has no teacher beside it"),
        (["compare", "{folder}/nothing"], "neither a run folder nor a file"),
        (["compare", "{folder}/config.json", "{folder}/teacher.safetensors"], "not a readable safetensors file"),
        (["compare", "{folder}/figures"], "no finished run"),
        (["cut", "{folder}/figures"], "no finished run"),
        (["recover", "toy", *SMALL, "--out", "{folder}"], "exists already"),
        (["recover", "toy", *SMALL, "--out", "{folder}/figures"], "no run folder"),
        (["recover", "toy", "--activation", "tanhh"], "tanhh"),
        (["recover", "toy", "--gamma", "1.3"], "--gamma is a share"),
        (["recover", "toy", "--gamma", "0.1", "--n-students", "3"], "is below 2"),
        (["recover", "toy", "--hidden-layers", "0"], "--hidden-layers is how many"),
        (["recover", "toy", "--activation", "tanh,g"], "one for each of 1"),
        (["recover", "digits", "--copies", "-1"], "--copies is 0 or more"),
        (["recover", "digits", "--copy-noise", "0"], "--copy-noise"),
        (
            ["recover", "toy", *SMALL[:4], *SMALL[6:], "--n-samples", "10", "--out", "{folder}/../few"],
            "--allow-few-samples",
        ),
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


@pytest.fixture
def answers(finished, tmp_path):
    np.savez(tmp_path / "answers.npz", x=np.asarray(finished.x), y=np.asarray(finished.y))
    return tmp_path / "answers.npz"


@pytest.fixture
def asked(finished, monkeypatch):
    """What `recover` is asked, without doing it."""
    asked = {}

    def recover(data, **given):
        asked.update(given, data=data)
        return dataclasses.replace(finished.recovery, config=given["config"])

    monkeypatch.setattr(recovering, "recover", recover)
    return asked


def test_settings_are_chosen_from_the_data_and_those_given_come_first(
    answers, asked, finished, tmp_path, monkeypatch, capsys
):
    chosen = ec.RecoveryConfig.digits(7, 5, finetune=ec.Stopping(max_steps=9))

    def chosen_from(data, activations):
        np.testing.assert_array_equal(data.y, finished.y)
        assert activations == (ec.ACTIVATIONS["tanh"],)
        return Choice(chosen, ("one scale for all inputs: they look like pixels",))

    monkeypatch.setattr(recovering, "chosen_from", chosen_from)
    ask = ("recover", "data", answers, "--activation", "tanh", "--no-figures")
    assert run(*ask, "--out", tmp_path / "one") == 0
    assert asked["config"] == chosen
    assert run(*ask, "--out", tmp_path / "two", "--n-students", 6, "--gamma", 0.7, "--finetune.patience", 8) == 0
    assert asked["config"].cluster == dataclasses.replace(chosen.cluster, gamma=0.7)
    assert asked["config"].finetune == ec.Stopping(max_steps=9, patience=8)
    assert (asked["config"].n_students, asked["config"].student_width) == (6, 7)
    shown = capsys.readouterr().out
    assert shown.count("chosen   one scale for all inputs") == shown.count("Chosen: one scale for all inputs") == 2
    assert "Chosen: --n-students, --gamma, --finetune.patience as you say" in shown
    assert runs.load_run(tmp_path / "two").recovery.chosen[0] == "one scale for all inputs: they look like pixels"
    assert runs.load_run(tmp_path / "two").config["settings"]["n_students"] == 6


@pytest.mark.parametrize("preset", ec.PRESETS)
def test_a_preset_takes_the_place_of_the_choice(preset, answers, asked, tmp_path):
    ask = ("recover", "data", answers, "--activation", "tanh", "--preset", preset, "--no-figures")
    assert run(*ask, "--seed", 3, "--out", tmp_path / "run") == 0
    assert asked["config"] == ec.PRESETS[preset]()
    assert runs.load_run(tmp_path / "run").recovery.chosen == ()


def test_noise_is_in_the_answers_that_are_asked_for(asked, finished, tmp_path):
    """Answers of a known teacher get the errors that the settings speak of; answers in a file have theirs."""
    for name, noise in (("plain", ()), ("noisy", ("--noise", 1e-2)), ("again", ("--noise", 1e-2))):
        assert run("recover", "toy", *SMALL, *noise, "--out", tmp_path / name, "--no-figures") == 0
    plain, noisy, again = (runs.load_run(tmp_path / name).data for name in ("plain", "noisy", "again"))
    _same(plain, finished.data)
    _same(noisy, again)
    np.testing.assert_array_equal(noisy.x, plain.x)
    spread = np.std(plain.fresh.y)
    assert np.std(noisy.fresh.y - plain.fresh.y) / spread == pytest.approx(1e-2, rel=0.05)
    assert np.std(noisy.y - plain.y) / spread == pytest.approx(1e-2, rel=0.5)
    assert (noisy.answers.noise, plain.answers.noise) == (1e-2, None)


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
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ProgressBars(console) as screen:
        screen("expand", 0, 3, losses=[])
        screen("expand", 2, 3, losses=[1e-30, np.nan])
        screen._bars.refresh()
        screen("cluster", 1, 1)
        screen("finetune", 0, 1, widths=(16, 12), losses=[3e-6])
        screen._bars.refresh()
    shown = console.file.getvalue()
    assert "2/3" in shown
    assert "loss 1e-30 to 1e-30, 1 failed" in shown
    assert "16-12 neurons, loss 3e-06" in shown

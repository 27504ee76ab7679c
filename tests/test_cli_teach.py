"""Teachers of images: trained, written, read again, and what of them nothing can recover."""

import dataclasses
import gzip
import json

import drawn
import jax.numpy as jnp
import numpy as np
import pytest

import ecjax as ec
from ecjax.cli import main
from ecjax.cli.teach import read_teacher

N = 200


def write_mnist(folder, *, n=N, seed=0):
    """A tiny data set in the files of MNIST: each class lights a patch of its own, pixels of the border never vary."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = draw.integers(0, 120, (n, 16, 16))
    for i, label in enumerate(labels):
        images[i, 6 + label : 10 + label, 6:22] += 100
    (folder / "mnist").mkdir(parents=True)
    for name, array in (("train-images-idx3-ubyte.gz", images), ("train-labels-idx1-ubyte.gz", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / "mnist" / name).write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder)
    return folder


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def taught(data, out, *arguments) -> int:
    return run(
        "teach", "mnist", "--n", N, "--data", data, "--n-steps", 100, "--learning-rate", 3e-3, "--out", out, *arguments
    )


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("teachers") / "small"
    assert taught(data, out, "--hidden", 3, 2, "--activation", "tanh") == 0
    return out


def test_a_second_teacher_of_that_name_waits_for_the_first(data, tmp_path, capsys):
    fcntl = pytest.importorskip("fcntl", reason="files are locked by fcntl")
    (tmp_path / "one.unfinished").mkdir()
    (tmp_path / "one.unfinished" / "config.json").write_text("{}")
    with open(tmp_path / "one.unfinished" / "in-use", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for more in ([], ["--overwrite"]):
            assert taught(data, tmp_path / "one", *more) == 2
            assert "another process is at work" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["one.unfinished"]


def test_a_teacher_says_what_it_is(folder):
    about = json.loads((folder / "teacher.json").read_text())
    assert about["shape"] == [784, 3, 2, 10]
    assert (about["dataset"], about["split"], about["n"], about["seed"]) == ("mnist", "train", N, 0)
    assert about["standardisation"] == {"mean": [0.1307], "std": [0.3081]}
    assert about["accuracy"] > 0.15  # chance is 0.1
    assert about["versions"]["packages"]["ecjax"] == ec.__version__
    teacher = read_teacher(folder)
    assert (teacher.network.shape, teacher.network.activations) == ((784, 3, 2, 10), (ec.ACTIVATIONS["tanh"],) * 2)
    assert (teacher.dataset, teacher.n) == ("mnist", N)
    assert teacher.network.layers[0].w.dtype == jnp.float32


def test_the_seed_decides_and_the_precision_is_as_asked(folder, data, tmp_path):
    for name, extra in {"same": (), "other": ("--seed", 1), "double": ("--precision", "float64")}.items():
        assert taught(data, tmp_path / name, "--hidden", 3, 2, "--activation", "tanh", *extra) == 0
    first, same, other, double = (
        read_teacher(path).network.layers[0].w
        for path in (folder, *map(tmp_path.joinpath, ("same", "other", "double")))
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert double.dtype == jnp.float64


def test_the_default_folder_names_the_teacher(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in ((), ("--seed", 5)):
        assert run("teach", "mnist", "--hidden", 2, "--n", N, "--data", data, "--n-steps", 1, *seed) == 0
    assert sorted(path.name for path in (tmp_path / "teachers").iterdir()) == ["mnist-2-g", "mnist-2-g-seed5"]
    shown = capsys.readouterr().out
    assert "held-out images" in shown
    assert "ecjax recover images --teacher teachers/mnist-2-g\n" in shown


def test_hidden_layers_may_have_activations_of_their_own(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = ("--n", N, "--data", data, "--n-steps", 1, "--activation", "tanh,softplus")
    assert run("teach", "mnist", "--hidden", 3, 2, *ask) == 0
    teacher = read_teacher(tmp_path / "teachers" / "mnist-3-2-tanh-softplus").network
    assert [one.name for one in teacher.activations] == ["tanh", "softplus"]


def test_nothing_is_overwritten_unasked(folder, data, tmp_path, capsys):
    before = (folder / "teacher.safetensors").read_bytes()
    assert taught(data, folder) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "teacher.safetensors").read_bytes() == before
    same = ("--hidden", 3, 2, "--activation", "tanh")
    assert taught(data, tmp_path / "other", *same) == 0
    assert taught(data, tmp_path / "other", *same, "--seed", 1, "--overwrite") == 0
    assert (tmp_path / "other" / "teacher.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "--hidden"),
        (["--hidden"], "--hidden"),
        (["--activation", "tanhh"], "tanhh"),
        (["--activation", "tanh,relu"], "one for each of 1"),
        (["--held-out", "2"], "--held-out"),
        (["--n", "100000"], "--n"),
        (["--data", "{tmp}/nowhere"], "--data"),
    ],
)
def test_what_cannot_be_taught_leaves_nothing(arguments, message, data, tmp_path, capsys):
    there = [each.replace("{tmp}", str(tmp_path)) for each in arguments]
    assert taught(data, tmp_path / "out", *there) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_no_teacher_is_said(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no teacher\.json"):
        read_teacher(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        read_teacher(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="has learned mnist"):
        read_teacher(folder, "cifar-10")
    with pytest.raises(ValueError, match="does not say"):
        read_teacher(folder / "teacher.safetensors")
    with pytest.raises(ValueError, match="3072 inputs"):
        read_teacher(folder / "teacher.safetensors", "cifar-10")
    assert read_teacher(folder / "teacher.safetensors", "fashion-mnist").dataset == "fashion-mnist"


# --- what nothing can recover --------------------------------------------------------------------------------------


def _network(rows, out, activation):
    rows = jnp.asarray(rows)
    first = ec.Layer(rows[:, :-1], rows[:, -1], ec.ACTIVATIONS[activation])
    return ec.Network((first, ec.Layer(jnp.asarray(out), jnp.zeros(len(out)))))


def test_healthy_neurons_are_not_accused(key):
    for name in ("g", "tanh", "relu", "softplus"):
        teacher = drawn.teacher(4, 5, 2, name, key=key)
        assert ec.unrecoverable_neurons(teacher, drawn.queries(500, 4, key=key)) == []


def test_every_hopeless_neuron_is_named(key):
    x = jnp.clip(drawn.queries(500, 2, key=key), -2, 2)
    rows = [[1.0, 0.0, 0.0], [1.0, 1.0, -9.0], [1.0, -1.0, 9.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.3], [0.5, 1.0, 0.0]]
    out = np.ones((1, 6))
    out[0, 5] = 1e-9
    notes = ec.unrecoverable_neurons(_network(rows, out, "relu"), x)
    said = {note.split(": ")[1].split(" ")[1]: note for note in notes}
    assert "dead" in said["2"]
    assert "kink" in said["3"]
    assert "same as another" in said["4"]  # the first one twice as long
    assert "no influence" in said["6"]
    assert len(notes) == 4


def test_layers_and_neurons_count_from_one(key):
    x = drawn.queries(100, 3, key=key)
    deep = drawn.network((3, 4, 4, 2), "tanh", key=key)
    second = dataclasses.replace(deep.layers[1], w=deep.layers[1].w.at[1:3].set(0.0))
    (note,) = ec.unrecoverable_neurons(ec.Network((deep.layers[0], second, deep.layers[2])), x)
    assert note.startswith("hidden layer 2: each of the neurons 2, 3 never changed")

"""`ecjax runs`, `ecjax export`, `--version` and the two lengths of help."""

import csv
import io
import json
import typing

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ecjax as ec
from ecjax import runs
from ecjax.cli import listing, main
from ecjax.cli.commands import Export
from ecjax.network.numbers import as_csv, as_npz, as_text

SMALL = "recover toy --d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh --no-figures"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished run, and others made of it."""
    folder = tmp_path_factory.mktemp("place") / "runs"
    assert main([*SMALL.split(), "--out", str(folder / "good")]) == 0
    for name in ("poor", "doubtful", "stopped", "broken", "waiting.unfinished"):
        (folder / name).mkdir()
        for path in (folder / "good").iterdir():
            (folder / name / path.name).write_bytes(path.read_bytes())
    _change(folder / "poor", is_exact=False, loss=0.1)
    result = runs.read_json(folder / "doubtful" / "result.json")
    _change(folder / "doubtful", certificate={**result["certificate"], "doubts": ["who knows"]})
    (folder / "stopped" / "students").mkdir()
    (folder / "broken" / "result.json").write_text("[1, 2]")
    (folder / "notes").mkdir()
    return folder


def _change(folder, **values):
    result = runs.read_json(folder / "result.json")
    (folder / "result.json").write_text(json.dumps({**result, **values}))


def test_runs_are_listed_with_their_state(folder, capsys):
    wanted = {
        "good": "certified",
        "poor": "not exact",
        "doubtful": "exact",
        "stopped": "stopped by its budget",
        "waiting.unfinished": "unfinished",
    }
    found = {run.folder.name: run for run in runs.states(folder)}
    assert {name: run.state for name, run in found.items() if name != "broken"} == wanted
    assert found["broken"].state.startswith("damaged: ")
    assert (found["good"].shape, found["good"].command) == ("2", "toy")
    assert main(["runs", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*wanted, "broken"))
    assert "notes" not in shown


def test_a_folder_without_runs_is_said(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 2


NET = drawn.network((3, 4, 2), "tanh", key=jax.random.key(0), biases=0.3)


def test_every_number_of_a_csv_comes_back():
    w = [np.zeros(layer.w.shape) for layer in NET.layers]
    b = [np.zeros(layer.b.shape) for layer in NET.layers]
    sources = {name: i for i, name in enumerate(("left", "right", "up"))}
    for row in csv.DictReader(io.StringIO(as_csv(NET, ("left", "right", "up")))):
        layer, neuron, value = int(row["layer"]) - 1, int(row["neuron"]) - 1, float(row["value"])
        assert row["activation"] == ("identity" if layer else "tanh")
        if row["source"] == "bias":
            b[layer][neuron] = value
        else:
            w[layer][neuron, int(row["source"]) - 1 if layer else sources[row["source"]]] = value
    for i, layer in enumerate(NET.layers):
        np.testing.assert_array_equal(w[i], layer.w)
        np.testing.assert_array_equal(b[i], layer.b)


def test_an_npz_is_read_by_numpy_alone():
    with np.load(io.BytesIO(as_npz(NET)), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["w2"], NET.layers[1].w)
        assert file["activation1"].tolist() == ["tanh"] * 4
        assert file["inputs"].tolist() == ["x1", "x2", "x3"]


def test_text_has_a_line_for_each_neuron():
    layer = ec.Layer(jnp.array([[0.5, -2.0]]), jnp.array([1.0]), ec.mixture(g=1))
    text = as_text(ec.Network((layer, ec.Layer(jnp.array([[3.0]]), jnp.array([0.0])))), ("mass", "speed"))
    assert text.splitlines()[1].split() == ["neuron", "activation", "mass", "speed", "bias"]
    assert text.splitlines()[2].split() == ["1", "g", "0.5", "-2", "1"]


def test_a_run_is_exported(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(folder / "good")]) == 0
    assert "hidden layer 1, a line a neuron" in capsys.readouterr().out
    assert main(["export", str(folder / "good"), "--to", "csv"]) == 0
    assert (tmp_path / "good.csv").read_text() == as_csv(ec.load_run(folder / "good").recovery.network)
    assert main(["export", str(folder / "good"), "--to", "csv"]) == 2
    assert "exists already" in " ".join(capsys.readouterr().err.split())
    assert main(["export", str(folder / "good" / "network.safetensors"), "--to", "npz", "--out", "a.npz"]) == 0
    assert np.load(tmp_path / "a.npz")["w1"].shape == (2, 2)
    assert main(["export", str(folder / "good" / "students.safetensors")]) == 2
    assert "a stack of students" in " ".join(capsys.readouterr().err.split())


def test_a_run_is_exported_to_other_libraries_and_replaces_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(typing.get_args(typing.get_type_hints(Export)["to"])) == {*listing.FORMATS, *ec.doors.FORMATS}
    command = ["export", str(folder / "good"), "--to", "torch"]
    assert main([*command, "--out", "net"]) == 0
    assert "written to net.safetensors" in capsys.readouterr().out
    written = runs.read_arrays(tmp_path / "net.safetensors")
    net = ec.load_run(folder / "good").recovery.network
    np.testing.assert_array_equal(written["0.weight"], net.layers[0].w)
    (tmp_path / "net.safetensors").write_bytes(b"mine")
    assert main([*command, "--out", "net"]) == 2
    assert "exists already" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "net.safetensors").read_bytes() == b"mine"
    assert main([*command, "--out", "net", "--overwrite"]) == 0
    assert main([*command]) == 0
    assert set(runs.read_arrays(tmp_path / "good-torch.safetensors")) == set(written)


def test_the_version_is_said(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"ecjax {ec.__version__}"


@pytest.mark.parametrize("name", ["toy", "digits", "data", "images"])
def test_help_comes_in_two_lengths(name, capsys):
    shown = {}
    for length in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as stopped:
            main(["recover", name, length])
        assert not stopped.value.code
        shown[length] = capsys.readouterr().out
    assert all(option in shown["--help"] for option in ("--student-width", "--gamma", "--out", "--budget"))
    assert "--flow.rtol" in shown["--help-all"]
    assert "--flow.rtol" not in shown["--help"]
    assert "flow options" not in shown["--help"]
    assert f"more options, for studies: ecjax recover {name} --help-all" in shown["--help"]
    assert len(shown["--help"].splitlines()) < 120


def test_help_lists_the_activations(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = shown.split("Activations: ")[1].split(".")[0]
    names = {name for name, activation in ec.ACTIVATIONS.items() if not activation.symmetry.polynomial}
    assert {each.strip() for each in listed.replace("\n", " ").split(",")} == names
    assert main(["bench", "--help"]) == 0
    assert "synthetic" in capsys.readouterr().out

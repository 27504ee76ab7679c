"""Runs on disk: nothing is overwritten unasked, nothing is left half written, what is read is what was written."""

import dataclasses
import enum
import json
import math
import os
import re
from pathlib import Path

import drawn
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.figure import Figure

import ecjax as ec
from ecjax import runs
from ecjax.figures.saving import save_picture


def _finished(folder, config):
    return runs.close_run(runs.open_run(folder, config))


# --- the folder ----------------------------------------------------------------------------------------------------


def test_a_folder_has_its_name_only_when_it_is_complete(tmp_path):
    folder = tmp_path / "deep" / "run"
    partial = runs.open_run(folder, {"seed": 1})
    assert not folder.exists()
    assert partial.name == "run.unfinished"
    assert runs.close_run(partial) == folder
    assert runs.read_json(folder / "config.json") == {"seed": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_a_run_is_not_overwritten_unless_asked(tmp_path):
    folder = _finished(tmp_path / "run", {"seed": 1})
    for config in ({"seed": 1}, {"seed": 2}):
        with pytest.raises(ValueError, match=r"`out`.*exists already.*--overwrite"):
            runs.open_run(folder, config)
    partial = runs.open_run(folder, {"seed": 2}, overwrite=True)
    assert runs.read_json(folder / "config.json") == {"seed": 1}  # until the new one is complete
    runs.close_run(partial)
    assert runs.read_json(folder / "config.json") == {"seed": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_unfinished_run_is_taken_up_by_the_same_command_only(tmp_path):
    config = {"seed": 1, "limit": math.inf}
    (runs.open_run(tmp_path / "run", config) / "students").write_text("hours of work")
    assert (runs.open_run(tmp_path / "run", config) / "students").read_text() == "hours of work"
    with pytest.raises(ValueError, match=r"did not finish.*--overwrite"):
        runs.open_run(tmp_path / "run", {"seed": 2})
    assert not (runs.open_run(tmp_path / "run", {"seed": 2}, overwrite=True) / "students").exists()


@pytest.mark.parametrize("damage", ["missing", "another version"])
def test_an_unfinished_run_of_other_packages_is_not_taken_up(tmp_path, damage):
    versions = runs.open_run(tmp_path / "run", {}) / "versions.json"
    if damage == "missing":
        versions.unlink()
    else:
        runs.write_json(versions, {**runs.read_json(versions), "packages": {"ecjax": "0.0.1"}})
    with pytest.raises(ValueError, match="versions"):
        runs.open_run(tmp_path / "run", {})


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "run").mkdir()
    assert _finished(tmp_path / "run", {}) == tmp_path / "run"
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_run_is_never_deleted(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match="no run folder"):
        runs.open_run(tmp_path / "thesis", {}, overwrite=overwrite)
    with pytest.raises(ValueError, match="no run folder"):
        runs.open_run(tmp_path / "thesis" / "chapter.tex", {}, overwrite=overwrite)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_default_names_differ():
    assert len({runs.default_folder("toy") for _ in range(20)}) > 1


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    runs.write_json(path, {"width": 4})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.write_json(path, {"width": 5})
    assert json.loads(path.read_text()) == {"width": 4}


def test_an_interrupted_write_leaves_nothing_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.write_json(tmp_path / "result.json", {})
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"result\.json was not written"):
        runs.write_json(tmp_path / "file" / "result.json", {})


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_that_open_gives(tmp_path, umask, key):
    """A network saved by way of a temporary file was readable by its owner alone."""
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_bytes(b"")
        runs.write_json(tmp_path / "json", {})
        runs.write_arrays(tmp_path / "arrays", {"a": np.zeros(3)})
        ec.save_network(drawn.network((3, 2, 1), "tanh", key=key), tmp_path / "network")
        save_picture(Figure(), tmp_path / "picture")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_one_function_writes_files(tmp_path):
    """Files that appear whole or not at all are written in one place; folders are renamed in another."""
    package = Path(ec.__file__).parent
    renaming = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"os\.(replace|rename)|\.partial|mkstemp|NamedTemporaryFile", path.read_text())
    }
    assert renaming == {"base/files.py", "runs/folder.py"}


numbers = st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none() | st.text()
values = st.recursive(numbers, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(values)
@settings(max_examples=50, deadline=None)
def test_json_is_strict_and_exact(value):
    restored = json.loads(json.dumps(runs.as_json(value), allow_nan=False))
    infinite_as_text = lambda v: str(v) if isinstance(v, float) and math.isinf(v) else v
    if isinstance(value, list | dict):
        assert len(restored) == len(value)
    else:
        assert restored == infinite_as_text(value)


def test_json_knows_records_arrays_and_enums():
    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass(frozen=True)
    class Inner:
        x: object

    record = Inner(
        {"loss": jnp.array([1e-31, jnp.nan, jnp.inf]), "n": np.int64(3), "why": Colour.RED, "in": Inner(None)}
    )
    assert runs.as_json(record) == {
        "x": {"loss": [1e-31, "nan", "inf"], "n": 3, "why": "RED", "in": {"x": None}},
    }


@given(arrays(np.float64, array_shapes(min_dims=0, max_dims=3), elements=st.floats(width=64)), st.booleans())
@settings(max_examples=30, deadline=None)
def test_arrays_come_back_bit_for_bit(tmp_path_factory, array, transposed):
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    array = array.T if transposed else array
    runs.write_arrays(path, {"a": array, "b": jnp.arange(3)})
    back = runs.read_arrays(path)
    np.testing.assert_array_equal(back["a"], array)
    np.testing.assert_array_equal(back["b"], np.arange(3))
    assert back["a"].dtype == array.dtype


@pytest.mark.parametrize("read", [runs.read_json, runs.read_arrays])
def test_unreadable_files_are_named(tmp_path, read):
    with pytest.raises(ValueError, match="missing"):
        read(tmp_path / "missing")
    (tmp_path / "broken").write_bytes(b"{ not this")
    with pytest.raises(ValueError, match="broken"):
        read(tmp_path / "broken")


# --- settings ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    gamma: float = 0.8
    policy: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    width: int
    shape: tuple[int, ...] = (1, 2)
    limit: float = math.inf
    cut: Cut = Cut()
    other: Cut | None = None


@pytest.mark.parametrize(
    "value",
    [Settings(width=3), Settings(width=4, shape=(), limit=-math.inf, cut=Cut(gamma=0.1, policy="inf"), other=Cut())],
)
def test_settings_survive_json(value):
    text = json.dumps(runs.as_json(value), allow_nan=False)
    assert runs.from_json(Settings, json.loads(text)) == value


def test_settings_of_another_version_are_refused():
    with pytest.raises(ValueError, match=r"unknown \['depth'\], missing \['width'\]"):
        runs.from_json(Settings, {"depth": 3})


def test_versions_say_what_made_a_run():
    made = runs.versions()
    assert made["float64"] is True
    assert {"ecjax", "jax", "numpy"} <= set(made["packages"])
    assert made["device"]["count"] >= 1

"""Runs survive kills, full disks, damaged files and a second writer: what is lost is said, the last piece at most."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecjax import runs
from ecjax.cli import main

ROOT = Path(__file__).parent.parent
SMALL = "recover toy --d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 6 --activation tanh --no-figures"


def run(out, *more) -> int:
    return main([*SMALL.split(), "--out", str(out), *more])


def numbers(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.safetensors")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run writes that is left alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder) == 0
    return numbers(folder)


@pytest.fixture
def full_after(monkeypatch):
    """A disk that is full after so many more files."""

    def set_to(n: int) -> None:
        left = [n]

        def fsync(number):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)

    return set_to


def test_a_killed_run_goes_on_and_is_the_same_byte_for_byte(whole, tmp_path):
    arguments = [sys.executable, "-m", "ecjax", *SMALL.split(), "--out", "run"]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    students = tmp_path / "run.unfinished" / "students"
    while process.poll() is None and not list(students.glob("student-*")):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(students.glob("student-*")))
    assert there or (tmp_path / "run").exists()
    assert run(tmp_path / "run") == 0 or there == 0
    assert numbers(tmp_path / "run") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", "deep", "images", "asking"])
def test_kills_at_random_moments_change_no_byte(kind, tmp_path, monkeypatch):
    import random

    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.kills import reference, trial

    alone = reference(kind, tmp_path)
    trials = [trial(kind, tmp_path, number, alone, random.Random(number)) for number in range(3)]
    assert not any(each["differing"] for each in trials)
    assert any(each["kills"] for each in trials)


@pytest.mark.parametrize("n_files", [0, 1, 5, 11, 13])
def test_a_full_disk_is_named_with_the_file_and_loses_one(n_files, whole, tmp_path, full_after, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        full_after(n_files)
        assert run(tmp_path / "run") == 2
        patch.undo()
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert "was not written (No space left on device)" in " ".join(said.split())
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
    assert run(tmp_path / "run") == 0
    assert numbers(tmp_path / "run") == whole


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_student_is_trained_again(damage, whole, tmp_path, full_after, monkeypatch, capsys):
    full_after(7)  # of these config, versions, and what the students are of; so four students are there
    assert run(tmp_path / "run") == 2
    monkeypatch.undo()
    file = tmp_path / "run.unfinished" / "students" / "student-000002.safetensors"
    file.write_bytes(file.read_bytes()[:-8] if damage is None else damage)
    capsys.readouterr()
    assert run(tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert f"{file.name} in" in said
    assert "is damaged: what it held is done again" in said
    assert "3 of 6 students" in said
    assert numbers(tmp_path / "run") == whole


@pytest.mark.parametrize("name", ["config.json", "versions.json"])
def test_a_run_that_does_not_say_what_it_is_of_is_refused_with_a_remedy(
    name, tmp_path, full_after, monkeypatch, capsys
):
    full_after(5)
    assert run(tmp_path / "run") == 2
    monkeypatch.undo()
    (tmp_path / "run.unfinished" / name).write_text("[1, 2]")
    assert run(tmp_path / "run") == 2
    assert "--overwrite to start anew" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_second_writer_is_refused_and_takes_nothing_away(more, whole, tmp_path, capsys):
    import fcntl

    from ecjax.cli.run_folder import _LOCK

    partial = tmp_path / "run.unfinished"
    partial.mkdir()
    runs.write_json(partial / "config.json", {"somebody": "else"})
    with open(partial / _LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(tmp_path / "run", *more) == 2
    assert "another process is at work" in " ".join(capsys.readouterr().err.split())
    assert runs.read_json(partial / "config.json") == {"somebody": "else"}


def test_a_folder_that_may_not_be_written_is_named(tmp_path, capsys, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(tmp_path / "run") == 2
    assert "run.unfinished can't be used (Permission denied)" in " ".join(capsys.readouterr().err.split())


def test_runs_are_compared_but_for_what_they_cost(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.kills import compared

    for name, seconds, loss in (("one", 1.0, 0.5), ("other", 2.0, 0.5), ("third", 1.0, 0.25)):
        (tmp_path / name).mkdir()
        runs.write_json(tmp_path / name / "result.json", {"loss": loss, "probes": [{"questions": seconds}]})
        runs.write_arrays(tmp_path / name / "network.safetensors", {})
    assert compared(tmp_path / "one", tmp_path / "other") == []
    assert compared(tmp_path / "one", tmp_path / "third") == ["result.json"]
    (tmp_path / "other" / "network.safetensors").write_bytes(b"")
    assert compared(tmp_path / "one", tmp_path / "other") == ["network.safetensors"]

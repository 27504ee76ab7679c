"""Runs that are killed at random moments, and whether they end as if they had not been.

    python -m benchmarks.kills                                # 50 kills of each of four kinds: docs/runs.md
    python -m benchmarks.kills --kinds toy asking --kills 5

Each trial starts a command, sends it SIGKILL, gives the same command again until it ends by itself, and compares the
folder with that of a run which was left alone: every file of numbers byte by byte, every other value but what the last
process spent, seconds and questions. Half of the kills come at a moment drawn uniformly between the start of the work
and its end; the others as soon as a file, drawn from all that a run writes, appears or changes, which hits training,
checkpoints, clustering and writing alike. A run that goes on may be killed once more.

toy      one hidden layer, student by student
deep     two hidden layers, the second from what the first became
images   784 pixels, students together on mini-batches, with a state in the place of students; made narrower in rounds
asking   a function that is asked, and a log of its answers
"""

import argparse
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ecjax.data import teacher
from ecjax.runs import UNFINISHED

from .rows import Table, as_text

KINDS = {
    "toy": "recover toy --d-in 3 --width 3 --activation tanh --n-samples 300 --student-width 8 --n-students 10",
    "deep": "recover toy --hidden-layers 2 --d-in 3 --width 2 --activation tanh --n-samples 400 --student-width 5 "
    "--n-students 6 --no-figures",
    "images": "recover images --teacher teacher --data data --student-width 6 --n-students 4 --allow-few-samples "
    "--method minibatch_inexact --minibatch.max-epochs 60 --minibatch.epochs-per-call 2 --gamma 0.5 --no-figures",
    "asking": "recover function benchmarks.kills:asked --fan-in 8 --batch 64",
}
_TEACH = "teach mnist --n 200 --data data --hidden 2 --activation tanh --n-steps 100 --learning-rate 3e-3 --out teacher"
_NUMBERS = (".safetensors", ".npz", ".png")  # files that are the same, byte by byte
_TIMES = ("seconds", "made", "command", "questions")  # may differ in the others: what the last process spent
_MOST_KILLS = 2  # of one trial
_LATEST = 0.9  # of the time and of the files that a run takes; some are quicker


def asked(x: np.ndarray) -> np.ndarray:
    """The teacher of the runs that ask: 8-4-2, tanh; slow, as one that is asked over a wire."""
    teacher._EVERY = 0.2  # seconds between two writes of the log, of which kills shall meet some
    draw = np.random.default_rng(0)
    time.sleep(0.05)
    # Row by row the same sums, whatever else is in the batch: a matrix product would differ in its last bits.
    times = lambda x, w: np.sum(x[:, None, :] * w[None], axis=-1)
    return times(np.tanh(times(x, draw.standard_normal((4, 8))) + 0.3), draw.standard_normal((2, 4)))


def _write_images(folder: Path) -> None:
    """A tiny data set in the files of MNIST: every class lights a patch of its own."""
    draw, labels = np.random.default_rng(0), np.arange(200) % 10
    images = np.zeros((200, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = draw.integers(0, 120, (200, 16, 16))
    for i, label in enumerate(labels):
        images[i, 6 + label : 10 + label, 6:22] += 100
    folder.mkdir(parents=True)
    for name, array in (("train-images-idx3-ubyte.gz", images), ("train-labels-idx1-ubyte.gz", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / name).write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def start(command: str, place: Path, out: str = "") -> subprocess.Popen:
    """A command of ecjax in a folder, in a process of its own."""
    arguments = [sys.executable, "-m", "ecjax", *command.split(), *(["--out", out] if out else [])]
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        arguments, cwd=place, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _whole(command: str, place: Path, out: str = "") -> str:
    """What a command says that is left alone.

    Raises:
        RuntimeError: If it fails.
    """
    process = start(command, place, out)
    said = process.communicate()[0].decode()
    if process.returncode:
        raise RuntimeError(f"ecjax {command} ended with {process.returncode}:\n{said}")
    return said


def _files(folder: Path) -> dict[str, int]:
    """When each file in a folder was written; of a folder that is at work."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                found[os.path.join(root, name)] = os.stat(os.path.join(root, name)).st_mtime_ns
            except FileNotFoundError:  # renamed meanwhile
                continue
    return found


def _changes(process: subprocess.Popen, folder: Path, until: float, n: int | None = None) -> int:
    """Wait until so many files were written, or a time came, or the process ended; how many were."""
    seen, changes = _files(folder), 0
    while process.poll() is None and time.monotonic() < until and (n is None or changes < n):
        now = _files(folder)
        changes += sum(seen.get(name) != written for name, written in now.items())
        seen = now
        time.sleep(0.002)
    return changes


def compared(one: Path, other: Path) -> list[str]:
    """What differs between two runs, but for times."""
    names = {path.relative_to(folder).as_posix() for folder in (one, other) for path in folder.rglob("*.*")}
    return sorted(name for name in names if not _same(one / name, other / name))


def _same(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()):
        return one.is_dir() and other.is_dir()
    if one.suffix in _NUMBERS:
        return one.read_bytes() == other.read_bytes()
    return _timeless(json.loads(one.read_text())) == _timeless(json.loads(other.read_text()))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if name not in _TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def trial(kind: str, place: Path, number: int, whole: dict[str, float], rng: random.Random) -> dict[str, Any]:
    """Kill a run once or twice, let it end, and compare it with the one that was left alone."""
    out, times, moments = f"{kind}-{number}", 0, []
    partial = place / (out + UNFINISHED)
    for _ in range(rng.randint(1, _MOST_KILLS)):
        process, begun = start(KINDS[kind], place, out), time.monotonic()
        if rng.random() < 0.5:
            at = rng.uniform(whole["begins"], _LATEST * whole["ends"])
            _changes(process, partial, begun + at)
            moment = f"{at:.1f} s"
        else:
            n = rng.randint(1, max(1, int(_LATEST * whole["changes"])))
            _changes(process, partial, begun + 10 * whole["ends"], n)
            moment = f"file {n}"
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            times += 1
            moments.append(moment)
        process.communicate()
        if (place / out).exists():  # too late: it had ended
            break
    said = "" if (place / out).exists() else _whole(KINDS[kind], place, out)
    differing = compared(place / f"{kind}-whole", place / out)
    return {
        "kind": kind, "kills": times, "at": moments, "went_on": "going on" in said, "differing": differing
    }  # fmt: skip


def reference(kind: str, place: Path) -> dict[str, float]:
    """A run that is left alone: when its folder appears, when it ends, and how many files it writes."""
    out = f"{kind}-whole"
    if kind == "images" and not (place / "teacher").exists():
        _write_images(place / "data" / "mnist")
        _whole(_TEACH, place)
    _whole(KINDS[kind], place, f"{kind}-warm")  # compiles for all that follow, where programs are kept
    process, begun = start(KINDS[kind], place, out), time.monotonic()
    partial = place / (out + UNFINISHED)
    while not partial.exists() and process.poll() is None:
        time.sleep(0.002)
    begins = time.monotonic() - begun
    changes = _changes(process, partial, np.inf)
    said = process.communicate()[0].decode()
    if process.returncode:
        raise RuntimeError(said)
    return {"begins": begins, "ends": time.monotonic() - begun, "changes": max(1, changes)}


def table(trials: list[dict[str, Any]], whole: dict[str, dict[str, float]]) -> Table:
    """How many runs of each kind were killed, went on, and ended as if they had not been."""
    out = [["kind", "seconds, left alone", "runs killed", "kills", "went on from a student or state", "bit-identical"]]
    for kind, its in whole.items():
        rows = [each for each in trials if each["kind"] == kind and each["kills"]]
        same = sum(not each["differing"] for each in rows)
        cells = len(rows), sum(each["kills"] for each in rows), sum(each["went_on"] for each in rows)
        out.append([kind, f"{its['ends']:.1f}", *map(str, cells), f"{same} of {len(rows)}"])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--kills", type=int, default=50, help="of each kind, at least; 50")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", type=Path, help="a folder to work in; by default one that is taken away afterwards")
    asked_for = parser.parse_args()
    rng = random.Random(asked_for.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = asked_for.place or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        trials, whole = [], {}
        for kind in asked_for.kinds:
            whole[kind], number, kills = reference(kind, place), 0, 0
            while kills < asked_for.kills:
                trials.append(trial(kind, place, number, whole[kind], rng))
                number, kills = number + 1, kills + trials[-1]["kills"]
                print(trials[-1], flush=True)
        print(as_text(table(trials, whole), markdown=True))
    if any(each["differing"] for each in trials):
        raise SystemExit("some runs did not end as if they had not been killed")


if __name__ == "__main__":
    main()

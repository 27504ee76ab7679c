"""In which state the runs of a folder are, read from their small files alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.files import read_object
from .folder import UNFINISHED, is_stopped


@dataclass(frozen=True)
class State:
    """What there is to say of a run in a line.

    Attributes:
        folder: Of the run.
        state: "certified", "exact", "not exact", "stopped by its budget", "unfinished", "finished" (of commands that
            recover nothing), or "damaged: ..." with the reason.
        command: What was run.
        made: When it was begun, in UTC.
        shape: Of the recovered network; empty if there is none.
        loss: Of it, in units of the targets' variance; None if there is none.
    """

    folder: Path
    state: str
    command: str = ""
    made: str = ""
    shape: str = ""
    loss: float | None = None


def states(folder: str | os.PathLike) -> tuple[State, ...]:
    """Every run in a folder, the last begun first; other things in it are passed over.

    Raises:
        ValueError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"`folder`: there is no folder {folder}. Runs are written to runs/ unless --out says otherwise."
        )
    return tuple(sorted(_states(folder), key=lambda run: (run.made, str(run.folder)), reverse=True))


def _states(folder: Path) -> Iterator[State]:
    for path in folder.iterdir():
        if path.is_dir() and (path / "config.json").exists():
            try:
                yield _state(path)
            except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
                yield State(path, "damaged: " + str(error).split("\n")[0])


def _state(path: Path) -> State:
    config, versions = read_object(path / "config.json"), read_object(path / "versions.json")
    told = str(config.get("command", "")), str(versions.get("made", ""))[:16].replace("T", " ")
    if path.name.endswith(UNFINISHED):
        return State(path, "unfinished", *told)
    if not (path / "result.json").exists():  # teachers and flows
        return State(path, "finished", *told)
    result = read_object(path / "result.json")
    shape = "-".join(str(int(width)) for width in result["widths"])
    return State(path, _verdict(path, result), *told, shape=shape, loss=float(result["loss"]))


def _verdict(path: Path, result: dict[str, Any]) -> str:
    if is_stopped(path):
        return "stopped by its budget"
    if not result["is_exact"]:
        return "not exact"
    return "exact" if result["certificate"]["doubts"] else "certified"

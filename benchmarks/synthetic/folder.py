"""The results folder: a small JSON file for every finished trial, whole or not there at all.

Files of different trials do not touch each other, so that several processes and several machines can write to one
folder, and a killed run goes on where it was.
"""

from pathlib import Path
from typing import Any

from ecjax.runs import read_json, write_json

from ..rows import from_file
from .problems import Trial


def save(folder: Path, trial: Trial, solved: dict[str, Any]) -> None:
    """Write what `solve` made of a trial."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{trial.name}.json", solved)


def load(folder: Path, trial: Trial) -> list[dict[str, Any]] | None:
    """The rows of a trial, None if it is not finished."""
    path = folder / f"{trial.name}.json"
    return from_file(read_json(path)["rows"]) if path.is_file() else None


def pending(folder: Path, trials: list[Trial], *, retry: bool = False) -> list[Trial]:
    """The trials that are still to be solved; `retry` adds those whose own method failed with an error."""
    todo = []
    for trial in trials:
        rows = load(folder, trial)
        if rows is None or (retry and rows[0]["error"]):
            todo.append(trial)
    return todo

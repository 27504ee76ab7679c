"""The folder in which a command works: a new one, or that of a run which was interrupted or ended by its budget."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..runs import UNFINISHED, close_run, default_folder, is_stopped, open_run
from .options import Output

_LOCK = "in-use"


@contextmanager
def run_folder(output: Output, name: str, description: Mapping[str, Any]) -> Iterator[tuple[Path, bool]]:
    """The unfinished folder to write into, and whether it is that of a run which goes on.

    Without a folder asked for, it is the last one in runs/ that the same command left unfinished, then the last that
    its budget ended, or else a new one.

    Args:
        output: What the user asked for.
        name: Of the command; default folders start with it.
        description: Everything that decides the result. Only a run of the same description is taken up.

    Raises:
        ValueError: If the folder asked for holds something else, or another process works in it.
    """
    for folder in _candidates(output, name, description):
        goes_on = (_unfinished(folder).exists() or is_stopped(folder)) and not output.overwrite
        partial = open_run(folder, description, overwrite=output.overwrite)
        lock = _lock(partial)
        if lock is not None:
            break
    else:
        raise ValueError(f"`out`: another process is at work in {output.out}{UNFINISHED}; wait for it or stop it.")
    try:
        yield partial, goes_on
    finally:
        os.close(lock)


def finish(partial: Path) -> Path:
    """Give a complete run its final name, and return it."""
    (partial / _LOCK).unlink()
    return close_run(partial)


def _candidates(output: Output, name: str, description: Mapping[str, Any]) -> Iterator[Path]:
    if output.out is not None:
        yield output.out
        return
    there = [] if output.overwrite else sorted(Path("runs").glob(f"{name}-*"), reverse=True)
    unfinished = [each for each in there if each.suffix == UNFINISHED and (each / "config.json").is_file()]
    folders = [each.with_name(each.name.removesuffix(UNFINISHED)) for each in unfinished]
    for folder in [*(each for each in folders if not each.exists()), *filter(is_stopped, there)]:
        try:
            open_run(folder, description)
        except ValueError:  # other settings, data or versions
            continue
        yield folder
    yield default_folder(name)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(folder.name + UNFINISHED)


def _lock(partial: Path) -> int | None:
    """A lock that ends with this process, however it ends, or None if another one has it."""
    file = os.open(partial / _LOCK, os.O_CREAT | os.O_RDWR)
    try:
        import fcntl
    except ImportError:  # Windows refuses to replace files that another process has open, which is protection enough
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file

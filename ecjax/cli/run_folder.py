"""The folder in which a command works: a new one, or that of a run which was interrupted or ended by its budget."""

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..runs import UNFINISHED, close_run, default_folder, is_bare, is_stopped, open_run, unfinished
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
        if _is_in_use(unfinished(folder)):  # which --overwrite would take away from under its writer
            continue
        made = _missing(folder)
        goes_on = (unfinished(folder).exists() or is_stopped(folder)) and not output.overwrite
        partial = open_run(folder, description, overwrite=output.overwrite)
        lock = _lock(partial)
        if lock is not None:
            break
    else:
        raise ValueError(f"`out`: another process is at work in {output.out}{UNFINISHED}; wait for it or stop it.")
    try:
        yield partial, goes_on
    except Exception:
        if not goes_on and is_bare(partial):
            shutil.rmtree(partial)  # refused before anything was done: there is nothing to go on with
            for above in made:
                with suppress(OSError):
                    above.rmdir()
        raise
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


def _missing(folder: Path) -> list[Path]:
    """The folders above it that are not there yet, the innermost first."""
    return list(itertools.takewhile(lambda above: not above.exists(), folder.parents))


def _is_in_use(partial: Path) -> bool:
    if not (partial / _LOCK).is_file():
        return False
    lock = _lock(partial)
    if lock is not None:
        os.close(lock)
    return lock is None


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

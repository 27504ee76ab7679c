"""The folder of a run: it has its name only when it has an answer, and is never overwritten unasked.

A run that its budget ended has an answer, and its students beside it, so that it can go on.
"""

import os
import platform
import shutil
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from ..base.files import read_object
from ..expand.store import ORIGIN
from .as_json import as_json, write_json

UNFINISHED, STUDENTS = ".unfinished", "students"
_PACKAGES = ("ecjax", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "optax", "numpy", "scipy")


def default_folder(name: str) -> Path:
    """A folder name that no other run has: `runs/<name>-<date>-<short id>`."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def open_run(folder: str | os.PathLike, config: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Make the folder in which an unfinished run is written, or find it again, and return it.

    A run that was interrupted, or ended by its budget, is taken up where it was, provided that it was started with the
    same `config` by the same packages on the same kind of device.

    Args:
        folder: Where the finished run shall be.
        config: Everything that decides the result; written as config.json.
        overwrite: Whether a run that is already there may be replaced; it stays until the new one is complete.

    Raises:
        ValueError: If there is something at `folder` that is not a run, or another run and `overwrite` is not set.
    """
    folder = Path(folder)
    partial = unfinished(folder)
    for there in (folder, partial):
        if there.exists() and not (there / "config.json").is_file() and not _is_empty(there):
            raise ValueError(f"`out`: {there} exists and is no run folder; choose another name.")
    if not overwrite:
        if is_stopped(folder) and not partial.exists() and _is_of(folder, config):
            os.replace(folder, partial)
        if folder.exists() and not _is_empty(folder):
            raise ValueError(f"`out`: {folder} exists already; choose another name, or pass --overwrite to replace it.")
        if partial.exists() and not _is_empty(partial):
            if _is_of(partial, config):
                return partial
            raise ValueError(
                f"`out`: {partial} holds a run that did not finish and had other settings, data or versions, or "
                "is damaged; choose another name, or pass --overwrite to start anew."
            )
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        write_json(partial / "versions.json", versions())
        write_json(partial / "config.json", config)  # the last: what has none has not begun
    except OSError:
        shutil.rmtree(partial)
        raise
    return partial


def close_run(partial: Path) -> Path:
    """Give a complete run its final name, replacing an older run of that name, and return it."""
    folder = partial.with_name(partial.name.removesuffix(UNFINISHED))
    if folder.exists():
        replaced = folder.with_name(f"{folder.name}.replaced-{uuid.uuid4().hex[:4]}")
        os.replace(folder, replaced)
        os.replace(partial, folder)
        shutil.rmtree(replaced)
    else:
        os.replace(partial, folder)
    return folder


def is_stopped(folder: Path) -> bool:
    """Whether there is a run with an answer that goes on when it is given more time."""
    return (folder / STUDENTS).is_dir() and not folder.name.endswith(UNFINISHED)


def is_bare(partial: Path) -> bool:
    """Whether there is nothing in an unfinished folder but what every run begins with: nothing to go on with."""
    begun = {"config.json", "versions.json", f"{ORIGIN}.json"}
    names = {path.name.removesuffix(".partial") for path in partial.rglob("*.*")}
    return partial.is_dir() and names <= begun


def unfinished(folder: Path) -> Path:
    """The folder beside it in which a run is written.

    Raises:
        ValueError: If a folder beside it can't have a name like it.
    """
    if folder.name in ("", ".."):
        raise ValueError(f"`out`: {folder} has no name of its own; name a folder in it, as {folder / 'my-run'}.")
    return folder.with_name(folder.name + UNFINISHED)


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder, or what a run has written that was killed before it had begun."""
    before = {"versions.json", "versions.json.partial", "config.json.partial"}
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= before


def _is_of(there: Path, config: Mapping[str, Any]) -> bool:
    """Whether a run was started like this, by the same packages on the same kind of device; a damaged one was not."""
    try:
        return read_object(there / "config.json") == as_json(config) and _same_makers(there)
    except ValueError:
        return False


def _same_makers(partial: Path) -> bool:
    if not (partial / "versions.json").is_file():
        return False
    then, now = read_object(partial / "versions.json"), as_json(versions())
    for made in (then, now):
        device = made.get("device")
        if isinstance(device, dict):
            device.pop("count", None)  # how many share the work has no influence on the result
    return all(then.get(name) == now[name] for name in ("packages", "python", "device", "float64"))


def versions() -> dict[str, Any]:
    """Packages, Python, device and time: with what a run was made."""
    device = jax.devices()[0]
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "float64": bool(jax.config.read("jax_enable_x64")),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }

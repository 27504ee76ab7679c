"""Files that appear whole or not at all, as JSON and safetensors: reading them can execute nothing."""

import dataclasses
import enum
import json
import math
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a record, dataclass or plain value as JSON; the file appears whole or not at all."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(as_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    os.replace(partial, path)


def read_json(path: str | os.PathLike) -> Any:
    """Read what `write_json` wrote.

    Raises:
        ValueError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror}); is its folder a finished ecjax run?") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}).") from error


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as safetensors; the file appears whole or not at all."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    # safetensors writes an array's buffer: a strided view would come back scrambled. 0-d arrays become 1-d on the way.
    whole = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    partial.write_bytes(save(whole))  # save_file would make a file that nobody else may read
    os.replace(partial, path)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote.

    Raises:
        ValueError: If the file is missing or is not safetensors.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}).") from error


# --- records as JSON -----------------------------------------------------------------------------------------------


def as_json(value: Any) -> Any:
    """The value in JSON's own types; numbers that JSON lacks become "nan", "inf" and "-inf"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return as_json(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def from_json(kind: type, value: Any) -> Any:
    """A dataclass of settings, nested ones included, from what `as_json` made of it.

    Raises:
        ValueError: If a setting is missing, or one is there that this version of ecjax does not know.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(set(value) - set(fields))
    missing = sorted(
        name
        for name, field in fields.items()
        if name not in value and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    if unknown or missing:
        raise ValueError(f"These settings are not those of {kind.__name__}: unknown {unknown}, missing {missing}.")
    hints = typing.get_type_hints(kind)
    return kind(**{name: from_value(hints[name], inner) for name, inner in value.items()})


def from_value(hint: Any, value: Any) -> Any:
    """A value as its annotation wants it: dataclasses, tuples and infinite numbers are made again."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for kind in kinds:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return from_json(kind, value)
        if (kind is tuple or typing.get_origin(kind) is tuple) and isinstance(value, list):
            return tuple(value)
        if kind is float and value in ("nan", "inf", "-inf"):
            return float(value)
    return value

"""Records as JSON and back: settings, results, anything made of dataclasses, arrays and plain values."""

import dataclasses
import enum
import math
import os
import types
import typing
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ..base.checks import as_kind
from ..base.files import write_json_text


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a record, dataclass or plain value as JSON; the file appears whole or not at all."""
    write_json_text(path, as_json(value))


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
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)  # and no address in memory
    return str(value)


def from_json(kind: type, value: Any) -> Any:
    """A dataclass of settings, nested ones included, from what `as_json` made of it.

    Raises:
        ValueError: If a setting is missing, or one is there that this version of ecjax does not know.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"These are no settings of {kind.__name__}: {value!r}.")
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
    return kind(**{name: from_value(hints[name], inner, name) for name, inner in value.items()})


def from_value(hint: Any, value: Any, name: str = "value") -> Any:
    """A value as its annotation wants it: dataclasses, tuples and infinite numbers are made again.

    Raises:
        ValueError: If it is of another kind; `name` says of which.
    """
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for kind in kinds:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return from_json(kind, value)
        if (kind is tuple or typing.get_origin(kind) is tuple) and isinstance(value, list):
            value = tuple(value)
        if kind is float and value in ("nan", "inf", "-inf"):
            return float(value)
    return as_kind(value, hint, name)

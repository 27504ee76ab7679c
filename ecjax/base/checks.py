"""What comes in by name: settings are of their annotations' kinds and within their ranges, keys are keys.

Numbers of NumPy are made Python's own, so that settings stay hashable and compare equal whatever library counted them.
"""

import dataclasses
import functools
import math
import types
import typing
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", type(None): "None"}
_REFUSED = object()  # a value that is not of a kind; None is one of the values


def check_settings(
    record: Any,
    *,
    above_0: tuple[str, ...] = (),
    from_0: tuple[str, ...] = (),
    from_1: tuple[str, ...] = (),
    finite: tuple[str, ...] = (),
    infinite: tuple[str, ...] = (),
    elsewhere: tuple[str, ...] = (),
    within: str = "",
) -> None:
    """Refuse settings of another kind than their annotations, or out of range; to be called in `__post_init__`.

    Args:
        record: A frozen dataclass. Numbers of NumPy in it are replaced by Python's, lists by tuples.
        above_0: Settings that are finite and above 0, or None where the annotation allows it.
        from_0: Those that are finite and 0 or above, likewise.
        from_1: Those that are finite and at least 1, likewise.
        finite: Those that are finite, likewise.
        infinite: Those of them that may be infinite, too.
        elsewhere: Those that somebody else looks at, who says more.
        within: What stands before their names in messages, as "answers.".

    Raises:
        ValueError: Naming the setting, what came and what was wanted.
    """
    for name, hint in _hints(type(record)).items():
        if name not in elsewhere:
            object.__setattr__(record, name, as_kind(getattr(record, name), hint, within + name))
    ranges = (
        (above_0, math.ulp(0.0), "above 0"),
        (from_0, 0, "0 or above"),
        (from_1, 1, "at least 1"),
        (finite, -math.inf, "a number"),
    )
    for names, low, words in ranges:
        for name in names:
            value = getattr(record, name)
            if value is None or (value >= low and (math.isfinite(value) or name in infinite)):
                continue
            bounded = "" if name in infinite or isinstance(value, int) else " and finite"
            raise ValueError(f"`{within}{name}` is {words}{bounded}; got {value}.")


def as_kind(value: Any, hint: Any, name: str) -> Any:
    """A value as its annotation wants it; annotations of other than plain numbers and words pass everything.

    Raises:
        ValueError: Naming the value, what came and what was wanted.
    """
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if len(kinds) == 1 and typing.get_origin(hint) is typing.Literal:
        return value  # of a name, whoever knows the names says more
    for kind in kinds:
        made = _made(value, kind)
        if made is not _REFUSED:
            return made
    words = " or ".join(dict.fromkeys(map(_in_words, kinds)))
    raise ValueError(f"`{name}` is {words}; got {_short(value)}.")


def whole_number(value: Any, name: str, *, low: int = 1) -> int:
    """A number of things, which is whole and not below `low`.

    Raises:
        ValueError: Naming the number, what came and what was wanted.
    """
    number = as_kind(value, int, name)
    if number < low:
        raise ValueError(f"`{name}` is at least {low}; got {number}.")
    return number


def check_key(key: Any) -> None:
    """Refuse what is no random key of JAX's.

    Raises:
        ValueError: Saying how a key is made.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    is_raw = isinstance(key, jax.Array) and dtype == np.uint32 and shape == (2,)
    if is_raw or (is_typed and shape == ()):
        return
    got = f"keys of shape {shape}" if is_typed else _short(key)
    raise ValueError(f"`key` is one random key of JAX's, as jax.random.key(0); got {got}.")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _made(value: Any, kind: Any) -> Any:
    """The value as one of that kind, or `_REFUSED`."""
    origin, each = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return value if isinstance(value, str) and value in each else _REFUSED
    if kind is bool or kind is int or kind is float:
        return _number(value, kind)
    if kind in (str, type(None)):
        return value if isinstance(value, kind) else _REFUSED
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return _REFUSED
        of = each[0] if each else Any
        made = [_made(one, of) if of in _WORDS else one for one in value]
        return _REFUSED if any(one is _REFUSED for one in made) else tuple(made)
    if origin is dict:
        made = {name: _made(one, each[1]) for name, one in value.items()} if isinstance(value, dict) else {"": _REFUSED}
        return _REFUSED if any(one is _REFUSED for one in made.values()) else made
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else _REFUSED
    return value


def _number(value: Any, kind: type) -> Any:
    is_bool = isinstance(value, bool | np.bool_)
    if kind is bool:
        return bool(value) if is_bool else _REFUSED
    if is_bool or not isinstance(value, Integral if kind is int else Real):
        return _REFUSED
    return kind(value) if isinstance(value, np.generic) else value


def _in_words(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f'"{each}"' for each in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        each = typing.get_args(kind)[0]
        return f"a tuple of {_WORDS[each].removeprefix('a ')}s" if each in _WORDS else "a tuple"
    if typing.get_origin(kind) is dict:
        return "names with values"
    name = getattr(kind, "__name__", str(kind))
    return f"an ecjax {name}" if dataclasses.is_dataclass(kind) else name


def _short(value: Any) -> str:
    if callable(value) and hasattr(value, "__name__"):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"

"""What the library says of arguments, in the words of the command line: `gamma` is --gamma there."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from tyro.conf import Positional

# Records whose settings have no prefix; those of others have, as --descent.max-steps.
_BARE = ("settings", "output", "answers", "expand", "cluster")
_POSITIONAL = Positional[int].__metadata__  # pyright: ignore[reportAttributeAccessIssue]
_SPOKEN = {
    r'answers=ecjax\.Answers\(kind=("?)([\w_]+)\1\)': r"--answers-are \2",
    r'answers=ecjax\.Answers\(missing="(\w+)"\)': r"--missing \1",
    r"answers=ecjax\.Answers\(outliers=True\)": "--outliers",
}


def in_options(message: str, command: type | None) -> str:
    """A message with the names of options in the place of Python's arguments, where the command has them.

    Args:
        message: Of an error; settings stand in backticks, or are set as name=value.
        command: The dataclass of the command; None where there is none.
    """
    options = {} if command is None else options_of(command)
    for spoken, option_of in _SPOKEN.items():
        message = re.sub(spoken, option_of, message)
    message = re.sub(r"`([\w.]+)`", lambda found: options.get(found[1].removeprefix("answers."), found[0]), message)

    def typed(found: re.Match) -> str:
        name, value = found[1], found[2].strip('"')
        if name not in options:
            return found[0]
        return options[name] if value == "True" else f"{options[name]} {value}"

    return re.sub(r'\b([a-z_]+)=("[^"]*"|True|[\d.e-]*\d)', typed, message)


def options_of(command: type) -> dict[str, str]:
    """Options by the names of the settings that they set: those that are settings of one record alone."""
    found: dict[str, set[str]] = {}
    for name, option in _walk(command, ""):
        found.setdefault(name, set()).add(option)
    return {name: options.pop() for name, options in found.items() if len(options) == 1}


def every_option(record: type) -> set[str]:
    """All options of a record of settings."""
    return {option for _, option in _walk(record, "")}


def own_options(command: type) -> set[str]:
    """Options of a command itself, without those of the records in it."""
    return {option for _, option in _walk(command, "", deep=False)}


def _walk(record: type, prefix: str, deep: bool = True) -> Iterator[tuple[str, str]]:
    """Settings of a record and, if `deep`, of those within it, and their options."""
    hints = get_type_hints(record, include_extras=True)
    for field in dataclasses.fields(record):
        kind, extras = _taken_apart(hints[field.name])
        if any(extra in _POSITIONAL for extra in extras):
            continue
        named = next((extra.name for extra in extras if getattr(extra, "name", None)), field.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from () if not deep else _walk(kind, prefix if field.name in _BARE else f"{prefix}{field.name}.")
        else:
            yield field.name, "--" + (prefix + named).replace("_", "-")


def _taken_apart(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what is annotated beside it."""
    extras = getattr(hint, "__metadata__", ())
    return (get_args(hint)[0] if extras else hint), extras

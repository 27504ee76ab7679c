"""Help in two lengths: `--help` shows the options that many want, `--help-all` those for studies, too."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from .options import NamedAnswers, SharedOutput
from .settings import Settings
from .words import every_option, own_options

ALL = "--help-all"
# Of the options that commands share; what is a command's own is always shown.
_BASIC = (
    *("--student-width", "--n-students", "--rounds", "--gamma", "--beta", "--exact-loss", "--method"),
    *(
        "--answers-are",
        "--noise",
        "--missing",
        "--outliers",
        "--out",
        "--overwrite",
        "--figures",
        "--exact-or-fail",
        "--budget",
    ),
)
_OPTION = re.compile(r"^│ (-h|--[\w.-]+)")


def with_help(parse: Callable[[list[str]], Any], arguments: list[str], name: str, command: type) -> Any:
    """What `parse` makes of the arguments; help that is asked for is printed in the length that is asked for.

    Args:
        parse: Of tyro; prints help, and ends the program.
        arguments: Of the command.
        name: Of the command.
        command: Its record.
    """
    if ALL in arguments:
        return parse(["--help"])
    if not {"-h", "--help"} & set(arguments):
        return parse(arguments)
    bytes_shown = io.BytesIO()
    shown = io.TextIOWrapper(bytes_shown, encoding="utf-8")  # for which tyro draws the boxes that are looked for
    try:
        with redirect_stdout(shown):
            return parse(arguments)
    finally:
        shown.flush()
        short, n_left_out = shortened(bytes_shown.getvalue().decode(), own_options(command))
        short = short.encode(sys.stdout.encoding or "utf-8", "replace").decode(sys.stdout.encoding or "utf-8")
        sys.stdout.write(short)
        if n_left_out:
            sys.stdout.write(f"{n_left_out} more options, for studies: ecjax {name} {ALL}\n")


def shortened(text: str, own: set[str]) -> tuple[str, int]:
    """Help without the options for studies, and how many these are; a command's `own` ones are for everybody."""
    advanced = {option for record in (Settings, NamedAnswers, SharedOutput) for option in every_option(record)}
    advanced -= own | set(_BASIC)
    kept, box, n_left_out, skips = [], None, 0, False
    for line in text.splitlines(keepends=True):
        if line.startswith("╭"):
            box, n_before, skips = len(kept), n_left_out, False
        option = _OPTION.match(line)
        if option:
            skips = option[1] in advanced
            n_left_out += skips
        if line.startswith("╰"):
            skips = False
        if not skips:
            kept.append(line)
        if line.startswith("╰") and box is not None:
            if n_left_out > n_before and not any(map(_OPTION.match, kept[box:])):
                del kept[box:]
            box = None
    return "".join(kept), n_left_out

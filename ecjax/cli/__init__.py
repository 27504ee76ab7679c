"""The command line: `ecjax recover toy|digits|images|data|function`, `teach`, `compare`, `cut`, `report`, ..."""

import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.text import Text

from ..base.devices import is_first
from ..data.teacher import TeacherError
from ..network import ACTIVATIONS
from .asking import recover_function
from .bench import bench
from .commands import COMMANDS, Command, Compare, Cut, Export, Flow, Report, Runs, Teach
from .finished_runs import compare_networks, cut_run, report_run
from .flowing import flow
from .help import with_help
from .hosts import join
from .listing import export_network, list_runs
from .recover_commands import (
    Recover,
    RecoverData,
    RecoverDigits,
    RecoverFunction,
    RecoverImages,
    RecoverToy,
    images_default,
)
from .recovering import Interrupted, NotExactError, recover_data, recover_digits, recover_images, recover_toy
from .teach import teach
from .words import in_options

HELP = """usage: ecjax COMMAND [OPTIONS]

Recover an unknown neural network, its width and every weight, from inputs and outputs alone.

  ecjax recover toy                      a random teacher, in seconds
  ecjax recover digits                   a network trained on handwritten digits
  ecjax recover data a.npz --activation tanh
                                         your own inputs and outputs
  ecjax recover function my.module:f --fan-in 784
                                         a function of yours that can be asked
  ecjax teach mnist --hidden 16          train a teacher on real images ...
  ecjax recover images --teacher FOLDER  ... and recover it, layer by layer, in
                                         minutes
  ecjax compare RUN                      recovered against teacher
  ecjax cut RUN --gamma 0.5              cut the clusters of a run again
  ecjax report RUN                       a run as one page, with figures that move
  ecjax runs                             which runs there are, and how they ended
  ecjax export RUN                       every weight of one, as text, csv or npz
  ecjax flow                             where students of a teacher end, and at
                                         what kind of point
  ecjax bench synthetic                  150 synthetic teachers, and how many are
                                         recovered

Every run writes one folder with its settings, weights and figures. Given again,
an interrupted command goes on where it was, and so does one that --budget 5m has
ended with the best answer so far. `ecjax recover toy --help` explains the
settings that many want, --help-all each one; and so do the other commands.
ecjax --version says which ecjax this is.

Activations: {activations}.

Exit status: 0 when the command ran, whatever it found (result.json says whether
that is exact); 1 where nothing exact was found and --exact-or-fail was given; 2
when it was refused; 130 after Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 if not as exact as asked for, 2 after a refusal, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = next((name for name in COMMANDS if arguments[: len(name.split())] == name.split()), None)
    if arguments in (["--version"], ["-V"], ["version"]):
        print(f"ecjax {version('ecjax')}")
        return 0
    if name is None and arguments[:1] != ["bench"]:
        return _help(arguments)
    errors, kind = Console(stderr=True), None if name is None else COMMANDS[name]
    try:
        if name is None:
            return bench(arguments[1:])
        rest = arguments[len(name.split()) :]
        parse = partial(tyro.cli, COMMANDS[name], prog=f"ecjax {name}", args=rest)
        default = images_default(rest) if name == "recover images" else tyro.MISSING_NONPROP
        command = with_help(lambda rest: parse(args=rest, default=default), rest, name, COMMANDS[name])
        if isinstance(command, Recover) and command.output.distributed:
            join()
        with jax.enable_x64(True):  # entered here, in the door: the library follows the precision of its data
            _run(command, Console(quiet=not is_first()), parse)
    except NotExactError:  # which the report has said
        return 1
    except Interrupted as interrupted:
        errors.print(Text(str(interrupted)))
        return 130
    except KeyboardInterrupt:
        errors.print("interrupted before there was anything to save")
        return 130
    except (ValueError, OSError, TeacherError, MemoryError, jax.errors.JaxRuntimeError) as error:
        errors.print(Text.assemble(("error  ", "bold red"), in_options(_said(error), kind)), soft_wrap=True)
        return 2
    return 0


def _said(error: Exception) -> str:
    """A refusal, or what the system did not give, in a sentence.

    Raises:
        Exception: The error itself, where it is none of these but a mistake of ours.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename} can't be used ({error.strerror})." if error.filename else f"{error.strerror}."
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"The memory is not enough: lower `n_students`, `student_width` or `n_samples` ({_first_line(error)})."
    if isinstance(error, jax.errors.JaxRuntimeError):
        raise error
    return str(error)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].strip().rstrip(".")


def _run(command: Command, console: Console, parse: Callable[..., Any]) -> None:
    """Do what a command says; `parse` reads its arguments again, from another start."""
    match command:
        case RecoverToy():
            recover_toy(command, console)
        case RecoverDigits():
            recover_digits(command, console)
        case RecoverData():
            recover_data(command, console, lambda settings: parse(default=replace(command, settings=settings)))
        case RecoverImages():
            recover_images(command, console)
        case RecoverFunction():
            recover_function(command, console)
        case Teach():
            teach(command, console)
        case Compare():
            compare_networks(command, console)
        case Cut():
            cut_run(command, console)
        case Report():
            report_run(command, console)
        case Runs():
            list_runs(command, console)
        case Export():
            export_network(command, console)
        case Flow():
            flow(command, console)


def _recoverable() -> list[str]:
    """Activations by name, but for the polynomials, whose layers no data determine."""
    return sorted(name for name, activation in ACTIVATIONS.items() if not activation.symmetry.polynomial)


def _help(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help") or arguments == ["recover", "--help"]:
        listed = textwrap.fill(", ".join(_recoverable()), 80, initial_indent=" " * 13).lstrip()
        print(HELP.format(activations=listed), end="")
        return 0
    asked = " ".join(arguments[: 2 if arguments[0] == "recover" else 1])
    Console(stderr=True).print(
        Text(f"ecjax {asked}: no such command; there are {', '.join(COMMANDS)}, bench. See ecjax --help.")
    )
    return 2

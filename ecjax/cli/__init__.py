"""The command line: `ecjax recover toy|digits|images|data`, `teach`, `compare`, `cut`, `bench`."""

import sys
from collections.abc import Sequence

import jax
import tyro
from rich.console import Console
from rich.text import Text

from ..base.devices import is_first
from .bench import bench
from .commands import COMMANDS, Command, Compare, Cut, Data, Digits, Images, Teach, Toy, images_default
from .hosts import join
from .teach import teach
from .work import Interrupted, compare_networks, cut_run, recover_data, recover_digits, recover_images, recover_toy

HELP = """usage: ecjax COMMAND [OPTIONS]

Recover an unknown neural network, its width and every weight, from inputs and outputs alone.

  ecjax recover toy                                  a random teacher, in seconds
  ecjax recover digits                               a network trained on handwritten digits
  ecjax recover images --teacher teachers/mnist-16-g a teacher of `ecjax teach`, layer by layer
  ecjax recover data answers.npz --activation tanh   your own inputs and outputs
  ecjax teach mnist --hidden 16                      train a teacher on real images
  ecjax compare RUN                                  recovered against teacher, neuron by neuron
  ecjax cut RUN --gamma 0.5                          cut the clusters of a run again, without training
  ecjax bench synthetic                              how often 150 synthetic teachers are recovered

Every run writes one folder with its settings, weights and figures. `ecjax recover toy --help` explains
each setting, and so do the other commands.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 2 for input that can't be used, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = next((name for name in COMMANDS if arguments[: len(name.split())] == name.split()), None)
    if name is None and arguments[:1] != ["bench"]:
        return _help(arguments)
    errors = Console(stderr=True)
    try:
        if name is None:
            return bench(arguments[1:])
        rest = arguments[len(name.split()) :]
        default = images_default(rest) if name == "recover images" else tyro.MISSING_NONPROP
        command = tyro.cli(COMMANDS[name], prog=f"ecjax {name}", args=rest, default=default)
        if isinstance(command, Toy | Digits | Data | Images) and command.place.distributed:
            join()
        with jax.enable_x64(True):  # entered here, in the door: the library follows the precision of its data
            _run(command, Console(quiet=not is_first()))
    except Interrupted as interrupted:
        errors.print(Text(str(interrupted)))
        return 130
    except KeyboardInterrupt:
        errors.print("interrupted before there was anything to save")
        return 130
    except (ValueError, OSError) as error:
        errors.print(Text.assemble(("error  ", "bold red"), str(error)))
        return 2
    return 0


def _run(command: Command, console: Console) -> None:
    match command:
        case Toy():
            recover_toy(command, console)
        case Digits():
            recover_digits(command, console)
        case Data():
            recover_data(command, console)
        case Images():
            recover_images(command, console)
        case Teach():
            teach(command, console)
        case Compare():
            compare_networks(command, console)
        case Cut():
            cut_run(command, console)


def _help(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help") or arguments == ["recover", "--help"]:
        print(HELP, end="")
        return 0
    asked = " ".join(arguments[: 2 if arguments[0] == "recover" else 1])
    Console(stderr=True).print(
        Text(f"ecjax {asked}: no such command; there are {', '.join(COMMANDS)}, bench. See ecjax --help.")
    )
    return 2

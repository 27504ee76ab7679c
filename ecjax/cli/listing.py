"""`ecjax runs` and `ecjax export`: which runs there are, and the numbers of one."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from .. import doors
from ..base.files import write_whole
from ..network import Network, load_network
from ..network.numbers import as_csv, as_npz, as_text
from ..road import Recovery
from ..runs import load_run, states
from .commands import Export, Runs

# By name: what is made of a network and the names of its inputs, and the ending of the file it is written to. Other
# libraries' are `doors.FORMATS`.
FORMATS: dict[str, tuple[Callable[[Network, Sequence[str]], str | bytes], str]] = {
    "text": (as_text, "txt"),
    "csv": (as_csv, "csv"),
    "npz": (as_npz, "npz"),
}


def list_runs(command: Runs, console: Console) -> None:
    """`ecjax runs`."""
    found = states(command.folder)
    if not found:
        console.print(f"no runs in {command.folder}", markup=False, highlight=False, soft_wrap=True)
        return
    rows = [("run", "command", "begun (UTC)", "hidden", "loss", "state")]
    for run in found:
        loss = "" if run.loss is None else f"{run.loss:.0e}"
        rows.append((run.folder.name, run.command, run.made, run.shape, loss, run.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # each in a line of its own, however narrow the terminal: other programs read them, too
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def export_network(command: Export, console: Console) -> None:
    """`ecjax export`."""
    found, inputs = _found(command.run)
    name = command.run.name.removesuffix(".safetensors")
    if command.to in doors.FORMATS:
        ending, _ = doors.FORMATS[command.to]
        path = command.out or Path(f"{name}-{command.to}{ending}")  # safetensors are the network's own file, too
        path = path if path.suffix else path.with_suffix(ending)
        _require_free(path, command)
        try:
            doors.export(found, command.to, path)
        except ValueError as error:
            raise ValueError(str(error).replace("`path`", "`out`")) from error
    else:
        make, ending = FORMATS[command.to]
        made = make(found.network if isinstance(found, Recovery) else found, inputs)
        if command.to == "text" and command.out is None:
            console.print(made, markup=False, highlight=False, soft_wrap=True)
            return
        path = command.out or Path(f"{name}.{ending}")
        _require_free(path, command)
        write_whole(path, made if isinstance(made, bytes) else made.encode())
    console.print(f"written to {path}", markup=False, highlight=False, soft_wrap=True)


def _require_free(path: Path, command: Export) -> None:
    if path.exists() and not command.overwrite:
        raise ValueError(f"`out`: {path} exists already; name another file, or pass --overwrite to replace it.")


def _found(path: Path) -> tuple[Recovery | Network, Sequence[str]]:
    """What a run recovered and the names of its inputs, or a network that ecjax saved."""
    if path.is_dir():
        run = load_run(path)
        return run.recovery, run.data.inputs
    if not path.is_file():
        raise ValueError(f"`run`: {path} is neither a run folder nor a file.")
    net = load_network(path)
    if net.is_stack:
        raise ValueError(f"`run`: {path} holds a stack of students, and not one network.")
    return net, ()

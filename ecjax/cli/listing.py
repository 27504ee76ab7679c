"""`ecjax runs` and `ecjax export`: which runs there are, and the numbers of one."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ..base.files import write_whole
from ..network import Network, load_network
from ..network.numbers import as_csv, as_npz, as_text
from ..runs import load_run, states
from .commands import Export, Runs

# By name: what is made of a network and the names of its inputs, and the ending of the file it is written to.
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
    net = _network(command.run)
    make, ending = FORMATS[command.to]
    made = make(net, ())
    if command.to == "text" and command.out is None:
        console.print(made, markup=False, highlight=False, soft_wrap=True)
        return
    path = command.out or Path(f"{command.run.name.removesuffix('.safetensors')}.{ending}")
    if path.exists() and not command.overwrite:
        raise ValueError(f"`out`: {path} exists already; name another file, or pass --overwrite to replace it.")
    write_whole(path, made if isinstance(made, bytes) else made.encode())
    console.print(f"written to {path}", markup=False, highlight=False, soft_wrap=True)


def _network(path: Path) -> Network:
    """The recovered network of a run, or one that ecjax saved."""
    if path.is_dir():
        return load_run(path).recovery.network
    if not path.is_file():
        raise ValueError(f"`run`: {path} is neither a run folder nor a file.")
    net = load_network(path)
    if net.is_stack:
        raise ValueError(f"`run`: {path} holds a stack of students, and not one network.")
    return net

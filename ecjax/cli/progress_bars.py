"""What the terminal shows while a recovery is at work."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

_SECONDS_BETWEEN_LINES = 60


class ProgressBars:
    """Shows the phases of a recovery as they go; the `progress` argument of `ecjax.recover`.

    Use it as a context manager, so that the terminal is left in order whatever happens. Where the output is no terminal
    but a file, it gets a line when a phase ends, and one a minute in between.
    """

    def __init__(self, console: Console):
        self.console = console
        self._said_at, self._phase, self._unsaid = time.monotonic(), "", ""
        self.done: dict[str, tuple[int, int]] = {}  # how far each phase came, for the message after Ctrl-C
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description:<13}"),
            BarColumn(bar_width=8),  # all of it, with epochs and losses, within 80 columns
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeLeft(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,  # the summary says what there is to keep
            disable=not console.is_terminal,
        )

    def __call__(self, phase: str, done: int, total: int, **info: Any) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total, note="")
        self.done[phase] = (done, total)
        self._bars.update(self._tasks[phase], completed=done, total=total, note=_note(info))
        if not self.console.is_terminal:
            self._log(phase, f"{phase:<14}{done}/{total}  {_note(info)}".rstrip())

    def _log(self, phase: str, line: str) -> None:
        if phase != self._phase:
            self._say()
        self._phase, self._unsaid = phase, line
        if time.monotonic() - self._said_at > _SECONDS_BETWEEN_LINES:
            self._say()

    def _say(self) -> None:
        if self._unsaid:
            self.console.print(self._unsaid, markup=False, highlight=False, soft_wrap=True)
        self._said_at, self._unsaid = time.monotonic(), ""

    def __enter__(self) -> "ProgressBars":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()
        self._say()


def _note(info: Mapping[str, Any]) -> str:
    """The questions asked; the widths of a network; the epoch, and the range of the losses; where there are any."""
    if "questions" in info:
        return f"{info['questions']:,} questions"
    if "widths" in info:
        return f"{'-'.join(map(str, info['widths']))} neurons, loss {min(info['losses']):.0e}"
    epoch = [f"epoch {info['epoch']:,}"] if "epoch" in info else []
    losses = np.asarray(info.get("losses", ()), float)
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return "".join(epoch)
    # Students that are done have no loss in later epochs; without epochs, every loss is that of a finished student.
    failed = [f"{len(losses) - len(finite)} failed"] if len(finite) < len(losses) and not epoch else []
    return ", ".join([*epoch, f"loss {finite.min():.0e} to {finite.max():.0e}", *failed])

"""What the terminal shows: progress while students train, and a summary at the end."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

from ..cluster import Clustering
from ..judge.comparison import Comparison
from ..road.road import Recovery
from .against import layer_table, verdict

_SECONDS_BETWEEN_LINES = 60
_MOST_ROWS = 40  # of a table of candidates
_ADVICE = (
    "Not the whole teacher. Neurons are missed where students did not come to a low loss, and in excess where the cut\n"
    "is too lax: give students more steps or epochs, more of them (--n-students), more questions (--n, --n-samples),\n"
    "or another cut (--gamma, --beta)."
)


class Screen:
    """Shows the phases of a recovery as they go; the `progress` argument of `ecjax.road.road`.

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

    def __enter__(self) -> "Screen":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()
        self._say()


def _note(info: Mapping[str, Any]) -> str:
    """The epoch, and the range of the students' losses, where there are any."""
    epoch = [f"epoch {info['epoch']:,}"] if "epoch" in info else []
    losses = np.asarray(info.get("losses", ()), float)
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return "".join(epoch)
    # Students that are done have no loss in later epochs; without epochs, every loss is that of a finished student.
    failed = [f"{len(losses) - len(finite)} failed"] if len(finite) < len(losses) and not epoch else []
    return ", ".join([*epoch, f"loss {finite.min():.0e} to {finite.max():.0e}", *failed])


def report(console: Console, recovery: Recovery, comparison: Comparison | None, folder: Path) -> None:
    """What came out: widths, which neurons, how sure, where the files are."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say(recovery.summary())
    for i, clustering in enumerate(recovery.clusterings, start=1):
        console.print()
        console.print(_clusters(clustering, f"candidates in hidden layer {i}"))
        removed = clustering.width - recovery.widths[i - 1]
        if recovery.found_by[i - 1] == "clusters" and removed > 0:
            say(f"{removed} of these were taken away again: the network is as good without them")
    if comparison is not None:
        console.print()
        console.print(layer_table(comparison))
        say(verdict(comparison))
        if comparison.n_missing or comparison.n_excess:
            say(_ADVICE)
    say(f"\nrun      {folder}")
    figures = sorted(path.name for path in (folder / "figures").glob("*.png"))
    if figures:
        say(f"figures  {folder / 'figures'}: {', '.join(figures)}")


def _clusters(clustering: Clustering, title: str) -> Table:
    """Every candidate cluster of a layer, those that were kept first."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="", pad_edge=False)
    for name in ("cluster", "students", "copies", "median angle", "spread"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    order = np.argsort(~clustering.kept, kind="stable")
    for k in order[:_MOST_ROWS]:
        table.add_row(
            str(k),
            f"{clustering.n_present[k]}/{clustering.n_students}",
            str(clustering.n_vectors[k]),
            f"{clustering.median_angle[k]:.1e}",
            f"{clustering.spread[k]:.1e}",
            clustering.verdict[k],
            style=None if clustering.kept[k] else "dim",
        )
    if len(order) > _MOST_ROWS:
        table.caption = f"and {len(order) - _MOST_ROWS} more, all of them in result.json"
    return table

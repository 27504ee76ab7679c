"""Trial after trial, until all are there, the time is up, or somebody stops it."""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .folder import load, pending, save
from .problems import Trial
from .solve import solve
from .table import is_recovered

Kind = tuple[str, int, int, int]


class Clock:
    """Whether a trial fits into the time that is left, judged by those of its kind before it."""

    def __init__(self, minutes: float | None):
        self.ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.spent: dict[Kind, list[float]] = {}

    def count(self, kind: Kind, rows: list[dict[str, Any]]) -> None:
        """Note what a trial took, whatever came of it."""
        if rows:
            self.spent.setdefault(kind, []).append(sum(row.get("seconds", 0.0) for row in rows))

    def expected(self, kind: Kind) -> float:
        """Median seconds of the kind so far; of one without a trial, the largest median of the smaller kinds."""
        if kind in self.spent:
            return statistics.median(self.spent[kind])
        smaller = (each for each in self.spent if each[0] == kind[0] and all(map(int.__le__, each[1:], kind[1:])))
        return max((statistics.median(self.spent[each]) for each in smaller), default=0.0)

    def has_room(self, kind: Kind) -> bool:
        """Whether a trial of this kind would end in time."""
        return time.monotonic() + self.expected(kind) < self.ends


def run(
    trials: list[Trial],
    folder: Path,
    *,
    minutes: float | None = None,
    retry: bool = False,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[Trial]:
    """Solve the trials that are not in the folder yet, each written as soon as it is solved.

    Args:
        trials: Which.
        folder: Of the results.
        minutes: No trial is started that is expected to end later.
        retry: Solve those again that failed with an error.
        say: Hears one line for each trial.

    Returns:
        The trials that the time did not allow.
    """
    todo = pending(folder, trials, retry=retry)
    clock, n_done, n_recovered = Clock(minutes), 0, 0
    for trial in trials:
        clock.count(trial.kind, load(folder, trial) or [])
    say(f"{len(trials)} trials, {len(trials) - len(todo)} of them done before; results in {folder}")
    left, warm = [], set()
    for trial in todo:
        if not clock.has_room(trial.kind):
            left.append(trial)
            continue
        solved = solve(trial)
        for row in solved["rows"]:
            row["cold"] = trial.kind not in warm  # the seconds of the first of a kind contain its compilation
        save(folder, trial, solved)
        clock.count(trial.kind, solved["rows"])
        warm.add(trial.kind)
        n_done += 1
        n_recovered += is_recovered(solved["rows"][0])
        say(f"{line(solved['rows'][0])}  recovered {n_recovered} of {n_done}")
    return left


def line(row: dict[str, Any]) -> str:
    """One trial in one line."""
    head = f"{row['method']:6}expansion {row['expansion']}  inputs {row['d_in']:<3d}width {row['width']}  "
    head += f"seed {row['seed']:<3d}"
    if row["error"]:
        return f"{head}error: {row['error'].splitlines()[-1]}"
    at_zero = f"{sum(loss <= 1e-25 for loss in row['student_losses'])}/{len(row['student_losses'])}"
    return (
        f"{head}width {row['recovered_width']}  error {row['parameter_error']:.0e}  loss {row['loss']:.0e}  "
        f"students at zero {at_zero:>5}  {row['seconds']:6.1f} s"
    )

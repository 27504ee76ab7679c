"""What several benchmarks measure, keep and print alike: the quality of an answer, its cost, tables of text."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ecjax import Recovery, compare
from ecjax.runs import read_json, versions, write_json

Table = list[list[str]]  # rows of cells, the header first


def timed(work):
    """What `work()` makes, with the wall and the CPU seconds that it took."""
    start, cpu = time.perf_counter(), time.process_time()
    done = jax.block_until_ready(work())
    return done, time.perf_counter() - start, time.process_time() - cpu


def quality(recovery: Recovery, teacher, x, fresh=None) -> dict[str, Any]:
    """How good the answer is, and what it was made from; the function's error over `fresh`, by default over x."""
    comparison = compare(recovery, teacher, x, fresh=fresh)
    clustering = recovery.clusterings[0]
    return {
        "parameter_error": comparison.parameter_error,  # infinite if a neuron is missing or in excess
        "n_missing": comparison.n_missing,
        "n_excess": comparison.n_excess,
        "function_error": comparison.function_error_max,
        "loss": recovery.loss,
        "is_exact": recovery.is_exact,
        "found_by": max(
            recovery.found_by, key=["clusters", "clusters of any angle", "clusters of a laxer cut", "one student"].index
        ),
        "linear_part": recovery.linear is not None,
        "unidentified": list(recovery.unidentified),
        "clusters": f"{clustering.width} of {len(clustering.kept)}",
        "phases": recovery.seconds,
    }


def recovered(work: Callable[[], Recovery], teacher, x) -> tuple[Recovery, dict[str, Any]]:
    """The recovery that `work()` makes; what came out, and what it cost."""
    recovery, seconds, cpu = timed(work)
    row = {
        "teacher": "-".join(map(str, teacher.shape)),
        "widths": list(recovery.widths),
        **quality(recovery, teacher, x),
        "student_losses": three(recovery.expansion.loss),
        **{"seconds": seconds, "cpu_seconds": cpu},
    }
    return recovery, row


RATE = ["largest error of these", "median CPU s", "largest CPU s", "largest s"]  # after a column of its own name


def rate(rows: list[dict[str, Any]], errors: list[float]) -> list[str]:
    """How many of some problems came out, with these errors, and what all of them cost: cells of a table."""
    cpu, worst = [row["cpu_seconds"] for row in rows], f"{max(errors):.0e}" if errors else ""
    seconds = (np.median(cpu), max(cpu), max(row["seconds"] for row in rows))
    return [f"{len(errors)} of {len(rows)}", worst, *(f"{each:.0f}" for each in seconds)]


def from_file(value: Any) -> Any:
    """A value as it was before JSON, which has no infinity."""
    if isinstance(value, dict):
        return {name: from_file(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [from_file(inner) for inner in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def solved(
    problems: Iterable[dict[str, Any]], solve: Callable[..., dict[str, Any]], path: Path
) -> list[dict[str, Any]]:
    """A row for each problem, which begins with the problem itself: read from the file, or solved and written to it.

    Args:
        problems: Arguments of `solve`.
        solve: What came out, and what it cost.
        path: JSON file; a killed run goes on from it.
    """
    rows = from_file(read_json(path)["problems"]) if path.exists() else []
    wanted = []
    for problem in problems:
        found = [row for row in rows if problem.items() <= row.items()]
        if not found:
            found = [problem | solve(**problem)]
            rows += found
            write_json(path, {"about": versions(), "problems": rows})
            print(found[0], flush=True)
        wanted += found
    return wanted


def three(losses) -> list[float]:
    """The smallest, the median and the largest of the students' losses."""
    losses = np.asarray(losses, float)
    return [float(np.nanmin(losses)), float(np.nanmedian(losses)), float(np.nanmax(losses))]


def as_text(table: Table, *, markdown: bool = False) -> str:
    """Cells in columns of one width, as plain text or Markdown."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    if not markdown:
        return "\n".join("  ".join(cells).rstrip() for cells in lines)
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

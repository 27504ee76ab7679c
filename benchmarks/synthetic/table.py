"""The tidy table of all trials, and what it says: how often the teachers are recovered.

A row is a trial by one method. What counts as recovered is decided here, from numbers that the rows have.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

from ..rows import Table, as_text

TOLERANCE = 1e-6  # largest error of a parameter with which a teacher counts as recovered
ZERO_LOSS = 1e-25  # loss of a student, in units of the targets' variance, that counts as zero


def is_right(row: dict[str, Any]) -> bool:
    """Whether the width is exact and every parameter right to the tolerance."""
    return row["recovered_width"] == row["width"] and row["parameter_error"] <= TOLERANCE


def is_recovered(row: dict[str, Any]) -> bool:
    """Whether the answer is right and, where there is a certificate, certified."""
    return is_right(row) and row.get("certified") is not False


def at_zero_loss(row: dict[str, Any], zero_loss: float = ZERO_LOSS) -> float:
    """Fraction of the students whose loss is zero but for rounding; those that diverged are not."""
    losses = row["student_losses"]
    return sum(loss <= zero_loss for loss in losses) / len(losses) if losses else math.nan


def tidy(rows: Iterable[dict[str, Any]], *, zero_loss: float = ZERO_LOSS):
    """All rows as a pandas frame; lists, as the losses of all students, are JSON text in one cell."""
    frame = _pandas().DataFrame.from_records(
        [
            {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
            | {
                "right": is_right(row),
                "recovered": is_recovered(row),
                "certified_wrongly": row.get("certified") is True and not is_right(row),
                "at_zero_loss": at_zero_loss(row, zero_loss),
                "rounds": -(-len(row["student_losses"]) // row["n_students"]),
            }
            for row in rows
        ]
    )
    return frame.sort_values(["method", "expansion", "d_in", "width", "seed"], ignore_index=True)


def _pandas():
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ValueError("The table needs pandas: pip install pandas, or pip install 'ecjax[bench]'.") from error
    return pandas


# --- what it says --------------------------------------------------------------------------------------------------


def success_table(frame) -> Table:
    """Recovered teachers of one method and one expansion: a row for each d_in, a column for each width, and totals."""
    widths = sorted(frame.width.unique())
    count = lambda part: f"{int(part.recovered.sum())}/{len(part)}" if len(part) else ""
    table = [["inputs", *(f"width {width}" for width in widths), "all"]]
    for d_in, of_d_in in frame.groupby("d_in"):
        table.append([str(d_in), *(count(of_d_in[of_d_in.width == width]) for width in widths), count(of_d_in)])
    table.append(["all", *(count(frame[frame.width == width]) for width in widths), count(frame)])
    return table


def cost_table(frame) -> Table:
    """Medians of one method and one expansion: excess and missing neurons, students at zero loss, seconds."""
    table = [["inputs", "width", "trials", "excess", "missing", "at zero loss", "wall s", "CPU s", "errors"]]
    for (d_in, width), same in frame.groupby(["d_in", "width"]):
        middle = same[["n_excess", "n_missing", "at_zero_loss"]].median()
        seconds = same.reindex(columns=["seconds", "cpu_seconds"]).astype(float).median()
        table.append(
            [
                *(str(d_in), str(width), str(len(same))),
                *(f"{middle.n_excess:g}", f"{middle.n_missing:g}", f"{middle.at_zero_loss:.0%}"),
                *(f"{seconds.seconds:.1f}", f"{seconds.cpu_seconds:.1f}", str(int(same.error.notna().sum()))),
            ]
        )
    return table


def report(frame, *, markdown: bool = False) -> str:
    """All tables, method by method and expansion by expansion, and what must not be overlooked."""
    parts = []
    for (method, expansion), same in frame.groupby(["method", "expansion"]):
        title = f"{method}, expansion {expansion}: teachers recovered"
        parts.append(f"### {title}" if markdown else title)
        parts += [as_text(table, markdown=markdown) for table in (success_table(same), cost_table(same))]
    return "\n\n".join([*parts, *footer(frame)])


def footer(frame) -> list[str]:
    """What must not be overlooked: wrong certificates, failures, answers without a certificate."""
    notes = []
    for wrong in frame[frame.certified_wrongly].itertuples():
        notes.append(
            f"CERTIFIED WRONGLY: {_named(wrong)}, width {wrong.recovered_width}, error {wrong.parameter_error}"
        )
    for (method, expansion), failed in frame[frame.error.notna()].groupby(["method", "expansion"]):
        first = next(failed.itertuples())
        notes.append(
            f"{len(failed)} of {method}, expansion {expansion}, failed; the first: {_named(first)}: {first.error}"
        )
    if "certified" not in frame or frame.certified.isna().all():
        notes.append("No answer has a certificate: recovered means right.")
    return notes


def _named(row) -> str:
    return f"{row.method}, expansion {row.expansion}, inputs {row.d_in}, width {row.width}, seed {row.seed}"

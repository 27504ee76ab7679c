"""What was recovered, layer by layer, against a known teacher: the paper's table, for the screen and as JSON."""

from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ..judge.comparison import Comparison

_COUNTS = ("layer", "teacher", "recovered", "excess")
# Of a LayerComparison: its heading on the screen.
_DISTANCES = {
    "cosine_in": "in, as pre-\nactivations",
    "cosine_in_euclidean": "in, as\nweights",
    "cosine_out": "out, as\nweights",
}


def layer_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row for each hidden layer: widths, and mean and largest cosine distance over the neurons that were found.

    Incoming weights are compared twice: by the pre-activations that they make over the queries, and as they stand, as
    in the paper. Distances are None where no neuron was found.
    """
    rows = []
    for number, layer in enumerate(comparison.layers, start=1):
        counts = (number, layer.teacher_width, layer.recovered_width, len(layer.excess))
        row: dict[str, Any] = dict(zip(_COUNTS, counts, strict=True)) | {"missing": len(layer.missing)}
        row["missing_influence"] = layer.missing_influence[list(layer.missing)].tolist()
        for name in _DISTANCES:
            distance = getattr(layer, name)
            known = distance[np.isfinite(distance)]
            row[f"{name}_mean"] = float(known.mean()) if len(known) else None
            row[f"{name}_largest"] = float(known.max()) if len(known) else None
        rows.append(row)
    return rows


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The table and the errors of the whole, for comparison.json of a run."""
    return {
        "layers": layer_rows(comparison),
        "parameter_error": comparison.parameter_error,
        "function_error_rms": comparison.function_error_rms,
        "function_error_max": comparison.function_error_max,
    }


def layer_table(comparison: Comparison) -> Table:
    """The rows as a table, each distance as its mean and its largest; who is missing stands in the `verdict`."""
    table = Table(
        title="against the teacher: cosine distances, mean and largest",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in (*_COUNTS, *_DISTANCES.values()):
        table.add_column(heading, justify="right")
    for row in layer_rows(comparison):
        distances = (f"{_short(row[name + '_mean'])} {_short(row[name + '_largest'])}" for name in _DISTANCES)
        table.add_row(*(str(row[name]) for name in _COUNTS), *distances)
    return table


def verdict(comparison: Comparison) -> str:
    """What was found of each layer and how exactly, in words."""
    lines = []
    for number, layer in enumerate(comparison.layers, start=1):
        found = layer.teacher_width - len(layer.missing)
        excess = f"{len(layer.excess) or 'none'} in excess"
        lines.append(f"layer {number}: {found} of {layer.teacher_width} neurons found, {excess}")
        if layer.missing:
            lines[-1] += (
                f"; a missing one moves the outputs by {layer.largest_missing_influence:.0e} of their spread at most"
            )
    lines.append(
        f"largest parameter error {comparison.parameter_error:.1e}; function error "
        f"{comparison.function_error_rms:.1e} of the outputs' standard deviation"
    )
    return "\n".join(lines)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}"

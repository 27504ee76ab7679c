"""What figures share: paper, colours, logarithmic axes that bear a zero."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

KEPT, DROPPED, REST, LIMIT = "#11698e", "#e07b39", "#b8bec6", "#b3261e"


def one_page(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one panel, its size in inches."""
    figure, axes = grid(width, height, 1, 1)
    return figure, axes[0, 0]


def grid(width: float, height: float, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with panels in rows and columns, its size in inches; the panels as a matrix."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
    return figure, axes


def raised(values: np.ndarray) -> np.ndarray:
    """Values fit for a logarithmic axis: zeros become as small as the smallest other value."""
    return np.maximum(values, values[values > 0].min(initial=1.0))

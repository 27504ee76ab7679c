"""The teacher beside what was recovered, as rows of numbers or as images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..judge import Comparison
from ..network import Network
from ..network.symmetries import symmetries
from .page import grid

HIDDEN = "#d9d9d9"  # weights that nothing can show
_HIDDEN_GREY = 0xD9 / 255
_BLOCK = 8  # images side by side


def paired_weights(
    network: Network, teacher: Network | None = None, comparison: Comparison | None = None, *, layer: int = 0
) -> dict[str, Float[np.ndarray, "neurons columns"]]:
    """Rows (w, b) of a hidden layer by title, for `plot_weights` and `plot_images`.

    Args:
        network: What was recovered.
        teacher: Shown beside it...
        comparison: ...as `ecjax.compare` matched the two: only neurons with a partner, in the teacher's order, the
            recovered ones with the teacher's signs. In layers above the first, both are written over the teacher's
            neurons below, then the recovered ones in excess, then whatever linear map is left.
        layer: Which hidden layer, counted from 0.
    """
    recovered = _rows(network, layer)
    if teacher is None or comparison is None:
        return {"recovered": recovered}
    matched = comparison.layers[layer]
    found = matched.partner >= 0
    if layer:
        return {"teacher": matched.teacher_in[found], "recovered": matched.recovered_in[found]}
    theirs, ours = _rows(teacher, 0)[found], (matched.sign[:, None] * recovered[matched.partner])[found]
    symmetry = symmetries(teacher.layers[0].activation, teacher.widths[0])
    period, is_open = symmetry.antiperiod[found], symmetry.homogeneous[found]
    ours[:, -1] += np.nan_to_num(period * np.round((theirs - ours)[:, -1] / period))
    for w in (theirs, ours):  # the norm of an incoming vector that is open: show directions
        w[is_open] /= np.linalg.norm(w[is_open], axis=1, keepdims=True)
    return {"teacher": theirs, "recovered": ours}


def numbered_weights(
    network: Network, teacher: Network | None = None, comparison: Comparison | None = None, *, layer: int = 0
) -> tuple[list[int], dict[str, Float[np.ndarray, "neurons columns"]]]:
    """What `paired_weights` returns in the order of the recovered neurons, after the numbers of these.

    Neuron k is row k of the recovered layer, counted from 1, as in all figures (`ecjax.road.numbers`).
    """
    weights = paired_weights(network, teacher, comparison, layer=layer)
    if "teacher" not in weights or comparison is None:
        return list(range(1, len(weights["recovered"]) + 1)), weights
    partner = comparison.layers[layer].partner
    order = np.argsort(partner[partner >= 0], kind="stable")
    return (np.sort(partner[partner >= 0]) + 1).tolist(), {title: w[order] for title, w in weights.items()}


def _rows(network: Network, layer: int) -> Float[np.ndarray, "neurons columns"]:
    return np.column_stack([np.asarray(network.layers[layer].w), np.asarray(network.layers[layer].b)])


def plot_weights(
    weights: dict[str, Float[np.ndarray, "neurons columns"]],
    *,
    columns: Sequence[str] | str | None = None,
    names: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """Neurons as rows of coloured numbers; of two sets of the same shape the difference too, on its own scale.

    Args:
        weights: What to draw, by title: {"teacher": ..., "recovered": ...}, row i the same neuron in each.
        columns: A word for each column, or one for all of them.
        names: A number for each neuron; by default 1, 2, ...
        title: Above it all.
    """
    panels = _with_difference(weights)
    n, m = next(iter(weights.values())).shape
    largest = max(np.abs(w).max() for w in weights.values())
    figure, axes = grid(1.4 + max(2.2, 0.3 * min(m, 15)) * len(panels), 1.3 + 0.28 * min(n, 18), 1, len(panels))
    ticks = np.arange(0, n, -(-n // 30))
    names = range(1, n + 1) if names is None else names
    for i, (ax, (heading, w)) in enumerate(zip(axes[0], panels.items(), strict=True)):
        own = heading not in weights
        limit = (np.abs(w).max() or 1.0) if own else largest
        first = 1 if isinstance(columns, str) else 0  # what the column on the left is called
        image = ax.imshow(
            w,
            cmap="PuOr" if own else "RdBu_r",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            extent=(first - 0.5, first + m - 0.5, n - 0.5, -0.5),
        )
        if own or i == len(weights) - 1:
            figure.colorbar(image, ax=ax, pad=0.02, format="%.0e" if own else None)
        ax.set_title(heading, fontsize=10)
        ax.set_yticks(ticks, [names[k] for k in ticks] if i == 0 else [], fontsize=8)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if columns is not None and not isinstance(columns, str) and m <= 24:
            ax.set_xticks(range(m), columns, rotation=90 if max(map(len, columns)) > 2 else 0)
        else:
            ax.set_xlabel(columns if isinstance(columns, str) else "weight")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("neuron")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_images(
    weights: dict[str, Float[np.ndarray, "neurons inputs"]],
    shape: tuple[int, ...],
    *,
    visible: Bool[np.ndarray, " inputs"] | None = None,
    names: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """Incoming weights drawn as images, one row a set, one column a neuron; of two sets the difference too.

    Blue is negative and red positive; weights of colour images are drawn in their colours around grey.

    Args:
        weights: What to draw, by title: {"teacher": ..., "recovered": ...}, row i the same neuron in each.
        shape: Height and width of the images, or 3, height and width of colour images, one colour after the other.
        visible: Which inputs vary; the weights of the others are left grey, since nothing shows them.
        names: A number for each neuron; by default 1, 2, ...
        title: Above it all.
    """
    panels = _with_difference(weights, visible)
    n = len(next(iter(weights.values())))
    names = range(1, n + 1) if names is None else names
    n_blocks = -(-n // _BLOCK)
    across = -(-n // n_blocks)
    height = (0.3 + 0.95 * len(panels)) * n_blocks + (0.3 if title else 0)
    figure, axes = grid(1.5 + 0.95 * max(across, 2), height, len(panels) * n_blocks, across)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (heading, w) in enumerate(panels.items()):
        shown = np.ma.masked_array(w, mask=False if visible is None else ~np.broadcast_to(visible, w.shape))
        own = heading not in weights
        # A neuron has its own scale, in every set that of the first: weights of pixels that hardly ever vary are often
        # large where they were recovered, and would bleach all others. The difference has one scale for all neurons.
        first = np.ma.masked_array(next(iter(weights.values())), shown.mask)
        limits = np.full(n, np.abs(shown).max()) if own else np.abs(first).max(axis=1)
        for i in range(n):
            ax = axes[i // across * len(panels) + row, i % across]
            _draw(ax, shown[i], shape, limits[i] or 1, "PuOr" if own else "RdBu_r")
            if row == 0:
                ax.set_title(f"{names[i]}", fontsize=9, pad=3)
            if i % across == 0:
                ax.set_ylabel(heading.replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _draw(ax: Axes, image: np.ma.MaskedArray, shape: tuple[int, ...], limit: float, cmap: str) -> None:
    """One image of weights within -limit ... limit."""
    ax.set_axis_on()
    ax.set_facecolor(HIDDEN)
    if len(shape) == 3:
        rgb = np.moveaxis((0.5 + image / (2 * limit)).filled(_HIDDEN_GREY).reshape(shape), 0, -1)
        ax.imshow(np.clip(rgb, 0, 1))
    else:
        ax.imshow(image.reshape(shape), cmap=cmap, vmin=-limit, vmax=limit)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _with_difference(weights: dict, visible: np.ndarray | None = None) -> dict:
    if len(weights) != 2:
        return weights
    one, other = weights.values()
    difference = other - one
    largest = np.abs(difference if visible is None else difference[:, visible]).max()
    return {**weights, f"difference, at most {largest:.0e}": difference}

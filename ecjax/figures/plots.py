"""Figures: how every student ended, what was cut where, and the teacher beside what was recovered.

Every function takes records and returns a Matplotlib figure. None touches Matplotlib's global state, so a figure can be
saved (`figure.savefig`), shown in a notebook (`display(figure)`), or thrown away.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.spatial.distance import squareform

from ..cluster import Clustering, condensed_distances
from ..cluster.tree import Tree, tree
from ..judge.comparison import Comparison
from ..network import Network

HIDDEN = "#d9d9d9"  # weights that can't be known
_HIDDEN_GREY = 0xD9 / 255
KEPT, DROPPED, REST, LIMIT = "#11698e", "#e07b39", "#b8bec6", "#b3261e"
_EPS = np.finfo(float).eps  # angles of exact copies are drawn here
_LARGEST_MATRIX = 1000  # neurons drawn in a similarity matrix; a page has no more pixels
_MOST_POINTS = 2000  # epochs drawn in a history
_BLOCK = 8  # images side by side


def plot_losses(loss: Float[np.ndarray, " students"], *, target: float | None = None) -> Figure:
    """Final imitation loss of every student, best first.

    Args:
        loss: In units of var(y); a student that failed has nan or infinity and is drawn as a cross at the top.
        target: A loss to draw as a line, below which a student counts.
    """
    loss = np.sort(np.asarray(loss, float))
    figure, axes = _page(5.2, 3.2)
    finite = np.isfinite(loss)
    shown = _raised(loss[finite])
    rank = np.arange(1, len(loss) + 1)
    axes.semilogy(rank[finite], shown, "o", color=KEPT, markersize=6, clip_on=False)
    if not finite.all():
        top = np.full((~finite).sum(), shown.max(initial=1.0) * 10)
        axes.semilogy(rank[~finite], top, "x", color=LIMIT, label="failed")
        axes.legend(frameon=False)
    if target is not None:
        axes.axhline(target, color=LIMIT, linewidth=1, linestyle="--")
        axes.annotate("target", (len(loss), target), color=LIMIT, ha="right", va="bottom")
    axes.set(
        xlabel="student, best first",
        ylabel="imitation loss / var(y)",
        title="How well every student imitates",
        xlim=(0.4, len(loss) + 0.6),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_history(history: Float[np.ndarray, "epochs students"], *, target: float | None = None) -> Figure:
    """Training loss of every student against the epoch; a dot where a student stopped before the others.

    Args:
        history: Mean loss of each epoch in units of var(y); NaN from when a student has stopped.
        target: A loss to draw as a line, at which a student is done.
    """
    history = np.asarray(history, float)
    n_epochs, n_students = history.shape
    shown = np.unique(np.linspace(0, n_epochs - 1, min(n_epochs, _MOST_POINTS)).astype(int))
    figure, axes = _page(6.4, 3.6)
    for i, loss in enumerate(history.T):
        known = np.flatnonzero(np.isfinite(loss) & (loss > 0))
        drawn = np.intersect1d(known, shown)
        axes.plot(drawn + 1, loss[drawn], color=KEPT, alpha=max(0.25, min(1.0, 6 / n_students)), linewidth=0.9,
                  label="one student" if i == 0 else None)  # fmt: skip
        if len(known) and known[-1] < n_epochs - 1:
            axes.plot(known[-1] + 1, loss[known[-1]], "o", color=KEPT, markersize=3.5)
    if n_students > 2:
        alive = shown[np.isfinite(history[shown]).any(axis=1)]
        axes.plot(alive + 1, np.nanmedian(history[alive], axis=1), color=DROPPED, linewidth=1.8, label="median")
        axes.legend(frameon=False)
    if target:
        axes.axhline(target, color=LIMIT, linewidth=1, linestyle="--")
        axes.annotate("target", (1, target), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                      color=LIMIT, ha="right", va="bottom")  # fmt: skip
    axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="training loss / var(y)", title="How every student learned")
    axes.set_xlim(0, n_epochs + 1)
    return figure


def plot_dendrogram(clustering: Clustering) -> Figure:
    """The dendrogram of one layer; the clusters that were kept in colour, the cut of each candidate as a bar."""
    nodes = _tree(clustering)
    n, linkage = len(clustering.neurons), clustering.linkage
    height = _raised(nodes.height)
    place = nodes.start + (nodes.n_vectors - 1) / 2  # every node is an interval of leaves; stand over its middle
    left, right = linkage[:, 0].astype(int), linkage[:, 1].astype(int)
    made = n + np.arange(len(linkage))
    corners = [(left, left), (left, made), (right, made), (right, right)]
    lines = np.stack([np.stack([place[x], height[y]], axis=-1) for x, y in corners], axis=1)
    colour = np.full(len(linkage), REST, dtype=object)
    for k, node in enumerate(clustering.node):
        below = (nodes.start[made] >= nodes.start[node]) & (
            nodes.start[made] < nodes.start[node] + nodes.n_vectors[node]
        )
        colour[below & (made <= node)] = KEPT if clustering.kept[k] else DROPPED

    figure, axes = _page(7.5, 3.8)
    axes.add_collection(LineCollection(list(lines), colors=list(colour), linewidths=1))
    axes.set_yscale("log")
    axes.set(xlim=(-1, n), ylim=(height[n:].min() / 3, height.max() * 3))
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    found = 0
    for k, node in enumerate(clustering.node):
        first, last = nodes.start[node] - 0.5, nodes.start[node] + nodes.n_vectors[node] - 0.5
        if np.isnan(clustering.height):
            bar = np.sqrt(height[node] * max(nodes.top[node], height[node]))
            axes.plot([first, last], [bar, bar], color=LIMIT, linewidth=2, solid_capstyle="butt")
        if clustering.kept[k]:
            found += 1
            axes.annotate(
                f"{found}", ((first + last) / 2, 0), (0, -3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="top", color=KEPT, fontsize=8,
            )  # fmt: skip
    if np.isfinite(clustering.height):
        axes.axhline(max(clustering.height, height[n:].min()), color=LIMIT, linewidth=1.5)
    axes.set(
        xlabel=f"\n{n} neurons of {clustering.n_students} students",
        ylabel=f"distance ({clustering.config.metric})",
        title=f"{found} clusters kept (blue) at the cut (red)",
    )
    return figure


def plot_similarity(clustering: Clustering) -> Figure:
    """Distances between all neurons of a layer in the order of the dendrogram: dark blocks are copies of one neuron.

    Of more than 1,000 neurons every second, third, ... is drawn.
    """
    order = _tree(clustering).order
    step = -(-len(order) // _LARGEST_MATRIX)
    apart = _raised(squareform(condensed_distances(clustering.points(order[::step]))))
    figure, axes = _page(4.8, 4.2)
    image = axes.imshow(
        apart,
        norm=LogNorm(apart.min(), max(apart.max(), 10 * apart.min())),
        cmap="YlGnBu_r",
        interpolation="nearest" if len(apart) < 400 else "antialiased",
        extent=(0, len(order), len(order), 0),
    )
    figure.colorbar(image, ax=axes, label=f"distance ({clustering.config.metric})", shrink=0.85)
    axes.set(title="Which neurons agree", xlabel="neuron, in order of the dendrogram")
    axes.spines[:].set_visible(False)
    return figure


def plot_angles(clustering: Clustering) -> Figure:
    """Median angle of every candidate cluster against the share of students in it, with the limits beta and gamma."""
    config = clustering.config
    figure, axes = _page(5.2, 3.6)
    share = clustering.n_present / clustering.n_students
    angle = np.maximum(np.nan_to_num(clustering.median_angle, nan=np.pi), _EPS)
    for mask, colour, marker, label in (
        (clustering.kept, KEPT, "o", "kept"),
        (~clustering.kept, DROPPED, "X", "dropped"),
    ):
        axes.plot(share[mask], angle[mask], marker, color=colour, alpha=0.75, markersize=7, label=label, clip_on=False)
    axes.set_yscale("log")
    axes.axhline(config.beta, color=LIMIT, linewidth=1, linestyle="--")
    axes.axvline(config.gamma, color=LIMIT, linewidth=1, linestyle=":")
    axes.annotate("beta", (0, config.beta), (3, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  color=LIMIT)  # fmt: skip
    axes.annotate("gamma", (config.gamma, 0), (-3, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                  color=LIMIT, ha="right")  # fmt: skip
    axes.set(
        xlabel="share of the students in the cluster",
        ylabel="median angle between members (rad)",
        title="What vouches for every cluster",
        xlim=(min(0.0, config.gamma), 1.02),
        ylim=(angle.min(initial=config.beta) / 4, np.pi * 1.5),
    )
    if len(angle):
        axes.legend(frameon=False, loc="center left")
    return figure


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
    symmetry = network.activation.symmetry
    if symmetry.antiperiod is not None:
        ours[:, -1] += symmetry.antiperiod * np.round((theirs - ours)[:, -1] / symmetry.antiperiod)
    if symmetry.homogeneous:  # the norm of an incoming vector is open: show directions
        theirs, ours = (w / np.linalg.norm(w, axis=1, keepdims=True) for w in (theirs, ours))
    return {"teacher": theirs, "recovered": ours}


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
    figure, axes = _grid(1.4 + max(2.2, 0.3 * min(m, 15)) * len(panels), 1.3 + 0.28 * min(n, 18), 1, len(panels))
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
        visible: Which inputs vary; the weights of the others can't be known and are left grey.
        names: A number for each neuron; by default 1, 2, ...
        title: Above it all.
    """
    panels = _with_difference(weights, visible)
    n = len(next(iter(weights.values())))
    names = range(1, n + 1) if names is None else names
    n_blocks = -(-n // _BLOCK)
    across = -(-n // n_blocks)
    height = (0.3 + 0.95 * len(panels)) * n_blocks + (0.3 if title else 0)
    figure, axes = _grid(1.5 + 0.95 * max(across, 2), height, len(panels) * n_blocks, across)
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


def _tree(clustering: Clustering) -> Tree:
    far = clustering.linkage[:, 2].max() * 2
    return tree(clustering.linkage, clustering.student, known_up_to=clustering.known_up_to, far=far)


def _raised(values: np.ndarray) -> np.ndarray:
    """Values fit for a logarithmic axis: zeros become as small as the smallest other value."""
    return np.maximum(values, values[values > 0].min(initial=1.0))


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = _grid(width, height, 1, 1)
    return figure, axes[0, 0]


def _grid(width: float, height: float, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
    return figure, axes

"""What was cut where in one layer: the dendrogram, the distances behind it, and what vouches for every cluster."""

import numpy as np
from jaxtyping import Int
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.spatial.distance import squareform

from ..cluster import Clustering, condensed_distances
from ..cluster.tree import Tree, tree
from .page import DROPPED, KEPT, LIMIT, REST, one_page, raised

_EPS = np.finfo(float).eps  # angles of exact copies are drawn here
_LARGEST_MATRIX = 1000  # neurons drawn in a similarity matrix; a page has no more pixels


def plot_dendrogram(
    clustering: Clustering, *, of: str = "", numbers: Int[np.ndarray, " clusters"] | None = None
) -> Figure:
    """The dendrogram of one layer; the clusters that were kept in colour, the cut of each candidate as a bar.

    Args:
        clustering: Of the neurons of one activation: of a layer with several, one of its `groups`.
        of: What these neurons are called, where the layer has others.
        numbers: Of the neuron that each candidate became, 0 of those that became none and are drawn as dropped
            (`ecjax.road.cluster_numbers`); by default those that were kept are counted.
    """
    nodes = _tree(clustering)
    n, linkage = len(clustering.neurons), clustering.linkage
    height = raised(nodes.height)
    place = nodes.start + (nodes.n_vectors - 1) / 2  # every node is an interval of leaves; stand over its middle
    left, right = linkage[:, 0].astype(int), linkage[:, 1].astype(int)
    made = n + np.arange(len(linkage))
    corners = [(left, left), (left, made), (right, made), (right, right)]
    lines = np.stack([np.stack([place[x], height[y]], axis=-1) for x, y in corners], axis=1)
    colour = np.full(len(linkage), REST, dtype=object)
    if numbers is None:
        numbers = np.where(clustering.kept, np.cumsum(clustering.kept), 0)
    for k, node in enumerate(clustering.node):
        below = (nodes.start[made] >= nodes.start[node]) & (
            nodes.start[made] < nodes.start[node] + nodes.n_vectors[node]
        )
        colour[below & (made <= node)] = KEPT if numbers[k] else DROPPED

    figure, axes = one_page(7.5, 3.8)
    axes.add_collection(LineCollection(list(lines), colors=list(colour), linewidths=1))
    axes.set_yscale("log")
    merged = height[n:] if len(linkage) else np.array([min(clustering.known_up_to, 1.0)])
    lowest, highest = merged.min(), merged.max()
    axes.set(xlim=(-1, n), ylim=(lowest / 3, highest * 3))
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    for k, node in enumerate(clustering.node):
        first, last = nodes.start[node] - 0.5, nodes.start[node] + nodes.n_vectors[node] - 0.5
        if np.isnan(clustering.height):
            bar = np.sqrt(height[node] * max(nodes.top[node], height[node]))
            axes.plot([first, last], [bar, bar], color=LIMIT, linewidth=2, solid_capstyle="butt")
        if numbers[k]:
            axes.annotate(
                f"{numbers[k]}", ((first + last) / 2, 0), (0, -3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="top", color=KEPT, fontsize=8,
            )  # fmt: skip
    if np.isfinite(clustering.height):
        axes.axhline(max(clustering.height, lowest), color=LIMIT, linewidth=1.5)
    if not len(linkage):
        nothing = f"no two neurons are closer than {clustering.known_up_to:.2g}"
        axes.text(0.5, 0.5, nothing, transform=axes.transAxes, ha="center", color=LIMIT)
    axes.set(
        xlabel=f"\n{n} neurons of {clustering.n_students} students",
        ylabel=f"distance ({clustering.config.metric})",
        title=_title(f"{np.count_nonzero(numbers)} neurons (blue), other candidates (orange), the cut (red)", of),
    )
    return figure


def plot_similarity(clustering: Clustering, *, of: str = "") -> Figure:
    """Distances between all neurons of a layer in the order of the dendrogram: dark blocks are copies of one neuron.

    Of more than 1,000 neurons every second, third, ... is drawn.

    Args:
        clustering: See `plot_dendrogram`.
        of: See `plot_dendrogram`.
    """
    order = _tree(clustering).order
    step = -(-len(order) // _LARGEST_MATRIX)
    apart = raised(squareform(condensed_distances(clustering.points(order[::step]))))
    figure, axes = one_page(4.8, 4.2)
    image = axes.imshow(
        apart,
        norm=LogNorm(apart.min(), max(apart.max(), 10 * apart.min())),
        cmap="YlGnBu_r",
        interpolation="nearest" if len(apart) < 400 else "antialiased",
        extent=(0, len(order), len(order), 0),
    )
    figure.colorbar(image, ax=axes, label=f"distance ({clustering.config.metric})", shrink=0.85)
    axes.set(title=_title("Which neurons agree", of), xlabel="neuron, in order of the dendrogram")
    axes.spines[:].set_visible(False)
    return figure


def plot_angles(clustering: Clustering, *, of: str = "") -> Figure:
    """Median angle of every candidate cluster against the share of students in it, with the limits beta and gamma.

    Args:
        clustering: See `plot_dendrogram`.
        of: See `plot_dendrogram`.
    """
    config = clustering.config
    figure, axes = one_page(5.2, 3.6)
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
        title=_title("What vouches for every cluster", of),
        xlim=(min(0.0, config.gamma), 1.02),
        ylim=(angle.min(initial=config.beta) / 4, np.pi * 1.5),
    )
    if len(angle):
        axes.legend(frameon=False, loc="center left")
    return figure


def _title(title: str, of: str) -> str:
    return f"{of}: {title}" if of else title


def _tree(clustering: Clustering) -> Tree:
    far = 2 * clustering.linkage[:, 2].max(initial=0.5)
    return tree(clustering.linkage, clustering.student, known_up_to=clustering.known_up_to, far=far)

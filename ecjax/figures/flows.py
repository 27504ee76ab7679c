"""Figures of gradient flows: losses over time, where students end, planes, and neurons on their way."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ..flow import Trajectory, neuron_paths, overlaps
from ..flow.critical import DEGENERATE, MINIMUM, SADDLE
from ..flow.study import FAILED, INFINITE, MOVING, Study
from ..network import Network
from .page import DROPPED, KEPT, LIMIT, REST, grid, one_page, raised

_COLOURS = {MINIMUM: KEPT, SADDLE: LIMIT, DEGENERATE: DROPPED, INFINITE: REST, MOVING: REST, FAILED: REST}


def plot_flows(path: Trajectory) -> Figure:
    """Loss of every student against flow time, both logarithmic; the start, at time 0, is left out."""
    figure, axes = one_page(6.4, 3.6)
    for i in range(path.n_students):
        shown = slice(1, path.n_saved[i])
        strength = max(0.15, min(1.0, 6 / path.n_students))
        axes.loglog(path.time[i, shown], raised(path.loss[i, shown]), color=KEPT, alpha=strength, linewidth=0.9)
    axes.set(xlabel="flow time", ylabel="loss", title="How the loss of every student falls")
    return figure


def plot_ends(study: Study) -> Figure:
    """Loss and smallest eigenvalue of every end, in the colour of its kind."""
    figure, panels = grid(8.0, 3.4, 1, 2)
    losses = raised(np.array([point.loss for point in study.points]))
    order = np.argsort(losses)
    rank = np.empty(len(order), int)
    rank[order] = np.arange(1, len(order) + 1)
    smallest = np.array([point.spectrum[0] for point in study.points])
    for kind, colour in _COLOURS.items():
        members = [i for i, end in enumerate(study.ends) if end == kind]
        if members:
            panels[0, 0].semilogy(rank[members], losses[members], "o", color=colour, markersize=4, label=kind)
            panels[0, 1].plot(losses[members], smallest[members], "o", color=colour, markersize=4)
    panels[0, 0].set(xlabel="student, best first", ylabel="loss", title="Where students end")
    panels[0, 0].legend(frameon=False)
    panels[0, 1].set(xlabel="loss", ylabel="smallest eigenvalue", title="And how it curves there", xscale="log")
    panels[0, 1].set_yscale("symlog", linthresh=1e-6)
    panels[0, 1].axhline(0, color=LIMIT, linewidth=0.8)
    return figure


def plot_plane(
    x: Float[np.ndarray, " columns"],
    y: Float[np.ndarray, " rows"],
    losses: Float[np.ndarray, "rows columns"],
) -> Figure:
    """The loss on a plane, in contours of its logarithm; `plane.coordinates` places paths on it."""
    figure, axes = one_page(4.6, 3.8)
    drawn = axes.contourf(x, y, np.log10(raised(losses)), levels=24, cmap="viridis")
    figure.colorbar(drawn, label="log10 loss")
    axes.plot(0, 0, "x", color=LIMIT)
    axes.set(xlabel="first direction", ylabel="second direction", title="The loss on a plane")
    return figure


def plot_neurons(path: Trajectory, i: int, teacher: Network | None = None, *, layer: int = 0) -> Figure:
    """The first two incoming weights of every neuron of a student on its way, and the teacher's, where it is known."""
    figure, axes = one_page(4.2, 4.0)
    incoming = neuron_paths(path, i, layer=layer).incoming
    for neuron in range(incoming.shape[1]):
        axes.plot(incoming[:, neuron, 0], incoming[:, neuron, 1], color=KEPT, linewidth=1)
        axes.plot(*incoming[-1, neuron, :2], "o", color=KEPT, markersize=4)
    if teacher is not None:
        theirs = np.asarray(teacher.layers[layer].w)
        axes.plot(theirs[:, 0], theirs[:, 1], "*", color=DROPPED, markersize=11, zorder=0, label="teacher")
        axes.legend(frameon=False)
    axes.set(xlabel="first weight", ylabel="second weight", title="Where neurons go")
    return figure


def plot_overlaps(path: Trajectory, i: int, teacher: Network, *, layer: int = 0) -> Figure:
    """Each neuron's largest overlap with one of the teacher's, over time."""
    figure, axes = one_page(5.2, 3.2)
    time, cosines = path.path(i)[0], np.abs(overlaps(path, i, teacher, layer=layer)).max(axis=2)
    axes.semilogx(time[1:], cosines[1:], linewidth=1.1)
    axes.set(xlabel="flow time", ylabel="|cosine|", title="Neurons and the teacher's closest")
    return figure

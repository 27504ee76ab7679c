"""How well every student imitates, and how it came there."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .page import DROPPED, KEPT, LIMIT, one_page, raised

_MOST_POINTS = 2000  # epochs drawn in a history


def plot_losses(loss: Float[np.ndarray, " students"], *, target: float | None = None) -> Figure:
    """Final imitation loss of every student, best first.

    Args:
        loss: In units of var(y); a student that failed has nan or infinity and is drawn as a cross at the top.
        target: A loss to draw as a line, below which a student counts.
    """
    loss = np.sort(np.asarray(loss, float))
    figure, axes = one_page(5.2, 3.2)
    finite = np.isfinite(loss)
    shown = raised(loss[finite])
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
    figure, axes = one_page(6.4, 3.6)
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

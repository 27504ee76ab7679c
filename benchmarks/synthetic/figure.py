"""Students and teachers against the ease of the teacher, one colour for each expansion."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

COLOURS = {1: "#b8bec6", 2: "#e07b39", 4: "#11698e", 8: "#5b2a86"}
N_BINS = 6  # of equally many teachers


def plot_against_ease(frame, *, title: str, n_bins: int = N_BINS) -> Figure:
    """Students at zero loss, teachers recovered and neurons in excess, against the ease of the teacher.

    Args:
        frame: Rows of `ecjax`'s tidy table, of one method.
        title: Which.
        n_bins: Bins of the ease, each with equally many teachers; points stand at the median ease of their bin.

    Raises:
        ValueError: If there are no rows.
    """
    if not len(frame):
        raise ValueError(f"`of`: there is no trial of {title!r} to draw; look at --table for what is there.")
    figure = Figure(figsize=(11, 3.6), dpi=130, layout="constrained")
    at_zero, recovered, excess = figure.subplots(1, 3, sharex=True)
    ease = np.log10(frame.ease.to_numpy(float))
    edges = np.quantile(np.unique(ease), np.linspace(0, 1, n_bins + 1)[1:-1])
    expansions = sorted(frame.expansion.unique())
    for number, expansion in enumerate(expansions):
        same = (frame.expansion == expansion).to_numpy()
        rows, x = frame[same], ease[same]
        colour, shift = COLOURS.get(expansion, "#000000"), 0.04 * (number - (len(expansions) - 1) / 2)
        bins = np.digitize(x, edges)
        members = [bins == k for k in np.unique(bins)]
        centre = np.array([np.median(x[inside]) for inside in members]) + shift
        _line(
            at_zero, centre, [rows.at_zero_loss[inside].mean() for inside in members], colour, f"expansion {expansion}"
        )
        at_zero.plot(x, rows.at_zero_loss, ".", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
        counts = [(int(rows.recovered[inside].sum()), int(inside.sum())) for inside in members]
        share = np.array([k / n for k, n in counts])
        interval = np.array([binomtest(k, n).proportion_ci(method="wilson") for k, n in counts]).T
        recovered.vlines(centre, *interval, color=colour, linewidth=1, alpha=0.7)
        _line(recovered, centre, share, colour)
        _line(excess, centre, [rows.n_excess[inside].median() for inside in members], colour)
    at_zero.set(title="students at zero loss", ylabel="fraction")
    recovered.set(title="teachers recovered exactly (95% interval)", ylabel="fraction")
    excess.set(title="neurons in excess", ylabel="median")
    excess.yaxis.set_major_locator(MaxNLocator(integer=True))
    excess.set_ylim(bottom=-0.05 * max(1, excess.get_ylim()[1]), top=max(1, excess.get_ylim()[1]))
    for axes in (at_zero, recovered):
        axes.set_ylim(-0.03, 1.03)
    for axes in (at_zero, recovered, excess):
        axes.set_xlabel("log10 ease of the teacher")
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    at_zero.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title}: {len(frame)} trials", fontsize=11)
    return figure


def _line(axes: Axes, x, y, colour: str, label: str | None = None) -> None:
    axes.plot(x, y, "o-", color=colour, markersize=4.5, linewidth=1.3, label=label, clip_on=False)

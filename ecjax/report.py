"""All figures of a recovery, drawn into a folder."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from . import plots
from .compare import Comparison
from .networks import Network
from .recover import Recovery


def save_figures(
    folder: str | os.PathLike,
    recovery: Recovery,
    x: Float[Array, "samples inputs"],
    teacher: Network | None = None,
    comparison: Comparison | None = None,
    *,
    image: tuple[int, int] | None = None,
) -> None:
    """Draw what there is to see of a recovery.

    Args:
        folder: Made if missing.
        recovery: What was recovered.
        x: Its queries; they say which weights can be seen.
        teacher: Drawn beside it, where it is known...
        comparison: ...neuron by neuron, as this pairs them.
        image: Height and width, if the inputs are pixels.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    _save(plots.plot_losses(np.asarray(recovery.expansion.loss)), folder / "losses.png")
    for i, clustering in enumerate(recovery.clusterings, start=1):
        _save(plots.plot_dendrogram(clustering), folder / f"dendrogram-{i}.png")
        _save(plots.plot_similarity(clustering), folder / f"similarity-{i}.png")
        _save(plots.plot_angles(clustering), folder / f"angles-{i}.png")
    weights = plots.paired_weights(recovery.network, teacher, comparison)
    if len(next(iter(weights.values()))) == 0:
        return
    if image is not None:
        pixels = {title: w[:, :-1] for title, w in weights.items()}
        visible = np.ptp(np.asarray(x), axis=0) > 0
        _save(plots.plot_images(pixels, image, visible=visible), folder / "weights.png")
    else:
        columns = [f"x{i + 1}" for i in range(x.shape[1])] + ["b"]
        _save(plots.plot_weights(weights, columns=columns), folder / "weights.png")


def _save(figure: Figure, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)

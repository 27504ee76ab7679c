"""All figures of a recovery, drawn into a folder."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from ..base.files import write_whole
from ..judge import Comparison
from ..network import Network
from ..objective.variation import variation
from ..road import Recovery, cluster_numbers
from .clusters import plot_angles, plot_dendrogram, plot_similarity
from .losses import plot_history, plot_losses
from .weights import numbered_weights, plot_images, plot_weights

_PAGE = 16  # neurons drawn as images in one figure


def save_figures(
    folder: str | os.PathLike,
    recovery: Recovery,
    x: Float[Array, "samples inputs"],
    teacher: Network | None = None,
    comparison: Comparison | None = None,
    *,
    image: tuple[int, ...] | None = None,
    inputs: Sequence[str] = (),
) -> None:
    """Draw what there is to see of a recovery; of a layer with several activations, the clusters of each by themselves.

    Args:
        folder: Made if missing.
        recovery: What was recovered.
        x: Its queries; they say which weights have any influence.
        teacher: Drawn beside it, where it is known...
        comparison: ...neuron by neuron, as this pairs them.
        image: Height and width in pixels, if the inputs are images; (3, height, width) of images in colour.
        inputs: Names of the inputs, if they have any.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i, (expansion, clustering) in enumerate(zip(recovery.expansions, recovery.clusterings, strict=True)):
        save_picture(plot_losses(np.asarray(expansion.loss)), folder / f"losses-{i + 1}.png")
        if expansion.history is not None and len(expansion.history):
            save_picture(plot_history(expansion.history), folder / f"history-{i + 1}.png")
        students, groups = expansion.students, clustering.groups
        kinds = [kind.name for kind, _ in students.layers[0].activation.groups(students.widths[0])]
        numbers = cluster_numbers(recovery, x, i)
        for j, (group, kind) in enumerate(zip(groups, kinds, strict=True), start=1):
            of, page = ("", f"{i + 1}.png") if len(groups) == 1 else (kind, f"{i + 1}-group{j}.png")
            save_picture(plot_dendrogram(group, of=of, numbers=numbers[j - 1]), folder / f"dendrogram-{page}")
            save_picture(plot_similarity(group, of=of), folder / f"similarity-{page}")
            save_picture(plot_angles(group, of=of), folder / f"angles-{page}")
        names, weights = numbered_weights(recovery.network, teacher, comparison, layer=i)
        if len(names) == 0:
            continue
        if i == 0 and image is not None:
            _save_images(weights, image, ~variation(x).constant, names, folder)
            continue
        columns = (
            [*(inputs or (f"x{k + 1}" for k in range(x.shape[1]))), "b"]
            if i == 0
            else f"neuron of layer {i}; bias last"
        )
        title = f"incoming weights of layer {i + 1}" if len(recovery.clusterings) > 1 else None
        figure = plot_weights(weights, columns=columns, names=names, title=title)
        save_picture(figure, folder / f"weights-{i + 1}.png")


def _save_images(weights, image: tuple[int, ...], visible: np.ndarray, names: list[int], folder: Path) -> None:
    """The first layer, a page of neurons at a time."""
    pages = [slice(start, start + _PAGE) for start in range(0, len(names), _PAGE)]
    for number, page in enumerate(pages, start=1):
        pixels = {heading: w[page, :-1] for heading, w in weights.items()}
        title = f"neurons {names[page][0]} to {names[page][-1]} of layer 1" if len(pages) > 1 else None
        figure = plot_images(pixels, image, visible=visible, names=names[page], title=title)
        save_picture(figure, folder / ("weights-1.png" if number == 1 else f"weights-1-page{number}.png"))


def save_picture(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG; the file appears whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(path, picture.getvalue())

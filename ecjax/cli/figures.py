"""The figures of a run, drawn into its folder."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from .. import plots
from ..compare import Comparison
from ..networks import Network
from ..recover import Recovery


def save_figures(
    folder: Path,
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
    folder.mkdir(exist_ok=True)
    _save(plots.plot_losses(np.asarray(recovery.expansion.loss)), folder / "losses.png")
    for i, clustering in enumerate(recovery.clusterings, start=1):
        _save(plots.plot_dendrogram(clustering), folder / f"dendrogram-{i}.png")
        _save(plots.plot_similarity(clustering), folder / f"similarity-{i}.png")
        _save(plots.plot_angles(clustering), folder / f"angles-{i}.png")
    weights = incoming_weights(recovery.network, teacher, comparison)
    if len(next(iter(weights.values()))) == 0:
        return
    if image is not None:
        pixels = {title: w[:, :-1] for title, w in weights.items()}
        visible = np.asarray(jnp.std(x, axis=0) > 0)
        _save(plots.plot_images(pixels, image, visible=visible), folder / "weights.png")
    else:
        columns = [f"x{i + 1}" for i in range(x.shape[1])] + ["b"]
        _save(plots.plot_weights(weights, columns=columns), folder / "weights.png")


def incoming_weights(
    network: Network, teacher: Network | None, comparison: Comparison | None
) -> dict[str, Float[np.ndarray, "neurons inputs"]]:
    """First-layer rows (w, b) by title; beside a teacher, the matched pairs in its order and with its signs."""
    recovered = _rows(network)
    if teacher is None or comparison is None:
        return {"recovered": recovered}
    layer = comparison.layers[0]
    found = layer.partner >= 0
    theirs, ours = _rows(teacher)[found], (layer.sign[:, None] * recovered[layer.partner])[found]
    if network.activation.symmetry.homogeneous:  # the norm of an incoming vector is open: show directions
        theirs, ours = (w / np.linalg.norm(w, axis=1, keepdims=True) for w in (theirs, ours))
    return {"teacher": theirs, "recovered": ours}


def _rows(network: Network) -> Float[np.ndarray, "neurons inputs"]:
    first = network.layers[0]
    return np.column_stack([np.asarray(first.w), np.asarray(first.b)])


def _save(figure: Figure, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)

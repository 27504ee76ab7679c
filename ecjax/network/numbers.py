"""A network's numbers for people and for other programs: a table of text, comma-separated lines, plain arrays."""

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from .mixtures import Mixture
from .network import Layer, Network

_COLUMN, _PLACES = 12, 6  # characters of a number in text, and how many of them are significant


def as_text(net: Network, inputs: Sequence[str] = ()) -> str:
    """A table for each layer, a line for each neuron: its activation, its incoming weights, its bias.

    Args:
        net: One network.
        inputs: Names of its inputs; by default x1, x2, ...
    """
    tables = []
    for number, (layer, sources) in enumerate(zip(net.layers, _sources(net, inputs), strict=True), start=1):
        title = "output layer" if layer is net.output else f"hidden layer {number}"
        lines = [f"{title}, a line a neuron", "neuron  activation " + "".join(map(_cell, (*sources, "bias")))]
        for i, (w, b) in enumerate(zip(np.asarray(layer.w), np.asarray(layer.b), strict=True), start=1):
            numbers = "".join(_cell(f"{each:.{_PLACES}g}") for each in (*w, b))
            lines.append(f"{i:>6}  {_activation(layer, i - 1):<11}{numbers}")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def as_csv(net: Network, inputs: Sequence[str] = ()) -> str:
    """Every weight and bias in a line of its own, with all digits: layer, neuron, activation, source, value.

    The source is an input by its name, a neuron of the layer below by its number, or "bias"; layers and neurons are
    counted from 1, the last layer gives the outputs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("layer", "neuron", "activation", "source", "value"))
    for number, (layer, sources) in enumerate(zip(net.layers, _sources(net, inputs), strict=True), start=1):
        for i, (w, b) in enumerate(zip(np.asarray(layer.w), np.asarray(layer.b), strict=True), start=1):
            for source, value in zip((*sources, "bias"), (*w, b), strict=True):
                writer.writerow((number, i, _activation(layer, i - 1), source, f"{value:.17g}"))
    return text.getvalue()


def as_npz(net: Network, inputs: Sequence[str] = ()) -> bytes:
    """w1, b1, w2, b2, ... and the names of activations and inputs, for `np.load`; row i of w1 is neuron i."""
    content, arrays = io.BytesIO(), {}
    for number, layer in enumerate(net.layers, start=1):
        arrays |= {f"w{number}": np.asarray(layer.w), f"b{number}": np.asarray(layer.b)}
        arrays[f"activation{number}"] = np.array([_activation(layer, i) for i in range(len(layer.b))])
    np.savez(content, allow_pickle=False, **arrays, inputs=np.array(list(next(_sources(net, inputs)))))
    return content.getvalue()


def _sources(net: Network, inputs: Sequence[str]) -> Iterator[Sequence[str]]:
    """What the weights of each layer belong to, by name: inputs, then the neurons of the layer below."""
    yield inputs or [f"x{i}" for i in range(1, net.shape[0] + 1)]
    for width in net.widths:
        yield [f"{i}" for i in range(1, width + 1)]


def _activation(layer: Layer, i: int) -> str:
    activation = layer.activation
    return activation.each[i].name if isinstance(activation, Mixture) else activation.name


def _cell(text: str) -> str:
    return f"{text[:_COLUMN]:>{_COLUMN + 1}}"

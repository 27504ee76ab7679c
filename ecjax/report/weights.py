"""The recovered weights as numbers, beside the teacher's where they are known, and as images of pixels."""

import numpy as np
from jaxtyping import Float

from ..figures.weights import numbered_weights
from ..judge import Comparison, LayerComparison
from ..objective.variation import variation
from ..runs import Run
from . import charts
from .parts import Section, escaped, picture, table

_MOST_COLUMNS = 40  # of a table of weights that is shown open
_MOST_NUMBERS = 20_000  # of a table of weights, some 60 bytes each
_MOST_POINTS = 2000  # of a chart


def weights(run: Run, comparison: Comparison | None, names: tuple[str, ...]) -> Section:
    """Every hidden layer's incoming weights, and the output layer's.

    Args:
        run: The run.
        comparison: With the teacher, where it is known.
        names: Of the inputs.
    """
    section, recovery = Section("Weights"), run.recovery
    image = run.config.get("image")
    for layer, width in enumerate(recovery.widths):
        numbers, sets = numbered_weights(recovery.network, run.teacher, comparison, layer=layer)
        columns = names if layer == 0 else tuple(f"neuron {k + 1}" for k in range(recovery.widths[layer - 1]))
        section.body.append(f"<h3>Into layer {layer + 1}: {width} neurons</h3>")
        if comparison is not None and len(numbers):
            _scatter(section, comparison.layers[layer], columns, layer + 1)
        if layer == 0 and image and len(numbers):
            _images(section, run, numbers, sets, tuple(image))
        _numbers(section, run, columns, layer)
    return _outgoing(section, run, names)


def _scatter(section: Section, compared: LayerComparison, columns: tuple[str, ...], layer: int) -> None:
    """The weights as they were compared, in one sign and without what no query shows."""
    found = np.flatnonzero(compared.partner >= 0)
    found = found[np.argsort(compared.partner[found], kind="stable")]
    names, partners = (found + 1).tolist(), (compared.partner[found] + 1).tolist()
    theirs, ours = compared.teacher_in[found], compared.recovered_in[found]
    step = -(-theirs.size // _MOST_POINTS)
    i, j = np.unravel_index(np.arange(0, theirs.size, step), theirs.shape)
    name = lambda column: columns[column] if column < len(columns) else "bias" if column == len(columns) else "rest"
    values = [
        {"teacher": float(theirs[a, b]), "recovered": float(ours[a, b]), "neuron": str(partners[a]),
         "weight": name(b), "difference": float(ours[a, b] - theirs[a, b])}
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    ]  # fmt: skip
    titles = ("the teacher's weight", "recovered weight")
    ends = [{"t": float(bound(theirs)), "r": float(bound(theirs))} for bound in (np.min, np.max)]
    line = charts.layer({"type": "line", "color": charts.REST, "strokeDash": [4, 4], "tooltip": None}, ends,
                        x=charts.number("t", titles[0]), y=charts.number("r", titles[1]))  # fmt: skip
    points = charts.layer(
        {"type": "point", "filled": True, "size": 45, "opacity": 0.8, "color": charts.NEURON}, values,
        x=charts.number("teacher", titles[0]), y=charts.number("recovered", titles[1]),
        tooltip=[{"field": each} for each in ("neuron", "weight", "teacher", "recovered", "difference")],
    )  # fmt: skip
    largest = float(np.abs(ours - theirs).max())
    caption = (
        f"Layer {layer}: recovered weights against the teacher's, which lie on the line where they are the same; the "
        f"largest difference is {largest:.1e}."
    )
    head = ("neuron", "the teacher's neuron", "largest difference")
    numbers = [(str(k), str(t), float(np.abs(o - w).max()))
               for k, t, o, w in zip(partners, names, ours, theirs, strict=True)]  # fmt: skip
    section.chart(f"against-{layer}", charts.chart(line, points), caption, table(head, numbers))


def _numbers(section: Section, run: Run, columns: tuple[str, ...], layer: int) -> None:
    """The recovered weights of a hidden layer."""
    w, half = _with_intervals(run, layer)
    section.body.append(matrix("neuron", [str(k + 1) for k in range(len(w))], (*columns, "bias"), w, half))


def _with_intervals(run: Run, layer: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights of a layer with the bias last, and half the width of their 95% intervals where answers have errors."""
    rows = lambda one: np.column_stack([np.asarray(one.w, float), np.asarray(one.b, float)])
    recovery = run.recovery
    half = None if recovery.errors is None else rows(recovery.intervals().layers[layer])
    return rows(recovery.network.layers[layer]), half


def matrix(
    corner: str,
    names: list[str],
    columns: tuple[str, ...],
    values: Float[np.ndarray, "rows columns"],
    half: Float[np.ndarray, "rows columns"] | None = None,
) -> str:
    """A table of numbers whose cells are coloured by them; one that is wide is kept behind a click."""
    if values.size > _MOST_NUMBERS:
        return f"<p>{values.size:,} numbers, too many for a page: they are in the run's network.safetensors.</p>"
    limit = float(np.abs(values).max(initial=0.0)) or 1.0
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in (corner, *columns))
    body = []
    for i, name in enumerate(names):
        cells = []
        for j, value in enumerate(values[i]):
            sure = "" if half is None or not np.isfinite(half[i, j]) else f" <small>± {half[i, j]:.1g}</small>"
            sign = "p" if value > 0 else "n"
            cells.append(f'<td class="{sign}" style="--a:{abs(value) / limit:.2f}">{value:.4g}{sure}</td>')
        body.append(f'<tr><th scope="row">{escaped(name)}</th>{"".join(cells)}</tr>')
    shown = f'<div class="wide" tabindex="0"><table class="heat"><thead><tr>{head}</tr></thead>'
    shown += f"<tbody>{''.join(body)}</tbody></table></div>"
    if len(columns) <= _MOST_COLUMNS:
        return shown
    return f"<details><summary>All {values.size:,} numbers</summary>{shown}</details>"


def _images(
    section: Section, run: Run, numbers: list[int], sets: dict[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    """Incoming weights as images; of the pixels that never vary there is nothing to see."""
    visible = np.asarray(~variation(run.x).constant)
    if len(sets) == 2:
        sets = {**sets, "difference": sets["recovered"] - sets["teacher"]}
    strips = []
    common = float(np.abs(sets.get("difference", next(iter(sets.values())))[:, :-1][:, visible]).max(initial=0)) or 1.0
    for title, w in sets.items():
        pictures = []
        for k, row in enumerate(w):
            own = np.abs(next(iter(sets.values()))[k, :-1][visible]).max(initial=0) or 1.0
            limit = common if title == "difference" else own
            image = _image(
                np.where(visible, row[:-1], np.nan), shape, limit, "PuOr" if title == "difference" else "RdBu_r"
            )
            alt = f"{title} weights into neuron {numbers[k]}"
            pictures.append(f'<div><img src="{image}" alt="{alt}"><b>{numbers[k]}</b></div>')
        scale = f", at most {common:.0e}" if title == "difference" else ""
        strips.append(f'<p>{title}{scale}</p><div class="strip">{"".join(pictures)}</div>')
    caption = "Incoming weights of layer 1 as images, by the number of the neuron: red is positive, blue negative, "
    caption += "grey are pixels that never vary. Each neuron has a scale of its own."
    section.figure("".join(strips), caption)


def _image(row: np.ndarray, shape: tuple[int, ...], limit: float, colours: str) -> str:
    hidden = np.isnan(row)
    if len(shape) == 3:  # in colour, around grey
        pixels = np.clip(np.where(hidden, 0.85, 0.5 + row / (2 * limit)), 0, 1)
        return picture(np.moveaxis(pixels.reshape(shape), 0, -1))
    from matplotlib import colormaps

    rgba = colormaps[colours](0.5 + np.where(hidden, 0, row) / (2 * limit))
    rgba[hidden] = (0.55, 0.55, 0.55, 1.0)
    return picture(rgba.reshape(*shape, 4))


def _outgoing(section: Section, run: Run, names: tuple[str, ...]) -> Section:
    """The output layer, and the linear map beside it where there is one."""
    recovery = run.recovery
    w, half = _with_intervals(run, len(recovery.widths))
    outputs = list(run.data.outputs) or [f"output {k + 1}" for k in range(len(w))]
    columns = (*(f"neuron {k + 1}" for k in range(w.shape[1] - 1)), "bias")
    section.body.append(f"<h3>Into the outputs</h3>{matrix('output', outputs, columns, w, half)}")
    if recovery.linear is not None:
        linear = np.asarray(recovery.linear.w, float)
        section.say("Signs of some neurons stayed open: a linear map of the inputs is part of the answer.")
        section.body.append(matrix("output", outputs, names, linear))
    return section

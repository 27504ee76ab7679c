"""What the network answers beside what was answered, and what each of its neurons does with the queries."""

import jax.numpy as jnp
import numpy as np

from ..network import Layer, Network, hidden_states, respond
from ..runs import Run
from . import charts
from .parts import Section, table

_MOST_POINTS = 1000
_CURVE = 60  # points of a profile
_MOST_NEURONS = 40


def answers(run: Run) -> Section:
    """Residuals of the recovered network, and the profile of each neuron."""
    section, recovery = Section("Answers"), run.recovery
    y = np.asarray(run.y, float)
    names = run.data.outputs or tuple(str(k + 1) for k in range(y.shape[1]))
    got = np.asarray(respond(recovery.network, run.x), float)
    if recovery.linear is not None:
        got = got + np.asarray(run.x, float) @ np.asarray(recovery.linear.w, float).T
        got = got + np.asarray(recovery.linear.b, float)
    i = np.arange(0, len(y), -(-y.size // _MOST_POINTS))
    values = [
        {"given": float(y[a, b]), "difference": float(got[a, b] - y[a, b]), "output": names[b], "query": int(a) + 1}
        for a in i
        for b in range(y.shape[1])
    ]
    points = charts.layer(
        {"type": "point", "filled": True, "size": 20, "opacity": 0.6, "color": charts.NEURON}, values,
        x=charts.number("given", "given answer"),
        y=charts.number("difference", "predicted - given", axis={"format": ".1e"}),
        tooltip=[{"field": each} for each in ("query", "output", "given", "difference")],
    )  # fmt: skip
    error = np.sqrt(np.mean((got - y) ** 2, axis=0))
    caption = f"Answers of the recovered network less those that were given, of {len(i):,} queries; at most "
    caption += f"{np.abs(got - y).max():.1e}."
    head = ("output", "root mean square of the difference", "largest", "standard deviation of the answers")
    rows = [(names[b], float(error[b]), float(np.abs(got - y)[:, b].max()), float(y[:, b].std()))
            for b in range(y.shape[1])]  # fmt: skip
    section.chart("residuals", charts.chart(points), caption, table(head, rows))
    for layer, state in enumerate(hidden_states(recovery.network, run.x), start=1):
        _profiles(section, run, np.asarray(state.z, float), layer)
    return section


def _profiles(section: Section, run: Run, z: np.ndarray, layer: int) -> None:
    """What each neuron adds to the layer above, over the part of its activation that the queries use."""
    network = run.recovery.network
    low, middle, high = np.quantile(z, [0.01, 0.5, 0.99], axis=0)
    size = np.linalg.norm(np.asarray(network.layers[layer].w, float), axis=0)
    grid = np.linspace(low, high, _CURVE)
    h = size * _activated(network.layers[layer - 1], grid)
    width = min(z.shape[1], _MOST_NEURONS)
    values = [
        {"z": float(a), "h": float(b), "neuron": str(k + 1)}
        for k in range(width)
        for a, b in zip(grid[:, k], h[:, k], strict=True)
    ]
    lines = charts.layer(
        {"type": "line", "strokeWidth": 1.5, "opacity": 0.8}, values,
        x=charts.number("z", "pre-activation"), y=charts.number("h", "answer x norm of its weights out"),
        color=charts.word("neuron", "neuron", scale={"scheme": "tableau10"},
                          legend={"orient": "top"} if width <= 10 else None),
    )  # fmt: skip
    caption = f"Layer {layer}: the profile of each neuron over the pre-activations that 98% of the queries make. "
    caption += "One that is straight, or flat, is hard to tell from a linear map, or a constant."
    head = ("neuron", "1% of pre-activations below", "half below", "99% below", "norm of its weights out")
    rows = [(str(k + 1), *map(float, (low[k], middle[k], high[k], size[k]))) for k in range(z.shape[1])]
    section.chart(f"profiles-{layer}", charts.chart(lines), caption, table(head, rows))


def _activated(layer: Layer, z: np.ndarray) -> np.ndarray:
    """What neurons make of pre-activations, one column a neuron."""
    eye = jnp.eye(z.shape[1], dtype=layer.w.dtype)
    alone = Layer(eye, jnp.zeros_like(layer.b), layer.activation)
    (state,) = hidden_states(Network((alone, alone)), jnp.asarray(z, layer.w.dtype))
    return np.asarray(state.h, float)

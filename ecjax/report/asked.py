"""What the probes of an asked run proposed, and what far out on a line looks like, where neurons cross zero."""

import jax.numpy as jnp
import numpy as np

from ..network import respond
from ..runs import Run
from . import charts
from .parts import Section, table

_POINTS = 400
_SHOWN = 6  # outputs that are drawn


def asked(run: Run) -> Section | None:
    """Proposals, and a sweep; None where nobody was asked."""
    recovery = run.recovery
    if not recovery.probes:
        return None
    section = Section("Questions")
    section.say(f"The teacher was asked {recovery.questions:,} questions.")
    for number, (probes, clustering) in enumerate(zip(recovery.probes, recovery.clusterings, strict=True), start=1):
        section.say(
            f"Layer {number}: {len(probes.vectors):,} vectors by {probes.method} of {probes.n_proposers} proposers; "
            f"{clustering.width} that at least {clustering.needed} of them agree on."
        )
        section.items("Notes", probes.notes)
        if len(probes.singular):
            rank, fan_in = probes.basis.shape
            section.say(f"The answers depend on {rank} of {fan_in} directions of the layer's inputs.")
            _row_space(section, probes, number)
    return _sweep(section, run)


def _row_space(section: Section, probes, number: int) -> None:
    singular = np.asarray(probes.singular, float)
    values = [{"rank": k + 1, "value": float(max(s, 1e-18)), "seen": "seen" if k < len(probes.basis) else "rounding"}
              for k, s in enumerate(singular)]  # fmt: skip
    colour = charts.word("seen", scale={"domain": ["seen", "rounding"], "range": [charts.NEURON, charts.REST]},
                         legend={"title": None})  # fmt: skip
    points = charts.layer(
        {"type": "point", "filled": True, "size": 60}, values,
        x=charts.number("rank", "direction of the inputs", axis={"tickMinStep": 1, "format": "d"}),
        y=charts.logarithmic("value", "singular value of the gradients"), color=colour,
    )  # fmt: skip
    rows = [(row["rank"], row["value"], row["seen"]) for row in values]
    caption = f"Layer {number}: in how many directions the answers change at all."
    section.chart(f"row-space-{number}", charts.chart(points), caption, table(("direction", "value", ""), rows))


def _sweep(section: Section, run: Run) -> Section:
    """Answers along a line through the queries, and where each neuron of the first layer crosses zero."""
    network = run.recovery.network
    first = network.layers[0]
    w, b = np.asarray(first.w, float), np.asarray(first.b, float)
    along = np.random.default_rng(0).standard_normal(w.shape[1])
    along = along / np.linalg.norm(along)
    slope = w @ along
    crossing = -b / np.where(slope == 0, np.nan, slope)
    spread = float(np.asarray(run.x, float).std())
    reach = max(3 * spread, 1.2 * float(np.nanmax(np.abs(crossing), initial=0.0)))
    reach = min(reach, 50 * spread)
    s = np.linspace(-reach, reach, _POINTS)
    y = np.asarray(respond(network, jnp.asarray(s[:, None] * along, network.dtype)), float)
    values = [{"s": float(a), "y": float(c), "output": run.data.outputs[k] if run.data.outputs else str(k + 1)}
              for k in range(min(y.shape[1], _SHOWN)) for a, c in zip(s, y[:, k], strict=True)]  # fmt: skip
    marks = [{"s": float(c), "neuron": str(k + 1)} for k, c in enumerate(crossing) if np.abs(c) <= reach]
    lines = charts.layer(
        {"type": "line", "strokeWidth": 1.5}, values, x=charts.number("s", "place on the line"),
        y=charts.number("y", "answer"), color=charts.word("output", "output", scale={"scheme": "tableau10"}),
    )  # fmt: skip
    rules = charts.layer({"type": "rule", "color": charts.REST, "strokeDash": [3, 3]}, marks, x=charts.number("s"))
    texts = charts.layer({"type": "text", "dy": 8, "dx": 7, "fontSize": 11, "color": charts.REST}, marks,
                         x=charts.number("s"), y={"value": 0}, text=charts.word("neuron"))  # fmt: skip
    caption = "A sweep: answers of the recovered network along a random line through the origin, and where each neuron "
    caption += "of the first layer crosses zero."
    rows = [(row["neuron"], row["s"]) for row in marks]
    section.chart("sweep", charts.chart(rules, lines, texts), caption, table(("neuron", "crosses zero at"), rows))
    return section

"""What proposed: how well each student imitates, and how it came there; or which probes saw what."""

import numpy as np

from ..expand import Expansion
from ..judge import Judge
from ..runs import Run
from . import charts
from .parts import Section, table

_MOST_POINTS, _MOST_LINES = 200, 60  # of a learning curve, of learning curves


def students(run: Run) -> Section | None:
    """Losses of all students of every layer; None where probes proposed."""
    recovery = run.recovery
    if not recovery.expansions:
        return None
    section = Section("Students")
    for number, expansion in enumerate(recovery.expansions, start=1):
        _losses(section, expansion, recovery.judge, number)
        if expansion.history is not None and len(expansion.history):
            _history(section, expansion, number)
    return section


def _losses(section: Section, expansion: Expansion, judge: Judge, layer: int) -> None:
    losses = np.asarray(expansion.loss, float)
    finite, reasons = expansion.finite, expansion.reasons()
    smallest = losses[finite & (losses > 0)].min(initial=1.0)
    worst = 10 * losses[finite].max(initial=1.0)
    rows = [
        {
            "rank": rank,
            "student": int(i) + 1,
            "loss": max(float(losses[i]), smallest) if finite[i] else worst,
            "stopped": reasons[i],
            "counts": "counts" if finite[i] else "failed",
        }
        for rank, i in enumerate(np.argsort(expansion.ranked_loss, kind="stable"), start=1)
    ]
    shown = charts.number("rank", "student, best first", axis={"tickMinStep": 1, "format": "d"})
    colour = charts.word("counts", scale={"domain": ["counts", "failed"], "range": [charts.NEURON, charts.LIMIT]})
    points = charts.layer(
        {"type": "point", "filled": True, "size": 70, "opacity": 0.9}, rows, x=shown,
        y=charts.logarithmic("loss", "imitation loss / var(y)"),
        color=colour | {"legend": None},
        tooltip=[{"field": each} for each in ("student", "loss", "stopped")],
    )  # fmt: skip
    lines = charts.line_at(judge.limit, "exact below") if judge.limit > 0 else []
    head = ("student", "loss", "norm of the gradient", "steps", "why it stopped")
    gradient, steps = np.asarray(expansion.gradient_norm, float), np.asarray(expansion.n_steps)
    numbers = [
        (row["student"], float(losses[row["student"] - 1]), float(gradient[row["student"] - 1]),
         int(steps[row["student"] - 1]), row["stopped"])
        for row in rows
    ]  # fmt: skip
    caption = (
        f"Layer {layer}: the imitation loss of each of {len(losses)} students, best first ({expansion.method}); "
        f"{int(finite.sum())} count."
    )
    section.chart(f"losses-{layer}", charts.chart(points, *lines), caption, table(head, numbers))


def _history(section: Section, expansion: Expansion, layer: int) -> None:
    assert expansion.history is not None  # asked by the caller
    history = np.asarray(expansion.history, float)
    epochs = np.unique(np.linspace(0, len(history) - 1, min(len(history), _MOST_POINTS)).astype(int))
    rows = [
        {"epoch": int(epoch) + 1, "loss": float(history[epoch, i]), "student": i + 1}
        for i in range(min(history.shape[1], _MOST_LINES))
        for epoch in epochs
        if history[epoch, i] > 0 and np.isfinite(history[epoch, i])
    ]
    lines = charts.layer(
        {"type": "line", "strokeWidth": 1, "opacity": 0.6, "color": charts.NEURON}, rows,
        x=charts.number("epoch", "epoch"), y=charts.logarithmic("loss", "training loss / var(y)"),
        detail={"field": "student"},
    )  # fmt: skip
    last = [(i + 1, int(np.isfinite(each).sum()), float(each[np.isfinite(each)][-1:].sum()))
            for i, each in enumerate(history.T)]  # fmt: skip
    caption = f"Layer {layer}: how every student learned."
    section.chart(f"history-{layer}", charts.chart(lines), caption, table(("student", "epochs", "last loss"), last))

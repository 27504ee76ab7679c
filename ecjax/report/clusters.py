"""What was cut where: a dendrogram whose cut moves, the distances behind it, what vouches for every cluster."""

from typing import Any

import numpy as np
from scipy.spatial.distance import squareform

from ..cluster import Clustering, condensed_distances
from ..cluster.tree import Tree
from ..road import cluster_numbers
from ..runs import Run
from . import charts
from .cuts import as_data, cuts_of, nodes_of
from .parts import Section, escaped, picture, table

_EPS = np.finfo(float).eps  # angles of exact copies are drawn here
_MOST_BRACKETS = 1200  # of a dendrogram: beyond, a browser is slow and nobody sees a difference
_MOST_PIXELS = 400  # of a matrix of distances
_LEGIBLE = 0.025  # share of its side that a box needs for a number beside it


def clusters(run: Run) -> Section:
    """The clusters of every layer; of a layer with several activations, those of each."""
    recovery = run.recovery
    section = Section("Clusters")
    who = "students" if recovery.expansions else "probes"  # that proposed the vectors
    section.say(
        f"What many {who} found independently is a neuron of the teacher. Neurons carry the same number everywhere on "
        "this page: their row in the recovered network."
    )
    can_cut = len(recovery.clusterings) == 1 and bool(recovery.expansions)
    for i, clustering in enumerate(recovery.clusterings):
        numbers = cluster_numbers(recovery, run.x, i)
        for j, (group, of_group) in enumerate(zip(clustering.groups, numbers, strict=True)):
            name = f"{i + 1}" if len(numbers) == 1 else f"{i + 1}-{j + 1}"
            where = f"Layer {i + 1}" + (f", group {j + 1}" if len(numbers) > 1 else "")
            command = f"ecjax cut {run.folder}" if can_cut else ""
            _dendrogram(section, group, of_group, name, where, command, who)
            _angles(section, group, of_group, name, where, who)
            _similarity(section, group, of_group, where)
    return section


def _states(clustering: Clustering, numbers: np.ndarray) -> list[str]:
    return ["neuron" if number else "no neuron" for number in numbers]


def _table(clustering: Clustering, numbers: np.ndarray, who: str) -> str:
    order = np.lexsort((~clustering.kept, np.where(numbers, numbers, len(numbers) + 1)))
    head = ("neuron", who, "copies", "median angle (rad)", "spread", "verdict")
    rows = [
        (
            str(numbers[k]) if numbers[k] else "none",
            f"{clustering.n_present[k]} of {clustering.n_students}",
            int(clustering.n_vectors[k]),
            float(clustering.median_angle[k]),
            float(clustering.spread[k]),
            clustering.verdict[k] if numbers[k] or not clustering.kept[k] else "kept, and removed later",
        )
        for k in order
    ]
    return table(head, rows)


def _dendrogram(
    section: Section, clustering: Clustering, numbers: np.ndarray, name: str, where: str, command: str, who: str
) -> None:
    nodes, cuts = nodes_of(clustering), cuts_of(clustering)
    brackets, lowest = _brackets(clustering, nodes)
    labels = [
        {"node": int(node), "place": float(nodes.start[node] + (nodes.n_vectors[node] - 1) / 2), "number": str(number)}
        for node, number in zip(clustering.node, numbers, strict=True)
        if number
    ]
    section.cuts[name] = as_data(
        nodes, cuts, clustering, brackets=brackets, numbers=labels, lowest=lowest, chart=f"dendrogram-{name}",
        command=command,
    )  # fmt: skip
    n = len(clustering.neurons)
    bare = {"labels": False, "ticks": False, "domain": False, "titlePadding": 20}
    title = f"{n:,} neurons of {clustering.n_students} {who}"
    place = charts.number("x", title, scale={"domain": [-1, n]}, axis=bare)
    ends = [lowest / 2, max((bracket[-1] for bracket in brackets), default=3 * lowest) * 2]
    height = charts.logarithmic("y", f"distance ({clustering.config.metric})", scale={"type": "log", "domain": ends})
    rules = charts.layer(
        {"type": "rule", "strokeWidth": 1.2, "tooltip": None}, [], name="brackets", x=place, x2={"field": "x2"},
        y=height, y2={"field": "y2"}, color=charts.state_colour(),
    )  # fmt: skip
    shades = charts.layer(
        {"type": "rect", "opacity": 0.22, "tooltip": None}, [], name="shades", x=place, x2={"field": "x2"},
        y=height, y2={"field": "y2"}, color=charts.state_colour(),
    )  # fmt: skip
    texts = charts.layer(
        {"type": "text", "baseline": "top", "dy": 4, "fontSize": 12, "color": charts.NEURON, "tooltip": None}, [],
        name="labels", x=place | {"field": "place"}, y=height, text=charts.word("number"),
    )  # fmt: skip
    said = f"{where}: the dendrogram. Blue clusters are neurons, orange ones were candidates and are none."
    said += "" if len(clustering.linkage) else f" No two neurons are closer than {clustering.known_up_to:.2g}."
    section.body.append(f"<h3>{escaped(where)}</h3>{_sliders(name, cuts, who)}")
    section.chart(
        f"dendrogram-{name}", charts.chart(shades, rules, texts, height=300), said, _table(clustering, numbers, who)
    )


def _brackets(clustering: Clustering, nodes: Tree) -> tuple[list[list[float]], float]:
    """Of each merge that is drawn its node, the places of its two sides, their heights and its own."""
    n, linkage = len(clustering.neurons), clustering.linkage
    smallest = np.sort(nodes.n_vectors[n:])[::-1][:_MOST_BRACKETS][-1:]
    drawn = np.flatnonzero(nodes.n_vectors[n:] >= smallest.min(initial=0))[-_MOST_BRACKETS:]
    positive = nodes.height[n:][nodes.height[n:] > 0]
    lowest = float(positive.min(initial=min(clustering.known_up_to, 1.0))) / 3
    height = np.maximum(nodes.height, lowest)
    place = nodes.start + (nodes.n_vectors - 1) / 2
    left, right = linkage[drawn, 0].astype(int), linkage[drawn, 1].astype(int)
    columns = [drawn + n, place[left], place[right], height[left], height[right], height[drawn + n]]
    return np.column_stack(columns).tolist() if len(drawn) else [], lowest


def _sliders(name: str, cuts: Any, who: str) -> str:
    slider = lambda what, n, label: (
        f'<div><label for="{what}-{name}">{label} '
        f'<output id="{what}-{name}-value" for="{what}-{name}"></output></label>'
        f'<input type="range" id="{what}-{name}" min="0" max="{n - 1}" step="1"></div>'
    )
    return (
        f'<form class="cut" data-cut="{name}" onsubmit="return false">'
        f"{slider('gamma', len(cuts.needed), f'gamma: {who} that agree')}"
        f"{slider('beta', len(cuts.betas), 'beta: largest median angle')}"
        f'<p class="count"><output id="count-{name}" aria-live="polite"></output></p>'
        '<button type="reset">The cut of the run</button></form>'
    )


def _angles(section: Section, clustering: Clustering, numbers: np.ndarray, name: str, where: str, who: str) -> None:
    config = clustering.config
    angle = np.maximum(np.nan_to_num(clustering.median_angle, nan=np.pi), _EPS)
    rows = [
        {"share": float(clustering.n_present[k] / clustering.n_students), "angle": float(angle[k]), "state": state,
         "neuron": str(numbers[k]) if numbers[k] else "none"}
        for k, state in enumerate(_states(clustering, numbers))
    ]  # fmt: skip
    shown = charts.layer(
        {"type": "point", "filled": True, "size": 80, "opacity": 0.75}, rows,
        x=charts.number("share", f"share of the {who} in the cluster", scale={"domain": [0, 1.03], "nice": False}),
        y=charts.logarithmic("angle", "median angle (rad)"),
        color=charts.state_colour(), shape=charts.word("state", legend=None),
        tooltip=[{"field": each} for each in ("neuron", "share", "angle")],
    )  # fmt: skip
    limits = [*charts.line_at(config.beta, "beta"), *charts.line_at(config.gamma, "gamma", "x")]
    caption = f"{where}: what vouches for every cluster. Neurons are below beta and right of gamma."
    section.chart(f"angles-{name}", charts.chart(shown, *limits), caption, _table(clustering, numbers, who))


def _similarity(section: Section, clustering: Clustering, numbers: np.ndarray, where: str) -> None:
    nodes = nodes_of(clustering)
    n = len(nodes.order)
    step = -(-n // _MOST_PIXELS)
    apart = squareform(condensed_distances(clustering.points(nodes.order[::step])))
    positive = apart[apart > 0]
    low, high = positive.min(initial=1.0), max(apart.max(), 1e-300)
    shade = np.log10(np.maximum(apart, low))
    image = picture(shade, cmap="YlGnBu_r", vmin=np.log10(low), vmax=np.log10(max(high, 10 * low)))
    boxes = "".join(
        f'<span style="left:{100 * nodes.start[node] / n:.3f}%;top:{100 * nodes.start[node] / n:.3f}%;'
        f'width:{100 * nodes.n_vectors[node] / n:.3f}%;height:{100 * nodes.n_vectors[node] / n:.3f}%">'
        f"{_label(int(number), float(nodes.n_vectors[node] / n))}</span>"
        for node, number in zip(clustering.node, numbers, strict=True)
        if number
    )
    caption = (
        f"{where}: distances ({clustering.config.metric}) between all neurons, in the order of the dendrogram; dark is "
        "near. Boxes are the neurons of the network, with their numbers."
    )
    legend = f'<span class="scale"><i>{low:.0e}</i><span></span><i>{high:.0e}</i></span>'
    section.figure(
        f'<div class="matrix"><img src="{image}" alt="{escaped(caption)}">{boxes}</div>{legend}', caption,
    )  # fmt: skip


def _label(number: int, share: float) -> str:
    """The number of a neuron beside its box, where that is large enough to bear one."""
    return f"<b>{number}</b>" if share > _LEGIBLE else ""

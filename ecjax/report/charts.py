"""The charts of a page as Vega-Lite specifications. Colours are middling ones, to be seen on white and on black."""

from typing import Any

NEURON, OTHER, REST, LIMIT = "#2b87b8", "#d9722e", "#8b939c", "#c9453b"  # as in ecjax.figures, for both papers
STATES = {"neuron": NEURON, "no neuron": OTHER, "rest": REST}
_CONFIG = {
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {"grid": False, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "legend": {"orient": "top", "labelFontSize": 12, "titleFontSize": 12},
    "font": "system-ui, sans-serif",
    "axisX": {"tickCount": 8, "labelOverlap": True},
    "mark": {"tooltip": True},
    "rule": {"strokeWidth": 1.5},
}
Rows = list[dict[str, Any]]


def chart(*layers: dict[str, Any], height: int = 260, **more: Any) -> dict[str, Any]:
    """Layers over one pair of axes, as wide as the page."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": _CONFIG,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding", "resize": True},
        "layer": list(layers),
        **more,
    }


def layer(mark: str | dict[str, Any], values: Rows, *, name: str | None = None, **encoding: Any) -> dict[str, Any]:
    """Marks for rows of values; `name` is by what a script finds the values."""
    data = {"values": values} if name is None else {"name": name, "values": values}
    return {"mark": mark, "data": data, "encoding": encoding}


def number(name: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A column of numbers on an axis."""
    return {"field": name, "type": "quantitative", "title": title, "scale": {"zero": False, "nice": False}, **more}


def logarithmic(name: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A column of positive numbers on a logarithmic axis."""
    axis = {"format": ".0e", "tickCount": 6, "labelOverlap": True}
    return number(name, title, **{"scale": {"type": "log"}, "axis": axis, **more})


def word(name: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A column of names, in the order in which they come."""
    return {"field": name, "type": "nominal", "title": title, "sort": None, **more}


def state_colour() -> dict[str, Any]:
    """Blue for neurons, orange for clusters that are none, grey for the rest."""
    scale = {"domain": list(STATES), "range": list(STATES.values())}
    return word(
        "state",
        scale=scale,
        legend={"title": None, "values": list(STATES)[:2], "symbolType": "circle", "symbolOpacity": 1},
    )


def line_at(value: float, what: str, axis: str = "y") -> list[dict[str, Any]]:
    """A dashed line across the chart at a value of one axis, with its name."""
    here = {"datum": value}
    text = {"text": {"value": what}, "color": {"value": LIMIT}}
    place = {"y": here, "x": {"value": 6}} if axis == "y" else {"x": here, "y": {"value": 12}}
    align = "left" if axis == "y" else "right"
    mark = {"type": "text", "align": align, "baseline": "bottom", "dx": -3 * (axis == "x"), "dy": -3, "fontSize": 12}
    one = {"values": [{}]}
    return [
        {"mark": {"type": "rule", "strokeDash": [5, 4], "color": LIMIT}, "data": one, "encoding": {axis: here}},
        {"mark": mark, "data": one, "encoding": {**place, **text}},
    ]

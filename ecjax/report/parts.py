"""What a page is made of: sections, figures with their numbers behind them, tables, images. Text is escaped here."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

MOST_ROWS = 200  # of the table behind a figure; a page is read, and the files of the run have all of it


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        body: HTML, piece by piece.
        charts: Vega-Lite specifications by the id of the element that shows them.
        cuts: What the sliders of a dendrogram choose from, by the id of their group.
    """

    title: str
    body: list[str] = field(default_factory=list)
    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    cuts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A paragraph."""
        self.body.append(f"<p>{escaped(text)}</p>")

    def items(self, heading: str, texts: Iterable[str]) -> None:
        """A list under a heading; nothing if there is nothing."""
        lines = "".join(f"<li>{escaped(text)}</li>" for text in texts)
        if lines:
            self.body.append(f"<h3>{escaped(heading)}</h3><ul>{lines}</ul>")

    def chart(self, name: str, spec: dict[str, Any], caption: str, table: str) -> None:
        """A chart with a sentence that says what is to be seen, and its numbers behind it."""
        self.charts[name] = spec
        self.figure(f'<div class="chart" id="{name}" role="img" aria-label="{escaped(caption)}"></div>', caption, table)

    def figure(self, picture: str, caption: str, table: str = "") -> None:
        """Any picture, as HTML, with its caption and the table behind it."""
        numbers = f"<details><summary>The numbers</summary>{table}</details>" if table else ""
        self.body.append(f"<figure>{picture}<figcaption>{escaped(caption)}</figcaption>{numbers}</figure>")

    def html(self, name: str) -> str:
        """The section; `name` is what links to it say."""
        return f'<section id="{name}"><h2>{escaped(self.title)}</h2>{"".join(self.body)}</section>'


def escaped(text: Any) -> str:
    """Text that a page can bear, quotes included."""
    return html.escape(str(text), quote=True)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """A table whose first column names the rows; numbers in a few digits."""
    names = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    lines = []
    for first, *others in rows[:MOST_ROWS]:
        cells = "".join(f"<td>{escaped(brief(each))}</td>" for each in others)
        lines.append(f'<tr><th scope="row">{escaped(brief(first))}</th>{cells}</tr>')
    title = f"<caption>{escaped(caption)}</caption>" if caption else ""
    more = f"<p>The first {MOST_ROWS:,} of {len(rows):,} rows.</p>" if len(rows) > MOST_ROWS else ""
    return (
        f'<div class="wide" tabindex="0"><table>{title}<thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{more}"
    )


def brief(value: Any) -> str:
    """A value as a reader wants it: numbers to four digits, nothing for what is not known."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def picture(pixels: Float[np.ndarray, "height width"] | Float[np.ndarray, "height width rgba"], **colours: Any) -> str:
    """A matrix as a PNG that stands in the page itself: the address of an image.

    Args:
        pixels: Numbers, or colours within [0, 1].
        **colours: `cmap`, `vmin` and `vmax`, as Matplotlib takes them.
    """
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, pixels, format="png", **colours)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

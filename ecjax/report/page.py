"""The page: sections in an order, with the script that draws its charts and moves its cuts inside it."""

import json
import math
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..base.files import write_whole
from ..judge import compare
from ..runs import Run, load_run
from .answer import answer
from .answers import answers
from .asked import asked
from .clusters import clusters
from .made import made
from .parts import Section, escaped
from .students import students
from .weights import weights

# Nothing is fetched: whatever the page tries to load from anywhere, a browser refuses.
_POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"


def write_report(run: Run | str | os.PathLike, path: str | os.PathLike | None = None) -> Path:
    """Write a finished run as one self-contained HTML page.

    Args:
        run: The run, or its folder.
        path: The page; by default report.html in the run's folder.

    Returns:
        Where the page is.

    Raises:
        ValueError: If the folder is no finished run, or Vega-Lite is not installed.
    """
    script = _vega()
    run = run if isinstance(run, Run) else load_run(run)
    path = run.folder / "report.html" if path is None else Path(path)
    write_whole(path, _page(run, script).encode())
    return path


def _page(run: Run, script: str) -> str:
    comparison = None if run.teacher is None else compare(run.recovery, run.teacher, run.data.x)
    names = run.data.inputs or tuple(f"x{k + 1}" for k in range(run.x.shape[1]))
    decided = (clusters(run), weights(run, comparison, names), students(run), asked(run))
    wanted = (answer(run, comparison), *decided, answers(run), made(run))
    sections = [each for each in wanted if each is not None]
    about = {
        "charts": {name: spec for each in sections for name, spec in each.charts.items()},
        "cuts": {name: cut for each in sections for name, cut in each.cuts.items()},
    }
    links = "".join(f'<a href="#part-{i}">{escaped(_short(each, i))}</a>' for i, each in enumerate(sections))
    style, own = (files("ecjax.report").joinpath(name).read_text() for name in ("page.css", "page.js"))
    body = "".join(each.html(f"part-{i}") for i, each in enumerate(sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escaped(run.folder.name)}: {escaped(sections[0].title)}</title><style>{style}</style></head>"
        f'<body><a class="skip" href="#part-0">Skip to the answer</a>'
        f'<header><p>{escaped(run.folder.name)}</p><nav aria-label="Sections">{links}</nav></header>'
        f"<main>{body}</main>"
        f'<script type="application/json" id="about">{_json(about)}</script>'
        f"<script>{script}</script><script>{own}</script></body></html>\n"
    )


def _short(section: Section, number: int) -> str:
    return "Answer" if number == 0 else section.title


def _json(value: Any) -> str:
    """JSON that may stand in a page: no tag can begin or end in it, and what is no number is none."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON has no words for and a chart no place."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _vega() -> str:
    """Vega, Vega-Lite and their embedding as one script, from the installed package."""
    try:
        import vl_convert  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "A report draws with Vega-Lite, which comes with vl-convert-python, and that is not installed: "
            'pip install "ecjax[report]".'
        ) from error
    return vl_convert.javascript_bundle().replace("</script", "<\\/script")

"""Pages of the site that do not lie in docs/: the notebooks with their outputs, the changelog, the API reference.

mkdocs calls the functions below. A link in any page is written for whoever reads the repository, from file to file;
here it is turned to the page that the site has of that file. What the site has no page of is an error of the strict
build.
"""

import ast
import base64
import json
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import BuildError
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ecjax"
# The rooms that users meet, in the order of the road; what each exports is its page of the reference.
ROOMS = (
    "road",
    "data",
    "network",
    "judge",
    "expand",
    "probe",
    "cluster",
    "objective",
    "flow",
    "doors",
    "sklearn",
    "runs",
    "figures",
    "report",
)
# What a browser fetches to show a page: not the targets of its links.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["']?([^"' >]+)|<link\b[^>]*?\bhref=["']?([^"' >]+)"""
)
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def _notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def _page_of(path: str) -> str:
    """Where the site has a file of the repository."""
    if path == "README.md":
        return "index.md"
    if path == "CHANGELOG.md":
        return "changelog.md"
    if path == "notebooks/README.md":
        return "notebooks/index.md"
    if path.startswith("notebooks/"):
        return path.removesuffix(".ipynb") + ".md" if path.endswith(".ipynb") else path
    return path.removeprefix("docs/") if path.startswith("docs/") else "../" + path


def _with_links(markdown: str, source: str) -> str:
    """The Markdown of a file of the repository, with its links turned to pages of the site."""
    here = posixpath.dirname(_page_of(source))

    def turned(link: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        return link[1] + posixpath.relpath(_page_of(target), here or ".") + link[3]

    return _LINK.sub(turned, markdown)


def _fenced(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by name."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source:
            parts.append(_fenced(source, "python"))
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![figure {len(pictures)} of this notebook]({name})")
            else:
                parts.append(_fenced("".join(data.get("text/plain", "")), "text"))
    parts.append(f"*This page is `notebooks/{path.name}`, which runs from top to bottom.*")
    return "\n\n".join(parts), pictures


def _exports(init: Path) -> list[tuple[Path, str]]:
    """File and name of what a package re-exports from its own files, `from .file import name as name`."""
    found = []
    for node in ast.parse(init.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            base = init.parents[node.level - 1].joinpath(*node.module.split("."))
            path = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"
            found += [(path, name.name) for name in node.names if name.asname == name.name]
    return found


def _explained(path: Path) -> dict[str, str]:
    """The first lines of the docstrings of what a file defines at its top, by name."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)]
    return {node.name: (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ") for node in tops}


def _in_room(room: str) -> dict[str, str]:
    """What a room exports, by name: the first line of its docstring, empty for a constant or a type."""
    init = PACKAGE / room / "__init__.py"
    if not init.exists():  # a room of one file
        return {name: said for name, said in _explained(init.parent.with_suffix(".py")).items() if name[0] != "_"}
    return {name: _explained(path).get(name, "") for path, name in _exports(init)}


def _reference() -> dict[str, str]:
    """Pages of the API reference: one for each room, and one that says where to find what stands at the top."""
    pages, top = {}, {name for _, name in _exports(PACKAGE / "__init__.py")}
    lines = {}
    for room in ROOMS:
        exported = _in_room(room)
        source = PACKAGE / room / "__init__.py"
        source = source if source.exists() else source.parent.with_suffix(".py")
        about, *more = (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n\n", 1)
        parts = [f"# ecjax.{room}", about]
        parts += [_fenced(text, "text") if text.startswith("    ") else text for text in "".join(more).split("\n\n")]
        others = [name for name, said in exported.items() if not said]
        parts += ["Constants and types: " + ", ".join(f"`{name}`" for name in others) + "."] if others else []
        parts += [f"::: ecjax.{room}.{name}" for name, said in exported.items() if said]
        pages[f"api/{room}.md"] = "\n\n".join(parts)
        lines |= {
            name: f"| [`{name}`]({room}.md#ecjax.{room}.{name}) | {said} |" for name, said in exported.items() if said
        }
    rows = [line for name, line in sorted(lines.items(), key=lambda one: one[0].lower()) if name in top]
    rooms = ", ".join(f"[{room}]({room}.md)" for room in ROOMS)
    pages["api/index.md"] = "\n\n".join(
        [
            "# API reference",
            "Made from the docstrings. `import ecjax as ec`: what users call stands at the top, `ec.recover`; the rest "
            f"is in its room, `ec.cluster.second_moment`. Rooms: {rooms}.",
            "\n".join(["| name | gives |", "|---|---|", *rows]),
        ]
    )
    return pages


def on_config(config):
    """Give the menu an entry for every notebook and every room."""
    index = ["notebooks/index.md"] if (ROOT / "notebooks" / "README.md").exists() else []
    notebooks = index + [f"notebooks/{path.stem}.md" for path in _notebooks()]
    config.nav += [{"Notebooks": notebooks}, {"Reference": ["api/index.md", *(f"api/{room}.md" for room in ROOMS)]}]
    return config


def on_files(files, config):
    """Add the pages that are made."""
    made = {"changelog.md": _with_links((ROOT / "CHANGELOG.md").read_text(), "CHANGELOG.md"), **_reference()}
    index = ROOT / "notebooks" / "README.md"
    if index.exists():
        made["notebooks/index.md"] = _with_links(index.read_text(), "notebooks/README.md")
    for path in _notebooks():
        markdown, pictures = _notebook(path)
        made[f"notebooks/{path.stem}.md"] = _with_links(markdown, f"notebooks/{path.name}")
        made |= {f"notebooks/{name}": picture for name, picture in pictures.items()}
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, page, **_):
    """Turn the links of a page of docs/ to those of the site; those of pages that are made have been turned."""
    return markdown if page.file.generated_by else _with_links(markdown, f"docs/{page.file.src_uri}")


def on_post_page(output, page, **_):
    """Refuse a page that needs a network to be read.

    Raises:
        BuildError: Naming what it would fetch.
    """
    fetched = [one or other for one, other in _FETCHED.findall(output)]
    elsewhere = [each for each in fetched if each.startswith(("http:", "https:", "//"))]
    if elsewhere:
        raise BuildError(f"{page.file.src_uri} fetches {', '.join(elsewhere)}: the site is read without a network.")
    return output

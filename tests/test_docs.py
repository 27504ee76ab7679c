"""The documentation does what it says: its Python runs, page by page, and every command has the options that it names.

Comments in the Markdown, just above a block, say what is special about it:

    <!-- needs: torch   a library without which the block is skipped -->
    <!-- not run: why   a block that runs nowhere in the tests -->

Pages of SHELL have their commands run, too, one after the other in one folder.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest

import ecjax
from ecjax import cli

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
SHELL = ("start",)  # their commands are run for real
SHELLS = ("bash", "sh", "console")
QUICK = ("synthetic",)  # their Python takes a second

_FENCE = re.compile(r"^( *)```(\w*)([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!-- *(needs|not run)\b:?((?:(?!-->).)*)-->\s*\Z", re.DOTALL)
_INLINE = re.compile(r"(?<!`)`((?:ecjax |python -m benchmarks|make |pip install )[^`]*)`(?!`)")
_INDENTED = re.compile(r"^ {4}((?:ecjax |python -m benchmarks|make |pip install ).*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced piece of code, and what the comments above it say."""

    page: Path
    line: int
    language: str
    code: str
    title: str = ""
    needs: tuple[str, ...] = ()
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}"


def _blocks(page: Path) -> list[Block]:
    text, found = page.read_text(), []
    for fence in _FENCE.finditer(text):
        before, said = text[: fence.start()], {}
        while comment := _COMMENT.search(before):
            said[comment[1]] = comment[2].strip()
            before = before[: comment.start()]
        line = text[: fence.start()].count("\n") + 2
        needs = tuple(re.findall(r"\w+", said.get("needs", "")))
        code = textwrap.dedent(fence[4])
        title = re.search(r'title="(.*?)"', fence[3])
        found.append(Block(page, line, fence[2], code, title[1] if title else "", needs, said.get("not run", "")))
    return found


BLOCKS = [block for page in PAGES for block in _blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


# --- Python --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_can_be_read(block):
    ast.parse(block.code)


def _pages_of_python():
    for page in DOCS:
        blocks = [block for block in PYTHON if block.page == page]
        if blocks:
            marks = () if page.stem in QUICK else (pytest.mark.slow,)
            yield pytest.param(blocks, id=page.stem, marks=marks)


@pytest.mark.parametrize("blocks", list(_pages_of_python()))
def test_python_of_a_page_runs(blocks, tmp_path, monkeypatch):
    """From top to bottom, names shared, in a folder of its own, without the strictness of these tests."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            if block.not_run or any(importlib.util.find_spec(library) is None for library in block.needs):
                continue
            padded = "\n" * (block.line - 1) + block.code  # an error names the line of the page
            exec(compile(padded, str(block.page), "exec"), names)
            found = {name: value for name, value in names.items() if isinstance(value, ecjax.Recovery)}
            assert all(recovery.is_exact for recovery in found.values()), block


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELL)
def test_commands_of_a_page_run(name, tmp_path):
    """One after the other in one folder, beside the files whose names stand above their code."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    for block in _blocks(ROOT / "docs" / f"{name}.md"):
        if block.title:
            (tmp_path / block.title).write_text(block.code)
        if block.language not in SHELLS or block.not_run:
            continue
        for line in _lines(block):
            program, *rest = shlex.split(line, comments=True)
            words = [sys.executable, *(["-m", "ecjax"] if program == "ecjax" else []), *rest]
            done = subprocess.run(
                words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, (line, done.stderr)
            assert "NOT exact" not in done.stdout, done.stdout


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.not_run or block.needs], ids=str)
def test_what_does_not_run_says_why(block):
    """Skipped with the reason, so that the report of the tests has a list of them."""
    missing = [library for library in block.needs if importlib.util.find_spec(library) is None]
    if block.not_run:
        assert len(block.not_run.split()) >= 2, "say why it is not run"
        pytest.skip(block.not_run)
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


# --- commands ------------------------------------------------------------------------------------------------------


def _lines(block: Block) -> list[str]:
    return block.code.replace("\\\n", " ").splitlines()


def _commands(page: Path) -> list[str]:
    """Every command that a page names: lines of shell, indented ones, and those within a sentence."""
    found, text = [], page.read_text()
    for block in _blocks(page):
        if block.language in SHELLS:
            found += _lines(block)
    prose = _FENCE.sub("", text)
    found += [" ".join(each.split()) for each in _INLINE.findall(prose)]
    found += _INDENTED.findall(prose)
    words = (shlex.split(line.removeprefix("$ "), comments=True) for line in found)
    return list(dict.fromkeys(shlex.join(each) for each in words if each))


# Sentences name commands without what they need.
_NAMES = {"ecjax recover", "ecjax ...", *(f"ecjax {name}" for name in cli.COMMANDS)}


class _Accepted(Exception):
    pass


def _accept(monkeypatch, command: str) -> None:
    """Fail unless the parser of a command takes it; nothing is done."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # the environment
        words = words[1:]
    if words[:1] == ["srun"]:
        words = words[1:]
    if words[:1] == ["python"] and words[1].endswith(".py"):
        return
    if words[:1] == ["python"]:
        assert words[1] == "-m", command
        words = words[2:]
    program, rest = words[0], words[1:]
    if command in _NAMES:
        return
    if program == "ecjax":
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                status = cli.main([] if rest == ["..."] else rest)
            except (SystemExit, _Accepted) as end:
                status = getattr(end, "code", 0)
        assert not status, f"{command}\n{said.getvalue()}"
    elif program.startswith("benchmarks"):
        module = importlib.import_module(program if "." in program else "benchmarks.__main__")
        monkeypatch.setattr(sys, "argv", [program, *rest])
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(_Accepted):
            status = 0
            try:
                module.main(rest) if module.main.__code__.co_argcount else module.main()
            except SystemExit as end:
                status = end.code
            assert not status, f"{command}\n{said.getvalue()}"
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert not rest or rest[0] in targets or "=" in rest[0], command
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = re.findall(r"\[(.*?)\]", " ".join(word for word in rest if word.startswith(("ecjax", "."))))
        assert {extra for each in asked for extra in each.split(",")} <= set(extras), command
    else:
        assert program in ("ruff", "cd", "export", "pytest", ".ci/run") or program.startswith(".venv/bin/"), (
            f"{command}: mark the block as not run, and say why"
        )


@pytest.fixture
def parsers_only(monkeypatch):
    """Command lines are parsed, and nothing else happens."""
    parse, of_benchmark = argparse.ArgumentParser.parse_args, [False]

    def accepted(self, *given):
        parsed = parse(self, *given)
        if of_benchmark[0]:
            raise _Accepted
        return parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", accepted)  # once: undone in one step, whatever nests
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(cli, "_run", lambda *_: None)
    monkeypatch.setattr(cli, "join", lambda: None)
    real_bench = cli.bench

    def bench(rest):
        of_benchmark[0] = True
        try:
            return real_bench(rest)
        finally:
            of_benchmark[0] = False

    monkeypatch.setattr(cli, "bench", bench)
    real_import = importlib.import_module

    def benchmark(name, *package):
        module = real_import(name, *package)
        of_benchmark[0] = of_benchmark[0] or name.startswith("benchmarks")
        return module

    monkeypatch.setattr(importlib, "import_module", benchmark)
    return monkeypatch


@pytest.mark.parametrize("page", [page for page in PAGES if _commands(page)], ids=lambda page: page.stem)
def test_commands_have_the_options_that_they_name(page, parsers_only):
    for command in _commands(page):
        with parsers_only.context() as patch:
            _accept(patch, command)


# --- links ---------------------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub and mkdocs make them of plain ones."""
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """Within the repository; the strict build looks at those of the site."""
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", _FENCE.sub("", page.read_text())):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), f"{target}#{anchor}"


# --- messages ------------------------------------------------------------------------------------------------------


def _templates() -> str:
    """All strings of the package, one after the other, with … for what is filled in."""
    said = []
    for path in (ROOT / "ecjax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                said.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    return "\n".join(said)


def test_messages_that_are_explained_are_those_of_the_library():
    """Text between two … stands in some string of the package, word for word."""
    said = _templates()
    quoted = [block.code.strip() for block in BLOCKS if block.page.stem == "faq" and block.language == "text"]
    assert len(quoted) > 30
    for message in quoted:
        for piece in message.split("…"):
            assert piece.strip() in said, (message, piece)


# --- the site ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as `make docs` builds it, where mkdocs is installed."""
    for library in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(library, reason="`make docs` installs what builds the site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    said = (site / "api" / "index.html").read_text()
    tree = ast.parse(Path(ecjax.__file__).read_text())
    public = {name.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.level for name in node.names}
    missing = {name for name in public if callable(getattr(ecjax, name)) and f"<code>{name}</code>" not in said}
    assert not missing

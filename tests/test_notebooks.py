"""Notebooks run from top to bottom, and their own asserts hold."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    assert any("assert " in cell.source for cell in notebook.cells if cell.cell_type == "code")
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(path.parent))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_with_small_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it from top to bottom"
    assert any(output.output_type == "display_data" or "data" in output for cell in code for output in cell.outputs)
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"], "warnings"
    assert path.stat().st_size < 300_000


def test_the_index_names_every_notebook():
    index = (NOTEBOOKS[0].parent / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.ipynb\) \| .+ \| \d+ \|$", index, re.MULTILINE)
    assert sorted(file for _, file in rows) == [path.stem for path in NOTEBOOKS]
    assert all(name == file for name, file in rows)


@pytest.mark.slow
def test_readme_runs():
    """The Python of the README, word for word."""
    block, *_ = re.findall(r"```python\n(.*?)```", (NOTEBOOKS[0].parent.parent / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(block, names)
    assert names["recovery"].widths == (8,)
    assert names["recovery"].is_exact

"""Notebooks run from top to bottom: the seconds of each, and with --keep their outputs.

    python -m benchmarks.notebooks                       # all: the table of notebooks/README.md
    python -m benchmarks.notebooks deep noise --keep     # some, whose outputs are written into the files

Each has a kernel of its own, which compiles everything: no compiled programs are kept between runs. CPU seconds are of
the kernel, over all cores. Needs nbclient and ipykernel (the dependency group `test`).
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from .rows import Table, as_text

FOLDER = Path(__file__).parent.parent / "notebooks"


def run(path: Path) -> tuple[Any, float, float]:
    """The notebook with its outputs, and the wall and CPU seconds that it took."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    options = {"timeout": 600, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, **options).execute(cwd=str(path.parent))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return notebook, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all")
    parser.add_argument("--keep", action="store_true", help="write the outputs into the notebooks")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(names))
    if unknown:
        parser.error(f"there is no notebook {unknown[0]!r}; there are {', '.join(names)}")
    rows: Table = [["notebook", "wall s", "CPU s"]]
    for name in asked.names or names:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
            notebook, wall, cpu = run(FOLDER / f"{name}.ipynb")
        if asked.keep:
            import nbformat

            nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        rows.append([name, f"{wall:.0f}", f"{cpu:.0f}"])
        print(" ".join(rows[-1]), flush=True)
    print(as_text(rows, markdown=True))


if __name__ == "__main__":
    main()

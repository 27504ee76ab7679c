"""The benchmarks by name, and what each step costs.

python -m benchmarks --list              # every benchmark in a line
python -m benchmarks.NAME --help         # one of them
python -m benchmarks                     # what each step costs: benchmarks.phases
"""

import ast
import sys
from pathlib import Path


def benchmarks() -> dict[str, str]:
    """Name and first line of every benchmark beside this file, without importing any."""
    here = Path(__file__).parent
    others = (path for path in here.glob("*.py") if path != Path(__file__))
    programs = [path for path in others if '\nif __name__ == "__main__":' in path.read_text()]
    programs += [path.parent / "__init__.py" for path in here.glob("*/__main__.py")]
    named = {path.parent.name if path.name == "__init__.py" else path.stem: path for path in programs}
    first_line = lambda path: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return {name: first_line(path) for name, path in sorted(named.items())}


def main(arguments: list[str]) -> None:
    """List the benchmarks, explain, or measure what each step costs."""
    if arguments == ["--list"]:
        for name, said in benchmarks().items():
            print(f"python -m benchmarks.{name:20} {said}")
        return
    if arguments in (["--help"], ["-h"]):
        print(f"{__doc__.strip()}\n\nOptions of the last one: python -m benchmarks.phases --help")
        return
    from .phases import main as phases

    phases(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

"""With what a run was made: the command, the settings, the versions."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..base.files import read_json
from ..runs import Run
from .parts import Section, escaped, table


def made(run: Run) -> Section:
    """The command that made the run, every setting, every version."""
    section = Section("How it was made")
    path = run.folder / "versions.json"
    versions = read_json(path) if path.is_file() else {}
    command = str(versions.get("command", "")).replace("__main__.py", "ecjax", 1)
    if command:
        section.body.append(f"<pre><code>{escaped(command)}</code></pre>")
    if versions.get("made"):
        section.say(f"Begun {versions['made']}, in the folder {run.folder}.")
    spent = (f"{phase} {seconds:.1f} s" for phase, seconds in run.recovery.seconds.items())
    section.say(f"It took {', '.join(spent)}.")
    for heading, record in (("Settings", run.config), ("Versions", versions)):
        rows = list(_flat({name: value for name, value in record.items() if name != "command" or record is run.config}))
        numbers = table(("name", "value"), rows)
        section.body.append(f"<details><summary>{heading}</summary>{numbers}</details>")
    return section


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by dotted names."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)

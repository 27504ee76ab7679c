"""Readers of files under mutated bytes: each either reads, or refuses in one line as a `ValueError`.

    python -m benchmarks.fuzz                                    # every reader for ten minutes: docs/runs.md
    python -m benchmarks.fuzz --readers npz csv --seconds 60 --jobs 2

Atheris (libFuzzer for Python; `pip install atheris`, or the dependency group `fuzz`) mutates whole files of each kind,
and keeps what reaches new code of ecjax. Checksums and compression would stop most mutations at the door, so some of
the time what is mutated is what they protect: the members of an npz file, the bytes in a gzip file, the header of
safetensors behind its length. Anything but a `ValueError` of one line, a reader that takes more than 30 seconds or
4 GB, or an abort is a finding: its input is kept in the folder of --found, and the exit status is 1.
"""

import argparse
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Nothing of ecjax is imported up here: what atheris shall see is imported under its eyes.

_NEXT = b"--next--"  # between the parts of a mutated input that a file is made of
_SECONDS, _MEGABYTES, _LONGEST = 30, 4096, 1 << 15
_TINY = "--d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh --no-figures"


@dataclass(frozen=True)
class Reader:
    """A reader of files, and what it is tried with.

    Attributes:
        begin: In a folder of its own: whole inputs to begin with, and what makes files of an input and reads them.
        needs: Libraries beside ecjax's own.
    """

    begin: Callable[[Path], tuple[list[bytes], Callable[[bytes], None]]]
    needs: tuple[str, ...] = ()


# --- what a file is made of ------------------------------------------------------------------------------------------


def _plain(content: bytes) -> bytes:
    return content


def _zip(content: bytes) -> bytes:
    """An archive of the parts, the first of which are called x and y."""
    return _archive(("x.npy", "y.npy", "z.npy"), content)


def _archive(names: Sequence[str], content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in zip(names, content.split(_NEXT), strict=False):
            archive.writestr(name, part)
    return file.getvalue()


def _with_length(content: bytes) -> bytes:
    """A safetensors file of a header, and what follows it."""
    header, _, body = content.partition(_NEXT)
    return len(header).to_bytes(8, "little") + header + body


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _parted(content: bytes) -> bytes:
    """The inverse of `_with_length`."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end] + _NEXT + content[end:]


def _members(content: bytes) -> bytes:
    """The inverse of `_zip`."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return _NEXT.join(archive.read(name) for name in archive.namelist())


def _one_of(ways: Sequence[Callable[[bytes], bytes]], content: bytes) -> bytes:
    """A file of an input whose first byte says in which way."""
    return ways[content[0] % len(ways)](content[1:]) if content else b""


# --- the readers -----------------------------------------------------------------------------------------------------


def _numbers() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((9, 3))


def _tables(suffix: str, wholes: Callable[[], list[bytes]], *ways: Callable[[bytes], bytes]) -> Callable:
    """A reader of inputs and outputs; wholes that a later way makes are inputs of that way."""

    def begin(folder: Path):
        from ecjax.cli.data_files import read_table, what_was_read

        def read(content: bytes) -> None:
            path = folder / f"table{suffix}"
            path.write_bytes(_one_of(ways, content))
            what_was_read(path, read_table(path, missing=len(content) % 2 == 0))

        return [bytes([i]) + whole for i, whole in enumerate(wholes())], read

    return begin


def _npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _npz_wholes() -> list[bytes]:
    x = _numbers()
    whole = _npz(x=x[:, :2], y=x[:, 2:])
    return [whole, _members(whole)]


def _csv_wholes() -> list[bytes]:
    return [
        b"a,b,y\n" + b"\n".join(b",".join(b"%.17g" % each for each in row) for row in _numbers()) + b'\n"1", na,2\n'
    ]


def _arrow_table():
    import pyarrow  # pyright: ignore[reportMissingImports]

    return pyarrow.table(dict(zip("aby", _numbers().T, strict=True)) | {"c": list(range(9)), "d": [None] * 9})


def _parquet_wholes() -> list[bytes]:
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    parquet.write_table(_arrow_table(), file := io.BytesIO())
    return [file.getvalue()]


def _arrow_wholes() -> list[bytes]:
    from pyarrow import feather  # pyright: ignore[reportMissingImports]

    feather.write_feather(_arrow_table(), file := io.BytesIO(), compression="uncompressed")
    return [file.getvalue()]


def _idx(folder: Path):
    from ecjax.data.images import _read_idx

    whole = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3]) + bytes(range(18))
    path = folder / "images.gz"

    def read(content: bytes) -> None:
        path.write_bytes(_one_of((_plain, _gzip), content))
        _read_idx(path, n_axes=3)

    return [b"\0" + _gzip(whole), b"\1" + whole], read


def _cifar(folder: Path):
    from ecjax.data.images import _read_cifar

    path = folder / "batch.bin"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _read_cifar([path])

    return [bytes(3073), bytes(6146)], read


def _network(folder: Path):
    import jax

    import ecjax as ec

    path, wholes = folder / "net.safetensors", []
    for activation in ("tanh", ("g", ec.mixture(relu=2, cos=1)), "abs"):
        hidden = 2 if isinstance(activation, tuple) else 1
        ec.save_network(ec.random_network((2, *[3] * hidden, 1), activation, key=jax.random.key(0)), path)
        wholes += [b"\0" + path.read_bytes(), b"\1" + _parted(path.read_bytes())]

    def read(content: bytes) -> None:
        path.write_bytes(_one_of((_plain, _with_length), content))
        ec.load_network(path)

    return wholes, read


def _run(folder: Path):
    """Files of a finished run, one of which is another; the first byte says which one."""
    from ecjax.cli import main
    from ecjax.runs import load_run, states

    if main(["recover", "toy", *_TINY.split(), "--out", str(folder / "run")]):
        raise RuntimeError("the run to begin with failed")
    names = sorted(path.name for path in (folder / "run").iterdir() if path.is_file())
    contents = {name: (folder / "run" / name).read_bytes() for name in names}
    ways = lambda name: (_plain, _with_length) if name.endswith(".safetensors") else (_plain,)
    wholes = [bytes([i, 0]) + contents[name] for i, name in enumerate(names)]
    wholes += [bytes([i, 1]) + _parted(contents[name]) for i, name in enumerate(names) if len(ways(name)) > 1]

    def read(content: bytes) -> None:
        name = names[content[0] % len(names)] if content else names[0]
        try:
            (folder / "run" / name).write_bytes(_one_of(ways(name), content[1:]))
            states(folder)
            load_run(folder / "run")
        finally:
            (folder / "run" / name).write_bytes(contents[name])

    return wholes, read


def _store(folder: Path):
    """Students that are done, of a run that goes on: damaged ones are taken away, the others read."""
    import jax

    import ecjax as ec
    from ecjax.expand import Adam, ExpandConfig, Minibatch, expand
    from ecjax.network import random_students
    from ecjax.runs import StudentFiles

    x = jax.random.normal(jax.random.key(0), (20, 2))
    students = random_students(2, (2, 3, 1), "tanh", key=jax.random.key(1))
    samples = ec.Samples(x, x[:, :1])
    batches = ExpandConfig(method="minibatch", minibatch=Minibatch(batch=10, max_epochs=2, epochs_per_call=1))
    contents = {}
    for config in (ExpandConfig(method=(Adam(n_steps=2),)), batches):
        place = folder / ("batches" if config is batches else "each")
        place.mkdir()
        files = StudentFiles(place, students.activations)
        kept = {}
        expand(students, samples, config=config, store=_Remembering(files, kept), key=jax.random.key(2))
        contents |= kept
    names = sorted(contents)
    wholes = [bytes([i, 0]) + contents[name] for i, name in enumerate(names)]
    wholes += [bytes([i, 1]) + _parted(contents[name]) for i, name in enumerate(names) if name.endswith("tensors")]

    def read(content: bytes) -> None:
        name = names[content[0] % len(names)] if content else names[0]
        ways = (_plain, _with_length) if name.endswith("tensors") else (_plain,)
        path = folder / name
        path.write_bytes(_one_of(ways, content[1:]))
        files = StudentFiles(path.parent, students.activations)
        files.mend()
        files.describe(2)
        for key in files:
            files[key]

    return wholes, read


class _Remembering(dict):
    """A store that remembers what was ever written into it."""

    def __init__(self, files, kept: dict[str, bytes]):
        super().__init__()
        self.files, self.kept = files, kept

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.files[key] = value
        (path,) = self.files.folder.glob(f"{key}.*")
        self.kept[f"{self.files.folder.name}/{path.name}"] = path.read_bytes()


def _log(folder: Path):
    """Answers of a teacher that was asked."""
    import ecjax as ec

    path = folder / "log"
    asked = lambda log: ec.Teacher(lambda x: x[:, :2], fan_in=3, log=log)
    teacher = asked(path)
    teacher(_numbers())
    teacher.save()
    whole = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(_one_of((_plain, _with_length), content))
        teacher = asked(path)
        teacher(_numbers()[:4])

    return [b"\0" + whole, b"\1" + _parted(whole)], read


def _trajectory(folder: Path):
    import jax

    import ecjax as ec
    from ecjax import flow
    from ecjax.network import random_students

    x = jax.random.normal(jax.random.key(0), (10, 1))
    students = random_students(2, (1, 1, 1), "tanh", key=jax.random.key(1))
    path = folder / "path.npz"
    end = flow.follow(students, ec.Samples(x, x), until=flow.Until(time=0.1), saves=2)
    end.save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()

    def read(content: bytes) -> None:
        path.write_bytes(_one_of((_plain, lambda parts: _archive(names, parts)), content))
        flow.load_trajectory(path, students, end.dynamics).reasons()

    return [b"\0" + whole, b"\1" + _members(whole)], read


def _teacher(folder: Path):
    """The folder of a network that was taught images: what is said about it."""
    import jax

    import ecjax as ec
    from ecjax.cli.teach import read_teacher

    ec.save_network(ec.random_network((784, 2, 10), "tanh", key=jax.random.key(0)), folder / "teacher.safetensors")
    whole = json.dumps({"dataset": "mnist", "n": 100, "shape": [784, 2, 10], "activation": "tanh", "seed": 0}).encode()

    def read(content: bytes) -> None:
        (folder / "teacher.json").write_bytes(content)
        read_teacher(folder)

    return [whole], read


def _onnx(folder: Path):
    import jax

    import ecjax as ec

    path = folder / "net.onnx"
    nets = [ec.random_network((2, 3, 1), each, key=jax.random.key(0)) for each in ("tanh", "gelu", "relu")]
    wholes = [ec.to_onnx(net).SerializeToString() for net in nets]

    def read(content: bytes) -> None:
        path.write_bytes(content)
        ec.from_onnx(path)

    return wholes, read


READERS = {
    "npz": Reader(_tables(".npz", _npz_wholes, _plain, _zip)),
    "csv": Reader(_tables(".csv", _csv_wholes, _plain)),
    "parquet": Reader(_tables(".parquet", _parquet_wholes, _plain), ("pyarrow",)),
    "arrow": Reader(_tables(".arrow", _arrow_wholes, _plain), ("pyarrow",)),
    "idx": Reader(_idx),
    "cifar": Reader(_cifar),
    "network": Reader(_network),
    "run": Reader(_run),
    "store": Reader(_store),
    "log": Reader(_log),
    "trajectory": Reader(_trajectory),
    "teacher": Reader(_teacher),
    "onnx": Reader(_onnx, ("onnx",)),
}


def refuses_or_reads(read: Callable[[bytes], None], content: bytes) -> bool:
    """Whether a reader took an input; one that it refuses has to be refused in one line.

    Raises:
        AssertionError: If the refusal is none of words, or has several lines.
    """
    try:
        read(content)
    except ValueError as error:
        said = str(error)
        if not said or "\n" in said:
            raise AssertionError(f"refused by {said!r}") from error
        return False
    return True


# --- processes -------------------------------------------------------------------------------------------------------


def _fuzz_here(name: str, seconds: int, found: Path) -> None:
    """Fuzz one reader; libFuzzer ends the process."""
    import atheris  # pyright: ignore[reportMissingImports]

    with atheris.instrument_imports(include=["ecjax"]):
        import jax

        import ecjax.cli
        import ecjax.doors
        import ecjax.flow
        import ecjax.runs  # noqa: F401
    jax.config.update("jax_enable_x64", True)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    for each in (corpus, folder / "files"):
        each.mkdir()
    wholes, read = READERS[name].begin(folder / "files")
    for i, whole in enumerate(wholes):
        assert refuses_or_reads(read, whole), f"whole file {i} of {name} is refused"
        (corpus / str(i)).write_bytes(whole)
    limits = f"-timeout={_SECONDS} -rss_limit_mb={_MEGABYTES} -max_total_time={seconds} -max_len={_LONGEST}"
    options = [
        *limits.split(),
        "-len_control=0",
        "-keep_seed=1",
        "-reduce_inputs=0",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/{name}-",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options], lambda content: refuses_or_reads(read, content) * 0)
    atheris.Fuzz()


def _fuzz(name: str, seconds: int, found: Path) -> dict[str, object]:
    """Fuzz one reader in a process of its own: how many inputs, how many ways through the code, and what was found."""
    scratch = Path(tempfile.mkdtemp())
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuzz",
        "--here",
        name,
        "--seconds",
        str(seconds),
        "--found",
        str(found),
    ]
    place = Path(__file__).parent.parent
    environment = os.environ | {"TMPDIR": str(scratch)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, errors="replace")
    shutil.rmtree(scratch)
    said = done.stdout + done.stderr
    (found / f"{name}.log").write_text(said)
    number = lambda pattern: int((re.findall(pattern, said) or ["0"])[-1])
    return {
        "reader": name,
        "inputs": number(r"number_of_executed_units:\s*(\d+)"),
        "branches": number(r"cov: (\d+)"),
        "findings": int(done.returncode != 0),
    }


def table(rows: list[dict[str, object]]) -> list[list[str]]:
    """Inputs, branches of ecjax that they reached, and findings of every reader."""
    cells = [[f"{each:,}" if isinstance(each, int) else str(each) for each in row.values()] for row in rows]
    return [["reader", "inputs", "branches reached", "findings"], *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--seconds", type=int, default=600, help="of each reader; 600")
    parser.add_argument("--jobs", type=int, default=1, help="readers at a time; 1")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where findings and logs are kept")
    parser.add_argument("--here", choices=list(READERS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.found.mkdir(parents=True, exist_ok=True)
    if asked.here:
        _fuzz_here(asked.here, asked.seconds, asked.found)
    with ThreadPoolExecutor(asked.jobs) as pool:
        rows = []
        for row in pool.map(lambda name: _fuzz(name, asked.seconds, asked.found.resolve()), asked.readers):
            rows.append(row)
            print(row, flush=True)
    from .rows import as_text

    print(as_text(table(rows), markdown=True))
    if any(row["findings"] for row in rows):
        raise SystemExit(f"findings are in {asked.found}")


if __name__ == "__main__":
    main()

"""Inputs and outputs of an unknown network from a file of the user's own: `.npz`, `.csv`, `.parquet` or Arrow."""

import csv
from array import array
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ..base.memory import require_memory
from ..base.npz import read_npz
from ..doors import columns_of

WANTED = (
    "A .npz file holds two arrays, x [samples, inputs] and y [samples, outputs]: np.savez(path, x=x, y=y). "
    "A .csv file (.parquet and .arrow likewise) has a header line and one line a sample; the columns whose names start "
    "with y are outputs, the others are inputs (or name the outputs: --outputs price demand)."
)

_COLUMNS = (".parquet", ".arrow", ".feather")
MISSING = ("", "na", "n/a", "null", "none", "-", "?")  # in place of a number, whatever the case


class Table(NamedTuple):
    """What a file holds, as float64.

    Attributes:
        x: Inputs.
        y: Outputs.
        inputs: Names of the columns of x, where the file has some.
        outputs: Of those of y.
    """

    x: Float[np.ndarray, "samples inputs"]
    y: Float[np.ndarray, "samples outputs"]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def read_data(
    path: Path, *, outputs: Sequence[str] = (), missing: bool = False
) -> tuple[Float[np.ndarray, "samples inputs"], Float[np.ndarray, "samples outputs"]]:
    """Inputs x and outputs y of a file, without their names; see `read_table`."""
    return read_table(path, outputs=outputs, missing=missing)[:2]


def read_table(path: Path, *, outputs: Sequence[str] = (), missing: bool = False) -> Table:
    """Inputs and outputs of a file with their names.

    Args:
        path: A `.npz`, `.csv`, `.parquet`, `.arrow` or `.feather` file.
        outputs: Names of the columns that are outputs; by default those that start with y.
        missing: Whether csv columns may miss numbers: empty cells, and those with one of `MISSING`, are read as NaN.

    Raises:
        ValueError: If the file is missing or is not what `WANTED` says, naming the array, line or column.
    """
    if not path.is_file():
        raise ValueError(f"`file`: there is no file {path}. {WANTED}")
    if path.suffix.lower() == ".npz":
        if outputs:
            raise ValueError(f"`outputs` names columns of a .csv file; {path} holds arrays, x and y.")
        return _read_npz(path)
    if _is_csv(path):
        return _read_csv(path, outputs, missing)
    if path.suffix.lower() in _COLUMNS:
        return _read_columns(path, outputs)
    raise ValueError(f"`file`: {path} is neither .npz nor .csv, nor {', '.join(_COLUMNS)}. {WANTED}")


def _read_npz(path: Path) -> Table:
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise ValueError(f"`file`: {error}. {WANTED}") from error
    if not {"x", "y"} <= set(arrays):
        raise ValueError(f"`file`: {path} holds the arrays {sorted(arrays)}. {WANTED}")
    x, y = arrays["x"], arrays["y"]
    for name, numbers in arrays.items():
        if name in ("x", "y") and numbers.dtype.kind not in "fiub":
            raise ValueError(f"`file`: {name} in {path} is made of {numbers.dtype}, not of numbers. {WANTED}")
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"`file`: in {path}, x has shape {x.shape} and y has shape {y.shape}. {WANTED}")
    return Table(x.astype(float), y.astype(float))


def _read_csv(path: Path, outputs: Sequence[str], missing: bool) -> Table:
    numbers, n_rows = array("d"), 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = _names(next(reader, []), path)
            is_output = _outputs_among(names, outputs, path) if names else np.zeros(0, bool)
            for row in filter(None, reader):
                numbers.extend(_numbers(row, names, path, reader.line_num, missing))
                n_rows += 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"`file`: {path} is not text with commas ({error}). {WANTED}") from error
    if not n_rows:
        raise ValueError(f"`file`: {path} has no line of numbers below a header. {WANTED}")
    table = np.frombuffer(numbers).reshape(n_rows, -1)
    return _parted(table, names, is_output)


def what_was_read(path: Path, table: Table) -> str:
    """Samples, inputs and outputs of a file in words, with the names of their columns where it has some."""
    counted = (
        _counted(numbers.shape[1], word) + (f" ({', '.join(names)})" if names else "")
        for numbers, word, names in ((table.x, "input", table.inputs), (table.y, "output", table.outputs))
    )
    return f"{path}: {len(table.x):,} samples of {' and '.join(counted)}, in {table.x.dtype}"


def _names(header: list[str], path: Path) -> list[str]:
    """The names of the columns, from the first line."""
    names = [name.strip() for name in header]
    if names and all(map(_is_number, names)):
        raise ValueError(f"`file`: the first line of {path} is numbers; it has to name the columns. {WANTED}")
    if len(set(names)) < len(names):
        raise ValueError(f"`file`: columns of {path} share a name: {names}.")
    return names


def _outputs_among(names: Sequence[str], outputs: Sequence[str], path: Path) -> Bool[np.ndarray, " columns"]:
    """Which columns are outputs: those that were named, or whose names start with y."""
    unknown = [name for name in outputs if name not in names]
    if unknown:
        raise ValueError(f"`outputs`: {path} has no column {unknown}; it has {list(names)}.")
    is_output = np.array([name in outputs if outputs else name.lower().startswith("y") for name in names])
    if not is_output.any() or is_output.all():
        in_one = _is_csv(path) and any(mark in name for name in names for mark in ";\t|")
        commas = " Columns are told apart by commas." if in_one else ""
        raise ValueError(f"`file`: {path} needs input and output columns; it has {list(names)}.{commas} {WANTED}")
    return is_output


def _parted(table: np.ndarray, names: Sequence[str], is_output: np.ndarray) -> Table:
    named = lambda mine: tuple(name for name, one in zip(names, mine, strict=True) if one)
    return Table(table[:, ~is_output], table[:, is_output], named(~is_output), named(is_output))


def _read_columns(path: Path, outputs: Sequence[str]) -> Table:
    """A parquet or Arrow file, by pyarrow; of its columns the same is asked as of those of a csv file."""
    try:
        from pyarrow import ArrowException, feather, parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"`file`: {path.suffix} files are read by pyarrow, which is not installed: pip install pyarrow."
        ) from error

    def as_arrow(work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except (ArrowException, OSError, ValueError, OverflowError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
            raise ValueError(f"`file`: {path} is no {path.suffix} file: {said}.") from error

    if path.suffix.lower() == ".parquet":
        file = as_arrow(parquet.ParquetFile, path)
        n_rows, n_columns = file.metadata.num_rows, file.metadata.num_columns
        require_memory(8.0 * n_rows * n_columns, f"{n_rows:,} rows of {path}", "give fewer of them")
        read = as_arrow(file.read)
    else:
        read = as_arrow(feather.read_table, path)
    as_arrow(lambda: read.validate(full=True))  # offsets and the like, which are believed otherwise
    try:
        found = columns_of(read)
    except ValueError as error:
        raise ValueError(f"`file`: {path}: {error}") from error
    assert found is not None  # an Arrow table is a table
    table, names = found
    if not len(table):
        raise ValueError(f"`file`: {path} has no rows. {WANTED}")
    return _parted(table.astype(float), names, _outputs_among(names, outputs, path))


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _numbers(row: list[str], names: list[str], path: Path, line: int, missing: bool) -> list[float]:
    if len(row) != len(names):
        raise ValueError(f"`file`: line {line} of {path} has {len(row)} values for {len(names)} columns.")
    row = [text.strip() for text in row]
    for name, text in zip(names, row, strict=True):
        is_missing = text.lower() in MISSING
        is_number = _is_number(text)
        if missing and (is_missing or is_number):
            continue
        if not is_number or not isfinite(float(text)):
            hint = " Rows that miss numbers are left out with --missing dropped." if is_missing or is_number else ""
            what = "NaN or infinite" if is_number else "not a number"
            raise ValueError(f"`file`: line {line} of {path} has {text!r} in column {name!r}, {what}.{hint}")
    return [float(text) if _is_number(text) else float("nan") for text in row]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python reads over


def _counted(n: int, word: str) -> str:
    return f"1 {word}" if n == 1 else f"{n} {word}s"

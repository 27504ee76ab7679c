"""Inputs and outputs of an unknown network from a file of the user's own: `.npz` or `.csv`."""

import csv
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..base.npz import read_npz

WANTED = (
    "A .npz file holds two arrays, x [samples, inputs] and y [samples, outputs]: np.savez(path, x=x, y=y). "
    "A .csv file has a header line and one line a sample; the columns whose names start with y are outputs, the others "
    "are inputs (or name the outputs: --outputs price demand)."
)

MISSING = ("", "na", "n/a", "null", "none", "-", "?")  # in place of a number, whatever the case


def read_data(
    path: Path, *, outputs: Sequence[str] = (), missing: bool = False
) -> tuple[Float[np.ndarray, "samples inputs"], Float[np.ndarray, "samples outputs"]]:
    """Inputs x and outputs y of a file, as float64.

    Args:
        path: A `.npz` or `.csv` file.
        outputs: Names of the csv columns that are outputs; by default those that start with y.
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
    if path.suffix.lower() == ".csv":
        return _read_csv(path, outputs, missing)
    raise ValueError(f"`file`: {path} is neither .npz nor .csv. {WANTED}")


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
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
    return x.astype(float), y.astype(float)


def _read_csv(path: Path, outputs: Sequence[str], missing: bool) -> tuple[np.ndarray, np.ndarray]:
    numbers, n_rows = array("d"), 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = _names(next(reader, []), path)
            is_output = _are_outputs(names, outputs, path) if names else np.zeros(0, bool)
            for row in filter(None, reader):
                numbers.extend(_numbers(row, names, path, reader.line_num, missing))
                n_rows += 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"`file`: {path} is not text with commas ({error}). {WANTED}") from error
    if not n_rows:
        raise ValueError(f"`file`: {path} has no line of numbers below a header. {WANTED}")
    table = np.frombuffer(numbers).reshape(n_rows, -1)
    return table[:, ~is_output], table[:, is_output]


def what_was_read(path: Path, x: np.ndarray, y: np.ndarray, outputs: Sequence[str] = ()) -> str:
    """Samples, inputs and outputs of a file in words, with the names of a csv file's columns."""
    inputs, answers = (_counted(table.shape[1], word) for table, word in ((x, "input"), (y, "output")))
    if path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = _names(next(csv.reader(file)), path)
        is_output = _are_outputs(names, outputs, path)
        listed = lambda which: ", ".join(name for name, its in zip(names, is_output, strict=True) if its == which)
        inputs, answers = f"{inputs} ({listed(False)})", f"{answers} ({listed(True)})"
    return f"{path}: {len(x):,} samples of {inputs} and {answers}, in {x.dtype}"


def _names(header: list[str], path: Path) -> list[str]:
    """The names of the columns, from the first line."""
    names = [name.strip() for name in header]
    if names and all(map(_is_number, names)):
        raise ValueError(f"`file`: the first line of {path} is numbers; it has to name the columns. {WANTED}")
    if len(set(names)) < len(names):
        raise ValueError(f"`file`: columns of {path} share a name: {names}.")
    return names


def _are_outputs(names: list[str], outputs: Sequence[str], path: Path) -> np.ndarray:
    """Which columns are outputs: those that were named, or whose names start with y."""
    unknown = [name for name in outputs if name not in names]
    if unknown:
        raise ValueError(f"`outputs`: {path} has no column {unknown}; it has {names}.")
    is_output = np.array([name in outputs if outputs else name.lower().startswith("y") for name in names])
    if not is_output.any() or is_output.all():
        commas = " Columns are told apart by commas." if any(mark in name for name in names for mark in ";\t|") else ""
        raise ValueError(f"`file`: {path} needs input and output columns; it has {names}.{commas} {WANTED}")
    return is_output


def _numbers(row: list[str], names: list[str], path: Path, line: int, missing: bool) -> list[float]:
    if len(row) != len(names):
        raise ValueError(f"`file`: line {line} of {path} has {len(row)} values for {len(names)} columns.")
    row = [text.strip() for text in row]
    for name, text in zip(names, row, strict=True):
        is_missing = text.lower() in MISSING
        if not _is_number(text) and not (missing and is_missing):
            hint = " Rows that miss numbers are left out with --missing dropped." if is_missing else ""
            raise ValueError(f"`file`: line {line} of {path} has {text!r} in column {name!r}, not a number.{hint}")
    return [float(text) if _is_number(text) else float("nan") for text in row]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python reads over


def _counted(n: int, word: str) -> str:
    return f"1 {word}" if n == 1 else f"{n} {word}s"

"""Tables with named columns: what pandas, polars and Arrow have in common is read without importing any of them."""

from typing import Any

import numpy as np


def columns_of(table: Any) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """The numbers of a table, one row a sample, and the names of its columns; None for what is no table.

    Args:
        table: A pandas, polars or Arrow table of numbers, or a single named column of one.

    Raises:
        ValueError: If a column is not made of numbers, or two share a name.
    """
    if type(table).__module__.split(".")[0] not in ("pandas", "polars", "pyarrow"):
        return None
    if hasattr(table, "column_names"):  # Arrow
        columns = {str(name): table.column(i) for i, name in enumerate(table.column_names)}
        named = list(map(str, table.column_names))
    elif hasattr(table, "columns"):
        named = [str(name) for name in table.columns]
        columns = {str(name): table[name] for name in table.columns} if len(set(named)) == len(named) else {}
    else:  # a series
        named = [str(getattr(table, "name", None) or "y")]
        columns = {named[0]: table}
    if len(set(named)) < len(named):
        raise ValueError(f"Columns of the table share a name: {named}. Give each its own.")
    if not named:
        raise ValueError("The table has no columns.")
    return np.column_stack([_numbers(columns[name], name) for name in named]), tuple(named)


_OF_ARROW = ("int", "uint", "float", "double", "halffloat", "bool", "null")  # begin the names of its numbers


def _numbers(column: Any, name: str) -> np.ndarray:
    try:
        kind = str(getattr(column, "type", "")) if type(column).__module__.startswith("pyarrow") else ""
        if kind and not kind.removeprefix("dictionary<values=").startswith(_OF_ARROW):
            raise ValueError(f"it is made of {kind}")  # and is not unfolded into objects first
        array = np.asarray(column.to_numpy(**({"zero_copy_only": False} if _is_array(column) else {})))
        if array.dtype == object:  # missing numbers are None
            array = np.array([np.nan if each is None else each for each in array])
        if array.dtype.kind not in "fiub":
            raise ValueError(f"it is made of {array.dtype}")
        return array if array.dtype in (np.float32, np.float64) else array.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column {name!r} of the table is not made of numbers: {error}.") from error


def _is_array(column: Any) -> bool:
    return (
        type(column).__module__.startswith("pyarrow.")
        and type(column).__name__.endswith("Array")
        and ("Chunked" not in type(column).__name__)
    )

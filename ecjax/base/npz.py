"""npz files whose headers are held against the file, and against memory, before an array is made; nothing unpickled."""

import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from .memory import require_memory

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What zipfile and NumPy raise over bytes that are no zip archive of arrays, one of a kind that they do not read, or one
# whose parts contradict each other.
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, TokenError, OverflowError, MemoryError),
    *(NotImplementedError, RuntimeError, RecursionError, struct.error, zlib.error, zipfile.BadZipFile),
)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name.

    Raises:
        ValueError: If the file is missing, is no npz file, holds Python objects, announces other sizes than it has, or
            does not fit in memory.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check(archive, member)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise ValueError(f"{path} is no readable npz file ({error or type(error).__name__})") from error


def _check(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header is not that of what follows."""
    with archive.open(member) as file:
        read = _HEADERS.get(npy.read_magic(file))
        if read is None:
            raise ValueError(f"{member.filename} is of another version of NumPy's format, and not made of numbers")
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are never read; store numbers")
        announced, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if announced != there:
            raise ValueError(
                f"{member.filename} announces shape {shape} in {dtype}, {announced:,} bytes, and holds {there:,}"
            )
        require_memory(announced, f"numbers of shape {shape} in {member.filename}", "give fewer of them")

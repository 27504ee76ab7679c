"""Files that appear whole or not at all: bytes, named arrays as safetensors, JSON. Reading executes nothing.

What is written is a function of what was given, byte for byte.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


def write_whole(path: str | os.PathLike, content: bytes) -> None:
    """Write a file that appears whole or not at all; a failure leaves what was there, and nothing beside it.

    Raises:
        OSError: Naming the file and what stands in the way.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:  # not one of `tempfile`, which its owner alone may read
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or the name could outlive a power cut that the content does not
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"{path} was not written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            partial.unlink()  # there only after a failure


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any], *, about: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, with words about them.

    Args:
        path: The file.
        arrays: By name.
        about: Metadata.
    """
    # safetensors writes an array's buffer: a strided view would come back scrambled. 0-d arrays become 1-d on the way.
    whole = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    write_whole(path, _in_order(save(whole, metadata=None if about is None else dict(about))))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with the words in its header in the order of their names; the library's is of chance."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if "__metadata__" not in header:
        return content
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    words = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    words += b" " * (-len(words) % 8)  # arrays begin at multiples of 8 bytes
    return b"".join([len(words).to_bytes(8, "little"), words, memoryview(content)[8 + length :]])


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote.

    Raises:
        ValueError: If the file is missing or is not safetensors.
    """
    return read_arrays_and_words(path)[0]


def read_arrays_and_words(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays of a safetensors file, and what it says about them.

    Raises:
        ValueError: If the file is missing, is not safetensors, or holds arrays that NumPy has no numbers for.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def read_words(path: str | os.PathLike) -> dict[str, str]:
    """What a safetensors file says about its arrays, without reading these.

    Raises:
        ValueError: If the file is missing or is not safetensors.
    """
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Any]:
    """A safetensors file, whose header the library holds against the length of the file."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, and no safetensors file.")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}).") from error


def write_json_text(path: str | os.PathLike, value: Any) -> None:
    """Write a value in JSON's own types as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, text.encode("utf-8"))


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} is not readable ({error.strerror}); is its folder a finished ecjax run?") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}).") from error


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON file that holds names with values.

    Raises:
        ValueError: If the file is missing or holds anything else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__} where names with values were written; it is damaged.")
    return value

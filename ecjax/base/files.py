"""Files that appear whole or not at all: bytes, named arrays as safetensors, JSON. Reading executes nothing."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
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
    write_whole(path, save(whole, metadata=None if about is None else dict(about)))


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote.

    Raises:
        ValueError: If the file is missing or is not safetensors.
    """
    return read_arrays_and_words(path)[0]


def read_arrays_and_words(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays of a safetensors file, and what it says about them.

    Raises:
        ValueError: If the file is missing or is not safetensors.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}).") from error


def read_words(path: str | os.PathLike) -> dict[str, str]:
    """What a safetensors file says about its arrays, without reading these.

    Raises:
        ValueError: If the file is missing or is not safetensors.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
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
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}).") from error

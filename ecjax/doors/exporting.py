"""A network as a file of another library."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..base.files import write_arrays, write_whole
from .chain import plain


def _torch(net: Any, path: Path) -> None:
    """A state_dict as safetensors, which needs no PyTorch to write and no pickle to read."""
    layers = plain(net, "PyTorch")
    parts = {
        f"{2 * i}.{name}": part
        for i, each in enumerate(layers)
        for name, part in (("weight", each.w), ("bias", each.b))
    }
    write_arrays(path, parts, about={"activations": ",".join(each.kind for each in layers[:-1])})


def _flax(net: Any, path: Path) -> None:
    """Linen's parameters as safetensors, their names joined by dots."""
    layers = plain(net, "Flax")
    parts = {}
    for i, each in enumerate(layers):
        parts |= {f"params.Dense_{i}.kernel": each.w.T.copy(), f"params.Dense_{i}.bias": each.b}
    write_arrays(path, parts, about={"activations": ",".join(each.kind for each in layers[:-1])})


def _onnx(net: Any, path: Path) -> None:
    from .onnx_graph import to_onnx

    write_whole(path, to_onnx(net).SerializeToString())


def _keras(net: Any, path: Path) -> None:
    from .keras3 import to_keras

    to_keras(net).save(path)


# What a format is called, the end of its files' names, and who writes it.
FORMATS: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
    "onnx": (".onnx", _onnx),
    "torch": (".safetensors", _torch),
    "flax": (".safetensors", _flax),
    "keras": (".keras", _keras),
}
_NEEDS = {"onnx": "onnx", "keras": "keras"}


def export(net: Any, to: str, path: str | os.PathLike) -> Path:
    """Write a network as a file of another library.

    Args:
        net: A Network, or a Recovery.
        to: "onnx", "torch" (a state_dict: `model.load_state_dict(safetensors.torch.load_file(path))`), "flax" (Linen's
            parameters, names joined by dots: `flax.traverse_util.unflatten_dict(..., sep=".")`), "keras".
        path: The file; without an ending it gets that of the format.

    Returns:
        Where the file is.

    Raises:
        ValueError: If there is no such format, the library is not installed, or it has no such network.
    """
    if to not in FORMATS:
        raise ValueError(f"`to` is one of {sorted(FORMATS)}; got {to!r}.")
    ending, write = FORMATS[to]
    path = Path(path)
    path = path if path.suffix else path.with_suffix(ending)
    if to == "keras" and path.suffix != ending:
        raise ValueError(f"`path`: Keras writes files that end in {ending}; got {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(net, path)
    except ImportError as error:
        needed = (error.name or _NEEDS[to]).split(".")[0]
        other = " Or let Keras compute with JAX: KERAS_BACKEND=jax." if to == "keras" != needed else ""
        raise ValueError(f"`to`: {to} needs {needed}, which is not installed: pip install {needed}.{other}") from error
    return path

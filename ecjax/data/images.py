"""Images with labels: MNIST, Fashion-MNIST and CIFAR-10 from their original files, one flat standardised row each.

Files are looked for in a folder first, the argument or the one that the environment variable ECJAX_DATA names:

    mnist/                  train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-images-...  t10k-labels-...
    fashion-mnist/          the same four names
    cifar-10-batches-bin/   data_batch_1.bin ... data_batch_5.bin  test_batch.bin; training batches that are not there
                            are done without, as long as there is one

What is not there is downloaded once from its public home, checked against a checksum and kept in pooch's cache. Only
that needs pooch (`pip install "ecjax[images]"`).

Source: LeCun, Cortes, Burges (MNIST); Xiao, Rasul, Vollgraf, arXiv:1708.07747 (Fashion-MNIST); Krizhevsky 2009
    (CIFAR-10). Means and standard deviations are those of the code published with Martinelli et al., ICML 2024; for
    CIFAR-10 these are ImageNet's, which standardise the images only roughly.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base.memory import require_memory

Split = Literal["train", "test"]
_MOST_UNFOLDED = 1032  # bytes that one byte of a gzip file can become, by the format


@dataclass(frozen=True)
class _Images:
    """One data set: where it lives, and how its pixels, scaled to [0, 1], are standardised (per channel)."""

    subfolder: str
    home: str
    checksums: dict[str, str]  # file: checksum, with the name of the hash in front unless it is sha256
    mean: tuple[float, ...]
    std: tuple[float, ...]


DATASETS = {
    "mnist": _Images(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        mean=(0.1307,),
        std=(0.3081,),
    ),
    "fashion-mnist": _Images(
        "fashion-mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        mean=(0.5,),
        std=(0.5,),
    ),
    "cifar-10": _Images(
        "cifar-10-batches-bin",
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
}


def load_images(
    name: str, *, folder: str | os.PathLike | None = None, split: Split = "train", n: int | None = None
) -> tuple[Float[Array, "samples pixels"], Int[np.ndarray, " samples"]]:
    """Read images, standardised as in the paper's experiments, and their classes.

    Args:
        name: "mnist" or "fashion-mnist" (784 pixels a row), or "cifar-10" (3,072: all red ones, then green, then blue).
        folder: Where to look before downloading; by default the folder that ECJAX_DATA names, if any. See the module.
        split: "train" or "test".
        n: The first so many; all by default.

    Returns:
        Pixels in float32 and the classes 0 ... 9.

    Raises:
        ValueError: If an argument is not one of these, a file is damaged, or there are fewer than `n` images.
        ConnectionError: If a file is neither in the folder nor in the cache, and cannot be downloaded.
        ImportError: If a file has to be downloaded, and pooch is not installed.
    """
    if name not in DATASETS:
        raise ValueError(f"`name` is one of {sorted(DATASETS)}; got {name!r}.")
    if split not in ("train", "test"):
        raise ValueError(f'`split` is "train" or "test"; got {split!r}.')
    if n is not None and n < 1:
        raise ValueError(f"`n` is how many images to read, at least 1; got {n}.")
    images = DATASETS[name]
    there = _folder(folder, images)
    if name == "cifar-10":
        pixels, labels = _read_cifar(_cifar_batches(there, images, split))
    else:
        start = {"train": "train", "test": "t10k"}[split]
        pixels = _read_idx(_idx_file(there, images, f"{start}-images-idx3-ubyte.gz"), n_axes=3)
        labels = _read_idx(_idx_file(there, images, f"{start}-labels-idx1-ubyte.gz"), n_axes=1)
        if len(pixels) != len(labels):
            raise ValueError(
                f"`folder`: {len(pixels)} images but {len(labels)} labels of {name}; files of two versions?"
            )
    n = len(pixels) if n is None else n
    if n > len(pixels):
        raise ValueError(f"`n` is at most {len(pixels)}, the images of {name} ({split}) that are there; got {n}.")
    # Channel first: one mean and standard deviation for each run of pixels of one colour.
    pixels = pixels[:n].reshape(n, len(images.mean), -1).astype(np.float32) / 255
    mean, std = (np.array(each, np.float32)[:, None] for each in (images.mean, images.std))
    return jnp.asarray(((pixels - mean) / std).reshape(n, -1)), labels[:n].astype(np.int64)


# --- files ---------------------------------------------------------------------------------------------------------


def _folder(folder: str | os.PathLike | None, images: _Images) -> Path | None:
    """Where the files of one data set may be; None if nothing was named, or it has no such data set."""
    named = folder if folder is not None else os.environ.get("ECJAX_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        origin = "`folder`" if folder is not None else "The environment variable ECJAX_DATA"
        raise ValueError(f"{origin} names a folder of data sets, and {named} is none.")
    there = Path(named) / images.subfolder
    return there if there.is_dir() else None


def _idx_file(there: Path | None, images: _Images, file: str) -> Path:
    if there is not None and (there / file).is_file():
        return there / file
    return _download(images, file)[0]


def _cifar_batches(there: Path | None, images: _Images, split: Split) -> list[Path]:
    wanted = ["test_batch.bin"] if split == "test" else [f"data_batch_{i}.bin" for i in range(1, 6)]
    if there is not None:
        found = [there / file for file in wanted if (there / file).is_file()]
        if found:
            return found
    return _download(images, "cifar-10-binary.tar.gz", members=wanted)


def _download(images: _Images, file: str, members: Iterable[str] = ()) -> list[Path]:
    """A file in pooch's cache, or those members of an archive by name, downloaded if need be."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"{file} is not in a folder named by `folder` or ECJAX_DATA, and downloading it needs pooch: "
            'pip install "ecjax[images]".'
        ) from error

    members = [f"{images.subfolder}/{member}" for member in members]
    try:
        got = pooch.retrieve(
            images.home + file,
            known_hash=images.checksums[file],
            fname=f"{images.subfolder}-{file}",
            path=pooch.os_cache("ecjax"),
            processor=pooch.Untar(members=members) if members else None,
        )
    except OSError as error:  # requests' errors are OSErrors, too
        raise ConnectionError(
            f"{file} could not be downloaded from {images.home} ({type(error).__name__}). Without a network, put it "
            f"into {images.subfolder}/ of a folder, and name that by `folder` or the environment variable ECJAX_DATA."
        ) from error
    return [Path(path) for path in (sorted(got) if members else [got])]


def _read_idx(path: Path, *, n_axes: int) -> np.ndarray:
    """An idx file of bytes: two zeros, type 8, number of axes, big-endian lengths, then the bytes themselves."""
    header = 4 + 4 * n_axes
    try:
        with gzip.open(path) as file:
            head = file.read(header)
            if len(head) < header or head[:4] != bytes([0, 0, 8, n_axes]):
                raise ValueError(f"`folder`: {path} is no idx file of bytes with {n_axes} axes. Fetch it again.")
            shape = np.frombuffer(head[4:], ">u4").tolist()
            size = min(math.prod(shape), _MOST_UNFOLDED * path.stat().st_size)
            require_memory(size, f"bytes of shape {shape} in {path}", "fetch it again")
            raw = file.read(size + 1)  # and not whatever a small file may unfold to
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"`folder`: {path} is no whole gzip file ({error}). Fetch it again.") from error
    if len(raw) != math.prod(shape):
        held = f"{len(raw)} in all" if len(raw) < math.prod(shape) else "more"
        raise ValueError(f"`folder`: {path} announces {shape} bytes and holds {held}. Fetch it again.")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _read_cifar(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3,072 pixel bytes."""
    records = []
    for path in paths:
        raw = np.frombuffer(path.read_bytes(), np.uint8)
        if not raw.size or raw.size % 3073:
            raise ValueError(f"`folder`: {path} has {raw.size} bytes, not a multiple of 3,073. Fetch it again.")
        records.append(raw.reshape(-1, 3073))
        if records[-1][:, 0].max() > 9:
            raise ValueError(f"`folder`: {path} has labels above 9, so it is not CIFAR-10. Fetch it again.")
    records = np.concatenate(records)
    return records[:, 1:], records[:, 0]

"""Images: pixels come back from their original files, damaged ones are refused by name, downloads are checked."""

import gzip
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ecjax.data.images import DATASETS, load_images

SHARED = Path(os.environ.get("ECJAX_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the original files are neither named nor beside us")


def idx(array):
    """The bytes of an idx file."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Five images of each data set, all pixels random."""
    rng = np.random.default_rng(0)
    for name in ("mnist", "fashion-mnist"):
        (tmp_path / name).mkdir()
        for start in ("train", "t10k"):
            images = rng.integers(0, 256, (5, 28, 28), np.uint8)
            (tmp_path / name / f"{start}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
            labels = np.arange(5, dtype=np.uint8)
            (tmp_path / name / f"{start}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for file in ("data_batch_2", "data_batch_1", "test_batch"):
        records = rng.integers(0, 256, (5, 3073), np.uint8)
        records[:, 0] = rng.integers(0, 10, 5)
        (tmp_path / "cifar-10-batches-bin" / f"{file}.bin").write_bytes(records.tobytes())
    return tmp_path


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No cache and no way out."""
    pooch = pytest.importorskip("pooch")

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.delenv("ECJAX_DATA", raising=False)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_come_back_from_standardised_rows(name, split, folder):
    x, labels = load_images(name, folder=folder, split=split)
    raw = gzip.decompress(
        (folder / name / f"{'train' if split == 'train' else 't10k'}-images-idx3-ubyte.gz").read_bytes()
    )
    pixels = np.frombuffer(raw[16:], np.uint8).reshape(5, 784)
    (mean,), (std,) = DATASETS[name].mean, DATASETS[name].std
    assert x.shape == (5, 784)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(np.rint((np.asarray(x) * std + mean) * 255), pixels)
    np.testing.assert_array_equal(labels, np.arange(5))


def test_cifar_is_standardised_colour_by_colour_and_takes_the_batches_there_in_order(folder):
    x, labels = load_images("cifar-10", folder=folder)
    files = [folder / "cifar-10-batches-bin" / f"data_batch_{i}.bin" for i in (1, 2)]
    records = np.concatenate([np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, 3073) for file in files])
    channels = np.asarray(x).reshape(10, 3, 1024)
    for c in range(3):
        back = np.rint((channels[:, c] * DATASETS["cifar-10"].std[c] + DATASETS["cifar-10"].mean[c]) * 255)
        np.testing.assert_array_equal(back, records[:, 1 + 1024 * c : 1 + 1024 * (c + 1)])
    np.testing.assert_array_equal(labels, records[:, 0])
    assert load_images("cifar-10", folder=folder, split="test")[0].shape == (5, 3072)


def test_the_environment_names_the_folder_and_the_argument_comes_first(folder, tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("ECJAX_DATA", str(folder))
    assert len(load_images("mnist")[0]) == 5
    assert len(load_images("mnist", n=2)[1]) == 2
    monkeypatch.setenv("ECJAX_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="ECJAX_DATA names a folder"):
        load_images("mnist")
    assert len(load_images("mnist", folder=folder)[0]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "imagenet"}, "`name` is one of"),
        ({"name": "mnist", "n": 0}, "`n` is how many"),
        ({"name": "mnist", "n": 6}, "`n` is at most 5"),
        ({"name": "mnist", "folder": "/nowhere/at/all"}, "`folder` names a folder"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, folder):
    with pytest.raises(ValueError, match=message):
        load_images(**{"folder": folder} | arguments)


def _truncate(data):
    return data[: len(data) // 2]


DAMAGE = {
    "truncated gzip": ("mnist", "train-images-idx3-ubyte.gz", _truncate, "no whole gzip"),
    "not gzip": ("mnist", "train-images-idx3-ubyte.gz", lambda _: b"<html>not found</html>", "no whole gzip"),
    "empty": ("mnist", "train-images-idx3-ubyte.gz", lambda _: b"", "no idx file|no whole gzip"),
    "not idx": ("mnist", "train-images-idx3-ubyte.gz", lambda _: gzip.compress(b"hello"), "no idx file"),
    "corrupt": ("mnist", "train-images-idx3-ubyte.gz", lambda d: d[:100] + b"\0" * 64 + d[164:], "no whole gzip"),
    "pixels missing": (
        "mnist",
        "train-images-idx3-ubyte.gz",
        lambda d: gzip.compress(gzip.decompress(d)[:-1]),
        "announces .* holds",
    ),
    "one label missing": (
        "mnist",
        "train-labels-idx1-ubyte.gz",
        lambda _: gzip.compress(idx(np.arange(4, dtype=np.uint8))),
        "5 images but 4 labels",
    ),
    "truncated batch": ("cifar-10", "data_batch_1.bin", lambda d: d[:-1], "multiple of 3,073"),
    "empty batch": ("cifar-10", "data_batch_1.bin", lambda _: b"", "multiple of 3,073"),
    "other labels": ("cifar-10", "data_batch_1.bin", lambda d: bytes([10]) + d[1:], "labels above 9"),
}


@pytest.mark.parametrize(("name", "file", "damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_files_are_refused_by_name(name, file, damage, message, folder):
    path = folder / DATASETS[name].subfolder / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        load_images(name, folder=folder)


def test_offline_says_where_to_put_the_file(no_network, tmp_path):
    with pytest.raises(ConnectionError, match=r"train-images-idx3-ubyte.gz .* put it into mnist/ .* ECJAX_DATA"):
        load_images("mnist", folder=tmp_path)
    with pytest.raises(ConnectionError, match=r"cifar-10-binary.tar.gz .* cifar-10-batches-bin/"):
        load_images("cifar-10", folder=tmp_path)


def test_without_pooch_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install .*ecjax\[images\]"):
        load_images("mnist", folder=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar-10"])
def test_a_download_is_checked_and_read(name, folder, tmp_path, monkeypatch):
    """pooch is asked for the right file, checksum and members; what it hands back is read in order."""
    pooch = pytest.importorskip("pooch")
    images, asked = DATASETS[name], []

    def retrieve(url, known_hash, fname, path, processor):
        asked.append((url, known_hash))
        if processor is None:
            return str(folder / images.subfolder / url.removeprefix(images.home))
        assert sorted(processor.members) == [f"{images.subfolder}/data_batch_{i}.bin" for i in range(1, 6)]
        return [str(folder / images.subfolder / f"data_batch_{i}.bin") for i in (2, 1)]

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    got, wanted = load_images(name, folder=elsewhere), load_images(name, folder=folder)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(known == images.checksums[url.removeprefix(images.home)] for url, known in asked)
    assert asked


@needs_data
@pytest.mark.parametrize("name", DATASETS)
def test_the_original_files(name):
    x, labels = load_images(name, folder=SHARED, split="test")
    assert x.shape == (10_000, 3072 if name == "cifar-10" else 784)
    assert set(np.unique(labels)) == set(range(10))
    if name != "cifar-10":  # whose copy beside this checkout is not exact
        for file, checksum in DATASETS[name].checksums.items():
            raw = (SHARED / DATASETS[name].subfolder / file).read_bytes()
            assert hashlib.sha256(raw).hexdigest() == checksum


@needs_data
def test_mnist_is_nearly_standard():
    x, _ = load_images("mnist", folder=SHARED, n=10_000)
    assert abs(np.mean(x, dtype=float)) < 0.02  # the published mean and deviation are those of all 60,000
    assert abs(np.std(x, dtype=float) - 1) < 0.02

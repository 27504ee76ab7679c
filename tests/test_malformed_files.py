"""Malformed files, truncated, mutated and adversarial: one message that names them, exit code 2, no traceback.

Every reader is held against a catalogue of cases, and against mutations of whole files that hypothesis finds.
"""

import gzip
import io
import json
import struct
import zipfile
from contextlib import suppress

import hypothesis.strategies as st
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import save

import ecjax as ec
from ecjax import runs
from ecjax.base import memory
from ecjax.base.files import read_arrays, write_arrays
from ecjax.base.npz import read_npz
from ecjax.cli import main
from ecjax.cli.data_files import read_data, read_table, what_was_read
from ecjax.data.images import _read_cifar, _read_idx


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Without the tests' own type checks, which stand before ecjax's."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# --- whole files -----------------------------------------------------------------------------------------------------

_X = np.random.default_rng(0).standard_normal((9, 3))


def _npz(**arrays) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _members(**members: bytes) -> bytes:
    """A zip archive of these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name.replace("_", "."), member)
    return content.getvalue()


def _npy(shape: str, descr: str = "'<f8'", body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An array of NumPy's format that announces what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


def _safetensors(header, body: bytes = b"") -> bytes:
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(words).to_bytes(8, "little") + words + body


def _net(**changed) -> bytes:
    """A network as `save_network` writes it, with other tensors or words."""
    tensors = {"layers.0.w": np.ones((3, 2)), "layers.0.b": np.ones(3), "layers.1.w": np.ones((1, 3))}
    tensors |= {"layers.1.b": np.ones(1)} | {name: value for name, value in changed.items() if "layers" in name}
    about = {"format": "ecjax.Network", "activations": '["tanh"]'}
    about |= {name: value for name, value in changed.items() if "layers" not in name}
    return save({name: tensor for name, tensor in tensors.items() if tensor is not None}, about)


def _idx(sizes: tuple[int, ...], n_bytes: int, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return gzip.compress(header + bytes(n_bytes), mtime=0)


CSV = "a,b,y\n" + "\n".join(",".join(f"{number:.17g}" for number in row) for row in _X) + "\n"
NPZ = _npz(x=_X[:, :2], y=_X[:, 2:])
NET = _net()
WHOLE = {"npz": NPZ, "csv": CSV.encode(), "safetensors": NET, "gz": _idx((2, 3, 3), 18), "bin": bytes(3073)}

# --- the catalogue ---------------------------------------------------------------------------------------------------

DATA = {
    "empty.npz": (b"", "is no readable npz file"),
    "text.npz": (CSV.encode(), "is no readable npz file"),
    "one-array.npz": (_npy("(2, 2)", body=bytes(32)), "is no readable npz file"),
    "truncated.npz": (NPZ[:-30], "is no readable npz file"),
    "half.npz": (NPZ[: len(NPZ) // 2], "is no readable npz file"),
    "a-terabyte.npz": (_members(x_npy=_npy("(100000000000, 2)"), y_npy=_npy("(100000000000,)")), "announces shape"),
    "a-terabyte-of-nothing.npz": (_members(x_npy=_npy("(100000000000, 0)"), y_npy=_npy("(5, 1)")), "announces shape"),
    "negative.npz": (_members(x_npy=_npy("(-1, 2)"), y_npy=_npy("(1,)")), "announces shape"),
    "too-short.npz": (_members(x_npy=_npy("(3, 2)", body=bytes(8)), y_npy=_npy("(3,)", body=bytes(24))), "holds 8"),
    "too-long.npz": (_members(x_npy=_npy("(1, 1)", body=bytes(80)), y_npy=_npy("(1,)", body=bytes(8))), "holds 80"),
    "objects.npz": (_members(x_npy=_npy("(1,)", "'|O'", b"cos\nsystem\n"), y_npy=b""), "never read"),
    "no-shape.npz": (_members(x_npy=_npy("'many'"), y_npy=b""), "is no readable npz file"),
    "a-call.npz": (_members(x_npy=_npy("print(1)"), y_npy=b""), "is no readable npz file"),
    "no-dtype.npz": (_members(x_npy=_npy("(1,)", "'<q9'"), y_npy=b""), "is no readable npz file"),
    "a-later-version.npz": (_members(x_npy=_npy("(1,)", version=b"\x09\x00"), y_npy=b""), "is no readable npz file"),
    "no-arrays.npz": (_members(readme_txt=b"hello"), "is no readable npz file"),
    "nothing-in-it.npz": (_members(), "holds the arrays []"),
    "other-names.npz": (_npz(inputs=_X, answers=_X), "['answers', 'inputs']"),
    "words.npz": (_npz(x=_X.astype(str), y=_X), "not of numbers"),
    "dates.npz": (_npz(x=_X.astype("M8[s]"), y=_X), "not of numbers"),
    "structured.npz": (_npz(x=np.zeros(3, "f8,f8"), y=_X[:3]), "not of numbers"),
    "a-vector.npz": (_npz(x=_X[:, 0], y=_X[:, 0]), "x has shape (9,)"),
    "other-rows.npz": (_npz(x=_X, y=_X[:5]), "x has shape (9, 3) and y has shape (5, 3)"),
    "no-outputs.npz": (_npz(x=_X, y=_X[:, :0]), "has no outputs"),
    "no-rows.npz": (_npz(x=_X[:0], y=_X[:0]), "at least 2 samples"),
    "with-nan.npz": (_npz(x=_X, y=np.where(_X > 0.5, np.nan, _X)), "--missing dropped"),
    "empty.csv": (b"", "no line of numbers"),
    "binary.csv": (bytes(range(256)), "is not text with commas"),
    "utf-16.csv": (CSV.encode("utf-16"), "is not text with commas"),
    "only-a-header.csv": (b"a,b,y\n", "no line of numbers"),
    "without-header.csv": (b"1,2\n3,4\n", "has to name the columns"),
    "semicolons.csv": (b"a;b;y\n1;2;3\n", "needs input and output columns"),
    "no-outputs.csv": (b"a,b\n1,2\n", "needs input and output columns"),
    "only-outputs.csv": (b"y1,y2\n1,2\n", "needs input and output columns"),
    "twins.csv": (b"a,a,y\n1,2,3\n", "share a name"),
    "short-line.csv": (b"a,b,y\n1,2,3\n1,2\n", "line 3"),
    "long-line.csv": (b"a,b,y\n1,2,3\n1,2,3,4\n", "line 3"),
    "a-word.csv": (b"a,b,y\n1,2,many\n", "'many' in column 'y'"),
    "a-hole.csv": (b"a,b,y\n1,,3\n", "--missing dropped"),
    "decimal-commas.csv": (b'a,b,y\n"1,5",2,3\n', "'1,5' in column 'a'"),
    "underscores.csv": (b"a,b,y\n1_0,2,3\n", "'1_0' in column 'a'"),
    "a-quote.csv": (b'a,b,y\n"1,2,3\n', "line"),
    "a-zero-byte.csv": (b"a,b,y\n1,\x002,3\n", "\\x00"),
    "infinite.csv": (b"a,b,y\n1,2,3\n1,inf,2\n2,5,1\n", "NaN or infinite"),
    "table.xlsx": (b"PAR1" + bytes(20) + b"PAR1", "neither .npz nor .csv"),
    "no-suffix": (CSV.encode(), "neither .npz nor .csv"),
}
NETWORKS = {
    "empty": (b"", "not a readable safetensors file"),
    "text": (CSV.encode(), "not a readable safetensors file"),
    "truncated": (NET[:-8], "not a readable safetensors file"),
    "only-a-length": (NET[:8], "not a readable safetensors file"),
    "a-long-header": ((2**62).to_bytes(8, "little") + NET[8:], "not a readable safetensors file"),
    "no-json": (_safetensors(b"{" * 64), "not a readable safetensors file"),
    "a-list": (_safetensors([1, 2]), "not a readable safetensors file"),
    "beyond-the-end": (
        _safetensors({"a": {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]}}, bytes(8)),
        "not a readable safetensors file",
    ),
    "overflowing": (
        _safetensors({"a": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}, bytes(8)),
        "not a readable safetensors file",
    ),
    "another-dtype": (
        _safetensors({"a": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}, bytes(1)),
        "not a readable safetensors file",
    ),
    "nothing-in-it": (save({}, {"format": "ecjax.Network", "activations": "[]"}), "holds no ecjax network"),
    "of-nobody": (save({"a": np.ones(3)}), "holds no ecjax network"),
    "of-another-format": (_net(format="other"), "holds no ecjax network"),
    "a-layer-short": (_net(**{"layers.1.b": None}), "holds no ecjax network"),
    "a-bias-short": (_net(**{"layers.0.b": np.ones(2)}), "holds no whole network"),
    "a-scalar": (_net(**{"layers.0.w": np.ones(())}), "holds no whole network"),
    "not-chained": (_net(**{"layers.1.w": np.ones((1, 5))}), "holds no whole network"),
    "whole-numbers": (_net(**{"layers.0.w": np.ones((3, 2), np.int64)}), "weights of int64"),
    "of-an-unknown-activation": (_net(activations='["mine"]'), "own activation 'mine', which only Python"),
    "of-no-activation": (_net(activations="[]"), "`activation`"),
    "of-too-many-activations": (_net(activations='["tanh", "g"]'), "`activation`"),
    "of-activations-in-words": (_net(activations="tanh"), "names no activations"),
    "of-activations-by-number": (_net(activations="[3]"), "names no activations"),
    "of-a-mixture-too-wide": (_net(activations='[["tanh", "g"]]'), "."),
}  # fmt: skip
IMAGES = {
    "no-gzip": (b"hello", "is no whole gzip file"),
    "truncated": (WHOLE["gz"][:-9], "is no whole gzip file"),
    "empty": (gzip.compress(b""), "is no idx file"),
    "of-words": (gzip.compress(b"hello, world, hello"), "is no idx file"),
    "of-floats": (_idx((2, 3, 3), 72, kind=13), "is no idx file"),
    "of-other-axes": (_idx((2, 3), 6), "is no idx file"),
    "too-short": (_idx((2, 3, 3), 17), "announces"),
    "too-long": (_idx((2, 3, 3), 19), "announces"),
    "beyond-all": (_idx((2**32 - 1,) * 3, 8), "announces"),
}

_MARKS = {"questions": np.zeros((4, 16), np.uint8), "answers": np.ones((4, 2))}
LOGS = {
    "truncated": (save(_MARKS, {"fan_in": "3", "dtype": "float64"})[:-5], "not a readable safetensors file"),
    "without-answers": ({"answers": None}, "is damaged"),
    "one-answer": ({"answers": np.ones(())}, "is damaged"),
    "answers-in-a-row": ({"answers": np.ones(4)}, "is damaged"),
    "fewer-answers": ({"answers": np.ones((3, 2))}, "is damaged"),
    "empty-answers": ({"answers": np.ones((4, 0))}, "is damaged"),
    "nan": ({"answers": np.full((4, 2), np.nan)}, "is damaged"),
    "other-marks": ({"questions": np.zeros((4, 16))}, "is damaged"),
    "short-marks": ({"questions": np.zeros((4, 3), np.uint8)}, "is damaged"),
    "another-teacher": ({"fan_in": "5"}, "of a teacher with 5 inputs"),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_of_no_answers_is_refused(name, tmp_path):
    changed, words = LOGS[name]
    if isinstance(changed, dict):
        tensors = {each: tensor for each, tensor in (_MARKS | changed).items() if isinstance(tensor, np.ndarray)}
        changed = save(tensors, {"fan_in": changed.get("fan_in", "3"), "dtype": "float64"})
    (tmp_path / "log").write_bytes(changed)
    with pytest.raises(ValueError, match=f"`log`: .*{words}.*name another file"):
        ec.Teacher(lambda x: x[:, :2], fan_in=3, log=tmp_path / "log")


def test_a_small_file_that_unfolds_to_a_large_one_is_not_unfolded(tmp_path, monkeypatch):
    """Of a gzip file that announces 18 bytes and holds 64 MiB, no more than a byte beyond the 18 is asked for."""
    asked, read = [], gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size=-1: asked.append(size) or read(file, size))
    (tmp_path / "bomb.gz").write_bytes(_idx((2, 3, 3), 2**26))
    with pytest.raises(ValueError, match="announces"):
        _read_idx(tmp_path / "bomb.gz", n_axes=3)
    assert asked == [16, 19]


@pytest.mark.parametrize("case", ["bytes", "offsets", "rows"])
def test_a_damaged_table_of_arrow_is_refused(case, tmp_path, monkeypatch):
    """Bytes are not unfolded into objects, offsets are looked at before they are followed, rows counted before read."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads these: pip install 'ecjax[doors]'")
    from pyarrow import feather, parquet

    path = tmp_path / ("table.parquet" if case == "rows" else "table.arrow")
    offsets = np.array([0, -7 if case == "offsets" else 1, 2], np.int32)
    buffers = [None, pyarrow.py_buffer(offsets.tobytes()), pyarrow.py_buffer(b"ab")]
    table = pyarrow.table({"a": pyarrow.Array.from_buffers(pyarrow.binary(), 2, buffers), "y": [1.0, 2.0]})
    if case == "rows":
        parquet.write_table(table.select(["y"]), path)
        monkeypatch.setattr(memory, "free_on_host", lambda: 1.0)
        monkeypatch.setattr(memory, "_SMALL", 0)
    else:
        feather.write_feather(table, path, compression="uncompressed")
    words = {"bytes": "made of binary", "offsets": r"is no .arrow file: .*[oO]ffset", "rows": "2 rows .* of memory"}
    with pytest.raises(ValueError, match=words[case]):
        read_table(path)


@pytest.mark.parametrize("name", DATA)
def test_a_file_of_no_data_is_refused(name, tmp_path, monkeypatch, capsys):
    content, words = DATA[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert main(["recover", "data", name, "--activation", "tanh"]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_no_network_is_refused(name, tmp_path, capsys):
    content, words = NETWORKS[name]
    (tmp_path / "whole").write_bytes(NET)
    (tmp_path / name).write_bytes(content)
    assert main(["compare", str(tmp_path / name), str(tmp_path / "whole")]) == 2
    said = capsys.readouterr().err
    assert any(each in said for each in words.split("|"))
    assert name in said or "activation" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", IMAGES)
def test_a_file_of_no_images_is_refused(name, tmp_path):
    content, words = IMAGES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        _read_idx(tmp_path / name, n_axes=3)


TEACHERS = {
    "no-json": (b"{", "is not valid JSON"),
    "a-list": (b"[1, 2]", "holds a list where names with values"),
    "of-nothing": (b"{}", "does not say which images"),
    "of-a-list": (b'{"dataset": [784, 2, 10]}', "does not say which images"),
    "of-others": (b'{"dataset": "imagenet"}', "does not say which images"),
    "so-many": (b'{"dataset": "mnist", "n": "all"}', "does not say which images"),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_folder_of_no_teacher_is_refused(name, tmp_path, capsys):
    content, words = TEACHERS[name]
    (tmp_path / "teacher.json").write_bytes(content)
    (tmp_path / "teacher.safetensors").write_bytes(NET)
    assert main(["recover", "images", "--teacher", str(tmp_path)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


# --- run folders -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, by name of its files."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = "--d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh --no-figures"
    assert main(["recover", "toy", *small.split(), "--out", str(folder)]) == 0
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _restored(run, folder):
    folder.mkdir(exist_ok=True)
    for name, content in run.items():
        (folder / name).write_bytes(content)
    return folder


NEEDED = ("result.json", "config.json", "network.safetensors", "students.safetensors", "layers.safetensors",
          "data.safetensors", "teacher.safetensors")  # fmt: skip


@pytest.mark.parametrize("damage", ["truncated", "empty", "list", "number"])
@pytest.mark.parametrize("name", NEEDED)
def test_a_damaged_run_is_refused_by_the_name_of_the_file(name, damage, run, tmp_path, capsys):
    folder = _restored(run, tmp_path / "run")
    content = {"truncated": run[name][:-9], "empty": b"", "list": b"[1, 2]", "number": b"3"}[damage]
    (folder / name).write_bytes(content)
    for command in (["compare", str(folder)], ["cut", str(folder), "--gamma", "0.5", "--out", str(tmp_path / "cut")]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert name in said or "another version" in said
        assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --- fuzz ------------------------------------------------------------------------------------------------------------

_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "cut", "insert", "delete", "repeat"]), st.floats(0, 1), st.binary(max_size=9)
    ),
    min_size=1,
    max_size=4,
)


def _mutated(content: bytes, edits) -> bytes:
    for kind, place, more in edits:
        at = int(place * len(content))
        before, after = content[:at], content[at:]
        match kind:
            case "set":
                content = before + more + after[len(more) :]
            case "flip":
                content = before + bytes(byte ^ (1 << len(more) % 8) for byte in after[:1]) + after[1:]
            case "cut":
                content = before
            case "insert":
                content = before + more + after
            case "delete":
                content = before + after[len(more) :]
            case "repeat":
                content = before + after[: len(more)] + after
    return content


def _table(path):
    what_was_read(path, read_table(path))


READERS = {
    "npz": _table,
    "csv": _table,
    "safetensors": ec.load_network,
    "gz": lambda path: _read_idx(path, n_axes=3),
    "bin": lambda path: _read_cifar([path]),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_refuses_in_its_own_words_or_reads(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / f"mutated.{kind}"

    @settings(deadline=None, max_examples=200, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(edits=_EDITS)
    def fuzz(edits):
        path.write_bytes(_mutated(WHOLE[kind], edits))
        with suppress(ValueError):
            READERS[kind](path)

    fuzz()


_JUNK = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
)


def _places(value, at=()):
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from _places(each, (*at, name))


def _put(value, at, new):
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = _put(value[at[0]], at[1:], new)
    return copy


@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_a_run_with_other_values_is_refused_or_read(name, run, tmp_path):
    folder = _restored(run, tmp_path / "run")
    whole = json.loads(run[name])
    places = list(_places(whole))

    @settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(place=st.sampled_from(places), junk=_JUNK)
    def fuzz(place, junk):
        (folder / name).write_text(json.dumps(_put(whole, place, junk)))
        with suppress(ValueError):
            assert runs.load_run(folder).recovery.summary()

    fuzz()


# --- what is written is the same, and what is unusual is read ---------------------------------------------------------


def test_files_of_the_same_content_are_the_same_bytes(tmp_path):
    words = {f"word {number}": "x" * number for number in range(20)}
    contents = set()
    for turn in range(6):
        about = dict(sorted(words.items(), key=lambda item: hash((item[0], turn))))
        write_arrays(tmp_path / "arrays", {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}, about=about)
        contents.add((tmp_path / "arrays").read_bytes())
    assert len(contents) == 1
    np.testing.assert_array_equal(read_arrays(tmp_path / "arrays")["a"], np.arange(3.0))


@pytest.mark.parametrize("suffix", ["NPZ", "Npz"])
def test_suffixes_in_capitals_and_unusual_numbers_are_read(suffix, tmp_path):
    path = tmp_path / f"good.{suffix}"
    path.write_bytes(_npz(x=_X.astype(">f4"), y=np.asfortranarray(_X)))
    x, y = read_data(path)
    np.testing.assert_array_equal(x, _X.astype(np.float32))
    np.testing.assert_array_equal(y, _X)
    assert set(read_npz(path)) == {"x", "y"}


def test_what_was_read_names_the_columns(tmp_path):
    path = tmp_path / "years.csv"
    path.write_text("year,b,y\n1,2,3\n4,5,6\n")
    assert what_was_read(path, read_table(path)).endswith(
        "2 samples of 1 input (b) and 2 outputs (year, y), in float64"
    )


def test_a_teacher_in_a_folder_is_compared_with(tmp_path, capsys):
    layers = ec.Layer(jnp.ones((3, 2)), jnp.arange(3.0), "tanh"), ec.Layer(jnp.ones((1, 3)), jnp.ones(1))
    (tmp_path / "teacher").mkdir()
    ec.save_network(ec.Network(layers), tmp_path / "teacher" / "teacher.safetensors")
    assert main(["compare", str(tmp_path / "teacher" / "teacher.safetensors"), str(tmp_path / "teacher")]) == 0
    assert "none in excess" in capsys.readouterr().out

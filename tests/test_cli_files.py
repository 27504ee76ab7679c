"""Reading a user's data: what is written comes back, and what is none is refused by name."""

import sys

import numpy as np
import pytest

from ecjax.cli.data_files import read_data, read_table


@pytest.fixture
def data(key):
    draw = np.random.default_rng(0)
    return draw.normal(size=(7, 3)), draw.normal(size=(7, 2))


def _csv(path, header, table):
    np.savetxt(path, table, delimiter=",", header=header, comments="", fmt="%.17g")
    return path


def test_npz_comes_back(tmp_path, data):
    x, y = data
    np.savez(tmp_path / "d.npz", x=x, y=y)
    for got, wanted in zip(read_data(tmp_path / "d.npz"), data, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_one_output_may_be_a_vector_and_integers_are_numbers(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.eye(4, dtype=int), y=np.arange(4, dtype=np.float32))
    x, y = read_data(tmp_path / "d.npz")
    assert x.dtype == y.dtype == np.float64
    assert y.shape == (4, 1)


def test_csv_comes_back_to_the_last_bit(tmp_path, data):
    path = _csv(tmp_path / "d.csv", "x1,x2,x3,y1,Y2", np.hstack(data))
    for got, wanted in zip(read_data(path), data, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_csv_outputs_can_be_named(tmp_path, data):
    path = _csv(tmp_path / "d.csv", "a,price,b,demand,yield", np.hstack(data))
    x, y = read_data(path, outputs=("price", "demand"))
    np.testing.assert_array_equal(y, np.hstack(data)[:, [1, 3]])
    np.testing.assert_array_equal(x, np.hstack(data)[:, [0, 2, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line of numbers"),
        ("x,y\n", "no line of numbers"),
        ("1,2\n3,4\n", "has to name the columns"),
        ("a,b\n1,2\n", "needs input and output columns"),
        ("y1,y2\n1,2\n", "needs input and output columns"),
        ("x,x,y\n1,2,3\n", "share a name"),
        ("x,y\n1,2\n\n3,oops\n", r"line 4 .* 'oops' in column 'y'"),
        ("x,y\n1,2\n3\n", r"line 3 .* 1 values for 2 columns"),
    ],
)
def test_malformed_csv_is_refused_by_line_and_column(tmp_path, text, message):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_data(tmp_path / "d.csv")


def test_text_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00x,y")
    with pytest.raises(ValueError, match="is not text with commas"):
        read_data(tmp_path / "d.csv")


def test_columns_that_are_not_there_are_named(tmp_path, data):
    path = _csv(tmp_path / "d.csv", "a,b,c,d,e", np.hstack(data))
    with pytest.raises(ValueError, match=r"`outputs`.*'price'"):
        read_data(path, outputs=("price",))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.eye(3), "y": np.ones(3)}, r"\['inputs', 'y'\]"),
        ({"x": np.eye(3), "y": np.ones(4)}, r"x has shape \(3, 3\) and y has shape \(4, 1\)"),
        ({"x": np.ones(3), "y": np.ones(3)}, r"x has shape \(3,\)"),
        ({"x": np.array([["a"]]), "y": np.ones(1)}, "not of numbers"),
        # An object array is a pickle: never opened.
        ({"x": np.array([{}]), "y": np.ones(1)}, "holds Python objects, which are never read"),
    ],
)
def test_malformed_npz_is_refused_by_array(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_data(tmp_path / "d.npz")


def test_what_is_no_npz_is_refused(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match="is no readable npz file"):
        read_data(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", x=np.eye(2), y=np.ones(2))
    with pytest.raises(ValueError, match="`outputs` names columns"):
        read_data(tmp_path / "e.npz", outputs=("y",))


@pytest.mark.parametrize("name", ["missing.npz", "d.txt", "."])
def test_other_paths_are_refused(tmp_path, name):
    (tmp_path / "d.txt").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"\.npz file holds"):
        read_data(tmp_path / name)


def test_a_table_may_miss_numbers_where_that_was_said(tmp_path):
    path = tmp_path / "holes.csv"
    path.write_text("p,q,y\n1,2,3\n4,,6\n7,8, n/a \n9,1.5,2\n")
    with pytest.raises(ValueError, match=r"line 3 .* has '' in column 'q', not a number. .*--missing dropped"):
        read_data(path)
    x, y = read_data(path, missing=True)
    np.testing.assert_array_equal(x, [[1, 2], [4, np.nan], [7, 8], [9, 1.5]])
    np.testing.assert_array_equal(y, [[3], [6], [np.nan], [2]])
    path.write_text("p,y\n1,2\n3,many\n")
    with pytest.raises(ValueError, match=r"'many' in column 'y', not a number\.$"):
        read_data(path, missing=True)


def test_names_of_columns_are_read_too(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("speed,price,angle\n1,2,3\n4,5,6\n")
    table = read_table(path, outputs=("price",))
    assert (table.inputs, table.outputs) == (("speed", "angle"), ("price",))
    np.testing.assert_array_equal(table.x, [[1, 3], [4, 6]])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_columns_of_parquet_and_arrow(tmp_path, suffix):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads these: pip install 'ecjax[doors]'")
    from pyarrow import feather, parquet

    write = parquet.write_table if suffix == ".parquet" else feather.write_feather
    path = tmp_path / f"d{suffix}"
    write(pyarrow.table({"a": [1.0, 2.0, 3.0], "b": [1, 2, 4], "y": [0.5, None, 1.5]}), path)
    table = read_table(path)
    assert (table.inputs, table.outputs) == (("a", "b"), ("y",))
    np.testing.assert_array_equal(table.x, [[1, 1], [2, 2], [3, 4]])
    np.testing.assert_array_equal(table.y, [[0.5], [np.nan], [1.5]])
    with pytest.raises(ValueError, match="no column"):
        read_table(path, outputs=("z",))
    for content, said in ((path.read_bytes()[:40], f"is no {suffix} file"), (b"", f"is no {suffix} file")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_table(path)
    write(pyarrow.table({"a": ["x"], "y": [1.0]}), path)
    with pytest.raises(ValueError, match="Column 'a' of the table is not made of numbers"):
        read_table(path)
    write(pyarrow.table({"a": pyarrow.array([], "double"), "y": pyarrow.array([], "double")}), path)
    with pytest.raises(ValueError, match="no rows"):
        read_table(path)


def test_without_pyarrow_the_message_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="pip install pyarrow"):
        read_table(tmp_path / "d.parquet")

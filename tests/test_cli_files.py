"""Reading a user's data: what is written comes back, and what is none is refused by name."""

import numpy as np
import pytest

from ecjax.cli.data_files import read_data


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

"""Data: everything that comes in is checked at the door, by a message that says what to do."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import ecjax.data.data
from ecjax import Data
from ecjax.objective import Samples
from ecjax.objective.scaling import scaling

N = 20
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.column_stack([np.tanh(X[:, 0]), X[:, 1] ** 2])


def spoilt(array, *rows, value=np.nan):
    array = np.array(array)
    array[list(rows), 0] = value
    return array


BAD = {
    "nan in x": ((spoilt(X, 7), Y), r"`x` has NaN or infinite entries in 1 row, the first at index 7: drop"),
    "infinity in y": ((X, spoilt(Y, 4, 9, value=np.inf)), r"`y` has NaN .* in 2 rows, the first at index 4: drop"),
    "one constant output": ((X, np.column_stack([Y, np.ones(N)])), r"`y` is constant in columns \[2\]: nothing to imi"),
    "constant but for rounding": ((X, np.where(np.arange(N) % 2, 0.1 + 0.2, 0.3)), r"`y` is constant in columns \[0\]"),
    "dtypes": ((X, Y.astype(np.float32)), r"`x` and `y` have one dtype.*got float64 and float32"),
    "rows": ((X, Y[:-1]), "`x` and `y` have one row a sample; got 20 and 19 rows"),
    "images": (
        (X.reshape(N, 3, 1), Y),
        r"`x` is a matrix \[samples, inputs\] .*Flatten images .*x\.reshape\(len\(x\), -1\)",
    ),
    "a vector of queries": ((X[:, 0], Y), r"`x` is a matrix .* got shapes \(20,\) and \(20, 2\)"),
    "answers of three axes": ((X, Y[:, None]), r"`y` \[samples, outputs\] or \[samples\]; got shapes"),
    "whole numbers": ((np.arange(60).reshape(N, 3), Y), r"`x` is an array of floating point .*got int64.*x\.astype"),
    "classes": ((X, np.arange(N)), r"`y` is an array of floating point .*got int64.*y\.astype\(float\)"),
    "words": ((X, np.array(["a"] * N)), "`y` is an array of floating point numbers"),
    "no outputs": ((X, Y[:, :0]), r"`y` has no outputs; got shape \(20, 0\)"),
    "no inputs": ((X[:, :0], Y), r"`x` needs at least 2 samples and 1 input; got shape \(20, 0\)"),
    "one sample": ((X[:1], Y[:1]), r"`x` needs at least 2 samples and 1 input; got shape \(1, 3\)"),
    "no samples": ((X[:0], Y[:0]), r"`x` needs at least 2 samples"),
    "the same query again and again": ((np.tile(X[:1], (N, 1)), Y), "`x` is the same in every sample: ask the teacher"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused_by_name(case):
    (x, y), message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Data.of(x, y)


BAD_FRESH = {
    "nan in answers": ((X, spoilt(Y, 3)), r"`fresh\[1\]` has NaN or infinite entries in 1 row, the first at index 3"),
    "nan in queries": ((spoilt(X, 0, 1), Y), r"`fresh\[0\]` has NaN or infinite entries in 2 rows"),
    "no pair": (X, r"`fresh` is a pair \(x, y\) of arrays; got ndarray"),
    "a pair too long": ((X, Y, Y), r"`fresh` is a pair \(x, y\) of arrays; got tuple"),
    "inputs": ((X[:, :2], Y), r"`fresh\[0\]` and `fresh\[1\]` have rows like .* 3 inputs and 2 outputs.*\(20, 2\) and"),
    "outputs": ((X, Y[:, 0]), r"have rows like those of `x` and `y`, .* got shapes \(20, 3\) and \(20, 1\)"),
    "precision": ((X.astype(np.float32), Y.astype(np.float32)), r"in float64; got shapes .* in float32"),
    "rows": ((X, Y[1:]), r"`fresh\[0\]` and `fresh\[1\]` have one row a sample"),
    "none": ((X[:0], Y[:0]), r"`fresh\[0\]` and `fresh\[1\]` have rows like"),
}


@pytest.mark.parametrize("case", BAD_FRESH)
def test_bad_fresh_data_are_refused_before_anything_is_computed(case, monkeypatch):
    """A NaN among fresh answers once became "Certified ... loss nan"."""

    def computed(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr(ecjax.data.data, "variation", computed)
    monkeypatch.setattr(ecjax.data.data, "constant_columns", computed)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose checks stand before ecjax's own
    fresh, message = BAD_FRESH[case]
    with pytest.raises(ValueError, match=message):
        Data.of(X, Y, fresh=fresh)
    with pytest.raises(AssertionError, match="computed"):  # with sound ones it would have gone on
        Data.of(X, Y, fresh=(X, Y))


def test_data_are_arrays_of_the_precision_in_which_they_came():
    for dtype in (np.float32, np.float64):
        data = Data.of(X.astype(dtype), Y[:, 0].astype(dtype), fresh=(X.astype(dtype), Y[:, 0].astype(dtype)))
        assert isinstance(data.samples, Samples)
        assert data.x.dtype == data.y.dtype == data.fresh.y.dtype == dtype
        assert data.y.shape == data.fresh.y.shape == (N, 1)  # one number a sample is one output
        assert data.n_numbers == N
    data = Data.of(X.tolist(), Y.tolist())
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.samples.y, Y)


def test_float64_is_not_rounded_in_silence():
    with jax.enable_x64(False), pytest.raises(ValueError, match="`x` is float64, but JAX is in float32-only mode"):
        Data.of(X, Y)


def test_data_that_cannot_tell_so_many_parameters_are_too_few():
    data = Data.of(X, Y)
    assert data.suffices((4,)) is data  # 26 parameters for 40 numbers
    with pytest.raises(ValueError, match="`y` has 40 numbers for students of 50 parameters"):
        data.suffices((8,))
    with pytest.raises(ValueError, match="Ask the teacher more, narrow `student_width`, or say allow_few_samples=True"):
        data.suffices((4, 4))
    assert data.suffices((8,), allow_few=True) is data


@pytest.mark.parametrize("standardise", ["columns", "common", "no"])
def test_data_are_scaled_as_their_queries_and_answers(standardise):
    data = Data.of(X, Y)
    scale = data.scaling(standardise)
    wanted = scaling(jnp.asarray(X), jnp.asarray(Y), standardise=standardise)
    for one, other in zip(jax.tree.leaves(scale), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


# --- more of them ----------------------------------------------------------------------------------------------------


def teacher(x):
    return jnp.stack([jnp.tanh(x[:, 0]), x[:, 1] ** 2], axis=1)


def test_data_grow():
    data = Data.of(X, Y, fresh=(X, Y), ask=teacher)
    more = data.grown(X[:5] + 1, Y[:5])
    np.testing.assert_array_equal(more.x, np.concatenate([X, X[:5] + 1]))
    np.testing.assert_array_equal(more.y, np.concatenate([Y, Y[:5]]))
    assert more.n_numbers == 50
    np.testing.assert_array_equal(more.fresh.y, data.fresh.y)
    assert more.ask is data.ask
    assert len(data.x) == N  # the one before is as it was


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :2], Y, "`x` and `y` have rows like those of `x` and `y`, 3 inputs and 2 outputs"),
        (X, Y[:, :1], "have rows like those"),
        (spoilt(X, 2), Y, "`x` has NaN or infinite entries in 1 row, the first at index 2"),
        (X.astype(np.float32), Y.astype(np.float32), "in float64; got .* in float32"),
    ],
)
def test_data_of_another_kind_do_not_join(x, y, message):
    with pytest.raises(ValueError, match=message):
        Data.of(X, Y).grown(x, y)


def test_a_teacher_is_asked_and_its_answers_join():
    more = Data.of(X, Y, ask=teacher).asked(X[:4] - 2)
    np.testing.assert_array_equal(more.x[N:], X[:4] - 2)
    np.testing.assert_allclose(more.y[N:], teacher(jnp.asarray(X[:4] - 2)), rtol=1e-14)
    one = Data.of(X, Y[:, 0], ask=lambda x: np.tanh(np.asarray(x)[:, 0])).asked(X[:4])  # one number a query
    assert one.y.shape == (N + 4, 1)


def test_a_teacher_that_is_not_there_or_answers_otherwise():
    with pytest.raises(ValueError, match=r"`ask`: there is nobody to ask; make the data with Data\.of\(x, y, ask="):
        Data.of(X, Y).asked(X)
    for answer, message in (
        (lambda x: teacher(x)[:, :1], r"`x` and `ask\(x\)` have rows like those of `x` and `y`"),
        (lambda x: teacher(x)[1:], r"`x` and `ask\(x\)` have one row a sample; got 20 and 19 rows"),
        (lambda x: jnp.nan * teacher(x), r"`ask\(x\)` has NaN or infinite entries in 20 rows"),
        (lambda x: teacher(x).astype(jnp.float32), r"`x` and `ask\(x\)` have one dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            Data.of(X, Y, ask=answer).asked(X)


def test_questions_that_are_none_are_not_asked():
    asked = []
    data = Data.of(X, Y, ask=lambda x: asked.append(x) or teacher(x))
    for x in (spoilt(X, 1), X[:, :2], X[0], X.astype(np.float32)):
        with pytest.raises(ValueError, match="`x`"):
            data.asked(x)
    assert not asked

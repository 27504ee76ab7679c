"""Settings chosen from the data: what is said is what is done, and plain images need no preset."""

from dataclasses import replace

import drawn
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits, load_wine

import ecjax as ec
from ecjax.expand import SECOND_ORDER_UP_TO
from ecjax.network import as_activation, hidden_states
from ecjax.road.choice import chosen_from

TANH = (as_activation("tanh"),)


def chosen(x, n_outputs=1, depth=1, dtype=float):
    x = drawn.on_device(x, dtype)
    y = drawn.normal(jr.key(0), (len(x), n_outputs), x.dtype)
    return chosen_from(ec.Data.of(x, y), TANH * depth)


@pytest.mark.parametrize("d_in", [1, 4, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_white_queries_get_the_toy_settings(d_in, dtype):
    choice = chosen(drawn.queries(1000, d_in, key=jr.key(d_in)), dtype=dtype)
    assert choice.config == ec.RecoveryConfig.toy()
    assert choice.words == ()


@pytest.mark.parametrize("table", [load_diabetes, load_wine])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_tables_keep_a_scale_for_each_column(table, unit):
    """Whatever the unit of one of them."""
    x = table(return_X_y=True)[0].copy()
    x[:, 0] *= unit
    assert chosen(x, 20).config.standardise == "columns"


@pytest.mark.parametrize("unit", [1.0, 1 / 255, 1e3])
def test_pixels_get_one_scale_and_small_weights(unit):
    choice = chosen(unit * load_digits(return_X_y=True)[0], 10)
    assert choice.config == ec.RecoveryConfig.digits()
    assert any("one common scale" in said and "19 of 64" in said for said in choice.words)
    assert any("small initial weights" in said for said in choice.words)


def test_students_too_wide_for_second_order_steps_start_small():
    choice = chosen(drawn.queries(5000, 100, key=jr.key(0)), 10)
    assert SECOND_ORDER_UP_TO < (100 + 1) * 16
    assert choice.config.init_scale == 0.1
    assert choice.words


@pytest.mark.parametrize(
    ("depth", "preset", "words"), [(1, "images", "other samples each"), (2, "images-deep", "mini-batches")]
)
def test_of_many_samples_of_many_inputs_a_step_sees_some(depth, preset, words, monkeypatch):
    monkeypatch.setattr("ecjax.road.choice._MANY", 1e4)
    choice = chosen(drawn.queries(1000, 20, key=jr.key(0)), 10, depth=depth)
    assert choice.config.expand == ec.PRESETS[preset]().expand
    assert words in choice.words[0]


@pytest.mark.parametrize("n", [20, 60, 100])
def test_a_width_of_ours_is_one_that_the_answers_are_enough_for(n):
    """Nobody is told to narrow a width that he never gave, where a narrower one will do."""
    x = drawn.queries(n, 2, key=jr.key(0))
    choice = chosen(x)
    (width,) = choice.config.widths(1)
    assert width < 16
    assert f"width {width}" in choice.words[-1]
    assert width == 4 or 2 * (3 * width + width + 1) <= n


def digits_teacher(seed):
    """A random 64-6-3 network whose neurons answer the plain digits as Gaussian ones would, and its answers."""
    x = jnp.asarray(load_digits(return_X_y=True)[0])
    teacher = ec.random_network((64, 6, 3), "tanh", key=jr.key(100 + seed))
    (state,), hidden = hidden_states(teacher, x), teacher.hidden[0]
    size = 1.5 / jnp.std(state.z, axis=0)
    bias = jr.normal(jr.key(seed), (6,)) - size * jnp.mean(state.z, axis=0)
    teacher = ec.Network((replace(hidden, w=hidden.w * size[:, None], b=bias), teacher.output))
    return teacher, x, ec.respond(teacher, x)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_plain_digits_are_recovered_by_whoever_calls_recover(seed):
    teacher, x, y = digits_teacher(seed)
    recovery = ec.recover(x, y, activation="tanh", student_width=24, n_students=10, key=jr.key(seed))
    comparison = ec.compare(recovery, teacher, x)
    assert recovery.widths == (6,)
    assert comparison.n_missing == comparison.n_excess == 0
    assert comparison.layers[0].cosine_in.max() < 1e-3
    assert "Chosen: one common scale" in recovery.summary()


def test_what_the_caller_gives_goes_before_what_is_chosen():
    teacher = ec.synthetic_teacher(2, 2, 1, "tanh", key=jr.key(0))
    x = ec.gaussian_queries(100, 2, key=jr.key(1))
    settings = {"student_width": 4, "n_students": 4, "gamma": 0.75}
    recovery = ec.recover(x, ec.respond(teacher, x), activation="tanh", key=jr.key(2), **settings)
    assert recovery.config.student_width == 4
    assert recovery.config.n_students == 4
    assert recovery.config.cluster.gamma == 0.75
    assert recovery.is_exact

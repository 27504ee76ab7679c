"""Teachers: the synthetic family is distributed as its docstring says, and trained teachers have learnt."""

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.data.queries import gaussian_queries
from ecjax.data.teachers import digits, digits_teacher, synthetic_teacher, trained_teacher
from ecjax.network import ACTIVATIONS, hidden_states, respond

SOME = ("g", "tanh", "sigmoid", "gaussian", "softplus", "relu", "square")  # one of each kind in every run


@pytest.mark.parametrize(
    "name", [*SOME, *(pytest.param(one, marks=pytest.mark.slow) for one in ACTIVATIONS if one not in SOME)]
)
def test_outputs_have_zero_mean_and_unit_variance(name, key):
    """Over 10,000 queries other than those they were scaled by: each moment is off by two sampling errors."""
    teacher = synthetic_teacher(4, 5, 2, name, key=key)
    y = np.asarray(respond(teacher, gaussian_queries(10_000, 4, key=jr.key(5))))
    kurtosis = np.mean((y - y.mean(axis=0)) ** 4, axis=0) / np.var(y, axis=0) ** 2
    np.testing.assert_array_less(np.abs(y.mean(axis=0)), 5 * np.sqrt(2 / 10_000))
    np.testing.assert_array_less(np.abs(y.std(axis=0) - 1), 5 * np.sqrt(kurtosis / 2 / 10_000))


def hidden_neurons(d_in, width):
    """(w, b) of a teacher's neurons by its key; compiled, what only outgoing weights need is left out."""

    @jax.jit
    def drawn(key):
        layer = synthetic_teacher(d_in, width, key=key).layers[0]
        return layer.w, layer.b

    return drawn


@pytest.mark.parametrize("d_in", [1, pytest.param(2, marks=pytest.mark.slow), 32])
def test_hyperplanes_cross_the_bulk_of_the_data(d_in, key):
    w, b = map(np.asarray, hidden_neurons(d_in, 50)(key))
    norm = np.linalg.norm(w, axis=1)
    np.testing.assert_allclose(norm, np.full(50, 1.5))
    distance = np.abs(b) / norm  # from the mean of the queries, in their standard deviations
    assert distance.max() <= 1
    assert distance.max() > 0.8  # a uniform distribution fills its range: 0.8^50 is 1e-5
    x = drawn.queries(2000, d_in, key=jr.key(1))
    above = np.mean(np.asarray(x) @ w.T + b > 0, axis=0)
    assert np.all((above > 0.12) & (above < 0.88))  # 16% at least, less five standard errors


def test_directions_are_uniform_on_the_sphere(key):
    w = np.asarray(hidden_neurons(3, 4000)(key)[0]) / 1.5
    # On a sphere in three dimensions each coordinate is uniform in [-1, 1] (Archimedes).
    for coordinate in w.T:
        ranks = np.searchsorted(np.sort(coordinate), np.linspace(-1, 1, 21)) / 4000
        np.testing.assert_allclose(ranks, np.linspace(0, 1, 21), atol=2 / np.sqrt(4000))  # Kolmogorov, p < 1e-3


def test_outgoing_weights_are_bounded_away_from_zero(key):
    a = np.asarray(jax.jit(lambda key: synthetic_teacher(3, 100, 2, key=key))(key).layers[1].w)
    for row in np.abs(a):
        assert row.max() / row.min() <= 3  # magnitudes in [0.5, 1.5], whatever the scale
    np.testing.assert_array_less(np.abs(np.mean(np.sign(a), axis=1)), 5 / np.sqrt(100))


def test_neurons_of_a_teacher_are_drawn_apart_as_the_docstring_says():
    """The closest two of 8 neurons with 2 inputs, and of 4 with 4: medians 0.47 and 1.51 over 100 keys."""

    def closest(d_in, width):
        drawn = hidden_neurons(d_in, width)
        for seed in range(100):
            w, b = drawn(jr.key(seed))
            v = np.hstack([w, b[:, None]])
            yield np.linalg.norm(v[:, None] - v[None], axis=-1)[np.triu_indices(width, 1)].min()

    assert np.median(list(closest(2, 8))) == pytest.approx(0.5, abs=0.1)
    assert np.median(list(closest(4, 4))) == pytest.approx(1.5, abs=0.2)


def test_the_key_and_the_precision_decide(key):
    a, b = jr.split(key)
    one, again, other = (synthetic_teacher(4, 5, 2, key=each) for each in (a, a, b))
    same = jax.tree.map(lambda u, v: np.testing.assert_array_equal(u, v), one, again)
    assert jax.tree.leaves(same) == []
    assert not np.any(one.layers[0].w == other.layers[0].w)
    single = jax.eval_shape(lambda: synthetic_teacher(4, 5, 2, key=a, dtype=jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype("float32")}


# --- trained teachers ------------------------------------------------------------------------------------------------


def test_digits_are_standardised_as_one():
    x, labels = digits()
    assert x.shape == (1797, 64)
    assert float(x.mean()) == pytest.approx(0, abs=1e-12)
    assert float(x.std()) == pytest.approx(1)
    assert set(np.asarray(labels).tolist()) == set(range(10))
    never = np.flatnonzero(np.ptp(np.asarray(x), axis=0) == 0)
    np.testing.assert_array_equal(never, [0, 32, 39])  # corners and edges of the images are always blank


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", pytest.param("g", marks=pytest.mark.slow)])
def test_digits_teachers_have_learnt_and_every_neuron_matters(activation):
    """Over fixed keys: read 9 of 10 unseen digits, no neuron is dead, none a near-copy of another."""
    for seed in range(5):
        taught = digits_teacher(8, activation, key=jr.key(seed))
        assert taught.network.shape == (64, 8, 10)
        assert taught.accuracy >= 0.9
        np.testing.assert_array_equal(taught.y, respond(taught.network, taught.x))
        (state,) = hidden_states(taught.network, taught.x)
        contribution = np.asarray(state.h).std(axis=0) * np.linalg.norm(taught.network.output.w, axis=0)
        assert contribution.min() > 0.1 * contribution.max()
        unit = np.asarray(state.z) / np.linalg.norm(state.z, axis=0)
        cosines = np.abs(unit.T @ unit) if activation == "tanh" else unit.T @ unit
        assert np.max(cosines - np.eye(8)) < 0.9


@pytest.mark.slow
def test_a_trained_teacher_carries_any_depth_and_precision(key):
    x = jr.normal(key, (400, 3), jnp.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)  # exclusive or: no linear classifier does better than chance
    taught = trained_teacher(x, labels, (16, 8), "relu", key=key, n_steps=600, learning_rate=1e-2)
    assert taught.network.shape == (3, 16, 8, 2)
    assert taught.network.layers[0].w.dtype == jnp.float32
    assert taught.y.dtype == jnp.float32
    assert taught.accuracy > 0.85


@pytest.mark.slow
def test_held_out_samples_are_not_seen(key):
    """Labels that are coin tosses can be learnt by heart but not foreseen."""
    x = jr.normal(key, (200, 20))
    labels = jr.bernoulli(jr.key(1), 0.5, (200,)).astype(int)
    taught = trained_teacher(x, labels, (50,), "relu", key=key, n_steps=1500, weight_decay=0.0, held_out=0.5)
    by_heart = float(jnp.mean(jnp.argmax(taught.y, axis=1) == labels))
    assert abs(taught.accuracy - 0.5) < 5 * 0.5 / np.sqrt(100)
    assert 2 * by_heart - taught.accuracy > 0.99  # the accuracy on the other half


def test_the_same_key_trains_the_same_teacher(key):
    x, labels = digits()
    once, again = (trained_teacher(x, labels, (4,), "tanh", key=key, n_steps=20) for _ in range(2))
    np.testing.assert_array_equal(once.y, again.y)
    assert once.accuracy == again.accuracy


X, LABELS = jnp.zeros((20, 3)), np.arange(20) % 2
BAD = {
    "activation": (lambda: synthetic_teacher(2, 2, activation="tan", key=jr.key(0)), "`activation` is one of"),
    "width": (lambda: synthetic_teacher(2, 0, key=jr.key(0)), "`width` is at least 1; got 0"),
    "nan": (lambda: trained_teacher(X * jnp.nan, LABELS, (2,), key=jr.key(0)), "`x` is"),
    "lengths": (lambda: trained_teacher(X, LABELS[:-1], (2,), key=jr.key(0)), "19 labels for 20 samples"),
    "one class": (lambda: trained_teacher(X, 0 * LABELS, (2,), key=jr.key(0)), "`labels` are classes"),
    "gap": (lambda: trained_teacher(X, 2 * LABELS, (2,), key=jr.key(0)), "`labels` are classes"),
    "negative": (lambda: trained_teacher(X, LABELS - 1, (2,), key=jr.key(0)), "`labels` are classes"),
    "no layer": (lambda: trained_teacher(X, LABELS, (), key=jr.key(0)), "`widths` has"),
    "no neuron": (lambda: trained_teacher(X, LABELS, (3, 0), key=jr.key(0)), "`widths` has"),
    "no steps": (lambda: trained_teacher(X, LABELS, (2,), key=jr.key(0), n_steps=0), "`n_steps`"),
    "all held out": (lambda: trained_teacher(X, LABELS, (2,), key=jr.key(0), held_out=1.0), "`held_out`"),
    "none held out": (lambda: trained_teacher(X, LABELS, (2,), key=jr.key(0), held_out=0.01), "`held_out`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_hidden_layers_above_the_first_cross_their_inputs_too(key):
    """In units of each input's own mean and spread, weights have norm 1.5, and biases are within 1.5."""
    teacher = jax.jit(lambda key: synthetic_teacher(4, (6, 5, 3), 2, "softplus", key=key))(key)
    assert teacher.shape == (4, 6, 5, 3, 2)
    x = h = gaussian_queries(100_000, 4, key=jr.fold_in(key, 1))
    for layer in teacher.layers[:-1]:
        mean, std = h.mean(axis=0), h.std(axis=0)
        np.testing.assert_allclose(np.linalg.norm(layer.w * std[None], axis=1), 1.5, rtol=0.05)
        assert np.abs(layer.b + layer.w @ mean).max() < 1.6
        h = layer.activation(h @ layer.w.T + layer.b[None])
    y = respond(teacher, x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=0.05)
    with pytest.raises(ValueError, match="`width` is a number of hidden neurons, or one for each"):
        synthetic_teacher(4, (), key=key)

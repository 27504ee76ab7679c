"""Comparison: blind to every true symmetry, exact about everything else."""

import itertools
from dataclasses import replace

import drawn
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.judge.alignment import cosine_distance
from ecjax.judge.comparison import compare
from ecjax.network import (
    ACTIVATIONS,
    Activation,
    Layer,
    Network,
    Symmetry,
    hidden_states,
    mixture,
    permute_neurons,
    respond,
    split_neuron,
    take_neurons,
)
from ecjax.network.symmetries import symmetries

NAMES = [name for name, activation in ACTIVATIONS.items() if not activation.symmetry.polynomial]
SIGN_FREE = [name for name in NAMES if ACTIVATIONS[name].symmetry.is_sign_free]
CLASSES = ["g", "tanh", "sigmoid", "sin", "cos", "gaussian", "softplus", "relu", "abs"]  # one for each symmetry
HOMOGENEOUS = [name for name in NAMES if ACTIVATIONS[name].symmetry.homogeneous]
EPS = np.finfo(float).eps


class Record(eqx.Module):
    """What a recovery looks like from outside."""

    network: Network
    linear: Layer | None = None


def disguise(net, layer, rng, *, flips=True):
    """The same function with every neuron of a layer rewritten by a true symmetry, and the linear map that is left.

    Written from the laws of one neuron, without a matrix product; checked by `respond` wherever it is used.
    """
    inner, outer = net.layers[layer], net.layers[layer + 1]
    each = symmetries(inner.activation, len(inner.b)).each
    w, b, a, c = (np.array(part) for part in (inner.w, inner.b, outer.w, outer.b))
    linear_w, linear_b = np.zeros((len(c), w.shape[1])), np.zeros(len(c))
    for i in range(len(w)):
        symmetry = each[i].symmetry
        if symmetry.is_sign_free and flips and (i == 0 or rng.random() < 0.5):
            # a fn(z) = a (parity fn(-z) + constant + linear (-z))
            c += a[:, i] * symmetry.constant
            linear_w -= symmetry.linear * np.outer(a[:, i], w[i])
            linear_b -= symmetry.linear * a[:, i] * b[i]
            w[i], b[i], a[:, i] = -w[i], -b[i], symmetry.parity * a[:, i]
        if symmetry.homogeneous:
            scale = np.exp(rng.normal())
            w[i], b[i], a[:, i] = scale * w[i], scale * b[i], a[:, i] / scale
        if symmetry.antiperiod is not None:
            turns = float(rng.integers(-3, 4))
            b[i], a[:, i] = b[i] + turns * symmetry.antiperiod, a[:, i] * (-1.0) ** turns
    order = rng.permutation(len(w))
    layers = list(net.layers)
    layers[layer] = Layer(jnp.asarray(w[order]), jnp.asarray(b[order]), inner.activation.take(order))
    layers[layer + 1] = Layer(jnp.asarray(a[:, order]), jnp.asarray(c), outer.activation)
    return Network(tuple(layers)), Layer(jnp.asarray(linear_w), jnp.asarray(linear_b)), order


def assert_exact(comparison, *, slack=1e-13):
    assert (comparison.n_missing, comparison.n_excess) == (0, 0)
    assert comparison.parameter_error < slack
    assert comparison.function_error_max < slack
    for layer in comparison.layers:
        assert np.all(layer.distance < slack**2)
        assert np.all(layer.cosine_in < slack**2)
        assert np.all(layer.cosine_in_euclidean < slack**2)
        assert np.all(layer.cosine_out < slack**2)


# --- what must not count ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_network_in_disguise_is_the_teacher(name, key):
    teacher = drawn.teacher(4, 5, 2, name, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    disguised, linear, order = disguise(teacher, 0, np.random.default_rng(0))
    same = respond(disguised, x) + x @ linear.w.T + linear.b[None]
    np.testing.assert_allclose(same, respond(teacher, x), atol=1e-12)
    comparison = compare(Record(disguised, linear), teacher, x)
    assert_exact(comparison)
    np.testing.assert_array_equal(comparison.layers[0].partner, np.argsort(order))
    assert comparison.layers[0].sign[0] == (-1 if name in SIGN_FREE else 1)


def test_a_mixture_in_disguise_is_the_teacher(key):
    """Every neuron by the symmetry of its own activation, and partners only among neurons of the same."""
    kinds = mixture(softplus=1, tanh=2, relu=1, sin=1)
    teacher = drawn.teacher(4, 5, 2, kinds, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    disguised, linear, order = disguise(teacher, 0, np.random.default_rng(0))
    assert disguised.layers[0].activation != kinds
    same = respond(disguised, x) + x @ linear.w.T + linear.b[None]
    np.testing.assert_allclose(same, respond(teacher, x), atol=1e-12)
    comparison = compare(Record(disguised, linear), teacher, x)
    assert_exact(comparison)
    np.testing.assert_array_equal(comparison.layers[0].partner, np.argsort(order))


def test_a_neuron_of_another_activation_is_not_a_partner(key):
    """The same weights under tanh and under arctan: two neurons."""
    teacher = drawn.teacher(4, 4, 2, mixture(tanh=2, arctan=2), key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    order = [0, 1, 3, 2]
    hidden = teacher.layers[0]
    swapped = replace(hidden, activation=mixture(tanh=1, arctan=1).take([0, 1, 1, 0]))
    assert compare(permute_neurons(teacher, order, layer=0), teacher, x).n_missing == 0
    comparison = compare(Network((swapped, teacher.layers[1])), teacher, x)
    assert set(comparison.layers[0].missing) == {1, 3}
    assert set(comparison.layers[0].excess) == {1, 3}


@pytest.mark.parametrize("name", CLASSES)
def test_a_deep_network_in_disguise_is_the_teacher(name, key):
    keys = jr.split(key, 4)
    teacher = drawn.network((4, 5, 3, 4, 2), name, key=keys[0], biases=1.0)
    x = drawn.queries(300, 4, key=keys[2])
    rng, disguised = np.random.default_rng(1), teacher
    for layer in range(3):  # a linear map between hidden layers has no place in a Network: no flips there
        disguised, _, _ = disguise(disguised, layer, rng, flips=ACTIVATIONS[name].symmetry.linear == 0)
    np.testing.assert_allclose(respond(disguised, x), respond(teacher, x), atol=1e-12)
    assert_exact(compare(disguised, teacher, x), slack=1e-11)


@pytest.mark.parametrize(
    ("d_in", "width"), [(4, 5), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, 1), (2, 6)))]
)
@given(seed=st.integers(0, 2**31 - 1), name=st.sampled_from(CLASSES))
@settings(max_examples=15, deadline=None)
def test_no_disguise_is_seen(d_in, width, seed, name):
    teacher = drawn.teacher(d_in, width, 2, name, key=jr.key(seed))
    x = drawn.queries(300, d_in, key=jr.key(1))
    disguised, linear, _ = disguise(teacher, 0, np.random.default_rng(seed))
    comparison = compare(Record(disguised, linear), teacher, x)
    scale = max(float(jnp.max(jnp.abs(layer.w))) for net in (disguised, teacher) for layer in net.layers)
    assert comparison.n_missing == comparison.n_excess == 0
    assert comparison.parameter_error < 1e-12 * scale**2


@pytest.mark.parametrize("name", ["softplus", "silu", "gelu", "relu", "leaky_relu"])
def test_a_flip_without_its_linear_map_is_an_error_of_that_size(name, key):
    teacher = drawn.teacher(4, 5, 2, name, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    disguised, linear, _ = disguise(teacher, 0, np.random.default_rng(2))
    comparison = compare(disguised, teacher, x)
    assert comparison.n_missing == comparison.n_excess == 0
    assert comparison.layers[0].parameter_error < 1e-13  # the neurons themselves are right
    largest = max(float(jnp.max(jnp.abs(linear.w))), float(jnp.max(jnp.abs(linear.b))))
    assert comparison.parameter_error == pytest.approx(largest, rel=1e-10)
    assert comparison.function_error_rms > 1e-2


def test_columns_that_never_vary_do_not_count(key):
    """Neither zero nor constant nor duplicated inputs: their weights can't be told apart, and are moved or shared."""
    keys = jr.split(key, 3)
    varying = drawn.normal(keys[0], (200, 3))
    constant = jnp.full((200, 1), 0.7)
    x = jnp.hstack([varying, jnp.zeros((200, 1)), constant, varying[:, :1]])
    teacher = drawn.teacher(6, 4, 2, "tanh", key=keys[1])
    w, b = teacher.layers[0].w, teacher.layers[0].b
    moved = w.at[:, 3].set(5.0).at[:, 4].add(-2.0).at[:, 0].add(0.3).at[:, 5].add(-0.3)
    same = Network((replace(teacher.layers[0], w=moved, b=b + 2.0 * 0.7), teacher.layers[1]))
    np.testing.assert_allclose(respond(same, x), respond(teacher, x), atol=1e-13)
    comparison = compare(same, teacher, x)
    assert_exact(comparison)
    assert comparison.layers[0].n_unseen == 3
    assert "3 of 6 input directions" in comparison.summary()


def test_rarely_varying_inputs_do_count(key):
    """One pixel lit in one image is little evidence, but it is evidence."""
    x = drawn.queries(300, 4, key=key).at[:, 3].set(0).at[7, 3].set(1 / 255)
    teacher = drawn.teacher(4, 5, 2, key=key)
    changed = eqx.tree_at(lambda net: net.layers[0].w, teacher, teacher.layers[0].w.at[1, 3].add(0.125))
    comparison = compare(changed, teacher, x)
    assert comparison.layers[0].n_unseen == 0
    assert comparison.parameter_error == pytest.approx(0.125)


# --- what must count, and by how much --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in HOMOGENEOUS])
def test_a_planted_error_is_reported_as_planted(name, key):
    teacher = drawn.teacher(4, 5, 2, name, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    # An error in a flipped neuron of an even + linear activation is an error of the linear map too: no flips there.
    flips = ACTIVATIONS[name].symmetry.linear == 0
    disguised, _, order = disguise(teacher, 0, np.random.default_rng(0), flips=flips)
    inner, outer = disguised.layers
    planted = {
        1e-3: (replace(inner, w=inner.w.at[2, 1].add(1e-3)), outer),
        1e-5: (replace(inner, b=inner.b.at[2].add(1e-5)), outer),
        1e-7: (inner, replace(outer, w=outer.w.at[1, 2].add(1e-7))),
        1e-9: (inner, replace(outer, b=outer.b.at[1].add(1e-9))),
    }
    for size, layers in planted.items():
        comparison = compare(Network(layers), teacher, x)
        hidden = comparison.layers[0]
        assert comparison.parameter_error == pytest.approx(size, rel=1e-5)
        if size > 1e-6:
            assert hidden.parameter_error == comparison.parameter_error
            assert np.argmax(hidden.cosine_in) == np.argmax(hidden.cosine_in_euclidean) == order[2]
        else:
            assert comparison.output_error == comparison.parameter_error
        if size == 1e-7:
            assert np.argmax(hidden.cosine_out) == order[2]


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_a_planted_error_is_measured_at_unit_pre_activations(name, key):
    teacher = drawn.teacher(4, 3, 1, name, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    w, b, a = np.array(teacher.layers[0].w), np.array(teacher.layers[0].b), np.array(teacher.layers[1].w)
    size = np.sqrt(np.mean((np.asarray(x) @ w.T + b) ** 2, axis=0))
    a[0, 1] += 1e-4
    changed = eqx.tree_at(lambda net: net.layers[1].w, teacher, jnp.asarray(a))
    assert compare(changed, teacher, x).parameter_error == pytest.approx(1e-4 * size[1], rel=1e-8)


@given(planted=st.floats(-14, -2).map(lambda exponent: 10.0**exponent))
@settings(max_examples=15, deadline=None)
def test_cosine_distances_do_not_cancel(planted):
    """1 - cos of an angle t is t²/2: down to 1e-28, where 1 minus a cosine in floating point is 0."""
    turned = np.array([np.cos(planted), np.sin(planted)])
    assert cosine_distance(np.array([3.0, 0.0]), 7.0 * turned) == pytest.approx(planted**2 / 2, rel=1e-4, abs=EPS**2)


def test_cosine_distance_of_a_dead_neuron_is_that_of_a_stranger():
    zero, some = np.zeros(3), np.array([1.0, -2.0, 0.0])
    assert cosine_distance(zero, some) == 1
    assert cosine_distance(some, -some) == pytest.approx(2)
    assert cosine_distance(some, some) == 0


def test_the_two_cosines_are_those_of_their_definitions(key):
    teacher = drawn.teacher(3, 1, key=key)
    other = eqx.tree_at(lambda net: net.layers[0].w, teacher, teacher.layers[0].w + 0.05)
    x = drawn.queries(50, 3, key=key) * jnp.array([[1.0, 2.0, 0.1]]) + 0.3
    hidden = compare(other, teacher, x).layers[0]
    vectors = [np.append(np.asarray(net.layers[0].w), float(net.layers[0].b[0])) for net in (other, teacher)]
    preactivations = [np.hstack([np.asarray(x), np.ones((50, 1))]) @ v for v in vectors]
    for got, (u, v) in {
        float(hidden.cosine_in_euclidean[0]): vectors,
        float(hidden.cosine_in[0]): preactivations,
    }.items():
        assert got == pytest.approx(1 - u @ v / np.linalg.norm(u) / np.linalg.norm(v), rel=1e-8)
    u, v = preactivations
    assert hidden.distance[0] == pytest.approx(np.sum((u - v) ** 2) / (u @ u + v @ v), rel=1e-10)


def test_function_error_is_in_units_of_the_outputs(key):
    teacher = drawn.teacher(4, 5, 2, key=key)
    shifted = eqx.tree_at(lambda net: net.layers[1].b, teacher, teacher.layers[1].b.at[0].add(0.25))
    x = drawn.queries(300, 4, key=key)
    fresh = drawn.queries(300, 4, key=jr.key(9))
    for queries, comparison in ((x, compare(shifted, teacher, x)), (fresh, compare(shifted, teacher, x, fresh=fresh))):
        std = np.sqrt(np.var(np.asarray(respond(teacher, queries)), axis=0).mean())
        assert comparison.function_error_max == pytest.approx(0.25 / std)
        assert comparison.function_error_rms == pytest.approx(0.25 / std / np.sqrt(2))


# --- who is missing, who is too many ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["g", "tanh", "relu", "sin"])
def test_a_missing_neuron_is_named(name, key):
    teacher = drawn.teacher(4, 5, 2, name, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    comparison = compare(take_neurons(teacher, [4, 0, 3, 1], layer=0), teacher, x)
    hidden = comparison.layers[0]
    assert hidden.missing == (2,)
    assert hidden.excess == ()
    assert comparison.parameter_error == np.inf
    np.testing.assert_array_equal(hidden.partner, [1, 3, -1, 2, 0])
    np.testing.assert_array_equal(np.isnan(hidden.cosine_in), [False, False, True, False, False])
    assert hidden.parameter_error < 1e-13
    # In a shallow network the outputs miss a_i (phi_i - mean).
    phi = np.asarray(hidden_states(teacher, x)[0].h)[:, 2]
    lost = np.std(phi) * np.linalg.norm(teacher.layers[1].w[:, 2]) / np.sqrt(2)
    spread = np.sqrt(np.mean(np.var(np.asarray(respond(teacher, x)), axis=0)))
    np.testing.assert_array_equal(np.isfinite(hidden.missing_influence), [False, False, True, False, False])
    assert hidden.missing_influence[2] == pytest.approx(lost / spread, rel=1e-10)


def test_the_influence_of_a_missing_neuron_goes_through_the_layers_above(key):
    """Its mean in its place, written out for the first of two hidden layers."""
    teacher = drawn.network((4, 5, 4, 2), "tanh", key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    comparison = compare(take_neurons(teacher, [0, 1, 2, 4], layer=0), teacher, x)
    first, second, output = ((np.asarray(layer.w), np.asarray(layer.b)) for layer in teacher.layers)
    phi = np.tanh(np.asarray(x) @ first[0].T + first[1])
    silent = phi.copy()
    silent[:, 3] = phi[:, 3].mean()
    answers = [np.tanh(h @ second[0].T + second[1]) @ output[0].T + output[1] for h in (phi, silent)]
    moved = np.sqrt(np.mean((answers[0] - answers[1]) ** 2) / np.mean(np.var(answers[0], axis=0)))
    assert comparison.layers[0].missing == (3,)
    assert comparison.layers[0].missing_influence[3] == pytest.approx(moved, rel=1e-10)


@pytest.mark.parametrize("name", ["g", "tanh", "relu", "sin"])
def test_neurons_in_excess_are_named(name, key):
    """A duplicate, and a neuron of its own: one partner each, the others are in excess."""
    teacher = drawn.teacher(4, 3, 2, name, key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    stranger = drawn.teacher(4, 1, 2, name, key=jr.key(77))
    duplicated = split_neuron(teacher, 1, layer=0, share=0.3)
    inner = Layer(
        *(
            jnp.concatenate(parts)
            for parts in zip(*((n.layers[0].w, n.layers[0].b) for n in (duplicated, stranger)), strict=True)
        ),
        teacher.layers[0].activation,
    )
    outer = Layer(jnp.hstack([duplicated.layers[1].w, 0.5 * stranger.layers[1].w]), teacher.layers[1].b)
    comparison = compare(Network((inner, outer)), teacher, x)
    hidden = comparison.layers[0]
    assert (comparison.n_missing, comparison.n_excess) == (0, 2)
    assert (hidden.teacher_width, hidden.recovered_width) == (3, 5)
    assert 4 in hidden.excess
    assert hidden.excess[0] in (1, 3)
    assert comparison.parameter_error == np.inf


def test_an_exact_duplicate_shares_its_outgoing_weights_with_its_twin(key):
    """Two equal neurons can't be told apart by the next layer, so only their sum is compared."""
    teacher = drawn.teacher(4, 3, 2, "tanh", key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    comparison = compare(split_neuron(teacher, 0, layer=0, share=0.3), teacher, x)
    assert comparison.n_excess == 1
    assert comparison.output_error < 1e-13


def test_a_neuron_of_another_length_is_not_a_partner(key):
    """tanh(3 z) has the direction of tanh(z) and is another neuron."""
    teacher = drawn.teacher(4, 3, key=key, activation="tanh")
    longer = eqx.tree_at(
        lambda net: net.layers[0],
        teacher,
        replace(teacher.layers[0], w=teacher.layers[0].w.at[1].multiply(3), b=teacher.layers[0].b.at[1].multiply(3)),
    )
    comparison = compare(longer, teacher, drawn.queries(300, 4, key=jr.key(1)))
    assert comparison.layers[0].missing == (1,)
    assert comparison.layers[0].excess == (1,)


def test_partners_are_one_to_one_and_optimal(key):
    """Against all permutations: nearest neighbours would give one recovered neuron to two teacher neurons."""
    teacher = drawn.teacher(2, 4, key=key)
    x = drawn.queries(200, 2, key=jr.key(1))
    mean = jnp.mean(teacher.layers[0].w, axis=0, keepdims=True)
    close = eqx.tree_at(lambda net: net.layers[0].w, teacher, mean + 0.2 * (teacher.layers[0].w - mean))
    noise = 0.1 * drawn.normal(jr.key(3), close.layers[0].w.shape)
    noisy = eqx.tree_at(lambda net: net.layers[0].w, close, close.layers[0].w + noise)
    hidden = compare(noisy, close, x, tolerance=1.0).layers[0]
    vectors = [np.hstack([np.asarray(n.layers[0].w), np.asarray(n.layers[0].b)[:, None]]) for n in (close, noisy)]
    z = [np.hstack([np.asarray(x), np.ones((200, 1))]) @ v.T for v in vectors]
    cost = np.array([[np.sum((u - v) ** 2) / (u @ u + v @ v) for v in z[1].T] for u in z[0].T])
    best = min(sum(cost[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(4)))
    assert sorted(hidden.partner) == [0, 1, 2, 3]
    assert hidden.distance.sum() == pytest.approx(best)


def test_in_a_deep_network_an_excess_neuron_costs_no_partner_above(key):
    teacher = drawn.network((4, 5, 4, 2), "tanh", key=key)
    x = drawn.queries(300, 4, key=jr.key(1))
    doubled = permute_neurons(split_neuron(teacher, 2, layer=0), [3, 5, 0, 2, 4, 1], layer=0)
    comparison = compare(doubled, teacher, x)
    first, second = comparison.layers
    assert (len(first.excess), first.missing, second.missing, second.excess) == (1, (), (), ())
    assert np.all(second.cosine_in < 1e-24)
    assert comparison.output_error < 1e-13


def test_nothing_recovered_is_everything_missing(key):
    teacher = drawn.teacher(4, 5, 2, key=key)
    nothing = take_neurons(teacher, [], layer=0)
    comparison = compare(nothing, teacher, drawn.queries(300, 4, key=key))
    assert (comparison.n_missing, comparison.n_excess) == (5, 0)
    assert comparison.function_error_rms >= 1  # as much as a constant would have, or more
    assert "-" in comparison.summary()


# --- the table -------------------------------------------------------------------------------------------------------


def test_summary_has_a_row_for_each_layer(key):
    teacher = drawn.network((4, 5, 3, 2), "g", key=key)
    text = compare(teacher, teacher, drawn.queries(300, 4, key=key)).summary()
    rows = [line.split() for line in text.splitlines()]
    assert rows[1][:5] == ["layer", "teacher", "recovered", "excess", "missing"]
    assert [row[:5] for row in rows[2:4]] == [["1", "5", "5", "0", "0"], ["2", "3", "3", "0", "0"]]
    assert "function error 0.0e+00 rms" in text


def test_float32_networks_compare_with_float64_ones(key):
    teacher = drawn.teacher(4, 5, 2, key=key)
    single = cast(teacher, jnp.float32)
    comparison = compare(single, teacher, drawn.queries(300, 4, key=key))
    assert 0 < comparison.parameter_error < 1e-6


def cast(net, dtype):
    return eqx.tree_at(
        lambda net: [part for layer in net.layers for part in (layer.w, layer.b)],
        net,
        replace_fn=lambda leaf: leaf.astype(dtype),
    )


# --- bad input -------------------------------------------------------------------------------------------------------


def _net(shape=(3, 4, 2), activation="tanh"):
    return drawn.network(shape, activation, key=jr.key(0))


X = np.random.default_rng(0).normal(size=(20, 3))
BAD = {
    "activation": (_net(activation="g"), _net(), {}, "under one activation"),
    "symmetry": (
        _net(activation=Activation(jnp.tanh)),
        _net(activation=Activation(jnp.tanh, Symmetry(parity=-1))),
        {},
        "under one activation",
    ),
    "polynomial": (_net(activation="square"), _net(activation="square"), {}, "polynomial"),
    "depth": (_net((3, 4, 4, 2)), _net(), {}, "hidden layers"),
    "outputs": (_net((3, 4, 1)), _net(), {}, "outputs"),
    "no hidden layer": (_net((3, 2)), _net((3, 2)), {}, "no hidden layer"),
    "queries": (_net(), _net(), {"x": X[:, :2]}, "`x` is"),
    "no queries": (_net(), _net(), {"x": X[:0]}, "`x` is"),
    "nan queries": (_net(), _net(), {"x": X * np.nan}, "not finite"),
    "fresh": (_net(), _net(), {"fresh": X * np.nan}, "`fresh` has"),
    "tolerance": (_net(), _net(), {"tolerance": 0.0}, "`tolerance`"),
    "failed": (
        eqx.tree_at(lambda n: n.layers[0].b, _net(), jnp.full(4, jnp.nan)),
        _net(),
        {},
        "`recovered` has weights",
    ),
    "constant": (
        _net(),
        eqx.tree_at(lambda n: n.layers[1].w, _net(), jnp.zeros((2, 4))),
        {},
        "do not vary",
    ),
    "linear": (Record(_net(), Layer(jnp.zeros((3, 3)), jnp.zeros(3))), _net(), {}, "linear"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    recovered, teacher, settings, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        compare(recovered, teacher, **({"x": X} | settings))


def test_a_stack_is_refused():
    stacked = drawn.students(3, (3, 4, 2), "tanh", key=jr.key(0))
    with pytest.raises(ValueError, match="stack of students"):
        compare(stacked, _net(), X)


def test_layers_of_other_widths_than_the_teachers_are_compared(key):
    """Neurons too many in every hidden layer, to which nothing listens, are in excess and change nothing else."""
    teacher = drawn.network((3, 4, 2, 1), "tanh", key=key)
    first, second, last = teacher.layers
    wider = jnp.concatenate([jnp.pad(second.w, ((0, 0), (0, 1))), jnp.ones((2, 5))])
    first = replace(first, w=jnp.concatenate([first.w, -first.w[:1] + 1]), b=jnp.pad(first.b, (0, 1)))
    second = replace(second, w=wider, b=jnp.pad(second.b, (0, 2)))
    recovered = Network((first, second, Layer(jnp.pad(last.w, ((0, 0), (0, 2))), last.b)))
    comparison = compare(recovered, teacher, drawn.queries(200, 3, key=key), tolerance=1e-6)
    assert [layer.missing for layer in comparison.layers] == [(), ()]
    assert [len(layer.excess) for layer in comparison.layers] == [1, 2]
    assert comparison.function_error_max < 1e-12

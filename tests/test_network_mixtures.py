"""Mixtures: a layer whose neurons have activations of their own is what its neurons are, one by one."""

import dataclasses

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from ecjax.data import synthetic_teacher
from ecjax.doors import from_nnx, to_nnx
from ecjax.network import (
    ACTIVATIONS,
    Activation,
    Layer,
    Mixture,
    Network,
    as_activation,
    load_network,
    mixture,
    permute_neurons,
    random_network,
    random_students,
    respond,
    save_network,
    split_neuron,
    stack,
    student,
    take_neurons,
)
from ecjax.network.forward import stack_answers
from ecjax.network.moves import pad_neurons, with_activation, with_unit_vectors
from ecjax.network.symmetries import symmetries

NAMES = ("tanh", "softplus", "tanh", "relu", "softplus")  # no two neighbours alike, and not sorted by kind
MIXED = Mixture(tuple(ACTIVATIONS[name] for name in NAMES))
X = drawn.normal(jr.key(0), (7, 3))


def network(seed=0, activation=MIXED):
    w_key, b_key, a_key, c_key = jr.split(jr.key(seed), 4)
    hidden = Layer(drawn.normal(w_key, (5, 3)), drawn.normal(b_key, (5,)), activation)
    return Network((hidden, Layer(drawn.normal(a_key, (2, 5)), drawn.normal(c_key, (2,)))))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for u, v in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(u, v)


def assert_same_function(one, other):
    np.testing.assert_allclose(drawn.answers(one, X), drawn.answers(other, X), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)], ids=str)
def test_each_neuron_has_its_own(shape):
    """The function and its derivatives, over any samples; the neurons are the last axis."""

    @jax.jit
    def compared(z):
        one_by_one = lambda what: [getattr(ACTIVATIONS[name], what)(z[..., i]) for i, name in enumerate(NAMES)]
        together = {"fn": MIXED(z), "d1": MIXED.d1(z), "d2": MIXED.d2(z)}
        return {what: (got, jnp.stack(one_by_one(what), axis=-1)) for what, got in together.items()}

    for what, (got, wanted) in compared(drawn.normal(jr.key(1), shape)).items():
        np.testing.assert_allclose(got, wanted, rtol=1e-14, atol=1e-15, err_msg=what)


def test_a_network_answers_as_its_neurons_do_one_by_one():
    net = network()
    inner, outer = net.layers
    wanted = np.tile(np.asarray(outer.b), (7, 1))
    for i, name in enumerate(NAMES):
        neuron = Network((Layer(inner.w[i : i + 1], inner.b[i : i + 1], ACTIVATIONS[name]), inner_to_one(outer, i)))
        wanted += np.asarray(drawn.answers(neuron, X))
    np.testing.assert_allclose(respond(net, X), wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(respond(net, X[0]), wanted[0], rtol=1e-12, atol=1e-13)  # one input


def inner_to_one(outer, i):
    return Layer(outer.w[:, i : i + 1], 0 * outer.b)


def test_of_one_kind_it_is_that_activation():
    assert_same_function(network(activation=mixture(g=5)), network(activation=ACTIVATIONS["g"]))


def test_a_stack_answers_as_its_students_do():
    nets = [network(seed) for seed in range(3)]
    wanted = np.stack([drawn.answers(net, X).T for net in nets])
    np.testing.assert_allclose(jax.jit(stack_answers)(stack(nets), X), wanted, rtol=1e-12, atol=1e-13)


def test_a_stack_descends_as_its_students_do():
    """Gradients go through derivatives in closed form, neurons before samples."""
    nets = [network(seed) for seed in range(2)]
    together = jax.jit(jax.grad(lambda students: jnp.sum(stack_answers(students, X) ** 2)))(stack(nets))
    slope = jax.jit(jax.grad(lambda net: jnp.sum(respond(net, X) ** 2)))
    for i, net in enumerate(nets):
        alone = slope(net)
        for u, v in zip(jax.tree.leaves(student(together, i)), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-11, atol=1e-12)


# --- moves -----------------------------------------------------------------------------------------------------------


def test_neurons_trade_places_with_their_activations():
    net = network()
    moved = permute_neurons(net, [3, 0, 4, 1, 2], layer=0)
    assert [one.name for one in moved.layers[0].activation.each] == ["relu", "tanh", "softplus", "softplus", "tanh"]
    assert_same_function(moved, net)
    assert_same(permute_neurons(moved, np.argsort([3, 0, 4, 1, 2]), layer=0), net)


def test_neurons_are_taken_split_and_padded_with_their_activations():
    net = network()
    split = split_neuron(net, 3, layer=0, share=0.3)
    assert split.layers[0].activation.each == (*MIXED.each, ACTIVATIONS["relu"])
    assert_same_function(split, net)
    padded = pad_neurons(net, 7, layer=0)
    assert padded.widths == (7,)
    assert_same_function(padded, net)
    kept = take_neurons(net, [3, 1], layer=0)
    assert kept.layers[0].activation == mixture(relu=1, softplus=1)
    outer = net.output
    rest = take_neurons(net, [0, 2, 4], layer=0)
    parts, whole = [np.asarray(drawn.answers(one, X)) for one in (kept, rest)], drawn.answers(net, X)
    np.testing.assert_allclose(sum(parts) - np.asarray(outer.b), whole, rtol=1e-12)
    none = take_neurons(net, [], layer=0)
    np.testing.assert_array_equal(drawn.answers(none, X), np.broadcast_to(outer.b, (7, 2)))


def test_moves_of_a_stack_are_moves_of_each_student():
    nets = [network(seed) for seed in range(2)]
    for operate in (lambda net: take_neurons(net, [4, 0], layer=0), lambda net: split_neuron(net, 1, layer=0)):
        assert_same(operate(stack(nets)), stack([operate(net) for net in nets]))


def test_only_homogeneous_neurons_get_unit_vectors():
    net, unit = network(), with_unit_vectors(network())
    assert_same_function(unit, net)
    norm = np.sqrt(np.sum(unit.layers[0].w ** 2, axis=1) + unit.layers[0].b ** 2)
    assert norm[3] == pytest.approx(1)
    for i in (0, 1, 2, 4):
        np.testing.assert_array_equal(unit.layers[0].w[i], net.layers[0].w[i])


def test_activations_are_changed_neuron_by_neuron():
    changed = with_activation(network(), lambda one: one if one.smooth else ACTIVATIONS["softplus"])
    assert [one.name for one in changed.layers[0].activation.each] == [*NAMES[:3], "softplus", "softplus"]


# --- what is known of it ---------------------------------------------------------------------------------------------


def test_groups_are_the_neurons_of_each_kind():
    groups = {one.name: members.tolist() for one, members in MIXED.groups(5)}
    assert groups == {"tanh": [0, 2], "softplus": [1, 4], "relu": [3]}
    assert MIXED.name == "tanh x 2, softplus x 2, relu x 1"
    assert repr(MIXED) == f"Mixture({MIXED.name})"
    assert not MIXED.smooth
    assert mixture(tanh=2, g=1).smooth


def test_symmetries_are_told_neuron_by_neuron():
    told = symmetries(MIXED, 5)
    assert told.each == MIXED.each
    np.testing.assert_array_equal(told.parity, [-1, 1, -1, 1, 1])
    np.testing.assert_array_equal(told.linear, [0, -1, 0, -1, -1])
    np.testing.assert_array_equal(told.homogeneous, [False, False, False, True, False])
    np.testing.assert_array_equal(told.leaves_linear_map, [False, True, False, True, True])


def test_it_is_hashable_and_equal_to_its_like():
    """It is static under jit: equal ones must not compile again."""
    assert hash(MIXED) == hash(Mixture(MIXED.each))
    traces = []

    @jax.jit
    def answer(net):
        traces.append(1)
        return respond(net, X)

    for seed in range(3):
        answer(network(seed, Mixture(MIXED.each)))
    assert len(traces) == 1


def test_it_comes_by_counts_or_neuron_by_neuron():
    assert [one.name for one in mixture(tanh=2, softplus=1).each] == ["tanh", "tanh", "softplus"]
    assert as_activation(MIXED) is MIXED
    with pytest.raises(ValueError, match=r"`activation` is one of .*; got 'tan'"):
        mixture(tan=2)
    for count in (0, -1):
        with pytest.raises(ValueError, match=f"`tanh` is how many neurons .* at least 1; got {count}"):
            mixture(tanh=count)


def test_only_activations_can_be_mixed(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose checks stand before ecjax's own
    with pytest.raises(ValueError, match=r"`each` is an ecjax\.Activation for every neuron; got .*'tanh'"):
        Mixture(("tanh", ACTIVATIONS["tanh"]))


@pytest.mark.parametrize("width", [4, 6])
def test_a_mixture_of_another_width_is_refused(width, key):
    wanted = rf"`activation` Mixture\(.*\) is of 5 neurons, and the layer has {width}"
    for draw in (
        lambda: random_network((3, width, 2), MIXED, key=key),
        lambda: random_network((3, 5, width, 2), ("tanh", MIXED), key=key),
        lambda: random_students(2, (3, width, 2), MIXED, key=key),
        lambda: synthetic_teacher(3, width, 2, MIXED, key=key),
        lambda: MIXED(jnp.zeros((7, width))),
    ):
        with pytest.raises(ValueError, match=wanted):
            draw()


# --- ways out and back -----------------------------------------------------------------------------------------------


def test_drawn_networks_and_teachers_have_it(key):
    assert jax.eval_shape(lambda: random_network((3, 5, 2), MIXED, key=key)).activations == (MIXED,)
    deep = jax.eval_shape(lambda: synthetic_teacher(3, (4, 5), 1, ("softplus", MIXED), key=key))
    assert deep.activations == (ACTIVATIONS["softplus"], MIXED)
    teacher = synthetic_teacher(3, 5, 2, MIXED, key=key)
    assert teacher.activations == (MIXED,)
    np.testing.assert_allclose(np.linalg.norm(teacher.layers[0].w, axis=1), 1.5, rtol=1e-12)


def test_through_a_file_and_back(tmp_path):
    save_network(network(), tmp_path / "net.safetensors")
    assert_same(load_network(tmp_path / "net.safetensors"), network())
    mine = Mixture((*MIXED.each[:4], Activation(jnp.sinh, "odd", name="mine")))
    save_network(network(activation=mine), tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="your own activation 'mine': pass it as `activation`"):
        load_network(tmp_path / "mine.safetensors")
    assert_same(load_network(tmp_path / "mine.safetensors", activation=mine), network(activation=mine))


def test_through_flax_and_back():
    module = to_nnx(network())
    np.testing.assert_allclose(module(X), drawn.answers(network(), X), rtol=1e-12, atol=1e-13)
    assert_same(from_nnx(module, MIXED), network())


def test_only_networks_of_one_mixture_make_a_stack():
    other = dataclasses.replace(network().layers[0], activation=MIXED.take([1, 0, 2, 3, 4]))
    with pytest.raises(ValueError, match="one shape and activation; got 2 kinds"):
        stack([network(), Network((other, network().layers[1]))])

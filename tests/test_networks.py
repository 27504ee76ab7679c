"""Networks: what leaves the function as it is, what a stack is, and the way out and back (Flax, files)."""

from dataclasses import replace

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ecjax.base.files import write_arrays
from ecjax.data import synthetic_teacher
from ecjax.doors import from_nnx, to_nnx
from ecjax.network import (
    ACTIVATIONS,
    Activation,
    Network,
    hidden_states,
    load_network,
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
from ecjax.network.moves import pad_neurons, with_activation, with_unit_pre_activations, with_unit_vectors
from ecjax.network.symmetries import symmetries

SHAPES = [(1, 1, 1), (2, 4, 3, 1)]  # few: each new shape compiles
CASES = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(SHAPES),
        "activation": st.sampled_from(["tanh", "relu", "square"]),
        "seed": st.integers(0, 2**31 - 1),
    }
)


def network(shape=(3, 5, 2), activation="tanh", seed=0):
    """Random weights, and biases too."""
    return drawn.network(shape, activation, key=jr.key(seed), biases=1.0)


def queries(net, seed=0, n_samples=7):
    return drawn.queries(n_samples, net.shape[0], key=jr.key(seed))


def assert_same_function(one, other, **tolerances):
    x = queries(one)
    np.testing.assert_allclose(
        drawn.answers(one, x), drawn.answers(other, x), **({"rtol": 1e-12, "atol": 1e-12} | tolerances)
    )


def assert_same_weights(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for u, v in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert u.dtype == v.dtype
        np.testing.assert_array_equal(u, v)


# --- records and answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_respond_is_the_formula_neuron_by_neuron(name):
    net = network((3, 5, 2), name)
    x = np.asarray(queries(net))
    (w, b), (a, c) = ((np.asarray(layer.w), np.asarray(layer.b)) for layer in net.layers)
    z = np.array([[sum(w[i, k] * x[n, k] for k in range(3)) + b[i] for i in range(5)] for n in range(7)])
    h = np.asarray(ACTIVATIONS[name](jnp.asarray(z)))
    wanted = [[sum(a[o, i] * h[n, i] for i in range(5)) + c[o] for o in range(2)] for n in range(7)]
    np.testing.assert_allclose(respond(net, jnp.asarray(x)), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_answered_one_by_one(shape):
    net = network(shape)

    @jax.jit
    def answered(x):
        return jnp.stack([respond(net, x[i]) for i in range(6)]), respond(net, x), respond(net, x.reshape(2, 3, -1))

    one_by_one, at_once, as_a_grid = answered(queries(net, n_samples=6))
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(as_a_grid, one_by_one.reshape(2, 3, shape[-1]), rtol=1e-13, atol=1e-14)
    assert jax.eval_shape(lambda: respond(net, jnp.zeros((0, shape[0])))).shape == (0, shape[-1])


@pytest.mark.parametrize("shape", [*SHAPES, (784, 30, 30, 30, 10)])
def test_a_network_knows_its_sizes(shape):
    net = jax.eval_shape(lambda: random_network(shape, "tanh", key=jr.key(0)))
    assert net.shape == shape
    assert net.widths == shape[1:-1]
    assert net.n_parameters == sum(leaf.size for leaf in jax.tree.leaves(net))


def test_a_stack_has_the_sizes_of_one_student(key):
    students = jax.eval_shape(lambda: random_students(4, (3, 5, 2), "tanh", key=key))
    one = jax.eval_shape(lambda students: student(students, 2), students)
    assert (students.shape, students.widths, students.n_parameters) == (one.shape, one.widths, one.n_parameters)


# --- drawing ---------------------------------------------------------------------------------------------------------


def test_random_networks_are_glorot_normal(key):
    net = random_network((30, 200, 100), "tanh", key=key)
    for layer in net.layers:
        fan_out, fan_in = layer.w.shape
        std = np.sqrt(2 / (fan_in + fan_out))
        n = layer.w.size
        assert float(layer.w.std()) == pytest.approx(std, rel=5 / np.sqrt(2 * n))
        assert abs(float(layer.w.mean())) < 5 * std / np.sqrt(n)
        np.testing.assert_array_equal(layer.b, np.zeros(fan_out))


def test_the_scale_of_a_student_does_not_depend_on_how_many_there_are(key):
    """The published code counted the students axis as fan-in, so that the initialisation shrank with N."""
    students = random_students(500, (4, 8, 2), "tanh", key=key)
    for layer, fans in zip(students.layers, (12, 10), strict=True):
        assert float(layer.w.std()) == pytest.approx(np.sqrt(2 / fans), rel=5 / np.sqrt(2 * layer.w.size))


def test_a_larger_ensemble_contains_the_smaller_one(key):
    few, many = (random_students(n, (2, 4, 1), "tanh", key=key) for n in (2, 4))
    assert_same_weights(few, jax.tree.map(lambda leaf: leaf[:2], many))
    for leaf in (layer.w for layer in many.layers):
        assert len({np.asarray(each).tobytes() for each in leaf}) == 4  # students differ


def test_layers_do_not_share_their_draws(key):
    net = random_network((4, 4, 4, 4), "tanh", key=key)
    assert len({np.asarray(layer.w).tobytes() for layer in net.layers}) == 3


@pytest.mark.parametrize("shape", [(3,), (), (3, 0, 1), (0, 2, 1), (3, -1, 1)])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(ValueError, match="`shape` is"):
        random_network(shape, "tanh", key=jr.key(0))


# --- what leaves the function as it is -------------------------------------------------------------------------------


@given(case=CASES, data=st.data())
@settings(max_examples=25, deadline=None)
def test_neurons_may_trade_places(case, data):
    net = network(**case)
    layer = data.draw(st.integers(0, len(net.widths) - 1))
    order = data.draw(st.permutations(range(net.widths[layer])))
    shuffled = permute_neurons(net, order, layer=layer)
    assert_same_function(shuffled, net)
    assert_same_weights(permute_neurons(shuffled, np.argsort(order).tolist(), layer=layer), net)


@given(case=CASES, share=st.floats(-3, 3), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_neuron_may_be_split(case, share, data):
    net = network(**case)
    layer = data.draw(st.integers(0, len(net.widths) - 1))
    neuron = data.draw(st.integers(0, net.widths[layer] - 1))
    split = split_neuron(net, neuron, layer=layer, share=share)
    assert split.widths[layer] == net.widths[layer] + 1
    assert_same_function(split, net)
    inner, outer = split.layers[layer], split.layers[layer + 1]
    np.testing.assert_array_equal(inner.w[-1], inner.w[neuron])
    np.testing.assert_allclose(outer.w[:, -1], share * net.layers[layer + 1].w[:, neuron], rtol=1e-12)


def test_neurons_taken_are_taken_with_their_outgoing_weights():
    net = network((3, 5, 2))
    kept = take_neurons(net, [3, 1], layer=0)
    inner, outer = net.layers
    by_hand = inner.activation(queries(net) @ inner.w[jnp.array([3, 1])].T + inner.b[None, jnp.array([3, 1])])
    wanted = by_hand @ outer.w[:, jnp.array([3, 1])].T + outer.b[None]
    np.testing.assert_allclose(respond(kept, queries(net)), wanted, rtol=1e-12)
    none = take_neurons(net, [], layer=0)
    np.testing.assert_array_equal(respond(none, queries(net)), np.broadcast_to(outer.b, (7, 2)))


def test_surgery_on_a_stack_is_surgery_on_each_student(key):
    students = drawn.students(3, (3, 4, 2), "tanh", key=key)
    for operate in (
        lambda net: permute_neurons(net, [2, 0, 3, 1], layer=0),
        lambda net: split_neuron(net, 1, layer=0, share=0.2),
        lambda net: take_neurons(net, [0, 3], layer=0),
    ):
        assert_same_weights(operate(students), stack([operate(student(students, i)) for i in range(3)]))


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0, 1, 3], [0, 1, 2, 3]])
def test_what_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match=r"`order` is a permutation of 0 \.\.\. 2"):
        permute_neurons(network((2, 3, 1)), order, layer=0)


@pytest.mark.parametrize("neuron", [-1, 3])
def test_a_neuron_that_is_not_there_is_not_split(neuron):
    with pytest.raises(ValueError, match=r"`neuron` is within 0 \.\.\. 2"):
        split_neuron(network((2, 3, 1)), neuron, layer=0)


# --- stacks ----------------------------------------------------------------------------------------------------------


def test_stacking_and_picking_undo_each_other():
    networks = [network(seed=seed) for seed in range(3)]
    students = stack(networks)
    for i, net in enumerate(networks):
        assert_same_weights(student(students, i), net)


def test_a_stack_answers_as_its_students_do():
    networks = [network(seed=seed) for seed in range(3)]
    x = queries(networks[0])
    answers = jax.vmap(respond, in_axes=(0, None))(stack(networks), x)
    wanted = jnp.stack([respond(net, x) for net in networks])
    np.testing.assert_allclose(answers, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("other", [network((3, 4, 2)), network(activation="g")])
def test_only_one_kind_of_network_makes_a_stack(other):
    with pytest.raises(ValueError, match="one shape and activation; got 2 kinds"):
        stack([network(), other])


# --- activations belong to layers ------------------------------------------------------------------------------------

TWO = ("softplus", "tanh")  # one for each of two hidden layers


def test_every_layer_may_have_an_activation_of_its_own(tmp_path, key):
    net = with_activations(network((3, 4, 3, 2)), *(ACTIVATIONS[name] for name in TWO))
    x = queries(net)
    (one, two), output = net.hidden, net.output
    h = jnp.logaddexp(x @ one.w.T + one.b[None], 0.0)
    wanted = jnp.tanh(h @ two.w.T + two.b[None]) @ output.w.T + output.b[None]
    np.testing.assert_allclose(respond(net, x), wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(stack_answers(stack([net, net]), x)[1].T, wanted, rtol=1e-12, atol=1e-13)
    assert [state.h.shape for state in hidden_states(net, x)] == [(7, 4), (7, 3)]
    for draw in (
        lambda: random_network((3, 4, 3, 2), TWO, key=key),
        lambda: random_students(2, (3, 4, 3, 2), TWO, key=key),
        lambda: synthetic_teacher(3, (4, 3), 2, TWO, key=key),
    ):
        assert jax.eval_shape(draw).activations == net.activations
    assert_same_weights(from_nnx(to_nnx(net), TWO), net)
    np.testing.assert_allclose(to_nnx(net)(x), wanted, rtol=1e-12, atol=1e-13)
    save_network(net, tmp_path / "net.safetensors")
    assert_same_weights(load_network(tmp_path / "net.safetensors"), net)
    assert_same_weights(load_network(tmp_path / "net.safetensors", activation=TWO), net)


def test_a_network_is_smooth_if_all_its_layers_are():
    net = network((3, 4, 3, 2))
    assert with_activations(net, ACTIVATIONS["g"], ACTIVATIONS["tanh"]).smooth
    assert not with_activations(net, ACTIVATIONS["g"], ACTIVATIONS["relu"]).smooth


@pytest.mark.parametrize("n_layers", [1, 3])
def test_one_activation_for_each_hidden_layer_or_one_for_all(n_layers, key, tmp_path):
    named = "`activation` is one for all hidden layers, or one for each of 2; got"
    with pytest.raises(ValueError, match=f"{named} {n_layers}"):
        random_network((3, 4, 3, 2), ("tanh",) * n_layers, key=key)
    with pytest.raises(ValueError, match=f"{named} {n_layers}"):
        synthetic_teacher(3, (4, 3), 2, ("tanh",) * n_layers, key=key)
    save_network(network((3, 4, 3, 2)), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=f"{named} {n_layers}"):
        load_network(tmp_path / "net.safetensors", activation=("tanh",) * n_layers)


def test_symmetries_are_those_of_each_layers_neurons():
    told = symmetries(ACTIVATIONS["sigmoid"], 3)
    np.testing.assert_array_equal(told.parity, [-1, -1, -1])
    np.testing.assert_array_equal(told.constant, [1, 1, 1])
    assert not told.leaves_linear_map.any()
    assert symmetries(ACTIVATIONS["softplus"], 2).leaves_linear_map.all()
    assert np.isnan(told.antiperiod).all()


@pytest.mark.parametrize("change", [with_unit_vectors, lambda net: with_unit_pre_activations(net, queries(net))])
def test_norms_of_homogeneous_neurons_move_into_what_they_answer(change):
    """The function stays, also below and above layers that are not homogeneous, and above silent neurons."""
    net = with_activations(network((3, 4, 3, 2)), *(ACTIVATIONS[name] for name in ("relu", "tanh")))
    net = eqx.tree_at(lambda net: (net.layers[0].w, net.layers[0].b), net, (1e3 * net.layers[0].w, net.layers[0].b))
    net = jax.tree.map(lambda leaf: leaf.at[1].set(0.0) if leaf.shape[0] == 4 else leaf, net)
    changed = change(net)
    assert_same_function(changed, net)
    assert_same_weights(changed.layers[2], net.layers[2])
    hidden = changed.layers[0]
    norm = np.sqrt(np.sum(hidden.w**2, axis=1) + hidden.b**2)
    rms = np.sqrt(np.mean(np.asarray(hidden_states(changed, queries(net))[0].z) ** 2, axis=0))
    np.testing.assert_allclose(norm if change is with_unit_vectors else rms, [1, 0, 1, 1], rtol=1e-12)


def test_a_layer_is_padded_with_neurons_that_answer_nothing():
    net = network((3, 4, 2))
    wider = pad_neurons(net, 6, layer=0)
    assert wider.widths == (6,)
    assert_same_function(wider, net)
    assert_same_weights(take_neurons(wider, range(4), layer=0), net)
    with pytest.raises(ValueError, match="`width` is at least 4, that of hidden layer 0; got 3"):
        pad_neurons(net, 3, layer=0)


def test_activations_are_changed_and_the_weights_stay():
    net = network((3, 4, 3, 2))
    changed = with_activation(net, lambda one: ACTIVATIONS["relu"])
    assert changed.activations == (ACTIVATIONS["relu"],) * 2
    assert changed.output.activation == ACTIVATIONS["identity"]
    assert_same_weights(with_activation(changed, lambda one: ACTIVATIONS["tanh"]), net)


# --- Flax ------------------------------------------------------------------------------------------------------------


@given(case=CASES)
@settings(max_examples=10, deadline=None)
def test_through_flax_and_back(case):
    net = network(**case)
    module = to_nnx(net)
    x = queries(net)
    np.testing.assert_allclose(module(x), respond(net, x), rtol=1e-12, atol=1e-13)
    assert_same_weights(from_nnx(module, net.activations), net)


def test_a_flax_module_keeps_single_precision(key):
    net = drawn.network((3, 4, 2), "tanh", key=key, dtype=jnp.float32)
    assert to_nnx(net)(jnp.ones((1, 3), jnp.float32)).dtype == jnp.float32
    assert_same_weights(from_nnx(to_nnx(net), "tanh"), net)


class Declared(nnx.Module):
    """Attributes whose alphabetical order is not their order, a layer without bias, and one in a container."""

    def __init__(self, rngs):
        self.zeroth = nnx.Linear(3, 4, rngs=rngs)
        self.middle = nnx.List([nnx.Linear(4, 4, use_bias=False, rngs=rngs)])
        self.answer = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = jnp.tanh(self.zeroth(x))
        return self.answer(jnp.tanh(self.middle[0](x)))


def test_layers_of_a_flax_module_come_in_the_order_of_declaration():
    module = Declared(nnx.Rngs(0))
    net = from_nnx(module, "tanh")
    assert net.shape == (3, 4, 4, 2)
    x = jr.normal(jr.key(0), (5, 3), jnp.float32)
    np.testing.assert_allclose(respond(net, x), module(x), rtol=1e-5, atol=1e-6)


def test_flax_modules_that_are_no_chain_are_refused():
    class Fork(nnx.Module):
        def __init__(self, rngs):
            self.one, self.other = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(3, 4, rngs=rngs)

    with pytest.raises(ValueError, match="not one chain of layers"):
        from_nnx(Fork(nnx.Rngs(0)), "tanh")
    with pytest.raises(ValueError, match=r"has no nnx\.Linear layer"):
        from_nnx(nnx.Dropout(0.5), "tanh")


def test_a_stack_is_no_flax_module(key):
    with pytest.raises(ValueError, match="stack of students"):
        to_nnx(drawn.students(2, (3, 4, 2), "tanh", key=key))


# --- files -----------------------------------------------------------------------------------------------------------


def with_activations(net, *activations):
    """The same weights with these activations."""
    hidden = (replace(layer, activation=one) for layer, one in zip(net.hidden, activations, strict=True))
    return Network((*hidden, net.output))


def test_a_file_gives_back_what_was_saved(tmp_path):
    net = network((2, 4, 3, 1))
    for name, activation in ACTIVATIONS.items():
        save_network(with_activations(net, activation, ACTIVATIONS["tanh"]), tmp_path / "net.safetensors")
        again = load_network(tmp_path / "net.safetensors")
        assert again.activations == (ACTIVATIONS[name], ACTIVATIONS["tanh"])
        assert again.output.activation == ACTIVATIONS["identity"]
    assert_same_weights(again, with_activations(net, activation, ACTIVATIONS["tanh"]))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]  # nothing partial is left


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_stacks_and_precisions_survive_a_file(dtype, tmp_path, key):
    students = drawn.students(3, (2, 4, 1), "tanh", key=key, dtype=dtype)
    save_network(students, tmp_path / "students.safetensors")
    assert_same_weights(load_network(tmp_path / "students.safetensors"), students)


def test_transposed_weights_are_saved_as_they_read(tmp_path):
    """safetensors writes buffers as they lie in memory; a kernel of Flax is the transpose of our weights."""
    module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    save_network(from_nnx(module, "tanh"), tmp_path / "net.safetensors")
    np.testing.assert_array_equal(load_network(tmp_path / "net.safetensors").layers[0].w, module.kernel[...].T)


def test_an_activation_of_your_own_is_given_again_when_loading(tmp_path):
    mine = Activation(lambda z: z * jnp.tanh(z), "even", name="mine")
    net = network(activation=mine)
    save_network(net, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="your own activation 'mine': pass it as `activation`"):
        load_network(tmp_path / "net.safetensors")
    assert_same_function(load_network(tmp_path / "net.safetensors", activation=mine), net)


def test_float64_weights_are_not_rounded_in_silence(tmp_path):
    save_network(network(), tmp_path / "net.safetensors")
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64"):
        load_network(tmp_path / "net.safetensors")


def test_files_of_the_first_versions_name_one_activation_for_all_layers(tmp_path):
    net = network((2, 4, 3, 1), "softplus")
    arrays = {f"layers.{i}.{part}": getattr(layer, part) for i, layer in enumerate(net.layers) for part in "wb"}
    about = {"format": "ecjax.Network", "activation": "softplus"}
    write_arrays(tmp_path / "old.safetensors", arrays, about=about)
    assert_same_weights(load_network(tmp_path / "old.safetensors"), net)


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_network(network(seed=1), path)

    def power_cut(partial, whole):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("ecjax.base.files.os.replace", power_cut)
    with pytest.raises(OSError, match="no space left"):
        save_network(network(seed=2), path)
    assert_same_weights(load_network(path), network(seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]  # nothing partial is left


WRONG = {
    "not safetensors": lambda path: path.write_bytes(b"\x93NUMPY and more"),
    "cut short": lambda path: (save_network(network(), path), path.write_bytes(path.read_bytes()[:-8])),
    "empty": lambda path: path.write_bytes(b""),
    "another format": lambda path: save_file({"layers.0.w": np.zeros((2, 2)), "layers.0.b": np.zeros(2)}, path),
    "a tensor too many": lambda path: save_file(
        {"layers.0.w": np.zeros((2, 2)), "layers.0.b": np.zeros(2), "extra": np.zeros(1)},
        path,
        metadata={"format": "ecjax.Network", "activation": "tanh"},
    ),
    "no activation": lambda path: save_file(
        {"layers.0.w": np.zeros((2, 2)), "layers.0.b": np.zeros(2)}, path, metadata={"format": "ecjax.Network"}
    ),
    "nothing in it": lambda path: save_file({}, path, metadata={"format": "ecjax.Network", "activation": "tanh"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_files_that_are_no_network_are_refused(wrong, tmp_path):
    WRONG[wrong](tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"`path`: .* holds no ecjax network|is not a readable safetensors file"):
        load_network(tmp_path / "net.safetensors")


def test_networks_are_pytrees_whose_activation_is_static():
    """Same activation: one compilation. The gradient is a network too."""
    traces = []

    @jax.jit
    def loss(net, x):
        traces.append(1)
        return jnp.sum(respond(net, x) ** 2)

    for seed in range(3):
        loss(network(seed=seed), queries(network()))
    assert len(traces) == 1
    gradient = jax.grad(loss)(network(), queries(network()))
    assert gradient.shape == network().shape
    assert eqx.tree_equal(jax.tree.map(jnp.shape, gradient), jax.tree.map(jnp.shape, network()))

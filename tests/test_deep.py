"""Deep teachers, a hidden layer at a time: what is carried over, what comes out, and how an interrupted run goes on."""

from dataclasses import replace
from functools import cache

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.expand import Minibatch, Narrowing, expand
from ecjax.judge import Judge
from ecjax.network import permute_neurons, split_neuron, stack, student
from ecjax.network.moves import with_unit_vectors
from ecjax.reconstruct import Candidate, eliminate_in_all_layers
from ecjax.road.layers import upper_students
from ecjax.runs import StudentFiles

CONFIG = ec.RecoveryConfig.toy(
    8, 6, expand=ec.ExpandConfig(descent=ec.Stopping(max_steps=300)), finetune=ec.Stopping(max_steps=100)
)


@cache
def problem(shape=(3, 3, 2, 1), seed=0, n_samples=500):
    teacher_key, query_key = jr.split(jr.key(seed))
    teacher = drawn.teacher(shape[0], shape[1:-1], shape[-1], key=teacher_key)
    x = drawn.queries(n_samples, shape[0], key=query_key)
    return teacher, x, drawn.answers(teacher, x)


def recover(x, y, **settings):
    return ec.recover(
        x, y, **{"activation": "tanh", "hidden_layers": 2, "key": jr.key(5), "config": CONFIG, **settings}
    )


def as_candidate(net, samples):
    """A network as the answer to its first layer's reconstruction."""
    fan_in, *_, fan_out = net.shape
    return Candidate(net, np.zeros((fan_out, fan_in)), 0.0, Judge.of(samples), tuple(range(net.widths[0])))


# --- what is carried over ------------------------------------------------------------------------------------------


def test_outgoing_weights_are_carried_over_as_sums_over_copies_and_signs():
    """Students that hold the teacher's neurons permuted, split and flipped have the teacher's upper layers."""
    teacher, x, y = problem()
    split = split_neuron(split_neuron(teacher, 1, layer=0, share=0.3), 0, layer=0, share=-0.8)
    turned = permute_neurons(split_neuron(split_neuron(teacher, 2, layer=0), 3, layer=0), [4, 2, 0, 1, 3], layer=0)
    sign = jnp.array([1.0, -1.0, -1.0, 1.0, -1.0])
    hidden, following, *above = turned.layers
    flipped = ec.Network(
        (
            replace(hidden, w=sign[:, None] * hidden.w, b=sign * hidden.b),
            replace(following, w=following.w * sign[None]),
            *above,
        )
    )
    candidate = as_candidate(teacher, ec.Samples(x, y))
    students, features = upper_students(drawn.expansion(stack([split, flipped])), candidate, x, CONFIG, key=jr.key(0))
    np.testing.assert_allclose(features, jnp.tanh(x @ teacher.layers[0].w.T + teacher.layers[0].b[None]), atol=1e-14)
    for i in range(2):
        for got, wanted in zip(student(students, i).layers, teacher.layers[1:], strict=True):
            np.testing.assert_allclose(got.w, wanted.w, rtol=0, atol=1e-10)
            np.testing.assert_allclose(got.b, wanted.b, rtol=0, atol=1e-10)


def test_fresh_upper_students_are_drawn_again():
    teacher, x, y = problem()
    candidate = as_candidate(teacher, ec.Samples(x, y))
    config = replace(CONFIG, upper="fresh")
    students, features = upper_students(drawn.expansion(stack([teacher] * 3)), candidate, x, config, key=jr.key(0))
    assert students.shape == (3, 2, 1)
    assert features.shape == (500, 3)
    assert not np.allclose(students.layers[0].w[0], students.layers[0].w[1])


# --- the whole road ------------------------------------------------------------------------------------------------


@cache
def recovered(upper="carried"):
    """A recovery and the phases it told of; made once for all tests."""
    _, x, y = problem()
    told = []
    config = replace(CONFIG, upper=upper)
    return recover(x, y, config=config, progress=lambda phase, *_, **__: told.append(phase)), told


@pytest.mark.parametrize("upper", ["carried", pytest.param("fresh", marks=pytest.mark.slow)])
def test_a_deep_teacher_is_recovered(upper):
    teacher, x, y = problem()
    recovery, told = recovered(upper)
    comparison = ec.compare(recovery, teacher, x)
    assert recovery.is_exact
    assert recovery.widths == (3, 2)
    assert comparison.parameter_error < 1e-6
    assert recovery.certificate.certified
    assert len(recovery.expansions) == len(recovery.clusterings) == len(recovery.found_by) == 2
    assert recovery.expansions[1].students.shape == (3, 8, 1)
    assert {"expand", "expand 2", "cluster 2", "reconstruct 2", "finetune"} <= set(told)
    assert "Layer 2: 6 of 6 students did not diverge" in recovery.summary()
    with pytest.raises(ValueError, match="has 2 hidden layers: another cut"):
        ec.rebuild(recovery, recovery.clusterings[0], x, y)


@cache
def synthetic(activation, seed):
    """A synthetic teacher of two hidden layers, queries, what is wanted of its recovery, and that."""
    teacher_key, x_key, key = jr.split(jr.key(seed), 3)
    teacher = ec.synthetic_teacher(3, (3, 2), 1, activation, key=teacher_key)
    x = ec.gaussian_queries(500, 3, key=x_key)
    wanted = {"x": x, "y": ec.respond(teacher, x), "activation": activation, "key": key}
    return teacher, x, wanted, recover(**wanted)


def is_recovered(activation, seed) -> bool:
    """Whether all of it comes back."""
    teacher, x, _, recovery = synthetic(activation, seed)
    assert recovery.network.activations == teacher.activations
    found = recovery.widths == (3, 2) and ec.compare(recovery, teacher, x).parameter_error < 1e-6
    assert recovery.is_exact == found  # whatever it says, it is right
    return found


# Layers of one activation, and of two.
DEEP = ["g", "softplus", "relu", ("tanh", "softplus")]


@pytest.mark.slow
@pytest.mark.parametrize("activation", DEEP, ids=str)
def test_deep_teachers_of_other_activations_are_recovered(activation):
    assert is_recovered(activation, 0)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [*DEEP, "tanh", ("relu", "g")], ids=str)
def test_deep_teachers_are_recovered_whatever_the_key(activation):
    """Two of three at least: Levenberg-Marquardt from a fresh deep student may end in a minimum that is none."""
    assert sum(is_recovered(activation, seed) for seed in (1, 2, 3)) >= 2


def test_layers_of_two_activations_are_said(key):
    """What a summary, a file and a comparison say of a network whose layers differ."""
    net = drawn.network((3, 3, 2, 1), ("tanh", "softplus"), key=key)
    x = drawn.queries(100, 3, key=key)
    other = drawn.network((3, 3, 2, 1), ("softplus", "tanh"), key=key)
    assert ec.compare(net, net, x).parameter_error == 0
    with pytest.raises(ValueError, match="in hidden layer 1: weights compare only under one activation"):
        ec.compare(other, net, x)


@pytest.mark.slow
def test_an_interrupted_deep_recovery_ends_as_if_it_had_not_been(tmp_path):
    """Killed in the middle of each layer's training, with the students on disk; each layer has its own activation."""
    activations = ("tanh", "softplus")
    _, _, wanted, whole = synthetic(activations, 0)
    files = lambda: StudentFiles(tmp_path, whole.network.activations)

    def interrupt_at(phase, done):
        def progress(now, at, total, **_):
            if (now, at) == (phase, done):
                raise KeyboardInterrupt

        return progress

    for phase in ("expand", "expand 2"):
        store = files()
        with pytest.raises(KeyboardInterrupt):
            recover(**wanted, store=store, progress=interrupt_at(phase, 3))
        assert sum("student-" in name for name in store) == {"expand": 3, "expand 2": 9}[phase]
    assert store.describe(6) == "3 of 6 students of layer 2"
    resumed = recover(**wanted, store=files())
    parts = lambda recovery: jax.tree.leaves((recovery.network, recovery.expansions, recovery.clusterings))
    for got, wanted in zip(parts(resumed), parts(whole), strict=True):
        np.testing.assert_array_equal(got, wanted)
    names = [[each.name for each in expansion.students.activations] for expansion in resumed.expansions]
    assert names == [["tanh", "softplus"], ["softplus"]]


# --- mini-batches --------------------------------------------------------------------------------------------------

BATCHES = ec.RecoveryConfig.images(
    8,
    4,
    expand=ec.ExpandConfig(
        method="minibatch",
        minibatch=Minibatch(batch=50, learning_rate=1e-2, max_epochs=60, epochs_per_call=10, dtype="float32"),
    ),
    propose=False,
    cluster=ec.ClusterConfig(gamma=0.5, beta=np.pi / 2),
    exact_loss=None,
    finetune=ec.Stopping(max_steps=30, patience=10),
)


@pytest.mark.slow
def test_a_recovery_from_mini_batches_goes_on_bit_for_bit(tmp_path):
    teacher, x, y = problem((3, 2, 2), n_samples=400)
    told = []

    def run(store=None, stop_at=None):
        def progress(phase, done, total, epoch=None, **_):
            told.append(epoch)
            if stop_at is not None and epoch == stop_at:
                raise KeyboardInterrupt

        return ec.recover(x, y, activation="tanh", key=jr.key(1), config=BATCHES, store=store, progress=progress)

    whole = run()
    assert whole.expansion.history.shape == (60, 4)
    assert whole.expansion.students.layers[0].w.dtype == np.float64
    store = StudentFiles(tmp_path, teacher.activations)
    with pytest.raises(KeyboardInterrupt):
        run(store, stop_at=30)
    assert sorted(store) == ["epochs", "origin"]
    assert store.describe(4) == "30 epochs of 4 students"
    told.clear()
    resumed = run(StudentFiles(tmp_path, teacher.activations))
    assert [epoch for epoch in told if epoch] == [40, 50, 60]
    parts = lambda recovery: jax.tree.leaves((recovery.network, recovery.expansions, recovery.clusterings))
    for got, wanted in zip(parts(resumed), parts(whole), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow
def test_a_recovery_from_narrowing_students_goes_on_bit_for_bit(tmp_path):
    """Killed in the first training and in that after a narrowing."""
    teacher, x, y = problem((3, 2, 2), n_samples=400)
    narrowing = Narrowing(factor=0.5, room=1e3)
    config = replace(BATCHES, expand=replace(BATCHES.expand, narrowing=narrowing))
    told = []

    def run(store=None, stop_at=None):
        def progress(phase, done, total, epoch=None, **_):
            if phase == "expand":
                told.append(epoch)
            if stop_at is not None and len(told) == stop_at:
                raise KeyboardInterrupt

        return ec.recover(x, y, activation="tanh", key=jr.key(1), config=config, store=store, progress=progress)

    whole, n_calls = run(), len(told)
    assert whole.expansion.students.widths[0] in (2, 4)
    assert whole.expansion.history is not None
    assert len(whole.expansion.history) in (120, 180)
    for epochs in (30, 40):
        told.clear()
        store = StudentFiles(tmp_path, teacher.activations)
        with pytest.raises(KeyboardInterrupt):
            run(store, stop_at=epochs // 10)
    assert sorted(store) == ["epochs", "epochs-1", "origin"]
    assert store.describe(4) == "70 epochs of 4 students"
    told.clear()
    resumed = run(StudentFiles(tmp_path, teacher.activations))
    assert len(told) == n_calls - 7
    parts = lambda recovery: jax.tree.leaves((recovery.network, recovery.expansions, recovery.clusterings))
    for got, wanted in zip(parts(resumed), parts(whole), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_mini_batches_need_a_key():
    students = drawn.students(2, (3, 4, 2), "tanh", key=jr.key(0))
    samples = ec.Samples(drawn.queries(400, 3, key=jr.key(1)), drawn.normal(jr.key(2), (400, 2)))
    with pytest.raises(ValueError, match="`key` is needed for the shuffles"):
        expand(students, samples, config=ec.ExpandConfig(method="minibatch"))


def test_incoming_vectors_of_a_deep_relu_network_have_norm_one(key):
    net = drawn.network((3, 5, 4, 2), "relu", key=key)
    net = ec.Network(tuple(replace(layer, b=layer.b + 0.3) for layer in net.layers))
    x = drawn.queries(50, 3, key=key)
    unit = with_unit_vectors(net)
    np.testing.assert_allclose(ec.respond(unit, x), ec.respond(net, x), rtol=0, atol=1e-12)
    for layer in unit.layers[:-1]:
        np.testing.assert_allclose(np.sum(np.asarray(layer.w) ** 2, axis=1) + layer.b**2, 1, rtol=1e-12)


@pytest.mark.parametrize("layer", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_neurons_in_excess_are_taken_away_from_an_exact_network(layer):
    teacher, x, y = problem()
    wide, samples = split_neuron(teacher, 1, layer=layer, share=0.4), ec.Samples(x, y)
    tools = {"stop": CONFIG.finetune, "judge": Judge.of(samples)}
    slim, loss = eliminate_in_all_layers(wide, 1e-30, samples, **tools)
    assert slim.widths == teacher.widths
    assert tools["judge"].fits(loss)
    assert ec.compare(slim, teacher, x).parameter_error < 1e-6
    assert eliminate_in_all_layers(teacher, 0.0, samples, **tools)[0].widths == (3, 2)  # and no further

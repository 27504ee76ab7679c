"""Layers whose neurons have several activations: clustered group by group, recovered like any other."""

import dataclasses

import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.cluster import Clustering, MixedClustering, cluster_layer, cluster_neurons, second_moment
from ecjax.reconstruct.merge import merge

N_STUDENTS, N_TEACHER, FAN_IN = 6, 3, 4
KINDS = tuple(ec.ACTIVATIONS[name] for name in ("tanh", "softplus", "relu"))


def planted(rng, *, noise=1e-4, n_dust=2):
    """Students that hold the same vectors once for each activation, beside dust, in an order of their own.

    Returns:
        Weights, biases, the layer's activation, which students count, inputs, and the planted vectors (w, b).
    """
    teacher = rng.standard_normal((N_TEACHER, FAN_IN + 1))
    n_each = N_TEACHER + n_dust
    kind = rng.permutation(np.repeat(np.arange(len(KINDS)), n_each))  # of every neuron of a student
    vectors = rng.standard_normal((N_STUDENTS, len(kind), FAN_IN + 1))
    for k in range(len(KINDS)):
        at = np.flatnonzero(kind == k)[:N_TEACHER]
        vectors[:, at] = teacher + noise * rng.standard_normal((N_STUDENTS, N_TEACHER, FAN_IN + 1))
        vectors[:, at] *= rng.choice([-1.0, 1.0], (N_STUDENTS, N_TEACHER, 1))  # all three leave the sign open
    vectors[:, kind == 2] *= 10 ** rng.uniform(-2, 2, (N_STUDENTS, n_each, 1))  # and relu the scale
    counted = np.arange(N_STUDENTS) != 1
    vectors[1] = np.nan
    activation = ec.Mixture(tuple(KINDS[k] for k in kind))
    return vectors[..., :-1], vectors[..., -1], activation, counted, rng.normal(1, 2, (100, FAN_IN)), teacher


def clustered(rng, **settings):
    w, b, activation, counted, inputs, teacher = planted(rng)
    config = ec.ClusterConfig(gamma=0.8, **settings)
    found = cluster_layer(w, b, activation=activation, counted=counted, inputs=inputs, config=config)
    return found, activation, teacher


@pytest.mark.parametrize("metric", ["preactivation", "euclidean"])
def test_neurons_of_different_activations_never_share_a_cluster(metric):
    found, activation, teacher = clustered(np.random.default_rng(0), metric=metric)
    assert isinstance(found, MixedClustering)
    assert found.width == len(KINDS) * N_TEACHER
    kinds = [kind for kind, _ in activation.groups(len(activation.each))]
    unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
    partners = set()
    for k in found.kept_clusters:
        kind = kinds[found.group_of(k)]
        members = found.members(k)
        assert {activation.each[i % len(activation.each)] for i in members} == {kind}
        aligned = found.aligned(k)
        assert sorted(aligned.members) == list(members)
        np.testing.assert_array_equal(aligned.student, found.student[aligned.members])
        apart = 1 - np.abs(unit(aligned.vectors) @ unit(teacher).T)
        assert np.max(apart[:, np.argmin(apart[0])]) < 1e-6
        partners.add((kind.name, int(np.argmin(apart[0]))))
    assert partners == {(kind.name, i) for kind in KINDS for i in range(N_TEACHER)}


def test_what_is_told_of_the_layer_is_told_in_its_order():
    rng = np.random.default_rng(1)
    w, b, activation, counted, inputs, _ = planted(rng)
    found = cluster_layer(w, b, activation=activation, counted=counted, inputs=inputs)
    pooled = np.concatenate([w, b[..., None]], axis=-1)[counted].reshape(-1, FAN_IN + 1)
    np.testing.assert_array_equal(found.neurons, pooled)
    np.testing.assert_array_equal(found.student, np.repeat(np.flatnonzero(counted), len(activation.each)))
    assert found.fan_in_1 == FAN_IN + 1
    assert (found.n_students, found.needed) == (N_STUDENTS, 5)
    for k in range(len(found.verdict)):
        members = found.members(k)
        assert len(members) == found.n_vectors[k]
        assert len(np.unique(found.student[members])) == found.n_present[k]
    assert (found.label >= 0).sum() == found.n_vectors.sum()


def test_every_group_is_clustered_as_if_it_were_alone():
    w, b, activation, counted, inputs, _ = planted(np.random.default_rng(2))
    found = cluster_layer(w, b, activation=activation, counted=counted, inputs=inputs)
    first = 0
    for (kind, mine), group in zip(activation.groups(w.shape[1]), found.groups, strict=True):
        neurons = np.concatenate([w, b[..., None]], axis=-1)[counted][:, mine]
        alone = cluster_neurons(
            neurons.reshape(-1, FAN_IN + 1),
            np.repeat(np.flatnonzero(counted), len(mine)),
            n_students=N_STUDENTS,
            symmetry=kind.symmetry,
            moment=second_moment(inputs),
        )
        np.testing.assert_array_equal(group.label, alone.label)
        here = slice(first, first + len(alone.verdict))
        for name in ("n_present", "n_vectors", "median_angle", "spread", "merged_at", "stability", "kept"):
            np.testing.assert_array_equal(getattr(found, name)[here], getattr(alone, name))
        first = here.stop
    assert first == len(found.verdict)


def test_a_mixture_is_cut_again_as_its_groups_are():
    found, *_ = clustered(np.random.default_rng(3))
    again = ec.recut(found, gamma=0.5, beta=0.01)
    assert (again.config.gamma, again.needed) == (0.5, 3)
    for group, was in zip(again.groups, found.groups, strict=True):
        np.testing.assert_array_equal(group.label, ec.recut(was, gamma=0.5, beta=0.01).label)
    assert ec.recut(found, height=1e-9).width == 0
    with pytest.raises(ValueError, match="count"):
        ec.recut(found, n_clusters=9)
    grid = ec.suggest_gamma_beta(found, gammas=(0.1, 0.5, 0.8), betas=(0.01, 0.1))
    assert grid.widths.tolist() == [
        [ec.recut(found, gamma=gamma, beta=beta).width for beta in (0.01, 0.1)] for gamma in (0.5, 0.8)
    ]


def test_clusters_are_numbered_through_the_groups():
    found, *_ = clustered(np.random.default_rng(4))
    first, second, third = found.groups
    repeats = ("same neuron as cluster 0", *second.verdict[1:])
    numbered = dataclasses.replace(found, groups=(first, dataclasses.replace(second, verdict=repeats), third))
    assert numbered.verdict[len(first.verdict)] == f"same neuron as cluster {len(first.verdict)}"
    nothing = ec.recut(second, height=1e-9)
    assert len(nothing.verdict) == 0
    gap = dataclasses.replace(found, groups=(first, nothing, third))
    assert [gap.group_of(k) for k in range(len(gap.verdict))] == [0] * len(first.verdict) + [2] * len(third.verdict)
    assert {len(gap.aligned(k).members) for k in gap.kept_clusters} == {N_STUDENTS - 1}


def test_a_mixture_of_one_activation_is_a_plain_layer():
    w, b, _, counted, inputs, _ = planted(np.random.default_rng(5))
    both = [
        cluster_layer(w, b, activation=activation, counted=counted, inputs=inputs)
        for activation in (KINDS[0], ec.mixture(tanh=w.shape[1]))
    ]
    assert all(isinstance(found, Clustering) for found in both)
    assert both[1].groups == (both[1],)
    np.testing.assert_array_equal(both[0].label, both[1].label)


def test_merged_neurons_have_the_activation_of_their_cluster():
    found, activation, teacher = clustered(np.random.default_rng(6))
    neurons = merge(found, np.linspace(0, 1, N_STUDENTS), activation, clusters=found.kept_clusters)
    assert neurons.width == len(KINDS) * N_TEACHER
    counts = {kind.name: len(members) for kind, members in neurons.activation.groups(neurons.width)}
    assert counts == {kind.name: N_TEACHER for kind in KINDS}
    for kind, members in neurons.activation.groups(neurons.width):
        if kind.name != "relu":  # whose scale is open
            apart = np.abs(np.abs(neurons.vectors[members] @ teacher.T) - np.sum(teacher**2, axis=1))
            assert np.max(np.min(apart, axis=0)) < 1e-2


@pytest.mark.slow
def test_a_teacher_with_two_activations_is_recovered_exactly(key):
    teacher_key, x_key, key = jr.split(key, 3)
    teacher = ec.synthetic_teacher(4, 4, 1, ec.mixture(tanh=2, softplus=2), key=teacher_key)
    x = ec.gaussian_queries(1000, 4, key=x_key)
    recovery = ec.recover(
        x,
        ec.respond(teacher, x),
        activation=ec.mixture(tanh=8, softplus=8),
        config=ec.RecoveryConfig.toy(16, 10),
        key=key,
    )
    assert recovery.is_exact
    assert recovery.widths == (4,)
    kinds = {kind.name: len(members) for kind, members in recovery.network.layers[0].activation.groups(4)}
    assert kinds == {"tanh": 2, "softplus": 2}
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-8

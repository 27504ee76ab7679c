"""The cluster phase against independent slow implementations, laws and planted layers."""

import dataclasses
import importlib
import itertools
import json
import pkgutil

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_digits

from ecjax import cluster
from ecjax.cluster import (
    METRICS,
    ClusterConfig,
    Metric,
    cluster_neurons,
    condensed_distances,
    embed,
    recut,
    second_moment,
    suggest_gamma_beta,
)
from ecjax.cluster import cut as cutting
from ecjax.cluster.distances import pair_distances
from ecjax.cluster.members import median_angle
from ecjax.cluster.tree import tree
from ecjax.network import ACTIVATIONS, SYMMETRIES, Symmetry
from ecjax.runs.as_json import as_json, from_json

NONE, ODD = SYMMETRIES["none"], SYMMETRIES["odd"]
SIN, RELU = ACTIVATIONS["sin"].symmetry, ACTIVATIONS["relu"].symmetry
PHASE_ONLY = Symmetry(antiperiod=2.5)
EUCLIDEAN = ClusterConfig(metric="euclidean")
few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**32 - 1)


# --- slow, independent implementations --------------------------------------------------------------------------------


def slow_distance(u, v, symmetry, moment=None):
    """By enumeration of signs and phases, in extended precision."""
    u, v = u.astype(np.longdouble), v.astype(np.longdouble)
    found = []
    for sign in (1, -1) if symmetry.parity else (1,):
        for turn in range(-12, 13) if symmetry.antiperiod else (0,):
            difference = u - sign * v
            difference[-1] -= turn * (symmetry.antiperiod or 0)
            square = difference @ (difference if moment is None else moment @ difference)
            found.append(np.sqrt(square))
    return min(found)


def slow_average_linkage(distances):
    """Partitions after every merge, and heights: always the two sets with the smallest mean distance."""
    sets = [{i} for i in range(len(distances))]
    steps = []
    while len(sets) > 1:
        pairs = list(itertools.combinations(range(len(sets)), 2))
        means = [np.mean([distances[i, j] for i in sets[a] for j in sets[b]]) for a, b in pairs]
        a, b = pairs[int(np.argmin(means))]
        merged = sets[a] | sets[b]
        sets = [s for k, s in enumerate(sets) if k not in (a, b)] + [merged]
        steps.append((min(means), {frozenset(s) for s in sets}))
    return steps


def partition(labels):
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)}


def planted(rng, *, n_teacher=4, n_students=6, dim=5, noise=1e-4, n_dust=30, copies=(1, 2), flip=False):
    """Copies of unit teacher vectors and dust of the same norm; the teacher neuron of every vector, -1 for dust."""
    sphere = lambda n: (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(rng.standard_normal((n, dim)))
    teacher = sphere(n_teacher)
    x, student, truth = [sphere(n_dust)], [rng.integers(n_students, size=n_dust)], [np.full(n_dust, -1)]
    for s, k in itertools.product(range(n_students), range(n_teacher)):
        times = rng.choice(copies)
        x.append(teacher[k] + noise * rng.standard_normal((times, dim)) / np.sqrt(dim))
        student.append(np.full(times, s))
        truth.append(np.full(times, k))
    x, student, truth = np.concatenate(x), np.concatenate(student), np.concatenate(truth)
    if flip:
        x *= rng.choice([-1.0, 1.0], size=(len(x), 1))
    return x, student, truth


def found(clustering):
    return {frozenset(clustering.members(k).tolist()) for k in clustering.kept_clusters}


def wanted(truth):
    return partition(truth) - {frozenset(np.flatnonzero(truth == -1).tolist())}


# --- distances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetry", [NONE, ODD, SIN, PHASE_ONLY], ids=["none", "odd", "sin", "phase"])
@pytest.mark.parametrize("metric", ["euclidean", "preactivation"])
@given(seed=seeds)
@few
def test_distances_equal_enumeration(symmetry, metric, seed):
    rng = np.random.default_rng(seed)
    neurons, inputs = rng.normal(scale=2, size=(7, 4)), rng.normal(1, 2, size=(50, 3))
    moment = second_moment(inputs) if metric == "preactivation" else None
    got = condensed_distances(embed(neurons, metric=metric, symmetry=symmetry, moment=moment))
    slow = [slow_distance(u, v, symmetry, moment) for u, v in itertools.combinations(neurons, 2)]
    np.testing.assert_allclose(got, np.array(slow, float), rtol=1e-10)


def test_preactivation_distance_is_rms_difference_over_queries():
    rng = np.random.default_rng(0)
    inputs = np.column_stack([rng.normal(3, 2, (200, 3)), np.full(200, 0.7), np.zeros(200)])
    neurons = rng.normal(size=(6, 6))
    z = inputs @ neurons[:, :-1].T + neurons[:, -1]
    got = condensed_distances(embed(neurons, metric="preactivation", symmetry=NONE, moment=second_moment(inputs)))
    rms = [np.sqrt(np.mean((z[:, i] - z[:, j]) ** 2)) for i, j in itertools.combinations(range(6), 2)]
    np.testing.assert_allclose(got, rms, rtol=1e-10)


def test_inputs_that_never_vary_have_no_coordinate():
    rng = np.random.default_rng(1)
    inputs = np.column_stack([rng.normal(size=(100, 2)), np.full(100, 5.0)])
    points = embed(rng.normal(size=(4, 4)), metric="preactivation", symmetry=NONE, moment=second_moment(inputs))
    assert points.x.shape == (4, 3)  # two directions that vary, and the pre-activation at the mean input


@pytest.mark.parametrize(
    ("symmetry", "dim"),
    [
        *itertools.product((NONE, ODD, SIN), (3, 17)),
        (ODD, 785),
        *(pytest.param(one, 785, marks=pytest.mark.slow) for one in (NONE, SIN)),
    ],
)
def test_distances_are_accurate_for_every_pair(dim, symmetry):
    rng = np.random.default_rng(dim)
    n = 200 if dim < 100 else 80  # extended precision is slow
    base = rng.normal(size=(20, dim))
    scales = 10.0 ** rng.uniform(-15, 0, size=(n, 1))
    x = base[rng.integers(20, size=n)] + scales * rng.normal(size=(n, dim))
    if symmetry.parity:
        x *= rng.choice([-1.0, 1.0], size=(n, 1))
    x[-1] = x[0]
    got = squareform(condensed_distances(embed(x, metric="euclidean", symmetry=symmetry)))
    assert got[0, -1] == 0
    i, j = np.triu_indices(n, 1)
    u, v = x[i].astype(np.longdouble), x[j].astype(np.longdouble)
    squares = []
    for sign in (1, -1) if symmetry.parity else (1,):
        d = u - sign * v
        if symmetry.antiperiod:
            p = np.longdouble(symmetry.antiperiod)
            d[:, -1] -= p * np.round(d[:, -1] / p)
        squares.append(np.sum(d * d, axis=1))
    slow = np.sqrt(np.min(squares, axis=0))
    # What u - v itself has lost when u and v were rounded to float64 is not the kernel's.
    np.testing.assert_allclose(got[i, j], slow.astype(float), rtol=1e-12, atol=0)


def test_float32_distances_are_computed_in_float32():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 9)).astype(np.float32)
    x[30:] = x[:30] + 1e-4 * rng.normal(size=(30, 9)).astype(np.float32)
    got = condensed_distances(embed(x, metric="euclidean", symmetry=NONE))
    assert got.dtype == np.float32
    exact = condensed_distances(embed(x.astype(float), metric="euclidean", symmetry=NONE))
    np.testing.assert_allclose(got, exact, rtol=1e-4)


def test_cosine_is_one_minus_the_cosine():
    x = np.random.default_rng(0).normal(size=(9, 4))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(9, 1)]
    for symmetry, cosine in ((NONE, cosines), (ODD, abs(cosines))):
        got = condensed_distances(embed(x, metric="cosine", symmetry=symmetry))
        np.testing.assert_allclose(got, 1 - cosine, atol=1e-14)


def test_tiles_cover_more_than_one_tile_exactly_once(monkeypatch):
    x = np.random.default_rng(0).normal(size=(150, 3))
    monkeypatch.setattr("ecjax.cluster.distances.TILE", 64)
    tiled = condensed_distances(embed(x, metric="euclidean", symmetry=NONE))
    i, j = np.triu_indices(150, 1)
    np.testing.assert_allclose(tiled, pair_distances(embed(x, metric="euclidean", symmetry=NONE), i, j), rtol=1e-12)


def jitted_functions():
    """Every compiled function of the room, by name."""
    modules = [importlib.import_module(f"ecjax.cluster.{one.name}") for one in pkgutil.iter_modules(cluster.__path__)]
    named = {name: thing for module in modules for name, thing in vars(module).items() if hasattr(thing, "lower")}
    return {name: thing for name, thing in named.items() if not isinstance(thing, str)}


def test_no_product_is_left_to_the_precision_that_a_machine_likes_best():
    # Recent accelerators round the factors of a product to 10 bits unless told otherwise; no distance would hold.
    x, one = np.ones((64, 9), np.float32), np.ones(64, np.float32)
    symmetry = {"sign_free": True, "antiperiod": None, "cosine": False}
    calls = {
        "_product_tile": [((x, x, one, one), symmetry), ((x, x, one, one), symmetry | {"antiperiod": np.pi})],
        "_difference_pairs": [((x, x), symmetry)],
        "_smallest_squares": [((x, np.stack([x, x])), {})],
        "_tile_squares": [((x, np.stack([x, x])), {})],
    }
    assert set(jitted_functions()) == set(calls)
    for name, function in jitted_functions().items():
        for args, how in calls[name]:
            text = function.lower(*args, **how).as_text()
            products = [line for line in text.splitlines() if "dot_general" in line or "convolution" in line]
            assert len(products) == 0 if name == "_difference_pairs" else len(products) >= 1
            assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_a_tile_compiles_once():
    rng = np.random.default_rng(0)
    distances_of = lambda n: condensed_distances(embed(rng.normal(size=(n, 23)), metric="euclidean", symmetry=ODD))
    tiles = jitted_functions()["_product_tile"]
    before = tiles._cache_size()
    for n in (65, 100, 128):
        distances_of(n)
    assert tiles._cache_size() == before + 1


def test_float64_scope_leaves_no_trace():
    x = np.random.default_rng(0).normal(size=(40, 5))
    points = embed(x, metric="euclidean", symmetry=ODD)
    wide = condensed_distances(points)
    with jax.enable_x64(False):
        narrow = condensed_distances(points)
        assert jnp.zeros(1).dtype == np.float32
    assert narrow.dtype == np.float64
    np.testing.assert_array_equal(wide, narrow)


# --- dendrogram and cut -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetry", [NONE, ODD, SIN, RELU], ids=["none", "odd", "sin", "relu"])
@given(seed=seeds)
@few
def test_dendrogram_equals_slow_average_linkage(symmetry, seed):
    rng = np.random.default_rng(seed)
    x, student, _ = planted(rng, n_teacher=2, n_students=4, dim=3, noise=10 ** rng.uniform(-6, 0), n_dust=5)
    clustering = cluster_neurons(x, student, n_students=4, symmetry=symmetry, config=EUCLIDEAN)
    y = x / np.linalg.norm(x, axis=1, keepdims=True) if symmetry.homogeneous else x
    slow = np.array([[float(slow_distance(u, v, symmetry)) for v in y] for u in y])
    steps = slow_average_linkage(slow)
    np.testing.assert_allclose(clustering.linkage[:, 2], [height for height, _ in steps], rtol=1e-9)
    for height, sets in steps:
        assert partition(hierarchy.fcluster(clustering.linkage, height * (1 + 1e-9), "distance")) == sets


@given(seed=seeds, gamma=st.sampled_from([0.4, 0.5, 0.8, 1.0]))
@few
def test_curve_and_flat_cuts_equal_fcluster_at_every_height(seed, gamma):
    rng = np.random.default_rng(seed)
    x, student, _ = planted(rng, noise=10 ** rng.uniform(-6, 0))
    x[1] = x[0]  # a tie at height 0
    clustering = cluster_neurons(
        x, student, n_students=6, symmetry=NONE, config=dataclasses.replace(EUCLIDEAN, gamma=gamma)
    )
    needed = int(np.ceil(gamma * 6 - 1e-9))
    assert clustering.needed == needed
    dendrogram = tree(clustering.linkage, student, known_up_to=np.inf, far=1.0)
    by_vectors = cutting.curve(clustering.linkage, dendrogram.n_vectors, needed)
    assert clustering.curve.height[0] == 0
    assert set(clustering.linkage[:, 2]) <= set(clustering.curve.height)
    for k, height in enumerate(clustering.curve.height):
        labels = hierarchy.fcluster(clustering.linkage, height, "distance")
        sets = partition(labels)
        assert by_vectors.n_clusters[k] == sum(len(s) >= needed for s in sets)
        large = {s for s in sets if len(np.unique(student[list(s)])) >= needed}
        assert clustering.curve.n_clusters[k] == len(large)
        nodes = cutting.flat_cut(dendrogram, dendrogram.n_students, needed, height).nodes
        assert {frozenset(dendrogram.members(node).tolist()) for node in nodes} == large


def reference_procedure(x, needed, beta):
    """The published procedure from its description: every height tried, lists scanned. Kept sets, and the heights."""
    linkage = hierarchy.linkage(pdist(x), "average")
    best, best_sets, ended = -1, set(), False
    for height in np.unique(linkage[:, 2]):
        sets = {s for s in partition(hierarchy.fcluster(linkage, height, "distance")) if len(s) >= needed}
        if len(sets) > best:
            best, best_sets, ended = len(sets), sets, False
        elif len(sets) == best and not ended:
            best_sets = sets
        else:
            ended = True
    angle = lambda s: np.median(np.arccos(np.clip(1 - pdist(x[sorted(s)], "cosine"), -1, 1)))
    return {s for s in best_sets if angle(s) <= beta}, linkage[:, 2]


def equals_reference_procedure(x, student, n_students, linkage):
    config = ClusterConfig(metric="euclidean", policy="paper", linkage=linkage)
    ours = cluster_neurons(x, student, n_students=n_students, symmetry=NONE, config=config)
    kept, heights = reference_procedure(x, ours.needed, config.beta)
    narrow = np.flatnonzero(ours.median_angle <= config.beta)
    assert {frozenset(ours.members(k).tolist()) for k in narrow} == kept
    np.testing.assert_allclose(ours.linkage[:, 2], heights, rtol=1e-12)


def reference_case(seed, linkage):
    rng = np.random.default_rng(seed)
    x, student, _ = planted(rng, noise=10 ** rng.uniform(-6, -1), n_dust=int(rng.integers(5, 80)))
    equals_reference_procedure(x, student, 6, linkage)


@pytest.mark.parametrize("linkage", ["matrix", "components"])
@given(seed=seeds)
@few
def test_paper_policy_equals_the_reference_procedure(linkage, seed):
    reference_case(seed, linkage)


@pytest.mark.slow
@pytest.mark.parametrize("linkage", ["matrix", "components"])
@given(seed=seeds)
@settings(max_examples=1000, deadline=None)
def test_paper_policy_equals_the_reference_procedure_in_a_thousand_cases(linkage, seed):
    reference_case(seed, linkage)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["synthetic", "digits"])
def test_neurons_of_trained_students_are_clustered_as_by_the_reference(teacher, key):
    if teacher == "digits":
        x, y = load_digits(return_X_y=True)
        x, y, width = jnp.asarray(x / 16), jax.nn.one_hot(y, 10, dtype=float), 16
    else:
        x = jr.normal(key, (500, 4))
        y, width = jnp.tanh(x @ jr.normal(jr.fold_in(key, 1), (4, 4))).sum(axis=1, keepdims=True), 12

    def train(key):
        keys = jr.split(key, 2)
        shapes = (width, x.shape[1] + 1), (y.shape[1], width)
        start = tuple(jr.normal(k, s) / s[1] ** 0.5 for k, s in zip(keys, shapes, strict=True))
        loss = lambda p: jnp.mean((jnp.tanh(x @ p[0][:, :-1].T + p[0][:, -1][None, :]) @ p[1].T - y) ** 2)

        def step(state, _):  # momentum
            p, speed = state
            speed = jax.tree.map(lambda v, g: 0.95 * v - 0.02 * g, speed, jax.grad(loss)(p))
            return (jax.tree.map(jnp.add, p, speed), speed), None

        return jax.lax.scan(step, (start, jax.tree.map(jnp.zeros_like, start)), None, length=1500)[0][0][0]

    w = np.asarray(jax.jit(jax.vmap(train))(jr.split(jr.fold_in(key, 2), 10)))
    for linkage in ("matrix", "components"):
        equals_reference_procedure(w.reshape(-1, w.shape[-1]), np.repeat(np.arange(10), width), 10, linkage)


@pytest.mark.parametrize("gamma", [0.5, 0.6, 0.7, 0.8, 1.0])
@pytest.mark.parametrize("n_students", [5, 10, 20, 50])
def test_needed_students_are_not_rounded_down(gamma, n_students):
    from fractions import Fraction

    exact = Fraction(str(gamma)) * n_students
    assert cutting.n_needed(gamma, n_students) == -(-exact.numerator // exact.denominator)


def test_students_are_counted_below_every_node():
    rng = np.random.default_rng(0)
    x, student, _ = planted(rng)
    linkage = hierarchy.linkage(x, "average")
    dendrogram = tree(linkage, student, known_up_to=np.inf, far=1.0)
    for node in range(len(x), len(x) + len(linkage)):
        members = dendrogram.members(node)
        assert dendrogram.n_vectors[node] == len(members)
        assert dendrogram.n_students[node] == len(np.unique(student[members]))
        assert set(members) == set(np.concatenate([dendrogram.members(child) for child in dendrogram.children(node)]))


@pytest.mark.parametrize("policy", ["agreement", "stability", "plateau"])
@pytest.mark.parametrize("noise", [1e-9, 1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("n_dust", [2, 40, 160])
def test_planted_neurons_are_found_exactly_once_and_nothing_else(policy, noise, n_dust):
    rng = np.random.default_rng(7)
    x, student, truth = planted(rng, dim=9, noise=noise, n_dust=n_dust, flip=True)
    clustering = cluster_neurons(
        x, student, n_students=6, symmetry=ODD, config=ClusterConfig(metric="euclidean", policy=policy)
    )
    assert found(clustering) == wanted(truth)
    assert set(clustering.verdict) <= {"kept", "angles too wide"}


def test_two_copies_in_every_student_are_one_neuron():
    x, student, truth = planted(np.random.default_rng(3), copies=(2,), n_dust=10, noise=1e-3)
    clustering = cluster_neurons(x, student, n_students=6, symmetry=NONE, config=EUCLIDEAN)
    assert found(clustering) == wanted(truth)


def test_copies_in_one_student_are_no_evidence():
    x, student, _ = planted(np.random.default_rng(3), copies=(2,), n_dust=0, noise=1e-3)
    alone = np.where(student < 3, student, 0)  # six, then twelve copies, but from three students only
    clustering = cluster_neurons(x, alone, n_students=6, symmetry=NONE, config=EUCLIDEAN)
    assert clustering.width == 0


def test_heavy_tailed_spreads_keep_the_neuron_whole_and_its_neighbour_apart():
    rng = np.random.default_rng(0)
    teacher = np.array([[1.0, 0, 0, 0.2], [0.98, 0.1, 0, 0.2], [0, 0, 1.0, -0.4]])  # two of them 0.1 apart
    error = 10.0 ** np.array([-9, -9, -8, -8, -7, -7, -6, -5, -3, -2])[:, None, None]
    x = teacher + error * rng.standard_normal((10, 3, 4)) / 2
    clustering = cluster_neurons(
        x.reshape(-1, 4), np.repeat(np.arange(10), 3), n_students=10, symmetry=ODD, config=EUCLIDEAN
    )
    assert clustering.width == 3
    assert clustering.n_present[clustering.kept].min() >= 9


def test_a_cloud_around_a_tight_cluster_does_not_swallow_it():
    rng = np.random.default_rng(1)
    tight = np.array([1.0, 0, 0]) + 1e-6 * rng.standard_normal((6, 3))
    cloud = np.array([0.7, 0.7, 0]) + 0.3 * rng.standard_normal((6, 3))
    clustering = cluster_neurons(
        np.concatenate([tight, cloud]), np.tile(np.arange(6), 2), n_students=6, symmetry=NONE, config=EUCLIDEAN
    )
    assert frozenset(range(6)) in found(clustering)


def test_halves_found_by_different_students_are_one_neuron():
    rng = np.random.default_rng(2)
    halves = np.array([[1.0, 0, 0], [1.0, 0.05, 0]]).repeat(3, axis=0) + 1e-3 * rng.standard_normal((6, 3))
    other = np.array([0, 0, 1.0]) + 1e-3 * rng.standard_normal((6, 3))
    config = ClusterConfig(metric="euclidean", gamma=0.5)
    clustering = cluster_neurons(
        np.concatenate([halves, other]), np.tile(np.arange(6), 2), n_students=6, symmetry=NONE, config=config
    )
    assert found(clustering) == {frozenset(range(6)), frozenset(range(6, 12))}
    # Were both in every student, they would be two neurons of the teacher.
    both = np.concatenate([halves, halves + 1e-4, other])
    student = np.concatenate([[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5], np.arange(6)])
    assert cluster_neurons(both, student, n_students=6, symmetry=NONE, config=config).width == 3


def test_fixed_number_and_forced_height():
    x, student, truth = planted(np.random.default_rng(5))
    clustering = cluster_neurons(x, student, n_students=6, symmetry=NONE, config=EUCLIDEAN)
    assert found(recut(clustering, n_clusters=4)) == wanted(truth)
    assert found(recut(clustering, height=0.01)) == wanted(truth)
    assert recut(clustering, height=1e-9).width == 0
    with pytest.raises(ValueError, match="n_clusters"):
        recut(clustering, n_clusters=25)


# --- invariances ------------------------------------------------------------------------------------------------------


@given(seed=seeds, policy=st.sampled_from(["agreement", "stability", "paper", "plateau"]))
@few
def test_order_of_neurons_and_names_of_students_do_not_matter(seed, policy):
    rng = np.random.default_rng(seed)
    x, student, _ = planted(rng, noise=10 ** rng.uniform(-6, -1))
    config = ClusterConfig(metric="euclidean", policy=policy)
    before = cluster_neurons(x, student, n_students=6, symmetry=ODD, config=config)
    order, names = rng.permutation(len(x)), rng.permutation(6)
    after = cluster_neurons(x[order], names[student[order]], n_students=6, symmetry=ODD, config=config)
    assert {frozenset(order[list(members)].tolist()) for members in found(after)} == found(before)
    np.testing.assert_allclose(np.sort(after.median_angle), np.sort(before.median_angle), rtol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "softplus", "relu", "cos", "sigmoid"])
@given(seed=seeds)
@few
def test_sign_does_not_matter_where_the_activation_leaves_it_open(name, seed):
    rng = np.random.default_rng(seed)
    x, student, _ = planted(rng, noise=10 ** rng.uniform(-6, -1))
    symmetry = ACTIVATIONS[name].symmetry
    before = cluster_neurons(x, student, n_students=6, symmetry=symmetry, config=EUCLIDEAN)
    flipped = x * rng.choice([-1.0, 1.0], size=(len(x), 1))
    after = cluster_neurons(flipped, student, n_students=6, symmetry=symmetry, config=EUCLIDEAN)
    np.testing.assert_allclose(after.linkage[:, 2], before.linkage[:, 2], rtol=1e-12)
    np.testing.assert_array_equal(after.label, before.label)
    np.testing.assert_array_equal(after.kept, before.kept)


def test_a_cluster_across_a_sign_change_of_its_first_component_is_whole():
    rng = np.random.default_rng(0)
    neuron = np.array([0.0, 1.0, 0.3])  # a flip by the sign of the first component would tear its copies in two
    x = neuron + 1e-3 * rng.standard_normal((8, 3))
    clustering = cluster_neurons(x, np.arange(8), n_students=8, symmetry=ODD, config=EUCLIDEAN)
    assert found(clustering) == {frozenset(range(8))}


@pytest.mark.parametrize("symmetry", [NONE, ODD, RELU], ids=["none", "odd", "relu"])
def test_a_duplicated_student_changes_no_neuron(symmetry):
    x, student, truth = planted(np.random.default_rng(2), dim=8)
    again = student == 0
    clustering = cluster_neurons(
        np.concatenate([x, x[again]]),
        np.concatenate([student, np.full(again.sum(), 6)]),
        n_students=7,
        symmetry=symmetry,
        config=EUCLIDEAN,
    )
    assert found(clustering) == wanted(np.concatenate([truth, truth[again]]))


@given(scale=st.floats(1e-6, 1e6), seed=seeds)
@few
def test_units_do_not_matter(scale, seed):
    x, student, _ = planted(np.random.default_rng(seed))
    before = cluster_neurons(x, student, n_students=6, symmetry=ODD, config=EUCLIDEAN)
    after = cluster_neurons(scale * x, student, n_students=6, symmetry=ODD, config=EUCLIDEAN)
    assert found(before) == found(after)
    np.testing.assert_allclose(after.stability, before.stability, rtol=1e-6)


def test_homogeneous_neurons_are_compared_without_their_norm():
    rng = np.random.default_rng(4)
    x, student, truth = planted(rng, dim=8, noise=1e-4)
    scaled = x * 10 ** rng.uniform(-3, 3, size=(len(x), 1))
    assert found(cluster_neurons(scaled, student, n_students=6, symmetry=RELU, config=EUCLIDEAN)) == wanted(truth)
    assert found(cluster_neurons(scaled, student, n_students=6, symmetry=ODD, config=EUCLIDEAN)) != wanted(truth)


def test_a_homogeneous_neuron_of_any_scale_is_alive_and_found():
    rng = np.random.default_rng(4)
    x, student, truth = planted(rng, dim=8, noise=1e-4)
    scaled = x * 10 ** rng.uniform(-40, 40, size=(len(x), 1))  # as outgoing weights may make good for
    inputs = rng.normal(size=(100, 7))
    for config, moment in ((EUCLIDEAN, None), (ClusterConfig(), second_moment(inputs))):
        clustering = cluster_neurons(scaled, student, n_students=6, symmetry=RELU, moment=moment, config=config)
        assert found(clustering) == wanted(truth)
        assert not clustering.points().dead.any()


def test_phases_are_compared_modulo_the_period():
    rng = np.random.default_rng(4)
    x, student, truth = planted(rng, dim=6, noise=1e-4, flip=True)
    x[:, -1] += np.pi * rng.integers(-3, 4, size=len(x))
    assert found(cluster_neurons(x, student, n_students=6, symmetry=SIN, config=EUCLIDEAN)) == wanted(truth)


# --- filters and alignment --------------------------------------------------------------------------------------------


def test_dead_and_constant_neurons_fail():
    rng = np.random.default_rng(0)
    x, student, truth = planted(rng, n_dust=0)
    nil = np.concatenate([np.zeros((6, 5)), np.tile([0, 0, 0, 0, 0.7], (6, 1))])  # zero, and constant, in every student
    for symmetry in (NONE, ODD, RELU):
        clustering = cluster_neurons(
            np.concatenate([x, nil]),
            np.concatenate([student, np.arange(6), np.arange(6)]),
            n_students=6,
            symmetry=symmetry,
            config=EUCLIDEAN,
        )
        assert found(clustering) == wanted(np.concatenate([truth, np.full(12, -1)]))
        assert clustering.verdict.count("dead") == 2


def test_median_angle_in_closed_form():
    angles = np.array([0.0, 0.1, 0.3])  # pairs 0.1, 0.2, 0.3
    x = np.column_stack([np.cos(angles), np.sin(angles)])
    assert median_angle(x, np.zeros(3, bool)) == pytest.approx(0.2, rel=1e-12)
    assert median_angle(-x * [[1], [-1], [1]], np.zeros(3, bool), sign_free=True) == pytest.approx(0.2, rel=1e-12)
    assert median_angle(x, np.array([False, True, True])) == np.pi
    assert np.isnan(median_angle(x[:1], np.zeros(1, bool)))
    tiny = np.array([[1.0, 0.0], [1.0, 1e-12]])
    assert median_angle(tiny, np.zeros(2, bool)) == pytest.approx(1e-12, rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "relu", "abs", "sin", "cos", "gaussian", "g"])
def test_aligned_members_are_one_neuron_with_the_outgoing_weights_told(name):
    rng = np.random.default_rng(6)
    activation = ACTIVATIONS[name]
    symmetry = activation.symmetry
    x, student, _ = planted(rng, n_dust=0, noise=1e-9, flip=symmetry.is_sign_free)
    if symmetry.antiperiod:
        x[:, -1] += symmetry.antiperiod * rng.integers(-2, 3, size=len(x))
    if symmetry.homogeneous:
        x *= rng.uniform(0.1, 10, size=(len(x), 1))
    clustering = cluster_neurons(x, student, n_students=6, symmetry=symmetry, config=EUCLIDEAN)
    assert clustering.width == 4
    inputs = rng.normal(size=(30, 4))
    for k in clustering.kept_clusters:
        aligned = clustering.aligned(k)
        np.testing.assert_allclose(
            aligned.vectors, np.broadcast_to(aligned.vectors[0], aligned.vectors.shape), atol=1e-7
        )
        before, after = (
            np.asarray(activation(jnp.asarray(inputs @ w[:, :-1].T + w[:, -1])))
            for w in (x[aligned.members], aligned.vectors)
        )
        factor = aligned.scale * (-1.0) ** aligned.turns
        flipped = aligned.sign < 0
        law = after * factor * np.where(flipped, symmetry.parity, 1)
        law += flipped * (
            symmetry.constant + symmetry.linear * -(inputs @ x[aligned.members, :-1].T + x[aligned.members, -1])
        )
        np.testing.assert_allclose(before, law, atol=1e-9)


def test_strays_come_last_in_an_aligned_cluster():
    rng = np.random.default_rng(0)
    x = np.array([1.0, 2.0, 0.5]) + 1e-6 * rng.standard_normal((8, 3))
    x[3] += 0.05
    clustering = cluster_neurons(
        x, np.arange(8), n_students=8, symmetry=NONE, config=dataclasses.replace(EUCLIDEAN, gamma=1)
    )
    assert clustering.aligned(0).members[-1] == 3


def test_directions_are_looked_for_once_a_clustering(monkeypatch):
    x, student, _ = planted(np.random.default_rng(8))
    calls, eigh = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda *args: calls.append(1) or eigh(*args))
    moment = second_moment(np.random.default_rng(0).normal(size=(50, 4)))
    clustering = cluster_neurons(x, student, n_students=6, symmetry=ODD, moment=moment)
    assert clustering.width == 4
    whole = [clustering.aligned(k) for k in clustering.kept_clusters]
    recut(recut(clustering, gamma=0.5), beta=0.3).aligned(0)
    suggest_gamma_beta(clustering)
    assert len(calls) == 1
    from_file = dataclasses.replace(clustering, n_students=6)  # a record made of its fields alone
    assert not [name for name in ("all_points",) if name in {field.name for field in dataclasses.fields(from_file)}]
    for k, before in zip(from_file.kept_clusters, whole, strict=True):
        np.testing.assert_array_equal(from_file.aligned(k).vectors, before.vectors)
    assert len(calls) == 2


def test_recut_links_nothing_and_only_tightens(monkeypatch):
    x, student, _ = planted(np.random.default_rng(8), noise=0.02)
    clustering = cluster_neurons(x, student, n_students=6, symmetry=ODD, config=EUCLIDEAN)
    monkeypatch.setattr("ecjax.cluster.clustering.link", lambda *_, **__: pytest.fail("linked again"))
    same = recut(clustering)
    np.testing.assert_array_equal(same.label, clustering.label)
    assert same.verdict == clustering.verdict
    widths = [recut(clustering, beta=beta).width for beta in (0.001, 0.01, 0.02, 0.1, 0.5)]
    assert widths == sorted(widths)
    assert widths[0] == 0
    assert widths[-1] >= 4
    assert recut(clustering, gamma=1.0).config.gamma == 1.0
    assert recut(clustering, policy="paper").config.beta == clustering.config.beta


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 0}, "gamma"),
        ({"gamma": 1.1}, "gamma"),
        ({"beta": 0}, "radians"),
        ({"beta": 2}, "radians"),
        ({"metric": "manhattan"}, "metric"),
        ({"policy": "best"}, "policy"),
        ({"policy": "count"}, "n_clusters"),
        ({"n_clusters": 3}, "n_clusters"),
        ({"policy": "height", "height": -1.0}, "height"),
        ({"resolution": 0}, "resolution"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_config_refuses_what_makes_no_sense(change, message):
    with pytest.raises(Exception, match=message):
        ClusterConfig(**change)


def test_settings_know_metrics_by_name_or_carry_them():
    halved = Metric("halved", lambda neurons, moment: neurons / 2)
    for metric, is_kept_as in (("cosine", "cosine"), (METRICS["cosine"], "cosine"), (halved, halved)):
        config = ClusterConfig(metric=metric)
        assert config.metric == is_kept_as
        assert hash(config) == hash(ClusterConfig(metric=metric))
        assert f"{config.metric}" in ("cosine", "halved")  # as figures have it
        assert f"{from_json(ClusterConfig, json.loads(json.dumps(as_json(config)))).metric}" == f"{config.metric}"
    x, student, _ = planted(np.random.default_rng(0))
    whole = cluster_neurons(x, student, n_students=6, symmetry=NONE, config=EUCLIDEAN)
    half = cluster_neurons(x, student, n_students=6, symmetry=NONE, config=ClusterConfig(metric=halved))
    np.testing.assert_allclose(half.linkage[:, 2], whole.linkage[:, 2] / 2, rtol=1e-12)
    # A file can only name the function: what was found is told, but nothing is measured again.
    read = from_json(ClusterConfig, json.loads(json.dumps(as_json(half.config))))
    assert f"{read.metric}" == "halved"
    again = dataclasses.replace(half, config=read)
    assert again.width == half.width
    with pytest.raises(ValueError, match="'halved' is known by name only"):
        again.aligned(0)


def test_a_metric_that_makes_no_sense_is_refused():
    x, student, _ = planted(np.random.default_rng(0))
    for message, coordinates, symmetry in (
        ("period", lambda neurons, moment: neurons, SIN),
        ("row of coordinates", lambda neurons, moment: neurons[:3], NONE),
        ("not finite", lambda neurons, moment: np.full_like(neurons, np.nan), NONE),
    ):
        config = ClusterConfig(metric=Metric("mine", coordinates))
        with pytest.raises(ValueError, match=message):
            cluster_neurons(x, student, n_students=6, symmetry=symmetry, config=config)


def test_bad_input_is_named():
    x, student, _ = planted(np.random.default_rng(0))
    ask = lambda neurons=x, student=student, n_students=6, symmetry=NONE, config=EUCLIDEAN, **more: cluster_neurons(
        neurons, student, n_students=n_students, symmetry=symmetry, config=config, **more
    )
    broken = x.copy()
    broken[2, 1] = np.nan
    for message, case in {
        "NaN": {"neurons": broken},
        "`neurons`": {"neurons": x[:1], "student": student[:1]},
        "`student`": {"n_students": 5},
        "polynomial": {"symmetry": SYMMETRIES["polynomial"]},
        "`gamma`": {"config": ClusterConfig(metric="euclidean", gamma=0.2)},
        "`moment` is needed": {"config": ClusterConfig()},
        "`moment` is a finite": {"config": ClusterConfig(), "moment": np.full((5, 5), np.nan)},
        "`moment` has 1": {"config": ClusterConfig(), "moment": 2 * np.eye(5)},
        "period": {"symmetry": SIN, "config": ClusterConfig(metric="cosine")},
    }.items():
        with pytest.raises(ValueError, match=message):
            ask(**case)


def test_second_moment_is_that_of_the_inputs_with_a_one_appended():
    x = np.random.default_rng(0).normal(size=(20_000, 3))
    ones = np.column_stack([x, np.ones(len(x))])
    np.testing.assert_allclose(second_moment(x), ones.T @ ones / len(x), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="at least one sample"):
        second_moment(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="NaN"):
        second_moment(np.array([[np.nan]]))

"""The cluster phase without the whole distance matrix: the dendrogram of all distances, as far as it claims."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from ecjax.cluster import ClusterConfig, cluster_neurons, condensed_distances, embed, recut, suggest_gamma_beta
from ecjax.cluster import members as filtering
from ecjax.cluster.balls import cover, tight_cover
from ecjax.cluster.distances import nearest_distances
from ecjax.cluster.link import link, matrix_memory
from ecjax.cluster.linkage import dendrogram, merges_of, weighted_linkage
from ecjax.cluster.means import mean_distances, square_distances
from ecjax.cluster.members import median_angle, member_distances
from ecjax.cluster.neighbours import bound, components, farthest_radius
from ecjax.cluster.tree import tree
from ecjax.network import ACTIVATIONS, SYMMETRIES

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)
ACTIVATION_NAMES = ["g", "tanh", "sin", "relu"]


def layer(rng, *, n_teacher=12, n_students=6, dim=6, noise=1e-3, n_dust=80, flip=False):
    teacher = rng.standard_normal((n_teacher, dim))
    x = teacher.repeat(n_students, axis=0)
    x += noise * 10 ** rng.uniform(-3, 0, (len(x), 1)) * rng.standard_normal(x.shape)
    x = np.concatenate([x, rng.standard_normal((n_dust, dim))])
    student = np.concatenate([np.tile(np.arange(n_students), n_teacher), rng.integers(n_students, size=n_dust)])
    if flip:
        x *= rng.choice([-1.0, 1.0], (len(x), 1))
    order = rng.permutation(len(x))
    return x[order], student[order]


def points_of(x, name="g", metric="euclidean"):
    return embed(x, metric=metric, symmetry=ACTIVATIONS[name].symmetry)


def sets_up_to(linkage, n, height):
    forest = tree(linkage, np.zeros(n, int), known_up_to=np.inf, far=1.0)
    standing = (forest.height <= height) & ((forest.parent < 0) | (forest.height[forest.parent] > height))
    return {frozenset(forest.members(node).tolist()) for node in np.flatnonzero(standing)}


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
@pytest.mark.parametrize("dim", [3, 80])
@given(seed=seeds)
@few
def test_the_bound_never_exceeds_the_distance(name, dim, seed):
    rng = np.random.default_rng(seed)
    points = points_of(rng.standard_normal((40, dim)) * rng.uniform(0.1, 5, (40, 1)), name)
    i, j = np.triu_indices(40, 1)
    at, true = bound(points), condensed_distances(points)
    assert np.all(at.pairs(i, j) <= true * (1 + 1e-9))
    assert np.all(at.pairs(i, j, 2) <= at.pairs(i, j) * (1 + 1e-9))


SHARES = (1e-4, 0.02, 0.3)


@pytest.mark.parametrize(
    ("share", "dim", "name"),
    [
        *((0.02, 3, name) for name in ACTIVATION_NAMES),
        *((share, 80, "tanh") for share in SHARES if share != 0.02),
        *(
            pytest.param(share, dim, name, marks=pytest.mark.slow)
            for share, dim, name in itertools.product(SHARES, (3, 80), ACTIVATION_NAMES)
            if (share, dim) != (0.02, 3) and ((dim, name) != (80, "tanh") or share == 0.02)
        ),
    ],
)
def test_components_equal_those_of_all_distances(name, dim, share, monkeypatch):
    monkeypatch.setattr("ecjax.cluster.neighbours.TILE", 64)  # many tiles, so that bands and strips are met
    monkeypatch.setattr("ecjax.cluster.neighbours._PENDING", 50)
    x, _ = layer(np.random.default_rng(dim), dim=dim, n_dust=400, flip=True)
    points = points_of(x, name)
    distances = condensed_distances(points)
    radius = float(np.quantile(distances, share))
    slow = connected_components(squareform(distances) <= radius, directed=False)[1]
    got = components(points, bound(points), radius)
    assert len(np.unique(got)) == len(np.unique(slow))
    assert len(np.unique(np.stack([got, slow]), axis=1).T) == len(np.unique(slow))


@given(seed=seeds)
@few
def test_weighted_linkage_continues_a_dendrogram_exactly(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, 4))
    whole = hierarchy.linkage(x, "average")
    height = whole[int(rng.integers(5, 50)), 2]
    label = hierarchy.fcluster(whole, height, "distance") - 1
    names = np.array([np.flatnonzero(label == k)[0] for k in range(label.max() + 1)])
    share = (label[:, None] == np.arange(label.max() + 1)) / np.bincount(label)
    means = share.T @ squareform(pdist(x)) @ share
    a, b, heights = weighted_linkage(means, np.bincount(label))
    below = whole[whole[:, 2] <= height]
    again = dendrogram(60, [merges_of(below, np.arange(60)), (names[a], names[b], heights)])
    assert hierarchy.is_valid_linkage(again)
    np.testing.assert_allclose(again[:, 2:], whole[:, 2:], rtol=1e-12)


@pytest.mark.parametrize("n_clusters", [5, 40, 150])
def test_mean_distances_of_clusters_across_tiles(n_clusters, monkeypatch):
    monkeypatch.setattr("ecjax.cluster.distances.TILE", 64)
    rng = np.random.default_rng(n_clusters)
    x = rng.standard_normal((200, 4))
    label = np.concatenate([np.arange(n_clusters), rng.integers(n_clusters // 2, n_clusters, 200 - n_clusters)])
    order = np.argsort(np.bincount(label), kind="stable")
    cluster, sizes = np.argsort(order)[label], np.sort(np.bincount(label))
    share = (cluster[:, None] == np.arange(n_clusters)) / sizes
    slow = share.T @ squareform(pdist(x)) @ share
    got = mean_distances(points_of(x), cluster, sizes)
    np.testing.assert_array_equal(got, got.T)
    np.testing.assert_allclose(got, slow - np.diag(np.diag(slow)), rtol=1e-12)
    np.testing.assert_allclose(square_distances(points_of(x)), squareform(pdist(x)), rtol=1e-12)


def test_weighted_linkage_drops_dead_rows_on_the_way():
    x = np.random.default_rng(0).standard_normal((700, 3))  # enough for two compactions
    a, b, heights = weighted_linkage(squareform(pdist(x)), np.ones(700, int))
    whole = hierarchy.linkage(x, "average")
    np.testing.assert_allclose(dendrogram(700, [(a, b, heights)])[:, 2:], whole[:, 2:], rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_distances_within_a_cluster_are_as_accurate_as_elsewhere(name):
    rng = np.random.default_rng(0)
    for members, noise in ((20, 1e-9), (90, 1e-6), (90, 1.0)):
        x = np.ones(7) + noise * 10 ** rng.uniform(-6, 0, (members, 1)) * rng.standard_normal((members, 7))
        x *= rng.choice([-1.0, 1.0], (members, 1)) if ACTIVATIONS[name].symmetry.is_sign_free else 1.0
        points = points_of(x, name)
        np.testing.assert_allclose(
            member_distances(points, np.arange(members)), condensed_distances(points), rtol=1e-11
        )


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("members", [20, 90])
def test_a_phase_may_bring_the_other_sign_nearer(name, members):
    # With small weights and a bias of half an antiperiod, (w, b) and (-w, -b) are nearly the same neuron.
    x = np.array([0.05, 0.0, np.pi / 2]) + 0.2 * np.random.default_rng(0).uniform(-1, 1, (members, 3))
    points = points_of(x, name)
    np.testing.assert_allclose(member_distances(points, np.arange(members)), condensed_distances(points), rtol=1e-11)


def test_nearest_distances():
    x = np.random.default_rng(0).standard_normal((90, 3))
    x[7] = x[3]
    distances = squareform(pdist(x)) + np.diag(np.full(90, np.inf))
    rows = np.array([0, 3, 50])
    np.testing.assert_allclose(nearest_distances(points_of(x), rows), distances[rows].min(axis=1), rtol=1e-12)


def test_median_angle_of_huge_clusters_is_exact(monkeypatch):
    rng = np.random.default_rng(0)
    dead = np.zeros(101, bool)
    for x in (
        rng.standard_normal((101, 3)),
        np.ones(3) + 1e-5 * rng.standard_normal((101, 3)),
        np.eye(3).repeat(40, 0)[:101],
    ):
        for sign_free in (False, True):
            monkeypatch.setattr(filtering, "_WHOLE", 4096)
            at_once = median_angle(x, dead, sign_free=sign_free)
            monkeypatch.setattr(filtering, "_WHOLE", 20)
            assert median_angle(x, dead, sign_free=sign_free) == pytest.approx(at_once, rel=1e-12)


def test_dead_members_count_as_the_widest_angle():
    x = np.ones((4, 2)) + 1e-3 * np.random.default_rng(0).standard_normal((4, 2))
    assert median_angle(x, np.array([False, False, False, True])) == np.pi  # 3 of 6 pairs: up to the middle
    assert median_angle(x, np.array([False, False, True, True])) == np.pi


# --- the dendrogram ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        *((name, "euclidean") for name in ACTIVATION_NAMES),
        ("tanh", "cosine"),
        *(pytest.param(name, "cosine", marks=pytest.mark.slow) for name in ("g", "relu")),
    ],
)
@given(seed=seeds, noise=st.sampled_from([1e-6, 1e-3, 1e-1]))
@settings(max_examples=8, deadline=None)
def test_components_give_the_dendrogram_of_all_distances(name, metric, seed, noise):
    x, _ = layer(np.random.default_rng(seed), noise=noise, flip=True)
    points = points_of(x, name, metric)
    whole = hierarchy.linkage(condensed_distances(points), "average")
    ours = link(points, method="components", memory=1.0, resolution=1e-3)
    assert ours.known_up_to == np.inf
    assert ours.height_error == 0
    assert hierarchy.is_valid_linkage(ours.linkage)
    np.testing.assert_allclose(ours.linkage[:, 2], whole[:, 2], rtol=1e-12)
    for height in np.quantile(whole[:, 2], [0.2, 0.4, 0.6, 0.8]) * (1 + 1e-9):
        assert sets_up_to(ours.linkage, len(x), height) == sets_up_to(whole, len(x), height)


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_what_does_not_fit_is_cut_off_and_said(name):
    x, student = layer(np.random.default_rng(0), flip=ACTIVATIONS[name].symmetry.is_sign_free)
    points = points_of(x, name)
    whole = hierarchy.linkage(condensed_distances(points), "average")
    ours = link(points, method="components", memory=5e-5, resolution=1e-3)
    assert 0 < ours.known_up_to < np.inf
    assert "not linked further" in ours.how
    k = len(ours.linkage)
    assert whole[k - 1, 2] <= ours.known_up_to < whole[k, 2]  # all merges up to there, and none above
    np.testing.assert_allclose(ours.linkage[:, 2:], whole[:k, 2:], rtol=1e-12)
    config = ClusterConfig(metric="euclidean", linkage="components", memory=5e-5)
    symmetry = ACTIVATIONS[name].symmetry
    found = cluster_neurons(x, student, n_students=6, symmetry=symmetry, config=config)
    full = cluster_neurons(x, student, n_students=6, symmetry=symmetry, config=ClusterConfig(metric="euclidean"))
    assert found.known_up_to == ours.known_up_to
    assert full.how != found.how
    of = lambda c: {frozenset(c.members(k).tolist()) for k in c.kept_clusters}
    assert of(found) == of(full)
    assert len(of(full)) == 12


def keeps_its_bound(linked, points):
    """Every height is within `height_error` of the mean distance between the two clusters that it merges."""
    square = squareform(condensed_distances(points))
    assert hierarchy.is_valid_linkage(linked.linkage)
    forest = tree(linked.linkage, np.zeros(len(points), int), known_up_to=np.inf, far=1.0)
    for node in range(len(points), len(forest.height)):
        a, b = (forest.members(child) for child in forest.children(node))
        assert abs(forest.height[node] - square[np.ix_(a, b)].mean()) <= linked.height_error * (1 + 1e-9) + 1e-12
    return True


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
@given(seed=seeds, noise=st.sampled_from([1e-4, 1e-2, 1e-1]))
@settings(max_examples=8, deadline=None)
def test_balls_keep_their_bound(name, seed, noise):
    x, _ = layer(np.random.default_rng(seed), n_teacher=5, n_dust=30, noise=noise, flip=True)
    points = points_of(x, name)
    ours = link(points, method="balls", memory=1.0, resolution=1e-3)
    assert ours.known_up_to == np.inf
    assert keeps_its_bound(ours, points)


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_a_cover_is_tight_and_complete(name):
    x, _ = layer(np.random.default_rng(0), noise=0.1, flip=True)
    points = points_of(x, name)
    square, members = squareform(condensed_distances(points)), np.arange(3, len(x))
    found = cover(points, members, 20)
    founders = members[found.founders]
    own = square[members, founders[found.ball]]
    np.testing.assert_allclose(own.max(), found.radius, rtol=1e-12)
    assert np.all(own <= square[np.ix_(members, founders)].min(axis=1) * (1 + 1e-12))  # nobody has a nearer founder
    assert np.min(square[np.ix_(founders, founders)] + np.diag(np.full(20, np.inf))) >= found.radius * (1 - 1e-12)
    assert tight_cover(points, members, 20, found.radius / 4) is None
    assert tight_cover(points, members, 20, found.radius).radius == found.radius
    assert cover(points_of(np.ones((9, 3)), name), np.arange(9), 4).radius == 0


@pytest.mark.parametrize(
    "name", [name if name == "tanh" else pytest.param(name, marks=pytest.mark.slow) for name in ACTIVATION_NAMES]
)
def test_copies_too_many_to_link_are_collapsed_unless_that_is_forbidden(name):
    symmetry = ACTIVATIONS[name].symmetry
    flip = symmetry.is_sign_free
    x, student = layer(np.random.default_rng(3), n_teacher=4, n_students=100, n_dust=20, flip=flip)
    points, memory = points_of(x, name), matrix_memory(60)
    ours = link(points, method="auto", memory=memory, resolution=1e-3)
    whole = link(points, method="matrix", memory=1.0, resolution=1e-3)
    forbidden = link(points, method="components", memory=memory, resolution=1e-3)
    assert "covered by balls" in ours.how
    assert 0 < ours.height_error < 0.01  # the copies' noise is 1e-3
    assert ours.known_up_to == np.inf
    assert keeps_its_bound(ours, points)
    assert sets_up_to(ours.linkage, len(x), 0.05) == sets_up_to(whole.linkage, len(x), 0.05)
    assert "balls" not in forbidden.how
    assert forbidden.height_error == 0
    assert forbidden.known_up_to < 1e-3
    found = []
    for config in (ClusterConfig(metric="euclidean", memory=memory), ClusterConfig(metric="euclidean")):
        clustering = cluster_neurons(x, student, n_students=100, symmetry=symmetry, config=config)
        found.append({frozenset(clustering.members(k).tolist()) for k in clustering.kept_clusters})
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_duplicates_too_many_to_link_cost_no_accuracy():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.zeros((200, 4)), rng.standard_normal((30, 4))])  # dead neurons, for one
    ours = link(points_of(x), method="auto", memory=matrix_memory(60), resolution=1e-3)
    assert ours.height_error == 0
    np.testing.assert_allclose(ours.linkage[:, 2], hierarchy.linkage(x, "average")[:, 2], rtol=1e-12)


def test_balls_are_taken_where_only_single_precision_fits():
    x, _ = layer(np.random.default_rng(0))
    clusters = 12 + 80
    points = points_of(x)
    for share, words in ((1.1, "mean distances"), (0.7, "weighted point"), (0.4, "not linked further")):
        ours = link(points, method="auto", memory=share * clusters**2 * 8 / 2**30, resolution=1e-3)
        assert words in ours.how
        assert (ours.height_error > 0) == (words == "weighted point")
        assert (ours.known_up_to == np.inf) == (words != "not linked further")
    assert "not linked" in link(points, method="components", memory=0.7 * clusters**2 * 8 / 2**30, resolution=1e-3).how


def test_balls_find_the_same_neurons():
    x, student = layer(np.random.default_rng(1), n_dust=300, flip=True)
    symmetry = SYMMETRIES["odd"]
    kept = []
    for linkage in ("matrix", "components", "balls", "auto"):
        config = ClusterConfig(metric="euclidean", linkage=linkage)
        found = cluster_neurons(x, student, n_students=6, symmetry=symmetry, config=config)
        kept.append({frozenset(found.members(k).tolist()) for k in found.kept_clusters})
    assert kept[0] == kept[1] == kept[2] == kept[3]
    assert len(kept[0]) == 12


def test_components_that_do_not_fit_make_the_radius_smaller():
    x = np.random.default_rng(0).uniform(size=(400, 1)) @ np.ones((1, 2))  # one chain: percolates at once
    points = points_of(x)
    ours = link(points, method="components", memory=matrix_memory(60), resolution=1e-9)
    whole = hierarchy.linkage(condensed_distances(points), "average")
    assert ours.known_up_to < np.inf
    np.testing.assert_allclose(ours.linkage[:, 2], whole[: len(ours.linkage), 2], rtol=1e-9)


def test_duplicates_and_a_single_cloud_are_no_trouble():
    x = np.repeat(np.random.default_rng(0).standard_normal((3, 4)), 30, axis=0)
    for method in ("components", "balls"):
        ours = link(points_of(x), method=method, memory=1.0, resolution=1e-3)
        assert np.sum(ours.linkage[:, 2] == 0) == 87
    cloud = np.random.default_rng(0).standard_normal((50, 2))
    ours = link(points_of(cloud), method="components", memory=1.0, resolution=1e-3)
    np.testing.assert_allclose(ours.linkage[:, 2], hierarchy.linkage(cloud, "average")[:, 2], rtol=1e-12)


def test_dust_alone_is_no_neuron_however_little_is_known_of_it():
    x = np.random.default_rng(0).standard_normal((300, 20))
    config = ClusterConfig(metric="euclidean", linkage="components", memory=1e-5)
    found = cluster_neurons(x, np.arange(300) % 5, n_students=5, symmetry=SYMMETRIES["odd"], config=config)
    assert len(found.linkage) == 0
    assert 0 < found.known_up_to < np.min(pdist(x))
    assert found.width == 0


def test_the_farthest_radius_dismisses_unrelated_pairs():
    x, _ = layer(np.random.default_rng(0), dim=100, n_dust=500)
    points = points_of(x)
    at = bound(points)
    radius = farthest_radius(at, 0.01)
    i, j = np.triu_indices(len(x), 1)
    unrelated = at.pairs(i, j) > 0.01
    assert np.mean(at.pairs(i, j)[unrelated] <= radius) < 1e-3  # a quantile of some thousand random pairs
    assert radius > 0.1


def test_what_cannot_be_done_is_refused():
    x, _ = layer(np.random.default_rng(0))
    with pytest.raises(ValueError, match="memory"):
        link(points_of(x), method="matrix", memory=1e-5, resolution=1e-3)
    with pytest.raises(ValueError, match="balls"):
        link(points_of(x, metric="cosine"), method="balls", memory=1.0, resolution=1e-3)
    with pytest.raises(ValueError, match="Raise `memory`"):
        link(points_of(np.ones((50, 3))), method="components", memory=1e-6, resolution=1e-3)
    with pytest.raises(ValueError, match="memory"):
        ClusterConfig(memory=0)


# --- thresholds -------------------------------------------------------------------------------------------------------


def test_suggestion_equals_recutting_and_lies_on_the_plateau():
    x, student = layer(np.random.default_rng(2), noise=0.01)
    clustering = cluster_neurons(
        x, student, n_students=6, symmetry=SYMMETRIES["odd"], config=ClusterConfig(metric="euclidean")
    )
    grid = suggest_gamma_beta(clustering, gammas=(0.2, 0.5, 0.8, 1.0), betas=(1e-4, 0.05, 0.1, 0.3))
    assert grid.gammas.tolist() == [0.5, 0.8, 1.0]  # 0.2 of six students is no agreement
    for i, gamma in enumerate(grid.gammas):
        for j, beta in enumerate(grid.betas):
            assert grid.widths[i, j] == recut(clustering, gamma=float(gamma), beta=float(beta)).width
    assert grid.width == 12
    assert recut(clustering, gamma=grid.gamma, beta=grid.beta).width == 12
    assert 0 < grid.share < 1
    with pytest.raises(ValueError, match="two"):
        suggest_gamma_beta(clustering, gammas=(0.1,))


def test_a_share_that_is_two_students_but_for_rounding_is_tried():
    x, _ = layer(np.random.default_rng(2))
    gamma = 2 / 49
    assert gamma * 49 < 2  # as a product of floats
    clustering = cluster_neurons(
        x, np.arange(len(x)) % 49, n_students=49, symmetry=SYMMETRIES["odd"], config=ClusterConfig(metric="euclidean")
    )
    assert suggest_gamma_beta(clustering, gammas=(gamma,)).gammas.tolist() == [gamma]
    assert recut(clustering, gamma=gamma).needed == 2

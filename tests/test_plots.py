"""Figures: what is drawn is what the records say, whatever they hold."""

import drawn
import jax.numpy as jnp
import numpy as np
import pytest

import ecjax as ec
from ecjax import figures
from ecjax.cluster import ClusterConfig, Clustering, cluster_neurons, recut
from ecjax.figures import clusters, losses, page
from ecjax.network import ACTIVATIONS, permute_neurons


def planted(n_students=6, width=3, dust=4, d=3, noise=1e-6, seed=0) -> Clustering:
    """Students that hold every planted neuron once, and dust."""
    draw = np.random.default_rng(seed)
    teacher = 1.5 * draw.normal(size=(width, d))
    per_student = [
        np.concatenate([teacher + noise * draw.normal(size=teacher.shape), draw.normal(size=(dust, d))])
        for _ in range(n_students)
    ]
    return cluster_neurons(
        np.concatenate(per_student),
        np.repeat(np.arange(n_students), width + dust),
        n_students=n_students,
        symmetry=ACTIVATIONS["tanh"].symmetry,
        config=ClusterConfig(metric="euclidean"),
    )


def _shows(figure, tmp_path) -> bool:
    """Whether the figure can be drawn and isn't blank."""
    path = tmp_path / "figure.png"
    figure.savefig(path, dpi=50)
    from matplotlib.image import imread

    return imread(path)[..., :3].std() > 0.01


def _lines(axes) -> np.ndarray:
    (lines,) = axes.collections
    return np.array(lines.get_segments())


@pytest.mark.parametrize("dust", [0, 4])
def test_the_dendrogram_has_a_bracket_for_every_merge(tmp_path, dust):
    clustering = planted(dust=dust)
    figure = figures.plot_dendrogram(clustering)
    brackets = _lines(figure.axes[0])
    np.testing.assert_allclose(np.sort(brackets[:, 1, 1]), np.sort(clustering.linkage[:, 2]))
    assert (brackets[:, 0, 1] <= brackets[:, 1, 1]).all()  # no bracket hangs below what it joins
    places = brackets[:, [0, 3], 0]
    assert places.min() >= 0
    assert places.max() <= len(clustering.neurons) - 1
    assert _shows(figure, tmp_path)


def test_kept_clusters_are_the_coloured_ones():
    from matplotlib.colors import to_rgba

    clustering = planted()
    assert clustering.width == 3
    figure = figures.plot_dendrogram(clustering)
    (lines,) = figure.axes[0].collections
    coloured = (lines.get_colors() == to_rgba(page.KEPT)).all(axis=1).sum()
    assert coloured == sum(clustering.n_vectors[clustering.kept] - 1)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3"]


def test_a_flat_cut_is_drawn_at_its_height(tmp_path):
    figure = figures.plot_dendrogram(recut(planted(), height=1e-3))
    assert any(np.allclose(line.get_ydata(), 1e-3) for line in figure.axes[0].lines)
    assert _shows(figure, tmp_path)


def test_exact_copies_can_be_drawn(tmp_path):
    """Distances of zero have no logarithm."""
    clustering = planted(noise=0.0)
    for plot in (figures.plot_dendrogram, figures.plot_similarity, figures.plot_angles):
        assert _shows(plot(clustering), tmp_path)


@pytest.mark.parametrize("plot", [figures.plot_dendrogram, figures.plot_similarity, figures.plot_angles])
def test_a_forest_without_a_merge_can_be_drawn(tmp_path, plot):
    """Neurons that all lie apart, where memory allows no more than to see that."""
    config = ClusterConfig(metric="euclidean", linkage="components", memory=1e-9)
    symmetry = ACTIVATIONS["g"].symmetry
    neurons = np.random.default_rng(0).normal(size=(8, 5))
    clustering = cluster_neurons(neurons, np.arange(8) // 2, n_students=4, symmetry=symmetry, config=config)
    assert len(clustering.linkage) == len(clustering.node) == 0
    figure = plot(clustering)
    assert _shows(figure, tmp_path)
    if plot is figures.plot_dendrogram:
        assert f"closer than {clustering.known_up_to:.2g}" in figure.axes[0].texts[-1].get_text()


def test_no_candidate_can_be_drawn(tmp_path):
    clustering = recut(planted(width=0), gamma=1.0)
    assert not clustering.kept.any()
    for plot in (figures.plot_dendrogram, figures.plot_similarity, figures.plot_angles):
        assert _shows(plot(clustering), tmp_path)


def test_copies_of_one_neuron_make_a_dark_block():
    clustering = planted(dust=0)
    apart = figures.plot_similarity(clustering).axes[0].images[0].get_array()
    n = clustering.n_students
    inside = np.kron(np.eye(3), np.ones((n, n))).astype(bool)
    assert apart[inside].max() < 1e-4 < apart[~inside].min()


def test_a_large_layer_is_thinned(monkeypatch):
    monkeypatch.setattr(clusters, "_LARGEST_MATRIX", 10)
    image = figures.plot_similarity(planted()).axes[0].images[0]
    assert max(image.get_array().shape) <= 10


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_the_angles_of_all_candidates_are_shown_with_their_limits(tmp_path, gamma):
    clustering = recut(planted(), gamma=gamma, beta=1e-9)
    assert clustering.width == 0
    figure = figures.plot_angles(clustering)
    points = np.concatenate([line.get_xydata() for line in figure.axes[0].lines[:2]])
    assert len(points) == len(clustering.node)
    assert sorted(points[:, 1]) == pytest.approx(sorted(clustering.median_angle))
    assert _shows(figure, tmp_path)


@pytest.mark.parametrize("loss", [[1e-31, 1e-20, 1e-3], [1e-20, np.nan, np.inf], [0.0, 0.0], [np.nan]])
def test_every_student_is_shown_even_if_it_failed(tmp_path, loss):
    figure = figures.plot_losses(np.array(loss))
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == len(loss)
    assert _shows(figure, tmp_path)


def test_weights_and_their_difference(tmp_path):
    draw = np.random.default_rng(0)
    teacher = draw.normal(size=(4, 3))
    figure = figures.plot_weights({"teacher": teacher, "recovered": teacher + 1e-12}, columns=["x1", "x2", "b"])
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(drawn[0], teacher)
    np.testing.assert_allclose(drawn[2], 1e-12, rtol=1e-3)
    assert _shows(figure, tmp_path)
    assert _shows(figures.plot_weights({"recovered": teacher}), tmp_path)
    assert _shows(figures.plot_weights({"teacher": teacher, "recovered": teacher}), tmp_path)


def test_images_hide_what_cannot_be_known(tmp_path):
    draw = np.random.default_rng(0)
    teacher, visible = draw.normal(size=(3, 16)), np.arange(16) > 3
    recovered = teacher + np.where(visible, 1e-9, 5.0)
    figure = figures.plot_images({"teacher": teacher, "recovered": recovered}, (4, 4), visible=visible)
    assert len(figure.axes) == 9
    assert all(axes.images[0].get_array().mask.sum() == 4 for axes in figure.axes)
    assert "1e-09" in figure.axes[6].get_ylabel()
    assert _shows(figure, tmp_path)


@pytest.mark.parametrize("n", [1, 7, 10, 16])
def test_every_neuron_has_its_image_and_number(tmp_path, n):
    teacher = np.random.default_rng(0).normal(size=(n, 4))
    names = list(range(5, 5 + n))
    figure = figures.plot_images({"teacher": teacher, "recovered": teacher + 1}, (2, 2), names=names, title="layer 1")
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 3 * n
    assert [int(axes.get_title()) for axes in drawn if axes.get_title()] == names
    assert _shows(figure, tmp_path)


def test_colour_images_are_drawn_around_grey(tmp_path):
    """Channels come one after the other; a weight of 0 is grey, the largest of a neuron saturated."""
    weights = np.zeros((1, 12))
    weights[0, :4] = [2.0, -2.0, 0.0, 1.0]  # red, of the four pixels
    visible = np.ones(12, bool)
    visible[[3, 7, 11]] = False
    figure = figures.plot_images({"recovered": weights}, (3, 2, 2), visible=visible)
    (image,) = figure.axes[0].images
    rgb = np.asarray(image.get_array())
    np.testing.assert_allclose(rgb[0, 0], [1, 0.5, 0.5])
    np.testing.assert_allclose(rgb[0, 1], [0, 0.5, 0.5])
    np.testing.assert_allclose(rgb[1, 0], 0.5)
    np.testing.assert_allclose(rgb[1, 1], 0xD9 / 255)
    assert _shows(figure, tmp_path)


def test_a_history_shows_every_student_and_where_it_stopped(tmp_path):
    history = np.exp(-np.arange(30.0))[:, None] * np.ones((30, 4))
    history[10:, 1] = np.nan
    history[:, 3] = np.nan
    figure = figures.plot_history(history, target=1e-9)
    lines = figure.axes[0].lines
    np.testing.assert_array_equal(lines[0].get_xdata(), np.arange(1, 31))
    np.testing.assert_allclose(lines[0].get_ydata(), history[:, 0])
    stopped = [line for line in lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in stopped] == [10]
    assert _shows(figure, tmp_path)
    assert _shows(figures.plot_history(history[:1, :1]), tmp_path)


def test_a_long_history_is_thinned(monkeypatch):
    monkeypatch.setattr(losses, "_MOST_POINTS", 50)
    figure = figures.plot_history(np.ones((1000, 1)))
    assert len(figure.axes[0].lines[0].get_xdata()) == 50
    assert figure.axes[0].lines[0].get_xdata()[-1] == 1000


def test_upper_layers_are_shown_as_they_were_compared(key, tmp_path):
    teacher = drawn.network((3, 5, 4, 2), "tanh", key=key)
    recovered = permute_neurons(teacher, jnp.array([1, 0, 4, 3, 2]), layer=0)
    comparison = ec.compare(recovered, teacher, drawn.queries(200, 3, key=key))
    weights = figures.paired_weights(recovered, teacher, comparison, layer=1)
    np.testing.assert_allclose(weights["recovered"], weights["teacher"], atol=1e-12)
    assert weights["teacher"].shape == (4, 6)
    assert figures.paired_weights(recovered, layer=1)["recovered"].shape == (4, 6)
    figure = figures.plot_weights(weights, columns="neuron below", names=[3, 5, 7, 9], title="layer 2")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["3", "5", "7", "9"]
    assert figure.axes[0].get_xlabel() == "neuron below"
    assert _shows(figure, tmp_path)


def _network(rows, activation):
    rows = jnp.asarray(rows)
    hidden = ec.Layer(rows[:, :-1], rows[:, -1], activation)
    return ec.Network((hidden, ec.Layer(jnp.ones((1, len(rows))), jnp.ones(1))))


@pytest.mark.parametrize("name", ["g", "tanh", "sin", "relu"])
def test_pairs_are_shown_in_the_teachers_order_and_form(name, key):
    """A teacher whose neurons were permuted, and flipped, shifted or scaled without effect, looks the same."""
    activation = ec.ACTIVATIONS[name]
    symmetry = activation.symmetry
    rows = np.random.default_rng(0).normal(size=(3, 4))
    teacher, disguised = _network(rows, activation), rows[[2, 0, 1]]
    layers = [teacher.layers[0], ec.Layer(teacher.layers[1].w[:, jnp.array([2, 0, 1])], teacher.layers[1].b)]
    if symmetry.is_sign_free and not symmetry.linear:
        disguised, layers[1] = -disguised, ec.Layer(symmetry.parity * layers[1].w, layers[1].b)
    if symmetry.antiperiod is not None:
        disguised, layers[1] = disguised + np.array([0, 0, 0, symmetry.antiperiod]), ec.Layer(-layers[1].w, layers[1].b)
    if symmetry.homogeneous:
        disguised, layers[1] = 2 * disguised, ec.Layer(layers[1].w / 2, layers[1].b)
    recovered = ec.Network((_network(disguised, activation).layers[0], layers[1]))
    x = drawn.queries(200, 3, key=key)
    np.testing.assert_allclose(ec.respond(recovered, x), ec.respond(teacher, x), atol=1e-12)
    shown = figures.paired_weights(recovered, teacher, ec.compare(recovered, teacher, x))
    np.testing.assert_allclose(shown["recovered"], shown["teacher"], atol=1e-12)
    assert list(figures.paired_weights(recovered)) == ["recovered"]


def test_in_a_mixed_layer_each_neuron_is_shown_by_its_own_activation(key):
    activation = ec.mixture(tanh=2, relu=2)
    rows = np.random.default_rng(0).normal(size=(4, 4))
    teacher, disguised = _network(rows, activation), rows * np.array([-1, 1, 2, 3])[:, None]
    out = teacher.output.w * jnp.array([[-1, 1, 1 / 2, 1 / 3]])
    recovered = ec.Network((_network(disguised, activation).layers[0], ec.Layer(out, teacher.output.b)))
    x = drawn.queries(200, 3, key=key)
    np.testing.assert_allclose(ec.respond(recovered, x), ec.respond(teacher, x), atol=1e-12)
    shown = figures.paired_weights(recovered, teacher, ec.compare(recovered, teacher, x))
    np.testing.assert_allclose(shown["recovered"], shown["teacher"], atol=1e-12)
    np.testing.assert_allclose(shown["teacher"][:2], rows[:2])
    np.testing.assert_allclose(np.linalg.norm(shown["teacher"][2:], axis=1), 1)

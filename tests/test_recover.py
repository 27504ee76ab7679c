"""The whole road on small teachers: exact widths and weights, the same bits for the same key, and refusals in words."""

from dataclasses import replace
from functools import cache

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

import ecjax as ec
from ecjax.base.progress import silent
from ecjax.expand import Expansion
from ecjax.network.moves import with_unit_vectors
from ecjax.road import following, layers
from ecjax.road.choice import Choice

TOY = ec.RecoveryConfig.toy(student_width=8, n_students=6, rounds=1)
STRICT = ec.RecoveryConfig.toy(student_width=8, n_students=6, rounds=1, propose=False)  # only the kept clusters count
N_SAMPLES = 250


@cache
def problem(activation="tanh", d_out=1):
    """A teacher of 3 inputs and width 2, queries and answers."""
    teacher_key, x_key = jr.split(jr.key(11))
    teacher = drawn.teacher(3, 2, d_out, activation, key=teacher_key)
    x = drawn.queries(N_SAMPLES, 3, key=x_key)
    return teacher, x, drawn.answers(teacher, x)


@cache
def recovered(activation="tanh", d_out=1):
    """A recovery, the students in its store, and what it told of its progress; made once for all tests."""
    _, x, y = problem(activation, d_out)
    store, told = {}, []
    progress = lambda phase, done, total, **info: told.append((phase, done, total, info))
    recovery = ec.recover(x, y, activation=activation, key=jr.key(0), config=TOY, store=store, progress=progress)
    return recovery, store, told


def recover(x, y, **settings):
    return ec.recover(x, y, **{"activation": "tanh", "key": jr.key(0), "config": TOY, **settings})


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the type checks of these tests, which would stand before ecjax's own refusals."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def rebuilt_from(trained: Expansion, x, y, config=TOY, *, activation="tanh", **cluster):
    """The recovery from students that were trained, or made, elsewhere."""
    config = replace(config, cluster=replace(config.cluster, **cluster))
    activations = ec.network.as_activations(activation, 1)
    return following.follow(
        ec.Data.of(x, y),
        activations,
        Choice(config, ()),
        jr.key(0),
        allow_few=False,
        store=None,
        progress=silent,
        trained=trained,
    )


def only_student(i: int, of: Expansion) -> Expansion:
    """The expansion with all students but one dead, and bad."""
    others = np.arange(of.n_students) != i
    kill = lambda leaf: jnp.where(others.reshape(-1, *[1] * (leaf.ndim - 1)), 0, leaf)
    return replace(of, students=jax.tree.map(kill, of.students), loss=jnp.where(others, 1.0, of.loss))


def diverged(which: list[int], of: Expansion) -> Expansion:
    """The expansion with some students that are no numbers."""
    gone = np.isin(np.arange(of.n_students), which)
    spoil = lambda leaf: jnp.where(gone.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)
    return replace(of, students=jax.tree.map(spoil, of.students), loss=spoil(of.loss))


def assert_same_bits(a: ec.Recovery, b: ec.Recovery):
    parts = lambda recovery: jax.tree.leaves((recovery.network, recovery.expansion, recovery.clusterings))
    for one, other in zip(parts(a), parts(b), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (a.loss, a.found_by, a.unidentified) == (b.loss, b.found_by, b.unidentified)


# --- exact recovery ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "d_out"),
    [
        pytest.param("tanh", 1, marks=pytest.mark.slow),
        ("softplus", 1),
        ("relu", 1),
        pytest.param("g", 1, marks=pytest.mark.slow),
        pytest.param("tanh", 2, marks=pytest.mark.slow),
    ],
)
def test_a_teacher_is_recovered_exactly(activation, d_out):
    teacher, x, y = problem(activation, d_out)
    recovery, _, _ = recovered(activation, d_out)
    assert recovery.widths == teacher.widths == (2,)
    assert recovery.is_exact
    assert recovery.linear is None
    assert recovery.unidentified == ()
    comparison = ec.compare(recovery, teacher, x)
    assert comparison.n_missing == comparison.n_excess == 0
    assert comparison.parameter_error <= 1e-8
    np.testing.assert_allclose(ec.respond(recovery.network, x), y, rtol=0, atol=1e-8)
    # The loss told is the loss of the network given, in units of the answers' variance.
    rms = jnp.sqrt(jnp.mean((ec.respond(recovery.network, x) - y) ** 2 / jnp.var(y, axis=0)[None]))
    assert float(rms) < 1e-8
    assert recovery.loss < 1e-20


def test_homogeneous_neurons_come_back_with_norm_one():
    recovery, _, _ = recovered("relu")
    hidden = recovery.network.layers[0]
    np.testing.assert_allclose(jnp.sum(hidden.w**2, axis=1) + hidden.b**2, 1, rtol=1e-12)
    teacher, x, y = problem("relu")
    np.testing.assert_allclose(ec.respond(with_unit_vectors(teacher), x), y, rtol=0, atol=1e-12)


def test_summary_says_what_was_found_and_how_sure_that_is():
    recovery, _, _ = recovered()
    text = recovery.summary()
    for words in ("3-2-1 tanh network, exact", "6 of 6 students did not", "levenberg_marquardt", "Layer 1: 2 clusters"):
        assert words in text
    assert "NOT exact" not in text
    assert set(recovery.seconds) == {"expand", "cluster", "reconstruct", "finetune", "certify"}


def test_progress_is_told_and_students_are_stored():
    recovery, store, told = recovered()
    assert sorted(store) == ["origin", *(f"student-{i:06d}" for i in range(6))]
    phases = [phase for phase, *_ in told]
    assert sorted(set(phases), key=phases.index) == ["expand", "cluster", "reconstruct", "finetune"]
    expand = [(done, total, len(info["losses"])) for phase, done, total, info in told if phase == "expand"]
    assert expand == [(done, 6, done) for done in range(7)]
    np.testing.assert_array_equal(recovery.expansion.loss, [store[f"student-{i:06d}"].loss for i in range(6)])


def test_the_same_key_gives_the_same_bits_and_so_does_an_interrupted_run():
    _, x, y = problem()
    recovery, store, _ = recovered()
    assert_same_bits(recover(x, y), recovery)
    half = {name: store[name] for name in ("origin", "student-000000", "student-000001", "student-000004")}
    assert_same_bits(recover(x, y, store=half), recovery)
    assert sorted(half) == sorted(store)


def test_numpy_and_one_number_a_sample_are_as_good():
    _, x, y = problem()
    recovery, store, _ = recovered()
    assert_same_bits(recover(np.asarray(x), np.asarray(y)[:, 0], store=dict(store)), recovery)


@pytest.mark.parametrize(
    "activation", ["tanh", *(pytest.param(one, marks=pytest.mark.slow) for one in ("g", "softplus"))]
)
def test_float32_recovers_what_float32_can_tell(activation):
    """Four of four keys. Answers are rounded by 6e-8 of their size, and more in sums; what that leaves open of the
    weights is in the certificate: 4e-6 to 7e-5 for these teachers, whose errors are up to 4e-6.
    """
    config = drawn.TOY_FLOAT32
    for seed in range(4):
        teacher_key, x_key, key = jr.split(jr.key(seed), 3)
        teacher = drawn.teacher(3, 3, 1, activation, key=teacher_key, dtype=jnp.float32)
        x = drawn.queries(drawn.N_FLOAT32, 3, key=x_key, dtype=jnp.float32)
        y = drawn.answers(teacher, x)
        recovery = ec.recover(x, y, activation=activation, key=key, config=config)
        assert recovery.widths == (3,)
        assert recovery.is_exact
        assert recovery.loss < 1e-11
        assert recovery.certificate.certified
        assert recovery.certificate.parameter_bound < 1e-3
        assert ec.compare(recovery, teacher, x).parameter_error <= recovery.certificate.parameter_bound
        assert {leaf.dtype for leaf in jax.tree.leaves(recovery.network)} == {np.dtype(np.float32)}
        np.testing.assert_allclose(ec.respond(recovery.network, x), y, rtol=0, atol=1e-4)
        assert len(recovery.clusterings[0].neurons) == 8 * 12
        assert recovery.clusterings[0].neurons.dtype == np.float64


@pytest.mark.parametrize(
    "activation", ["tanh", *(pytest.param(one, marks=pytest.mark.slow) for one in ("softplus", "relu"))]
)
def test_answers_with_noise_are_recovered_to_the_noise(activation):
    """Least squares under noise of deviation s: weights are off by a few s / (smallest singular value) / sqrt(n)."""
    teacher, x, y = problem(activation)
    for seed, std in ((0, 1e-3), (1, 1e-3), (0, 1e-2), (1, 1e-2)):
        noisy = y + std * y.std() * jr.normal(jr.key(seed), y.shape)
        recovery = recover(x, noisy, activation=activation, answers=ec.Answers(noise=std))
        assert recovery.widths == (2,)
        assert recovery.is_exact
        assert "exact to the noise of the answers" in recovery.summary()
        assert 0.5 * std**2 < recovery.loss < 1.5 * std**2
        off = recovery.certificate.parameter_bound  # of 95% intervals: 4 / 1.96 of them hold all parameters
        assert ec.compare(recovery, teacher, x).parameter_error < 2.1 * off
        assert recovery.certificate.certified
        assert all(each.stands for each in recovery.evidence)


def test_noise_that_nobody_told_of_is_seen():
    """Not exact to machine precision, but to noise of that size, with the evidence for the width beside it."""
    _, x, y = problem()
    noisy = y + 1e-3 * y.std() * jr.normal(jr.key(0), y.shape)
    recovery = recover(x, noisy)
    assert recovery.is_exact
    assert recovery.judge.origin == "seen"
    assert recovery.certificate.noise == pytest.approx(1e-3, rel=0.2)
    assert "as seen" in recovery.summary()


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (0.0, "a loss of"),
        pytest.param(1e-4, "a loss of", marks=pytest.mark.slow),
        (0.1, "less than the 0.1"),
    ],
)
def test_noise_of_another_size_than_declared_is_not_certified(declared, said):
    _, x, y = problem()
    noisy = y + 1e-3 * y.std() * jr.normal(jr.key(0), y.shape)
    recovery = recover(x, noisy, answers=ec.Answers(noise=declared))
    assert not recovery.certificate.certified
    assert said in recovery.certificate.summary()


def test_rebuild_follows_another_cut_without_training():
    teacher, x, y = problem()
    recovery, _, _ = recovered()
    clustering = ec.recut(recovery.clusterings[0], gamma=0.5, beta=np.pi / 6)
    again = ec.rebuild(recovery, clustering, x, y)
    assert again.is_exact
    assert again.config.cluster.gamma == 0.5
    assert again.expansion is recovery.expansion
    assert ec.compare(again, teacher, x).parameter_error <= 1e-8
    assert_same_bits(ec.rebuild(recovery, recovery.clusterings[0], x, y), recovery)


# --- what cannot be known ------------------------------------------------------------------------------------------


def test_an_input_that_never_varies_is_reported_not_guessed():
    teacher, x, y = problem()
    wider = jnp.insert(x, 1, 0.7, axis=1)
    recovery = recover(wider, y)
    assert recovery.is_exact
    (note,) = recovery.unidentified
    assert "1 of 4 input directions do not vary (constant inputs: 1)" in note
    assert note in recovery.summary()
    hidden, output = recovery.network.layers
    np.testing.assert_array_equal(hidden.w[:, 1], 0)
    without = ec.Network((replace(hidden, w=jnp.delete(hidden.w, 1, axis=1)), output))
    assert ec.compare(without, teacher, x).parameter_error <= 1e-8


def test_a_linear_map_that_no_signs_explain_is_kept_and_said():
    """Students that know the neurons, and answers with a linear map added: no sum of two neurons can be those."""
    _, x, y = problem("softplus")
    y = y + x @ jnp.array([[0.7], [-0.4], [1.1]])
    students = recovered("softplus")[0].expansion
    recovery = rebuilt_from(students, x, y, STRICT, activation="softplus", gamma=0.8)
    assert recovery.widths == (2,)
    assert recovery.is_exact
    assert "the signs of some neurons" in recovery.unidentified[0]
    answers = ec.respond(recovery.network, x) + x @ recovery.linear.w.T + recovery.linear.b[None]
    np.testing.assert_allclose(answers, y, rtol=0, atol=1e-8)


def test_a_network_that_is_not_exact_is_not_called_recovered():
    """Students of one teacher, answers of another: their clusters do not explain them, and that is said."""
    _, x, y = problem()
    noise = y + jr.normal(jr.key(1), y.shape)
    recovery = rebuilt_from(recovered()[0].expansion, x, noise, STRICT)
    assert not recovery.is_exact
    assert recovery.found_by == ("clusters",)
    assert recovery.loss > 0.1
    assert "NOT exact: take the widths as a guess" in recovery.summary()


def test_students_that_agree_on_nothing_are_no_recovery(key):
    _, x, y = problem()
    strangers = replace(recovered()[0].expansion, students=drawn.students(6, (3, 8, 1), "tanh", key=key))
    with pytest.raises(ValueError, match=r"No cluster reaches 6 of 6 students .*lower `gamma`"):
        rebuilt_from(strangers, x, y, STRICT, gamma=1.0, beta=1e-6)


def test_one_good_student_is_a_proposal_of_its_own():
    """Where students share nothing but dead neurons, the neurons of the best of them are proposed."""
    teacher, x, y = problem()
    alone = only_student(3, recovered()[0].expansion)
    recovery = rebuilt_from(alone, x, y)
    assert recovery.found_by == ("one student",)
    assert recovery.is_exact
    assert ec.compare(recovery, teacher, x).parameter_error <= 1e-8
    with pytest.raises(ValueError, match="No cluster reaches 5 of 6 students"):
        rebuilt_from(alone, x, y, STRICT)


def test_a_diverged_student_does_not_count_and_too_many_are_an_error():
    teacher, x, y = problem()
    students = recovered()[0].expansion
    recovery = rebuilt_from(diverged([2], students), x, y)
    assert ec.compare(recovery, teacher, x).parameter_error <= 1e-8
    assert "5 of 6 students did not diverge" in recovery.summary()
    assert 2 not in recovery.clusterings[0].student
    with pytest.raises(ValueError, match=r"3 of 6 students diverged, more than gamma leaves.*`method`"):
        rebuilt_from(diverged([0, 1, 2], students), x, y)


# --- bad input -----------------------------------------------------------------------------------------------------

X, Y = np.random.default_rng(0).normal(size=(50, 3)), np.random.default_rng(1).normal(size=(50, 1))
WITH_NAN = np.where(np.arange(50)[:, None] == 7, np.nan, X)
WITH_INF = np.where(np.arange(50)[:, None] == 9, np.inf, Y)


class TrainingBeganError(Exception):
    """The road has come to its first student."""


@pytest.fixture
def stops_at_training(monkeypatch):
    """Whatever is refused, is refused before a student is trained: here, training is an error of its own."""

    def train(*_, **__):
        raise TrainingBeganError

    for module, name in ((layers, "expand"), (following, "sufficient_width")):
        monkeypatch.setattr(module, name, train)


def test_training_is_where_the_road_begins(stops_at_training):
    for width in (8, "auto"):
        with pytest.raises(TrainingBeganError):
            recover(X, Y, student_width=width, fresh=(X[:5], Y[:5]))


BAD_SAMPLES = {  # all that can be wrong with them is in test_data
    "images": (X.reshape(50, 3, 1), Y, r"Flatten images to one row each: x.reshape\(len\(x\), -1\)"),
    "NaN in x": (WITH_NAN, Y, "`x` has NaN or infinite entries in 1 row, the first at index 7"),
    "infinity in y": (X, WITH_INF, "`y` has NaN or infinite entries in 1 row, the first at index 9"),
    "constant output": (X, np.column_stack([Y, np.ones(50)]), r"`y` is constant in columns \[1\]: nothing to imitate"),
    "too few samples": (X[:20], Y[:20], "`y` has 20 numbers for students of 41 parameters.*allow_few_samples=True"),
}


@pytest.mark.parametrize(("x", "y", "message"), BAD_SAMPLES.values(), ids=BAD_SAMPLES.keys())
def test_bad_samples_are_refused(x, y, message, stops_at_training, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        recover(x, y)


def test_few_samples_go_on_when_told(stops_at_training):
    with pytest.raises(TrainingBeganError):
        recover(X[:20], Y[:20], allow_few_samples=True)


def test_data_have_their_answers_with_them(stops_at_training):
    data = ec.Data.of(X, Y)
    with pytest.raises(TrainingBeganError):
        ec.recover(data, activation="tanh", key=jr.key(0), config=TOY)
    for more in ({"y": Y}, {"fresh": (X, Y)}):
        with pytest.raises(ValueError, match="`x` is Data, which has answers of its own"):
            ec.recover(data, activation="tanh", key=jr.key(0), config=TOY, **more)


BAD_SETTINGS = {
    "unknown activation": ({"activation": "tahn"}, "`activation` is one of .*got 'tahn'"),
    "polynomial": ({"activation": "square"}, "`activation` square is a polynomial.*infinitely many ways"),
    "false symmetry": ({"activation": ec.Activation(jnp.tanh, symmetry="even")}, "`symmetry` .*claims what"),
    "unknown method": ({"method": "sgd"}, "`method` is one of .*got 'sgd'"),
    "unknown metric": ({"metric": "manhattan"}, "`metric` is one of .*got 'manhattan'"),
    "too small a gamma": ({"gamma": 0.3}, r"gamma \* n_students = 1.8 is below 2"),
    "gamma above 1": ({"gamma": 1.2}, "`gamma` is a share of the students"),
    "beta in degrees": ({"beta": 30.0}, r"`beta` is in radians, within \(0, pi/2\]; got 30. See np.deg2rad"),
    "one student": ({"n_students": 1}, "`n_students` is at least 2"),
    "no neurons": ({"student_width": 0}, "`student_width` is at least 1"),
    "no hidden layer": ({"hidden_layers": 0}, "`hidden_layers`.*at least 1; got 0"),
    "widths of another depth": ({"hidden_layers": 3, "student_width": (8, 8)}, "has 2 widths for 3 hidden layers"),
}


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_bad_settings_are_refused(settings, message, as_users_run_it):
    with pytest.raises(ValueError, match=message):
        recover(X, Y, **settings)


BAD_FRESH = {
    "NaN in x": ((WITH_NAN, Y), r"`fresh\[0\]` has NaN or infinite entries in 1 row, the first at index 7"),
    "infinity in y": ((X, WITH_INF), r"`fresh\[1\]` has NaN or infinite entries in 1 row, the first at index 9"),
    "other inputs": ((X[:, :2], Y), r"`fresh\[0\]` and `fresh\[1\]` have rows like those of .* got shapes \(50, 2\)"),
    "no pair": (X, r"`fresh` is a pair \(x, y\) of arrays"),
}


@pytest.mark.parametrize("width", [8, "auto"])
@pytest.mark.parametrize(("fresh", "message"), BAD_FRESH.values(), ids=BAD_FRESH.keys())
def test_bad_fresh_queries_are_refused_before_anything_is_trained(
    fresh, message, width, stops_at_training, as_users_run_it
):
    with pytest.raises(ValueError, match=message):
        recover(X, Y, fresh=fresh, student_width=width)


@pytest.mark.parametrize("method", ["minibatch", "minibatch_lbfgs", "minibatch_conjugate"])
def test_a_method_that_trains_stacks_is_no_quarrel_about_rounds(method, stops_at_training):
    """Nobody asked for rounds: the default gives way. Who asks for them, is told."""
    with pytest.raises(TrainingBeganError):
        recover(X, Y, method=method, config=ec.RecoveryConfig.toy(8, 6))
    with pytest.raises(TrainingBeganError):
        ec.recover(X, Y, activation="tanh", key=jr.key(0), student_width=8, n_students=6, method=method)
    config = ec.RecoveryConfig.toy(8, 6, expand=ec.ExpandConfig(method=method))
    assert config.n_rounds == 1
    assert ec.RecoveryConfig.toy(8, 6).n_rounds > 1
    with pytest.raises(ValueError, match=r"`rounds` is 1 .*trains all students together"):
        replace(config, rounds=2)


CUTS = {
    "count": {"policy": "count", "n_clusters": 2},
    "its number alone": {"n_clusters": 2},
    "height": {"policy": "height", "height": 0.1},
    "its height alone": {"height": 0.1},
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_every_cut_can_be_asked_for(cut):
    """The students are those in the store: they are the same whatever the cut."""
    teacher, x, y = problem()
    _, store, _ = recovered()
    recovery = recover(x, y, store=dict(store), **cut)
    assert recovery.config.cluster.policy == ("count" if "n_clusters" in cut else "height")
    assert recovery.clusterings[0].width == 2
    assert recovery.is_exact
    assert ec.compare(recovery, teacher, x).parameter_error <= 1e-8


def test_a_store_refuses_what_it_does_not_belong_to():
    _, x, y = problem()
    _, store, _ = recovered()
    others = {
        "other data": {"y": y + 1e-9 * x[:, :1]},
        "other data ": {"x": x.at[3, 1].add(1e-9)},
        "other initial students": {"key": jr.key(1)},
        "other initial students ": {"student_width": 9},
        "another method or other settings": {"method": "flow_newton"},
    }
    for said, other in others.items():
        mine = dict(store)
        with pytest.raises(ValueError, match=f"`store` belongs to .*{said.strip()}.*give an empty one"):
            recover(**{"x": x, "y": y, "store": mine} | other)
        assert mine.keys() == store.keys()
    strays = {name: student for name, student in store.items() if name != "origin"}
    with pytest.raises(ValueError, match="`store` holds 6 entries and does not say what they belong to"):
        recover(x, y, store=strays)
    assert_same_bits(recover(x, y, store=dict(store)), recovered()[0])


def test_bad_configs_are_refused(as_users_run_it):
    with pytest.raises(ValueError, match=r"`standardise` is one of .*got 'yes'"):
        ec.RecoveryConfig.toy(standardise="yes")
    with pytest.raises(ValueError, match="`init_scale` is above 0 and finite"):
        ec.RecoveryConfig.data(init_scale=0.0)


def test_presets_take_settings_over_their_own():
    assert ec.RecoveryConfig.digits().standardise == "common"
    assert ec.RecoveryConfig.images(n_students=9, standardise="no").standardise == "no"
    assert ec.RecoveryConfig.data(init_scale=0.5).init_scale == 0.5


def test_float64_under_float32_only_is_an_error_that_says_how_to_switch():
    key = jr.key(0)
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"`x` is float64, but JAX is in float32-only mode.*jax_enable_x64"):
            recover(X, Y, key=key)
        with pytest.raises(ValueError, match="`y` is float64"):
            ec.Data.of(X.astype(np.float32), Y)


def test_scaling_of_a_recovery_is_that_of_its_data():
    _, x, y = problem()
    recovery, _, _ = recovered()
    fresh = ec.Data.of(x, y).scaling("columns")
    for got, wanted in zip(jax.tree.leaves(recovery.scaling), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_array_equal(got, wanted)

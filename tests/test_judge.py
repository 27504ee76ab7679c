"""The judge: what counts as exact. And the wrong verdicts that were given once, each with the input that showed it."""

from dataclasses import replace

import drawn
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecjax as ec
from ecjax.base.progress import Stopwatch, silent
from ecjax.judge import Judge
from ecjax.network import take_neurons
from ecjax.reconstruct import Candidate, NoClustersError
from ecjax.road import layers

EPS = float(np.finfo(float).eps)
JUDGE = Judge(eps=EPS, n_numbers=1000)


def planted(activation="tanh", seed=0, dtype=None, n=400, d_out=1):
    teacher_key, x_key = jr.split(jr.key(seed))
    teacher = drawn.teacher(3, 3, d_out, activation, key=teacher_key, dtype=dtype)
    x = drawn.queries(n, 3, key=x_key, dtype=dtype)
    return teacher, x, drawn.answers(teacher, x)


# --- limits --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    loss=st.floats(0, 1),
    reached=st.floats(1e-33, 1),
    accepted=st.one_of(st.none(), st.floats(1e-12, 1e-3)),
    noise=st.floats(0, 1e-2),
)
def test_verdicts_are_monotonous(loss, reached, accepted, noise):
    """A smaller loss is no less exact; students that reached less make no judge laxer; noise makes none stricter."""
    judge = replace(JUDGE, accepted=accepted, noise=noise)
    assert judge.fits(loss / 2) or not judge.fits(loss)
    assert judge.informed(reached).limit <= judge.limit
    assert judge.informed(reached / 2).limit <= judge.informed(reached).limit
    assert replace(judge, noise=0.0).limit <= judge.limit
    assert judge.beside_students(reached, frozen_below=True, wide_above=False).limit >= min(reached, judge.limit)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_what_is_no_number_is_never_exact(loss):
    for judge in (JUDGE, replace(JUDGE, accepted=1.0), JUDGE.informed(1e-3)):
        assert not judge.fits(loss)
        assert not judge.is_exact(loss, 1)
        assert not judge.holds_on_fresh(loss)
        assert not judge.is_hopeful(loss)
        assert not judge.is_free(loss)
        assert not judge.is_sure(loss, 1.0)


def test_students_that_diverged_say_nothing():
    assert JUDGE.informed(np.inf).limit == JUDGE.limit


def test_exact_means_many_more_numbers_than_parameters():
    assert JUDGE.is_exact(0.0, 500)
    assert not JUDGE.is_exact(0.0, 501)
    assert JUDGE.fits(0.0)


def test_exact_means_rounding_of_the_precision_in_use():
    for dtype in (np.float32, np.float64):
        limit = Judge.of(ec.Samples(jnp.zeros((9, 1), dtype), jnp.zeros((9, 1), dtype))).limit
        assert 1e4 < limit / np.finfo(dtype).eps ** 2 < 1e9


@pytest.mark.parametrize(("setting", "said"), [({"exact_loss": 0.0}, "`exact_loss`"), ({"noise": -1.0}, "`noise`")])
def test_limits_that_are_none_are_refused(setting, said):
    setting = {"noise": -1e-3} if "noise" in setting else setting
    with pytest.raises(ValueError, match=said):
        ec.RecoveryConfig.toy(**setting) if "exact_loss" in setting else Judge(eps=EPS, n_numbers=1, **setting)


# --- verdicts that were wrong once ---------------------------------------------------------------------------------


def weak_neuron(seed, scale=1e-3):
    """A teacher in float32, one of whose three neurons hardly matters: its square, 1e-7, is below float32's limit."""
    teacher_key, x_key = jr.split(jr.key(seed))
    teacher = ec.synthetic_teacher(3, 3, 1, "tanh", key=teacher_key, dtype=jnp.float32)
    x = ec.gaussian_queries(1000, 3, key=x_key, dtype=jnp.float32)
    weak = teacher.layers[1].w * np.float32([[1, scale, 1]])
    teacher = eqx.tree_at(lambda net: net.layers[1].w, teacher, weak)
    return teacher, x, drawn.answers(teacher, x)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_float32_does_not_lose_a_neuron_that_students_found(seed):
    """Students reach 3e-14; without the weak neuron 1e-7 is left, which rounding in float32 might explain (1.4e-6)."""
    teacher, x, y = weak_neuron(seed)
    recovery = ec.recover(x, y, activation="tanh", config=drawn.TOY_FLOAT32, key=jr.key(seed))
    assert recovery.expansion.lowest_loss < 1e-11
    assert recovery.widths == (3,)
    assert recovery.is_exact
    assert all("as exact" in why for why in recovery.removed)
    assert ec.compare(recovery, teacher, x).n_missing == 0


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 2, 3, 4, 5))])
def test_float32_does_not_lose_a_neuron_that_few_students_found(seed):
    """Students reach 1e-10, a hundred roundings; a network without the weak neuron, 1e-7, which counted as exact."""
    teacher, x, _ = planted(seed=seed, dtype=jnp.float32, n=drawn.N_FLOAT32)
    weak = teacher.layers[1].w * np.float32([[1, 1e-3, 1]])
    y = drawn.answers(eqx.tree_at(lambda net: net.layers[1].w, teacher, weak), x)
    recovery = ec.recover(x, y, activation="tanh", config=drawn.TOY_FLOAT32, key=jr.key(seed))
    assert recovery.widths == (3,)
    assert recovery.is_exact
    assert recovery.loss < 1e-12


def test_a_cluster_that_all_students_hold_goes_only_with_a_reason():
    """Told that 1e-4 is exact, the road does without the weak neuron, and says so."""
    _, x, y = weak_neuron(0, scale=1e-2)
    config = replace(drawn.TOY_FLOAT32, exact_loss=1e-3)
    recovery = ec.recover(x, y, activation="tanh", config=config, key=jr.key(0))
    if recovery.clusterings[0].width > recovery.widths[0]:
        assert recovery.removed
    lax = replace(recovery.judge, reached=np.inf)
    assert lax.limit > recovery.judge.limit
    from ecjax.reconstruct import removed_clusters

    clustering = recovery.clusterings[0]
    kept = clustering.width
    smaller = take_neurons(recovery.network, [0, 1], layer=0)
    candidate = Candidate(smaller, np.zeros((1, 3)), 1e-5, lax, tuple(range(kept - 1)))
    (said,) = removed_clusters(clustering, candidate, "clusters")
    assert "of 8 students hold" in said
    assert "as exact (loss 1e-05, 1e-03 allowed)" in said


def test_one_nan_in_fresh_answers_is_refused_at_the_door():
    _, x, y = planted()
    fresh = (x[:50], y[:50].at[7].set(jnp.nan))
    with pytest.raises(ValueError, match=r"`fresh\[1\]` has NaN or infinite entries in 1 row, the first at index 7"):
        ec.recover(x, y, activation="tanh", key=jr.key(0), fresh=fresh)


def test_answers_that_are_not_finite_are_no_certificate():
    teacher, x, y = planted()
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match="`fresh` has answers that are NaN"):
            ec.certify(teacher, x, y, fresh=(x[:50], y[:50].at[7].set(bad)))
        with pytest.raises(ValueError, match="`y` has answers that are NaN"):
            ec.certify(teacher, x, y.at[3].set(bad))


def test_a_network_that_answers_nan_is_not_certified():
    teacher, x, y = planted()
    broken = eqx.tree_at(lambda net: net.layers[1].b, teacher, jnp.full(1, jnp.nan))
    with np.errstate(invalid="ignore"):
        try:
            assert not ec.certify(broken, x, y).certified
        except (ValueError, np.linalg.LinAlgError):
            pytest.fail("a verdict is wanted, not an error")


def test_a_constant_output_has_no_certificate():
    teacher, x, y = planted(d_out=2)
    with pytest.raises(ValueError, match=r"`y` is constant in columns \[1\]"):
        ec.certify(teacher, x, y.at[:, 1].set(0.5))


def test_too_few_queries_are_too_few_and_not_too_large():
    teacher, x, y = planted()
    doubts = ec.certify(teacher, x[:20], y[:20]).doubts
    assert any("too few" in doubt for doubt in doubts)
    assert not any("too large" in doubt for doubt in doubts)
    doubts = ec.certify(teacher, x, y, affordable=1e3).doubts
    assert any("too large" in doubt for doubt in doubts)


@pytest.mark.parametrize("kind", ["copy", "silent"])
def test_a_neuron_too_many_is_not_certified_in_float32_either(kind):
    teacher, x, y = planted(dtype=jnp.float32)
    assert ec.certify(teacher, x, y).certified
    wide = ec.network.split_neuron(teacher, 0, layer=0, share=0.3)
    if kind == "silent":
        wide = eqx.tree_at(lambda net: net.layers[1].w, wide, wide.layers[1].w.at[0, 0].set(0.0))
        y = ec.respond(wide, x)
    assert not ec.certify(wide, x, y).certified


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_relu_neuron_in_other_units_is_alive(factor):
    """(w, b) x c and a / c is the same neuron."""
    teacher, x, _ = planted("relu")
    assert ec.unrecoverable_neurons(teacher, x) == []
    hidden, output = teacher.layers
    size = jnp.array([1.0, factor, 1.0])
    scaled = ec.Network(
        (
            replace(hidden, w=hidden.w * size[:, None], b=hidden.b * size),
            replace(output, w=output.w / size[None]),
        )
    )
    assert ec.unrecoverable_neurons(scaled, x) == []


def test_a_dead_neuron_is_still_named():
    teacher, x, _ = planted("relu")
    dead = eqx.tree_at(lambda net: net.layers[0].b, teacher, teacher.layers[0].b.at[1].set(-1e3))
    (note,) = ec.unrecoverable_neurons(dead, x)
    assert "neuron 2 never changed" in note


# --- rounds --------------------------------------------------------------------------------------------------------


def rounds(monkeypatch, losses, n_rounds=3):
    """The answer of a layer whose rounds reconstruct networks with these losses, None for no cluster at all."""
    teacher, x, y = planted()
    config = ec.RecoveryConfig.toy(8, 4, rounds=n_rounds)
    samples = ec.Samples(x, y)
    judge = Judge.of(samples, accepted=config.exact_loss)
    told = iter(losses)

    def reconstructed(expansion, clustering, *_, **__):
        loss = next(told)
        if loss is None:
            raise NoClustersError("none")
        candidate = Candidate(teacher, np.zeros((1, 3)), loss, judge, (0, 1, 2))
        return layers.Found(candidate, "clusters", expansion, clustering)

    students = drawn.students(4, (3, 8, 1), "tanh", key=jr.key(0))
    expansion = drawn.expansion(students, 1e-3)
    monkeypatch.setattr(layers, "reconstructed", reconstructed)
    monkeypatch.setattr(layers, "expand", lambda *_, **__: expansion)
    monkeypatch.setattr(layers, "shared_floor", lambda *_, **__: None)
    found = layers.next_layer(
        students,
        samples,
        config,
        judge,
        key=jr.key(1),
        frozen_below=False,
        store=None,
        progress=silent,
        seconds=Stopwatch(),
    )
    return found.candidate.loss, len(list(told))


@pytest.mark.parametrize(
    ("losses", "kept", "n_unused"),
    [
        ([1e-9, 1e-3, 1e-4], 1e-9, 0),
        ([1e-3, 1e-9, 1e-4], 1e-9, 0),
        ([1e-3, None, 1e-4], 1e-4, 0),
        ([1e-9, None, None], 1e-9, 0),
        ([1e-3, 1e-30, 1e-31], 1e-30, 1),
        ([np.nan, 1e-3, np.nan], 1e-3, 0),
    ],
    ids=str,
)
def test_a_later_round_does_not_take_a_better_answer_away(losses, kept, n_unused, monkeypatch):
    assert rounds(monkeypatch, losses) == (kept, n_unused)


def test_rounds_without_any_cluster_are_an_error(monkeypatch):
    with pytest.raises(NoClustersError):
        rounds(monkeypatch, [None, None, None])

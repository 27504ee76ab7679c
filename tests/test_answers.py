"""How precise answers are, what errors in them say of widths and weights, and how often that is right."""

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecjax as ec
from ecjax.data.rows import independent_outputs, repeated
from ecjax.judge import Evidence, Judge, half_widths, standard_errors
from ecjax.reconstruct.evidence import NEW, weigh

seeds = st.integers(0, 2**32 - 1)


# --- what answers show of themselves -------------------------------------------------------------------------------


@given(seed=seeds, decimals=st.integers(0, 7), size=st.sampled_from([1.0, 30.0, 7e3]))
def test_decimals_are_found(seed, decimals, size):
    y = np.round(size * np.random.default_rng(seed).standard_normal((50, 2)), decimals)
    found = ec.Answers().found(y)
    assert found.decimals == decimals or (size == 1.0 and decimals == 0)  # -0.0, 1, -1 are few digits of anything
    error = found.rounding(y)
    np.testing.assert_allclose(error, 10.0**-decimals / np.sqrt(12))


@given(seed=seeds, digits=st.integers(2, 9))
def test_significant_digits_are_found(seed, digits):
    rng = np.random.default_rng(seed)
    plain = rng.standard_normal((4000, 2)) * 10.0 ** rng.uniform(-3, 0, (4000, 2))
    y = np.char.mod(f"%.{digits - 1}e", plain).astype(float)
    found = ec.Answers().found(y)
    assert found.digits == digits
    assert np.sqrt(np.mean((plain - y) ** 2, axis=0)) == pytest.approx(found.rounding(y), rel=0.6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_precision_of_a_computation_is_found(dtype):
    plain = np.random.default_rng(0).standard_normal((400, 2))
    y = plain.astype(dtype).astype(float)
    found = ec.Answers().found(y)
    assert (found.dtype, found.is_computed) == (dtype, True)
    np.testing.assert_allclose(found.rounding(y), np.sqrt(np.mean((plain - y) ** 2, axis=0)), rtol=0.1)


@given(seed=seeds, size=st.sampled_from([1e-8, 1.0, 1e8]))
def test_plain_answers_are_not_rounded(seed, size):
    found = ec.Answers().found(size * np.random.default_rng(seed).standard_normal((30, 1)))
    assert found == ec.Answers()
    assert not found.rounding(np.ones((3, 1))).any()
    assert found.words() == ""


def test_what_is_told_is_not_looked_for():
    y = np.round(np.random.default_rng(0).standard_normal((30, 1)), 2)
    assert ec.Answers(digits=5).found(y) == ec.Answers(digits=5)
    assert ec.Answers(noise=0.1).found(y) == ec.Answers(noise=0.1, decimals=2)
    assert ec.Answers().found(y[:4]) == ec.Answers()  # four numbers of two decimals prove nothing


@pytest.mark.parametrize(
    "told", [{"kind": "classes"}, {"decimals": -1}, {"digits": 40}, {"dtype": "float8"}, {"noise": -1.0}]
)
def test_what_no_answers_are_is_refused(told, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # whose type checks would stand before it
    with pytest.raises(ValueError, match="`answers"):
        ec.Answers(**told)


# --- the judge among errors ----------------------------------------------------------------------------------------


def test_a_neuron_is_let_go_if_it_explains_no_more_than_chance():
    judge = Judge(eps=2e-16, n_numbers=1000, noise=1e-4, origin="told")
    chance = judge.chance(6)
    per_nat = 2 * judge.noise / judge.n_numbers
    assert judge.lets_go(1e-4, 1e-4 - 0.9 * chance * per_nat, 6)
    assert not judge.lets_go(1e-4, 1e-4 - 1.1 * chance * per_nat, 6)
    assert not judge.lets_go(2e-4, 2e-4, 6)  # not exact at all
    assert not judge.lets_go(float("nan"), 1e-4, 6)
    assert judge.gain(1e-4 - per_nat, 1e-4) == pytest.approx(1.0)
    assert judge.gain(1e-32, 1e-28) == 0.0  # of rounding nothing is explained
    seen = Judge(eps=2e-16, n_numbers=1000, noise=1e-4, origin="seen")
    assert seen.gain(0.9e-4, 1e-4) == pytest.approx(500 * np.log(1 / 0.9))  # of variance unknown


def test_noise_below_rounding_decides_nothing():
    judge = Judge(eps=2e-16, n_numbers=1000, noise=1e-30, origin="rounding")
    assert not judge.is_noisy
    assert judge.words() == "exact to machine precision"


def test_answers_that_are_said_to_have_no_errors_are_compared_without_them():
    judge = Judge.of(ec.Samples(jnp.ones((500, 2)), jnp.ones((500, 2))), noise=0.0, origin="told")
    assert not judge.is_noisy
    assert judge.gain(0.9e-4, 1e-4) == pytest.approx(500 * np.log(1 / 0.9))
    assert judge.score(1e-4, 10) < judge.score(2e-4, 10) < judge.score(2e-4, 20)


def test_evidence_says_what_it_knows():
    stands = Evidence(layer=1, width=4, fewer=1203.0, more=2.1, chance=23.0)
    assert stands.stands
    assert "4 neurons; 3 are refuted" in stands.words()
    assert not Evidence(layer=1, width=4, fewer=3.0, more=2.1, chance=23.0).stands
    assert not Evidence(layer=1, width=4, fewer=1203.0, more=99.0, chance=23.0).stands
    assert not Evidence(layer=1, width=4, fewer=1203.0, more=2.1, chance=23.0, student=5.0).stands


# --- widths and intervals ------------------------------------------------------------------------------------------


def noisy(activation="tanh", *, shape=(3, 2, 1), n=250, std=1e-2, seed=0):
    teacher_key, x_key, noise_key = jr.split(jr.key(seed), 3)
    teacher = drawn.teacher(shape[0], shape[1:-1], shape[-1], activation, key=teacher_key)
    x = drawn.queries(n, shape[0], key=x_key)
    y = np.asarray(drawn.answers(teacher, x))
    return teacher, x, drawn.on_device(y + std * y.std(axis=0) * np.asarray(drawn.normal(noise_key, y.shape)))


@pytest.mark.parametrize("change", [*(pytest.param(each, marks=pytest.mark.slow) for each in (-1, 0)), 1])
def test_the_evidence_leads_to_the_teachers_width(change):
    """From one neuron too few, or one too many, to what the answers say."""
    teacher, x, y = noisy()
    scale = ec.Data.of(x, y).scaling("no")
    samples = scale.samples(x, y)
    judge = Judge.of(samples, noise=1e-2)
    start = ec.network.take_neurons(teacher, range(1), layer=0) if change < 0 else teacher
    if change > 0:
        start = ec.network.grow(teacher, jnp.ones(3), 0.3, jnp.ones(1), layer=0)
    stop = ec.Stopping(max_steps=100, patience=20, gradient_norm=0.0)
    weighed = weigh(start, samples, stop=stop, judge=judge, pad_to=4)  # one program for all widths
    assert weighed.network.widths == (2,)
    assert weighed.evidence.stands
    assert judge.fits(weighed.loss)
    assert weighed.origin == ((0, NEW) if change < 0 else (0, 1))


def test_one_neuron_has_no_neighbour_below_to_refine():
    """Its evidence is against no neurons at all, and it stays where that is not refuted."""
    teacher, x, y = noisy(shape=(2, 1, 1), std=1e3)
    samples = ec.Data.of(x, y).scaling("no").samples(x, y)
    stop = ec.Stopping(max_steps=20, patience=5, gradient_norm=0.0)
    weighed = weigh(teacher, samples, stop=stop, judge=Judge.of(samples, noise=1.0))
    assert weighed.origin == (0,)
    assert not weighed.evidence.stands


@pytest.mark.parametrize("activation", ["tanh", pytest.param("relu", marks=pytest.mark.slow)])
def test_standard_errors_are_those_of_a_bootstrap(activation):
    """Of 60 draws of the noise, refitted from the teacher: their spread is the standard error within its own error."""
    from ecjax.network.moves import with_unit_vectors
    from ecjax.reconstruct import finetune

    teacher, x, _ = noisy(activation, shape=(2, 2, 1), n=300)
    plain = drawn.answers(teacher, x)
    stop, fitted = ec.Stopping(max_steps=30, patience=8, gradient_norm=0.0), []
    for seed in range(60):
        samples = ec.Samples(x, plain + 1e-2 * drawn.normal(jr.key(seed), plain.shape))
        net, _ = finetune(teacher, samples, stop=stop, judge=Judge.of(samples))
        fitted.append(ec.objective.flatten(with_unit_vectors(net))[0])
    spread = np.std(np.stack(fitted), axis=0)
    errors = ec.objective.flatten(standard_errors(with_unit_vectors(teacher), x, samples.y))[0]
    np.testing.assert_allclose(errors, spread, rtol=0.4, atol=1e-6)  # 4 / sqrt(2 * 60)


def test_weights_that_nothing_shows_have_no_error():
    teacher, x, y = noisy()
    x = x.at[:, 1].set(0.0)
    errors = standard_errors(teacher, x, y)
    assert np.isinf(errors.layers[0].w[:, 1]).all()
    assert np.isfinite(np.delete(np.asarray(errors.layers[0].w), 1, axis=1)).all()


@settings(deadline=None)
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_standard_errors_know_weights_of_rows_as_ratios(seed, scale):
    """Equal weights are none, and a common factor changes nothing."""
    teacher, x, y = noisy(n=40)
    weights = drawn.on_device(np.random.default_rng(seed).uniform(0.1, 3.0, 40))
    errors = lambda weights: ec.objective.flatten(standard_errors(teacher, x, y, weights=weights))[0]
    np.testing.assert_allclose(errors(scale * weights), errors(weights), rtol=1e-9)
    np.testing.assert_allclose(errors(jnp.full(40, scale)), errors(None), rtol=1e-9)


def test_intervals_widen_with_the_level():
    teacher, x, y = noisy(n=400)
    errors = standard_errors(teacher, x, y)
    narrow, wide = (half_widths(errors, y.size, level=level).layers[0].w for level in (0.5, 0.95))
    assert (np.asarray(narrow) < np.asarray(wide)).all()
    np.testing.assert_allclose(wide / errors.layers[0].w, 1.966, atol=2e-3)
    with pytest.raises(ValueError, match="`level`"):
        half_widths(errors, y.size, level=95.0)
    with pytest.raises(ValueError, match="`y` has 5 numbers"):
        standard_errors(teacher, x[:5], y[:5])


@pytest.mark.slow
def test_rounded_answers_are_recovered_to_their_rounding():
    teacher, x, _ = noisy(shape=(3, 2, 2))
    for y, words in (
        (jnp.round(ec.respond(teacher, x), 4), "rounding of the answers"),
        (ec.respond(teacher, x).astype(jnp.float32).astype(float), "precision in which the answers were computed"),
    ):
        recovery = ec.recover(x, y, activation="tanh", key=jr.key(0), student_width=8, n_students=6)
        assert recovery.widths == (2,)
        assert recovery.certificate.certified
        assert words in recovery.summary()
        bound = recovery.certificate.parameter_bound
        assert bound is not None
        assert ec.compare(recovery, teacher, x).parameter_error < 2.1 * bound
        assert recovery.intervals().n_parameters == teacher.n_parameters


@pytest.mark.slow
def test_plain_answers_have_no_intervals():
    teacher, x, _ = noisy()
    recovery = ec.recover(x, ec.respond(teacher, x), activation="tanh", key=jr.key(0), student_width=8, n_students=6)
    assert (recovery.evidence, recovery.errors) == ((), None)
    with pytest.raises(ValueError, match="no standard errors"):
        recovery.intervals()


@pytest.mark.slow
def test_a_deep_teacher_is_weighed_layer_by_layer():
    teacher, x, y = noisy(shape=(3, 2, 2, 1), n=1500, std=1e-4, seed=5)
    config = ec.RecoveryConfig.toy(student_width=8, n_students=6)
    recovery = ec.recover(x, y, activation="tanh", hidden_layers=2, key=jr.key(0), config=config,
                          answers=ec.Answers(noise=1e-4))  # fmt: skip
    assert recovery.widths == teacher.widths
    assert [each.layer for each in recovery.evidence] == [1, 2]
    assert recovery.certificate.certified
    assert jax.tree.structure(recovery.errors) == jax.tree.structure(recovery.network)


# --- tables ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)  # the first example compiles
@given(seed=seeds, std=st.sampled_from([1e-3, 0.1]))
def test_repeated_queries_show_the_noise(seed, std):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((300, 3))
    x[150:] = x[rng.permutation(150)]
    plain = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    noisy = plain + std * plain.std(axis=0) * rng.standard_normal(plain.shape)
    times, off = repeated(x, noisy)
    assert times == 150
    assert off == pytest.approx(std, rel=0.35)
    assert repeated(x, plain) == (150, pytest.approx(0.0, abs=1e-15))
    assert repeated(x[:150], plain[:150]) == (0, 0.0)
    assert any("came before, with other answers" in each for each in ec.Data.of(x, noisy).notes)


@settings(deadline=None)
@given(seed=seeds, n_more=st.integers(0, 3))
def test_outputs_that_are_functions_of_others_count_once(seed, n_more):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((40, 2)) * [1e-3, 1e4]
    y = np.concatenate([y, y @ rng.standard_normal((2, n_more)) + 7.0], axis=1)
    assert independent_outputs(y) == 2
    data = ec.Data.of(rng.standard_normal((40, 2)), y)
    assert data.n_numbers == 80
    assert len(data.notes) == (n_more > 0)

"""A certificate is given to the teacher itself and to nothing else, and its bound holds."""

from dataclasses import replace

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.judge import Judge, certificate, ease
from ecjax.judge.certificate import spectrum
from ecjax.network import hidden_states, permute_neurons, split_neuron, take_neurons

KINDS = ["tanh", "sigmoid", "gaussian", "softplus", "relu", "abs", "g"]


def planted(activation="g", d_in=3, width=3, d_out=1, n=400, seed=0):
    teacher_key, query_key = jr.split(jr.key(seed))
    teacher = drawn.teacher(d_in, width, d_out, activation, key=teacher_key)
    x = drawn.queries(n, d_in, key=query_key)
    return teacher, x, ec.respond(teacher, x)


SHAPES = [(3, 1), (2, 3), ((2, 3), 1)]


@pytest.mark.parametrize(
    ("activation", "width", "d_out"),
    [
        *((activation, 3, 1) for activation in KINDS),
        *(
            pytest.param(activation, *shape, marks=[] if activation in ("softplus", "relu") else [pytest.mark.slow])
            for activation in KINDS
            for shape in SHAPES[1:]
        ),
    ],
)
def test_the_teacher_is_certified(activation, width, d_out):
    teacher, x, y = planted(activation, width=width, d_out=d_out)
    given = ec.certify(teacher, x, y, fresh=(x[:100] * 0.9, ec.respond(teacher, x[:100] * 0.9)))
    assert given.certified, given.doubts
    assert given.summary().startswith("Certified")
    assert given.n_numbers == y.size
    assert np.isfinite(given.condition)


@pytest.mark.parametrize("activation", ["tanh", "softplus", "g"])
@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-4])
def test_the_bound_holds_for_networks_near_the_teacher(activation, size):
    """To first order: a tenth is left for the second."""
    teacher, x, y = planted(activation)
    theta, unflatten = jax.flatten_util.ravel_pytree(teacher)
    shift = size * drawn.normal(jr.key(5), theta.shape)
    given = ec.certify(unflatten(theta + shift), x, y)
    assert float(jnp.linalg.norm(shift)) <= 1.1 * given.parameter_bound
    assert not given.certified
    assert "more than rounding" in given.summary()


def surplus(teacher, kind):
    """The same function with a neuron too many."""
    if kind == "copy":
        return split_neuron(teacher, 0, layer=0, share=0.3)
    hidden, output = teacher.layers
    w = jnp.concatenate([hidden.w, jnp.zeros_like(hidden.w[:1]) if kind == "constant" else hidden.w[:1] + 0.5])
    b = jnp.concatenate([hidden.b, jnp.ones(1)])
    gain = 0.7 if kind == "constant" else 0.0
    phi = hidden.activation(jnp.ones(()))
    a = jnp.concatenate([output.w, jnp.full_like(output.w[:, :1], gain)], axis=1)
    c = output.b - gain * phi if kind == "constant" else output.b
    return ec.Network((ec.Layer(w, b, hidden.activation), ec.Layer(a, c)))


@pytest.mark.parametrize("kind", ["copy", "silent", "constant"])
@pytest.mark.parametrize("activation", ["tanh", "g", "relu"])
def test_a_neuron_too_many_is_never_certified(kind, activation):
    teacher, x, y = planted(activation)
    wide = surplus(teacher, kind)
    np.testing.assert_allclose(ec.respond(wide, x), y, atol=1e-12)
    given = ec.certify(wide, x, y)
    assert Judge.of(ec.Samples(x, y)).fits(given.loss)
    assert not given.certified
    assert any("known to" in doubt for doubt in given.doubts)


def test_doubts_are_named():
    teacher, x, y = planted()
    other, *_ = planted(seed=7)
    linear = ec.Layer(jnp.zeros((1, 3)), jnp.zeros(1))
    too_small = take_neurons(teacher, [0, 1], layer=0)
    cases = {
        "fresh queries": ec.certify(teacher, x, y, fresh=(x, ec.respond(other, x))),
        "signs": ec.certify(teacher, x, y, linear=linear),
        "fewer than 2": ec.certify(teacher, x[:20], y[:20]),
        "not looked at": ec.certify(teacher, x, y, affordable=1e3),
        "more than rounding": ec.certify(too_small, x, y),
    }
    for said, given in cases.items():
        assert not given.certified
        assert said in given.summary()
    assert cases["not looked at"].condition is None


@pytest.mark.parametrize("activation", ["g", "relu", "tanh"])
def test_spectrum_is_that_of_finite_differences(activation):
    teacher, x, _ = planted(activation, width=2, d_out=2, n=60)
    theta, unflatten = jax.flatten_util.ravel_pytree(teacher)
    answers = lambda theta: np.asarray(ec.respond(unflatten(theta), x)).reshape(-1)
    steps = 1e-6 * np.eye(len(theta))
    j = np.stack([(answers(theta + step) - answers(theta - step)) / 2e-6 for step in steps], axis=1)
    scale = np.asarray(ec.respond(teacher, x)).std(axis=0)
    j = j / np.tile(scale, len(x))[:, None] / np.sqrt(2 * len(x))
    expected = np.linalg.svd(j, compute_uv=False)
    found = spectrum(teacher, x)
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-6 * expected[0])
    n_rescaled = 2 if activation == "relu" else 0
    assert len(found) == len(theta) - n_rescaled
    assert np.all(expected[len(found) :] < 1e-6 * expected[0])


def test_spectrum_does_not_depend_on_how_it_is_cut_into_pieces(monkeypatch):
    teacher, x, _ = planted(n=101)
    whole = spectrum(teacher, x)
    monkeypatch.setattr(certificate, "AT_ONCE", 7 * teacher.n_parameters)
    np.testing.assert_allclose(spectrum(teacher, x), whole, rtol=1e-9)


def test_inputs_that_never_vary_are_left_out():
    teacher, x, _ = planted(d_in=4)
    x = x.at[:, 1].set(0.5).at[:, 2].set(x[:, 0] - x[:, 3])
    assert len(spectrum(teacher, x)) == teacher.n_parameters - 2 * 3
    assert ec.certify(teacher, x, ec.respond(teacher, x)).certified


def test_ease_is_the_smallest_eigenvalue_of_the_fisher_information():
    teacher, x, y = planted()
    j = np.asarray(ec.Samples(x, y).jacobian(teacher))  # one number a row, over the root of how many there are
    expected = np.linalg.eigvalsh(j.T @ j)[0] / np.var(np.asarray(y))
    assert ease(teacher, x) == pytest.approx(expected, rel=1e-6)
    assert ease(permute_neurons(teacher, [2, 0, 1], layer=0), x) == pytest.approx(ease(teacher, x), rel=1e-6)
    with pytest.raises(ValueError, match="Ask more"):
        ease(teacher, x[:5])


def test_two_neurons_that_come_close_are_harder_to_tell_apart():
    teacher, x, _ = planted()
    hidden, output = teacher.layers
    close = lambda gap: replace(hidden, w=hidden.w.at[1].set(hidden.w[0] + gap))
    eases = [ease(ec.Network((close(gap), output)), x) for gap in (0.5, 0.1, 0.01)]
    assert eases == sorted(eases, reverse=True)


def test_a_recovery_carries_its_certificate():
    teacher = drawn.teacher(2, 2, key=jr.key(0))
    x, fresh_x = (drawn.queries(drawn.N_TOY, 2, key=jr.key(seed)) for seed in (1, 9))
    y, fresh_y = (drawn.answers(teacher, queries) for queries in (x, fresh_x))
    ask = {"activation": "tanh", "key": jr.key(2), "config": drawn.TOY}
    recovery = ec.recover(x, y, fresh=(fresh_x, fresh_y[:, 0]), **ask)
    assert recovery.certificate.certified
    assert recovery.judge.fits(recovery.certificate.fresh_loss)
    assert "Certified" in recovery.summary()
    again = ec.certify(recovery.network, x, y, judge=recovery.judge, fresh=ec.Samples(fresh_x, fresh_y))
    assert again == recovery.certificate


def _with_a_column_twice(kind):
    """A problem whose inputs have a direction that no query shows, and a network that is off along it by a half."""
    teacher, x, _ = planted("tanh")
    extra = {"duplicated": x[:, :1], "constant": jnp.full((len(x), 1), 2.0)}[kind]
    x = jnp.concatenate([x, extra], axis=1)
    first, last = teacher.layers
    wide = replace(first, w=jnp.concatenate([first.w, jnp.zeros((len(first.b), 1))], axis=1))
    along = jnp.array([-1.0, 0.0, 0.0, 1.0]) if kind == "duplicated" else jnp.array([0.0, 0.0, 0.0, 1.0])
    bias = wide.b if kind == "duplicated" else wide.b - 1.0
    off = replace(wide, w=wide.w + 0.5 * along[None], b=bias)
    return ec.Network((wide, last)), ec.Network((off, last)), x


@pytest.mark.parametrize("kind", ["duplicated", "constant"])
def test_a_certificate_says_of_which_weights_it_speaks(kind):
    teacher, off, x = _with_a_column_twice(kind)
    given = ec.certify(off, x, ec.respond(teacher, x))
    assert given.certified, given.doubts
    assert given.n_unseen == 1
    assert "but for weights along the direction in which the inputs do not vary; pre-activations" in given.summary()


@pytest.mark.parametrize("kind", ["duplicated", "constant", "none"])
def test_pre_activations_are_bounded_whatever_the_queries_leave_open(kind):
    if kind == "none":
        teacher, x, _ = planted("tanh")
        off = teacher
    else:
        teacher, off, x = _with_a_column_twice(kind)
    theta, unflatten = jax.flatten_util.ravel_pytree(off)
    off = unflatten(theta + 1e-7 * drawn.normal(jr.key(5), theta.shape))
    given = ec.certify(off, x, ec.respond(teacher, x))
    apart = hidden_states(off, x)[0].z - hidden_states(teacher, x)[0].z
    assert given.n_unseen == (kind != "none")
    assert given.pre_activation_bound is not None
    assert 0 < float(jnp.sqrt(jnp.mean(apart**2, axis=0)).max()) <= 1.1 * given.pre_activation_bound


def test_without_hidden_directions_nothing_is_said_of_them():
    teacher, x, y = planted("tanh")
    assert "do not vary" not in ec.certify(teacher, x, y).summary()

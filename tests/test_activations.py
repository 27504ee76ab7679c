"""Activations: closed forms against automatic differentiation and against other libraries; each claim of symmetry."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.network.activations import ACTIVATIONS, SYMMETRIES, Activation, Symmetry, as_activation, check_symmetry

EPS = np.finfo(float).eps
GRID = jnp.linspace(-9.0, 9.0, 721)
OFF_KINKS = GRID[GRID != 0]  # 0 is the only kink of the catalogue

# The same functions from elsewhere, or written down once more.
OTHERWISE = {
    "g": lambda z: scipy.special.expit(4 * z) + np.logaddexp(0, z),
    "tanh": np.tanh,
    "erf": scipy.special.erf,
    "arctan": np.arctan,
    "sin": np.sin,
    "identity": lambda z: z,
    "sigmoid": scipy.special.expit,
    "normal_cdf": scipy.stats.norm.cdf,
    "softplus": lambda z: np.logaddexp(0, z),
    "silu": lambda z: z * scipy.special.expit(z),
    "gelu": lambda z: z * scipy.special.ndtr(z),
    "gelu_tanh": lambda z: z * scipy.special.expit(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3)),
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.maximum(z, 0.01 * z),
    "elu": lambda z: np.asarray(jax.nn.elu(jnp.asarray(z))),
    "selu": lambda z: np.asarray(jax.nn.selu(jnp.asarray(z))),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "square": np.square,
    "abs": np.abs,
    "cos": np.cos,
    "gaussian": lambda z: np.exp(-np.square(z)),
}


def test_the_whole_catalogue_is_here():
    assert set(OTHERWISE) == set(ACTIVATIONS)
    assert all(name == activation.name for name, activation in ACTIVATIONS.items())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_are_what_their_names_say(name):
    wanted = OTHERWISE[name](np.asarray(GRID))
    np.testing.assert_allclose(ACTIVATIONS[name](GRID), wanted, rtol=1e-13, atol=1e-15)


def slopes(fn, z):
    return jax.vmap(jax.grad(fn))(z)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_automatic_differentiation(name):
    activation = ACTIVATIONS[name]
    z = GRID if activation.smooth else OFF_KINKS
    # Automatic derivatives round terms of order 10 that cancel in the tails; the closed forms do not.
    np.testing.assert_allclose(activation.d1(z), slopes(activation.fn, z), rtol=1e-12, atol=64 * EPS)
    np.testing.assert_allclose(activation.d2(z), slopes(jax.grad(activation.fn), z), rtol=1e-12, atol=1024 * EPS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_d2_is_the_derivative_of_d1(name):
    activation = ACTIVATIONS[name]
    z = GRID if activation.smooth else OFF_KINKS
    np.testing.assert_allclose(activation.d2(z), slopes(activation.d1, z), rtol=1e-12, atol=256 * EPS)


@pytest.mark.parametrize("name", [name for name, activation in ACTIVATIONS.items() if not activation.smooth])
def test_at_a_kink_the_slope_is_one_sided_or_the_midpoint(name):
    activation, h = ACTIVATIONS[name], 1e-9
    left, right = (float(activation.d1(jnp.asarray(z))) for z in (-h, h))
    at_kink = float(activation.d1(jnp.asarray(0.0)))
    assert any(at_kink == pytest.approx(slope, abs=1e-8) for slope in (left, right, (left + right) / 2))
    jump = activation.d2(jnp.asarray(h)) - activation.d2(jnp.asarray(-h))
    assert abs(right - left) > 0.1 or abs(jump) > 0.1  # not smooth: the first or the second derivative jumps


@pytest.mark.parametrize("name", [name for name, activation in ACTIVATIONS.items() if activation.smooth])
def test_a_smooth_activation_has_no_jumps(name):
    """The second derivative changes by less than its own derivative allows between neighbouring points."""
    z = jnp.linspace(-3.0, 3.0, 60_001)
    assert float(jnp.max(jnp.abs(jnp.diff(ACTIVATIONS[name].d2(z))))) < 1e-4 * 70  # |d3| of g is about 64 at most


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nothing_overflows(name):
    """Extreme pre-activations are finite, and so are their derivatives and what gradients make of them."""
    activation = ACTIVATIONS[name]
    z = jnp.asarray([-1e4, -800.0, -40.0, 40.0, 800.0, 1e4])
    for fn in (activation.fn, activation.d1, activation.d2):
        assert jnp.all(jnp.isfinite(fn(z)))
        assert jnp.all(jnp.isfinite(slopes(fn, z)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_precision_is_that_of_the_argument(name):
    activation = ACTIVATIONS[name]
    for dtype in (jnp.float32, jnp.float64):
        for fn in (activation, activation.d1, activation.d2):
            assert fn(jnp.ones((2, 3), dtype)).dtype == dtype
            assert fn(jnp.ones((2, 3), dtype)).shape == (2, 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_closed_forms_are_accurate_in_float32(name):
    """Against float64 at the same points: rounding only, nothing cancels."""
    activation = ACTIVATIONS[name]
    z = jnp.linspace(-6.0, 6.0, 241).astype(jnp.float32)
    for fn in (activation.fn, activation.d1, activation.d2):
        wanted = fn(z.astype(jnp.float64))
        scale = float(jnp.max(jnp.abs(wanted)))
        np.testing.assert_allclose(fn(z), wanted, rtol=1e-4, atol=64 * np.finfo(np.float32).eps * max(scale, 1))


# --- symmetry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(z=st.floats(-20, 20), c=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_every_claim_of_symmetry_holds(name, z, c):
    symmetry, fn = ACTIVATIONS[name].symmetry, OTHERWISE[name]  # the function written elsewhere, without compiling
    slack = 64 * EPS * (1 + abs(z)) * (1 + c)
    if symmetry.parity:
        law = symmetry.parity * fn(z) + symmetry.constant + symmetry.linear * z
        assert float(fn(-z)) == pytest.approx(float(law), abs=slack)
    if symmetry.homogeneous:
        assert float(fn(c * z)) == pytest.approx(float(c * fn(z)), abs=slack)
    if symmetry.antiperiod is not None:
        assert float(fn(z + symmetry.antiperiod)) == pytest.approx(float(-fn(z)), abs=slack)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_check_symmetry_lets_the_catalogue_pass(name):
    check_symmetry(ACTIVATIONS[name])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_catalogue_claims_all_it_can(name):
    """No activation has a symmetry of its class that it does not claim: its neurons would be told apart in vain."""
    activation = ACTIVATIONS[name]
    if activation.symmetry.polynomial:
        return  # a class of its own, which has no use for the others
    z, fn = np.linspace(-4, 4, 41), OTHERWISE[name]
    values, mirrored = fn(z), fn(-z)
    for parity in (1, -1):
        rest = mirrored - parity * values  # is it constant + linear * z?
        fit = np.polyval(np.polyfit(z, rest, 1), z)
        if np.allclose(rest, fit, rtol=0, atol=1e-10):
            assert activation.symmetry.parity == parity
    assert np.allclose(fn(2 * z), 2 * values, rtol=0, atol=1e-10) == activation.symmetry.homogeneous


CLAIMS = {
    "tanh is not even": (jnp.tanh, "even"),
    "cos is not odd": (jnp.cos, "odd"),
    "sigmoid has a constant": (jax.nn.sigmoid, Symmetry(parity=-1)),
    "softplus has a linear part": (jax.nn.softplus, Symmetry(parity=1)),
    "softplus has another linear part": (jax.nn.softplus, Symmetry(parity=1, linear=1.0)),
    "softplus is not homogeneous": (jax.nn.softplus, Symmetry(parity=1, linear=-1.0, homogeneous=True)),
    "tanh is not homogeneous": (jnp.tanh, Symmetry(parity=-1, homogeneous=True)),
    "sin has another antiperiod": (jnp.sin, Symmetry(parity=-1, antiperiod=2 * math.pi)),
    "nearly odd is not odd": (lambda z: jnp.tanh(z) + 1e-6 * z**2, "odd"),
    "g has none": (ACTIVATIONS["g"].fn, "odd"),
    "nan is nothing": (lambda z: jnp.where(z > 3.9, jnp.nan, jnp.tanh(z)), "odd"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_false_claims_are_refused(claim):
    fn, symmetry = CLAIMS[claim]
    with pytest.raises(ValueError, match="claims what the function does not do"):
        check_symmetry(Activation(fn, symmetry, name=claim))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_true_claims_pass_in_either_precision(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        for activation in ACTIVATIONS.values():
            check_symmetry(activation)


def test_symmetries_that_make_no_sense_are_refused():
    for settings_, message in (
        ({"parity": 2}, "`parity`"),
        ({"constant": 1.0}, "set `parity`"),
        ({"linear": 1.0}, "set `parity`"),
        ({"parity": 1, "antiperiod": -1.0}, "`antiperiod`"),
        ({"parity": 1, "antiperiod": float("nan")}, "`antiperiod`"),
    ):
        with pytest.raises(ValueError, match=message):
            Symmetry(**settings_)


# --- your own -------------------------------------------------------------------------------------------------------


def test_derivatives_of_your_own_activation_are_automatic():
    mine = Activation(lambda z: z * jnp.exp(-z), symmetry="none", name="mine")
    z = jnp.linspace(-2.0, 2.0, 21).reshape(3, 7)
    np.testing.assert_allclose(mine.d1(z), (1 - z) * jnp.exp(-z), atol=1e-13)
    np.testing.assert_allclose(mine.d2(z), (z - 2) * jnp.exp(-z), atol=1e-13)
    np.testing.assert_allclose(jax.jit(mine.d2)(z), mine.d2(z), atol=1e-13)
    assert repr(mine) == "Activation(mine)"


def test_a_second_derivative_is_made_from_the_first_one_given():
    mine = Activation(jnp.abs, d1=lambda z: 3 * z)  # on purpose not the derivative of abs
    np.testing.assert_allclose(mine.d2(jnp.ones(2)), [3.0, 3.0])


@pytest.mark.parametrize("name", SYMMETRIES)
def test_plain_symmetries_go_by_name(name):
    assert Activation(jnp.tanh, name).symmetry == SYMMETRIES[name]


def test_an_activation_goes_by_name_or_as_itself():
    for name, activation in ACTIVATIONS.items():
        assert as_activation(name) is as_activation(activation) is activation
    with pytest.raises(ValueError, match=r"`activation` is one of .*'tanh'.*; got 'tan'"):
        as_activation("tan")
    with pytest.raises(ValueError, match="`symmetry` is a Symmetry or one of"):
        Activation(jnp.tanh, "odd + constant")


def test_activations_are_hashable_and_frozen():
    """They are static under jit: equal ones must not compile again."""
    assert len({hash(activation) for activation in ACTIVATIONS.values()}) == len(ACTIVATIONS)
    with pytest.raises(AttributeError):
        ACTIVATIONS["tanh"].name = "tan"

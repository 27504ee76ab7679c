"""Activations: closed forms against automatic differentiation and against other libraries; each claim of symmetry."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.network.activation import SYMMETRIES, Activation, Symmetry, check_symmetry, is_polynomial, unclaimed_laws
from ecjax.network.catalogue import ACTIVATIONS, as_activation

EPS = np.finfo(float).eps
GRID = jnp.linspace(-9.0, 9.0, 721)

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


EXTREME = jnp.asarray([-1e4, -800.0, -40.0, 40.0, 800.0, 1e4])


def slopes(fn, z):
    return jax.vmap(jax.grad(fn))(z)


@functools.cache
def table(name):
    """An activation on the grid and far out, with closed and automatic derivatives: one compiled program for all."""
    activation = ACTIVATIONS[name]

    @jax.jit
    def values(z):
        own = {"fn": activation.fn, "d1": activation.d1, "d2": activation.d2}
        automatic = {f"slope of {what}": slopes(fn, z) for what, fn in own.items()}
        return {what: fn(z) for what, fn in own.items()} | automatic | {"bend": slopes(jax.grad(activation.fn), z)}

    everywhere = jax.device_get(values(jnp.concatenate([GRID, EXTREME])))
    near, far = ({what: value[part] for what, value in everywhere.items()} for part in (slice(721), slice(721, None)))
    return near, far


def off_kinks(name):
    """The grid, but for 0, the only kink of the catalogue, where the activation may have it."""
    return np.ones(721, bool) if ACTIVATIONS[name].smooth else np.asarray(GRID) != 0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_are_what_their_names_say(name):
    np.testing.assert_allclose(table(name)[0]["fn"], OTHERWISE[name](np.asarray(GRID)), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_automatic_differentiation(name):
    near, at = table(name)[0], off_kinks(name)
    # Automatic derivatives round terms of order 10 that cancel in the tails; the closed forms do not.
    np.testing.assert_allclose(near["d1"][at], near["slope of fn"][at], rtol=1e-12, atol=64 * EPS)
    np.testing.assert_allclose(near["d2"][at], near["bend"][at], rtol=1e-12, atol=1024 * EPS)
    np.testing.assert_allclose(near["d2"][at], near["slope of d1"][at], rtol=1e-12, atol=256 * EPS)


@pytest.mark.parametrize("name", [name for name, activation in ACTIVATIONS.items() if not activation.smooth])
def test_at_a_kink_the_slope_is_one_sided_or_the_midpoint(name):
    left, at_kink, right = np.asarray(ACTIVATIONS[name].d1(jnp.asarray([-1e-9, 0.0, 1e-9])))
    assert any(at_kink == pytest.approx(slope, abs=1e-8) for slope in (left, right, (left + right) / 2))
    below, above = np.asarray(ACTIVATIONS[name].d2(jnp.asarray([-1e-9, 1e-9])))
    assert abs(right - left) > 0.1 or abs(above - below) > 0.1  # not smooth: the first or second derivative jumps


@pytest.mark.parametrize("name", [name for name, activation in ACTIVATIONS.items() if activation.smooth])
def test_a_smooth_activation_has_no_jumps(name):
    """The second derivative changes by less than its own derivative allows between neighbouring points."""
    z = jnp.linspace(-3.0, 3.0, 60_001)
    bend = np.asarray(jax.jit(ACTIVATIONS[name].d2)(z))
    assert np.abs(np.diff(bend)).max() < 1e-4 * 70  # |d3| of g is about 64 at most


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nothing_overflows(name):
    """Extreme pre-activations are finite, and so are their derivatives and what gradients make of them."""
    for what, value in table(name)[1].items():
        assert np.isfinite(value).all(), what


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_precision_is_that_of_the_argument(name):
    activation = ACTIVATIONS[name]
    for dtype in (jnp.float32, jnp.float64):
        for fn in (activation, activation.d1, activation.d2):
            made = jax.eval_shape(fn, jax.ShapeDtypeStruct((2, 3), dtype))
            assert (made.dtype, made.shape) == (dtype, (2, 3))


# Those whose closed forms have terms that could cancel, of each kind one; the others are slow.
CAREFUL = ("g", "erf", "sigmoid", "softplus", "gelu", "mish", "selu")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in CAREFUL else [pytest.mark.slow]) for name in ACTIVATIONS]
)
def test_closed_forms_are_accurate_in_float32(name):
    """Against float64 at the same points: rounding only, nothing cancels."""
    activation = ACTIVATIONS[name]
    values = jax.jit(lambda z: [fn(z) for fn in (activation.fn, activation.d1, activation.d2)])
    z = GRID[jnp.abs(GRID) <= 6].astype(jnp.float32)
    for got, wanted in zip(values(z), values(z.astype(jnp.float64)), strict=True):
        scale = float(np.abs(wanted).max())
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=64 * np.finfo(np.float32).eps * max(scale, 1))


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


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, jnp.float64) for name in ACTIVATIONS),
        ("g", jnp.float32),
        *(pytest.param(name, jnp.float32, marks=pytest.mark.slow) for name in ACTIVATIONS if name != "g"),
    ],
)
def test_check_symmetry_lets_the_catalogue_pass(name, dtype):
    """In either precision: every claim holds, none is missing, and only polynomials are called so."""
    with jax.enable_x64(dtype == jnp.float64):
        check_symmetry(ACTIVATIONS[name])
        assert unclaimed_laws(ACTIVATIONS[name]) == []
        assert is_polynomial(ACTIVATIONS[name]) == ACTIVATIONS[name].symmetry.polynomial


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


POLYNOMIALS = {
    "cube": (lambda z: z**3, "odd"),
    "line": (lambda z: 1 - 2 * z, "none"),
    "constant": (jnp.ones_like, "even"),
    "of degree ten": (lambda z: z**10 - z**7 + 0.1, "none"),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_are_refused_whatever_they_claim(name, dtype):
    """A sum of such neurons can be written in infinitely many ways."""
    fn, symmetry = POLYNOMIALS[name]
    with jax.enable_x64(dtype == jnp.float64), pytest.raises(ValueError, match=rf"`activation` {name} is a polynomial"):
        check_symmetry(Activation(fn, symmetry, name=name))
    check_symmetry(Activation(fn, "polynomial", name=name))  # that is what it is, and `recover` refuses it


NO_POLYNOMIALS = {
    "nearly a line": lambda z: jnp.tanh(0.01 * z),
    "nearly a step": lambda z: jnp.tanh(100 * z),
    "a narrow bump": lambda z: jnp.exp(-((100 * z) ** 2)),
    "a wide bump": lambda z: jnp.exp(-((0.01 * z) ** 2)),
    "a slow wave": lambda z: jnp.sin(0.01 * z),
    "it overflows": jnp.sinh,
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", NO_POLYNOMIALS)
def test_what_only_looks_like_a_polynomial_is_none(name, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        assert not is_polynomial(Activation(NO_POLYNOMIALS[name], name=name))


UNCLAIMED = {
    "tanh": (Activation(jnp.tanh), r"fn\(-z\) = -fn\(z\)\. "),
    "sigmoid": (Activation(jax.nn.sigmoid), r"fn\(-z\) = -fn\(z\) \+ 1\. "),
    "softplus": (Activation(jax.nn.softplus), r"fn\(-z\) = fn\(z\) \+ -1 z\. "),
    "relu": (Activation(jax.nn.relu, Symmetry(parity=1, linear=-1.0)), r"fn\(c z\) = c fn\(z\) for c > 0\. "),
}


@pytest.mark.parametrize("name", UNCLAIMED)
def test_a_law_that_holds_and_is_not_claimed_is_told(name):
    """`Activation(jnp.tanh)` claims nothing, and would count every neuron twice in silence."""
    activation, law = UNCLAIMED[name]
    with pytest.warns(UserWarning, match=f"has a symmetry that it does not claim: {law}"):
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

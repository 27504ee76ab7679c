"""The activations that ecjax knows by name, each with its derivatives in closed form and its symmetry."""

import math

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.scipy.special import erf, erfc

from .activation import Activation, Symmetry
from .mixtures import LayerActivation, Mixture


@jax.custom_jvp
def softplus(z):
    """log(1 + exp(z)), to 2 eps. The logarithm by its series in e / (2 + e): XLA's log1p takes ten times as long."""
    z = jnp.asarray(z)
    e = jnp.exp(-jnp.abs(z))
    s = e / (2 + e)  # log(1 + e) = 2 artanh(s), s <= 1/3
    n = 6 if z.dtype == jnp.float32 else 15  # terms after which 9^-n is below the rounding error
    series = jnp.full_like(z, 1 / (2 * n + 1))
    for k in reversed(range(n)):
        series = series * s**2 + 1 / (2 * k + 1)
    return jnp.maximum(z, 0) + 2 * s * series


softplus.defjvp(lambda primals, tangents: (softplus(*primals), sigmoid(*primals) * tangents[0]))


def _sigmoid_d1(z):
    e = jnp.exp(-jnp.abs(z))
    return e / (1 + e) ** 2  # not s (1 - s), which cancels for large z


def _sigmoid_d2(z):
    return -_sigmoid_d1(z) * jnp.tanh(z / 2)  # 1 - 2 s(z) = -tanh(z / 2)


def _g(z):
    return sigmoid(4 * z) + softplus(z)


def _g_d1(z):
    return 4 * _sigmoid_d1(4 * z) + sigmoid(z)


def _g_d2(z):
    return 16 * _sigmoid_d2(4 * z) + _sigmoid_d1(z)


def _sech2(z):
    return 1 - jnp.tanh(z) ** 2


def _normal_pdf(z):
    return jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _normal_cdf(z):
    return erfc(-z / math.sqrt(2)) / 2  # not (1 + erf) / 2, which cancels for negative z


def _erf_d1(z):
    return 2 / math.sqrt(math.pi) * jnp.exp(-(z**2))


def _silu_d2(z):
    return 2 * _sigmoid_d1(z) + z * _sigmoid_d2(z)


def _tanh_gelu_argument(z):
    """u and its first two derivatives in gelu_tanh(z) = z (1 + tanh(u / 2)) / 2 = z sigmoid(u)."""
    scale, cubic = math.sqrt(8 / math.pi), 0.044715
    return scale * (z + cubic * z**3), scale * (1 + 3 * cubic * z**2), scale * 6 * cubic * z


def _gelu_tanh(z):
    u, _, _ = _tanh_gelu_argument(z)
    return z * sigmoid(u)


def _gelu_tanh_d1(z):
    u, u1, _ = _tanh_gelu_argument(z)
    return sigmoid(u) + z * u1 * _sigmoid_d1(u)


def _gelu_tanh_d2(z):
    u, u1, u2 = _tanh_gelu_argument(z)
    return (2 * u1 + z * u2) * _sigmoid_d1(u) + z * u1**2 * _sigmoid_d2(u)


def _step(z):
    return jnp.where(z > 0, jnp.ones_like(z), 0)


_LEAK = 0.01
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv:1706.02515


def _exp_below(z):
    return jnp.where(z > 0, 0, jnp.exp(jnp.minimum(z, 0)))  # the minimum keeps the unused branch finite


def _elu_d1(z):
    return _step(z) + _exp_below(z)


def _selu_d1(z):
    return _SELU_SCALE * (_step(z) + _SELU_ALPHA * _exp_below(z))


def _mish(z):
    return z * jnp.tanh(softplus(z))


def _mish_d1(z):
    t = jnp.tanh(softplus(z))
    return t + z * (1 - t**2) * sigmoid(z)


def _mish_d2(z):
    t, s = jnp.tanh(softplus(z)), sigmoid(z)
    slope = (1 - t**2) * s
    return slope * (2 + z * (1 - s - 2 * t * s))


def _gaussian(z):
    return jnp.exp(-(z**2))


_EVEN_LINEAR = Symmetry(parity=1, linear=-1.0)
_PERIODIC = {"sin": Symmetry(parity=-1, antiperiod=math.pi), "cos": Symmetry(parity=1, antiperiod=math.pi)}

_CATALOGUE = (
    Activation(_g, "none", _g_d1, _g_d2, name="g"),
    Activation(jnp.tanh, "odd", _sech2, lambda z: -2 * jnp.tanh(z) * _sech2(z), name="tanh"),
    Activation(erf, "odd", _erf_d1, lambda z: -2 * z * _erf_d1(z), name="erf"),
    Activation(jnp.arctan, "odd", lambda z: 1 / (1 + z**2), lambda z: -2 * z / (1 + z**2) ** 2, name="arctan"),
    Activation(jnp.sin, _PERIODIC["sin"], jnp.cos, lambda z: -jnp.sin(z), name="sin"),
    Activation(lambda z: z, "polynomial", jnp.ones_like, jnp.zeros_like, name="identity"),
    Activation(sigmoid, Symmetry(parity=-1, constant=1.0), _sigmoid_d1, _sigmoid_d2, name="sigmoid"),
    Activation(
        _normal_cdf, Symmetry(parity=-1, constant=1.0), _normal_pdf, lambda z: -z * _normal_pdf(z), name="normal_cdf"
    ),
    Activation(softplus, _EVEN_LINEAR, sigmoid, _sigmoid_d1, name="softplus"),
    Activation(jax.nn.silu, _EVEN_LINEAR, lambda z: sigmoid(z) + z * _sigmoid_d1(z), _silu_d2, name="silu"),
    Activation(
        lambda z: z * _normal_cdf(z),
        _EVEN_LINEAR,
        lambda z: _normal_cdf(z) + z * _normal_pdf(z),
        lambda z: (2 - z**2) * _normal_pdf(z),
        name="gelu",
    ),
    Activation(_gelu_tanh, _EVEN_LINEAR, _gelu_tanh_d1, _gelu_tanh_d2, name="gelu_tanh"),
    Activation(
        jax.nn.relu, Symmetry(parity=1, linear=-1.0, homogeneous=True), _step, jnp.zeros_like, smooth=False, name="relu"
    ),
    Activation(
        lambda z: jnp.where(z > 0, z, _LEAK * z),
        Symmetry(parity=1, linear=-1.0 - _LEAK, homogeneous=True),
        lambda z: _LEAK + (1 - _LEAK) * _step(z),
        jnp.zeros_like,
        name="leaky_relu",
        smooth=False,
    ),
    Activation(
        lambda z: jnp.where(z > 0, z, jnp.expm1(jnp.minimum(z, 0))),
        "none",
        _elu_d1,
        _exp_below,
        smooth=False,
        name="elu",
    ),
    Activation(
        lambda z: _SELU_SCALE * jnp.where(z > 0, z, _SELU_ALPHA * jnp.expm1(jnp.minimum(z, 0))),
        "none",
        _selu_d1,
        lambda z: _SELU_SCALE * _SELU_ALPHA * _exp_below(z),
        name="selu",
        smooth=False,
    ),
    Activation(_mish, "none", _mish_d1, _mish_d2, name="mish"),
    Activation(lambda z: z**2, "polynomial", lambda z: 2 * z, lambda z: 2 * jnp.ones_like(z), name="square"),
    Activation(jnp.abs, Symmetry(parity=1, homogeneous=True), jnp.sign, jnp.zeros_like, smooth=False, name="abs"),
    Activation(jnp.cos, _PERIODIC["cos"], lambda z: -jnp.sin(z), lambda z: -jnp.cos(z), name="cos"),
    Activation(
        _gaussian,
        "even",
        lambda z: -2 * z * _gaussian(z),
        lambda z: (4 * z**2 - 2) * _gaussian(z),
        name="gaussian",
    ),
)
ACTIVATIONS: dict[str, Activation] = {activation.name: activation for activation in _CATALOGUE}
IDENTITY = ACTIVATIONS["identity"]  # of an output layer


def as_activation(activation: LayerActivation | str) -> LayerActivation:
    """The activation of that name, or the one given, or the mixture.

    Raises:
        ValueError: If no activation has that name.
    """
    if isinstance(activation, Activation | Mixture):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` is one of {sorted(ACTIVATIONS)} or an ecjax.Activation; got {activation!r}. "
            "Your own function: ecjax.Activation(fn, symmetry=...)."
        )
    return ACTIVATIONS[activation]


def mixture(**counts: int) -> Mixture:
    """A layer in which so many neurons have each of the named activations: mixture(tanh=8, softplus=4).

    Raises:
        ValueError: If no activation has such a name, or a number is below 1.
    """
    for name, count in counts.items():
        as_activation(name)  # refuses a name that is none
        if count < 1:
            raise ValueError(f"`{name}` is how many neurons have that activation, at least 1; got {count}.")
    return Mixture(tuple(ACTIVATIONS[name] for name, count in counts.items() for _ in range(count)))

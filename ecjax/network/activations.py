"""Activations: the function, its first two derivatives in closed form, and its symmetry.

What no input can reveal about a neuron follows from how its activation answers to a change of sign. Every
symmetry of DESIGN's table is one law,

    fn(-z) = parity * fn(z) + constant + linear * z,

with, on top of it, positive homogeneity fn(c z) = c fn(z) for c > 0, and an antiperiod fn(z + p) = -fn(z).
The first two derivatives carry the closed-form gradient, Jacobian and Hessian of `ecjax.objective.imitation`.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), section 3 and appendix on neuron symmetries.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.scipy.special import erf, erfc
from jaxtyping import Array, Float

Elementwise = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """What a change of sign, scale or phase does to an activation.

    Attributes:
        parity: +1 or -1 if fn(-z) = parity * fn(z) + constant + linear * z holds for all z; 0 if no such law does.
        constant: The constant of that law: 1 for the sigmoid, else 0.
        linear: The slope of that law: -1 for softplus, silu, gelu and relu, else 0.
        homogeneous: Whether fn(c z) = c fn(z) for c > 0, so that a neuron's norm can move into its outgoing weights.
        antiperiod: p if fn(z + p) = -fn(z), so that biases are known modulo p up to the sign of the outgoing weights.
        polynomial: Whether the activation is a polynomial. A sum of such neurons can be written in infinitely many
            ways, so no clustering can find "the" neurons.
    """

    parity: int = 0
    constant: float = 0.0
    linear: float = 0.0
    homogeneous: bool = False
    antiperiod: float | None = None
    polynomial: bool = False

    def __post_init__(self):
        if self.parity not in (-1, 0, 1):
            raise ValueError(f"`parity` is +1 (even), -1 (odd) or 0 (neither); got {self.parity!r}.")
        if self.parity == 0 and (self.constant or self.linear):
            raise ValueError("`constant` and `linear` belong to a law of signs: set `parity` to +1 or -1 with them.")
        if self.antiperiod is not None and not self.antiperiod > 0:
            raise ValueError(f"`antiperiod` is a positive phase, or None; got {self.antiperiod!r}.")

    @property
    def is_sign_free(self) -> bool:
        """Whether (w, b) and (-w, -b) can stand for the same neuron."""
        return self.parity != 0


SYMMETRIES = {
    "none": Symmetry(),
    "odd": Symmetry(parity=-1),
    "even": Symmetry(parity=1),
    "polynomial": Symmetry(polynomial=True),
}


def _elementwise_derivative(fn: Elementwise) -> Elementwise:
    return lambda z: jax.jvp(fn, (z,), (jnp.ones_like(z),))[1]


@dataclass(frozen=True, init=False)
class Activation:
    """An elementwise nonlinearity with what ecjax has to know about it.

    Your own: `Activation(fn, symmetry=Symmetry(parity=-1))`, or `symmetry="odd"`; derivatives that are not given come
    from automatic differentiation. Claiming a symmetry that the function does not have would merge neurons that
    differ, so `recover` puts every claim to the test first (`check_symmetry`).

    Attributes:
        fn: The function, elementwise and jax-traceable.
        symmetry: A `Symmetry`, or the name of a plain one: "none", "odd", "even", "polynomial".
        d1: First derivative. At a kink, one of its one-sided values or their midpoint.
        d2: Second derivative, almost everywhere.
        smooth: Whether the second derivative is continuous. Implicit flow and Newton steps need that.
        name: What it is called in files and summaries.

    Raises:
        ValueError: If `symmetry` is an unknown name.
    """

    fn: Elementwise
    symmetry: Symmetry
    d1: Elementwise
    d2: Elementwise
    smooth: bool
    name: str

    def __init__(
        self,
        fn: Elementwise,
        symmetry: Symmetry | str = "none",
        d1: Elementwise | None = None,
        d2: Elementwise | None = None,
        *,
        smooth: bool = True,
        name: str = "custom",
    ):
        if isinstance(symmetry, str):
            if symmetry not in SYMMETRIES:
                raise ValueError(f"`symmetry` is a Symmetry or one of {sorted(SYMMETRIES)}; got {symmetry!r}.")
            symmetry = SYMMETRIES[symmetry]
        d1 = d1 or _elementwise_derivative(fn)
        d2 = d2 or _elementwise_derivative(d1)
        fields = {"fn": fn, "symmetry": symmetry, "d1": d1, "d2": d2, "smooth": smooth, "name": name}
        for attribute, value in fields.items():
            object.__setattr__(self, attribute, value)  # as frozen dataclasses do

    def __call__(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.fn(z)

    def __repr__(self) -> str:
        return f"Activation({self.name})"


# --- the catalogue: each function with its derivatives -------------------------------------------------------------


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
ACTIVATIONS: dict[str, Activation] = {a.name: a for a in _CATALOGUE}


def as_activation(activation: Activation | str) -> Activation:
    """The activation of that name, or the one given.

    Raises:
        ValueError: If no activation has that name.
    """
    if isinstance(activation, Activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` is one of {sorted(ACTIVATIONS)} or an ecjax.Activation; got {activation!r}. "
            "Your own function: ecjax.Activation(fn, symmetry=...)."
        )
    return ACTIVATIONS[activation]


def check_symmetry(activation: Activation) -> None:
    """Put every claim of `activation.symmetry` to the test on a grid of pre-activations.

    Raises:
        ValueError: If a claim does not hold, naming the first that fails.
    """
    z = jnp.linspace(-4.0, 4.0, 65)
    symmetry = activation.symmetry
    laws = {}
    if symmetry.parity:
        claimed = symmetry.parity * activation(z) + symmetry.constant + symmetry.linear * z
        laws["parity * fn(z) + constant + linear * z, wanted for fn(-z)"] = (activation(-z), claimed)
    if symmetry.homogeneous:
        laws["c * fn(z), wanted for fn(c z), c > 0"] = (activation(1.7 * z), 1.7 * activation(z))
    if symmetry.antiperiod is not None:
        laws["-fn(z), wanted for fn(z + antiperiod)"] = (activation(z + symmetry.antiperiod), -activation(z))
    for law, (got, wanted) in laws.items():
        # Rounding of fn and of its argument is all that may differ.
        slack = 64 * jnp.finfo(z.dtype).eps * (1 + jnp.max(jnp.abs(wanted)))
        worst = jnp.max(jnp.abs(got - wanted))
        if not worst <= slack:
            raise ValueError(
                f"`symmetry` of {activation!r} claims what the function does not do: {law}, is off by {worst:.2g}. "
                'Give the symmetry that it has, or symmetry="none".'
            )

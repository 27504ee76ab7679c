"""What an activation is: the function, its first two derivatives in closed form, and its symmetry.

What no input can reveal about a neuron follows from how its activation answers to a change of sign. Every symmetry of a
neuron is one law,

    fn(-z) = parity * fn(z) + constant + linear * z,

with, on top of it, positive homogeneity fn(c z) = c fn(z) for c > 0, and an antiperiod fn(z + p) = -fn(z).
The first two derivatives carry the closed-form gradient, Jacobian and Hessian of `ecjax.objective`.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), section 3 and appendix on neuron symmetries.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

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

    def take(self, neurons: Int[np.ndarray, " neurons"] | Sequence[int]) -> "Activation":
        """The activation of some of a layer's neurons: the same one."""
        return self

    def groups(self, width: int) -> "list[tuple[Activation, Int[np.ndarray, ' members']]]":
        """The neurons of a layer of that width by their activation: one group, of all of them."""
        return [(self, np.arange(width))]


# --- claims put to the test ------------------------------------------------------------------------------------------

_GRID = 65  # pre-activations at which a law is looked at
_DEGREE = 10  # of the polynomials that are told from activations
_REACHES = (0.01, 0.1, 1.0, 8.0, 100.0, 1000.0)  # of the ranges on which they are
# Rounding of fn and of its argument is all by which a law may fail: some 10 eps measured over the catalogue.
_SLACK = 64.0


def check_symmetry(activation: Activation) -> None:
    """Put every claim of `activation.symmetry` to the test on a grid of pre-activations.

    A law that holds and was not claimed is told in a warning: it means twice as many neurons to tell apart.

    Raises:
        ValueError: If a claim does not hold, naming the first that fails, or if the function is a polynomial.
    """
    z = jnp.linspace(-4.0, 4.0, _GRID)
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
        if not _agree(got, wanted):
            worst = float(jnp.max(jnp.abs(got - wanted)))
            raise ValueError(
                f"`symmetry` of {activation!r} claims what the function does not do: {law}, is off by {worst:.2g}. "
                'Give the symmetry that it has, or symmetry="none".'
            )
    if not symmetry.polynomial and is_polynomial(activation):
        raise ValueError(
            f"`activation` {activation.name} is a polynomial, whatever its `symmetry` says: a sum of such neurons can "
            "be written in infinitely many ways, so its layer is not determined by any data. Nothing can be recovered."
        )
    for law in unclaimed_laws(activation):
        warnings.warn(
            f"{activation!r} has a symmetry that it does not claim: {law}. Without the claim a neuron and its image "
            "count as two; say so in `symmetry`.",
            stacklevel=2,
        )


def unclaimed_laws(activation: Activation) -> list[str]:
    """Laws of sign and scale that an activation follows on a grid and that its symmetry does not claim, in words."""
    z = jnp.linspace(-4.0, 4.0, _GRID)
    symmetry, laws = activation.symmetry, []
    if symmetry.polynomial:
        return []  # a class of its own, which has no use for them
    if not symmetry.parity:
        for parity in (-1, 1):
            rest = np.asarray(activation(-z) - parity * activation(z), float)
            constant = rest[_GRID // 2]  # at z = 0
            linear = (rest[-1] - rest[0]) / 8.0
            if _agree(jnp.asarray(rest, z.dtype), jnp.asarray(constant + linear * np.asarray(z, float), z.dtype)):
                law = f"fn(-z) = {'-' if parity < 0 else ''}fn(z)"
                law += f" + {constant:.6g}" if abs(constant) > 1e-6 else ""
                law += f" + {linear:.6g} z" if abs(linear) > 1e-6 else ""
                laws.append(law)
    if not symmetry.homogeneous and _agree(activation(1.7 * z), 1.7 * activation(z)):
        laws.append("fn(c z) = c fn(z) for c > 0")
    return laws


def is_polynomial(activation: Activation) -> bool:
    """Whether an activation is a polynomial of degree 10 or less, as far as rounding lets one tell.

    On ranges of all sizes: near zero every smooth function that changes slowly looks like one, and far out those that
    have come to rest. Where numbers overflow, a range says nothing.
    """
    z = np.cos(np.pi * (np.arange(4 * _DEGREE) + 0.5) / (4 * _DEGREE))  # Chebyshev's, where fits are well behaved
    dtype = jnp.zeros(()).dtype
    for reach in _REACHES:
        values = np.asarray(activation(jnp.asarray(reach * z, dtype)), float)
        if not np.isfinite(values).all():
            continue
        fit = np.polynomial.chebyshev.chebval(z, np.polynomial.chebyshev.chebfit(z, values, _DEGREE))
        if np.abs(fit - values).max() > _SLACK * float(jnp.finfo(dtype).eps) * np.abs(values).max():
            return False
    return True


def _agree(got: Array, wanted: Array) -> bool:
    slack = _SLACK * jnp.finfo(wanted.dtype).eps * (1 + jnp.max(jnp.abs(wanted)))
    return bool(jnp.max(jnp.abs(got - wanted)) <= slack)

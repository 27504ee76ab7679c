"""A network of any library as a chain: linear layers and the functions between them, in and out."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base.precision import to_device
from ..network import ACTIVATIONS, IDENTITY, Activations, Layer, Mixture, Network, as_activations

Function = Callable[[np.ndarray], Any]  # elementwise, NumPy in, something that NumPy can read out
# Where a function is looked at: far enough out that those which differ in a tail are told apart, at no round numbers.
_POINTS = np.linspace(-6.03, 6.07, 49)
# By how much two libraries' versions of one function differ, some computing in float32 what they are asked in float64:
# 64 roundings (erf, by a polynomial). Two activations of the catalogue differ by a hundred times as much.
_SAME = 64 * float(np.finfo(np.float32).eps)


class Affine(NamedTuple):
    """A linear layer: answers = inputs @ w.T + b."""

    w: Float[np.ndarray, "fan_out fan_in"]
    b: Float[np.ndarray, " fan_out"] | None = None


class Plain(NamedTuple):
    """A layer on the way out: its numbers, and what its activation is called ("identity" of the last one)."""

    w: Float[np.ndarray, "fan_out fan_in"]
    b: Float[np.ndarray, " fan_out"]
    kind: str


def named(fn: Function, dtype: Any = np.float64) -> str | None:
    """The name of the activation that does what a function does; None if ecjax knows none.

    Args:
        fn: Elementwise.
        dtype: In which it computes, whatever it returns.
    """
    got = np.asarray(fn(_POINTS.astype(dtype)), float)
    if got.shape != _POINTS.shape:
        return None
    for name, known in ACTIVATIONS.items():
        wanted = np.asarray(known(jnp.asarray(_POINTS, np.float32)), float)
        if np.abs(got - wanted).max() <= _SAME * (1 + np.abs(wanted).max()):
            return name
    return None


def network_of(
    steps: Sequence[Affine | Function], library: str, *, activation: Activations | None = None, dtype: Any = None
) -> Network:
    """The network that a chain is.

    Args:
        steps: Linear layers, and the functions between them, first to last.
        library: What the messages call it.
        activation: Of the hidden layers, where it is known; else the functions are looked at.
        dtype: In which the functions compute; by default that of the weights.

    Raises:
        ValueError: If the chain is none, or has a function that no activation of ecjax is.
    """
    affine = [step for step in steps if isinstance(step, Affine)]
    if not affine:
        raise ValueError(f"`model` is of {library} and has no linear layer to take weights from.")
    for before, after in itertools.pairwise(affine):
        if before.w.shape[0] != after.w.shape[1]:
            shapes = [(each.w.shape[1], each.w.shape[0]) for each in affine]
            raise ValueError(
                f"`model` is of {library} and not one chain of layers: {shapes} (fan_in, fan_out). "
                "Build the Network by hand from ecjax.Layer(w, b, activation)."
            )
    dtype = affine[0].w.dtype if dtype is None else dtype
    kinds = _between(steps, library, dtype) if activation is None else as_activations(activation, len(affine) - 1)
    parts = zip(affine, (*kinds, IDENTITY), strict=True)
    return Network(tuple(Layer(_array(one.w), _bias(one), as_activations(kind, 1)[0]) for one, kind in parts))


def _between(steps: Sequence[Affine | Function], library: str, dtype: Any) -> list[str]:
    """The names of the functions between linear layers."""
    kinds, pending, seen = [], [], False
    for step in steps:
        if not isinstance(step, Affine):
            pending.append(step)
            continue
        if seen:
            kinds.append(_name_of(pending, len(kinds) + 1, library, dtype))
        elif pending:
            raise ValueError(
                f"`model` is of {library} and begins with a function of its inputs, which no Network does."
            )
        pending, seen = [], True
    if pending:
        raise ValueError(
            f"`model` is of {library} and ends with {len(pending)} function(s) after its last linear layer, "
            f"{named(_composed(pending), dtype) or 'unknown ones'}: a Network ends with a linear layer. Leave them out."
        )
    return kinds


def _name_of(functions: list[Function], layer: int, library: str, dtype: Any) -> str:
    if not functions:
        raise ValueError(
            f"`model` is of {library} and has nothing between linear layers {layer} and {layer + 1}, which are one "
            "linear map: multiply them, or say what is between them, activation=..."
        )
    name = named(_composed(functions), dtype)
    if name is None:
        raise ValueError(
            f"`model` is of {library} and has a function after linear layer {layer} that is none of "
            f"{sorted(ACTIVATIONS)}: pass it, activation=ecjax.Activation(fn, symmetry=...)."
        )
    return name


def _composed(functions: list[Function]) -> Function:
    def fn(z: np.ndarray) -> np.ndarray:
        for each in functions:
            z = np.asarray(each(z))
        return z

    return fn


def _array(numbers: np.ndarray) -> Any:
    numbers = np.asarray(numbers)
    return to_device(numbers if numbers.dtype in (np.float32, np.float64) else numbers.astype(np.float32), "model")


def _bias(one: Affine) -> Any:
    b = np.zeros(len(one.w), one.w.dtype) if one.b is None else np.asarray(one.b).reshape(-1)
    return _array(b)


def plain(net: Any, library: str) -> list[Plain]:
    """The layers of a network, or of a recovery's, for another library.

    Raises:
        ValueError: If it is a stack, has a mixture of activations or one of the user's own, or if a linear map belongs
            to the answer.
    """
    if getattr(net, "linear", None) is not None:
        raise ValueError(
            f"`net` has a linear map beside the network, since the signs of some neurons stayed open: {library} has no "
            "such chain. Export `net.network`, and add x @ net.linear.w.T + net.linear.b to its answers."
        )
    net = getattr(net, "network", net)
    if not isinstance(net, Network):
        raise ValueError(f"`net` is a Network or a Recovery; got {type(net).__name__}.")
    if net.is_stack:
        raise ValueError("`net` is a stack of students; pick one with ecjax.network.student(students, i).")
    for number, kind in enumerate(net.activations, start=1):
        if isinstance(kind, Mixture):
            raise ValueError(
                f"`net` has several activations in hidden layer {number}, which no layer of {library} has."
            )
        if ACTIVATIONS.get(kind.name) != kind:
            raise ValueError(f"`net` has {kind!r} in hidden layer {number}, your own, which {library} cannot know.")
    names = (*(kind.name for kind in net.activations), "identity")
    return [Plain(np.asarray(one.w), np.asarray(one.b), name) for one, name in zip(net.layers, names, strict=True)]


def elementwise(kind: str, ops: Any, z: Any) -> Any:
    """An activation of the catalogue in another library's operations.

    Args:
        kind: Its name.
        ops: With exp, log, tanh, sigmoid, erf, sin, cos, arctan, abs and relu.
        z: Pre-activations of that library, with + - * and numbers.
    """
    softplus = lambda z: ops.relu(z) + ops.log(1.0 + ops.exp(-ops.abs(z)))
    below = lambda z: ops.exp(-ops.relu(-z)) - 1.0  # exp(z) - 1 below zero, 0 above
    half, root = 0.7071067811865476, 1.5957691216057308  # sqrt(1/2), sqrt(8/pi)
    table: dict[str, Callable[[Any], Any]] = {
        "g": lambda z: ops.sigmoid(4.0 * z) + softplus(z),
        "tanh": ops.tanh,
        "erf": ops.erf,
        "arctan": ops.arctan,
        "sin": ops.sin,
        "cos": ops.cos,
        "abs": ops.abs,
        "identity": lambda z: z,
        "sigmoid": ops.sigmoid,
        "normal_cdf": lambda z: 0.5 * (1.0 + ops.erf(half * z)),
        "softplus": softplus,
        "silu": lambda z: z * ops.sigmoid(z),
        "gelu": lambda z: 0.5 * z * (1.0 + ops.erf(half * z)),
        "gelu_tanh": lambda z: z * ops.sigmoid(root * (z + 0.044715 * z * z * z)),
        "relu": ops.relu,
        "leaky_relu": lambda z: ops.relu(z) - 0.01 * ops.relu(-z),
        "elu": lambda z: ops.relu(z) + below(z),
        "selu": lambda z: 1.0507009873554805 * (ops.relu(z) + 1.6732632423543772 * below(z)),
        "mish": lambda z: z * ops.tanh(softplus(z)),
        "square": lambda z: z * z,
        "gaussian": lambda z: ops.exp(-(z * z)),
    }
    return table[kind](z)

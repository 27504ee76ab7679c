"""Keras 3: a chain of `Dense` layers, on whichever backend."""

from typing import Any

import numpy as np

from ..network import Activations, Network
from .chain import Affine, elementwise, network_of, plain

_NOTHING = ("InputLayer", "Dropout", "Flatten", "Identity", "GaussianNoise", "GaussianDropout", "AlphaDropout")
_LAST = ("softmax", "log_softmax", "sigmoid")
_OWN = ("tanh", "sigmoid", "silu", "gelu", "relu", "elu", "selu", "mish", "softplus")  # exact ones that files may name


def from_keras(model: Any, activation: Activations | None = None) -> Network:
    """A Keras model that is a chain of `Dense` layers, as a Network in its own precision.

    Args:
        model: `keras.Sequential`, or a functional model of one chain. Dropout, noise and flattening are passed over, a
            softmax or sigmoid at the end left out.
        activation: Of the hidden layers, where ecjax does not know the model's.

    Raises:
        ValueError: If it is no such chain, has no weights yet, or an activation that ecjax does not know.
    """
    steps: list[Any] = []
    names: list[str] = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in _NOTHING:
            continue
        if kind == "Dense":
            steps.append(_affine(layer))
            names.append("Dense")
        elif layer.weights:
            raise ValueError(f"`model` has a Keras {kind}, which is neither dense nor an activation.")
        fn = getattr(layer, "activation", layer)
        name = getattr(fn, "__name__", kind.lower())
        if name != "linear":
            steps.append(_function(fn))
            names.append(name)
    if names and names[-1] in _LAST:
        steps.pop()
    return network_of(steps, "Keras", activation=activation)


def _affine(layer: Any) -> Affine:
    if not layer.built:
        raise ValueError("`model` is a Keras model without weights: call it once, or give it an Input.")
    w, *b = layer.get_weights()
    return Affine(np.asarray(w).T, np.asarray(b[0]) if b else None)


def _function(fn: Any):
    """A function or a layer of Keras as one of NumPy arrays."""
    from keras import ops  # pyright: ignore[reportMissingImports]

    return lambda z: np.asarray(ops.convert_to_numpy(fn(ops.convert_to_tensor(z, dtype=str(z.dtype)))))


def to_keras(net: Any) -> Any:
    """The network as a `keras.Sequential` of `Dense` layers, in the precision of its weights.

    With JAX at work, Keras computes tanh, sin, cos and arctan in float32 whatever it is given: the weights are exact,
    its answers to 1e-7.

    Args:
        net: A Network, or a Recovery.

    Raises:
        ValueError: If Keras has no such chain.
    """
    import keras  # pyright: ignore[reportMissingImports]

    layers = plain(net, "Keras")
    dtype = str(layers[0].w.dtype)
    dense = [keras.layers.Dense(len(each.w), activation=_activation(each.kind), dtype=dtype) for each in layers]
    model = keras.Sequential([keras.Input((layers[0].w.shape[1],), dtype=dtype), *dense])
    for layer, each in zip(dense, layers, strict=True):
        layer.set_weights([each.w.T, each.b])
    return model


def _activation(kind: str) -> Any:
    from keras import activations, ops  # pyright: ignore[reportMissingImports]

    if kind == "identity":
        return "linear"
    if kind in _OWN:
        return kind

    class Ops:
        """Keras's operations by the names that `elementwise` knows."""

        sigmoid, relu = staticmethod(activations.sigmoid), staticmethod(ops.relu)
        exp, log, tanh, erf = map(staticmethod, (ops.exp, ops.log, ops.tanh, ops.erf))
        sin, cos, arctan, abs = map(staticmethod, (ops.sin, ops.cos, ops.arctan, ops.abs))

    def fn(z):
        return elementwise(kind, Ops, z)

    fn.__name__ = kind
    return fn


def fan_in(model: Any) -> int | None:
    """How many inputs it was built for."""
    shape = getattr(model, "input_shape", None)
    return int(shape[-1]) if shape and shape[-1] else None


def dtype(model: Any) -> Any:
    """In which it computes."""
    return np.dtype(str(model.layers[-1].compute_dtype))


def answers(model: Any):
    """The model as a function of NumPy arrays, in inference."""
    from keras import ops  # pyright: ignore[reportMissingImports]

    return lambda x: np.asarray(ops.convert_to_numpy(model(x, training=False)))

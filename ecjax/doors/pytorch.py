"""PyTorch: `nn.Sequential` of linear layers, and its `state_dict`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..network import Activations, Network
from .chain import Affine, elementwise, network_of, plain

_NOTHING = ("Dropout", "Identity", "Flatten", "AlphaDropout")  # in a network that answers
_LAST = ("Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid")
# Where PyTorch's own module is exact; the others are written in its operations.
_OWN = {
    "tanh": "Tanh", "sigmoid": "Sigmoid", "silu": "SiLU", "gelu": "GELU", "relu": "ReLU", "leaky_relu": "LeakyReLU",
    "elu": "ELU", "selu": "SELU", "identity": "Identity",
}  # fmt: skip


def from_torch(model: Any, activation: Activations | None = None) -> Network:
    """An `nn.Sequential` of linear layers, or a `state_dict` of one, as a Network in its own precision.

    Args:
        model: The module, on any device; sequences may be nested. Dropout and flattening are passed over, a softmax or
            sigmoid at the end left out. Or the weights by name ("0.weight", "0.bias", "2.weight", ...) in order.
        activation: Of the hidden layers; a state_dict does not say.

    Raises:
        ValueError: If it is no chain of linear layers, or has an activation that ecjax does not know.
    """
    if isinstance(model, Mapping):
        return network_of(_of_weights(model, activation), "PyTorch", activation=activation)
    modules = [each for each in _modules(model) if type(each).__name__ not in _NOTHING]
    if modules and type(modules[-1]).__name__ in _LAST:
        modules.pop()
    steps = [_affine(each) if type(each).__name__ == "Linear" else _function(each) for each in modules]
    return network_of(steps, "PyTorch", activation=activation)


def _modules(model: Any) -> Iterator[Any]:
    """The modules of a sequence, sequences in it unrolled."""
    children = list(model.children())
    if not children:
        yield model
    elif type(model).__name__ in ("Sequential", "ModuleList"):
        for each in children:
            yield from _modules(each)
    else:
        raise ValueError(
            f"`model` is a PyTorch {type(model).__name__}, whose forward pass no one can see from outside: give an "
            "nn.Sequential, or its state_dict() with activation=..., or ask it: ecjax.Teacher(model, fan_in=...)."
        )


def _affine(linear: Any) -> Affine:
    return Affine(_numpy(linear.weight), None if linear.bias is None else _numpy(linear.bias))


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor)


def _function(module: Any):
    """The module as a function of NumPy arrays. One with weights of its own is no activation."""
    import torch  # pyright: ignore[reportMissingImports]

    if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
        raise ValueError(f"`model` has a PyTorch {type(module).__name__}, which is neither linear nor an activation.")

    def fn(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(z)).numpy()

    return fn


def _of_weights(weights: Mapping[str, Any], activation: Activations | None) -> list[Affine]:
    if activation is None:
        raise ValueError("`activation`: a state_dict does not say which activation is between its layers; name it.")
    names = [name for name in weights if name.split(".")[-1] == "weight"]
    wrong = [name for name in names if np.ndim(_numpy(weights[name])) != 2]
    if wrong:
        raise ValueError(f"`model` has {wrong}, which are no matrices: no linear layers.")
    return [
        Affine(_numpy(weights[name]), None if bias not in weights else _numpy(weights[bias]))
        for name, bias in ((name, name.removesuffix("weight") + "bias") for name in names)
    ]


def to_torch(net: Any) -> Any:
    """The network as an `nn.Sequential` of linear layers and activations, in the precision of its weights.

    Args:
        net: A Network, or a Recovery.

    Raises:
        ValueError: If PyTorch has no such chain.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    modules = []
    layers = plain(net, "PyTorch")
    for layer in layers:
        linear = nn.Linear(layer.w.shape[1], layer.w.shape[0], dtype=torch.from_numpy(layer.w.copy()).dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.w.copy()))
            linear.bias.copy_(torch.from_numpy(layer.b.copy()))
        modules += [linear, _module(layer.kind)]
    return nn.Sequential(*modules[:-1])  # nothing after the last layer


def _module(kind: str) -> Any:
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    if kind in _OWN:
        return getattr(nn, _OWN[kind])()
    if kind == "softplus":
        return nn.Softplus(threshold=40)  # beyond its usual 20 it is off by 2e-9

    class Elementwise(nn.Module):
        """An activation that PyTorch has no module of."""

        def forward(self, z):
            return elementwise(kind, torch, z)

        def extra_repr(self) -> str:
            return kind

    return Elementwise()


def fan_in(model: Any) -> int | None:
    """How many inputs the first linear layer has."""
    return next((each.in_features for each in model.modules() if type(each).__name__ == "Linear"), None)


def dtype(model: Any) -> Any:
    """Of the weights."""
    return next((_numpy(each.flatten()[:1]).dtype for each in model.parameters()), np.dtype(np.float32))


def answers(model: Any):
    """The model as a function of NumPy arrays, in evaluation, without gradients."""
    import torch  # pyright: ignore[reportMissingImports]

    device = next((each.device for each in model.parameters()), "cpu")

    def fn(x: np.ndarray) -> np.ndarray:
        was = model.training
        model.eval()
        try:
            with torch.no_grad():
                return model(torch.from_numpy(x).to(device)).cpu().numpy()
        finally:
            model.train(was)

    return fn

"""A model of any library wherever a network or a teacher is expected; a library that is not loaded is not imported."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from ..base.precision import to_device
from ..network import Activations, Network, respond

# By the module that a base class of a model is from: the door, and how its reader is called.
_DOORS = {
    "flax.nnx": ("nnx", "from_nnx"),
    "flax.linen": ("linen", "from_linen"),
    "equinox.nn": ("equinox", "from_equinox"),
    "torch.nn": ("pytorch", "from_torch"),
    "sklearn.neural_network": ("sklearn", "from_sklearn"),
    "keras": ("keras3", "from_keras"),
    "onnx": ("onnx_graph", "from_onnx"),
}
_SILENT = ("nnx", "linen")  # whose models do not say their activations


class Asked(NamedTuple):
    """A model as somebody who can be asked: a function of NumPy arrays, and what is known of its questions."""

    fn: Callable[[Any], Any]
    fan_in: int | None
    dtype: Any


def _door(model: Any) -> tuple[str, str] | None:
    for base in type(model).__mro__:
        for prefix, door in _DOORS.items():
            if base.__module__ == prefix or base.__module__.startswith(prefix + "."):
                return door
    return None


def is_model(model: Any) -> bool:
    """Whether something is a model of a library that ecjax has a door to."""
    return _door(model) is not None


def as_network(
    model: Any, activation: Activations | None = None, *, assumed: Activations | None = None, name: str = "model"
) -> Network:
    """The network that a model is; a Network as it is.

    Args:
        model: A Network, or a model of Flax (nnx, bound Linen), Equinox (`eqx.nn.MLP`), PyTorch (`nn.Sequential`),
            scikit-learn, Keras or ONNX. Or a PyTorch `state_dict`.
        activation: Of its hidden layers; needed where the model does not say, as Flax's do not.
        assumed: Taken where neither you nor the model say it.
        name: What messages call it.

    Raises:
        ValueError: If it is none of these, or no chain of linear layers and activations.
    """
    if isinstance(model, Network):
        return model
    door = ("pytorch", "from_torch") if isinstance(model, Mapping) else _door(model)
    if door is None:
        raise ValueError(
            f"`{name}` is an ecjax Network, or a model of Flax, Equinox, PyTorch, scikit-learn, Keras or ONNX; got "
            f"{type(model).__name__}."
        )
    file, reader = door
    if file in _SILENT or isinstance(model, Mapping):
        activation = assumed if activation is None else activation
        if activation is None:
            raise ValueError(
                f"`activation`: a {type(model).__name__} does not say which activation is between its layers; name it."
            )
    return getattr(import_module(f".{file}", __package__), reader)(model, activation)


def asked(model: Any) -> Asked | None:
    """A model as somebody who can be asked; None for anything else, as a function is."""
    if isinstance(model, Network):
        return Asked(lambda x: respond(model, to_device(x, "x")), model.shape[0], model.dtype)
    door = _door(model)
    if door is None:
        return None
    room = import_module(f".{door[0]}", __package__)
    return Asked(room.answers(model), room.fan_in(model), room.dtype(model))

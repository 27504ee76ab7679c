"""scikit-learn: `MLPRegressor` and `MLPClassifier`, whose logits are taken."""

from typing import Any

import numpy as np

from ..network import Activations, Network
from .chain import Affine, network_of, plain

_KINDS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}


def from_sklearn(model: Any, activation: Activations | None = None) -> Network:
    """A fitted `MLPRegressor`, or the part of an `MLPClassifier` that comes before its softmax, as a Network.

    Args:
        model: The estimator.
        activation: Of the hidden layers; by default the model's.

    Raises:
        ValueError: If it is not fitted.
    """
    if not hasattr(model, "coefs_"):
        raise ValueError(f"`model` is a scikit-learn {type(model).__name__} without weights: fit it first.")
    steps = [Affine(w.T, b) for w, b in zip(model.coefs_, model.intercepts_, strict=True)]
    kind = _KINDS[model.activation] if activation is None else activation
    return network_of(steps, "scikit-learn", activation=kind)


def to_sklearn(net: Any) -> Any:
    """The network as a fitted `MLPRegressor`.

    Args:
        net: A Network of tanh, sigmoid or relu, the same in all hidden layers; or a Recovery.

    Raises:
        ValueError: If scikit-learn has no such activation, or the layers differ.
    """
    from sklearn.neural_network import MLPRegressor

    layers = plain(net, "scikit-learn")
    kinds = {each.kind for each in layers[:-1]}
    known = {mine: theirs for theirs, mine in _KINDS.items()}
    if len(kinds) > 1 or not kinds <= set(known):
        raise ValueError(
            f"`net` has activations {sorted(kinds)}; an MLPRegressor has one of {sorted(known)} in all hidden layers."
        )
    widths, kind = tuple(len(each.w) for each in layers[:-1]), known[next(iter(kinds), "identity")]
    model: Any = MLPRegressor(hidden_layer_sizes=widths, activation=kind)
    model.coefs_ = [each.w.T.copy() for each in layers]
    model.intercepts_ = [each.b.copy() for each in layers]
    model.n_layers_, model.n_outputs_ = len(layers) + 1, len(layers[-1].w)
    model.out_activation_, model.n_features_in_ = "identity", layers[0].w.shape[1]
    return model


def fan_in(model: Any) -> int | None:
    """How many inputs it was fitted to."""
    return getattr(model, "n_features_in_", None)


def dtype(model: Any) -> Any:
    """Of the weights, if it has any."""
    return model.coefs_[0].dtype if hasattr(model, "coefs_") else np.dtype(np.float64)


def answers(model: Any):
    """What a regressor predicts; the logits of a classifier, which its probabilities have rounded away."""
    if not hasattr(model, "predict_proba"):
        return model.predict
    from_sklearn(model)  # refuses one that is not fitted
    fns = {"identity": lambda z: z, "logistic": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh}
    fns["relu"] = lambda z: np.maximum(z, 0)
    hidden = fns[model.activation]

    def logits(x: np.ndarray) -> np.ndarray:
        for w, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
            x = hidden(x @ w + b)
        return x @ model.coefs_[-1] + model.intercepts_[-1]

    return logits

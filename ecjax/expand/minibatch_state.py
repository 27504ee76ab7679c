"""What training on mini-batches remembers: all that the next epoch depends on, also as named arrays for a file."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, UInt32

from ..network import LayerActivation, Network
from ..network.files import arrays_of, network_of


class Plateau(eqx.Module):
    """What the plateau rule remembers of every student."""

    rate: Float[Array, " students"]  # learning rate of the coming epoch
    best: Float[Array, " students"]  # lowest loss of an epoch so far
    n_since: Int[Array, " students"]  # epochs since then that count
    cooldown: Int[Array, " students"]  # epochs still to come that do not count
    done: Bool[Array, " students"]


class MinibatchState(eqx.Module):
    """Everything that the next epoch depends on: training goes on from here as if it had never stopped."""

    students: Network
    moments: optax.ScaleByAdamState
    plateau: Plateau
    epoch: Int[Array, ""]
    n_epochs: Int[Array, " students"]  # before a student was frozen
    history: Float[Array, "max_epochs students"]  # mean loss over an epoch's batches; NaN where there was none
    key_data: UInt32[Array, " words"]

    @property
    def losses(self) -> Float[np.ndarray, "epochs students"]:
        """The training loss of every student, epoch by epoch; NaN once it is frozen."""
        return np.asarray(self.history)[: int(self.epoch)]  # cut on the host: on a device every length is a program


def state_to_arrays(state: MinibatchState) -> dict[str, np.ndarray]:
    """The state as named arrays, for a file. The activations are not among them."""
    networks = {"students": state.students, "mu": state.moments.mu, "nu": state.moments.nu}
    arrays = {name: array for kind, net in networks.items() for name, array in arrays_of(net, f"{kind}.").items()}
    arrays |= {f"plateau.{name}": leaf for name, leaf in vars(state.plateau).items()}
    arrays |= {"count": state.moments.count, "epoch": state.epoch, "n_epochs": state.n_epochs}
    arrays |= {"history": state.losses, "key_data": state.key_data}
    return {name: np.asarray(array) for name, array in arrays.items()}


def state_from_arrays(arrays: Mapping[str, np.ndarray], activations: Sequence[LayerActivation]) -> MinibatchState:
    """The state that `state_to_arrays` took apart, of students with these hidden layers.

    Raises:
        ValueError: If an array is missing.
    """
    try:
        students, mu, nu = (network_of(arrays, f"{kind}.", activations) for kind in ("students", "mu", "nu"))
        plateau = Plateau(**{name: jnp.asarray(arrays[f"plateau.{name}"]) for name in Plateau.__annotations__})
        moments = optax.ScaleByAdamState(jnp.asarray(arrays["count"]), mu, nu)  # pyright: ignore[reportArgumentType]
        rest = {name: jnp.asarray(arrays[name]) for name in ("epoch", "n_epochs", "history", "key_data")}
    except KeyError as missing:
        raise ValueError(f"`arrays` are no state of a mini-batch expansion: {missing} is missing.") from missing
    return MinibatchState(students, moments, plateau, **rest)

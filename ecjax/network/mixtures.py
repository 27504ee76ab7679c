"""A layer whose neurons have activations of their own.

A mixture stands wherever an activation of a layer does. It acts on the last axis, the neurons', group by group; what is
known of an activation (its symmetry above all) is known of each group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .activation import Activation, Elementwise


@dataclass(frozen=True)
class Mixture:
    """Activations of a layer, neuron by neuron.

    Attributes:
        each: The activation of every neuron.

    Raises:
        ValueError: If one of them is something else.
    """

    each: tuple[Activation, ...]

    def __post_init__(self):
        if not all(isinstance(one, Activation) for one in self.each):
            raise ValueError(f"`each` is an ecjax.Activation for every neuron; got {self.each!r}.")

    def __call__(self, z: Float[Array, "*samples width"]) -> Float[Array, "*samples width"]:
        return self._by_group(lambda one: one.fn, z)

    def d1(self, z: Float[Array, "*samples width"]) -> Float[Array, "*samples width"]:
        """First derivative, neuron by neuron."""
        return self._by_group(lambda one: one.d1, z)

    def d2(self, z: Float[Array, "*samples width"]) -> Float[Array, "*samples width"]:
        """Second derivative, neuron by neuron."""
        return self._by_group(lambda one: one.d2, z)

    @property
    def smooth(self) -> bool:
        """Whether all of them are."""
        return all(one.smooth for one in self.each)

    @property
    def name(self) -> str:
        """As "tanh x 8, softplus x 4"."""
        return ", ".join(f"{one.name} x {len(members)}" for one, members in self.groups(len(self.each)))

    def __repr__(self) -> str:
        return f"Mixture({self.name})"

    def take(self, neurons: Int[np.ndarray, " neurons"] | Sequence[int]) -> "Mixture":
        """The activations of some of the layer's neurons."""
        return Mixture(tuple(self.each[int(i)] for i in np.asarray(neurons)))

    def groups(self, width: int) -> list[tuple[Activation, Int[np.ndarray, " members"]]]:
        """The neurons by their activation, in the order in which activations first occur.

        Raises:
            ValueError: If the layer has another width.
        """
        if width != len(self.each):
            raise ValueError(f"`activation` {self!r} is of {len(self.each)} neurons, and the layer has {width}.")
        kinds = list(dict.fromkeys(self.each))
        return [(kind, np.array([i for i, one in enumerate(self.each) if one == kind])) for kind in kinds]

    def _by_group(self, which: Callable[[Activation], Elementwise], z: Array) -> Array:
        groups = self.groups(z.shape[-1])
        if not groups:
            return z  # of a layer without neurons
        parts = [which(one)(z[..., members]) for one, members in groups]
        order = np.argsort(np.concatenate([members for _, members in groups]), kind="stable")
        return jnp.concatenate(parts, axis=-1)[..., order]


LayerActivation = Activation | Mixture  # what a layer may have

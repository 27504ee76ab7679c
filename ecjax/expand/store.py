"""Where an expansion keeps what is finished, so that an interrupted one goes on: a mutable mapping with names as keys.

A dict will do, or a folder behind the same interface (`ecjax.runs.StudentFiles`). Students are under "student-000000"
and so on, training on mini-batches keeps its state under "epochs". Later rounds, stages and hidden layers have parts of
their own ("round-2/student-000000"). Each part says under "origin" what it belongs to, and refuses everything else.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..network import ACTIVATIONS, Activation

Store = MutableMapping[str, Any]
EPOCHS = "epochs"
ORIGIN = "origin"
_WORDS = {
    "students": "other initial students (another key, width, number, scale or activation)",
    "data": "other data (queries or answers)",
    "method": "another method or other settings of its stages",
    "key": "another key",
}


def student_key(i: int) -> str:
    """The name of student i."""
    return f"student-{i:06d}"


class Part(MutableMapping[str, Any]):
    """The part of a store whose names begin with a prefix, under the rest of their names."""

    def __init__(self, store: Store, name: str):
        self.store, self.prefix = store, name + "/"

    def __getitem__(self, key: str) -> Any:
        return self.store[self.prefix + key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.store[self.prefix + key] = value

    def __delitem__(self, key: str) -> None:
        del self.store[self.prefix + key]

    def __contains__(self, key: object) -> bool:
        return f"{self.prefix}{key}" in self.store

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self.prefix) for key in self.store if key.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def part(store: Store | None, name: str) -> Store | None:
    """That part of a store, if there is one."""
    return None if store is None else Part(store, name)


def claim(store: Store, **belongs_to: str) -> None:
    """Note what a store belongs to, or refuse one that belongs to something else.

    Args:
        store: To be read and written for this work.
        belongs_to: Fingerprints by name: "students", "data", "method", "key".

    Raises:
        ValueError: Naming what differs.
    """
    if ORIGIN not in store:
        if len(store):
            raise ValueError(
                f"`store` holds {len(store)} entries and does not say what they belong to: give an empty one."
            )
        store[ORIGIN] = belongs_to
        return
    origin = store[ORIGIN]
    other = [_WORDS[name] for name, mark in belongs_to.items() if origin.get(name) != mark]
    if other:
        raise ValueError(
            f"`store` belongs to {' and to '.join(other)}: give an empty one, or repeat the call that began it."
        )


def fingerprint(thing: Any) -> str:
    """A hash of arrays and settings, the same in every process for the same content."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(thing):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update(in_words(thing).encode())
    return digest.hexdigest()


def key_fingerprint(key: PRNGKeyArray | None) -> str:
    """Of a key, or of none."""
    return "none" if key is None else fingerprint(jr.key_data(key))


def in_words(thing: Any) -> str:
    """Settings as text without addresses in memory; arrays are left out, and names, which decide nothing."""
    if isinstance(thing, Activation):
        return thing.name if ACTIVATIONS.get(thing.name) == thing else f"{thing.name} of {_values(thing)}"
    if isinstance(thing, Mapping):
        return f"({', '.join(f'{in_words(key)}: {in_words(value)}' for key, value in thing.items())})"
    if is_dataclass(thing) and not isinstance(thing, type):
        inside = ", ".join(
            f"{field.name}={in_words(getattr(thing, field.name))}" for field in fields(thing) if field.repr
        )
        return f"{type(thing).__name__}({inside})"
    if isinstance(thing, tuple | list):
        return f"({', '.join(map(in_words, thing))})"
    if isinstance(thing, jax.Array | np.ndarray):
        return "array"
    if isinstance(thing, Callable) or type(thing).__repr__ is object.__repr__:
        return getattr(thing, "__name__", type(thing).__name__)
    return repr(thing)


def _values(activation: Activation) -> str:
    """An activation of one's own by a few of its values: its name says too little, and its function has none."""
    return ", ".join(f"{float(value):.3g}" for value in activation.fn(jnp.asarray([-1.7, 0.6, 2.3])))

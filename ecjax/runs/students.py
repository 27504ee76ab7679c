"""Finished students as files, so that an interrupted expansion goes on: a store (`ecjax.expand.store`) in a folder."""

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base.files import read_arrays, read_json, write_arrays, write_json_text
from ..expand import RESULTS, Expansion, MinibatchState, Student
from ..expand.minibatch_state import state_from_arrays, state_to_arrays
from ..expand.store import EPOCHS, ORIGIN
from ..network import LayerActivation, Network
from ..network.files import arrays_of, network_of

_MEASURED = ("loss", "gradient_norm", "n_steps")  # of every student, beside its network and why it stopped


class StudentFiles(MutableMapping[str, Any]):
    """A folder as the `store` of `ecjax.recover`: a file for each student, for a training's state, for what it is of.

    Args:
        folder: Made if missing.
        activations: Of the teacher's hidden layers; students of later layers have the last ones.
    """

    def __init__(self, folder: str | os.PathLike, activations: Sequence[LayerActivation]):
        self.folder, self.activations = Path(folder), tuple(activations)
        self.folder.mkdir(exist_ok=True)

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        if _last(key) == ORIGIN:
            return read_json(self._path(key))
        arrays = read_arrays(self._path(key))
        if _last(key).startswith(EPOCHS):
            n_layers = sum(name.startswith("students.") and name.endswith(".w") for name in arrays)
            return state_from_arrays(arrays, self._hidden(n_layers))
        n_layers = sum(name.endswith(".w") for name in arrays)
        return student_of(network_of(arrays, "", self._hidden(n_layers)), arrays)

    def __setitem__(self, key: str, value: Any) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if _last(key) == ORIGIN:
            write_json_text(path, value)
        elif isinstance(value, MinibatchState):
            write_arrays(path, state_to_arrays(value))
        else:
            write_arrays(path, arrays_of(value.network) | measured(value))

    def __delitem__(self, key: str) -> None:
        self._path(key).unlink()

    def __contains__(self, key: object) -> bool:
        return self._path(str(key)).is_file()

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in (".safetensors", ".json"):
                yield path.relative_to(self.folder).with_suffix("").as_posix()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def mend(self) -> list[str]:
        """Take away files that are damaged, so that only what was in them is done again; their names.

        Where it can't be read any more what students belong to, they are all damaged.
        """
        damaged = []
        for key in list(self):
            if key in self and not self._is_whole(key):
                lost = self._path(key).parent.rglob("*.*") if _last(key) == ORIGIN else [self._path(key)]
                for path in lost:
                    path.unlink()
                damaged.append(self._path(key).relative_to(self.folder).as_posix())
        return damaged

    def _is_whole(self, key: str) -> bool:
        try:
            return isinstance(self[key], dict) or _last(key) != ORIGIN
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False

    def describe(self, n_students: int) -> str:
        """How far training came, in words: "7 of 20 students", "130 epochs", for the last layer that was begun."""
        places = [_place(key) for key in self if _last(key) != ORIGIN]
        layer, turn = max(((layer, turn) for layer, turn, _ in places), default=(1, 1))
        at = [key for where, round_of, key in places if (where, round_of) == (layer, turn)]
        trainings = [key for key in at if _last(key).startswith(EPOCHS)]
        if trainings and len(trainings) == len(at):
            done = f"{sum(int(self[key].epoch) for key in trainings)} epochs of {n_students} students"
        else:
            done = f"{len(at) - len(trainings)} of {n_students} students"
        return done + (f" of round {turn}" if turn > 1 else "") + (f" of layer {layer}" if layer > 1 else "")

    def _hidden(self, n_layers: int) -> tuple[LayerActivation, ...]:
        """Activations of students with so many layers, the output layer included."""
        return self.activations[len(self.activations) - (n_layers - 1) :]

    def _path(self, key: str) -> Path:
        return self.folder / (key + (".json" if _last(key) == ORIGIN else ".safetensors"))


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _place(key: str) -> tuple[int, int, str]:
    """The hidden layer and the round that a key belongs to, counted from 1, and the key."""
    numbers = {"layer": 1, "round": 1}
    for part in key.split("/")[:-1]:
        kind, number = part.rsplit("-", 1)
        numbers[kind] = int(number)
    return numbers["layer"], numbers["round"], key


def measured(student: Student | Expansion) -> dict[str, Any]:
    """What is known of students beside their networks, as arrays."""
    return {name: getattr(student, name) for name in _MEASURED} | {"result": jax.tree.leaves(student.result)[0]}


def student_of(network: Network, arrays: Mapping[str, np.ndarray]) -> Student:
    """The students of a network, with what `measured` made of the rest."""
    # A result is an integer with words attached; the words come from the class, the integer from the file.
    result = jax.tree.unflatten(jax.tree.structure(RESULTS.stalled), [jnp.asarray(arrays["result"])])
    return Student(network=network, result=result, **{name: jnp.asarray(arrays[name]) for name in _MEASURED})

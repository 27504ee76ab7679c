"""Records of a run as files and back: students as they finish, then the whole recovery."""

import dataclasses
import os
import typing
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..cluster import Clustering
from ..cluster.cut import Curve
from ..expand import EPOCHS, RESULTS, Expansion, MinibatchState, Student, state_from_arrays, state_to_arrays
from ..judge.certificate import Certificate
from ..judge.comparison import Comparison
from ..network.activations import Activation
from ..network.networks import Layer, Network, load_network, save_network
from ..objective.scaling import Scaling
from ..road.road import Recovery
from ..road.settings import RecoveryConfig
from .files import as_json, from_json, from_value, read_arrays, read_json, write_arrays, write_json

_MEASURED = ("loss", "gradient_norm", "n_steps")  # of every student, beside its network and why it stopped


class StudentFiles(MutableMapping[Any, Student | MinibatchState]):
    """Finished students, one file each, and the state of mini-batch training: an interrupted expansion goes on.

    The `store` argument of `ecjax.road.road`. Keys are numbers of students, "epochs" and, after shrinking, "epochs-1",
    "epochs-2", ...; and (layer, one of these) for the later hidden layers of a deep recovery.
    """

    def __init__(self, folder: str | os.PathLike, activation: Activation):
        self.folder, self.activation = Path(folder), activation
        self.folder.mkdir(exist_ok=True)

    def __getitem__(self, key: Any) -> Student | MinibatchState:
        if key not in self:
            raise KeyError(key)
        arrays = read_arrays(self._path(key))
        if self._path(key).stem.startswith(EPOCHS):
            return state_from_arrays(arrays, self.activation)
        n_layers = sum(name.endswith(".w") for name in arrays)
        layers = (Layer(jnp.asarray(arrays[f"{k}.w"]), jnp.asarray(arrays[f"{k}.b"])) for k in range(n_layers))
        return _student(Network(tuple(layers), self.activation), arrays)

    def __setitem__(self, key: Any, value: Student | MinibatchState) -> None:
        self._path(key).parent.mkdir(exist_ok=True)
        if isinstance(value, MinibatchState):
            write_arrays(self._path(key), state_to_arrays(value))
            return
        layers = enumerate(value.network.layers)
        arrays = {f"{k}.{part}": getattr(layer, part) for k, layer in layers for part in "wb"}
        write_arrays(self._path(key), arrays | _measured(value))

    def __delitem__(self, key: Any) -> None:
        self._path(key).unlink()

    def __contains__(self, key: object) -> bool:
        return self._path(key).is_file()

    def __iter__(self) -> Iterator[Any]:
        for path in sorted(self.folder.rglob("*.safetensors")):
            key = path.stem if _is_epochs(path.stem) else int(path.stem)
            yield key if path.parent == self.folder else (int(path.parent.name.removeprefix("layer-")), key)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def describe(self, n_students: int) -> str:
        """How far training came, in words: "7 of 20 students", "130 epochs", for the last layer that was begun."""
        keys = [key if isinstance(key, tuple) else (1, key) for key in self]
        layer = max((key[0] for key in keys), default=1)
        at = [key for of, key in keys if of == layer]
        n_finished = sum(not _is_epochs(key) for key in at)
        n_before, n_done = divmod(max(0, n_finished - 1), n_students)
        done = f"{n_done + (n_finished > 0)} of {n_students} students"
        done += f" of round {n_before + 1}" if n_before else ""
        trainings = [key for key in at if _is_epochs(key)]
        if trainings:
            states = [cast(MinibatchState, self[key if layer == 1 else (layer, key)]) for key in trainings]
            done = f"{sum(int(state.epoch) for state in states)} epochs of {n_students} students"
        return done if layer == 1 else f"{done} of layer {layer}"

    def _path(self, key: Any) -> Path:
        layer, key = key if isinstance(key, tuple) else (1, key)
        folder = self.folder if layer == 1 else self.folder / f"layer-{layer}"
        return folder / (f"{key}.safetensors" if _is_epochs(key) else f"{key:06d}.safetensors")


def _is_epochs(key: Any) -> bool:
    """Whether a key, its layer left out, is that of mini-batch training: "epochs", "epochs-1", ..."""
    return isinstance(key, str) and key.startswith(EPOCHS)


def _measured(student: Student | Expansion) -> dict[str, Any]:
    return {name: getattr(student, name) for name in _MEASURED} | {"result": jax.tree.leaves(student.result)[0]}


def _student(network: Network, arrays: Mapping[str, np.ndarray]) -> Student:
    # A result is an integer with words attached; the words come from the class, the integer from the file.
    result = jax.tree.unflatten(jax.tree.structure(RESULTS.stalled), [jnp.asarray(arrays["result"])])
    measured = {name: jnp.asarray(arrays[name]) for name in _MEASURED}
    return Student(network=network, result=result, **measured)


# --- a finished run ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        folder: Where it was read from.
        config: What was asked for, as in config.json.
        recovery: What came out, as `ecjax.road.road` returned it.
        x: Queries.
        y: Targets.
        teacher: Where it is known.
    """

    folder: Path
    config: dict[str, Any]
    recovery: Recovery
    x: Float[Array, "samples fan_in"]
    y: Float[Array, "samples fan_out"]
    teacher: Network | None


def save_recovery(
    partial: Path,
    recovery: Recovery,
    *,
    x: Float[Array, "samples fan_in"],
    y: Float[Array, "samples fan_out"],
    teacher: Network | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write everything that `load_run` reads into an open run folder."""
    save_network(recovery.network, partial / "network.safetensors")
    for number, expansion in enumerate(recovery.expansions, start=1):
        save_network(expansion.students, partial / _students_file(number))
    if teacher is not None:
        save_network(teacher, partial / "teacher.safetensors")
    write_arrays(partial / "data.safetensors", {"x": x, "y": y})

    arrays = _under("scaling", vars(recovery.scaling))
    for i, expansion in enumerate(recovery.expansions):
        arrays |= _under(f"expansion.{i}", _measured(expansion))
        if expansion.history is not None:
            arrays[f"expansion.{i}.history"] = expansion.history
    if recovery.linear is not None:
        arrays |= _under("linear", vars(recovery.linear))
    split = [_split(clustering) for clustering in recovery.clusterings]
    for i, (parts, _) in enumerate(split):
        arrays |= _under(str(i), parts)
    write_arrays(partial / "layers.safetensors", arrays)

    plain = ("widths", "loss", "is_exact", "found_by", "certificate", "unidentified", "seconds")
    write_json(
        partial / "result.json",
        {
            **{name: getattr(recovery, name) for name in plain},
            "comparison": None if comparison is None else _readable(comparison),
            "clusters": [_clusters(clustering) for clustering in recovery.clusterings],
            "methods": [expansion.method for expansion in recovery.expansions],
            "students": [
                _rows(**{name: getattr(expansion, name) for name in _MEASURED}, stopped=expansion.reasons())
                for expansion in recovery.expansions
            ],
            "settings": recovery.config,
            "clusterings": [rest for _, rest in split],
        },
    )


def load_run(folder: str | os.PathLike, *, activation: Activation | None = None) -> Run:
    """Read a finished run.

    Args:
        folder: The run folder.
        activation: Needed for an activation of your own, which a file can only name.

    Raises:
        ValueError: If the folder is not a finished run of ecjax, or a file in it is damaged.
    """
    folder = Path(folder)
    if not (folder / "result.json").is_file():
        raise ValueError(f"`run`: {folder} is no finished run of ecjax: it has no result.json.")
    result, arrays = read_json(folder / "result.json"), read_arrays(folder / "layers.safetensors")
    linear = _below("linear", arrays)
    expansions = []
    for i, method in enumerate(result["methods"]):
        students = load_network(folder / _students_file(i + 1), activation=activation)
        measured = _below(f"expansion.{i}", arrays)
        done = _student(students, measured)
        history = measured.get("history")
        expansions.append(
            Expansion(students, done.loss, done.gradient_norm, done.n_steps, done.result, method, history)
        )
    recovery = Recovery(
        network=load_network(folder / "network.safetensors", activation=activation),
        linear=Layer(jnp.asarray(linear["w"]), jnp.asarray(linear["b"])) if linear else None,
        loss=float(result["loss"]),
        is_exact=result["is_exact"],
        found_by=tuple(result["found_by"]),
        certificate=from_value(Certificate, result["certificate"]),
        unidentified=tuple(result["unidentified"]),
        expansions=tuple(expansions),
        clusterings=tuple(_joined(_below(str(i), arrays), rest) for i, rest in enumerate(result["clusterings"])),
        scaling=Scaling(**_below("scaling", arrays)),
        config=from_json(RecoveryConfig, result["settings"]),
        seconds=result["seconds"],
    )
    data, teacher = read_arrays(folder / "data.safetensors"), folder / "teacher.safetensors"
    return Run(
        folder=folder,
        config=read_json(folder / "config.json"),
        recovery=recovery,
        x=jnp.asarray(data["x"]),
        y=jnp.asarray(data["y"]),
        teacher=load_network(teacher, activation=activation) if teacher.is_file() else None,
    )


def _students_file(layer: int) -> str:
    return "students.safetensors" if layer == 1 else f"students-{layer}.safetensors"


def _split(clustering: Clustering) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A clustering as arrays and as values for JSON."""
    arrays, rest = {}, {}
    for field in dataclasses.fields(clustering):
        value = getattr(clustering, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Curve):
            arrays |= {"curve.height": value.height, "curve.n_clusters": value.n_clusters}
        else:
            rest[field.name] = as_json(value)
    return arrays, rest


def _joined(arrays: dict[str, np.ndarray], rest: dict[str, Any]) -> Clustering:
    """The clustering that `_split` took apart."""
    curve = Curve(arrays.pop("curve.height"), arrays.pop("curve.n_clusters"))
    hints = typing.get_type_hints(Clustering)
    return Clustering(curve=curve, **arrays, **{name: from_value(hints[name], value) for name, value in rest.items()})


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = prefix + "."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _clusters(clustering: Clustering) -> list[dict[str, Any]]:
    """Cluster by cluster, as a reader of result.json wants it."""
    names = ("verdict", "kept", "n_present", "n_vectors", "median_angle", "spread", "merged_at", "stability")
    return _rows(**{name: getattr(clustering, name) for name in names})


def _readable(comparison: Comparison) -> dict[str, Any]:
    return {
        "missing": comparison.n_missing,
        "excess": comparison.n_excess,
        "parameter_error": comparison.parameter_error,
        **as_json(comparison),
    }


def _rows(**columns: Any) -> list[dict[str, Any]]:
    plain = {name: as_json(column) for name, column in columns.items()}
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]

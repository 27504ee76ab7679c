"""A whole recovery as files, and back."""

import dataclasses
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base.files import read_arrays, read_json, write_arrays
from ..cluster import Clustering
from ..cluster.cut import Curve
from ..expand import Expansion
from ..judge import Certificate, Comparison, Judge
from ..network import Activations, Layer, Network, load_network, save_network
from ..objective import Scaling
from ..road import Recovery, RecoveryConfig
from .as_json import as_json, from_json, from_value, write_json
from .students import measured, student_of

_MEASURED = ("loss", "gradient_norm", "n_steps")


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
        arrays |= _under(f"expansion.{i}", measured(expansion))
        if expansion.history is not None:
            arrays[f"expansion.{i}.history"] = expansion.history
    if recovery.linear is not None:
        arrays |= _under("linear", {"w": recovery.linear.w, "b": recovery.linear.b})
    split = [_split(clustering) for clustering in recovery.clusterings]
    for i, (parts, _) in enumerate(split):
        arrays |= _under(str(i), parts)
    write_arrays(partial / "layers.safetensors", arrays)

    words = ("found_by", "chosen", "removed", "unidentified")
    plain = ("widths", "loss", "is_exact", *words, "certificate", "judge", "seconds")
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


def load_run(folder: str | os.PathLike, *, activation: Activations | None = None) -> Run:
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
        students = load_network(folder / _students_file(i + 1), activation=_from(activation, i))
        told = _below(f"expansion.{i}", arrays)
        done, history = student_of(students, told), told.get("history")
        expansions.append(
            Expansion(students, done.loss, done.gradient_norm, done.n_steps, done.result, method, history)
        )
    recovery = Recovery(
        network=load_network(folder / "network.safetensors", activation=activation),
        linear=Layer(jnp.asarray(linear["w"]), jnp.asarray(linear["b"])) if linear else None,
        loss=float(result["loss"]),
        is_exact=result["is_exact"],
        found_by=tuple(result["found_by"]),
        chosen=tuple(result.get("chosen", ())),
        removed=tuple(result.get("removed", ())),
        judge=from_value(Judge, result["judge"]),
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


def _from(activation: Activations | None, layer: int) -> Activations | None:
    """The activations from a hidden layer on, where there is one for each."""
    return activation[layer:] if isinstance(activation, list | tuple) else activation


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

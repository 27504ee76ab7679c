"""A whole recovery as files, and back."""

import dataclasses
import json
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import expand as rooms_of_stages
from ..base.files import read_arrays, read_json, read_object, read_words, write_arrays
from ..base.precision import to_device
from ..cluster import Clustering, LayerClustering, MixedClustering
from ..cluster.cut import Curve
from ..data import Answers, Data
from ..expand import Expansion, StackStage, Stage
from ..judge import Certificate, Comparison, Evidence, Judge
from ..network import ACTIVATIONS, Activations, Layer, Mixture, Network, as_activations, load_network, save_network
from ..objective import Samples, Scaling
from ..probe import Probes
from ..road import Recovery, RecoveryConfig
from .as_json import as_json, from_json, from_value, write_json
from .students import measured, student_of

FORMAT = 2  # of run folders; those of 1, from before networks had an activation a layer, say nothing
_PROBED, _OF_PROBES = ("vectors", "proposer", "basis", "singular"), ("n_proposers", "method", "questions", "notes")
_KNOWN = ("error", "weights")  # of answers, where they are known
_PLAIN = ("loss", "is_exact", "found_by", "chosen", "removed", "unidentified", "seconds")
_LATER = ("is_stopped", "advice", "questions")  # that runs of earlier versions do not have
_MEASURED = ("loss", "gradient_norm", "n_steps")
_STAGES = {
    name: kind
    for name, kind in vars(rooms_of_stages).items()
    if isinstance(kind, type) and issubclass(kind, Stage | StackStage)
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        folder: Where it was read from.
        config: What was asked for, as in config.json.
        recovery: What came out, as `ecjax.recover` returned it.
        data: Queries and answers.
        teacher: Where it is known.
    """

    folder: Path
    config: dict[str, Any]
    recovery: Recovery
    data: Data
    teacher: Network | None

    @property
    def x(self) -> Float[Array, "samples fan_in"]:
        """The queries."""
        return self.data.x

    @property
    def y(self) -> Float[Array, "samples fan_out"]:
        """The answers."""
        return self.data.y


def save_recovery(
    partial: Path,
    recovery: Recovery,
    *,
    data: Data,
    teacher: Network | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write everything that `load_run` reads into an open run folder, and the comparison with a known teacher."""
    save_network(recovery.network, partial / "network.safetensors")
    for number, expansion in enumerate(recovery.expansions, start=1):
        save_network(expansion.students, partial / _students_file(number))
    if teacher is not None:
        save_network(teacher, partial / "teacher.safetensors")
    if comparison is not None:
        write_json(partial / "comparison.json", _comparison_json(comparison))
    fresh = {} if data.fresh is None else {"fresh.x": data.fresh.x, "fresh.y": data.fresh.y}
    known = {name: getattr(data, name) for name in _KNOWN if getattr(data, name) is not None}
    write_arrays(partial / "data.safetensors", {"x": data.x, "y": data.y, **fresh, **known})

    arrays = _under("scaling", vars(recovery.scaling))
    for i, expansion in enumerate(recovery.expansions):
        arrays |= _under(f"expansion.{i}", measured(expansion))
        if expansion.history is not None:
            arrays[f"expansion.{i}.history"] = expansion.history
    for i, probes in enumerate(recovery.probes):
        arrays |= _under(f"probes.{i}", {name: getattr(probes, name) for name in _PROBED})
    if recovery.linear is not None:
        arrays |= _under("linear", {"w": recovery.linear.w, "b": recovery.linear.b})
    if recovery.errors is not None:
        arrays |= {f"errors.{i}.{name}": getattr(layer, name) for i, layer in enumerate(recovery.errors.layers)
                   for name in ("w", "b")}  # fmt: skip
    split = [[_split(group) for group in clustering.groups] for clustering in recovery.clusterings]
    for i, (groups, clustering) in enumerate(zip(split, recovery.clusterings, strict=True)):
        for j, (parts, _) in enumerate(groups):
            arrays |= _under(f"{i}.{j}", parts)
        if isinstance(clustering, MixedClustering):
            arrays |= _under(f"{i}.places", {str(j): place for j, place in enumerate(clustering.places)})
    write_arrays(partial / "layers.safetensors", arrays)

    words = ("found_by", "chosen", "removed", "unidentified")
    plain = ("widths", "loss", "is_exact", "is_stopped", "advice", "evidence", "certificate", "judge", "seconds")
    write_json(
        partial / "result.json",
        {
            "format": FORMAT,
            **{name: getattr(recovery, name) for name in (*plain, *words)},
            "clusters": [_clusters(clustering) for clustering in recovery.clusterings],
            "methods": [expansion.method for expansion in recovery.expansions],
            "students": [
                _rows(**{name: getattr(expansion, name) for name in _MEASURED}, stopped=expansion.reasons())
                for expansion in recovery.expansions
            ],
            "questions": recovery.questions,
            "answers": data.answers,
            "inputs": data.inputs,
            "outputs": data.outputs,
            "probes": [{name: getattr(probes, name) for name in _OF_PROBES} for probes in recovery.probes],
            "settings": _settings_json(recovery.config),
            "clusterings": [[rest for _, rest in groups] for groups in split],
        },
    )


def load_run(
    folder: str | os.PathLike,
    *,
    activation: Activations | None = None,
    stages: Sequence[type[Stage] | type[StackStage]] = (),
) -> Run:
    """Read a finished run.

    Args:
        folder: The run folder.
        activation: Needed where activations are your own, which a file can only name: one for all hidden layers, or one
            for each. Activations of ecjax that the file names need not be given, but for their place in a sequence.
        stages: Classes of your own stages, where the students' method had any.

    Raises:
        ValueError: If the folder is not a finished run of this version of ecjax, if a file in it is damaged, or if it
            names an activation or a stage that neither ecjax nor you know.
    """
    folder = Path(folder)
    if not (folder / "result.json").is_file():
        raise ValueError(f"`run`: {folder} is no finished run of ecjax: it has no result.json.")
    result = read_json(folder / "result.json")
    if not isinstance(result, dict) or result.get("format", 1) != FORMAT:
        raise ValueError(
            f"`run`: {folder} was written by another version of ecjax (its versions.json says which): read it with "
            "that version, or recover again."
        )
    try:
        run = _loaded(folder, result, activation, {**_STAGES, **{kind.__name__: kind for kind in stages}})
        run.recovery.summary()  # a value of another kind is found where it would be said, here
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        what = str(error).split("\n")[0]
        raise ValueError(f"`run`: {folder} is damaged: {type(error).__name__}, {what} in one of its files.") from error
    return run


def _loaded(folder: Path, result: dict[str, Any], given: Activations | None, stages: Mapping[str, type]) -> Run:
    arrays, at = read_arrays(folder / "layers.safetensors"), read_arrays(folder / "data.safetensors")
    at = {name: to_device(array, folder / "data.safetensors") for name, array in at.items()}
    fresh, linear = _below("fresh", at), _below("linear", arrays)
    network = _network(folder / "network.safetensors", given)
    errors = _below("errors", arrays)
    expansions = []
    for i, method in enumerate(result["methods"]):
        of_layer = given[i:] if isinstance(given, list | tuple) else given
        students, told = _network(folder / _students_file(i + 1), of_layer), _below(f"expansion.{i}", arrays)
        done, history = student_of(students, told), told.get("history")
        expansions.append(
            Expansion(students, done.loss, done.gradient_norm, done.n_steps, done.result, method, history)
        )
    hints = typing.get_type_hints(Recovery)
    recovery = Recovery(
        network=network,
        errors=_with_arrays(network, errors) if errors else None,
        evidence=tuple(from_value(Evidence, each) for each in result.get("evidence", [])),
        linear=Layer(jnp.asarray(linear["w"]), jnp.asarray(linear["b"])) if linear else None,
        **{name: from_value(hints[name], result[name], name) for name in _PLAIN},
        **{name: from_value(hints[name], result[name], name) for name in _LATER if name in result},
        judge=from_value(Judge, result["judge"]),
        certificate=from_value(Certificate, result["certificate"]),
        expansions=tuple(expansions),
        clusterings=tuple(
            _clustering(_below(str(i), arrays), groups) for i, groups in enumerate(result["clusterings"])
        ),
        scaling=Scaling(**_below("scaling", arrays)),
        config=_settings(result["settings"], stages),
        probes=tuple(
            Probes(**_below(f"probes.{i}", arrays), **{**told, "notes": tuple(told["notes"])})
            for i, told in enumerate(result.get("probes", []))
        ),
    )
    teacher = folder / "teacher.safetensors"
    return Run(
        folder=folder,
        config=read_object(folder / "config.json"),
        recovery=recovery,
        data=Data(
            at["x"],
            at["y"],
            Samples(fresh["x"], fresh["y"]) if fresh else None,
            answers=from_value(Answers, result.get("answers", {})),
            error=None if "error" not in at else np.asarray(at["error"]),
            weights=at.get("weights"),
            inputs=from_value(tuple[str, ...], result.get("inputs", []), "inputs"),
            outputs=from_value(tuple[str, ...], result.get("outputs", []), "outputs"),
        ),
        teacher=_network(teacher, given) if teacher.is_file() else None,
    )


def _with_arrays(network: Network, arrays: Mapping[str, Any]) -> Network:
    """A network of the same shape and activations, of other numbers."""
    array = lambda i, name: jnp.asarray(arrays[f"{i}.{name}"])
    layers = (dataclasses.replace(layer, w=array(i, "w"), b=array(i, "b")) for i, layer in enumerate(network.layers))
    return Network(tuple(layers))


def _students_file(layer: int) -> str:
    return "students.safetensors" if layer == 1 else f"students-{layer}.safetensors"


def _network(path: Path, given: Activations | None) -> Network:
    """A network or a stack, its activations by name: those that were given, or else ecjax's own."""
    if given is None:
        return load_network(path)
    names = json.loads(read_words(path).get("activations", "[]"))
    activations = []
    for name, mine in zip(names, as_activations(given, len(names)), strict=True):
        known = ACTIVATIONS | {one.name: one for one in (mine.each if isinstance(mine, Mixture) else (mine,))}
        each = [name] if isinstance(name, str) else name
        missing = sorted(set(each) - set(known))
        if missing:
            raise ValueError(f"`activation`: {path} names {missing}, which neither ecjax nor {mine!r} is called.")
        found = tuple(known[one] for one in each)
        activations.append(found[0] if isinstance(name, str) else Mixture(found))
    return load_network(path, activation=activations)


# --- settings ------------------------------------------------------------------------------------------------------


def _settings_json(config: RecoveryConfig) -> dict[str, Any]:
    settings, method = as_json(config), config.expand.method
    if not isinstance(method, str):
        settings["expand"]["method"] = [{"stage": type(stage).__name__, **as_json(stage)} for stage in method]
    return settings


def _settings(settings: dict[str, Any], stages: Mapping[str, type]) -> RecoveryConfig:
    method = settings["expand"]["method"]
    if not isinstance(method, str):
        unknown = sorted({each["stage"] for each in method} - set(stages))
        if unknown:
            raise ValueError(f"`stages`: students were trained by {unknown}, stages of your own: pass their classes.")
        made = (from_json(stages[each.pop("stage")], each) for each in map(dict, method))
        settings = {**settings, "expand": {**settings["expand"], "method": tuple(made)}}
    return from_json(RecoveryConfig, settings)


# --- clusterings ---------------------------------------------------------------------------------------------------


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


def _clustering(arrays: dict[str, np.ndarray], groups: list[dict[str, Any]]) -> LayerClustering:
    """The clustering of a layer, from the arrays and the other values of each activation's neurons."""
    made = tuple(_joined(_below(str(j), arrays), rest) for j, rest in enumerate(groups))
    places = _below("places", arrays)
    return MixedClustering(made, tuple(places[str(j)] for j in range(len(made)))) if places else made[0]


def _clusters(clustering: LayerClustering) -> list[dict[str, Any]]:
    """Cluster by cluster, as a reader of result.json wants it."""
    names = ("verdict", "kept", "n_present", "n_vectors", "median_angle", "spread", "merged_at", "stability")
    group = [clustering.group_of(k) for k in range(len(clustering.verdict))]
    return _rows(**{name: getattr(clustering, name) for name in names}, group=group)


# --- tables and names ----------------------------------------------------------------------------------------------


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The table, the same neuron by neuron, and the errors of the whole."""
    names = ("partner", "sign", "distance", "cosine_in", "cosine_in_euclidean", "cosine_out", "missing_influence")
    errors = ("parameter_error", "output_error", "function_error_rms", "function_error_max")
    return {
        "layers": comparison.rows(),
        **{name: getattr(comparison, name) for name in errors},
        "neurons": [_rows(**{name: getattr(layer, name) for name in names}) for layer in comparison.layers],
        "excess": [layer.excess for layer in comparison.layers],
    }


def _rows(**columns: Any) -> list[dict[str, Any]]:
    plain = {name: as_json(column) for name, column in columns.items()}
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    start = prefix + "."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}

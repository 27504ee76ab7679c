"""Recovered against teacher: which neurons were found, how well, and how well the function.

The comparison is up to what no input can reveal; `ecjax.judge.alignment` says what that is and brings the recovered
network to the teacher's representative of the same function, layer by layer. The next layer of both is then written
over the same inputs: the teacher's neurons, then the recovered neurons in excess, then the inputs of the linear map
that flipped neurons leave, if any. The teacher's weights on the last two are zero, so that what is there is an error.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from ..base.precision import to_device
from ..doors import as_network, is_model
from ..network import Layer, LayerActivation, Network, hidden_states, layer_state, respond
from ..network.symmetries import Symmetries, symmetries
from .alignment import Match, Vectors, View, align, canonical, cosine_distance, look, match_neurons

PerNeuron = Float[np.ndarray, " width"]
Queries = Float[Array, "_samples fan_in"] | Float[np.ndarray, "_samples fan_in"]

_COUNTS = ("layer", "teacher", "recovered", "excess", "missing")
# Cosine distances of a LayerComparison, and what they are of. Incoming weights are compared twice: by the
# pre-activations that they make over the queries, and as they stand, as in the paper.
_DISTANCES = {"cosine_in": "pre-activations", "cosine_in_euclidean": "weights in", "cosine_out": "weights out"}


class LayerComparison(eqx.Module):
    """One hidden layer, teacher neuron by teacher neuron; NaN where a teacher neuron has no partner.

    A cosine distance is 1 - cos: 0 for the same direction, 2 for opposite ones, 1 for a zero vector and any other.
    The influence of a neuron is the rms change of the teacher's outputs when the neuron's mean takes its place, in
    standard deviations of the outputs.
    """

    partner: Int[np.ndarray, " width"]  # index of the recovered neuron, -1 where missing
    sign: Int[np.ndarray, " width"]  # -1 where the partner was flipped, 0 where missing
    distance: PerNeuron  # |u - v|² / (|u|² + |v|²) of the pre-activations over x: what the matching minimises
    cosine_in: PerNeuron  # of the same pre-activations
    cosine_in_euclidean: PerNeuron  # of incoming weights and bias as they stand
    cosine_out: PerNeuron  # of outgoing weights
    teacher_in: Float[np.ndarray, "width inputs"]  # incoming weights and bias in the representative compared
    recovered_in: Float[np.ndarray, "width inputs"]  # the partner's
    missing_influence: PerNeuron  # how far the outputs move without a missing neuron; NaN where it has a partner
    excess: tuple[int, ...]  # recovered neurons without a partner
    n_unseen: int  # directions in which the layer's inputs do not vary, left out of the comparison

    @property
    def missing(self) -> tuple[int, ...]:
        """Teacher neurons without a partner."""
        return tuple(np.flatnonzero(self.partner < 0).tolist())

    @property
    def largest_missing_influence(self) -> float:
        """Of the missing neuron that matters most; 0 where none is missing."""
        return float(np.max(self.missing_influence[list(self.missing)], initial=0.0))

    @property
    def teacher_width(self) -> int:
        return len(self.partner)

    @property
    def recovered_width(self) -> int:
        return len(self.partner) - len(self.missing) + len(self.excess)

    @property
    def parameter_error(self) -> float:
        """Largest absolute difference of an incoming weight or bias, over the neurons that have a partner."""
        return float(np.max(np.abs(self.recovered_in - self.teacher_in), initial=0.0, where=self.partner[:, None] >= 0))


class Comparison(eqx.Module):
    """A recovered network against its teacher; see `compare`."""

    layers: tuple[LayerComparison, ...]  # hidden layers, first to last
    output_error: float  # largest absolute difference of a weight or bias of the output layer, linear map included
    function_error_rms: float  # of the difference of the outputs, in standard deviations of the teacher's outputs
    function_error_max: float

    @property
    def n_missing(self) -> int:
        """How many teacher neurons have no partner, over all layers."""
        return sum(len(layer.missing) for layer in self.layers)

    @property
    def n_excess(self) -> int:
        """How many recovered neurons have no partner, over all layers."""
        return sum(len(layer.excess) for layer in self.layers)

    @property
    def parameter_error(self) -> float:
        """Largest absolute difference of any weight or bias; infinite when a neuron is missing or in excess.

        Of the matched neurons alone: `layers[l].parameter_error` and `output_error`.
        """
        if self.n_missing or self.n_excess:
            return float("inf")
        return max(self.output_error, *(layer.parameter_error for layer in self.layers))

    def rows(self) -> list[dict[str, Any]]:
        """The table, a row for each hidden layer, as in the paper.

        Returns:
            By column, in JSON's own types: the number of the `layer`, widths of `teacher` and `recovered`, how many
            neurons are in `excess` and `missing`, the `missing_influence` of each missing one, and of every cosine
            distance of `LayerComparison` the mean and the largest over the neurons that were found ("cosine_in_mean",
            "cosine_in_largest", ...), None where none was.
        """
        rows = []
        for number, layer in enumerate(self.layers, start=1):
            widths = (number, layer.teacher_width, layer.recovered_width, len(layer.excess), len(layer.missing))
            row: dict[str, Any] = dict(zip(_COUNTS, widths, strict=True))
            row["missing_influence"] = layer.missing_influence[list(layer.missing)].tolist()
            for name in _DISTANCES:
                known = getattr(layer, name)[layer.partner >= 0]
                known = known[np.isfinite(known)]
                row[f"{name}_mean"] = float(known.mean()) if len(known) else None
                row[f"{name}_largest"] = float(known.max()) if len(known) else None
            rows.append(row)
        return rows

    def verdict(self) -> str:
        """What was found of each layer, and how exactly, in words."""
        lines = []
        for number, layer in enumerate(self.layers, start=1):
            found, excess = layer.teacher_width - len(layer.missing), f"{len(layer.excess) or 'none'} in excess"
            line = f"layer {number}: {found} of {layer.teacher_width} neurons found, {excess}"
            if layer.missing:
                line += f"; a missing one moves the outputs by {layer.largest_missing_influence:.0e} deviations at most"
            lines.append(line)
        lines.append(
            f"largest parameter error {self.parameter_error:.1e}; function error {self.function_error_rms:.1e} rms, "
            f"{self.function_error_max:.1e} at most, in standard deviations of the outputs"
        )
        lines += [
            f"layer {number}: {layer.n_unseen} of {layer.teacher_in.shape[1] - 1} input directions never vary; not "
            "compared"
            for number, layer in enumerate(self.layers, start=1)
            if layer.n_unseen
        ]
        return "\n".join(lines)

    def summary(self) -> str:
        """The table, 80 columns wide, and below it the verdict."""
        line = "{:>5} {:>7} {:>9} {:>6} {:>7}  {:>15} {:>11} {:>11}".format
        lines = [f"{'cosine distance, mean and largest, of':>78}", line(*_COUNTS, *_DISTANCES.values())]
        for row in self.rows():
            pairs = ((row[f"{name}_mean"], row[f"{name}_largest"]) for name in _DISTANCES)
            counts = (row[name] for name in _COUNTS)
            lines.append(line(*counts, *(" ".join("-" if x is None else f"{x:.0e}" for x in pair) for pair in pairs)))
        return "\n".join([*lines, self.verdict()])


def compare(
    recovered: Any,
    teacher: Any,
    x: Queries,
    *,
    fresh: Queries | None = None,
    tolerance: float = 0.1,
) -> Comparison:
    """Match the neurons of a recovered network with the teacher's, one to one, up to symmetry.

    Partners minimise the sum of |u - v|² / (|u|² + |v|²), u and v the pre-activations of the two over `x`. At equal
    norms that is the cosine distance, but it also tells a neuron from one twice as long. Deep networks are matched
    layer by layer, the weights of a layer compared over the teacher's neurons of the layer before.

    Args:
        recovered: A network as deep as the teacher, or a record with `.network`, as a `Recovery`. If the record has
            `.linear`, a `Layer` (or None), then that linear map of the inputs is added to the network's outputs.
        teacher: The network that it should be. Either may be a model of another library (`ecjax.doors.as_network`);
            one that does not say its activations has those of the other.
        x: Queries. They say how much each direction of the weights matters, and which can't be seen at all.
        fresh: Queries for the error of the function; by default `x`.
        tolerance: Largest distance of two partners, within (0, 1]. Beyond it, the teacher neuron is missing and the
            recovered one in excess. The default is an angle of 26 degrees at equal norms.

    Raises:
        ValueError: If the two differ in activation, depth, inputs or outputs; if one is a stack of students, or
            anything is not finite; if the activation is a polynomial, whose neurons are not determined; if the
            teacher's outputs do not vary.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794): teacher size, recovered size, cosine distances. In the
        published code one recovered neuron may be the partner of several teacher neurons; here it serves one.
    """
    ours, theirs = (one if is_model(one) else getattr(one, "network", one) for one in (recovered, teacher))
    network = as_network(ours, assumed=getattr(theirs, "activations", None), name="recovered")
    teacher = as_network(theirs, assumed=network.activations, name="teacher")
    linear: Layer | None = getattr(recovered, "linear", None)
    inputs, fresh_inputs = _host(x), _host(x if fresh is None else fresh)
    _check(network, linear, teacher, {"x": inputs, "fresh": fresh_inputs}, tolerance)

    dtype = teacher.dtype
    ours, theirs = _vectors(network.layers[0]), _vectors(teacher.layers[0])
    views, matches = [], []
    aligned = []  # of each layer, (ours, theirs) over the same inputs
    for number, (our_next, their_next) in enumerate(zip(network.layers[1:], teacher.layers[1:], strict=True)):
        of_ours, of_theirs = _symmetries(network, number), _symmetries(teacher, number)
        activation = teacher.layers[number].activation
        view = look(inputs)
        ours, our_next = canonical(view.fold(ours), _vectors(our_next), view, of_ours)
        theirs, their_next = canonical(view.fold(theirs), _vectors(their_next), view, of_theirs)
        match = match_neurons(ours, theirs, view, of_ours, of_theirs, tolerance)
        partners, weights, bias, linear_map = align(ours, our_next, match, of_ours)
        if linear is not None:
            linear_map = linear_map + _vectors(linear)
        views.append(view)
        matches.append(match)
        aligned.append((partners, theirs))

        ours_are = network.layers[number].activation
        in_excess = ours_are.take(match.excess) if len(match.excess) else ours_are
        features = [_hidden(activation, inputs, theirs, dtype), _hidden(in_excess, inputs, ours[match.excess], dtype)]
        blocks = [weights, our_next[:, match.excess]]
        if np.any(linear_map):
            features, blocks = [*features, inputs], [*blocks, linear_map[:, :-1]]
        inputs, ours = np.hstack(features), np.hstack([*blocks, (bias + linear_map[:, -1])[:, None]])
        nothing = np.zeros((len(their_next), ours.shape[1] - their_next.shape[1]))  # its share of the other inputs
        theirs = np.hstack([their_next[:, :-1], nothing, their_next[:, -1:]])

    view = look(inputs)
    aligned.append((view.fold(ours), view.fold(theirs)))
    errors = _function_error(network, linear, teacher, fresh_inputs)  # refuses outputs that do not vary
    queries = _host(x)
    influences = (_missing_influence(teacher, queries, number, match) for number, match in enumerate(matches))
    layers = tuple(
        _layer_comparison(match, view, pair, following, influence)
        for match, view, pair, following, influence in zip(
            matches, views, aligned[:-1], aligned[1:], influences, strict=True
        )
    )
    output_error = float(np.max(np.abs(aligned[-1][0] - aligned[-1][1])))
    return Comparison(layers, output_error, *errors)


# --- helpers ---------------------------------------------------------------------------------------------------------


def _layer_comparison(
    match: Match, view: View, pair: tuple[Vectors, Vectors], following: tuple[Vectors, Vectors], influence: PerNeuron
) -> LayerComparison:
    (ours, theirs), (our_next, their_next) = pair, following
    found = match.partner >= 0
    rows = np.isfinite(our_next[:, -1])  # neurons of the next layer that have a partner
    outgoing = [vectors[rows, : len(found)].T for vectors in (our_next, their_next)]
    return LayerComparison(
        partner=match.partner,
        sign=match.sign,
        distance=match.distance,
        cosine_in=np.where(found, cosine_distance(ours @ view.root.T, theirs @ view.root.T), np.nan),
        cosine_in_euclidean=np.where(found, cosine_distance(ours, theirs), np.nan),
        cosine_out=np.where(found, cosine_distance(*outgoing), np.nan),
        teacher_in=theirs,
        recovered_in=ours,
        missing_influence=influence,
        excess=tuple(match.excess.tolist()),
        n_unseen=view.unseen.shape[1],
    )


def _missing_influence(teacher: Network, x: np.ndarray, layer: int, match: Match) -> PerNeuron:
    influence = np.full(len(match.partner), np.nan)
    h = hidden_states(teacher, to_device(x.astype(teacher.dtype), "x"))[layer].h
    upper = Network(teacher.layers[layer + 1 :])
    wanted = _host(respond(upper, h))
    for neuron in np.flatnonzero(match.partner < 0):
        without = _host(respond(upper, h.at[:, neuron].set(h[:, neuron].mean())))
        influence[neuron] = np.sqrt(np.mean((without - wanted) ** 2)) / _spread(wanted)
    return influence


def _spread(outputs: np.ndarray) -> float:
    """Standard deviation over the queries, rms over the outputs."""
    return float(np.sqrt(np.mean(np.var(outputs, axis=0))))


def _function_error(network: Network, linear: Layer | None, teacher: Network, x: np.ndarray) -> tuple[float, float]:
    """Root mean square and largest difference of the outputs, in standard deviations of the teacher's outputs."""
    got, wanted = (_host(respond(net, to_device(x.astype(net.dtype), "x"))) for net in (network, teacher))
    if linear is not None:
        got = got + x @ _host(linear.w).T + _host(linear.b)
    std = _spread(wanted)
    if not std > 0:
        raise ValueError(f"`teacher`: its outputs do not vary over {len(x)} queries; there is nothing to compare.")
    return float(np.sqrt(np.mean((got - wanted) ** 2)) / std), float(np.max(np.abs(got - wanted)) / std)


# --- records to host arrays ------------------------------------------------------------------------------------------


def _host(array: Array | np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)


def _vectors(layer: Layer) -> Vectors:
    return np.hstack([_host(layer.w), _host(layer.b)[:, None]])


def _symmetries(net: Network, layer: int) -> Symmetries:
    return symmetries(net.layers[layer].activation, net.widths[layer])


def _hidden(activation: LayerActivation, inputs: np.ndarray, vectors: Vectors, dtype) -> np.ndarray:
    """What neurons with these incoming vectors make of the inputs; there may be none."""
    if not len(vectors):
        return np.zeros((len(inputs), 0))
    w, b = (to_device(part.astype(dtype), "teacher") for part in (vectors[:, :-1], vectors[:, -1]))
    return _host(layer_state(Layer(w, b, activation), to_device(inputs.astype(dtype), "x")).h)


def _check(
    network: Network, linear: Layer | None, teacher: Network, queries: dict[str, np.ndarray], tolerance: float
) -> None:
    """Refuse what can't be compared, naming the argument."""
    for name, net in {"recovered": network, "teacher": teacher}.items():
        if net.is_stack:
            raise ValueError(f"`{name}` is a stack of students; pick one with ecjax.network.student(students, i).")
        if len(net.layers) < 2:
            raise ValueError(f"`{name}` has no hidden layer, so no neurons to match.")
        if not all(np.isfinite(_vectors(layer)).all() for layer in net.layers):
            raise ValueError(f"`{name}` has weights that are not finite; its training has failed.")
    ends = [(len(net.widths), net.shape[0], net.shape[-1]) for net in (network, teacher)]
    if ends[0] != ends[1]:
        raise ValueError(
            f"`recovered` is a network {network.shape}, `teacher` is {teacher.shape} (inputs, hidden widths, outputs): "
            "they must have the same number of inputs, hidden layers and outputs."
        )
    for number, (ours, theirs) in enumerate(zip(network.activations, teacher.activations, strict=True), start=1):
        kinds = [
            {(kind.fn, kind.symmetry) for kind, _ in one.groups(width)}
            for one, width in ((ours, network.widths[number - 1]), (theirs, teacher.widths[number - 1]))
        ]
        if not kinds[0] <= kinds[1] and not kinds[1] <= kinds[0]:
            raise ValueError(
                f"`recovered` has {ours!r}, `teacher` {theirs!r} in hidden layer {number}: weights compare only under "
                "one activation."
            )
        for kind, _ in theirs.groups(teacher.widths[number - 1]):
            if kind.symmetry.polynomial:
                raise ValueError(
                    f"`teacher` has {kind!r}, a polynomial: a sum of such neurons can be written in infinitely many "
                    "ways, so there are no neurons to compare. Compare outputs instead, with ecjax.respond."
                )
    if linear is not None and (len(network.widths) != 1 or linear.w.shape != (network.shape[-1], network.shape[0])):
        raise ValueError(
            f"`recovered.linear` is a map from inputs to outputs beside one hidden layer, with weights "
            f"{(network.shape[-1], network.shape[0])}; got {linear.w.shape} beside {len(network.widths)} hidden layers."
        )
    for name, x in queries.items():
        if x.ndim != 2 or x.shape[1] != teacher.shape[0] or not len(x):
            raise ValueError(f"`{name}` is (samples, {teacher.shape[0]}), one input vector a row; got {x.shape}.")
        if not np.isfinite(x).all():
            raise ValueError(f"`{name}` has {np.count_nonzero(~np.isfinite(x))} entries that are not finite.")
    if not 0 < tolerance <= 1:
        raise ValueError(f"`tolerance` is the largest distance of partners, within (0, 1]; got {tolerance:g}.")

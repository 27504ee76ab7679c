"""What comes out of the road: the network, and everything that decided it."""

import equinox as eqx
import numpy as np

from ..cluster import LayerClustering
from ..expand import Expansion
from ..judge import Certificate, Evidence, Judge, half_widths
from ..network import Layer, Network
from ..objective import Scaling
from ..probe import Probes
from .settings import RecoveryConfig


class Recovery(eqx.Module):
    """What was recovered, and everything that decided it.

    Attributes:
        network: The recovered network, for inputs and outputs as they came.
        linear: A linear map of the inputs that is part of the answer because signs stayed undecided; else None.
        loss: Final imitation loss, in units of the targets' variance.
        is_exact: Whether the loss is one that only the right network has (`ecjax.judge.Judge`), on many more numbers
            than the network has parameters.
        found_by: For each hidden layer "clusters", as in the paper; "clusters of any angle" where large layers below
            others are judged with these; "clusters of a laxer cut" where refinement had to
            choose among clusters of half as many students; "one student" where among the neurons of a good student.
        advice: What is likely to be the cause, where nothing exact was found, and what to do; else empty.
        evidence: For the width of each hidden layer, where answers have errors; else nothing.
        errors: Standard error of every weight and bias, where answers have errors and that can be told; else None.
        certificate: Whether the network is the teacher itself, and the numbers that say so.
        chosen: What was chosen from the data because nothing was said, and why, in words.
        removed: Clusters that were kept and are no neuron of the network, and why, in words.
        unidentified: What the data cannot decide, in words.
        expansions: The students that each hidden layer was clustered from. The first ones were trained on scaled inputs
            and targets; of those after them only the layers above the reconstructed ones are there.
        clusterings: One for every hidden layer.
        scaling: Between the students' units and the user's.
        config: Settings.
        judge: What counted as exact.
        seconds: Time spent in every phase.
        probes: What the vectors of each hidden layer were proposed by, where the teacher was asked; then there are no
            `expansions`.
        questions: How many it was asked.
        is_stopped: Whether a budget ended it before all was done; `chosen` says what was left out.
    """

    network: Network
    linear: Layer | None
    loss: float = eqx.field(static=True)
    is_exact: bool = eqx.field(static=True)
    found_by: tuple[str, ...] = eqx.field(static=True)
    certificate: Certificate = eqx.field(static=True)
    chosen: tuple[str, ...] = eqx.field(static=True)
    removed: tuple[str, ...] = eqx.field(static=True)
    unidentified: tuple[str, ...] = eqx.field(static=True)
    expansions: tuple[Expansion, ...]
    clusterings: tuple[LayerClustering, ...]
    scaling: Scaling
    config: RecoveryConfig = eqx.field(static=True)
    judge: Judge = eqx.field(static=True)
    seconds: dict[str, float] = eqx.field(static=True)
    advice: str = eqx.field(static=True, default="")
    evidence: tuple[Evidence, ...] = eqx.field(static=True, default=())
    errors: Network | None = None
    probes: tuple[Probes, ...] = ()
    questions: int = eqx.field(static=True, default=0)
    is_stopped: bool = eqx.field(static=True, default=False)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many neurons each hidden layer has, first to last."""
        return self.network.widths

    @property
    def expansion(self) -> Expansion:
        """The students as a whole, from which the first hidden layer was clustered."""
        return self.expansions[0]

    def intervals(self, level: float = 0.95) -> Network:
        """Half of the width of each weight's and bias's confidence interval, in a network of the same shape.

        Args:
            level: Of confidence.

        Raises:
            ValueError: If the answers have no errors that could be told, so that there are none.
        """
        if self.errors is None:
            raise ValueError("`recovery` has no standard errors: its answers have no errors, or too few show them.")
        return half_widths(self.errors, self.judge.n_numbers, level=level)

    def summary(self) -> str:
        """What was found, how sure that is, and what it cost, in a few lines."""
        verdict = self.judge.words() if self.is_exact else "NOT exact: take the widths as a guess"
        widths = "-".join(map(str, self.network.shape))
        activations = " and ".join(dict.fromkeys(each.name for each in self.network.activations))
        lines = [f"Recovered a {widths} {activations} network, {verdict} (loss {self.loss:.1e})."]
        lines += [f"Likely cause: {self.advice}."] if self.advice else []
        lines += [f"Chosen: {each}" for each in self.chosen]
        if self.probes:
            lines.append(f"Asked {self.questions:,} questions.")
        asked = zip(self.probes, self.clusterings, self.widths, strict=False)
        for number, (probes, clustering, width) in enumerate(asked, start=1):
            lines.append(
                f"Layer {number}: {width} neurons, each proposed by at least {clustering.needed} of "
                f"{probes.n_proposers} {probes.who}; found by {probes.method}."
            )
        layers = zip(self.expansions, self.clusterings, self.found_by, strict=False)  # none where probes proposed
        for number, (expansion, clustering, found_by) in enumerate(layers, start=1):
            losses = np.asarray(expansion.loss)
            lines += [
                f"Layer {number}: {int(np.sum(expansion.finite))} of {len(losses)} students did not diverge "
                f"({expansion.method}, loss {np.nanmin(losses):.1e} to {np.nanmax(losses):.1e}).",
                f"Layer {number}: {len(clustering.kept_clusters)} clusters kept of {len(clustering.kept)} candidates, "
                f"each in at least {clustering.needed} of {clustering.n_students} students; found by {found_by}.",
            ]
        lines += [f"Evidence: {each.words()}." for each in self.evidence]
        lines += [f"Removed: {each}." for each in self.removed]
        lines.append(self.certificate.summary())
        lines += [f"Cannot be known: {each}" for each in self.unidentified]
        lines.append(", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in self.seconds.items()))
        return "\n".join(lines)

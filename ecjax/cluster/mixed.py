"""A layer whose neurons have activations of their own: every activation's neurons are clustered by themselves.

Neurons of different activations are never copies of one neuron, however close their vectors.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from .record import Aligned, ClusterConfig, Clustering
from .verdict import REPEAT


class MixedClustering(eqx.Module):
    """The clusters of a mixture: those of its first activation, then those of its second, ...

    What is told of candidate clusters is told as `Clustering` does.

    Attributes:
        groups: A clustering of each activation's neurons, in the order of `Mixture.groups`.
        places: Where the neurons of each group stand among the layer's, pooled over students.
    """

    groups: tuple[Clustering, ...]
    places: tuple[Int[np.ndarray, " _neurons_of_group"], ...]

    @property
    def neurons(self) -> Float[np.ndarray, "neurons fan_in_1"]:
        """Incoming weight vectors of all students, bias last."""
        return self._pooled([one.neurons for one in self.groups])

    @property
    def student(self) -> Int[np.ndarray, " neurons"]:
        """The student of every neuron."""
        return self._pooled([one.student for one in self.groups])

    @property
    def label(self) -> Int[np.ndarray, " neurons"]:
        """Candidate cluster of every neuron, -1 for none."""
        labels = zip(self.groups, self._first, strict=True)
        return self._pooled([np.where(one.label < 0, -1, one.label + first) for one, first in labels])

    @property
    def n_students(self) -> int:
        """How many students there are."""
        return self.groups[0].n_students

    @property
    def config(self) -> ClusterConfig:
        """What was asked."""
        return self.groups[0].config

    @property
    def needed(self) -> int:
        """Distinct students that a cluster needs."""
        return self.groups[0].needed

    @property
    def n_present(self) -> Int[np.ndarray, " clusters"]:
        """Distinct students in every candidate cluster."""
        return self._in_a_row("n_present")

    @property
    def n_vectors(self) -> Int[np.ndarray, " clusters"]:
        """Neurons in it."""
        return self._in_a_row("n_vectors")

    @property
    def median_angle(self) -> Float[np.ndarray, " clusters"]:
        """Between two of its members, in radians."""
        return self._in_a_row("median_angle")

    @property
    def spread(self) -> Float[np.ndarray, " clusters"]:
        """Rms distance of its aligned members from their mean, in units of the metric."""
        return self._in_a_row("spread")

    @property
    def merged_at(self) -> Float[np.ndarray, " clusters"]:
        """Height of the merge that made it."""
        return self._in_a_row("merged_at")

    @property
    def stability(self) -> Float[np.ndarray, " clusters"]:
        """How long it stays alone, on a logarithmic scale of heights."""
        return self._in_a_row("stability")

    @property
    def kept(self) -> Bool[np.ndarray, " clusters"]:
        """Whether it is taken for a neuron of the teacher."""
        return self._in_a_row("kept")

    @property
    def verdict(self) -> tuple[str, ...]:
        """ "kept", or why not."""
        verdicts = []
        for one, first in zip(self.groups, self._first, strict=True):
            for verdict in one.verdict:
                repeats = verdict.startswith(REPEAT)
                verdicts.append(f"{REPEAT}{int(verdict.removeprefix(REPEAT)) + first}" if repeats else verdict)
        return tuple(verdicts)

    @property
    def width(self) -> int:
        """How many neurons were found: the kept clusters."""
        return int(self.kept.sum())

    @property
    def kept_clusters(self) -> Int[np.ndarray, " kept"]:
        """Indices of the kept clusters, for `members` and `aligned`."""
        return np.flatnonzero(self.kept)

    @property
    def fan_in_1(self) -> int:
        """Length of an incoming weight vector, its bias included."""
        return self.groups[0].fan_in_1

    def group_of(self, cluster: int | np.integer) -> int:
        """Index of the group that a candidate cluster belongs to."""
        return int(np.searchsorted(self._first, cluster, side="right")) - 1

    def members(self, cluster: int | np.integer) -> Int[np.ndarray, " members"]:
        """Indices of the neurons in a candidate cluster, in ascending order."""
        return np.flatnonzero(self.label == cluster)

    def aligned(self, cluster: int | np.integer) -> Aligned:
        """The members of a candidate cluster brought to one sign, phase and scale, most typical member first."""
        group = self.group_of(cluster)
        inside = self.groups[group].aligned(cluster - self._first[group])
        return replace(inside, members=self.places[group][inside.members])

    @property
    def _first(self) -> list[int]:
        """Index of each group's first cluster."""
        return np.cumsum([0] + [len(one.verdict) for one in self.groups[:-1]]).tolist()

    def _in_a_row(self, name: str) -> Any:
        return np.concatenate([getattr(one, name) for one in self.groups])

    def _pooled(self, parts: list[np.ndarray]) -> Any:
        """What is told neuron by neuron, group by group, in the order of the layer."""
        return np.concatenate(parts)[np.argsort(np.concatenate(self.places))]


LayerClustering = Clustering | MixedClustering  # what a layer may have

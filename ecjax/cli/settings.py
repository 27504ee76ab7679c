"""The settings of a recovery as command lines have them: names in the place of records, few prefixes."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from ..cluster import METRICS, ClusterConfig
from ..expand import ExpandConfig
from ..expand.methods import AUTO, NAMES
from ..road.settings import RecoveryConfig

if TYPE_CHECKING:
    Method = MetricName = str
else:  # of what the library takes by name or as a record, command lines have the names
    Method, MetricName = Literal[(*NAMES,)], Literal[tuple(METRICS)]


@dataclass(frozen=True, kw_only=True)
class NamedExpandConfig(ExpandConfig):
    """An ExpandConfig whose method has a name.

    Attributes:
        method: How the students are trained. auto: by smoothness and size, one of the next four.
            levenberg_marquardt: second-order steps, smooth and up to some hundred parameters.
            adam_levenberg_marquardt: Adam before them, for kinks. adam_lbfgs: more parameters;
            adam_conjugate: deep and smooth ones. flow: gradient flow before them; flow_newton, flow_bfgs: as in the
            paper. adam_subsampled: second-order steps on other samples each. minibatch: Adam on mini-batches; those
            named after it have a second-order end.
    """

    method: Method = AUTO


@dataclass(frozen=True, kw_only=True)
class NamedClusterConfig(ClusterConfig):
    """A ClusterConfig whose metric has a name.

    Attributes:
        metric: What the distance of two neurons is. preactivation: the rms difference of their pre-activations over the
            queries. euclidean: of their weights, as in the paper. cosine: 1 - cos of the angle between their weights.
    """

    metric: MetricName = "preactivation"


@dataclass(frozen=True, kw_only=True)
class Settings(RecoveryConfig):
    """A RecoveryConfig for the command line: its most used settings need no prefix, as --gamma, not --cluster.gamma."""

    expand: Annotated[NamedExpandConfig, arg(name="")] = field(default_factory=NamedExpandConfig)
    cluster: Annotated[NamedClusterConfig, arg(name="")] = field(default_factory=NamedClusterConfig)

    @staticmethod
    def of(config: RecoveryConfig) -> "Settings":
        """The same settings for the command line."""
        expand, cluster = NamedExpandConfig(**vars(config.expand)), NamedClusterConfig(**vars(config.cluster))
        return Settings(**{**vars(config), "expand": expand, "cluster": cluster})

    @property
    def config(self) -> RecoveryConfig:
        """The same settings for the library."""
        expand, cluster = ExpandConfig(**vars(self.expand)), ClusterConfig(**vars(self.cluster))
        return RecoveryConfig(**{**vars(self), "expand": expand, "cluster": cluster})

    def options_unlike(self, config: RecoveryConfig) -> list[str]:
        """The options, as "--gamma", in which these settings differ from others."""
        return _unlike(self, config, "--")


def _unlike(one: Any, other: Any, prefix: str) -> list[str]:
    names = []
    for each in fields(one):
        mine, theirs = getattr(one, each.name), getattr(other, each.name)
        if is_dataclass(mine) and not isinstance(mine, type):
            names += _unlike(mine, theirs, prefix if each.name in ("expand", "cluster") else f"{prefix}{each.name}.")
        elif mine != theirs:
            names.append((prefix + each.name).replace("_", "-"))
    return names

"""Settings chosen from the data, where nothing was said, and why: from statistics of the queries alone, in one pass.

    inputs of one unit, some of which hardly ever vary (pixels)   one common scale, small initial weights
    thousands of samples of hundreds of inputs                    mini-batches
    students too wide for second-order steps                      small initial weights (64 Gaussian inputs, 6 tanh
                                                                  neurons: 21 were found from Glorot's, 6 from a tenth)
    everything else                                               the toy settings

Presets are names for such choices (`ecjax.PRESETS`); whatever a caller gives goes before what is chosen here.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from ..cluster import Metric
from ..data import Data
from ..expand import SECOND_ORDER_UP_TO
from ..network import LayerActivation, n_parameters
from ..objective.variation import variation
from .settings import RecoveryConfig, Width

# Largest deviation of an input from its mean, in its standard deviations, beyond which it hardly ever varies: a
# Gaussian is there once in 1e15 samples; of the pixels of the 8x8 digits a quarter is.
_RARE = 8.0
# Ranges of inputs of one unit are within this factor of each other, the smallest and largest tenth left out.
_ONE_UNIT = 10.0
# Numbers in all queries from which an epoch of mini-batches costs less than a step on all of them.
_MANY = 2e6
_ROOM = 2  # answers for each parameter of a student, where the width is ours to choose
_NARROWEST = 4
_Config = TypeVar("_Config")


@dataclass(frozen=True)
class Choice:
    """Settings, and what of them was chosen, in words."""

    config: RecoveryConfig
    words: tuple[str, ...]

    def replaced(self, config: RecoveryConfig, *words: str) -> "Choice":
        """With other settings, and more words."""
        return Choice(config, (*self.words, *words))


def chosen_from(data: Data, activations: tuple[LayerActivation, ...]) -> Choice:
    """Settings for these data.

    Args:
        data: What is known of the teacher.
        activations: Of its hidden layers.
    """
    depth, x = len(activations), np.asarray(data.x)
    n_rare, one_unit = _inputs(x)
    if x.size >= _MANY:
        config = RecoveryConfig.images_deep() if depth > 1 else RecoveryConfig.images()
        steps = "mini-batches, and students that become narrower" if depth > 1 else "steps that see other samples each"
        words = [f"{steps} ({len(x):,} samples of {x.shape[1]} inputs)"]
        words += [] if one_unit else ["each input in a scale of its own (they have different units)"]
        config = config if one_unit else replace(config, standardise="columns")
    elif n_rare and one_unit:
        config = RecoveryConfig.digits()
        words = [
            f"one common scale for all inputs ({n_rare} of {x.shape[1]} hardly ever vary, and all have one unit)",
            "small initial weights",
        ]
    else:
        config, words = RecoveryConfig.toy(), []
        if _n_parameters(config, data, depth) > SECOND_ORDER_UP_TO:
            config = replace(config, init_scale=0.1)
            words = ["small initial weights (students are too wide for second-order steps)"]
    width = _affordable_width(config, data, depth)
    if width != config.student_width:
        config = replace(config, student_width=width)
        words.append(f"students of width {width}, for which {data.n_numbers:,} answers are enough")
    return Choice(config, tuple(words))


def _inputs(x: np.ndarray) -> tuple[int, bool]:
    """How many inputs hardly ever vary, constant ones among them; and whether all have one unit."""
    seen = variation(x)
    varying = x[:, ~seen.constant].astype(float)
    reach = np.abs(varying - seen.mean[~seen.constant]).max(axis=0) / seen.spread[~seen.constant]
    low, high = np.quantile(np.ptp(varying, axis=0), [0.1, 0.9])
    return int(np.sum(reach > _RARE)) + int(seen.constant.sum()) * bool((reach > _RARE).any()), bool(
        high <= _ONE_UNIT * low
    )


def _n_parameters(config: RecoveryConfig, data: Data, depth: int, width: int | None = None) -> int:
    widths = config.widths(depth) if width is None else (width,) * depth
    return n_parameters((data.x.shape[1], *widths, data.y.shape[1]))


def _affordable_width(config: RecoveryConfig, data: Data, depth: int) -> int:
    """The default width, or the widest that the answers are enough for."""
    (width, *_), n_numbers = config.widths(depth), data.n_numbers
    while width > _NARROWEST and _ROOM * _n_parameters(config, data, depth, width) > n_numbers:
        width -= max(1, width // 8)
    return width


class Overrides(NamedTuple):
    """Settings that were given to `recover` by themselves."""

    student_width: Width | None
    n_students: int | None
    gamma: float | None
    beta: float | None
    metric: str | Metric | None
    policy: str | None
    n_clusters: int | None
    height: float | None
    method: Any

    def of(self, config: RecoveryConfig) -> RecoveryConfig:
        """The config with what was given in its place."""
        policy = self.policy or (
            "count" if self.n_clusters is not None else "height" if self.height is not None else None
        )
        clusters = {"gamma": self.gamma, "beta": self.beta, "metric": self.metric, "policy": policy}
        clusters |= {"n_clusters": self.n_clusters, "height": self.height}
        cluster, train = _override(config.cluster, **clusters), _override(config.expand, method=self.method)
        students = {"student_width": self.student_width, "n_students": self.n_students}
        return _override(config, **students, cluster=cluster, expand=train)


def choice_of(
    data: Data, activations: tuple[LayerActivation, ...], config: RecoveryConfig | None, overrides: Overrides
) -> Choice:
    """The settings that were given, and the others chosen from the data."""
    choice = Choice(config, ()) if config is not None else chosen_from(data, activations)
    return choice.replaced(overrides.of(choice.config))


def _override(config: _Config, **values: Any) -> _Config:
    """A config with the values that are not None."""
    return replace(cast(Any, config), **{name: value for name, value in values.items() if value is not None})

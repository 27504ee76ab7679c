"""Settings of a recovery, and presets to start from: toys, tables, digits, images, and the paper's own."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from ..base.checks import check_settings
from ..cluster import ClusterConfig
from ..expand import Adam, ExpandConfig, Minibatch, Narrowing, Stopping, Subsampled
from ..objective.scaling import Standardise

Upper = Literal["carried", "fresh"]
Width = int | tuple[int, ...] | Literal["auto"]
_ROUNDS = 3  # of 150 synthetic teachers none needed more than two; a third is cheap beside being wrong
# The quick round before these. Students of toys that end exact are so after 30 to 150 of 500 steps, of a 64-48-32-10
# teacher after 30 of 100; the rest goes to stragglers that most ensembles do not need. With 5 answers for each
# parameter deep toys did as well as with 40.
_QUICK_ANSWERS, _QUICK_SHARE = 10.0, 0.3


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig:
    """Settings of a recovery; start from `RecoveryConfig.toy` or `RecoveryConfig.data`.

    Attributes:
        student_width: Neurons in a hidden layer of every student, one number for all layers or one for each; about four
            times what you expect of the teacher. "auto" finds a width by short runs (`ecjax.expand.sufficient_width`).
        n_students: How many students imitate the teacher.
        rounds: How often students are trained at most. A round after the first is for a network that is not exact yet:
            students that ran out of steps go on, others give way to fresh ones, and the better of old and new count.
            None for a quick one and then up to 3, or 1 with methods that train all students together, however long.
        init_scale: Factor on the Glorot-normal initial weights. Students that start small are slow to use a neuron they
            do not need, so on real data their neurons come closer to the teacher's; the paper has 1.
        standardise: Train on inputs of mean 0 and variance 1, in "columns" or by one "common" factor (pixels), or "no".
            The result is for the inputs as they came.
        upper: What a deep student's upper layers start from when a layer below is reconstructed: "carried" keeps what
            the student had learned, "fresh" draws them again, which makes the last hidden layer a shallow problem.
        propose: Where the kept clusters do not give an exact network, start from clusters of half as many students,
            then from the best students, and take neurons away as long as the network stays exact. Off, only the kept
            clusters count, as in the paper.
        expand: How the students are trained.
        cluster: Thresholds, metric and cut.
        finetune: When the refinement of the reconstructed network stops. No gradient is too small: along the direction
            that the answers show worst it vanishes long before the error does.
        exact_loss: Loss, in units of the targets' variance, at which a reconstructed network counts as exact; by
            default what rounding errors explain. Refining thousands of weights that far takes long, and is not needed
            to tell a right width from a wrong one.
    """

    student_width: Width
    n_students: int = 10
    rounds: int | None = 1
    init_scale: float = 1.0
    standardise: Standardise = "columns"
    upper: Upper = "carried"
    propose: bool = True
    expand: ExpandConfig = field(default_factory=ExpandConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    finetune: Stopping = field(default_factory=lambda: Stopping(max_steps=200, patience=30, gradient_norm=0.0))
    exact_loss: float | None = None

    def __post_init__(self):
        check_settings(self, above_0=("init_scale", "exact_loss"), from_1=("rounds",))
        widths = self.student_width if isinstance(self.student_width, tuple) else (self.student_width,)
        if self.student_width != "auto" and not all(isinstance(width, int) and width > 0 for width in widths or [0]):
            raise ValueError(f"`student_width` is at least 1, best four times the teacher's; got {self.student_width}.")
        if self.upper not in get_args(Upper):
            raise ValueError(f"`upper` is one of {get_args(Upper)}; got {self.upper!r}.")
        if self.standardise not in get_args(Standardise):
            raise ValueError(f"`standardise` is one of {get_args(Standardise)}; got {self.standardise!r}.")
        if self.rounds is not None and self.rounds > 1 and self.expand.trains_stacks:
            raise ValueError(
                f"`rounds` is 1 (or None) for method {self.expand.method!r}, which trains all students together, "
                f"however long; got {self.rounds}."
            )
        if self.n_students < 2:
            raise ValueError(
                f"`n_students` is at least 2, since neurons are known by students agreeing; got {self.n_students}."
            )
        self.cluster.n_needed(self.n_students)  # refuses fewer than two

    @property
    def n_rounds(self) -> int:
        """How often students are trained at most."""
        if self.rounds is None:
            return 1 if self.expand.trains_stacks else 1 + _ROUNDS
        return self.rounds

    def training(self, turn: int) -> ExpandConfig:
        """How students are trained in a round, the first of which is 0."""
        if turn > 0 or self.rounds is not None or self.expand.trains_stacks:
            return self.expand
        fewer = lambda stop: replace(stop, max_steps=math.ceil(_QUICK_SHARE * stop.max_steps))
        answers = _QUICK_ANSWERS if self.expand.answers is None else min(_QUICK_ANSWERS, self.expand.answers)
        quick = {"descent": fewer(self.expand.descent), "conjugate": fewer(self.expand.conjugate)}
        return replace(self.expand, **quick, answers=answers)

    def widths(self, hidden_layers: int) -> tuple[int, ...]:
        """The students' widths, one for each of so many hidden layers.

        Raises:
            ValueError: If the settings have another number of widths, or "auto", which only data can tell.
        """
        if self.student_width == "auto":
            raise ValueError('`student_width` is "auto", which is found in `recover`: give a number here.')
        if not isinstance(self.student_width, tuple):
            return (self.student_width,) * hidden_layers
        if len(self.student_width) not in (1, hidden_layers):
            layers = f"{hidden_layers} hidden layer{'s' * (hidden_layers > 1)}"
            raise ValueError(
                f"`student_width` has {len(self.student_width)} widths for {layers}: give one for all, or one for each."
            )
        return self.student_width * (hidden_layers // len(self.student_width))

    @staticmethod
    def toy(student_width: Width = 16, n_students: int = 20, **settings: Any) -> "RecoveryConfig":
        """Small teachers in float64 on white inputs."""
        return RecoveryConfig(student_width=student_width, n_students=n_students, **{"rounds": None, **settings})

    @staticmethod
    def data(student_width: Width = 32, n_students: int = 8, **settings: Any) -> "RecoveryConfig":
        """Teachers of real data: students agree less closely, so beta is wider."""
        defaults = {
            "init_scale": 0.1,
            "cluster": ClusterConfig(gamma=0.8, beta=np.pi / 6),
            "expand": ExpandConfig(
                adam=Adam(n_steps=3000, learning_rate=3e-3), lbfgs=Stopping(max_steps=2000, patience=300)
            ),
        }
        return RecoveryConfig(student_width=student_width, n_students=n_students, **{**defaults, **settings})

    @staticmethod
    def digits(student_width: Width = 32, n_students: int = 6, **settings: Any) -> "RecoveryConfig":
        """Teachers of small images, trained on all of them at once: as `data`, with one scale for all pixels."""
        return RecoveryConfig.data(student_width, n_students, **{"standardise": "common", **settings})

    @staticmethod
    def images(student_width: Width = 32, n_students: int = 4, **settings: Any) -> "RecoveryConfig":
        """Teachers of images: second-order steps that see other images each lead past minima."""
        defaults = {
            "init_scale": 0.1,
            "standardise": "common",
            "cluster": ClusterConfig(gamma=max(0.5, 2 / max(n_students, 2)), beta=np.pi / 6),
            "expand": ExpandConfig(
                method="adam_subsampled",
                sampled=Adam(n_steps=5000, learning_rate=3e-3, batch=250),
                subsampled=Subsampled(n_steps=300, target_loss=3e-6),
            ),
            "finetune": Stopping(max_steps=40, patience=3, target_loss=1e-11),
            "exact_loss": 1e-8,
        }
        return RecoveryConfig(student_width=student_width, n_students=n_students, **{**defaults, **settings})

    @staticmethod
    def images_deep(student_width: Width = 48, n_students: int = 6, **settings: Any) -> "RecoveryConfig":
        """The same for teachers with several hidden layers, whose students need second-order steps past minima."""
        expand = ExpandConfig(
            method="minibatch_subsampled",
            minibatch=Minibatch(
                batch=250, learning_rate=3e-3, max_shift=3.0, patience=15, factor=0.5, cooldown=5,
                min_learning_rate=3e-5, max_epochs=300, dtype="float32",
            ),
            narrowing=Narrowing(factor=0.75, learning_rate=0.5),
            descent=Stopping(max_steps=20, patience=10, target_loss=1e-11),
        )  # fmt: skip
        return RecoveryConfig.images(student_width, n_students, **{"expand": expand, **settings})

    @staticmethod
    def paper_shallow(student_width: Width = 512, n_students: int = 10, **settings: Any) -> "RecoveryConfig":
        """The paper's settings for image teachers with one hidden layer, of width 128 there."""
        defaults = {
            "standardise": "common",
            "propose": False,
            "cluster": ClusterConfig(gamma=0.5, beta=np.pi / 6),
            "expand": ExpandConfig(method="minibatch", minibatch=Minibatch(dtype="float32")),
            "finetune": Stopping(max_steps=40, patience=3, target_loss=1e-11),
            "exact_loss": 1e-8,
        }
        return RecoveryConfig(student_width=student_width, n_students=n_students, **{**defaults, **settings})

    @staticmethod
    def paper_deep(student_width: Width = 90, n_students: int = 50, **settings: Any) -> "RecoveryConfig":
        """The paper's settings for deep image teachers, of widths 30-30-30 there."""
        defaults = {"cluster": ClusterConfig(gamma=0.5, beta=np.pi / 3)}
        return RecoveryConfig.paper_shallow(student_width, n_students, **{**defaults, **settings})


# The settings to start from, by the names that the command line has for them.
PRESETS = {
    "toy": RecoveryConfig.toy,
    "data": RecoveryConfig.data,
    "digits": RecoveryConfig.digits,
    "images": RecoveryConfig.images,
    "images-deep": RecoveryConfig.images_deep,
    "paper-shallow": RecoveryConfig.paper_shallow,
    "paper-deep": RecoveryConfig.paper_deep,
}

"""Methods by name: which stages students go through, and which of them "auto" chooses.

levenberg_marquardt        Levenberg-Marquardt from the fresh student: smooth, up to some hundred parameters
flow                       gradient flow, then Levenberg-Marquardt: the paper's way with toy teachers
flow_newton                gradient flow, then the exact Hessian: the paper's end for students as narrow as teachers
flow_bfgs                  gradient flow, then BFGS: the paper's end for wider students
adam_levenberg_marquardt   Adam, then Levenberg-Marquardt: activations with kinks
adam_conjugate             Adam on some samples in each step, then Levenberg-Marquardt by conjugate gradients with quick
                           steps: deep students with too many parameters for a matrix of all of them
adam_lbfgs                 Adam, then L-BFGS: other students with as many
adam_subsampled            Adam on some samples in each step, then Levenberg-Marquardt on other samples in every step:
                           students of images
minibatch                  Adam on mini-batches, all students at once: many samples (`ecjax.expand.minibatch`)
minibatch_lbfgs            the same, then L-BFGS on all samples in the precision of the data
minibatch_inexact          the same, then Levenberg-Marquardt by conjugate gradients in quick steps
minibatch_subsampled       the same with Levenberg-Marquardt on other samples in every step in between: deep ones,
                           which end in minima otherwise
minibatch_conjugate        the same, then Levenberg-Marquardt by conjugate gradients to the end: deep ones, whom Adam
                           leaves in bent valleys
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

from ..base.checks import check_settings
from ..network import Network
from .adam import Adam
from .bfgs import BFGS
from .conjugate import Conjugate
from .descent import Stopping
from .flow import Flow
from .inexact import Inexact
from .lbfgs import LBFGS
from .levenberg_marquardt import LevenbergMarquardt
from .minibatch import Minibatch
from .narrowing import NarrowedMinibatch, Narrowing
from .newton import Newton
from .on_fewer import OnFewer
from .stage import StackStage, Stage
from .students_axis import Placement
from .subsampled import Subsampled

Stages = tuple[Stage | StackStage, ...]

# A Levenberg-Marquardt step costs samples * parameters^2 operations, a gradient samples * parameters: beyond this many
# parameters several hundred L-BFGS steps cost less than the ten or twenty that Levenberg-Marquardt would need.
SECOND_ORDER_UP_TO = 1200


@dataclass(frozen=True, kw_only=True)
class ExpandConfig:
    """How the students are trained.

    Attributes:
        method: A name (see `ecjax.expand.methods`), stages of your own, or "auto" to choose by smoothness and size.
        flow: The flow's settings, where the method has one.
        adam: Adam's settings, where the method has it.
        minibatch: Its settings, where the method has it.
        narrowing: Whether and how students trained on mini-batches then become narrower.
        descent: When the second-order end of a method stops.
        sampled: Adam in "adam_conjugate" and "adam_subsampled", on some samples in each step.
        subsampled: Its settings, where the method has it.
        conjugate: When conjugate gradients stop, where "adam_conjugate" ends with them; a step costs some 60 gradients.
        lbfgs: When L-BFGS stops, where the method ends with it: many cheap steps, and patience with slow ones.
        placement: "map", "vmap", "mesh" or "auto"; see `ecjax.expand.students_axis`.
        chunk: Students of one device in one call under "vmap" and "mesh".
        answers: How many numbers a smooth student sees for each of its parameters; None for all that there are.
    """

    method: str | Stages = "auto"
    flow: Flow = field(default_factory=Flow)
    adam: Adam = field(default_factory=Adam)
    minibatch: Minibatch = field(default_factory=Minibatch)
    narrowing: Narrowing = field(default_factory=Narrowing)
    descent: Stopping = field(default_factory=Stopping)
    sampled: Adam = field(default_factory=lambda: Adam(n_steps=10_000, learning_rate=5e-3, batch=256))
    subsampled: Subsampled = field(default_factory=Subsampled)
    conjugate: Stopping = field(default_factory=lambda: Stopping(max_steps=200, patience=20, target_loss=1e-9))
    lbfgs: Stopping = field(default_factory=lambda: Stopping(max_steps=3000, patience=300))
    placement: Placement = "auto"
    chunk: int | None = None
    answers: float | None = None

    def __post_init__(self):
        check_settings(self, from_1=("chunk", "answers"), elsewhere=("method",))
        if self.placement not in get_args(Placement):
            raise ValueError(f"`placement` is one of {get_args(Placement)}; got {self.placement!r}.")
        if isinstance(self.method, str):
            if self.method not in NAMES:
                raise ValueError(f"`method` is one of {NAMES}, or a tuple of stages; got {self.method!r}.")
            if self.method != AUTO:
                METHODS[self.method](self)  # refuses settings that do not go together, where the method has them
        elif not isinstance(self.method, tuple) or not self.method or not all(map(_is_stage, self.method)):
            raise ValueError(f"`method` is a name or a tuple of stages, at least one; got {self.method!r}.")

    def chosen(self, students: Network) -> tuple[str, Stages]:
        """Name and stages of the method for these students, "auto" decided."""
        if isinstance(self.method, str):
            name = choose_method(students) if self.method == AUTO else self.method
            stages = METHODS[name](self)
        else:
            name, stages = " + ".join(type(stage).__name__ for stage in self.method), self.method
        answers = self.answers
        if answers is not None:
            stages = tuple(OnFewer(stage, answers) if isinstance(stage, Stage) else stage for stage in stages)
        return name, stages

    @property
    def trains_stacks(self) -> bool:
        """Whether a stage of the method trains all students together."""
        stages = self.method
        if isinstance(stages, str):
            stages = () if stages == AUTO else METHODS[stages](self)
        return any(isinstance(stage, StackStage) for stage in stages)


def _is_stage(thing: object) -> bool:
    return isinstance(thing, Stage | StackStage)


AUTO = "auto"
METHODS: dict[str, Callable[[ExpandConfig], Stages]] = {
    "levenberg_marquardt": lambda its: (LevenbergMarquardt(its.descent),),
    "flow": lambda its: (its.flow, LevenbergMarquardt(its.descent)),
    "flow_newton": lambda its: (its.flow, Newton(its.descent)),
    "flow_bfgs": lambda its: (its.flow, BFGS(its.descent)),
    "adam_levenberg_marquardt": lambda its: (its.adam, LevenbergMarquardt(its.descent)),
    "adam_conjugate": lambda its: (its.sampled, Inexact(its.conjugate)),
    "adam_lbfgs": lambda its: (its.adam, LBFGS(its.lbfgs)),
    "adam_subsampled": lambda its: (its.sampled, its.subsampled),
    "minibatch": lambda its: (_minibatch(its),),
    "minibatch_lbfgs": lambda its: (_minibatch(its), LBFGS(its.lbfgs)),
    "minibatch_inexact": lambda its: (_minibatch(its), Inexact(its.descent)),
    "minibatch_subsampled": lambda its: (_minibatch(its), its.subsampled, Inexact(its.descent)),
    "minibatch_conjugate": lambda its: (_minibatch(its), Conjugate(its.descent)),
}
NAMES = (AUTO, *METHODS)


def _minibatch(its: ExpandConfig) -> NarrowedMinibatch:
    return NarrowedMinibatch(its.minibatch, its.narrowing)


def choose_method(students: Network) -> str:
    """The method that "auto" takes for students of this size and these activations."""
    if not is_small(students):  # of one hidden layer L-BFGS comes as far as clusters need in a third of the time
        return "adam_conjugate" if students.smooth and len(students.hidden) > 1 else "adam_lbfgs"
    return "levenberg_marquardt" if students.smooth else "adam_levenberg_marquardt"


def is_small(students: Network) -> bool:
    """Whether a matrix of all parameters is worth its cost."""
    return students.n_parameters <= SECOND_ORDER_UP_TO

"""What training takes at least, asked for before it begins: the memory of one student on all its samples."""

import math

import jax

from ..base.memory import require_memory
from ..network import Network
from ..objective import Objective, Samples
from .bfgs import BFGS
from .flow import Flow
from .levenberg_marquardt import LevenbergMarquardt
from .minibatch import Minibatch
from .narrowing import NarrowedMinibatch
from .newton import Newton
from .on_fewer import OnFewer
from .orthogonal import Orthogonal
from .stage import StackStage, Stage

_WITH_MATRIX = (LevenbergMarquardt, Newton, Orthogonal, BFGS, Flow)  # of all parameters, and its factor
_STATES = 2  # arrays of [samples, width] that a gradient keeps: pre-activations and activations


def require_room(students: Network, objective: Objective, stages: tuple[Stage | StackStage, ...]) -> None:
    """Refuse training for which the memory is not enough, one student at a time.

    Raises:
        ValueError: Naming the settings to change.
    """
    shape = "-".join(map(str, students.shape))
    size, n_parameters = students.dtype.itemsize, students.n_parameters
    for stage in stages:
        n_samples = _samples(stage, objective, students)
        what = f"Answers of one {shape} student to {n_samples:,} samples"
        require_memory(
            _STATES * n_samples * sum(students.widths) * size, what, "lower `student_width` or the number of samples"
        )
        if isinstance(_bare(stage), _WITH_MATRIX):
            what = f"Second derivatives by {n_parameters:,} parameters of one {shape} student"
            remedy = 'lower `student_width`, or say method="adam_lbfgs"'
            require_memory(2 * n_parameters**2 * size, what, remedy)


def _bare(stage: Stage | StackStage) -> Stage | StackStage:
    return stage.stage if isinstance(stage, OnFewer) else stage


def _samples(stage: Stage | StackStage, objective: Objective, students: Network) -> int:
    """How many samples a step of a stage sees at a time; none, where the objective has none."""
    if not isinstance(objective, Samples) or not isinstance(objective.x, jax.Array):
        return 0
    n_samples = objective.x.shape[-2]
    if isinstance(stage, OnFewer) and students.smooth:
        return min(n_samples, math.ceil(stage.answers * students.n_parameters / objective.y.shape[-1]))
    minibatch = stage.minibatch if isinstance(stage, NarrowedMinibatch) else stage
    return min(n_samples, minibatch.batch) if isinstance(minibatch, Minibatch) else n_samples

"""A stage: one way to train a student for a while. A method is a tuple of stages, each starting where the last stopped.

A stage is a frozen record of settings that can be called. A new one is a file with such a record, and a line in the
table of `ecjax.expand.methods` if it shall have a name there; a tuple of stages can also be given as the method itself.

Most stages train one student and are mapped over the stack (`ecjax.expand.students_axis`). A `StackStage` trains the
stack as a whole.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import PRNGKeyArray

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..network import Network
from ..objective import Objective
from .expansion import Expansion, Student
from .store import Store


@dataclass(frozen=True)
class Stage(ABC):
    """Trains one student. Hashable, so that equal stages share a compiled program."""

    @abstractmethod
    def __call__(self, student: Network, objective: Objective) -> Student:
        """The student after this stage; jax-traceable. What fails is marked in its result, and raises nothing."""


@dataclass(frozen=True)
class StackStage(ABC):
    """Trains all students of a stack together."""

    @abstractmethod
    def __call__(
        self,
        students: Network,
        objective: Objective,
        *,
        key: PRNGKeyArray | None,
        store: Store,
        progress: Progress = silent,
        deadline: Deadline = NEVER,
    ) -> Expansion:
        """The students after this stage.

        Args:
            students: A stack.
            objective: What they are fitted to.
            key: For whatever chance has a part in it.
            store: Where it may keep its state, and finds that of an interrupted run.
            progress: Called as the work advances.
            deadline: When to stop at the next occasion, with a state in the store from which it goes on.
        """


@dataclass(frozen=True)
class Road(Stage):
    """Stages one after another as one stage. A stage that makes a student worse gives way to the ones before it."""

    stages: tuple[Stage, ...]

    def __call__(self, student: Network, objective: Objective) -> Student:
        first, *others = self.stages
        done = first(student, objective)
        for stage in others:
            done = done.followed_by(stage(done.network, objective))
        return done

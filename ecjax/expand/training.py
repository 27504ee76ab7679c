"""Phase 1: N overparameterised students imitate the teacher, stage by stage."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..base.threads import one_blas_thread
from ..network import Network
from ..objective import Objective
from .expansion import Expansion, Student
from .methods import ExpandConfig, Stages
from .needs import require_room
from .rounds import better_of
from .stage import Road, StackStage, Stage
from .store import Store, claim, fingerprint, in_words, key_fingerprint, part
from .students_axis import Enough, any_number, over_students, two_finite


def expand(
    students: Network,
    objective: Objective,
    *,
    config: ExpandConfig | None = None,
    key: PRNGKeyArray | None = None,
    store: Store | None = None,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
    enough: Enough = two_finite,
) -> Expansion:
    """Train every student of a stack.

    Args:
        students: Fresh students, all of one shape.
        objective: What they are fitted to: `ecjax.Samples(x, y)` of queries and targets. The tolerances of the solvers
            are absolute, so give targets in units of their standard deviation.
        config: How.
        key: Of the mini-batches' shuffles; not to be used again. The other methods have no chance in them.
        store: What is finished; see `ecjax.expand.store`. An interrupted expansion that gets it back goes on where it
            was, and ends as if it had never stopped, bit for bit.
        progress: Called as students finish, and as epochs pass.
        deadline: When to stop: no student, no chunk of epochs and no further stage is begun after it. What the store
            has then is that of an interrupted expansion.
        enough: Given the losses of the students that are there, whether they will do when the time is up.

    Returns:
        The trained students: all, or the first of them, if there was no time for the others. A student that fails is
        marked, and the others go on.

    Raises:
        ValueError: If the method has mini-batches, and there is no key or more than one process; if a stage needs more
            of the objective than it has; if the store belongs to other students, data or settings; if the memory is
            not enough for one student.
    """
    config = config or ExpandConfig()
    name, stages = config.chosen(students)
    require_room(students, objective, stages)
    if store is not None:
        _claim(store, students, objective, stages, key)
    done = None
    with one_blas_thread():
        for number, stage in enumerate(_joined(stages)):
            if done is not None:
                if deadline.leaves_out("later stages of training"):
                    break
                enough = any_number
            here = store if number == 0 else part(store, f"stage-{number + 1}")
            told = {"progress": progress, "deadline": deadline}
            start = students if done is None else done.students
            if isinstance(stage, StackStage):
                after = stage(start, objective, key=key, store={} if here is None else here, **told)
            else:
                after = _one_by_one(stage, start, objective, config, store=here, enough=enough, **told)
            done = after if done is None else better_of(done, after)
    assert done is not None  # a method has a stage
    return replace(done, method=name)


def expand_problems(
    students: Network,
    objectives: Objective,
    *,
    config: ExpandConfig | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> tuple[Expansion, ...]:
    """Train the students of several problems side by side, as if each problem had been expanded alone.

    Small problems one after another leave an accelerator idle; all of one shape fill it together.

    Args:
        students: Fresh students, all of one shape, with leading axes [problems, students].
        objectives: Of each problem, with a leading axis [problems] on all arrays.
        config: How; the methods with mini-batches train the students of one problem at a time, and are refused.
        store: What is finished; students are counted through: n_students * problem + student.
        progress: Called as students finish.

    Returns:
        An expansion for each problem.

    Raises:
        ValueError: If the arguments do not belong together, or the method has mini-batches.
    """
    config = config or ExpandConfig()
    name, stages = config.chosen(students)
    if any(isinstance(stage, StackStage) for stage in stages):
        raise ValueError(f"`method` {name!r} trains the students of one problem at a time: call `expand` for each.")
    lengths = {len(leaf) for leaf in jax.tree.leaves(objectives)}
    if students.layers[0].w.ndim != 4 or lengths != {len(students.layers[0].w)}:
        raise ValueError(
            "`students` have leading axes [problems, students], and the arrays of `objectives` [problems]; got "
            f"{students.layers[0].w.shape[:-2]} and {sorted(lengths)}."
        )
    require_room(students, objectives, stages)
    if store is not None:
        _claim(store, students, objectives, stages, None)
    n_problems, n_students = students.layers[0].w.shape[:2]
    by_number = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), students)
    with one_blas_thread():
        done = over_students(
            _OfProblem(Road(stages)),  # pyright: ignore[reportArgumentType]
            (by_number, jnp.arange(n_problems).repeat(n_students)),
            objectives,
            placement=config.placement,
            chunk=config.chunk,
            store=store,
            progress=progress,
        )

    def of_problem(i: int) -> Expansion:
        its = jax.tree.map(lambda leaf: leaf[i * n_students : (i + 1) * n_students], done)
        return Expansion(its.network, its.loss, its.gradient_norm, its.n_steps, its.result, name)

    return tuple(of_problem(i) for i in range(n_problems))


@dataclass(frozen=True)
class _OfProblem:
    """A road for students that carry the number of their problem."""

    road: Road

    def __call__(self, numbered: tuple[Network, Int[Array, ""]], objectives: Objective) -> Student:
        student, problem = numbered
        return self.road(student, jax.tree.map(lambda leaf: leaf[problem], objectives))


def _joined(stages: Stages) -> Iterator[Stage | StackStage]:
    """The stages, those of single students that follow each other as one road."""
    for trains_stack, same in groupby(stages, key=lambda stage: isinstance(stage, StackStage)):
        if trains_stack:
            yield from same
        else:
            yield Road(tuple(same))  # pyright: ignore[reportArgumentType]


def _one_by_one(stage: Stage, students: Network, objective: Objective, config: ExpandConfig, **given: Any) -> Expansion:
    done = over_students(stage, students, objective, placement=config.placement, chunk=config.chunk, **given)
    return Expansion(done.network, done.loss, done.gradient_norm, done.n_steps, done.result, "")


def _claim(store: Store, students: Network, objective: Objective, stages: Stages, key: PRNGKeyArray | None) -> None:
    claim(
        store,
        students=fingerprint(students),
        data=fingerprint(objective),
        method=in_words(stages),
        key=key_fingerprint(key),
    )

"""Phase 1: N overparameterised students imitate the teacher.

A *method* is a short road of solvers, each starting where the last one stopped:

    levenberg_marquardt        Levenberg-Marquardt from the fresh student: smooth, up to some hundred parameters
    flow                       gradient flow, then Levenberg-Marquardt: the paper's way with toy teachers
    flow_newton                gradient flow, then the exact Hessian: the paper's end for students as narrow as teachers
    flow_bfgs                  gradient flow, then BFGS: the paper's end for wider students
    adam_levenberg_marquardt   Adam, then Levenberg-Marquardt: activations with kinks
    adam_lbfgs                 Adam, then L-BFGS: students with too many parameters for a Hessian
    minibatch                  Adam on mini-batches, all students at once: many samples (`ecjax.expand.minibatch`)
    minibatch_lbfgs            the same, then L-BFGS on all samples in the precision of the data
    minibatch_conjugate        the same, then Levenberg-Marquardt by conjugate gradients: deep students of images, which
                               Adam leaves in bent valleys

"auto" chooses by smoothness and size, and the Expansion says which ran.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..base.progress import Progress, silent
from ..network.activations import Activation
from ..network.networks import Network, student
from ..objective.imitation import Inputs, Outputs
from .adam import AdamConfig, adam
from .expansion import Expansion, Student
from .flow import FlowConfig, gradient_flow
from .minibatch import MinibatchConfig, MinibatchState, expand_minibatch
from .narrowing import ShrinkConfig, narrower, shrunk
from .refine import RefineConfig, Solver, refine
from .students_axis import EPOCHS, Placement, Store, over_students

Method = Literal[
    "auto", "levenberg_marquardt", "flow", "flow_newton", "flow_bfgs", "adam_levenberg_marquardt", "adam_lbfgs",
    "minibatch", "minibatch_lbfgs", "minibatch_conjugate",
]  # fmt: skip
_ENDS: dict[Method, Solver] = {
    "flow_newton": "newton", "flow_bfgs": "bfgs", "adam_lbfgs": "lbfgs", "minibatch_lbfgs": "lbfgs",
    "minibatch_conjugate": "conjugate",
}  # fmt: skip

# A Levenberg-Marquardt step costs samples * parameters^2 operations, a gradient samples * parameters: beyond this many
# parameters several hundred L-BFGS steps cost less than the ten or twenty that Levenberg-Marquardt would need.
SECOND_ORDER_UP_TO = 1200
_SAVE_EVERY = 20.0  # seconds of mini-batch training that a killed process may cost


@dataclass(frozen=True, kw_only=True)
class ExpandConfig:
    """How the students are trained.

    Attributes:
        method: A road of solvers, or "auto" to choose by smoothness and size.
        flow: The flow's settings, where the method has one.
        adam: Adam's settings, where the method has it.
        minibatch: Its settings, where the method has it.
        shrink: Whether and how students trained on mini-batches then become narrower; see `ecjax.expand.narrowing`.
        refine: When the end of the road stops, unless it is L-BFGS.
        lbfgs: When L-BFGS stops, where the method ends with it: many cheap steps, and patience with slow ones.
        placement: "map", "vmap", "mesh" or "auto"; see `ecjax.expand.students_axis`.
        chunk: Students of one device in one call under "vmap" and "mesh".
    """

    method: Method = "auto"
    flow: FlowConfig = field(default_factory=FlowConfig)
    adam: AdamConfig = field(default_factory=AdamConfig)
    minibatch: MinibatchConfig = field(default_factory=MinibatchConfig)
    shrink: ShrinkConfig = field(default_factory=ShrinkConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    lbfgs: RefineConfig = field(default_factory=lambda: RefineConfig(max_steps=3000, patience=300))
    placement: Placement = "auto"
    chunk: int | None = None

    def __post_init__(self):
        if self.method not in get_args(Method):
            raise ValueError(f"`method` is one of {get_args(Method)}; got {self.method!r}.")
        shrunk_rate = self.shrink.learning_rate * self.minibatch.learning_rate
        if shrunk_rate < self.minibatch.min_learning_rate:
            raise ValueError(
                "`shrink.learning_rate`, a share of `minibatch.learning_rate`, leaves at least "
                f"`minibatch.min_learning_rate`; got {shrunk_rate:g} and {self.minibatch.min_learning_rate:g}."
            )


def choose_method(activation: Activation, n_parameters: int) -> Method:
    """The road that "auto" takes for students of this activation and size."""
    if n_parameters > SECOND_ORDER_UP_TO:
        return "adam_lbfgs"
    return "levenberg_marquardt" if activation.smooth else "adam_levenberg_marquardt"


def expand(
    students: Network,
    x: Inputs,
    y: Outputs,
    *,
    config: ExpandConfig | None = None,
    key: PRNGKeyArray | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> Expansion:
    """Train every student of a stack to imitate the targets.

    Args:
        students: Fresh students, all of one shape.
        x: Queries.
        y: Targets; the tolerances of the solvers are absolute, so give them in units of their standard deviation.
        config: How.
        key: Of the mini-batches' shuffles; used up. The other methods have no chance in them.
        store: Finished students by number, and the state of a mini-batch training under `EPOCHS`; an interrupted
            expansion that gets it back goes on where it was, and ends as if it had never stopped, bit for bit.
        progress: Called as students finish, and as epochs pass.

    Returns:
        The trained students. A student that fails is marked, and the others go on.

    Raises:
        ValueError: If the method has mini-batches, and there is no key or more than one process.
    """
    config = config or ExpandConfig()
    one = student(students, 0)
    method = choose_method(one.activation, one.n_parameters) if config.method == "auto" else config.method

    history, n_steps = None, 0
    if method.startswith("minibatch"):
        begun = _on_minibatches(students, x, y, config, key, store, progress)
        if method == "minibatch":
            return begun
        students, history, n_steps = begun.students, begun.history, begun.n_steps
    done = over_students(
        _Road(method, config),
        students,
        x,
        y,
        placement=config.placement,
        chunk=config.chunk,
        store=store,
        progress=progress,
    )
    n_steps = jnp.asarray(n_steps, done.n_steps.dtype) + done.n_steps  # epochs are counted in 32 bits
    return Expansion(done.network, done.loss, done.gradient_norm, n_steps, done.result, method, history)


def expand_problems(
    students: Network,
    x: Float[Array, "problems samples fan_in"],
    y: Float[Array, "problems samples fan_out"],
    *,
    config: ExpandConfig | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> tuple[Expansion, ...]:
    """Train the students of several problems side by side, as if each problem had been expanded alone.

    Small problems one after another leave an accelerator idle; all of one shape fill it together.

    Args:
        students: Fresh students, all of one shape, with leading axes [problems, students].
        x: Queries of each problem.
        y: Targets of each problem, as for `expand`.
        config: How; the methods with mini-batches train the students of one problem at a time, and are refused.
        store: Finished students by number, counted through: n_students * problem + student.
        progress: Called as students finish.

    Returns:
        An expansion for each problem.

    Raises:
        ValueError: If the arguments do not belong together, or the method has mini-batches.
    """
    config = config or ExpandConfig()
    one = student(students, 0)
    method = choose_method(one.activation, one.n_parameters) if config.method == "auto" else config.method
    if method.startswith("minibatch"):
        raise ValueError(f"`method` {method!r} trains the students of one problem at a time: call `expand` for each.")
    if students.layers[0].w.ndim != 4 or not len(students.layers[0].w) == len(x) == len(y):
        raise ValueError(
            "`students` have leading axes [problems, students], `x` and `y` [problems, samples]; got "
            f"{students.layers[0].w.shape[:-2]}, {x.shape[:-1]} and {y.shape[:-1]}."
        )
    n_problems, n_students = students.layers[0].w.shape[:2]
    by_number = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), students)
    done = over_students(
        _RoadOfProblem(_Road(method, config)),
        (by_number, jnp.arange(n_problems).repeat(n_students)),
        x,
        y,
        placement=config.placement,
        chunk=config.chunk,
        store=store,
        progress=progress,
    )

    def of_problem(i: int) -> Expansion:
        its = jax.tree.map(lambda leaf: leaf[i * n_students : (i + 1) * n_students], done)
        return Expansion(its.network, its.loss, its.gradient_norm, its.n_steps, its.result, method)

    return tuple(of_problem(i) for i in range(n_problems))


def _on_minibatches(students, x, y, config: ExpandConfig, key, store: Store | None, progress: Progress) -> Expansion:
    """Mini-batch training, and again of narrower students, as long as these imitate as well."""
    if key is None:
        raise ValueError("`key` is needed for the shuffles of a method with mini-batches: key=jax.random.key(0).")
    if jax.process_count() > 1:
        raise ValueError(
            "`method` has mini-batches, which all students go through together on one device: run it in one process."
        )
    store = {} if store is None else store
    first = config.minibatch.for_queries(x)
    trained = _train(students, x, y, first, key, store, EPOCHS, progress)
    later = replace(first, learning_rate=config.shrink.learning_rate * first.learning_rate)
    lowest, history, n_steps = _lowest(trained), [np.asarray(trained.history)], trained.n_steps
    for number, widths in enumerate(narrower(students.widths, config.shrink.factor), start=1):
        # Epochs use up fold_in(key, 0), fold_in(key, 1), ...: shrinkings come from the other end.
        key_of_round, name = jr.fold_in(key, 2**32 - number), f"{EPOCHS}-{number}"
        fewer = shrunk(trained.students, x, widths)
        after = _train(fewer, x, y, later, key_of_round, store, name, progress)
        if not _lowest(after) <= config.shrink.room * lowest:
            break
        trained, lowest = after, min(lowest, _lowest(after))
        history.append(np.asarray(after.history))
        n_steps = n_steps + after.n_steps
    return replace(trained, history=np.concatenate(history), n_steps=n_steps)


def _lowest(expansion: Expansion) -> float:
    return float(np.nanmin(np.append(np.asarray(expansion.loss, float), np.inf)))


def _train(
    students, x, y, config: MinibatchConfig, key: PRNGKeyArray, store: Store, name: str, progress: Progress
) -> Expansion:
    """One training on mini-batches, its state in the store under a name now and then."""
    saved, latest = time.monotonic(), None

    def keep(state: MinibatchState) -> None:
        nonlocal saved, latest
        latest = state
        if time.monotonic() - saved >= _SAVE_EVERY:
            store[name], saved, latest = state, time.monotonic(), None

    try:
        expansion, _ = expand_minibatch(
            students, x, y, config=config, key=key, state=store.get(name), on_epochs=keep, progress=progress
        )
    finally:  # Ctrl-C too
        if latest is not None:
            store[name] = latest
    return expansion


@dataclass(frozen=True)
class _Road:
    """A method with its settings: hashable, so that it compiles once."""

    method: Method
    config: ExpandConfig

    def __call__(self, student: Network, x: Inputs, y: Outputs) -> Student:
        return _follow(self.method, student, x, y, self.config)


@dataclass(frozen=True)
class _RoadOfProblem:
    """A road for students that carry the number of their problem."""

    road: _Road

    def __call__(self, numbered: tuple[Network, Int[Array, ""]], x: Array, y: Array) -> Student:
        student, problem = numbered
        return self.road(student, x[problem], y[problem])


def _follow(method: Method, start: Network, x: Inputs, y: Outputs, config: ExpandConfig) -> Student:
    n_steps = jnp.array(0)
    match method:
        case "flow" | "flow_newton" | "flow_bfgs":
            begun = gradient_flow(start, x, y, config=config.flow)
        case "adam_levenberg_marquardt" | "adam_lbfgs":
            begun = adam(start, x, y, config=config.adam)
        case _:
            begun = None
    if begun is not None:
        start, n_steps = begun.network, begun.n_steps
    solver = _ENDS.get(method, "levenberg_marquardt")
    ended = refine(start, x, y, solver=solver, config=config.lbfgs if solver == "lbfgs" else config.refine)
    # A refinement that diverged from a sound start does not take the start away.
    if begun is not None:
        better = ended.loss <= begun.loss
        ended = jax.tree.map(lambda new, old: jnp.where(better, new, old), ended, begun)
    return Student(ended.network, ended.loss, ended.gradient_norm, n_steps + ended.n_steps, ended.result)

"""Follow students downhill, a hundred or one, and see where each of them goes."""

import operator
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base.memory import require_memory
from ..base.precision import precision_of
from ..base.progress import Progress, silent
from ..base.threads import one_blas_thread
from ..expand.ode import IMPLICIT, OdeSolver, ode_solver
from ..network import Network, student
from ..objective import Objective, flatten
from .dynamics import Asked, Dynamics, Moving, Rows, _batch_further, _begin, _one_further
from .ode import Ode
from .problem import Problem, posed
from .trajectory import Trajectory, filled
from .until import RUNNING, TIME, Until, limits

Saves = int | Sequence[float] | Float[np.ndarray, " saves"] | None
_STEPS_ALONE = 1000  # of one call; how often Ctrl-C is heard. A step takes 0.1 to 10 ms
# Of a batch: after so many steps those that have stopped leave it. Steps of students that wait are for nothing, a call
# costs some 0.1 ms.
_STEPS_TOGETHER = 32


def follow(
    students: Network | Trajectory,
    objective: Objective,
    *,
    until: Until | None = None,
    solver: str | Dynamics = "kvaerno5",
    saves: Saves = None,
    time_constants: Network | float | None = None,
    barrier: float = float("inf"),
    barrier_strength: float = 1.0,
    decay: float = 0.0,
    together: int | None = None,
    threads: int = 1,
    progress: Progress = silent,
) -> Trajectory:
    """Follow every student of a stack until it stops.

    A trajectory in the place of the students is gone on with, as if it had never stopped: its path is the same, bit for
    bit, however often it was interrupted and whatever was saved of it. `until` then counts from the very start.

    Args:
        students: A stack, one network, or the trajectory to go on with.
        objective: What they are fitted to: `ecjax.Samples(x, y)`, with weights of the samples if there are any, or
            `ecjax.Population(teacher)`.
        until: When a student stops; by default the paper's rules.
        solver: "kvaerno5", "kvaerno3", "kencarp58", "tsit5", "dopri8"; or `Ode` with tolerances of one's own, or
            `Discrete` for gradient descent, Adam and their like. Of a trajectory: its own, whatever stands here.
        saves: What is saved besides start and end: flow times (see `log_times`), or a number n for each n-th step.
        time_constants: Of each parameter; see `ecjax.flow.time_constants`. Infinite: it does not move.
        barrier: The mean of theta^2 / 2 from which on large weights have a price; see `ecjax.flow.problem.Penalised`.
        barrier_strength: Of that price.
        decay: Weight decay, lambda / 2 |theta|^2.
        together: Students that share a call; by default all on an accelerator, and one on a CPU. Those that have
            stopped leave the others.
        threads: How many students a CPU follows at a time.
        progress: Called as students stop, with phase "flow".

    Returns:
        Their paths. A student that fails is marked, and the others go on.

    Raises:
        ValueError: If an argument is out of its range, a trajectory is of other networks, or the memory not enough.
    """
    going_on = isinstance(students, Trajectory)
    if not going_on and not isinstance(students, Network):
        raise ValueError(
            "`students` is a network, a stack of them (`ecjax.network.stack` makes one of a list), or a trajectory; "
            f"got a {type(students).__name__}."
        )
    if until is not None and not isinstance(until, Until):
        raise ValueError(f"`until` is an `ecjax.flow.Until`, as in Until(time=100.0); got {until!r}.")
    dynamics = students.dynamics if going_on else dynamics_of(solver)
    stack = students.final if going_on else students
    if not stack.is_stack:
        stack = jax.tree.map(lambda leaf: leaf[None], stack)
    if stack.layers[0].w.ndim != 3:
        raise ValueError(f"`students` have one leading axis; got {stack.layers[0].w.ndim - 2} of them.")
    if len(stack.layers[0].b) == 0:
        raise ValueError("`students` is a stack of at least one; got none.")
    for name, number in (("together", together), ("threads", threads)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"`{name}` is a number of students, at least 1, or left out; got {number!r}.")
    like, until = student(stack, 0), until or Until()
    price = {"barrier": barrier, "strength": barrier_strength, "decay": decay}
    what = posed(objective, like, time_constants=time_constants, **price)
    asked = _asked(saves, until, like.dtype)
    n = len(stack.layers[0].b)
    size = together or (n if jax.default_backend() != "cpu" else 1)
    if isinstance(dynamics, Ode) and dynamics.solver in IMPLICIT:
        what_for = (
            f"Second derivatives by {like.n_parameters:,} parameters of {max(size, threads):,} students at a time"
        )
        n_bytes = 2 * max(size, threads) * like.n_parameters**2 * like.dtype.itemsize
        require_memory(n_bytes, what_for, "lower the students' width, `together` or `threads`")
    groups = [range(start, min(start + size, n)) for start in range(0, n, size)]
    done: dict[int, _Stopped] = {}

    def run(members: range) -> None:
        with precision_of(stack.layers[0].w):  # a thread of its own does not know of the scope around this call
            for i, path in _paths(students if going_on else stack, members, dynamics, what, until, asked, together):
                done[i] = path
        progress("flow", len(done), n, losses=[float(one.rows[2][-1]) for one in list(done.values())])

    with one_blas_thread():
        if threads == 1:
            for members in groups:
                run(members)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for each in [pool.submit(run, members) for members in groups]:
                    each.result()
    return _trajectory([done[i] for i in range(n)], like, dynamics)


def dynamics_of(solver: str | Dynamics) -> Dynamics:
    """The dynamics of that name, with its defaults, or those given.

    Raises:
        ValueError: If there are none of that name.
    """
    if isinstance(solver, Dynamics):
        return solver
    if not isinstance(solver, str):
        raise ValueError(
            "`solver` is the name of one, an `ecjax.flow.Ode`, or `ecjax.flow.Discrete(optimiser=..., rate=...)` for "
            f"those of optax; got a {type(solver).__name__}."
        )
    ode_solver(solver, root_tol=1.0)  # refuses a name that is none
    return Ode(solver=cast(OdeSolver, solver))


def log_times(first: float, last: float, n: int) -> Float[np.ndarray, " saves"]:
    """n flow times from first to last, with equal ratios."""
    if not 0 < first < last or n < 2:
        raise ValueError(f"0 < `first` < `last` and `n` at least 2; got {first!r}, {last!r}, {n}.")
    return np.geomspace(first, last, n)


def _asked(saves: Saves, until: Until, dtype) -> Asked:
    every = operator.index(saves) if isinstance(saves, Integral) and not isinstance(saves, bool) else 0
    if every < 0 or (every == 0 and isinstance(saves, Integral)):
        raise ValueError(f"`saves` as a number is of steps of which each is saved, at least 1; got {saves!r}.")
    try:
        times = np.array([]) if saves is None or every else np.asarray(saves, float).reshape(-1)
    except (TypeError, ValueError):
        times = np.array([np.nan])
    if len(times) and not (np.all(np.diff(times) > 0) and times[0] >= 0 and np.isfinite(times[-1])):
        raise ValueError(f"`saves` are increasing flow times from 0 on, or a number of steps; got {saves!r}.")
    ends = until.time < np.inf
    times = np.union1d(times[(times > 0) & (times < until.time)], [until.time] if ends else [])
    return Asked(jnp.asarray([*times, np.inf], dtype), jnp.asarray(ends), jnp.asarray(every))


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # time, theta, loss, gradient norm of saved points


class _Stopped(NamedTuple):
    """A student at its end."""

    rows: _Columns
    moving: Moving
    reason: int
    in_passing: bool  # whether the last row is there only because it stopped


class _Path:
    """What is saved of one student, as it comes."""

    def __init__(self, rows: _Columns):
        self.parts = [rows]

    def add(self, rows: Rows, n: int) -> None:
        if n:
            time, theta, loss, norm = (np.asarray(each)[:n] for each in _columns(rows))
            self.parts.append((time, theta, loss, norm))

    def sorted(self) -> _Columns:
        time, theta, loss, norm = (np.concatenate(each) for each in zip(*self.parts, strict=True))
        _, order = np.unique(time, return_index=True)  # a step that is saved for two reasons is saved once
        return time[order], theta[order], loss[order], norm[order]


def _columns(rows: Any) -> tuple[Any, ...]:
    return rows.time, rows.theta, rows.loss, rows.gradient_norm


def _paths(
    start: Network | Trajectory,
    members: range,
    dynamics: Dynamics,
    what: Problem,
    until: Until,
    asked: Asked,
    together: int | None,
) -> Iterator[tuple[int, _Stopped]]:
    """The paths of some students, in the order in which they stop."""
    bounds = limits(until, what.like.dtype)
    path, moving, due = {}, {}, {}
    for i in members:
        if isinstance(start, Trajectory):
            moving[i] = jax.tree.map(lambda leaf, i=i: leaf[i], start.moving)
            n = start.n_saved[i] - start.ends_in_passing[i]
            time, theta, loss, norm = (each[i, :n] for each in _columns(start))
            passed, wanted = float(moving[i].before.time), np.asarray(asked.times)
            lost = wanted[(wanted > time[-1]) & (wanted < passed)]
            if len(lost):
                raise ValueError(
                    f"`saves` and the time of `until` lie ahead; got {lost[0]:g} for a student that is at {passed:g} "
                    "and was not asked to save it on its way. Follow it from its start."
                )
        else:
            here = _begin(dynamics, flatten(student(start, i))[0], what)
            moving[i] = here
            first = (here.now.time, here.now.theta, here.loss, here.gradient_norm)
            time, theta, loss, norm = (np.asarray(each)[None] for each in first)
        path[i] = _Path((time, theta, loss, norm))
        due[i] = jnp.asarray(np.searchsorted(np.asarray(asked.times), time[-1], side="right"))
    further = _alone if len(members) == 1 and together is None else _all_together
    yield from further(path, moving, due, (dynamics, what, bounds, asked))


def _alone(path, moving, due, given) -> Iterator[tuple[int, _Stopped]]:
    dynamics, what, bounds, asked = given
    for i in path:
        reason = RUNNING
        while reason == RUNNING:
            moving[i], due[i], rows, reason = _one_further(
                dynamics, moving[i], due[i], what, bounds, asked, jnp.asarray(_STEPS_ALONE)
            )
            path[i].add(rows, int(rows.n))
            reason = int(reason)
        yield i, _finished(path[i], moving[i], reason)


def _all_together(path, moving, due, given) -> Iterator[tuple[int, _Stopped]]:
    """Those that have stopped leave when three quarters have: another size of a batch is another program."""
    dynamics, what, bounds, asked = given
    size = len(path)
    running = list(path)
    while running:
        if len(running) <= size // 4:
            size = len(running)
        members = (running + [running[-1]] * size)[:size]
        together, dues = jax.tree.map(lambda *leaves: jnp.stack(leaves), *((moving[i], due[i]) for i in members))
        after, dues, rows, why = jax.device_get(
            _batch_further(dynamics, together, dues, what, bounds, asked, jnp.asarray(_STEPS_TOGETHER))
        )
        for place, i in enumerate(running.copy()):
            moving[i], due[i] = jax.tree.map(lambda leaf, place=place: jnp.asarray(leaf[place]), (after, dues))
            own = jax.tree.map(lambda leaf, place=place: leaf[place], rows)
            path[i].add(own, int(own.n))
            if why[place] != RUNNING:
                running.remove(i)
                yield i, _finished(path[i], moving[i], int(why[place]))


def _finished(path: _Path, moving: Moving, reason: int) -> _Stopped:
    """The last row is where the student stopped; in passing, if it would be handed out again when it goes on."""
    passing = True
    if reason != TIME:
        here = (moving.now.time, moving.now.theta, moving.loss, moving.gradient_norm)
        passing = not any(float(moving.now.time) in part[0] for part in path.parts)
        time, theta, loss, norm = (np.asarray(each)[None] for each in here)
        path.parts.append((time, theta, loss, norm))
    return _Stopped(path.sorted(), moving, reason, passing)


def _trajectory(stopped: list[_Stopped], like: Network, dynamics: Dynamics) -> Trajectory:
    longest = max(len(one.rows[0]) for one in stopped)
    column = lambda place: np.concatenate([filled(one.rows[place][None], longest) for one in stopped])
    of_each = lambda number: np.array([number(one) for one in stopped])
    return Trajectory(
        time=column(0),
        theta=column(1),
        loss=column(2),
        gradient_norm=column(3),
        n_saved=of_each(lambda one: len(one.rows[0])),
        reason=of_each(lambda one: one.reason),
        n_steps=of_each(lambda one: int(one.moving.n_steps)),
        n_kept=of_each(lambda one: int(one.moving.n_kept)),
        ends_in_passing=of_each(lambda one: one.in_passing),
        like=like,
        dynamics=dynamics,
        moving=jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one.moving for one in stopped)),
    )

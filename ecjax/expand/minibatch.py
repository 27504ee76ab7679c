"""Mini-batch Adam for wide students and many samples: all students in one stack, many epochs in one compiled call.

Every student sees the same batches. On an accelerator all students go through a step together. On a CPU a few do whose
activations fit in its cache, an epoch for them, then for the next ones: that halves the time of a step
(`benchmarks/throughput.py`).

Each student has a learning rate of its own, lowered when *its* training loss has not fallen for more than `patience`
epochs, and stops by itself when that rate has become minimal; then it is frozen while the others go on.

All of this is on one device, however many there are: which students share a product decides how its sums are rounded,
and over thousands of steps in float32 rounding errors grow until a student is another, equally good one. Spread over
devices, the answer would depend on their number.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), image teachers. Batch 640 is the paper's; the other defaults
    are those of the authors' code, which however drives one common rate by the summed loss of all students.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.checks import check_settings
from ..base.deadline import NEVER, Deadline
from ..base.progress import Progress, silent
from ..network import Network
from ..network.forward import stack_answers
from ..objective import Inputs, Objective, Outputs, Samples
from .expansion import RESULTS, Expansion
from .minibatch_state import MinibatchState, Plateau
from .stage import StackStage
from .store import EPOCHS, Store

ADAM = optax.scale_by_adam()  # without a learning rate: every student has its own
_SAVE_EVERY = 20.0  # seconds of training that a killed process may cost


@dataclass(frozen=True, kw_only=True)
class Minibatch(StackStage):
    """Mini-batch Adam with a plateau rule for each student.

    Attributes:
        batch: Samples in a step. The samples that do not fill a last batch sit out one epoch, others in every epoch.
            Not fewer than there are samples: every step takes all of them.
        learning_rate: Of the first epoch.
        patience: Epochs without a lower training loss that a student may have before its learning rate is lowered.
        factor: By which it is lowered.
        cooldown: Epochs after a lowering that do not count as lost.
        min_learning_rate: A student whose rate would fall below it has stalled and is frozen.
        max_shift: How far a step may move a pre-activation, at most. Adam changes a weight by about the learning rate,
            so a pre-activation by up to the rate times the sum of |x|. Where that exceeds `max_shift` on average over
            the queries, both rates are lowered by one factor: images with many bright pixels need lower ones.
        max_epochs: Epochs at most.
        target_loss: Mean squared error at which a student is done; 0 never stops one.
        epochs_per_call: Epochs in one compiled call: how often progress is told and the state handed out. It has no
            influence on the numbers.
        chunk: Students that go through a step together, a divisor of their number. By default all on an accelerator,
            and on a CPU as many as its cache holds the activations of.
        dtype: "float32" trains in single precision whatever that of the data, in which the students come back; "data"
            trains in that of the data.
        precision: Of the matrix products, as in `jax.default_matmul_precision`. Recent GPUs would otherwise multiply
            float32 in TF32, and clusters would stay as loose as its 10 bits.
    """

    batch: int = 640
    learning_rate: float = 1e-3
    patience: int = 100
    factor: float = 10**-0.5
    cooldown: int = 200
    min_learning_rate: float = 1e-7
    max_shift: float = float("inf")
    max_epochs: int = 25_000
    target_loss: float = 0.0
    epochs_per_call: int = 10
    chunk: int | None = None
    dtype: Literal["float32", "data"] = "data"
    precision: str = "highest"

    def __post_init__(self):
        if self.dtype not in ("float32", "data"):
            raise ValueError(f'`dtype` is "float32" or "data"; got {self.dtype!r}.')
        check_settings(
            self,
            from_1=("batch", "max_epochs", "epochs_per_call", "chunk"),
            from_0=("patience", "cooldown"),
            finite=("target_loss",),
            above_0=("learning_rate", "min_learning_rate", "max_shift"),
            infinite=("max_shift",),
        )
        if not 0 < self.factor < 1:
            raise ValueError(f"`factor` lowers the learning rate, so it is within (0, 1); got {self.factor:g}.")
        if not self.min_learning_rate <= self.learning_rate:
            raise ValueError(
                "`min_learning_rate` is at most `learning_rate`; got "
                f"{self.min_learning_rate:g} and {self.learning_rate:g}."
            )

    def for_queries(self, x: Inputs) -> "Minibatch":
        """The same with the learning rates that `max_shift` allows for these queries, and no limit any more."""
        shift = self.learning_rate * float(jnp.abs(x).sum(axis=1).mean())
        share = min(1.0, self.max_shift / shift) if shift > 0 else 1.0
        rates = {"learning_rate": share * self.learning_rate, "min_learning_rate": share * self.min_learning_rate}
        return replace(self, **rates, max_shift=float("inf"))

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
        samples, told = checked_samples(objective), {"progress": progress, "deadline": deadline}
        return self.resumed(students, samples, key=key, store=store, name=EPOCHS, **told)

    def resumed(
        self,
        students: Network,
        samples: Samples,
        *,
        key: PRNGKeyArray | None,
        store: Store,
        name: str,
        progress: Progress,
        deadline: Deadline,
    ) -> Expansion:
        """Train, the state in the store under a name now and then; from the state that is there already."""
        if key is None:
            raise ValueError("`key` is needed for the shuffles of a method with mini-batches: key=jax.random.key(0).")
        if jax.process_count() > 1:
            raise ValueError(
                "`method` has mini-batches, which all students go through together on one device: run it in one "
                "process."
            )
        saved, latest = time.monotonic(), None

        def keep(state: MinibatchState) -> None:
            nonlocal saved, latest
            latest = state
            if time.monotonic() - saved >= _SAVE_EVERY:
                store[name], saved, latest = state, time.monotonic(), None

        told = {"on_epochs": keep, "progress": progress, "deadline": deadline}
        try:
            return self.train(students, samples, key=key, state=store.get(name), **told)[0]
        finally:  # Ctrl-C too
            if latest is not None:
                store[name] = latest

    def train(
        self,
        students: Network,
        samples: Samples,
        *,
        key: PRNGKeyArray,
        state: "MinibatchState | None" = None,
        on_epochs: "Callable[[MinibatchState], None] | None" = None,
        progress: Progress = silent,
        deadline: Deadline = NEVER,
    ) -> "tuple[Expansion, MinibatchState]":
        """Train every student of a stack, and hand out the state.

        Args:
            students: Fresh students, all of one shape, in the precision of the data.
            samples: Queries, best standardised, and targets, best in units of their own standard deviation.
            key: Of the shuffles, one an epoch, the same for all students.
            state: Where an earlier call stopped, instead of fresh students; `max_epochs` may be larger than then.
            on_epochs: Called with the state after every `epochs_per_call` epochs; the place to save it.
            progress: Called as often, with the number of students that are done, `epoch` and everyone's `losses`.
            deadline: Looked at as often, once there are epochs at all.

        Returns:
            The trained students, measured on all samples, and the state, with the losses of all epochs. A student
            whose loss is no longer finite is frozen and marked, and the others go on.

        Raises:
            ValueError: If students, data, key and state do not belong together.
        """
        x, y = samples.x, samples.y
        config = self.for_queries(x)
        _check(students, x, y, config)
        dtype = x.dtype if config.dtype == "data" else config.dtype
        students, batch_x, batch_y = jax.tree.map(lambda leaf: leaf.astype(dtype), (students, x, y))
        state = _begin(students, config, key) if state is None else _continued(state, students, config, key)
        n_students = len(state.n_epochs)
        while int(state.epoch) < config.max_epochs and not bool(state.plateau.done.all()):
            if int(state.epoch) and deadline.leaves_out(f"epochs after {int(state.epoch)}"):
                break
            state = _train(state, batch_x, batch_y, key, config)
            if on_epochs is not None:
                on_epochs(state)
            losses = state.losses[-1]
            progress("expand", int(state.plateau.done.sum()), n_students, losses=losses, epoch=int(state.epoch))
        expansion = _expansion(state, x, y, config)
        return eqx.tree_at(lambda done: done.history, expansion, state.losses, is_leaf=lambda leaf: leaf is None), state


def checked_samples(objective: Objective) -> Samples:
    """The objective, if it has samples of which batches can be made.

    Raises:
        ValueError: If it has none, or weighs them.
    """
    if not isinstance(objective, Samples) or objective.weights is not None:
        raise ValueError("`method` has mini-batches, which are drawn from samples without weights of their own.")
    return objective


def _check(students: Network, x: Inputs, y: Outputs, config: Minibatch) -> None:
    if students.layers[0].w.ndim != 3:
        raise ValueError(
            "`students` is a stack with one leading axis; stack single networks with ecjax.network.stack([...])."
        )
    n_students = len(students.layers[0].w)
    if config.chunk is not None and n_students % config.chunk:
        raise ValueError(f"`chunk` is a divisor of the number of students, {n_students}; got {config.chunk}.")
    fan_in, fan_out = students.shape[0], students.shape[-1]
    if x.shape[1] != fan_in or y.shape[1] != fan_out or len(x) != len(y):
        raise ValueError(
            f"`x` is [samples, {fan_in}] and `y` [samples, {fan_out}] for these students; got {x.shape} and {y.shape}."
        )
    dtypes = {str(each.dtype) for each in (x, y, students.layers[0].w)}
    if len(dtypes) != 1:
        raise ValueError(f"`students`, `x` and `y` have one dtype, the precision of the work; got {sorted(dtypes)}.")


def _begin(students: Network, config: Minibatch, key: PRNGKeyArray) -> MinibatchState:
    w = students.layers[0].w
    n, dtype = len(w), w.dtype
    zeros = jnp.zeros(n, jnp.int32)
    plateau = Plateau(
        rate=jnp.full(n, config.learning_rate, dtype),
        best=jnp.full(n, jnp.inf, dtype),
        n_since=zeros,
        cooldown=zeros,
        done=jnp.zeros(n, bool),
    )
    return MinibatchState(
        students,
        ADAM.init(students),  # pyright: ignore[reportArgumentType]
        plateau,
        jnp.zeros((), jnp.int32),
        zeros,
        jnp.full((config.max_epochs, n), jnp.nan, dtype),
        jr.key_data(key),
    )


def _continued(state: MinibatchState, students: Network, config: Minibatch, key: PRNGKeyArray) -> MinibatchState:
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (students, state.students)]
    if not eqx.tree_equal(*kinds):
        raise ValueError("`state` belongs to students of another shape, number, activation or precision.")
    if not np.array_equal(state.key_data, jr.key_data(key)):
        raise ValueError("`state` belongs to a run with another `key`, whose batches this one would not continue.")
    if config.max_epochs < int(state.epoch):
        raise ValueError(f"`max_epochs` is {config.max_epochs}, and `state` has {int(state.epoch)} epochs behind it.")
    history = np.full((config.max_epochs, len(state.n_epochs)), np.nan, state.history.dtype)
    history[: int(state.epoch)] = state.losses
    return eqx.tree_at(lambda state: state.history, state, jnp.asarray(history))


# --- epochs --------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def _train(state: MinibatchState, x: Inputs, y: Outputs, key: PRNGKeyArray, config: Minibatch) -> MinibatchState:
    """The next `config.epochs_per_call` epochs, or fewer if all students are done before."""
    end = jnp.minimum(state.epoch + config.epochs_per_call, config.max_epochs)

    def goes_on(state):
        return (state.epoch < end) & ~state.plateau.done.all()

    with jax.default_matmul_precision(config.precision):
        return jax.lax.while_loop(goes_on, lambda state: _epoch(state, x, y, key, config), state)


def _epoch(state: MinibatchState, x: Inputs, y: Outputs, key: PRNGKeyArray, config: Minibatch) -> MinibatchState:
    batches = _batches(x, y, jr.fold_in(key, state.epoch), config)
    n_batches = len(batches[0])
    active = ~state.plateau.done
    rate = jnp.where(active, state.plateau.rate, 0)
    count = state.moments.count

    def train(chunk):
        students, mu, nu, rate = chunk

        def step(carry, batch):
            students, moments = carry
            x, y = batch
            students, moments, loss = train_step(students, moments, x, y, rate)
            return (students, moments), loss

        moments = optax.ScaleByAdamState(count, mu, nu)
        (students, moments), losses = jax.lax.scan(step, (students, moments), batches)
        return students, moments.mu, moments.nu, losses.mean(axis=0)

    def skip(chunk):
        students, mu, nu, rate = chunk
        return students, mu, nu, jnp.full_like(rate, jnp.nan)

    ensemble = (state.students, state.moments.mu, state.moments.nu, rate)
    size = config.chunk or chunk_size(state.students, batches[0].shape[1])
    chunks = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), ensemble)
    chunks = jax.lax.map(lambda chunk: jax.lax.cond((chunk[-1] > 0).any(), train, skip, chunk), chunks)
    students, mu, nu, loss = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), chunks)
    return MinibatchState(
        students,
        optax.ScaleByAdamState(count + n_batches, mu, nu),
        _lowered(state.plateau, loss, config),
        state.epoch + 1,
        state.n_epochs + active.astype(state.n_epochs.dtype),
        state.history.at[state.epoch].set(jnp.where(active, loss, jnp.nan)),
        state.key_data,
    )


# --- one step ------------------------------------------------------------------------------------------------------


def train_step(
    students: Network, moments: optax.ScaleByAdamState, x: Inputs, y: Outputs, rate: Float[Array, " students"]
) -> tuple[Network, optax.ScaleByAdamState, Float[Array, " students"]]:
    """One step of Adam for all students; those with rate 0 keep their weights, bit for bit.

    Returns:
        Students, moments, and the losses before the step.
    """
    gradient, loss = jax.grad(summed_loss, has_aux=True)(students, x, y)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
        update, moments = ADAM.update(gradient, moments)  # pyright: ignore[reportAssignmentType]

    def moved(weights, update):
        own = rate.reshape(-1, *[1] * (weights.ndim - 1))
        return jnp.where(own > 0, weights - own * jnp.asarray(update, weights.dtype), weights)

    return jax.tree.map(moved, students, update), moments, loss


def summed_loss(students: Network, x: Inputs, y: Outputs):
    """The sum of the students' losses, whose gradient is each student's own, and the losses."""
    residual = stack_answers(students, x) - y.T[None]
    loss = jnp.mean(residual**2, axis=(1, 2))
    return loss.sum(), loss


# --- batches -------------------------------------------------------------------------------------------------------


def _batches(x: Inputs, y: Outputs, key: PRNGKeyArray, config: Minibatch) -> tuple[Array, Array]:
    """Queries and targets of an epoch, [batches, samples, ...], gathered once for all chunks of students."""
    n_samples = len(x)
    if config.batch >= n_samples:
        return x[None], y[None]
    n_batches = _n_batches(n_samples, config)
    order = jr.permutation(key, n_samples)[: n_batches * config.batch]
    x, y = (each[order].reshape(n_batches, config.batch, -1) for each in (x, y))
    return x, y


def _n_batches(n_samples: int, config: Minibatch) -> int:
    return max(1, n_samples // config.batch)


# Bytes of the widest activations that a chunk may have on a CPU. Measured on two cores with 2 MiB of cache each:
# a quarter of it costs a tenth more time, because small products do not keep both cores busy; ten times of it, a third.
_CACHE = 2**22


def chunk_size(students: Network, batch: int) -> int:
    """How many students go through a step together by default."""
    n_students = len(students.layers[0].w)
    if jax.default_backend() != "cpu":
        return n_students
    of_one = max(students.shape[1:]) * batch * students.layers[0].w.dtype.itemsize
    return max(n for n in range(1, n_students + 1) if n_students % n == 0 and (n == 1 or n * of_one <= _CACHE))


def _lowered(plateau: Plateau, loss: Float[Array, " students"], config: Minibatch) -> Plateau:
    """The plateau rule after an epoch; frozen students keep what they had."""
    better = loss < plateau.best
    n_since = jnp.where(better | (plateau.cooldown > 0), 0, plateau.n_since + 1)
    lower = n_since > config.patience
    rate = jnp.where(lower, plateau.rate * config.factor, plateau.rate)
    stop = (rate < config.min_learning_rate) | (loss <= config.target_loss) | ~jnp.isfinite(loss)
    now = Plateau(
        rate=rate,
        best=jnp.where(better, loss, plateau.best),
        n_since=jnp.where(lower, 0, n_since),
        cooldown=jnp.where(lower, config.cooldown, jnp.maximum(plateau.cooldown - 1, 0)),
        done=stop,
    )
    return jax.tree.map(lambda new, old: jnp.where(plateau.done, old, new), now, plateau)


# --- what came of it -----------------------------------------------------------------------------------------------


@eqx.filter_jit
def _expansion(state: MinibatchState, x: Inputs, y: Outputs, config: Minibatch) -> Expansion:
    students = jax.tree.map(lambda leaf: leaf.astype(x.dtype), state.students)
    with jax.default_matmul_precision(config.precision):
        loss, norm = _measure(students, x, y, min(config.batch, len(x)))

    def result(loss, rate):
        result = RESULTS.where(rate < config.min_learning_rate, RESULTS.stalled, RESULTS.max_steps)
        result = RESULTS.where(loss <= config.target_loss, RESULTS.reached_target, result)
        return RESULTS.where(jnp.isfinite(loss), result, RESULTS.diverged)

    n_steps = state.n_epochs * _n_batches(len(x), config)
    results = jax.vmap(result)(loss, state.plateau.rate)
    return Expansion(students, loss, norm, n_steps, results, "minibatch")


def _measure(students: Network, x: Inputs, y: Outputs, batch: int):
    """Loss and norm of its gradient over all samples, a batch at a time."""
    n_samples = len(x)
    n_whole = n_samples // batch * batch

    def add(total, part):
        gradient, loss = jax.grad(summed_loss, has_aux=True)(students, *part)
        share = len(part[0]) / n_samples
        return jax.tree.map(lambda total, part: total + share * part, total, (loss, gradient)), None

    total = (jnp.zeros_like(students.layers[0].b[:, 0]), jax.tree.map(jnp.zeros_like, students))
    total, _ = jax.lax.scan(add, total, tuple(each[:n_whole].reshape(-1, batch, each.shape[1]) for each in (x, y)))
    if n_whole < n_samples:
        total, _ = add(total, (x[n_whole:], y[n_whole:]))
    loss, gradient = total
    squares = [jnp.sum(leaf.reshape(len(leaf), -1) ** 2, axis=1) for leaf in jax.tree.leaves(gradient)]
    return loss, jnp.sqrt(sum(squares))

"""Where students went: saved times, parameters, losses and gradient norms, and how each one stopped."""

import io
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ..base.files import write_whole
from ..base.npz import read_npz
from ..network import Network, student
from ..objective import Objective, flatten
from .dynamics import Dynamics, Moving, _begin
from .problem import posed
from .until import REASONS


class Trajectory(eqx.Module):
    """The paths of N students. Rows that a student does not have are NaN: students stop at different times.

    Attributes:
        time: Flow time of the saved points; the first is 0, the last that of the end.
        theta: Their parameters, in the order of `ecjax.objective.flatten`.
        loss: Their losses, without barrier and weight decay.
        gradient_norm: Euclidean norms of the gradients, of what moves and with barrier and decay.
        n_saved: How many rows each student has.
        reason: Why each one stopped, by number; see `reasons`.
        n_steps: Steps each one took, rejected ones included.
        n_kept: Those that were not rejected.
        ends_in_passing: Whether a student's last row is there only because the student stopped there.
        like: A network of the students' shape.
        dynamics: How they moved.
        moving: Where each one is, to go on from.
    """

    time: Float[np.ndarray, "students saves"]
    theta: Float[np.ndarray, "students saves parameters"]
    loss: Float[np.ndarray, "students saves"]
    gradient_norm: Float[np.ndarray, "students saves"]
    n_saved: Int[np.ndarray, " students"]
    reason: Int[np.ndarray, " students"]
    n_steps: Int[np.ndarray, " students"]
    n_kept: Int[np.ndarray, " students"]
    ends_in_passing: Bool[np.ndarray, " students"]
    like: Network
    dynamics: Dynamics = eqx.field(static=True)
    moving: Moving

    @property
    def n_students(self) -> int:
        """How many students there are."""
        return len(self.n_saved)

    @property
    def final(self) -> Network:
        """The stack of networks in which the students ended."""
        return self._networks(self._last(self.theta))

    @property
    def final_time(self) -> Float[np.ndarray, " students"]:
        """Flow time at which each one stopped."""
        return self._last(self.time)

    @property
    def final_loss(self) -> Float[np.ndarray, " students"]:
        """The loss with which each one stopped."""
        return self._last(self.loss)

    @property
    def final_gradient_norm(self) -> Float[np.ndarray, " students"]:
        """The norm of the gradient with which each one stopped."""
        return self._last(self.gradient_norm)

    def reasons(self) -> list[str]:
        """Why each student stopped, in words."""
        return [REASONS[number] for number in self.reason]

    def networks(self, i: int) -> Network:
        """Student i at its saved times, as a stack."""
        return self._networks(self.theta[i, : self.n_saved[i]])

    def path(self, i: int) -> tuple[Float[np.ndarray, " saves"], Float[np.ndarray, "saves parameters"]]:
        """Times and parameters of student i, without empty rows."""
        return self.time[i, : self.n_saved[i]], self.theta[i, : self.n_saved[i]]

    def arrays(self) -> dict[str, np.ndarray]:
        """What was saved as plain named arrays, for npz files and xarray; weights layer by layer as w1, b1, w2, ...

        The first axis is the student's, the second that of saved times; rows that a student does not have are NaN.
        """
        plain = ("time", "loss", "gradient_norm", "n_saved", "reason", "n_steps", "n_kept")
        named = {name: np.asarray(getattr(self, name)) for name in plain}
        networks = jax.vmap(jax.vmap(flatten(self.like)[1]))(jnp.asarray(self.theta))
        for number, layer in enumerate(networks.layers, 1):
            named |= {f"w{number}": np.asarray(layer.w), f"b{number}": np.asarray(layer.b)}
        return named

    def mean(self) -> dict[str, np.ndarray]:
        """Means over the students at the times that all of them have, by name: time, loss, gradient_norm.

        Raises:
            ValueError: If the students have no saved time in common but the start.
        """
        common = self.time[0, : self.n_saved[0]]
        for i in range(1, self.n_students):
            common = np.intersect1d(common, self.time[i, : self.n_saved[i]])
        if len(common) < 2:
            raise ValueError("A mean needs common times: give `saves` as times, and stop by time alone.")
        rows = [np.searchsorted(self.time[i, : self.n_saved[i]], common) for i in range(self.n_students)]
        mean = lambda values: np.mean([values[i, row] for i, row in enumerate(rows)], axis=0)
        return {"time": common, "loss": mean(self.loss), "gradient_norm": mean(self.gradient_norm)}

    def save(self, path: str | os.PathLike) -> None:
        """Write an npz file: plain arrays that `np.load` reads, and where the students are, for `load_trajectory`."""
        state = {f"moving{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(self.moving))}
        rest = {"theta": self.theta, "ends_in_passing": self.ends_in_passing, "reasons": np.array(self.reasons())}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **self.arrays(), **rest, **state)
        write_whole(path, content.getvalue())

    def _last(self, values: np.ndarray) -> np.ndarray:
        return values[np.arange(self.n_students), self.n_saved - 1]

    def _networks(self, theta: np.ndarray) -> Network:
        return jax.vmap(flatten(self.like)[1])(jnp.asarray(theta))


_COLUMNS = ("time", "theta", "loss", "gradient_norm")  # with an axis of saved times
_NUMBERS = ("n_saved", "reason", "n_steps", "n_kept", "ends_in_passing")


def joined(parts: list[Trajectory]) -> Trajectory:
    """Trajectories of different students with the same dynamics as one.

    Raises:
        ValueError: If there are none, or they do not belong together.
    """
    if len({(part.like.shape, part.like.activations, part.dynamics) for part in parts}) != 1:
        raise ValueError("Trajectories are joined if there are some, of networks of one shape and the same dynamics.")
    longest = max(part.time.shape[1] for part in parts)
    return Trajectory(
        **{name: np.concatenate([filled(getattr(part, name), longest) for part in parts]) for name in _COLUMNS},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _NUMBERS},
        like=parts[0].like,
        dynamics=parts[0].dynamics,
        moving=jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(part.moving for part in parts)),
    )


def filled(column: np.ndarray, n_rows: int) -> np.ndarray:
    """A column of saved rows with as many rows, NaN below its own."""
    below = [(0, 0), (0, n_rows - column.shape[1]), *[(0, 0)] * (column.ndim - 2)]
    return np.pad(column, below, constant_values=np.nan)


class _Still(Objective):
    """Stands for the objective where only shapes are asked for."""

    def value(self, net: Network):
        return jnp.zeros((), net.dtype)


def load_trajectory(path: str | os.PathLike, like: Network, dynamics: Dynamics) -> Trajectory:
    """Read what `Trajectory.save` wrote.

    Args:
        path: The file.
        like: A network of the students' shape and activations, or a stack of them.
        dynamics: How the students moved; needed to go on, as names in a file can't be.

    Raises:
        ValueError: If the file is none, or of other networks or dynamics.
    """
    like = student(like, 0) if like.is_stack else like
    theta, _ = flatten(like)
    try:
        held = read_npz(path)
        columns = {name: held[name] for name in (*_COLUMNS, *_NUMBERS)}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is no readable file of a trajectory ({error}).") from error
    n_students, n_rows = columns["time"].shape if columns["time"].ndim == 2 else (0, 0)
    damaged = sorted(name for name, array in columns.items() if not _is_column(name, array, n_students, n_rows))
    if damaged or not n_students:
        raise ValueError(f"{path} is no readable file of a trajectory ({', '.join(damaged) or 'no students'}).")
    blank = eqx.filter_eval_shape(_begin, dynamics, theta, posed(_Still(), like))
    structure = jax.tree.structure(blank)
    names = [f"moving{number}" for number in range(structure.num_leaves)]
    if columns["theta"].shape[2] != theta.size or {name for name in held if name.startswith("moving")} != set(names):
        raise ValueError(
            f"{path} holds students of {columns['theta'].shape[2]} weights, or of other dynamics; `like` has "
            f"{theta.size}, `dynamics` is {dynamics}."
        )
    leaves = [held[name] for name in names]
    for name, leaf, one in zip(names, leaves, jax.tree.leaves(blank), strict=True):
        if leaf.shape != (n_students, *one.shape) or leaf.dtype.kind != one.dtype.kind:
            raise ValueError(f"{path} is no readable file of a trajectory ({name}).")
    moving = jax.tree.unflatten(structure, map(jnp.asarray, leaves))
    return Trajectory(**columns, like=like, dynamics=dynamics, moving=moving)


def _is_column(name: str, array: np.ndarray, n_students: int, n_rows: int) -> bool:
    """Whether an array is what `Trajectory` has by that name."""
    kinds = "f" if name in _COLUMNS else "b" if name == "ends_in_passing" else "iu"
    wanted = (n_students, n_rows) if name in _COLUMNS else (n_students,)
    shape = array.shape[:2] if name == "theta" and array.ndim == 3 else array.shape
    if shape != wanted or array.dtype.kind not in kinds:
        return False
    low, high = {"n_saved": (1, n_rows), "reason": (0, len(REASONS) - 1)}.get(name, (-np.inf, np.inf))
    return name in _COLUMNS or bool(np.all((low <= array) & (array <= high)))

"""The figures of docs/idea.md: a teacher, its students' neurons, their dendrogram, and what is left.

    python -m benchmarks.idea_figures docs

One toy, of `ecjax recover toy --d-in 2 --width 4 --activation g --student-width 12 --n-students 10`: small enough for
its incoming weight vectors to be points of a plane.
"""

import argparse
from pathlib import Path

import jax
import matplotlib
import numpy as np

import ecjax as ec
from ecjax.cluster import Clustering
from ecjax.figures import plot_dendrogram

from .recovery import Problem, draw

INK, PALE, WARM = "#20639b", "#9aa5b1", "#d1495b"


def vectors(net: ec.Network) -> np.ndarray:
    """Incoming weights of the first layer, one neuron a row, of a network or of all students together."""
    w = np.asarray(net.layers[0].w)
    return w.reshape(-1, w.shape[-1])


def plane(axis, title: str) -> None:
    axis.axhline(0, color=PALE, lw=0.5, zorder=0)
    axis.axvline(0, color=PALE, lw=0.5, zorder=0)
    axis.set(title=title, xlabel="weight of input 1", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs"))
    folder = parser.parse_args(arguments).folder
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with jax.enable_x64(True):
        problem = Problem(activation="g", d_in=2, width=4, student_width=12, seed=0, n_students=10)
        teacher, x, key = draw(problem)
        y = ec.respond(teacher, x)
        recovery = ec.recover(x, y, activation="g", config=ec.RecoveryConfig.toy(12, 10), key=key)
        print(recovery.summary())
        print(ec.compare(recovery, teacher, x).summary())
        clustering = recovery.clusterings[0]
        assert isinstance(clustering, Clustering)
        scale = np.asarray(recovery.scaling.x_map)  # students see scaled inputs; their weights in the teacher's units
        students = vectors(recovery.expansion.students) @ scale
        true, found = vectors(teacher), vectors(recovery.network)

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
    side = np.linspace(-3, 3, 121)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    with jax.enable_x64(True):
        surface = np.asarray(ec.respond(teacher, grid)).reshape(121, 121)
    left.contourf(side, side, surface, levels=15, cmap="Blues")
    left.plot(*np.asarray(x)[:300].T, ".", color=WARM, ms=2)
    left.set(title="what is seen: answers to questions", xlabel="input 1", ylabel="input 2", aspect="equal")
    left.set(xlim=(-3, 3), ylim=(-3, 3))
    plane(middle, f"{len(students)} neurons of 10 students")
    middle.plot(*students.T, "o", color=INK, ms=3.5, alpha=0.5, mew=0)
    middle.set_ylabel("weight of input 2")
    plane(right, f"{len(found)} that they share")
    right.plot(*true.T, "o", color=WARM, ms=11, mfc="none", label="teacher")
    right.plot(*found.T, "o", color=INK, ms=4, label="recovered")
    right.legend(frameon=False, loc="upper left")
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "idea.png", dpi=110)
    tree = plot_dendrogram(clustering)
    tree.savefig(folder / "idea-dendrogram.png", dpi=90)


if __name__ == "__main__":
    main()

"""How often, how exactly and how fast teachers of images are recovered from their answers alone.

    python -m benchmarks.images --seeds 0 1 2                               # 784-16-10, MNIST, five activations
    python -m benchmarks.images --datasets fashion-mnist cifar-10 --seeds 3 4 --markdown
    python -m benchmarks.images --hidden 12 12 --activations g tanh softplus --seeds 0 1 2
    python -m benchmarks.images --hidden 128 --activations tanh --seeds 0 --images 60000 --student-width 192 \
        --n-students 2

Errors are cosine distances of pre-activations, of all images and of those that have all their pixels in common with
others: what ten answers of a single image tell of a pixel that it alone has is less than the weights of twelve neurons.

Teachers are those of `ecjax teach DATASET --hidden ... --activation ... --seed ...`, with its defaults, and answer
10,000 images in float64. Settings are those of `RecoveryConfig.images` (with several hidden layers `images_deep`). Some
relu teachers have a neuron that is silent for all images (`n_silent`): it is not missed.
Finished rows stay in the JSON file.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec
from ecjax.cli.commands import Teach
from ecjax.data.images import load_images
from ecjax.expand import leverage
from ecjax.network import hidden_states

from .rows import RATE, Table, as_text, rate, recovered, solved

ACTIVATIONS = ("g", "tanh", "sigmoid", "softplus", "relu")
DATASETS = ("mnist", "fashion-mnist", "cifar-10")
DEEP = {"n_students": 4}  # of six
_COMMON = 2.0  # leverage of images that have their pixels in common with others, at most, in units of the mean


def solve(
    dataset: str,
    hidden: list[int],
    activation: str,
    seed: int,
    images: int = 10_000,
    mixed: float | None = None,
    **students: int,
) -> dict[str, Any]:
    """Recover one teacher; what came out, and what it cost.

    Args:
        dataset: Of the images.
        hidden: Widths of the teacher's hidden layers.
        activation: Of its neurons.
        seed: Of the teacher, and of the students.
        images: How many the teacher is trained on, and answers.
        mixed: If given, it answers as many mixtures of two images each in their place, with noise of this deviation.
        students: Their `student_width` and `n_students`, where the preset's will not do.
    """
    asked = Teach(dataset=dataset, hidden=tuple(hidden), activation=activation, seed=seed, n=images)
    pixels, labels = load_images(dataset, n=asked.n)
    teacher = ec.trained_teacher(
        pixels.astype(asked.precision), labels, asked.hidden, activation, key=jr.key(seed), n_steps=asked.n_steps,
        batch_size=asked.batch_size, learning_rate=asked.learning_rate, weight_decay=asked.weight_decay,
        held_out=asked.held_out,
    ).network  # fmt: skip
    teacher = jax.tree.map(lambda leaf: leaf.astype(float), teacher)
    x = jnp.asarray(pixels, float)
    if mixed is not None:
        x = ec.noisy_copies(ec.mixed_queries(x, len(x), key=jr.key(seed + 1)), 1, mixed, key=jr.key(seed + 2))
    preset = ec.RecoveryConfig.images if len(hidden) == 1 else ec.RecoveryConfig.images_deep
    settings = {"activation": activation, "hidden_layers": len(hidden), "key": jr.key(seed)}
    config = preset(**{**DEEP, **students} if len(hidden) > 1 else students)
    recovery, row = recovered(lambda: ec.recover(x, ec.respond(teacher, x), config=config, **settings), teacher, x)
    told = np.asarray(jax.jit(leverage)(x - x.mean(axis=0)))
    common = x[told < _COMMON * told.mean()]
    largest = lambda x: float(max(np.nanmax(layer.cosine_in) for layer in ec.compare(recovery, teacher, x).layers))
    silent = sum(int((np.ptp(state.h, axis=0) == 0).sum()) for state in hidden_states(teacher, x))
    distances = {"pre_activation_distance": largest(x), "common_distance": largest(common), "n_common": len(common)}
    return row | distances | {"n_silent": silent}


def is_whole(row: dict[str, Any]) -> bool:
    """Whether all neurons were found that ever speak, and no other."""
    return row["n_missing"] == row["n_silent"] and row["n_excess"] == 0


def rates(rows: list[dict[str, Any]]) -> Table:
    """A row for each data set and activation; errors are cosine distances of pre-activations."""
    table = [["teacher", "activation", "all found, none in excess", *RATE, "error of common images"]]
    for (dataset, activation), same in itertools.groupby(rows, key=lambda row: (row["dataset"], row["activation"])):
        same = list(same)
        errors = [row["pre_activation_distance"] for row in same if is_whole(row)]
        common = max((row["common_distance"] for row in same if is_whole(row)), default=np.nan)
        table.append([f"{dataset} {same[0]['teacher']}", activation, *rate(same, errors), f"{common:.0e}"])
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["mnist"])
    parser.add_argument("--hidden", nargs="+", type=int, default=[16])
    parser.add_argument("--activations", nargs="+", default=ACTIVATIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--images", type=int, help="that teachers are trained on, and answer (10,000)")
    parser.add_argument(
        "--mixed", type=float, metavar="NOISE", help="ask about mixtures of two images each, with noise"
    )
    parser.add_argument("--student-width", type=int, help="instead of the preset's")
    parser.add_argument("--n-students", type=int, help="instead of the preset's")
    parser.add_argument("--out", type=Path, default=Path("benchmark_images.json"), help="JSON file; goes on from it")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    asked = parser.parse_args(arguments)
    names = ("images", "mixed", "student_width", "n_students")
    told = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    problems = [
        {"dataset": dataset, "hidden": asked.hidden, "activation": activation, "seed": seed, **told}
        for dataset in asked.datasets
        for activation in asked.activations
        for seed in asked.seeds
    ]
    with jax.enable_x64(True):
        rows = solved(problems, solve, asked.out)
    print(f"\n{as_text(rates(rows), markdown=asked.markdown)}")


if __name__ == "__main__":
    main()

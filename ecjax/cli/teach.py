"""Teachers of images on disk: trained and written by `ecjax teach`, read by `ecjax recover images`.

config.json           what was asked for
versions.json         with what it was made
teacher.safetensors   the network
teacher.json          what it learned, how well, and which of its neurons nothing can recover
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int
from rich.console import Console
from rich.text import Text

from ..base.files import read_object
from ..data.images import DATASETS, load_images
from ..data.teachers import trained_teacher
from ..judge import unrecoverable_neurons
from ..network import Network, load_network, save_network
from ..runs import as_json, read_json, write_json
from .commands import Teach
from .options import Output, named_activations
from .run_folder import finish, run_folder

N_IMAGES = 10_000  # of a teacher that does not say how many it has seen


@dataclass(frozen=True)
class ImageTeacher:
    """A classifier of images, and what is known of its training.

    Attributes:
        network: Its outputs before the softmax are what students imitate.
        dataset: Whose images it has learned.
        n: How many of them, held-out ones included.
        about: Everything in its teacher.json; empty for a bare network.
    """

    network: Network
    dataset: str
    n: int
    about: dict[str, Any]


def teach(command: Teach, console: Console) -> None:
    """`ecjax teach`."""
    if not command.hidden or min(command.hidden) < 1:
        raise ValueError(
            f"`hidden` is at least 1 neuron for each hidden layer, as --hidden 30 30; got {command.hidden}."
        )
    activations = named_activations(command.activation, len(command.hidden))  # refused before there is a folder
    shape, names = "-".join(map(str, command.hidden)), "-".join(dict.fromkeys(one.name for one in activations))
    seed = f"-seed{command.seed}" if command.seed else ""
    folder = command.out or Path("teachers") / f"{command.dataset}-{shape}-{names}{seed}"
    asked = {name: value for name, value in as_json(command).items() if name not in ("out", "overwrite", "data")}
    if folder.exists() and not command.overwrite and (folder / "teacher.json").is_file():
        raise ValueError(f"`out`: {folder} holds a teacher already; name another, or pass --overwrite to replace it.")
    x, labels = images(command.dataset, command.data, command.n)
    say = lambda *parts: console.print(Text.assemble(*parts), soft_wrap=True)
    output = Output(out=folder, overwrite=command.overwrite)
    with run_folder(output, "teach", {"command": "teach", **asked}) as (partial, _):
        say(
            f"training a {x.shape[1]}-{shape}-10 {command.activation} network on {len(x):,} images of {command.dataset}"
        )
        try:
            trained = trained_teacher(
                x.astype(command.precision),
                labels,
                command.hidden,
                activations,
                key=jr.key(command.seed),
                n_steps=command.n_steps,
                batch_size=command.batch_size,
                learning_rate=command.learning_rate,
                weight_decay=command.weight_decay,
                held_out=command.held_out,
            )
        except (ValueError, KeyboardInterrupt):
            shutil.rmtree(partial)  # there is nothing to go on with
            raise
        hopeless = unrecoverable_neurons(trained.network, trained.x)
        save_network(trained.network, partial / "teacher.safetensors")
        about = {
            "dataset": command.dataset,
            "split": "train",
            "n": len(x),
            "held_out": command.held_out,
            "standardisation": {"mean": DATASETS[command.dataset].mean, "std": DATASETS[command.dataset].std},
            "shape": trained.network.shape,
            "activation": command.activation,
            "precision": command.precision,
            "accuracy": trained.accuracy,
            "seed": command.seed,
            "cannot_be_recovered": hopeless,
            "versions": read_json(partial / "versions.json"),
        }
        write_json(partial / "teacher.json", about)
        finish(partial)
    say(f"it reads {trained.accuracy:.1%} of {round(command.held_out * len(x)):,} held-out images")
    for each in hopeless:
        say(("warning  ", "bold yellow"), each)
    say(f"teacher  {folder}\nrecover  ecjax recover images --teacher {folder}")


def images(name: str, folder: Path | None, n: int | None) -> tuple[Float[Array, "n pixels"], Int[np.ndarray, " n"]]:
    """The first n training images of a data set, in float32, and their classes.

    Raises:
        ValueError: If they are nowhere, saying where they are looked for.
        ConnectionError: If the download fails.
    """
    try:
        return load_images(name, folder=folder, n=n)
    except (ValueError, ConnectionError, ImportError) as error:
        kind = ValueError if isinstance(error, ImportError) else type(error)  # nothing to download with
        raise kind(str(error).replace("`folder`", "`data`")) from error


def read_teacher(path: Path, dataset: str | None = None) -> ImageTeacher:
    """The teacher of a folder that `ecjax teach` wrote, or of a network that ecjax saved.

    Args:
        path: The folder, or a .safetensors file.
        dataset: Whose images a bare network has learned.

    Raises:
        ValueError: If it is neither, if a bare network comes without `dataset`, or if the network and the images do not
            fit each other.
    """
    about = {}
    if path.is_dir():
        if not (path / "teacher.json").is_file():
            raise ValueError(
                f"`teacher`: {path} is no teacher: it has no teacher.json. Train one: ecjax teach mnist --hidden 16"
            )
        about = read_object(path / "teacher.json")
        if about.get("dataset") not in tuple(DATASETS) or not isinstance(about.get("n", N_IMAGES), int):
            raise ValueError(
                f"`teacher`: {path / 'teacher.json'} does not say which images it has learned, and how many."
            )
        if dataset not in (None, about["dataset"]):
            raise ValueError(f"`dataset`: {path} has learned {about['dataset']}, not {dataset}; leave --dataset out.")
        dataset, path = about["dataset"], path / "teacher.safetensors"
    if not path.is_file():
        raise ValueError(f"`teacher`: there is no {path}. Train a teacher first: ecjax teach mnist --hidden 16")
    if dataset is None:
        raise ValueError(f"`dataset`: {path} does not say whose images it has learned: --dataset {'|'.join(DATASETS)}")
    network = load_network(path)
    n_pixels = 3072 if dataset == "cifar-10" else 784
    if network.layers[0].w.ndim != 2 or network.shape[0] != n_pixels or not network.widths:
        raise ValueError(
            f"`teacher`: {path} is a network {network.shape}; images of {dataset} need {n_pixels} inputs and at least "
            "one hidden layer."
        )
    return ImageTeacher(network, dataset, about.get("n", N_IMAGES), about)


# --- what nothing can recover --------------------------------------------------------------------------------------

"""What each command does: get the data, call the library, write the run, say what came out."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from rich.console import Console
from threadpoolctl import threadpool_limits

from ..activations import Activation, as_activation
from ..cluster import recut
from ..compare import compare
from ..networks import Network, load_network, respond
from ..queries import gaussian_queries, noisy_copies
from ..recover import Recovery, rebuild, recover
from ..runs import StudentFiles, as_json, close_run, default_folder, load_run, open_run, save_recovery
from ..teachers import digits_teacher, synthetic_teacher
from .commands import Compare, Cut, Data, Digits, Place, Toy
from .files import read_data
from .screen import Screen, report


class Interrupted(Exception):
    """Ctrl-C, with a message that says what is safe."""


@dataclass(frozen=True)
class Problem:
    """What is asked to be recovered, and what is known of the answer."""

    x: Float[Array, "samples inputs"]
    y: Float[Array, "samples outputs"]
    activation: Activation
    teacher: Network | None = None
    image: tuple[int, int] | None = None  # height and width, if the inputs are pixels


def _one_blas_thread() -> threadpool_limits:
    """JAX's Cholesky on a CPU is OpenBLAS, whose threads, from some 128 unknowns on, fight those of XLA.

    Measured on two cores with 161 parameters, one student: 50 Levenberg-Marquardt steps in 0.1 s with one thread and in
    up to 5 s with two.
    """
    return threadpool_limits(limits=1, user_api="blas")


def recover_toy(command: Toy, console: Console) -> None:
    """`ecjax recover toy`."""
    teacher_key, query_key, key = jr.split(jr.key(command.seed), 3)
    teacher = synthetic_teacher(command.d_in, command.width, command.d_out, command.activation, key=teacher_key)
    x = gaussian_queries(command.n_samples, command.d_in, key=query_key)
    _recover("toy", command, Problem(x, respond(teacher, x), teacher.activation, teacher), key, console)


def recover_digits(command: Digits, console: Console) -> None:
    """`ecjax recover digits`."""
    teacher_key, noise_key, key = jr.split(jr.key(command.seed), 3)
    trained = digits_teacher(command.width, command.activation, key=teacher_key)
    teacher, x = trained.network, trained.x
    if command.copies:
        x = noisy_copies(x, command.copies, command.noise, key=noise_key)
    shape = "-".join(map(str, teacher.shape))
    console.print(f"teacher: a {shape} network that reads {trained.accuracy:.1%} of held-out digits", highlight=False)
    _recover("digits", command, Problem(x, respond(teacher, x), teacher.activation, teacher, (8, 8)), key, console)


def recover_data(command: Data, console: Console) -> None:
    """`ecjax recover data`."""
    x, y = read_data(command.file, outputs=command.outputs)
    problem = Problem(jnp.asarray(x), jnp.asarray(y), as_activation(command.activation))
    _recover("data", command, problem, jr.key(command.seed), console)


def cut_run(command: Cut, console: Console) -> None:
    """`ecjax cut`: another cut of a run's dendrogram, and the network that it leads to."""
    run = load_run(command.run)
    names = ("gamma", "beta", "policy", "n_clusters", "height", "resolution")
    asked = {name: getattr(command, name) for name in names}
    clustering = recut(run.recovery.clusterings[0], **asked)
    image = run.config.get("image")
    problem = Problem(run.x, run.y, run.recovery.network.activation, run.teacher, tuple(image) if image else None)
    partial, _ = _open(command.place, f"{run.folder.name}-cut", {**run.config, "cut": asked, "of": str(command.run)})
    try:
        with Screen(console) as screen, _one_blas_thread():
            recovery = rebuild(run.recovery, clustering, run.x, run.y, progress=screen)
    except (ValueError, KeyboardInterrupt):
        shutil.rmtree(partial)
        raise
    _finish(partial, recovery, problem, console, command.place)


def compare_networks(command: Compare, console: Console) -> None:
    """`ecjax compare`."""
    run = load_run(command.recovered) if command.recovered.is_dir() else None
    recovered = run.recovery if run else _network(command.recovered, "recovered")
    teacher = _network(command.teacher, "teacher") if command.teacher else run.teacher if run else None
    if teacher is None:
        raise ValueError(f"`teacher`: {command.recovered} knows of no teacher; name its .safetensors file.")
    x = run.x if run else gaussian_queries(command.n_samples, teacher.shape[0], key=jr.key(command.seed))
    console.print(compare(recovered, teacher, x).summary(), markup=False, highlight=False, soft_wrap=True)


def _network(path: Path, argument: str) -> Network:
    if not path.is_file():
        raise ValueError(f"`{argument}`: {path} is neither a run folder nor a file.")
    return load_network(path)


# --- the road of every recovery ------------------------------------------------------------------------------------


def _recover(name: str, command: Toy | Digits | Data, problem: Problem, key: PRNGKeyArray, console: Console) -> None:
    """Recover in a run folder, taking up an interrupted run."""
    settings = command.settings
    asked = {key: value for key, value in as_json(command).items() if key != "place"}
    data = hashlib.sha256(np.asarray(problem.x).tobytes() + np.asarray(problem.y).tobytes()).hexdigest()
    partial, folder = _open(command.place, name, {"command": name, **asked, "image": problem.image, "data": data})
    store = StudentFiles(partial / "students", problem.activation)
    if len(store):
        console.print(
            f"going on in {partial}: {len(store)} of {settings.n_students} students are there", highlight=False
        )
    try:
        with Screen(console) as screen, _one_blas_thread():
            recovery = recover(
                problem.x,
                problem.y,
                activation=problem.activation,
                config=settings,
                key=key,
                allow_few_samples=command.allow_few_samples,
                store=store,
                progress=screen,
            )
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; {len(store)} of {settings.n_students} students are safe in {partial}\n"
            f"the same command with --out {folder} goes on from there"
        ) from None
    except ValueError:
        if not len(store):
            shutil.rmtree(partial)  # refused before a student was trained: there is nothing to go on with
        raise
    _finish(partial, recovery, problem, console, command.place)


def _open(place: Place, name: str, description: Mapping[str, Any]) -> tuple[Path, Path]:
    """The folder to write into, and the one that it will be."""
    folder = place.out or default_folder(name)
    return open_run(folder, description, overwrite=place.overwrite), folder


def _finish(partial: Path, recovery: Recovery, problem: Problem, console: Console, place: Place) -> None:
    """Write the run, give it its name, and report."""
    comparison = None if problem.teacher is None else compare(recovery, problem.teacher, problem.x)
    save_recovery(partial, recovery, x=problem.x, y=problem.y, teacher=problem.teacher, comparison=comparison)
    if place.figures:
        from ..report import save_figures  # Matplotlib is slow to import, and --help has no need of it

        save_figures(partial / "figures", recovery, problem.x, problem.teacher, comparison, image=problem.image)
    shutil.rmtree(partial / "students", ignore_errors=True)  # all of them are in students.safetensors now
    report(console, recovery, comparison, close_run(partial))

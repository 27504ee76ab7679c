"""What each command does: get the data, call the library, write the run, say what came out."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from rich.console import Console
from rich.text import Text

from ..base.devices import is_first
from ..base.threads import one_blas_thread
from ..cluster import recut
from ..data.queries import gaussian_queries, noisy_copies
from ..data.teachers import digits_teacher, synthetic_teacher
from ..judge.comparison import compare
from ..judge.unidentified import unrecoverable_neurons
from ..network import Activation, Network, as_activation, load_network, respond
from ..road.road import Recovery, rebuild, recover
from ..runs import StudentFiles, as_json, load_run, save_recovery, write_json
from .against import comparison_json
from .commands import Compare, Cut, Data, Digits, Images, Place, Toy
from .files import read_data
from .place import finish, workplace
from .screen import Screen, report
from .teach import images, read_teacher

_N_FRESH = 10_000
IMAGE_SHAPES = {"mnist": (28, 28), "fashion-mnist": (28, 28), "cifar-10": (3, 32, 32)}


class Interrupted(Exception):
    """Ctrl-C, with a message that says what is safe."""


@dataclass(frozen=True)
class Problem:
    """What is asked to be recovered, and what is known of the answer."""

    x: Float[Array, "samples inputs"]
    y: Float[Array, "samples outputs"]
    activation: Activation
    teacher: Network | None = None
    image: tuple[int, ...] | None = None  # [channels,] height and width, if the inputs are pixels
    hidden_layers: int = 1
    fresh: tuple[Array, Array] | None = None  # queries and answers for the certificate alone


def recover_toy(command: Toy, console: Console) -> None:
    """`ecjax recover toy`."""
    teacher_key, query_key, key = jr.split(jr.key(command.seed), 3)
    widths = (command.width,) * command.hidden_layers
    teacher = synthetic_teacher(command.d_in, widths, command.d_out, command.activation, key=teacher_key)
    x = gaussian_queries(command.n_samples, command.d_in, key=query_key)
    fresh = gaussian_queries(_N_FRESH, command.d_in, key=jr.fold_in(query_key, 1))
    problem = Problem(
        x,
        respond(teacher, x),
        teacher.activation,
        teacher,
        hidden_layers=command.hidden_layers,
        fresh=(fresh, respond(teacher, fresh)),
    )
    _recover("toy", command, problem, key, console)


def recover_digits(command: Digits, console: Console) -> None:
    """`ecjax recover digits`."""
    teacher_key, noise_key, key = jr.split(jr.key(command.seed), 3)
    trained = digits_teacher(command.width, command.activation, key=teacher_key)
    teacher, x, fresh = trained.network, trained.x, None
    if command.copies:
        x = noisy_copies(trained.x, command.copies, command.noise, key=noise_key)
        fresh_x = noisy_copies(trained.x, 1, command.noise, key=jr.fold_in(noise_key, 1))
        fresh = (fresh_x, respond(teacher, fresh_x))
    shape = "-".join(map(str, teacher.shape))
    console.print(f"teacher: a {shape} network that reads {trained.accuracy:.1%} of held-out digits", highlight=False)
    problem = Problem(x, respond(teacher, x), teacher.activation, teacher, (8, 8), fresh=fresh)
    _recover("digits", command, problem, key, console)


def recover_images(command: Images, console: Console) -> None:
    """`ecjax recover images`."""
    saved = read_teacher(command.teacher, command.dataset)
    depth = len(saved.network.widths)
    command.settings.widths(depth)  # refused before the images are read, if they do not fit
    x, _ = images(saved.dataset, command.data, saved.n if command.n is None else command.n)
    x = x.astype(command.precision)
    teacher = jax.tree.map(lambda leaf: leaf.astype(command.precision), saved.network)
    with jax.default_matmul_precision("highest"):  # recent GPUs would answer in TF32
        y = respond(teacher, x)
    shape = "-".join(map(str, teacher.shape))
    seen = f", which reads {saved.about['accuracy']:.1%} of held-out images" if "accuracy" in saved.about else ""
    console.print(
        f"teacher: a {shape} {teacher.activation.name} network{seen}\n"
        f"asked about {len(x):,} images of {saved.dataset}, in {command.precision}",
        highlight=False,
        soft_wrap=True,
    )
    for each in unrecoverable_neurons(teacher, x):
        console.print(Text.assemble(("warning  ", "bold yellow"), f"the teacher's {each}"), soft_wrap=True)
    problem = Problem(x, y, teacher.activation, teacher, IMAGE_SHAPES[saved.dataset], depth)
    _recover("images", command, problem, jr.key(command.seed), console)


def recover_data(command: Data, console: Console) -> None:
    """`ecjax recover data`."""
    x, y = read_data(command.file, outputs=command.outputs)
    activation = as_activation(command.activation)
    problem = Problem(jnp.asarray(x), jnp.asarray(y), activation, hidden_layers=command.hidden_layers)
    _recover("data", command, problem, jr.key(command.seed), console)


def cut_run(command: Cut, console: Console) -> None:
    """`ecjax cut`: another cut of a run's dendrogram, and the network that it leads to."""
    run = load_run(command.run)
    first, *above = run.recovery.clusterings
    if above:
        raise ValueError(
            f"`run`: {command.run} is of {1 + len(above)} hidden layers, and the students of each were "
            "trained on what was recovered below it. Recover again with another --gamma or --beta."
        )
    names = ("gamma", "beta", "policy", "n_clusters", "height", "resolution")
    asked = {name: getattr(command, name) for name in names}
    clustering = recut(first, **asked)
    image = run.config.get("image")
    problem = Problem(run.x, run.y, run.recovery.network.activation, run.teacher, tuple(image) if image else None)
    description = {**run.config, "cut": asked, "of": str(command.run)}
    with workplace(command.place, f"{run.folder.name}-cut", description) as (partial, _):
        try:
            with Screen(console) as screen, one_blas_thread():
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


def _recover(
    name: str, command: Toy | Digits | Data | Images, problem: Problem, key: PRNGKeyArray, console: Console
) -> None:
    """Recover in a run folder, taking up an interrupted run."""
    n_students = command.settings.n_students
    work = lambda **more: recover(
        problem.x,
        problem.y,
        activation=problem.activation,
        config=command.settings,
        key=key,
        hidden_layers=problem.hidden_layers,
        fresh=problem.fresh,
        allow_few_samples=command.allow_few_samples,
        **more,
    )
    if not is_first():  # a process that trains its share of the students, and leaves the run to the first one
        with one_blas_thread():
            work()
        return
    asked = {key: value for key, value in as_json(command).items() if key != "place"}
    data = hashlib.sha256(np.asarray(problem.x).tobytes() + np.asarray(problem.y).tobytes()).hexdigest()
    description = {"command": name, **asked, "image": problem.image, "data": data}
    with workplace(command.place, name, description) as (partial, interrupted):
        store = StudentFiles(partial / "students", problem.activation)
        if interrupted:
            there = f"going on in {partial}: {store.describe(n_students)} are there"
            console.print(there, highlight=False, soft_wrap=True)
        try:
            with Screen(console) as screen, one_blas_thread():
                recovery = work(store=store, progress=screen)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {store.describe(n_students)} are safe in {partial}\nthe same command goes on from there"
            ) from None
        except ValueError:
            if not len(store):
                shutil.rmtree(partial)  # refused before a student was trained: there is nothing to go on with
            raise
        _finish(partial, recovery, problem, console, command.place)


def _finish(partial: Path, recovery: Recovery, problem: Problem, console: Console, place: Place) -> None:
    """Write the run, give it its name, and report."""
    comparison = None if problem.teacher is None else compare(recovery, problem.teacher, problem.x)
    save_recovery(partial, recovery, x=problem.x, y=problem.y, teacher=problem.teacher, comparison=comparison)
    if place.figures:
        from ..figures.report import save_figures  # Matplotlib is slow to import, and --help has no need of it

        save_figures(partial / "figures", recovery, problem.x, problem.teacher, comparison, image=problem.image)
    if comparison is not None:
        write_json(partial / "comparison.json", comparison_json(comparison))
    shutil.rmtree(partial / "students", ignore_errors=True)  # all of them are in students.safetensors now
    report(console, recovery, comparison, finish(partial))

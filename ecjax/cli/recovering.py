"""`ecjax recover`: have a problem, recover it in a run folder, write the run, say what came out."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray
from rich.console import Console
from rich.text import Text

from ..base.devices import is_first
from ..base.threads import one_blas_thread
from ..data import Answers, Data
from ..data.queries import gaussian_queries, noisy_copies
from ..data.teachers import digits_teacher, synthetic_teacher
from ..expand.store import fingerprint
from ..judge import compare, unrecoverable_neurons
from ..network import LayerActivation, Network, respond
from ..road import PRESETS, Recovery, recover
from ..road.asking import AUTO
from ..road.choice import Choice, chosen_from
from ..road.kinds import DEPTHS
from ..runs import STUDENTS, StudentFiles, as_json, save_recovery
from .data_files import read_table, what_was_read
from .options import Output, named_activations
from .progress_bars import ProgressBars
from .recover_commands import Recover, RecoverData, RecoverDigits, RecoverImages, RecoverToy
from .report import report
from .run_folder import finish, run_folder
from .settings import Settings
from .teach import images, read_teacher

_N_FRESH = 10_000
_NOISE = 2**29  # folded into a key for errors in answers; the library folds in small numbers and those from 2**30 on
IMAGE_SHAPES = {"mnist": (28, 28), "fashion-mnist": (28, 28), "cifar-10": (3, 32, 32)}


class Interrupted(Exception):
    """Ctrl-C, with a message that says what is safe."""


class NotExactError(Exception):
    """What --exact-or-fail asks for where nothing exact was found; the run is written."""


@dataclass(frozen=True)
class Problem:
    """What is asked to be recovered, and what is known of the answer.

    Attributes:
        data: Queries and answers.
        activations: Of the teacher's hidden layers.
        teacher: Where it is known.
        image: [Channels,] height and width, if the inputs are pixels.
        chosen: What was chosen from the data, in words.
        unknown_kind: Activation and number of hidden layers, if one of them is "auto".
    """

    data: Data
    activations: tuple[LayerActivation, ...]
    teacher: Network | None = None
    image: tuple[int, ...] | None = None
    chosen: tuple[str, ...] = ()
    unknown_kind: tuple[str, int | str] | None = None


def recover_toy(command: RecoverToy, console: Console) -> None:
    """`ecjax recover toy`."""
    teacher_key, query_key, key = jr.split(jr.key(command.seed), 3)
    widths = (command.width,) * command.hidden_layers
    activations = named_activations(command.activation, command.hidden_layers)
    teacher = synthetic_teacher(command.d_in, widths, command.d_out, activations, key=teacher_key)
    x = gaussian_queries(command.n_samples, command.d_in, key=query_key)
    fresh = gaussian_queries(_N_FRESH, command.d_in, key=jr.fold_in(query_key, 1))
    _recover("toy", command, _asked(teacher, x, fresh, command, key), key, console)


def recover_digits(command: RecoverDigits, console: Console) -> None:
    """`ecjax recover digits`."""
    if command.copies < 0 or not command.copy_noise > 0:
        raise ValueError(
            "`copies` is 0 or more noisy copies of every image, `copy_noise` the standard deviation of their noise, "
            f"above 0; got {command.copies} and {command.copy_noise:g}."
        )
    teacher_key, noise_key, key = jr.split(jr.key(command.seed), 3)
    trained = digits_teacher(command.width, command.activation, key=teacher_key)
    x, fresh = trained.x, None
    if command.copies:
        x = noisy_copies(trained.x, command.copies, command.copy_noise, key=noise_key)
        fresh = noisy_copies(trained.x, 1, command.copy_noise, key=jr.fold_in(noise_key, 1))
    shape = "-".join(map(str, trained.network.shape))
    console.print(f"teacher: a {shape} network that reads {trained.accuracy:.1%} of held-out digits", highlight=False)
    problem = replace(_asked(trained.network, x, fresh, command, key), image=(8, 8))
    _recover("digits", command, problem, key, console)


def recover_images(command: RecoverImages, console: Console) -> None:
    """`ecjax recover images`."""
    saved = read_teacher(command.teacher, command.dataset)
    command.settings.widths(len(saved.network.widths))  # refused before the images are read, if they do not fit
    x, _ = images(saved.dataset, command.data, saved.n if command.n is None else command.n)
    teacher = jax.tree.map(lambda leaf: leaf.astype(command.precision), saved.network)
    shape = "-".join(map(str, teacher.shape))
    kinds = " and ".join(dict.fromkeys(one.name for one in teacher.activations))
    seen = f", which reads {saved.about['accuracy']:.1%} of held-out images" if "accuracy" in saved.about else ""
    console.print(
        f"teacher: a {shape} {kinds} network{seen}\n"
        f"asked about {len(x):,} images of {saved.dataset}, in {command.precision}",
        highlight=False,
        soft_wrap=True,
    )
    key = jr.key(command.seed)
    problem = replace(
        _asked(teacher, x.astype(command.precision), None, command, key), image=IMAGE_SHAPES[saved.dataset]
    )
    for each in unrecoverable_neurons(teacher, problem.data.x):
        console.print(Text.assemble(("warning  ", "bold yellow"), f"the teacher's {each}"), soft_wrap=True)
    _recover("images", command, problem, key, console)


def recover_data(command: RecoverData, console: Console, again: Callable[[Settings], RecoverData]) -> None:
    """`ecjax recover data`.

    Args:
        command: What was asked.
        console: Where to say what comes of it.
        again: The same command with other settings in the place of those that the user did not give.
    """
    answers = Answers(**vars(command.answers))
    table = read_table(command.file, outputs=command.outputs, missing=answers.missing == "dropped")
    read = what_was_read(command.file, table)
    console.print(f"read     {read}", markup=False, highlight=False, soft_wrap=True)
    data = Data.of(table.x, table.y, answers=answers, inputs=table.inputs, outputs=table.outputs)
    unknown = AUTO in (command.activation, command.hidden_layers)
    depth = DEPTHS[-1] if command.hidden_layers == AUTO else command.hidden_layers
    activations = named_activations("tanh" if command.activation == AUTO else command.activation, depth)
    start = PRESETS.get(command.preset)
    choice = chosen_from(data, activations) if start is None else Choice(start(), ())
    command = again(Settings.of(choice.config))
    given = command.settings.options_unlike(choice.config) if choice.words else []
    chosen = (*choice.words, *([f"{', '.join(given)} as you say"] if given else []))
    for each in chosen:
        console.print(f"chosen   {each}", markup=False, highlight=False, soft_wrap=True)
    unknown_kind = (command.activation, command.hidden_layers) if unknown else None
    problem = Problem(data, activations, chosen=chosen, unknown_kind=unknown_kind)
    _recover("data", command, problem, jr.key(command.seed), console)


def _asked(
    teacher: Network,
    x: Float[Array, "samples fan_in"],
    fresh: Float[Array, "fresh fan_in"] | None,
    command: RecoverToy | RecoverDigits | RecoverImages,
    key: PRNGKeyArray,
) -> Problem:
    """The problem that the answers of a known teacher are, with the errors that the settings speak of.

    Args:
        teacher: Who answers.
        x: Queries.
        fresh: More of them, for the certificate.
        command: Whose `noise` the errors have.
        key: Of the recovery.
    """
    noise = command.noise

    def answers(x: Array, number: int) -> Array:
        y = respond(teacher, x)
        if not noise:
            return y
        return y + noise * y.std(axis=0)[None] * jr.normal(jr.fold_in(key, _NOISE + number), y.shape, y.dtype)

    pair = None if fresh is None else (fresh, answers(fresh, 1))
    known = Answers(noise=noise) if noise else None
    return Problem(Data.of(x, answers(x, 0), fresh=pair, answers=known), teacher.activations, teacher)


# --- the road of every recovery ------------------------------------------------------------------------------------


def _recover(name: str, command: Recover, problem: Problem, key: PRNGKeyArray, console: Console) -> None:
    """Recover in a run folder, taking up an interrupted run."""
    n_students = command.settings.n_students
    activation, depth = problem.unknown_kind or (problem.activations, len(problem.activations))
    work = lambda **more: recover(
        problem.data,
        activation=activation,
        config=command.settings.config,
        key=key,
        hidden_layers=cast(Any, depth),
        allow_few_samples=command.allow_few_samples,
        budget=command.output.budget,
        **more,
    )
    if not is_first():  # a process that trains its share of the students, and leaves the run to the first one
        with one_blas_thread():
            work()
        return
    asked = {key: value for key, value in as_json(command).items() if key != "output"}
    description = {"command": name, **asked, "image": problem.image, "data": fingerprint(problem.data)}
    with run_folder(command.output, name, description) as (partial, goes_on):
        store = StudentFiles(partial / STUDENTS, problem.activations)
        if goes_on:
            for damaged in store.mend():
                lost = f"{damaged} in {partial / STUDENTS} is damaged: what it held is done again"
                console.print(lost, markup=False, highlight=False, soft_wrap=True)
            there = f"going on in {partial}: {store.describe(n_students)} are there"
            console.print(there, highlight=False, soft_wrap=True)
        try:
            with ProgressBars(console) as progress, one_blas_thread():
                # Students of several kinds have no place in one store of files.
                recovery = work(store=None if problem.unknown_kind else store, progress=progress)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {store.describe(n_students)} are safe in {partial}\nthe same command goes on from there"
            ) from None
        recovery = replace(recovery, chosen=(*problem.chosen, *recovery.chosen))
        finish_run(partial, recovery, problem, console, command.output)


def finish_run(partial: Path, recovery: Recovery, problem: Problem, console: Console, output: Output) -> None:
    """Write the run, give it its name, and report."""
    comparison = None if problem.teacher is None else compare(recovery, problem.teacher, problem.data.x)
    save_recovery(partial, recovery, data=problem.data, teacher=problem.teacher, comparison=comparison)
    if output.figures:
        from ..figures import save_figures  # Matplotlib is slow to import, and --help has no need of it

        folder = partial / "figures"
        save_figures(
            folder,
            recovery,
            problem.data.x,
            problem.teacher,
            comparison,
            image=problem.image,
            inputs=problem.data.inputs,
        )
    if not recovery.is_stopped or problem.unknown_kind:
        shutil.rmtree(partial / STUDENTS, ignore_errors=True)  # all of them are in students.safetensors now
    report(console, recovery, comparison, finish(partial), problem.data.x)
    require_exact(recovery, output)


def require_exact(recovery: Recovery, output: Output) -> None:
    """Raise what ends the command with status 1, where the user wants that and the answer is not exact."""
    if output.exact_or_fail and not recovery.is_exact:
        raise NotExactError

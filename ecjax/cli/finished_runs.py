"""`ecjax cut`, `ecjax compare` and `ecjax report`: what can be done with a finished run, and with networks in files."""

import shutil
from pathlib import Path

import jax.random as jr
from rich.console import Console

from ..base.threads import one_blas_thread
from ..cluster import recut
from ..data.queries import gaussian_queries
from ..doors import from_onnx
from ..judge import compare
from ..network import Network, load_network
from ..road import rebuild
from ..runs import load_run
from .commands import Compare, Cut, Report
from .progress_bars import ProgressBars
from .recovering import Problem, finish_run
from .run_folder import run_folder


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
    problem = Problem(run.data, run.recovery.network.activations, run.teacher, tuple(image) if image else None)
    description = {**run.config, "cut": asked, "of": str(command.run)}
    with run_folder(command.output, f"{run.folder.name}-cut", description) as (partial, _):
        try:
            with ProgressBars(console) as progress, one_blas_thread():
                recovery = rebuild(run.recovery, clustering, run.data, progress=progress)
        except (ValueError, KeyboardInterrupt):
            shutil.rmtree(partial)
            raise
        finish_run(partial, recovery, problem, console, command.output)


def compare_networks(command: Compare, console: Console) -> None:
    """`ecjax compare`."""
    run = load_run(command.recovered) if command.recovered.is_dir() else None
    recovered = run.recovery if run else _network(command.recovered, "recovered")
    teacher = _network(command.teacher, "teacher") if command.teacher else run.teacher if run else None
    if teacher is None:
        raise ValueError(
            f"`teacher`: {command.recovered} has no teacher beside it: name the file of one, as "
            "ecjax compare RUN teacher.safetensors."
        )
    x = run.data.x if run else gaussian_queries(command.n_samples, teacher.shape[0], key=jr.key(command.seed))
    console.print(compare(recovered, teacher, x).summary(), markup=False, highlight=False, soft_wrap=True)


def report_run(command: Report, console: Console) -> None:
    """`ecjax report`."""
    from ..report import write_report  # Matplotlib is slow to import, and --help has no need of it

    path = write_report(command.run, command.out)
    size = path.stat().st_size / 1e6
    console.print(f"report   {path} ({size:.1f} MB)", markup=False, highlight=False, soft_wrap=True)


def _network(path: Path, argument: str) -> Network:
    """The network of a file, or of the folder of a teacher."""
    if path.is_dir() and (path / "teacher.safetensors").is_file():
        path = path / "teacher.safetensors"
    if not path.is_file():
        what = "a folder without teacher.safetensors" if path.is_dir() else "neither a run folder nor a file"
        raise ValueError(f"`{argument}`: {path} is {what}.")
    if path.suffix.lower() == ".onnx":
        return from_onnx(path)
    try:
        return load_network(path)
    except ValueError as error:  # which speaks of arguments that only Python has
        said = str(error).replace(": pass it as `activation`", ", which only Python can be given: ecjax.load_network")
        raise ValueError(said) from error

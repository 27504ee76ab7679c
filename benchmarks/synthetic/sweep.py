"""The trials as jobs of a cluster, through submitit: each job is the same command with a part of the trials.

What submitit gets is a command line, so that nothing of ours is pickled; results go to the results folder as ever.
"""

import argparse
import os
import sys
from pathlib import Path

from .environment import environment

MINUTES = 1440  # that a job may take if nothing else is said; one that is killed goes on when it is submitted again


def sweep_parser() -> argparse.ArgumentParser:
    """Its options, which the jobs themselves do not get."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    how = made.add_argument_group("on a cluster")
    how.add_argument("--submitit", type=Path, metavar="FOLDER", help="submit jobs; their logs are written here")
    how.add_argument("--cluster", choices=("auto", "slurm", "local"), default="auto",
                     help="auto: Slurm where it is there, else processes on this machine")  # fmt: skip
    how.add_argument("--jobs", type=int, default=1, help="how many jobs share the trials")
    how.add_argument("--job", nargs="+", type=_parameter, default=[], metavar="NAME=VALUE",
                     help=f"of each job, in submitit's words: timeout_min={MINUTES} slurm_partition=long")  # fmt: skip
    return made


def _parameter(text: str) -> tuple[str, int | str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE, as timeout_min=240")
    return name, int(value) if value.isdigit() else value


def submit(asked: argparse.Namespace, arguments: list[str]) -> int:
    """Submit the jobs; where they are processes of this machine, wait for them.

    Args:
        asked: The options of `sweep_parser`.
        arguments: What every job gets.

    Returns:
        The exit status: 1 if a job that was waited for failed.
    """
    try:
        import submitit
        from submitit.helpers import CommandFunction
    except ModuleNotFoundError as error:
        raise ValueError("`submitit` is not installed: pip install submitit, or 'ecjax[bench]'.") from error
    if asked.jobs < 1:
        raise ValueError(f"`jobs` is at least 1; got {asked.jobs}.")
    executor = submitit.AutoExecutor(asked.submitit, cluster=None if asked.cluster == "auto" else asked.cluster)
    executor.update_parameters(**{"timeout_min": MINUTES, **dict(asked.job)})
    start = [sys.executable, "-m", "benchmarks.synthetic", *arguments]
    parts = [[*start, "--part", f"{k}/{asked.jobs}"] for k in range(1, asked.jobs + 1)]
    with executor.batch():
        jobs = [executor.submit(CommandFunction(part, cwd=os.getcwd(), env=environment())) for part in parts]
    print(f"jobs on {executor.cluster}: {', '.join(job.job_id for job in jobs)}; logs in {asked.submitit}")
    if executor.cluster != "local":
        return 0
    failed = [job for job in jobs if job.exception() is not None]
    for job in failed:
        print(f"job {job.job_id} failed; see {job.paths.stderr}", file=sys.stderr)
    return 1 if failed else 0

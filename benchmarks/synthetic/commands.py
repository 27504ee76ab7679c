"""What `python -m benchmarks.synthetic` understands."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from ..rows import as_text
from .ease import ease_table
from .environment import environment
from .folder import load, pending
from .problems import D_IN, EXPANSIONS, METHODS, SEEDS, WIDTHS, Trial, trials
from .run import run
from .sweep import submit, sweep_parser
from .table import ZERO_LOSS, report, tidy


def main(arguments: Sequence[str] | None = None) -> int:
    """Solve trials, or say what the solved ones show; the exit status is 0, 2 for bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    asked = parser().parse_args(arguments)
    showing = asked.table or asked.ease or asked.csv or asked.parquet or asked.figure
    methods = asked.method or (METHODS if showing else METHODS[:1])
    chosen = trials(methods, asked.expansion, asked.d_in, asked.width, asked.seeds)
    try:
        if showing:
            return _show(asked, chosen)
        if asked.submitit:
            return submit(asked, sweep_parser().parse_known_args(arguments)[1])
        if asked.workers > 1:
            return _share(asked.workers, asked.part, arguments)
        part, of = asked.part
        with jax.enable_x64(True):
            return _solve(asked, chosen[part - 1 :: of])
    except ValueError as error:
        print(f"error  {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from . import __doc__ as about

    made = argparse.ArgumentParser(
        "benchmarks.synthetic",
        description=about,
        formatter_class=_Raw,
        parents=[sweep_parser()],
        allow_abbrev=False,
    )
    chosen = made.add_argument_group("which trials")
    chosen.add_argument("--d-in", nargs="+", type=int, choices=D_IN, default=D_IN, help="inputs of the teacher")
    chosen.add_argument("--width", nargs="+", type=int, choices=WIDTHS, default=WIDTHS, help="of the teacher")
    chosen.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    chosen.add_argument("--expansion", nargs="+", type=int, choices=EXPANSIONS, default=EXPANSIONS,
                        help="student width over teacher width")  # fmt: skip
    chosen.add_argument("--method", nargs="+", choices=METHODS,
                        help='what is trained, by default "ours", with which "plain" comes; shown are all')  # fmt: skip
    how = made.add_argument_group("solving")
    how.add_argument("--out", type=Path, default=Path("synthetic_results"), help="results folder; goes on from it")
    how.add_argument("--budget", type=float, metavar="MINUTES", help="start no trial that would not end in time")
    how.add_argument("--workers", type=int, default=1, help="processes, each with one thread, sharing the trials")
    how.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="every N-th trial, from the K-th on")
    how.add_argument("--retry", action="store_true", help="solve trials that failed with an error again")
    said = made.add_argument_group("showing what is there, without solving")
    said.add_argument("--table", action="store_true", help="print how many teachers are recovered, at what cost")
    said.add_argument("--markdown", action="store_true", help="as Markdown")
    said.add_argument("--ease", action="store_true", help="print how well the ease of a teacher foretells its recovery")
    said.add_argument("--figure", type=Path, metavar="FILE", help="draw students and teachers against the ease")
    said.add_argument("--of", choices=(*METHODS, "plain"), default="ours", help="whose figure")
    said.add_argument("--csv", type=Path, metavar="FILE", help="write the tidy table, a row for each trial and method")
    said.add_argument("--columns", nargs="+", metavar="NAME", help="of the table that is written; all")
    said.add_argument("--parquet", type=Path, metavar="FILE", help="the same as Parquet")
    said.add_argument("--zero-loss", type=float, default=ZERO_LOSS, help="loss at which a student counts as perfect")
    return made


class _Raw(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it stands, defaults in the help."""


def _part(text: str) -> tuple[int, int]:
    part, _, of = text.partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; the second of three is 2/3")
    return int(part), int(of)


# --- solving -------------------------------------------------------------------------------------------------------


def _solve(asked: argparse.Namespace, chosen: list[Trial]) -> int:
    from ecjax.base.threads import one_blas_thread

    # XLA reads it at its first computation. Sums depend on how many threads share them, in their last digits: with one
    # thread a trial ends the same whoever solves it.
    os.environ.setdefault("NPROC", "1")
    try:
        with one_blas_thread():
            left = run(chosen, asked.out, minutes=asked.budget, retry=asked.retry)
    except KeyboardInterrupt:
        n_left = len(pending(asked.out, chosen))
        print(f"\ninterrupted: {len(chosen) - n_left} of {len(chosen)} trials are safe in {asked.out}; "
              "the same command goes on from there", file=sys.stderr)  # fmt: skip
        return 130
    if left:
        kinds = sorted({trial.kind for trial in left})
        print(f"time is up: {len(left)} of {len(chosen)} trials are left; the same command goes on. They are of:")
        for method, expansion, d_in, width in kinds:
            n_left = sum(trial.kind == (method, expansion, d_in, width) for trial in left)
            print(f"  {method}  expansion {expansion}  inputs {d_in}  width {width}: {n_left}")
    return 0


def _share(n_workers: int, part: tuple[int, int], arguments: list[str]) -> int:
    """The same command in several processes, each with a part of this one's part."""
    start = [sys.executable, "-m", "benchmarks.synthetic", *arguments, "--workers", "1"]
    parts = [f"{part[0] + part[1] * k}/{part[1] * n_workers}" for k in range(n_workers)]
    workers = [subprocess.Popen([*start, "--part", each], env=environment()) for each in parts]
    try:
        return max(worker.wait() for worker in workers)
    except KeyboardInterrupt:  # Ctrl-C reached the workers too, and each says what is safe
        for worker in workers:
            worker.wait()
        return 130


# --- showing -------------------------------------------------------------------------------------------------------


def _show(asked: argparse.Namespace, chosen: list[Trial]) -> int:
    rows = [row for trial in chosen for row in load(asked.out, trial) or []]
    if not rows:
        raise ValueError(f"`out`: {asked.out} has none of these trials; run the same command without --table first.")
    frame = tidy(rows, zero_loss=asked.zero_loss)
    unknown = sorted(set(asked.columns or ()) - set(frame.columns))
    if unknown:
        raise ValueError(f"`columns`: the table has no {unknown}; it has {list(frame.columns)}.")
    written = frame[asked.columns] if asked.columns else frame
    if asked.csv:
        written.to_csv(asked.csv, index=False)
    if asked.parquet:
        written.to_parquet(asked.parquet, index=False)
    if asked.figure:
        from .figure import plot_against_ease  # matplotlib: where problems are only solved, none may be installed

        plot_against_ease(frame[frame.method == asked.of], title=asked.of).savefig(asked.figure)
    if asked.table:
        print(report(frame, markdown=asked.markdown))
    if asked.ease:
        print(as_text(ease_table(frame), markdown=asked.markdown))
    print(f"\n{len(pending(asked.out, chosen))} of {len(chosen)} trials are not there.")
    return 0

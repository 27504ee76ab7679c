"""How often, how exactly and how fast teachers are recovered: the tables of synthetic teachers.

    python -m benchmarks.recovery                                   # everything, up to an hour on 2 cores
    python -m benchmarks.recovery --tables toy --d-in 4 --seeds 0 1 2
    python -m benchmarks.recovery --tables activations --activations relu abs --markdown

    toy            activation g, width 4, students of width 16, 4, 8 and 16 inputs
    activations    one activation of every class, 3 inputs, width 3, students of width 12
    deep           4-4-4-1, activations tanh and g, 10 students of widths 12-12

A seed makes the problem that `ecjax recover toy --seed` makes: 1000 Gaussian queries in float64, 20 students. Parameter
errors are the largest of any weight or bias, after alignment up to what no input can reveal, signs included. "Cold" is
the first problem of its shape with all compilation, from empty caches; the same problem again counts as warm, as all
others do, though a warm one may meet a solver that none before it needed, and compile that. CPU seconds add up both
cores and hardly depend on what else the machine does. Every finished problem is written to the JSON file at once, and
those that are there are not solved again: a killed run goes on where it was. Delete the file to begin anew.
"""

import argparse
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
import jax.random as jr

from ecjax import RecoveryConfig, gaussian_queries, recover, respond, synthetic_teacher
from ecjax.runs import read_json, versions, write_json

from .rows import Table, as_text, from_file, quality, three, timed

N_SEEDS = 10
DEEP = ("tanh", "g")
TABLES = ("toy", "activations", "deep")
TOY_INPUTS = (4, 8, 16)
CLASSES = (
    "tanh",
    "sigmoid",
    "erf",
    "softplus",
    "silu",
    "gelu",
    "relu",
    "leaky_relu",
    "elu",
    "mish",
    "abs",
    "gaussian",
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One teacher to recover, in the words of the command line."""

    activation: str
    d_in: int
    width: int
    student_width: int
    seed: int
    hidden_layers: int = 1  # each of that width
    n_students: int = 20
    n_samples: int = 1000

    @property
    def shape(self) -> tuple:
        """What decides which programs are compiled."""
        return tuple(value for name, value in asdict(self).items() if name != "seed")

    @property
    def command(self) -> str:
        """What solves it on the command line."""
        return "ecjax recover toy " + " ".join(f"--{k.replace('_', '-')} {v}" for k, v in asdict(self).items())


def toy_problems(d_in: Iterable[int] = TOY_INPUTS, seeds: Iterable[int] = range(N_SEEDS)) -> list[Problem]:
    kind = {"activation": "g", "width": 4, "student_width": 16}
    return [Problem(d_in=each, seed=seed, **kind) for each in d_in for seed in seeds]


def activation_problems(names: Iterable[str] = CLASSES, seeds: Iterable[int] = range(N_SEEDS)) -> list[Problem]:
    kind = {"d_in": 3, "width": 3, "student_width": 12}
    return [Problem(activation=name, seed=seed, **kind) for name in names for seed in seeds]


def deep_problems(names: Iterable[str] = DEEP, seeds: Iterable[int] = range(N_SEEDS)) -> list[Problem]:
    kind = {"d_in": 4, "width": 4, "hidden_layers": 2, "student_width": 12, "n_students": 10}
    return [Problem(activation=name, seed=seed, **kind) for name in names for seed in seeds]


def draw(problem: Problem):
    """Teacher, queries and the students' key, derived from the seed as `ecjax recover toy` does."""
    teacher_key, query_key, key = jr.split(jr.key(problem.seed), 3)
    widths = (problem.width,) * problem.hidden_layers
    teacher = synthetic_teacher(problem.d_in, widths, 1, problem.activation, key=teacher_key)
    return teacher, gaussian_queries(problem.n_samples, problem.d_in, key=query_key), key


# --- solving -------------------------------------------------------------------------------------------------------


def solve(problem: Problem, *, cold: bool = False) -> dict[str, Any]:
    """Recover one teacher; what came out, and what it cost.

    Args:
        problem: Which.
        cold: Solve it from empty caches first, for the seconds that takes.
    """
    teacher, x, key = draw(problem)
    y = respond(teacher, x)
    config = RecoveryConfig.toy(problem.student_width, problem.n_students)
    settings = {"activation": problem.activation, "hidden_layers": problem.hidden_layers, "config": config, "key": key}
    work = lambda: recover(x, y, **settings)
    costs = {}
    if cold:
        jax.clear_caches()
        _, costs["cold_seconds"], costs["cold_cpu_seconds"] = timed(work)
    recovery, costs["seconds"], costs["cpu_seconds"] = timed(work)
    # Of several hidden layers the one whose width is furthest off.
    recovered_width = max(recovery.widths, key=lambda width: abs(width - problem.width))
    return {
        **asdict(problem),
        "recovered_width": recovered_width,
        **quality(recovery, teacher, x),
        "student_losses": three(recovery.expansion.loss),
        **costs,
    }


def solve_all(problems: list[Problem], path: Path) -> list[dict[str, Any]]:
    """The rows of these problems, read from the file or solved and written to it, one by one."""
    kept = from_file(read_json(path)["problems"]) if path.exists() else []
    rows = {_identity(row): row for row in kept}
    for _, same in groupby(problems, key=lambda problem: problem.shape):
        todo = [problem for problem in same if _identity(asdict(problem)) not in rows]
        for number, problem in enumerate(todo):
            row = solve(problem, cold=number == 0)
            rows[_identity(row)] = row
            write_json(path, {"about": versions(), "problems": list(rows.values())})
            print(line(row), flush=True)
    return [rows[_identity(asdict(problem))] for problem in problems]


def _identity(row: dict[str, Any]) -> tuple:
    return tuple({"hidden_layers": 1, **row}[name] for name in Problem.__dataclass_fields__)


def line(row: dict[str, Any]) -> str:
    low, middle, high = row["student_losses"]
    return (
        f"{row['activation']:11}d_in {row['d_in']:<3d}seed {row['seed']:<3d}width {row['recovered_width']} of "
        f"{row['width']}  error {row['parameter_error']:.1e}  loss {row['loss']:.1e}  {row['found_by']:23}"
        f"students {low:.0e} {middle:.0e} {high:.0e}  {row['clusters']:>8} clusters  {row['seconds']:6.1f} s"
    )


# --- tables --------------------------------------------------------------------------------------------------------


def toy_table(rows: list[dict[str, Any]]) -> Table:
    """A row for every problem."""
    header = ["activation", "inputs", "seed", "width", "parameter error", "found by", "cold s", "warm s", "warm CPU s"]
    cells = lambda row: [
        *(str(row[name]) for name in ("activation", "d_in", "seed", "recovered_width")),
        f"{row['parameter_error']:.1e}",
        row["found_by"],
        f"{row['cold_seconds']:.1f}" if "cold_seconds" in row else "",
        *(f"{row[name]:.1f}" for name in ("seconds", "cpu_seconds")),
    ]
    return [header, *map(cells, rows)]


def rate_table(rows: list[dict[str, Any]], tolerance: float) -> Table:
    """A row for every shape of problem: how many seeds are right, and the worst error among those."""
    header = ["activation", "inputs", "seeds", "exact width", f"error <= {tolerance:.0e}", "worst of these"]
    table = [[*header, "by clusters", "cold s", "median warm s", "median warm CPU s"]]
    for (activation, d_in), same in groupby(rows, key=lambda row: (row["activation"], row["d_in"])):
        same = list(same)
        right = [row for row in same if row["parameter_error"] <= tolerance]
        cold = [row["cold_seconds"] for row in same if "cold_seconds" in row]
        table.append(
            [
                *(activation, str(d_in), str(len(same))),
                str(sum(row["recovered_width"] == row["width"] for row in same)),
                str(len(right)),
                f"{max(row['parameter_error'] for row in right):.1e}" if right else "",
                str(sum(row["found_by"] == "clusters" for row in right)),
                f"{max(cold):.1f}" if cold else "",
                *(f"{statistics.median(row[name] for row in same):.1f}" for name in ("seconds", "cpu_seconds")),
            ]
        )
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--d-in", nargs="+", type=int, default=TOY_INPUTS, help="inputs of the toy table")
    parser.add_argument("--activations", nargs="+", default=CLASSES, help="of the activations table")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(N_SEEDS))
    parser.add_argument("--out", type=Path, default=Path("benchmark_recovery.json"), help="JSON file; goes on from it")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    asked = parser.parse_args(arguments)
    with jax.enable_x64(True):
        for name in asked.tables:
            if name == "toy":
                rows = solve_all(toy_problems(asked.d_in, asked.seeds), asked.out)
                tables = [toy_table(rows), rate_table(rows, 1e-10)]
            elif name == "deep":
                rows = solve_all(deep_problems(seeds=asked.seeds), asked.out)
                tables = [toy_table(rows), rate_table(rows, 1e-6)]
            else:
                rows = solve_all(activation_problems(asked.activations, asked.seeds), asked.out)
                tables = [rate_table(rows, 1e-6)]
            for table in tables:
                print(f"\n{as_text(table, markdown=asked.markdown)}")
            wrong = [row for row in rows if row["parameter_error"] > 1e-6]
            for row in wrong:
                print("not recovered:", line(row))
                print("   ", Problem(**{field: row[field] for field in Problem.__dataclass_fields__}).command)


if __name__ == "__main__":
    main()

"""A fixed set of recoveries as one batch a shape: what an accelerator makes of many small problems.

    python -m benchmarks.gpu                    # on the accelerator that JAX finds, else on the CPU: some minutes there
    python -m benchmarks.gpu --smoke            # that it runs, in a minute on two cores
    python -m benchmarks.gpu --out gpu.json

Thirty of the 150 problems of `benchmarks.synthetic`: inputs-width 4-4, 8-4 and 4-8, seeds 0 to 9, at expansion 4. The
students of all seeds of a shape are trained in one call (`ecjax.recover_problems`), what follows is done problem by
problem. Everything is done twice: "compile s" is what the first time took longer than the second, the other times are
those of the second.

Students are trained by Levenberg-Marquardt. A step counts as one Gram matrix of [phi' x, phi], 2 samples columns^2
operations with width (inputs + 1) + width + 1 columns, and one Cholesky factorisation, parameters^3 / 3; all else,
activations and gradients, counts nothing. "of peak" is the rate of these operations over that of large square float64
matrix products, measured in the same run, times the number of devices. Steps that are rejected count in full: a batch
builds their Gram matrix too, while students one after another, as on a CPU, do not, so that there the share is an upper
bound. "in step" is the mean number of steps over the largest: what a batch can do at most, as it runs until its slowest
student is done.

Set OPENBLAS_NUM_THREADS=1 on a CPU, where Cholesky is OpenBLAS, whose threads fight XLA's. Needs what the library
needs, nothing of the command line.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ecjax as ec
from ecjax.runs import write_json

from .rows import as_text, quality
from .synthetic.problems import Problem, draw
from .throughput import matmul_peak

PHASES = ("expand", "cluster", "reconstruct", "finetune")
SHAPES = ((4, 4), (8, 4), (4, 8))  # inputs, teacher width
SEEDS = range(10)
SMOKE_SHAPES, SMOKE_SEEDS, SMOKE_STUDENTS = ((2, 1),), range(2), 4
EXPANSION = 4


def solve(same: list[Problem], *, peak: float, n_students: int | None = None) -> dict[str, Any]:
    """Recover the problems of one shape, twice.

    Args:
        same: Problems that differ in their seeds.
        peak: Matrix products of all devices, in operations a second.
        n_students: Other than the problems'.
    """
    teachers, x, y, _, keys = zip(*map(draw, same), strict=True)
    config = ec.RecoveryConfig.toy(EXPANSION * same[0].width, n_students or same[0].n_students)
    work = lambda: ec.recover_problems(jnp.stack(x), jnp.stack(y), activation="g", keys=keys, config=config)
    first, again = (_phases(work()) for _ in range(2))
    recoveries, seconds = again
    steps = np.concatenate([np.asarray(each.expansion.n_steps) for each in recoveries])
    rate = steps.sum() * operations(recoveries[0].expansion.students, len(x[0])) / seconds["expand"]
    judged = [quality(*each) for each in zip(recoveries, teachers, x, strict=True)]
    return {
        "d_in": same[0].d_in,
        "width": same[0].width,
        "n_problems": len(same),
        "n_students": len(steps),
        "seconds": seconds,
        "compile_seconds": {phase: first[1][phase] - seconds[phase] for phase in PHASES},
        "students_per_second": len(steps) / seconds["expand"],
        "steps": int(steps.sum()),
        "in_step": float(steps.mean() / steps.max()),
        "operations_per_second": rate,
        "of_peak": rate / peak,
        "exact_width": sum(each.widths == (same[0].width,) for each in recoveries),
        "recovered": sum(each["parameter_error"] <= 1e-6 for each in judged),
        "problems": judged,
    }


def _phases(recoveries: list[ec.Recovery]) -> tuple[list[ec.Recovery], dict[str, float]]:
    return recoveries, {phase: sum(each.seconds[phase] for each in recoveries) for phase in PHASES}


def operations(students: ec.Network, n_samples: int) -> float:
    """Of one step of one student: its Gram matrix and its Cholesky factorisation."""
    d_in, width, _ = students.shape
    columns = width * (d_in + 1) + width + 1
    return 2 * n_samples * columns**2 + students.n_parameters**3 / 3


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    header = ["inputs", "width", "students", "expand s", "students/s", "GFLOP/s", "of peak", "in step"]
    header += [f"{phase} s" for phase in PHASES[1:]] + ["compile s", "exact width", "recovered"]
    cells = lambda row: [
        *(str(row[name]) for name in ("d_in", "width", "n_students")),
        f"{row['seconds']['expand']:.2f}",
        f"{row['students_per_second']:.1f}",
        f"{row['operations_per_second'] / 1e9:.1f}",
        f"{row['of_peak']:.1%}",
        f"{row['in_step']:.0%}",
        *(f"{row['seconds'][phase]:.2f}" for phase in PHASES[1:]),
        f"{sum(row['compile_seconds'].values()):.1f}",
        *(f"{row[name]} of {row['n_problems']}" for name in ("exact_width", "recovered")),
    ]
    return [header, *map(cells, rows)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two tiny problems")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    asked = parser.parse_args(arguments)
    with jax.enable_x64(True):
        devices = jax.devices()
        sizes = (512, 1024, 2048) if devices[0].platform == "cpu" else (1024, 4096, 8192)
        peak = 1e9 * matmul_peak("float64", (256,) if asked.smoke else sizes) * len(devices)
        about = {"device": devices[0].device_kind, "n_devices": len(devices), "peak": peak, "jax": jax.__version__}
        print(f"{len(devices)} x {devices[0].device_kind}: float64 matrix products at {peak / 1e9:.0f} GFLOP/s in all")
        shapes, seeds = (SMOKE_SHAPES, SMOKE_SEEDS) if asked.smoke else (SHAPES, asked.seeds)
        rows = []
        for shape in shapes:
            same = [Problem(d_in=shape[0], width=shape[1], seed=seed) for seed in seeds]
            rows.append(solve(same, peak=peak, n_students=SMOKE_STUDENTS if asked.smoke else None))
            if asked.out:
                write_json(asked.out, {"about": about, "shapes": rows})
        print(as_text(table(rows), markdown=asked.markdown))


if __name__ == "__main__":
    main()

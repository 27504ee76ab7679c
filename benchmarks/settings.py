"""What each setting decides: students' width and number, gamma, beta, metric, method. The tables of docs/choosing.md.

    python -m benchmarks.settings                            # all tables, some minutes of one core each
    python -m benchmarks.settings --tables width --seeds 0 1
    python -m benchmarks.settings --write docs/choosing.md   # and into that page, between the marks of each table

    width, students,          whole recoveries of small random teachers, as `ecjax recover toy` makes them: 1,000
    narrow, method            Gaussian queries; 4-4-1 with activation g, for the methods 3-3-1; students of 8 neurons in
                              the table of their number, of as many as the teacher in the "narrow" one
    gamma, beta, metric       one training for each teacher, whose students are then clustered with every value: of the
                              toy teachers, and of tanh teachers 64-6-3 over the plain 8x8 digits and 10-6-3 over
                              scikit-learn's diabetes table (`benchmarks.chosen`), students of width 24

A teacher is recovered if every parameter is right to 1e-6 after alignment. The second kind counts what the kept
clusters are before anything is refined: "found" are neurons of the teacher that a cluster is a copy of (pre-activations
over the queries, cosine distance at most 1e-2), "missed" those that none is, and "false" clusters that are copies of
none, or of one that has a cluster already. Finished rows are kept in the JSON file: a killed run goes on where it was.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ecjax as ec
from ecjax.cluster import LayerClustering, cluster_layer, recut

from .chosen import draw as drawn_over_a_table
from .recovery import Problem, draw
from .rows import Table, as_text, solved, timed

N_SEEDS, N_TABLES, N_FLOWS = 10, 5, 3  # seeds of toy teachers, of teachers over tables, of flows, which take long
WIDTHS = (4, 5, 6, 8, 12, 16, 24)
STUDENTS, NARROW = (3, 5, 10, 20, 40), (3, 5, 10, 20)
_EVERYWHERE = ("levenberg_marquardt", "adam_levenberg_marquardt", "adam_lbfgs")
METHODS = {"tanh": (*_EVERYWHERE, "flow"), "g": _EVERYWHERE, "relu": _EVERYWHERE}  # flows take long
GAMMAS = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
BETAS = {f"π/{part}": np.pi / part for part in (384, 96, 48, 24, 12, 6, 3)}
METRICS = ("preactivation", "euclidean", "cosine")
TOY: dict[str, Any] = {"activation": "g", "d_in": 4, "width": 4}
CUTS: dict[str, dict[str, dict[str, Any]]] = {
    "gamma": {f"{gamma}": {"gamma": gamma} for gamma in GAMMAS},
    "beta": {name: {"beta": beta} for name, beta in BETAS.items()},
    "metric": {metric: {"metric": metric} for metric in METRICS},
}
SAME = 1e-2  # cosine distance of pre-activations up to which a cluster is a copy of a neuron


# --- whole recoveries ----------------------------------------------------------------------------------------------


def whole(problem: Problem, **settings: Any) -> dict[str, Any]:
    """Recover one toy teacher; what came out, and what it cost."""
    teacher, x, key = draw(problem)
    config = ec.RecoveryConfig.toy(problem.student_width, problem.n_students, **settings)
    work = lambda: ec.recover(x, ec.respond(teacher, x), activation=problem.activation, config=config, key=key)
    recovery, seconds, cpu = timed(work)
    return {
        "recovered": ec.compare(recovery, teacher, x).parameter_error <= 1e-6,
        "by_clusters": recovery.found_by[0] == "clusters",
        "certified": recovery.certificate.certified,
        "students_exact": float(np.mean(np.asarray(recovery.expansion.loss) <= 1e-25)),
        "seconds": seconds,
        "cpu_seconds": cpu,
    }


def of_width(student_width: int, seed: int) -> dict[str, Any]:
    return whole(Problem(student_width=student_width, n_students=10, seed=seed, **TOY))


def of_students(n_students: int, seed: int) -> dict[str, Any]:
    return whole(Problem(student_width=8, n_students=n_students, seed=seed, **TOY))


def of_narrow_students(narrow_students: int, seed: int) -> dict[str, Any]:
    return whole(Problem(student_width=TOY["width"], n_students=narrow_students, seed=seed, **TOY))


def of_method(activation: str, method: str, seed: int) -> dict[str, Any]:
    problem = Problem(activation=activation, d_in=3, width=3, student_width=12, n_students=10, seed=seed)
    return whole(problem, expand=ec.ExpandConfig(method=method))


def rates(rows: list[dict[str, Any]], by: tuple[str, ...]) -> Table:
    """A row for each value of the setting."""
    words = [name.replace("_", " ") for name in by]
    table = [[*words, "recovered", "by its clusters", "certified", "students at loss 1e-25", "median CPU s", "largest"]]
    which = lambda row: tuple(row[name] for name in by)
    for value, same in itertools.groupby(rows, key=which):
        same = list(same)
        count = lambda name, same=same: f"{sum(row[name] for row in same)} of {len(same)}"
        cpu = [row["cpu_seconds"] for row in same]
        exact = f"{100 * np.mean([row['students_exact'] for row in same]):.0f}%"
        values = [*map(str, value), count("recovered"), count("by_clusters"), count("certified"), exact]
        table.append([*values, f"{np.median(cpu):.1f}", f"{max(cpu):.1f}"])
    return table


# --- other cuts of the same students -------------------------------------------------------------------------------


def clusters_of(recovery: ec.Recovery, x: Any, metric: str) -> LayerClustering:
    """The first layer's neurons clustered again, in another metric."""
    students, inputs = recovery.expansion.students, np.asarray(recovery.scaling.inputs(x))
    layer = students.layers[0]
    return cluster_layer(
        np.asarray(layer.w),
        np.asarray(layer.b),
        activation=layer.activation,
        counted=np.asarray(recovery.expansion.finite),
        inputs=inputs,
        config=replace(recovery.config.cluster, metric=metric),
    )


def copies(clustering: LayerClustering, teacher: ec.Network, inputs: Any, x: Any) -> dict[str, int]:
    """Neurons of the teacher that kept clusters are copies of, those that none is, and clusters beside these."""
    with_1 = lambda x: np.column_stack([np.asarray(x), np.ones(len(x))])
    unit = lambda z: z / np.linalg.norm(z, axis=0)
    first, n_neurons = teacher.layers[0], teacher.widths[0]
    kept = [clustering.aligned(cluster).vectors[0] for cluster in clustering.kept_clusters]
    if not kept:
        return {"found": 0, "missed": n_neurons, "false": 0}
    z = unit(with_1(inputs) @ np.transpose(kept))
    z_teacher = unit(with_1(x) @ np.column_stack([first.w, first.b]).T)
    cosine = z_teacher.T @ z
    symmetry = clustering.groups[0].symmetry
    near = 1 - (np.abs(cosine) if symmetry.parity else cosine) <= SAME
    found = int(near.any(axis=1).sum())
    return {"found": found, "missed": n_neurons - found, "false": len(kept) - found}


def other_cuts(inputs: str, seed: int) -> dict[str, Any]:
    """Train once, then cluster with every value of gamma, beta and metric."""
    if inputs == "toy":
        problem = Problem(student_width=16, n_students=10, seed=seed, **TOY)
        teacher, x, key = draw(problem)
        activation, asked = problem.activation, {"config": ec.RecoveryConfig.toy(16, 10)}
    else:
        (teacher, x), key, activation = drawn_over_a_table(inputs, "tanh", seed), jax.random.key(seed), "tanh"
        asked = {"student_width": 24, "n_students": 10}
    y = ec.respond(teacher, x)
    recovery, seconds, cpu = timed(lambda: ec.recover(x, y, activation=activation, key=key, **asked))
    seen, rows = recovery.scaling.inputs(x), {}
    for table, values in CUTS.items():
        for name, setting in values.items():
            if table == "metric":
                clustering = clusters_of(recovery, x, setting["metric"])
            else:
                clustering = recut(recovery.clusterings[0], **setting)
            rows[f"{table} {name}"] = copies(clustering, teacher, seen, x)
    return {"cuts": rows, "seconds": seconds, "cpu_seconds": cpu}


def cut_rates(rows: list[dict[str, Any]], table: str) -> Table:
    """A row for each value of the setting, columns for each kind of inputs."""
    inputs = list(dict.fromkeys(row["inputs"] for row in rows))
    header = [table]
    for each in inputs:
        header += [f"{each}: clusters right", "found, missed, false"]
    lines = [header]
    for name in CUTS[table]:
        line = [name]
        for each in inputs:
            cuts = [row["cuts"][f"{table} {name}"] for row in rows if row["inputs"] == each]
            right = sum(cut["missed"] == cut["false"] == 0 for cut in cuts)
            sums = ", ".join(str(sum(cut[count] for cut in cuts)) for count in ("found", "missed", "false"))
            line += [f"{right} of {len(cuts)}", sums]
        lines.append(line)
    return lines


# --- all of it -----------------------------------------------------------------------------------------------------

Problems = list[dict[str, Any]]


def problems(table: str, seeds: list[int]) -> tuple[Problems, Callable[..., dict[str, Any]], Callable[..., Table]]:
    """What a table is made of: its problems, what solves one, and what makes the table of them."""
    if table == "width":
        asked = [{"student_width": width, "seed": seed} for width in WIDTHS for seed in seeds]
        return asked, of_width, partial(rates, by=("student_width",))
    if table == "students":
        asked = [{"n_students": n, "seed": seed} for n in STUDENTS for seed in seeds]
        return asked, of_students, partial(rates, by=("n_students",))
    if table == "narrow":
        asked = [{"narrow_students": n, "seed": seed} for n in NARROW for seed in seeds]
        return asked, of_narrow_students, partial(rates, by=("narrow_students",))
    if table == "method":
        pairs = [(name, method) for name in METHODS for method in METHODS[name]]
        asked = [
            {"activation": name, "method": method, "seed": seed}
            for name, method in pairs
            for seed in (seeds[:N_FLOWS] if method == "flow" else seeds)
        ]
        return asked, of_method, partial(rates, by=("activation", "method"))
    asked = [{"inputs": "toy", "seed": seed} for seed in seeds]
    asked += [{"inputs": inputs, "seed": seed} for inputs in ("digits", "diabetes") for seed in seeds[:N_TABLES]]
    return asked, other_cuts, partial(cut_rates, table=table)


TABLES = ("width", "students", "narrow", "gamma", "beta", "metric", "method")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(N_SEEDS)))
    parser.add_argument("--out", type=Path, default=Path("benchmark_settings.json"), help="JSON file; goes on from it")
    parser.add_argument("--write", type=Path, help="a page to write the tables into, as Markdown")
    asked = parser.parse_args(arguments)
    with jax.enable_x64(True):
        for name in asked.tables:
            wanted, solve, table = problems(name, asked.seeds)
            rows = solved(wanted, solve, asked.out)
            print(f"\n{name}\n\n{as_text(table(rows))}", flush=True)
            if asked.write is not None:
                begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
                before, _, rest = asked.write.read_text().partition(begin)
                _, _, after = rest.partition(end)
                text = as_text(table(rows), markdown=True)
                asked.write.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    main()

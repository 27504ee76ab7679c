"""Answers as real black boxes give them: rounded, noisy, probabilities, of a kind that was named wrongly, many of them.

    python -m benchmarks.blackbox                             # the table of docs/blackbox.md, some minutes on 2 cores
    python -m benchmarks.blackbox --tables noise --teachers 100      # widths and intervals among noise, as rates
    python -m benchmarks.blackbox --tables kinds --seeds 0 1 2 3     # activation="auto" and hidden_layers="auto"

The first table is one problem: a tanh teacher 6-4-3, 2,000 Gaussian queries, students of width 16, N = 10. Seconds are
of a process in which the plain answers were recovered before, so that what all rows compile is compiled.

The noise table draws teachers of tanh, softplus and g in turn: 4 inputs, 3 neurons, 1 output, 2,000 queries, students
of width 12, N = 10; nothing is told of the noise. Covered are the weights and biases of recoveries of the right width
within their 95% intervals. None of the keys of the rates was looked at while the rules were made.

Finished rows are kept in the JSON file.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec
from ecjax.judge import half_widths, standard_errors
from ecjax.objective import flatten
from ecjax.reconstruct import finetune
from ecjax.road.kinds import CLASSES

from .rows import Table, as_text, solved, timed

WIDTHS: dict[str, Any] = {"student_width": 16, "n_students": 10}
STUDENTS: dict[str, Any] = {"student_width": 12, "n_students": 10}
NOISES = (1e-3, 1e-2, 1e-1)
ACTIVATIONS = ("tanh", "softplus", "g")
NAMED = ("g", "tanh", "erf", "arctan", "sigmoid", "softplus", "silu", "gelu", "elu", "relu", "leaky_relu", "gaussian")


def one_problem(n: int = 2000, seed: int = 0) -> tuple[ec.Network, jax.Array, jax.Array]:
    """The teacher of the first table, queries and plain answers."""
    teacher = ec.synthetic_teacher(6, (4,), 3, "tanh", key=jr.fold_in(jr.key(1), seed))
    x = ec.gaussian_queries(n, 6, key=jr.fold_in(jr.key(2), seed))
    return teacher, x, ec.respond(teacher, x)


def _noisy(std: float) -> Callable[[jax.Array], jax.Array]:
    return lambda y: y + std * y.std(axis=0)[None] * jr.normal(jr.key(3), y.shape)


ANSWERS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "plain": lambda y: y,
    "rounded to float32": lambda y: y.astype(jnp.float32).astype(float),
    "rounded to 4 decimals": lambda y: jnp.round(y, 4),
    **{f"noise {std:g}": _noisy(std) for std in NOISES},
    "softmax probabilities": jax.nn.softmax,
    "probabilities to 4 decimals": lambda y: jnp.round(jax.nn.softmax(y), 4),
    "activation named wrongly (softplus)": lambda y: y,
    "two hidden layers, one named": lambda y: y,
    "200,000 queries": lambda y: y,
}


def solve(answers: str) -> dict[str, Any]:
    """A row of the first table."""
    teacher, x, y = one_problem(200_000 if answers.startswith("200,000") else 2000)
    if answers.startswith("two"):
        teacher = ec.synthetic_teacher(5, (4, 3), 2, "tanh", key=jr.key(1))
        x = x[:, :5]
        y = ec.respond(teacher, x)
    y = ANSWERS[answers](y)
    kind: Any = "probabilities" if "probabilities" in answers else "numbers"
    named = "softplus" if "softplus" in answers else "tanh"
    told: dict[str, Any] = {"activation": named, "key": jr.key(0), "answers": ec.Answers(kind=kind), **WIDTHS}
    if answers == "plain":
        ec.recover(x, y, **told)  # what all rows compile
    recovery, seconds, cpu = timed(lambda: ec.recover(x, y, **told))
    right = recovery.widths == teacher.widths
    error = ec.compare(recovery, teacher, x).layers[0].cosine_in.max() if right else float("nan")
    verdict = recovery.judge.words() if recovery.is_exact else "not exact"
    certified = ", certified" if recovery.certificate.certified else ", not certified"
    advice = recovery.advice.rsplit(". ", 1)[-1]
    return {
        **{"widths": list(recovery.widths), "cosine": float(error), "seconds": seconds, "cpu_seconds": cpu},
        "said": advice or verdict + certified,
        "bound": recovery.certificate.parameter_bound,
    }


def solve_noise(seed: int, noise: float) -> dict[str, Any]:
    """A teacher among noise: its width, and how many of its parameters lie in their intervals."""
    activation = ACTIVATIONS[seed % len(ACTIVATIONS)]
    teacher_key, x_key, noise_key, key = jr.split(jr.key(1000 + seed), 4)
    teacher = ec.synthetic_teacher(4, (3,), 1, activation, key=teacher_key)
    x = ec.gaussian_queries(2000, 4, key=x_key)
    y = ec.respond(teacher, x)
    y = y + noise * y.std(axis=0)[None] * jr.normal(noise_key, y.shape)
    recovery, seconds, cpu = timed(lambda: ec.recover(x, y, activation=activation, key=key, **STUDENTS))
    row = {
        **{"activation": activation, "width": recovery.widths[0], "exact": recovery.is_exact},
        "certified": recovery.certificate.certified,
        "right_refuted": any(each.width == 4 and each.fewer_refuted for each in recovery.evidence),
        **{"inside": 0, "of": 0, "seconds": seconds, "cpu_seconds": cpu},
    }
    if recovery.widths == (3,) and recovery.errors is not None:
        # The same minimum, come to from the teacher: its neurons then have the teacher's order and signs.
        samples = ec.Samples(x, y)
        near, loss = finetune(teacher, samples, stop=recovery.config.finetune, judge=ec.judge.Judge.of(samples))
        if abs(loss / float(y.var()) - recovery.loss) < 1e-3 * recovery.loss:
            theta, true = flatten(near)[0], flatten(teacher)[0]
            inside = jnp.abs(theta - true) <= flatten(half_widths(standard_errors(near, x, y), y.size))[0]
            row |= {"inside": int(inside.sum()), "of": int(inside.size)}
    return row


def solve_kind(activation: str, seed: int) -> dict[str, Any]:
    """A teacher of an activation that nobody named, and the same named."""
    teacher_key, x_key, key = jr.split(jr.key(2000 + seed), 3)
    teacher = ec.synthetic_teacher(3, (3,), 1, activation, key=teacher_key)
    x = ec.gaussian_queries(1000, 3, key=x_key)
    y = ec.respond(teacher, x)
    found, _, cpu = timed(lambda: ec.recover(x, y, activation="auto", key=key))
    _, _, cpu_named = timed(lambda: ec.recover(x, y, activation=activation, key=key))
    name = found.network.activations[0].name
    return {"name": name, "exact": found.is_exact, "width": found.widths[0], "cpu": cpu, "cpu_named": cpu_named}


def solve_depth(depth: int, seed: int) -> dict[str, Any]:
    """A tanh teacher whose number of hidden layers nobody named."""
    teacher_key, x_key, key = jr.split(jr.key(3000 + seed), 3)
    widths = {1: (4,), 2: (4, 3), 3: (4, 3, 3)}[depth]
    teacher = ec.synthetic_teacher(5, widths, 2, "tanh", key=teacher_key)
    x = ec.gaussian_queries(4000, 5, key=x_key)
    y = ec.respond(teacher, x)
    told: dict[str, Any] = {"activation": "tanh", "hidden_layers": "auto", "student_width": 12, "n_students": 10}
    found, _, cpu = timed(lambda: ec.recover(x, y, key=key, **told))
    return {"found": len(found.widths), "widths": list(found.widths), "exact": found.is_exact, "cpu": cpu}


def first(rows: list[dict[str, Any]]) -> Table:
    """The table of one problem."""
    table = [["answers", "widths", "largest cosine distance", "95% within", "wall s", "CPU s", "said"]]
    for row in rows:
        bound = "-" if row["bound"] is None else f"{row['bound']:.0e}"
        cells = ["-".join(map(str, row["widths"])), f"{row['cosine']:.0e}", bound, f"{row['seconds']:.0f}"]
        table.append([row["answers"], *cells, f"{row['cpu_seconds']:.0f}", row["said"]])
    return table


def rates(rows: list[dict[str, Any]]) -> Table:
    """Widths and intervals by noise."""
    table = [["noise", "width right", "and said to be", "right width refuted", "within 95%", "median CPU s"]]
    for noise in sorted({row["noise"] for row in rows}):
        same = [row for row in rows if row["noise"] == noise]
        right = [row for row in same if row["width"] == 3]
        inside, of = sum(row["inside"] for row in right), max(1, sum(row["of"] for row in right))
        table.append([
            f"{noise:g}", f"{len(right)} of {len(same)}", str(sum(row["exact"] for row in right)),
            str(sum(row["right_refuted"] for row in same)), f"{inside / of:.1%}",
            f"{np.median([row['cpu_seconds'] for row in same]):.1f}",
        ])  # fmt: skip
    return table


def kinds(rows: list[dict[str, Any]]) -> Table:
    """How often the activation was named, and what that costs."""
    table = [["activation", "named", "exact", "median CPU s", "named by the user", "named instead"]]
    for activation in dict.fromkeys(row["activation"] for row in rows):
        same = [row for row in rows if row["activation"] == activation]
        others = sorted({row["name"] for row in same if activation not in (row["name"], *CLASSES[row["name"]])})
        median = lambda name, same=same: f"{np.median([row[name] for row in same]):.1f}"
        right = sum(activation in (row["name"], *CLASSES[row["name"]]) for row in same)
        table.append([activation, f"{right} of {len(same)}", str(sum(row["exact"] for row in same)),
                      median("cpu"), median("cpu_named"), ", ".join(others)])  # fmt: skip
    return table


def depths(rows: list[dict[str, Any]]) -> Table:
    """How often the number of hidden layers was found."""
    table = [["hidden layers", "found", "exact", "median CPU s"]]
    for depth in sorted({row["depth"] for row in rows}):
        same = [row for row in rows if row["depth"] == depth]
        right = sum(row["found"] == depth for row in same)
        cpu = f"{np.median([row['cpu'] for row in same]):.1f}"
        table.append([str(depth), f"{right} of {len(same)}", str(sum(row["exact"] for row in same)), cpu])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["answers"], choices=["answers", "noise", "kinds", "depths"])
    parser.add_argument("--teachers", type=int, default=100, help="of the noise table, for each noise")
    parser.add_argument("--noises", nargs="+", type=float, default=NOISES)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)), help="of the tables of kinds")
    parser.add_argument("--activations", nargs="+", default=NAMED)
    parser.add_argument("--json", type=Path, default=Path("blackbox.json"))
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    of: dict[str, tuple[Any, Any, Any]] = {
        "answers": (({"answers": name} for name in ANSWERS), solve, first),
        "noise": (
            ({"seed": seed, "noise": noise} for noise in asked.noises for seed in range(asked.teachers)),
            solve_noise,
            rates,
        ),
        "kinds": (
            ({"activation": name, "seed": seed} for name in asked.activations for seed in asked.seeds),
            solve_kind,
            kinds,
        ),
        "depths": (
            ({"depth": depth, "seed": seed} for depth in (1, 2, 3) for seed in asked.seeds),
            solve_depth,
            depths,
        ),
    }
    with jax.enable_x64(True):
        for name in asked.tables:
            problems, work, table = of[name]
            path = asked.json.with_stem(f"{asked.json.stem}-{name}")
            print(as_text(table(solved(problems, work, path)), markdown=asked.markdown))


if __name__ == "__main__":
    main()

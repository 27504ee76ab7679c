"""How often, how exactly and how fast deep teachers are recovered from white inputs.

    python -m benchmarks.deep --tables toys                          # 5-4-3-2, ten seeds, three activations
    python -m benchmarks.deep --tables large --seeds 0 1 2 --markdown

    toys     5-4-3-2, 4,000 Gaussian queries, 12 students of widths 16-16
    large    64-48-32-10 tanh, 20,000 queries from a box, 5 students of widths 72-48
    three    40-32-24-16-6 sigmoid, 20,000 queries from a box, 5 students of widths 48-36-24

Toys are drawn as those of `ecjax.synthetic_teacher`; the teachers of the other two have Gaussian weights, for
pre-activations of a deviation of about 1. All settings are `RecoveryConfig.toy`. Finished rows stay in the JSON file.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec

from .rows import RATE, Table, as_text, rate, recovered, solved

# shape of the teacher, activations, queries, students, their widths
TABLES = {
    "toys": ((5, 4, 3, 2), ("tanh", "g", "softplus"), 4_000, 12, (16, 16)),
    "large": ((64, 48, 32, 10), ("tanh",), 20_000, 5, (72, 48)),
    "three": ((40, 32, 24, 16, 6), ("sigmoid",), 20_000, 5, (48, 36, 24)),
}


def draw(table: str, activation: str, seed: int) -> tuple[ec.Network, jax.Array]:
    """A teacher and its queries."""
    shape, _, n, _, _ = TABLES[table]
    if table == "toys":
        teacher_key, query_key, _ = jr.split(jr.key(seed), 3)
        teacher = ec.synthetic_teacher(shape[0], shape[1:-1], shape[-1], activation, key=teacher_key)
        return teacher, ec.gaussian_queries(n, shape[0], key=query_key)
    rng = np.random.default_rng(seed)
    sigmoid = activation == "sigmoid"
    gain, low = (
        (5.2, 0.0) if sigmoid else (1.3, -1.0)
    )  # its slope is a quarter of that of tanh, its answers within 0, 1
    *hidden, output = [
        (gain * rng.standard_normal((n_out, n_in)) / np.sqrt(n_in), 0.3 * rng.standard_normal(n_out))
        for n_in, n_out in itertools.pairwise(shape)
    ]
    layer = lambda weights, *activation: ec.Layer(*map(jnp.asarray, weights), *activation)
    sigma = ec.network.as_activation(activation)
    teacher = ec.Network((*(layer(weights, sigma) for weights in hidden), layer(output)))
    return teacher, jnp.asarray(rng.uniform(low, 1, (n, shape[0])))


def solve(table: str, activation: str, seed: int, upper: str = "carried") -> dict[str, Any]:
    """Recover one teacher; what came out, and what it cost."""
    _, _, _, n_students, widths = TABLES[table]
    teacher, x = draw(table, activation, seed)
    y, key = ec.respond(teacher, x), jr.split(jr.key(seed), 3)[2]
    config = ec.RecoveryConfig.toy(widths, n_students, upper=upper)
    settings = {"activation": activation, "hidden_layers": len(widths), "config": config, "key": key}
    return recovered(lambda: ec.recover(x, y, **settings), teacher, x)[1]


def rates(rows: list[dict[str, Any]]) -> Table:
    """A row for each table and activation."""
    table = [["teacher", "activation", "all widths and weights", *RATE]]
    for (teacher, activation), same in itertools.groupby(rows, key=lambda row: (row["teacher"], row["activation"])):
        same = list(same)
        errors = [row["parameter_error"] for row in same if row["parameter_error"] < 1e-6]
        table.append([teacher, activation, *rate(same, errors)])
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--activations", nargs="+", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(10))
    parser.add_argument("--upper", choices=("carried", "fresh"), default="carried", help="where upper layers begin")
    parser.add_argument("--out", type=Path, default=Path("benchmark_deep.json"), help="JSON file; goes on from it")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    asked = parser.parse_args(arguments)
    problems = [
        {"table": table, "activation": activation, "seed": seed}
        | ({"upper": asked.upper} if asked.upper != "carried" else {})
        for table in asked.tables
        for activation in (asked.activations or TABLES[table][1])
        for seed in asked.seeds
    ]
    with jax.enable_x64(True):
        rows = solved(problems, solve, asked.out)
    print(f"\n{as_text(rates(rows), markdown=asked.markdown)}")


if __name__ == "__main__":
    main()

"""How often teachers of real inputs are recovered by whoever gives no settings: those chosen from the data.

    python -m benchmarks.chosen                                  # everything, half an hour on 2 cores
    python -m benchmarks.chosen --inputs digits --activations tanh --seeds 0 1 --markdown

The inputs are scikit-learn's tables as they come: 1,797 plain 8x8 digits, diabetes, wine, breast cancer. A teacher has
random weights, 6 neurons, 3 outputs, and pre-activations with a deviation of 1.5 around a Gaussian bias, so that its
neurons are curved over the inputs. All that a recovery is told is `student_width=24, n_students=10`; narrower where the
table has fewer answers than such students have parameters. A teacher counts as found if every neuron is there and none
is in excess, and the worst pre-activation cosine distance says how well. Finished rows are kept in the JSON file.

Keys 0 to 2 of tanh were used to find the rules of `ecjax.road.choice`; all other rows were not.
"""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn import datasets

import ecjax as ec
from ecjax.network import hidden_states

from .rows import Table, as_text, solved, timed

INPUTS = {
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
}
ACTIVATIONS = ("tanh", "sigmoid", "g", "softplus", "relu")
WIDTH, FAN_OUT, DEVIATION = 6, 3, 1.5
TOLD = {"student_width": 24, "n_students": 10}


def draw(inputs: str, activation: str, seed: int) -> tuple[ec.Network, jax.Array]:
    """A teacher with curved neurons over a table, and the table."""
    x = jnp.asarray(INPUTS[inputs](return_X_y=True)[0], float)
    weight_key, bias_key = jr.split(jr.key(100 + seed))
    drawn = ec.random_network((x.shape[1], WIDTH, FAN_OUT), activation, key=weight_key)
    hidden = drawn.hidden[0]
    varies = jnp.std(x, axis=0) > 0
    unit = jnp.where(varies, jnp.std(x, axis=0), 1) if inputs != "digits" else 1.0  # pixels have one unit
    hidden = replace(hidden, w=hidden.w / unit)
    (state,) = hidden_states(ec.Network((hidden, drawn.output)), x)
    size = DEVIATION / jnp.std(state.z, axis=0)
    bias = jr.normal(bias_key, (WIDTH,)) - size * jnp.mean(state.z, axis=0)
    return ec.Network((replace(hidden, w=hidden.w * size[:, None], b=bias), drawn.output)), x


def solve(inputs: str, activation: str, seed: int) -> dict[str, Any]:
    """Recover one teacher; what came out, and what it cost."""
    teacher, x = draw(inputs, activation, seed)
    told = dict(TOLD)
    parameters = lambda width: width * (x.shape[1] + 1 + FAN_OUT) + FAN_OUT
    while FAN_OUT * len(x) < parameters(told["student_width"]):
        told["student_width"] -= 1
    y = ec.respond(teacher, x)
    recovery, seconds, cpu = timed(lambda: ec.recover(x, y, activation=activation, key=jr.key(seed), **told))
    comparison = ec.compare(recovery, teacher, x)
    return {
        "student_width": told["student_width"],
        **{"width": recovery.widths[0], "missing": comparison.n_missing, "excess": comparison.n_excess},
        "cosine": float(np.max(comparison.layers[0].cosine_in)),
        **{"exact": recovery.is_exact, "loss": recovery.loss},
        **{"seconds": seconds, "cpu_seconds": cpu},
    }


def rates(rows: list[dict[str, Any]]) -> Table:
    """A row for each table and activation."""
    table = [["inputs", "activation", "found", "worst cosine of these", "median CPU s", "missed"]]
    for (inputs, activation), same in itertools.groupby(rows, key=lambda row: (row["inputs"], row["activation"])):
        same = list(same)
        found = [row for row in same if row["missing"] == row["excess"] == 0]
        missed = [f"{row['seed']}: {row['width']}" for row in same if row not in found]
        worst = f"{max(row['cosine'] for row in found):.0e}" if found else ""
        cpu = np.median([row["cpu_seconds"] for row in same])
        table.append([inputs, activation, f"{len(found)} of {len(same)}", worst, f"{cpu:.1f}", ", ".join(missed)])
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--activations", nargs="+", default=ACTIVATIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--out", type=Path, default=Path("benchmark_chosen.json"), help="JSON file; goes on from it")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    asked = parser.parse_args(arguments)
    wanted = itertools.product(asked.inputs, asked.activations, asked.seeds)
    with jax.enable_x64(True):
        rows = solved(
            (dict(zip(("inputs", "activation", "seed"), one, strict=True)) for one in wanted), solve, asked.out
        )
    print(f"\n{as_text(rates(rows), markdown=asked.markdown)}")


if __name__ == "__main__":
    main()

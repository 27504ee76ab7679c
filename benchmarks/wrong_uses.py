"""What ecjax says where it is used wrongly: the likely cause, the remedy, and after how long.

    python -m benchmarks.wrong_uses                  # the table of docs/blackbox.md, some minutes on 2 cores

One problem: a tanh teacher 6-4-3, 2,000 Gaussian queries, students of width 16, N = 10. Each use is a mistake that
somebody makes; what is wanted is a message that names it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

import ecjax as ec

from .blackbox import WIDTHS, one_problem
from .rows import Table, as_text, solved, timed


def _noisy(y: np.ndarray, std: float) -> np.ndarray:
    return y + std * y.std(axis=0) * np.random.default_rng(0).standard_normal(y.shape)


def _far_off(y: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    y = y.copy()
    y[rng.permutation(len(y))[:20]] += 3 * rng.standard_normal((20, y.shape[1]))
    return y


def _deep(x: np.ndarray) -> np.ndarray:
    return np.asarray(ec.respond(ec.synthetic_teacher(6, (4, 3), 3, "tanh", key=jr.key(1)), x))


def _with(y: np.ndarray, rows: slice, value: float) -> np.ndarray:
    y = y.copy()
    y[rows] = value
    return y


def _answers(**known: Any) -> dict[str, Any]:
    return {"answers": ec.Answers(**known)}


softmax = lambda y: np.asarray(jax.nn.softmax(y))
# Each makes of the queries and plain answers what is given, and what is said of it; and the words to be answered.
USES: dict[str, tuple[Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, dict[str, Any]]], str]] = {
    "activation misnamed": (lambda x, y: (x, y, {"activation": "softplus"}), 'activation="tanh"'),
    "depth misnamed": (lambda x, y: (x, _deep(x), {}), "hidden_layers=2"),
    "students narrower than the teacher": (
        lambda x, y: (x, y, {"student_width": 3}),
        "6-4-3 tanh network, exact to machine",
    ),
    "probabilities as numbers": (lambda x, y: (x, softmax(y), {}), 'kind="probabilities"'),
    "log-probabilities as numbers": (lambda x, y: (x, np.log(softmax(y)), {}), 'kind="log_probabilities"'),
    "one class's probability as a number": (
        lambda x, y: (x, 1 / (1 + np.exp(-3 * y[:, :1])), {}),
        'kind="probabilities"',
    ),
    "logits as probabilities": (lambda x, y: (x, y, _answers(kind="probabilities")), 'kind="logits"'),
    "percentages as probabilities": (
        lambda x, y: (x, 100 * softmax(y), _answers(kind="probabilities")),
        "Divide them by 100",
    ),
    "one-hot labels": (lambda x, y: (x, np.eye(3)[y.argmax(axis=1)], {}), "labels"),
    "numbers of classes": (lambda x, y: (x, y.argmax(axis=1).astype(float), {}), "labels"),
    "too few rows": (lambda x, y: (x[:15], y[:15], {}), "Ask the teacher more"),
    "rows of y in another order": (lambda x, y: (x, np.random.default_rng(0).permutation(y), {}), "order"),
    "missing answers": (lambda x, y: (x, _with(y, slice(3, 5), np.nan), {}), 'missing="dropped"'),
    "a hundredth of the answers wrong": (lambda x, y: (x, _far_off(y), {}), "outliers=True"),
    "noise told far too large": (lambda x, y: (x, _noisy(y, 1e-3), _answers(noise=0.1)), "less than"),
    "noise told far too small": (lambda x, y: (x, _noisy(y, 1e-1), _answers(noise=1e-3)), "where you told of"),
    "noise said to be none": (lambda x, y: (x, _noisy(y, 1e-2), _answers(noise=0.0)), "leave `noise` out"),
    "more decimals told than there are": (lambda x, y: (x, np.round(y, 3), _answers(decimals=6)), "fewer decimals"),
    "answers in a unit of 1e-300": (lambda x, y: (x, 1e-300 * y, {}), "unit"),
    "queries in a unit of 1e300": (lambda x, y: (1e300 * x, y, {}), "unit"),
    "a constant output": (lambda x, y: (x, np.column_stack([y, np.ones(len(y))]), {}), "constant"),
    "an output twice": (lambda x, y: (x, np.column_stack([y, y[:, 0]]), {}), "linear functions"),
    "an input twice": (lambda x, y: (np.column_stack([x, x[:, 0]]), y, {}), "directions do not vary"),
    "the same queries again, with other noise": (
        lambda x, y: (np.concatenate([x, x]), _noisy(np.concatenate([y, y]), 1e-2), {}),
        "came before, with other answers",
    ),
    "no network at all": (lambda x, y: (x, np.prod(x[:, :2], axis=1) * np.sign(x[:, 2]), {}), "such a network at all"),
    "images not flattened": (lambda x, y: (x.reshape(-1, 2, 3), y, {}), "reshape"),
    "whole numbers": (lambda x, y: (np.round(x).astype(int), y, {}), "astype(float)"),
    "a polynomial's name": (lambda x, y: (x, y, {"activation": "square"}), "activation"),
    "a name of nothing": (lambda x, y: (x, y, {"activation": "tahn"}), "activation"),
}


def solve(use: str) -> dict[str, Any]:
    """One of them: what was said, whether the cause was named, and after how long."""
    _, x, y = one_problem()
    make, word = USES[use]
    x, y, said = make(np.asarray(x), np.asarray(y))

    def tried() -> str:
        try:
            with np.errstate(all="ignore"):
                recovery = ec.recover(x, y, **{"activation": "tanh", "key": jr.key(0), **WIDTHS, **said})
        except ValueError as error:
            return str(error)
        return recovery.summary()

    words, seconds, cpu = timed(tried)
    return {"seconds": seconds, "cpu_seconds": cpu, "named": word in words, "said": words}


def table(rows: list[dict[str, Any]]) -> Table:
    """What was said of each, in a sentence."""
    out = [["use", "named", "wall s", "CPU s", "said"]]
    for row in rows:
        word = USES[row["use"]][1]
        sentences = row["said"].replace("\n", " ").split(". ")
        said = next((each for each in sentences if word in each), sentences[0])
        out.append(
            [row["use"], "yes" if row["named"] else "NO", f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.0f}", said]
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uses", nargs="+", default=list(USES), choices=list(USES), metavar="USE")
    parser.add_argument("--json", type=Path, default=Path("wrong-uses.json"))
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    with jax.enable_x64(True):
        rows = solved(({"use": name} for name in asked.uses), solve, asked.json)
    print(as_text(table(rows), markdown=asked.markdown))


if __name__ == "__main__":
    main()

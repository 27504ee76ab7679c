"""Networks that scikit-learn trained on real tables in float32, recovered from files of answers by the command line.

    python -m benchmarks.real_tables --out tables        # the table of docs/blackbox.md, some minutes on 2 cores

For each table a network is trained as its documentation does it, asked about Gaussian queries in units of the columns,
and its answers are written to a file: that and the command in the last column are all that ecjax gets.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from .rows import Table, as_text, solved, timed


class Case(NamedTuple):
    """A table, the network that is trained on it, how many queries, and what the command line is told."""

    load: Any
    width: int
    activation: str
    n: int
    told: tuple[str, ...]


CASES = {
    "diabetes": Case(datasets.load_diabetes, 4, "tanh", 1500, ("--activation", "auto")),
    "wine": Case(datasets.load_wine, 4, "tanh", 2000, ("--activation", "tanh", "--answers-are", "probabilities")),
    "breast_cancer": Case(
        datasets.load_breast_cancer,
        3,
        "tanh",
        6000,
        ("--activation", "tanh", "--answers-are", "probabilities", "--student-width", "8"),
    ),
    "digits": Case(
        datasets.load_digits,
        6,
        "tanh",
        6000,
        ("--activation", "tanh", "--answers-are", "probabilities", "--student-width", "12"),
    ),
}


def write_answers(name: str, path: Path) -> None:
    """Train the network, ask it, and write what it answers."""
    case = CASES[name]
    table = case.load()
    x = StandardScaler().fit_transform(table.data).astype(np.float32)
    kind = MLPRegressor if name == "diabetes" else MLPClassifier
    model = kind(
        hidden_layer_sizes=(case.width,), activation=case.activation, max_iter=3000, random_state=0, alpha=1e-2
    )
    y = table.target
    y = ((y - y.mean()) / y.std()).astype(np.float32) if name == "diabetes" else y
    model.fit(x, y)
    queries = np.random.default_rng(0).standard_normal((case.n, x.shape[1])).astype(np.float32)
    answers = model.predict(queries) if name == "diabetes" else model.predict_proba(queries)
    if name == "breast_cancer":
        answers = answers[:, 1]  # of two classes one says both
    np.savez(path, x=queries.astype(float), y=np.asarray(answers).astype(float))


def solve(table: str, out: str) -> dict[str, Any]:
    """A row: the command and what it said."""
    path = Path(out) / f"{table}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_answers(table, path)
    command = ["ecjax", "recover", "data", str(path), *CASES[table].told, "--out", str(Path(out) / table)]
    run = lambda: subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    done, seconds, _ = timed(run)
    return {"seconds": seconds, "command": " ".join(command), "said": done.stdout + done.stderr}


def table(rows: list[dict[str, Any]]) -> Table:
    """What was recovered of each."""
    out = [["table", "wall s", "command", "said"]]
    for row in rows:
        lines = [line.strip() for line in row["said"].splitlines()]
        said = " ".join(line for line in lines if line.startswith(("Recovered", "Certified", "Not certified")))
        out.append([row["table"], f"{row['seconds']:.0f}", row["command"], said])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--out", default="tables", help="folder of the files and runs")
    parser.add_argument("--json", type=Path, default=Path("real-tables.json"))
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    rows = solved(({"table": name, "out": asked.out} for name in asked.tables), solve, asked.json)
    print(as_text(table(rows), markdown=asked.markdown))


if __name__ == "__main__":
    main()

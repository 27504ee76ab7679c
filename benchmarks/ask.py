"""Recovery by asking: questions, seconds and largest parameter error, beside what others have published.

    python -m benchmarks.ask                                        # every row that has its teachers, minutes
    python -m benchmarks.ask --rows images --teachers teachers      # trained by `ecjax teach mnist --hidden 128 ...`
    python -m benchmarks.ask --rows catalogue --seeds 0 1 2

    catalogue      every activation at 16-8-3, named by looking; a row says in how many of the seeds it was exact
    overcomplete   more neurons than inputs: 2-8-1, 4-16-1, 8-64-1, tanh and softplus
    images         folders of `ecjax teach`, each with one hidden layer
    deep           those with several; how many is told

The activation is not given. An answer is exact where width and named activation are the teacher's and no weight is off
by more than 1e-10, after alignment up to what no input can reveal; tanh and sigmoid, erf and normal_cdf, sin and cos
are the same function but for scales and constants, so that the first of each pair counts for both, and the teacher is
written in its terms for the comparison. CPU seconds are of one process, compilation included.

Published, with architecture and activation given (arXiv:2409.19138 and its code, one GPU): 784-128-10 tanh, 270,000
questions, error 1.4e-4, 65 minutes; 784-128-64-10 tanh, 1,790,000 questions, 4.6e-13, 750 s.
"""

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec
from ecjax.network import Layer, Network
from ecjax.probe.curves import values

EXACT = 1e-10
OVERCOMPLETE = ((2, 8, 1), (4, 16, 1), (8, 64, 1))
KNOWN = tuple(name for name, one in ec.ACTIVATIONS.items() if not one.symmetry.polynomial)


@dataclass(frozen=True)
class Row:
    """One teacher, asked."""

    teacher: str
    seed: int
    widths: tuple[int, ...] | None
    named: str
    error: float
    questions: int
    seconds: float
    certified: bool
    trouble: str = ""

    @property
    def exact(self) -> bool:
        return self.error <= EXACT


def in_other_terms(net: Network) -> Network:
    """A network of sigmoid, normal_cdf or cos written with tanh, erf or sin; others as they are."""
    layers = list(net.layers)
    for i, here in enumerate(net.hidden):
        name, above = here.activation.name, layers[i + 1]
        scale = {"sigmoid": 0.5, "normal_cdf": math.sqrt(0.5)}.get(name)
        if scale is not None:  # s(z) = (1 + t(scale z)) / 2
            other = ec.ACTIVATIONS["tanh" if name == "sigmoid" else "erf"]
            layers[i] = Layer(scale * layers[i].w, scale * layers[i].b, other)
            layers[i + 1] = replace(above, w=above.w / 2, b=above.b + above.w.sum(1) / 2)
        elif name == "cos":
            layers[i] = replace(layers[i], b=layers[i].b + jnp.pi / 2, activation=ec.ACTIVATIONS["sin"])
    return Network(tuple(layers))


def asked(net: Network, seed: int, precision: str = "float64", box: Sequence[float] | None = None) -> Row:
    """Recover one teacher by asking, with answers of a precision, in a box or everywhere."""
    layers = [(np.asarray(each.w, float), np.asarray(each.b, float), each.activation) for each in net.layers]

    def answers(x):
        for w, b, kind in layers[:-1]:
            x = values(kind, x @ w.T + b)
        w, b, _ = layers[-1]
        return (x @ w.T + b).astype(precision)

    fan_in = net.shape[0]
    teacher = ec.Teacher(answers, fan_in=fan_in, box=box)
    name = f"{'-'.join(map(str, net.shape))} {net.activations[0].name}"
    start = time.process_time()
    try:
        found = ec.recover(teacher, activation="auto", hidden_layers=len(net.widths), key=jr.key(seed))
    except (ValueError, np.linalg.LinAlgError) as error:
        return Row(name, seed, None, "-", np.inf, teacher.asked, time.process_time() - start, False, str(error))
    seconds, error = time.process_time() - start, np.inf
    wanted = net if found.network.activations == net.activations else in_other_terms(net)
    if found.network.activations == wanted.activations:
        x = jnp.asarray(np.random.default_rng(0).standard_normal((1000, fan_in)))
        error = ec.compare(found, wanted, x).parameter_error
    kinds = "-".join(dict.fromkeys(each.name for each in found.network.activations))
    return Row(name, seed, found.widths, kinds, error, teacher.asked, seconds, found.certificate.certified)


def teachers(rows: Iterable[str], seeds: Iterable[int], folder: Path, activations: Iterable[str] | None):
    """Pairs of a teacher and a seed, table by table."""
    seeds = list(seeds)
    if "catalogue" in rows:
        for name in activations or KNOWN:
            yield from ((ec.synthetic_teacher(16, 8, 3, name, key=jr.key(seed)), seed) for seed in seeds)
    if "overcomplete" in rows:
        for shape in OVERCOMPLETE:
            for name in activations or ("tanh", "softplus"):
                yield from ((ec.synthetic_teacher(*shape, name, key=jr.key(seed)), seed) for seed in seeds)
    if "images" in rows or "deep" in rows:
        for path in sorted(folder.glob("*/teacher.safetensors")):
            net = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), ec.load_network(path))
            table = "images" if len(net.widths) == 1 else "deep"
            if table in rows and (activations is None or net.activations[0].name in activations):
                yield net, 0


def summary(rows: list[Row]) -> str:
    """A line for each kind of teacher."""
    lines = ["| teacher | exact | named | largest error | questions | CPU seconds |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row.teacher for row in rows):
        mine = [row for row in rows if row.teacher == name]
        kinds = ", ".join(dict.fromkeys(row.named for row in mine))
        worst = max((row.error for row in mine if np.isfinite(row.error)), default=np.inf)
        lines.append(
            f"| {name} | {sum(row.exact for row in mine)} of {len(mine)} | {kinds} | {worst:.0e} | "
            f"{np.median([row.questions for row in mine]):,.0f} | {np.median([row.seconds for row in mine]):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ("catalogue", "overcomplete", "images", "deep")
    parser.add_argument("--rows", nargs="+", choices=tables, default=list(tables))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--activations", nargs="+", choices=KNOWN)
    parser.add_argument("--teachers", type=Path, default=Path("teachers"))
    parser.add_argument("--answers", choices=("float64", "float32"), default="float64", help="their precision")
    parser.add_argument("--box", nargs=2, type=float, metavar=("LOW", "HIGH"), help="ask there only")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    for net, seed in teachers(given.rows, given.seeds, given.teachers, given.activations):
        rows.append(asked(net, seed, given.answers, given.box))
        row = rows[-1]
        said = row.trouble or f"widths {row.widths}, {row.named}, error {row.error:.1e}"
        sure = ", certified" if row.certified else ""
        print(f"{row.teacher}, seed {seed}: {said}{sure}; {row.questions:,} questions, {row.seconds:.1f} s", flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()

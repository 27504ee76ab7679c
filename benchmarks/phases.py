"""What each step of the road costs, beside the usual way to do it, and how good the answer is.

    python -m benchmarks.phases                              # a few minutes on 2 cores
    python -m benchmarks.phases --phases hessian ensemble --rounds 9 --out phases.json

Every variant runs once to compile ("first", everything included), then all variants of a phase take turns. The table
has the median of their rounds and how many times slower each is than the first variant of its phase, in the same run;
every call ends when its result is there. Steps of solvers are means over the steps of a whole solve.

    gradient, hessian    of the imitation loss: the objective's own against automatic differentiation; error: relative
                         difference (Frobenius norm) from jax.grad and jax.hessian
    second-order step    from a fresh student; and the loss after these steps
    parts of a step      of Levenberg-Marquardt with 1,089 parameters; what its operations take at the rate of a large
                         matrix product, measured in the same run
    flow step            from a fresh student; and the loss after these steps
    ensemble             all students by Levenberg-Marquardt, one after another or in one batch; best and median loss
    distances            of planted neurons against SciPy; largest relative difference
    linkage              average linkage from these distances; largest relative difference of a height from SciPy's
    cut                  of that dendrogram and the filters, policy by policy; clusters found, missed, false, twice
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import ecjax as ec
from ecjax.cluster.distances import condensed_distances
from ecjax.cluster.linkage import dendrogram, weighted_linkage
from ecjax.expand import Flow, LevenbergMarquardt, Newton, Orthogonal, Stopping, expand
from ecjax.network import SYMMETRIES, random_students, student
from ecjax.objective import Samples, flatten
from ecjax.runs import versions, write_json

from .cluster_planted import planted, score
from .throughput import matmul_peak

Shape = tuple[int, int, int]  # inputs, student width, outputs


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the problems are; activation g, Gaussian queries, float64."""

    shapes: tuple[Shape, ...] = ((4, 16, 1), (8, 32, 1), (16, 16, 10))  # of the students whose loss is differentiated
    solved: tuple[Shape, ...] = ((4, 16, 1), (8, 32, 1))  # of those that solvers train, the first also as an ensemble
    large: Shape = (32, 32, 1)  # of the student whose step is taken apart
    n_large: int = 2730  # its queries
    side: int = 2048  # of the matrix product beside it
    n_samples: int = 1000
    n_steps: int = 20  # of a solver
    n_students: int = 20
    n_vectors: int = 2000
    rounds: int = 5


class Variant(NamedTuple):
    """One way to do a step: what to run, its steps, and what the result is worth."""

    run: Callable[[], Any]
    judge: Callable[[Any], dict[str, Any]]
    steps: Callable[[Any], int] = lambda _: 1


class Trial(NamedTuple):
    """Variants of one step on one problem, the first one ecjax's own choice."""

    size: str
    variants: dict[str, Variant]


def measure(trial: Trial, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for every variant; they take turns, so that what else the machine does hits all of them."""
    first, results = {}, {}
    for name, variant in trial.variants.items():
        results[name], first[name] = _timed(variant.run)
    seconds: dict[str, list[float]] = {name: [] for name in trial.variants}
    for _ in range(rounds):
        for name, variant in trial.variants.items():
            seconds[name].append(_timed(variant.run)[1])
    base = None
    for name, variant in trial.variants.items():
        steps = variant.steps(results[name])
        median = statistics.median(seconds[name]) / steps
        base = base or median
        yield {
            "size": trial.size,
            "variant": name,
            "seconds": median,
            "fastest": min(seconds[name]) / steps,
            "times_slower": median / base,
            "first_seconds": first[name],
            "steps": steps,
            "quality": variant.judge(results[name]),
        }


def _timed(run):
    start = time.perf_counter()
    done = jax.block_until_ready(run())
    return done, time.perf_counter() - start


# --- phase 1 -------------------------------------------------------------------------------------------------------


def _problem(shape: Shape, sizes: Sizes):
    """Fresh students and a teacher's answers."""
    d_in, width, d_out = shape
    teacher_key, query_key, key = jr.split(jr.key(0), 3)
    teacher = ec.synthetic_teacher(d_in, max(1, width // 4), d_out, key=teacher_key)
    x = ec.gaussian_queries(sizes.n_samples, d_in, key=query_key)
    return random_students(sizes.n_students, shape, teacher.activations, key=key), x, ec.respond(teacher, x)


def _words(shape: Shape, sizes: Sizes) -> str:
    d_in, width, d_out = shape
    n_parameters = width * (d_in + 1) + d_out * (width + 1)
    return f"{d_in}-{width}-{d_out}, {n_parameters} parameters, {sizes.n_samples} queries"


def _derivatives(sizes: Sizes, ways: Callable[[Callable], dict[str, Callable]]) -> Iterator[Trial]:
    """Ways to compute one derivative, compared with the last of them."""
    for shape in sizes.shapes:
        students, x, y = _problem(shape, sizes)
        theta, unflatten = flatten(student(students, 0))
        calls = {name: partial(jax.jit(way), theta, x, y) for name, way in ways(unflatten).items()}
        *_, reference = calls.values()
        judge = lambda got, reference=reference: {"error": _relative(got, reference())}
        variants = {name: Variant(call, judge) for name, call in calls.items()}
        yield Trial(_words(shape, sizes), variants)


def _relative(got: jax.Array, wanted: jax.Array) -> float:
    return float(jnp.linalg.norm(got - wanted) / jnp.linalg.norm(wanted))


def _loss(unflatten: Callable) -> Callable:
    return lambda theta, x, y: Samples(x, y).value(unflatten(theta))


def gradients(sizes: Sizes) -> Iterator[Trial]:
    return _derivatives(
        sizes,
        lambda unflatten: {
            "of the objective": lambda theta, x, y: flatten(Samples(x, y).gradient(unflatten(theta)))[0],
            "jax.grad": jax.grad(_loss(unflatten)),
        },
    )


def hessians(sizes: Sizes) -> Iterator[Trial]:
    return _derivatives(
        sizes,
        lambda unflatten: {
            "closed form": lambda theta, x, y: Samples(x, y).curvature(unflatten(theta), exact=True),
            "jax.jacfwd(jax.grad)": jax.jacfwd(jax.grad(_loss(unflatten))),
            "jax.hessian": jax.hessian(_loss(unflatten)),
        },
    )


def _solves(sizes: Sizes, solvers: dict[str, Callable]) -> Iterator[Trial]:
    for shape in sizes.solved:
        students, x, y = _problem(shape, sizes)
        start = student(students, 0)
        judge = lambda done: {"loss": float(done.loss)}
        steps = lambda done: max(1, int(done.n_steps))
        variants = {
            name: Variant(partial(jax.jit(solve), start, x, y), judge, steps) for name, solve in solvers.items()
        }
        yield Trial(_words(shape, sizes), variants)


def second_order_steps(sizes: Sizes) -> Iterator[Trial]:
    stop = Stopping(max_steps=sizes.n_steps)
    stage = lambda kind: lambda start, x, y: kind(stop)(start, Samples(x, y))
    return _solves(sizes, {kind.__name__: stage(kind) for kind in (LevenbergMarquardt, Newton, Orthogonal)})


def parts_of_a_step(sizes: Sizes) -> Iterator[Trial]:
    """What a step of Levenberg-Marquardt is made of, each part beside the rate of large matrix products."""
    d_in, width, _ = sizes.large
    large = replace(sizes, n_samples=sizes.n_large)
    students, x, y = _problem(sizes.large, large)
    start = student(students, 0)
    theta, unflatten = flatten(start)
    n_parameters, n_columns = start.n_parameters, width * (d_in + 1) + width + 1
    gram, factor = 2 * len(x) * n_columns**2, n_parameters**3 / 3  # operations
    solve, samples = LevenbergMarquardt(Stopping(max_steps=sizes.n_steps)), Samples(x, y)
    gauss_newton = lambda net, samples: samples.curvature(net, exact=False)
    damped = gauss_newton(start, samples) + jnp.eye(n_parameters)
    calls = {
        "whole step": (lambda start: solve(start, samples), (start,), gram + factor),
        "gram matrix": (gauss_newton, (start, samples), gram),
        "cholesky": (lambda matrix: jax.scipy.linalg.cho_factor(matrix)[0], (damped,), factor),
        "acceleration": (lambda theta, step: samples.bend(unflatten(theta), step), (theta, theta), 0),
        "gradient": (lambda theta: flatten(samples.gradient(unflatten(theta)))[0], (theta,), 0),
    }
    peak = 1e9 * matmul_peak(x.dtype, sizes=(sizes.side,))
    variants = {}
    for name, (fn, arguments, operations) in calls.items():
        steps = (lambda done: max(1, int(done.n_steps))) if name == "whole step" else lambda _: 1
        judge = lambda _, floor=operations / peak: {"floor_ms": 1e3 * floor}
        variants[name] = Variant(partial(jax.jit(fn), *arguments), judge, steps)
    yield Trial(f"{_words(sizes.large, large)}, {peak / 1e9:.0f} GFlop/s", variants)


def flow_steps(sizes: Sizes) -> Iterator[Trial]:
    solver = lambda name: lambda start, x, y: Flow(solver=name, max_steps=sizes.n_steps)(start, Samples(x, y))
    return _solves(sizes, {name: solver(name) for name in ("kvaerno5", "kvaerno3", "tsit5")})


def ensembles(sizes: Sizes) -> Iterator[Trial]:
    shape = sizes.solved[0]
    students, x, y = _problem(shape, sizes)
    refining = Stopping(max_steps=5 * sizes.n_steps)
    configs = {
        way: ec.ExpandConfig(method="levenberg_marquardt", descent=refining, placement=way) for way in ("map", "vmap")
    }
    judge = lambda done: {"best": float(done.loss.min()), "median": float(jnp.median(done.loss))}
    variants = {
        way: Variant(partial(expand, students, Samples(x, y), config=config), judge) for way, config in configs.items()
    }
    yield Trial(f"{sizes.n_students} students {_words(shape, sizes)}, {refining.max_steps} steps", variants)


# --- phase 2 -------------------------------------------------------------------------------------------------------

_INPUTS = 17  # coordinates of a planted neuron, bias included


def _planted(sizes: Sizes):
    """Planted neurons, half of them copies and half of them dust, clustered."""
    neurons, student, truth = planted(
        n=sizes.n_vectors, dim=_INPUTS, noise=(1e-6, 1e-3), dust=0.5, rng=np.random.default_rng(0)
    )
    config = ec.ClusterConfig(metric="euclidean", linkage="matrix")
    clustering = ec.cluster.cluster_neurons(neurons, student, n_students=10, symmetry=SYMMETRIES["none"], config=config)
    return clustering, truth, f"{len(neurons)} vectors of {_INPUTS}"


def _largest_relative(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.max(np.abs(got - wanted) / wanted))


def distances(sizes: Sizes) -> Iterator[Trial]:
    clustering, _, words = _planted(sizes)
    points, wanted = clustering.points(), pdist(clustering.neurons)
    judge = lambda got: {"error": _largest_relative(got, wanted)}
    ways = {"tiles": lambda: condensed_distances(points), "scipy pdist": lambda: pdist(clustering.neurons)}
    yield Trial(words, {name: Variant(way, judge) for name, way in ways.items()})


def linkages(sizes: Sizes) -> Iterator[Trial]:
    clustering, _, words = _planted(sizes)
    condensed = condensed_distances(clustering.points())
    wanted = hierarchy.linkage(condensed, "average")[:, 2]
    judge = lambda linkage: {"error": _largest_relative(linkage[:, 2], wanted)}
    n = len(clustering.neurons)
    ways = {
        "scipy": lambda: hierarchy.linkage(condensed, "average"),
        "chain": lambda: dendrogram(n, [weighted_linkage(squareform(condensed), np.ones(n, int))]),
    }
    yield Trial(words, {name: Variant(way, judge) for name, way in ways.items()})


def cuts(sizes: Sizes) -> Iterator[Trial]:
    clustering, truth, words = _planted(sizes)
    judge = lambda cut: score(cut.label, cut.kept, truth)
    policies = ("agreement", "stability", "paper", "plateau")
    variants = {name: Variant(partial(ec.recut, clustering, policy=name), judge) for name in policies}
    yield Trial(words, variants)


# --- all of it -----------------------------------------------------------------------------------------------------

PHASES: dict[str, Callable[[Sizes], Iterator[Trial]]] = {
    "gradient": gradients,
    "hessian": hessians,
    "second-order step": second_order_steps,
    "parts of a step": parts_of_a_step,
    "flow step": flow_steps,
    "ensemble": ensembles,
    "distances": distances,
    "linkage": linkages,
    "cut": cuts,
}
HEADER = f"{'phase':19}{'variant':22}{'ms':>10}{'times':>7}{'first s':>9}  {'quality':42}size"


def run(phases: tuple[str, ...], sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Rows as they come."""
    for phase in phases:
        for trial in PHASES[phase](sizes):
            for row in measure(trial, sizes.rounds):
                yield {"phase": phase, **row}


def line(row: dict[str, Any]) -> str:
    quality = ", ".join(f"{k} {v:.1e}" if isinstance(v, float) else f"{k} {v}" for k, v in row["quality"].items())
    return (
        f"{row['phase']:19}{row['variant']:22}{1e3 * row['seconds']:10.3f}{row['times_slower']:7.2f}"
        f"{row['first_seconds']:9.2f}  {quality:42}{row['size']}"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=tuple(PHASES))
    parser.add_argument("--rounds", type=int, default=Sizes.rounds, help="timed runs of every variant")
    parser.add_argument("--samples", type=int, default=Sizes.n_samples, help="queries")
    parser.add_argument("--students", type=int, default=Sizes.n_students)
    parser.add_argument("--vectors", type=int, default=Sizes.n_vectors, help="planted neurons to cluster")
    parser.add_argument("--out", type=Path, default=Path("benchmark_phases.json"), help="JSON file")
    asked = parser.parse_args(arguments)
    sizes = Sizes(rounds=asked.rounds, n_samples=asked.samples, n_students=asked.students, n_vectors=asked.vectors)
    rows = []
    with jax.enable_x64(True):
        print(HEADER)
        for row in run(tuple(asked.phases), sizes):
            rows.append(row)
            print(line(row), flush=True)
            write_json(asked.out, {"about": versions(), "sizes": asdict(sizes), "rows": rows})


if __name__ == "__main__":
    main()

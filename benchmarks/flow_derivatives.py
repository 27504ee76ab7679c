"""Gradient and Hessian in closed form beside torch's, a flow beside SciPy's, a hundred students in a call, populations.

python -m benchmarks.flow_derivatives              # all of it; torch where it is installed
python -m benchmarks.flow_derivatives --only many --students 20

One thread each. Times are CPU seconds, the smallest of the repeats after one to compile or warm up: other work on the
machine can only add to them.
"""

# ruff: noqa: E402  (libraries read their number of threads when they are first imported)
import argparse
import os
import time
from collections.abc import Iterator

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when the libraries are first imported
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.integrate import solve_ivp

from ecjax.flow import Ode, Until, follow
from ecjax.network import random_network, random_students, respond
from ecjax.objective import Population, Samples, flatten

_PATIENCE = 10.0  # CPU seconds, beside which those of compiling and warming up are small
_MEMORY = 4e8  # bytes of one array of hidden states for all columns; torch keeps some ten of them
SHAPES = {(4, 16, 1): 1000, (16, 64, 1): 5000}


def smallest(work, repeats: int) -> float:
    """CPU seconds of the quickest of the repeats; once is enough of what takes longer than all of them may."""

    def timed():
        start = time.process_time()
        work()
        return time.process_time() - start

    first = timed()
    return first if first > _PATIENCE else min(timed() for _ in range(repeats))


def problem(shape, n):
    teacher = random_network(shape, "tanh", key=jr.key(0))
    x = jr.normal(jr.key(1), (n, shape[0]))
    return random_network(shape, "tanh", key=jr.key(2)), Samples(x, respond(teacher, x))


def ours(net, samples, repeats: int) -> dict[str, float]:
    hessian = jax.jit(lambda net: samples.curvature(net, exact=True))
    gradient = jax.jit(lambda net: flatten(samples.gradient(net))[0])
    return {
        "gradient": smallest(lambda: gradient(net).block_until_ready(), repeats),
        "hessian": smallest(lambda: hessian(net).block_until_ready(), repeats),
    }


def torchs(net, samples, repeats: int) -> Iterator[tuple[str, float]]:
    """CPU seconds of torch's own ways, on the same numbers; what they return is checked against ours."""
    import torch

    torch.set_num_threads(1)
    width, fan_in = net.layers[0].w.shape
    x, y = (torch.tensor(np.asarray(each)) for each in (samples.x, samples.y))
    theta = torch.tensor(np.asarray(flatten(net)[0]))
    cuts = np.cumsum([width * fan_in, width, width])

    def loss(theta):
        w, b, a, c = (
            theta[: cuts[0]].reshape(width, fan_in),
            theta[cuts[0] : cuts[1]],
            theta[cuts[1] : cuts[2]],
            theta[-1],
        )
        return ((torch.tanh(x @ w.T + b) @ a + c - y[:, 0]) ** 2).mean()

    def gradient():
        at = theta.clone().requires_grad_(True)
        return torch.autograd.grad(loss(at), at)[0]

    yield "gradient", smallest(gradient, repeats)
    # torch.func.hessian takes all columns at once, and they have to fit into the memory: in parts, where they do not.
    n_columns, size = len(theta), len(x) * width * 8
    chunk = None if n_columns * size < _MEMORY else max(1, int(_MEMORY / size))
    columns = lambda v: torch.func.jvp(torch.func.jacrev(loss), (theta,), (v,))[1]
    in_parts = torch.func.vmap(columns, chunk_size=chunk)
    ways = {
        "autograd.functional.hessian": lambda: torch.autograd.functional.hessian(loss, theta),
    }
    if chunk is None:
        ways["func.hessian"] = lambda: torch.func.hessian(loss)(theta)
    else:
        ways[f"func.hessian, {chunk} columns at a time"] = lambda: in_parts(torch.eye(n_columns, dtype=theta.dtype))
    for rows in (8, 64):
        by_rows = torch.func.jacrev(torch.func.grad(loss), chunk_size=rows)
        ways[f"jacrev, {rows} rows at a time"] = lambda by_rows=by_rows: by_rows(theta)
    exact = np.asarray(samples.curvature(net, exact=True))
    for name, way in ways.items():

        def checked(way=way, name=name):
            assert np.abs(way().detach().numpy() - exact).max() < 1e-9, name

        yield name, smallest(checked, max(2, repeats // 4))


def derivatives(repeats: int) -> None:
    """Milliseconds, and how many times longer torch takes."""
    for shape, n in SHAPES.items():
        net, samples = problem(shape, n)
        mine = ours(net, samples, repeats)
        name = "-".join(map(str, shape))
        print(f"{name}, {n} samples: gradient {1e3 * mine['gradient']:.3g} ms, hessian {1e3 * mine['hessian']:.3g} ms")
        try:
            for way, seconds in torchs(net, samples, repeats):
                times = seconds / mine["gradient" if way == "gradient" else "hessian"]
                print(f"  torch {way:42} {1e3 * seconds:9.3g} ms, {times:6.1f} times ours", flush=True)
        except ImportError:
            print("  torch is not installed: pip install torch")


def flows() -> None:
    """One student by our flow and by SciPy's, to the same time and tolerance; Hessians in closed form for all."""
    teacher = random_network((2, 8, 1), "tanh", key=jr.key(0))
    x = jr.normal(jr.key(1), (2000, 2))
    samples = Samples(x, respond(teacher, x))
    net = random_network((2, 8, 1), "tanh", key=jr.key(3))
    theta, unflatten = flatten(net)
    field = jax.jit(lambda theta: -flatten(samples.gradient(unflatten(theta)))[0])
    jacobian = jax.jit(lambda theta: -samples.curvature(unflatten(theta), exact=True))
    end, tolerance = 1e5, 1e-6
    sharp = follow(net, samples, until=Until(time=end), solver=Ode(solver="kencarp58", rtol=1e-10, atol=1e-13))
    print(f"one 2-8-1 tanh student, 2,000 samples, to time {end:g}, rtol {tolerance:g}, atol a thousandth of it")
    for solver in ("kvaerno5", "kencarp58", "kvaerno3"):
        run = lambda solver=solver: follow(
            net, samples, until=Until(time=end), solver=Ode(solver=solver, rtol=tolerance, atol=tolerance * 1e-3)
        )
        path = run()
        error = np.abs(path.theta[0, -1] - sharp.theta[0, -1]).max()
        seconds = smallest(run, 3)
        steps = int(path.n_steps[0])
        print(f"  {solver:10} {seconds:7.3f} s, {steps:5} steps of {1e3 * seconds / steps:.3f} ms, error {error:.1e}")
    for method in ("Radau", "BDF"):
        solve = lambda method=method: solve_ivp(
            lambda t, theta: np.asarray(field(jnp.asarray(theta))),
            (0.0, end),
            np.asarray(theta),
            method=method,
            jac=lambda t, theta: np.asarray(jacobian(jnp.asarray(theta))),
            rtol=tolerance,
            atol=tolerance * 1e-3,
        )
        done = solve()
        error = np.abs(done.y[:, -1] - sharp.theta[0, -1]).max()
        seconds = smallest(solve, 3)
        steps = len(done.t) - 1
        print(f"  {method:10} {seconds:7.3f} s, {steps:5} steps of {1e3 * seconds / steps:.3f} ms, error {error:.1e}")


def many(n_students: int) -> None:
    """Initial conditions to a gradient of 1e-12: in one call, one by one, and side by side in one program."""
    teacher = random_network((2, 8, 1), "tanh", key=jr.key(0))
    x = jr.normal(jr.key(1), (2000, 2))
    samples = Samples(x, respond(teacher, x))
    students = random_students(n_students, (2, 8, 1), "tanh", key=jr.key(3))
    until = Until(gradient_norm=1e-12, loss=0.0, norm=1e3)
    one = lambda i: jax.tree.map(lambda leaf: leaf[i], students)

    def timed(work):
        start, wall = time.process_time(), time.perf_counter()
        done = work()
        return done, time.process_time() - start, time.perf_counter() - wall

    follow(one(0), samples, until=Until(steps=3))  # compiles
    print(f"{n_students} students 2-8-1 (tanh), 2,000 samples, to a gradient of 1e-12", flush=True)
    path, seconds, wall = timed(lambda: follow(students, samples, until=until))
    arrived, away = (path.reasons().count(why) for why in ("the gradient vanished", "the limit of its norm"))
    exact, steps = np.count_nonzero(path.final_loss < 1e-14), path.n_steps
    print(f"  in one call {seconds:.1f} CPU s, {wall:.1f} s in all, {seconds / n_students:.3f} CPU s each", flush=True)
    print(
        f"  {arrived} arrived, {exact} of them at zero loss, and {away} ran to infinity; "
        f"{np.median(steps):.0f} steps (median; at most {steps.max()})",
        flush=True,
    )
    _, alone, _ = timed(lambda: [follow(one(i), samples, until=until) for i in range(n_students)])
    print(f"  one by one {alone:.1f} CPU s, {alone / n_students:.3f} CPU s each", flush=True)
    some = jax.tree.map(lambda leaf: leaf[:8], students)
    for size in (None, 8):
        work = lambda size=size: follow(some, samples, until=until, together=size)
        if size:
            work()  # compiles, for each size of a batch that is left
        _, seconds, _ = timed(work)
        name = f"{size} side by side" if size else "one after the other"
        print(f"  the first 8, {name}: {seconds:.1f} CPU s, {seconds / 8:.3f} CPU s each", flush=True)


def population(repeats: int) -> None:
    """The Hessian of the loss over all normally distributed inputs, by Hermite sums."""
    for fan_in in (4, 64):
        teacher, student = (random_network((fan_in, 8, 1), "tanh", key=jr.key(seed)) for seed in (0, 2))
        loss = Population(teacher, order=256)
        hessian = jax.jit(lambda net, loss=loss: loss.curvature(net, exact=True))
        seconds = smallest(lambda hessian=hessian, net=student: hessian(net).block_until_ready(), repeats)
        print(f"population, {fan_in}-8-1 tanh, {loss.order} terms: Hessian {1e3 * seconds:.2f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--students", type=int, default=100, help="initial conditions followed in one call")
    parts = {
        "derivatives": lambda: derivatives(options.repeats),
        "flows": flows,
        "many": lambda: many(options.students),
        "population": lambda: population(options.repeats),
    }
    parser.add_argument("--only", choices=parts, help="one of the four parts")
    options = parser.parse_args()
    with jax.enable_x64(True):
        for name, part in parts.items():
            if options.only in (None, name):
                part()


if __name__ == "__main__":
    main()

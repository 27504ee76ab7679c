"""Gradient and Hessian in closed form beside torch's, and a flow step beside SciPy's Radau and BDF.

python -m benchmarks.flow_derivatives              # all of it; torch where it is installed
python -m benchmarks.flow_derivatives --repeats 20

One thread each. Times are CPU seconds, the smallest of the repeats after one to compile or warm up: other work on the
machine can only add to them.
"""

# ruff: noqa: E402  (libraries read their number of threads when they are first imported)
import argparse
import os
import time

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
from ecjax.objective import Samples, flatten

SHAPES = {(4, 16, 1): 1000, (16, 64, 1): 5000}


def smallest(work, repeats: int) -> float:
    """CPU seconds of the quickest of the repeats."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


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


def torchs(net, samples, repeats: int) -> dict[str, float]:
    """torch's own ways, on the same numbers; what they return is checked against ours."""
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

    ways = {
        "gradient": gradient,
        "autograd.functional.hessian": lambda: torch.autograd.functional.hessian(loss, theta),
        "func.hessian": lambda: torch.func.hessian(loss)(theta),
        "chunked jacrev": lambda: torch.func.jacrev(torch.func.grad(loss), chunk_size=64)(theta),
    }
    exact = np.asarray(samples.curvature(net, exact=True))
    for name, way in list(ways.items())[1:]:
        assert np.abs(way().detach().numpy() - exact).max() < 1e-9, name
    slow = max(2, repeats // 4)
    return {name: smallest(way, repeats if name == "gradient" else slow) for name, way in ways.items()}


def derivatives(repeats: int) -> None:
    """Milliseconds, and how many times longer torch takes."""
    for shape, n in SHAPES.items():
        net, samples = problem(shape, n)
        mine = ours(net, samples, repeats)
        name = "-".join(map(str, shape))
        print(f"{name}, {n} samples: gradient {1e3 * mine['gradient']:.3g} ms, hessian {1e3 * mine['hessian']:.3g} ms")
        try:
            theirs = torchs(net, samples, repeats)
        except ImportError:
            print("  torch is not installed: pip install torch")
            continue
        for way, seconds in theirs.items():
            other = mine["gradient" if way == "gradient" else "hessian"]
            print(f"  torch {way:30} {1e3 * seconds:9.3g} ms, {seconds / other:6.1f} times ours")


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
    """Initial conditions in one call, and a few of them by themselves."""
    teacher = random_network((2, 8, 1), "tanh", key=jr.key(0))
    x = jr.normal(jr.key(1), (2000, 2))
    samples = Samples(x, respond(teacher, x))
    students = random_students(n_students, (2, 8, 1), "tanh", key=jr.key(3))
    until = Until(gradient_norm=1e-12, loss=0.0, steps=5000)
    one = lambda i: jax.tree.map(lambda leaf: leaf[i], students)
    follow(one(0), samples, until=Until(steps=3))
    start, wall = time.process_time(), time.perf_counter()
    path = follow(students, samples, until=until)
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    arrived = path.reasons().count("the gradient vanished")
    print(
        f"{n_students} students 2-8-1 to a gradient of 1e-12 or 5,000 steps: {seconds:.1f} CPU s, {wall:.1f} s in all, "
        f"{seconds / n_students:.2f} CPU s each; {arrived} arrived, {np.median(path.n_steps):.0f} steps (median)"
    )
    some = range(0, n_students, max(1, n_students // 10))
    start = time.process_time()
    steps = sum(int(follow(one(i), samples, until=until).n_steps[0]) for i in some)
    alone = time.process_time() - start
    within = seconds / path.n_steps.sum() * 1e3
    print(f"  one by one, {len(some)} of them: {1e3 * alone / steps:.3f} ms a step; in one call {within:.3f} ms a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--students", type=int, default=100, help="initial conditions followed in one call")
    arguments = parser.parse_args()
    with jax.enable_x64(True):
        derivatives(arguments.repeats)
        flows()
        many(arguments.students)


if __name__ == "__main__":
    main()

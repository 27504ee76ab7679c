"""Student-steps per second of the mini-batch expansion, beside the reference's formulation in PyTorch.

    python -m benchmarks.throughput [--rounds 8] [--threads 2] [--cases images toy deep] [--out FILE]

The reference keeps the students on the last axis of its weights and writes one einsum a layer, 'bi,ihn->bhn' for the
first and 'bin,ihn->bhn' for the others, trained by torch.optim.Adam. Both sides start from the same weights, use
activation g, and take turns within one run: a stretch of ours, a stretch of theirs, `--rounds` times. Theirs lives in a
process of its own, which sleeps while ours works, and takes steps on one ready batch; ours pays for its shuffles and
gathers. PyTorch is optional: pip install torch==2.13.0. Without it only ours is timed.

Ratios are theirs to ours: of median times, of best times, and of the least processor time. On a busy machine the first
two flatter us, because PyTorch's threads wait for each other in busy loops; there, `--threads 1` and the last one tell.

The floating-point rate counts matrix products only. Parts: the gradient of students with relu in place of g
("products": all matrix products, and memory traffic), what g adds to that, what Adam adds, and what shuffling and
the loop over chunks of students add. Each part is a difference of best times, so on a busy machine it may come out
negative.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import time
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from ecjax.expand.minibatch import Minibatch, chunk_size, summed_loss, train_step
from ecjax.network import ACTIVATIONS, random_students
from ecjax.network.moves import with_activation
from ecjax.objective import Samples

CASES = {
    "images": {"n_students": 10, "shape": (784, 512, 10), "batch": 512, "dtype": "float32", "n_batches": 10},
    "toy": {"n_students": 20, "shape": (16, 32, 1), "batch": 5000, "dtype": "float64", "n_batches": 1},
    "deep": {"n_students": 50, "shape": (784, 90, 90, 90, 10), "batch": 640, "dtype": "float32", "n_batches": 15},
}
WANTED = {"images": 1.5, "toy": 2.5, "deep": 2.0}
RATIOS = ("median", "best", "cpu")
HEADER = (
    f"{'case':8}{'ours ms':>9}{'torch ms':>10}{'ratio':>8}{'best':>8}{'cpu':>8}{'wanted':>8}"
    f"{'st-steps/s':>12}{'GFLOP/s':>9}{'peak':>7}{'share':>7}   parts, ms"
)


def run(description, cases, header, compare, row):
    """The command: compare the cases that are asked for, and show a row for each."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--cases", nargs="+", choices=cases, default=list(cases))
    parser.add_argument("--out", default=None, help="JSON file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])  # before JAX and PyTorch count cores
    results = {}
    print(header)
    for name in arguments.cases:
        results[name] = compare(cases[name], n_rounds=arguments.rounds)
        print(row(name, results[name]), flush=True)
    if arguments.out:
        about = {"jax": jax.__version__, "device": jax.devices()[0].device_kind, "threads": arguments.threads}
        with open(arguments.out, "w") as file:
            json.dump({"about": about, "results": results}, file, indent=1)


def main():
    run(__doc__, CASES, HEADER, compare, row)


def compare(case, *, n_rounds):
    """One case: both sides in turn, then the peak and the parts of ours."""
    with jax.enable_x64(case["dtype"] == "float64"):
        students, x, y = _problem(case)
        reference = _Reference(case, students, x, y) if find_spec("torch") else None
        ours, theirs = [], []
        epochs = 3 if case["n_batches"] > 1 else 20  # of one call
        n_steps = epochs * case["n_batches"]
        start = clocks()

        def turn(state):
            nonlocal start
            jax.block_until_ready(state)
            ours.append((clocks() - start) / n_steps)
            if reference:
                theirs.append(reference.step(max(1, round(1.0 / reference.warm))))
            start = clocks()

        config = Minibatch(batch=case["batch"], max_epochs=(n_rounds + 1) * epochs, epochs_per_call=epochs)
        config.train(students, Samples(x, y), key=jr.key(3), on_epochs=turn)
        result = {"case": case, "ours_ms": milliseconds(ours[1:])}  # the first call compiles
        if reference:
            result |= {"theirs_ms": milliseconds(theirs[1:]), "loss_differs_by": reference.loss_differs_by}
            result["ratio"] = {each: result["theirs_ms"][each] / result["ours_ms"][each] for each in RATIOS}
            reference.close()
        best, peak = result["ours_ms"]["best"] / 1e3, matmul_peak(case["dtype"])
        rate = flops(case) / best / 1e9
        result |= {"student_steps_per_s": 1e3 * case["n_students"] / result["ours_ms"]["median"]}
        result |= {"gflops": rate, "peak_gflops": peak, "of_peak": rate / peak}
        return result | {"parts_ms": step_parts(students, x[: case["batch"]], y[: case["batch"]], best)}


def clocks():
    """Seconds by the wall and by this process's work."""
    return np.array([time.perf_counter(), time.process_time()])


def _problem(case):
    dtype, n_samples = case["dtype"], case["batch"] * case["n_batches"]
    students = random_students(case["n_students"], case["shape"], "g", key=jr.key(0), dtype=dtype)
    x = jr.normal(jr.key(1), (n_samples, case["shape"][0]), dtype)
    return students, x, jr.normal(jr.key(2), (n_samples, case["shape"][-1]), dtype)


def flops(case):
    """Of the matrix products in a step: forward, by weights, and, but for the first layer, by inputs."""
    shape = case["shape"]
    sizes = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(shape)]
    return 2 * case["batch"] * case["n_students"] * (2 * sizes[0] + 3 * sum(sizes[1:]))


def matmul_peak(dtype, sizes=(512, 1024, 2048)):
    """GFLOP/s of square matrix products in this JAX, the best of several sizes and tries."""
    rates = []
    for n in sizes:
        a = jr.normal(jr.key(0), (n, n), dtype)
        rates.append(2 * n**3 / best_time(jax.jit(lambda a: a @ a), a, tries=5) / 1e9)
    return max(rates)


def step_parts(students, x, y, epoch_step):
    """Milliseconds of a step, part by part; they add up to `epoch_step`, the seconds of a step within an epoch."""
    n_chunks = len(students.layers[0].w) // (size := chunk_size(students, len(x)))
    students = jax.tree.map(lambda leaf: leaf[:size], students)
    gradient = jax.jit(jax.grad(summed_loss, has_aux=True))
    cheap = with_activation(students, lambda _: ACTIVATIONS["relu"])
    moments = optax.scale_by_adam().init(students)
    rate = jnp.full(len(students.layers[0].w), 1e-3, x.dtype)
    products = n_chunks * best_time(gradient, cheap, x, y)
    gradients = n_chunks * best_time(gradient, students, x, y)
    step = n_chunks * best_time(jax.jit(train_step), students, moments, x, y, rate)
    parts = {"products": products, "activation": gradients - products, "adam": step - gradients}
    return {name: 1e3 * seconds for name, seconds in (parts | {"shuffle": epoch_step - step}).items()}


def best_time(fn, *arguments, tries=12):
    jax.block_until_ready(fn(*arguments))
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        jax.block_until_ready(fn(*arguments))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def milliseconds(clocks):
    wall, cpu = 1e3 * np.array(clocks).T
    return {"median": float(np.median(wall)), "best": wall.min(), "worst": wall.max(), "cpu": cpu.min()}


def row(name, r):
    theirs = f"{r['theirs_ms']['median']:.1f}" if "ratio" in r else "-"
    ratios = "".join(f"{r['ratio'][each]:8.2f}" if "ratio" in r else f"{'-':>8}" for each in RATIOS)
    parts = "  ".join(f"{part} {ms:.1f}" for part, ms in r["parts_ms"].items())
    return (
        f"{name:8}{r['ours_ms']['median']:9.1f}{theirs:>10}{ratios}{WANTED[name]:8.1f}"
        f"{r['student_steps_per_s']:12.0f}{r['gflops']:9.0f}{r['peak_gflops']:7.0f}{r['of_peak']:7.0%}   {parts}"
    )


# --- the reference's formulation -----------------------------------------------------------------------------------


class _Reference:
    """The reference's training step in a process of its own, so that its idle threads cost ours nothing."""

    def __init__(self, case, students, x, y):
        weights = [(np.asarray(layer.w), np.asarray(layer.b)) for layer in students.layers]
        x, y = x[: case["batch"]], y[: case["batch"]]
        self._pipe, theirs = multiprocessing.Pipe()
        task = (theirs, weights, np.asarray(x), np.asarray(y))
        self._process = multiprocessing.get_context("spawn").Process(target=_serve_steps, args=task, daemon=True)
        self._process.start()
        loss = np.asarray(jax.jit(summed_loss)(students, x, y)[1])
        self.loss_differs_by = float(np.max(np.abs(self._pipe.recv() / loss - 1)))
        if self.loss_differs_by > 1e-4:
            raise RuntimeError(f"The two sides compute different losses: by {self.loss_differs_by:.1e}.")
        self.step(1)
        self.warm = self.step(2)[0]

    def step(self, n_steps):
        """Clocks for a step, measured over so many."""
        self._pipe.send(n_steps)
        clocks = self._pipe.recv()
        time.sleep(0.3)  # its threads keep spinning for a while
        return clocks

    def close(self):
        self._pipe.send(0)
        self._process.join(10)


def _serve_steps(pipe, weights, x, y):
    """Send the losses at the start, then, for every number received, the clocks of a step over so many."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, y = torch.tensor(x), torch.tensor(y)
    layers = [  # (fan_in, width, students) and (width, students)
        tuple(torch.tensor(np.ascontiguousarray(np.moveaxis(each, 0, -1))) for each in (np.swapaxes(w, 1, 2), b))
        for w, b in weights
    ]
    parameters = [parameter.requires_grad_() for layer in layers for parameter in layer]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)

    def losses():
        (w, b), *upper = layers
        h = torch.einsum("bi,ihn->bhn", x, w) + b
        for w, b in upper:
            h = torch.sigmoid(4 * h) + torch.nn.functional.softplus(h)
            h = torch.einsum("bin,ihn->bhn", h, w) + b
        return (h - y[:, :, None]).square().mean(dim=(0, 1))

    pipe.send(losses().detach().numpy())
    while n_steps := pipe.recv():
        start = clocks()
        for _ in range(n_steps):
            optimiser.zero_grad()
            losses().sum().backward()
            optimiser.step()
        pipe.send((clocks() - start) / n_steps)


if __name__ == "__main__":
    main()

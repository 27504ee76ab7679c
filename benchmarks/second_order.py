"""Products with the Jacobian, and whole steps by conjugate gradients, beside the same step in PyTorch.

    python -m benchmarks.second_order [--rounds 8] [--threads 2] [--cases images deep] [--out FILE]

A step of `ecjax.expand.Inexact`: the gradient, the Kronecker factors with their eigenvectors, and PRODUCTS products
v -> J^T J v, each preconditioned, in float32. The other side does the same with torch.func.jvp and torch.func.vjp, from
the same weights, in a process of its own; both take turns, `--rounds` times. Steps are compared before they are timed.
PyTorch is optional: pip install torch. Without it only ours is timed.

The floating-point rate of products counts their matrix products only: J v has one for a layer's weights and one for
its inputs, and so has J^T u; the first layer's inputs do not move. Ratios are theirs to ours: of median times, of best
ones, of the least processor time.
"""

import itertools
import multiprocessing
import os
import time
from importlib.util import find_spec
from unittest.mock import patch

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ecjax.expand import inexact
from ecjax.expand.conjugate import kronecker_factors, precondition, second_moment, spectrum
from ecjax.network import random_students, student
from ecjax.objective import Samples, flatten

from .throughput import RATIOS, best_time, clocks, matmul_peak, milliseconds, run

CASES = {
    "images": {"shape": (784, 192, 10), "n_samples": 20_000},
    "deep": {"shape": (64, 72, 48, 10), "n_samples": 20_000},
}
PRODUCTS, DAMPING = 60, 1e-3
HEADER = (
    f"{'case':8}{'ours ms':>9}{'torch ms':>10}{'ratio':>8}{'best':>8}{'cpu':>8}"
    f"{'products/s':>12}{'GFLOP/s':>9}{'peak':>7}{'share':>7}"
)


def main():
    run(__doc__, CASES, HEADER, compare, row)


def compare(case, *, n_rounds):
    """One case: both sides in turn, then our products alone beside the peak."""
    net, samples = _problem(case)
    ours, theirs, step = [], [], jax.jit(one_step)
    with patch.object(inexact, "_PAYS", -1.0):  # as many products on both sides, whether they pay or not
        found = np.asarray(jax.block_until_ready(step(net, samples)))
    reference = _Reference(net, samples, found) if find_spec("torch") else None
    for _ in range(n_rounds):
        start = clocks()
        jax.block_until_ready(step(net, samples))
        ours.append(clocks() - start)
        if reference:
            theirs.append(reference.step())
    result = {"case": case, "ours_ms": milliseconds(ours)}
    if reference:
        result |= {"theirs_ms": milliseconds(theirs), "differs_by": reference.differs_by}
        result["ratio"] = {each: result["theirs_ms"][each] / result["ours_ms"][each] for each in RATIOS}
        reference.close()
    seconds = best_time(jax.jit(many_products), net, samples) / PRODUCTS
    rate, peak = flops(case) / seconds / 1e9, matmul_peak("float32")
    return result | {"products_per_s": 1 / seconds, "gflops": rate, "peak_gflops": peak, "of_peak": rate / peak}


def _problem(case):
    shape, n = case["shape"], case["n_samples"]
    net = student(random_students(1, shape, "tanh", key=jr.key(0), dtype="float32"), 0)
    x = jr.normal(jr.key(1), (n, shape[0]), "float32")
    return net, Samples(x, jr.normal(jr.key(2), (n, shape[-1]), "float32"))


def one_step(net, samples):
    """(J^T J + damping)^-1 J^T r by PRODUCTS products."""
    factors = kronecker_factors(net, samples.x, spectrum(second_moment(samples.x)), jax.tree.map(jnp.ones_like, net))
    along, back = samples.products(net)
    theta, unflatten = flatten(net)
    preconditioner = lambda v: flatten(precondition(factors, jnp.asarray(DAMPING, theta.dtype), unflatten(v)))[0]
    product = lambda v: back(along(v)) + DAMPING * v
    gradient = back(samples.residuals(net))
    return inexact.conjugate_gradients(product, -gradient, preconditioner, most=PRODUCTS)


def many_products(net, samples):
    """PRODUCTS products with J^T J, one after another."""
    along, back = samples.products(net)
    return jax.lax.fori_loop(0, PRODUCTS, lambda _, v: back(along(v)), flatten(net)[0])


def flops(case):
    """Of the matrix products in a product with J and one with its transpose."""
    first, *others = (fan_in * fan_out for fan_in, fan_out in itertools.pairwise(case["shape"]))
    return 2 * case["n_samples"] * 2 * (first + 2 * sum(others))


def row(name, r):
    theirs = f"{r['theirs_ms']['median']:.0f}" if "ratio" in r else "-"
    ratios = "".join(f"{r['ratio'][each]:8.2f}" if "ratio" in r else f"{'-':>8}" for each in RATIOS)
    return (
        f"{name:8}{r['ours_ms']['median']:9.0f}{theirs:>10}{ratios}"
        f"{r['products_per_s']:12.1f}{r['gflops']:9.0f}{r['peak_gflops']:7.0f}{r['of_peak']:7.0%}"
    )


# --- the same step in PyTorch ---------------------------------------------------------------------------------------


class _Reference:
    """PyTorch's step in a process of its own, so that its idle threads cost ours nothing."""

    def __init__(self, net, samples, found):
        weights = [np.concatenate([layer.w, layer.b[:, None]], axis=1) for layer in net.layers]
        self._pipe, theirs = multiprocessing.Pipe()
        task = (theirs, weights, np.asarray(samples.x), np.asarray(samples.y))
        self._process = multiprocessing.get_context("spawn").Process(target=_serve_steps, args=task, daemon=True)
        self._process.start()
        _, unflatten = flatten(net)
        ours = [np.concatenate([layer.w, layer.b[:, None]], axis=1) for layer in unflatten(jnp.asarray(found)).layers]
        pairs = list(zip(ours, self._pipe.recv(), strict=True))
        self.differs_by = max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)
        if self.differs_by > 1e-2:  # sixty products in float32, summed in another order
            raise RuntimeError(f"The two sides take different steps: by {self.differs_by:.1e}.")
        self.step()

    def step(self):
        """Clocks for a step."""
        self._pipe.send(True)
        taken = self._pipe.recv()
        time.sleep(0.3)  # its threads keep spinning for a while
        return taken

    def close(self):
        self._pipe.send(False)
        self._process.join(10)


def _serve_steps(pipe, weights, x, y):
    """Send a step; then, whenever asked, the clocks of one."""
    import torch
    from torch.func import jvp, vjp

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, y, weights = torch.tensor(x), torch.tensor(y), tuple(map(torch.tensor, weights))
    fan_out, scale = y.shape[1], y.numel() ** -0.5
    with_bias = lambda h: torch.cat([h, torch.ones_like(h[:, :1])], dim=1)

    def residuals(*layers):
        h = x
        for w in layers[:-1]:
            h = torch.tanh(h @ w[:, :-1].T + w[:, -1])
        return (h @ layers[-1][:, :-1].T + layers[-1][:, -1] - y) * scale

    def factors():
        """Eigenvalues and eigenvectors over inputs, and over neurons, layer by layer."""
        inputs, h = [with_bias(x)], x
        for w in weights[:-1]:
            h = torch.tanh(h @ w[:, :-1].T + w[:, -1])
            inputs.append(with_bias(h))
        over_neurons = [(torch.full((fan_out,), 1 / fan_out), torch.eye(fan_out))]
        by_z = torch.eye(fan_out)[:, None].expand(fan_out, len(x), fan_out)
        for w, h in zip(reversed(weights[1:]), reversed(inputs[1:]), strict=True):
            by_z = (by_z @ w[:, :-1]) * (1 - h[:, :-1] ** 2)
            flat = by_z.reshape(-1, by_z.shape[-1])
            over_neurons.insert(0, tuple(torch.linalg.eigh(flat.T @ flat / len(flat))))
        over_inputs = [torch.linalg.eigh(h.T @ h / len(h)) for h in inputs]
        return list(zip(over_neurons, over_inputs, strict=True))

    def preconditioned(known, v):
        solve = lambda r, f, e, u, a: u @ ((u.T @ r @ a) / (f.clamp(min=0)[:, None] * e.clamp(min=0) + DAMPING)) @ a.T
        return [solve(r, f, e, u, a) for r, ((f, u), (e, a)) in zip(v, known, strict=True)]

    def transposed(residual):
        return vjp(residuals, *weights)[1](residual)

    dot = lambda a, b: sum((p * q).sum() for p, q in zip(a, b, strict=True))
    add = lambda a, c, b: [p + c * q for p, q in zip(a, b, strict=True)]

    def step():
        known = factors()
        step = [torch.zeros_like(w) for w in weights]
        residual = [-g for g in transposed(residuals(*weights))]
        direction = z = preconditioned(known, residual)
        rz = dot(residual, z)
        for _ in range(PRODUCTS):
            along = jvp(residuals, weights, tuple(direction))[1]
            product = add(transposed(along), DAMPING, direction)
            length = rz / dot(direction, product)
            step, residual = add(step, length, direction), add(residual, -length, product)
            z = preconditioned(known, residual)
            rz, before = dot(residual, z), rz
            direction = add(z, rz / before, direction)
        return step

    pipe.send([w.numpy() for w in step()])
    while pipe.recv():
        start = clocks()
        step()
        pipe.send(clocks() - start)


if __name__ == "__main__":
    main()

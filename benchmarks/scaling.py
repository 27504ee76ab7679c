"""How much faster students are trained on several devices of one CPU, and that the answer stays the same.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.scaling            # some minutes on 2 cores, best on a quiet machine
    OPENBLAS_NUM_THREADS=1 python -m benchmarks.scaling --students 8 --steps 20

Levenberg-Marquardt on the problem of `ecjax recover toy` (4-4-1, activation g, 1,000 queries), students of width 16, on
1, 2 and 8 virtual devices of one process, and on 2 processes that talk over the loopback interface. Each arrangement
runs in processes of its own, with one core a device as far as there are, compiles first, and then counts: the shortest
of `--rounds`. XLA's thread pools are of one size (NPROC=8), because that size decides how matrix products are rounded.

    equal    every student takes the same number of steps: what the arrangement itself costs
    real     every student goes on until it is done, so that devices wait for the slowest student of a call; "one" in a
             call, the default, or "all"

Efficiency is the time on 1 device over the time on n, divided by n, or by the number of cores if that is smaller: no
number of virtual devices is faster than the cores that they share.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ecjax as ec
from ecjax.expand import expand
from ecjax.network import random_students
from ecjax.runs import write_json

from .recovery import Problem, as_text, draw

ARRANGEMENTS = {"1 device": (1, 1), "2 devices": (2, 1), "8 devices": (8, 1), "2 processes": (1, 2)}
CASES = ("equal", "real, one", "real, all")
_CHILD = "--child"
_ROOT = Path(__file__).parent.parent


def train(n_students: int, n_steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of every case on the devices that this process and its peers have, and the losses."""
    teacher, x, key = draw(Problem(activation="g", d_in=4, width=4, student_width=16, seed=0))
    y = ec.respond(teacher, x)
    students = random_students(n_students, (4, 16, 1), "g", key=key)
    equal = ec.Stopping(max_steps=n_steps, target_loss=0.0, gradient_norm=0.0, patience=n_steps)
    settings = {
        "equal": ec.ExpandConfig(descent=equal),
        "real, one": ec.ExpandConfig(),
        "real, all": ec.ExpandConfig(chunk=n_students),
    }
    results = {}
    for case, config in settings.items():
        work = lambda config=config: jax.block_until_ready(expand(students, ec.Samples(x, y), config=config))
        work()  # compiles
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            done = work()
            seconds.append(time.perf_counter() - start)
        norms = [float(np.linalg.norm(leaf)) for leaf in jax.tree.leaves(done.students)]
        results[case] = {"seconds": min(seconds), "steps": int(done.n_steps.sum()), "norms": norms}
    return results


def measure(n_devices: int, n_processes: int, *arguments: int) -> dict[str, Any]:
    """`train` in processes of its own; what the first of them says."""
    flags = f"--xla_force_host_platform_device_count={n_devices} --xla_cpu_multi_thread_eigen=false"
    alike = {"JAX_PLATFORMS": "cpu", "NPROC": "8", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **alike, "XLA_FLAGS": flags}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "benchmarks.scaling", _CHILD, address, str(n_devices), str(n_processes)]
    start = partial(subprocess.Popen, env=environment, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    children = [start([*command, str(number), *map(str, arguments)]) for number in range(n_processes)]
    outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError(f"a process of {n_processes} with {n_devices} devices failed; see above")
    return json.loads(outputs[0].splitlines()[-1])


def _serve(address: str, *given: str) -> None:
    n_devices, n_processes, number, *arguments = map(int, given)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [cores[(number * n_devices + i) % len(cores)] for i in range(n_devices)])
    if n_processes > 1:
        jax.distributed.initialize(address, n_processes, number)
    with jax.enable_x64(True):
        print(json.dumps(train(*arguments)))


def table(results: dict[str, dict[str, Any]], n_cores: int) -> list[list[str]]:
    """A row for every arrangement: seconds and efficiency of each case, and how far its answers are from the first."""
    header = ["", *(each for case in CASES for each in (f"{case}: s", "efficiency")), "answers differ by"]
    rows = [header]
    first = results["1 device"]
    for name, result in results.items():
        n = min(n_cores, np.prod(ARRANGEMENTS[name]))
        row = [name]
        for case in CASES:
            seconds = result[case]["seconds"]
            row += [f"{seconds:.2f}", f"{first[case]['seconds'] / seconds / n:.0%}"]
        apart = max(np.max(np.abs(np.subtract(result[case]["norms"], first[case]["norms"]))) for case in CASES)
        rows.append([*row, f"{apart:.0e}"])
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100, help="of each student in the case of equal steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="JSON file")
    asked = parser.parse_args(arguments)
    n_cores, load = len(os.sched_getaffinity(0)), os.getloadavg()
    print(f"{n_cores} cores, load before {load[0]:.1f}, {asked.students} students", flush=True)
    results = {}
    for name, arrangement in ARRANGEMENTS.items():
        results[name] = measure(*arrangement, asked.students, asked.steps, asked.rounds)
        steps = results[name]["real, one"]["steps"]
        print(f"{name}: {results[name]['equal']['seconds']:.2f} s equal; {steps} steps real", flush=True)
    if asked.out:
        about = {"cores": n_cores, "load": load, "students": asked.students, "steps": asked.steps}
        write_json(asked.out, {"about": about, "results": results})
    print(as_text(table(results, n_cores)))


if __name__ == "__main__":
    if sys.argv[1:2] == [_CHILD]:
        _serve(*sys.argv[2:])
    else:
        main()

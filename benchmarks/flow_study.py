"""1,000 students of ten 4-4-1 teachers followed to their end, and the kinds of points they end in.

python -m benchmarks.flow_study --out runs/flow-study            # Ctrl-C loses ten students; the same command goes on
python -m benchmarks.flow_study --out runs/flow-study --students 20 --teachers 2

Runs `ecjax flow` for each teacher; its folders have the paths. Says the CPU seconds of what it did itself.
"""

import argparse
import json
import time
from pathlib import Path

from ecjax.cli import main as ecjax

_EXACT = 1e-14  # what a gradient of 1e-12 leaves of the loss where the Hessian has an eigenvalue of 1e-10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teachers", type=int, default=10)
    parser.add_argument("--students", type=int, default=100, help="of each teacher")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--activation", default="g")
    arguments = parser.parse_args()
    start, wall, followed = time.process_time(), time.perf_counter(), 0
    for seed in range(arguments.teachers):
        folder = arguments.out / f"teacher-{seed}"
        if (folder / "kinds.json").exists():
            continue
        options = ["--seed", str(seed), "--n-students", str(arguments.students), "--activation", arguments.activation]
        status = ecjax(["flow", *options, "--threads", str(arguments.threads), "--out", str(folder)])
        if status:
            raise SystemExit(status)
        followed += arguments.students
    if followed:
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
        print(f"{followed} students: {seconds:.0f} CPU s, {wall:.0f} s, {seconds / followed:.2f} CPU s each")
    by_kind: dict[str, list[tuple[int, float]]] = {}
    for seed in range(arguments.teachers):
        for kind in json.loads((arguments.out / f"teacher-{seed}" / "kinds.json").read_text())["kinds"]:
            name = "global minimum" if kind["kind"] == "minimum" and kind["loss"] < _EXACT else kind["kind"]
            by_kind.setdefault(name, []).append((len(kind["members"]), kind["loss"]))
    total = sum(n for ends in by_kind.values() for n, _ in ends)
    print("\n| students | | kind | different losses | loss |\n|---|---|---|---|---|")
    for name, ends in sorted(by_kind.items(), key=lambda item: -sum(n for n, _ in item[1])):
        n, losses = sum(n for n, _ in ends), [loss for _, loss in ends]
        print(f"| {n} | {n / total:.1%} | {name} | {len(ends)} | {min(losses):.1e} to {max(losses):.1e} |")


if __name__ == "__main__":
    main()

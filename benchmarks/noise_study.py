"""Which policy finds planted neurons, at which noise and how much dust? Writes the table of docs/cluster.md.

    python -m benchmarks.noise_study --draws 10 --write docs/cluster.md

N = 10 students hold every teacher neuron once or twice (drawn each time), about 1,000 vectors in all; copies are off by
`noise` times their norm (root mean square), dust has the same norm and random directions. gamma = 0.8, beta = pi / 24.
Counts are sums over the draws. A draw is perfect if every planted neuron is kept exactly once and nothing else is.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ecjax.cluster import ClusterConfig, cluster_neurons, recut
from ecjax.network import SYMMETRIES

from .cluster_planted import planted, score

NOISES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
DUSTS = (0.02, 0.25, 0.5, 0.7, 0.9)
POLICIES = ("paper", "stability", "agreement")
COUNTS = ("found", "missed", "false", "twice")
MARKS = ("<!-- noise study: begin -->", "<!-- noise study: end -->")


def study(dims, noises, dusts, draws, n):
    """One row a setting: sums over the draws for each policy."""
    rows = []
    for dim in dims:
        for dust in dusts:
            for noise in noises:
                tallies = {policy: dict.fromkeys(("perfect", *COUNTS), 0) for policy in POLICIES}
                n_planted = 0
                for draw in range(draws):
                    rng = np.random.default_rng([dim, round(100 * dust), round(-np.log10(noise)), draw])
                    neurons, student, truth = planted(n=n, dim=dim, noise=noise, dust=dust, rng=rng)
                    config = ClusterConfig(metric="euclidean")
                    found = cluster_neurons(neurons, student, n_students=10, symmetry=SYMMETRIES["none"], config=config)
                    for policy in POLICIES:
                        again = recut(found, policy=policy)
                        # The paper counts vectors in its filter too.
                        kept = again.median_angle <= config.beta if policy == "paper" else again.kept
                        one = score(again.label, kept, truth)
                        for name in COUNTS:
                            tallies[policy][name] += one[name]
                        tallies[policy]["perfect"] += one["found"] == one["planted"] and not one["false"] + one["twice"]
                    n_planted += one["planted"]
                rows.append({"dim": dim, "dust": dust, "noise": noise, "planted": n_planted, **tallies})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows, draws):
    """Markdown."""
    cell = lambda t: f"{t['perfect']}/{draws} · {t['found']} {t['missed']} {t['false']} {t['twice']}"
    lines = [
        f"Each cell: perfect draws of {draws} · planted neurons found, missed, false clusters, returned twice.",
        "",
        "| dim | dust | noise | planted | paper's cut | stability | agreement (default) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        head = f"| {row['dim']} | {row['dust']:.0%} | {row['noise']:.0e} | {row['planted']} | "
        lines.append(head + " | ".join(cell(row[policy]) for policy in POLICIES) + " |")
    asked = [row for row in rows if row["noise"] <= 1e-2 and row["dust"] <= 0.7]
    if asked:
        shares = [f"{p} {sum(row[p]['perfect'] for row in asked) / draws / len(asked):.1%}" for p in POLICIES]
        lines += ["", f"Perfect draws up to noise 1e-2 and 70% dust: {', '.join(shares)}."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--dims", type=int, nargs="+", default=[17, 785])
    parser.add_argument("--noises", type=float, nargs="+", default=NOISES)
    parser.add_argument("--dusts", type=float, nargs="+", default=DUSTS)
    parser.add_argument("--write", type=Path, help="Markdown file whose table between the marks is replaced")
    args = parser.parse_args()
    text = table(study(args.dims, args.noises, args.dusts, args.draws, args.n), args.draws)
    print(text)
    if args.write:
        page = args.write.read_text()
        begin, end = (page.index(mark) for mark in MARKS)
        args.write.write_text(f"{page[: begin + len(MARKS[0])]}\n{text}\n{page[end:]}")


if __name__ == "__main__":
    main()

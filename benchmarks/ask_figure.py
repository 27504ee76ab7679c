"""The figure of docs/asking.md: steps along a line far out, and the profile of one neuron.

python -m benchmarks.ask_figure docs/asking.png
"""

import argparse
from pathlib import Path

import jax
import jax.random as jr
import matplotlib
import numpy as np

import ecjax as ec
from ecjax.probe import LINE, Reach, fit_profile, sweep
from ecjax.probe.curves import values

INK, PALE = "#20639b", "#9aa5b1"


def answers_of(net):
    (w, b), (a, c) = ((np.asarray(each.w), np.asarray(each.b)) for each in net.layers)
    return lambda x: values(net.activations[0], x @ w.T + b) @ a.T + c


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/asking.png"))
    out = parser.parse_args().out
    jax.config.update("jax_enable_x64", True)
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), constrained_layout=True)
    ask, far = answers_of(ec.synthetic_teacher(2, 8, 1, "tanh", key=jr.key(0))), 1e4
    rng = np.random.default_rng(0)
    reach = Reach.of(ask, np.eye(2), 1.0)
    found = sweep(reach, "steps", distance=far, precision=np.finfo(float).eps, rng=rng)
    along = found[0].line
    nearest = found[0].place - (found[0].place @ along) * along
    angle = np.linspace(-1.5, 1.5, 4001)
    left.plot(angle, ask(nearest + far * np.tan(angle)[:, None] * along), color=INK)
    for crossing in found:
        left.axvline(np.arctan((crossing.place @ along) / far), color=PALE, lw=0.8, ls=":")
    left.set(xlabel="angle under which the origin sees the line", ylabel="answer", title="steps, far out")

    net = ec.synthetic_teacher(16, 8, 3, "gelu", key=jr.key(1))
    w, ask = np.asarray(net.layers[0].w), answers_of(net)
    dual = np.linalg.pinv(w)[:, 0]
    t = LINE[np.abs(LINE) <= 6]
    y = ask(t[:, None] * dual)
    fit = fit_profile(ec.ACTIVATIONS["gelu"], t, y)
    fine = np.linspace(t[0], t[-1], 400)
    curve = values(ec.ACTIVATIONS["gelu"], fit.alpha * fine + fit.beta)[:, None] * fit.a + fit.c
    right.plot(fine, curve, color=INK)
    right.plot(t, y, "o", color=PALE, ms=3.5, zorder=0)
    right.set(xlabel="place on the line", title=f"profile of one neuron: gelu, misfit {fit.misfit:.0e}")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()

"""The paper's full-size image experiments: mini-batch training for so many minutes, resumed by the next call.

    python -m benchmarks.paper_images --minutes 10 --out FOLDER [--case shallow deep] [--teacher-width 128]

    shallow   teacher 784-128-10, 10 students of width 512, gamma 0.5, beta pi/6
    deep      teacher 784-30-30-30-10, 50 students of widths 90-90-90, gamma 0.5, beta pi/3

Both: 60,000 images of MNIST (found where ECJAX_DATA says), activation g, float32 without TF32, batches of 640, at most
25,000 epochs. Each call trains for its share of the minutes from where the last one ended, clusters the first layer of
the students as they are then, once by the pre-activations and once by the weights as they stand, and writes
FOLDER/table.md and FOLDER/<case>/result.json. The floating-point rate counts matrix products only; the peak is that of
square products in the same JAX, of the same precision.

Nothing but ecjax's core packages is needed. `--smoke` runs tiny students on random images in seconds.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), shallow and deep networks on MNIST.
"""

import argparse
import dataclasses
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec
from ecjax.data.images import load_images
from ecjax.expand import Expansion, Minibatch
from ecjax.expand.minibatch_state import state_from_arrays, state_to_arrays
from ecjax.network import random_students
from ecjax.reconstruct.merge import merge
from ecjax.runs import as_json, read_arrays, read_json, write_arrays, write_json

N_COMPARED = 10_000  # images on which recovered and teacher neurons are compared
SAVE_EVERY = 60  # seconds
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One experiment; what decides its result, hence what a resumed one has to agree with."""

    teacher: tuple[int, ...]
    student: tuple[int, ...]
    n_students: int
    beta: float
    gamma: float
    training: Minibatch
    activation: str = "g"
    n_images: int = 60_000
    teacher_steps: int = 5000
    random_images: bool = False
    seed: int = 0


def cases(teacher_width: int = 128, *, smoke: bool = False) -> dict[str, Case]:
    """The experiments by name."""
    shallow = _case((teacher_width,), ec.RecoveryConfig.paper_shallow(4 * teacher_width))
    deep = _case((30, 30, 30), ec.RecoveryConfig.paper_deep())
    if smoke:
        tiny = {
            "n_images": 200,
            "teacher_steps": 20,
            "n_students": 4,
            "training": Minibatch(batch=40, max_epochs=6, epochs_per_call=2),
            "random_images": True,
        }
        shallow = dataclasses.replace(shallow, teacher=(3,), student=(6,), **tiny)
        deep = dataclasses.replace(deep, teacher=(3, 2), student=(6, 6), **tiny)
    return {"shallow": shallow, "deep": deep}


def _case(teacher: tuple[int, ...], config: ec.RecoveryConfig) -> Case:
    return Case(
        teacher=teacher,
        student=config.widths(len(teacher)),
        n_students=config.n_students,
        beta=config.cluster.beta,
        gamma=config.cluster.gamma,
        training=config.expand.minibatch,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of this call, all in all")
    parser.add_argument("--out", type=Path, required=True, help="folder, made if missing")
    parser.add_argument("--case", nargs="+", choices=["shallow", "deep", "both"], default=["both"])
    parser.add_argument(
        "--teacher-width", type=int, default=128, help="of the shallow teacher; students have four times"
    )
    parser.add_argument("--data", type=Path, default=None, help="folder of the data sets, if ECJAX_DATA is not set")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args(arguments)
    wanted = cases(asked.teacher_width, smoke=asked.smoke)
    names = list(wanted) if "both" in asked.case else list(dict.fromkeys(asked.case))
    end = time.monotonic() + 60 * asked.minutes
    for i, name in enumerate(names):
        share = (end - time.monotonic()) / (len(names) - i)  # what the case before left over is not lost
        run(name, wanted[name], asked.out / name, share, data=asked.data)
        results = [read_json(path) for path in sorted(asked.out.glob("*/result.json"))]
        (asked.out / "table.md").write_text(table(results), "utf-8")
    print((asked.out / "table.md").read_text("utf-8"))


def run(name: str, case: Case, folder: Path, seconds: float, *, data: Path | None = None) -> dict:
    """Train for so many seconds, clustering included, from where `folder` is; returns and writes the result."""
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "case.json").is_file() and read_json(folder / "case.json") != as_json(case):
        raise ValueError(f"`out`: {folder} is of other settings; name another folder.")
    write_json(folder / "case.json", case)
    x, labels = images(case, data)
    teacher = trained(case, x, labels, folder)
    with jax.default_matmul_precision("highest"):
        y = ec.respond(teacher, x)
    y = (y - y.mean(axis=0, keepdims=True)) / y.std(axis=0, keepdims=True)

    # Clustering takes a fifth of the time, and no more than two minutes of it.
    expansion, state, session = train(case, x, y, folder, until=start + seconds - min(120, seconds / 5))
    done = read_json(folder / "result.json") if (folder / "result.json").is_file() else {"sessions": []}
    sessions = [*done["sessions"], session] if session else done["sessions"]
    steps_per_s = sessions[-1]["student_steps_per_s"] if sessions else float("nan")
    rate = steps_per_s * flops(case, x.shape[1], y.shape[1]) / 1e9
    result = {
        "case": name,
        "settings": case,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "teacher_accuracy": read_json(folder / "teacher.json")["accuracy"],
        "epochs": int(state.epoch),
        "students_done": int(state.plateau.done.sum()),
        "loss_quantiles": dict(zip(map(str, QUANTILES), np.quantile(expansion.loss, QUANTILES), strict=True)),
        "sessions": sessions,
        "student_steps_per_s": steps_per_s,
        "gflops": rate,
        "peak_gflops": matmul_peak(),
        "clusters": {
            metric: first_layer(case, expansion, teacher, x, metric) for metric in ("preactivation", "euclidean")
        },
        "seconds": time.monotonic() - start,
    }
    write_json(folder / "result.json", result)
    return as_json(result)


def images(case: Case, data: Path | None):
    """The standardised images and their classes, or random ones."""
    if case.random_images:
        x = jr.normal(jr.key(1), (case.n_images, 784), jnp.float32)
        return x, np.arange(case.n_images) % 10
    return load_images("mnist", folder=data, n=case.n_images)


def trained(case: Case, x, labels, folder: Path) -> ec.Network:
    """The teacher, trained unless it is there."""
    path = folder / "teacher.safetensors"
    if not path.is_file():
        made = ec.trained_teacher(
            x, labels, case.teacher, case.activation, key=jr.key(case.seed), n_steps=case.teacher_steps
        )
        write_json(folder / "teacher.json", {"shape": made.network.shape, "accuracy": made.accuracy})
        ec.save_network(made.network, path)
        print(f"teacher {made.network.shape}: {made.accuracy:.1%} of held-out images", flush=True)
    return ec.load_network(path)


# --- training ------------------------------------------------------------------------------------------------------


class _TimeIsUp(Exception):
    """Leaves the training; the state is saved."""


def train(case: Case, x, y, folder: Path, *, until: float):
    """Students trained from where they were, until `until` by the clock or their end.

    Returns:
        The expansion, the state, and how fast this session went, or None if it was too short to tell.
    """
    path, activation = folder / "state.safetensors", ec.ACTIVATIONS[case.activation]
    shape = (x.shape[1], *case.student, y.shape[1])
    student_key, key = jr.split(jr.key(case.seed + 1))
    students = random_students(case.n_students, shape, activation, key=student_key, dtype=x.dtype)
    state = state_from_arrays(read_arrays(path), [activation] * len(case.student)) if path.is_file() else None
    watch, samples = _Watch(path, until), ec.Samples(x, y)
    try:
        _, state = case.training.train(students, samples, key=key, state=state, on_epochs=watch, progress=_say)
        watch.save(state)
    except _TimeIsUp:
        state = watch.state
    now = dataclasses.replace(case.training, max_epochs=int(state.epoch))  # nothing more to train: measure
    expansion, state = now.train(students, samples, key=key, state=state)
    return expansion, state, watch.session(max(1, len(x) // case.training.batch))


class _Watch:
    """Saves the state now and then, counts what is done in how many seconds, and ends the training in time."""

    def __init__(self, path: Path, until: float):
        self.path, self.until, self.state = path, until, None
        self.first = self.last = None  # (when, student-epochs) after the first call, which compiles, and the last
        self.saved_at, self.saving, self.longest = time.monotonic(), 0.0, 0.0

    def __call__(self, state):
        n_epochs = int(state.n_epochs.sum())  # waits for the device, so look at the clock after it
        now = time.monotonic()
        if self.last is not None:
            self.longest = max(self.longest, now - self.last[0])
        self.state, self.last = state, (now, n_epochs)
        self.first = self.first or self.last
        over = now + self.longest > self.until
        if over or now - self.saved_at > SAVE_EVERY:
            self.save(state)
        if over:
            raise _TimeIsUp

    def save(self, state):
        start = time.monotonic()
        write_arrays(self.path, state_to_arrays(state))
        self.saved_at = time.monotonic()
        self.saving += self.saved_at - start

    def session(self, n_batches: int) -> dict | None:
        """Student-steps per second between the first call and the last, saving left out."""
        if self.first is None or self.first == self.last:
            return None
        (start, before), (end, after) = self.first, self.last
        seconds = end - start
        return {"seconds": seconds, "student_steps_per_s": (after - before) * n_batches / seconds}


def _say(phase, done, total, **info):
    losses = np.asarray(info["losses"])
    best = np.nanmin(losses) if np.isfinite(losses).any() else float("nan")
    print(f"epoch {info['epoch']}: {done} of {total} students done, lowest loss {best:.2e}", flush=True)


def flops(case: Case, fan_in: int, fan_out: int) -> int:
    """Of the matrix products in a step of one student: forward, by weights, and, but for the first layer, by inputs."""
    sizes = [a * b for a, b in itertools.pairwise((fan_in, *case.student, fan_out))]
    return 2 * case.training.batch * (2 * sizes[0] + 3 * sum(sizes[1:]))


def matmul_peak() -> float:
    """GFLOP/s of square float32 products in the precision of the training, the best of a few."""
    best = 0.0
    for n in (1024,) if jax.default_backend() == "cpu" else (2048, 8192):
        a = jr.normal(jr.key(0), (n, n), jnp.float32)
        with jax.default_matmul_precision("highest"):
            product = jax.jit(lambda a: a @ a)
            product(a).block_until_ready()
            for _ in range(3):
                start = time.perf_counter()
                product(a).block_until_ready()
                best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e9)
    return best


# --- the first layer -----------------------------------------------------------------------------------------------


def first_layer(case: Case, expansion: Expansion, teacher: ec.Network, x, metric: str) -> dict:
    """Clusters of the students' first layer, and which neurons of the teacher they are."""
    start = time.monotonic()
    with jax.enable_x64(True):
        hidden, finite = expansion.students.layers[0], expansion.finite
        neurons = np.concatenate([hidden.w, np.asarray(hidden.b)[..., None]], axis=-1, dtype=float)[finite]
        clustering = ec.cluster.cluster_neurons(
            neurons.reshape(-1, neurons.shape[-1]),
            np.repeat(np.flatnonzero(finite), neurons.shape[1]),
            n_students=expansion.n_students,
            symmetry=expansion.students.activations[0].symmetry,
            moment=ec.cluster.second_moment(np.asarray(x)) if metric == "preactivation" else None,
            config=ec.ClusterConfig(gamma=case.gamma, beta=case.beta, metric=metric),
        )
        found = {"kept": clustering.width, "candidates": len(clustering.kept), "matched": 0, "excess": clustering.width}
        if clustering.width:
            activation = expansion.students.activations[0]
            rows = merge(clustering, np.asarray(expansion.loss), activation, clusters=clustering.kept_clusters).vectors
            first = teacher.layers[0]
            pair = [
                _with_one_output(*each, teacher.activations[0])
                for each in ((rows[:, :-1], rows[:, -1]), (first.w, first.b))
            ]
            (layer,) = ec.compare(*pair, np.asarray(x[:N_COMPARED])).layers
            matched = layer.partner >= 0
            found |= {
                "matched": int(matched.sum()),
                "excess": len(layer.excess),
                "cosine_mean": float(layer.cosine_in[matched].mean()) if matched.any() else None,
                "cosine_largest": float(layer.cosine_in[matched].max()) if matched.any() else None,
            }
    return found | {"teacher": case.teacher[0], "seconds": time.monotonic() - start}


def _with_one_output(w, b, activation) -> ec.Network:
    """A layer as a network, which is what can be compared; the output is the sum of the neurons."""
    w, b = (jnp.asarray(np.asarray(each, float)) for each in (w, b))
    return ec.Network((ec.Layer(w, b, activation), ec.Layer(jnp.ones((1, len(w))), jnp.zeros(1))))


# --- the table -----------------------------------------------------------------------------------------------------


def table(results: list[dict]) -> str:
    """All results as a table in markdown."""
    header = (
        *("case", "device", "student-steps/s", "GFLOP/s (of peak)", "epochs", "students done"),
        *("loss: best, median, worst", "metric", "clusters kept", "teacher neurons matched", "mean cosine distance"),
    )
    lines = [header, ["---"] * len(header)]
    for result in results:
        loss, rate, peak = result["loss_quantiles"], float(result["gflops"]), float(result["peak_gflops"])
        speed = float(result["student_steps_per_s"])
        for metric, found in result["clusters"].items():
            cosine = found.get("cosine_mean")
            lines.append(
                (
                    *(result["case"], result["device"]),
                    *((f"{speed:,.0f}", f"{rate:,.0f} ({rate / peak:.0%})") if np.isfinite(speed) else ("-", "-")),
                    f"{result['epochs']:,}",
                    f"{result['students_done']} of {result['settings']['n_students']}",
                    ", ".join(f"{float(loss[q]):.1e}" for q in ("0.0", "0.5", "1.0")),
                    *(metric, str(found["kept"]), f"{found['matched']} of {found['teacher']}"),
                    "-" if cosine is None else f"{cosine:.1e}",
                )
            )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()

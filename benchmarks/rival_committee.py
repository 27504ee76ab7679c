"""Recovery by asking beside a committee of students that asks where its members disagree.

    python -m benchmarks.rival_committee                            # 16-8-3 tanh, three teachers, minutes
    python -m benchmarks.rival_committee --shape 32 16 5 --activation leaky_relu --rounds 20

The rival is written from the description of committee disagreement sampling (Goldfeder, Roets, Guo, Wright, Lipson,
arXiv:2409.19138). Students of the teacher's architecture and activation, both given, begin at random. In each round all
of them are trained by Adam on all answers so far; then new questions, normal at first, are moved by Adam so that the
distances between the students' answers grow, and the teacher answers them. All in float32. What the description leaves
open (steps, rates and how they fall, the error that is minimised, the length of the last round) is in `Committee` and
was chosen for the rival's sake; its answer is the student with the lowest loss.

Ours is given neither width nor activation, and has the same answers in float32, and once more in float64. Errors are
the largest of any weight after alignment. CPU seconds are of one thread, compilation included. PyTorch is optional (pip
install torch): without it the rival's rows say so.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import ecjax as ec
from ecjax.network import Network

from .ask import asked

PRECISIONS = ("float32", "float64")  # of the answers, for ours


@dataclass(frozen=True, kw_only=True)
class Committee:
    """The rival's settings.

    Attributes:
        students: How many.
        rounds: Of training and asking; the first questions are normal.
        questions: Of one round.
        steps: Of Adam in a round, the last one being `last` times as long.
        batch: Questions in a step.
        rate: Of Adam at the beginning of a round; it falls along a cosine to `least`.
        moves: Steps that questions take.
        moving: Rate of those.
        power: Of the errors: 1 for absolute ones, 2 for squared ones.
    """

    students: int = 10
    rounds: int = 20
    questions: int = 1000
    steps: int = 2000
    last: int = 10
    batch: int = 256
    rate: float = 1e-2
    least: float = 1e-6
    moves: int = 100
    moving: float = 1e-2
    power: int = 2


@dataclass(frozen=True)
class Reached:
    """What a committee came to: its best student, the losses of all, lowest first, and what it took."""

    network: Network
    losses: tuple[float, ...]
    questions: int
    seconds: float


def committee(answers: Callable, like: Network, config: Committee, *, seed: int) -> Reached:
    """Train a committee on the answers to its own questions.

    Args:
        answers: The teacher: from an array [questions, fan_in] to [questions, fan_out], both float32 tensors.
        like: A network of the teacher's shape and activations; its weights are not looked at.
        config: Settings.
        seed: Decides the initial students, the questions and the batches.
    """
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    start = time.process_time()
    kinds = [type(each)() for each in ec.to_torch(like)[1::2]]
    weights = []
    for n_in, n_out in zip(like.shape, like.shape[1:], strict=False):
        bound = 1 / math.sqrt(n_in)  # as torch.nn.Linear begins
        for shape in ((config.students, n_in, n_out), (config.students, 1, n_out)):
            weights.append(torch.empty(shape).uniform_(-bound, bound).requires_grad_())

    def respond(x: torch.Tensor) -> torch.Tensor:
        """[students, questions, fan_out]."""
        x = x.expand(config.students, -1, -1)
        for i in range(0, len(weights), 2):
            x = torch.baddbmm(weights[i + 1], x, weights[i])
            x = kinds[i // 2](x) if i // 2 < len(kinds) else x
        return x

    loss = lambda x, y: ((respond(x) - y).abs() ** config.power).mean(dim=(1, 2))  # of each student

    def train(x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
        adam = torch.optim.Adam(weights, lr=config.rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, config.least)
        for _ in range(steps):
            some = torch.randint(len(x), (config.batch,))
            adam.zero_grad()
            loss(x[some], y[some]).sum().backward()
            adam.step()
            falling.step()

    def disagreeing() -> torch.Tensor:
        """Questions that were moved to where the students' answers are far from each other."""
        x = torch.randn(config.questions, like.shape[0], requires_grad=True)
        adam = torch.optim.Adam([x], lr=config.moving)
        for _ in range(config.moves):
            adam.zero_grad()
            each = respond(x).transpose(0, 1)  # [questions, students, fan_out]
            (-torch.cdist(each, each).mean(dim=(1, 2)).sum()).backward()
            adam.step()
        return x.detach()

    x = torch.randn(config.questions, like.shape[0])
    y = answers(x)
    for round_ in range(config.rounds):
        if round_ > 0:
            new = disagreeing()
            x, y = torch.cat([x, new]), torch.cat([y, answers(new)])
        train(x, y, config.steps * (config.last if round_ == config.rounds - 1 else 1))
    with torch.no_grad():
        losses = loss(x, y).numpy()
    best = int(np.argmin(losses))
    layers = [
        replace(layer, w=jnp.asarray(w[best].T.numpy(), float), b=jnp.asarray(b[best, 0].numpy(), float))
        for layer, w, b in zip(like.layers, *([each.detach() for each in weights[i::2]] for i in (0, 1)), strict=True)
    ]
    return Reached(Network(tuple(layers)), tuple(np.sort(losses).tolist()), len(x), time.process_time() - start)


def beside(net: Network, config: Committee, seed: int) -> list[str]:
    """The rows of one teacher, ours first."""
    name, rows = f"{'-'.join(map(str, net.shape))} {net.activations[0].name}, seed {seed}", []
    for precision in PRECISIONS:
        row = asked(net, seed, precision)
        rows.append(f"| {name} | ecjax, {precision} | {row.error:.1e} | {row.questions:,} | {row.seconds:.0f} |")
    if find_spec("torch") is None:
        return [*rows, f"| {name} | committee: PyTorch is not installed | - | - | - |"]
    import torch

    model = ec.to_torch(net).to(torch.float32)
    with torch.no_grad():
        exact = lambda x: model(x).detach()
    found = committee(exact, net, config, seed=seed)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1000, net.shape[0])))
    error = ec.compare(found.network, net, x).parameter_error
    return [*rows, f"| {name} | committee | {error:.1e} | {found.questions:,} | {found.seconds:.0f} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs=3, type=int, default=(16, 8, 3), metavar=("FAN_IN", "WIDTH", "FAN_OUT"))
    parser.add_argument("--activation", default="tanh", choices=tuple(ec.ACTIVATIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    for name in ("students", "rounds", "questions", "steps", "last", "moves", "power"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Committee, name))
    given = vars(parser.parse_args())
    (fan_in, width, fan_out), activation, seeds = (given.pop(name) for name in ("shape", "activation", "seeds"))
    jax.config.update("jax_enable_x64", True)
    print("| teacher | by | error | questions | CPU seconds |\n|---|---|---|---|---|")
    for seed in seeds:
        for row in beside(
            ec.synthetic_teacher(fan_in, width, fan_out, activation, key=jr.key(seed)), Committee(**given), seed
        ):
            print(row, flush=True)


if __name__ == "__main__":
    main()

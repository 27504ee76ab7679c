"""Several problems of one shape, their students trained side by side: what small ones leave idle, many fill."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.progress import Progress, Stopwatch, silent
from ..base.threads import one_blas_thread
from ..data import Data
from ..expand import expand_problems
from ..expand.store import Store
from ..network import Activations
from .choice import Choice
from .following import checked_activations, follow, fresh_students
from .recovery import Recovery
from .settings import RecoveryConfig


def recover_problems(
    x: Float[Array, "problems samples fan_in"],
    y: Float[Array, "problems samples fan_out"],
    *,
    activation: Activations,
    keys: Sequence[PRNGKeyArray],
    hidden_layers: int = 1,
    config: RecoveryConfig | None = None,
    allow_few_samples: bool = False,
    store: Store | None = None,
    progress: Progress = silent,
) -> list[Recovery]:
    """Recover several networks of one shape, as `recover` would one by one, their students trained side by side.

    What small problems leave idle of an accelerator, many of them fill. All else is done problem by problem, as is the
    expansion of later hidden layers.

    Args:
        x: Queries of each problem.
        y: Answers to them.
        activation: Of all the teachers' hidden neurons.
        keys: One for each problem. Not to be used again.
        hidden_layers: How many each teacher has.
        config: All settings; by default `RecoveryConfig.toy()`.
        allow_few_samples: Go on although there are fewer numbers in an y than parameters in a student.
        store: What is finished; students are counted through all problems: n_students * problem + student.
        progress: Called as the work advances; first for the students of all problems.

    Returns:
        A recovery for each problem. Its seconds of "expand" are an equal share of those that the batch took.

    Raises:
        ValueError: If arguments disagree or can't be used.
    """
    choice = Choice(config or RecoveryConfig.toy(), ())
    if not 0 < len(x) == len(y) == len(keys):
        raise ValueError(f"`x`, `y` and `keys` have one entry a problem; got {len(x)}, {len(y)} and {len(keys)}.")
    activations = checked_activations(activation, hidden_layers)
    problems = [Data.of(*problem) for problem in zip(x, y, strict=True)]
    begun = [
        fresh_students(data, activations, choice.config, key, allow_few=allow_few_samples)[1:]
        for data, key in zip(problems, keys, strict=True)
    ]
    if len({samples.x.shape for samples, _ in begun}) > 1:
        raise ValueError("`x` has inputs that never vary, not in all problems the same number: recover one by one.")
    samples, students = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    seconds = Stopwatch()
    with seconds.of("expand"):
        expansions = expand_problems(
            students, samples, config=choice.config.training(0), store=store, progress=progress
        )
        expansions = jax.block_until_ready(expansions)
    recoveries = []
    for expansion, data, key in zip(expansions, problems, keys, strict=True):
        with one_blas_thread():
            recovery = follow(
                data,
                activations,
                choice,
                key,
                allow_few=allow_few_samples,
                store=None,
                progress=progress,
                trained=expansion,
            )
        recovery.seconds["expand"] += seconds.seconds["expand"] / len(x)
        recoveries.append(recovery)
    return recoveries

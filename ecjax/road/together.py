"""Several problems of one shape, their students trained side by side: what small ones leave idle, many fill."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..base.progress import Progress, Stopwatch, silent
from ..data.checks import checked_activation, checked_samples
from ..expand import expand_problems
from ..network.activations import Activation, as_activation
from .road import Recovery, fresh_students, recover
from .settings import RecoveryConfig


def recover_problems(
    x: Float[Array, "problems samples fan_in"],
    y: Float[Array, "problems samples fan_out"],
    *,
    activation: Activation | str,
    keys: Sequence[PRNGKeyArray],
    hidden_layers: int = 1,
    config: RecoveryConfig | None = None,
    allow_few_samples: bool = False,
    store: Any = None,
    progress: Progress = silent,
) -> list[Recovery]:
    """Recover several networks of one shape, as `recover` would one by one, their students trained side by side.

    What small problems leave idle of an accelerator, many of them fill. All else is done problem by problem, as is the
    expansion of later hidden layers.

    Args:
        x: Queries of each problem.
        y: Answers to them.
        activation: Of all the teachers' hidden neurons.
        keys: One for each problem. Used up.
        hidden_layers: How many each teacher has.
        config: All settings; by default `RecoveryConfig.toy()`.
        allow_few_samples: Go on although there are fewer numbers in an y than parameters in a student.
        store: Finished students by number, counted through all problems: n_students * problem + student.
        progress: Called as the work advances; first for the students of all problems.

    Returns:
        A recovery for each problem. Its seconds of "expand" are an equal share of those that the batch took.

    Raises:
        ValueError: If arguments disagree or can't be used.
    """
    config = config or RecoveryConfig.toy()
    if not 0 < len(x) == len(y) == len(keys):
        raise ValueError(f"`x`, `y` and `keys` have one entry a problem; got {len(x)}, {len(y)} and {len(keys)}.")
    activation, widths = as_activation(activation), config.widths(hidden_layers)
    checked_activation(activation)
    begun = []
    for *problem, key in zip(x, y, keys, strict=True):
        checked = checked_samples(*problem, student_widths=widths, allow_few_samples=allow_few_samples)
        begun.append(fresh_students(*checked, activation, widths, config, key)[1:])
    if len({inputs.shape for inputs, *_ in begun}) > 1:
        raise ValueError("`x` has inputs that never vary, not in all problems the same number: recover one by one.")
    inputs, targets, students = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    seconds = Stopwatch()
    with seconds.of("expand"):
        expansions = expand_problems(students, inputs, targets, config=config.expand, store=store, progress=progress)
        expansions = jax.block_until_ready(expansions)
    recoveries = []
    for expansion, *problem, key in zip(expansions, x, y, keys, strict=True):
        recovery = recover(
            *problem,
            activation=activation,
            key=key,
            hidden_layers=hidden_layers,
            config=config,
            allow_few_samples=allow_few_samples,
            store=dict(enumerate(expansion.each())),
            progress=progress,
        )
        recovery.seconds["expand"] += seconds.seconds["expand"] / len(x)
        recoveries.append(recovery)
    return recoveries

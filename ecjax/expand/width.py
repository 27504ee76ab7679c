"""How wide students have to be: the first step of the paper, by short runs.

A few students of each width are trained for a few steps, width after width doubled, until they come down to a small
loss. Students twice as wide as that have room to spare, which is what makes all of them come down.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.progress import Progress, silent
from ..judge import Judge
from ..network import Activations, n_parameters, random_students
from ..objective import Samples
from .methods import ExpandConfig
from .training import expand

_NARROWEST = 4
_N_STUDENTS = 4
_STEPS = 100  # of a short run's second-order end; of first-order ones ten times as many


def sufficient_width(
    samples: Samples,
    activation: Activations,
    *,
    key: PRNGKeyArray,
    hidden_layers: int = 1,
    config: ExpandConfig | None = None,
    progress: Progress = silent,
) -> int:
    """The width of students that imitate these targets easily: twice the first that comes down in a short run.

    Args:
        samples: Queries as the students will see them, targets in units of their standard deviation.
        activation: Of the hidden neurons.
        key: For the students of the short runs. Not to be used again.
        hidden_layers: How many layers of that width a student has.
        config: How the students will be trained; the short runs take the same road, less far (stages of your own as
            they are).
        progress: Called after every width.

    Raises:
        ValueError: If the method has mini-batches, or no width comes down before students have more parameters than
            there are numbers to explain.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), "Expand": the width from which on students come to zero loss.
    """
    config = config or ExpandConfig()
    if config.trains_stacks:
        raise ValueError('`student_width` is "auto", which needs short runs, and this method has none: give a number.')
    short = replace(
        config,
        descent=replace(config.descent, max_steps=_STEPS),
        lbfgs=replace(config.lbfgs, max_steps=10 * _STEPS),
        adam=replace(config.adam, n_steps=min(config.adam.n_steps, 10 * _STEPS)),
        flow=replace(config.flow, max_steps=min(config.flow.max_steps, _STEPS)),
    )
    x, y, judge = samples.x, samples.y, Judge.of(samples)
    shape = lambda width: (x.shape[1], *[width] * hidden_layers, y.shape[1])
    width, tried = _NARROWEST, []
    while n_parameters(shape(2 * width)) <= y.size:
        students = random_students(_N_STUDENTS, shape(width), activation, key=key, dtype=x.dtype)
        losses = expand(students, samples, config=short).ranked_loss
        tried.append((width, float(np.median(losses))))
        progress("width", len(tried), len(tried), width=width, losses=losses.tolist())
        width *= 2
        if judge.is_wide_enough(tried[-1][1]):
            return width
    told = ", ".join(f"{width}: {loss:.0e}" for width, loss in tried) or "none tried"
    raise ValueError(
        f'`student_width` is "auto", and {y.size} numbers are too few for students of width {2 * width}; the loss by '
        f"width was {told}. Ask the teacher more, or give a width."
    )

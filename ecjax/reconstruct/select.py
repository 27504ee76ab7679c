"""Which of many candidate neurons explain the targets: nested choices by least squares, before anything is refined.

Clusters are many where students agree on more than the teacher's neurons. Taking away, again and again, the candidate
whose loss costs least orders them; the sizes worth refining begin where the fit stops being hopeless, and the smallest
that refines to machine precision is the teacher's.
"""

import numpy as np
from jaxtyping import Int

from ..judge import Judge
from ..objective import Inputs, Outputs
from .output import Neurons, fit_columns, linear_inputs, removal_costs, responses


def nested_choices(neurons: Neurons, x: Inputs, y: Outputs, judge: Judge) -> list[Int[np.ndarray, " chosen"]]:
    """Choices of candidates worth refining, smallest first, each a part of the next, the last one all of them.

    Sizes grow by one and then by a quarter: small networks are cheap to refine, and a few neurons too many are taken
    away again afterwards (`ecjax.reconstruct.eliminate`).

    Args:
        neurons: The candidates.
        x: Queries.
        y: What the chosen ones have to explain.
        judge: Says from which loss of a fit a refinement may recover.
    """
    phi, inputs, targets = responses(neurons, x), linear_inputs(x, neurons), np.asarray(y, float)
    unit = np.mean(np.var(targets, axis=0))
    chosen = np.arange(neurons.width)
    choices = [chosen]
    while len(chosen) > 1:
        chosen = np.delete(chosen, np.argmin(removal_costs(phi[:, chosen], inputs, targets)))
        if not judge.is_hopeful(fit_columns(phi[:, chosen], inputs, targets).loss / unit):
            break
        choices.append(chosen)
    choices.reverse()
    sizes, size = [], 0
    while size < len(choices) - 1:
        sizes.append(size)
        size += max(1, len(choices[size]) // 4) if len(sizes) > 2 else 1
    return [choices[size] for size in sizes] + choices[-1:]

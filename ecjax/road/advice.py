"""What is likely to be the cause where no exact network was found, and what to do about it, in words."""

import numpy as np
from jaxtyping import Float

from ..data import Data
from ..judge import Judge
from .trials import N_TRIED, Trial

# Rows of which so few hold so much of what is left that some answers are wrong rather than the network. Of networks
# that are wrong, the twentieth of the rows with the most of it held up to 0.8 (g for relu), of planted outliers 0.99.
_FEW, _MUCH = 0.05, 0.9

NOTHING_EXPLAINED = (
    "students explain no more of the answers than chance does: the rows of x and y are in another order, or x lacks "
    "what the answers depend on"
)
NOT_IMITATED = (
    "students stay far above rounding: wider ones (`student_width`), more hidden layers or another activation may be "
    "what is missing, if the answers are those of such a network at all"
)


def another_kind(better: Trial, loss: float, n_layers: int, data: Data) -> str:
    """That another kind of network imitates better than the one that was named.

    Args:
        better: What it reached.
        loss: What students of the named kind reached.
        n_layers: How many hidden layers were named.
        data: What was imitated.
    """
    depth = len(better.activations)
    said = f'activation="{better.activations[0].name}"' if depth == n_layers else f"hidden_layers={depth}"
    y = np.asarray(data.y)
    between = ""
    if data.answers.kind is None and y.shape[1] == 1 and (y >= 0).all() and (y <= 1).all():
        between = '; or, as all answers lie between 0 and 1, answers=ecjax.Answers(kind="probabilities")'
    return (
        f"another kind of network than named: in a short run of {N_TRIED} students, {better.name} reaches a loss of "
        f"{better.loss:.0e}, where yours reach {loss:.0e}. Say {said}{between}"
    )


def of_the_end(
    left: Float[np.ndarray, "samples fan_out"],
    is_exact: bool,
    reached: float,
    n_parameters: int,
    judge: Judge,
    data: Data,
) -> str:
    """What the end of a recovery suggests; empty if nothing.

    Args:
        left: What the network leaves of each answer.
        is_exact: Whether the network is.
        reached: Lowest loss of the students.
        n_parameters: Of one of them.
        judge: What counted as exact.
        data: What was imitated.
    """
    if not is_exact and judge.explains_nothing(reached, n_parameters):
        return NOTHING_EXPLAINED
    squares = np.sort(np.sum(left**2, axis=1))[::-1]
    few = int(_FEW * len(squares))
    among_errors = judge.is_noisy and judge.origin == "seen"
    if (among_errors or not is_exact) and not data.answers.outliers and squares[:few].sum() > _MUCH * squares.sum():
        return (
            f"{_FEW:.0%} of the rows hold {squares[:few].sum() / squares.sum():.0%} of what is left: if some answers "
            "are wrong altogether, say answers=ecjax.Answers(outliers=True)"
        )
    return NOT_IMITATED if not is_exact and judge.is_suspicious(reached) else ""

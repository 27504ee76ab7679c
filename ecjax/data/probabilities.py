"""Probabilities as answers: back to the logits, which a network makes; but for a shift that all classes have in common.

    several classes   log p, less its mean over the classes: softmax is blind to a common shift
    one column        log p - log (1 - p), the logit of a logistic output

An error e of a probability is one of e / p in its logarithm, so that errors of logits differ from row to row, and rows
count by the inverse of their variance. Rows whose smallest probability was rounded away, to 0 or nearly, say only that
it is small; they are set aside, as rows of infinite error.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

# Rows whose error is so many times the median one are set aside, as they say a hundredth of what others say; and those
# whose probabilities are known to a tenth only, of which the logarithm is not normally distributed.
_WORSE, _VAGUE = 10.0, 0.1
_MOST_CLASSES, _OF_EACH = 20, 10  # numbers of labels, and of the rows of each; whole answers are rare otherwise
_SUM = 1e-6  # by which rows of float64 probabilities miss 1 at most; of rounded ones, the rounding


class Logits(NamedTuple):
    """What probabilities say of the logits."""

    y: Float[np.ndarray, "rows fan_out"]  # of the rows that count
    counts: Bool[np.ndarray, " samples"]  # which rows these are
    error: Float[np.ndarray, " rows"]  # root mean square of the errors of each row of y


def look_like_probabilities(y: Float[np.ndarray, "samples fan_out"], rounding: float) -> bool:
    """Whether every row is a distribution over several classes.

    Args:
        y: Answers.
        rounding: Root mean square of their rounding error.
    """
    off = _SUM + 4 * rounding * np.sqrt(y.shape[1])
    return bool(y.shape[1] > 1 and (y >= 0).all() and (y <= 1).all() and np.abs(y.sum(axis=1) - 1).max() <= off)


def look_like_log_probabilities(y: Float[np.ndarray, "samples fan_out"], rounding: float) -> bool:
    """Whether every row is the logarithm of one; as `look_like_probabilities`."""
    return bool((y <= _SUM).all()) and look_like_probabilities(np.minimum(np.exp(np.minimum(y, 0)), 1), rounding)


def look_like_labels(y: Float[np.ndarray, "samples fan_out"]) -> bool:
    """Whether answers are classes: ones among zeros, or one of a few whole numbers for many rows each."""
    if np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        return True
    if y.shape[1] > 1 or (y != np.round(y)).any():
        return False
    _, counts = np.unique(y, return_counts=True)
    return bool(len(counts) <= _MOST_CLASSES and counts.mean() >= _OF_EACH)


def logits_of(
    p: Float[np.ndarray, "samples fan_out"], step: Float[np.ndarray, "samples fan_out"], *, of_logs: bool = False
) -> Logits:
    """The logits behind probabilities.

    Args:
        p: Probabilities, or their logarithms.
        step: Root mean square of the error of each.
        of_logs: Whether they are logarithms.

    Raises:
        ValueError: If these are no probabilities, or only classes.
    """
    if of_logs:
        if p.shape[1] < 2 or (p > 1e-6).any():
            raise ValueError("`answers.kind` log_probabilities are of several classes, each 0 or below.")
        logs, error = p, step
    elif (p < 0).any() or (p > 1).any():
        remedy = "percentages? Divide them by 100" if p.min() >= 0 else 'logits? Then say kind="logits"'
        raise ValueError(
            f"`answers.kind` probabilities are between 0 and 1; got {p.min():g} to {p.max():g}. Are these {remedy}."
        )
    elif np.isin(p, (0, 1)).all():
        raise ValueError(
            "`y` has hard labels, 0 and 1, alone: they say on which side of a border a query lies and nothing of the "
            "weights. Ask for probabilities or, better, logits."
        )
    else:
        if p.shape[1] > 1 and not look_like_probabilities(p, float(step.max())):
            raise ValueError("`answers.kind` probabilities of several classes add up to 1 in every row.")
        with np.errstate(divide="ignore"):
            logs = np.log(p) if p.shape[1] > 1 else np.log(p) - np.log1p(-p)
        odds = p if p.shape[1] > 1 else p * (1 - p)
        error = step / np.where(odds > 0, odds, np.inf)
        error = np.where(odds > 0, error, np.inf)
    worst = error.max(axis=1)
    seen = np.isfinite(logs).all(axis=1) & np.isfinite(worst)
    if not seen.any():
        raise ValueError(
            "`y` has no row without a probability of 0 or 1: rounded so, they say nothing. Ask for logits."
        )
    counts = seen & (worst <= min(_VAGUE, _WORSE * max(np.median(worst[seen]), np.finfo(float).tiny)))
    if not counts.any():
        raise ValueError("`y` has probabilities that are rounded to fewer digits than say anything. Ask for logits.")
    y = logs[counts]
    if p.shape[1] > 1:
        y = y - y.mean(axis=1, keepdims=True)
    return Logits(y, counts, np.sqrt(np.mean(error[counts] ** 2, axis=1)))

"""How hard a teacher is to identify, in numbers that need no student.

`ecjax.judge.ease` is the smallest eigenvalue of the teacher's Fisher information over the queries, J^T J / n with J the
derivatives of the answers by the weights: how much the answers change, at least, when the weights move by one in any
direction. The others are simpler numbers that might say as much.
"""

import numpy as np
from scipy.stats import rankdata

from ecjax import Network, Samples, respond
from ecjax.judge import ease

from ..rows import Table


def ease_numbers(teacher: Network, x) -> dict[str, float]:
    """The ease of a teacher with one output, and its rivals.

    Args:
        teacher: Whose weights are to be found.
        x: Queries.

    Returns:
        `ease`; `ease_scaled`, the same with every weight in units of its own influence (columns of J of norm 1), within
        0 ... 1;
        `n_parameters`; `closest_pair`, the smallest Euclidean distance of two neurons' (w, b).
    """
    j = np.asarray(
        Samples(x, respond(teacher, x)).jacobian(teacher), float
    )  # in units of one over the root of their number
    hidden = teacher.layers[0]
    vectors = np.concatenate([np.asarray(hidden.w, float), np.asarray(hidden.b, float)[:, None]], axis=1)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1) + np.where(np.eye(len(vectors)) > 0, np.inf, 0)
    return {
        "ease": ease(teacher, x),
        "ease_scaled": float(np.linalg.svd(j / np.linalg.norm(j, axis=0), compute_uv=False)[-1] ** 2),
        "n_parameters": teacher.n_parameters,
        "closest_pair": float(apart.min()),
    }


# --- what they foretell --------------------------------------------------------------------------------------------

NUMBERS = ("ease", "ease_scaled", "n_parameters", "closest_pair")


def ease_table(frame) -> Table:
    """How well each number foretells, by method and expansion, students at zero loss and recovered teachers.

    Rank correlations are Spearman's. The area is the probability that of a recovered teacher and one that is not the
    recovered one has the larger number: 1/2 for a number that says nothing, below where small numbers are the easy
    ones. Empty where all teachers of a row have the same fate.
    """
    header = ["method", "expansion", "number", "trials", "rank correlation with students at zero loss"]
    table = [[*header, "with recovery", "area under the curve"]]
    for (method, expansion), same in frame.groupby(["method", "expansion"]):
        recovered = same.recovered.to_numpy(bool)
        for name in NUMBERS:
            values = same[name].to_numpy(float)
            told = (
                _rank_correlation(values, same.at_zero_loss.to_numpy(float)),
                _rank_correlation(values, recovered.astype(float)),
                _area(values, recovered),
            )
            table.append([method, str(expansion), name, str(len(same)), *(_cell(each) for each in told)])
    return table


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    known = np.isfinite(one) & np.isfinite(other)
    one, other = rankdata(one[known]), rankdata(other[known])
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _area(values: np.ndarray, recovered: np.ndarray) -> float:
    n, m = recovered.sum(), (~recovered).sum()
    if not n or not m:
        return float("nan")
    return float((rankdata(values)[recovered].sum() - n * (n + 1) / 2) / (n * m))

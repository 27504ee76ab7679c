"""Bounds of the smallest and the largest eigenvalue of a matrix that is never written down.

Lanczos' method gives Ritz values, which lie inside the spectrum: a smallest one of them alone is too good. With a
random start there is a bound from outside, too. After k products the next Lanczos vector is p_k(A) v, v the start and
p_k the polynomial whose zeros are the Ritz values, and has length 1. With g the part of v along the eigenvector of the
smallest eigenvalue l, therefore |g p_k(l)| <= 1. In n dimensions a random unit vector has |g| < t with a probability of
at most t sqrt(2 n / pi). So |p_k(l)| <= 1 / t unless that has happened, and as |p_k| grows on the outside of its zeros,
l is above the point where it reaches 1 / t. No gap in the spectrum is supposed.

Source: van Dorsselaer, Hochstenbach, van der Vorst, SIAM J. Matrix Anal. Appl. 22 (2000), 837: Lanczos polynomials.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " n"]

_FAILURE = 1e-6  # probability, over the start, that a bound does not hold
_MOST = 2500  # products
_EVERY = 25  # of these a bound is asked for
_GOOD = 0.03  # of the smallest Ritz value, from which no further products are spent on the bound
_ROUNDINGS = 1e3  # of the largest eigenvalue, by which products with full orthogonalisation may err
_HALVINGS = 60


class Extremes(NamedTuple):
    """Where a spectrum lies.

    Attributes:
        low: Below the smallest eigenvalue.
        inside: The smallest Ritz value, above it.
        high: Above the largest one.
    """

    low: float
    inside: float
    high: float


def extremes(product: Callable[[Vector], Vector], start: Vector, n: int, *, most: int = _MOST) -> Extremes:
    """Bounds of the spectrum of a symmetric positive semidefinite matrix, within a subspace.

    Args:
        product: Multiplies by the matrix; what is in the subspace stays there.
        start: A normal random vector, projected on the subspace.
        n: How many dimensions the subspace has.
        most: Products at most. The bounds hold after any number of them; below zero, the lower one says nothing.
    """
    vectors = np.empty((_EVERY, len(start)))
    vectors[0] = start / np.linalg.norm(start)
    diagonal, beside = [], []
    reached = math.log(math.sqrt(2 * n / math.pi) / _FAILURE)
    found = Extremes(-math.inf, math.inf, math.inf)
    for k in range(1, min(most, n) + 1):
        here = vectors[k - 1]
        v = product(here)
        diagonal.append(float(v @ here))
        v = v - diagonal[-1] * here - (beside[-1] * vectors[k - 2] if beside else 0)
        v = v - vectors[:k].T @ (vectors[:k] @ v)  # what rounding has left of all others
        beside.append(float(np.linalg.norm(v)))
        is_whole = k == n or beside[-1] <= _ROUNDINGS * float(np.finfo(float).eps) * max(diagonal)
        if k % _EVERY == 0 or k == min(most, n) or is_whole:
            found = _bounds(np.array(diagonal), np.array(beside), reached, is_whole=is_whole)
        if is_whole or k == most or found.low >= _GOOD * found.inside > 0:
            break
        if k == len(vectors):
            vectors = np.concatenate([vectors, np.empty_like(vectors)])
        vectors[k] = v / beside[-1]
    return found


def _bounds(diagonal: np.ndarray, beside: np.ndarray, reached: float, *, is_whole: bool) -> Extremes:
    """From the Lanczos matrix, and the logarithm that its polynomial may reach."""
    ritz = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    rounding = _ROUNDINGS * np.finfo(float).eps * float(ritz[-1])
    first, last = float(ritz[0]), float(ritz[-1])
    if is_whole:  # the subspace of the start is invariant: with probability 1 it has every eigenvalue
        return Extremes(first - rounding, first, last + rounding)
    ends = []
    for inner, away in ((first, -1.0), (last, 1.0)):
        near, far = 0.0, last - first + abs(last)
        while _log_polynomial(inner + away * far, diagonal, beside) < reached:
            far *= 2
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            is_beyond = _log_polynomial(inner + away * middle, diagonal, beside) >= reached
            near, far = (near, middle) if is_beyond else (middle, far)
        ends.append(inner + away * far)
    return Extremes(ends[0] - rounding, first, ends[1] + rounding)


def _log_polynomial(at: float, diagonal: np.ndarray, beside: np.ndarray) -> float:
    """log |p_k|, by the recurrence of the Lanczos vectors."""
    before, here, size = 0.0, 1.0, 0.0
    for i in range(len(diagonal)):
        last = beside[i - 1] if i else 0.0
        before, here = here, ((at - diagonal[i]) * here - last * before) / beside[i]
        unit = max(abs(before), abs(here))
        before, here, size = before / unit, here / unit, size + math.log(unit)
    return size + math.log(max(abs(here), np.finfo(float).tiny))

"""Scales and biases of neurons that are heard only through other layers.

Where all other neurons have come to rest, the answers along a line are G(s(alpha t + beta)) with some smooth G: every
layer above. A polynomial of low degree in its place gives the scale to 1e-4, and the shift to a few hundredths: a shift
is a smooth change of s, which another G would undo.

All neurons together leave no such freedom. In pre-activations, the gradient of an answer is s'(z) times the gradient by
hidden states, which lies in the row space of the next layer. Divided by s'(z), gradients at many questions span no more
dimensions than that layer has neurons; divided by the wrong slopes, they span them all. With X(alpha, beta) the matrix
of all divided gradients, each row of norm 1, and r the number of dimensions,

    alpha, beta = argmin  sum_{k > r} sigma_k(X)^2,

a least squares problem whose residual X - X_r moves, to first order, by P dX Q with the projections P and Q away from
the first r singular vectors: a row of dX belongs to one neuron, so that its normal equations are a product of entries.

That search may end with a few neurons astray: the row of each spans a dimension of its own then, and the rank is too
high by their number. Such a row is seen by its leverage, which is 1, and its neuron is sought again, by itself, within
the span of all others.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from ..network import Activation
from .curves import bends, slope_values, values

DEGREES = (3, 5, 7)  # of the polynomial: the lower, the surer; strongly bent layers above need more
_COMPONENTS = 4  # of the answers along a line, at most
_NOTHING = 1e-8  # a component beside the largest
_SCALES = (0.5, 2.0, 8.0)  # first guesses, in units of one over the inputs' scale
_STEPS = 60  # of Levenberg-Marquardt; from 1e-2 five are enough
_LONGEST = (0.1, 0.3)  # steps: of a scale, in its own unit, and of a bias
_DAMPING = (1e-3, 10.0, 4.0, 1e6)  # first, divided by after success, multiplied by after failure, last
_SETTLED = 1e-4  # share of the residual that a step takes away, below which it is the last
_STRIDE = 1 / 16  # of the ranks that are tried, in units of the number of neurons
_CONDITIONS = 2.0  # for each scale and bias
_SURE = (1e-2, 0.1)  # about how well scales, in their own units, and biases are known to begin with
# Drop of the singular values at a rank that is tried, and at one that is true: there 1e4 and more where all is well.
_HINT, _DROP = 4.0, 30.0
# Leverage that only a row with a dimension of its own has. That of others is about rank / width.
_ALONE = 1 - 1e-6
_SHIFTS = np.linspace(-2.0, 2.0, 17)  # biases, beside the first guess, from which a neuron astray is sought


class Behind(NamedTuple):
    """The profile of a neuron behind other layers.

    Attributes:
        alpha: Scale.
        beta: Pre-activation at 0.
        misfit: Of the best polynomial, as in `Profile`.
    """

    alpha: float
    beta: float
    misfit: float


def profile_behind(
    activation: Activation,
    t: Float[np.ndarray, " line"],
    y: Float[np.ndarray, "line fan_out"],
    scale: float,
    degree: int = DEGREES[0],
) -> Behind:
    """The best G(s(alpha t + beta)), G a polynomial.

    Args:
        activation: s.
        t: Places on the line.
        y: Answers there, all other neurons at rest.
        scale: Of the inputs.
        degree: Of G.
    """
    y = y - y.mean(axis=0)
    left, singular, _ = np.linalg.svd(y, full_matrices=False)
    n = min(_COMPONENTS, max(1, int(np.sum(singular > _NOTHING * singular[0]))))
    signal = left[:, :n] * (singular[:n] / (singular[0] or 1.0))

    def residuals(theta):
        powers = np.nan_to_num(values(activation, theta[0] * t + theta[1]))[:, None] ** np.arange(degree + 1)
        return (powers @ np.linalg.lstsq(powers, signal, rcond=None)[0] - signal).ravel()

    fits = [least_squares(residuals, [guess / scale, 0.0], method="lm") for guess in _SCALES]
    best = min(fits, key=lambda fit: fit.cost)
    alpha, beta = best.x
    misfit = np.sqrt(2 * best.cost) / (np.linalg.norm(signal) or 1.0)
    sign = -1.0 if alpha < 0 else 1.0  # of a neuron behind others it can not be told from that of its outgoing weights
    return Behind(float(sign * alpha), float(sign * beta), float(misfit))


class Slopes(NamedTuple):
    """Scales and biases by the rank condition.

    Attributes:
        alpha: Scales.
        beta: Biases.
        basis: Orthonormal, of the row space of the next layer.
        singular: Singular values of the divided gradients, in units of the largest.
    """

    alpha: Float[np.ndarray, " width"]
    beta: Float[np.ndarray, " width"]
    basis: Float[np.ndarray, "rank width"]
    singular: Float[np.ndarray, " width"]


def by_rank(
    activation: Activation,
    t: Float[np.ndarray, "points width"],
    gradients: Float[np.ndarray, "points width fan_out"],
    alpha: Float[np.ndarray, " width"],
    beta: Float[np.ndarray, " width"],
) -> Slopes | None:
    """Scales and biases with which divided gradients have the lowest rank, or None if none is found for all neurons.

    Args:
        activation: s.
        t: Places of the questions: pre-activations are alpha t + beta.
        gradients: Of the answers by t.
        alpha: Scales, nearly right.
        beta: Biases, nearly right.
    """
    problem = _Divided(activation, t.T, np.moveaxis(gradients, 1, 0), alpha, beta)
    # Wrong slopes show no rank. A lower rank than the true one makes them better all the same, until they do.
    step = max(1, round(_STRIDE * len(alpha)))
    n = gradients[:, 0].size
    for tried in range(step, len(alpha), step):
        if (len(alpha) - tried) * (n - tried) < _CONDITIONS * 2 * len(alpha):
            return None  # so few conditions could be met by any slopes
        alpha, beta = problem.solved(alpha, beta, tried)
        rank, drop = problem.rank(alpha, beta, tried - step, tried)
        if drop < _HINT:
            continue
        found = problem.solved(alpha, beta, rank)
        rank, drop = problem.rank(*found, tried - step, tried)
        if drop > _DROP:
            break
    else:
        return None
    gathered = problem.gathered(*found, rank)
    if gathered is None:
        return None
    alpha, beta, rank = gathered
    divided, _, _, norm = problem.at(alpha, beta)
    left, singular, _ = np.linalg.svd(divided * (norm / alpha)[:, None], full_matrices=False)
    return Slopes(alpha, beta, left[:, :rank].T, singular / singular[0])


class _Divided(NamedTuple):
    """Gradients, to be divided by slopes."""

    activation: Activation
    t: Float[np.ndarray, "width points"]
    gradients: Float[np.ndarray, "width points fan_out"]
    alpha: Float[np.ndarray, " width"]  # to begin with
    beta: Float[np.ndarray, " width"]

    def at(self, alpha: np.ndarray, beta: np.ndarray):
        """X with rows of norm 1, its derivatives by alpha and by beta, and the norms that the rows had."""
        z = alpha[:, None] * self.t + beta[:, None]
        slope = slope_values(self.activation, z)
        rows = self.gradients / slope[:, :, None]
        norm = np.linalg.norm(rows, axis=(1, 2))
        rows = rows / norm[:, None, None]
        by_z = rows * (-bends(self.activation, z) / slope)[:, :, None]

        def along(dz):
            moved = by_z * dz[:, :, None]
            return (moved - rows * np.sum(rows * moved, axis=(1, 2))[:, None, None]).reshape(len(z), -1)

        return rows.reshape(len(z), -1), along(self.t), along(np.ones_like(self.t)), norm

    def rank(self, alpha: np.ndarray, beta: np.ndarray, above: int, upto: int) -> tuple[int, float]:
        """Where in a range singular values drop most, and by how much."""
        singular = np.linalg.svd(self.at(alpha, beta)[0], compute_uv=False)
        drop = (singular[:-1] / np.maximum(singular[1:], np.finfo(float).tiny))[above:upto]
        return above + int(np.argmax(drop)) + 1, float(drop.max())

    def residual(self, alpha: np.ndarray, beta: np.ndarray, rank: int) -> float:
        """What is left beyond that rank; infinite where slopes vanish."""
        with np.errstate(all="ignore"):
            rows = self.at(alpha, beta)[0]
        if not np.isfinite(rows).all():
            return np.inf
        return float(np.sum(np.linalg.svd(rows, compute_uv=False)[rank:] ** 2))

    def solved(self, alpha: np.ndarray, beta: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Levenberg-Marquardt, held to the first guess by as much as what is left is believed to be noise."""
        width, n = self.gradients.shape[0], self.gradients[0].size
        sure = 1 / np.repeat(_SURE, width) ** 2
        away_of = lambda alpha, beta: np.concatenate([(alpha - self.alpha) / self.alpha, beta - self.beta])
        damping, better, worse, last = _DAMPING
        least = self.residual(alpha, beta, rank)
        for _ in range(_STEPS):
            noise = least / ((width - rank) * (n - rank))
            rows, by_alpha, by_beta, _ = self.at(alpha, beta)
            left, singular, right = np.linalg.svd(rows, full_matrices=False)
            left, right = left[:, :rank], right[:rank]
            rest = rows - (left * singular[:rank]) @ right
            moved = np.concatenate([by_alpha * self.alpha[:, None], by_beta])
            free = moved - (moved @ right.T) @ right
            normal = np.tile(np.eye(width) - left @ left.T, (2, 2)) * (free @ free.T) + noise * np.diag(sure)
            gradient = np.sum(np.tile(rest, (2, 1)) * moved, axis=1) + noise * sure * away_of(alpha, beta)
            before = least + noise * np.sum(sure * away_of(alpha, beta) ** 2)
            while damping < last:
                change = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
                by, shift = (np.clip(part, -far, far) for part, far in zip(np.split(change, 2), _LONGEST, strict=True))
                trial = alpha + by * self.alpha, beta + shift
                left_then = self.residual(*trial, rank)
                reached = left_then + noise * np.sum(sure * away_of(*trial) ** 2)
                if reached < before:
                    (alpha, beta), least, damping = trial, left_then, damping / better
                    break
                damping *= worse
            else:
                break
            if not reached < (1 - _SETTLED) * before:
                break
        return alpha, beta

    def gathered(self, alpha: np.ndarray, beta: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, int] | None:
        """With neurons that span dimensions of their own brought back into the span of others; None if some are not."""
        rows = self.at(alpha, beta)[0]
        left = np.linalg.svd(rows, full_matrices=False)[0][:, :rank]
        astray = np.flatnonzero(np.sum(left**2, axis=1) > _ALONE)
        fewer = rank - len(astray)
        if not len(astray):
            return alpha, beta, rank
        if fewer < 1:
            return None
        span = np.linalg.svd(np.delete(rows, astray, axis=0), full_matrices=False)[2][:fewer]
        moved = alpha.copy(), beta.copy()
        for i in astray.tolist():
            moved[0][i], moved[1][i] = self._within(i, span)
        found = self.solved(*moved, fewer)
        _, drop = self.rank(*found, fewer - 1, fewer)
        return (*found, fewer) if drop > _DROP else None

    def _within(self, i: int, span: Float[np.ndarray, "rank gradients"]) -> tuple[float, float]:
        """The scale and bias of one neuron whose row is nearest to lying in a span."""
        one = _Divided(self.activation, self.t[[i]], self.gradients[[i]], self.alpha[[i]], self.beta[[i]])

        def outside(theta):
            with np.errstate(all="ignore"):
                row = one.at(theta[:1], theta[1:])[0][0]
            row = np.where(np.isfinite(row), row, 1.0)  # where slopes vanish, as far outside as can be
            return row - (row @ span.T) @ span

        fits = [least_squares(outside, [self.alpha[i], self.beta[i] + shift], method="lm") for shift in _SHIFTS]
        alpha, beta = min(fits, key=lambda fit: fit.cost).x
        return float(alpha), float(beta)

"""How precise answers are, found from the answers themselves: real black boxes round, compute in float32, and err.

Rounding is a known error: to d decimals it is uniform in a width of 10^-d, of mean square 10^-2d / 12, and nothing
below it counts. Noise has to be told, or is looked for later, where students agree on what none of them can explain.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Float

from ..base.checks import check_settings

Kind = Literal["numbers", "probabilities", "log_probabilities", "logits"]
Missing = Literal["refused", "dropped"]
# Answers that are multiples of 10^-d by chance: one in 10^k for each number with k digits beyond. Rounding is believed
# where at least so many digits that the dtype could hold are missing ...
_MISSING_DIGITS = 3
# ... in this many numbers or more: three digits missing in each of ten are no accident.
_FEWEST = 10
_SAYS_MORE = 10.0  # in the mean square of the error
_MOST_DIGITS = 17  # that a float64 holds
_LAST_BITS = 4.0  # libraries divide by powers of ten, or multiply with their inverse


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is known of answers beside their values. What is left out is found from them, where it can be.

    Attributes:
        kind: "numbers" as they are, which "logits" are too; "probabilities" of classes (of one column: logistic), or
            their logarithms, which say the logits but for a common shift of every row. None: numbers, unless they
            look like probabilities: then say which.
        decimals: Behind the point, to which the answers were rounded.
        digits: Significant ones, to which they were rounded.
        dtype: In which they were computed, "float32" or "float16", whatever they are stored in.
        noise: Standard deviation of their errors, in units of each output's own; 0 for none. None: looked for, where
            students agree on what none of them explains.
        missing: What becomes of rows with NaN or infinite entries: "refused", or "dropped" and counted.
        outliers: Whether some answers may be wrong altogether: rows that are beyond chance for a student who explains
            most of the others are set aside, and named (`ecjax.road.outliers`).
    """

    kind: Kind | None = None
    decimals: int | None = None
    digits: int | None = None
    dtype: str | None = None
    noise: float | None = None
    missing: Missing = "refused"
    outliers: bool = False

    def __post_init__(self):
        check_settings(self, from_0=("noise",), within="answers.")
        if self.kind is not None and self.kind not in get_args(Kind):
            raise ValueError(f"`answers.kind` is one of {get_args(Kind)}; got {self.kind!r}.")
        for name in ("decimals", "digits"):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= _MOST_DIGITS:
                raise ValueError(f"`answers.{name}` is a number of them from 0 to {_MOST_DIGITS}; got {number}.")
        if self.dtype not in (None, "float16", "float32", "float64"):
            raise ValueError(f'`answers.dtype` is "float16", "float32" or "float64"; got {self.dtype!r}.')
        if self.missing not in get_args(Missing):
            raise ValueError(f"`answers.missing` is one of {get_args(Missing)}; got {self.missing!r}.")

    def found(self, y: Float[Array, "samples fan_out"] | Float[np.ndarray, "samples fan_out"]) -> "Answers":
        """With the precision that the answers show, where none was given."""
        if any(each is not None for each in (self.decimals, self.digits, self.dtype)):
            return self
        values = np.asarray(y, float)
        if np.size(values) < _FEWEST:
            return self
        stored = np.dtype(y.dtype).name
        most = int(np.floor(-np.log10(np.finfo(stored).eps))) - _MISSING_DIGITS
        size = max(float(np.abs(values).max()), np.finfo(float).tiny)
        leading = int(np.floor(np.log10(size))) + 1
        places = range(max(0, -leading + 1), min(max(0, most - leading), _MOST_DIGITS) + 1)
        holds = lambda each: next((one for one in each if one._holds(values)), None)
        decimals = holds(Answers(decimals=n) for n in places)
        digits = holds(Answers(digits=n) for n in range(1, most + 1))
        if decimals is not None and digits is not None:
            # Two decimals of numbers up to 10 are three digits, too: digits are meant where they say a good deal more.
            size_of = lambda one: float(np.sum(one.rounding(values) ** 2))
            decimals, digits = (None, digits) if size_of(digits) > _SAYS_MORE * size_of(decimals) else (decimals, None)
        if decimals is not None:
            return replace(self, decimals=decimals.decimals)
        if digits is not None:
            return replace(self, digits=digits.digits)
        for dtype in ("float16", "float32") if stored == "float64" else ():
            with np.errstate(over="ignore"):
                same = np.array_equal(values.astype(dtype).astype(float), values)
            if same:
                return replace(self, dtype=dtype)
        return self

    def rounding(self, y: Any) -> Float[np.ndarray, " fan_out"]:
        """Root mean square of the error that rounding alone makes, for each output, in its unit; 0 for none known."""
        return np.sqrt(np.mean(self.rounding_of_each(y) ** 2, axis=0))

    def rounding_of_each(self, y: Any) -> Float[np.ndarray, "samples fan_out"]:
        """The same for each answer."""
        values = np.asarray(y, float)
        if self.decimals is not None:
            step = np.full_like(values, 10.0**-self.decimals)
        elif self.digits is not None:
            step = 10.0 ** (_exponent(values) + 1 - self.digits)
        elif self.dtype in ("float16", "float32"):
            step = np.spacing(np.abs(values).astype(self.dtype)).astype(float)
        else:
            step = np.zeros_like(values)
        return step / np.sqrt(12)

    def _holds(self, values: np.ndarray) -> bool:
        """Whether all values are rounded so, but for the last bits of their binary form; a few are looked at first."""
        same = lambda part: bool(np.all(np.abs(self._rounded(part) - part) <= _LAST_BITS * np.spacing(np.abs(part))))
        return same(values[:_FEWEST]) and same(values)

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        if self.decimals is not None:
            return np.round(values, self.decimals)
        assert self.digits is not None  # the two that are tried
        return np.char.mod(f"%.{self.digits - 1}e", values).astype(float)

    @property
    def is_computed(self) -> bool:
        """Whether only the precision of the computation is known, whose errors add up to more than one rounding."""
        return self.dtype in ("float16", "float32") and self.decimals is None and self.digits is None

    @property
    def are_probabilities(self) -> bool:
        """Whether the logits have to be found from them."""
        return self.kind in ("probabilities", "log_probabilities")

    def words(self) -> str:
        """What the answers are rounded to; empty if nothing of the kind."""
        if self.decimals is not None:
            return f"rounded to {self.decimals} decimals"
        if self.digits is not None:
            return f"rounded to {self.digits} digits"
        return f"computed in {self.dtype}" if self.is_computed else ""


def _exponent(values: np.ndarray) -> np.ndarray:
    return np.floor(np.log10(np.where(values == 0, 1, np.abs(values))))

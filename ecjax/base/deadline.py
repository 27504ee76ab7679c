"""Until when work goes on, and what was left out because the time was up."""

from numbers import Real
from time import monotonic

import numpy as np

from .devices import of_first


class Deadline:
    """The end of a budget of seconds. Whoever could leave something out asks first, so that it is known what was.

    Attributes:
        budget: Seconds from the moment that this is made; None for no end.
        left_out: What was not done, in words. Empty as long as everything was done, in time or not.

    Raises:
        ValueError: If the budget is no positive number.
    """

    def __init__(self, budget: float | None = None):
        if budget is not None and not (isinstance(budget, Real) and budget > 0):
            raise ValueError(
                f"`budget` is how many seconds the work may take, above 0, or None for no limit; got {budget!r}."
            )
        self.budget = budget
        self.left_out: list[str] = []
        self._end = None if budget is None else monotonic() + budget

    @property
    def is_up(self) -> bool:
        """Whether the time is up. Where processes share the work, by the first one's clock."""
        return self._end is not None and bool(of_first(np.asarray(monotonic() >= self._end)))

    def leaves_out(self, what: str) -> bool:
        """Whether the time is up, so that something is not done, which is noted."""
        is_up = self.is_up
        if is_up and what not in self.left_out:
            self.left_out.append(what)
        return is_up

    def words(self) -> str:
        """What was left out."""
        return f"stopped by the budget of {self.budget:g} s, without {', '.join(self.left_out)}"


NEVER = Deadline()

"""How long work tells of itself: the core never prints, it calls what it was given."""

import time
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from .deadline import NEVER, Deadline


@runtime_checkable
class Progress(Protocol):
    """Called between compiled pieces of work."""

    def __call__(self, phase: str, done: int, total: int, **info: Any) -> None:
        """Take note.

        Args:
            phase: "expand", "cluster", "reconstruct" or "finetune".
            done: Pieces finished; students in "expand".
            total: Pieces in all.
            info: What there is to say: `losses`, the losses of the finished students, or of the network at the end;
                `widths`, of its hidden layers.
        """


def silent(phase: str, done: int, total: int, **info: Any) -> None:
    """The progress of those who do not want to know."""


class Stopwatch:
    """Seconds spent in each phase, and until when there are more of them."""

    def __init__(self, deadline: Deadline = NEVER):
        self.seconds: dict[str, float] = {}
        self.deadline = deadline

    @contextmanager
    def of(self, phase: str):
        """Count for `phase` what is done inside, but for phases inside of it."""
        start, counted = time.perf_counter(), sum(self.seconds.values())
        yield
        inside = sum(self.seconds.values()) - counted
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start - inside

"""How long work tells of itself: the core never prints, it calls what it was given."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called between compiled pieces of work."""

    def __call__(self, phase: str, done: int, total: int, **info: Any) -> None:
        """Take note.

        Args:
            phase: "expand", "cluster", "reconstruct" or "finetune".
            done: Pieces finished; students in "expand".
            total: Pieces in all.
            info: What there is to say: `losses`, the losses of the finished students.
        """


def silent(phase: str, done: int, total: int, **info: Any) -> None:
    """The progress of those who do not want to know."""

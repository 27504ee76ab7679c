"""A teacher that answers: any callable, with its questions counted, checked, batched, bounded, and never asked twice.

    teacher = ec.Teacher(model.predict, fan_in=784, box=(0, 1), max_questions=100_000, log="answers.safetensors")
    teacher = ec.Teacher(model)  # of Flax, Equinox, PyTorch, scikit-learn, Keras or ONNX
    y = teacher(x)

What was answered once is in the log. An interrupted recovery that asks the same questions again, in whatever order and
batches, gets its answers from there and bothers nobody. A question is known by a hash of its bytes, so that the log of
a hundred thousand images is some megabytes.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ..base.checks import whole_number
from ..base.files import read_arrays_and_words, write_arrays
from ..doors import asked
from .questions import Box, as_box, checked_answers, checked_questions, relative_precision

_MARK = 16  # bytes of a question's hash: two of 2^32 questions collide with probability 3e-20
_EVERY = 30.0  # seconds between two writes of the log
# By how many roundings two answers to one question may differ: libraries sum in an order that depends on the batch.
_REPEATED = 1e3


class TeacherError(RuntimeError):
    """A teacher that failed, or that answers in a way from which nothing can be recovered."""


class Teacher:
    """Somebody who can be asked.

    Attributes:
        fan_in: How many numbers a question has.
        fan_out: How many numbers an answer has; None before the first.
        asked: Questions that the callable has answered. What came from the log is not counted.
        max_questions: As many as it may be asked.
        box: Lowest and highest value of every input, or None.
        dtype: Of the questions.
    """

    def __init__(
        self,
        fn: Any,
        *,
        fan_in: int | None = None,
        box: Any = None,
        batch: int = 4096,
        dtype: Any = None,
        answers: Any = None,
        max_questions: int | None = None,
        log: str | os.PathLike | None = None,
    ):
        """Wrap a callable, or a model of a library that ecjax has a door to (`ecjax.doors`).

        Args:
            fn: A model of Flax (nnx, bound Linen), Equinox, PyTorch, scikit-learn, Keras or ONNX, whose fan_in and
                dtype are its own. Or any callable: questions [samples, fan_in] in, answers [samples, fan_out] or
                [samples] out, as NumPy arrays or whatever NumPy can read. A row's answer depends on that row alone.
            fan_in: How many numbers a question has; a model says that itself.
            box: Where questions are allowed: a pair (low, high) of numbers or of arrays with one for each input.
            batch: Questions in one call of `fn`, at most.
            dtype: Of the questions that `fn` gets; by default float64, or the model's.
            answers: How precise the answers are: a dtype, or a relative error. By default that of the dtype in which
                they come.
            max_questions: Questions that `fn` may be asked at most.
            log: A file that is read if it is there, and written from time to time, after every failure, and by `save`.

        Raises:
            ValueError: Naming the argument, what came and what was wanted; if the log is another teacher's.
        """
        model = asked(fn)
        if model is not None:
            fn, fan_in = model.fn, model.fan_in if fan_in is None else fan_in
            dtype = model.dtype if dtype is None else dtype
        dtype = np.float64 if dtype is None else dtype
        if not callable(fn):
            raise ValueError(f"`fn` is a function of questions [samples, fan_in]; got {type(fn).__name__}.")
        if fan_in is None:
            raise ValueError("`fan_in` is how many numbers a question has; a function does not say: give it.")
        fan_in, batch = whole_number(fan_in, "fan_in"), whole_number(batch, "batch")
        if max_questions is not None:
            max_questions = whole_number(max_questions, "max_questions", low=0)
        if not np.issubdtype(np.dtype(dtype), np.floating):
            raise ValueError(f"`dtype` is a floating point type; got {np.dtype(dtype)}.")
        self.fn, self.fan_in, self.batch, self.dtype = fn, fan_in, batch, np.dtype(dtype)
        self.box: Box | None = as_box(box, fan_in)
        self.max_questions, self.log = max_questions, None if log is None else Path(log)
        self.fan_out: int | None = None
        self.asked = 0
        self._stated = None if answers is None else relative_precision(answers)
        self._came: np.dtype | None = None  # dtype of the answers
        self._answers: dict[bytes, np.ndarray] = {}
        self._is_checked = False
        self._written = time.monotonic()
        if self.log is not None and self.log.exists():
            self._read(self.log)

    @property
    def precision(self) -> float:
        """Relative error of an answer; what is known of it before the first is that of the questions' dtype."""
        if self._stated is not None:
            return self._stated
        kinds = (self.dtype,) if self._came is None else (self.dtype, self._came)
        return max(float(np.finfo(kind).eps) for kind in kinds)

    @property
    def left(self) -> float:
        """How many questions may still be asked; infinite without a limit."""
        return np.inf if self.max_questions is None else self.max_questions - self.asked

    def __call__(self, x: Any) -> Float[np.ndarray, "samples fan_out"]:
        """Answers to questions, in float64 on the host.

        Raises:
            ValueError: If the questions are not of the teacher's kind or leave its box, or if they are more than may
                still be asked. Nothing was asked then.
            TeacherError: If the teacher fails, or if its answers can't be used. What it answered before is in the log.
        """
        x = checked_questions(x, self.fan_in, self.box).astype(self.dtype, copy=False)
        marks = [hashlib.blake2b(row.data, digest_size=_MARK).digest() for row in np.ascontiguousarray(x)]
        new: dict[bytes, int] = {}
        for i, mark in enumerate(marks):
            if mark not in self._answers:
                new.setdefault(mark, i)
        if new:
            n_checks = 0 if self._is_checked else 1
            if len(new) + n_checks > self.left:
                raise ValueError(
                    f"`max_questions` is {self.max_questions:,}, of which {self.asked:,} are spent: {len(new):,} more "
                    "would be too many, and were not asked. Allow more."
                )
            self._ask(x, new)
        if not marks:
            return np.zeros((0, self.fan_out or 0))
        return np.stack([self._answers[mark] for mark in marks]).astype(float)

    def _ask(self, x: np.ndarray, new: dict[bytes, int]) -> None:
        """Ask what is new, batch by batch."""
        marks, rows = list(new), np.array(list(new.values()))
        try:
            first = None if self._is_checked else self._answer(x[rows[:1]])
            for start in range(0, len(rows), self.batch):
                some = slice(start, start + self.batch)
                answers = self._answer(x[rows[some]])
                if first is not None:
                    self._check(first, answers[:1])
                    first = None
                self._note(marks[some], answers)
                if self.log is not None and time.monotonic() - self._written > _EVERY:
                    self.save()
        except BaseException:
            if self.log is not None and self._answers:
                self.save()
            raise

    def _check(self, first: np.ndarray, again: np.ndarray) -> None:
        """Hold the answer that a question got by itself against the one that it got among others."""
        self._is_checked = True
        size = np.abs(first).max() + np.abs(again).max()
        if np.abs(first - again).max() > _REPEATED * self.precision * size:
            raise TeacherError(
                f"The teacher answered one question with {_some(first)} and then with {_some(again)}: a function that "
                "is not deterministic (dropout, noise, a random seed?) can't be probed. Switch that off, or say how "
                "precise the answers are: Teacher(..., answers=1e-3)."
            )

    def _answer(self, x: np.ndarray) -> np.ndarray:
        """One call of the function; its answers checked. Those that are in order are kept even if others are not."""
        try:
            raw = self.fn(x.copy())  # a function may write into what it is given
        except Exception as error:
            raise TeacherError(
                f"The teacher raised {type(error).__name__} ({error}) when asked {len(x):,} questions; {self.asked:,} "
                f"answers before are safe{' in ' + str(self.log) if self.log else ' in its log (`save` it)'}."
            ) from error
        self.asked += len(x)
        answers, trouble = checked_answers(raw, len(x), self.fan_out)
        if trouble:
            raise TeacherError(f"The teacher was asked {len(x):,} questions, and {trouble}")
        self.fan_out, self._came = answers.shape[1], answers.dtype
        return answers

    def _note(self, marks: list[bytes], answers: np.ndarray) -> None:
        good = np.asarray(np.isfinite(answers).all(axis=1))
        self._answers.update((mark, answer) for mark, answer, fine in zip(marks, answers, good, strict=True) if fine)
        if not good.all():
            raise TeacherError(
                f"The teacher answered {int((~good).sum()):,} of {len(good):,} questions with NaN or infinity: it is "
                "no function there. Give a `box` within which it is; the other answers are kept."
            )

    # --- the log -----------------------------------------------------------------------------------------------------

    @property
    def answered(self) -> int:
        """How many different questions the log has answers to."""
        return len(self._answers)

    def save(self, path: str | os.PathLike | None = None) -> None:
        """Write the log, whole or not at all.

        Args:
            path: By default the file that `log` named.

        Raises:
            ValueError: If there is no file to write to.
        """
        path = self.log if path is None else Path(path)
        if path is None:
            raise ValueError("`path`: name a file, or make the teacher with Teacher(..., log=...).")
        marks = np.frombuffer(b"".join(self._answers), np.uint8).reshape(-1, _MARK)
        answers = np.stack(list(self._answers.values())) if self._answers else np.zeros((0, self.fan_out or 0))
        about = {"fan_in": str(self.fan_in), "dtype": self.dtype.name}
        write_arrays(path, {"questions": marks, "answers": answers}, about=about)
        self._written = time.monotonic()

    def _read(self, path: Path) -> None:
        remedy = "Delete it, and the teacher is asked again; or name another file."
        try:
            arrays, about = read_arrays_and_words(path)
        except ValueError as error:
            raise ValueError(f"`log`: {error} {remedy}") from error
        if (about.get("fan_in"), about.get("dtype")) != (str(self.fan_in), self.dtype.name):
            raise ValueError(
                f"`log`: {path} is of a teacher with {about.get('fan_in')} inputs in {about.get('dtype')}, this one "
                f"has {self.fan_in} in {self.dtype.name}: name another file."
            )
        marks, answers = (arrays.get(name, np.zeros(())) for name in ("questions", "answers"))
        is_whole = marks.dtype == np.uint8 and marks.shape == (len(answers) if answers.ndim == 2 else -1, _MARK)
        is_whole &= answers.size > 0 or not len(answers)
        if not is_whole or answers.dtype.kind not in "fiub" or not np.isfinite(answers).all():
            raise ValueError(
                f"`log`: {path} is damaged: questions {marks.shape} and answers {answers.shape} were not written "
                f"by a teacher. {remedy}"
            )
        self._answers = {mark.tobytes(): answer for mark, answer in zip(marks, answers, strict=True)}
        if len(answers):
            self.fan_out, self._came = answers.shape[1], answers.dtype


def _some(answer: np.ndarray) -> str:
    return np.array2string(answer[0, :3], precision=6) + ("" if answer.shape[1] <= 3 else " ...")

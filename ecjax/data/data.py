"""Data: queries and answers, fresh ones, and perhaps somebody to ask. The one thing that travels from the door on.

Everything that comes in is checked here, before anything compiles.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..base.checks import as_kind
from ..doors import columns_of
from ..network import n_parameters
from ..objective import Inputs, Outputs, Samples, Scaling
from ..objective.scaling import Standardise, scaling
from ..objective.variation import constant_columns, variation
from .answers import Answers
from .came import as_floats, in_words
from .probabilities import Logits, logits_of, look_like_labels, look_like_log_probabilities, look_like_probabilities
from .rows import independent_outputs, repeated

_DIFFERENT = 1e4  # roundings by which answers to one query differ, if they were summed in another order
Ask = Callable[[Any], Any]  # a teacher: queries [samples, fan_in] in, answers [samples, fan_out] out


class Data(eqx.Module):
    """What is known of the teacher, in the precision that it came in.

    Attributes:
        x: Queries, one a row.
        y: The teacher's answers to them.
        fresh: More queries and answers, kept out of the recovery for its certificate.
        ask: The teacher itself, where it can be asked.
        answers: What they are, and how precise.
        error: Root mean square of the errors that rounding made in each output of y; None for none known.
        weights: How much each row counts, where errors differ from row to row; None for all alike.
        notes: What was done with the answers at the door, in words.
        inputs: Names of the columns of x; empty if they have none.
        outputs: Of those of y.
    """

    x: Inputs
    y: Outputs
    fresh: Samples | None = None
    ask: Ask | None = eqx.field(static=True, default=None)
    answers: Answers = eqx.field(static=True, default=Answers())
    error: Float[np.ndarray, " fan_out"] | None = None
    weights: Float[Array, " samples"] | None = None
    notes: tuple[str, ...] = eqx.field(static=True, default=())
    inputs: tuple[str, ...] = eqx.field(static=True, default=(), repr=False)  # decides nothing
    outputs: tuple[str, ...] = eqx.field(static=True, default=(), repr=False)

    @staticmethod
    def of(
        x: Any,
        y: Any,
        *,
        fresh: tuple[Any, Any] | None = None,
        ask: Ask | None = None,
        answers: Answers | None = None,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
    ) -> "Data":
        """Queries and answers as arrays of one precision, checked.

        Args:
            x: Queries, [samples, fan_in]. Like y, a pandas, polars or Arrow table, too, whose names are kept.
            y: Answers, [samples, fan_out] or [samples].
            fresh: A pair of the same kind.
            ask: See `Data`.
            answers: What is known of them; the rest is found from them, where it can be.
            inputs: Names of the columns of x, where it is no table that has some.
            outputs: Names of the columns of y, likewise.

        Raises:
            ValueError: Naming the argument, what came, what was wanted and what to do.
        """
        as_kind(answers, Answers | None, "answers")  # refuses what is none
        answers = answers or Answers()
        (x, inputs), (y, outputs) = _with_names(x, inputs, "x"), _with_names(y, outputs, "y")
        fresh = None if fresh is None else _without_names(fresh)
        converted = tuple(filter(None, (in_words(x, "x"), in_words(y, "y"))))
        x, y, n_missing = _rows(x, y, answers)
        if len(x) < 2 or x.shape[1] < 1:
            raise ValueError(f"`x` needs at least 2 samples and 1 input; got shape {x.shape}.")
        checked = None if fresh is None else _checked_fresh(fresh, Samples(x, y))
        answers = answers.found(y)
        y64 = np.asarray(y, float)
        error, notes, weights = answers.rounding(y), (), None
        if answers.kind is None:
            _look_at(y64, float(error.max()))
        if answers.are_probabilities:
            x, y, checked, error, weights, notes = _logits(x, y, checked, answers)
        if n_missing:
            notes += (f"{n_missing} of {n_missing + len(y64)} rows dropped, which have NaN or infinite entries",)
        constant = np.flatnonzero(constant_columns(y))
        for name, columns, array in (("inputs", inputs, x), ("outputs", outputs, y)):
            if columns and len(columns) != array.shape[1]:
                raise ValueError(f"`{name}` names {array.shape[1]} columns; got {len(columns)}: {columns}.")
        if len(constant):
            which = [outputs[i] for i in constant] if outputs else constant.tolist()
            raise ValueError(f"`y` is constant in columns {which}: nothing to imitate. Drop these outputs.")
        if variation(x).rank == 0:
            raise ValueError("`x` is the same in every sample: ask the teacher at different inputs.")
        notes = (*converted, *notes, *_remarks(np.asarray(x, float), np.asarray(y, float), answers))
        return Data(x, y, checked, ask, answers, error if error.any() else None, weights, notes, inputs, outputs)

    @property
    def n_numbers(self) -> int:
        """How many numbers there are to explain; outputs that are functions of the others are none."""
        return len(self.y) * independent_outputs(np.asarray(self.y, float))

    @property
    def samples(self) -> Samples:
        """Queries and answers as an objective, in the user's units."""
        return Samples(self.x, self.y, self.weights)

    def scaled(self, scale: Scaling) -> Samples:
        """Queries and answers as students see them."""
        return Samples(scale.inputs(self.x), scale.targets(self.y), self.weights)

    def scaling(self, standardise: Standardise) -> Scaling:
        """Between the user's units and the students'."""
        return scaling(self.x, self.y, standardise=standardise)

    def suffices(self, widths: tuple[int, ...], *, allow_few: bool = False) -> "Data":
        """The data, if they are enough for students of these hidden widths.

        Raises:
            ValueError: If students have more parameters than there are numbers to explain, unless `allow_few`.
        """
        needed = n_parameters((self.x.shape[1], *widths, self.y.shape[1]))
        if self.n_numbers < needed and not allow_few:
            raise ValueError(
                f"`y` has {self.n_numbers} numbers for students of {needed} parameters, so that students can fit "
                "them without finding the teacher. Ask the teacher more, narrow `student_width`, or say "
                "allow_few_samples=True."
            )
        return self

    def only(self, rows: Bool[np.ndarray, " samples"]) -> "Data":
        """Some of the queries and answers."""
        kept = jnp.asarray(rows)
        each = lambda leaf: None if leaf is None else leaf[kept]
        of = lambda data: (data.x, data.y, data.weights)
        return eqx.tree_at(of, self, tuple(map(each, of(self))), is_leaf=lambda leaf: leaf is None)

    def grown(self, x: Any, y: Any) -> "Data":
        """With more queries and answers, of the same kind.

        Raises:
            ValueError: If they are of another kind.
        """
        return self._with(_alike(x, y, self, "x", "y"))

    def asked(self, x: Any) -> "Data":
        """With the teacher's answers to more queries.

        Raises:
            ValueError: If there is nobody to ask, or the answers are not of the kind of the ones before.
        """
        if self.ask is None:
            raise ValueError("`ask`: there is nobody to ask; make the data with Data.of(x, y, ask=teacher).")
        _alike(x, np.zeros((len(x), self.y.shape[1]), self.y.dtype), self, "x", "ask(x)")  # before anybody is asked
        return self._with(_alike(x, self.ask(x), self, "x", "ask(x)"))

    def _with(self, more: Samples) -> "Data":
        if self.weights is not None:
            raise ValueError("`x` and `y` do not join rows that have weights of their own: make the Data of all rows.")
        both = jnp.concatenate([self.x, more.x]), jnp.concatenate([self.y, more.y])
        return eqx.tree_at(lambda data: (data.x, data.y), self, both)


def _with_names(array: Any, names: Sequence[str], what: str) -> tuple[Any, tuple[str, ...]]:
    """The numbers of a table with the names of its columns; an array with those that were given."""
    try:
        table = columns_of(array)
    except ValueError as error:
        raise ValueError(f"`{what}`: {error}") from error
    return (array, tuple(names)) if table is None else (table[0], tuple(names) or table[1])


def _without_names(pair: Any) -> Any:
    """A pair of fresh queries and answers as arrays, if that is what it is."""
    if not isinstance(pair, tuple | list):
        return pair
    return tuple(_with_names(each, (), f"fresh[{i}]")[0] for i, each in enumerate(pair))


def _look_at(y: np.ndarray, rounding: float) -> None:
    """Refuse numbers that look like something else."""
    if look_like_labels(y):
        raise ValueError(
            "`y` looks like labels of classes, which say on which side of a border a query lies and nothing of the "
            'weights: ask for probabilities or, better, logits. Or say answers=ecjax.Answers(kind="numbers").'
        )
    for kind, looks in (
        ("probabilities", look_like_probabilities(y, rounding)),
        ("log_probabilities", look_like_log_probabilities(y, rounding)),
    ):
        if looks:
            what = "exp(y)" if kind == "log_probabilities" else "y"
            raise ValueError(
                f"`{what}` adds up to 1 in every row: these look like {kind.replace('_', ' ')}, which no network with "
                f'a linear output makes. Say answers=ecjax.Answers(kind="{kind}"), or kind="numbers" if they are none.'
            )


def _remarks(x: np.ndarray, y: np.ndarray, answers: Answers) -> tuple[str, ...]:
    """What somebody would want to know of such a table, in words."""
    notes = []
    times, off = repeated(x, y)
    if off > _DIFFERENT * float(np.finfo(y.dtype).eps):
        notes.append(f"{times} queries came before, with other answers: errors of {off:.1g} standard deviations")
    n = independent_outputs(y)
    if n < y.shape[1] and not answers.are_probabilities:
        notes.append(
            f"{y.shape[1] - n} of {y.shape[1]} outputs are linear functions of the others, and tell nothing new"
        )
    return tuple(notes)


def _logits(
    x: Array, y: Array, fresh: Samples | None, answers: Answers
) -> tuple[Array, Array, Samples | None, Float[np.ndarray, " fan_out"], Array | None, tuple[str, ...]]:
    """Queries with the logits behind their answers, where these say them; the same of fresh ones."""
    eps = float(np.finfo(y.dtype).eps)

    def seen(y: Array) -> Logits:
        values = np.asarray(y, float)
        step = np.maximum(answers.rounding_of_each(values), eps * np.abs(values))
        return logits_of(values, step, of_logs=answers.kind == "log_probabilities")

    found = seen(y)
    if answers.is_computed:  # as the logits were, too: sums of terms of their usual size, whatever they add up to
        size = np.sqrt(np.mean(found.y**2))
        found = found._replace(error=np.hypot(found.error, size * np.finfo(str(answers.dtype)).eps))
    gone = int((~found.counts).sum())
    notes = [f"logits from {str(answers.kind).replace('_', ' ')}"]
    notes[0] += ", but for a shift that all classes have in common" if y.shape[1] > 1 else ""
    if gone:
        notes.append(f"{gone} of {len(y)} rows set aside, whose smallest probability was rounded away")
    if fresh is not None:
        later = seen(fresh.y)
        fresh = Samples(fresh.x[jnp.asarray(later.counts)], jnp.asarray(later.y, y.dtype))
    error, weights = np.zeros(y.shape[1]), None
    if answers.words():
        weights = jnp.asarray(1 / (found.error / found.error.min()) ** 2, y.dtype)
        error = np.full(y.shape[1], np.sqrt(1 / np.mean(1 / found.error**2)))  # of the weighted mean square
    return x[jnp.asarray(found.counts)], jnp.asarray(found.y, y.dtype), fresh, error, weights, tuple(notes)


def _alike(x: Any, y: Any, like: Data | Samples, x_name: str, y_name: str) -> Samples:
    """Queries and answers of the same kind as others.

    Raises:
        ValueError: If they are not.
    """
    x, y = _pair(x, y, x_name, y_name)
    kind = lambda pair: [(each.shape[1:], each.dtype) for each in pair]
    if kind((x, y)) != kind((like.x, like.y)) or not len(x):
        raise ValueError(
            f"`{x_name}` and `{y_name}` have rows like those of `x` and `y`, {like.x.shape[1]} inputs and "
            f"{like.y.shape[1]} outputs in {like.x.dtype}; got shapes {x.shape} and {y.shape} in {x.dtype}."
        )
    return Samples(x, y)


def _checked_fresh(fresh: Any, like: Samples) -> Samples:
    if not isinstance(fresh, tuple | list) or len(fresh) != 2:
        raise ValueError(f"`fresh` is a pair (x, y) of arrays; got {type(fresh).__name__}.")
    return _alike(fresh[0], fresh[1], like, "fresh[0]", "fresh[1]")


def _rows(x: Any, y: Any, answers: Answers) -> tuple[Array, Array, int]:
    """Queries and answers as arrays, and how many rows were dropped because something is missing in them."""
    if answers.missing == "refused":
        return *_pair(x, y, "x", "y"), 0
    x, y = _pair(x, y, "x", "y", may_miss=True)
    there = np.isfinite(np.asarray(x)).all(axis=1) & np.isfinite(np.asarray(y)).all(axis=1)
    if not there.any():
        raise ValueError("`x` and `y` have NaN or infinite entries in every row: nothing is left to work with.")
    return x[jnp.asarray(there)], y[jnp.asarray(there)], int((~there).sum())


def _pair(x: Any, y: Any, x_name: str, y_name: str, *, may_miss: bool = False) -> tuple[Array, Array]:
    x, y = as_floats(x, x_name), as_floats(y, y_name)
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(
            f"`{x_name}` is a matrix [samples, inputs] and `{y_name}` [samples, outputs] or [samples]; got shapes "
            f"{x.shape} and {y.shape}. Flatten images to one row each: x.reshape(len(x), -1)."
        )
    if len(x) != len(y):
        raise ValueError(f"`{x_name}` and `{y_name}` have one row a sample; got {len(x)} and {len(y)} rows.")
    if y.shape[1] < 1:
        raise ValueError(f"`{y_name}` has no outputs; got shape {y.shape}.")
    for name, array in () if may_miss else ((x_name, x), (y_name, y)):
        bad = ~np.isfinite(np.asarray(array)).all(axis=1)
        if bad.any():
            rows = "1 row" if bad.sum() == 1 else f"{bad.sum()} rows"
            raise ValueError(
                f"`{name}` has NaN or infinite entries in {rows}, the first at index {np.argmax(bad)}: "
                f"drop these samples from {x_name} and {y_name}"
                + (', or say answers=ecjax.Answers(missing="dropped").' if x_name == "x" else ".")
            )
    for name, array in ((x_name, x), (y_name, y)):
        sizes = np.abs(np.asarray(array, float))
        largest, limits = sizes.max(where=np.isfinite(sizes), initial=0.0), np.finfo(array.dtype)
        if largest and not np.sqrt(limits.tiny) < largest * np.sqrt(limits.eps) < largest < np.sqrt(limits.max) / 1e3:
            raise ValueError(
                f"`{name}` has numbers of up to {largest:.0e}, whose squares leave the range of {array.dtype}: give it "
                "in another unit."
            )
    if x.dtype != y.dtype:
        raise ValueError(
            f"`{x_name}` and `{y_name}` have one dtype, the precision of the work; got {x.dtype} and {y.dtype}."
        )
    return x, y

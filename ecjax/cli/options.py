"""What commands share: where a run is written and until when, what is known of answers, names of activations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from ..base.deadline import Deadline
from ..data.answers import Answers, Kind
from ..network import LayerActivation, as_activations

_SEEDS = 2**63  # that a key is made of


def _seed(text: str) -> int:
    """A whole number that JAX makes a key of.

    Raises:
        ValueError: If it is none.
    """
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"a seed is a whole number from 0 to {_SEEDS - 1}; got {text!r}.")
    return seed


Seed = Annotated[
    int,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda given: _seed(given[0]),
        is_instance=lambda it: isinstance(it, int),
        str_from_instance=lambda it: [str(it)],
    ),
]
Dataset = Literal["mnist", "fashion-mnist", "cifar-10"]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the run is written.

    Attributes:
        out: The folder to write; by default runs/<command>-<date>-<short id>. An interrupted run goes on where it was
            when its command is given again.
        overwrite: Replace a run that is already there.
        figures: Whether figures are drawn.
        exact_or_fail: End with exit status 1 if nothing exact is found.
    """

    out: Path | None = None
    overwrite: bool = False
    figures: bool = True
    exact_or_fail: bool = False


def seconds(text: str) -> float:
    """How long that is: "90s", "5m", "1.5h", or a number of seconds.

    Raises:
        ValueError: If it is none of these, or not above 0.
    """
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        budget = unit * float(number)
        Deadline(budget)  # refuses what is none
    except ValueError:
        raise ValueError(f"a budget is a time above 0, as 90s, 5m, 1.5h, or in seconds; got {text!r}.") from None
    return budget


_UNITS = {"s": 1, "m": 60, "h": 3600}
_TIME = PrimitiveConstructorSpec(
    nargs=1,
    metavar="90s|5m|1.5h",
    instance_from_str=lambda given: seconds(given[0]),
    is_instance=lambda it: it is None or isinstance(it, float),
    str_from_instance=lambda it: ["none" if it is None else f"{it:g}s"],
)


@dataclass(frozen=True, kw_only=True)
class SharedOutput(Output):
    """Where the run is written, until when, and by how many processes.

    Attributes:
        budget: How long it may take: 90s, 5m, 1.5h, or a number of seconds; by default as long as it needs. When the
            time is up, nothing new is begun: the best answer from the students that are there is refined, certified and
            written, and says what was left out. The same command goes on from there, with another budget or none, and
            ends as if it had never stopped; students that are trained are not trained again. No less than two students,
            or ten epochs of all of them, are waited for.
        distributed: Share the work with the other processes that were given this same command, on other hosts too. They
            find each other by JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID,
            or by what SLURM or Open MPI tells them. Process 0 writes the run.
    """

    budget: Annotated[float | None, _TIME] = None
    distributed: bool = False


@dataclass(frozen=True, kw_only=True)
class NamedAnswers(Answers):
    """Answers whose kind is told by the option --answers-are."""

    kind: Annotated[Kind | None, arg(name="answers-are")] = None


def named_activations(names: str, hidden_layers: int) -> tuple[LayerActivation, ...]:
    """The activations of so many hidden layers: "tanh" of all of them, "tanh,softplus" one by one.

    Raises:
        ValueError: If there is no layer, if there are neither one nor as many as layers, or if none has that name.
    """
    if hidden_layers < 1:
        raise ValueError(f"`hidden_layers` is how many the teacher has, at least 1; got {hidden_layers}.")
    each = [name.strip() for name in names.split(",")]
    return as_activations(each if len(each) > 1 else each[0], hidden_layers)

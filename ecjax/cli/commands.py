"""The commands and their settings; `tyro` makes the command line and its help out of these dataclasses."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from ..base.deadline import Deadline
from ..cluster.cut import Policy
from ..data.answers import Answers, Kind
from ..expand.ode import OdeSolver
from ..network import LayerActivation, as_activations
from ..road.settings import PRESETS, RecoveryConfig
from .settings import Settings

Dataset = Literal["mnist", "fashion-mnist", "cifar-10"]
Precision = Literal["float32", "float64"]
ImagePreset = Literal["images", "images-deep", "paper-shallow", "paper-deep"]
Preset = Literal["chosen", "toy", "data", "digits", ImagePreset]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the run is written.

    Attributes:
        out: The folder to write; by default runs/<command>-<date>-<short id>. An interrupted run goes on where it was
            when its command is given again.
        overwrite: Replace a run that is already there.
        figures: Whether figures are drawn.
    """

    out: Path | None = None
    overwrite: bool = False
    figures: bool = True


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


@dataclass(frozen=True, kw_only=True)
class RecoverToy:
    """Recover a random teacher, in float64.

    Draws a teacher, asks it for its answers to random inputs, and recovers it from these alone. The teacher is known,
    so the result says how close it comes.

      ecjax recover toy
      ecjax recover toy --d-in 8 --width 4 --activation softplus --seed 3
      ecjax recover toy --width 8 --student-width 32 --n-students 10
      ecjax recover toy --hidden-layers 2 --student-width 12 --n-students 10
      ecjax recover toy --noise 1e-3         with errors in the answers, a thousandth of their standard deviation

    Attributes:
        d_in: How many inputs the teacher has.
        width: How many neurons each of its hidden layers has.
        hidden_layers: How many hidden layers it has.
        d_out: How many outputs it has.
        activation: Of teacher and students: g, tanh, sigmoid, erf, softplus, silu, gelu, relu, abs, gaussian, ...
            Hidden layers of different ones are written with a comma: tanh,softplus.
        n_samples: How many standard normal queries the teacher is asked.
        seed: Decides teacher, queries and students; the same seed gives the same answer, bit for bit.
        noise: Standard deviation of errors that are added to the answers, in units of each output's own.
        allow_few_samples: Go on although the teacher gives fewer numbers than a student has weights.
    """

    d_in: int = 4
    width: int = 4
    hidden_layers: int = 1
    d_out: int = 1
    activation: str = "g"
    n_samples: int = 1000
    seed: int = 0
    noise: float = 0.0
    allow_few_samples: bool = False
    settings: Annotated[Settings, arg(name="")] = field(default_factory=lambda: Settings.of(RecoveryConfig.toy()))
    output: Annotated[SharedOutput, arg(name="")] = field(default_factory=SharedOutput)


@dataclass(frozen=True, kw_only=True)
class RecoverDigits:
    """Recover a network that was trained to read handwritten digits, in float64.

    Trains a small classifier on the 1,797 real 8x8 digits that come with scikit-learn, and recovers it from its answers
    (the outputs before the softmax) alone.

      ecjax recover digits
      ecjax recover digits --width 16 --student-width 64
      ecjax recover digits --copies 0        the plain images: many pixels never vary, nothing shows their weights

    Attributes:
        width: How many hidden neurons the teacher has.
        activation: Of teacher and students.
        copies: How many noisy copies of every image the teacher is asked about; 0 for the images themselves.
        copy_noise: Standard deviation of the noise in these copies, in standard deviations of a pixel.
        seed: Decides teacher, noise and students.
        noise: Standard deviation of errors that are added to the answers, in units of each output's own.
        allow_few_samples: Go on although the teacher gives fewer numbers than a student has weights.
    """

    width: int = 8
    activation: str = "tanh"
    copies: int = 1
    copy_noise: float = 0.5
    seed: int = 0
    noise: float = 0.0
    allow_few_samples: bool = False
    settings: Annotated[Settings, arg(name="")] = field(default_factory=lambda: Settings.of(RecoveryConfig.digits()))
    output: Annotated[SharedOutput, arg(name="")] = field(default_factory=SharedOutput)


@dataclass(frozen=True, kw_only=True)
class RecoverData:
    """Recover an unknown network from inputs and outputs of your own, in float64.

    The file holds what the network was asked and what it answered: more numbers than a student has weights. Settings
    are chosen from these data, and the run says how. What you give below comes before the choice; the defaults that are
    shown here are only where it starts.

      .npz   two arrays, x [samples, inputs] and y [samples, outputs]
      .csv   a header and one line a sample; columns whose names start with y are outputs, the others inputs

      ecjax recover data answers.npz --activation tanh
      ecjax recover data answers.csv --activation relu --outputs price demand
      ecjax recover data answers.npz --activation auto --hidden-layers auto
      ecjax recover data answers.csv --activation tanh --answers-are probabilities
      ecjax recover data answers.npz --activation tanh --n-students 12 --preset digits

    Attributes:
        file: The .npz or .csv file.
        activation: Of the unknown network. Hidden layers of different ones are written with a comma: tanh,softplus. If
            you do not know it, "auto" finds it by short runs; a wrong name is noticed, and the likelier one said.
        hidden_layers: How many hidden layers the unknown network has; "auto" finds 1, 2 or 3. Where something is auto,
            an interrupted run begins again.
        outputs: Names of the columns of a .csv file that are outputs.
        preset: What the settings below start from: what is chosen from the data, or those of another command by name.
        seed: Decides the students.
        allow_few_samples: Go on although there are fewer numbers in the answers than weights in a student, which could
            then fit them without finding the network.
    """

    file: Positional[Path]
    activation: str
    hidden_layers: int | Literal["auto"] = 1
    outputs: tuple[str, ...] = ()
    preset: Preset = "chosen"
    seed: int = 0
    allow_few_samples: bool = False
    settings: Annotated[Settings, arg(name="")] = field(default_factory=lambda: Settings.of(RecoveryConfig.data()))
    answers: Annotated[NamedAnswers, arg(name="")] = field(default_factory=NamedAnswers)
    output: Annotated[SharedOutput, arg(name="")] = field(default_factory=SharedOutput)


@dataclass(frozen=True, kw_only=True)
class RecoverFunction:
    """Recover a network that can be asked, in float64: a function of your own, by questions that are chosen for it.

    The function takes questions, an array [n, fan_in], and returns answers [n] or [n, fan_out], the outputs before any
    softmax. It is looked for in the folder that you are in, too. No training: probes find the neurons (docs/asking.md).
    Every answer is kept, so that an interrupted command asks nothing twice.

      ecjax recover function mymodel:predict --fan-in 784
      ecjax recover function mymodel:predict --fan-in 784 --activation relu --max-questions 200000

    Attributes:
        function: Its module and its name, as package.module:name.
        fan_in: How many numbers a question has.
        activation: Of the hidden neurons; "auto" looks at single neurons and names it.
        hidden_layers: How many there are.
        batch: Questions in one call, at most.
        max_questions: How many may be asked.
        answers: Relative error of the answers; by default the rounding of the dtype in which they come.
        seed: Decides the questions.
    """

    function: Positional[str]
    fan_in: int
    activation: str = "auto"
    hidden_layers: int = 1
    batch: int = 4096
    max_questions: int | None = None
    answers: float | None = None
    seed: int = 0
    output: Annotated[Output, arg(name="")] = field(default_factory=Output)


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Train a network on real images, as a teacher to be recovered.

    A fully connected classifier learns the classes by cross-entropy. Its outputs before the softmax are what students
    will imitate; the folder that is written holds the network and how it was made.

      ecjax teach mnist --hidden 16
      ecjax teach mnist --hidden 30 30 30 --activation tanh
      ecjax teach cifar-10 --hidden 16 --data ~/datasets
      ecjax recover images --teacher teachers/mnist-16-g

    Images are looked for in the folder named by --data or the environment variable ECJAX_DATA (there mnist/,
    fashion-mnist/, cifar-10-batches-bin/ with their original files); what is not there is downloaded once.

    Attributes:
        dataset: Which images.
        hidden: How many neurons each hidden layer has, first to last.
        activation: Of the hidden neurons: g, tanh, sigmoid, softplus, relu, gelu, silu, ... Hidden layers of different
            ones are written with a comma: tanh,softplus.
        n: How many images it sees, the first of the training set; at most 60,000, of cifar-10 50,000.
        data: Folder of the data sets.
        held_out: Share of the images that it is not trained on but tested with.
        n_steps: How many steps of Adam, the learning rate falling to 0 along a cosine.
        batch_size: How many images in a step.
        learning_rate: Of the first step. At ten times this rate two to four of 16 relu neurons died on MNIST, at this
            one none (three seeds); nothing can recover a dead neuron.
        weight_decay: Keeps neurons from saturating (AdamW); 0 for none.
        precision: Of training and of the weights: float32, as in the paper, or float64. Students of either precision
            can imitate a teacher of either.
        seed: Decides initial weights, held-out images and batches.
        out: The teacher's folder; by default teachers/<dataset>-<hidden>-<activation>, with the seed if it is not 0.
        overwrite: Replace a teacher that is already there.
    """

    dataset: Positional[Dataset]
    hidden: tuple[int, ...] = (16,)
    activation: str = "g"
    n: int = 10_000
    data: Path | None = None
    held_out: float = 0.2
    n_steps: int = 6000
    batch_size: int = 128
    learning_rate: float = 3e-4
    weight_decay: float = 0.3
    precision: Precision = "float32"
    seed: int = 0
    out: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class RecoverImages:
    """Recover a network that was trained on images, layer by layer.

    Asks the teacher of `ecjax teach` for its outputs before the softmax, and recovers it from these alone. The teacher
    is known, so that every layer can be compared: how many neurons, how many in excess, how close their weights.

      ecjax teach mnist --hidden 16
      ecjax recover images --teacher teachers/mnist-16-g
      ecjax recover images --teacher teachers/mnist-16-g --student-width 64 --n-students 8
      ecjax recover images --teacher teachers/mnist-12-12-g --preset images-deep
      ecjax recover images --teacher teachers/mnist-128-g --preset paper-shallow
      ecjax recover images --teacher mine.safetensors --dataset fashion-mnist

    The preset says what all the other settings start from; what is given beside it counts. The paper's are for an
    accelerator:

      images          students of minutes on two cores, in float64
      images-deep     the same for several hidden layers: students of widths 48-48-..., and a second-order end
      paper-shallow   10 students of width 512 on mini-batches of 640, up to 25,000 epochs, in float32
      paper-deep      50 students of widths 90-90-90, the same

    Attributes:
        teacher: Its folder, or a network that ecjax saved (.safetensors), which --dataset then belongs to.
        dataset: Whose images a bare network has learned.
        data: Folder of the data sets; by default the one that ECJAX_DATA names. See `ecjax teach --help`.
        n: How many images the teacher is asked about, the first of the training set; by default as many as it has
            seen, for a bare network 10,000.
        preset: What the settings below start from.
        precision: Of queries, clusters and refinement. Whatever it is, students are trained on mini-batches in float32,
            unless you say --minibatch.dtype data.
        seed: Decides the students.
        noise: Standard deviation of errors that are added to the answers, in units of each output's own.
        allow_few_samples: Go on although the teacher gives fewer numbers than a student has weights.
    """

    teacher: Path
    dataset: Dataset | None = None
    data: Path | None = None
    n: int | None = None
    preset: ImagePreset = "images"
    precision: Precision = "float64"
    seed: int = 0
    noise: float = 0.0
    allow_few_samples: bool = False
    settings: Annotated[Settings, arg(name="")] = field(default_factory=lambda: Settings.of(RecoveryConfig.images()))
    output: Annotated[SharedOutput, arg(name="")] = field(default_factory=SharedOutput)


def images_default(arguments: Sequence[str]) -> RecoverImages:
    """What `ecjax recover images` starts from: the settings of the preset that is named among its arguments."""
    preset: ImagePreset = next((name for name in get_args(ImagePreset) if _names(arguments, name)), "images")
    default = RecoverImages(teacher=Path(), preset=preset, settings=Settings.of(PRESETS[preset]()))
    object.__setattr__(default, "teacher", tyro.MISSING)  # asked of the user; no Path, so the record would refuse it
    return default


def _names(arguments: Sequence[str], preset: str) -> bool:
    return f"--preset={preset}" in arguments or ("--preset", preset) in itertools.pairwise(arguments)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Follow many students of a random teacher by gradient flow, and sort them by the kind of point they end in.

      ecjax flow
      ecjax flow --width 8 --student-width 5 --n-students 200 --d-in 2
      ecjax flow --activation erf --population     all normally distributed inputs in the place of samples

    Attributes:
        d_in: How many inputs the teacher has.
        width: How many neurons its hidden layer has.
        d_out: How many outputs it has.
        activation: Of teacher and students.
        student_width: How many neurons students have; by default as many as the teacher.
        n_students: How many students are followed.
        n_samples: How many standard normal queries the teacher answers.
        population: Follow the loss over all standard normal inputs.
        seed: Decides teacher, queries and students.
        solver: kvaerno5, kvaerno3, kencarp58 (implicit), tsit5, dopri8 (explicit).
        rtol: Relative error allowed in a step; the absolute one is a thousandth of it.
        steps: After how many steps a student stops, rejected ones included.
        gradient_norm: At which norm of the gradient it has come to rest.
        norm: At which norm of the parameters it is let go: there rounding, some eps norm^2, hides a vanishing gradient.
        time: At which flow time it stops.
        slice: How many students are written at a time; what Ctrl-C may lose.
        threads: How many students are followed at a time.
    """

    d_in: int = 4
    width: int = 4
    d_out: int = 1
    activation: str = "g"
    student_width: int | None = None
    n_students: int = 100
    n_samples: int = 1000
    population: bool = False
    seed: int = 0
    solver: OdeSolver = "kvaerno5"
    rtol: float = 1e-3
    steps: int = 5000
    gradient_norm: float = 1e-12
    norm: float = 1e3
    time: float = float("inf")
    slice: int = 10
    threads: int = 1
    output: Annotated[Output, arg(name="")] = field(default_factory=Output)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare a recovered network with its teacher, neuron by neuron, up to what no input can reveal.

      ecjax compare runs/toy-20260101-120000-ab12
      ecjax compare runs/my-data teacher.safetensors
      ecjax compare one.safetensors other.safetensors

    Attributes:
        recovered: A run folder, or a network that ecjax saved (.safetensors).
        teacher: A network that ecjax saved; by default the teacher of the run.
        n_samples: How many standard normal queries to compare on, where `recovered` is a network; a run has its own.
        seed: Decides these queries.
    """

    recovered: Positional[Path]
    teacher: Positional[Path | None] = None
    n_samples: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Cut the clusters of a finished run again, with another gamma, beta or policy, and rebuild the network.

    No student is trained again. The new result is a run of its own; the old one stays as it is.

      ecjax cut runs/toy-20260101-120000-ab12 --gamma 0.5
      ecjax cut runs/toy-20260101-120000-ab12 --policy paper --beta 0.26

    Attributes:
        run: The folder of a finished run.
        gamma: Share of the students that a cluster must reach, within (0, 1]. What is not given stays as it was.
        beta: Largest median angle between the members of a cluster, in radians, within (0, pi/2].
        policy: How the dendrogram is cut.
        n_clusters: How many clusters are wanted; goes with the policy "count", and chooses it.
        height: Height of the cut in units of the metric; goes with the policy "height", and chooses it.
        resolution: Neurons closer than this share of their norm agree, however much closer others are.
    """

    run: Positional[Path]
    gamma: float | None = None
    beta: float | None = None
    policy: Policy | None = None
    n_clusters: int | None = None
    height: float | None = None
    resolution: float | None = None
    output: Annotated[Output, arg(name="")] = field(default_factory=Output)


def named_activations(names: str, hidden_layers: int) -> tuple[LayerActivation, ...]:
    """The activations of so many hidden layers: "tanh" of all of them, "tanh,softplus" one by one.

    Raises:
        ValueError: If there is no layer, if there are neither one nor as many as layers, or if none has that name.
    """
    if hidden_layers < 1:
        raise ValueError(f"`hidden_layers` is how many the teacher has, at least 1; got {hidden_layers}.")
    each = [name.strip() for name in names.split(",")]
    return as_activations(each if len(each) > 1 else each[0], hidden_layers)


Recover = RecoverToy | RecoverDigits | RecoverData | RecoverImages
Command = Recover | RecoverFunction | Teach | Compare | Cut | Flow
COMMANDS: dict[str, type] = {
    "recover toy": RecoverToy,
    "recover digits": RecoverDigits,
    "recover data": RecoverData,
    "recover images": RecoverImages,
    "recover function": RecoverFunction,
    "teach": Teach,
    "compare": Compare,
    "cut": Cut,
    "flow": Flow,
}

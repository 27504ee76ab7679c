"""`ecjax recover ...`: the commands that recover a network, and their settings."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from tyro.conf import Positional, arg

from ..road.settings import PRESETS, RecoveryConfig
from .options import Dataset, NamedAnswers, Output, Precision, Seed, SharedOutput
from .settings import Settings

ImagePreset = Literal["images", "images-deep", "paper-shallow", "paper-deep"]
Preset = Literal["chosen", "toy", "data", "digits", ImagePreset]


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
    seed: Seed = 0
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
    seed: Seed = 0
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
      .parquet, .arrow, .feather   the same, read by pyarrow

      ecjax recover data answers.npz --activation tanh
      ecjax recover data answers.csv --activation relu --outputs price demand
      ecjax recover data answers.npz --activation auto --hidden-layers auto
      ecjax recover data answers.csv --activation tanh --answers-are probabilities
      ecjax recover data answers.npz --activation tanh --n-students 12 --preset digits

    Attributes:
        file: The .npz, .csv, .parquet, .arrow or .feather file.
        activation: Of the unknown network. Hidden layers of different ones are written with a comma: tanh,softplus. If
            you do not know it, "auto" finds it by short runs; a wrong name is noticed, and the likelier one said.
        hidden_layers: How many it has; "auto" finds 1, 2 or 3. Where something is auto, an interrupted run begins
            again.
        outputs: Names of the columns that are outputs, of files whose columns have names.
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
    seed: Seed = 0
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
      ecjax recover function mymodel:predict --fan-in 784 --hidden-layers 2

    Attributes:
        function: Its module and its name, as package.module:name.
        fan_in: How many numbers a question has.
        activation: Of the hidden neurons; "auto" looks at single neurons and names it.
        hidden_layers: How many there are; "auto" takes the fewest that explain the answers.
        batch: Questions in one call, at most.
        max_questions: How many may be asked.
        answers: Relative error of the answers; by default the rounding of the dtype in which they come.
        seed: Decides the questions.
    """

    function: Positional[str]
    fan_in: int
    activation: str = "auto"
    hidden_layers: int | Literal["auto"] = 1
    batch: int = 4096
    max_questions: int | None = None
    answers: float | None = None
    seed: Seed = 0
    output: Annotated[Output, arg(name="")] = field(default_factory=Output)


@dataclass(frozen=True, kw_only=True)
class RecoverImages:
    """Recover a network that was trained on images, layer by layer.

    Asks the teacher of `ecjax teach` for its outputs before the softmax, and recovers it from these alone. The teacher
    is known, so that every layer can be compared: how many neurons, how many in excess, how close their weights.

      ecjax teach mnist --hidden 16
      ecjax recover images --teacher teachers/mnist-16-g
      ecjax recover images --teacher teachers/mnist-16-g --student-width 48 --n-students 8
      ecjax recover images --teacher teachers/mnist-128-tanh --student-width 192 --n-students 3
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
    seed: Seed = 0
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


Recover = RecoverToy | RecoverDigits | RecoverData | RecoverImages

"""The commands and their settings; `tyro` makes the command line and its help out of these dataclasses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ..cluster.cut import Policy
from ..expand.ode import OdeSolver
from .options import Dataset, Output, Precision, Seed
from .recover_commands import Recover, RecoverData, RecoverDigits, RecoverFunction, RecoverImages, RecoverToy


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
    seed: Seed = 0
    out: Path | None = None
    overwrite: bool = False


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
    seed: Seed = 0
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
      ecjax compare runs/my-data teacher.onnx
      ecjax compare one.safetensors other.safetensors

    Attributes:
        recovered: A run folder, or a network that ecjax saved (.safetensors), or an ONNX model (.onnx).
        teacher: A network that ecjax saved, or an ONNX model; by default the teacher of the run.
        n_samples: How many standard normal queries to compare on, where `recovered` is a network; a run has its own.
        seed: Decides these queries.
    """

    recovered: Positional[Path]
    teacher: Positional[Path | None] = None
    n_samples: int = 1000
    seed: Seed = 0


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


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a finished run as one HTML page: the answer first, then figures with the numbers behind them.

    The page needs nothing else, no network either: send it, print it, read it on a phone. It is drawn with Vega-Lite,
    which comes with `pip install "ecjax[report]"`.

      ecjax report runs/toy-20260101-120000-ab12
      ecjax report runs/toy-20260101-120000-ab12 --out toy.html

    Attributes:
        run: The folder of a finished run.
        out: The page to write; by default report.html in the run's folder. One that is there is replaced.
    """

    run: Positional[Path]
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs of a folder: what was run, when, in which state it is, and what came out.

      ecjax runs
      ecjax runs ~/experiments

    Attributes:
        folder: Where the runs are.
    """

    folder: Positional[Path] = Path("runs")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Print the numbers of a recovered network, or write them for another program.

      ecjax export runs/toy-20260101-120000-ab12                every weight, as tables
      ecjax export runs/toy-20260101-120000-ab12 --to csv       a line for each, with all digits
      ecjax export runs/toy-20260101-120000-ab12 --to npz --out network.npz
      ecjax export runs/toy-20260101-120000-ab12 --to onnx      a model of another library

    Attributes:
        run: A run folder, or a network that ecjax saved (.safetensors).
        to: text: tables in the terminal, or in a file that --out names. csv: layer, neuron, activation, source, value.
            npz: arrays w1, b1, w2, b2, ..., row i of w1 being neuron i. onnx, keras: models. torch: a state_dict as
            safetensors. flax: Linen's parameters as safetensors.
        out: The file to write; by default beside you, by the name of the run.
        overwrite: Replace a file that is already there.
    """

    run: Positional[Path]
    to: Literal["text", "csv", "npz", "onnx", "torch", "flax", "keras"] = "text"
    out: Path | None = None
    overwrite: bool = False


Command = Recover | RecoverFunction | Teach | Compare | Cut | Report | Runs | Export | Flow
COMMANDS: dict[str, type] = {
    "recover toy": RecoverToy,
    "recover digits": RecoverDigits,
    "recover data": RecoverData,
    "recover images": RecoverImages,
    "recover function": RecoverFunction,
    "teach": Teach,
    "compare": Compare,
    "cut": Cut,
    "report": Report,
    "runs": Runs,
    "export": Export,
    "flow": Flow,
}

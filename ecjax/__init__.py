"""Recover an unknown neural network, its widths and every weight, from inputs and outputs alone.

    import ecjax as ec
    recovery = ec.recover(x, y, activation="tanh", student_width=32, key=jax.random.key(0))
    print(recovery.summary())

What is called by name stands here; the rest is in rooms that can be imported, a phase or a subject each: ec.network,
ec.doors, ec.objective, ec.data, ec.judge, ec.expand, ec.probe, ec.cluster, ec.reconstruct, ec.flow, ec.road, ec.runs.

The method is Expand-and-Cluster (Martinelli, Şimşek, Gerstner, Brea; ICML 2024, arXiv:2304.12794).
"""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

from . import cluster as cluster
from . import data as data
from . import doors as doors
from . import expand as expand
from . import flow as flow
from . import judge as judge
from . import network as network
from . import objective as objective
from . import probe as probe
from . import reconstruct as reconstruct
from . import road as road
from . import runs as runs
from .cluster import ClusterConfig as ClusterConfig
from .cluster import Clustering as Clustering
from .cluster import recut as recut
from .cluster import suggest_gamma_beta as suggest_gamma_beta
from .data import Answers as Answers
from .data import Data as Data
from .data import Teacher as Teacher
from .data import TeacherError as TeacherError
from .data import digits_teacher as digits_teacher
from .data import gaussian_queries as gaussian_queries
from .data import grid_queries as grid_queries
from .data import load_images as load_images
from .data import mixed_queries as mixed_queries
from .data import noisy_copies as noisy_copies
from .data import synthetic_teacher as synthetic_teacher
from .data import trained_teacher as trained_teacher
from .doors import as_network as as_network
from .doors import export as export
from .doors import from_equinox as from_equinox
from .doors import from_keras as from_keras
from .doors import from_linen as from_linen
from .doors import from_nnx as from_nnx
from .doors import from_onnx as from_onnx
from .doors import from_sklearn as from_sklearn
from .doors import from_torch as from_torch
from .doors import to_equinox as to_equinox
from .doors import to_keras as to_keras
from .doors import to_linen as to_linen
from .doors import to_nnx as to_nnx
from .doors import to_onnx as to_onnx
from .doors import to_sklearn as to_sklearn
from .doors import to_torch as to_torch
from .expand import ExpandConfig as ExpandConfig
from .expand import Stopping as Stopping
from .judge import Certificate as Certificate
from .judge import Comparison as Comparison
from .judge import certify as certify
from .judge import compare as compare
from .judge import unrecoverable_neurons as unrecoverable_neurons
from .network import ACTIVATIONS as ACTIVATIONS
from .network import Activation as Activation
from .network import Layer as Layer
from .network import Mixture as Mixture
from .network import Network as Network
from .network import Symmetry as Symmetry
from .network import load_network as load_network
from .network import mixture as mixture
from .network import random_network as random_network
from .network import respond as respond
from .network import save_network as save_network
from .objective import Objective as Objective
from .objective import Population as Population
from .objective import Samples as Samples
from .road import PRESETS as PRESETS
from .road import Recovery as Recovery
from .road import RecoveryConfig as RecoveryConfig
from .road import rebuild as rebuild
from .road import recover as recover
from .road import recover_problems as recover_problems
from .runs import load_run as load_run

try:
    __version__ = _version("ecjax")
except _NotInstalled:  # run from its source tree, on a machine where nothing can be installed
    __version__ = "uninstalled"

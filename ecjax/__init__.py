"""Recover an unknown neural network, its widths and every weight, from inputs and outputs alone.

    import ecjax as ec
    recovery = ec.recover(x, y, activation="tanh", student_width=32, key=jax.random.key(0))
    print(recovery.summary())

The method is Expand-and-Cluster (Martinelli, Şimşek, Gerstner, Brea; ICML 2024, arXiv:2304.12794).
"""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

from .cluster import ClusterConfig as ClusterConfig
from .cluster import Clustering as Clustering
from .cluster import cluster_neurons as cluster_neurons
from .cluster import recut as recut
from .cluster import second_moment as second_moment
from .cluster import suggest_gamma_beta as suggest_gamma_beta
from .data.queries import gaussian_queries as gaussian_queries
from .data.queries import grid_queries as grid_queries
from .data.queries import noisy_copies as noisy_copies
from .data.teachers import TrainedTeacher as TrainedTeacher
from .data.teachers import digits as digits
from .data.teachers import digits_teacher as digits_teacher
from .data.teachers import synthetic_teacher as synthetic_teacher
from .data.teachers import trained_teacher as trained_teacher
from .expand import RESULTS as RESULTS
from .expand import AdamConfig as AdamConfig
from .expand import ExpandConfig as ExpandConfig
from .expand import Expansion as Expansion
from .expand import FlowConfig as FlowConfig
from .expand import MinibatchConfig as MinibatchConfig
from .expand import RefineConfig as RefineConfig
from .expand import ShrinkConfig as ShrinkConfig
from .expand import expand as expand
from .expand import expand_minibatch as expand_minibatch
from .expand import expand_problems as expand_problems
from .expand import gradient_flow as gradient_flow
from .expand import refine as refine
from .expand import sufficient_width as sufficient_width
from .judge.certificate import Certificate as Certificate
from .judge.certificate import certify as certify
from .judge.certificate import ease as ease
from .judge.comparison import Comparison as Comparison
from .judge.comparison import LayerComparison as LayerComparison
from .judge.comparison import compare as compare
from .judge.unidentified import unrecoverable_neurons as unrecoverable_neurons
from .network.activations import ACTIVATIONS as ACTIVATIONS
from .network.activations import Activation as Activation
from .network.activations import Symmetry as Symmetry
from .network.networks import Layer as Layer
from .network.networks import Network as Network
from .network.networks import from_nnx as from_nnx
from .network.networks import load_network as load_network
from .network.networks import permute_neurons as permute_neurons
from .network.networks import random_network as random_network
from .network.networks import random_students as random_students
from .network.networks import respond as respond
from .network.networks import save_network as save_network
from .network.networks import split_neuron as split_neuron
from .network.networks import stack as stack
from .network.networks import student as student
from .network.networks import to_nnx as to_nnx
from .objective.imitation import gauss_newton as gauss_newton
from .objective.imitation import gradient as gradient
from .objective.imitation import hessian as hessian
from .objective.imitation import imitation_loss as imitation_loss
from .objective.imitation import jacobian as jacobian
from .objective.imitation import residuals as residuals
from .road.road import Recovery as Recovery
from .road.road import rebuild as rebuild
from .road.road import recover as recover
from .road.settings import PRESETS as PRESETS
from .road.settings import RecoveryConfig as RecoveryConfig
from .road.together import recover_problems as recover_problems

try:
    __version__ = _version("ecjax")
except _NotInstalled:  # run from its source tree, on a machine where nothing can be installed
    __version__ = "uninstalled"

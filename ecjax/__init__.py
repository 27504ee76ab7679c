"""Recover an unknown neural network, its widths and every weight, from inputs and outputs alone.

    import ecjax as ec
    recovery = ec.recover(x, y, activation="tanh", student_width=32, key=jax.random.key(0))
    print(recovery.summary())

The method is Expand-and-Cluster (Martinelli, Şimşek, Gerstner, Brea; ICML 2024, arXiv:2304.12794).
"""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

from .activations import ACTIVATIONS as ACTIVATIONS
from .activations import Activation as Activation
from .activations import Symmetry as Symmetry
from .certify import Certificate as Certificate
from .certify import certify as certify
from .certify import ease as ease
from .cluster import ClusterConfig as ClusterConfig
from .cluster import Clustering as Clustering
from .cluster import cluster_neurons as cluster_neurons
from .cluster import recut as recut
from .cluster import second_moment as second_moment
from .cluster import suggest_gamma_beta as suggest_gamma_beta
from .compare import Comparison as Comparison
from .compare import LayerComparison as LayerComparison
from .compare import compare as compare
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
from .identify import unrecoverable_neurons as unrecoverable_neurons
from .imitation import gauss_newton as gauss_newton
from .imitation import gradient as gradient
from .imitation import hessian as hessian
from .imitation import imitation_loss as imitation_loss
from .imitation import jacobian as jacobian
from .imitation import residuals as residuals
from .networks import Layer as Layer
from .networks import Network as Network
from .networks import from_nnx as from_nnx
from .networks import load_network as load_network
from .networks import permute_neurons as permute_neurons
from .networks import random_network as random_network
from .networks import random_students as random_students
from .networks import respond as respond
from .networks import save_network as save_network
from .networks import split_neuron as split_neuron
from .networks import stack as stack
from .networks import student as student
from .networks import to_nnx as to_nnx
from .problems import recover_problems as recover_problems
from .queries import gaussian_queries as gaussian_queries
from .queries import grid_queries as grid_queries
from .queries import noisy_copies as noisy_copies
from .recover import Recovery as Recovery
from .recover import rebuild as rebuild
from .recover import recover as recover
from .settings import PRESETS as PRESETS
from .settings import RecoveryConfig as RecoveryConfig
from .teachers import TrainedTeacher as TrainedTeacher
from .teachers import digits as digits
from .teachers import digits_teacher as digits_teacher
from .teachers import synthetic_teacher as synthetic_teacher
from .teachers import trained_teacher as trained_teacher

try:
    __version__ = _version("ecjax")
except _NotInstalled:  # run from its source tree, on a machine where nothing can be installed
    __version__ = "uninstalled"

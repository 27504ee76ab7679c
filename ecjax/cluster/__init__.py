"""Phase 2: the neurons of one layer, pooled over students, into clusters; those that many students share are kept."""

from .clustering import Aligned as Aligned
from .clustering import ClusterConfig as ClusterConfig
from .clustering import Clustering as Clustering
from .clustering import Suggestion as Suggestion
from .clustering import cluster_neurons as cluster_neurons
from .clustering import recut as recut
from .clustering import suggest_gamma_beta as suggest_gamma_beta
from .distances import condensed_distances as condensed_distances
from .embedding import embed as embed
from .embedding import second_moment as second_moment

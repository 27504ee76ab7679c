"""Phase 2: the neurons of one layer, pooled over students, into clusters; those that many students share are kept."""

from .clustering import cluster_layer as cluster_layer
from .clustering import cluster_neurons as cluster_neurons
from .clustering import recut as recut
from .distances import condensed_distances as condensed_distances
from .embedding import embed as embed
from .embedding import second_moment as second_moment
from .metric import METRICS as METRICS
from .metric import Metric as Metric
from .mixed import LayerClustering as LayerClustering
from .mixed import MixedClustering as MixedClustering
from .record import Aligned as Aligned
from .record import ClusterConfig as ClusterConfig
from .record import Clustering as Clustering
from .suggest import Suggestion as Suggestion
from .suggest import suggest_gamma_beta as suggest_gamma_beta

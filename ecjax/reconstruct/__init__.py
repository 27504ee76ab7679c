"""Phase 3: clusters become neurons, and refinement has the last word."""

from .assemble import Candidate as Candidate
from .assemble import Tools as Tools
from .assemble import assemble as assemble
from .eliminate import eliminate as eliminate
from .eliminate import eliminate_in_all_layers as eliminate_in_all_layers
from .finetune import finetune as finetune
from .merge import merge as merge
from .output import Neurons as Neurons
from .output import before_next as before_next
from .output import contributions as contributions
from .output import fit_output as fit_output
from .output import likely_signs as likely_signs
from .output import neurons_of as neurons_of
from .output import removal_costs as removal_costs
from .output import wanted as wanted
from .propose import NoClustersError as NoClustersError
from .propose import reconstruct_layer as reconstruct_layer
from .propose import removed_clusters as removed_clusters
from .select import nested_choices as nested_choices

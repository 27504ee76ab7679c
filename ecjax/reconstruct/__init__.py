"""Phase 3: clusters become neurons, and refinement has the last word."""

from .eliminate import eliminate as eliminate
from .finetune import Candidate as Candidate
from .finetune import before_next as before_next
from .finetune import exact_loss as exact_loss
from .finetune import finetune as finetune
from .finetune import settle as settle
from .merge import merge as merge
from .output import contributions as contributions
from .output import fit_output as fit_output
from .output import likely_signs as likely_signs
from .output import removal_costs as removal_costs
from .propose import NoClustersError as NoClustersError
from .propose import reconstruct_layer as reconstruct_layer
from .select import nested_choices as nested_choices
from .slim import slimmed as slimmed

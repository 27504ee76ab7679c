"""What counts as exact, how sure a network is the teacher, and how the two compare."""

from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .certificate import ease as ease
from .comparison import Comparison as Comparison
from .comparison import LayerComparison as LayerComparison
from .comparison import compare as compare
from .evidence import Evidence as Evidence
from .exactness import Judge as Judge
from .intervals import half_widths as half_widths
from .intervals import standard_errors as standard_errors
from .jacobian import answers_by_weights as answers_by_weights
from .unidentified import unrecoverable_neurons as unrecoverable_neurons

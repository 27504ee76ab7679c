"""What a network is fitted to, and its derivatives."""

from .objective import LeastSquares as LeastSquares
from .objective import Objective as Objective
from .objective import Theta as Theta
from .objective import flatten as flatten
from .objective import gradient_field as gradient_field
from .objective import residual_field as residual_field
from .population import Population as Population
from .samples import Inputs as Inputs
from .samples import Outputs as Outputs
from .samples import Samples as Samples
from .samples import imitation_loss as imitation_loss
from .scaling import Scaling as Scaling

"""Gradient-flow studies: follow many students at once, see where they go and at what kind of point they end."""

from .critical import CriticalPoint as CriticalPoint
from .critical import critical_point as critical_point
from .discrete import Discrete as Discrete
from .following import follow as follow
from .following import log_times as log_times
from .landscape import Plane as Plane
from .landscape import loss_on_line as loss_on_line
from .minimum import Minima as Minima
from .minimum import find_minimum as find_minimum
from .ode import Ode as Ode
from .paths import distance as distance
from .paths import neuron_paths as neuron_paths
from .paths import overlaps as overlaps
from .problem import time_constants as time_constants
from .study import Study as Study
from .study import study_ends as study_ends
from .trajectory import Trajectory as Trajectory
from .trajectory import joined as joined
from .trajectory import load_trajectory as load_trajectory
from .until import Until as Until

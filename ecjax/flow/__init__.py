"""Gradient-flow studies: follow many students at once, see where they go and at what kind of point they end."""

from .discrete import Discrete as Discrete
from .follow import follow as follow
from .follow import log_times as log_times
from .ode import Ode as Ode
from .problem import time_constants as time_constants
from .trajectory import Trajectory as Trajectory
from .trajectory import joined as joined
from .trajectory import load_trajectory as load_trajectory
from .until import Until as Until

"""The whole road: settings, one hidden layer in rounds, layer after layer, several problems at once."""

from .finished import rebuild as rebuild
from .numbers import cluster_numbers as cluster_numbers
from .recovery import Recovery as Recovery
from .road import recover as recover
from .settings import PRESETS as PRESETS
from .settings import RecoveryConfig as RecoveryConfig
from .together import recover_problems as recover_problems

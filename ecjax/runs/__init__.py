"""A run on disk: one folder that holds everything needed to read it, check it, and cut it again.

    config.json           what was asked for: the command, every setting, a fingerprint of the data
    versions.json         with what it was made: packages, Python, device, precision, time
    result.json           what came out: widths, losses, cluster by cluster, seconds per phase
    comparison.json       the same against the teacher, where it is known: layer by layer and neuron by neuron
    network.safetensors   the recovered network; students.safetensors and teacher.safetensors beside it
    data.safetensors      queries and answers, fresh ones too
    layers.safetensors    the dendrogram and the clusters of every layer
    figures/*.png         the same as pictures

Each file is written whole or not at all, and the folder carries `.unfinished` in its name until it is complete. In an
unfinished folder, and in that of a run which its budget ended, students/ holds the students that are done: the same
command takes the run up where it was.
"""

from ..base.files import read_arrays as read_arrays
from ..base.files import read_json as read_json
from ..base.files import write_arrays as write_arrays
from .as_json import as_json as as_json
from .as_json import from_json as from_json
from .as_json import write_json as write_json
from .folder import STUDENTS as STUDENTS
from .folder import UNFINISHED as UNFINISHED
from .folder import close_run as close_run
from .folder import default_folder as default_folder
from .folder import is_bare as is_bare
from .folder import is_stopped as is_stopped
from .folder import open_run as open_run
from .folder import unfinished as unfinished
from .folder import versions as versions
from .records import Run as Run
from .records import load_run as load_run
from .records import save_recovery as save_recovery
from .state import State as State
from .state import states as states
from .students import StudentFiles as StudentFiles

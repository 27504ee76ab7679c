"""Phase 1b: probes in the place of students, where the teacher can be asked.

A probe proposes incoming weight vectors, as a student does: from Hessians of the answers (`hessians`), or from what
happens far out, where neurons cross zero one by one (`sweep`). What independent probes agree on is a neuron; the
cluster phase does not know who proposed. Then each neuron is looked at by itself (`profile`), measured where the others
have come to rest (`isolate`), and all of them are brought together again (`polish`, `columns`).
"""

from .behind import Behind as Behind
from .behind import by_rank as by_rank
from .behind import profile_behind as profile_behind
from .columns import columns as columns
from .hessians import N_PAIRS as N_PAIRS
from .hessians import hessians as hessians
from .hessians import proposals as proposals
from .inverse import growing as growing
from .inverse import inverse as inverse
from .isolate import Isolated as Isolated
from .isolate import NoRestError as NoRestError
from .long_steps import long_steps as long_steps
from .long_steps import sharpened as sharpened
from .pieces import pieces as pieces
from .polish import Shallow as Shallow
from .polish import polished as polished
from .profile import LINE as LINE
from .profile import Profile as Profile
from .profile import crossing_places as crossing_places
from .profile import fit_profile as fit_profile
from .profile import named as named
from .reach import SPREAD as SPREAD
from .reach import Reach as Reach
from .record import DIRECTIONS as DIRECTIONS
from .record import STUDENTS as STUDENTS
from .record import Probes as Probes
from .row_space import RowSpace as RowSpace
from .row_space import row_space as row_space
from .scale import Scale as Scale
from .scale import natural_scale as natural_scale
from .signs import signed as signed
from .sweep import Crossing as Crossing
from .sweep import Shape as Shape
from .sweep import shape_far_out as shape_far_out
from .sweep import sweep as sweep

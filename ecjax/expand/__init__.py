"""Phase 1: train N overparameterised students to imitate the teacher."""

from .adam import AdamConfig as AdamConfig
from .adam import adam as adam
from .ensemble import EPOCHS as EPOCHS
from .ensemble import layer_store as layer_store
from .ensemble import over_students as over_students
from .ensemble import round_store as round_store
from .expand import SECOND_ORDER_UP_TO as SECOND_ORDER_UP_TO
from .expand import ExpandConfig as ExpandConfig
from .expand import choose_method as choose_method
from .expand import expand as expand
from .expand import expand_problems as expand_problems
from .flow import FlowConfig as FlowConfig
from .flow import gradient_flow as gradient_flow
from .minibatch import MinibatchConfig as MinibatchConfig
from .minibatch import MinibatchState as MinibatchState
from .minibatch import expand_minibatch as expand_minibatch
from .minibatch import state_from_arrays as state_from_arrays
from .minibatch import state_to_arrays as state_to_arrays
from .records import RESULTS as RESULTS
from .records import Expansion as Expansion
from .records import Student as Student
from .refine import RefineConfig as RefineConfig
from .refine import refine as refine
from .renew import better_of as better_of
from .renew import renewed as renewed
from .width import sufficient_width as sufficient_width

"""Phase 1: train N overparameterised students to imitate the teacher.

`expand` trains a stack of students; a method is a tuple of stages (`ecjax.expand.stage`), each in a file of its own.
"""

from .adam import Adam as Adam
from .bfgs import BFGS as BFGS
from .conjugate import Conjugate as Conjugate
from .descent import Descent as Descent
from .descent import Stopping as Stopping
from .expansion import RESULTS as RESULTS
from .expansion import Expansion as Expansion
from .expansion import Student as Student
from .expansion import judged as judged
from .flow import Flow as Flow
from .inexact import Inexact as Inexact
from .lbfgs import LBFGS as LBFGS
from .levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from .methods import METHODS as METHODS
from .methods import SECOND_ORDER_UP_TO as SECOND_ORDER_UP_TO
from .methods import ExpandConfig as ExpandConfig
from .methods import choose_method as choose_method
from .methods import is_small as is_small
from .minibatch import Minibatch as Minibatch
from .minibatch_state import MinibatchState as MinibatchState
from .narrowing import NarrowedMinibatch as NarrowedMinibatch
from .narrowing import Narrowing as Narrowing
from .newton import Newton as Newton
from .on_fewer import OnFewer as OnFewer
from .on_fewer import fewer as fewer
from .on_fewer import leverage as leverage
from .orthogonal import Orthogonal as Orthogonal
from .rounds import better_of as better_of
from .rounds import renewed as renewed
from .stage import Road as Road
from .stage import StackStage as StackStage
from .stage import Stage as Stage
from .students_axis import over_students as over_students
from .subsampled import Subsampled as Subsampled
from .training import expand as expand
from .training import expand_problems as expand_problems
from .width import sufficient_width as sufficient_width

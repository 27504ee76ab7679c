"""Queries and answers, and where they come from: teachers, queries, data sets."""

from .answers import Answers as Answers
from .data import Data as Data
from .images import load_images as load_images
from .queries import gaussian_queries as gaussian_queries
from .queries import grid_queries as grid_queries
from .queries import mixed_queries as mixed_queries
from .queries import noisy_copies as noisy_copies
from .teacher import Teacher as Teacher
from .teacher import TeacherError as TeacherError
from .teachers import TrainedTeacher as TrainedTeacher
from .teachers import digits as digits
from .teachers import digits_teacher as digits_teacher
from .teachers import synthetic_teacher as synthetic_teacher
from .teachers import trained_teacher as trained_teacher

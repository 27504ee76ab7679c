"""The 150 synthetic problems: a teacher, its queries and the students' key, fixed by (d_in, width, seed).

5 input dimensions (2, 4, 8, 16, 32) x 3 widths (2, 4, 8) x 10 seeds, activation g, one output, float64. A *trial* is a
problem with an expansion (student width over teacher width: 1, 2, 4, 8) and a method; the queries do not depend on
either, so that all are asked the same.

Source: Martinelli et al., ICML 2024 (arXiv:2304.12794), synthetic teachers. The input dimensions, the expansions and
    the distribution of the teachers are our reading; see `ecjax.synthetic_teacher`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ecjax import Network, gaussian_queries, respond, synthetic_teacher

D_IN = (2, 4, 8, 16, 32)
WIDTHS = (2, 4, 8)
SEEDS = tuple(range(10))
EXPANSIONS = (1, 2, 4, 8)
METHODS = ("ours", "paper")  # what is trained; "plain" clusters the students of "ours" as the paper does
QUERIES_PER_PARAMETER = 10
FEWEST_QUERIES = 1000
N_FRESH = 10_000  # queries that no student has seen


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One teacher to recover."""

    d_in: int
    width: int
    seed: int

    @property
    def n_students(self) -> int:
        """The paper's: 10 for teachers of width 8, 20 for narrower ones."""
        return 10 if self.width >= 8 else 20


@dataclass(frozen=True, kw_only=True, order=True)
class Trial:
    """One problem given to students of one width, trained in one way."""

    method: str
    expansion: int
    problem: Problem

    @property
    def student_width(self) -> int:
        return self.expansion * self.problem.width

    @property
    def kind(self) -> tuple[str, int, int, int]:
        """What trials of different seeds share: method, expansion, inputs, width."""
        return self.method, self.expansion, self.problem.d_in, self.problem.width

    @property
    def name(self) -> str:
        """As a file."""
        p = self.problem
        return f"{self.method}-expansion{self.expansion}-inputs{p.d_in:02d}-width{p.width}-seed{p.seed:02d}"

    @property
    def labels(self) -> dict[str, Any]:
        """Its columns in the table."""
        return {"method": self.method, "expansion": self.expansion, **asdict(self.problem)}


class Drawn(NamedTuple):
    """A problem with its numbers."""

    teacher: Network
    x: Float[Array, "samples fan_in"]  # what the teacher is asked
    y: Float[Array, "samples fan_out"]  # what it answers
    fresh: Float[Array, "fresh fan_in"]  # more queries from the same distribution, for judging only
    key: PRNGKeyArray  # the students'


def draw(problem: Problem) -> Drawn:
    """Teacher and queries of a problem: ten queries for each parameter of the teacher, at least 1,000."""
    teacher_key, query_key, key = jr.split(jr.key(problem.seed), 3)
    teacher = synthetic_teacher(problem.d_in, problem.width, 1, "g", key=teacher_key)
    n_samples = max(FEWEST_QUERIES, QUERIES_PER_PARAMETER * teacher.n_parameters)
    x = gaussian_queries(n_samples, problem.d_in, key=query_key)
    fresh = gaussian_queries(N_FRESH, problem.d_in, key=jr.fold_in(query_key, 1))
    return Drawn(teacher, x, respond(teacher, x), fresh, key)


def trials(
    methods: Iterable[str] = METHODS[:1],
    expansions: Iterable[int] = EXPANSIONS,
    d_in: Iterable[int] = D_IN,
    widths: Iterable[int] = WIDTHS,
    seeds: Iterable[int] = SEEDS,
) -> list[Trial]:
    """The trials asked for, small ones first within an expansion; those of one kind follow each other."""
    return [
        Trial(method=method, expansion=expansion, problem=Problem(d_in=n, width=width, seed=seed))
        for method in methods
        for expansion in expansions
        for n in d_in
        for width in widths
        for seed in seeds
    ]

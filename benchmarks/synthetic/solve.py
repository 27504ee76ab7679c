"""One trial: students are trained, and what they lead to is compared with the teacher.

ours    `ecjax.road.road` with the settings of `RecoveryConfig.toy`
plain   the paper's clusters of the students of "ours": its metric, cut and filters, nothing beyond the kept ones
paper   the paper's road: gradient flow to rest and its clusters
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ecjax import ClusterConfig, ExpandConfig, Recovery, RecoveryConfig, Stopping, rebuild, recover, respond
from ecjax.expand import Student
from ecjax.road.layers import cluster_students
from ecjax.runs import versions

from ..rows import quality, timed
from .ease import ease_numbers
from .problems import Drawn, Trial, draw

PAPER_CLUSTERS = ClusterConfig(gamma=0.8, beta=np.pi / 24, metric="euclidean", policy="paper")
CERTIFICATE = ("certified", "fresh_loss", "condition", "parameter_bound")  # of the recovery's certificate


def settings(trial: Trial) -> RecoveryConfig:
    """How a trial is solved."""
    toy = RecoveryConfig.toy(trial.student_width, trial.problem.n_students)
    if trial.method == "ours":
        return toy
    method, n_steps = ("flow_newton", 5000) if trial.expansion == 1 else ("flow_bfgs", 250)
    expand = ExpandConfig(method=method, descent=Stopping(max_steps=n_steps, patience=n_steps))
    return replace(toy, rounds=1, standardise="no", propose=False, expand=expand, cluster=PAPER_CLUSTERS)


def solve(trial: Trial) -> dict[str, Any]:
    """Solve one trial.

    Returns:
        `rows`, one for the method and, beside "ours", one for "plain"; and `about`, with what they were made. A row of
        an attempt that failed has its `error` and no recovered neuron.
    """
    drawn = draw(trial.problem)
    students: dict[str, Any] = {}  # kept where the recovery from them fails
    about = versions()
    always = {
        "n_students": trial.problem.n_students,
        "student_width": trial.student_width,
        "n_queries": len(drawn.x),
        **ease_numbers(drawn.teacher, drawn.x),
        "device": about["device"]["kind"],
        **{name: about["packages"][name] for name in ("ecjax", "jax")},
        "python": about["python"],
        "made": about["made"],
    }
    config = settings(trial)
    fresh = (drawn.fresh, respond(drawn.teacher, drawn.fresh))
    ask = {"activation": "g", "config": config, "key": drawn.key, "fresh": fresh, "store": students}
    work = lambda: recover(drawn.x, drawn.y, **ask)
    recovery, found = _attempt(work, trial, drawn)
    trained = _training(students)
    rows = [trial.labels | always | found | trained]
    if trial.method == "ours":
        work = lambda: _plainly(recovery, drawn)
        found = _attempt(work, trial, drawn)[1] if recovery is not None else _nothing(trial, rows[0]["error"])
        rows.append(trial.labels | {"method": "plain"} | always | found | trained)
    return {"rows": rows, "about": about}


def _plainly(recovery: Recovery, drawn: Drawn) -> Recovery:
    """What the same students lead to by the paper's clusters alone."""
    config = replace(recovery.config, propose=False, cluster=PAPER_CLUSTERS)
    clustering = cluster_students(recovery.expansion, recovery.scaling.inputs(drawn.x), config)
    strict = dataclasses.replace(recovery, config=config)
    return rebuild(strict, clustering, drawn.x, drawn.y, fresh=(drawn.fresh, respond(drawn.teacher, drawn.fresh)))


def _attempt(work: Callable[[], Recovery], trial: Trial, drawn: Drawn) -> tuple[Recovery | None, dict[str, Any]]:
    """What `work` recovers, and its part of the row; a failure is a row too, so that it never stops the others."""
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        made, seconds, cpu_seconds = timed(work)
        found = quality(made, drawn.teacher, drawn.x, fresh=drawn.fresh)
    except Exception as error:
        spent = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
        return None, _nothing(trial, f"{type(error).__name__}: {error}") | spent
    phases = {f"seconds_{phase}": spent for phase, spent in found.pop("phases").items()}
    return made, {
        "recovered_width": made.widths[0],
        **found,
        **{name: getattr(made.certificate, name) for name in CERTIFICATE},
        "trained_by": made.expansion.method,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        **phases,
        "error": None,
    }


def _nothing(trial: Trial, error: str) -> dict[str, Any]:
    """A failure recovers no neuron."""
    return {
        "recovered_width": 0,
        "n_missing": trial.problem.width,
        "n_excess": 0,
        "parameter_error": float("inf"),
        "error": error,
    }


def _training(students: dict[str, Any]) -> dict[str, Any]:
    """How every student ended, in the order of their rounds and numbers."""
    inorder = [students[name] for name in sorted(students) if isinstance(students[name], Student)]
    return {
        "student_losses": [float(each.loss) for each in inorder],
        "student_gradient_norms": [float(each.gradient_norm) for each in inorder],
        "student_steps": [int(each.n_steps) for each in inorder],
    }

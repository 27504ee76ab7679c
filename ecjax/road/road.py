"""The whole road: queries and answers in, the teacher's network out.

    x, y  ->  expand  ->  cluster  ->  reconstruct  ->  finetune  ->  Recovery

A deep teacher is recovered a hidden layer at a time. The neurons of a reconstructed layer answer the queries, their
answers are the queries of the layers above, and these are trained again, from where the students had them (carried
over by least squares) or afresh. At the end all weights are fine-tuned together.

`recover` alone knows all phases. Every phase can be called by itself with the records of the one before.
"""

from collections.abc import MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..base.checks import as_kind, check_key
from ..base.deadline import Deadline
from ..base.progress import Progress, silent
from ..base.threads import one_blas_thread
from ..cluster import Metric
from ..data import Answers, Data, Teacher
from ..doors import is_model
from ..expand.store import Store
from ..network import Activations, Network
from .asking import AUTO, ProbesFailedError, recover_by_asking, with_answers
from .choice import Overrides, choice_of
from .following import checked_activations, follow
from .outliers import in_words, without_outliers
from .recovery import Recovery
from .settings import RecoveryConfig, Width
from .unknown import of_unknown_kind

_GOES_ON = "; the same call with its store, or the same command, goes on from there"


def recover(
    x: Any,
    y: Any = None,
    *,
    activation: Activations,
    key: PRNGKeyArray,
    hidden_layers: int | Literal["auto"] = 1,
    config: RecoveryConfig | None = None,
    fresh: tuple[Any, Any] | None = None,
    answers: Answers | None = None,
    student_width: Width | None = None,
    n_students: int | None = None,
    gamma: float | None = None,
    beta: float | None = None,
    metric: str | Metric | None = None,
    policy: str | None = None,
    n_clusters: int | None = None,
    height: float | None = None,
    method: Any = None,
    allow_few_samples: bool = False,
    store: Store | None = None,
    budget: float | None = None,
    progress: Progress = silent,
) -> Recovery:
    """Recover a network, its width and every weight, from inputs and outputs alone.

    Args:
        x: Queries, one a row, as an array or a table (pandas, polars, Arrow), whose names are kept. Their dtype is the
            precision of the work: float64 for exact recovery. Or `Data`, with the answers in it. Or a `Teacher`, or a
            model that makes one (`ecjax.doors`), who is asked what is worth asking (`ecjax.road.asking`).
        y: The teacher's answers, one a row (or one number a sample).
        activation: Of the teacher's hidden neurons: a name, an `Activation`, or one for each hidden layer. A `Mixture`
            says it neuron by neuron of the students. "auto": found by short runs of students of each kind in the
            catalogue (`ecjax.road.kinds`), or, of a `Teacher`, by looking at single neurons.
        key: For the students' initial weights. Not to be used again.
        hidden_layers: How many the teacher has. "auto": 1, 2 or 3, found by short runs likewise, or, of a `Teacher`, as
            many as its answers need, up to 4.
        config: All settings; by default they are chosen from the data (`ecjax.road.choice`), and the recovery says how.
        fresh: More queries and answers, arrays like x and y, kept out of the recovery for its certificate.
        answers: What is known of them, their noise, rounding, or that they are probabilities; the rest is found from
            them, where it can be (`ecjax.data.answers`).
        student_width: Overrides the config, as all that follow do.
        n_students: See `RecoveryConfig`.
        gamma: See `ClusterConfig`.
        beta: See `ClusterConfig`.
        metric: See `ClusterConfig`.
        policy: See `ClusterConfig`.
        n_clusters: See `ClusterConfig`; goes with the policy "count", and chooses it.
        height: See `ClusterConfig`; goes with the policy "height", and chooses it.
        method: See `ExpandConfig`.
        allow_few_samples: Go on although there are fewer numbers in y than parameters in a student.
        store: What is finished, a mutable mapping (see `ecjax.expand.store`); given back, an interrupted recovery goes
            on where it was. A store that belongs to other data, settings or another key is refused.
        budget: Seconds from now, until when something new may be begun; None for as many as it takes. Afterwards comes
            what an answer cannot do without, so that this is the time by which a budget is exceeded: the student, or
            the chunk of epochs, that was begun; two students that agree (as many as gamma asks for, if some diverged;
            all of a call where a device trains several together), of each hidden layer that is still to come; their
            clusters, the network that these lead to, its last refinement and its certificate. Nothing is left out of
            the search for a width ("auto"), nor of what a `Teacher` is asked. What was left out is said in `chosen`,
            and the same call with its `store`, with any budget or none, goes on from there to the end that it would
            have had in one go, bit for bit. Where activation or depth are "auto" there is no store, and the call
            begins again. With `propose` off there may be no cluster yet, which is an error; the store has the students.
        progress: Called as the work advances.

    Returns:
        The network with all that decided it. Look at `certificate` before you trust it, and at `is_exact` where that
        has doubts.

    Raises:
        ValueError: If arguments disagree or can't be used, before anything is compiled.

    Source:
        Martinelli et al., ICML 2024 (arXiv:2304.12794), Expand-and-Cluster.
    """
    check_key(key)
    hidden_layers = as_kind(hidden_layers, int | Literal["auto"], "hidden_layers")
    if hidden_layers != AUTO and hidden_layers < 1:
        raise ValueError(f"`hidden_layers` is how many the teacher has, at least 1; got {hidden_layers}.")
    config = as_kind(config, RecoveryConfig | None, "config")
    if not (store is None or isinstance(store, MutableMapping)):
        raise ValueError(f"`store` is a mutable mapping, as a dict, or None; got a {type(store).__name__}.")
    if not callable(progress):
        raise ValueError(f"`progress` is a function, called as the work advances; got a {type(progress).__name__}.")
    deadline = Deadline(budget)
    overrides = Overrides(student_width, n_students, gamma, beta, metric, policy, n_clusters, height, method)
    why, asked = (), 0
    x = Teacher(x) if is_model(x) or isinstance(x, Network) else x
    if isinstance(x, Teacher):
        if y is not None or fresh is not None or answers is not None:
            raise ValueError("`x` is a Teacher, who is asked for answers: leave `y`, `fresh` and `answers` out.")
        try:
            with one_blas_thread():
                return recover_by_asking(
                    x, activation, hidden_layers=hidden_layers, key=key, config=config, progress=progress
                )
        except ProbesFailedError as error:
            if hidden_layers == AUTO or (isinstance(activation, str) and activation == AUTO):
                raise  # students have to be told
            why = (f"students, as probes do not reach: {error}",)
        teacher, x = x, with_answers(x, key=jr.fold_in(key, 2**28))
        asked = teacher.asked
    data = x if isinstance(x, Data) else Data.of(x, y, fresh=fresh, answers=answers)
    if isinstance(x, Data) and not (y is None and fresh is None and answers is None):
        raise ValueError("`x` is Data, which has answers of its own: leave `y`, `fresh` and `answers` out.")
    everything, aside = data, None
    if data.answers.outliers:
        with one_blas_thread():
            depth = 1 if hidden_layers == AUTO else hidden_layers
            kinds = checked_activations("tanh" if activation == AUTO else activation, depth)
            choice = choice_of(data, kinds, config, overrides)
            data, aside = without_outliers(data, kinds, choice, key=jr.fold_in(key, 2**25), progress=progress)
    go = partial(follow, data, allow_few=allow_few_samples, progress=progress, deadline=deadline)
    goes_on = store is not None
    with one_blas_thread():
        if (isinstance(activation, str) and AUTO in (activation, hidden_layers)) or hidden_layers == AUTO:
            recovery = of_unknown_kind(
                data, activation, hidden_layers, config, overrides, key, go, allow_few_samples, progress, deadline
            )
            goes_on = False
        else:
            activations = checked_activations(activation, hidden_layers)
            recovery = go(activations, choice_of(data, activations, config, overrides), key, store=store)
    notes = data.notes if aside is None else (*data.notes, in_words(recovery, everything, aside))
    stopped = (deadline.words() + _GOES_ON * goes_on,) if deadline.left_out else ()
    chosen = (*why, *notes, *recovery.chosen, *stopped)
    return replace(recovery, chosen=chosen, questions=asked, is_stopped=bool(stopped))

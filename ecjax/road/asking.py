"""The road where the teacher can be asked: probes propose neurons, and the phases after that are those of every road.

    row space  ->  proposals  ->  cluster  ->  profile, isolate, polish  ->  finetune (where still needed)  ->  Recovery

Every phase asks questions of its own. What they found is judged by questions that none of them has seen.
"""

from dataclasses import replace
from typing import Literal

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from ..base.precision import require_float64
from ..base.progress import Progress
from ..data import Data, Teacher
from ..expand import is_small
from ..judge import Judge, certify
from ..network import Activations, Mixture, Network, hidden_states
from ..network.moves import with_unit_vectors
from ..objective import Samples
from ..objective.derivatives import sensitivities
from ..objective.scaling import scaling_of_outputs
from ..probe import SPREAD, Reach, natural_scale
from .following import checked_activations
from .probing import LOOKED_AT, Asking, Found, ProbesFailedError
from .probing_deep import deep
from .probing_refine import averaged, fitted, network_of
from .probing_shallow import shallow
from .recovery import Recovery
from .settings import RecoveryConfig

AUTO = "auto"
_DEPTHS = (1, 2, 3, 4)
_SHARE_FRESH = 0.05  # of the last questions, kept for the certificate
_FOR_STUDENTS = 4000  # questions, where probes do not reach
_EVERY, _FARTHER = 4, 10.0  # some are far out: kinks that are nowhere else are part of the network, too
_MORE = 1.02  # numbers asked beyond those that the judge wants
_PRECISE = 1e-12  # answers that have no errors to be averaged over many of them
_FEWER = 2  # times as many inputs as neurons, from which what no neuron sees is most of the inputs
_GROUPS = 32  # of questions that are moved along directions that no neuron sees
_HELD = 2**27  # numbers of questions that are kept for the judgement, 1 GiB; the rest are asked, compared and forgotten


def recover_by_asking(
    teacher: Teacher,
    activation: Activations,
    *,
    hidden_layers: int | Literal["auto"],
    key: PRNGKeyArray,
    config: RecoveryConfig | None,
    progress: Progress,
) -> Recovery:
    """Recover a network by asking.

    Args:
        teacher: Who answers.
        activation: Of the hidden layers; "auto" to look at them.
        hidden_layers: How many there are; "auto" for the fewest that explain the answers. The questions about the first
            layers are the same for all, and asked once.
        key: Decides the questions.
        config: Settings of the refinement and the judge.
        progress: Called as the work advances, with the `questions` asked.

    Raises:
        ProbesFailedError: If probes find no network.
        ValueError: If JAX is in float32-only mode.
    """
    require_float64("A recovery by asking")
    config = RecoveryConfig.toy() if config is None else config
    depths = _DEPTHS if hidden_layers == AUTO else (hidden_layers,)
    is_unknown = isinstance(activation, str) and activation == AUTO
    known = [None if is_unknown else checked_activations(activation, depth) for depth in depths]
    if any(isinstance(each, Mixture) for kinds in known for each in kinds or ()):
        raise ProbesFailedError("they find neurons of one activation a layer.")
    trouble, inexact = [], None
    for depth, kinds in zip(depths, known, strict=True):
        asking = Asking(teacher, kinds, key, progress, config.finetune)  # pyright: ignore[reportArgumentType]
        try:
            found = shallow(asking) if depth == 1 else deep(asking, depth)
        except ProbesFailedError as error:
            trouble.append(str(error) if len(depths) == 1 else f"{in_words(depth)}: {error}")
            continue
        recovery = finished(asking, found, config)
        if recovery.is_exact or len(depths) == 1:
            said = () if len(depths) == 1 else (f"{in_words(depth)}, the fewest that explain the answers",)
            return replace(recovery, chosen=(*said, *recovery.chosen))
        inexact = inexact or recovery
    if inexact is not None:
        return inexact
    raise ProbesFailedError(" ".join(trouble))


def in_words(depth: int) -> str:
    """As "2 hidden layers"."""
    return f"{depth} hidden layer{'s' * (depth > 1)}"


def with_answers(teacher: Teacher, *, key: PRNGKeyArray) -> Data:
    """Answers for students: to normal questions in the natural scale of the inputs, or within the box."""
    rng = np.random.default_rng(np.asarray(jr.key_data(key), np.uint32))
    n = int(min(_FOR_STUDENTS, teacher.left - 1))
    if teacher.box is not None:
        x = rng.uniform(teacher.box.low, teacher.box.high, (n, teacher.fan_in))
    else:
        teacher(np.zeros((1, teacher.fan_in)))
        scale = natural_scale(teacher, teacher.fan_in, precision=teacher.precision, rng=rng)
        n = int(min(_FOR_STUDENTS, teacher.left - 1))
        x = scale.unit * rng.standard_normal((n, teacher.fan_in))
    return Data.of(x, teacher(x), ask=teacher)


def finished(asking: Asking, found: Found, config: RecoveryConfig) -> Recovery:
    """Judged on new questions, and refined if that is still needed."""
    teacher, seconds, network = asking.teacher, asking.seconds, network_of(found.stack)
    n, n_fresh = _wanted(network)
    n_held, is_rounded = min(n, _HELD // teacher.fan_in), teacher.precision > _PRECISE
    if is_rounded and not is_small(network) and n_held == n:  # the judge's questions are for the network that it judges
        network = averaged(asking, network, _questions(n, asking, found.reach))
    with seconds.of("ask"):
        x = _in_families(network, asking.rng, found.reach) if n_held == n else None
        x = _questions(n_held, asking, found.reach) if x is None else x
        n_held, n = len(x), max(n, len(x))
        fresh = _questions(n_fresh, asking, found.reach)
        data = Data.of(x, teacher(x), fresh=(fresh, teacher(fresh)), ask=teacher)
    # All inputs as they are: outside the row space as it was found there may still be errors to refine.
    scale = scaling_of_outputs(data.y, teacher.fan_in)
    samples = scale.samples(data.x, data.y)
    judge = Judge(eps=teacher.precision, n_numbers=data.n_numbers * n // n_held, accepted=config.exact_loss)
    loss_over = lambda network, x, y: float(np.mean((np.asarray(Samples(x, y).errors(network)) / scale.y_scale) ** 2))
    loss_of = lambda network: loss_over(network, data.x, data.y)
    loss = loss_of(network)
    # Fewer numbers than weights say nothing of all of them. Roundings are averaged over all answers, if that is cheap.
    if n_held == n and (not judge.fits(loss) or (is_rounded and is_small(network))):
        asking.tell("finetune", 0, 1)
        with seconds.of("finetune"):
            refined = fitted(network, samples, scale, stop=config.finetune, judge=judge)
        refined_loss = loss_of(refined)
        if refined_loss < loss:
            network, loss = refined, refined_loss
        asking.tell("finetune", 1, 1)
    network = with_unit_vectors(network)
    with seconds.of("ask"):
        for start in range(n_held, n, n_held):
            some = _questions(min(n_held, n - start), asking, found.reach)
            its = loss_over(network, jnp.asarray(some), jnp.asarray(teacher(some)))
            loss += (its - loss) * len(some) / (start + len(some))
    with seconds.of("certify"):
        certificate = certify(network, data.x, data.y, judge=judge, fresh=data.fresh)
    kinds = " and ".join(dict.fromkeys(each.name for each in network.activations))
    return Recovery(
        network=network,
        linear=None,
        loss=loss,
        is_exact=judge.is_exact(loss, network.n_parameters),
        found_by=tuple(each.probes.method for each in found.layers),
        certificate=certificate,
        chosen=() if asking.activations else (f"activation {kinds}, by the profiles of {LOOKED_AT} neurons at most",),
        removed=(),
        unidentified=(),
        expansions=(),
        clusterings=tuple(each.clustering for each in found.layers),
        scaling=scale,
        config=config,
        judge=judge,
        seconds=seconds.seconds,
        probes=tuple(each.probes for each in found.layers),
        questions=teacher.asked,
    )


def _wanted(network: Network) -> tuple[int, int]:
    """How many questions explain the network's parameters, and how many more are for the certificate."""
    n = int(np.ceil(_MORE * Judge.numbers_for_each * network.n_parameters / network.shape[-1])) + 10
    return n, int(np.ceil(_SHARE_FRESH * n)) + 2


def _in_families(network: Network, rng: np.random.Generator, reach: Reach) -> Float[np.ndarray, "n fan_in"] | None:
    """Questions in families that differ in what no neuron sees: then a large network, too, has a bound of its weights.

    The first ones of the families have nothing beside the neurons' directions, the others one new direction each. See
    `ecjax.judge.without_matrix`.

    Returns:
        None where there are not many such directions, or not all questions may be asked.
    """
    first = np.asarray(network.layers[0].w)
    (width, fan_in), fan_out = first.shape, network.shape[-1]
    if is_small(network) or not reach.is_open or fan_in < _FEWER * width:
        return None
    rotation = np.linalg.qr(first.T, mode="complete")[0]
    basis, beside = rotation[:, :width].T, rotation[:, width:].T
    within = network.n_parameters - width * len(beside)
    wanted = lambda weights: int(np.ceil(_MORE * Judge.numbers_for_each * weights / fan_out))
    u = _far_and_near(SPREAD * reach.scale * rng.standard_normal((wanted(within) + 10, width)))
    near = np.delete(np.arange(len(u)), np.s_[::_EVERY])
    step = SPREAD * reach.scale * np.sqrt(len(beside))  # as long as that of a random question
    groups = _hearing_all(network, (u @ basis)[near], wanted(width), rng)
    of = near[np.resize(groups, (len(beside), wanted(width)))]
    moved = (u @ basis)[of] + step * beside[:, None]
    return rng.permutation(np.concatenate([u @ basis, moved.reshape(-1, fan_in)]))


def _hearing_all(
    network: Network, x: Float[np.ndarray, "questions fan_in"], size: int, rng: np.random.Generator
) -> Int[np.ndarray, "groups size"]:
    """Groups of questions in each of which all first-layer neurons are heard, apart from each other.

    Some neurons are at rest at most questions. Of random groups the better half is taken.
    """
    groups = np.stack([rng.choice(len(x), size, replace=False) for _ in range(2 * _GROUPS)])
    heard = []
    for group in groups:
        by_z = sensitivities(network, hidden_states(network, jnp.asarray(x[group])))[0]
        rows = np.asarray(by_z).reshape(-1, by_z.shape[-1])
        heard.append(np.linalg.eigvalsh(rows.T @ rows)[0])
    return groups[np.argsort(heard)[_GROUPS:]]


def _questions(n: int, asking: Asking, reach: Reach) -> Float[np.ndarray, "n fan_in"]:
    """Questions that had no part in what was found, near and far."""
    x = reach.questions(n, asking.rng)
    return _far_and_near(x) if reach.is_open else x


def _far_and_near(x: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n inputs"]:
    """Some of them farther out."""
    x[::_EVERY] *= _FARTHER
    return x

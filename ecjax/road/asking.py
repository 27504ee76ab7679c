"""The road where the teacher can be asked: probes propose neurons, and the phases after that are those of every road.

    row space  ->  proposals  ->  cluster  ->  profile, isolate, polish  ->  finetune (where still needed)  ->  Recovery

Every phase asks questions of its own. What they found is judged by questions that none of them has seen.
"""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..base.precision import require_float64
from ..base.progress import Progress
from ..data import Data, Teacher
from ..expand import is_small
from ..judge import Judge, certify
from ..network import Activation, Layer, LayerActivation, Mixture, Network
from ..network.moves import with_unit_vectors
from ..objective import Samples, Scaling
from ..objective.scaling import scaling_of_outputs
from ..probe import RowSpace, Shallow, natural_scale
from ..reconstruct import finetune
from .probing import LOOKED_AT, SPREAD, Asking, Found, ProbesFailedError
from .recovery import Recovery
from .settings import RecoveryConfig

AUTO = "auto"
_SHARE_FRESH = 0.05  # of the last questions, kept for the certificate
_FOR_STUDENTS = 4000  # questions, where probes do not reach
_MORE = 1.02  # numbers asked beyond those that the judge wants


def recover_by_asking(
    teacher: Teacher,
    activations: tuple[LayerActivation, ...] | None,
    *,
    hidden_layers: int,
    key: PRNGKeyArray,
    config: RecoveryConfig | None,
    progress: Progress,
) -> Recovery:
    """Recover a network of one hidden layer by asking.

    Args:
        teacher: Who answers.
        activations: Of the hidden layers; None to look at them.
        hidden_layers: How many there are.
        key: Decides the questions.
        config: Settings of the refinement and the judge.
        progress: Called as the work advances, with the `questions` asked.

    Raises:
        ProbesFailedError: If probes find no network.
        ValueError: If JAX is in float32-only mode.
    """
    require_float64("A recovery by asking")
    if teacher.box is not None:
        raise ProbesFailedError("they need every question to be allowed, and the teacher has a box.")
    config = RecoveryConfig.toy() if config is None else config
    if hidden_layers != 1:
        raise ProbesFailedError(f"they find one hidden layer, and {hidden_layers} are wanted.")
    if activations and isinstance(activations[0], Mixture):
        raise ProbesFailedError("they find neurons of one activation.")
    activation = None if activations is None else activations[0]
    assert activation is None or isinstance(activation, Activation)
    asking = Asking(teacher, activation, key, progress, config.finetune)
    found, space = asking.shallow()
    return finished(asking, (found,), network_of(found.net), space, config)


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


def network_of(net: Shallow) -> Network:
    """The same as a record."""
    w, b, a, c = map(jnp.asarray, (net.w, net.b, net.a, net.c))
    return Network((Layer(w, b, net.activation), Layer(a, c)))


def finished(
    asking: Asking, found: tuple[Found, ...], network: Network, space: RowSpace, config: RecoveryConfig
) -> Recovery:
    """Judged on new questions, and refined if that is still needed."""
    teacher, seconds = asking.teacher, asking.seconds
    with seconds.of("ask"):
        data = _judged_on(asking, network, space)
    # All inputs as they are: outside the row space as it was found there may still be errors to refine.
    scale = scaling_of_outputs(data.y, teacher.fan_in)
    samples = scale.samples(data.x, data.y)
    judge = Judge(eps=teacher.precision, n_numbers=data.n_numbers, accepted=config.exact_loss)
    loss_of = lambda network: float(np.mean((np.asarray(Samples(data.x, data.y).errors(network)) / scale.y_scale) ** 2))
    loss = loss_of(network)
    if not judge.fits(loss):
        asking.tell("finetune", 0, 1)
        with seconds.of("finetune"):
            stop = config.finetune
            if not is_small(network):  # where steps are cheap, exact is not enough: they go on to rounding
                stop = replace(stop, target_loss=judge.target(stop.target_loss))
            refined, _ = finetune(_scaled(network, scale), samples, stop=stop, judge=judge)
            refined, _ = scale.undo(refined, None)
        refined_loss = loss_of(refined)
        if refined_loss < loss:
            network, loss = refined, refined_loss
        asking.tell("finetune", 1, 1)
    network = with_unit_vectors(network)
    with seconds.of("certify"):
        certificate = certify(network, data.x, data.y, judge=judge, fresh=data.fresh)
    kinds = " and ".join(dict.fromkeys(each.net.activation.name for each in found))
    return Recovery(
        network=network,
        linear=None,
        loss=loss,
        is_exact=judge.is_exact(loss, network.n_parameters),
        found_by=tuple(each.probes.method for each in found),
        certificate=certificate,
        chosen=() if asking.activation else (f"activation {kinds}, by the profiles of {LOOKED_AT} neurons at most",),
        removed=(),
        unidentified=(),
        expansions=(),
        clusterings=tuple(each.clustering for each in found),
        scaling=scale,
        config=config,
        judge=judge,
        seconds=seconds.seconds,
        probes=tuple(each.probes for each in found),
        questions=teacher.asked,
    )


def _judged_on(asking: Asking, network: Network, space: RowSpace) -> Data:
    """Questions that had no part in what was found, as many as explain the network's parameters."""
    teacher, fan_out = asking.teacher, network.shape[-1]
    wanted = Judge.numbers_for_each * network.n_parameters / fan_out
    n = int(np.ceil(_MORE * wanted)) + 10
    n_fresh = int(np.ceil(_SHARE_FRESH * n)) + 2
    x = SPREAD * space.scale * asking.rng.standard_normal((n + n_fresh, teacher.fan_in))
    y = teacher(x)
    return Data.of(x[:n], y[:n], fresh=(x[n:], y[n:]), ask=teacher)


def _scaled(network: Network, scale: Scaling) -> Network:
    """The network for outputs in units of their own spread."""
    last, unit = network.output, jnp.asarray(1 / scale.y_scale)
    last = replace(last, w=last.w * unit[:, None], b=(last.b - jnp.asarray(scale.y_mean)) * unit)
    return Network((*network.hidden, last))

"""Several hidden layers by asking, one after the other.

    row space -> sweeps far out -> cluster -> scales and biases -> hidden states, set at will -> the next layer -> ...
              -> all of them refined together -> columns -> Found

Hidden states of an activation that saturates lie in a box, where the last hidden layer is found from Hessians, and
several by students (`ecjax.road.probing_box`).
"""

import numpy as np

from ..network import Activation
from ..probe import Reach, RowSpace
from ..probe.inverse import growing, inverse
from ..probe.stack import Stack, Weights, answers
from .probing import Asking, Found, ProbesFailedError
from .probing_box import above
from .probing_far import Below, FarOut, far_out
from .probing_refine import refined
from .probing_shallow import in_inputs, last_layer

_EQUATIONS = 2.0  # for each weight of the output layer


def deep(asking: Asking, n_hidden: int) -> Found:
    """A network of several hidden layers, in the inputs as they are.

    Raises:
        ProbesFailedError: If a layer can't be found.
    """
    start, space, is_straight = asking.begun()
    reach, stack, layers = start, [], []
    for number in range(n_hidden):
        is_last, is_above = number == n_hidden - 1, number > 0
        candidates = asking.candidates(number, is_straight)
        if reach.is_box:
            if not is_last:
                found = above(asking, reach, space, _kinds_above(asking, stack, n_hidden))
                first, *rest = found.stack
                stack, layers = [*stack, _in_states(first, reach, is_above), *rest], [*layers, *found.layers]
                break
            net, layer = last_layer(asking, reach, space, candidates)
            first, output = net.stack
            stack += [_in_states(first, reach, is_above), output]
        else:
            found = far_out(asking, reach, space, candidates, below=Below(stack, start), is_exact=n_hidden > 2)
            layer = found.layer
            stack.append(_in_states(found.weights, found.reach, is_above))
            if not is_last:
                reach, space = _above(asking, found, is_straight)
        layers.append(layer)
    if len(stack) == n_hidden:
        stack.append(_output(asking, start, stack))
    with asking.seconds.of("finetune"):
        stack = refined(asking, start, stack)
    return in_inputs(asking, Found(tuple(stack), tuple(layers), start))


def _kinds_above(asking: Asking, below: list[Weights], n_hidden: int) -> tuple[Activation, ...]:
    """What students of the layers above a box are made of: what was said, or what the layer below is.

    Raises:
        ProbesFailedError: If neither is known.
    """
    if asking.activations is not None:
        return asking.activations[len(below) :]
    if not below:
        raise ProbesFailedError("of several hidden layers asked in a box, the activation has to be said.")
    kind = below[-1].activation
    assert kind is not None
    return (kind,) * (n_hidden - len(below))


def _in_states(weights: Weights, reach: Reach, is_above: bool) -> Weights:
    """A layer in the hidden states below it; the first stays in the coordinates of the row space."""
    return weights._replace(w=weights.w @ reach.basis) if is_above else weights


def _above(asking: Asking, below: FarOut, is_straight: bool) -> tuple[Reach, RowSpace]:
    """What can be asked of the layer above one that is known.

    Raises:
        ProbesFailedError: If the activation can't be inverted.
    """
    weights, reach, slopes = below.weights, below.reach, below.slopes
    kind = weights.activation
    assert kind is not None
    branch = growing(kind)
    if branch is None:
        raise ProbesFailedError(f"hidden states of {kind.name} do not tell pre-activations.")
    back = np.linalg.inv(weights.w)

    def teacher(h):
        return reach((inverse(kind, h) - weights.b) @ back.T)

    width = len(weights.b)
    is_box = np.isfinite(branch.high) and np.isfinite(branch.low)
    unit = (branch.high - branch.low) / 2 if is_box else reach.scale * np.median(np.linalg.norm(weights.w, axis=1))
    states = Reach.of(teacher, np.eye(width), float(unit), branch.low, branch.high)
    states = states._replace(has_seams=kind.symmetry.homogeneous and states.is_open)
    if slopes is not None:
        space = RowSpace(slopes.basis, slopes.singular, states.scale)
    else:
        asking.tell("row space", 0, 1)
        with asking.seconds.of("row space"):
            space = asking.row_space(states, is_straight, is_above=True)
        asking.tell("row space", 1, 1)
    return states.along(space.basis), space


def _output(asking: Asking, reach: Reach, hidden: Stack) -> Weights:
    """The output layer by least squares, all hidden layers known."""
    with asking.seconds.of("measure"):
        n = int(np.ceil(_EQUATIONS * (len(hidden[-1].b) + 1)))
        u = reach.points(n, asking.rng)
        y = reach(u)
        last = Weights(np.eye(len(hidden[-1].b)), np.zeros(len(hidden[-1].b)))
        states = np.concatenate([answers((*hidden, last), u), np.ones((n, 1))], axis=1)
        weights = np.linalg.lstsq(states, y, rcond=1e-13)[0]
    return Weights(weights[:-1].T, weights[-1])

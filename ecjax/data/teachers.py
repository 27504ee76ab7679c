"""Teachers whose answer is known: a synthetic family, and networks trained on labelled images.

A recovery method is judged on teachers whose weights one can look up afterwards. The synthetic family makes every
neuron visible to standard normal queries; a trained teacher is taken as training left it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..base.checks import check_key, whole_number
from ..base.memory import require_memory
from ..base.precision import compiled, in_full_precision
from ..network import (
    Activations,
    Layer,
    LayerActivation,
    Network,
    as_activations,
    n_parameters,
    random_network,
    respond,
)
from .queries import gaussian_queries

# Norm of the incoming weight vectors, hence standard deviation of a pre-activation over standard normal queries.
# Small radii make neurons that are almost linear, large ones neurons that are saturated almost everywhere; either way
# different weights give almost the same outputs. Over all activations of the catalogue, the conditioning of the
# Jacobian of the outputs with respect to the weights is within a factor of three of its best at this radius.
RADIUS = 1.5


@in_full_precision
def synthetic_teacher(
    d_in: int,
    width: int | tuple[int, ...],
    d_out: int = 1,
    activation: Activations = "g",
    *,
    key: PRNGKeyArray,
    dtype=None,
) -> Network:
    """Draw a teacher every neuron of which matters over standard normal queries.

    The neurons are independent of each other. For each of them:

    * the incoming weight vector is uniform on the sphere of radius 1.5, whatever `d_in` is, so that pre-activations
      have standard deviation 1.5;
    * the bias is uniform in [-1.5, 1.5], so that the neuron's hyperplane passes within one standard deviation of the
      mean and at least 16% of the queries lie on either side;
    * each outgoing weight has a random sign and a magnitude uniform in [0.5, 1.5].

    Neurons of a second hidden layer and of those above are drawn in the same way over the answers of the layer below,
    each in units of its own mean and spread. Then the outgoing weights and the output bias are scaled and shifted so
    that each output has zero mean and unit variance over a fixed sample of 10,000 standard normal queries (drawn from
    `key`), hence nearly so over any other.

    Nothing keeps two neurons apart beyond that, and where there are few inputs and many neurons some come close. The
    closest two of 8 neurons with 2 inputs differ by 0.5 in (w, b) for the median key and by less than 0.2 for one key
    in ten (0.35 and 0.15 up to a sign); the closest two of 4 neurons with 4 inputs by 1.5 and 0.9 (1.3 and 0.8). This
    overcomplete corner of the family is hard, as in the paper.

    Args:
        d_in: How many inputs.
        width: How many hidden neurons; several numbers for several hidden layers, first to last.
        d_out: How many outputs.
        activation: An `Activation`, a `Mixture` or a name; or one of these for each hidden layer.
        key: Not to be used again.
        dtype: Of the weights; by default JAX's default float.

    Raises:
        ValueError: If a size is below 1, the activation is unknown, or the memory is not enough.

    Source:
        After the synthetic teachers of Martinelli et al., ICML 2024 (arXiv:2304.12794): widths 2, 4, 8, hyperplanes
        that cross the data. The distribution is ours.
    """
    check_key(key)
    widths = tuple(whole_number(each, "width") for each in (width if isinstance(width, tuple | list) else (width,)))
    if not widths:
        raise ValueError("`width` is a number of hidden neurons, or one for each hidden layer; got none.")
    d_in, d_out = whole_number(d_in, "d_in"), whole_number(d_out, "d_out")
    n_bytes = 8 * n_parameters((d_in, *widths, d_out))
    require_memory(
        n_bytes, f"Weights of a teacher of shape {d_in}-{'-'.join(map(str, widths))}-{d_out}", "lower `width`"
    )
    activations = as_activations(activation, len(widths))
    dtype = dtype or jnp.zeros(()).dtype
    w_key, b_key, magnitude_key, sign_key, x_key = jr.split(key, 5)
    x = gaussian_queries(10_000, d_in, key=x_key, dtype=dtype)
    zeros, ones = jnp.zeros(d_in, dtype), jnp.ones(d_in, dtype)
    hidden = [_crossing_layer(widths[0], activations[0], zeros, ones, w_key, b_key)]
    for number, size in enumerate(widths[1:], start=1):
        # A linear output layer that gives back the neurons makes their answers those of a network.
        as_it_is = Layer(jnp.eye(widths[number - 1], dtype=dtype), jnp.zeros(widths[number - 1], dtype))
        below = respond(Network((*hidden, as_it_is)), x)
        keys = jr.split(jr.fold_in(key, number))
        mean, std = jnp.mean(below, axis=0), jnp.std(below, axis=0)
        hidden.append(_crossing_layer(size, activations[number], mean, std, *keys))
    magnitude = jr.uniform(magnitude_key, (d_out, widths[-1]), dtype, minval=0.5, maxval=1.5)
    a = magnitude * jr.rademacher(sign_key, (d_out, widths[-1]), dtype)
    y = respond(Network((*hidden, Layer(a, jnp.zeros(d_out, dtype)))), x)
    mean, std = jnp.mean(y, axis=0), jnp.std(y, axis=0)
    return Network((*hidden, Layer(a / std[:, None], -mean / std)))


def _crossing_layer(
    width: int, activation: LayerActivation, mean: Array, std: Array, w_key: PRNGKeyArray, b_key: PRNGKeyArray
) -> Layer:
    """Neurons whose hyperplanes cross inputs of this mean and spread; see `synthetic_teacher`."""
    direction = jr.normal(w_key, (width, len(mean)), mean.dtype)
    w = RADIUS * direction / jnp.linalg.norm(direction, axis=1, keepdims=True) / std[None]
    b = jr.uniform(b_key, (width,), mean.dtype, minval=-RADIUS, maxval=RADIUS)
    activation.groups(width)  # refuses a mixture of another width
    return Layer(w, b - w @ mean, activation)


class TrainedTeacher(eqx.Module):
    """A classifier, what it was trained on, and its answers."""

    network: Network
    x: Float[Array, "samples fan_in"]
    labels: Int[Array, " samples"]
    y: Float[Array, "samples fan_out"]  # logits, the outputs before the softmax: the targets of the students
    accuracy: float  # share of the held-out samples that it classifies correctly


@compiled
def _train(net: Network, x, labels, *, key, n_steps, batch_size, learning_rate, weight_decay) -> Network:
    """Adam on mini-batches drawn with replacement, the learning rate falling to 0 along a cosine."""
    optimiser = optax.adamw(optax.cosine_decay_schedule(learning_rate, n_steps), weight_decay=weight_decay)

    def loss(net, rows):
        return optax.losses.softmax_cross_entropy_with_integer_labels(respond(net, x[rows]), labels[rows]).mean()

    def step(carry, key):
        net, state = carry
        rows = jr.randint(key, (batch_size,), 0, len(x))
        gradient = jax.grad(loss)(net, rows)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with the weights' dtype
            updates, state = optimiser.update(gradient, state, net)
        return (eqx.apply_updates(net, updates), state), None

    start = optimiser.init(net)  # pyright: ignore[reportArgumentType]  (optax knows trees only as Any)
    (net, _), _ = jax.lax.scan(step, (net, start), jr.split(key, n_steps))
    return net


def trained_teacher(
    x: Float[Array, "samples fan_in"],
    labels: Int[Array, " _samples"] | Int[np.ndarray, " _samples"],
    widths: tuple[int, ...],
    activation: Activations = "g",
    *,
    key: PRNGKeyArray,
    n_steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.3,
    held_out: float = 0.2,
) -> TrainedTeacher:
    """Train a classifier of any depth by cross-entropy; its logits are the targets.

    The teacher is taken as training left it. Over ten keys on the digits (width 8) no tanh or g neuron was dead or a
    near-copy of another, but about 1 in 40 relu neurons died: nothing can recover those.

    Args:
        x: Inputs. The teacher has their dtype.
        labels: Classes 0, 1, ..., each with at least one sample.
        widths: Of the hidden layers, first to last: (8,), or (30, 30, 30).
        activation: An `Activation`, a `Mixture` or a name; or one of these for each hidden layer.
        key: Not to be used again: for the initial weights, the held-out samples and the mini-batches.
        n_steps: Steps of Adam.
        batch_size: Samples in each step, drawn with replacement.
        learning_rate: Of the first step; falls to 0 along a cosine.
        weight_decay: Decoupled (AdamW), per step and in units of the learning rate. Without it the weights of a
            classifier that makes no more mistakes keep growing and half of its tanh neurons saturate on the digits.
        held_out: Share of the samples that are kept from training, for the accuracy; within (0, 1).

    Raises:
        ValueError: If the arguments do not fit each other or the ranges above.
    """
    activations, labels = as_activations(activation, len(widths)), np.asarray(labels)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"`x` is (samples, inputs), all finite; got shape {x.shape} or numbers that are not finite.")
    if len(labels) != len(x):
        raise ValueError(f"`labels` has one class a sample; got {len(labels)} labels for {len(x)} samples.")
    if not np.array_equal(np.unique(labels), np.arange(labels.max() + 1)) or labels.max() < 1:
        raise ValueError(f"`labels` are classes 0, 1, ..., none left out; got {np.unique(labels)[:10].tolist()} ...")
    if not widths or min(widths) < 1:
        raise ValueError(f"`widths` has a width of at least 1 for each hidden layer; got {widths}.")
    if n_steps < 1 or batch_size < 1:
        raise ValueError(f"`n_steps` and `batch_size` are at least 1; got {n_steps} and {batch_size}.")
    if not 0 < held_out < 1 or not 0 < round(held_out * len(x)) < len(x):
        raise ValueError(f"`held_out` is a share within (0, 1) of {len(x)} samples, not all or none; got {held_out:g}.")
    net_key, order_key, batch_key = jr.split(key, 3)
    labels = jnp.asarray(labels)
    order = jr.permutation(order_key, len(x))
    tested, trained = order[: round(held_out * len(x))], order[round(held_out * len(x)) :]
    shape = (x.shape[1], *widths, int(labels.max()) + 1)
    net = _train(
        random_network(shape, activations, key=net_key, dtype=x.dtype),
        x[trained],
        labels[trained],
        key=batch_key,
        n_steps=n_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    y = respond(net, x)
    accuracy = jnp.mean(jnp.argmax(y[tested], axis=1) == labels[tested])
    return TrainedTeacher(net, x, labels, y, float(accuracy))


def digits(*, dtype=None) -> tuple[Float[Array, "samples fan_in"], Int[Array, " samples"]]:
    """The 1,797 real handwritten digits that come with scikit-learn: 8×8 images as rows of 64, and their labels.

    Pixels are standardised by one mean and one standard deviation for all of them, as is usual for images: the ones
    that never vary stay constant.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean()) / images.std()
    return jnp.asarray(images, dtype or jnp.zeros(()).dtype), jnp.asarray(labels)


def digits_teacher(
    width: int = 8, activation: Activations = "tanh", *, key: PRNGKeyArray, dtype=None
) -> TrainedTeacher:
    """A 64-`width`-10 network trained to read `digits`; about 2 seconds of work.

    See `trained_teacher` for the arguments and what comes back.
    """
    x, labels = digits(dtype=dtype)
    return trained_teacher(x, labels, (width,), activation, key=key)

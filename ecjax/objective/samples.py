"""The mean squared error over samples: how well a student imitates the teacher's answers.

    value = sum over samples and outputs of weight * (answer - y)^2,    weights adding up to 1

Without weights of their own all samples count alike, and the value is the mean over samples and outputs. One hidden
layer has its second derivatives in closed form (`ecjax.objective.shallow`).
"""

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base.precision import in_full_precision
from ..network import Network, answers
from . import shallow
from .derivatives import jacobian_rows
from .gram import gram
from .objective import LeastSquares, Residuals, Square

Inputs = Float[Array, "samples fan_in"]
Outputs = Float[Array, "samples fan_out"]


class Samples(LeastSquares):
    """Queries and the answers that are wanted.

    Attributes:
        x: Queries, one a row.
        y: Answers, in the unit in which the error counts.
        weights: How much each sample counts, 0 or above, in any unit; None for all alike.

    Raises:
        ValueError: If these have not one row a sample, or weights are negative or all 0.
    """

    x: Inputs
    y: Outputs
    weights: Float[Array, " samples"] | None = None

    def __check_init__(self):
        if len(self.x) != len(self.y):
            raise ValueError(f"`x` and `y` have one row a sample; got {len(self.x)} and {len(self.y)} rows.")
        if self.weights is not None and self.weights.shape != self.x.shape[:1]:
            raise ValueError(
                f"`weights` has a number for each of {len(self.x)} samples; got shape {self.weights.shape}."
            )
        if self.weights is not None and not isinstance(self.weights, jax.core.Tracer):
            least, most = (float(end(self.weights)) for end in (jnp.min, jnp.max))
            if not (least >= 0 and 0 < most < float("inf")):
                raise ValueError(f"`weights` are 0 or above, some of them above; got {least:g} to {most:g}.")

    @property
    def n_numbers(self) -> int:
        """How many numbers there are to explain."""
        return self.y.size

    @property
    def share(self) -> Float[Array, ""] | Float[Array, "samples 1"]:
        """What a squared error counts for in the value: the one place where it is normalised."""
        if self.weights is None:
            return jnp.asarray(1 / self.y.size, self.y.dtype)
        return (self.weights / (self.weights.sum() * self.y.shape[1]))[:, None]

    @in_full_precision
    def errors(self, net: Network) -> Outputs:
        """What the network answers too much, sample by sample.

        Raises:
            ValueError: If the network has other inputs or outputs than the samples.
        """
        sizes, its = (self.x.shape[1], self.y.shape[1]), (net.shape[0], net.shape[-1])
        if sizes != its:  # one output would be compared with each of several in silence
            raise ValueError(f"The samples have {sizes[0]} inputs and {sizes[1]} outputs; the network has {its}.")
        return answers(net, self.x) - self.y

    def value(self, net: Network) -> Float[Array, ""]:
        errors = self.errors(net)
        return jnp.mean(errors**2) if self.weights is None else jnp.sum(self.share * errors**2)

    def residuals(self, net: Network) -> Residuals:
        return (jnp.sqrt(self.share) * self.errors(net)).reshape(-1)

    @in_full_precision
    def jacobian(self, net: Network) -> Float[Array, "residuals parameters"]:
        by_sample = jnp.moveaxis(jacobian_rows(net, self.x), 0, -1).swapaxes(0, 1)  # samples, fan_out, parameters
        share = self.share.reshape(-1, 1, 1)  # of all samples, or of each
        return (jnp.sqrt(share) * by_sample).reshape(self.y.size, -1)

    @in_full_precision
    def curvature(self, net: Network, *, exact: bool) -> Square:
        if shallow.fits(net):
            return shallow.curvature(net, self.x, self.y, self.share, exact=exact)
        if exact:
            return super().curvature(net, exact=True)
        rows = jacobian_rows(net, self.x)
        return 2 * gram((jnp.sqrt(self.share.reshape(1, 1, -1)) * rows).reshape(len(rows), -1))

    def take(self, rows) -> "Samples":
        """Some of the samples only."""
        return jax.tree.map(lambda leaf: leaf[rows], self)

    def with_answers(self, y: Outputs) -> "Samples":
        """The same queries with other answers wanted."""
        return eqx.tree_at(lambda samples: samples.y, self, y)


def imitation_loss(net: Network, x: Inputs, y: Outputs) -> Float[Array, ""]:
    """Mean squared error of a network over samples and outputs."""
    return Samples(x, y).value(net)

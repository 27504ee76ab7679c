"""The population loss: the mean squared error over all normally distributed inputs, in the place of samples.

    value = E[mean over outputs of (student(x) - teacher(x))^2],    x ~ N(mean, covariance)

of one hidden layer. Student minus teacher is one layer of K neurons, e(x) = sum over k of a_k phi_k(z_k) + c, with
z = w x + b jointly normal; so value, gradient and Hessian are sums over pairs of neurons of

    T^pq_kl = E[phi_k^(p)(z_k) phi_l^(q)(z_l)],    p + q <= 4

since by Stein's lemma E[f x] = mean E[f] + covariance E[grad f] for each factor x that a derivative by weights brings.
The tables T are closed forms for relu, erf and normal cdf (`population_closed`), and Hermite sums for other smooth
activations (`population_hermite`).

Source: Brea et al., MLPGradientFlow (arXiv:2301.10638) for the setting; Price's and Stein's theorems for derivatives.
"""

from typing import NamedTuple

import equinox as eqx
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base.precision import in_full_precision
from ..network import Activation, Layer, Network
from . import population_closed as closed
from . import population_hermite as hermite
from .objective import Objective, Square, flatten

_VALUE = ((0, 0),)
_GRADIENT = ((0, 0), (1, 0), (2, 0), (1, 1))
_HESSIAN = (*_GRADIENT, (3, 0), (2, 1), (4, 0), (3, 1), (2, 2))


class Population(Objective):
    """What a teacher answers to normally distributed inputs, all of them.

    Attributes:
        teacher: One network with one hidden layer.
        mean: Of the inputs; zero if left out.
        covariance: Of the inputs; the identity if left out.
        order: Terms of the Hermite sums, for activations without a closed form. 512 are good to 1e-12 for neurons whose
            pre-activations have a deviation up to 2.4 (tanh), 4.7 (sigmoid, softplus, silu), 1.5 (arctan) or 1.2 (g):
            up to 1.5 times the distance of the activation's nearest pole. `error` says for any network.

    Raises:
        ValueError: If the teacher has no single hidden layer, or an activation with kinks other than relu, or relu
            beside activations that have no closed form with it.
    """

    teacher: Network
    mean: Float[Array, " fan_in"]
    covariance: Float[Array, "fan_in fan_in"]
    order: int = eqx.field(static=True)

    def __init__(self, teacher: Network, mean=None, covariance=None, *, order: int = 512):
        fan_in, dtype = teacher.shape[0], teacher.dtype
        self.teacher, self.order = teacher, order
        self.mean = jnp.zeros(fan_in, dtype) if mean is None else jnp.asarray(mean, dtype)
        self.covariance = jnp.eye(fan_in, dtype=dtype) if covariance is None else jnp.asarray(covariance, dtype)

    def __check_init__(self):
        fan_in = self.teacher.shape[0]
        if self.mean.shape != (fan_in,) or self.covariance.shape != (fan_in, fan_in):
            raise ValueError(
                f"`mean` and `covariance` are of {fan_in} inputs; got shapes {self.mean.shape} and "
                f"{self.covariance.shape}."
            )
        if not isinstance(self.covariance, jax.core.Tracer):
            covariance = np.asarray(self.covariance, float)
            rounding = 10 * float(jnp.finfo(self.covariance.dtype).eps) * max(np.abs(covariance).max(), 1e-300)
            if np.abs(covariance - covariance.T).max() > rounding or np.linalg.eigvalsh(covariance)[0] < -rounding:
                raise ValueError(
                    "`covariance` is symmetric and has no negative eigenvalue; got one off its mirror image by "
                    f"{np.abs(covariance - covariance.T).max():.2g}, eigenvalues from "
                    f"{np.linalg.eigvalsh(covariance)[0]:.2g} on."
                )
        if self.order < 8:
            raise ValueError(f"`order` of the Hermite sums is at least 8; got {self.order}.")
        self.check(self.teacher)

    def check(self, net: Network) -> None:
        """Refuse a network whose expectations are not known here.

        Raises:
            ValueError: Saying why.
        """
        if len(net.layers) != 2:
            raise ValueError(f"The population loss is of one hidden layer; got {len(net.layers) - 1}. Use samples.")
        if net.shape[0] != self.teacher.shape[0] or net.shape[-1] != self.teacher.shape[-1]:
            raise ValueError(f"Networks have the teacher's inputs and outputs, {self.teacher.shape}; got {net.shape}.")
        every = {one for one, _ in _groups((net.hidden[0], self.teacher.hidden[0]))}
        kinks = [one for one in every if not one.smooth]
        if any(closed.closed_form(one) is None for one in kinks):
            raise ValueError(f"Of activations with kinks the population loss knows relu; got {kinks}. Use samples.")
        if kinks and any(closed.closed_form(one) is None for one in every):
            raise ValueError(f"Beside relu the population loss knows erf and normal_cdf; got {every}. Use samples.")

    @in_full_precision
    def value(self, net: Network) -> Float[Array, ""]:
        layer = self._difference(net)
        table = layer.tables(self.order, _VALUE)[0, 0]
        means, c = layer.means(self.order)[0], layer.c
        total = jnp.sum((layer.a.T @ layer.a) * table) + 2 * c @ (layer.a @ means) + c @ c
        return total / len(c)

    @in_full_precision
    def gradient(self, net: Network) -> Network:
        layer, n = self._difference(net), net.widths[0]
        table, means = layer.tables(self.order, _GRADIENT), layer.means(self.order)
        by_x = _by_x(layer, table)[:n]
        gram, with_c = (layer.a.T @ layer.a)[:n], (layer.a.T @ layer.c)[:n]
        incoming = jnp.einsum("kl,kli->ki", gram, by_x) + with_c[:, None] * _mean_by_x(layer, means)[:n]
        outgoing = layer.a @ table[0, 0][:, :n] + layer.c[:, None] * means[0][None, :n]
        share = 2 / len(layer.c)
        hidden = eqx.tree_at(lambda own: (own.w, own.b), net.hidden[0], (incoming[:, :-1], incoming[:, -1]))
        output = eqx.tree_at(lambda own: (own.w, own.b), net.output, (outgoing, layer.a @ means[0] + layer.c))
        scaled = lambda own: eqx.tree_at(lambda own: (own.w, own.b), own, (share * own.w, share * own.b))
        return Network((scaled(hidden), scaled(output)))

    @in_full_precision
    def curvature(self, net: Network, *, exact: bool) -> Square:
        """The Hessian, or without the second derivatives of neurons by their own weights: E[J^T J], times two."""
        layer, n = self._difference(net), net.widths[0]
        table, means = layer.tables(self.order, _HESSIAN), layer.means(self.order)
        (n_out, _), n_in = layer.a.shape, layer.w.shape[1]
        by_x, mean_by_x = _by_x(layer, table), _mean_by_x(layer, means)
        gram, eye = layer.a.T @ layer.a, jnp.eye(n_out, dtype=layer.a.dtype)

        coupled = gram[:n, :n, None, None] * _by_x_x(layer, table, n)
        mixed = jnp.einsum("ok,kli->kiol", layer.a[:, :n], by_x[:n, :n])
        if exact:
            own = jnp.einsum("kl,klij->kij", gram[:n], _own_by_x_x(layer, table, n))
            own = own + (layer.a.T @ layer.c)[:n, None, None] * _mean_by_x_x(layer, means)[:n]
            coupled = coupled.at[np.arange(n), np.arange(n)].add(own)
            pull = jnp.einsum("ol,kli->kio", layer.a, by_x[:n]) + jnp.einsum("o,ki->kio", layer.c, mean_by_x[:n])
            mixed = mixed.at[np.arange(n), :, :, np.arange(n)].add(pull)
        to_c = jnp.einsum("ok,ki->kio", layer.a[:, :n], mean_by_x[:n])
        rows = n * n_in
        a_a = jnp.einsum("op,kl->okpl", eye, table[0, 0][:n, :n]).reshape(n_out * n, -1)
        a_c = jnp.einsum("op,k->okp", eye, means[0][:n]).reshape(n_out * n, -1)
        w_w, w_a = coupled.transpose(0, 2, 1, 3).reshape(rows, rows), mixed.reshape(rows, -1)
        w_c = to_c.reshape(rows, -1)
        matrix = jnp.block([[w_w, w_a, w_c], [w_a.T, a_a, a_c], [w_c.T, a_c.T, eye]])
        place = _places(n, n_in - 1, n_out)
        return 2 / n_out * matrix[place[:, None], place[None]]

    def error(self, net: Network) -> Float[Array, ""]:
        """How much value and gradient change when the Hermite sums get twice as many terms; 0 for closed forms."""
        finer = Population(self.teacher, self.mean, self.covariance, order=2 * self.order)
        change = [abs(self.value(net) - finer.value(net))]
        change += [jnp.max(jnp.abs(flatten(self.gradient(net))[0] - flatten(finer.gradient(net))[0]))]
        return jnp.max(jnp.stack(change))

    def _difference(self, net: Network) -> "_Difference":
        self.check(net)
        mine, theirs = net.hidden[0], self.teacher.hidden[0]
        with_bias = lambda layer: jnp.concatenate([layer.w, layer.b[:, None]], axis=1)
        w = jnp.concatenate([with_bias(mine), with_bias(theirs)])
        mean = jnp.append(self.mean, 1)
        spread = jnp.pad(self.covariance, ((0, 1), (0, 1)))
        s = w @ spread
        return _Difference(
            _groups((mine, theirs)),
            w,
            jnp.concatenate([net.output.w, -self.teacher.output.w], axis=1),
            net.output.b - self.teacher.output.b,
            mean,
            spread,
            s,
            w @ mean,
            s @ w.T,
        )


def _groups(layers: tuple[Layer, ...]) -> list[tuple[Activation, np.ndarray]]:
    """The neurons of layers side by side, by their activation."""
    every, start = {}, 0
    for layer in layers:
        for one, members in layer.activation.groups(len(layer.b)):
            every.setdefault(one, []).append(members + start)
        start += len(layer.b)
    return [(one, np.concatenate(members)) for one, members in every.items()]


class _Difference(NamedTuple):
    """Student minus teacher as one layer; the last input is the constant 1, of the biases."""

    groups: list[tuple[Activation, np.ndarray]]
    w: Float[Array, "neurons inputs"]
    a: Float[Array, "fan_out neurons"]  # the teacher's with a minus
    c: Float[Array, " fan_out"]
    mean: Float[Array, " inputs"]
    spread: Float[Array, "inputs inputs"]
    s: Float[Array, "neurons inputs"]  # covariance of inputs and pre-activations
    z_mean: Float[Array, " neurons"]
    z_spread: Float[Array, "neurons neurons"]

    @property
    def sigma(self) -> Float[Array, " neurons"]:
        """Deviation of the pre-activations; 0 for neurons without weights."""
        variance = jnp.diagonal(self.z_spread)
        return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)

    @property
    def unit_s(self) -> Float[Array, "neurons inputs"]:
        """s over sigma: what belongs to a derivative that comes with sigma."""
        return self.s / jnp.where(self.sigma > 0, self.sigma, 1)[:, None]

    def tables(self, order: int, which) -> dict[tuple[int, int], Float[Array, "neurons neurons"]]:
        """E[phi_k^(p) phi_l^(q)] by (p, q), with sigma for each derivative beyond the second."""
        sigma = jnp.where(self.sigma > 0, self.sigma, 1)
        rho = self.z_spread / (sigma[:, None] * sigma[None])
        known = [self._hermite(group, order) if self._needs(group) else None for group in self.groups]
        place = np.argsort(np.concatenate([members for _, members in self.groups]), kind="stable")
        blocks = [
            [self._block(one, other, known, rho, which) for other in range(len(self.groups))]
            for one in range(len(self.groups))
        ]
        return {
            pair: jnp.block([[block[number] for block in row] for row in blocks])[place][:, place]
            for number, pair in enumerate(which)
        }

    def _needs(self, group) -> bool:
        """Whether a group is in a pair that has no closed form."""
        forms = [closed.closed_form(one) for one, _ in self.groups]
        return closed.closed_form(group[0]) is None or any(form is None for form in forms)

    def _hermite(self, group, order: int) -> hermite.Coefficients:
        one, members = group
        return hermite.coefficients(one, self.z_mean[members], self.sigma[members], order)

    def _block(self, one: int, other: int, known, rho, which) -> list[Float[Array, "width others"]]:
        (mine, rows), (theirs, columns) = self.groups[one], self.groups[other]
        form, their_form = closed.closed_form(mine), closed.closed_form(theirs)
        if form is None or their_form is None:
            return hermite.products(known[one], known[other], rho[rows][:, columns], which)
        shape = (len(rows), len(columns))
        variance = jnp.diagonal(self.z_spread)
        down = lambda numbers: jnp.broadcast_to(numbers[rows][:, None], shape)
        along = lambda numbers: jnp.broadcast_to(numbers[columns][None], shape)
        at = closed.Normal(
            *(down(self.z_mean), along(self.z_mean), down(variance), along(variance)),
            self.z_spread[rows][:, columns],
            self._gap(rows, columns) if not (form.is_step or their_form.is_step) else jnp.ones(shape, rho.dtype),
        )
        return closed.products(form, their_form, at, jnp.asarray(rows[:, None] == columns[None]), which)

    def _gap(self, rows: np.ndarray, columns: np.ndarray) -> Float[Array, "width others"]:
        """sqrt(1 - rho^2) from differences and sums of unit vectors, to its own precision."""
        unit = self.w / jnp.where(self.sigma > 0, self.sigma, 1)[:, None]
        size = lambda way: jnp.einsum("kli,ij,klj->kl", way, self.spread, way)
        one, other = unit[rows][:, None], unit[columns][None]
        squared = size(one - other) * size(one + other) / 4
        return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)

    def means(self, order: int) -> list[Float[Array, " neurons"]]:
        """E[phi_k^(p)] for p from 0 to 4, with sigma for each derivative beyond the second."""
        parts = []
        for one, members in self.groups:
            form = closed.closed_form(one)
            if form is None:
                parts.append(list(hermite.coefficients(one, self.z_mean[members], self.sigma[members], order)[:, :, 0]))
            else:
                parts.append(closed.means(form, self.z_mean[members], jnp.diagonal(self.z_spread)[members]))
        place = np.argsort(np.concatenate([members for _, members in self.groups]), kind="stable")
        return [jnp.concatenate(each)[place] for each in zip(*parts, strict=True)]


# --- Stein's lemma: what factors x make of tables --------------------------------------------------------------------


def _by_x(layer: _Difference, table) -> Float[Array, "neurons neurons inputs"]:
    """E[phi_k' phi_l x]."""
    return (
        table[1, 0][..., None] * layer.mean[None, None]
        + table[2, 0][..., None] * layer.s[:, None]
        + table[1, 1][..., None] * layer.s[None]
    )


def _mean_by_x(layer: _Difference, means) -> Float[Array, "neurons inputs"]:
    """E[phi_k' x]."""
    return means[1][:, None] * layer.mean[None] + means[2][:, None] * layer.s


def _second(layer: _Difference) -> Float[Array, "inputs inputs"]:
    return layer.spread + jnp.outer(layer.mean, layer.mean)


def _symmetric(one: Array, other: Array) -> Array:
    """one other' + other one', over leading axes."""
    product = one[..., :, None] * other[..., None, :]
    return product + product.mT


def _by_x_x(layer: _Difference, table, n: int) -> Float[Array, "width width inputs inputs"]:
    """E[phi_k' phi_l' x x'] of the first n neurons."""
    s, unit = layer.s[:n], layer.unit_s[:n]
    t = {pair: table[pair][:n, :n, None] for pair in ((1, 1), (2, 1), (3, 1), (2, 2))}
    first = t[2, 1] * s[:, None] + t[2, 1].swapaxes(0, 1) * s[None]
    kk = _symmetric(unit, s) / 2
    kk = t[3, 1][..., None] * kk[:, None]
    kl = t[2, 2][..., None] * _symmetric(s[:, None], s[None])
    return (
        t[1, 1][..., None] * _second(layer)[None, None]
        + _symmetric(first, layer.mean[None, None])
        + kk
        + kk.swapaxes(0, 1)
        + kl
    )


def _own_by_x_x(layer: _Difference, table, n: int) -> Float[Array, "width neurons inputs inputs"]:
    """E[phi_k'' phi_l x x'] of the first n neurons with all."""
    s, unit = layer.s, layer.unit_s
    t = {pair: table[pair][:n, :, None] for pair in ((2, 0), (3, 0), (2, 1), (4, 0), (3, 1), (2, 2))}
    first = t[3, 0] * unit[:n, None] + t[2, 1] * s[None]
    kk = t[4, 0][..., None] * _symmetric(unit[:n, None], unit[:n, None]) / 2
    kl = t[3, 1][..., None] * _symmetric(unit[:n, None], s[None])
    ll = t[2, 2][..., None] * _symmetric(s, s)[None] / 2
    return t[2, 0][..., None] * _second(layer)[None, None] + _symmetric(first, layer.mean[None, None]) + kk + kl + ll


def _mean_by_x_x(layer: _Difference, means) -> Float[Array, "neurons inputs inputs"]:
    """E[phi_k'' x x']."""
    unit = layer.unit_s
    m = [mean[:, None] for mean in means]
    first = _symmetric(m[3] * unit, layer.mean[None])
    return m[2][..., None] * _second(layer)[None] + first + m[4][..., None] * _symmetric(unit, unit) / 2


def _places(width: int, fan_in: int, fan_out: int) -> np.ndarray:
    """Where the entries of theta stand in [width, inputs with the bias], then outgoing weights, then output biases."""
    incoming = np.arange(width * (fan_in + 1)).reshape(width, fan_in + 1)
    rest = incoming.size + np.arange(fan_out * (width + 1))
    return np.concatenate([incoming[:, :-1].reshape(-1), incoming[:, -1], rest])

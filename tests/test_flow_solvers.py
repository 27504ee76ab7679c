"""The solvers of flows have the orders that they claim, KenCarp58 by its tableau and all of them by what they do."""

import itertools
from fractions import Fraction

import diffrax as dfx
import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest

from ecjax.expand import kencarp58
from ecjax.expand.ode import IMPLICIT, ode_solver
from ecjax.network import respond
from ecjax.objective import Samples, flatten, gradient_field

ORDERS = {"kvaerno5": 5, "kvaerno3": 3, "kencarp58": 5, "tsit5": 5, "dopri8": 8}
SOME = [one if one == "tsit5" else pytest.param(one, marks=pytest.mark.slow) for one in ORDERS]


# --- the tableau -----------------------------------------------------------------------------------------------------


def trees(order):
    """All rooted trees with so many nodes; a tree is the sorted tuple of its branches."""
    if order == 1:
        return {()}
    found = set()
    for sizes in partitions(order - 1):
        for branches in itertools.product(*(sorted(trees(size)) for size in sizes)):
            found.add(tuple(sorted(branches)))
    return found


def partitions(n, largest=None):
    if n == 0:
        yield ()
    for first in range(min(n, largest or n), 0, -1):
        for rest in partitions(n - first, first):
            yield (first, *rest)


def nodes(tree):
    return 1 + sum(map(nodes, tree))


def density(tree):
    return nodes(tree) * int(np.prod([density(branch) for branch in tree]))


def dot(one, other):
    return sum(x * y for x, y in zip(one, other, strict=True))


def slopes(tree, a):
    """The elementary weights of a tree's stages: products over its branches of A times theirs."""
    product = [Fraction(1)] * len(a)
    for branch in tree:
        inner = slopes(branch, a)
        product = [
            one * sum(x * y for x, y in zip(row, inner, strict=True)) for one, row in zip(product, a, strict=True)
        ]
    return product


def square():
    rows = [[*row, kencarp58.GAMMA if i else Fraction(0)] for i, row in enumerate(kencarp58.A)]
    return [row + [Fraction(0)] * (8 - len(row)) for row in rows]


def miss(weights, tree):
    """Butcher's condition, b . slopes(tree) = 1 / density(tree), in exact fractions."""
    return abs(float(dot(weights, slopes(tree, square())) - Fraction(1, density(tree))))


@pytest.mark.parametrize(("weights", "order"), [(kencarp58.B, 5), (kencarp58.B_EMBEDDED, 4)])
def test_the_order_conditions_hold(weights, order):
    """All 17 of them, for trees of up to five nodes; the embedded method's 8, of up to four."""
    count = 0
    for tree in itertools.chain.from_iterable(trees(n) for n in range(1, order + 1)):
        assert miss(weights, tree) < 1e-14, tree
        count += 1
    assert count == {5: 17, 4: 8}[order]


def test_the_embedded_method_has_no_higher_order():
    """Or its difference from the solution would estimate nothing."""
    misses = [miss(kencarp58.B_EMBEDDED, tree) for tree in trees(5)]
    assert max(misses) > 1e-5


def test_rows_add_up_and_stages_have_order_two():
    for row, c in zip(square(), kencarp58.C, strict=True):
        assert abs(float(sum(row) - c)) < 1e-14
        assert abs(float(dot(row, kencarp58.C) - c**2 / 2)) < 1e-14


def test_the_last_stage_is_the_solution():
    """Stiff accuracy."""
    assert tuple(square()[-1]) == kencarp58.B
    assert kencarp58.C[-1] == 1
    assert kencarp58.KenCarp58.tableau.fsal


def test_it_is_l_stable():
    """R(z) = 1 + z b (1 - z A)^-1 1 is at most 1 on the imaginary axis, and vanishes at infinity."""
    a, b = np.array(square(), float), np.array(kencarp58.B, float)
    growth = lambda z: abs(1 + z * b @ np.linalg.solve(np.eye(8) - z * a, np.ones(8)))
    assert max(growth(1j * y) for y in np.geomspace(1e-3, 1e6, 400)) < 1 + 1e-12
    assert growth(-1e12) < 1e-6


# --- what the solvers do ---------------------------------------------------------------------------------------------


def end(name, field, start, time, n):
    """After n equal steps, the stages solved by Newton's full method: the chord's rate depends on the step."""
    solver = ode_solver(name, root_tol=1e-9)
    if name in IMPLICIT:
        solver = IMPLICIT[name](root_finder=optx.Newton(rtol=1e-11, atol=1e-11))
    solution = dfx.diffeqsolve(
        dfx.ODETerm(lambda t, y, args: field(y)),
        solver,
        t0=0.0,
        t1=time,
        dt0=time / n,
        y0=start,
        stepsize_controller=dfx.ConstantStepSize(),
        max_steps=10_000,
    )
    assert solution.ys is not None
    return solution.ys[-1]


def seen_order(name, field, start, exact, time, steps):
    run = jax.jit(lambda start, n: end(name, field, start, time, n))
    errors = np.array([float(jnp.max(jnp.abs(run(start, n) - exact))) for n in steps])
    assert errors[-1] > 1e-14, "rounding: the test sees no order"
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_on_a_stiff_linear_problem(name):
    """Two directions, decaying at rates 1 and 1e4; explicit solvers, which that forces to 1e-4, are given 1 and 10."""
    turn = jnp.array([[0.8, -0.6], [0.6, 0.8]])
    rates = jnp.array([1.0, 1e4 if name in IMPLICIT else 10.0])
    matrix = -turn @ jnp.diag(rates) @ turn.T
    start = turn @ jnp.array([1.0, 1.0 if name not in IMPLICIT else 0.0])
    exact = turn @ (jnp.exp(-2.0 * rates) * (turn.T @ start))
    steps = {"tsit5": (32.0, 48.0, 64.0), "dopri8": (8.0, 10.0, 13.0)}.get(name, (8.0, 12.0, 16.0))
    order = seen_order(name, lambda y: matrix @ y, start, exact, 2.0, steps)
    assert order > ORDERS[name] - 0.35


@pytest.mark.parametrize("name", SOME)
def test_the_order_on_a_small_network(name, key):
    net = drawn.network((2, 3, 1), "tanh", key=key)
    x = drawn.normal(jr.fold_in(key, 1), (30, 2))
    objective = Samples(x, respond(drawn.network((2, 2, 1), "tanh", key=jr.fold_in(key, 2)), x))
    field = gradient_field(objective, net)
    start, _ = flatten(net)
    exact = end("dopri8", lambda y: -field(y), start, 8.0, 400.0)
    steps = {"kvaerno3": (40.0, 80.0, 160.0), "dopri8": (7.0, 9.0, 12.0, 16.0)}.get(name, (40.0, 56.0, 80.0))
    order = seen_order(name, lambda y: -field(y), start, exact, 8.0, steps)
    assert order > ORDERS[name] - 0.6

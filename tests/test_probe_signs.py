"""Signs that only integers tell: lattice reduction, and networks of more neurons than equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecjax.network import ACTIVATIONS
from ecjax.probe import Shallow, signed
from ecjax.probe.lattice import reduced, signs_of_sum


@given(st.integers(2, 8), st.integers(0, 1000))
def test_a_reduced_basis_spans_the_same_lattice_and_is_short(n, seed):
    """Each basis is an integer combination of the other, and |b_1| <= 2^((n - 1) / 4) det^(1 / n) (LLL, 1.9)."""
    basis = np.random.default_rng(seed).integers(-50, 51, (n, n))
    volume = abs(np.linalg.det(basis))
    if volume < 0.5:
        return  # vectors that depend on each other are no basis
    short = reduced(basis)
    combined = np.linalg.solve(basis.T, short.T)
    np.testing.assert_allclose(combined, np.rint(combined), atol=1e-6)
    np.testing.assert_allclose(abs(np.linalg.det(short)), volume, rtol=1e-9)
    assert np.linalg.norm(short[0]) <= 2 ** ((n - 1) / 4) * volume ** (1 / n) * (1 + 1e-9)


@pytest.mark.parametrize(("n", "equations"), [(8, 1), (24, 3), (40, 6)])
def test_signs_of_a_sum_are_found_in_fewer_equations_than_signs(n, equations):
    rng = np.random.default_rng(n)
    parts, sign = rng.standard_normal((equations, n)), rng.choice([-1.0, 1.0], n)
    np.testing.assert_array_equal(signs_of_sum(parts, parts @ sign), sign)


def test_a_sum_of_no_signs_has_none():
    rng = np.random.default_rng(0)
    assert signs_of_sum(rng.standard_normal((3, 24)), rng.standard_normal(3)) is None


@pytest.mark.parametrize("name", [name for name, one in ACTIVATIONS.items() if one.symmetry.linear])
def test_signs_of_more_neurons_than_inputs_come_from_the_linear_map(name):
    """A network whose weights are nearly right, a random half of its neurons upside down."""
    kind, rng = ACTIVATIONS[name], np.random.default_rng(1)
    w, b = rng.standard_normal((20, 3)), 0.5 * rng.standard_normal(20)
    w, b = (w.T / np.linalg.norm(w, axis=1)).T * 2, b
    teacher = Shallow(kind, w, b, rng.standard_normal((1, 20)), np.ones(1))
    near = lambda weights: weights + 1e-6 * rng.standard_normal(weights.shape)
    flip = rng.choice([-1.0, 1.0], 20)
    start = teacher._replace(w=flip[:, None] * near(w), b=flip * near(b), a=np.zeros((1, 20)))
    u = 2 * rng.standard_normal((2000, 3))
    found = signed(start, u, teacher.answers(u))
    far = 5 * rng.standard_normal((100, 3))
    assert np.abs(found.errors(far, teacher.answers(far))).max() < 1e-9
    np.testing.assert_allclose(np.sum(found.w * w, axis=1) / np.linalg.norm(found.w, axis=1), 2.0, rtol=1e-9)


def test_of_neurons_whose_signs_explain_nothing_the_network_stays_as_it_came():
    """A linear map beside the neurons that no flip makes."""
    draw = np.random.default_rng(0).standard_normal
    net = Shallow(ACTIVATIONS["softplus"], draw((20, 3)), draw(20), draw((1, 20)), np.zeros(1))
    u = 2 * draw((2000, 3))
    assert signed(net, u, net.answers(u) + u @ np.array([[0.3], [0.1], [-0.2]])) is net

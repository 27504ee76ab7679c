"""Memory is asked for before anything large is made, and the message says what to change."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ecjax as ec
from ecjax.base import memory
from ecjax.cluster.embedding import Points
from ecjax.cluster.link import link
from ecjax.expand import LevenbergMarquardt, expand
from ecjax.flow import critical_point, follow
from ecjax.judge import ease

_MIB = 2**20
X = np.random.default_rng(0).standard_normal((2000, 3))
WIDE = drawn.network((3, 1500, 2), "tanh", key=jax.random.key(0))
SAMPLES = ec.Samples(jnp.asarray(X), jnp.asarray(X[:, :2]))


@pytest.fixture
def small_machine(monkeypatch):
    """One that has 60 MiB left, and says so."""
    monkeypatch.setattr(memory, "free_on_host", lambda: 60 * _MIB)
    monkeypatch.setattr(memory, "_SMALL", _MIB)


def _stack(net):
    return jax.tree.map(lambda leaf: leaf[None], net)


NEEDS = {
    "students": (lambda: ec.random_network((3, 10**7, 2), "tanh", key=jax.random.key(0)), "lower `n_students`"),
    "queries": (lambda: ec.gaussian_queries(10**7, 3, key=jax.random.key(0)), "lower `n_samples`"),
    "answers": (lambda: ec.respond(WIDE, jnp.zeros((4000, 3))), "the number of samples"),
    "data on the device": (lambda: ec.Data.of(np.broadcast_to(X[:, :1], (2000, 5000)), X), "give fewer rows"),
    "training": (
        lambda: expand(_stack(WIDE), SAMPLES, config=ec.ExpandConfig(method=(LevenbergMarquardt(),))),
        'method="adam_lbfgs"',
    ),
    "a flow": (lambda: follow(_stack(WIDE), SAMPLES), "`together` or `threads`"),
    "a Hessian": (lambda: critical_point(WIDE, SAMPLES), "a narrower network"),
    "a Jacobian": (lambda: ease(WIDE, jnp.concatenate([SAMPLES.x] * 3)), "a narrower network|number of samples"),
}


@pytest.mark.parametrize("what", NEEDS)
def test_what_does_not_fit_is_refused_before_it_is_made(what, small_machine):
    call, words = NEEDS[what]
    with pytest.raises(ValueError, match=rf"GiB of memory, of which 0\.1 GiB are free: .*({words})"):
        call()


def test_distances_are_refused_by_the_setting_that_makes_them_many(small_machine):
    x = np.random.default_rng(0).standard_normal((3000, 3))
    points = Points(x, np.zeros(3000, bool), np.ones(3000), sign_free=True, antiperiod=None)
    with pytest.raises(ValueError, match=r"Distances between 3,000 neurons .* lower `n_students`"):
        link(points, method="matrix", memory=4.0, resolution=1e-3)


def test_what_fits_is_not_asked_about(monkeypatch):
    monkeypatch.setattr(memory, "free_on_host", lambda: 1 / 0)
    memory.require_memory(2**20, "A little", "no remedy")
    with pytest.raises(ZeroDivisionError):
        memory.require_memory(2**30, "Much", "no remedy")


def test_a_machine_says_what_is_free():
    free = memory.free_on_host()
    assert 2**26 < free <= np.inf
    with pytest.raises(ValueError, match=r"Everything take .* GiB of memory, of which .* GiB are free: be modest\."):
        memory.require_memory(1e18, "Everything", "be modest")


def test_a_container_has_a_limit_and_an_unknown_machine_none(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_of_group", lambda: 5.0)
    assert memory.free_on_host() == 5.0
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "nothing")
    assert memory._of_machine() > 2**26

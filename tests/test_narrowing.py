"""Students that become narrower: what goes at no cost, what must not go, and when to stop."""

from dataclasses import replace

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from ecjax.expand import ExpandConfig, Minibatch, NarrowedMinibatch, Narrowing, expand
from ecjax.expand.narrowing import narrower, shrunk
from ecjax.network import (
    ACTIVATIONS,
    Layer,
    Network,
    mixture,
    respond,
    stack,
    student,
)
from ecjax.objective import Samples


def with_dead_weight(net, key):
    """The same function with a copy of each neuron of the first hidden layer, and as many constant neurons."""
    hidden, following, *above = net.layers
    share = jr.uniform(key, (1, len(hidden.b)))
    w = jnp.concatenate([hidden.w, hidden.w, 0 * hidden.w])
    b = jnp.concatenate([hidden.b, hidden.b, 1 + jnp.arange(len(hidden.b), dtype=hidden.b.dtype)])
    a = following.w
    wide = replace(following, w=jnp.concatenate([share * a, (1 - share) * a, 0 * a], axis=1))
    return Network((Layer(w, b, hidden.activation), wide, *above))


@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 4, 3, 2)], ids=str)
def test_copies_and_constants_go_at_no_cost(shape, key):
    nets = [drawn.network(shape, "tanh", key=k) for k in jr.split(key, 2)]
    x = drawn.normal(key, (200, 3))
    wide = stack([with_dead_weight(net, key) for net in nets])
    narrow = shrunk(wide, x, nets[0].widths)
    assert narrow.shape == shape
    for i, net in enumerate(nets):
        np.testing.assert_allclose(respond(student(narrow, i), x), respond(net, x), rtol=0, atol=1e-7)
        ours, theirs = (sorted(np.asarray(one.layers[0].b).tolist()) for one in (student(narrow, i), net))
        np.testing.assert_allclose(ours, theirs)


def test_of_two_neurons_the_one_that_matters_stays(key):
    """One neuron by hand: what is left is fitted anew, constant included."""
    x = drawn.normal(key, (500, 2))
    w = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    net = Network((Layer(w, jnp.zeros(2), ACTIVATIONS["tanh"]), Layer(jnp.array([[0.1, 2.0]]), jnp.array([3.0]))))
    one = student(shrunk(stack([net]), x, (1,)), 0)
    np.testing.assert_array_equal(one.layers[0].w, w[1:])
    phi, y = np.tanh(np.asarray(x)), np.asarray(respond(net, x))
    wanted = np.linalg.lstsq(np.stack([phi[:, 1], np.ones(500)], axis=1), y, rcond=None)[0][:, 0]
    np.testing.assert_allclose([one.layers[1].w[0, 0], one.layers[1].b[0]], wanted, rtol=1e-6)


def test_a_student_that_diverged_is_not_finite(key):
    students = drawn.students(2, (3, 4, 2), "tanh", key=key)
    students = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), students)
    narrow = shrunk(students, drawn.normal(key, (50, 3)), (2,))
    assert [bool(jnp.isfinite(student(narrow, i).layers[1].b).all()) for i in range(2)] == [False, True]


def test_widths_fall_until_nothing_is_left_to_fall():
    assert list(narrower((8, 3), 0.5)) == [(4, 2), (2, 1), (1, 1)]
    assert list(narrower((8,), 1.0)) == []


@pytest.mark.slow
def test_students_stop_before_they_are_too_narrow(key):
    teacher = drawn.network((3, 3, 2), "tanh", key=key)
    teacher = jax.tree.map(lambda leaf: 1.5 * leaf, teacher)
    x = drawn.normal(key, (400, 3))
    students = drawn.students(3, (3, 12, 2), "tanh", key=key)
    config = ExpandConfig(
        method="minibatch",
        minibatch=Minibatch(batch=50, learning_rate=1e-2, max_epochs=100),
        narrowing=Narrowing(factor=0.25),  # to 3 neurons, which suffice, then to 1
    )
    end = expand(students, Samples(x, respond(teacher, x)), config=config, key=key)
    assert end.students.widths == (3,)
    assert end.history is not None
    assert end.history.shape == (200, 3)
    assert set(end.n_steps.tolist()) == {200 * 8}


@pytest.mark.parametrize(("field", "value"), [("factor", 0.0), ("factor", 1.5), ("room", 0.5), ("learning_rate", 0.0)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Narrowing(**{field: value})


def test_a_rate_below_the_smallest_is_refused_where_narrowing_is_on():
    """And only there: a minibatch setting was refused over a narrowing that was off."""
    minibatch = Minibatch(min_learning_rate=5e-4)
    ExpandConfig(method="minibatch", minibatch=minibatch)
    ExpandConfig(method="levenberg_marquardt", minibatch=minibatch, narrowing=Narrowing(factor=0.5))
    wanted = "`narrowing.learning_rate`, .*`minibatch.min_learning_rate`; got 0.0003 and 0.0005"
    for name in ("minibatch", "minibatch_lbfgs", "minibatch_conjugate"):
        with pytest.raises(ValueError, match=wanted):
            ExpandConfig(method=name, minibatch=minibatch, narrowing=Narrowing(factor=0.5))
    with pytest.raises(ValueError, match=wanted):
        NarrowedMinibatch(minibatch, Narrowing(factor=0.5))


def test_mixtures_are_not_narrowed(key):
    """Each student would keep neurons of other kinds, and a stack has one kind: refused before anything is trained."""
    x = drawn.normal(key, (50, 3))
    students = drawn.students(2, (3, 4, 2), mixture(tanh=2, softplus=2), key=key)
    samples, minibatch = Samples(x, x[:, :2]), Minibatch(batch=50, max_epochs=2)
    with pytest.raises(ValueError, match=r"`narrowing` is off \(factor 1\) for students with a Mixture.* 0.5"):
        NarrowedMinibatch(minibatch, Narrowing(factor=0.5))(students, samples, key=key, store={})
    end = NarrowedMinibatch(minibatch, Narrowing())(students, samples, key=key, store={})
    assert end.students.activations == students.activations

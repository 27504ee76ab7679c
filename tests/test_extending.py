"""How to add what is missing, by a few lines and without touching the library; told in docs/extending.md."""

from dataclasses import replace

import drawn
import jax.random as jr
import numpy as np

import ecjax as ec


def test_a_new_metric(key):
    # Images have thousands of inputs, and the default metric takes the cube of their number. This one leaves out how
    # they vary together: each weight counts as much as its own input varies, the bias as the mean pre-activation.
    def coordinates(neurons, moment):
        mean, square = moment[-1, :-1], np.diag(moment)[:-1]
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        w, b = neurons[:, :-1], neurons[:, -1:]
        return np.hstack([w * spread, b + w @ mean[:, None]])

    input_by_input = ec.cluster.Metric("input by input", coordinates, needs_moment=True, periodic=True)
    config = ec.ClusterConfig(metric=input_by_input)

    # Neurons by hand: three in each of five students, on inputs of very different size.
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 1e3, 1e-3])
    x = scale * rng.normal(1, 1, (200, 3))
    teacher = np.hstack([rng.normal(size=(3, 3)) / scale, rng.normal(size=(3, 1))])
    found = ec.cluster.cluster_neurons(
        np.tile(teacher, (5, 1)) * (1 + 1e-6 * rng.normal(size=(15, 4))),
        np.repeat(np.arange(5), 3),
        n_students=5,
        symmetry=ec.ACTIVATIONS["tanh"].symmetry,
        moment=ec.cluster.second_moment(x),
        config=config,
    )
    assert found.width == 3

    # And as a part of a recovery.
    teacher = drawn.teacher(2, 2, key=key)
    x = drawn.queries(drawn.N_TOY, 2, key=jr.fold_in(key, 1))
    settings = replace(drawn.TOY, cluster=config)
    recovery = ec.recover(x, drawn.answers(teacher, x), activation="tanh", config=settings, key=jr.fold_in(key, 2))
    assert recovery.config.cluster.metric is input_by_input
    assert ec.compare(recovery, teacher, x).parameter_error < 1e-8

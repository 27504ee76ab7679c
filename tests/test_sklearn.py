"""The estimator: what scikit-learn asks of one, and that it is a recovery."""

import copy
import warnings

import drawn
import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

import ecjax as ec
from ecjax.sklearn import ExpandAndCluster


@pytest.fixture(scope="module")
def problem():
    """As large as the toys of the command line's tests, which share its programs."""
    key = jax.random.key(1)
    teacher = drawn.network((2, 2, 1), "tanh", key=key, biases=0.5)
    x = np.asarray(drawn.queries(drawn.N_TOY, 2, key=key))
    return teacher, x, np.asarray(drawn.answers(teacher, x))[:, 0]


@pytest.fixture(scope="module")
def fitted(problem):
    _, x, y = problem
    return ExpandAndCluster(config=drawn.TOY, random_state=0).fit(x, y)


def test_it_recovers_predicts_and_scores(problem, fitted):
    teacher, x, y = problem
    assert fitted.n_neurons_ == (2,)
    assert fitted.certified_
    assert fitted.score(x, y) > 1 - 1e-12
    np.testing.assert_allclose(fitted.predict(x), y, atol=1e-10)
    assert ec.compare(fitted.recovery_, teacher, x).parameter_error < 1e-9
    assert [w.shape for w in fitted.coefs_] == [(2, 2), (2, 1)]


def test_the_same_state_finds_the_same(problem, fitted):
    _, x, y = problem
    np.testing.assert_array_equal(clone(fitted).fit(x, y).predict(x), fitted.predict(x))


def test_a_copy_that_is_written_predicts_without_its_recovery(problem, fitted):
    """What a pickle would keep: the network's numbers, no function."""
    _, x, _ = problem
    twin = ExpandAndCluster()
    twin.__setstate__(copy.deepcopy(fitted.__getstate__()))
    assert not hasattr(twin, "recovery_")
    np.testing.assert_array_equal(twin.predict(x), fitted.predict(x))
    assert fitted.recovery_.widths == (2,)


def test_names_and_shapes_are_kept(problem):
    pandas = pytest.importorskip("pandas")
    _, x, y = problem
    frame = pandas.DataFrame(x, columns=["speed", "angle"])
    found = ExpandAndCluster(config=drawn.TOY, random_state=0).fit(frame, y[:, None])
    assert found.feature_names_in_.tolist() == ["speed", "angle"]
    assert found.predict(frame).shape == (len(x), 1)
    with pytest.warns(UserWarning, match="feature names"):
        found.predict(x)


def test_what_is_wrong_is_said(problem):
    _, x, y = problem
    with pytest.raises(NotFittedError):
        ExpandAndCluster().predict(x)
    with pytest.raises(ValueError, match="parameters"):
        ExpandAndCluster(student_width=50, allow_few_samples=False).fit(x, y)


def test_a_linear_map_beside_the_network_is_part_of_the_prediction(problem, fitted):
    _, x, y = problem
    twin = ExpandAndCluster()
    twin.__setstate__(copy.deepcopy(fitted.__getstate__()))
    twin._linear = (np.array([[1.0], [2.0]]), np.array([3.0]))
    np.testing.assert_allclose(twin.predict(x), y + x @ [1.0, 2.0] + 3, atol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # scikit-learn's, of checks that it skips
def test_scikit_learn_has_nothing_to_say():
    small = ExpandAndCluster(student_width=4, n_students=2, budget=1e-3, gamma=1.0)
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        said = check_estimator(small, on_fail=None, on_skip=None)
    assert not [each["check_name"] for each in said if each["status"] == "failed"]

"""Mini-batch expansion: against a slow loop over students, and the promises on plateaus, freezing and resuming."""

import dataclasses

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecjax.expand import RESULTS, Minibatch
from ecjax.expand.minibatch import _lowered, chunk_size
from ecjax.expand.minibatch_state import Plateau, state_from_arrays, state_to_arrays
from ecjax.network import (
    Layer,
    Network,
    mixture,
    respond,
    stack,
    student,
)
from ecjax.network.forward import stack_answers
from ecjax.objective import Objective, Samples, imitation_loss

CONFIG = Minibatch(batch=16, max_epochs=7, epochs_per_call=3, learning_rate=1e-2)


def problem(shape=(3, 4, 2), *, n_students=3, n_samples=50, activation="g", key, dtype=None):
    """Students and a teacher of the same shape."""
    student_key, teacher_key, x_key = jr.split(key, 3)
    teacher = drawn.network(shape, activation, key=teacher_key, dtype=dtype)
    x = drawn.normal(x_key, (n_samples, shape[0]), dtype or float)
    students = drawn.students(n_students, shape, activation, key=student_key, dtype=dtype)
    return students, Samples(x, drawn.answers(teacher, x))


def assert_equal(a, b):
    """Bit for bit, NaN being equal to NaN."""
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 2), (3, 5, 4, 1)], ids=str)
def test_a_stack_answers_as_its_students_do(shape, key):
    """Of one activation of each kind where there is one hidden layer: one program, since each is small."""
    x = drawn.normal(key, (20, 3))
    names = ("g", "tanh", "sigmoid", "sin", "gaussian", "softplus", "relu") if shape == (3, 4, 2) else ("g",)
    stacks = {name: drawn.students(3, shape, name, key=key) for name in names}

    @jax.jit
    def answered(stacks):
        one_by_one = lambda students: jnp.stack([respond(student(students, i), x).T for i in range(3)])
        return {name: (stack_answers(students, x), one_by_one(students)) for name, students in stacks.items()}

    for name, (got, wanted) in answered(stacks).items():
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13, err_msg=name)


def slow_expansion(students, samples, config, key):
    """One student after another, batch by batch, with optax's own Adam and automatic derivatives."""
    students, x, y = jax.tree.map(np.asarray, (students, samples.x, samples.y))
    optimiser = optax.adam(config.learning_rate)

    @jax.jit
    def step(net, state, x, y):
        loss, gradient = jax.value_and_grad(imitation_loss)(net, x, y)
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimiser.update(gradient, state)
            return eqx.apply_updates(net, update), state, loss

    trained, histories = [], []
    for i in range(len(students.layers[0].w)):
        net, history = student(students, i), []
        state = jax.jit(optimiser.init)(net)
        for epoch in range(config.max_epochs):
            order = np.asarray(jr.permutation(jr.fold_in(key, epoch), len(x)))
            losses = []
            for start in range(0, len(x) // config.batch * config.batch, config.batch):
                batch = order[start : start + config.batch]
                net, state, loss = step(net, state, x[batch], y[batch])
                losses.append(float(loss))
            history.append(np.mean(losses))
        trained.append(net)
        histories.append(history)
    return stack(trained), np.array(histories).T


@pytest.mark.parametrize(
    ("shape", "activation"),
    [pytest.param((3, 5, 4, 2), "g", marks=pytest.mark.slow), ((3, 4, 2), mixture(relu=3, tanh=1))],
)
def test_the_stack_is_trained_as_its_students_would_be_one_by_one(shape, activation, key):
    students, samples = problem(shape, activation=activation, key=key)
    config = dataclasses.replace(CONFIG, max_epochs=3)
    wanted, losses = slow_expansion(students, samples, config, key)
    measured = jax.jit(lambda net: jax.value_and_grad(samples.value)(net))
    expansion, state = config.train(students, samples, key=key)
    np.testing.assert_allclose(state.losses, losses, rtol=1e-9)
    for one, other in zip(jax.tree.leaves(expansion.students), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
    ends = jax.tree.map(np.asarray, expansion.students)
    for i in range(3):
        loss, gradient = measured(student(ends, i))
        norm = np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]))
        np.testing.assert_allclose(expansion.loss[i], loss, rtol=1e-12)
        np.testing.assert_allclose(expansion.gradient_norm[i], norm, rtol=1e-10)
    np.testing.assert_array_equal(expansion.n_steps, 3 * (50 // 16))
    assert expansion.reasons() == [str(RESULTS[RESULTS.max_steps])] * 3


@pytest.mark.parametrize("batch", [50, 1000])
def test_a_batch_of_everything_is_full_batch_adam(batch, key):
    students, samples = problem(key=key)
    config = dataclasses.replace(CONFIG, batch=batch, max_epochs=2)
    expansion, state = config.train(students, samples, key=key)
    np.testing.assert_allclose(state.losses[0], jax.vmap(samples.value)(students), rtol=1e-12)
    np.testing.assert_array_equal(expansion.n_steps, 2)


@pytest.mark.slow
def test_students_do_not_depend_on_their_neighbours(key):
    """Only rounding may differ: the batched products of another number of students are other products."""
    students, samples = problem(key=key)
    fewer = jax.tree.map(lambda leaf: leaf[1:3], students)
    three, _ = CONFIG.train(students, samples, key=key)
    two, _ = CONFIG.train(fewer, samples, key=key)
    np.testing.assert_allclose(three.loss[1:3], two.loss, rtol=1e-9)


@pytest.mark.slow
def test_students_do_not_depend_on_their_chunk(key):
    students, samples = problem(n_students=4, key=key)
    whole, _ = CONFIG.train(students, samples, key=key)
    halves, _ = dataclasses.replace(CONFIG, chunk=2).train(students, samples, key=key)
    np.testing.assert_allclose(halves.loss, whole.loss, rtol=1e-9)


@pytest.mark.parametrize(("width", "size"), [(1, 12), (4000, 6), (8000, 4), (10000, 3), (16000, 2), (10**6, 1)])
def test_chunks_divide_the_students_and_fit_the_cache(width, size):
    students = Network((Layer(jnp.zeros((12, width, 1)), jnp.zeros((12, width))),))
    assert chunk_size(students, batch=16) == size


def test_a_diverging_student_is_frozen_and_the_others_go_on(key):
    students, samples = problem(key=key)
    alone, _ = CONFIG.train(students, samples, key=key)
    bad = eqx.tree_at(lambda s: s.layers[1].w, students, students.layers[1].w.at[1].set(jnp.nan))
    beside, state = CONFIG.train(bad, samples, key=key)
    for i in (0, 2):
        assert_equal(student(alone.students, i), student(beside.students, i))
    assert beside.reasons()[1] == str(RESULTS[RESULTS.diverged])
    np.testing.assert_array_equal(beside.finite, [True, False, True])
    np.testing.assert_array_equal(state.n_epochs, [7, 1, 7])


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_student_at_its_target_keeps_its_weights_and_ends_its_history(chunk, key):
    students, samples = problem(key=key)
    _, free = dataclasses.replace(CONFIG, chunk=chunk).train(students, samples, key=key)
    first = free.losses[2]  # the middle of the road: students fall below at different epochs
    target = float(np.median(first))
    config = dataclasses.replace(CONFIG, target_loss=target, epochs_per_call=1, chunk=chunk)
    seen = []
    _, state = config.train(students, samples, key=key, on_epochs=seen.append)
    below = free.losses <= target
    ended = np.where(below.any(0), below.argmax(0) + 1, 7)
    assert (ended < 7).any()
    np.testing.assert_array_equal(state.n_epochs, ended)
    for i, epochs in enumerate(ended):
        np.testing.assert_array_equal(state.losses[:epochs, i], free.losses[:epochs, i])
        assert np.isnan(state.losses[epochs:, i]).all()
        for later in seen[epochs - 1 :]:
            assert_equal(student(later.students, i), student(seen[epochs - 1].students, i))


@pytest.mark.slow
def test_all_done_ends_the_run_within_a_call(key):
    students, samples = problem(key=key)
    config = dataclasses.replace(CONFIG, target_loss=1e9)
    expansion, state = config.train(students, samples, key=key)
    assert int(state.epoch) == 1
    assert expansion.reasons() == [str(RESULTS[RESULTS.reached_target])] * 3


@pytest.mark.parametrize("epochs_per_call", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_calls_of_any_length_give_the_same_numbers(epochs_per_call, key):
    students, samples = problem(key=key)
    one = CONFIG.train(students, samples, key=key)
    config = dataclasses.replace(CONFIG, epochs_per_call=epochs_per_call)
    other = config.train(students, samples, key=key)
    assert_equal(one, other)


@pytest.mark.parametrize("dtype", [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_bit_for_bit(dtype, key):
    class KilledError(Exception):
        pass

    saved = {}

    def save_then_die(state):
        saved.clear()
        saved.update(state_to_arrays(state))
        if int(state.epoch) >= 6:
            raise KilledError

    students, samples = problem(key=key, dtype=dtype)
    config = dataclasses.replace(CONFIG, patience=0, cooldown=1)
    whole = config.train(students, samples, key=key)
    with pytest.raises(KilledError):
        config.train(students, samples, key=key, on_epochs=save_then_die)
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in saved.values())
    state = state_from_arrays(saved, students.activations)
    resumed = config.train(students, samples, key=key, state=state)
    assert_equal(whole, resumed)


def test_a_finished_run_may_be_given_more_epochs(key):
    students, samples = problem(key=key)
    longer = dataclasses.replace(CONFIG, max_epochs=10)
    _, state = CONFIG.train(students, samples, key=key)
    assert_equal(
        longer.train(students, samples, key=key, state=state),
        longer.train(students, samples, key=key),
    )


@pytest.mark.slow
def test_the_loss_of_a_teacher_is_zero_and_falls_for_its_students(key):
    students, samples = problem((2, 8, 1), activation="tanh", n_samples=200, key=key)
    config = Minibatch(batch=40, max_epochs=200, epochs_per_call=100, learning_rate=1e-2)
    expansion, state = config.train(students, samples, key=key)
    assert (np.asarray(expansion.loss) < 0.1 * state.losses[0]).all()


def test_no_length_of_the_history_is_a_program_of_its_own(key):
    """The losses so far were once cut on the device: 2,500 compilations in 25,000 epochs."""
    students, samples = problem(key=key)
    config = dataclasses.replace(CONFIG, max_epochs=31, epochs_per_call=1)
    compiled, lengths = [], []

    def listen(event, *_, **__):
        compiled.append(event) if event == "/jax/core/compile/jaxpr_trace_duration" else None

    def watch(state):
        lengths.append(len(state.losses))
        if len(lengths) == 1:
            compiled.clear()  # what follows is only repeated

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        config.train(students, samples, key=key, on_epochs=watch, progress=lambda *_, losses, epoch: losses.sum())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert lengths == list(range(1, 32))
    assert len(compiled) < 20  # those of what is measured at the end; one a length were 30 more


# --- the plateau rule ----------------------------------------------------------------------------------------------


def torch_rule(losses, config):
    """The plateau rule in the words of PyTorch's ReduceLROnPlateau with threshold 0, one student at a time."""
    rate, best, n_bad, cooldown, rates = config.learning_rate, np.inf, 0, 0, []
    for loss in losses:
        if loss < best:
            best, n_bad = loss, 0
        else:
            n_bad += 1
        if cooldown > 0:
            cooldown, n_bad = cooldown - 1, 0
        if n_bad > config.patience:
            rate, cooldown, n_bad = rate * config.factor, config.cooldown, 0
        rates.append(rate)
        if rate < config.min_learning_rate:
            break
    return rates


@settings(max_examples=30, deadline=None)
@given(
    losses=st.lists(st.lists(st.integers(1, 6), min_size=40, max_size=40), min_size=2, max_size=2),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
)
def test_every_student_has_a_plateau_of_its_own(losses, patience, cooldown):
    config = Minibatch(patience=patience, cooldown=cooldown, factor=0.5, min_learning_rate=1e-4)
    zeros = jnp.zeros(2, jnp.int32)
    plateau = Plateau(jnp.full(2, config.learning_rate), jnp.full(2, jnp.inf), zeros, zeros, jnp.zeros(2, bool))
    rates = []
    for epoch in np.array(losses, float).T:
        plateau = _lowered(plateau, jnp.asarray(epoch), config)
        rates.append(np.asarray(plateau.rate))
    for i in range(2):
        wanted = torch_rule(losses[i], config)
        np.testing.assert_array_equal(np.array(rates)[: len(wanted), i], wanted)
        assert (np.array(rates)[len(wanted) :, i] == wanted[-1]).all()
        assert bool(plateau.done[i]) == (wanted[-1] < config.min_learning_rate)


def test_a_student_whose_rate_became_minimal_has_stalled(key):
    students, samples = problem(key=key)
    samples = samples.with_answers(jnp.zeros((50, 2)))  # a student of zeros is perfect and can get no better
    still = jax.tree.map(lambda leaf: leaf.at[0].set(0.0), students)
    config = dataclasses.replace(CONFIG, patience=0, cooldown=0, factor=0.1, min_learning_rate=1e-3, target_loss=-1.0)
    expansion, state = config.train(still, samples, key=key)
    assert expansion.reasons()[0] == str(RESULTS[RESULTS.stalled])
    assert int(state.n_epochs[0]) < int(state.n_epochs[1:].max())


def bound_to_a_quarter(x):
    """Settings whose largest shift lets a quarter of the rates through, and those with these rates themselves."""
    total = float(np.abs(np.asarray(x, float)).sum(axis=1).mean())
    free = dataclasses.replace(CONFIG, max_shift=2 * CONFIG.learning_rate * total)
    bound = dataclasses.replace(CONFIG, max_shift=CONFIG.learning_rate * total / 4)
    lower = dataclasses.replace(
        CONFIG, learning_rate=CONFIG.learning_rate / 4, min_learning_rate=CONFIG.min_learning_rate / 4
    )
    return free, bound, lower


def test_rates_fall_with_the_queries_beyond_the_largest_shift(key):
    """Below it nothing changes; beyond it both rates are those at which rate times mean sum of |x| is `max_shift`."""
    x = drawn.queries(50, 3, key=key)
    free, bound, lower = bound_to_a_quarter(x)
    assert free.for_queries(x) == CONFIG
    assert bound.for_queries(x).learning_rate == pytest.approx(lower.learning_rate, rel=1e-6)
    assert bound.for_queries(x).min_learning_rate == pytest.approx(lower.min_learning_rate, rel=1e-6)
    assert bound.for_queries(x).for_queries(x) == bound.for_queries(x)


@pytest.mark.slow
def test_training_asks_for_the_rates_that_the_queries_allow(key):
    students, samples = problem(key=key)
    _, bound, lower = bound_to_a_quarter(samples.x)
    ends = [config.train(students, samples, key=key)[0] for config in (bound, lower)]
    np.testing.assert_allclose(*(np.asarray(end.loss) for end in ends), rtol=1e-4)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("max_epochs", 0),
        ("epochs_per_call", 0),
        ("chunk", 0),
        ("patience", -1),
        ("cooldown", -1),
        ("factor", 1.0),
        ("min_learning_rate", 0.0),
        ("min_learning_rate", 1.0),
        ("max_shift", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"`{field}`"):
        Minibatch(**{field: value})


def test_data_that_do_not_fit_are_refused(key):
    students, samples = problem(key=key)
    with pytest.raises(ValueError, match="one leading axis"):
        CONFIG.train(student(students, 0), samples, key=key)
    with pytest.raises(ValueError, match="`x` is"):
        CONFIG.train(students, Samples(samples.x[:, :2], samples.y), key=key)
    with pytest.raises(ValueError, match="`chunk` is a divisor of the number of students, 3; got 2"):
        dataclasses.replace(CONFIG, chunk=2).train(students, samples, key=key)
    with pytest.raises(ValueError, match="one dtype"):
        CONFIG.train(students, Samples(samples.x.astype(jnp.float32), samples.y), key=key)


class Norm(Objective):
    def value(self, net):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(net))


def test_batches_are_made_of_samples_that_all_count_alike(key):
    students, samples = problem(key=key)
    for objective in (Norm(), Samples(samples.x, samples.y, jnp.ones(50))):
        with pytest.raises(ValueError, match="drawn from samples without weights of their own"):
            CONFIG(students, objective, key=key, store={})


def test_a_key_is_needed(key):
    students, samples = problem(key=key)
    with pytest.raises(ValueError, match=r"`key` is needed for the shuffles .*key=jax\.random\.key\(0\)"):
        CONFIG(students, samples, key=None, store={})


def test_a_state_of_another_run_is_refused(key):
    students, samples = problem(key=key)
    _, state = CONFIG.train(students, samples, key=key)
    with pytest.raises(ValueError, match="another `key`"):
        CONFIG.train(students, samples, key=jr.key(0), state=state)
    with pytest.raises(ValueError, match="`max_epochs` is 2"):
        dataclasses.replace(CONFIG, max_epochs=2).train(students, samples, key=key, state=state)
    wider, _ = problem((3, 6, 2), key=key)
    with pytest.raises(ValueError, match="another shape"):
        CONFIG.train(wider, samples, key=key, state=state)
    arrays = state_to_arrays(state)
    del arrays["mu.0.w"]
    with pytest.raises(ValueError, match=r"mu\.0\.w"):
        state_from_arrays(arrays, students.activations)

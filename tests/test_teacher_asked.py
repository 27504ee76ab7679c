"""A teacher that answers: questions counted, checked, bounded, and never asked twice."""

import re
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ecjax as ec


class Counting:
    """A small deterministic function that counts the rows it is given."""

    def __init__(self, fan_out=2):
        self.rows, self.calls, self.fan_out = 0, [], fan_out

    def __call__(self, x):
        self.rows += len(x)
        self.calls.append(len(x))
        return np.stack(
            [np.sin((x * np.arange(1.0, x.shape[1] + 1)).sum(axis=1) + k) for k in range(self.fan_out)], axis=1
        )


def questions(n, fan_in=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, fan_in))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 7))
def test_questions_counted_are_questions_made(sizes, batch):
    fn = Counting()
    teacher = ec.Teacher(fn, fan_in=3, batch=batch)
    for seed, size in enumerate(sizes):
        teacher(questions(size, seed=seed))
    assert teacher.asked == fn.rows == sum(sizes) + 1  # one of them twice, to see whether it is deterministic
    assert max(fn.calls) <= batch


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_order_and_batch_size_change_nothing(order, batch):
    x, order = questions(12), np.array(order)
    plain, other = ec.Teacher(Counting(), fan_in=3), ec.Teacher(Counting(), fan_in=3, batch=batch)
    np.testing.assert_array_equal(other(x[order]), plain(x)[order])
    assert other.asked == plain.asked


def test_nothing_is_asked_twice():
    teacher = ec.Teacher(Counting(), fan_in=3)
    x = questions(5)
    y = teacher(x)
    np.testing.assert_array_equal(teacher(np.concatenate([x, x[:2]])), np.concatenate([y, y[:2]]))
    assert teacher.asked == 6


def test_a_replayed_log_answers_with_nobody_asked(tmp_path):
    file, x = tmp_path / "answers.safetensors", questions(20)
    teacher = ec.Teacher(Counting(), fan_in=3, log=file)
    y = teacher(x)
    teacher.save()

    def nobody(x):
        raise AssertionError("asked")

    again = ec.Teacher(nobody, fan_in=3, log=file)
    np.testing.assert_array_equal(again(x), y)
    assert (again.asked, again.answered, again.fan_out) == (0, 20, 2)
    assert again.precision == teacher.precision


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    file, x = tmp_path / "answers.safetensors", questions(20)

    class Interrupts(Counting):
        def __call__(self, x):
            if self.rows > 10:
                raise KeyboardInterrupt
            return super().__call__(x)

    teacher = ec.Teacher(Interrupts(), fan_in=3, batch=5, log=file)
    with pytest.raises(KeyboardInterrupt):
        teacher(x)
    fn = Counting()
    again = ec.Teacher(fn, fan_in=3, batch=5, log=file)
    np.testing.assert_array_equal(again(x), Counting()(x))
    assert again.asked == fn.rows == 20 - teacher.answered + 1


def test_a_log_of_another_teacher_is_refused(tmp_path):
    ec.Teacher(Counting(), fan_in=3, log=tmp_path / "log").save()
    with pytest.raises(ValueError, match="3 inputs in float64, this one has 4"):
        ec.Teacher(Counting(), fan_in=4, log=tmp_path / "log")


def test_a_log_without_a_place_is_refused():
    with pytest.raises(ValueError, match="`path`"):
        ec.Teacher(Counting(), fan_in=3).save()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.lists(st.integers(1, 9), max_size=6))
def test_a_budget_is_never_exceeded(budget, sizes):
    fn = Counting()
    teacher = ec.Teacher(fn, fan_in=3, max_questions=budget)
    for seed, size in enumerate(sizes):
        with suppress(ValueError):
            teacher(questions(size, seed=seed))
    assert fn.rows == teacher.asked <= budget
    assert teacher.left == budget - teacher.asked


@settings(deadline=None, max_examples=30)
@given(st.floats(-2, 2), st.floats(-2, 2))
def test_a_box_is_never_left(a, b):
    seen = []
    teacher = ec.Teacher(lambda x: seen.append(x) or x, fan_in=2, box=(0, [1.0, 1.5]))
    inside = 0 <= a <= 1 and 0 <= b <= 1.5
    if inside:
        teacher(np.array([[a, b]]))
    else:
        with pytest.raises(ValueError, match="box"):
            teacher(np.array([[a, b]]))
    assert bool(seen) == inside


def raising(x):
    raise OSError("line cut")


def test_a_teacher_that_raises_in_the_middle_loses_no_answer():
    calls = []

    def fn(x):
        calls.append(len(x))
        return raising(x) if len(calls) > 3 else x

    teacher = ec.Teacher(fn, fan_in=3, batch=4)
    x = questions(20)
    with pytest.raises(ec.TeacherError, match=r"OSError \(line cut\).*9 answers before are safe") as raised:
        teacher(x)
    assert isinstance(raised.value.__cause__, OSError)
    assert teacher.answered == 8
    np.testing.assert_array_equal(teacher(x[:8]), x[:8])


def test_nan_somewhere_is_told_and_the_others_are_kept():
    teacher = ec.Teacher(lambda x: np.where(x > 0, x, np.nan), fan_in=3)
    x = np.abs(questions(6))
    x[2, 0] = -1
    with pytest.raises(ec.TeacherError, match="1 of 6 questions with NaN"):
        teacher(x)
    assert teacher.answered == 5


def test_a_teacher_that_is_not_deterministic_is_refused():
    draw = np.random.default_rng(0)
    teacher = ec.Teacher(lambda x: x + draw.standard_normal(x.shape), fan_in=3)
    with pytest.raises(ec.TeacherError, match="not deterministic"):
        teacher(questions(4))
    assert teacher.answered == 0
    patient = ec.Teacher(lambda x: x + 1e-5 * draw.standard_normal(x.shape), fan_in=3, answers=1e-4)
    assert patient(questions(4)).shape == (4, 3)


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda x: x[:1], "answered with shape (1, 3): one row"),
        (lambda x: x[None], "answered with shape (1, 1, 3)"),
        (lambda x: np.argmax(x, axis=1), "scores rather than classes"),
    ],
)
def test_answers_that_are_none_are_refused(fn, said):
    with pytest.raises(ec.TeacherError, match=re.escape(said)):
        ec.Teacher(fn, fan_in=3)(np.concatenate([questions(1)] * 4) + np.arange(4.0)[:, None])


def test_a_shape_that_changes_is_refused():
    teacher = ec.Teacher(lambda x: x[:, : 1 + (len(x) < 5)], fan_in=3)
    teacher(questions(4))
    with pytest.raises(ec.TeacherError, match="1 numbers each, where it answered 2 before"):
        teacher(questions(9, seed=1))
    assert teacher.answered == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fn": 3}, "`fn`"),
        ({"fan_in": 0}, "`fan_in`"),
        ({"batch": 0}, "`batch`"),
        ({"max_questions": -1}, "`max_questions`"),
        ({"dtype": np.int32}, "`dtype`"),
        ({"box": 3}, "`box`"),
        ({"box": (1, 0)}, "`box`"),
        ({"box": (0, np.inf)}, "`box`"),
        ({"box": ([0, 0], 1)}, "`box`"),
        ({"answers": 2.0}, "`answers`"),
        ({"answers": "words"}, "`answers`"),
        ({"answers": np.int32}, "`answers`"),
    ],
)
def test_wrong_settings_are_refused_by_name(given, said):
    with pytest.raises(ValueError, match=said):
        ec.Teacher(**{"fn": Counting(), "fan_in": 3, **given})


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((2, 4)), np.zeros((2, 3), int), np.full((1, 3), np.nan)])
def test_wrong_questions_are_refused(x):
    fn = Counting()
    with pytest.raises(ValueError, match="`x`"):
        ec.Teacher(fn, fan_in=3)(x)
    assert fn.rows == 0


def test_precision_is_that_of_the_coarsest():
    single = ec.Teacher(lambda x: x.astype(np.float32), fan_in=3)
    assert single.precision == np.finfo(float).eps
    single(questions(2))
    assert single.precision == np.finfo(np.float32).eps
    assert ec.Teacher(Counting(), fan_in=3, dtype=np.float32).precision == np.finfo(np.float32).eps
    assert ec.Teacher(Counting(), fan_in=3, answers=1e-3).precision == 1e-3
    assert ec.Teacher(Counting(), fan_in=3, answers="float32").precision == np.finfo(np.float32).eps


def test_a_function_may_write_into_what_it_is_given():
    def fn(x):
        x *= 2
        return x

    x = questions(3)
    np.testing.assert_array_equal(ec.Teacher(fn, fan_in=3)(x.copy()), 2 * x)


def test_one_number_a_question_and_torch_tensors():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 1)
    teacher = ec.Teacher(lambda x: layer(torch.as_tensor(x)), fan_in=3, dtype=np.float32)
    assert teacher(questions(4)).shape == (4, 1)
    assert ec.Teacher(lambda x: x.sum(1), fan_in=3)(questions(4)).shape == (4, 1)


def test_data_can_ask_a_teacher():
    teacher = ec.Teacher(Counting(), fan_in=3)
    x = questions(10)
    data = ec.Data.of(x, teacher(x), ask=teacher)
    assert data.asked(questions(5, seed=1)).y.shape == (15, 2)
    assert teacher.asked == 16


def test_no_questions_no_answers():
    teacher = ec.Teacher(Counting(), fan_in=3)
    teacher(questions(2))
    assert teacher(np.zeros((0, 3))).shape == (0, 2)

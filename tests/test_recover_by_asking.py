"""Recovery of a teacher that can be asked: exact, named, counted, replayed; refused where probes do not reach."""

import sys

import drawn
import jax
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from benchmarks.ask import asked, in_other_terms
from ecjax.cli import main
from ecjax.cli.asking import named_function
from ecjax.network import Layer, Network
from ecjax.probe.curves import values
from ecjax.road.asking import ProbesFailedError
from ecjax.road.numbers import cluster_numbers
from ecjax.road.probing import Asking
from ecjax.road.probing_refine import averaged

SMOOTH = ("g", "tanh", "erf", "arctan", "sin", "softplus", "silu", "gelu", "gelu_tanh", "mish", "gaussian", "elu")
KINKED = ("relu", "leaky_relu", "abs")


def answers_of(net):
    layers = [(np.asarray(each.w), np.asarray(each.b), each.activation) for each in net.layers]

    def fn(x):
        for w, b, kind in layers[:-1]:
            x = values(kind, x @ w.T + b)
        return x @ layers[-1][0].T + layers[-1][1]

    return fn


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_a_network_is_recovered_by_asking(name, key):
    row = asked(drawn.teacher(9, 3, 2, name, key=key), 0)
    assert row.exact, row
    assert row.named == name
    assert row.certified
    assert row.questions < 5000


def test_questions_of_the_judgement_need_not_be_held_all_at_once(key, monkeypatch):
    net, told = drawn.teacher(9, 3, 2, "tanh", key=key), []
    for held in (2**27, 90):
        monkeypatch.setattr("ecjax.road.asking._HELD", held)
        found = ec.recover(ec.Teacher(answers_of(net), fan_in=9), activation="auto", hidden_layers=1, key=key)
        assert found.is_exact
        told.append((found.questions, found.certificate.n_numbers))
    assert told[0] == told[1]
    assert told[0][1] >= 2 * net.n_parameters


def test_answers_in_float32_are_enough(key):
    row = asked(drawn.teacher(9, 6, 3, "tanh", key=key), 0, "float32")
    assert row.widths == (6,)
    assert row.named == "tanh"
    assert row.error < 1e-4
    assert row.questions < 5000


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("seed", [0, 3])
def test_kinks_are_told_from_the_rounding_of_float32(name, seed):
    """Of |x| at these seeds a kink within a difference was a ninth direction."""
    row = asked(ec.synthetic_teacher(16, 8, 3, name, key=jr.key(seed)), seed, "float32")
    assert row.named == name
    assert row.error < 1e-5
    assert row.questions < 6000


@pytest.mark.parametrize(("name", "seed"), [("silu", 1), ("gelu_tanh", 1)])
def test_activations_that_are_near_each_other_are_told_from_float32(name, seed):
    """Profiles hear the other neurons there; whole networks do not."""
    row = asked(ec.synthetic_teacher(16, 8, 3, name, key=jr.key(seed)), seed, "float32")
    assert row.named == name
    assert row.error < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMOOTH, *KINKED, "selu", "sigmoid", "normal_cdf", "cos"])
def test_every_activation_is_named_and_recovered(name):
    rows = [asked(ec.synthetic_teacher(16, 8, 3, name, key=jr.key(seed)), seed) for seed in range(3)]
    assert sum(row.exact for row in rows) >= 2, rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "softplus"])
@pytest.mark.parametrize("shape", [(2, 8, 1), (4, 16, 1), (8, 64, 1)])
def test_more_neurons_than_inputs(shape, name):
    rows = [asked(ec.synthetic_teacher(*shape, name, key=jr.key(seed)), seed) for seed in range(3)]
    assert sum(row.exact and row.certified for row in rows) >= 2, rows


@pytest.mark.slow
def test_a_second_recovery_replays_the_log_and_asks_nothing(tmp_path, key):
    net, log, told = ec.synthetic_teacher(8, 3, 2, "tanh", key=key), tmp_path / "log", []
    first = ec.Teacher(answers_of(net), fan_in=8, log=log)
    note = lambda phase, done, total, **info: told.append(info["questions"])
    found = ec.recover(first, activation="auto", key=jr.key(0), progress=note)
    first.save()
    assert found.questions == first.asked
    assert told == sorted(told)

    def nobody(x):
        raise AssertionError("asked")

    second = ec.Teacher(nobody, fan_in=8, log=log)
    again = ec.recover(second, activation="auto", key=jr.key(0))
    assert second.asked == 0
    for one, other in zip(jax.tree.leaves(found.network), jax.tree.leaves(again.network), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "questions" in found.summary()


def test_the_activation_may_be_said(key):
    net = drawn.teacher(8, 3, 2, "sigmoid", key=key)
    found = ec.recover(ec.Teacher(answers_of(net), fan_in=8), activation="sigmoid", key=jr.key(0))
    assert ec.compare(found, net, drawn.normal(jr.key(1), (100, 8))).parameter_error < 1e-9
    assert found.chosen == ()


@pytest.mark.parametrize("name", ["sigmoid", "normal_cdf", "cos", "tanh"])
def test_other_terms_are_the_same_function(name, key):
    net, x = drawn.teacher(3, 4, 2, name, key=key), drawn.normal(jr.key(1), (50, 3))
    np.testing.assert_allclose(ec.respond(in_other_terms(net), x), ec.respond(net, x), atol=1e-12)


def test_what_goes_not_together_is_refused(key):
    teacher = ec.Teacher(lambda x: x, fan_in=3)
    with pytest.raises(ValueError, match="`y`"):
        ec.recover(teacher, np.zeros((3, 1)), activation="tanh", key=key)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float32-only"):
        ec.recover(teacher, activation="tanh", key=key)
    assert teacher.asked == 0


@pytest.mark.parametrize("hidden_layers", [1, 2, "auto"])
def test_a_linear_map_has_no_neurons(hidden_layers, key):
    linear = lambda x: x @ np.ones((4, 2)) + x[:, :2]
    with pytest.raises(ProbesFailedError):
        ec.recover(ec.Teacher(linear, fan_in=4), activation="auto", hidden_layers=hidden_layers, key=key)


def test_a_budget_ends_a_recovery_in_a_clear_error(key):
    net = drawn.teacher(8, 3, 2, "tanh", key=key)
    teacher = ec.Teacher(answers_of(net), fan_in=8, max_questions=400)
    with pytest.raises(ValueError, match="max_questions"):
        ec.recover(teacher, activation="auto", key=jr.key(0))
    assert teacher.asked <= 400


def test_where_probes_do_not_reach_students_are_trained(key, monkeypatch):
    """The data that they are given: what they make of it has tests of its own."""
    seen = []
    net = drawn.teacher(2, (2, 2), 1, "tanh", key=key)
    teacher = ec.Teacher(answers_of(net), fan_in=2)
    first = ec.recover(
        ec.Teacher(answers_of(drawn.teacher(2, 2, 1, "tanh", key=key)), fan_in=2), activation="auto", key=key
    )
    monkeypatch.setattr(sys.modules["ecjax.road.road"], "follow", lambda data, *_, **__: seen.append(data) or first)
    found = ec.recover(teacher, activation="tanh", hidden_layers=2, key=jr.key(0))
    assert "the next layer seems to have as many" in found.chosen[0]
    assert found.questions == teacher.asked
    assert seen[0].ask is teacher


@pytest.mark.slow
def test_layers_between_in_a_box_are_found_by_students(key):
    net = drawn.teacher(16, (8, 6, 4), 3, "tanh", key=jr.key(1))
    found = ec.recover(ec.Teacher(answers_of(net), fan_in=16), activation="auto", hidden_layers=3, key=jr.key(1))
    assert found.widths == (8, 6, 4)
    assert found.is_exact
    assert found.found_by == ("sweeps", "students", "students")
    for layer, width in enumerate(found.widths):
        (numbers,) = cluster_numbers(found, jr.normal(key, (50, 16)), layer)
        assert set(numbers) - {0} <= set(range(1, width + 1))
    assert "4 neurons, each proposed by at least 5 of 10 students" in found.summary()
    assert ec.compare(found, net, jr.normal(key, (50, 16))).parameter_error < 1e-9


@pytest.mark.slow
def test_two_hidden_layers_in_a_box_of_inputs(key):
    net, asked = drawn.teacher(12, (6, 3), 2, "tanh", key=jr.key(0)), []
    answer = answers_of(net)

    def within(x):
        asked.append(np.abs(x).max())
        return answer(x)

    teacher = ec.Teacher(within, fan_in=12, box=(-1, 1))
    found = ec.recover(teacher, activation="tanh", hidden_layers=2, key=jr.key(0))
    assert found.widths == (6, 3)
    assert max(asked) <= 1
    assert ec.compare(found, net, jr.normal(key, (50, 12))).parameter_error < 1e-9


def test_several_layers_in_a_box_of_inputs_have_an_activation_that_is_said(key):
    net = drawn.teacher(6, (3, 2), 2, "tanh", key=key)
    teacher = ec.Teacher(answers_of(net), fan_in=6, box=(-1, 1))
    with pytest.raises(ProbesFailedError, match="activation has to be said"):
        ec.recover(teacher, activation="auto", hidden_layers=2, key=key)


def test_a_box_is_never_left(key):
    net, asked = drawn.teacher(9, 3, 2, "tanh", key=key), []
    answer = answers_of(net)

    def within(x):
        asked.append((x.min(), x.max()))
        return answer(x)

    found = ec.recover(ec.Teacher(within, fan_in=9, box=(-0.5, 1.0)), activation="auto", key=key)
    assert found.widths == (3,)
    assert found.is_exact
    assert min(low for low, _ in asked) >= -0.5
    assert max(high for _, high in asked) <= 1.0
    assert ec.compare(found, net, jr.normal(key, (50, 9))).parameter_error < 1e-8


DEEP = {
    "tanh": (12, (6, 3), 2),  # steps, gradients of low rank, Hessians in a box
    "relu": (12, (6, 4), 2),  # kinks, hidden states that are never negative
    "leaky_relu": (12, (6, 4), 2),  # kinks, hidden states of any size
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_are_recovered_by_asking(name, key):
    net = drawn.teacher(*DEEP[name], name, key=key)
    teacher = ec.Teacher(answers_of(net), fan_in=12)
    found = ec.recover(teacher, activation="auto", hidden_layers=2, key=key)
    assert found.widths == DEEP[name][1]
    assert [each.name for each in found.network.activations] == [name, name]
    error = ec.compare(found, net, jr.normal(key, (50, 12))).parameter_error
    assert found.is_exact == (error < 1e-7)
    assert found.is_exact or name == "relu"  # of which neurons may be on, or off, wherever others show them


@pytest.mark.slow
def test_the_number_of_hidden_layers_is_found(key):
    for depth, name in ((1, "tanh"), (2, "tanh"), (2, "leaky_relu")):
        shape = DEEP[name] if depth == 2 else (12, (6,), 2)
        net = drawn.teacher(*shape, name, key=key)
        found = ec.recover(ec.Teacher(answers_of(net), fan_in=12), activation="auto", hidden_layers="auto", key=key)
        assert found.widths == shape[1]
        assert found.is_exact


# --- the command line ------------------------------------------------------------------------------------------------

MODULE = """
import numpy as np
W = np.array([[0.9, -0.3, 0.2, 0.4], [-0.2, 1.1, 0.5, -0.6]])
def ask(x):
    return np.tanh(x @ W.T + [0.3, -0.4]) @ [[1.0, -0.5], [0.7, 1.2]]
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "asked_here.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "asked_here"
    sys.modules.pop("asked_here", None)


def test_a_function_is_recovered_from_the_command_line(module, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["recover", "function", f"{module}:ask", "--fan-in", "4", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "4-2-2 tanh network, exact" in said
    assert "Certified" in said
    run = ec.load_run(out)
    assert run.recovery.widths == (2,)
    assert run.recovery.questions > 0
    assert run.recovery.probes[0].method == "Hessians"
    assert run.recovery.summary() in said


@pytest.mark.parametrize(
    ("name", "said"), [("asked_here", "package.module:name"), ("asked_here:no", "not to be had"),
                       ("nowhere_at_all:f", "not to be had"), ("asked_here:number", "can't be called")],
)  # fmt: skip
def test_functions_that_are_none_are_refused(module, name, said):
    with pytest.raises(ValueError, match=said):
        named_function(name)
    assert main(["recover", "function", name, "--fan-in", "4"]) == 2


def test_an_interrupted_command_goes_on_and_asks_nothing_twice(module, tmp_path, capsys, monkeypatch):
    import asked_here

    out, ask, rows = tmp_path / "run", asked_here.ask, []
    command = ["recover", "function", f"{module}:ask", "--fan-in", "4", "--out", str(out)]

    def interrupts(x):
        if sum(rows) > 200:
            raise KeyboardInterrupt
        rows.append(len(x))
        return ask(x)

    monkeypatch.setattr(asked_here, "ask", interrupts)
    assert main(command) == 130
    before = sum(rows)
    again = []
    monkeypatch.setattr(asked_here, "ask", lambda x: again.append(len(x)) or ask(x))
    assert main(command) == 0
    assert "answers are there" in capsys.readouterr().out
    whole = ec.load_run(out).recovery
    plain = ec.Teacher(ask, fan_in=4)
    fresh = ec.recover(plain, activation="auto", key=jr.key(0))
    np.testing.assert_array_equal(whole.network.layers[0].w, fresh.network.layers[0].w)
    assert before + sum(again) <= plain.asked + 1000 + 4  # the run keeps 1,000 more, and checks twice more
    assert isinstance(whole.network, Network)
    assert isinstance(whole.network.layers[0], Layer)


def test_roundings_are_averaged_over_many_answers(key):
    """From answers in float32 a network comes nearer than the errors of any few of them."""
    net = drawn.teacher(6, 4, 3, "tanh", key=key)
    teacher = ec.Teacher(lambda x: answers_of(net)(x).astype(np.float32), fan_in=6)
    theta, unflatten = jax.flatten_util.ravel_pytree(net)
    start = unflatten(theta + 1e-5 * drawn.normal(jr.key(2), theta.shape))
    asking = Asking(teacher, None, jr.key(0), lambda *_, **__: None, ec.Stopping())
    x = np.random.default_rng(0).standard_normal((400, 6))
    found = averaged(asking, start, x)
    error = lambda found: float(np.abs(jax.flatten_util.ravel_pytree(found)[0] - theta).max())
    assert error(found) < 1e-6 < error(start)
    assert teacher.asked <= 402


@pytest.mark.parametrize("depth", [1, 2])
def test_answers_that_never_change_are_said_to(depth, key):
    teacher = ec.Teacher(lambda x: np.ones((len(x), 2)), fan_in=3)
    with pytest.raises(ProbesFailedError, match="do not change"):
        ec.recover(teacher, activation="auto", hidden_layers=depth, key=key)

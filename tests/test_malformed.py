"""Malformed arguments, arrays and settings: each is refused in one message that names it, and nothing is written.

Files are in `test_malformed_files`, mistakes that have a likely cause in `test_wrong_uses`.
"""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import ecjax as ec
from ecjax.cli import main
from ecjax.expand import Adam, Flow, Minibatch, Narrowing
from ecjax.flow import Ode, Until

KEY = jax.random.key(0)
HUGE = 10**15  # of anything: more than any machine has memory for

# --- command lines ---------------------------------------------------------------------------------------------------

TOY, DATA = ["recover", "toy"], ["recover", "data", "good.csv", "--activation", "tanh"]
COMMAND_LINES = {
    "no such command": (["recover", "tyo"], "no such command"),
    "no such option": ([*TOY, "--widht", "4"], "widht"),
    "an option without a value": ([*TOY, "--width"], "width"),
    "a word for a number": ([*TOY, "--width", "four"], "four"),
    "a fraction for a whole number": ([*TOY, "--width", "4.5"], "4.5"),
    "a seed that no key has": ([*TOY, "--seed", "9" * 23], "0 to 9223372036854775807"),
    "a negative seed": ([*TOY, "--seed", "-1"], "0 to 9223372036854775807"),
    "no neurons": ([*TOY, "--width", "0"], "--width is at least 1; got 0"),
    "no inputs": ([*TOY, "--d-in", "0"], "--d-in is at least 1"),
    "no outputs": ([*TOY, "--d-out", "0"], "--d-out is at least 1"),
    "negative samples": ([*TOY, "--n-samples", "-5"], "--n-samples is at least 1"),
    "no layers": ([*TOY, "--hidden-layers", "0"], "--hidden-layers is how many"),
    "too wide a teacher": ([*TOY, "--width", str(HUGE)], "lower --width"),
    "too many inputs": ([*TOY, "--d-in", str(HUGE)], "GiB are free"),
    "too many samples": ([*TOY, "--n-samples", str(HUGE)], "lower --n-samples"),
    "too many students": ([*TOY, "--n-students", str(HUGE)], "lower --n-students"),
    "too wide students": ([*TOY, "--student-width", str(HUGE), "--allow-few-samples"], "lower --n-students or the wid"),
    "students too wide for second derivatives": (
        [*TOY, "--student-width", "1000000", "--n-students", "3", "--method", "levenberg_marquardt",
         "--allow-few-samples"], "--method adam_lbfgs",
    ),
    "too few samples": ([*TOY, "--n-samples", "9"], "--allow-few-samples"),
    "one student": ([*TOY, "--n-students", "1"], "--n-students is at least 2"),
    "no agreement": ([*TOY, "--n-students", "2"], "Raise --n-students (now 2) or --gamma"),
    "gamma above one": ([*TOY, "--gamma", "1.5"], "--gamma is a share"),
    "gamma that is no number": ([*TOY, "--gamma", "nan"], "--gamma is a share"),
    "beta in degrees": ([*TOY, "--beta", "7.5"], "--beta is in radians"),
    "a limit that is no number": ([*TOY, "--finetune.target-loss", "nan"], "target_loss"),
    "an infinite limit": ([*TOY, "--descent.gradient-norm", "inf"], "gradient_norm"),
    "no steps": ([*TOY, "--descent.max-steps", "0"], "max_steps"),
    "no tolerance": ([*TOY, "--flow.rtol", "0"], "rtol` is above 0"),
    "no learning": ([*TOY, "--adam.learning-rate", "0"], "learning_rate"),
    "no initial weights": ([*TOY, "--init-scale", "0"], "--init-scale is above 0"),
    "negative rounds": ([*TOY, "--rounds", "-1"], "--rounds is at least 1"),
    "negative noise": ([*TOY, "--noise", "-1"], "--noise"),
    "noise that is no number": ([*TOY, "--noise", "nan"], "--noise"),
    "an activation of nobody": ([*TOY, "--activation", "tahn"], "tahn"),
    "activations for other layers": ([*TOY, "--activation", "tanh,g"], "one for each of 1"),
    "a polynomial": ([*TOY, "--activation", "square"], "polynomial"),
    "a method of nobody": ([*TOY, "--method", "magic"], "magic"),
    "a budget in parsecs": ([*TOY, "--budget", "5pc"], "5pc"),
    "no budget": ([*TOY, "--budget", "0"], "above 0"),
    "the root as a folder": ([*TOY, "--out", "/"], "--out: / has no name of its own"),
    "a file as a folder": ([*TOY, "--out", "good.csv"], "no run folder"),
    "a folder below a file": ([*TOY, "--out", "good.csv/run"], "good.csv"),
    "chunks of no students": ([*TOY, "--chunk", "0"], "chunk"),
    "digits of no neurons": (["recover", "digits", "--width", "0"], "at least 1"),
    "fewer than no copies": (["recover", "digits", "--copies", "-1"], "--copies is 0 or more"),
    "copies beyond all memory": (["recover", "digits", "--copies", str(HUGE)], "GiB are free"),
    "no file": (["recover", "data", "nothing.npz", "--activation", "tanh"], "there is no file nothing.npz"),
    "no activation": (["recover", "data", "good.csv"], "activation"),
    "no such column": ([*DATA, "--outputs", "price"], "no column ['price']"),
    "a preset of nobody": ([*DATA, "--preset", "magic"], "magic"),
    "layers in words": ([*DATA, "--hidden-layers", "two"], "two"),
    "decimals beyond all": ([*DATA, "--decimals", "99"], "--decimals is a number of them"),
    "answers that are no kind": ([*DATA, "--answers-are", "guesses"], "guesses"),
    "a function without a name": (["recover", "function", "numpy", "--fan-in", "2"], "package.module:name"),
    "a function of no module": (["recover", "function", "no_such:f", "--fan-in", "2"], "no_such"),
    "a function that is none": (["recover", "function", "math:pi", "--fan-in", "2"], "can't be called"),
    "a function that fails": (["recover", "function", "math:sqrt", "--fan-in", "2"], "raised TypeError"),
    "a function of no inputs": (["recover", "function", "math:sqrt", "--fan-in", "0"], "--fan-in is at least 1"),
    "questions below none": (
        ["recover", "function", "math:sqrt", "--fan-in", "2", "--max-questions", "-1"], "--max-questions is at least 0",
    ),
    "images without a teacher": (["recover", "images"], "teacher"),
    "images of no teacher": (["recover", "images", "--teacher", "nobody"], "there is no nobody"),
    "images of a file that is no teacher": (
        ["recover", "images", "--teacher", "good.csv", "--dataset", "mnist"], "not a readable safetensors file",
    ),
    "a data set of nobody": (["teach", "emnist"], "emnist"),
    "a teacher of no neurons": (["teach", "mnist", "--hidden", "0"], "--hidden is at least 1"),
    "a comparison with nothing": (["compare", "nobody"], "neither a run folder nor a file"),
    "a comparison with a folder": (["compare", "."], "no finished run"),
    "a folder in place of a file": (["compare", "net.safetensors", "."], "a folder without teacher.safetensors"),
    "no teacher to compare with": (["compare", "net.safetensors"], "has no teacher beside it"),
    "a comparison on no samples": (
        ["compare", "net.safetensors", "net.safetensors", "--n-samples", "0"], "--n-samples is at least 1",
    ),
    "a comparison beyond all memory": (
        ["compare", "net.safetensors", "net.safetensors", "--n-samples", str(HUGE)], "lower --n-samples",
    ),
    "a comparison with other inputs": (["compare", "net.safetensors", "wide.safetensors"], "the same number of inputs"),
    "a cut of nothing": (["cut", "nobody"], "no finished run"),
    "a cut without a run": (["cut"], "run"),
    "a flow of no student": (["flow", "--n-students", "0"], "at least"),
    "a flow of too many": (["flow", "--n-students", str(HUGE)], "lower --n-students"),
    "a flow in no time": (["flow", "--time", "0"], "--time is above 0"),
    "a flow without tolerance": (["flow", "--rtol", "0"], "--rtol is above 0"),
    "a flow by a solver of nobody": (["flow", "--solver", "euler"], "euler"),
    "a flow slice by no slice": (["flow", "--slice", "0"], "--slice is at least 1"),
    "a flow on no threads": (["flow", "--threads", "0"], "threads"),
    "a benchmark of nobody": (["bench", "speed"], "got 'speed'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with files that are whole."""
    place = tmp_path_factory.mktemp("place")
    (place / "good.csv").write_text("a,b,y\n" + "\n".join(f"{i / 7},{i * i / 50},{i / 3}" for i in range(9)) + "\n")
    for name, fan_in in (("net", 2), ("wide", 3)):
        net = ec.Network(
            (ec.Layer(jnp.ones((3, fan_in)), jnp.ones(3), "tanh"), ec.Layer(jnp.ones((1, 3)), jnp.ones(1)))
        )
        ec.save_network(net, place / f"{name}.safetensors")
    return place


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_a_malformed_command_line_is_refused_in_one_message(case, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    arguments, words = COMMAND_LINES[case]
    try:
        status = main(arguments)
    except SystemExit as stopped:  # the parser's own refusals
        status = stopped.code
    shown = capsys.readouterr()
    said = " ".join((shown.err + shown.out).replace("│", " ").split())
    assert status == 2, said
    assert words in said
    assert "Traceback" not in said
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == before
    assert not list(place.glob("*.unfinished"))
    assert not (place / "runs").exists()


# --- arrays and settings ---------------------------------------------------------------------------------------------

_RNG = np.random.default_rng(0)
X = _RNG.standard_normal((60, 3))
Y = np.tanh(X @ _RNG.standard_normal((3, 2)))


def _recover(x=X, y=Y, **changed):
    given = {"activation": "tanh", "key": KEY, "student_width": 3, "n_students": 3} | changed
    return lambda: ec.recover(x, y, **given)


def _net(fan_in=3):
    layers = ec.Layer(jnp.ones((4, fan_in)), jnp.ones(4), "tanh"), ec.Layer(jnp.ones((2, 4)), jnp.ones(2))
    return ec.Network(layers)


def _hidden(value):
    masked = np.ma.masked_array(X.copy())
    masked[3, 1] = np.ma.masked
    return masked if value is None else value


ARRAYS = {
    "x is nothing": (_recover(x=None), "`x` is an array .* got nothing"),
    "y is nothing": (_recover(y=None), "`y` is an array .* got nothing"),
    "y is a function": (_recover(y=lambda x: x), "got the function <lambda>.*ecjax.Teacher"),
    "x is whole numbers": (_recover(x=np.ones((60, 3), int)), r"x\.astype\(float\)"),
    "x is text": (_recover(x=X.astype(str)), r"`x` .* got <U32"),
    "x is complex": (_recover(x=X + 0j), "`x` .* got complex128"),
    "x is objects": (_recover(x=X.astype(object)), "`x` .* got object"),
    "x is ragged": (_recover(x=[[1.0, 2.0], [3.0]]), "NumPy makes none of it"),
    "x is a vector": (_recover(x=X[:, 0]), "`x` is a matrix"),
    "x is images": (_recover(x=X[:, :, None]), "Flatten images"),
    "x has no samples": (_recover(x=X[:0], y=Y[:0]), "`x` needs at least 2 samples"),
    "x has one sample": (_recover(x=X[:1], y=Y[:1]), "`x` needs at least 2 samples"),
    "x has no inputs": (_recover(x=X[:, :0]), "`x` needs at least 2 samples and 1 input"),
    "y has no outputs": (_recover(y=Y[:, :0]), "`y` has no outputs"),
    "y has other rows": (_recover(y=Y[:-1]), "60 and 59 rows"),
    "x has nan": (_recover(x=np.where(X > 1.5, np.nan, X)), "`x` has NaN"),
    "y has infinity": (_recover(y=np.where(Y > 0.9, np.inf, Y)), "`y` has NaN or infinite"),
    "x hides an entry": (lambda: _recover(x=_hidden(None))(), "`x` has NaN or infinite entries in 1 row"),
    "x in a tiny unit": (_recover(x=1e-300 * X), "`x` .* in another unit"),
    "y in a huge unit": (_recover(y=1e300 * Y), "`y` .* in another unit"),
    "x is constant": (_recover(x=np.ones((60, 3))), "`x` is the same in every sample"),
    "y is constant": (_recover(y=np.full((60, 2), 0.3)), "`y` is constant"),
    "two precisions": (_recover(x=X.astype(np.float32)), "one dtype"),
    "fresh is one array": (_recover(fresh=X), "`fresh` is a pair"),
    "fresh has other inputs": (_recover(fresh=(X[:, :2], Y)), "rows like those of"),
    "answers is a word": (_recover(answers="probabilities"), "`answers` is an ecjax Answers"),
    "answers is a dict": (_recover(answers={}), "`answers` is an ecjax Answers"),
    "key is a seed": (_recover(key=0), r"`key` is one random key .* got 0"),
    "key is nothing": (_recover(key=None), "`key` is one random key"),
    "key is many": (_recover(key=jax.random.split(KEY, 3)), r"got keys of shape \(3,\)"),
    "no hidden layer": (_recover(hidden_layers=0), "`hidden_layers` is how many"),
    "hidden layers as a float": (_recover(hidden_layers=1.0), '`hidden_layers` is a whole number or "auto"; got 1.0'),
    "hidden layers as text": (_recover(hidden_layers="1"), "`hidden_layers` is a whole number"),
    "width as a float": (_recover(student_width=8.0), r"`student_width` .* got 8.0 \(float\)"),
    "width as text": (_recover(student_width="8"), "`student_width` is a whole number"),
    "width as a truth": (_recover(student_width=True), "`student_width` is a whole number"),
    "widths of other layers": (_recover(student_width=(3, 3)), "2 widths for 1 hidden layer:"),
    "students as a float": (_recover(n_students=3.0), "`n_students` is a whole number"),
    "gamma as text": (_recover(gamma="0.5"), "`gamma` is a number; got '0.5'"),
    "beta in degrees": (_recover(beta=30), "`beta` is in radians"),
    "config is a dict": (_recover(config={}), "`config` is an ecjax RecoveryConfig or None"),
    "config is a class": (_recover(config=ec.RecoveryConfig), "got the class RecoveryConfig"),
    "store is a list": (_recover(store=[]), "`store` is a mutable mapping"),
    "progress is a number": (_recover(progress=1), "`progress` is a function"),
    "budget is text": (_recover(budget="5m"), "`budget` is how many seconds"),
    "budget is nan": (_recover(budget=float("nan")), "`budget` is how many seconds"),
    "activation is a function": (_recover(activation=jnp.tanh), "Your own function: ecjax.Activation"),
    "activation is a number": (_recover(activation=3), "`activation` is one of"),
    "activation is a polynomial": (_recover(activation="square"), "polynomial"),
    "metric of nobody": (_recover(metric="mine"), "`metric` is one of"),
    "policy of nobody": (_recover(policy="mine"), "`policy` is one of"),
    "students beyond memory": (_recover(n_students=HUGE), "lower `n_students`"),
    "queries beyond memory": (lambda: ec.gaussian_queries(HUGE, 2, key=KEY), "lower `n_samples`"),
    "queries as a float": (lambda: ec.gaussian_queries(1e3, 2, key=KEY), "`n_samples` is a whole number"),
    "copies beyond memory": (lambda: ec.noisy_copies(X, HUGE, 0.1, key=KEY), "lower `n_copies`"),
    "copies without noise": (lambda: ec.noisy_copies(X, 1, float("nan"), key=KEY), "`scale`"),
    "a grid beyond memory": (lambda: ec.grid_queries(1000, 12), "gaussian_queries"),
    "a teacher beyond memory": (lambda: ec.synthetic_teacher(3, HUGE, key=KEY), "lower `width`"),
    "a network beyond memory": (lambda: ec.random_network((3, HUGE, 2), "tanh", key=KEY), "the width"),
    "a network of half a neuron": (
        lambda: ec.random_network((3, 2.5, 2), "tanh", key=KEY),
        "`shape` is a whole number",
    ),
    "a network of no neurons": (lambda: ec.random_network((3, 0, 2), "tanh", key=KEY), "each at least 1"),
    "a layer with another bias": (lambda: ec.Layer(jnp.ones((3, 2)), jnp.ones(2)), r"\(3, 2\) and \(2,\)"),
    "a layer of lists": (lambda: ec.Layer([[1.0]], [1.0]), "are arrays; got list"),
    "a layer with an activation of nobody": (lambda: ec.Layer(jnp.ones((3, 2)), jnp.ones(3), "tahn"), "tahn"),
    "layers that do not chain": (
        lambda: ec.Network((ec.Layer(jnp.ones((3, 2)), jnp.ones(3)), ec.Layer(jnp.ones((1, 4)), jnp.ones(1)))),
        "layer 1 has 3 neurons",
    ),
    "a network of nothing": (lambda: ec.Network(()), "at least one"),
    "a network asked with other inputs": (lambda: _net()(X[:, :2]), "`x` has 3 inputs"),
    "a network asked in words": (lambda: _net().predict(["a"]), r"`x` is numbers, \[samples, 3\]"),
    "a network asked with too few inputs": (lambda: _net().predict(X[:, :2]), "`x` has 3 inputs"),
    "a comparison with a number": (lambda: ec.compare(_net(), 3, X), "`teacher` is an ecjax Network"),
    "a comparison with other inputs": (lambda: ec.compare(_net(), _net(2), X), "the same number of inputs"),
    "a teacher that is none": (lambda: ec.Teacher(3, fan_in=3), "`fn` is a function"),
    "a teacher of half an input": (lambda: ec.Teacher(abs, fan_in=2.5), "`fan_in` is a whole number"),
    "a stopping rule that is no number": (lambda: ec.Stopping(target_loss=float("nan")), "`target_loss`"),
    "no steps": (lambda: ec.Stopping(max_steps=0), "`max_steps` is at least 1"),
    "steps in text": (lambda: ec.Stopping(max_steps="9"), "`max_steps` is a whole number"),
    "a flow without tolerance": (lambda: Flow(rtol=0.0), "`rtol` is above 0"),
    "a flow until never": (lambda: Until(loss=float("nan")), "`loss` is 0 or above"),
    "an integrator without tolerance": (lambda: Ode(atol=float("inf")), "`atol` is above 0 and finite"),
    "half a batch": (lambda: Minibatch(batch=2.5), "`batch` is a whole number"),
    "a rate that is no number": (lambda: Adam(learning_rate=float("nan")), "`learning_rate` is above 0"),
    "a factor in text": (lambda: Narrowing(factor="0.5"), "`factor` is a number"),
    "settings of another kind": (lambda: ec.RecoveryConfig.toy(cluster={}), "`cluster` is an ecjax ClusterConfig"),
    "a loss that is no number": (lambda: ec.RecoveryConfig.toy(exact_loss=float("nan")), "`exact_loss` is above 0"),
    "noise below none": (lambda: ec.Answers(noise=-1.0), "`answers.noise` is 0 or above"),
    "half a decimal": (lambda: ec.Answers(decimals=2.5), "`answers.decimals` is a whole number"),
}


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the tests' own type checks, which stand before ecjax's."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("case", ARRAYS)
def test_malformed_arrays_and_settings_are_refused_by_name(case, as_users_run_it):
    call, words = ARRAYS[case]
    with pytest.raises(ValueError, match=words):
        call()


# --- what is unusual, and fine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [">f8", "longdouble", "f2"])
def test_other_floats_are_converted_and_that_is_said(kind):
    data = ec.Data.of(X.astype(kind), Y.astype(kind))
    assert data.x.dtype == jnp.float64
    assert any(f"came as {np.dtype(kind)}" in note for note in data.notes)
    assert not ec.Data.of(X, Y).notes


def test_masks_that_hide_nothing_numpy_numbers_and_lists_are_taken(as_users_run_it):
    np.testing.assert_array_equal(ec.Data.of(np.ma.masked_array(X), Y.tolist()).x, X)
    config = ec.RecoveryConfig.toy(np.int64(8), np.int32(5), init_scale=np.float64(0.5))
    assert config == ec.RecoveryConfig.toy(8, 5, init_scale=0.5)
    assert type(config.student_width) is int
    assert ec.RecoveryConfig.toy([4, 4]).student_width == (4, 4)


def test_a_network_can_be_called():
    net = _net()
    answers = ec.respond(net, jnp.asarray(X))
    np.testing.assert_array_equal(net(X), answers)
    np.testing.assert_array_equal(net.predict(X.tolist()), answers)
    assert isinstance(net.predict(X), np.ndarray)

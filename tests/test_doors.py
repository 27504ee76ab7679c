"""Doors: what comes back from a library is what went in, and the library answers as the network does."""

import contextlib
import json
import os
import subprocess
import sys

import drawn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import linen, nnx
from sklearn.neural_network import MLPClassifier, MLPRegressor

import ecjax as ec
from ecjax import doors, runs
from ecjax.base.files import read_arrays, read_words
from ecjax.cli import main
from ecjax.doors.chain import Affine, named, network_of
from ecjax.expand.store import fingerprint
from ecjax.network import ACTIVATIONS

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when Keras is first imported, by whichever test that is
SMALL = (
    "--d-in 2 --width 2 --n-samples 100 --student-width 4 --n-students 4 --activation tanh --no-figures".split()  # noqa: SIM905
)
SHAPE = (3, 4, 4, 2)
EVERY = [name for name in ACTIVATIONS if name not in ("identity", "square")]


def _library(name):
    return pytest.importorskip(name, reason=f"{name} is optional: pip install 'ecjax[doors]'")


def _network(name, key, dtype=None):
    return drawn.network(SHAPE, name, key=key, dtype=dtype, biases=0.7)


def _same(one, other):
    """One network in two places: shapes, activations, numbers."""
    assert one.shape == other.shape
    assert one.activations == other.activations
    for leaf, twin in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert leaf.dtype == twin.dtype
        np.testing.assert_array_equal(leaf, twin)


def _agrees(net, answers, key, *, rtol=1e-13):
    """The library's answers to some queries are the network's."""
    x = np.asarray(drawn.queries(40, net.shape[0], key=key, dtype=net.dtype)) * 2
    wanted = np.asarray(drawn.answers(net, x))
    np.testing.assert_allclose(np.asarray(answers(x)), wanted, rtol=0, atol=rtol * np.abs(wanted).max() * 4)


# --- the chain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_activation_is_known_by_what_it_does(dtype):
    for name, known in ACTIVATIONS.items():
        assert named(lambda z, known=known: np.asarray(known(jnp.asarray(z))), dtype) == name
    assert named(lambda z: np.where(z > 0, z, 0.2 * z), dtype) is None
    assert named(lambda z: z.sum(), dtype) is None


def test_chains_that_are_none_are_refused():
    w = np.ones((4, 3))
    with pytest.raises(ValueError, match="no linear layer"):
        network_of([np.tanh], "Thing")
    with pytest.raises(ValueError, match=r"not one chain.*\(3, 4\), \(3, 4\)"):
        network_of([Affine(w), np.tanh, Affine(w)], "Thing")
    with pytest.raises(ValueError, match="nothing between linear layers 1 and 2"):
        network_of([Affine(w), Affine(w.T)], "Thing")
    with pytest.raises(ValueError, match=r"ends with 1 function.*tanh"):
        network_of([Affine(w), np.tanh], "Thing")
    with pytest.raises(ValueError, match="begins with a function"):
        network_of([np.tanh, Affine(w)], "Thing")
    with pytest.raises(ValueError, match=r"none of .*activation=ecjax.Activation"):
        network_of([Affine(w), np.sign, Affine(w.T)], "Thing")


def test_what_no_library_has_is_refused(key):
    net = _network("tanh", key)
    mixed = drawn.network((3, 4, 2), ec.mixture(tanh=2, relu=2), key=key)
    own = drawn.network((3, 4, 2), ec.Activation(jnp.cbrt, symmetry="odd"), key=key)
    for wrong, said in (
        (mixed, "several activations"),
        (own, "your own"),
        (drawn.students(2, (3, 4, 2), "tanh", key=key), "stack of students"),
        ("net", "Network or a Recovery"),
    ):
        with pytest.raises(ValueError, match=said):
            ec.to_linen(wrong)

    class Found:
        network, linear = net, net.layers[0]

    with pytest.raises(ValueError, match="linear map beside"):
        ec.to_linen(Found())
    Found.linear = None
    assert ec.to_linen(Found())  # as of a recovery


# --- each library ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_linen(dtype, key):
    net = _network("softplus", key, dtype)
    module, variables = ec.to_linen(net)
    _same(ec.from_linen(variables, "softplus"), net)
    _same(ec.as_network(module.bind(variables), "softplus"), net)
    _agrees(net, lambda x: module.apply(variables, x), key, rtol=1e-13 if dtype == np.float64 else 1e-6)
    with pytest.raises(ValueError, match="bind them"):
        ec.as_network(linen.Dense(3), "tanh")
    with pytest.raises(ValueError, match="does not say"):
        ec.as_network(module.bind(variables))


def test_dense_layers_of_linen_are_in_the_order_of_their_numbers():
    params = {f"Dense_{i}": {"kernel": np.full((2, 2), float(i))} for i in (10, 2, 1)}
    net = ec.from_linen({"params": {"inner": params}}, "tanh")
    assert [float(layer.w[0, 0]) for layer in net.layers] == [1, 2, 10]
    assert not net.layers[0].b.any()


def test_nnx_as_a_model(key):
    net = _network("tanh", key)
    _same(ec.as_network(ec.to_nnx(net), "tanh"), net)
    teacher = ec.Teacher(ec.to_nnx(net))
    assert teacher.fan_in == 3
    _agrees(net, teacher, key)
    assert isinstance(ec.to_nnx(net), nnx.Module)


@pytest.mark.parametrize("name", ["tanh", "gelu", "leaky_relu"])
def test_equinox(name, key):
    net = _network(name, key)
    model = ec.to_equinox(net)
    _same(ec.from_equinox(model), net)
    _agrees(net, jax.vmap(model), key)
    _agrees(net, ec.Teacher(model), key)
    scalar = eqx.nn.MLP(2, "scalar", 4, 1, jnp.tanh, key=key)
    assert ec.Teacher(scalar)(np.zeros((3, 2))).shape == (3, 1)
    assert ec.from_equinox(scalar).shape == (2, 4, 1)


def test_what_is_no_equinox_mlp_is_refused(key):
    with pytest.raises(ValueError, match="one of each"):
        ec.to_equinox(drawn.network((3, 4, 5, 2), "tanh", key=key))
    with pytest.raises(ValueError, match="final_activation"):
        ec.from_equinox(eqx.nn.MLP(2, 2, 2, 1, jnp.tanh, jnp.tanh, key=key))
    with pytest.raises(ValueError, match=r"eqx\.nn\.MLP; got Linear"):
        ec.as_network(eqx.nn.Linear(2, 2, key=key))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu"])
def test_scikit_learn(name, key):
    net = _network(name, key)
    model = ec.to_sklearn(net)
    _same(ec.from_sklearn(model), net)
    _agrees(net, model.predict, key)
    _agrees(net, ec.Teacher(model), key)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_classifier_of_scikit_learn_is_its_logits(n_classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    labels = np.digitize(x[:, 0], [-0.5, 0.5][: n_classes - 1])
    model = MLPClassifier((4,), "logistic", max_iter=5, random_state=0).fit(x, labels)
    net = ec.as_network(model)
    logits = np.asarray(drawn.answers(net, x))
    probabilities = model.predict_proba(x)
    if n_classes == 2:
        np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 0])), probabilities[:, 1], rtol=1e-12)
    else:
        e = np.exp(logits)
        np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), probabilities, rtol=1e-12)
    np.testing.assert_allclose(ec.Teacher(model)(x), logits, rtol=1e-12)


def test_what_scikit_learn_has_not_is_refused(key):
    with pytest.raises(ValueError, match="fit it first"):
        ec.as_network(MLPRegressor())
    with pytest.raises(ValueError, match=r"gelu.*MLPRegressor has one of"):
        ec.to_sklearn(_network("gelu", key))


@pytest.mark.parametrize("name", EVERY)
def test_pytorch_knows_every_activation(name, key):
    torch = _library("torch")
    net = _network(name, key)
    model = ec.to_torch(net)
    _same(ec.from_torch(model), net)
    with torch.no_grad():
        _agrees(net, lambda x: model(torch.from_numpy(x)), key)
    assert name in repr(model) or isinstance(model[1], torch.nn.Module)


def test_a_model_of_pytorch_as_people_have_it(key):
    torch = _library("torch")
    nn = torch.nn
    inner = nn.Sequential(nn.Linear(3, 4), nn.GELU(approximate="tanh"), nn.Dropout(0.5))
    model = nn.Sequential(nn.Flatten(), inner, nn.Linear(4, 2, bias=False), nn.LogSoftmax(1)).to(torch.float64)
    net = ec.as_network(model)
    assert net.activations == (ACTIVATIONS["gelu_tanh"],)
    before = nn.Sequential(*list(model.children())[:-1]).eval()
    with torch.no_grad():
        _agrees(net, lambda x: before(torch.from_numpy(x)), key)
    _same(ec.as_network(model.state_dict(), "gelu_tanh"), net)
    teacher = ec.Teacher(before.train())  # dropout answers differently each time, unless it is switched off
    _agrees(net, teacher, key)
    assert before.training
    assert (teacher.fan_in, teacher.dtype) == (3, np.float64)


def test_what_is_no_chain_of_pytorch_is_refused():
    torch = _library("torch")
    nn = torch.nn

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)

    for model, said in (
        (Mine(), "Mine, whose forward pass"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)), "neither linear nor an activation"),
        (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.2), nn.Linear(2, 1)), "none of"),
        ({"0.weight": np.ones((2, 2, 2))}, "does not say"),
    ):
        with pytest.raises(ValueError, match=said):
            ec.as_network(model)
    with pytest.raises(ValueError, match="no matrices"):
        ec.as_network({"0.weight": np.ones((2, 2, 2))}, "tanh")


@pytest.fixture
def keras():
    """Keras on JAX, which it uses with the promotions that these tests forbid."""
    keras = _library("keras")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield keras


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.filterwarnings("ignore")  # Keras's own
def test_keras_knows_every_activation(name, key, keras):
    net = _network(name, key)
    model = ec.to_keras(net)
    _same(ec.from_keras(model), net)
    in_float32 = ("tanh", "sin", "cos", "arctan")  # whatever Keras is given, where JAX does its work
    _agrees(net, lambda x: model(x), key, rtol=1e-6 if name in in_float32 else 1e-13)


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_keras_as_people_have_it(key, tmp_path, keras):
    inputs = keras.Input((3,), dtype="float64")
    hidden = keras.layers.Dense(4, dtype="float64")(inputs)
    hidden = keras.layers.Dropout(0.5, dtype="float64")(keras.layers.Activation("gelu", dtype="float64")(hidden))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax", dtype="float64")(hidden))
    net = ec.as_network(model)
    assert net.activations == (ACTIVATIONS["gelu"],)
    _agrees(net, lambda x: np.log(np.asarray(model(x))) + np.asarray(_shift(net, x)), key, rtol=1e-12)
    teacher = ec.Teacher(model)
    assert (teacher.fan_in, teacher.dtype) == (3, np.float64)
    with pytest.raises(ValueError, match="without weights"):
        ec.as_network(keras.Sequential([keras.layers.Dense(2)]))
    net = _network("tanh", key)
    path = ec.export(net, "keras", tmp_path / "net")
    _same(ec.from_keras(keras.saving.load_model(path)), net)


def _shift(net, x):
    return jax.scipy.special.logsumexp(drawn.answers(net, x), axis=1)[:, None]


# ONNX Runtime has no kernels of these in float64.
_FLOAT32_ONLY = ("erf", "normal_cdf", "gelu", "arctan")


@pytest.mark.parametrize("name", EVERY)
def test_onnx_knows_every_activation(name, key):
    onnx, runtime = _library("onnx"), _library("onnxruntime")
    net = _network(name, key)
    model = ec.to_onnx(net)
    onnx.checker.check_model(model, full_check=True)
    _same(ec.from_onnx(model), net)
    from onnx.reference import ReferenceEvaluator

    rtol = 1e-6 if name in ("erf", "normal_cdf", "gelu") else 1e-13  # its erf is float32, too
    _agrees(net, lambda x: ReferenceEvaluator(model).run(None, {"x": x})[0], key, rtol=rtol)
    dtype = np.float32 if name in _FLOAT32_ONLY else np.float64
    net = _network(name, key, dtype)
    session = runtime.InferenceSession(ec.to_onnx(net).SerializeToString(), providers=["CPUExecutionProvider"])
    _agrees(net, lambda x: session.run(None, {"x": x})[0], key, rtol=1e-13 if dtype == np.float64 else 2e-6)


def test_an_onnx_model_as_people_have_it(key, tmp_path):
    """Weights times inputs by MatMul and Add, silu out of two operations, a softmax at the end."""
    onnx = _library("onnx")
    from onnx import helper, numpy_helper

    w = [np.asarray(drawn.normal(key, shape, np.float32)) for shape in ((3, 4), (4, 2))]
    stored = [numpy_helper.from_array(each, f"w{i}") for i, each in enumerate(w)]
    stored.append(numpy_helper.from_array(np.ones(4, np.float32), "b"))
    nodes = [
        helper.make_node("Flatten", ["x"], ["x1"]), helper.make_node("MatMul", ["x1", "w0"], ["a"]),
        helper.make_node("Add", ["b", "a"], ["z"]), helper.make_node("Sigmoid", ["z"], ["s"]),
        helper.make_node("Mul", ["z", "s"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["o"]),
        helper.make_node("Softmax", ["o"], ["y"]),
    ]  # fmt: skip
    info = [helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("x", 3), ("y", 2))]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    net = ec.as_network(model)
    assert net.activations == (ACTIVATIONS["silu"],)
    np.testing.assert_array_equal(net.layers[0].w, w[0].T)
    np.testing.assert_array_equal(net.layers[0].b, np.ones(4))
    onnx.save(model, tmp_path / "model.onnx")
    _same(ec.from_onnx(tmp_path / "model.onnx"), net)
    teacher = ec.Teacher(model)
    assert (teacher.fan_in, teacher.dtype) == (3, np.float32)
    assert teacher(np.zeros((2, 3))).shape == (2, 2)


def test_files_that_are_no_onnx_are_refused(key, tmp_path):
    _library("onnx")
    with pytest.raises(ValueError, match="no file"):
        ec.from_onnx(tmp_path / "none.onnx")
    whole = ec.to_onnx(_network("tanh", key)).SerializeToString()
    rng = np.random.default_rng(0)
    torn = [whole[:n] for n in rng.integers(len(whole), size=10)]
    for _ in range(10):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] ^= 0xFF
        torn.append(bytes(damaged))
    for i, content in enumerate([b"", b"PK" * 100, *torn]):
        path = tmp_path / f"{i}.onnx"
        path.write_bytes(content)
        with contextlib.suppress(ValueError):  # and nothing else; a bit of a weight may be any bit
            ec.from_onnx(path)


def test_onnx_weights_that_are_none_are_refused(key):
    _library("onnx")
    from onnx import numpy_helper

    def spoiled(**what):
        model = ec.to_onnx(drawn.network((3, 4, 2), "tanh", key=key))
        for field, value in what.items():
            setattr(model.graph.initializer[0], field, value)
        return model

    with pytest.raises(ValueError, match="damaged"):
        ec.from_onnx(spoiled(data_type=57))  # a dtype that is none
    with pytest.raises(ValueError, match="damaged"):
        ec.from_onnx(spoiled(raw_data=b"short"))
    with pytest.raises(ValueError, match=r"computed, not stored|no linear layer of the one before"):
        ec.from_onnx(spoiled(name="other"))
    model = spoiled()
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(3), "layers.0.b"))
    with pytest.raises(ValueError, match=r"3 biases .* for 4 neurons"):
        ec.from_onnx(model)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(3), "layers.0.w"))
    with pytest.raises(ValueError, match=r"shape \(3,\): no linear layer"):
        ec.from_onnx(model)


# --- wherever a network or a teacher is expected ---------------------------------------------------------------------


def test_a_model_is_compared_as_a_network_is(key):
    net, x = _network("tanh", key), drawn.queries(100, 3, key=key)
    for model in (
        ec.to_nnx(net),
        ec.to_linen(net)[0].bind(ec.to_linen(net)[1]),
        ec.to_sklearn(net),
        ec.to_equinox(net),
    ):
        assert ec.compare(net, model, x).parameter_error == 0
        assert ec.compare(model, net, x).parameter_error == 0
    with pytest.raises(ValueError, match="`teacher` is an ecjax Network, or a model of"):
        ec.compare(net, "teacher.onnx", x)


def test_a_model_is_asked_as_a_teacher(key):
    net = _network("tanh", key)
    for teacher in (ec.Teacher(net), ec.Teacher(ec.to_sklearn(net))):
        assert (teacher.fan_in, teacher.dtype) == (3, np.float64)
        _agrees(net, teacher, key)
    with pytest.raises(ValueError, match=r"`fan_in`.*does not say"):
        ec.Teacher(np.tanh)
    assert ec.Teacher(ec.to_sklearn(net), dtype=np.float32).dtype == np.float32


def test_a_model_is_recovered_by_asking_it(key):
    model = ec.to_sklearn(drawn.network((9, 3, 2), "tanh", key=key, biases=0.5))
    recovery = ec.recover(model, activation="tanh", key=key)
    assert recovery.certificate.certified
    x = drawn.queries(100, 9, key=key)
    assert ec.compare(recovery, model, x).parameter_error < 1e-9


def test_no_library_is_imported_that_is_not_used():
    program = """
import sys, numpy as np, ecjax as ec
ec.Teacher(lambda x: x, fan_in=2)
try: ec.as_network(object())
except ValueError: pass
print([name for name in ("torch", "keras", "onnx", "sklearn", "pandas", "polars", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_network_is_exported_to_files(key, tmp_path):
    net = _network("tanh", key)
    path = ec.export(net, "torch", tmp_path / "deep" / "net")
    assert path.name == "net.safetensors"
    weights = read_arrays(path)
    assert sorted(weights) == sorted(f"{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias"))
    _same(ec.as_network({name: weights[name] for name in sorted(weights)}, "tanh"), net)
    assert read_words(path)["activations"] == "tanh,tanh"
    params = read_arrays(ec.export(net, "flax", tmp_path / "flax.safetensors"))
    from flax.traverse_util import unflatten_dict

    _same(ec.from_linen(unflatten_dict(params, sep="."), "tanh"), net)
    for to, path, said in (("pickle", "a", "`to` is one of"), ("keras", "a.h5", "end in .keras")):
        with pytest.raises(ValueError, match=said):
            ec.export(net, to, tmp_path / path)


def test_an_onnx_teacher_on_the_command_line(key, tmp_path, capsys):
    _library("onnx")
    net = _network("tanh", key)
    ec.save_network(net, tmp_path / "net.safetensors")
    teacher = ec.export(net, "onnx", tmp_path / "teacher")
    assert main(["compare", str(tmp_path / "net.safetensors"), str(teacher)]) == 0
    assert "largest parameter error 0.0e+00" in capsys.readouterr().out


def test_a_library_that_is_missing_is_named(key, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="pip install onnx"):
        ec.from_onnx(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="pip install onnx"):
        ec.export(_network("tanh", key), "onnx", tmp_path / "net.onnx")


def test_an_exported_state_dict_is_loaded_by_pytorch(key, tmp_path):
    _library("torch")
    from safetensors.torch import load_file

    net = _network("tanh", key)
    model = ec.to_torch(drawn.network(SHAPE, "tanh", key=jr.key(1)))
    model.load_state_dict(load_file(ec.export(net, "torch", tmp_path / "net.safetensors")))
    _same(ec.from_torch(model), net)
    _library("onnx")
    _same(ec.from_onnx(ec.export(net, "onnx", tmp_path / "net")), net)


# --- tables ----------------------------------------------------------------------------------------------------------


def _tables(x, names):
    pandas = pytest.importorskip("pandas")
    yield pandas.DataFrame(x, columns=names)
    for library in ("polars", "pyarrow"):
        try:
            room = __import__(library)
        except ImportError:
            continue
        columns = {name: x[:, i] for i, name in enumerate(names)}
        yield room.DataFrame(columns) if library == "polars" else room.table(columns)


def test_tables_keep_the_names_of_their_columns():
    x = np.random.default_rng(0).normal(size=(20, 2))
    for table in _tables(x, ["width", "height"]):
        data = ec.Data.of(table, x[:, 0] ** 2)
        assert data.inputs == ("width", "height")
        assert data.outputs == ()
        np.testing.assert_array_equal(data.x, x)
        both = ec.Data.of(
            table, table[["width"]] if hasattr(table, "iloc") else table.select(["width"]), fresh=(table, x[:, :1])
        )
        assert both.outputs == ("width",)
    pandas = pytest.importorskip("pandas")
    assert ec.Data.of(x, pandas.Series(x[:, 0], name="price")).outputs == ("price",)
    assert ec.Data.of(pandas.DataFrame({"a": [1, 2, 4], "b": [0.5, 1, 1]}), np.arange(3.0)).x.dtype == np.float64


def test_tables_that_are_no_numbers_are_refused():
    pandas = pytest.importorskip("pandas")
    y = np.arange(2.0)
    for table, said in (
        ({"a": [1.0, 2.0], "b": ["x", "y"]}, r"`x`: Column 'b' .* not made of numbers"),
        ({"a": [1.0, None]}, "`x` has NaN"),
        ({}, "`x`: The table has no columns"),
    ):
        with pytest.raises(ValueError, match=said):
            ec.Data.of(pandas.DataFrame(table), y)
    twice = pandas.DataFrame(np.ones((2, 2)), columns=["a", "a"])
    with pytest.raises(ValueError, match="share a name"):
        ec.Data.of(twice, y)
    with pytest.raises(ValueError, match=r"`inputs` names 1 columns; got 2"):
        ec.Data.of(np.array([[1.0], [2.0]]), y, inputs=("a", "b"))


def test_names_decide_nothing_and_are_kept_by_a_run(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 2))
    plain, named = ec.Data.of(x, x[:, 0]), ec.Data.of(x, x[:, 0], inputs=("a", "b"), outputs=("c",))
    assert fingerprint(plain) == fingerprint(named)
    assert main(["recover", "toy", *SMALL, "--out", str(tmp_path / "toy")]) == 0
    run = ec.load_run(tmp_path / "toy")
    partial = runs.open_run(tmp_path / "named", {})
    data = ec.Data.of(np.asarray(run.x), np.asarray(run.y), inputs=("speed", "angle"), outputs=("lift",))
    runs.save_recovery(partial, run.recovery, data=data)
    again = ec.load_run(runs.close_run(partial))
    assert (again.data.inputs, again.data.outputs) == (("speed", "angle"), ("lift",))
    result = json.loads((tmp_path / "named" / "result.json").read_text())
    assert result["inputs"] == ["speed", "angle"]


def test_constant_inputs_are_named():
    teacher = drawn.network((2, 2, 1), "tanh", key=jr.key(1), biases=0.5)
    x = np.asarray(drawn.queries(drawn.N_TOY, 2, key=jr.key(1)))
    y = np.asarray(drawn.answers(teacher, x))
    data = ec.Data.of(np.insert(x, 1, 7.0, axis=1), y, inputs=("speed", "year", "angle"))
    recovery = ec.recover(data, activation="tanh", config=drawn.TOY, key=jr.key(0))
    assert "constant inputs: year" in recovery.summary()
    with pytest.raises(ValueError, match=r"constant in columns \['price'\]"):
        ec.Data.of(x, np.column_stack([y, np.full(len(x), 7.5)]), outputs=("demand", "price"))


def test_columns_of_what_is_no_table():
    assert doors.columns_of(np.ones(3)) is None
    assert doors.columns_of([1, 2]) is None

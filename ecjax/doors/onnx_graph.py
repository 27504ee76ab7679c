"""ONNX: an MLP in, an MLP out. Files are read without external data, and what they hold is checked by ONNX itself."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..network import Activations, Network
from .chain import Affine, elementwise, network_of, plain

_NOTHING = ("Identity", "Flatten", "Dropout", "Cast", "Reshape")
_LAST = ("Softmax", "LogSoftmax", "Sigmoid")
_OPSET, _IR = 13, 8  # what every runtime of the last years reads


def from_onnx(model: Any, activation: Activations | None = None) -> Network:
    """An ONNX model that is an MLP, as a Network in its own precision.

    Args:
        model: A `.onnx` file, or an `onnx.ModelProto`. Linear layers are Gemm, or MatMul and Add; what stands between
            them is looked at as a whole, whatever it is made of. A softmax or sigmoid at the end is left out.
        activation: Of the hidden layers, where ecjax does not know the model's.

    Raises:
        ValueError: If it is no ONNX model, or no MLP.
    """
    model = _read(Path(model)) if isinstance(model, str | os.PathLike) else model
    weights = {each.name: each for each in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type not in ("Constant",)]
    steps: list[Any] = []
    between: list[Any] = []
    at = 0
    while at < len(nodes):
        affine, used = _affine(nodes, at, weights)
        if affine is None:
            between += [nodes[at]] if nodes[at].op_type not in _NOTHING else []
        else:
            steps += [*([_function(between, model)] if between else []), affine]
            between = []
        at += used
    if between and not (len(between) == 1 and between[0].op_type in _LAST):
        steps.append(_function(between, model))
    return network_of(steps, "ONNX", activation=activation)


def _read(path: Path) -> Any:
    try:
        import onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("`model`: ONNX files are read by onnx, which is not installed: pip install onnx.") from error
    if not path.is_file():
        raise ValueError(f"`model`: there is no file {path}.")
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except Exception as error:  # of protobuf, of ONNX, of memory: all of them say that the file is none
        raise ValueError(f"`model`: {path} is no ONNX model: {str(error).splitlines()[0][:200]}") from error
    return model


def _affine(nodes: list[Any], at: int, weights: dict[str, Any]) -> tuple[Affine | None, int]:
    """The linear layer that begins at a node, if one does, and how many nodes it takes."""
    node = nodes[at]
    if node.op_type == "Gemm":
        given = {each.name: each for each in node.attribute}
        if ("transA" in given and given["transA"].i) or node.input[1] not in weights:
            raise ValueError("`model` has an ONNX Gemm that is no linear layer of the one before it.")
        w = _array(weights, node.input[1]) * (given["alpha"].f if "alpha" in given else 1)
        w = w if "transB" in given and given["transB"].i else w.T
        b = None
        if len(node.input) > 2 and node.input[2]:
            b = _bias(weights, node.input[2], len(w)) * (given["beta"].f if "beta" in given else 1)
        return Affine(w, b), 1
    if node.op_type != "MatMul" or node.input[1] not in weights:
        return None, 1
    w = _array(weights, node.input[1]).T
    after = nodes[at + 1] if at + 1 < len(nodes) else None
    if after is not None and after.op_type == "Add" and node.output[0] in after.input:
        (other,) = [name for name in after.input if name != node.output[0]]
        if other in weights:
            return Affine(w, _bias(weights, other, len(w))), 2
    return Affine(w), 1


def _bias(weights: dict[str, Any], name: str, width: int) -> np.ndarray:
    """One number for each neuron, or one for all of them."""
    b = _array(weights, name, shapes=(0, 1, 2)).reshape(-1)
    if len(b) not in (1, width):
        raise ValueError(f"`model` has {len(b)} biases ({name}) for {width} neurons.")
    return np.broadcast_to(b, (width,))


def _array(weights: dict[str, Any], name: str, shapes: tuple[int, ...] = (2,)) -> np.ndarray:
    """Stored numbers, with one of so many axes."""
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    if name not in weights:
        raise ValueError(f"`model` has an ONNX layer whose weights ({name}) are computed, not stored.")
    if weights[name].external_data:
        raise ValueError("`model` keeps its weights in another file (external data): save it as one file.")
    try:
        array = np.asarray(numpy_helper.to_array(weights[name]))
    except (ValueError, TypeError, KeyError) as error:  # KeyError: of a dtype that is none
        raise ValueError(f"`model` has weights ({name}) that are damaged: {error}.") from error
    if array.dtype.kind != "f" or array.ndim not in shapes:
        raise ValueError(f"`model` has weights ({name}) of {array.dtype} with shape {array.shape}: no linear layer.")
    return array


def _function(between: list[Any], model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What stands between two linear layers, as a function of NumPy arrays, by ONNX's own evaluator."""

    def fn(z: np.ndarray) -> np.ndarray:
        from onnx import helper  # pyright: ignore[reportMissingImports]
        from onnx.reference import ReferenceEvaluator  # pyright: ignore[reportMissingImports]

        start, end = between[0].input[0], between[-1].output[0]
        kind = helper.np_dtype_to_tensor_dtype(z.dtype)
        info = [helper.make_tensor_value_info(name, kind, None) for name in (start, end)]
        constants = [node for node in model.graph.node if node.op_type == "Constant"]
        graph = helper.make_graph([*constants, *between], "between", info[:1], info[1:], model.graph.initializer)
        try:
            part = helper.make_model(graph, opset_imports=model.opset_import)
            return np.asarray(ReferenceEvaluator(part).run(None, {start: z})[0])
        except Exception as error:  # whatever the operations are, they are no elementwise function
            names = [node.op_type for node in between]
            raise ValueError(f"`model` has {names} between linear layers, which is no activation ({error}).") from error

    return fn


def to_onnx(net: Any) -> Any:
    """The network as an `onnx.ModelProto`: Gemm and elementwise operations, in the precision of its weights.

    The input is called "x", [n, fan_in], the output "y", [n, fan_out]. ONNX Runtime has no Erf or Atan in float64: run
    networks of erf, gelu, normal_cdf and arctan in float32 there.

    Args:
        net: A Network, or a Recovery.

    Raises:
        ValueError: If ONNX has no such chain.
    """
    from onnx import checker, helper, numpy_helper  # pyright: ignore[reportMissingImports]

    layers = plain(net, "ONNX")
    dtype, nodes, stored = layers[0].w.dtype, [], []
    name = "x"
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        w, b, z = f"layers.{i}.w", f"layers.{i}.b", "y" if last else f"layers.{i}.z"
        stored += [numpy_helper.from_array(layer.w.copy(), w), numpy_helper.from_array(layer.b.copy(), b)]
        nodes.append(helper.make_node("Gemm", [name, w, b], [z], transB=1))
        name = z if last else elementwise(layer.kind, _Ops, _Tensor(z, f"layers.{i}", nodes, stored, dtype)).name
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    ends = [("x", layers[0].w.shape[1]), ("y", len(layers[-1].w))]
    x, y = (helper.make_tensor_value_info(name, kind, ["n", size]) for name, size in ends)
    graph = helper.make_graph(nodes, "ecjax", [x], [y], stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="ecjax"
    )
    checker.check_model(model)
    return model


class _Tensor:
    """A tensor of a graph that is being written, with + - * and numbers."""

    def __init__(self, name: str, prefix: str, nodes: list[Any], stored: list[Any], dtype: Any):
        self.name, self.prefix, self.nodes, self.stored, self.dtype = name, prefix, nodes, stored, dtype

    def apply(self, operation: str, *others: Any) -> "_Tensor":
        """Another node, whose answer this is."""
        from onnx import helper  # pyright: ignore[reportMissingImports]

        name = f"{self.prefix}.{len(self.nodes)}"
        inputs = [self.name, *(each.name if isinstance(each, _Tensor) else self._constant(each) for each in others)]
        self.nodes.append(helper.make_node(operation, inputs, [name]))
        return _Tensor(name, self.prefix, self.nodes, self.stored, self.dtype)

    def _constant(self, number: float) -> str:
        from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

        name = f"{self.prefix}.constant.{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(number, self.dtype), name))
        return name

    def __add__(self, other):
        return self.apply("Add", other)

    def __mul__(self, other):
        return self.apply("Mul", other)

    def __sub__(self, other):
        return self.apply("Sub", other)

    def __neg__(self):
        return self.apply("Neg")

    __radd__, __rmul__ = __add__, __mul__


class _Ops:
    """ONNX's operations by the names that `elementwise` knows."""

    exp, log, tanh, erf = (staticmethod(lambda z, op=op: z.apply(op)) for op in ("Exp", "Log", "Tanh", "Erf"))
    sigmoid, relu, abs = (staticmethod(lambda z, op=op: z.apply(op)) for op in ("Sigmoid", "Relu", "Abs"))
    sin, cos, arctan = (staticmethod(lambda z, op=op: z.apply(op)) for op in ("Sin", "Cos", "Atan"))


def fan_in(model: Any) -> int | None:
    """How many inputs the graph has."""
    sizes = [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
    return sizes[-1] if sizes and sizes[-1] else None


def dtype(model: Any) -> Any:
    """Of its inputs."""
    from onnx import helper  # pyright: ignore[reportMissingImports]

    return np.dtype(helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type))


def answers(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The model as a function of NumPy arrays: by ONNX Runtime where it is installed, or else by ONNX's evaluator."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # not installed, or without a kernel for float64
        from onnx.reference import ReferenceEvaluator  # pyright: ignore[reportMissingImports]

        session = ReferenceEvaluator(model)
    name = model.graph.input[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])

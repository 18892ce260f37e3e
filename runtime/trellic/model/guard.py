"""Checks the bytes of a graph from a bundle before an engine gets them.

A bundle is data that someone else may have made. An ONNX file can name other files to read weights
from, operators of libraries to load, and nested graphs; ours need none of that, so all of it is
refused. Operators must be on a list. They take shapes only from small constants, so that no single
node makes an engine take memory out of proportion to its input. The memory of a chain of nodes is
added up beforehand (`trellic.model.shapes`). Only the few fields that matter are read, so the
runtime does not need the package ``onnx``.

Field numbers: onnx.proto of ONNX 1.16, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

from trellic.errors import BadBundle
from trellic.model.protobuf import fields, integers, text, words
from trellic.model.shapes import Shapes

STANDARD_DOMAINS = (b"", b"ai.onnx")
INT64 = 7  # TensorProto.DataType
MAX_NODES = 10_000
MAX_ATTRIBUTE = 1 << 10  # of an integer attribute: groups, paddings, strides
MAX_SHAPE = 1 << 16  # of a constant that sets a shape
POSITIVE = {b"kernel_shape", b"strides", b"dilations", b"group", b"blocksize"}
CASTS = {1, 2, 3, 6, 10, 16}  # float, uint8, int8, int32, float16, bfloat16: none is a shape's
# Operators that the exporter writes; new ones must be added here.
OPERATORS = frozenset(
    b"Abs Add Cast Clip Concat Conv ConvTranspose DepthToSpace DequantizeLinear Div Exp Flatten"
    b" Floor Gather Gemm GlobalAveragePool LeakyRelu MatMul Max Mul Neg Pad QuantizeLinear"
    b" Reciprocal Relu Round Slice Split Sqrt Sub Sum Tanh Transpose Unsqueeze".split()
)
# Inputs that set the shape of an output, counted from 0: constants. Slices only cut.
SHAPES = {b"Pad": (1, 3), b"Split": (1,), b"Unsqueeze": (1,)}


def check_graph(graph: bytes) -> None:
    """Refuse a graph that has more than nodes of known operators and their constants.

    Parameters
    ----------
    graph : bytes of an ONNX file

    Raises
    ------
    BadBundle
        When it refers to other files, has functions of its own, nested or sparse graphs, operators
        that are not in `OPERATORS`, shapes that are not small constants, results out of proportion
        to its inputs, more than 10,000 nodes, or is not an ONNX file.
    """
    found = 0
    for number, value in fields(graph):
        if number == 7 and isinstance(value, bytes):  # ModelProto.graph
            found += 1
            _check_nodes(value)
        elif number in (20, 25):  # training_info, functions
            raise _refused("functions of its own")
    if found != 1:
        raise BadBundle(
            "a graph of the bundle is not an ONNX file", remedy="install the bundle again"
        )


def _check_nodes(graph: bytes) -> None:
    nodes: list[bytes] = []
    constants: dict[bytes, bytes] = {}
    for number, value in fields(graph):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            nodes.append(value)
        elif number == 5:
            _check_tensor(value)
            name = text(value, 8)
            if name in constants:
                raise _refused(f"two constants of the name {name!r}")
            constants[name] = value
        elif number == 15:
            raise _refused("sparse constants")
    if len(nodes) > MAX_NODES:
        raise _refused(f"{len(nodes)} nodes")
    for node in nodes:
        _check_node(node, constants)
    shapes = Shapes(graph, constants)
    for node in nodes:
        shapes.add(node)


def _check_node(node: bytes, constants: Mapping[bytes, bytes]) -> None:
    inputs = []
    for number, value in fields(node):
        if number == 1 and isinstance(value, bytes):
            inputs.append(value)
        if number == 7 and value not in STANDARD_DOMAINS:
            raise _refused(f"an operator of the domain {value!r}")
        if number == 5 and isinstance(value, bytes):
            _check_attribute(value)
    operator = text(node, 4)
    if operator not in OPERATORS:
        raise _refused(f"the operator {operator!r}")
    for i in SHAPES.get(operator, ()):
        if i < len(inputs) and inputs[i]:
            _check_shape(operator, constants.get(inputs[i]))


def _check_attribute(attribute: bytes) -> None:
    name = text(attribute, 1)
    for number, value in fields(attribute):
        if number in (6, 11):  # g, graphs
            raise _refused("a nested graph")
        if number in (22, 23):  # sparse_tensor, sparse_tensors
            raise _refused("sparse constants")
        if number in (5, 10) and isinstance(value, bytes):  # t, tensors
            _check_tensor(value)
        if number in (3, 8):  # i, ints
            for one in integers(value):
                if abs(one) > MAX_ATTRIBUTE or (name in POSITIVE and one < 1):
                    raise _refused(f"the attribute {name!r} of {one}")
                if name == b"to" and one not in CASTS:
                    raise _refused(f"a cast to type {one}")


def _check_tensor(tensor: bytes) -> None:
    for number, value in fields(tensor):
        if number == 13 or (number == 14 and value != 0):  # external_data, data_location
            raise _refused("constants in another file")


def _check_shape(operator: bytes, tensor: bytes | None) -> None:
    """Check a constant that sets a shape."""
    if tensor is None:
        raise _refused(f"a {operator!r} whose shape is not constant")
    kind, values = 0, []
    for number, value in fields(tensor):
        if number == 2 and isinstance(value, int):
            kind = value
        elif number == 7:  # int64_data
            values += integers(value)
        elif number == 9 and isinstance(value, bytes):  # raw_data
            values += words(value)
    if kind != INT64:
        raise _refused(f"a {operator!r} whose shape is of type {kind}")
    if largest := max((abs(one) for one in values if abs(one) > MAX_SHAPE), default=0):
        raise _refused(f"a {operator!r} whose shape has a {largest}")


def _refused(what: str) -> BadBundle:
    return BadBundle(
        f"a graph of the bundle has {what}",
        expected="only standard operators and their constants",
        remedy="do not use this bundle",
    )

"""Weights that float16 holds exactly are stored in float16, and the graph casts them to float32.

Checkpoints keep float transforms in float16, so nothing is lost, and a bundle is a fifth smaller.
Engines fold the casts when they load a graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST = 256  # values of a constant at least; for fewer a node is not worth it
SUFFIX = ":half"


def halved(data: bytes) -> bytes:
    """Store those constants in float16 that it holds exactly."""
    model = onnx.load_from_string(data)
    graph, casts = model.graph, []
    for constant in graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype != np.float32 or value.size < LEAST:
            continue
        half = _half(value)
        if np.array_equal(half.astype(np.float32), value):
            name = constant.name
            constant.CopyFrom(numpy_helper.from_array(half, name + SUFFIX))
            casts.append(helper.make_node("Cast", [constant.name], [name], to=TensorProto.FLOAT))
    return _with_nodes(model, [*casts, *graph.node])


def whole(data: bytes) -> bytes:
    """Undo `halved`: every constant gets the type that it is used in."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for constant in graph.initializer:
        if constant.name.endswith(SUFFIX):
            value = numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(value, constant.name.removesuffix(SUFFIX)))
    kept = [n for n in graph.node if not (n.input and n.input[0].endswith(SUFFIX))]
    return _with_nodes(model, kept)


def _half(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what does not fit is not equal afterwards
        return value.astype(np.float16)


def _with_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> bytes:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data

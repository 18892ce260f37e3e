"""ONNX graphs as small as a page wants them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trellic_export.halves import halved, whole

INTEGERS = "integers.bin"
LEAST = 64  # values of a constant for which it is worth a node
SUFFIX = ":integers"
_TYPES = {np.dtype(np.int8): TensorProto.INT8, np.dtype(np.int32): TensorProto.INT32}

Places = Mapping[bytes, int]


def decoder_graph(data: bytes) -> bytes:
    """Return a decoder network with weights rounded to float16; it computes in float32."""
    return halved(whole(data), exact=False)


def integer_graph(data: bytes, places: Places) -> bytes:
    """Return an integer network that takes its weights from ``integers.bin``.

    Parameters
    ----------
    data : the graph, whose weights are integers in float32
    places : offset in ``integers.bin`` of each array there, by its bytes

    What is not there stays in the graph: as int8 where it fits, or as it is.
    """
    model = onnx.load_from_string(data)
    graph, casts = model.graph, []
    for constant in graph.initializer:
        value = numpy_helper.to_array(constant)
        small = _as_integers(value, places)
        if small is None:
            continue
        name, shape = constant.name, list(constant.dims)
        constant.CopyFrom(_stored(small, shape, name + SUFFIX, places))
        casts.append(helper.make_node("Cast", [constant.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    result: bytes = model.SerializeToString()
    return result


def _as_integers(value: np.ndarray, places: Places) -> np.ndarray | None:
    """Return a constant as int8, or as int32 where that is in ``integers.bin``; or None."""
    if value.dtype != np.float32 or value.size < LEAST:
        return None
    wide = value.astype(np.int32)
    if not np.array_equal(wide, value):
        return None
    if np.abs(wide).max() <= np.iinfo(np.int8).max:
        return wide.astype(np.int8)
    return wide if wide.tobytes() in places else None


def _stored(value: np.ndarray, shape: list[int], name: str, places: Places) -> onnx.TensorProto:
    data = value.tobytes()
    if data not in places:
        return numpy_helper.from_array(value.reshape(shape), name)
    tensor = TensorProto(name=name, data_type=_TYPES[value.dtype], dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    facts = {"location": INTEGERS, "offset": places[data], "length": len(data)}
    for key, fact in facts.items():
        tensor.external_data.add(key=key, value=str(fact))
    return tensor

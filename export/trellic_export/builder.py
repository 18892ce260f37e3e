"""Nodes and constants of an ONNX graph, gathered one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trellic_training.models.gains import QUALITY_MAX, QUALITY_MIN

OPSET = 17
IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and constants; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._nearness: dict[int, str] = {}

    def constant(self, value: Any) -> str:
        """Add a constant tensor."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node."""
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def split(self, x: str, sizes: list[int]) -> list[str]:
        """Cut channels into parts."""
        parts = [f"v{len(self.nodes)}_{i}" for i in range(len(sizes))]
        counts = self.constant(np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [x, counts], parts, axis=1))
        return parts

    def nearness(self, anchors: int) -> str:
        """How near the input "quality" is to each of some evenly spaced ones: (n, anchors)."""
        if anchors not in self._nearness:
            limits = (self.constant(np.float32(q)) for q in (QUALITY_MIN, QUALITY_MAX))
            clipped = self.add("Clip", "quality", *limits)
            distance = np.float32((anchors - 1) / (QUALITY_MAX - QUALITY_MIN))
            shifted = self.add("Sub", clipped, self.constant(np.float32(QUALITY_MIN)))
            place = self.add("Mul", shifted, self.constant(distance))
            column = self.add("Unsqueeze", place, self.constant(np.array([1], np.int64)))
            at = self.constant(np.arange(anchors, dtype=np.float32))
            apart = self.add("Abs", self.add("Sub", column, at))
            near = self.add("Sub", self.constant(np.float32(1)), apart)
            self._nearness[anchors] = self.add("Relu", near)
        return self._nearness[anchors]

    def rename(self, old: str, new: str) -> None:
        """Give the output of the last node that makes ``old`` another name."""
        for node in self.nodes:
            node.output[:] = [new if name == old else name for name in node.output]
            node.input[:] = [new if name == old else name for name in node.input]

    def finish(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> bytes:
        """Check and serialise; the input "quality" is added where it is needed."""
        if self._nearness:
            inputs = [*inputs, tensor("quality", TensorProto.FLOAT, "n")]
        graph = helper.make_graph(self.nodes, "trellic", inputs, outputs, self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        model.producer_name = "trellic"
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString()
        return data


def tensor(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    """Describe an input or output; strings are dynamic sizes."""
    return helper.make_tensor_value_info(name, kind, shape)

"""The float transforms in float16, for GPUs: from the first convolution to the last.

Engines with strong types (TensorRT from version 11 on) compute in the types that a graph names, so
the graph decides the precision of each part. All before the first convolution (pixels, tables over
quality) and all after the last (rounding to pixels, latents before their quantizer) stays float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic.model.decoders import Graph
from trellic_export.bundle import digests, members, write_bundle

PRODUCTS = {"Conv", "ConvTranspose", "Gemm"}
SQUARES = "Sqrt"  # of sums of squares, as in GDN, which leave the range of float16
SUFFIX = ":16"


def in_float16(data: bytes) -> bytes:
    """Return a graph whose convolutions, and what lies between them, are in float16.

    Raises
    ------
    BadParameter
        When the graph has values that float16 cannot hold.
    """
    model = onnx.load_from_string(data)
    _Converter(model.graph).convert()
    onnx.checker.check_model(model, full_check=True)
    converted: bytes = model.SerializeToString()
    return converted


class _Converter:
    """Converts one graph in place."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._nodes = list(graph.node)
        self._constants = {c.name: c for c in graph.initializer}
        self._inner = self._between_products()
        self._ends = {output.name for output in graph.output}
        self._half = {name for i in self._inner for name in self._nodes[i].output} - self._ends
        self._made: list[onnx.NodeProto] = []
        self._known: set[str] = set()

    def convert(self) -> None:
        """Give inner nodes float16 inputs, all others and the outputs float32 ones."""
        if any(node.op_type == SQUARES for node in self._nodes):
            raise BadParameter("a network with squares (GDN) in float16", remedy="leave out --fp16")
        for i, node in enumerate(self._nodes):
            inner = i in self._inner
            node.input[:] = [self._as(name, half=inner) for name in node.input]
            self._made.append(node)
            for j, name in enumerate(node.output):
                if inner and name in self._ends:
                    node.output[j] = name + SUFFIX
                    self._known.add(name + SUFFIX)
                    self._made.append(self._cast_node(name + SUFFIX, name, half=False))
        del self._graph.node[:]
        self._graph.node.extend(self._made)

    def _between_products(self) -> set[int]:
        """Nodes with a product at or before them, and one at or after them."""
        before: set[str] = set()
        behind = set()
        for i, node in enumerate(self._nodes):
            if node.op_type in PRODUCTS or before & set(node.input):
                behind.add(i)
                before |= set(node.output)
        after: set[str] = set()
        inner = set()
        for i in reversed(range(len(self._nodes))):
            node = self._nodes[i]
            if node.op_type in PRODUCTS or after & set(node.output):
                after |= set(node.input)
                if i in behind:
                    inner.add(i)
        return inner

    def _as(self, name: str, *, half: bool) -> str:
        """Return the name of a value in the type that a node needs."""
        if name in self._constants:
            return self._constant(name) if half else name
        if not name or (name in self._half) == half:
            return name
        return self._cast(name, half=half)

    def _constant(self, name: str) -> str:
        constant = self._constants[name]
        if constant.data_type != TensorProto.FLOAT:
            return name  # sizes and axes
        target = name + SUFFIX
        if target not in self._known:
            with np.errstate(over="ignore"):
                value = numpy_helper.to_array(constant).astype(np.float16)
            if not np.isfinite(value).all():
                raise BadParameter("a weight beyond float16", remedy="leave out --fp16")
            self._graph.initializer.append(numpy_helper.from_array(value, target))
            self._known.add(target)
        return target

    def _cast(self, name: str, *, half: bool) -> str:
        target = name + (SUFFIX if half else ":32")
        if target not in self._known:
            self._made.append(self._cast_node(name, target, half=half))
            self._known.add(target)
        return target

    def _cast_node(self, name: str, target: str, *, half: bool) -> onnx.NodeProto:
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        return helper.make_node("Cast", [name], [target], to=kind)


def add_float16(bundle: Bundle, out: Path) -> list[str]:
    """Write a bundle with float16 variants of its float transforms; return their names.

    The rest of the bundle stays as it is, and so does its stream id.

    Raises
    ------
    BadParameter
        When a graph has values that float16 cannot hold.
    """
    manifest = bundle.manifest
    files = members(bundle)

    def variant(name: str, graph: Graph) -> Graph:
        file = f"graphs/{name}-fp16.onnx"
        files[file] = in_float16(bundle.graph(graph))
        return graph.model_copy(update={"fp16": file})

    decoders = {
        name: info.model_copy(update={"graph": variant(name, info.graph)})
        for name, info in manifest.decoders.items()
    }
    changed = {
        "encoder": variant("g_a", manifest.encoder),
        "hyper_encoder": variant("h_a", manifest.hyper_encoder),
        "decoders": decoders,
        "sha256": digests(files),
    }
    write_bundle(out, manifest.model_copy(update=changed), files)
    return ["g_a", "h_a", *decoders]

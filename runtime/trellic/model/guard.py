"""What a graph from a bundle may hold, looked up in its bytes before an engine sees them.

A bundle is data that someone else may have made. An ONNX file can name other files to read weights
from, operators of libraries to load, and nested graphs; ours need none of that, so all of it is
refused. Only the few fields that matter are walked; the runtime does not need the package ``onnx``.

Field numbers: onnx.proto of ONNX 1.16, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from trellic.errors import BadBundle

STANDARD_DOMAINS = (b"", b"ai.onnx")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MAX_NODES = 10_000

Field = tuple[int, int | bytes]


def check_graph(graph: bytes) -> None:
    """Refuse a graph that is more than nodes of standard operators and their constants.

    Parameters
    ----------
    graph : bytes of an ONNX file

    Raises
    ------
    BadBundle
        When it refers to other files, has operators or functions of its own, nested or sparse
        graphs, more than 10,000 nodes, or is no ONNX file at all.
    """
    found = 0
    for number, value in _fields(graph):
        if number == 7 and isinstance(value, bytes):  # ModelProto.graph
            found += 1
            _check_nodes(value)
        elif number in (20, 25):  # training_info, functions
            raise _refused("functions of its own")
    if found != 1:
        raise BadBundle("a graph of the bundle is no ONNX file", remedy="install the bundle again")


def _check_nodes(graph: bytes) -> None:
    nodes = 0
    for number, value in _fields(graph):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            nodes += 1
            _check_node(value)
        elif number == 5:
            _check_tensor(value)
        elif number == 15:
            raise _refused("sparse constants")
    if nodes > MAX_NODES:
        raise _refused(f"{nodes} nodes")


def _check_node(node: bytes) -> None:
    for number, value in _fields(node):
        if number == 7 and value not in STANDARD_DOMAINS:
            raise _refused(f"an operator of the domain {value!r}")
        if number == 5 and isinstance(value, bytes):
            _check_attribute(value)


def _check_attribute(attribute: bytes) -> None:
    for number, value in _fields(attribute):
        if number in (6, 11):  # g, graphs
            raise _refused("a nested graph")
        if number in (22, 23):  # sparse_tensor, sparse_tensors
            raise _refused("sparse constants")
        if number in (5, 10) and isinstance(value, bytes):  # t, tensors
            _check_tensor(value)


def _check_tensor(tensor: bytes) -> None:
    for number, value in _fields(tensor):
        if number == 13 or (number == 14 and value != 0):  # external_data, data_location
            raise _refused("constants in another file")


def _refused(what: str) -> BadBundle:
    return BadBundle(
        f"a graph of the bundle has {what}",
        expected="standard operators and their constants alone",
        remedy="do not use this bundle",
    )


def _fields(message: bytes) -> Iterator[Field]:
    """Walk the fields of a protobuf message: numbers, and integers or bytes."""
    view, at = memoryview(message), 0
    while at < len(view):
        key, at = _varint(view, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(view, at)
            yield key >> 3, value
            continue
        if wire == BYTES:
            length, at = _varint(view, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise BadBundle(f"a graph of the bundle is no ONNX file (wire type {wire})")
        if length > len(view) - at:
            raise BadBundle("a graph of the bundle is cut short", remedy="install it again")
        yield key >> 3, bytes(view[at : at + length])
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise BadBundle("a graph of the bundle is no ONNX file (a number without end)")

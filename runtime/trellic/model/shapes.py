"""The sizes of a graph's results, found before an engine computes them.

A chain of harmless nodes can double its data at every step, and engines compute results that need
no input as soon as they load a graph. So the shapes of each node's results are computed for inputs
of a nominal size, and their elements are added up, separately for results that need no input and
for the others, which count in proportion to the inputs.

Shapes may come out too large (a `Slice` by values that are not constant counts as the whole), but
never too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from trellic.errors import BadBundle
from trellic.model.protobuf import fields, integers, text, words

Shape = tuple[int, ...]

NOMINAL: Final = 256  # of a side that is not fixed; a first one is the batch, of 1
MAX_CONSTANT: Final = 1 << 25  # elements, of all results together that need no input
MAX_GROWTH: Final = 1 << 13  # elements of all other results together, for each of the inputs
SMALL: Final = 1 << 22  # elements that these may have in any case


class Node:
    """The fields of a node that decide the shape of its results."""

    def __init__(self, message: bytes) -> None:
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []
        self.operator = text(message, 4)
        self._attributes: dict[bytes, list[int]] = {}
        for number, value in fields(message):
            if number == 1 and isinstance(value, bytes):
                self.inputs.append(value)
            elif number == 2 and isinstance(value, bytes):
                self.outputs.append(value)
            elif number == 5 and isinstance(value, bytes):
                numbers = [
                    n for field, one in fields(value) if field in (3, 8) for n in integers(one)
                ]
                self._attributes[text(value, 1)] = numbers

    def numbers(self, name: bytes, default: Sequence[int]) -> list[int]:
        """Return an attribute of integers."""
        return self._attributes.get(name) or list(default)

    def number(self, name: bytes, default: int) -> int:
        """Return an attribute of one integer."""
        return self.numbers(name, [default])[0]


class Shapes:
    """The shapes of a graph's results, node by node.

    Parameters
    ----------
    graph : a GraphProto
    constants : its initializers, TensorProtos by name
    """

    def __init__(self, graph: bytes, constants: Mapping[bytes, bytes]) -> None:
        self._constants = constants
        self.of: dict[bytes, Shape] = {}
        self._fixed: set[bytes] = set(constants)  # results that need no input
        for name, tensor in constants.items():
            self.of[name] = tuple(
                n for number, value in fields(tensor) if number == 1 for n in integers(value)
            )
        given = [value for number, value in fields(graph) if number == 11]
        for message in given:
            if isinstance(message, bytes) and text(message, 1) not in constants:
                self.of[text(message, 1)] = _input_shape(message)
        self._inputs = sum(
            math.prod(shape) for name, shape in self.of.items() if name not in constants
        )
        self._computed = {True: 0, False: 0}  # elements so far, by whether they need no input

    def add(self, message: bytes) -> None:
        """Compute the shapes of a node's results.

        Raises
        ------
        BadBundle
            When the graph's results are too large, or an input of a node has no known shape.
        """
        node = Node(message)
        named = [name for name in node.inputs if name]
        if any(name not in self.of for name in named):
            raise _refused(f"a {node.operator!r} whose input comes from nowhere")
        try:
            found = self._results(node)
        except (IndexError, ValueError, ZeroDivisionError) as error:
            raise _refused(f"a {node.operator!r} whose inputs do not fit it") from error
        fixed = self._fixed.issuperset(named)
        for name, shape in zip(node.outputs, found, strict=False):
            self.of[name] = tuple(max(side, 1) for side in shape)
            self._computed[fixed] += math.prod(self.of[name])
            if fixed:
                self._fixed.add(name)
        most = MAX_CONSTANT if fixed else max(SMALL, MAX_GROWTH * self._inputs)
        if self._computed[fixed] > most:
            what = "constants" if fixed else "inputs"
            raise _refused(f"a chain of nodes that makes too much of its {what}")

    def _results(self, node: Node) -> list[Shape]:
        shapes = [self.of.get(name, ()) for name in node.inputs]
        special: dict[bytes, Callable[[Node, list[Shape]], list[Shape]]] = {
            b"Pad": self._pad,
            b"Slice": self._slice,
            b"Split": self._split,
            b"Unsqueeze": self._unsqueeze,
        }
        if node.operator in special:
            return special[node.operator](node, shapes)
        return [_RULES.get(node.operator, _same)(node, shapes)] * len(node.outputs)

    def _values(self, node: Node, number: int) -> list[int] | None:
        """Return a constant input of a node as integers; None if it is not constant."""
        if number >= len(node.inputs) or node.inputs[number] not in self._constants:
            return None
        tensor = self._constants[node.inputs[number]]
        found = []
        for field, value in fields(tensor):
            if field == 7:
                found += integers(value)
            elif field == 9 and isinstance(value, bytes):
                found += words(value)
        return found

    def _pad(self, node: Node, shapes: list[Shape]) -> list[Shape]:
        sides = list(shapes[0])
        pads = self._values(node, 1) or []
        axes = self._values(node, 3) or range(len(sides))
        for i, axis in enumerate(axes):
            sides[axis] += pads[i] + pads[i + len(axes)]
        return [tuple(sides)]

    def _slice(self, node: Node, shapes: list[Shape]) -> list[Shape]:
        sides = list(shapes[0])
        starts, ends = self._values(node, 1), self._values(node, 2)
        if starts is None or ends is None:
            return [shapes[0]]
        axes = self._values(node, 3) or range(len(starts))
        steps = self._values(node, 4) or [1] * len(starts)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            sides[axis] = len(range(sides[axis])[slice(start, end, step)])
        return [tuple(sides)]

    def _split(self, node: Node, shapes: list[Shape]) -> list[Shape]:
        axis, count = node.number(b"axis", 0), len(node.outputs)
        whole = shapes[0][axis]
        parts = self._values(node, 1) or [-(-whole // count)] * count
        return [_with(shapes[0], axis, part) for part in parts]

    def _unsqueeze(self, node: Node, shapes: list[Shape]) -> list[Shape]:
        axes = self._values(node, 1) or []
        return [(1,) * len(axes) + shapes[0]] if not axes else [_unsqueezed(shapes[0], axes)]


# ---- a rule for each operator: from the shapes of the inputs to that of the result ----


def _same(_: Node, shapes: list[Shape]) -> Shape:
    return shapes[0]


def _broadcast(_: Node, shapes: list[Shape]) -> Shape:
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(map(max, *aligned)) if len(aligned) > 1 else aligned[0]


def _concat(node: Node, shapes: list[Shape]) -> Shape:
    axis = node.number(b"axis", 0)
    widest = tuple(map(max, *shapes)) if len(shapes) > 1 else shapes[0]
    return _with(widest, axis, sum(shape[axis] for shape in shapes))


def _conv(node: Node, shapes: list[Shape]) -> Shape:
    x, weight = shapes[0], shapes[1]
    rank = len(x) - 2
    kernel = node.numbers(b"kernel_shape", weight[2:])
    strides = node.numbers(b"strides", [1] * rank)
    dilations = node.numbers(b"dilations", [1] * rank)
    pads = node.numbers(b"pads", [k * d for k, d in zip(kernel, dilations, strict=True)] * 2)
    sides = [
        (x[2 + i] + pads[i] + pads[i + rank] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(rank)
    ]
    return (x[0], weight[0], *sides)


def _transposed_conv(node: Node, shapes: list[Shape]) -> Shape:
    x, weight = shapes[0], shapes[1]
    rank = len(x) - 2
    kernel = node.numbers(b"kernel_shape", weight[2:])
    strides = node.numbers(b"strides", [1] * rank)
    dilations = node.numbers(b"dilations", [1] * rank)
    more = node.numbers(b"output_padding", [0] * rank)
    sides = [
        strides[i] * (x[2 + i] - 1) + more[i] + dilations[i] * (kernel[i] - 1) + 1
        for i in range(rank)
    ]
    given = node.numbers(b"output_shape", sides)
    return (x[0], weight[1] * node.number(b"group", 1), *map(max, sides, given[-rank:]))


def _depth_to_space(node: Node, shapes: list[Shape]) -> Shape:
    n, c, h, w = shapes[0]
    block = node.number(b"blocksize", 1)
    return n, -(-c // block**2), h * block, w * block


def _flatten(node: Node, shapes: list[Shape]) -> Shape:
    axis = node.number(b"axis", 1)
    return math.prod(shapes[0][:axis]), math.prod(shapes[0][axis:])


def _gather(node: Node, shapes: list[Shape]) -> Shape:
    axis = node.number(b"axis", 0) % len(shapes[0])
    return shapes[0][:axis] + shapes[1] + shapes[0][axis + 1 :]


def _gemm(node: Node, shapes: list[Shape]) -> Shape:
    rows = shapes[0][1 if node.number(b"transA", 0) else 0]
    return rows, shapes[1][0 if node.number(b"transB", 0) else 1]


def _mean(_: Node, shapes: list[Shape]) -> Shape:
    return shapes[0][:2] + (1,) * (len(shapes[0]) - 2)


def _matmul(node: Node, shapes: list[Shape]) -> Shape:
    a, b = shapes
    outer = _broadcast(node, [a[:-2], b[:-2]])
    return outer + a[-2:-1] + (b[-1:] if len(b) > 1 else ())


def _transpose(node: Node, shapes: list[Shape]) -> Shape:
    return tuple(shapes[0][i] for i in node.numbers(b"perm", range(len(shapes[0]))[::-1]))


_RULES: Final[dict[bytes, Callable[[Node, list[Shape]], Shape]]] = {
    **dict.fromkeys((b"Add", b"Div", b"Max", b"Mul", b"Sub", b"Sum"), _broadcast),
    b"Concat": _concat,
    b"Conv": _conv,
    b"ConvTranspose": _transposed_conv,
    b"DepthToSpace": _depth_to_space,
    b"Flatten": _flatten,
    b"Gather": _gather,
    b"Gemm": _gemm,
    b"GlobalAveragePool": _mean,
    b"MatMul": _matmul,
    b"Transpose": _transpose,
}


def _with(shape: Shape, axis: int, side: int) -> Shape:
    changed = list(shape)
    changed[axis] = side
    return tuple(changed)


def _unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    rank = len(shape) + len(axes)
    ones, rest = {axis % rank for axis in axes}, iter(shape)
    return tuple(1 if i in ones else next(rest) for i in range(rank))


def _input_shape(message: bytes) -> Shape:
    """Return the shape of a graph's input (ValueInfoProto), unknown sides at their nominal size."""
    value = text(text(text(message, 2), 1), 2)  # type, tensor_type, shape
    sides = [dict(fields(one)).get(1, 0) for number, one in fields(value) if isinstance(one, bytes)]
    return tuple(
        side if isinstance(side, int) and side > 0 else (NOMINAL if i else 1)
        for i, side in enumerate(sides)
    )


def _refused(what: str) -> BadBundle:
    return BadBundle(
        f"a graph of the bundle has {what}",
        expected="results in proportion to its inputs",
        remedy="do not use this bundle",
    )

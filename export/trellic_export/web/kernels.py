"""The four functions in WebAssembly that a page's networks run on.

Maps are channel-last; a pixel's channels are padded to a multiple of 8. Weights are packed in
blocks of 8 output channels. `numbers` are float32, `integers` int16 with sums in int32::

    numbers_pointwise   out = leaky(sum of w * x + bias + added)
    numbers_depthwise   out = leaky(sum over the window of w * x + bias + added)
    integers_pointwise  out = clip(floor((sum of w * x + bias) * 2^-shift + 1/2))
    integers_depthwise  the same over a window

`js/kernels.js` calls them and says what each parameter is.
"""

from __future__ import annotations

from dataclasses import dataclass

from trellic_export.web import assembler as wasm
from trellic_export.web.assembler import F32, I32, V128, Code, Function, const, simd

BLOCK = 8  # output channels at a time: two vectors
AT_ONCE = 6  # pixels: with 12 sums, 2 weights and 1 input, the 16 registers of SSE are full
UNROLLED = 4  # steps over input channels

_SPLAT_I32, _SPLAT_F32 = 0x11, 0x13
_FLOOR, _NARROW, _TO_I32, _TO_F32 = 0x68, 0x85, 0xF8, 0xFA
_ADD_I32, _MIN_I32, _MAX_I32, _DOT = 0xAE, 0xB6, 0xB8, 0xBA
_MULTIPLY_LOW, _MULTIPLY_HIGH = 0xBC, 0xBD
_ADD_F32, _MUL_F32, _LARGER = 0xE4, 0xE6, 0xEB

_PLACES = ("x", "pixels", "stride", "w", "bias", "blocks", "out", "outStride")
_NUMBERS = {"added": I32, "slope": F32}
_INTEGERS = {"scale": I32, "low": I32, "high": I32, "wide": I32}


def kernels() -> bytes:
    """Return the module."""
    numbers, integers = _Numbers(), _Integers()
    return wasm.module(
        {
            "numbers_pointwise": _pointwise(numbers),
            "numbers_depthwise": _depthwise(numbers),
            "integers_pointwise": _pointwise(integers),
            "integers_depthwise": _depthwise(integers),
        }
    )


@dataclass(frozen=True)
class _Numbers:
    """Float32: one input channel a step.

    `added` is the distance in bytes from the output to the values added to it; 0 for none.
    """

    bytes_each: int = 4

    @property
    def parameters(self) -> dict[str, int]:
        return _NUMBERS

    def accumulate(self, f: Function, name: str, x: Code) -> Code:
        """Add 8 products of one input channel."""
        f.local("input", V128)
        out = f.set("input", x)
        for half in "01":
            a, b, acc = f.get("input"), f.get(f"w{half}"), f.get(name + half)
            out += f.set(name + half, simd(_ADD_F32, acc, simd(_MUL_F32, a, b)))
        return out

    def window(self, f: Function, name: str, x: Code, w: Code) -> Code:
        """Add 8 products, each of its own channel."""
        out = b""
        for half in (0, 1):
            product = simd(_MUL_F32, wasm.load(x, 16 * half), wasm.load(w, 16 * half))
            out += f.set(f"{name}{half}", simd(_ADD_F32, f.get(f"{name}{half}"), product))
        return out

    def finish(self, f: Function, name: str, out: str) -> Code:
        """Add the other values, apply the leaky ReLU, store."""
        added, halves = b"", b""
        for half in (0, 1):
            there = wasm.add(f.get(out), f.get("added"))
            acc = f.get(f"{name}{half}")
            added += f.set(f"{name}{half}", simd(_ADD_F32, acc, wasm.load(there, 16 * half)))
            bent = simd(_MUL_F32, acc, simd(_SPLAT_F32, f.get("slope")))
            halves += wasm.store(f.get(out), simd(_LARGER, acc, bent), 16 * half)
        return wasm.when(f.get("added"), added) + halves


@dataclass(frozen=True)
class _Integers:
    """Int16, two input channels a step; sums in int32."""

    bytes_each: int = 2

    @property
    def parameters(self) -> dict[str, int]:
        return _INTEGERS

    def accumulate(self, f: Function, name: str, x: Code) -> Code:
        """Add 16 products of two input channels."""
        f.local("input", V128)
        out = f.set("input", x)
        for half in "01":
            product = simd(_DOT, f.get("input"), f.get(f"w{half}"))
            out += f.set(name + half, simd(_ADD_I32, f.get(name + half), product))
        return out

    def window(self, f: Function, name: str, x: Code, w: Code) -> Code:
        """Add 8 products, each of its own channel."""
        out = b""
        for half, opcode in enumerate((_MULTIPLY_LOW, _MULTIPLY_HIGH)):
            product = simd(opcode, wasm.load(x), wasm.load(w))
            out += f.set(f"{name}{half}", simd(_ADD_I32, f.get(f"{name}{half}"), product))
        return out

    def finish(self, f: Function, name: str, out: str) -> Code:
        """Shift with rounding, clip, store as int16 or as int32.

        Done in float32: sums are below 2^22 (docs/format.md, 7.5), so floor gets exact values.
        """
        f.local("channel")
        code, half_step = b"", simd(_SPLAT_F32, b"\x43\x00\x00\x00\x3f")
        for half in (0, 1):
            scale = wasm.load(wasm.add(f.get("scale"), f.get("channel")), 16 * half)
            product = simd(_MUL_F32, simd(_TO_F32, f.get(f"{name}{half}")), scale)
            value = simd(_TO_I32, simd(_FLOOR, simd(_ADD_F32, product, half_step)))
            value = simd(_MAX_I32, value, simd(_SPLAT_I32, f.get("low")))
            value = simd(_MIN_I32, value, simd(_SPLAT_I32, f.get("high")))
            code += f.set(f"{name}{half}", value)
        first, second = f.get(f"{name}0"), f.get(f"{name}1")
        wide = wasm.store(f.get(out), first) + wasm.store(f.get(out), second, 16)
        narrow = wasm.store(f.get(out), simd(_NARROW, first, second))
        return code + wasm.when(f.get("wide"), wide, narrow)


Kind = _Numbers | _Integers


def _begin(f: Function, name: str, channel: str) -> Code:
    """Start sums at the biases of a block."""
    at = wasm.add(f.get("bias"), f.get(channel))
    for half in "01":
        f.local(name + half, V128)
    return f.set(name + "0", wasm.load(at)) + f.set(name + "1", wasm.load(at, 16))


def _function(kind: Kind, **more: int) -> Function:
    return Function(dict.fromkeys(_PLACES, I32) | more | kind.parameters)


def _pointwise(kind: Kind) -> Function:
    """Three loops: over blocks of output channels, groups of pixels, and input channels.

    Parameter `steps`: over input channels. The bias, scale and output of a block lie 32 bytes
    after those of the one before, or 16 where outputs are int16.
    """
    f = _function(kind, steps=I32)
    for name in ("block", "left", "from", "to", "weights", "channel", "outChannel"):
        f.local(name)
    group = wasm.while_(
        wasm.at_least(f.get("left"), const(AT_ONCE)), _group(f, kind, AT_ONCE)
    ) + wasm.while_(f.get("left"), _group(f, kind, 1))
    one = (
        f.set("left", f.get("pixels"))
        + f.set("from", f.get("x"))
        + f.set("to", wasm.add(f.get("out"), f.get("outChannel")))
        + group
    )
    # After the pixels of a block, `w` is at the begin of its weights again.
    after = (
        f.step("w", wasm.mul(f.get("steps"), const(4 * BLOCK)))
        + f.step("channel", 4 * BLOCK)
        + f.step("outChannel", _block_bytes(f, kind))
        + f.step("block", -1)
    )
    f.body = f.set("block", f.get("blocks")) + wasm.while_(f.get("block"), one + after)
    return f


def _block_bytes(f: Function, kind: Kind) -> Code:
    """Bytes from a block's output to the next one's."""
    if kind.bytes_each == 4:
        return const(4 * BLOCK)
    narrow = const(2 * BLOCK)
    return wasm.add(narrow, wasm.mul(f.get("wide"), narrow))


def _weights(f: Function, offset: int) -> Code:
    """Load the 32 bytes of weights that one step multiplies."""
    f.local("w0", V128), f.local("w1", V128)
    at = f.get("weights")
    return f.set("w0", wasm.load(at, offset)) + f.set("w1", wasm.load(at, offset + 16))


def _group(f: Function, kind: Kind, count: int) -> Code:
    """Evaluate one block at some pixels."""
    names = [f"sum{i}_" for i in range(count)]
    inputs = [f.local(f"x{i}") for i in range(count)]
    f.local("step"), f.local("place")
    code = b"".join(_begin(f, name, "channel") for name in names)
    for i, x in enumerate(inputs):
        code += f.set(x, wasm.add(f.get("from"), wasm.mul(f.get("stride"), const(i))))
    code += f.set("weights", f.get("w")) + f.set("step", f.get("steps"))
    for steps in (UNROLLED, 1):
        body = b""
        for k in range(steps):
            body += _weights(f, 4 * BLOCK * k)
            for name, x in zip(names, inputs, strict=True):
                body += kind.accumulate(f, name, wasm.load(f.get(x), 4 * k, splat=True))
        body += b"".join(f.step(x, 4 * steps) for x in inputs)
        body += f.step("weights", 4 * BLOCK * steps) + f.step("step", -steps)
        code += wasm.while_(wasm.at_least(f.get("step"), const(steps)), body)
    code += f.set("place", f.get("to"))
    for name in names:
        code += kind.finish(f, name, "place") + f.step("place", f.get("outStride"))
    code += f.step("from", wasm.mul(f.get("stride"), const(count))) + f.set("to", f.get("place"))
    return code + f.step("left", -count)


def _depthwise(kind: Kind) -> Function:
    """Three loops: over one row of pixels, blocks of channels, and the window.

    Parameters `side` of the window, and `rowBytes` from a row of the padded input to the next.
    `w` holds all channels of a tap, then those of the next one.
    """
    f = _function(kind, side=I32, rowBytes=I32)
    names = ("pixel", "block", "from", "to", "place", "weights", "channel", "row", "column", "at")
    for name in (*names, "line", "xChannel"):
        f.local(name)
    begin = _begin(f, "sum", "channel")
    tap = kind.window(f, "sum", f.get("at"), f.get("weights"))
    tap += f.step("at", f.get("stride")) + f.step("weights", wasm.mul(f.get("blocks"), _x(kind)))
    line = f.set("at", f.get("line")) + f.set("column", f.get("side"))
    line += wasm.while_(f.get("column"), tap + f.step("column", -1))
    line += f.step("line", f.get("rowBytes")) + f.step("row", -1)
    one = begin + f.set("line", wasm.add(f.get("from"), f.get("xChannel")))
    one += f.set("weights", wasm.add(f.get("w"), f.get("xChannel"))) + f.set("row", f.get("side"))
    one += wasm.while_(f.get("row"), line) + kind.finish(f, "sum", "place")
    one += f.step("place", _block_bytes(f, kind)) + f.step("channel", 4 * BLOCK)
    one += f.step("xChannel", _x(kind)) + f.step("block", -1)
    pixel = f.set("block", f.get("blocks")) + f.set("channel", const(0))
    pixel += f.set("xChannel", const(0)) + f.set("place", f.get("to"))
    pixel += wasm.while_(f.get("block"), one)
    pixel += f.step("from", f.get("stride")) + f.step("to", f.get("outStride"))
    pixel += f.step("pixel", -1)
    f.body = f.set("from", f.get("x")) + f.set("to", f.get("out"))
    f.body += f.set("pixel", f.get("pixels")) + wasm.while_(f.get("pixel"), pixel)
    return f


def _x(kind: Kind) -> Code:
    """Bytes of a block's input."""
    return const(BLOCK * kind.bytes_each)

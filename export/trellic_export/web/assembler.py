"""The part of an assembler for WebAssembly that the kernels need.

An instruction is the bytes of its operands and then its own bytes: `add(get(a), get(b))`. A
statement is an instruction without a result. Specification: WebAssembly 3.0, section 5, binary
format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

I32, F32, V128 = 0x7F, 0x7D, 0x7B
_FUNCTION, _BLOCK = 0x60, 0x40
_MEMORY_IMPORT, _FUNCTION_EXPORT = 2, 0

Code = bytes


def leb(value: int) -> Code:
    """Return an unsigned integer in LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def signed_leb(value: int) -> Code:
    """Return a signed integer in LEB128."""
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])


# ---- instructions ----


def const(value: int) -> Code:
    """Return an i32."""
    return b"\x41" + signed_leb(value)


def add(*values: Code) -> Code:
    """Return the sum of i32."""
    first, *rest = values
    return first + b"".join(value + b"\x6a" for value in rest)


def sub(a: Code, b: Code) -> Code:
    """Return the difference of two i32."""
    return a + b + b"\x6b"


def mul(a: Code, b: Code) -> Code:
    """Return the product of two i32."""
    return a + b + b"\x6c"


def at_least(a: Code, b: Code) -> Code:
    """Compare two i32, with their signs."""
    return a + b + b"\x4e"


def simd(opcode: int, *operands: Code) -> Code:
    """Return a vector instruction without immediates."""
    return b"".join(operands) + b"\xfd" + leb(opcode)


def load(address: Code, offset: int = 0, *, splat: bool = False) -> Code:
    """Load 16 bytes, or 4 bytes four times."""
    return address + (b"\xfd\x09\x02" if splat else b"\xfd\x00\x02") + leb(offset)


def store(address: Code, value: Code, offset: int = 0) -> Code:
    """Store 16 bytes."""
    return address + value + b"\xfd\x0b\x02" + leb(offset)


# ---- statements ----


def when(condition: Code, body: Code, otherwise: Code = b"") -> Code:
    """Do one thing or another."""
    rest = b"\x05" + otherwise if otherwise else b""
    return condition + bytes([0x04, _BLOCK]) + body + rest + b"\x0b"


def while_(condition: Code, body: Code) -> Code:
    """Repeat as long as a condition holds."""
    again = b"\x0c\x01"  # br 1: past the `when`, to the loop's begin
    return bytes([0x03, _BLOCK]) + when(condition, body + again) + b"\x0b"


# ---- functions ----


@dataclass
class Function:
    """A function without a result.

    Attributes
    ----------
    parameters : type of each
    body : its statements, put there when all locals are known
    """

    parameters: Mapping[str, int]
    body: Code = b""
    _locals: dict[str, int] = field(default_factory=dict)

    def get(self, name: str) -> Code:
        """Read a parameter or local."""
        return b"\x20" + leb(self._index(name))

    def set(self, name: str, value: Code) -> Code:
        """Set a parameter or local."""
        return value + b"\x21" + leb(self._index(name))

    def step(self, name: str, by: Code | int) -> Code:
        """Add to a local."""
        return self.set(name, add(self.get(name), const(by) if isinstance(by, int) else by))

    def local(self, name: str, kind: int = I32) -> str:
        """Declare a local, once or again; return its name."""
        if self._locals.setdefault(name, kind) != kind or name in self.parameters:
            raise ValueError(f"the local {name} is there already")
        return name

    def _index(self, name: str) -> int:
        return [*self.parameters, *self._locals].index(name)

    def encoded(self) -> Code:
        """Return its locals and code."""
        declared = b"".join(bytes([1, kind]) for kind in self._locals.values())
        code = leb(len(self._locals)) + declared + self.body + b"\x0b"
        return leb(len(code)) + code


def module(functions: Mapping[str, Function]) -> bytes:
    """Return a module that exports functions and imports its memory as `env.memory`."""
    types = [
        bytes([_FUNCTION]) + _vector([bytes([k]) for k in f.parameters.values()]) + leb(0)
        for f in functions.values()
    ]
    memory = _name("env") + _name("memory") + bytes([_MEMORY_IMPORT, 0]) + leb(1)
    exports = [_name(name) + bytes([_FUNCTION_EXPORT]) + leb(i) for i, name in enumerate(functions)]
    sections = {
        1: _vector(types),
        2: _vector([memory]),
        3: _vector([leb(i) for i in range(len(functions))]),
        7: _vector(exports),
        10: _vector([function.encoded() for function in functions.values()]),
    }
    body = b"".join(bytes([number]) + leb(len(s)) + s for number, s in sections.items())
    return b"\0asm\x01\0\0\0" + body


def _vector(items: Sequence[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    return leb(len(text)) + text.encode()

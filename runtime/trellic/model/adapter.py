"""Adapters: small changes of a model's float networks, for pictures of one kind.

An adapter adds to weights of g_a and of decoders. Integer networks, tables and stream id stay as
they are, so that every decoder of the model still decodes the latents. docs/format.md, section
4.1, specifies the file.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trellic.errors import BadAdapter
from trellic.limits import ADAPTER_ID_BYTES, MAX_ADAPTER
from trellic.model.decoders import NAME_PATTERN
from trellic.model.weights import Constant, constants

SIGNATURE = b"TLA\x01"
SUFFIX = ".tla"
ENCODER = "encoder"  # g_a, the one graph of the encoder's side
MAX_PLACES = 256  # of a graph
MAX_RANK = 32
_LENGTH = struct.Struct("<I")
_HALF = np.dtype("<f2")

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]


class Place(BaseModel):
    """One constant of a graph that the adapter changes.

    With a ``rank`` the change is ``A @ B``: A has a row for each output, B a column for each number
    of an output. With rank 0 the change is given as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    constant: str = Field(max_length=256)
    rank: int = Field(ge=0, le=MAX_RANK)

    def size(self, shape: tuple[int, ...]) -> int:
        """Count its numbers, for a constant of a shape."""
        if self.rank == 0:
            return math.prod(shape)
        return self.rank * (shape[0] + math.prod(shape[1:])) if shape else 0

    def change(self, shape: tuple[int, ...], numbers: Float16) -> Float32:
        """Return the change of the constant."""
        exact = numbers.astype(np.float64)
        if self.rank == 0:
            return exact.reshape(shape).astype(np.float32)
        first = self.rank * shape[0]
        a, b = exact[:first].reshape(shape[0], -1), exact[first:].reshape(self.rank, -1)
        return (a @ b).reshape(shape).astype(np.float32)


class Part(BaseModel):
    """The changes of one graph: the SHA-256 of its file, the count of numbers, and their places."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    numbers: int = Field(ge=1, le=MAX_ADAPTER)
    places: list[Place] = Field(max_length=MAX_PLACES)


class Facts(BaseModel):
    """Facts of a side: the adapter, the model, and the changes of graphs by their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=NAME_PATTERN)
    stream_id: str = Field(pattern=r"^[0-9a-f]{8}$")
    graphs: dict[Annotated[str, Field(pattern=NAME_PATTERN)], Part] = Field(max_length=64)


@dataclass(frozen=True, eq=False)
class Side:
    """One half of an adapter: its facts, and float16 numbers, graph after graph."""

    facts: Facts
    numbers: Float16

    def to_bytes(self) -> bytes:
        """Return the bytes that `read` reads."""
        text = self.facts.model_dump_json().encode()
        return _LENGTH.pack(len(text)) + text + self.numbers.astype(_HALF).tobytes()

    @classmethod
    def read(cls, data: bytes) -> Side:
        """Read the bytes of `to_bytes`.

        Raises
        ------
        ValueError
            When they are damaged.
        """
        text, numbers = _split(data)
        facts = Facts.model_validate_json(text)
        wanted = sum(part.numbers for part in facts.graphs.values())
        if len(numbers) != wanted * _HALF.itemsize:
            raise ValueError(f"{len(numbers)} bytes of numbers instead of {2 * wanted}")
        found = np.frombuffer(numbers, _HALF).astype(np.float16)
        if not np.isfinite(found).all():
            raise ValueError("numbers that are not finite")
        return cls(facts, found)

    def changes(self, graph: str, known: dict[str, Constant]) -> dict[str, Float32]:
        """Return the changes of a graph's constants, which are known by name.

        Raises
        ------
        BadAdapter
            When places and numbers do not fit the graph.
        """
        first, part = 0, self.facts.graphs[graph]
        for name, other in self.facts.graphs.items():
            if name == graph:
                break
            first += other.numbers
        names = [place.constant for place in part.places]
        shapes = [known[name].shape for name in names if name in known]
        fits = len(shapes) == len(names) == len(set(names))
        sizes = [p.size(shape) for p, shape in zip(part.places, shapes, strict=fits)]
        if not fits or sum(sizes) != part.numbers:
            raise BadAdapter(
                f"adapter {self.facts.name!r} does not fit the graph {graph!r}",
                expected=f"{part.numbers} numbers for constants that the graph has",
            )
        changes = {}
        for place, shape, size in zip(part.places, shapes, sizes, strict=True):
            changes[place.constant] = place.change(shape, self.numbers[first : first + size])
            first += size
        return changes


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter: the decoders' side and, if it is for encoding too, the encoder's side."""

    decoders: Side
    encoder: Side | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.decoders.facts.name

    @property
    def stream_id(self) -> str:
        """Id of the streams of its model, 8 hex digits."""
        return self.decoders.facts.stream_id

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of `for_decoding`."""
        return hashlib.sha256(self.for_decoding()).digest()

    @property
    def id(self) -> bytes:
        """Its id in streams: the first 4 bytes of the digest."""
        return self.digest[:ADAPTER_ID_BYTES]

    @property
    def parameters(self) -> int:
        """Count of its numbers."""
        return self.decoders.numbers.size + (self.encoder.numbers.size if self.encoder else 0)

    @property
    def parts(self) -> dict[str, Part]:
        """Its changes of each graph."""
        own = self.encoder.facts.graphs if self.encoder else {}
        return {**own, **self.decoders.facts.graphs}

    def for_decoding(self) -> bytes:
        """Return the file without the encoder's side, as a stream may hold it."""
        side = self.decoders.to_bytes()
        return SIGNATURE + _LENGTH.pack(len(side)) + side

    def to_bytes(self) -> bytes:
        """Return the file."""
        return self.for_decoding() + (self.encoder.to_bytes() if self.encoder else b"")

    def changes(self, graph: str, data: bytes) -> dict[str, Float32]:
        """Return the changes of constants of a graph, from its name and the bytes of its file."""
        side = self.encoder if graph == ENCODER else self.decoders
        if side is None or graph not in side.facts.graphs:
            return {}
        return side.changes(graph, constants(data))


def parse(data: bytes, what: str) -> Adapter:
    """Read an adapter; it is not checked whether it fits a model.

    Parameters
    ----------
    data : bytes of the file
    what : such as its path, for messages

    Raises
    ------
    BadAdapter
        When it is damaged, or larger than an adapter may be.
    """
    if len(data) > MAX_ADAPTER:
        raise BadAdapter(f"{what} has {len(data)} bytes", expected=f"at most {MAX_ADAPTER}")
    try:
        if data[: len(SIGNATURE)] != SIGNATURE:
            raise ValueError("it does not begin with TLA and version 1")
        first, second = _split(data[len(SIGNATURE) :])
        adapter = Adapter(Side.read(first), Side.read(second) if second else None)
        _check(adapter)
    except (ValueError, RecursionError) as error:  # pydantic's are ValueErrors too
        reason = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            one = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
        raise BadAdapter(f"{what} is not an adapter ({reason})", remedy="get it again") from error
    return adapter


def _check(adapter: Adapter) -> None:
    own = adapter.encoder.facts if adapter.encoder else None
    if ENCODER in adapter.decoders.facts.graphs or (own and list(own.graphs) != [ENCODER]):
        raise ValueError("a graph on the wrong side")
    if own and (own.name, own.stream_id) != (adapter.name, adapter.stream_id):
        raise ValueError("two sides of different adapters")


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Split bytes into a part whose length comes first, and the rest."""
    if len(data) < _LENGTH.size:
        raise ValueError("it is cut short")
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    if end > len(data):
        raise ValueError("it is cut short")
    return data[_LENGTH.size : end], data[end:]

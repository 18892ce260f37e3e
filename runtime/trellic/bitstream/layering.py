"""The order of the passes of a layered stream, and how many of them a file still has.

Specification: ``docs/format.md``, sections 3 and 8.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from trellic.bitstream.fields import Cursor
from trellic.errors import BadParameter, CorruptStream
from trellic.errors import UnsupportedVersion as Unsupported

MAX_LAYERS = 4
MAX_PASSES = 256
MAX_LOG2_PARTS = 3
MIN_QUALITY16 = 16
_QUALITY_BYTES = 2
_INTERVALS = 0x10
_KNOWN_BITS = 5


@dataclass(frozen=True)
class Layering:
    """The passes of a layered stream: layer by layer, step by step, part by part.

    Layers that narrow intervals go through the steps twice, but for the lowest.

    Parameters
    ----------
    below : tuple of int
        Qualities of the layers below the last one, in sixteenths, rising; the last layer has the
        quality of the header.
    parts : int
        Number of parts that each context step is split into: 1, 2, 4 or 8.
    kept : int
        Number of first passes that the file has; before it was cut, it had all.
    intervals : bool
        Layers narrow the intervals that latents lie in. In files from before, predictions are
        weighed with the values of the layer below.

    Raises
    ------
    BadParameter
        When one is outside its range.
    """

    below: tuple[int, ...] = ()
    parts: int = 1
    kept: int = 1
    intervals: bool = False

    def __post_init__(self) -> None:
        if self.layers > MAX_LAYERS:
            raise BadParameter(f"{self.layers} layers", expected=f"at most {MAX_LAYERS}")
        rising = all(a < b for a, b in zip(self.below, self.below[1:], strict=False))
        if not rising or any(quality < MIN_QUALITY16 for quality in self.below):
            raise BadParameter(
                f"layers of qualities {self.below} (in sixteenths)",
                expected=f"rising from {MIN_QUALITY16}",
            )
        if self.parts not in [1 << n for n in range(MAX_LOG2_PARTS + 1)]:
            raise BadParameter(f"{self.parts} parts of a step", expected="1, 2, 4 or 8")

    @property
    def layers(self) -> int:
        """Layers of the stream, cut or not."""
        return 1 + len(self.below)

    def passes(self, steps: int, layers: int | None = None) -> int:
        """Count the passes of the first layers of the whole stream, before it was cut; of all."""
        layers = self.layers if layers is None else layers
        turns = max(2 * layers - 1, 0) if self.intervals else layers
        return turns * steps * self.parts

    def of(self, number: int, steps: int) -> tuple[int, int, int]:
        """Layer, step and part of a pass, all from 0."""
        rest, part = divmod(number, self.parts)
        layer, step = divmod(rest, steps)
        return (layer + 1) // 2 if self.intervals else layer, step, part

    def ends(self, steps: int) -> Iterator[int]:
        """Count the passes after each layer, up to those that are kept."""
        for layer in range(1, self.layers + 1):
            passes = self.passes(steps, layer)
            if passes <= self.kept:
                yield passes

    def cut(self, kept: int) -> Layering:
        """Return the same with fewer passes."""
        return replace(self, kept=kept)

    def check(self, quality16: int, steps: int) -> None:
        """Check against the rest of a header.

        Raises
        ------
        BadParameter
            When a layer is as good as the last one, or more passes are kept than there are.
        """
        if self.below and self.below[-1] >= quality16:
            raise BadParameter(
                f"a layer of quality {self.below[-1]} (in sixteenths)",
                expected=f"below {quality16}, that of the last",
            )
        passes = self.passes(steps)
        if passes > MAX_PASSES:
            raise BadParameter(f"layers of {passes} passes", expected=f"at most {MAX_PASSES}")
        if not 1 <= self.kept <= passes:
            raise BadParameter(f"{self.kept} passes", expected=f"1 to {passes}")


def pack_layering(layering: Layering) -> bytes:
    """Return the bytes of a header's layering."""
    first = len(layering.below) | (layering.parts.bit_length() - 1) << 2
    first |= _INTERVALS if layering.intervals else 0
    qualities = (quality.to_bytes(_QUALITY_BYTES, "little") for quality in layering.below)
    return bytes([first, layering.kept - 1]) + b"".join(qualities)


def read_layering(cursor: Cursor) -> Layering:
    """Read back what `pack_layering` made.

    Raises
    ------
    UnsupportedVersion, TruncatedStream, CorruptStream
    """
    first, kept = cursor.take(2, "layers")
    if first >> _KNOWN_BITS:
        unknown = first >> _KNOWN_BITS << _KNOWN_BITS
        raise Unsupported(f"layers with the unknown bits {unknown:#04x}", remedy="update Trellic")
    below = tuple(
        int.from_bytes(cursor.take(_QUALITY_BYTES, "layers"), "little") for _ in range(first & 3)
    )
    try:
        return Layering(below, 1 << (first >> 2 & 3), 1 + kept, bool(first & _INTERVALS))
    except BadParameter as error:
        raise CorruptStream(f"the header extension names {error}") from None

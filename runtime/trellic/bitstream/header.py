"""The header of a stream, and the geometry that follows from it.

Specification: ``docs/format.md``, section 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trellic.bitstream.layering import Layering
from trellic.constants import MAX_LANES, MAX_SEED, MAX_SIDE, TRELLIS_STATES
from trellic.errors import BadParameter
from trellic.geometry import (
    DEFAULT_SLICE_SIDE,
    MAX_SLICE_SIDE,
    MIN_SLICE_SIDE,
    SIDE_MULTIPLE,
    Rectangle,
    blocks,
    slice_counts,
)
from trellic.limits import ADAPTER_ID_BYTES

MIN_QUALITY16, MAX_QUALITY16 = 16, 1600  # sixteenths
MAX_STEPS = 8
STREAM_ID_BYTES = 4


@dataclass(frozen=True)
class Header:
    """The header of a stream, without the lengths of its parts.

    Parameters
    ----------
    width, height : int
        Pixels, 1 to 65535.
    quality16 : int
        Quality in sixteenths, 16 to 1600.
    trellis : int
        States of the trellis, one of 0 (scalar), 4, 8, 16, 32, 64, 128, 256.
    steps : int
        Context steps, 1 to 8.
    stream_id : bytes
        4 bytes that name the model.
    lanes : tuple of int
        rANS lanes of each slice, in slice order; powers of two up to 1024.
    grey : bool
        The picture has one channel.
    slice_side : int
        Blocks of 16 pixels (latents, where the model's stride is 16), a multiple of 4 from 16
        to 1020.
    dither : int, optional
        Seed of dithered quantization, 0 to 2**32 - 1; only of a scalar stream.
    still : bool
        The lattice of the latents stands still; only of a scalar stream without dither and layers.
    layering : Layering, optional
        The passes of a layered stream; not of a dithered one.
    bare : bool
        There are no latents: patches cover the picture. One context step; without dither, layers,
        adapter and a still lattice.
    adapter : bytes, optional
        4 bytes that name the adapter that the picture was encoded with.

    Raises
    ------
    BadParameter
        When a value is outside its range, or there is not one lane count for each slice.
    """

    width: int
    height: int
    quality16: int
    trellis: int
    steps: int
    stream_id: bytes
    lanes: tuple[int, ...] = field(repr=False)
    grey: bool = False
    slice_side: int = DEFAULT_SLICE_SIDE
    dither: int | None = None
    layering: Layering | None = None
    adapter: bytes | None = None
    still: bool = False
    bare: bool = False

    def __post_init__(self) -> None:
        check_side(self.width, "width")
        check_side(self.height, "height")
        _check_range(self.quality16, MIN_QUALITY16, MAX_QUALITY16, "quality in sixteenths")
        _check_range(self.steps, 1, MAX_STEPS, "number of context steps")
        _check_range(self.slice_side, MIN_SLICE_SIDE, MAX_SLICE_SIDE, "slice side in blocks")
        if self.slice_side % SIDE_MULTIPLE:
            raise BadParameter(
                f"slice side {self.slice_side}", expected=f"a multiple of {SIDE_MULTIPLE}"
            )
        if self.trellis not in TRELLIS_STATES:
            raise BadParameter(f"trellis of {self.trellis} states", expected=f"{TRELLIS_STATES}")
        self._check_lattice()
        self._check_bare()
        _check_id(self.stream_id, STREAM_ID_BYTES, "stream id")
        if self.adapter is not None:
            _check_id(self.adapter, ADAPTER_ID_BYTES, "adapter id")
        if len(self.lanes) != self.slices:
            raise BadParameter(f"{len(self.lanes)} lane counts", expected=f"{self.slices}, a slice")
        if not all(1 <= n <= MAX_LANES and n & (n - 1) == 0 for n in set(self.lanes)):
            raise BadParameter(
                f"lane counts {sorted(set(self.lanes))}", expected=f"powers of two to {MAX_LANES}"
            )

    def _check_lattice(self) -> None:
        if self.dither is not None:
            _check_range(self.dither, 0, MAX_SEED, "seed of dither")
            if self.trellis:
                raise BadParameter(f"dither with {self.trellis} states", expected="trellis 0")
        if self.layering is not None:
            self.layering.check(self.quality16, self.steps)
            if self.dither is not None:
                raise BadParameter("layers with dither", expected="one of the two")
            if self.layering.intervals and self.trellis:
                raise BadParameter(
                    f"trellis of {self.trellis} states with intervals", expected="none"
                )
        if self.still and (self.trellis or self.dither is not None or self.layering is not None):
            raise BadParameter(
                "still lattice with a trellis, dither or layers", expected="trellis 0 alone"
            )

    def _check_bare(self) -> None:
        others = self.dither, self.layering, self.adapter, self.still or None
        if self.bare and (self.steps > 1 or set(self.lanes) != {1} or set(others) != {None}):
            raise BadParameter(
                "patches alone with more than one step or lane, or with what concerns latents",
                expected="1 step, 1 lane a slice, no dither, layers, adapter and still lattice",
            )

    @property
    def quality(self) -> float:
        """Quality, 1 to 100."""
        return self.quality16 / 16

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return blocks(self.width, self.height)

    @property
    def slice_counts(self) -> tuple[int, int]:
        """Rows and columns of slices."""
        return slice_counts(*self.blocks, self.slice_side)

    @property
    def slices(self) -> int:
        """Number of slices."""
        rows, columns = self.slice_counts
        return rows * columns

    @property
    def passes(self) -> int:
        """Passes over the picture in the file: context steps, or the kept passes of layers."""
        return self.steps if self.layering is None else self.layering.kept

    @property
    def segments(self) -> int:
        """Number of segments: z, then one for each pass and slice."""
        return 1 + self.passes * self.slices

    @property
    def cuttable(self) -> bool:
        """Whether a file may be cut after a pass; each latent is then around its mean."""
        return self.dither is None and not self.still and not self.bare

    @property
    def needs_latents(self) -> bool:
        """Whether it says something of latents that patches alone would not keep."""
        return self.dither is not None or self.still or self.layering is not None

    def segment_index(self, number: int, slice_: int) -> int:
        """Index in the file of the segment of a pass (or context step) and slice, from 0."""
        return 1 + number * self.slices + slice_

    def slices_touching(self, region: Rectangle) -> list[int]:
        """Return the slices that share a block with `region`, in slice order.

        Parameters
        ----------
        region : Rectangle
            In blocks; parts outside the picture are ignored.
        """
        rows, columns = self.blocks
        top, left = max(region.top, 0), max(region.left, 0)
        bottom, right = min(region.bottom, rows), min(region.right, columns)
        if top >= bottom or left >= right:
            return []
        side, across = self.slice_side, self.slice_counts[1]
        return [
            row * across + column
            for row in range(top // side, (bottom - 1) // side + 1)
            for column in range(left // side, (right - 1) // side + 1)
        ]


def check_side(value: int, name: str) -> None:
    """Raise `BadParameter` unless `value` can be a picture's width or height."""
    _check_range(value, 1, MAX_SIDE, f"{name} in pixels")


def _check_id(value: bytes, length: int, what: str) -> None:
    if len(value) != length:
        raise BadParameter(f"{what} of {len(value)} bytes", expected=f"{length} bytes")


def _check_range(value: int, low: int, high: int, what: str) -> None:
    if not low <= value <= high:
        raise BadParameter(f"{what} of {value}", expected=f"{low} to {high}")

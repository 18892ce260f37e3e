"""Rectangles, planes and slices: of pixels, latents or hyper-latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Window = tuple[slice, slice, slice]  # of a plane (channels, rows, columns)
STRIDE: Final = 16  # pixels per latent, each way, of a model that does not say otherwise
CELL: Final = 4  # latents per hyper-latent, each way, of such a model
BLOCK = 16  # pixels a side, the unit of slices, whatever the model's strides
SIDE_MULTIPLE: Final = 4  # blocks: a slice holds whole hyper-latents of any model
MIN_SLICE_SIDE, MAX_SLICE_SIDE = 16, 1020  # blocks, multiples of SIDE_MULTIPLE
DEFAULT_SLICE_SIDE = 64  # blocks; of a file that does not say otherwise
BARE_SLICE_SIDE: Final = 128  # blocks of a slice without latents: 2048 pixels
MOST_CHOSEN: Final = 80  # blocks: encoders choose no larger side, so that slices need little memory


@dataclass(frozen=True)
class Rectangle:
    """A rectangle, ends excluded: ``plane[top:bottom, left:right]``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """Number of positions inside."""
        return self.shape[0] * self.shape[1]

    def within(self, other: Rectangle) -> Rectangle:
        """Return the common part; if there is none, its area has no meaning."""
        return Rectangle(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )

    def grown(self, by: int) -> Rectangle:
        """Return the rectangle with a margin on all sides."""
        return Rectangle(self.top - by, self.bottom + by, self.left - by, self.right + by)

    def finer(self, by: int) -> Rectangle:
        """Return the same rectangle in units ``by`` times as small: pixels of latents."""
        return Rectangle(by * self.top, by * self.bottom, by * self.left, by * self.right)

    def coarser(self, by: int) -> Rectangle:
        """Return the least rectangle around it in units ``by`` times as large."""
        return Rectangle(
            self.top // by, -(-self.bottom // by), self.left // by, -(-self.right // by)
        )

    def index(self, origin: Rectangle | None = None) -> tuple[slice, slice]:
        """Return its indices in a plane, or in the part of a plane that ``origin`` is."""
        top, left = (origin.top, origin.left) if origin else (0, 0)
        return (
            slice(self.top - top, self.bottom - top),
            slice(self.left - left, self.right - left),
        )


@dataclass(frozen=True)
class Plane:
    """Latent planes of one picture.

    Attributes
    ----------
    width, height : of the picture, in pixels
    stride : pixels per latent, each way
    cell : latents per hyper-latent, each way
    """

    width: int
    height: int
    stride: int = STRIDE
    cell: int = CELL

    @property
    def hyper_stride(self) -> int:
        """Pixels per hyper-latent, each way; pictures are padded to multiples of this."""
        return self.stride * self.cell

    @property
    def block(self) -> int:
        """Latents in the side of a block, in which a file counts its slices."""
        return BLOCK // self.stride

    @property
    def slice_side(self) -> int:
        """Latents in the side of a slice, as encoders choose it."""
        return choose_slice_side(self.width, self.height) * self.block

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width in pixels after padding."""
        return _up(self.height, self.hyper_stride), _up(self.width, self.hyper_stride)

    @property
    def latents(self) -> tuple[int, int]:
        """Rows and columns of the latent plane."""
        height, width = self.padded
        return height // self.stride, width // self.stride

    @property
    def hyper(self) -> tuple[int, int]:
        """Rows and columns of the hyper-latent plane."""
        height, width = self.padded
        return height // self.hyper_stride, width // self.hyper_stride

    @property
    def coded(self) -> tuple[int, int]:
        """Rows and columns of latents that touch the picture; those beyond are not coded."""
        return -(-self.height // self.stride), -(-self.width // self.stride)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def blocks(width: int, height: int) -> tuple[int, int]:
    """Return the rows and columns of blocks of a picture."""
    return -(-height // BLOCK), -(-width // BLOCK)


def slice_counts(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Return how many slices of `side` a plane has, down and across."""
    return -(-rows // side), -(-columns // side)


def choose_slice_side(width: int, height: int) -> int:
    """Return the side of the slices, in blocks, that encoders give a picture of this size.

    It is the default, or else the least side that leaves no thin strip: no last row or column of
    slices, beside others, that is narrower than the smallest slice. Where no side up to
    `MOST_CHOSEN` does that for rows and columns at once, it is the default.

    Examples
    --------
    >>> 16 * choose_slice_side(1600, 1200), 16 * choose_slice_side(1920, 1080)
    (1216, 1088)
    """
    for side in range(DEFAULT_SLICE_SIDE, MOST_CHOSEN + 1, SIDE_MULTIPLE):
        ends = [length % side for length in blocks(width, height) if length > side]
        if not any(0 < end < MIN_SLICE_SIDE for end in ends):
            return side
    return DEFAULT_SLICE_SIDE


def slice_grid(rows: int, columns: int, side: int = DEFAULT_SLICE_SIDE) -> list[Rectangle]:
    """Return the rectangle of each slice of a plane, in slice (raster) order."""
    return [
        Rectangle(top, min(top + side, rows), left, min(left + side, columns))
        for top in range(0, rows, side)
        for left in range(0, columns, side)
    ]

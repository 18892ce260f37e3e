"""Rectangles of pixels, latents or hyper-latents."""

from __future__ import annotations

from dataclasses import dataclass


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
        """How many of whatever it is a rectangle of."""
        return self.shape[0] * self.shape[1]

    def within(self, other: Rectangle) -> Rectangle:
        """Return what both share; where they do not meet, its area is of no use."""
        return Rectangle(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )

    def grown(self, by: int) -> Rectangle:
        """Return it with a margin all round."""
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
        """Return where it lies in a plane, or in the part of one that ``origin`` is."""
        top, left = (origin.top, origin.left) if origin else (0, 0)
        return (
            slice(self.top - top, self.bottom - top),
            slice(self.left - left, self.right - left),
        )

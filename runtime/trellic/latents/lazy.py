"""The latents of a stream, decoded slice by slice as a decoder network asks for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Header
from trellic.geometry import Plane, Rectangle, Window, slice_grid
from trellic.support.clock import Clock

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


class LazyLatents:
    """Windows of a plane of latents, gains divided out.

    The windows must be requested row by row, or column by column. Slices that end before a window
    are dropped, so that a large picture never has more than a few rows of them in memory.

    Parameters
    ----------
    header : of the stream
    plane : of its picture
    decode : a slice's latents, (channels or more, rows, columns) in 1/32 step; called once for each
    unit : float32 (channels, 1, 1), what 1/32 step is worth
    by_rows : whether windows come row by row
    clock : told when a stage ends, "latents" or "g_s"
    """

    def __init__(
        self,
        header: Header,
        plane: Plane,
        decode: Callable[[int], Int32],
        unit: Float32,
        *,
        by_rows: bool,
        clock: Clock,
    ) -> None:
        self._header, self._plane, self._decode, self._unit = header, plane, decode, unit
        self._by_rows, self._clock = by_rows, clock
        self._grid = slice_grid(*plane.latents, header.slice_side * plane.block)
        self._held: dict[int, Int32] = {}

    def __getitem__(self, window: Window) -> Float32:
        """Return a window, float32 (channels, rows, columns)."""
        self._clock.mark("g_s")
        _, rows, columns = window
        wanted = Rectangle(rows.start, rows.stop, columns.start, columns.stop)
        self._forget_before(wanted)
        out = np.empty((len(self._unit), *wanted.shape), np.float32)
        for i in self._header.slices_touching(wanted.coarser(self._plane.block)):
            if i not in self._held:
                self._held[i] = self._decode(i)[: len(self._unit)]
            shared = self._grid[i].within(wanted)
            v32 = self._held[i][(slice(None), *shared.index(self._grid[i]))]
            to = out[(slice(None), *shared.index(wanted))]
            np.multiply(v32, self._unit, out=to, dtype=np.float32)  # float32 holds latents exactly
        self._clock.mark("latents")
        return out

    def _forget_before(self, wanted: Rectangle) -> None:
        for i in list(self._held):
            part = self._grid[i]
            past = part.bottom <= wanted.top if self._by_rows else part.right <= wanted.left
            if past:
                del self._held[i]

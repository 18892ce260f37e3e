"""A slice in layers each of which narrows the intervals that latents lie in.

The lowest layer's symbols name cells around the means, with a dead zone. Later layers divide them:
see `trellic.latents.intervals`. (Specification: ``docs/format.md``, section 8.4.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.entropy.tables import Tables
from trellic.latents.intervals import Division, carried, skipped, zone, zone_index
from trellic.latents.layered import LayeredSlice, Pass, of_pass
from trellic.latents.quantizer import Quantizer
from trellic.limits import TARGET_LIMIT
from trellic.model.channels import Step

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]


class IntervalSlice(LayeredSlice):
    """One slice of a picture whose layers narrow intervals; parameters are those of the parent."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        shape = self._context.v32.shape
        self._low, self._high = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._index = np.zeros(shape, np.int64)  # scale indices, of steps that have begun

    def choose(
        self, coded: Pass, y32: Int64, quantizer: Quantizer, lanes: int, tables: Tables
    ) -> entropy.Segment | entropy.Divided:
        """Find the cells that latents lie in, add them, and return their symbols.

        A search takes the part that costs least. Of the quantizer only the mode is used.
        """
        target = of_pass(y32, coded)
        if self._layer == 0:
            t32 = np.clip(target - coded.mean32, -TARGET_LIMIT, TARGET_LIMIT).astype(np.int32)
            k = zone_index(t32)
            self._put(coded, *zone(k, coded.mean32))
            return entropy.Segment(k, coded.scale_index.astype(np.uint16))
        division = self._division(coded)
        search = quantizer.mode == "search"
        k = division.cheapest(target) if search else division.find(target)
        self._narrow(coded, division, k)
        return entropy.Divided(k, division.cumulative())

    def read(
        self, coded: Pass, segment: bytes, decoder: entropy.Decoder, states: int, tables: Tables
    ) -> None:
        """Decode the cells of a pass and add them; there is no trellis."""
        if self._layer == 0:
            k = decoder.scalar(segment, coded.scale_index)
            self._put(coded, *zone(k, coded.mean32))
        else:
            division = self._division(coded)
            self._narrow(coded, division, decoder.divided(segment, division.cumulative()))

    # ---- layers and steps ----

    def _carry(self, before: Int64, after: Int64) -> None:
        self._low, self._high = carried(self._low, self._high, before, after)

    def _turns(self) -> Sequence[int]:
        return (2, 1) if self._layer else (1,)

    def _expect(self, k: int, step: Step) -> None:
        """Set latents to what the networks, and their intervals, say of them."""
        self._predict(k, step)

    def _predict(self, k: int, step: Step) -> tuple[Int32, Int32, Uint8]:
        own, mask = slice(step.first, step.last), self._mask(k, step)
        v32, low, high = self._context.v32[own], self._low[own], self._high[own]
        if self._layer == 0:
            predicted = self._predictor.predict(k, self._context)
            low[mask], high[mask] = skipped(v32[mask])
            self._index[own].reshape(-1)[predicted.position] = predicted.scale_index
            return predicted
        mean32, index = (of[mask] for of in self._outputs(k, step))
        scales = self._predictor.layout.scales
        division = Division(low[mask], high[mask], mean32, index, scales)
        v32[mask], self._index[own][mask] = division.values(), index
        spread = division.spreads()
        coded = (spread >= self._predictor.layout.skip_index) & (division.parts > 1)
        coded &= np.broadcast_to(self._inside(), mask.shape)[mask]
        self._predictor.clock.mark("networks")
        return (
            np.flatnonzero(mask)[coded].astype(np.int32),
            mean32[coded].astype(np.int32),
            spread[coded].astype(np.uint8),
        )

    # ---- passes ----

    def _division(self, coded: Pass) -> Division:
        return self._divided(coded, of_pass(self._low, coded), of_pass(self._high, coded))

    def _divided(self, coded: Pass, low: Int64, high: Int64) -> Division:
        mean32, scales = coded.mean32.astype(np.int64), self._predictor.layout.scales
        return Division(low, high, mean32, of_pass(self._index, coded), scales)

    def _narrow(self, coded: Pass, division: Division, k: Int32) -> None:
        self._put(coded, *division.part(k))

    def _put(self, coded: Pass, low: Int64, high: Int64) -> None:
        """Set the intervals of a pass, and its latents to the law's mean in them."""
        own, at = slice(coded.step.first, coded.step.last), coded.position
        self._low[own].reshape(-1)[at], self._high[own].reshape(-1)[at] = low, high
        self._context.v32[own].reshape(-1)[at] = self._divided(coded, low, high).values()

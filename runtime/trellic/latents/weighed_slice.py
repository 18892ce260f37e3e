"""A slice in layers whose predictions are weighed with the values of the layer below.

No file is written with such layers any more. Both count as Gaussian: see
`trellic.latents.refine`.
(Specification: ``docs/format.md``, section 8.2.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.entropy.tables import Tables
from trellic.latents.decoder import decode_symbols
from trellic.latents.layered import LayeredSlice, Pass, of_pass
from trellic.latents.quantizer import Quantizer, quantize
from trellic.latents.refine import Known, carried, informed, learned
from trellic.limits import TARGET_LIMIT
from trellic.model.channels import Step

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]


class WeighedSlice(LayeredSlice):
    """One slice of a picture in layers that are weighed; parameters are those of the parent."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._below = np.zeros(self._context.v32.shape, np.int64)  # latents of the layer below
        self._variance = np.zeros(self._context.v32.shape, np.int64)

    def choose(
        self, coded: Pass, y32: Int64, quantizer: Quantizer, lanes: int, tables: Tables
    ) -> entropy.Segment:
        """Quantize the latents of a pass by the search, add them, and return their symbols."""
        target = of_pass(y32, coded)
        t32 = np.clip(target - coded.mean32, -TARGET_LIMIT, TARGET_LIMIT).astype(np.int32)
        index = coded.scale_index
        symbols = quantize(t32, index, lanes, quantizer, tables, None, coded.mean32)
        self._add(coded, symbols.k, symbols.recon32)
        table = symbols.cls.astype(np.uint16) * self._predictor.layout.scales + index
        return entropy.Segment(symbols.k, table)

    def read(
        self, coded: Pass, segment: bytes, decoder: entropy.Decoder, states: int, tables: Tables
    ) -> None:
        """Decode the latents of a pass and add them."""
        self._add(coded, *decode_symbols(decoder, segment, coded.scale_index, states, tables))

    def _add(self, coded: Pass, k: Int32, recon32: Int32) -> None:
        own = slice(coded.step.first, coded.step.last)
        self._context.v32[own].reshape(-1)[coded.position] = coded.mean32 + recon32
        self._variance[own].reshape(-1)[coded.position] = learned(k)

    def _carry(self, before: Int64, after: Int64) -> None:
        known = Known(self._context.v32.astype(np.int64), self._variance)
        self._below, variance = carried(known, before, after)
        self._variance = variance.copy()

    def _expect(self, k: int, step: Step) -> None:
        """Set latents to those of the layer below, in the lowest layer to their means."""
        if self._layer == 0:
            self._predictor.predict(k, self._context)
        else:
            own, mask = slice(step.first, step.last), self._mask(k, step)
            self._context.v32[own][mask] = self._below[own][mask]

    def _predict(self, k: int, step: Step) -> tuple[Int32, Int32, Uint8]:
        if self._layer == 0:
            return self._predictor.predict(k, self._context)
        own, layout = slice(step.first, step.last), self._predictor.layout
        known = Known(self._below, self._variance).window(step.first, step.last)
        mean32, finer = informed(*self._outputs(k, step), known, layout.scales)
        mask = self._mask(k, step)
        coded = mask & (finer >= layout.skip_index) & self._inside()
        v32 = self._context.v32[own]
        v32[mask] = np.where(coded, known.v32, mean32)[mask]
        self._predictor.clock.mark("networks")
        return (
            np.flatnonzero(coded).astype(np.int32),
            mean32[coded].astype(np.int32),
            finer[coded].astype(np.uint8),
        )

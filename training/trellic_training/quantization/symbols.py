"""Symbols that the quantizers emitted, collected to fit tables to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import DitherTables, Tables
from trellic_training.quantization.fit import refit
from trellic_training.quantization.fit_dither import refit_dither


class Collector:
    """Symbols of many segments, as `refit` takes them."""

    def __init__(self) -> None:
        self.parts: list[tuple[npt.NDArray[np.generic], ...]] = []

    def __call__(self, *part: npt.NDArray[np.generic]) -> None:
        """Take (t32, scale_index, k, class) of one segment."""
        self.parts.append(part)

    def refit(self, tables: Tables, prior: Tables) -> Tables:
        """Tables fitted to everything collected."""
        if not self.parts:
            return tables
        t32, index, k, cls = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        return refit(
            tables,
            prior,
            t32.astype(np.int32),
            index.astype(np.uint8),
            k.astype(np.int32),
            cls.astype(np.uint8),
        )

    def refit_dither(self, prior: DitherTables) -> DitherTables:
        """Tables of dithered streams, fitted to everything collected."""
        if not self.parts:
            return prior
        t32, index = (np.concatenate([part[i] for part in self.parts]) for i in (0, 1))
        return refit_dither(prior, t32.astype(np.int32), index.astype(np.uint8))

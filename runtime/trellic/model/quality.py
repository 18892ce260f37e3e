"""From the quality in the header to the integers that scale latents, means and scales.

All tables are integers of the bundle, interpolated in integers (docs/format.md, "Level").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trellic.constants import TRELLIS_STATES
from trellic.errors import BadBundle

Int64 = npt.NDArray[np.int64]

GAIN_BITS = 12  # gains are in 2**-12 steps per unit of a latent
LEVEL_CENTRE = 50  # quality that the entropy networks see as 0
BUCKET_SIZE = 100  # 1/16 qualities in one bucket of hyper-latent tables
DITHER_CODE = len(TRELLIS_STATES)  # of `level_offset`


@dataclass(frozen=True)
class Level:
    """Integers of one level (one effective quality).

    Attributes
    ----------
    quality : float, as float transforms that see the quality get it
    gain : int64 (C,), in 2**-12 steps per unit of a latent
    scale_shift : int64 (C,), in 1/128 scale index
    context_scale : int64 (C,), 1/32 steps to context activations, in 2**-16
    plane : int, the constant input of the hyper-synthesis, in [-127, 127]
    hyper_mean, hyper_index, hyper_scale : int64 (Cz,), tables of the bucket
    """

    quality: float
    gain: Int64
    scale_shift: Int64
    context_scale: Int64
    plane: int
    hyper_mean: Int64
    hyper_index: Int64
    hyper_scale: Int64

    @cached_property
    def gain_float(self) -> npt.NDArray[np.float32]:
        """Steps per unit of a latent, float32 (C,)."""
        return (self.gain / 2.0**GAIN_BITS).astype(np.float32)

    @cached_property
    def unit_float(self) -> npt.NDArray[np.float32]:
        """Latents before their gains of 1/32 step, as decoders take them, float32 (C,)."""
        return np.float32(128) / self.gain.astype(np.float32)

    @cached_property
    def hyper_gain_float(self) -> npt.NDArray[np.float32]:
        """Steps per unit of a hyper-latent, float32 (Cz,); only the encoder needs it."""
        return (2.0**20 / self.hyper_scale).astype(np.float32)


@dataclass(frozen=True)
class LevelTables:
    """Integer tables over quality.

    Attributes
    ----------
    first_level : int, quality of the first row
    level_offset : int16 (8,), 1/16 quality added for each trellis code; (9,) if a model has tables
        for dither, whose offset is the last
    gain : int32 (levels, C), positive; scale_shift : int32 (levels, C)
    context_gain : int32 (C,), positive, in 2**-12
    hyper_mean : int32 (16, Cz); hyper_index : uint8 (16, Cz); hyper_scale : int32 (16, Cz), > 0
    """

    first_level: int
    level_offset: npt.NDArray[np.int16]
    gain: npt.NDArray[np.int32]
    scale_shift: npt.NDArray[np.int32]
    context_gain: npt.NDArray[np.int32]
    hyper_mean: npt.NDArray[np.int32]
    hyper_index: npt.NDArray[np.uint8]
    hyper_scale: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        latents, hyper = self.gain.shape[1:], self.hyper_mean.shape[1:]
        sizes = {name: table.size for name, table in vars(self).items() if name != "first_level"}
        if 0 in sizes.values():
            raise BadBundle(f"quality tables of sizes {sizes}", expected="none empty")
        checks = {
            "level_offset": self.level_offset.shape in ((DITHER_CODE,), (DITHER_CODE + 1,)),
            "gain": self.gain.ndim == 2 and len(self.gain) >= 2 and self.gain.min() > 0,
            "scale_shift": self.scale_shift.shape == self.gain.shape,
            "context_gain": self.context_gain.shape == latents and self.context_gain.min() > 0,
            "hyper_mean": self.hyper_mean.shape == (16, *hyper),
            "hyper_index": self.hyper_index.shape == (16, *hyper),
            "hyper_scale": self.hyper_scale.shape == (16, *hyper) and self.hyper_scale.min() > 0,
        }
        for name, good in checks.items():
            if not good:
                raise BadBundle(f"quality table {name!r} has a wrong shape or sign")

    @property
    def has_dither(self) -> bool:
        """Whether there is an offset for dithered streams."""
        return len(self.level_offset) > DITHER_CODE

    def at(self, quality16: int, trellis: int, *, dithered: bool = False) -> Level:
        """Return the integers at a quality (in 1/16) for a trellis of this many states."""
        last = self.first_level + len(self.gain) - 1
        code = DITHER_CODE if dithered else TRELLIS_STATES.index(trellis)
        wanted = quality16 + int(self.level_offset[code])
        level16 = min(max(wanted, 16 * self.first_level), 16 * last)
        gain = self._interpolate(self.gain, level16)
        bucket = min(max((level16 - 8) // BUCKET_SIZE, 0), 15)
        return Level(
            quality=level16 / 16,
            gain=gain,
            scale_shift=self._interpolate(self.scale_shift, level16),
            context_scale=(self.context_gain.astype(np.int64) << 15) // gain,
            plane=min(max(((level16 + 8) >> 4) - LEVEL_CENTRE, -127), 127),
            hyper_mean=self.hyper_mean[bucket].astype(np.int64),
            hyper_index=self.hyper_index[bucket].astype(np.int64),
            hyper_scale=self.hyper_scale[bucket].astype(np.int64),
        )

    def _interpolate(self, table: npt.NDArray[np.int32], level16: int) -> Int64:
        row, part = (level16 >> 4) - self.first_level, level16 & 15
        low = table[row].astype(np.int64)
        high = table[min(row + 1, len(table) - 1)].astype(np.int64)
        value: Int64 = (low * (16 - part) + high * part + 8) >> 4
        return value

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return named arrays for an ``.npz`` file."""
        arrays = {f"levels.{k}": v for k, v in vars(self).items() if k != "first_level"}
        return arrays | {"levels.first_level": np.array([self.first_level], np.int16)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> LevelTables:
        """Read back what `to_arrays` made.

        Raises
        ------
        BadBundle
            When a table is missing or has a wrong shape.
        """
        try:
            return cls(
                first_level=int(arrays["levels.first_level"][0]),
                level_offset=arrays["levels.level_offset"].astype(np.int16),
                gain=arrays["levels.gain"].astype(np.int32),
                scale_shift=arrays["levels.scale_shift"].astype(np.int32),
                context_gain=arrays["levels.context_gain"].astype(np.int32),
                hyper_mean=arrays["levels.hyper_mean"].astype(np.int32),
                hyper_index=arrays["levels.hyper_index"].astype(np.uint8),
                hyper_scale=arrays["levels.hyper_scale"].astype(np.int32),
            )
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise BadBundle(f"quality tables are incomplete ({error})") from error

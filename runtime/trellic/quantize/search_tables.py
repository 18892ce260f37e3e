"""Tables of a bundle in the form of a search, the ranges it needs, and checks of arguments."""

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.errors import BadParameter
from trellic.limits import MAX_INDEX, STEP32
from trellic.quantize.trellis import CLASS_Q1, STATES

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

MAX_LAMBDA: Final = 1 << 12
MAX_OFFSET: Final = 255  # 1/32 step; with MAX_TRELLIS_STEP keeps a branch under 2^25
MAX_TRELLIS_STEP: Final = 255  # 1/32 step

Int32s = npt.NDArray[np.int32]
Uint8s = npt.NDArray[np.uint8]


def escape_rate(excess: int) -> int:
    """Return the 1/64 bits that follow an escape symbol, for ``excess = |k| - half_width - 1``."""
    return 64 * (2 * (excess + 1).bit_length())


class SearchTables(NamedTuple):
    """Tables as a search uses them: int32 arrays, one entry per (class, scale index)."""

    rate: Int32s  # flat; the rate of index k of a table lies at zero + k, escape at zero + K + 1
    zero: Int32s  # (3, S)
    half_width: Int32s  # (3, S), the K of each table
    off: Int32s  # (3, S, 4), in 1/32 step towards zero, by min(|k|, 3)
    max_off: int  # largest magnitude in off
    step: int  # trellis step D in 1/32 step

    @staticmethod
    @functools.lru_cache(maxsize=8)
    def of(tables: "Tables") -> "SearchTables":
        """Arrange the tables of a bundle for a search; kept for the last few tables."""
        width = tables.half_width.astype(np.int32)
        zero = tables.start.reshape(width.shape).astype(np.int32) + width
        off = tables.off.astype(np.int32)
        return SearchTables(
            tables.rates(), zero, width, off, int(np.abs(off).max()), tables.trellis_step
        )


def clamp_limit(states: int, step: int) -> int:
    """Return the largest ``|t32|`` that a search distinguishes; larger values are clamped.

    At the limit an index of either parity and quantizer lies within two trellis steps of `t`, so no
    branch costs enough to overflow a path metric. A latent this large (32767 scalar steps) is
    outside the range of any model.
    """
    return MAX_INDEX * STEP32 if states == 0 else (MAX_INDEX - 1) * 2 * step


def check_scale_index(scale_index: Uint8s, levels: SearchTables) -> None:
    """Raise `BadParameter` for a scale index without a table."""
    seen, scales = int(scale_index.max(initial=0)), levels.half_width.shape[1]
    if seen >= scales:
        raise BadParameter(f"scale index {seen} has no table", expected=f"one of {scales}")


def checked_indices(k: Int32s, cls: Uint8s, scale_index: Uint8s, tables: "Tables") -> SearchTables:
    """Return the arranged tables, or raise `BadParameter` if something cannot be reconstructed."""
    levels = SearchTables.of(tables)
    if k.ndim != 1 or not k.shape == cls.shape == scale_index.shape:
        raise BadParameter(
            f"k {k.shape}, cls {cls.shape}, scale_index {scale_index.shape}", expected="equal rows"
        )
    if int(cls.max(initial=0)) > CLASS_Q1:
        raise BadParameter(f"quantizer {cls.max()}", expected=f"at most {CLASS_Q1}")
    check_scale_index(scale_index, levels)
    return levels


def checked_arguments(
    t32: Int32s, scale_index: Uint8s, lanes: int, states: int, tables: "Tables", lam: int
) -> SearchTables:
    """Return the tables for a search, or raise `BadParameter` for an unusable argument."""
    levels = SearchTables.of(tables)
    check_scale_index(scale_index, levels)
    if t32.ndim != 1 or t32.shape != scale_index.shape:
        raise BadParameter(
            f"t32 {t32.shape} and scale_index {scale_index.shape}", expected="equal rows"
        )
    if t32.dtype != np.int32 or scale_index.dtype != np.uint8:
        raise BadParameter(f"{t32.dtype} and {scale_index.dtype}", expected="int32 and uint8")
    if lanes < 1:
        raise BadParameter(f"{lanes} lanes", expected="at least one")
    if states != 0 and states not in STATES:
        raise BadParameter(
            f"a trellis of {states} states", expected=f"0 (scalar) or one of {STATES}"
        )
    if not 0 <= lam <= MAX_LAMBDA:
        raise BadParameter(f"lam {lam}", expected=f"0 to {MAX_LAMBDA}")
    if not 1 <= levels.step <= MAX_TRELLIS_STEP or levels.max_off > MAX_OFFSET:
        raise BadParameter(
            f"a trellis step of {levels.step} and offsets up to {levels.max_off}",
            expected=f"a step from 1 to {MAX_TRELLIS_STEP}, offsets of at most {MAX_OFFSET}",
        )
    return levels

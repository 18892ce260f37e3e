"""The options of every interface for coding and decoding pictures, checked."""

from __future__ import annotations

from dataclasses import dataclass

from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_PATCHES,
    DEFAULT_QUALITY,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
    MAX_SEED,
    TRELLIS_STATES,
)
from trellic.errors import BadParameter
from trellic.latents.quantizer import Mode, Quantizer
from trellic.model.bundle import Bundle
from trellic.pipeline.exclusions import check_together
from trellic.pipeline.rate_control import to_quality16
from trellic.pipeline.region import Region
from trellic.support.numeric import is_whole


@dataclass(frozen=True)
class EncodeOptions:
    """Options of encoding; `trellic.Codec.encode_picture` explains each one.

    Raises
    ------
    BadParameter
        When one is out of range, or two of them exclude each other.
    """

    quality: float | None = None
    bpp: float | None = None
    max_bytes: int | None = None
    trellis: int = DEFAULT_TRELLIS
    search: str = "trellis"
    strip: bool = False
    max_memory: int | None = None
    dither: int | None = None
    progressive: bool = False
    patches: str = DEFAULT_PATCHES
    steady: bool = False
    refine: bool = False

    def __post_init__(self) -> None:
        targets = (self.quality, self.bpp, self.max_bytes)
        if sum(target is not None for target in targets) > 1:
            raise BadParameter("more than one target", expected="quality, bpp or max_bytes")
        to_quality16(DEFAULT_QUALITY if self.quality is None else self.quality)
        if not is_whole(self.trellis) or self.trellis not in TRELLIS_STATES:
            raise BadParameter(
                f"trellis {self.trellis!r}",
                expected=f"one of {', '.join(map(str, TRELLIS_STATES))}",
            )
        if self.search not in ("trellis", "round"):
            raise BadParameter(f"search {self.search!r}", expected="'trellis' or 'round'")
        if self.patches not in ("auto", "off"):
            raise BadParameter(f"patches {self.patches!r}", expected="'auto' or 'off'")
        check_together(
            trellis=self.trellis,
            search=self.search,
            dither=self.dither,
            progressive=self.progressive,
            steady=self.steady,
        )
        if self.dither is not None:
            self._check_seed(self.dither)

    def _check_seed(self, seed: int) -> None:
        if not is_whole(seed) or not 0 <= seed <= MAX_SEED:
            raise BadParameter(f"dither {seed!r}", expected=f"a seed, 0 to {MAX_SEED}")

    @property
    def settled(self) -> bool:
        """Whether latents are corrected by their own picture."""
        return self.steady or self.refine

    @property
    def quality16(self) -> int:
        """Quality in sixteenths, if no size is requested."""
        return to_quality16(DEFAULT_QUALITY if self.quality is None else self.quality)

    def quantizer(self, bundle: Bundle) -> Quantizer:
        """Return the quantizer of a model.

        Raises
        ------
        BadParameter
            When the model has no tables for dither, which steady files need too.
        """
        if (self.dither is not None or self.steady) and bundle.tables.dither is None:
            raise BadParameter(
                f"model {bundle.manifest.name!r} has no tables for dither",
                remedy="encode without it, or with a model exported since it was added",
            )
        states = 0 if self.steady else self.trellis
        lam = bundle.manifest.search["trellis" if states else "scalar"].lam
        dither = None if self.dither is None else int(self.dither)
        mode: Mode = "round" if self.search == "round" else "search"
        return Quantizer(states, lam, mode, dither, still=self.steady)


@dataclass(frozen=True)
class DecodeOptions:
    """Options of decoding; `trellic.Codec.decode_timed` explains each one.

    Raises
    ------
    BadParameter
        When two of them exclude each other.
    """

    decoder: str = DEFAULT_DECODER
    max_pixels: int = MAX_PIXELS
    region: Region | None = None
    max_memory: int | None = None
    best_effort: bool = False

    def __post_init__(self) -> None:
        if self.best_effort and self.region is not None:
            raise BadParameter("best effort for a region", remedy="decode the whole picture")

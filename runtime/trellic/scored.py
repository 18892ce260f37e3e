"""Encode a picture to a score of what people see, instead of a quality or a size.

It needs the package ``ssimulacra2`` (``pip install 'trellic[score]'``). Each try encodes, decodes
and scores the picture. That takes about three seconds per megapixel, most of it in that package.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from trellic.codec import Codec
from trellic.constants import COLOURS, DEFAULT_PATCHES, DEFAULT_TRELLIS, Patching, Trellis
from trellic.errors import BadParameter, ImageTooLarge, MissingExtra, TargetUnreachable
from trellic.images import Picture
from trellic.pipeline.encoder import prepared
from trellic.pipeline.results import Encoded
from trellic.support.numeric import is_number

Pixels = npt.NDArray[np.uint8]

MAX_SCORED = 1 << 24  # pixels: the package takes about 520 bytes for each
BEST_SCORE = 100.0
SMALLEST = 8  # pixels a side that the measure needs
WITHIN = 1.0  # points by which a score may differ
CLOSE = 0.4  # points that end the search at once
TRIES = 12
LOWEST, HIGHEST = 1.0, 100.0  # qualities
STEP = 1 / 16  # of the quality
SLOPES = 0.1, 10.0  # slopes that the search accepts, in points per quality


@dataclass(frozen=True)
class Scored:
    """A stream, the SSIMULACRA 2 of its decoded picture, and the number of encodes."""

    encoded: Encoded
    score: float
    tries: int


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """SSIMULACRA 2 of a decoded picture: 100 is lossless, 90 can hardly be told apart.

    Parameters
    ----------
    original, decoded : uint8 (H, W, 3) or (H, W), taken as sRGB; sides of 8 pixels at least

    Raises
    ------
    BadParameter
        When a side is too short.
    ImageTooLarge
        Above 16 megapixels: the package would take more than 8 GB.
    MissingExtra
        When the package is not installed.
    """
    _check_size(*original.shape[:2])
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError as error:
        raise MissingExtra.of("ssimulacra2", "score", "a score") from error
    return float(compute_ssimulacra2(_file(original), _file(decoded)))


def encode_scored(
    codec: Codec,
    picture: Picture,
    wanted: float,
    *,
    trellis: Trellis = DEFAULT_TRELLIS,
    strip: bool = False,
    max_memory: int | None = None,
    dither: int | None = None,
    progressive: bool = False,
    patches: Patching = DEFAULT_PATCHES,
    steady: bool = False,
    refine: bool = False,
) -> Scored:
    """Encode with the quality whose decoded picture has a score, within one point.

    The score is that of the decoder ``quality``; alpha and metadata are left out of it. With
    patches, where the score may jump over the wanted one, it is the smallest file that has more.

    Parameters
    ----------
    wanted : SSIMULACRA 2, below 100
    trellis, strip, max_memory, dither, progressive, patches, steady, refine : as of
        `Codec.encode_picture`

    Raises
    ------
    BadParameter, ImageTooLarge, MissingExtra
        When the score is not a number below 100; otherwise as of `ssimulacra2`.
    TargetUnreachable
        When no quality has it, or with patches, none has as much.
    """
    if not (is_number(wanted) and -1000 < wanted < BEST_SCORE):
        raise BadParameter(f"ssimulacra2 {wanted!r}", expected="a number below 100")
    if picture.bands not in (1, COLOURS):
        raise BadParameter(f"a score of {picture.bands} bands", expected="a picture in colour")
    _check_size(picture.height, picture.width)
    original = prepared(picture, strip=strip)[0].pixels
    made: dict[float, Scored] = {}

    def score(quality: float) -> float:
        encoded = codec.encode_picture(
            picture,
            quality=quality,
            trellis=trellis,
            strip=strip,
            max_memory=max_memory,
            dither=dither,
            progressive=progressive,
            patches=patches,
            steady=steady,
            refine=refine,
        )
        decoded = codec.decode_picture(encoded.data, max_pixels=original.size).pixels
        made[quality] = Scored(encoded, ssimulacra2(original, decoded), len(made) + 1)
        return made[quality].score

    found = search(score, float(wanted))
    best = made[found]
    more = [one for one in made.values() if one.score >= wanted]
    if abs(best.score - wanted) > WITHIN and patches != "off" and more:
        best = min(more, key=lambda one: len(one.encoded.data))
    elif abs(best.score - wanted) > WITHIN:
        ends = [made[at].score if at in made else score(at) for at in (LOWEST, HIGHEST)]
        raise TargetUnreachable(
            f"a score of {wanted:g} cannot be met within {WITHIN:g}",
            remedy=f"this picture has {ends[0]:.1f} at quality 1, {ends[1]:.1f} at quality 100",
        )
    return Scored(best.encoded, best.score, len(made))


def search(score: Callable[[float], float], wanted: float) -> float:
    """Return the tried quality, in sixteenths, whose score is nearest.

    The first guess uses the score as the quality. Later ones follow a line through the two nearest
    tries, between those known to be too low and too high.

    Parameters
    ----------
    score : of a quality in [1, 100]; grows with it, except for noise
    """
    tried: dict[float, float] = {}
    low, high = LOWEST, HIGHEST
    guess = _rounded(wanted)
    while guess not in tried and len(tried) < TRIES:
        tried[guess] = score(guess)
        miss = wanted - tried[guess]
        if abs(miss) <= CLOSE:
            break
        low, high = (guess, high) if miss > 0 else (low, guess)
        guess = _rounded(guess + miss / _slope(tried, wanted))
        if guess in tried or not low <= guess <= high:
            guess = _rounded((low + high) / 2)
    return min(tried, key=lambda at: abs(tried[at] - wanted))


def _slope(tried: dict[float, float], wanted: float) -> float:
    """Points per quality, by the two tries that are nearest to a score."""
    if len(tried) == 1:
        return 1.0
    one, two = sorted(tried, key=lambda at: abs(tried[at] - wanted))[:2]
    slope = (tried[two] - tried[one]) / (two - one)
    return min(max(slope, SLOPES[0]), SLOPES[1])


def _rounded(quality: float) -> float:
    return min(max(round(quality / STEP) * STEP, LOWEST), HIGHEST)


def _check_size(height: int, width: int) -> None:
    if min(height, width) < SMALLEST:
        raise BadParameter(
            f"a score of {width}x{height} pixels", expected=f"sides of {SMALLEST} pixels at least"
        )
    if height * width > MAX_SCORED:
        raise ImageTooLarge(
            f"a score of {width}x{height} pixels",
            expected=f"at most {MAX_SCORED >> 20} megapixels",
            remedy="name a quality; its mean score over photos is in docs/quality.md",
        )


def _file(pixels: Pixels) -> io.BytesIO:
    """Return an uncompressed file in memory, because the package reads only files."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    buffer.seek(0)
    return buffer

"""Find the quality at which a codec reaches a given PSNR or size."""

from dataclasses import dataclass

from benchmarks.codecs import Codec, Pixels
from benchmarks.metrics import psnr

STEPS = 14  # halvings of the ladder's range
TOLERANCE = 0.05  # dB: near enough to stop


@dataclass(frozen=True)
class Match:
    """A file that comes near a PSNR."""

    quality: float
    """In the codec's own scale."""
    psnr: float
    data: bytes


def match_psnr(codec: Codec, original: Pixels, target: float) -> Match:
    """Return the file whose PSNR is nearest to a target.

    Bisects between the ends of the codec's ladder, over the logarithm where both are positive, so
    that every scale (quality, distance, bit/pixel) is searched alike. A codec with coarse steps
    may stay further away than 0.05 dB; the result says what was reached.

    Parameters
    ----------
    codec
        Its PSNR must not fall from the first to the last step of its ladder.
    original
        uint8 (H, W, 3).
    target
        PSNR in dB.
    """
    worst, best = float(codec.ladder[0]), float(codec.ladder[-1])
    low, high = 0.0, 1.0
    found: Match | None = None
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = _try(codec, original, _between(worst, best, middle))
        if found is None or abs(tried.psnr - target) < abs(found.psnr - target):
            found = tried
        if abs(tried.psnr - target) <= TOLERANCE:
            break
        low, high = (middle, high) if tried.psnr < target else (low, middle)
    assert found is not None
    return found


def _try(codec: Codec, original: Pixels, quality: float) -> Match:
    data = codec.encode(original, quality)
    return Match(quality, psnr(original, codec.decode(data)), data)


def _between(worst: float, best: float, part: float) -> float:
    if min(worst, best) > 0:
        return float(worst * (best / worst) ** part)
    return worst + (best - worst) * part


def match_size(codec: Codec, original: Pixels, size: int, tolerance: float) -> bytes | None:
    """Return a file that has about this many bytes; None if the codec's steps are too coarse.

    Bisects as `match_psnr` does.

    Parameters
    ----------
    codec
        Its files must not shrink from the first to the last step of its ladder.
    original
        uint8 (H, W, 3).
    size
        Bytes.
    tolerance
        Largest difference, as a share of ``size``.
    """
    worst, best = float(codec.ladder[0]), float(codec.ladder[-1])
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        data = codec.encode(original, _between(worst, best, middle))
        if abs(len(data) - size) <= tolerance * size:
            return data
        low, high = (middle, high) if len(data) < size else (low, middle)
    return None

"""One file, many decoders: what each of them makes of a picture's one .tlc file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from PIL import Image

from benchmarks.bootstrap import mean_interval
from benchmarks.codecs import Pixels
from benchmarks.scores import SCORES
from trellic.codec import Codec
from trellic.errors import TrellicError

BASE = "quality"  # the decoder that the others are compared with
Decode = Callable[[bytes], Pixels]


@dataclass(frozen=True)
class Row:
    """One picture at one quality, made by one decoder."""

    image: str
    quality: float
    decoder: str
    bytes: int
    """Of the whole file, which is the same for all decoders."""
    bytes_needed: int
    """The shortest beginning of the file that decides the picture, by `bytes_needed`."""
    bpp: float
    scale: int
    """The picture comes at 1/scale of the size; it is compared with the original's means."""
    seconds: float
    """Median wall time of decoding, from bytes in memory to pixels."""
    scores: dict[str, float]
    """Those that are defined for a picture of that size, by name."""


@dataclass(frozen=True)
class Difference:
    """By how much a decoder is better than `BASE`, on the mean over pictures at one quality."""

    quality: float
    decoder: str
    score: str
    """One of `SCORES`, or "time": the ratio of decoding times, in this case no difference."""
    mean: float
    """Positive is better than `BASE`, in the score's unit."""
    ci95: tuple[float, float] | None
    """By bootstrap over the pictures (`mean_interval`)."""


def measure(
    codec: Codec,
    image: str,
    original: Pixels,
    data: bytes,
    quality: float,
    decoders: Sequence[str],
    scores: Sequence[str],
    repeats: int,
) -> list[Row]:
    """Decode a file with every decoder and compare with the original.

    Parameters
    ----------
    codec
        Loaded and warm.
    image, quality
        For the rows.
    original
        The picture that was encoded, (H, W, 3) uint8.
    data
        Its .tlc file.
    decoders
        Names as the command line of ``trellic decode`` takes them.
    scores
        Names of `SCORES`.
    repeats
        Times that each decodes; they take turns, so that a busy moment hits all.
    """
    ways = decodes(codec, decoders)
    times, pictures = timed(ways, data, repeats)
    rows = []
    for name, decoded in pictures.items():
        reference, scale = reduced(original, decoded)
        rows.append(
            Row(
                image,
                quality,
                name,
                len(data),
                bytes_needed(ways[name], data, decoded),
                8 * len(data) / (original.shape[0] * original.shape[1]),
                scale,
                times[name],
                {s: SCORES[s].compute(reference, decoded) for s in scores if defined(s, decoded)},
            )
        )
    return rows


def defined(score: str, pixels: Pixels) -> bool:
    """Return whether a picture is large enough for a score."""
    return SCORES[score].defined(pixels)


def decodes(codec: Codec, decoders: Sequence[str]) -> dict[str, Decode]:
    """Return the functions that decode with each of some decoders."""
    return {name: _decode(codec, name) for name in decoders}


def timed(
    ways: Mapping[str, Decode], data: bytes, repeats: int
) -> tuple[dict[str, float], dict[str, Pixels]]:
    """Return each one's median seconds and its picture; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    pictures = {}
    for _ in range(repeats):
        for name, decode in ways.items():
            start = perf_counter()
            pictures[name] = decode(data)
            times[name].append(perf_counter() - start)
    return {name: median(values) for name, values in times.items()}, pictures


def reduced(original: Pixels, decoded: Pixels) -> tuple[Pixels, int]:
    """Return the original at a decoded picture's size (means of squares), and the scale.

    Raises
    ------
    ValueError
        The decoded picture is no whole fraction of the original's size, rounded up.
    """
    scale = max(1, round(original.shape[0] / decoded.shape[0]))
    small = np.asarray(Image.fromarray(original).reduce(scale))
    if small.shape != decoded.shape:
        raise ValueError(f"decoded {decoded.shape} of {original.shape}")
    return small, scale


def bytes_needed(decode: Decode, data: bytes, expected: Pixels) -> int:
    """Return how long a beginning of the file decides the picture, whatever follows it.

    Found by trial: what follows is inverted, bit by bit, and a decoder that looks at it reports
    damage or makes another picture.
    """
    inverted = bytes(np.frombuffer(data, np.uint8) ^ 255)
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        if _makes(decode, data[:middle] + inverted[middle:], expected):
            high = middle
        else:
            low = middle + 1
    return high


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Compare every decoder with `BASE`, picture by picture, by every score that both have."""
    base = {(row.image, row.quality): row for row in rows if row.decoder == BASE}
    found = []
    for quality, decoder in dict.fromkeys((r.quality, r.decoder) for r in rows):
        pairs = [
            (row, base[row.image, quality])
            for row in rows
            if (row.quality, row.decoder) == (quality, decoder) and decoder != BASE
        ]
        if not pairs:
            continue
        ratios = [row.seconds / other.seconds for row, other in pairs]
        found.append(_difference(quality, decoder, "time", ratios))
        for score in SCORES if pairs[0][0].scale == 1 else ():
            gains = [
                SCORES[score].gain(row.scores[score], other.scores[score])
                for row, other in pairs
                if score in row.scores and score in other.scores
            ]
            if gains:
                found.append(_difference(quality, decoder, score, gains))
    return found


def kmac_per_pixel(codec: Codec, decoder: str) -> float:
    """Return a decoder's multiplications per pixel, in thousands; of a mixture those of both."""
    name, _, share = decoder.partition(":")
    infos = codec.decoders
    total = infos[name].graph.kmac_per_pixel
    if share and 0 < float(share) < 1:
        total += infos[infos[name].base].graph.kmac_per_pixel
    return float(total)


def _difference(quality: float, decoder: str, score: str, values: Sequence[float]) -> Difference:
    return Difference(quality, decoder, score, float(np.mean(values)), mean_interval(values))


def _decode(codec: Codec, decoder: str) -> Decode:
    return lambda data: np.asarray(codec.decode(data, decoder=decoder))


def _makes(decode: Decode, data: bytes, expected: Pixels) -> bool:
    try:
        return np.array_equal(decode(data), expected)
    except TrellicError:
        return False

"""Targets that decode to the end: whole pictures, regions and labels of recoded streams.

Every recoded stream is valid, so that nothing but the latents that went in may come out. A third of
the inputs of regions and labels is changed once more after the coding, behind the checks.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from tests.fuzz.recoded import HEAD, recoded
from tests.runtime.family import DECODERS, LABELS, make_family

from trellic import bitstream
from trellic.codec import Codec
from trellic.errors import TrellicError
from trellic.latents.quantizer import lattice_of
from trellic.pipeline.header import level_of

TINY = Path(__file__).parents[1] / "data" / "tiny-dither.zip"  # for every kind of lattice
PICTURES = ["quality", *(name for name, one in DECODERS.items() if "labels" not in one)]
CLASSIFIERS = [name for name, one in DECODERS.items() if "labels" in one]
MAX_PIXELS = 1 << 16


@cache
def _codec() -> Codec:
    with tempfile.TemporaryDirectory() as folder:
        return Codec(make_family(TINY, Path(folder) / "family.zip"), threads=1)


def deep(data: bytes) -> bool:
    """Whole streams: the latents that were coded, a picture of the right size."""
    steer, made = data[0], recoded(data[1:], _codec())
    stream = bitstream.read(made.data)
    header = stream.header
    codec, layout = _codec(), _codec().bundle.manifest.layout
    plane = layout.plane(header.width, header.height)
    level = level_of(codec.bundle, header)
    side = header.slice_side * plane.block
    sizes = header.lanes, plane, level, header.trellis, side
    found = codec._decoding.latents().decode(stream.segments, *sizes, lattice=lattice_of(header))
    assert np.array_equal(found, made.v32)
    if steer % 4 == 0:
        name = PICTURES[steer // 4 % len(PICTURES)]
        scale = codec.decoders[name].scale
        picture = codec.decode_picture(made.data, decoder=name)
        assert picture.width == -(-header.width // scale)
        assert picture.height == -(-header.height // scale)
        assert picture.grey == header.grey
    return True


def region(data: bytes) -> bool:
    """Regions: the same pixels as in the whole picture, up to one step of rounding."""
    steer, a, b, c, d = data[:5].ljust(5, b"\0")
    stream, valid = _changed(steer, data[5:])
    name = PICTURES[steer % len(PICTURES)]
    try:
        header = bitstream.read_header(stream)
        width, height = header.width, header.height
        x, y = a * width // 256, b * height // 256
        part = (x, y, 1 + c * (width - x - 1) // 255, 1 + d * (height - y - 1) // 255)
        codec = _codec()
        seen = codec.decode(stream, decoder=name, region=part, max_pixels=MAX_PIXELS)
        whole = codec.decode(stream, decoder=name, max_pixels=MAX_PIXELS)
    except TrellicError:
        assert not valid
        return False
    scale = codec.decoders[name].scale
    top, left = y // scale, x // scale
    own = whole[top : top + seen.shape[0], left : left + seen.shape[1]]
    assert own.shape == seen.shape
    assert np.abs(own.astype(int) - seen).max() <= 1
    return True


def labels(data: bytes) -> bool:
    """Labels: each once, with chances that add up to one."""
    steer = data[0]
    stream, valid = _changed(steer, data[1:])
    try:
        said = _codec().classify(
            stream, decoder=CLASSIFIERS[steer % len(CLASSIFIERS)], max_pixels=MAX_PIXELS
        )
    except TrellicError:
        assert not valid
        return False
    assert sorted(name for name, _ in said) == LABELS
    assert abs(sum(chance for _, chance in said) - 1) < 1e-6
    return True


def _changed(steer: int, rest: bytes) -> tuple[bytes, bool]:
    """Return a recoded stream, and whether it is as it was coded."""
    stream = bytearray(recoded(rest, _codec()).data)
    if steer % 3:
        return bytes(stream), True
    place = int.from_bytes(rest[HEAD : HEAD + 2].ljust(2, b"\0"), "little") % len(stream)
    was = bytes(stream)
    stream[place] ^= 1 + steer // 3
    return bytes(stream), bytes(stream) == was


def deep_seeds() -> list[bytes]:
    """Return inputs of all three targets: each state count, few lanes and many, two slices."""
    rng = np.random.default_rng(1)
    heads = [
        bytes([4 * i, 63, 47, 40 * (i % 6), 0, kind, 9 * i % 64, 7 if i % 5 == 4 else i % 4, 0])
        for i, kind in enumerate((*range(8), 240, 243, 248, 255))
    ]
    return [head + rng.integers(0, 256, 80, np.uint8).tobytes() for head in heads]

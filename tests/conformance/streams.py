"""The streams of the conformance kit: what each shows, and how it is made with the tiny model.

``python -m tests.conformance.streams --write`` makes them anew. Streams of a released format never
change: new features add streams, old files stay for ever.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trellic import bitstream
from trellic.codec import Codec
from trellic.coding import LatentCoder, Quantizer
from trellic.images import Picture, to_array
from trellic.layout import Plane
from trellic.quantize.trellis import STATES
from trellic.results import Clock

HERE = Path(__file__).parent
MODEL = HERE.parent / "data" / "tiny.zip"
PSNR_LIMIT = 50.0  # dB against the picture of the kit: engines differ by a rounding here and there


def waves(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return a picture of waves, edges and a little noise."""
    y, x = np.mgrid[:height, :width]
    planes = [
        128
        + 70 * np.sin(x / (5 + 3 * c)) * np.cos(y / (7 + 2 * c))
        + 40 * ((x // 16 + y // 16) % 2)
        for c in range(channels)
    ]
    noise = np.random.default_rng(5).normal(0, 4, (height, width, channels))
    picture = np.clip(np.stack(planes, 2) + noise, 0, 255).astype(np.uint8)
    return picture[..., 0] if channels == 1 else picture


Make = Callable[[Codec], bytes]


def plain(height: int, width: int, **options: Any) -> Make:
    """Encode waves as anyone would."""
    return lambda codec: codec.encode(waves(height, width), **options)


def laid_out(height: int, width: int, lanes: int, side: int = 64, scale: float = 1.0) -> Make:
    """Encode with a number of lanes, a slice side, or latents made larger by a factor."""

    def make(codec: Codec) -> bytes:
        plane, level = Plane(width, height), codec.bundle.levels.at(60 * 16, 8)
        f, h = codec._analyse(Picture(waves(height, width)), plane, Clock(), None)
        slices = len(bitstream.slice_grid(*plane.latents, side))
        coder, quantizer = codec._coder(), Quantizer(8, 28)
        numbers = [lanes] * slices
        coded = coder.encode(scale * f, h, plane, level, quantizer, lanes=numbers, slice_side=side)
        header = bitstream.Header(
            width=width,
            height=height,
            quality16=60 * 16,
            trellis=8,
            steps=len(coder.steps),
            stream_id=bytes.fromhex(codec.bundle.manifest.stream_id),
            lanes=tuple(coded.lanes),
            slice_side=side,
        )
        return bitstream.write(bitstream.Stream(header, coded.segments))

    return make


def extra(picture: Picture) -> Make:
    """Encode a picture with alpha or metadata."""
    return lambda codec: codec.encode_picture(picture, quality=50).data


def _alpha() -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return (255 * ((y - 20) ** 2 + (x - 28) ** 2 < 300)).astype(np.uint8)


METADATA = Picture(waves(40, 56), icc=b"a profile" * 9, exif=b"II*\0 exif", xmp=b"<x:xmpmeta/>")
STREAMS: dict[str, Make] = {
    **{f"trellis-{n}": plain(48, 80, trellis=n) for n in (0, *STATES)},
    "search-round": plain(48, 80, trellis=0, search="round"),
    **{f"quality-{q:g}": plain(48, 80, quality=q) for q in (1, 37.3125, 100)},
    **{f"quality-{q:g}-scalar": plain(48, 80, quality=q, trellis=0) for q in (1, 100)},
    **{f"size-{w}x{h}": plain(h, w) for w, h in ((1, 1), (3, 1), (17, 33), (64, 64), (65, 129))},
    **{f"lanes-{n}": laid_out(64, 96, n) for n in (1, 2, 8, 32, 64, 256, 1024)},
    "two-slices": plain(24, 1100),
    "small-slices": laid_out(300, 280, 2, side=16),
    "wide-slices": laid_out(64, 1100, 4, side=128),
    "escapes": laid_out(48, 80, 4, scale=60.0),
    "flat": lambda codec: codec.encode(np.full((48, 80, 3), 90, np.uint8), quality=1),
    "black-and-white": lambda codec: codec.encode(
        np.repeat(255 * (np.indices((48, 80)).sum(0) // 8 % 2)[..., None], 3, 2).astype(np.uint8)
    ),
    "grey": lambda codec: codec.encode(waves(48, 80, 1)),
    "alpha": extra(Picture(waves(40, 56), alpha=_alpha())),
    "metadata": extra(METADATA),
    "everything": extra(dataclasses.replace(METADATA, alpha=_alpha())),
}


def latents(codec: Codec, data: bytes) -> np.ndarray:
    """Return what every decoder must agree on: int32 (latents, rows, columns), in 1/32 step."""
    stream = bitstream.read(data)
    header = stream.header
    coder: LatentCoder = codec._coder()
    plane = Plane(header.width, header.height)
    level = codec.bundle.levels.at(header.quality16, header.trellis)
    sides = header.lanes, plane, level, header.trellis, header.slice_side
    return coder.decode(stream.segments, *sides)


def digest(planes: np.ndarray) -> str:
    """Return the SHA-256 of latents, little endian, channel by channel."""
    return hashlib.sha256(np.ascontiguousarray(planes, "<i4").tobytes()).hexdigest()


def write() -> None:
    """Make streams, pictures and manifest; refuses to change a stream that is there."""
    codec = Codec(MODEL)
    entries = {}
    for folder in ("streams", "pictures"):
        (HERE / folder).mkdir(exist_ok=True)
    for name, make in STREAMS.items():
        path = HERE / "streams" / f"{name}.tlc"
        if not path.is_file():
            path.write_bytes(make(codec))
        data = path.read_bytes()
        picture = to_array(codec.decode_picture(data))
        Image.fromarray(picture).save(HERE / "pictures" / f"{name}.png", optimize=True)
        entries[name] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "latents": digest(latents(codec, data)),
            "shape": list(picture.shape),
            "psnr": {"quality": PSNR_LIMIT},
        }
    manifest = {"format": 1, "model": codec.bundle.manifest.stream_id, "streams": entries}
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the streams of the conformance kit.")
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    write()

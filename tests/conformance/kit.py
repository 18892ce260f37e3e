"""The kit on disk: ``manifest.json``, the streams, and the pictures they decode to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic import bitstream, entropy
from trellic.bitstream import Stream
from trellic.bitstream.cut import layering_of
from trellic.codec import Codec
from trellic.geometry import Plane
from trellic.latents.layered_coding import LayeredDecoder, levels_of
from trellic.latents.order import grid_of
from trellic.latents.quantizer import book_of, lattice_of

FOLDER = Path(__file__).resolve().parent
MANIFEST = FOLDER / "manifest.json"
DATA = FOLDER.parent / "data"
MODEL = "tiny.zip"  # the bundle that streams are of, unless their case names another one
DITHER_MODEL = "tiny-dither.zip"  # the same networks, with tables for dither
LEAST_PSNR = 48.0  # dB between pictures: one step of 255 in every sample is 48.1

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Case:
    """One stream.

    Attributes
    ----------
    name : the stream is ``streams/NAME.tlc``
    features : of the format that it is there for
    sha256 : of the file, as hex
    refuse : the reason why a decoder must refuse it; the rest is empty then
    bundle : file name of the bundle that it is of, in ``tests/data``
    z, y : shape and SHA-256 of the hyper-latents z and of the latents in 1/32 step (docs/format.md,
        7.3, 7.4 and 8.2), each as int32, little endian, in C order; they match exactly
    pictures : least PSNR in dB, by decoder, against ``pictures/NAME.DECODER.png``, whose alpha
        matches exactly; colours under alpha 0 are free
    metadata : SHA-256 of ICC profile, EXIF block and XMP packet; a decoder may drop them
    """

    name: str
    features: list[str]
    sha256: str
    refuse: str = ""
    bundle: str = MODEL
    z: dict[str, Any] = field(default_factory=dict)
    y: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> Path:
        """Path of the stream."""
        return FOLDER / "streams" / f"{self.name}.tlc"

    @property
    def model(self) -> Path:
        """Path of its bundle."""
        return DATA / self.bundle

    def picture(self, decoder: str) -> Path:
        """Path of what a decoder makes of it."""
        return FOLDER / "pictures" / f"{self.name}.{decoder}.png"


@cache
def codec(bundle: str) -> Codec:
    """Return the codec of a bundle of the kit."""
    return Codec(DATA / bundle, "cpu", 1)


def load() -> list[Case]:
    """Read the manifest."""
    return [Case(**entry) for entry in json.loads(MANIFEST.read_text(encoding="utf-8"))["cases"]]


def save(cases: list[Case]) -> None:
    """Write the manifest, leaving out what is empty, and the usual bundle."""
    kept = [[(k, v) for k, v in asdict(case).items() if v and v != MODEL] for case in cases]
    text = json.dumps({"model": f"../data/{MODEL}", "cases": list(map(dict, kept))}, indent=1)
    MANIFEST.write_text(text + "\n", encoding="utf-8")


def latents(codec: Codec, data: bytes) -> tuple[Int32, Int32]:
    """Decode the hyper-latents z and the latents, in 1/32 step, of a stream.

    Latents of a layered stream are in steps of the highest layer that it has a pass of.
    """
    stream = bitstream.read(data)
    head, first = stream.header, stream.segments[0]
    plane = Plane(head.width, head.height)
    level, lattice = codec.bundle.levels.at(head.quality16, head.trellis), lattice_of(head)
    repeat = int(np.prod(plane.hyper))
    decoder = entropy.Decoder(first, book_of(codec.bundle.tables, lattice), head.lanes[0])
    k = decoder.scalar(first, np.repeat(level.hyper_index, repeat).astype(np.uint8))
    z = (k + np.repeat(level.hyper_mean, repeat)).reshape(-1, *plane.hyper)
    if head.layering is not None:
        return z.astype("<i4"), _layered(codec, stream, plane)
    rest = head.lanes, plane, level, head.trellis, head.slice_side
    v32 = codec._decoding.latents().decode(stream.segments, *rest, lattice=lattice)
    return z.astype("<i4"), v32.astype("<i4")


def _layered(codec: Codec, stream: Stream, plane: Plane) -> Int32:
    header, layout, layering = (
        stream.header,
        codec.bundle.manifest.layout,
        layering_of(stream.header),
    )
    qualities16 = (*layering.below, header.quality16)
    levels = levels_of(codec.bundle.levels, qualities16, header.trellis)
    levels = levels[: 1 + layering.of(header.passes - 1, header.steps)[0]]
    decoder = LayeredDecoder(layout, codec.bundle.tables, codec._pool.exact())
    decode = decoder.slices(header, stream.segments, plane, levels)
    v32 = np.empty((layout.latents, *plane.latents), "<i4")
    for i, part in enumerate(grid_of(plane, header.slice_side)):
        v32[(slice(None), *part.index())] = decode(i)
    return v32


def digest(data: bytes | Int32) -> str:
    """SHA-256 as hex, of an array the one of its bytes in C order."""
    content = data if isinstance(data, bytes) else np.ascontiguousarray(data, "<i4").tobytes()
    return hashlib.sha256(content).hexdigest()


def described(values: Int32) -> dict[str, Any]:
    """What the manifest says of latents."""
    return {"shape": list(values.shape), "sha256": digest(values)}

"""``python -m tests.conformance.make --add``: make streams that the kit does not have yet.

What is there is never made anew: a stream stays for ever, and its manifest entry with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from PIL import ImageCms

from trellic import bitstream, geometry, images
from trellic.bitstream import Chunks, Layering
from trellic.codec import Codec
from trellic.entropy.tables import Tables
from trellic.geometry import Plane
from trellic.images import Picture
from trellic.latents import encoder, weighed_slice
from trellic.latents.quantizer import Quantizer, Symbols
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import EncodeOptions
from trellic.quantize import still
from trellic.quantize.cpu import reconstruct
from trellic.quantize.trellis import next_state
from trellic.support.clock import Clock

from . import broken, kit

Build = Callable[[Codec], bytes]
Int32 = npt.NDArray[np.int32]
Rule = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[Any]]
TRELLISES = (0, 4, 8, 16, 32, 64, 128, 256)
SIZES = ((1, 1), (1, 200), (130, 1), (15, 17), (16, 16), (63, 65), (64, 64), (65, 130), (20, 1040))
MOST = 32767  # magnitude of an index


def scene(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Ramps, a disc, edges and some noise, from integers alone."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(-6, 7, (height, width, 3))
    disc = 60 * ((y - height // 2) ** 2 + (x - width // 2) ** 2 < (height // 3) ** 2)
    planes = [(3 * x + y + seed) % 256, 40 + disc + (x // 24 + y // 32) % 2 * 90, x * y // 64 % 256]
    return np.clip(np.stack(planes, 2) + noise, 0, 255).astype(np.uint8)


# ---- as the encoder makes them ----


def encoded(picture: Picture, **options: Any) -> Build:
    """Encode a picture."""
    return lambda codec: codec.encode_picture(picture, **options).data


def usual(height: int, width: int, **options: Any) -> Build:
    """Encode the scene."""
    return encoded(Picture(scene(height, width)), **options)


def alpha_planes(height: int, width: int) -> dict[str, npt.NDArray[np.uint8]]:
    """Planes that each of the four filters suits best, in their order."""
    rng = np.random.default_rng(4)
    sparse = rng.integers(0, 256, (height, width)) * (rng.random((height, width)) < 0.3)
    return {
        "none": np.where(rng.random((height, width)) < 0.5, 0, 255).astype(np.uint8),
        "left": sparse.cumsum(1).astype(np.uint8),
        "up": sparse.cumsum(0).astype(np.uint8),
        "gradient": sparse.cumsum(0).cumsum(1).astype(np.uint8),
    }


# ---- as an encoder might make them ----


def forced(rule: Rule) -> Callable[..., Symbols]:
    """Return what codes symbols of one's own choice in place of those that latents ask for."""

    def quantize(
        t32: Int32,
        index: npt.NDArray[np.uint8],
        lanes: int,
        quantizer: Quantizer,
        tables: Tables,
        _: object,
        mean32: Int32,
    ) -> Symbols:
        number = np.arange(len(t32))
        if quantizer.still:
            offset = still.offsets(mean32)
            cls = still.classes(offset)
            half_width = tables.dithered.half_width[cls, index].astype(np.int64)
            k = np.clip(rule(number, half_width), -MOST, MOST).astype(np.int32)
            return Symbols(k, cls, still.reconstruct(k, offset))
        states = np.zeros(lanes, np.int64)
        k, cls = np.zeros(len(t32), np.int32), np.zeros(len(t32), np.uint8)
        for start in range(0, len(t32), lanes):
            own = number[start : start + lanes]
            now = states[: len(own)]
            if quantizer.states:
                cls[own] = 1 + (now & 1)
            half_width = tables.half_width[cls[own], index[own]].astype(np.int64)
            k[own] = np.clip(rule(own, half_width), -MOST, MOST)
            if quantizer.states:
                states[: len(own)] = next_state(quantizer.states)[now, k[own] & 1]
        return Symbols(k, cls, reconstruct(k, cls, index, tables))

    return quantize


def coded(
    height: int,
    width: int,
    *,
    quality: float = 60,
    trellis: int | None = 8,
    lanes: Sequence[int] | None = None,
    side: int = 64,
    rule: Rule | None = None,
    hyper: float | None = None,
) -> Build:
    """Code the scene with lanes, slices, symbols (`rule`) or hyper-latents of one's own choice.

    A trellis of None is a still lattice.
    """
    states = trellis or 0

    def build(codec: Codec) -> bytes:
        plane, quality16 = Plane(width, height), round(16 * quality)
        f, h = codec._encoding.analyse(Picture(scene(height, width)), plane, Clock())
        if hyper is not None:
            h = np.where(np.indices(h.shape).sum(0) % 2, hyper, -hyper).astype(np.float32)
        coder = codec._encoding.latents()
        level = codec.bundle.levels.at(quality16, states)
        lam = codec.bundle.manifest.search["trellis"].lam
        quantizer = Quantizer(states, lam, still=trellis is None)
        with mock.patch.object(encoder, "quantize", forced(rule) if rule else encoder.quantize):
            parts = coder.encode(f, h, plane, level, quantizer, lanes=lanes, slice_side=side)
        known = bitstream.read_header(codec.encode(scene(8, 8)))
        header = dataclasses.replace(
            known,
            width=width,
            height=height,
            quality16=quality16,
            trellis=states,
            slice_side=side,
            lanes=tuple(parts.lanes),
            still=trellis is None,
        )
        return bitstream.write(bitstream.Stream(header, parts.segments, Chunks()))

    return build


def layered(
    picture: Picture,
    below: tuple[int, ...],
    parts: int,
    *,
    passes: int | None = None,
    rule: Rule | None = None,
    intervals: bool = False,
    **options: Any,
) -> Build:
    """Code a picture in layers of one's own, and cut it after some passes."""

    def layering(_: int, steps: int, __: int) -> Layering:
        made = Layering(below, parts, intervals=intervals)
        return made.cut(made.passes(steps))

    def build(codec: Codec) -> bytes:
        coder = StreamEncoder(codec.bundle, codec._pool, layering=layering)
        quantize = forced(rule) if rule else weighed_slice.quantize
        with mock.patch.object(weighed_slice, "quantize", quantize):
            data = coder.picture(picture, EncodeOptions(progressive=True, **options)).data
        return data if passes is None else bitstream.cut(data, passes=passes).data

    return build


def escapes(number: npt.NDArray[np.int64], half_width: npt.NDArray[np.int64]) -> Any:
    """Indices of 1 to 15 digits beyond their table, the largest there is, and zeros."""
    digits = number % 17
    beyond = half_width + (1 << np.clip(digits, 0, 14))
    magnitude = np.select([digits == 16, digits == 15], [0, MOST], beyond)
    return np.where(number // 17 % 2, -magnitude, magnitude)


def heavy(number: npt.NDArray[np.int64], half_width: npt.NDArray[np.int64]) -> Any:
    """All the words in the first group of 64 lanes: more than 15 bits can count."""
    return np.where(number % 64 < 32, MOST - number % 3, 0)


def edges(number: npt.NDArray[np.int64], half_width: npt.NDArray[np.int64]) -> Any:
    """The last index that a table has, and the first that it has not, of both signs."""
    return np.where(number & 1, -1, 1) * (half_width + (number >> 1 & 1))


def zeros(number: npt.NDArray[np.int64], half_width: npt.NDArray[np.int64]) -> Any:
    """Nothing but zeros."""
    return 0 * number


# ---- all of them ----


def streams() -> Iterator[tuple[str, list[str], Build]]:
    """Yield name, features and maker of every stream."""
    for trellis in TRELLISES:
        name = f"trellis of {trellis} states" if trellis else "scalar quantization"
        yield f"trellis-{trellis}", [name], usual(50, 70, trellis=trellis)
    for log2 in range(11):
        lanes = 1 << log2
        trellis = 8 * (log2 % 2)
        yield f"lanes-{lanes}", [f"{lanes} lanes"], coded(64, 96, lanes=[lanes], trellis=trellis)
    for quality in (1, 1.0625, 33.4375, 100):
        for trellis in (0, 32):
            name = f"quality-{quality:g}-trellis-{trellis}"
            yield name, [f"quality {quality:g}"], usual(70, 90, quality=quality, trellis=trellis)
    for height, width in SIZES:
        yield f"size-{width}x{height}", [f"{width} x {height} pixels"], usual(height, width)
    yield from _chunks()
    yield from _slices()
    yield from _symbols()
    yield from _layers()
    yield from _intervals()


def _chunks() -> Iterator[tuple[str, list[str], Build]]:
    pixels, small = scene(40, 60), scene(40, 60)[..., 1]
    for name, plane in alpha_planes(40, 60).items():
        yield f"alpha-{name}", [f"alpha, filter {name}"], encoded(Picture(pixels, plane))
    plane = alpha_planes(40, 60)["gradient"]
    yield "grey", ["grey"], encoded(Picture(small))
    yield "grey-scalar", ["grey", "scalar quantization"], encoded(Picture(small), trellis=0)
    yield "grey-alpha", ["grey", "alpha"], encoded(Picture(small, plane))
    one = Picture(scene(1, 1), np.zeros((1, 1), np.uint8))
    yield "alpha-1x1", ["alpha", "1 x 1 pixels", "transparent"], encoded(one)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = b"II*\0\x08\0\0\0\x01\0\x31\x01\x02\0\x08\0\0\0\x1a\0\0\0\0\0\0\0trellic\0"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    for name, more in (("icc", {"icc": icc}), ("exif", {"exif": exif}), ("xmp", {"xmp": xmp})):
        yield f"metadata-{name}", [f"{name} chunk"], encoded(Picture(pixels, **more))
    whole = Picture(pixels, plane, icc=icc, exif=exif, xmp=xmp)
    yield "all-chunks", ["alpha, ICC, EXIF and XMP chunks"], encoded(whole)


def _slices() -> Iterator[tuple[str, list[str], Build]]:
    yield "slices-16", ["slices of 16 latents"], coded(300, 280, side=16)
    yield "slices-20", ["slices of 20 latents", "scalar"], coded(330, 90, side=20, trellis=0)
    yield "slices-1020", ["largest slices", "one slice"], coded(50, 70, side=1020)
    several = [1, 64, 2, 1024]
    features = ["slices with 1, 2, 64 and 1024 lanes"]
    yield "slices-lanes", features, coded(280, 280, side=16, lanes=several, trellis=64)


def _symbols() -> Iterator[tuple[str, list[str], Build]]:
    flat = np.full((90, 120, 3), 128, np.uint8)
    few = ["skipped latents", "empty segments"]
    yield "flat", few, encoded(Picture(flat), quality=1)
    yield "flat-slices", ["skipped latents", "slices"], coded(20, 1100, quality=1)
    for trellis in (0, 4, 256):
        forced = partial(coded, 64, 96, quality=90, trellis=trellis, lanes=[2])
        yield f"zeros-{trellis}", ["only zeros"], forced(rule=zeros)
        yield f"edges-{trellis}", ["first and last index of tables"], forced(rule=edges)
        yield f"escapes-{trellis}", ["escapes of 1 to 15 digits"], forced(rule=escapes)
    wide = ["escapes in several groups", "128 lanes"]
    yield "escapes-groups", wide, coded(128, 128, quality=90, lanes=[128], rule=escapes)
    long = coded(720, 720, quality=100, trellis=0, lanes=[64], rule=heavy)
    yield "long-count", ["more than 2^15 words in a group"], long
    yield "hyper-extremes", ["hyper-latents beyond their table"], coded(130, 70, hyper=3e4)


def _intervals() -> Iterator[tuple[str, list[str], Build]]:
    """Layers that narrow intervals."""
    code = partial(layered, intervals=True)
    photo, wide = Picture(scene(50, 70)), Picture(scene(40, 1100))
    three = partial(code, photo, (480, 848), 4, quality=75)
    cut = {
        "intervals-3": ("3 layers of 4 parts", None),
        "intervals-cut-1": ("cut after the first pass", 1),
        "intervals-cut-first-layer": ("cut inside the first layer", 6),
        "intervals-cut-at-layer": ("cut at a layer's end", 12),
        "intervals-cut-inside": ("cut inside a step of a first turn", 18),
        "intervals-cut-at-turn": ("cut between two turns", 24),
        "intervals-cut-second-turn": ("cut inside a step of a second turn", 31),
        "intervals-cut-last": ("cut by the last pass", 59),
    }
    for name, (feature, passes) in cut.items():
        yield name, ["intervals", feature], three(passes=passes)
    four = partial(code, photo, (16, 17, 800), 8, quality=100)
    yield "intervals-4", ["4 layers of 8 parts"], four()
    yield "intervals-4-cut", ["4 layers, cut"], four(passes=101)
    yield "intervals-2", ["2 layers of whole steps"], code(photo, (640,), 1, quality=60)
    yield "intervals-1", ["one layer of 2 parts"], code(photo, (), 2, quality=60)
    whole = partial(code, wide, (400, 800), 2, quality=90)
    yield "intervals-slices", ["intervals in two slices"], whole()
    yield "intervals-slices-cut", ["intervals in two slices, cut"], whole(passes=20)
    pixels, plane = scene(40, 60), alpha_planes(40, 60)["gradient"]
    chunks = Picture(pixels[..., 1], plane, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    yield "intervals-chunks", ["grey, alpha, XMP"], code(chunks, (480,), 4, quality=60)
    one = code(Picture(scene(1, 1)), (480, 848), 8, quality=75)
    yield "intervals-1x1", ["1 x 1 pixels", "empty segments"], one
    flat = code(Picture(np.full((90, 120, 3), 128, np.uint8)), (16, 400), 4, quality=30)
    yield "intervals-flat", ["skipped latents"], flat
    apart = code(photo, (16,), 4, quality=100)
    yield "intervals-apart", ["intervals of 17 parts"], apart
    noisy = np.random.default_rng(5).integers(0, 256, (130, 200, 3), np.uint8)
    rough = code(Picture(noisy), (100, 900), 2, quality=100)
    yield "intervals-noise", ["intervals, several lanes"], rough


def _layers() -> Iterator[tuple[str, list[str], Build]]:
    photo, wide = Picture(scene(50, 70)), Picture(scene(40, 1100))
    three = partial(layered, photo, (480, 848), 4, quality=75, trellis=8)
    cut = {
        "layers-3": ("3 layers of 4 parts", None),
        "layers-cut-1": ("cut after the first pass", 1),
        "layers-cut-first-layer": ("cut inside the first layer", 6),
        "layers-cut-at-layer": ("cut at a layer's end", 12),
        "layers-cut-at-step": ("cut at a step's end, inside a layer", 16),
        "layers-cut-inside": ("cut inside a step of a layer", 18),
        "layers-cut-last": ("cut by the last pass", 35),
    }
    for name, (feature, passes) in cut.items():
        yield name, ["layers", feature], three(passes=passes)
    four = partial(layered, photo, (16, 17, 800), 8, quality=100)
    yield "layers-4", ["4 layers of 8 parts", "scalar"], four(trellis=0)
    yield "layers-4-cut", ["4 layers, cut", "256 states"], four(trellis=256, passes=61)
    yield "layers-2", ["2 layers of whole steps"], layered(photo, (640,), 1, quality=60, trellis=4)
    yield "layers-1", ["one layer of 2 parts"], layered(photo, (), 2, quality=60, trellis=16)
    whole = partial(layered, wide, (400, 800), 2, quality=90, trellis=32)
    yield "layers-slices", ["layers in two slices"], whole()
    yield "layers-slices-cut", ["layers in two slices, cut"], whole(passes=9)
    yield "plain-cut", ["no layers, cut at a step"], lambda c: _cut(usual(50, 70)(c), 2)
    yield "plain-slices-cut", ["slices, cut at a step"], lambda c: _cut(encoded(wide)(c), 1)
    pixels, plane = scene(40, 60), alpha_planes(40, 60)["gradient"]
    chunks = Picture(pixels[..., 1], plane, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    yield "layers-chunks", ["layers", "grey, alpha, XMP"], layered(chunks, (480,), 4, quality=60)
    one = layered(Picture(scene(1, 1)), (480, 848), 8, quality=75)
    yield "layers-1x1", ["layers of 1 x 1 pixels", "empty segments"], one
    flat = layered(Picture(np.full((90, 120, 3), 128, np.uint8)), (16, 400), 4, quality=30)
    yield "layers-flat", ["layers", "skipped latents"], flat
    for trellis in (0, 8):
        extreme = partial(layered, Picture(scene(64, 96)), (480, 848), 4, trellis=trellis)
        name = f"layers-escapes-{trellis}"
        yield name, ["escapes in layers"], extreme(quality=90, rule=escapes)


def still_streams() -> Iterator[tuple[str, list[str], Build]]:
    """Yield those with a still lattice, which are of the model with tables for dither."""
    name = "still lattice"
    yield "still", [name], usual(50, 70, steady=True)
    grey = Picture(scene(40, 60)[..., 1], alpha_planes(40, 60)["gradient"])
    yield "still-grey", [name, "grey", "alpha"], encoded(grey, steady=True, quality=95)
    made = partial(coded, trellis=None)
    yield "still-lanes", [name, "64 lanes"], made(64, 96, lanes=[64], quality=85)
    several = [1, 64, 2, 1024]
    yield "still-slices", [name, "slices"], made(280, 280, side=16, lanes=several)
    flat = encoded(Picture(np.full((90, 120, 3), 128, np.uint8)), steady=True, quality=1)
    yield "still-flat", [name, "skipped latents", "empty segments"], flat
    yield "still-1x1", [name, "1 x 1 pixels"], usual(1, 1, steady=True)
    far = made(64, 96, lanes=[2], quality=90, rule=escapes)
    yield "still-escapes", [name, "escapes of 1 to 15 digits"], far
    ends = made(64, 96, lanes=[2], quality=90, rule=edges)
    yield "still-edges", [name, "first and last index of tables"], ends


def _cut(data: bytes, passes: int) -> bytes:
    return bitstream.cut(data, passes=passes).data


# ---- into the kit ----


def add(known: list[kit.Case]) -> list[kit.Case]:
    """Make what is missing, and return all cases."""
    names, codec = {case.name for case in known}, kit.codec(kit.MODEL)
    made = [*known]
    for bundle, every in ((kit.MODEL, streams()), (kit.DITHER_MODEL, still_streams())):
        for name, features, build in every:
            if name not in names:
                with mock.patch.object(geometry, "MOST_CHOSEN", geometry.DEFAULT_SLICE_SIDE):
                    data = build(kit.codec(bundle))  # slices of 1024 pixels, if no others are asked
                made.append(_good(bundle, name, features, data))
    bad = broken.streams(codec, usual(50, 70)(codec))
    old = layered(Picture(scene(50, 70)), (480, 848), 4, quality=75, trellis=8)
    bad |= broken.layers(codec, old(codec))
    for name, (reason, data) in bad.items():
        if name not in names:
            made.append(kit.Case(name, ["refused"], kit.digest(data), refuse=reason))
            _write(made[-1], data)
    return made


def _good(bundle: str, name: str, features: list[str], data: bytes) -> kit.Case:
    codec = kit.codec(bundle)
    z, y = kit.latents(codec, data)
    picture = codec.decode_picture(data)
    metadata = {part: getattr(picture, part) for part in ("icc", "exif", "xmp")}
    case = kit.Case(
        name,
        features,
        kit.digest(data),
        bundle=bundle,
        z=kit.described(z),
        y=kit.described(y),
        pictures=dict.fromkeys(codec.decoders, kit.LEAST_PSNR),
        metadata={part: kit.digest(content) for part, content in metadata.items() if content},
    )
    _write(case, data)
    for decoder in codec.decoders:
        shown = codec.decode_picture(data, decoder=decoder)
        plain = Picture(shown.pixels, shown.alpha)
        case.picture(decoder).parent.mkdir(exist_ok=True)
        images.write(case.picture(decoder), plain)
    return case


def _write(case: kit.Case, data: bytes) -> None:
    case.stream.parent.mkdir(exist_ok=True)
    with case.stream.open("xb") as file:  # never over one that is there
        file.write(data)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", action="store_true", help="make and add what is missing")
    options = parser.parse_args()
    known = kit.load() if kit.MANIFEST.exists() else []
    if not options.add:
        names = {name for name, _, _ in chain(streams(), still_streams())}
        missing = names - {case.name for case in known}
        print("missing:", ", ".join(sorted(missing)) or "nothing", "(--add makes what is missing)")
        return int(bool(missing))
    cases = add(known)
    kit.save(cases)
    print(f"{len(cases)} cases, {len(cases) - len(known)} of them new")
    return 0


if __name__ == "__main__":
    sys.exit(main())

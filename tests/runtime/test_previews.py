"""Previews: smaller pictures, from the first segments of a file alone."""

from __future__ import annotations

import dataclasses
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.data import make_dither
from tests.runtime.family import (
    graph_output,
    make_family,
    needed_end,
    noise,
)

from trellic import bitstream
from trellic.bitstream import Chunks, Stream
from trellic.codec import Codec
from trellic.errors import CorruptStream, StreamError, TruncatedStream
from trellic.geometry import Rectangle
from trellic.pipeline import memory
from trellic.pipeline.region import crop

# ---- previews ----


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 128), (100, 150), (257, 129)])
@pytest.mark.parametrize(("name", "scale"), [("preview", 8), ("thumb", 16), ("half", 2)])
def test_sizes_of_previews(family, size, name, scale):
    rows, columns = (-(-side // scale) for side in size)
    pixels = noise(*size)
    alpha = np.full(size, 77, np.uint8)
    assert family.decode(family.encode(pixels), decoder=name).shape == (rows, columns, 3)
    grey = family.encode(pixels[..., 0])
    assert family.decode(grey, decoder=name).shape == (rows, columns)
    clear = family.decode(family.encode(np.dstack([pixels, alpha])), decoder=name)
    assert clear.shape == (rows, columns, 4)
    assert (clear[..., 3] == 77).all()


def reference_preview(codec: Codec, data: bytes, name: str) -> np.ndarray:
    header, scale = bitstream.read_header(data), codec.decoders[name].scale
    rows, columns = -(-header.height // scale), -(-header.width // scale)
    return graph_output(codec, data, name)[:rows, :columns]


@pytest.mark.parametrize("name", ["preview", "thumb", "half", "glimpse"])
@pytest.mark.parametrize("stream", ["plain_stream", "sliced_stream"])
def test_previews_are_made_of_the_true_latents(request, family, name, stream):
    data = request.getfixturevalue(stream)
    expected = reference_preview(family, data, name)
    np.testing.assert_array_equal(family.decode(data, decoder=name)[..., :3], expected)


@pytest.mark.parametrize("trellis", [0, 8])
def test_scalar_streams_have_previews_too(family, trellis):
    data = family.encode(noise(70, 90), trellis=trellis)
    expected = reference_preview(family, data, "preview")
    np.testing.assert_array_equal(family.decode(data, decoder="preview"), expected)


def test_dithered_streams_have_previews_too(tmp_path):
    dithered = make_dither.dithered_bundle(tmp_path / "dithered.zip")
    path = make_family(dithered, tmp_path / "family.zip")
    codec = Codec.load(str(path), device="cpu", threads=1)
    data = codec.encode(noise(70, 90), trellis=0, dither=7)
    for name in ("preview", "glimpse"):
        expected = graph_output(codec, data, name)[:9, :12]
        np.testing.assert_array_equal(codec.decode(data, decoder=name), expected)


@pytest.mark.parametrize("name", ["preview", "half"])
def test_tiled_previews_are_the_whole(monkeypatch, family, sliced_stream, name):
    whole = family.decode(sliced_stream, decoder=name)
    monkeypatch.setattr(memory, "SIDES", (4,))
    np.testing.assert_array_equal(family.decode(sliced_stream, decoder=name), whole)


@pytest.mark.parametrize("region", [(0, 0, 1, 1), (10, 30, 301, 77), (511, 299, 4, 1)])
@pytest.mark.parametrize(("name", "scale"), [("preview", 8), ("half", 2), ("perceptual:0.3", 1)])
def test_a_region_is_the_part_of_the_preview_that_touches_it(
    family, sliced_stream, region, name, scale
):
    x, y, width, height = region
    whole = family.decode(sliced_stream, decoder=name)
    part = family.decode(sliced_stream, decoder=name, region=region)
    area = Rectangle(y, y + height, x, x + width).coarser(scale)
    np.testing.assert_array_equal(part, whole[area.index()])


def test_alpha_is_the_mean_of_its_blocks(family, sliced_stream):
    alpha = bitstream.read(sliced_stream).chunks.alpha.astype(float)
    small = family.decode(sliced_stream, decoder="preview")[..., 3]
    for row, column in [(0, 0), (5, 7), (37, 64), (37, 0), (0, 64)]:
        block = alpha[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert abs(small[row, column] - block.mean()) <= 0.5
    picture = family.decode_picture(sliced_stream, decoder="preview")
    assert picture.icc == b"profile"


def test_alpha_of_the_full_size_is_left_alone():
    chunks = Chunks(alpha=np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert crop(chunks, Rectangle(0, 2, 0, 3)) is chunks
    assert crop(chunks, Rectangle(1, 2, 1, 3)).alpha.tolist() == [[4, 5]]
    assert crop(chunks, Rectangle(0, 2, 0, 3), 2).alpha.tolist() == [[2, 4]]  # 8 / 4, 7 / 2


# ---- previews need a part of the file only ----


@pytest.mark.parametrize("stream", ["plain_stream", "sliced_stream"])
@pytest.mark.parametrize(("name", "steps"), [("preview", 2), ("glimpse", 1)])
def test_a_cut_file_has_a_preview(request, family, stream, name, steps):
    data = request.getfixturevalue(stream)
    end = needed_end(data, steps)
    assert end < len(data)
    whole = family.decode(data, decoder=name)
    np.testing.assert_array_equal(family.decode(data[:end], decoder=name), whole)
    with pytest.raises(TruncatedStream):
        family.decode(data[: end - 1], decoder=name)
    with pytest.raises(StreamError):
        family.decode(data[:end])


@pytest.mark.parametrize("stream", ["plain_stream", "sliced_stream"])
def test_damage_behind_the_needed_segments_does_not_matter(request, family, stream):
    data = request.getfixturevalue(stream)
    end = needed_end(data, 2)
    whole = family.decode(data, decoder="preview")
    broken = data[:end] + bytes(byte ^ 0x5A for byte in data[end:])
    np.testing.assert_array_equal(family.decode(broken, decoder="preview"), whole)
    header = bitstream.read_header(data)
    for index in range(1 + 2 * header.slices):  # damage in them does
        span = bitstream.read_contents(data).segment(index)
        if span.length:
            bad = bytearray(data)
            bad[span.end - 1] ^= 1
            with pytest.raises(CorruptStream):
                family.decode(bytes(bad), decoder="preview")


def test_every_decoder_that_needs_all_checks_all(family, plain_stream):
    bad = bytearray(plain_stream)
    bad[-1] ^= 1
    for name in ("quality", "perceptual:0.5", "half"):
        with pytest.raises(CorruptStream, match="checksum of the file"):
            family.decode(bytes(bad), decoder=name)
    with pytest.raises(CorruptStream, match="checksum of the file"):
        family.classify(bytes(bad))
    assert family.classify(bytes(bad), decoder="class8")


def test_other_segments_are_not_even_looked_at(family, sliced_stream):
    layout = bitstream.read_contents(sliced_stream)
    spans = layout.needed_for(range(layout.header.slices), 2)
    spans += [bitstream.Span(s.offset, s.length + 2) for s in layout.chunks.values()]
    sparse = bytearray(len(sliced_stream))
    for span in spans:
        sparse[span.offset : span.end] = sliced_stream[span.offset : span.end]
    assert sum(span.length for span in spans) < len(sliced_stream)
    expected = family.decode(sliced_stream, decoder="preview")
    np.testing.assert_array_equal(family.decode(bytes(sparse), decoder="preview"), expected)


def test_best_effort_of_a_preview(family, sliced_stream):
    end = needed_end(sliced_stream, 2)
    whole = family.decode_timed(sliced_stream, decoder="preview", best_effort=True)
    assert whole.damage is None
    cut = family.decode_timed(sliced_stream[:end], decoder="preview", best_effort=True)
    assert (cut.damage.lost, cut.damage.segments) == (0, 2 * 6)
    np.testing.assert_array_equal(cut.picture.pixels, whole.picture.pixels)
    less = family.decode_timed(sliced_stream[: end - 1], decoder="preview", best_effort=True)
    assert (less.damage.lost, less.damage.slices) == (1, (5,))
    assert less.picture.pixels.shape == whole.picture.pixels.shape


def test_a_preview_of_a_stream_with_other_steps(family, plain_stream):
    stream = bitstream.read(plain_stream)
    for steps in (1, 2):
        header = dataclasses.replace(stream.header, steps=steps)
        changed = bitstream.write(Stream(header, stream.segments[: 1 + steps]))
        with pytest.raises(CorruptStream, match=f"{1 + steps} segments"):
            family.decode(changed, decoder="preview")


# ---- Pillow, memory ----


def test_pillow_shows_previews(monkeypatch, tmp_path, family_path, plain_stream):
    assert importlib.import_module("trellic.pillow").FORMAT == "TLC"
    monkeypatch.setenv("TRELLIC_MODELS", str(family_path.parent))
    (tmp_path / "a.tlc").write_bytes(plain_stream)
    for name, size in [("preview", (19, 13)), ("perceptual:0.5", (150, 100))]:
        with Image.open(tmp_path / "a.tlc") as image:
            assert image.size == (150, 100)
            image.decoder = name
            assert image.size == size  # Pillow's resize() and thumbnail() ask before they load
            image.thumbnail((10, 10))
            assert max(image.size) == 10
        with Image.open(tmp_path / "a.tlc") as image:
            image.decoder = name
            image.load()
            assert image.size == size
            assert np.asarray(image).shape[:2] == size[::-1]
    with Image.open(tmp_path / "a.tlc") as image:
        image.decoder = "class"
        with pytest.raises(OSError, match="gives labels"):
            image.load()


def test_a_preview_takes_less_memory():
    header = SimpleNamespace(width=8000, height=8000, grey=False, slice_side=64, layering=None)
    whole = Rectangle(0, 8000, 0, 8000)
    rest = {"halo": 2, "alpha": False}
    full = memory.decoding(header, whole, 320, **rest)(64)
    assert memory.decoding(header, whole, 48, scale=8, **rest)(64) < full - 3 * 63 * 1000**2 * 0.9

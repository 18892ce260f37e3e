"""Streams to smaller streams, without a picture in between."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from trellic import bitstream
from trellic.bitstream.patches import mask_shape
from trellic.codec import Codec
from trellic.errors import (
    BadParameter,
    CorruptStream,
    ImageTooLarge,
    TargetUnreachable,
    TrellicWarning,
)
from trellic.geometry import Plane
from trellic.images import Picture
from trellic.images.lossless import pack_pixels
from trellic.pipeline import transforms
from trellic.pipeline.matching import PATCH, Matcher, _patch, lines
from trellic.pipeline.options import EncodeOptions

from .family import in_slices, make_seeing, noise


@pytest.fixture(scope="module")
def seeing(tiny_path, tmp_path_factory):
    """A model whose encoder is told the quality."""
    path = make_seeing(tiny_path, tmp_path_factory.mktemp("seeing") / "seeing.zip")
    return Codec.load(str(path), device="cpu", threads=1)


@pytest.fixture
def data(tiny):
    return tiny.encode(noise(80, 112), quality=90, trellis=8)


def test_it_is_smaller_and_of_the_quality_asked_for(tiny, data):
    small = tiny.transcode(data, quality=30)
    header = bitstream.read_header(small)
    assert len(small) < len(data)
    assert (header.quality16, header.trellis, header.width, header.height) == (480, 8, 112, 80)
    assert tiny.decode(small).shape == (80, 112, 3)
    assert bitstream.read_header(tiny.transcode(data, quality=30, trellis=0)).trellis == 0


def test_latents_are_those_of_the_file(tiny, data):
    """Of a model whose encoder does not see the quality: latents of the file, quantized anew."""
    layout = tiny.bundle.manifest.layout
    stream = bitstream.read(data)
    header = stream.header
    plane = layout.plane(112, 80)
    level = tiny.bundle.levels.at(header.quality16, 8)
    v32 = tiny._decoding.latents().decode(stream.segments, header.lanes, plane, level, 8)
    f = v32.astype(np.float32) * (np.float32(128) / level.gain.astype(np.float32))[:, None, None]
    halo = tiny.bundle.manifest.hyper_encoder.halo
    h = transforms.hyper_analysis(tiny._pool.hyper_encoder(), f, plane, halo)
    lower = tiny.bundle.levels.at(480, 8)
    quantizer = EncodeOptions(trellis=8).quantizer(tiny.bundle)
    expected = tiny._encoding.latents().encode(f, h, plane, lower, quantizer)
    assert bitstream.read(tiny.transcode(data, quality=30)).segments == expected.segments


def test_bytes_are_met_from_below(tiny, data):
    goal = len(data) * 2 // 3
    assert 0.8 * goal <= len(tiny.transcode(data, max_bytes=goal)) <= goal
    assert tiny.transcode(data, max_bytes=len(data)) == data
    with pytest.raises(TargetUnreachable):
        tiny.transcode(data, max_bytes=40)


def test_a_higher_quality_is_warned_of(tiny, data):
    with pytest.warns(TrellicWarning, match=r"quality 90: transcoding to 95 .* no better"):
        tiny.transcode(data, quality=95)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.transcode(data, quality=89)


@pytest.mark.parametrize("trellis", [None, 8])
def test_a_file_of_the_quality_is_kept_as_it_is(tiny, data, trellis):
    with pytest.warns(TrellicWarning, match="the file has quality 90: it is kept as it is"):
        assert tiny.transcode(data, quality=90, trellis=trellis) == data
    assert tiny.transcode(data, quality=90, trellis=0) != data


def test_what_lies_beside_the_latents_is_kept(tiny):
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:, :20] = 7
    picture = Picture(noise(40, 50), alpha=alpha, icc=b"profile", exif=b"II*\0", xmp=b"<x/>")
    data = tiny.encode_picture(picture, quality=80).data
    before, after = (bitstream.read(d).chunks for d in (data, tiny.transcode(data, quality=40)))
    assert np.array_equal(after.alpha, alpha)
    assert (after.icc, after.exif, after.xmp) == (before.icc, before.exif, before.xmp)
    assert after.xmp == b"<x/>"


def test_grey_pictures_stay_grey(tiny):
    grey = tiny.encode(noise(40, 50)[..., 0], quality=80)
    assert tiny.decode(tiny.transcode(grey, quality=40)).shape == (40, 50)


def test_slices_of_another_size_stay_with_their_patches(tiny):
    pixels = noise(300, 280)
    stream = bitstream.read(in_slices(tiny, pixels, bitstream.Chunks()))
    mask = np.zeros(mask_shape(*pixels.shape[:2]), bool)
    mask[0, 0] = True
    areas = pack_pixels(pixels[:256, :256]), *[None] * (stream.header.slices - 1)
    data = bitstream.write(replace(stream, patches=bitstream.Patches(mask, areas)))
    small = tiny.transcode(data, quality=20)
    assert bitstream.read_header(small).slices == stream.header.slices > 1
    decoded = tiny.decode(small)
    assert decoded.shape == pixels.shape
    assert (decoded[:32, :32] == pixels[:32, :32]).all()


@pytest.mark.parametrize(
    "options", [{}, {"quality": 50, "max_bytes": 900}, {"quality": 0}, {"quality": 5, "trellis": 7}]
)
def test_bad_options(tiny, data, options):
    with pytest.raises(BadParameter):
        tiny.transcode(data, **options)


def test_bad_streams_and_limits(tiny, data):
    with pytest.raises(CorruptStream):
        tiny.transcode(data[:-1] + bytes([data[-1] ^ 1]), quality=30)
    with pytest.raises(ImageTooLarge):
        tiny.transcode(data, quality=30, max_pixels=100)
    with pytest.raises(ImageTooLarge, match="transcoding 112x80 pixels"):
        tiny.transcode(data, quality=30, max_memory=10**6)


# ---- encoders that see the quality ----


def test_lines_are_found_and_flat_channels_only_move():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 6, 7)).astype(np.float32)
    x[2] = 5
    slope, offset = np.array([2, -0.5, 1], np.float32), np.array([1, 0, -3], np.float32)
    found = lines(x, slope[:, None, None] * x + offset[:, None, None])
    assert np.allclose(found, (slope, offset), atol=1e-5)


def test_matched_latents_follow_the_encoder(seeing):
    """They are nearer to what the encoder makes at the other quality than those of the file."""
    picture = noise(64, 80)
    layout, halo = seeing.bundle.manifest.layout, seeing.bundle.manifest.encoder.halo
    plane = layout.plane(80, 64)

    def analysed(quality):
        g_a = transforms.told(seeing._pool.encoder(), quality)
        return transforms.analysis(g_a, picture, plane, layout.latents, halo)

    high, low = analysed(90.0), analysed(20.0)
    assert np.square(high - low).mean() > 0
    matcher = Matcher(seeing.bundle, seeing._pool, high, plane, 90.0)
    assert matcher.at(90.0) is high
    assert np.square(matcher.at(20.0) - low).mean() < np.square(high - low).mean()


def test_the_patch_is_in_the_middle():
    part = _patch(Plane(1000, 100))
    assert (part.top, part.bottom) == (0, 100)
    assert part.right - part.left == PATCH
    assert part.left % 64 == 0
    assert abs(part.left + part.right - 1000) <= 128


# ---- the command ----


def test_the_command(tiny_path, tiny, data, tmp_path, trellic, monkeypatch):
    monkeypatch.setattr("trellic.cli.engines.find_stream", lambda _: str(tiny_path))
    (tmp_path / "a.tlc").write_bytes(data)
    result = trellic(
        "transcode", tmp_path / "a.tlc", tmp_path / "b.tlc", "-q", "30", "--device", "cpu", "--json"
    )
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert (tmp_path / "b.tlc").read_bytes() == tiny.transcode(data, quality=30)
    assert (told["quality_before"], told["quality"]) == (90, 30)
    assert (told["bytes_before"], told["bytes"]) == (len(data), (tmp_path / "b.tlc").stat().st_size)
    larger = trellic("transcode", tmp_path / "a.tlc", tmp_path / "c.tlc", "-q", "95")
    assert larger.code == 0
    assert "no better" in larger.err
    same = trellic("transcode", tmp_path / "a.tlc", tmp_path / "c.tlc", "-q", "90")
    assert "kept as it is" in same.err
    assert (tmp_path / "c.tlc").read_bytes() == data
    assert trellic("transcode", tmp_path / "a.tlc", tmp_path / "d.tlc").code == 2
    both = trellic("transcode", tmp_path / "a.tlc", tmp_path / "d.tlc", "-q", 5, "--max-bytes", 9)
    assert both.code == 2
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused = trellic("transcode", tmp_path / "photo.png", tmp_path / "d.tlc", "-q", "30")
    assert refused.code == 1
    assert refused.err.startswith("error: ")
    assert not (tmp_path / "d.tlc").exists()

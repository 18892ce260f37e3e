"""A picture that was decoded from a stream, saved again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from trellic import bitstream
from trellic.errors import BadImage, BadParameter
from trellic.images import Picture

from .family import in_slices, noise


@pytest.mark.parametrize("trellis", [0, 8])
def test_an_unchanged_picture_gives_the_same_bytes(tiny, trellis):
    data = tiny.encode(noise(72, 100), quality=70, trellis=trellis)
    encoded = tiny.encode_again(tiny.decode_picture(data), data)
    assert encoded.data == data
    assert (encoded.quality, encoded.trellis) == (70, trellis)


def test_any_picture_that_encode_takes_is_taken(tiny):
    data = tiny.encode(noise(40, 50))
    pixels = tiny.decode(data)
    for picture in (pixels, Image.fromarray(pixels), Picture(pixels)):
        assert tiny.encode_again(picture, data).data == data
    with pytest.raises(BadImage, match="an object of type str"):
        tiny.encode_again("photo.png", data)


def test_so_do_slices_alpha_metadata_grey_and_dither(tiny):
    alpha = np.full((300, 280), 255, np.uint8)
    alpha[:, :20] = 0
    chunks = bitstream.Chunks(alpha, icc=b"profile", xmp=b"<x/>")
    sliced = in_slices(tiny, noise(300, 280), chunks)
    assert bitstream.read_header(sliced).slices > 1
    assert tiny.encode_again(tiny.decode_picture(sliced), sliced).data == sliced
    grey = tiny.encode(noise(40, 50)[..., 0])
    assert tiny.encode_again(tiny.decode_picture(grey), grey).data == grey


def test_other_metadata_leaves_the_latents_as_they_are(tiny):
    data = tiny.encode(noise(40, 50))
    picture = dataclasses.replace(tiny.decode_picture(data), xmp=b"<new/>")
    again = bitstream.read(tiny.encode_again(picture, data).data)
    assert again.chunks.xmp == b"<new/>"
    assert again.segments == bitstream.read(data).segments


def test_an_edit_keeps_the_slices(tiny):
    sliced = in_slices(tiny, noise(300, 280), bitstream.Chunks())
    pixels = tiny.decode(sliced).copy()
    pixels[:9, :9] = 250
    again = bitstream.read_header(tiny.encode_again(Picture(pixels), sliced).data)
    assert again.slice_side == bitstream.read_header(sliced).slice_side == 16


def test_after_an_edit_hyper_latents_are_kept_elsewhere(tiny):
    data = tiny.encode(noise(256, 320), quality=60, trellis=8)
    picture = tiny.decode_picture(data)
    pixels = picture.pixels.copy()
    pixels[10:40, 10:40] = 250
    again = tiny.encode_again(Picture(pixels), data).data
    before, after = (hyper_latents(tiny, file) for file in (data, again))
    same = (before == after).all(0)
    assert same[1:].all()
    assert same[:, 1:].all()
    assert not same[0, 0]
    back = tiny.decode(again).astype(int)
    fresh = tiny.decode(tiny.encode(pixels, quality=60, trellis=8)).astype(int)
    away = (slice(128, None), slice(128, None))
    kept, lost = (np.square(p - picture.pixels)[away].mean() for p in (back, fresh))
    assert kept < lost


def hyper_latents(codec, data):
    stream = bitstream.read(data)
    header = stream.header
    plane = codec.bundle.manifest.layout.plane(header.width, header.height)
    level = codec.bundle.levels.at(header.quality16, header.trellis)
    coder = codec._decoding.latents()
    return coder.hyper_latents(stream.segments, header.lanes, plane, level)


@pytest.mark.parametrize("pixels", [noise(40, 51), noise(40, 50)[..., 0]])
def test_a_picture_of_another_size_or_colour_is_refused(tiny, pixels):
    data = tiny.encode(noise(40, 50))
    with pytest.raises(BadParameter, match="encode it without --like"):
        tiny.encode_again(Picture(pixels), data)


def test_the_command(tiny_path, tiny, tmp_path, trellic):
    old, new, shown = tmp_path / "old.tlc", tmp_path / "new.tlc", tmp_path / "shown.png"
    old.write_bytes(tiny.encode(noise(40, 50), quality=33, trellis=4))
    Image.fromarray(tiny.decode(old.read_bytes())).save(shown)
    given = ("encode", shown, new, "--model", tiny_path, "--like", old)
    assert trellic(*given).code == 0
    assert new.read_bytes() == old.read_bytes()
    assert trellic(*given, "-q", "50").code == trellic(*given, "--trellis", "8").code == 2
    wrong = trellic("encode", shown, new, "--model", tiny_path, "--like", shown)
    assert wrong.code == 1
    assert wrong.err.count("\n") == 1
    assert new.read_bytes() == old.read_bytes()

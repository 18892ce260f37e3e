"""Steady files and refined latents: the options, files saved again, and who refuses them."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from tests.data import make_dither
from tests.data.make_dither import scene

import trellic.pillow  # noqa: F401 - registers the format
from trellic import bitstream
from trellic.errors import BadParameter, CorruptStream, ImageTooLarge, TrellicWarning
from trellic.geometry import Plane
from trellic.images import Picture
from trellic.latents.quantizer import Quantizer
from trellic.pipeline import memory, transforms
from trellic.support.clock import Clock

from .family import graph_output, in_slices, latents_of, noise

CORNER = (slice(10, 40), slice(10, 40))


def edited(codec, data):
    """Save a picture again that was changed in a corner."""
    pixels = codec.decode(data).copy()
    pixels[CORNER] = 250
    return codec.encode_again(Picture(pixels), data).data


# ---- saved again ----


def test_an_unchanged_picture_gives_the_same_bytes(dithered):
    sliced = in_slices(dithered, noise(300, 280), bitstream.Chunks(), Quantizer(0, 26, still=True))
    for data in (
        sliced,
        dithered.encode(noise(72, 100), quality=70, steady=True),
        dithered.encode(noise(40, 50)[..., 0], steady=True),
    ):
        again = dithered.encode_again(dithered.decode_picture(data), data)
        assert again.data == data
        assert again.trellis == 0


@pytest.mark.parametrize("picture", [noise, scene])
@pytest.mark.parametrize("quality", [30, 90])
def test_after_an_edit_latents_are_kept_elsewhere(dithered, picture, quality):
    """All of them, exactly, beyond the reach of the networks around the edit."""
    data = dithered.encode(picture(256, 320), quality=quality, steady=True)
    again = edited(dithered, data)
    assert bitstream.read_header(again) == bitstream.read_header(data)
    before, after = latents_of(dithered, data), latents_of(dithered, again)
    assert (before[:, 1:3, 1:3] != after[:, 1:3, 1:3]).any()
    np.testing.assert_array_equal(after[:, 8:], before[:, 8:])
    np.testing.assert_array_equal(after[:, :, 8:], before[:, :, 8:])
    assert (dithered.decode(again)[160:, 160:] == dithered.decode(data)[160:, 160:]).all()


def test_latents_that_the_search_would_move_are_kept(dithered, monkeypatch):
    """Any search: those that lie on a level do not ask it."""
    data = dithered.encode(noise(256, 320), quality=60, steady=True)
    expected = latents_of(dithered, data)
    name = "trellic.latents.quantizer.still_lattice.search"
    monkeypatch.setattr(name, lambda t32, *_: np.zeros(len(t32), np.int32))
    found = latents_of(dithered, edited(dithered, data))
    np.testing.assert_array_equal(found[:, 8:], expected[:, 8:])


def test_transcoding_keeps_it(dithered):
    data = dithered.encode(noise(80, 112), quality=90, steady=True)
    small = dithered.transcode(data, quality=30)
    header = bitstream.read_header(small)
    assert (header.still, header.trellis, header.quality16) == (True, 0, 480)
    assert len(small) < len(data)
    assert dithered.decode(small).shape == (80, 112, 3)
    other = bitstream.read_header(dithered.transcode(data, quality=30, trellis=8))
    assert (other.still, other.trellis) == (False, 8)
    plain = bitstream.read_header(dithered.transcode(data, quality=30, trellis=0))
    assert not plain.still
    goal = len(data) * 2 // 3
    assert len(dithered.transcode(data, max_bytes=goal)) <= goal


def test_it_is_not_cut(dithered):
    data = dithered.encode(noise(40, 50), steady=True)
    for how in ({"passes": 1}, {"max_bytes": 200}, {}):
        with pytest.raises(BadParameter, match=r"^a stream with a still lattice; expected an ord"):
            bitstream.cut(data, **how)


# ---- the options ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dither": 1, "trellis": 0}, "steady with dither"),
        ({"progressive": True}, "steady with progressive"),
        ({"search": "round", "trellis": 0}, "steady with search 'round'"),
        ({"trellis": 8}, "steady with trellis 8"),
        ({"trellis": 256}, "steady with trellis 256"),
    ],
)
def test_what_excludes_steady(dithered, options, message):
    with pytest.raises(BadParameter, match=message):
        dithered.encode(scene(8, 8), steady=True, **options)


def test_a_model_without_tables(tiny):
    with pytest.raises(BadParameter, match="'tiny' has no tables for dither; encode without"):
        tiny.encode(scene(8, 8), steady=True)
    stream = bitstream.read(tiny.encode(scene(8, 8), trellis=0))
    header = dataclasses.replace(stream.header, still=True)
    with pytest.raises(CorruptStream, match="a stream with a still lattice, but model 'tiny'"):
        tiny.decode(bitstream.write(bitstream.Stream(header, stream.segments)))


@pytest.fixture
def runs(dithered, monkeypatch):
    """What networks of pictures ran, in order."""
    seen, pool = [], dithered._pool
    kinds = {"g_a": pool.encoder, "h_a": pool.hyper_encoder, "g_s": pool.decoder}

    def counting(name, make):
        def made(*arguments):
            engine = make(*arguments)

            def run(inputs):
                seen.append(name)
                return engine(inputs)

            return run

        return made

    monkeypatch.setattr(pool, "encoder", counting("g_a", kinds["g_a"]))
    monkeypatch.setattr(pool, "hyper_encoder", counting("h_a", kinds["h_a"]))
    monkeypatch.setattr(pool, "decoder", counting("g_s", kinds["g_s"]))
    return seen


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["g_a", "h_a"]),
        ({"refine": True}, ["g_a", "g_s", "g_a", "h_a"]),
        ({"refine": True, "max_bytes": 900}, ["g_a", "g_s", "g_a", "h_a"]),  # these see no quality
    ],
)
def test_networks_run_once_more(dithered, runs, options, expected):
    dithered.encode(scene(40, 50), **options)
    assert runs == expected


def test_refined_latents_are_moved_by_what_their_picture_lacks(dithered):
    """f + g_a(x) - g_a(g_s(f)); then h_a."""
    pixels, plane = scene(70, 90), Plane(90, 70)
    coder, info = dithered._encoding, dithered.decoders["quality"]
    f, _ = coder.analyse(Picture(pixels), plane, Clock())
    g_s = dithered._pool.decoder("quality")
    shown = transforms.synthesis(g_s, f[: info.channels or len(f)], plane, info.graph.halo)
    seen, _ = coder.analyse(Picture(shown), plane, Clock())
    clock = Clock()
    moved, h = coder.analyse(Picture(pixels), plane, clock, settled=True)
    np.testing.assert_array_equal(moved, f - seen + f)
    np.testing.assert_array_equal(h, coder.hyper(moved, plane))
    assert "g_s" in clock.stages


@pytest.mark.parametrize("options", [{}, {"trellis": 0}, {"progressive": True}, {"bpp": 0.4}])
def test_refine_makes_ordinary_files(tiny, options):
    pixels = scene(60, 80)
    plain, data = (tiny.encode(pixels, refine=refine, **options) for refine in (False, True))
    head = bitstream.read_header(data)
    assert data != plain
    assert not head.still
    if "bpp" not in options:
        assert dataclasses.replace(head, lanes=(1,)) == dataclasses.replace(
            bitstream.read_header(plain), lanes=(1,)
        )
    assert tiny.decode(data).shape == pixels.shape
    if not options:
        assert (latents_of(tiny, data) != latents_of(tiny, plain)).any()
        assert graph_output(tiny, data, "quality")[:60, :80].tolist() == tiny.decode(data).tolist()


def test_refine_of_grey_and_of_alpha(tiny):
    grey = scene(40, 50)[..., 0]
    data = tiny.encode(grey, refine=True)
    assert bitstream.read_header(data).grey
    assert data != tiny.encode(grey)
    assert tiny.decode(data).shape == grey.shape
    clear = np.dstack([scene(40, 50), grey])
    assert (tiny.decode(tiny.encode(clear, refine=True))[..., 3] == grey).all()


def test_refine_in_tiles(tiny, monkeypatch):
    """Where memory is short: the same latents, nearly."""
    picture, plane = Picture(scene(300, 700)), Plane(700, 300)
    whole, _ = tiny._encoding.analyse(picture, plane, Clock(), settled=True)
    monkeypatch.setattr(memory, "tile_side", lambda *_: memory.SIDES[-1])
    tiled, _ = tiny._encoding.analyse(picture, plane, Clock(), settled=True)
    np.testing.assert_allclose(tiled, whole, atol=1e-3)


def test_a_limit_of_memory_counts_both_networks(tiny):
    picture, layout = Picture(scene(600, 600)), tiny.bundle.manifest.layout
    plain, more = (
        memory.encoding(picture, layout, halo=0, tiled_h_a=True, settled=settled)
        for settled in (False, True)
    )
    assert all(more(side) > plain(side) for side in memory.SIDES)
    with pytest.raises(ImageTooLarge, match="encoding 600x600 pixels takes up to"):
        tiny.encode(picture.pixels, refine=True, max_memory=memory.LIBRARIES)


# ---- commands and Pillow ----


def test_commands(dithered, tmp_path, trellic):
    pixels = scene(40, 50)
    source = tmp_path / "a.png"
    Image.fromarray(pixels).save(source)
    model = ("--model", make_dither.BUNDLE, "--device", "cpu")
    for flag, options in (("--steady", {"steady": True}), ("--refine", {"refine": True})):
        target = tmp_path / f"{flag}.tlc"
        result = trellic("encode", source, target, *model, flag)
        assert (result.code, result.err) == (0, "")
        assert target.read_bytes() == dithered.encode(pixels, **options)
        said = json.loads(trellic("info", target, "--json").out)
        assert said["steady"] is ("steady" in options)
        assert (said["lengths"] is None) is ("steady" in options)
        shown = trellic("info", target).out
        assert ("steady      yes\n" in shown) == ("steady" in options)
    for bad, seen in (
        (["--dither", 1, "--trellis", 0], "steady with dither; expected one of the two"),
        (["--progressive"], "steady with progressive; expected one of the two"),
        (["--trellis", 8], "steady with trellis 8; expected one of the two"),
    ):
        result = trellic("encode", source, tmp_path / "b.tlc", *model, "--steady", *bad)
        assert (result.code, result.out) == (2, "")
        assert seen in " ".join(result.err.replace("│", " ").split())
        assert not (tmp_path / "b.tlc").exists()


def test_pillow_saves_it(dithered):
    file = io.BytesIO()
    options = {"model": str(make_dither.BUNDLE), "device": "cpu"}
    Image.fromarray(scene(20, 30)).save(file, "TLC", steady=True, **options)
    assert file.getvalue() == dithered.encode(scene(20, 30), steady=True)
    with pytest.raises(BadParameter, match="steady with trellis 4"):
        Image.fromarray(scene(8, 8)).save(io.BytesIO(), "TLC", steady=True, trellis=4, **options)


@pytest.mark.parametrize("change", [{"scale": 8}, {"kind": "labels", "labels": ["a"]}])
def test_a_model_without_pictures_of_full_size_is_refused(tiny, monkeypatch, change):
    manifest = tiny.bundle.manifest
    changed = manifest.decoders["quality"].model_copy(update=change)
    monkeypatch.setitem(manifest.decoders, "quality", changed)
    with pytest.raises(BadParameter, match="one that makes pictures of full size"):
        tiny.encode(scene(24, 32), refine=True)


def test_at_its_own_quality_a_trellis_makes_it_an_ordinary_file(dithered):
    data = dithered.encode(scene(70, 90), quality=60, steady=True)
    with pytest.warns(TrellicWarning, match="kept as it is"):
        assert dithered.transcode(data, quality=60) == data
    made = dithered.transcode(data, quality=60, trellis=0)
    assert bitstream.read_header(data).still
    assert not bitstream.read_header(made).still

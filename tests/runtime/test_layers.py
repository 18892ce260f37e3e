"""Layered streams: coding and decoding, cutting, damage, and pictures of streams that arrive."""

from __future__ import annotations

import contextlib
import hashlib
import json
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conformance import kit
from tests.data.make_dither import scene
from tests.data.make_layers import GOLDEN
from tests.runtime.family import in_slices, noise
from typer.testing import CliRunner

import trellic
from trellic import bitstream, images
from trellic.bitstream import Chunks, Layering
from trellic.bitstream.cut import lengths_of
from trellic.cli.app import app
from trellic.errors import (
    BadParameter,
    CorruptStream,
    StreamError,
    TrellicWarning,
    TruncatedStream,
)
from trellic.images import Picture
from trellic.latents import layered_coding
from trellic.latents.interval_slice import IntervalSlice
from trellic.latents.layered import shares
from trellic.latents.layered_coding import LayeredEncoder, levels_of
from trellic.latents.quantizer import Quantizer
from trellic.latents.refine import Known, carried, informed, variances
from trellic.latents.weighed_slice import WeighedSlice
from trellic.limits import SIGMA_FIRST, SIGMA_LAST
from trellic.pipeline import transforms
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.layers import layering_for, told16
from trellic.pipeline.options import EncodeOptions
from trellic.support.clock import Clock

GOLDENS = {
    "layers": "01cfbc73bbdefaabc3af573986222e3726735cda2b814ef15f1d0fd8dfc4e1a0",
    "layers-cut": "a71de7696f059477dac12ffee4ce43342aaff890ddd59fce987947d7d87b862e",
    "layers-scalar": "f8d62eff848fac781183f16bc33d7c7b4c613b5812bb041ff54642e1ddf50a0b",
    "intervals": "8c091603c98bcf0d5a9096ac52893571ed2ff87866ee5fd2d5fb3bc8f758cee7",
    "intervals-cut": "6abc78026d944f4e7f3697f6a8434e58d5fd91c8a9299fccf9f7de07e4577aaf",
    "intervals-2": "e99792d637da0b2f11c29a6dcc8bf72556f1d68276b9cf06274a50ba02631525",
}


def latents(codec, data):
    """Decode the latents of a layered stream, in steps of the layer that it reaches."""
    return kit.latents(codec, data)[1]


def coded(codec, pixels, layering, **options):
    """Encode with a layering of one's own."""
    encoder = StreamEncoder(codec.bundle, codec._pool, layering=layering)
    options = EncodeOptions(progressive=True, **options)
    return encoder.picture(images.from_any(pixels), options).data


def whole(below, parts, *, intervals=False):
    """Return a way to lay out the whole of a stream."""

    def layering(_, steps, __=0):
        made = Layering(below, parts, intervals=intervals)
        return made.cut(made.passes(steps))

    return layering


THREE = whole((480, 848), 4, intervals=True)


@pytest.fixture(scope="module")
def data(tiny):
    """A file of one slice, with alpha and a profile."""
    alpha = np.tile(np.arange(120, dtype=np.uint8), (90, 1))
    picture = Picture(scene(90, 120), alpha, icc=b"profile")
    encoder = StreamEncoder(tiny.bundle, tiny._pool, layering=THREE)
    return encoder.picture(picture, EncodeOptions(progressive=True, quality=75)).data


@pytest.fixture(scope="module")
def sliced(tiny):
    """A file of two slices."""
    return coded(tiny, scene(40, 1300), THREE, quality=75)


# ---- coding ----


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_streams(tiny, name):
    v32 = latents(tiny, (GOLDEN / f"{name}.tlc").read_bytes())
    assert hashlib.sha256(v32.astype("<i4").tobytes()).hexdigest() == GOLDENS[name]


@pytest.mark.parametrize(
    ("kind", "trellis"),
    [(WeighedSlice, 0), (WeighedSlice, 8), (WeighedSlice, 256), (IntervalSlice, 0)],
)
@pytest.mark.parametrize("size", [(1, 1), (17, 90), (40, 1300)])
def test_decoding_gives_the_latents_of_the_encoder(tiny, monkeypatch, kind, trellis, size):
    ways, intervals = [], kind is IntervalSlice

    class Recorded(kind):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            ways.append(self)

    monkeypatch.setattr(layered_coding, kind.__name__, Recorded)
    layering = whole((400, 768), 4, intervals=intervals)
    made = coded(tiny, scene(*size), layering, quality=70, trellis=trellis)
    header = bitstream.read_header(made)
    last = header.layering.layers - 1
    assert last > 0
    assert (header.layering.intervals, header.trellis) == (intervals, trellis)
    by_place = {way._part.left: way.latents(last) for way in ways}  # the last try of each slice
    expected = np.concatenate([by_place[left] for left in sorted(by_place)], axis=2)
    np.testing.assert_array_equal(latents(tiny, made), expected)
    assert np.count_nonzero(expected)


@pytest.mark.parametrize("trellis", [0, 8])
def test_one_layer_of_whole_steps_is_the_ordinary_stream(tiny, trellis):
    plain = tiny.encode(scene(90, 120), quality=60, trellis=trellis)
    pixels = scene(90, 120)
    made = coded(tiny, pixels, whole((), 1), quality=60, trellis=trellis)
    assert bitstream.read(made).segments == bitstream.read(plain).segments
    np.testing.assert_array_equal(tiny.decode(made), tiny.decode(plain))
    shorter = bitstream.cut(plain, passes=1).data
    assert shorter == bitstream.cut(made, passes=1).data  # an ordinary file can be cut, too


@pytest.mark.parametrize(("intervals", "trellis"), [(False, 8), (False, 0), (True, 0)])
def test_lanes_that_are_too_many_are_taken_back(tiny, monkeypatch, intervals, trellis):
    layering, options = whole((400, 768), 4, intervals=intervals), {"quality": 70}
    usual = coded(tiny, scene(90, 120), layering, trellis=trellis, **options)
    (lanes,) = bitstream.read_header(usual).lanes
    monkeypatch.setattr(layered_coding, "guess_lanes", lambda *_: 8 * lanes)
    made = coded(tiny, scene(90, 120), layering, trellis=trellis, **options)
    assert made == usual
    np.testing.assert_array_equal(tiny.decode(made), tiny.decode(usual))


def test_layers_of_intervals_code_the_latents_of_the_last_quality(tiny, monkeypatch):
    asked, analyse = [], StreamEncoder.analyse

    def spy(encoder, picture, plane, clock, max_memory, quality, *rest):
        asked.append(quality)
        return analyse(encoder, picture, plane, clock, max_memory, None, *rest)

    monkeypatch.setattr(StreamEncoder, "_sees", lambda *_: True)
    monkeypatch.setattr(StreamEncoder, "analyse", spy)
    coded(tiny, scene(17, 90), THREE, quality=75)
    assert asked == [75]
    asked.clear()
    coded(tiny, scene(17, 90), whole((480, 848), 4), quality=75, trellis=0)
    assert asked == [30, 53, 75]


@pytest.mark.parametrize("passes", [5, 17, 60])
def test_decoders_are_told_what_the_format_says(tiny, data, monkeypatch, passes):
    asked, told = [], transforms.told

    def spy(engine, quality):
        asked.append(quality)
        return told(engine, quality)

    monkeypatch.setattr(transforms, "told", spy)
    tiny.decode(bitstream.cut(data, passes=passes).data)
    layering = bitstream.read_header(data).layering
    assert asked == [told16(layering, 1200, 3, passes) / 16]


def test_decoders_of_the_first_steps_see_the_same_of_a_layered_stream(family):
    """A preview never learned what latents of later steps look like."""
    pixels = noise(90, 120)
    plain = family.encode(pixels, quality=60, trellis=8)
    made = coded(family, pixels, whole((), 1), quality=60, trellis=8)
    for name in ("preview", "half", "quality"):
        np.testing.assert_array_equal(
            family.decode(made, decoder=name), family.decode(plain, decoder=name)
        )


@pytest.mark.parametrize("intervals", [False, True])
@pytest.mark.parametrize("passes", [1, 12, 13, 30, 36])
def test_what_is_quantized_is_what_a_cut_file_decodes_to(tiny, passes, intervals):
    """Without bytes, as training wants it: also at and inside layers."""
    picture, layering = Picture(scene(90, 120)), whole((480, 848), 4, intervals=intervals)(0, 3)
    trellis = 0 if intervals else 8
    made = coded(tiny, scene(90, 120), lambda *_: layering, quality=75, trellis=trellis)
    plane = tiny.bundle.manifest.layout.plane(120, 90)
    seen = layering.of(passes - 1, 3)[0] + 1
    levels = levels_of(tiny.bundle.levels, (480, 848, 1200), trellis)[:seen]
    coder = tiny._encoding.latents()
    layered = LayeredEncoder(coder.predictor, tiny.bundle.tables, layering)
    f, h = tiny._encoding.analyse(picture, plane, Clock())
    quantizer = Quantizer(trellis, tiny.bundle.manifest.search["trellis"].lam)
    (lanes,) = bitstream.read_header(made).lanes
    found = layered.quantize([f] * seen, h, plane, levels, quantizer, passes, lanes)
    expected = latents(tiny, bitstream.cut(made, passes=passes).data)
    np.testing.assert_array_equal(found, expected)


def test_more_passes_are_better(tiny, data):
    original = scene(90, 120).astype(float)
    header = bitstream.read_header(data)
    ends = list(header.layering.ends(header.steps))
    errors = []
    for passes in ends:
        pixels = tiny.decode(bitstream.cut(data, passes=passes).data)[..., :3]
        errors.append(float(np.mean((pixels - original) ** 2)))
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)


def test_layers_are_for_qualities_far_apart():
    assert layering_for(1200, 4) == Layering((480, 848), 4, 80, intervals=True)
    assert layering_for(400, 4) == Layering((), 4, 16, intervals=True)


@pytest.mark.parametrize(("pixels", "parts"), [(1, 1), (32767, 1), (32768, 2), (131_072, 4)])
def test_small_pictures_have_few_passes(tiny, pixels, parts):
    made = layering_for(1200, 4, pixels)
    assert made == Layering((480, 848), parts, 20 * parts, intervals=True)
    if pixels == 1:
        layering = bitstream.read_header(tiny.encode(scene(1, 1), progressive=True)).layering
        assert layering.parts == 1


def test_passes_are_in_turns():
    """The layers above the lowest go through the steps twice if they narrow intervals."""
    weighed, narrowing = (Layering((480, 848), 2, 1, intervals) for intervals in (False, True))
    assert [of.passes(4) for of in (weighed, narrowing)] == [24, 40]
    assert [narrowing.passes(4, layers) for layers in range(4)] == [0, 8, 24, 40]
    places = [narrowing.of(n, 4) for n in (0, 7, 8, 15, 16, 23, 24, 39)]
    assert [layer for layer, _, _ in places] == [0, 0, 1, 1, 1, 1, 2, 2]
    assert [rest for _, *rest in places] == [[0, 0], [3, 1]] * 4
    assert list(narrowing.cut(25).ends(4)) == [8, 24]
    assert list(weighed.cut(24).ends(4)) == [8, 16, 24]


def test_a_decoder_is_told_a_quality_between_what_is_reached_and_the_last():
    layering = Layering((480, 848), 4, 1, intervals=True)
    told = [told16(layering, 1200, 4, passes) for passes in (1, 16, 17, 32, 48, 64, 80)]
    assert told[:2] == [1020, 1020]  # 480, and three quarters of what is missing
    assert told[2] == 480 + 368 / 32 + 0.75 * (720 - 368 / 32)
    assert told[3:] == [1066, 1112, 1156, 1200]
    assert told16(Layering((), 4, 1, intervals=True), 400, 4, 3) == 400


# ---- the integers ----


@pytest.mark.parametrize("scales", [2, 5, 24, 48, 64, 255])
def test_variances_are_the_exact_ones_rounded(scales):
    with localcontext() as context:
        context.prec = 50
        first, last = Decimal(str(SIGMA_FIRST)), Decimal(str(SIGMA_LAST))
        exact = [
            1024 * first**2 * (last / first) ** (Decimal(2 * i) / Decimal(2 * (scales - 1)))
            for i in range(2 * scales - 1)
        ]
    got = [int(value) for pair in zip(*variances(scales), strict=False) for value in pair]
    assert got == [int(value.to_integral_value()) for value in exact][: len(got)]
    assert all(abs(value % 1 - Decimal("0.5")) > Decimal("1e-9") for value in exact)


def plain_informed(mean, index, value, variance, scales):
    """One latent, in plain integers."""
    if variance == 0:
        return mean, index
    centres, borders = (table.tolist() for table in variances(scales))
    total = centres[index] + variance
    weight = (centres[index] << 15) // total
    left = centres[index] * variance // total
    moved = mean + (((value - mean) * weight + (1 << 14)) >> 15)
    return moved, sum(border <= left for border in borders)


@given(st.data())
def test_weighing_is_that_of_plain_integers(data):
    scales = data.draw(st.sampled_from([5, 48, 64]))
    count = data.draw(st.integers(1, 6))

    def draw(low, high):
        numbers = st.lists(st.integers(low, high), min_size=count, max_size=count)
        return np.array(data.draw(numbers), np.int64)

    mean, value = draw(-(2**20), 2**20), draw(-(2**20), 2**20)
    index, variance = draw(0, scales - 1), draw(0, 2**30)
    got = informed(mean, index, Known(value, variance), scales)
    rows = zip(*(a.tolist() for a in (mean, index, value, variance)), strict=True)
    expected = [plain_informed(*row, scales) for row in rows]
    assert list(zip(*(part.tolist() for part in got), strict=True)) == expected


def test_what_is_known_is_carried_over():
    known = Known(np.array([[[64, -64, 7]]]), np.array([[[1024, 0, 1]]]))
    after = carried(known, np.array([1000]), np.array([2000]))
    assert after.v32.tolist() == [[[128, -128, 14]]]
    assert after.variance.tolist() == [[[4096, 0, 4]]]


@given(st.lists(st.integers(0, 47), max_size=60), st.sampled_from([1, 2, 4, 8]))
def test_shares_are_all_in_order(index, parts):
    index = np.array(index, np.uint8)
    order, ends = shares(index, parts)
    assert sorted(order.tolist()) == list(range(len(index)))
    assert len(ends) == parts
    assert ends == sorted(ends)
    assert ends[-1] == len(index)
    if parts > 1:
        keys = [(-int(index[i]), i) for i in order]
        assert keys == sorted(keys)


# ---- cutting ----


def test_every_pass_is_a_file(tiny, data):
    lengths = lengths_of(data)
    passes = bitstream.read_header(data).passes
    assert len(lengths) == passes == 60
    for kept, length in enumerate(lengths, 1):
        made = bitstream.cut(data, max_bytes=length)
        assert (made.passes, made.before, made.between) == (kept, passes, False)
        assert len(made.data) == length
        stream = bitstream.read(made.data)
        assert stream.chunks.icc == b"profile"
        assert bitstream.cut(data, passes=kept).data == made.data
        assert lengths_of(made.data) == lengths[:kept]
    assert made.data == data
    middle = bitstream.cut(bitstream.cut(data, passes=20).data, passes=7).data
    assert middle == bitstream.cut(data, passes=7).data
    assert tiny.decode(middle).shape == (90, 120, 4)


def test_a_layer_more_or_less(data):
    header = bitstream.read_header(data)
    assert header.layering.layers == 3
    for layers in (1, 2, 3):
        made = bitstream.cut(data, layers=layers)
        assert made.passes == (2 * layers - 1) * header.steps * 4
    with pytest.warns(TrellicWarning, match="the file has 3 layers, not 9"):
        assert bitstream.cut(data, layers=9).data == data
    inside = bitstream.cut(data, passes=header.steps * 4 + 1).data
    assert bitstream.cut(inside, layers=2).data == inside
    with pytest.warns(TrellicWarning, match="the file has 2 layers, not 3"):
        bitstream.cut(inside, layers=3)


def test_an_ordinary_file_has_one_layer(plain_stream):
    assert bitstream.cut(plain_stream, layers=1).data == plain_stream
    with pytest.warns(TrellicWarning, match="the file has 1 layer, not 2"):
        bitstream.cut(plain_stream, layers=2)


@pytest.mark.parametrize(
    "options", [{}, {"max_bytes": 3000.5}, {"max_bytes": True}, {"layers": 1.5}, {"layers": True}]
)
def test_a_cut_needs_a_length_that_is_a_whole_number(data, options):
    with pytest.raises(BadParameter, match="expected"):
        trellic.cut(data, **options)


def test_a_length_inside_a_pass_gives_the_last_whole_one(data):
    lengths = lengths_of(data)
    made = bitstream.cut(data, max_bytes=lengths[9] - 1)
    assert len(made.data) <= lengths[9] - 1
    assert made.between


def test_lengths_that_hold_no_picture(data):
    with pytest.raises(BadParameter, match=r"a length of 50 bytes; expected at least \d+"):
        bitstream.cut(data, max_bytes=50)
    with pytest.raises(TruncatedStream, match="inside the first pass"):
        bitstream.cut(data[: bitstream.read_contents(data).head.end])
    with pytest.raises(TruncatedStream):
        bitstream.cut(data[:20])
    for options in ({"max_bytes": 0}, {"layers": -1}, {"passes": 0}):
        with pytest.raises(BadParameter, match="at least 1"):
            bitstream.cut(data, **options)


def test_slices_are_cut_alike(tiny, sliced):
    made = bitstream.cut(sliced, passes=11).data
    assert bitstream.read(made).header.slices == 2
    whole = tiny.decode(made)
    np.testing.assert_array_equal(tiny.decode(made, region=(990, 3, 80, 30)), whole[3:33, 990:1070])


def test_ordinary_files_of_slices_can_be_cut(family):
    plain = in_slices(family, noise(300, 515), Chunks(icc=b"profile"))
    made = bitstream.cut(plain, passes=1)
    assert family.decode(made.data).shape == (300, 515, 3)
    assert made.before == bitstream.read_header(plain).steps


# ---- damage ----


def flipped(data, at):
    """Return the file with one byte changed."""
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("number", [1, 30, -2])
def test_a_damaged_part_is_never_cut_out_as_if_it_were_missing(tiny, data, number):
    contents = bitstream.read_contents(data)
    index = range(contents.header.segments)[number]
    broken = flipped(data, contents.segment(index).offset)
    for read in (
        lambda: bitstream.cut(broken),
        lambda: bitstream.cut(broken, max_bytes=10**6),
        lambda: list(tiny.decode_progressive(broken)),
        lambda: list(tiny.decode_progressive([broken[:-9], broken[-9:]])),
    ):
        with pytest.raises(CorruptStream, match="checksum"):
            read()
    if number > 6:  # what lies before the damage is sound
        lengths = lengths_of(data)
        assert bitstream.cut(broken, max_bytes=lengths[5]).passes == 6


def test_damage_after_the_last_check_of_a_part_is_said(tiny, data):
    """There a file of one slice cannot be told from one that is cut short."""
    for broken in (data + b"xyz", flipped(data, -5)):
        with pytest.warns(TrellicWarning, match="ends, or is damaged, after 59 of 60 passes"):
            *_, last = tiny.decode_progressive(broken)
        np.testing.assert_array_equal(last, tiny.decode(bitstream.cut(data, passes=59).data))


def test_the_best_of_a_damaged_length_is_shown_with_a_warning(tmp_path, monkeypatch, tiny, data):
    from trellic.cli import engines

    monkeypatch.setattr(engines, "load_codec", lambda *_, **__: tiny)
    monkeypatch.setattr(engines, "find_stream", lambda _: "tiny")
    contents = bitstream.read_contents(data)
    (tmp_path / "a.tlc").write_bytes(flipped(data, contents.segment(30).offset))
    words = ["decode", str(tmp_path / "a.tlc"), str(tmp_path / "a.png"), "--bytes", "1000000"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "the checksum of segment 30 does not match" in done.output
    assert not (tmp_path / "a.png").exists()
    done = CliRunner().invoke(app, [*words, "--best-effort"])
    assert "only the first 29 of 60 passes are whole" in done.output
    assert images.read(tmp_path / "a.png").pixels.shape == (90, 120, 3)


@settings(max_examples=60)
@given(st.data())
def test_damaged_streams_give_our_errors_alone(tiny, data, sliced, drawn):
    whole = drawn.draw(st.sampled_from([data, sliced]))
    broken = bytearray(whole[: drawn.draw(st.integers(0, len(whole)))])
    for at in drawn.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=3)):
        if broken:
            broken[at] ^= drawn.draw(st.integers(0, 255))
    for read in (
        lambda: tiny.decode(bitstream.cut(bytes(broken)).data),
        lambda: tiny.decode_timed(bytes(broken), best_effort=True),
        lambda: tiny.decode(bytes(broken), region=(0, 0, 9, 9)),
    ):
        with contextlib.suppress(StreamError, BadParameter):
            read()


def test_a_wrong_symbol_is_found(tiny, data):
    """Checks hold, yet a segment is another one's: the end states tell."""
    stream = bitstream.read(data)
    segments = list(stream.segments)
    segments[-1] = bytes(len(segments[-1]))
    with pytest.raises(StreamError):
        tiny.decode(bitstream.write(bitstream.Stream(stream.header, segments, stream.chunks)))


def test_best_effort_goes_as_far_as_each_slice(tiny, sliced):
    contents = bitstream.read_contents(sliced)
    broken = bytearray(sliced)
    broken[contents.segment(contents.header.segment_index(8, 1)).offset] ^= 1
    decoded = tiny.decode_timed(bytes(broken), best_effort=True)
    assert decoded.damage.slices == (1,)
    assert decoded.damage.lost == 60 - 8
    assert decoded.damage.segments == 120


# ---- what does not go together ----


def test_options_that_exclude_each_other(tiny):
    with pytest.raises(BadParameter, match="progressive with dither"):
        tiny.encode(scene(8, 8), trellis=0, dither=1, progressive=True)
    header = bitstream.read_header(tiny.encode(scene(8, 8)))
    with pytest.raises(BadParameter, match="rising"):
        Layering((800, 800))
    with pytest.raises(BadParameter, match="parts"):
        Layering(parts=3)
    with pytest.raises(BadParameter, match="at most 4"):
        Layering((100, 200, 300, 400))
    with pytest.raises(BadParameter, match="below"):
        type(header)(**(vars(header) | {"layering": Layering((1600,))}))
    with pytest.raises(BadParameter, match="25 passes; expected 1 to 3"):
        type(header)(**(vars(header) | {"layering": Layering((), 1, 25)}))
    narrowing = Layering((), 1, 3, intervals=True)
    with pytest.raises(BadParameter, match="trellis of 32 states with intervals; expected none"):
        type(header)(**(vars(header) | {"layering": narrowing}))
    type(header)(**(vars(header) | {"layering": narrowing, "trellis": 0}))
    many = Layering((100, 200, 300), 8, 1, intervals=True)
    many.check(1200, 4)
    with pytest.raises(BadParameter, match="layers of 280 passes; expected at most 256"):
        many.check(1200, 5)


def test_a_size_is_met_with_layers(tiny):
    made = tiny.encode_picture(images.from_any(scene(200, 300)), max_bytes=3000, progressive=True)
    assert 2700 < len(made.data) <= 3000


# ---- streams that arrive ----


@pytest.mark.parametrize("piece", [1, 100, 10**6])
def test_pictures_of_a_stream_that_arrives(tiny, data, piece):
    short = bitstream.cut(data, passes=9).data if piece == 1 else data
    chunks = [short[i : i + piece] for i in range(0, len(short), piece)]
    pictures = list(tiny.decode_progressive(chunks))
    np.testing.assert_array_equal(pictures[-1], tiny.decode(short))
    most = bitstream.read_header(short).passes if piece == 1 else -(-len(short) // piece) + 1
    assert 1 < len(pictures) <= most


def every_other_byte(data):
    return memoryview(np.repeat(np.frombuffer(data, np.uint8), 2))[::2]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, every_other_byte])
def test_a_stream_may_come_in_one_piece(tiny, data, kind):
    in_one, in_a_list = (list(tiny.decode_progressive(s)) for s in (kind(data), [kind(data)]))
    assert len(in_one) == len(in_a_list) <= 2
    np.testing.assert_array_equal(in_one[-1], tiny.decode(data))


@pytest.mark.parametrize("stream", ["a.tlc", 5, None, [5], [b"TLC", "a"], np.zeros(9, np.uint8)])
def test_what_is_no_stream_is_refused(tiny, stream):
    with pytest.raises(BadParameter, match=r"an object of type \w+; expected the bytes"):
        list(tiny.decode_progressive(stream))


def test_a_stream_that_ends_early(tiny, sliced):
    with pytest.warns(TrellicWarning, match=r"after \d+ of 60 passes"):
        pictures = list(tiny.decode_progressive([sliced[:-300]]))
    assert len(pictures) == 1
    assert bitstream.cut(sliced[:-1]).data == sliced  # all passes are there
    with pytest.raises(TruncatedStream):
        list(tiny.decode_progressive([sliced[:30]]))
    with pytest.raises(StreamError):
        list(tiny.decode_progressive([b""]))


# ---- commands ----


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def test_commands(tiny, data, tmp_path, monkeypatch):
    from trellic.cli import engines

    monkeypatch.setattr(engines, "load_codec", lambda *_, **__: tiny)
    monkeypatch.setattr(engines, "find_stream", lambda _: "tiny")
    source, short = tmp_path / "a.tlc", tmp_path / "b.tlc"
    source.write_bytes(data)
    length = lengths_of(data)[5]
    done = json.loads(run("cut", source, short, "--max-bytes", length + 1, "--json").stdout)
    assert (done["passes"], done["before"], done["bytes"]) == (6, 60, length)
    assert short.read_bytes() == bitstream.cut(data, passes=6).data
    run("decode", short, tmp_path / "b.png")
    said = run("decode", source, tmp_path / "c.png", "--bytes", length + 1)
    assert "ends inside a pass: the first 6 of 60 are decoded" in said.stderr
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    run("decode", source, tmp_path / "d.png", "--layers", 1)
    for command, target in (("cut", short), ("decode", tmp_path / "d.png")):
        said = run(command, source, target, "--layers", 99)
        assert f"warning: {source}: the file has 3 layers, not 99" in said.stderr
    for command, option, target in (("cut", "--max-bytes", short), ("decode", "--bytes", "d.png")):
        assert run(command, source, tmp_path / target, option, 10 * len(data)).stderr == ""
    run("decode", source, tmp_path / "d.png", "--layers", 1)
    told = json.loads(run("info", source, "--json").stdout)
    assert told["layers"] == 3
    assert [row["bytes"] for row in told["lengths"]] == lengths_of(data)
    assert told["lengths"][0] == {
        "passes": 1,
        "bytes": lengths_of(data)[0],
        "layer": 1,
        "quality": 30,
    }
    assert "layer 2 (quality 53)" in run("info", source).stdout
    said = run("decode", source, tmp_path / "e.png", "--bytes", 100, code=1)
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "e.png").exists()
    run("cut", source, tmp_path / "f.tlc", code=2)
    images.write(tmp_path / "g.png", Picture(scene(64, 64)))
    run("encode", tmp_path / "g.png", tmp_path / "g.tlc", "--progressive")
    assert bitstream.read_header((tmp_path / "g.tlc").read_bytes()).layering is not None

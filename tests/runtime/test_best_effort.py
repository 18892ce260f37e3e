"""Damage is found; on request, what it spared is decoded, and the rest is said to be lost."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest

from trellic import bitstream
from trellic.bitstream import Chunks, Stream
from trellic.cli import compiling
from trellic.codec import Codec
from trellic.errors import CorruptStream, StreamError, TrellicWarning
from trellic.geometry import Plane, slice_grid
from trellic.images import Picture
from trellic.latents import encoder
from trellic.latents.quantizer import Quantizer, Symbols
from trellic.support.clock import Clock


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of noise, which cost something in every context step."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def small_slices(codec: Codec, pixels: np.ndarray, chunks: Chunks) -> bytes:
    """A stream of several slices of 16 x 16 latents."""
    height, width = pixels.shape[:2]
    plane, level = Plane(width, height), codec.bundle.levels.at(960, 8)
    f, h = codec._encoding.analyse(Picture(pixels), plane, Clock(), None)
    coded = codec._encoding.latents().encode(f, h, plane, level, Quantizer(8, 28), slice_side=16)
    usual = bitstream.read_header(codec.encode(pixels, quality=60, trellis=8))
    header = dataclasses.replace(usual, slice_side=16, lanes=tuple(coded.lanes))
    return bitstream.write(Stream(header, coded.segments, chunks))


@pytest.fixture(scope="module")
def sliced(tiny):
    return small_slices(tiny, noise(300, 500), Chunks(icc=b"profile", exif=b"II*\0"))


@pytest.fixture(scope="module")
def plain(tiny):
    return tiny.encode(noise(100, 150), trellis=8)


def latents(codec: Codec, segments, header, lost=None) -> np.ndarray:
    plane = Plane(header.width, header.height)
    level = codec.bundle.levels.at(header.quality16, header.trellis)
    rest = header.lanes, plane, level, header.trellis, header.slice_side, lost
    return codec._decoding.latents().decode(segments, *rest)


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def best_effort(codec: Codec, data: bytes) -> tuple[np.ndarray, str]:
    """The picture, and the warning."""
    with pytest.warns(TrellicWarning, match="the file is damaged; lost: ") as warned:
        picture = codec.decode(data, best_effort=True)
    assert len(warned) == 1
    return picture, str(warned[0].message)


# ---- without --best-effort: found, every time ----


def test_no_flip_and_no_cut_goes_unseen(tiny):
    data = tiny.encode(noise(20, 30), quality=30)
    for bit in range(8 * len(data)):
        with pytest.raises(StreamError):
            tiny.decode(flipped(data, bit // 8, bit % 8))
    for length in range(len(data)):
        with pytest.raises(StreamError):
            tiny.decode(data[:length])


# ---- what is decoded ----


def test_a_whole_file_gives_no_warning(tiny, plain, sliced):
    for data in (plain, sliced):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            whole = tiny.decode(data, best_effort=True)
        np.testing.assert_array_equal(whole, tiny.decode(data))
        assert tiny.decode_timed(data, best_effort=True).damage is None


def test_lost_latents_are_their_means(tiny, monkeypatch):
    """A step that is lost decodes like one whose symbols are all zero."""
    last = len(tiny.bundle.manifest.layout.steps) - 1
    quantize = encoder.quantize
    steps = []

    def zero_at_last(t32, *rest):
        steps.append(len(t32))
        made = quantize(t32, *rest)
        if len(steps) % (last + 1):
            return made
        return Symbols(made.k * 0, np.ones_like(made.cls), made.recon32 * 0)

    header = bitstream.read_header(tiny.encode(noise(100, 150), quality=60, trellis=8))
    plane, level = Plane(150, 100), tiny.bundle.levels.at(960, 8)
    f, h = tiny._encoding.analyse(Picture(noise(100, 150)), plane, Clock(), None)
    coder, quantizer = tiny._encoding.latents(), Quantizer(8, 28)
    usual = coder.encode(f, h, plane, level, quantizer, lanes=[1]).segments
    monkeypatch.setattr(encoder, "quantize", zero_at_last)
    zeros = coder.encode(f, h, plane, level, quantizer, lanes=[1]).segments
    assert len(steps) == last + 1
    lost: set[int] = set()
    part = latents(tiny, [*usual[:-1], None], header, lost)
    np.testing.assert_array_equal(part, latents(tiny, zeros, header))
    assert lost == {len(usual) - 1}
    assert not np.array_equal(part, latents(tiny, usual, header))


def test_missing_segments_are_an_error_unless_forgiven(tiny, plain):
    stream = bitstream.read(plain)
    for number in range(len(stream.segments)):
        segments = [*stream.segments]
        segments[number] = None
        with pytest.raises(CorruptStream, match="missing"):
            latents(tiny, segments, stream.header)


def test_a_damaged_slice_harms_no_other(tiny, sliced):
    stream, layout = bitstream.read(sliced), bitstream.read_contents(sliced)
    header = stream.header
    assert header.slices == 4
    whole = latents(tiny, stream.segments, header)
    grid = slice_grid(*whole.shape[1:], 16)
    steps = tiny.bundle.manifest.layout.step_of
    for number in range(1, header.segments):
        span = layout.segment(number)
        data = flipped(sliced, span.offset + span.length // 2, 3)
        with pytest.raises(CorruptStream):
            tiny.decode(data)
        decoded = tiny.decode_timed(data, best_effort=True)
        step, slice_ = divmod(number - 1, header.slices)
        behind = header.steps - step
        assert decoded.damage.slices == (slice_,)
        assert (decoded.damage.lost, decoded.damage.segments) == (behind, 12)
        lost: set[int] = set()
        part = latents(tiny, bitstream.read_prefix(data).segments, header, lost)
        assert lost == {1 + k * 4 + slice_ for k in range(step, header.steps)}
        for i, at in enumerate(grid):
            window = np.s_[:, at.top : at.bottom, at.left : at.right]
            if i != slice_:
                np.testing.assert_array_equal(part[window], whole[window])
                continue
            y, x = np.mgrid[: at.bottom - at.top, : at.right - at.left]
            before = steps[:, (y + x) & 1] < step
            np.testing.assert_array_equal(part[window][before], whole[window][before])
            assert not np.array_equal(part[window], whole[window])


@pytest.mark.parametrize("kind", ["plain", "sliced"])
def test_every_cut_gives_a_picture_or_an_error(tiny, kind, request):
    """The longer the beginning, the fewer segments are lost."""
    data = request.getfixturevalue(kind)
    head = bitstream.read_contents(data).head.end
    whole = tiny.decode(data)
    lost = []
    lengths = [*range(0, head, 9), head - 1, head, *range(head + 1, len(data), 211), len(data) - 1]
    for length in lengths:
        cut = data[:length]
        if length < head:
            with pytest.raises(StreamError):
                tiny.decode(cut, best_effort=True)
            continue
        decoded = tiny.decode_timed(cut, best_effort=True)
        assert decoded.picture.pixels.shape == whole.shape
        lost.append(decoded.damage.lost)
    assert lost == sorted(lost, reverse=True)
    assert lost[0] == bitstream.read_header(data).segments - 1
    # the last segment of one slice has no check of its own
    assert lost[-1] == (1 if kind == "plain" else 0)


@pytest.mark.parametrize("kind", ["plain", "sliced"])
def test_every_flip_is_said(tiny, kind, request):
    data = request.getfixturevalue(kind)
    head = bitstream.read_contents(data).head.end
    for at in range(0, head):
        with pytest.raises(StreamError):
            tiny.decode(flipped(data, at, at % 8), best_effort=True)
    for at in range(head, len(data), 101):
        decoded = tiny.decode_timed(flipped(data, at, at % 8), best_effort=True)
        assert decoded.damage is not None


def test_more_segments_make_a_better_picture(tiny, sliced):
    layout = bitstream.read_contents(sliced)
    whole = tiny.decode(sliced).astype(float)
    ends = [layout.segment(number).offset for number in (1, 5, 9)] + [len(sliced) - 1]
    errors = []
    for end in ends:
        decoded = tiny.decode_timed(sliced[:end], best_effort=True)
        errors.append(np.square(decoded.picture.pixels - whole).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0  # only the file's own check is missing
    assert errors[0] > 4 * errors[2]


def test_a_segment_whose_check_holds_by_chance_takes_its_slice_along(tiny, sliced, monkeypatch):
    layout = bitstream.read_contents(sliced)
    span = layout.segment(6)  # step 1 of slice 1
    data = bytearray(sliced)
    data[span.offset : span.end] = bytes(span.length)
    data[span.end : span.end + 2] = bitstream.fields.crc16(bytes(span.length))
    decoded = tiny.decode_timed(bytes(data), best_effort=True)
    assert (decoded.damage.lost, decoded.damage.slices) == (3, (1,))


def test_what_is_lost_is_named(tiny, sliced):
    layout = bitstream.read_contents(sliced)
    _, message = best_effort(tiny, flipped(sliced, layout.chunks["exif"].offset))
    assert message == "the file is damaged; lost: the exif chunk"
    picture = tiny.decode_timed(flipped(sliced, layout.chunks["exif"].offset), best_effort=True)
    assert (picture.picture.icc, picture.picture.exif) == (b"profile", None)
    back, message = best_effort(tiny, flipped(sliced, len(sliced) - 1))
    assert message == "the file is damaged; lost: nothing that the picture needs"
    np.testing.assert_array_equal(back, tiny.decode(sliced))
    back, message = best_effort(tiny, sliced[: layout.segment(11).end])
    assert message == "the file is damaged; lost: 2 of 12 segments"
    assert back.shape == (300, 500, 3)


def test_lost_alpha_is_left_out(tiny):
    pixels = noise(30, 40)
    data = tiny.encode(np.dstack([pixels, pixels[..., 0]]))
    at = bitstream.read_contents(data).chunks["alpha"].offset
    back, message = best_effort(tiny, flipped(data, at + 5))
    assert back.shape == (30, 40, 3)
    assert "the alpha chunk" in message


def test_a_chunk_that_is_wrong_in_a_whole_file_is_said(tiny, monkeypatch):
    pixels = noise(30, 40)
    data = bytearray(tiny.encode_picture(Picture(pixels, icc=b"profile")).data)
    span = bitstream.read_contents(bytes(data)).chunks["icc"]
    data[span.offset : span.end] = bytes(span.length)
    data[span.end : span.end + 2] = bitstream.fields.crc16(bytes(span.length))
    data[-4:] = bitstream.fields.crc32(bytes(data[:-4]))
    with pytest.raises(StreamError):
        tiny.decode(bytes(data))
    assert best_effort(tiny, bytes(data))[1] == "the file is damaged; lost: the icc chunk"


# ---- the command ----


@pytest.fixture
def command(tmp_path, monkeypatch, trellic, tiny_path):
    monkeypatch.setenv("TRELLIC_MODELS", str(tiny_path.parent))

    def run(data, *options):
        (tmp_path / "a.tlc").write_bytes(data)
        return trellic("decode", tmp_path / "a.tlc", tmp_path / "b.png", *options)

    run.out = tmp_path / "b.png"
    return run


def test_the_command_says_what_is_lost(command, sliced):
    cut = sliced[:-600]
    assert command(cut).code == 1
    assert not command.out.exists()
    result = command(cut, "--best-effort", "--json")
    assert result.code == 0
    assert command.out.exists()
    fields = json.loads(result.out)
    assert fields["damage"]["segments"] == 12
    assert 1 <= fields["damage"]["lost"] <= 4
    assert fields["damage"]["chunks"] == []
    lost = fields["damage"]["lost"]
    said = [line for line in result.err.splitlines() if line != compiling.FIRST_RUN]  # if slow
    assert len(said) == 1
    assert said[0].startswith("warning: ")
    assert said[0].endswith(f"the file is damaged; lost: {lost} of 12 segments")


def test_the_command_on_a_whole_file(command, sliced):
    result = command(sliced, "--best-effort", "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["damage"] is None
    assert "damage" not in json.loads(command(sliced, "--json").out)


def test_the_command_without_a_head(command, sliced):
    result = command(sliced[:30], "--best-effort")
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert not command.out.exists()

"""The still lattice: the search, its classes, and whole streams.

The bundle is the tiny one with tables for dither (``tests/data/make_dither.py``).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.make_dither import scene

from trellic import bitstream, entropy
from trellic.bitstream import Chunks, Layering, Stream
from trellic.entropy import quantized_pmf, reference
from trellic.entropy.tables import DitherTables, Tables
from trellic.errors import BadParameter, CorruptStream, StreamError, TrellicWarning
from trellic.geometry import Plane
from trellic.images import Picture
from trellic.latents import decoder, quantizer
from trellic.latents.encoder import NOT_CODED, LatentEncoder
from trellic.latents.order import grid_of
from trellic.latents.quantizer import Quantizer, lattice_of
from trellic.quantize import still, still_cpu
from trellic.quantize.search_tables import escape_rate
from trellic.support.clock import Clock

from .family import in_slices, latents_of, noise

SEARCHES = pytest.mark.parametrize("made", [still, still_cpu], ids=["reference", "cpu"])
STILL = Quantizer(0, 26, still=True)
SCALES = 3
FAR = 32 * 32767


def any_tables(seed: int) -> Tables:
    """Valid tables whose costs are neither monotone nor symmetric."""
    rng = np.random.default_rng(seed)

    def family(classes):
        width = rng.integers(0, 5, (classes, SCALES)).astype(np.uint16)
        sizes = 2 * width.ravel() + 2
        return width, np.concatenate([quantized_pmf(rng.dirichlet(np.ones(n))) for n in sizes])

    off = np.zeros((3, SCALES, 4), np.int16)
    return Tables(*family(3), off, 21, dither=DitherTables(*family(8)))


TABLES = [any_tables(seed) for seed in range(3)]


def cost(k, t, offset, index, rates, lam):
    """What an index costs, spelled out from the specification."""
    cls = 3 + ((offset + 16) >> 1)
    width, zero = int(rates.half_width[cls, index]), int(rates.zero[cls, index])
    bits = int(rates.rate[zero + (k if abs(k) <= width else width + 1)])
    bits += escape_rate(abs(k) - width - 1) if abs(k) > width else 0
    return 16 * (t + offset - 32 * k) ** 2 + lam * bits


# ---- the search ----


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4096), st.sampled_from(TABLES))
def test_the_compiled_search_is_the_reference(seed, lam, tables):
    rng = np.random.default_rng(seed)
    t32 = rng.integers(-300, 300, 60).astype(np.int32)
    t32[:8] = rng.integers(-FAR - 99, FAR + 99, 8)  # up to the largest index and beyond
    t32[8:12] = FAR + 99 * rng.integers(-1, 2, 4)
    t32[12:30] &= -16  # ties
    index, offset = (rng.integers(a, b, 60) for a, b in ((0, SCALES), (-16, 16)))
    given_ = t32, index.astype(np.uint8), offset.astype(np.int8), tables, lam
    k = still.search(*given_)
    assert (k.dtype, np.abs(k).max() <= 32767) == (np.int32, True)
    assert still_cpu.search(*given_).tolist() == k.tolist()


@SEARCHES
@pytest.mark.parametrize("lam", [0, 26, 4096])
def test_no_index_is_cheaper(made, lam):
    """Brute force over 33 indices; ties go to the smaller magnitude, then the positive one."""
    rng = np.random.default_rng(lam)
    t32 = rng.integers(-250, 250, 300).astype(np.int32)
    t32[:40] = 16 * rng.integers(-9, 9, 40)  # ties
    offset = rng.integers(-16, 16, 300).astype(np.int8)
    offset[:40] = 0
    index = rng.integers(0, SCALES, 300).astype(np.uint8)
    rates = still.rates_of(TABLES[0])
    found = made.search(t32, index, offset, TABLES[0], lam)
    rows = (part.tolist() for part in (found, t32, offset, index))
    for k, *latent in zip(*rows, strict=True):
        row = [(cost(c, *latent, rates, lam), abs(c), c < 0, c) for c in range(-16, 17)]
        assert k == min(row)[3], latent


@SEARCHES
def test_ties(made):
    """Half a step without rates: towards zero, and at zero towards the positive index."""
    t32, index = np.array([16, -16, 48, -48, 21], np.int32), np.zeros(5, np.uint8)
    offset = np.array([0, 0, 0, 0, -5], np.int8)
    assert made.search(t32, index, offset, TABLES[0], 0).tolist() == [0, 0, 1, -1, 0]


@SEARCHES
def test_worked_examples(made):
    """A mean of 70 lies 6 above the level 64: indices -1, 0, 1 are the levels 32, 64, 96."""
    mean32 = np.array([70, 70, 70, 5, -17, 16, -16], np.int32)
    offset = made.offsets(mean32)
    assert offset.tolist() == [6, 6, 6, 5, 15, -16, -16]
    assert made.classes(offset).tolist() == [14, 14, 14, 13, 18, 3, 3]
    k = np.array([-1, 0, 1, 0, 0, 0, 0], np.int32)
    levels = mean32 + made.reconstruct(k, offset)
    assert levels.tolist() == [32, 64, 96, 0, -32, 32, 0]
    target = np.array([40, 70, 90, -8, -40, 30, 9], np.int32)
    found = made.search(target - mean32, np.zeros(7, np.uint8), offset, TABLES[0], 0)
    assert found.tolist() == [-1, 0, 1, 0, 0, 0, 0]


@SEARCHES
@given(st.integers(0, 2**32 - 1))
def test_levels_are_whole_steps_wherever_the_mean_is(made, seed):
    rng = np.random.default_rng(seed)
    mean32 = rng.integers(-(2**27), 2**27, 200).astype(np.int32)
    k = rng.integers(-32767, 32768, 200).astype(np.int32)
    offset, nearest = made.offsets(mean32), mean32 + 16 >> 5 << 5
    assert (offset == mean32 - nearest).all()
    assert (mean32 + made.reconstruct(k, offset)).tolist() == (nearest + 32 * k).tolist()


@SEARCHES
def test_classes_are_those_of_noise_twice_as_large(made):
    offset = np.arange(-16, 16, dtype=np.int8)
    cls = made.classes(offset)
    assert cls.tolist() == [3 + i // 2 for i in range(32)]
    assert cls.tolist() == [3 + ((2 * int(one) + 32) >> 2) for one in offset]


def test_a_latent_on_a_level_can_keep_it(dithered):
    """The search alone moves some that it had put there itself."""
    t32, index, offset = np.array([-77], np.int32), np.array([4], np.uint8), np.array([-3], np.int8)
    sizes = index, offset, dithered.bundle.tables
    k = still_cpu.search(t32, *sizes, 26)
    back = still_cpu.reconstruct(k, offset)
    again = still_cpu.search(back, *sizes, 26)
    assert (k.tolist(), again.tolist()) == ([-2], [-1])
    assert still_cpu.kept(back, offset, again).tolist() == [-2]
    assert still_cpu.kept(back + 1, offset, again).tolist() == [-1]
    beyond = np.array([2**21], np.int32)
    assert still_cpu.kept(beyond, np.zeros(1, np.int8), again).tolist() == [-1]
    last, none = np.array([32 * 32767], np.int32), np.zeros(1, np.int8)
    assert still_cpu.kept(last, none, again).tolist() == [32767]
    assert still_cpu.kept(last, none, again).dtype == np.int32


def test_what_a_decoder_adds_is_of_32_bits():
    found = still.reconstruct(np.array([2, -1], np.int16), np.array([5, -16], np.int8))
    assert (found.tolist(), found.dtype) == ([59, -16], np.int32)


# ---- streams ----


def analysed(codec, pixels):
    plane = Plane(pixels.shape[1], pixels.shape[0])
    return *codec._encoding.analyse(Picture(pixels), plane, Clock(), None), plane


def test_a_file_has_the_latents_that_the_encoder_had(dithered):
    pixels = scene(70, 100)
    data = dithered.encode(pixels, steady=True, quality=87.5)
    header = bitstream.read_header(data)
    assert (header.still, header.trellis, header.dither, header.slices) == (True, 0, None, 1)
    plane, level = Plane(100, 70), dithered.bundle.levels.at(1400, 0)
    f = latents_of(dithered, data) * (np.float32(128) / level.gain)[:, None, None]
    coder, stream = dithered._decoding.latents(), bitstream.read(data)
    z = coder.hyper_latents(stream.segments, header.lanes, plane, level, lattice_of(header))
    h = (z / level.hyper_gain_float[:, None, None]).astype(np.float32)
    keeping = dataclasses.replace(STILL, keep=True)
    made = dithered._encoding.latents().quantize(f.astype(np.float32), h, plane, level, keeping)
    np.testing.assert_array_equal(latents_of(dithered, data), made.v32)
    coded = made.cls != NOT_CODED
    assert 100 < coded.sum() < made.v32.size
    assert (made.v32[coded] % 32 == 0).all()
    assert (made.v32[~coded] % 32 != 0).any()  # those are their means
    assert set(made.cls[coded].tolist()) == set(range(3, 19))


@pytest.mark.parametrize("shape", [(1, 1), (1, 130), (65, 40), (40, 50, 4)])
def test_pictures_come_back(dithered, shape):
    pixels = scene(*shape[:2])[..., 0] if len(shape) == 2 else scene(*shape[:2])
    if len(shape) == 3:
        pixels = np.dstack([pixels, np.arange(50, dtype=np.uint8) + np.zeros((40, 1), np.uint8)])
    data = dithered.encode(pixels, steady=True)
    back, plain = dithered.decode(data), dithered.decode(dithered.encode(pixels, trellis=0))
    assert back.shape == pixels.shape
    error = [np.square(pixels.astype(float) - other).mean() for other in (back, plain)]
    assert error[0] < 1.2 * error[1] + 1
    if len(shape) == 3:
        assert (back[..., 3] == pixels[..., 3]).all()


@pytest.fixture(scope="module")
def sliced(dithered):
    return in_slices(dithered, noise(300, 280), Chunks(), STILL)


def test_slices_have_the_latents_that_the_encoder_had(dithered, monkeypatch):
    real, planes = LatentEncoder._coded, {}

    def noted(self, y32, context, *rest):
        coded = real(self, y32, context, *rest)
        planes[context.part] = context.v32.copy()
        return coded

    monkeypatch.setattr(LatentEncoder, "_coded", noted)
    data = in_slices(dithered, noise(300, 280), Chunks(), STILL)
    found = latents_of(dithered, data)
    own = [(part, planes[part]) for part in grid_of(Plane(280, 300), 16)]
    assert len(own) == 4
    for part, v32 in own:
        np.testing.assert_array_equal(found[(slice(None), *part.index())], v32)


def test_a_region_is_a_part_of_the_whole(dithered, sliced):
    whole = dithered.decode(sliced)
    part = dithered.decode(sliced, region=(240, 250, 33, 40))
    np.testing.assert_array_equal(part, whole[250:290, 240:273])


def test_streams_of_the_reference_are_the_same(dithered, monkeypatch):
    pixels = scene(30, 40)
    data = dithered.encode(pixels, steady=True)
    v32 = latents_of(dithered, data)
    for room in (quantizer, decoder):
        monkeypatch.setattr(room, "still_lattice", still)
    monkeypatch.setattr(entropy, "encode", reference.encode)
    assert dithered.encode(pixels, steady=True) == data
    monkeypatch.setattr(entropy, "Decoder", reference.Decoder)
    np.testing.assert_array_equal(latents_of(dithered, data), v32)


def test_best_effort_with_a_lost_segment(dithered, sliced):
    """Only the slice with the hole changes."""
    contents = bitstream.read_contents(sliced)
    damaged = bytearray(sliced)
    damaged[contents.segment(contents.header.segment_index(0, 3)).offset + 1] ^= 4
    with pytest.raises(StreamError):
        dithered.decode(bytes(damaged))
    with pytest.warns(TrellicWarning, match="damaged"):
        seen = dithered.decode(bytes(damaged), best_effort=True)
    whole = dithered.decode(sliced)
    assert (seen[:220, :220] == whole[:220, :220]).all()
    assert (seen[260:, 260:] != whole[260:, 260:]).any()


def test_a_picture_that_arrives_is_shown_once(dithered, sliced):
    """Dithered files too: neither kind can be cut."""
    for data in (sliced, dithered.encode(scene(40, 50), trellis=0, dither=1)):
        pieces = (data[i : i + 100] for i in range(0, len(data), 100))
        (only,) = dithered.decode_progressive(pieces)
        np.testing.assert_array_equal(only, dithered.decode(data))
        with pytest.raises(StreamError):
            list(dithered.decode_progressive([data[:-50]]))


def test_damage_is_found(dithered):
    data = dithered.encode(scene(20, 30), steady=True, quality=95)
    for at in range(len(data)):
        with pytest.raises(StreamError):
            bitstream.read(data[:at])
        with pytest.raises(StreamError):
            bitstream.read(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
    stream = bitstream.read(data)
    for fields in ({"still": False}, {"still": False, "dither": 1}):
        header = dataclasses.replace(stream.header, **fields)
        with pytest.raises(CorruptStream):
            dithered.decode(bitstream.write(Stream(header, stream.segments)))


# ---- the header ----


def test_the_flag_takes_two_bytes(dithered):
    header = bitstream.read_header(dithered.encode(scene(8, 8), trellis=0))
    stream = Stream(header, [b""] * header.segments)
    plain = bitstream.write(stream)
    made = dataclasses.replace(header, still=True)
    data = bitstream.write(dataclasses.replace(stream, header=made))
    assert len(data) == len(plain) + 2
    assert data[13:15] == b"\x80\x08"
    assert bitstream.read_header(data) == made
    for more in ({"trellis": 8}, {"dither": 3}, {"layering": Layering(kept=header.steps)}):
        with pytest.raises(BadParameter, match="still lattice with"):
            dataclasses.replace(made, **more)
        forged = dataclasses.replace(made)
        for name, value in more.items():
            object.__setattr__(forged, name, value)
        with pytest.raises(CorruptStream, match="the header is wrong: still lattice with"):
            bitstream.read(bitstream.write(Stream(forged, stream.segments)))

"""Files that stand still: what the search for them finds, and when it stops."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.data.make_dither import scene

from trellic import bitstream, images
from trellic.codec import Codec
from trellic.geometry import Plane
from trellic.latents.encoder import hyper_symbols
from trellic.latents.quantizer import Quantizer
from trellic.pipeline import settling
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.settling import Settled, Settler, Transforms, corrected
from trellic.support.clock import Clock

from .family import in_slices, latents_of, noise

SAMPLE = Path(__file__).parents[2] / "samples" / "osprey.png"
STILL = Quantizer(0, 26, still=True)


@pytest.fixture(scope="module")
def photo():
    return Codec.load("photo", "cpu", 1)


@pytest.fixture(scope="module")
def crop():
    return np.ascontiguousarray(images.read(SAMPLE).pixels[200:392, 300:556])


def settler(codec, pixels, quality16=960):
    """A settler and its transforms, each of which counts its calls."""
    plane = Plane(pixels.shape[1], pixels.shape[0])
    coder, level = codec._encoding, codec.bundle.levels.at(quality16, 0)
    real = coder._transforms(plane, level.quality, 64, grey=pixels.ndim == 2, clock=Clock())
    calls = {"g_a": 0, "g_s": 0, "h_a": 0}

    def counting(name):
        def run(x):
            calls[name] += 1
            return getattr(real, name)(x)

        return run

    networks = Transforms(counting("g_a"), counting("g_s"), counting("h_a"))
    quantizer = EncodeOptions(steady=True).quantizer(codec.bundle)
    return Settler(networks, coder.latents(), plane, level, quantizer), calls


# ---- what it is for ----


@pytest.mark.parametrize("quality", [40, 75])
def test_the_decoded_picture_gives_the_same_file(photo, crop, quality):
    data = photo.encode(crop, quality=quality, steady=True)
    again = photo.encode(photo.decode(data), quality=quality, steady=True)
    assert again == data
    assert len(data) > 1000


def test_with_sides_that_are_no_multiples_of_the_stride(photo, crop):
    """Latents beyond the picture are copies, because no pixel shows them."""
    odd = np.ascontiguousarray(crop[:130, :140])
    data = photo.encode(odd, quality=60, steady=True)
    assert photo.encode(photo.decode(data), quality=60, steady=True) == data
    made, _ = settler(photo, odd)
    f = np.arange(2 * 12 * 12, dtype=np.float32).reshape(2, 12, 12)
    shown = made._shown(f)
    np.testing.assert_array_equal(shown[:, :9, :9], f[:, :9, :9])
    assert (shown[:, 9:, :9] == f[:, 8:9, :9]).all()
    assert (shown[:, :, 9:] == shown[:, :, 8:9]).all()


def test_in_grey_too(photo, crop):
    data = photo.encode(crop[..., 1], quality=60, steady=True)
    assert photo.encode(photo.decode(data), quality=60, steady=True) == data


def test_it_costs_little_where_the_file_is_found(photo, crop):
    """A decoded picture is recognised before the long search begins."""
    decoded = photo.decode(photo.encode(crop, quality=60, steady=True))
    first, of_first = settler(photo, crop)
    again, of_again = settler(photo, decoded)
    first.settle(crop)
    again.settle(decoded)
    assert of_again["g_a"] <= 1 + settling.CORRECTIONS + len(settling.FACTORS)
    assert of_again["h_a"] <= 2 * len(settling.FACTORS)  # computed, and given again by the levels
    assert of_first["h_a"] > of_again["h_a"]


def test_other_qualities_are_other_files(photo, crop):
    decoded = photo.decode(photo.encode(crop, quality=60, steady=True))
    data = photo.encode(decoded, quality=50, steady=True)
    assert bitstream.read_header(data).quality16 == 800
    assert photo.decode(data).shape == crop.shape


# ---- its parts ----


def test_hyper_latents_are_those_that_the_levels_give(photo, crop):
    made, _ = settler(photo, crop)
    f, h = made.settle(crop)
    level = photo.bundle.levels.at(960, 0)
    whole = np.rint(f * level.gain_float[:, None, None]) / level.gain_float[:, None, None]
    plane = Plane(crop.shape[1], crop.shape[0])
    given = hyper_symbols(photo._encoding.hyper(whole, plane), level)
    np.testing.assert_array_equal(given, hyper_symbols(h, level))


def test_the_file_has_exactly_these_latents(photo, crop):
    made, _ = settler(photo, crop)
    f, _ = made.settle(crop)
    data = photo.encode(crop, quality=60, steady=True)
    unit = (np.float32(128) / photo.bundle.levels.at(960, 0).gain.astype(np.float32))[:, None, None]
    np.testing.assert_array_equal(f, latents_of(photo, data).astype(np.float32) * unit)


@pytest.mark.parametrize("picture", [noise, scene])
def test_several_slices_are_quantized_as_they_are_coded(dithered, picture):
    """`LatentEncoder.decoded` is what a decoder has, slice by slice."""
    pixels = picture(300, 280)
    data = in_slices(dithered, pixels, bitstream.Chunks(), STILL)
    stream = bitstream.read(data)
    assert stream.header.slices > 1
    latents, coder = latents_of(dithered, data), dithered._encoding.latents()
    plane, level = Plane(280, 300), dithered.bundle.levels.at(stream.header.quality16, 0)
    f = latents.astype(np.float32) * (np.float32(128) / level.gain)[:, None, None]
    lattice = dataclasses.replace(STILL, keep=True)
    z = dithered._decoding.latents().hyper_latents(
        stream.segments, stream.header.lanes, plane, level, lattice.lattice
    )
    whole = coder.decoded(f.astype(np.float32), z, plane, level, lattice)
    assert whole.shape == latents.shape
    assert (whole == latents).mean() > 0.9  # slices here have another side


def test_it_ends_where_nothing_stands_still(dithered, monkeypatch):
    """The tiny model's transforms do not undo each other; its files decode all the same."""
    monkeypatch.setattr(settling, "ROUNDS", 2)
    monkeypatch.setattr(settling, "MOST", 3)
    pixels = scene(70, 90)
    made, calls = settler(dithered, pixels)
    made.settle(pixels)
    most = 2 + 3 * (settling.CORRECTIONS + len(settling.FACTORS) + 1) + 1
    assert calls["g_a"] <= most
    assert dithered.decode(dithered.encode(pixels, steady=True)).shape == pixels.shape


def test_latents_that_go_back_and_forth_come_to_rest(photo, crop):
    made, _ = settler(photo, crop)
    f, _ = made.settle(crop)
    unit = (np.float32(128) / photo.bundle.levels.at(960, 0).gain.astype(np.float32))[:, None, None]
    levels = np.rint(f / unit).astype(np.int32)
    z = np.zeros((1, 1, 1), np.int64)
    other = levels.copy()
    far = np.argwhere((levels % 32 == 0) & (levels > 64))[:9]
    other[tuple(far.T)] -= 32
    for pair in ((levels, other), (other, levels)):
        rests = made._at_rest(*(Settled(values, z) for values in pair))
        np.testing.assert_array_equal(rests.v32[tuple(far.T)], other[tuple(far.T)])


def test_found_levels_give_their_own_hyper_latents(photo, crop):
    """The first hyper-latents are those of the latents looked at; their levels give others."""
    made, _ = settler(photo, crop)
    f = made._transforms.g_a(crop)
    found = made._levels(f)
    given = made._hyper(made._whole(made._latents_of(found)))
    np.testing.assert_array_equal(given, found.z)
    assert not np.array_equal(made._hyper(made._whole(f)), found.z)


def test_pushed_levels_move_towards_zero():
    v32 = np.full((2, 4, 4), 7, np.int32)  # values of latents that are not coded
    v32[0, 2] = np.array([64, -32, 0, 9], np.int32)
    before = v32.copy()
    settling.pushed(v32, 1, np.random.default_rng(2))
    (changed,) = np.argwhere(v32 != before)
    assert (before[tuple(changed)], v32[tuple(changed)]) in {(64, 32), (-32, 0)}
    settling.pushed(v32, 9, np.random.default_rng(2))
    assert v32[0, 2].tolist() in ([0, 0, 0, 9], [32, 0, 0, 9])


def test_without_levels_nothing_is_pushed():
    v32 = np.full((2, 4, 4), 5, np.int32)
    settling.pushed(v32, 2, np.random.default_rng(2))
    assert (v32 == 5).all()


def test_states_are_equal_by_what_they_hold():
    one = Settled(np.zeros((1, 2, 2), np.int32), np.zeros((1, 1, 1), np.int64))
    assert one.same(Settled(one.v32.copy(), one.z.copy()))
    assert not one.same(Settled(one.v32 + 1, one.z))
    assert not one.same(Settled(one.v32, one.z + 1))


def test_a_correction_takes_back_what_the_transforms_lose():
    networks = Transforms(g_a=lambda p: 0.5 * p, g_s=lambda f: f, h_a=lambda f: f)
    f, target = np.float32([[4.0]]), np.float32([[3.0]])
    assert corrected(networks, f, target).tolist() == [[4.0 + 3.0 - 2.0]]

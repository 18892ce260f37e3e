"""Large pictures: tiles without seams, regions, and bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic import bitstream
from trellic.codec import Codec
from trellic.engines.exact import probe_input
from trellic.errors import BadParameter, CorruptStream, ImageTooLarge, TruncatedStream
from trellic.geometry import Plane, Rectangle, slice_grid
from trellic.images import Picture
from trellic.latents.decoder import LatentDecoder
from trellic.pipeline import memory, transforms
from trellic.pipeline.options import EncodeOptions

SIZES = [(64, 64), (200, 333), (300, 70), (65, 1)]
SIDE = 16  # latents of a slice, the least that the format allows


@pytest.fixture(scope="module")
def photo() -> Codec:
    return Codec.load("photo", device="cpu", threads=1)


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(-9, 10, (height, width, 3))
    planes = [(2 * x + y) % 256, (x // 24 + y // 32) % 2 * 160 + 40, (x * y // 64) % 256]
    return np.clip(np.stack(planes, 2) + noise, 0, 255).astype(np.uint8)


def in_small_slices(codec: Codec, pixels: np.ndarray, alpha: np.ndarray | None = None) -> bytes:
    """Encode with slices of 16 latents, so that a small picture has many."""
    plane = Plane(pixels.shape[1], pixels.shape[0])
    level = codec.bundle.levels.at(960, 8)
    f, h = analysed(codec, pixels, quality=level.quality)
    quantizer = EncodeOptions(trellis=8).quantizer(codec.bundle)
    coded = codec._encoding.latents().encode(f, h, plane, level, quantizer, slice_side=SIDE)
    header = bitstream.Header(
        width=plane.width,
        height=plane.height,
        quality16=960,
        trellis=8,
        steps=len(codec.bundle.manifest.layout.steps),
        stream_id=bytes.fromhex(codec.bundle.manifest.stream_id),
        lanes=tuple(coded.lanes),
        grey=pixels.ndim == 2,
        slice_side=SIDE,
    )
    chunks = bitstream.Chunks(alpha=alpha, xmp=b"<x/>")
    return bitstream.write(bitstream.Stream(header, coded.segments, chunks))


def analysed(
    codec: Codec, pixels: np.ndarray, tile: int = 64, quality: float = 50
) -> tuple[np.ndarray, np.ndarray]:
    plane, manifest = Plane(pixels.shape[1], pixels.shape[0]), codec.bundle.manifest
    latents, halo = manifest.layout.latents, manifest.encoder.halo
    g_a = transforms.told(codec._pool.encoder(), quality)
    f = transforms.analysis(g_a, pixels, plane, latents, halo, tile)
    h_a, halo = codec._pool.hyper_encoder(), manifest.hyper_encoder.halo
    return f, transforms.hyper_analysis(h_a, f, plane, halo, tile)


TOLD = np.array([50.0], np.float32)  # to networks that see the quality


def assert_like(a: np.ndarray, b: np.ndarray) -> None:
    """Equal but for float noise at the rounding to 8 bits."""
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 1
    assert np.mean(a != b) < 1e-3


# ---- tiles ----


@given(
    st.tuples(*[st.integers(0, 20)] * 2),
    st.tuples(*[st.integers(1, 40)] * 2),
    st.integers(0, 9),
    st.integers(1, 12),
)
def test_tiles_cover_each_latent_of_an_area_once(corner, size, halo, side):
    top, left = corner
    area = Rectangle(top, top + size[0], left, left + size[1])
    plane = Plane(64 * 16, 64 * 20)
    everything = transforms.all_of(plane)
    seen = np.zeros(plane.latents, int)
    starts = []
    for window, inner in transforms.tiles(area, plane, halo, side):
        seen[inner.index()] += 1
        assert window == inner.grown(halo).within(everything)
        starts.append(window.top if transforms.by_rows(area) else window.left)
    assert (seen[area.index()] == 1).all()
    assert seen.sum() == area.area
    assert starts == sorted(starts)  # slices before a window may be forgotten


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["tiny", "photo"])
def test_tiled_encoding_is_the_whole(request, name, size):
    codec, pixels = request.getfixturevalue(name), picture(*size)
    for whole, tiled in zip(analysed(codec, pixels), analysed(codec, pixels, 4), strict=True):
        np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max(), rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["tiny", "photo"])
@pytest.mark.parametrize("grey", [False, True])
def test_tiled_decoding_is_the_whole(request, monkeypatch, name, size, grey):
    codec, pixels = request.getfixturevalue(name), picture(*size)
    data = codec.encode(pixels[..., 0] if grey else pixels, quality=90)
    whole = codec.decode(data)
    monkeypatch.setattr(memory, "SIDES", (4,))
    assert_like(codec.decode(data), whole)


@pytest.mark.parametrize(
    ("name", "part"),  # the tiny bundle does not state the reach of h_a: there, h_a is run uncut
    [("tiny", "g_a"), ("tiny", "g_s"), ("photo", "g_a"), ("photo", "h_a"), ("photo", "g_s")],
)
def test_halos_are_what_the_networks_reach(request, name, part):
    """One changed input changes outputs as far away as the bundle says, and no further."""
    codec = request.getfixturevalue(name)
    manifest, pool = codec.bundle.manifest, codec._pool
    rng, side = np.random.default_rng(0), 32
    latents = rng.normal(0, 3, (1, manifest.layout.latents, side, side)).astype(np.float32)
    middle = side // 2
    if part == "g_a":
        before = rng.integers(0, 256, (1, 16 * side, 16 * side, 3)).astype(np.uint8)
        after = before.copy()
        after[:, 16 * middle : 16 * middle + 16, 16 * middle : 16 * middle + 16] ^= 255
        run = lambda x: pool.encoder()({"image": x, "quality": TOLD})[0][0]  # noqa: E731
        scale, halo = 1.0, manifest.encoder.halo / 16
    else:
        before, after = latents, latents.copy()
        after[..., middle, middle] += 1e5  # far effects are small, and pixels are rounded
        decode = pool.decoder("quality")
        run, scale, halo = {
            "h_a": (
                lambda x: pool.hyper_encoder()({"latents": x})[0][0],
                1 / 4,
                manifest.hyper_encoder.halo,
            ),
            "g_s": (
                lambda x: decode({"latents": x, "quality": TOLD})[0][0].transpose(2, 0, 1),
                16,
                manifest.decoders["quality"].graph.halo,
            ),
        }[part]
    changed = (run(before) != run(after)).any(0)
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    first, last = min(rows[0], columns[0]) / scale, max(rows[-1], columns[-1]) / scale
    assert first > middle - halo - 1 / scale
    assert last < middle + 1 + halo
    assert first < middle - halo + 1 + 1 / scale  # no further than needed, either


# ---- slices ----


def test_features_of_slices_are_those_of_the_whole(tiny, photo):
    for codec in (tiny, photo):
        network, layout = codec.bundle.networks["h_s"], codec.bundle.manifest.layout
        predictor, level = codec._encoding.latents().predictor, codec.bundle.levels.at(960, 8)
        z = probe_input(layout.hyper).astype(np.int64)[:, :11]
        whole = predictor.features(z, Rectangle(0, 44, 0, 48), level)
        for part in slice_grid(44, 48, SIDE):
            np.testing.assert_array_equal(
                predictor.features(z, part, level), whole[(slice(None), *part.index())]
            )
        assert network.reach == 2


def test_a_smaller_reach_would_show(photo, monkeypatch):
    predictor, level = photo._encoding.latents().predictor, photo.bundle.levels.at(960, 8)
    z = probe_input(photo.bundle.manifest.layout.hyper).astype(np.int64)
    part = Rectangle(16, 32, 16, 32)
    right = predictor.features(z, part, level)
    predictor._h_s_reach -= 1
    assert not np.array_equal(predictor.features(z, part, level), right)


def test_latents_are_the_same_whatever_the_tiles(tiny, monkeypatch):
    """Tiles of the decoder never touch what is decoded."""
    seen: list[np.ndarray] = []
    decode = LatentDecoder._decode_slice
    monkeypatch.setattr(
        LatentDecoder,
        "_decode_slice",
        lambda *given, **named: seen.append(decode(*given, **named)) or seen[-1],
    )
    data = in_small_slices(tiny, picture(530, 300))
    tiny.decode(data)
    whole = seen.copy()
    seen.clear()
    monkeypatch.setattr(memory, "SIDES", (4,))
    tiny.decode(data)
    assert len(whole) == len(seen) == 6
    for a, b in zip(whole, seen, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [(1000, 300), (300, 1000)])
def test_few_slices_are_held_and_each_is_decoded_once(tiny, monkeypatch, size):
    from trellic.latents import lazy as latents

    data = in_small_slices(tiny, picture(*size))
    monkeypatch.setattr(memory, "SIDES", (8,))
    held, decoded = [], []
    get, decode = latents.LazyLatents.__getitem__, LatentDecoder._decode_slice

    def watched(self, window):
        out = get(self, window)
        held.append(len(self._held))
        return out

    monkeypatch.setattr(latents.LazyLatents, "__getitem__", watched)
    monkeypatch.setattr(
        LatentDecoder,
        "_decode_slice",
        lambda *given, **named: decoded.append(0) or decode(*given, **named),
    )
    tiny.decode(data)
    slices = bitstream.read_header(data).slices
    assert (slices, len(decoded)) == (8, 8)
    assert max(held) <= memory.ROWS_OF_SLICES * 2


# ---- regions ----

REGIONS = [
    (0, 0, 1, 1),
    (0, 0, 300, 530),
    (299, 529, 1, 1),
    (255, 255, 2, 2),
    (17, 300, 200, 33),
    (90, 1, 5, 529),
    (0, 511, 300, 18),
]


@pytest.fixture(scope="module")
def streams(photo):
    pixels = picture(530, 300)
    alpha = (np.arange(530 * 300) % 251).astype(np.uint8).reshape(530, 300)
    return {
        "slices": in_small_slices(photo, pixels, alpha),
        "grey": in_small_slices(photo, pixels[..., 0]),
        "one slice": photo.encode(pixels),
    }


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", ["slices", "grey", "one slice"])
def test_a_region_is_cut_out_of_the_whole(photo, streams, monkeypatch, kind, region):
    monkeypatch.setattr(memory, "SIDES", (8,))
    x, y, width, height = region
    whole = photo.decode_picture(streams[kind])
    part = photo.decode_picture(streams[kind], region=region)
    assert_like(part.pixels, whole.pixels[y : y + height, x : x + width])
    assert part.xmp == whole.xmp
    if whole.alpha is not None:
        np.testing.assert_array_equal(part.alpha, whole.alpha[y : y + height, x : x + width])


def test_a_region_needs_only_its_slices(photo, streams):
    """Bytes of other slices may be anything: they are neither read nor checked."""
    data = bytearray(streams["slices"])
    layout = bitstream.read_contents(bytes(data))
    region = (0, 0, 20, 20)
    needed = layout.needed_for([0])
    kept = np.zeros(len(data), bool)
    for span in [*needed, *layout.chunks.values()]:
        kept[span.offset : span.end + 2] = True
    assert kept.mean() < 0.6
    spoilt = np.where(kept, np.frombuffer(bytes(data), np.uint8), 0x55).astype(np.uint8).tobytes()
    expected = photo.decode(bytes(data), region=region)
    np.testing.assert_array_equal(photo.decode(spoilt, region=region), expected)
    with pytest.raises(CorruptStream):
        photo.decode(spoilt)
    with pytest.raises(CorruptStream):
        photo.decode(spoilt, region=(0, 0, 20, 300))
    cut = bytes(data[: len(data) // 2])
    with pytest.raises(TruncatedStream):
        photo.decode(cut, region=(0, 500, 20, 20))


@pytest.mark.parametrize(
    "region",
    [
        (-1, 0, 10, 10),
        (0, 0, 0, 10),
        (0, 0, 10, 0),
        (0, 0, 301, 10),
        (295, 0, 6, 1),
        (0, 530, 1, 1),
        (0, 0, 10),
        (0, 0, 1.5, 2),
        "0,0,10,10",
        7,
    ],
)
def test_bad_regions(photo, streams, region):
    with pytest.raises(BadParameter, match="region"):
        photo.decode(streams["slices"], region=region)


def test_a_region_obeys_max_pixels(photo, streams):
    with pytest.raises(ImageTooLarge):
        photo.decode(streams["slices"], region=(0, 0, 1, 1), max_pixels=530 * 300 - 1)


# ---- memory ----


def test_tiles_become_smaller_before_a_picture_is_refused(photo):
    big = Picture(np.broadcast_to(np.uint8(0), (6000, 6000, 3)))
    need = memory.encoding(big, photo.bundle.manifest.layout, halo=4, tiled_h_a=True)
    assert [need(side) for side in memory.SIDES] == sorted(map(need, memory.SIDES), reverse=True)
    for side in memory.SIDES:
        assert memory.tile_side(need, need(side), "it") == side
    assert memory.tile_side(need, None, "it") == memory.SIDES[0]
    with pytest.raises(ImageTooLarge, match=r"it takes up to 8\d\d MB; expected at most 300 MB"):
        memory.tile_side(need, 300_000_000, "it")


def test_a_limit_that_cannot_be_met(photo, streams):
    with pytest.raises(ImageTooLarge, match=r"encoding 300x530 pixels takes up to"):
        photo.encode(picture(530, 300), max_memory=1_000_000)
    with pytest.raises(ImageTooLarge, match=r"decoding 300x530 pixels.*decode a region"):
        photo.decode(streams["slices"], max_memory=1_000_000)
    limit = memory.LIBRARIES + 200_000_000
    assert photo.decode(streams["slices"], max_memory=limit).shape == (530, 300, 4)


def test_a_hundred_megapixels_fit_in_two_gigabytes(photo):
    big = Picture(np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)))
    need = memory.encoding(big, photo.bundle.manifest.layout, halo=4, tiled_h_a=True)
    assert need(64) < 1.6e9
    assert memory.reading(10**8, 3 * 10**8, deep=False) < 2e9
    assert memory.writing(10**8, ".png", alpha=False) < 2e9
    assert memory.writing(10**8, ".WebP", alpha=False) > 4e9

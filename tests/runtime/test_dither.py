"""Dithered quantization: the noise, the rounding, the tables, and whole streams.

The bundle is the tiny one with tables for dither added (``tests/data/make_dither.py``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data import make_dither

from trellic import bitstream, entropy
from trellic.codec import Codec
from trellic.constants import MAX_SEED
from trellic.entropy import Segment, cpu, reference
from trellic.entropy.tables import DitherTables, FrequencyTables, Tables
from trellic.errors import BadBundle, BadParameter, CorruptStream, StreamError
from trellic.geometry import Plane, slice_grid
from trellic.images import Picture
from trellic.latents import decoder, predictor, quantizer
from trellic.latents.encoder import NOT_CODED
from trellic.latents.predictor import SliceContext
from trellic.latents.quantizer import Quantizer
from trellic.pipeline.header import level_of
from trellic.quantize import dither, dither_cpu
from trellic_training.quantization.fit_dither import (
    bucket_shifts,
    parametric_dither,
    refit_dither,
    shifted_pmf,
)

SPECIFICATION = Path(__file__).parents[2] / "docs" / "format.md"
IMPLEMENTATIONS = pytest.mark.parametrize("made", [dither, dither_cpu], ids=["reference", "cpu"])
SEED = 7
CHI2 = {15: 44.3, 63: 115.0, 255: 333.0}  # by degrees of freedom: exceeded once in 10,000 tries


@pytest.fixture(scope="module")
def dithered_path(tmp_path_factory):
    return make_dither.dithered_bundle(tmp_path_factory.mktemp("bundle") / "tiny-dither.zip")


@pytest.fixture(scope="module")
def codec(dithered_path):
    return Codec.load(str(dithered_path), device="cpu", threads=1)


def analysed(codec, pixels):
    f, h = codec._encoding.analyse(
        Picture(pixels), Plane(pixels.shape[1], pixels.shape[0]), _Clock(), None
    )
    return f, h, Plane(pixels.shape[1], pixels.shape[0])


class _Clock:
    def mark(self, stage):
        """Time nothing."""


def numbers(n):
    return np.arange(n, dtype=np.int32)


# ---- the noise ----


@IMPLEMENTATIONS
def test_vectors_of_the_specification(made):
    rows = re.findall(
        r"^\| (\S+) \| (\d+) \| `(0x\w{8})` \| ([-\d, ]+) \| (-?\d+) \|$",
        SPECIFICATION.read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == 4
    for seed, slice_, key, u, millionth in rows:
        found = made.slice_key(int(seed.strip("`"), 0), int(slice_))
        assert found == int(key, 0)
        assert made.noise(found, 0, numbers(12)).tolist() == [int(v) for v in u.split(",")]
        assert made.noise(found, 1_000_000, numbers(1)).tolist() == [int(millionth)]
    assert hex(dither.mix(np.uint32(0xFFFFFFFF))) == "0x6768824a"


@given(
    seed=st.integers(0, 2**32 - 1),
    slice_=st.integers(0, 65535),
    first=st.integers(0, 2**33),
    positions=st.lists(st.integers(0, 2**31 - 1), max_size=40),
    data=st.data(),
)
def test_the_compiled_twins_are_the_reference(seed, slice_, first, positions, data):
    key, position = dither.slice_key(seed, slice_), np.array(positions, np.int32)
    u = dither.noise(key, first, position)
    assert dither_cpu.noise(key, first, position).tolist() == u.tolist()
    assert dither_cpu.classes(u).tolist() == dither.classes(u).tolist()
    whole = st.integers(-(2**31), 2**31 - 1)
    t32 = np.array(data.draw(st.lists(whole, min_size=len(u), max_size=len(u))), np.int32)
    k = dither.quantize(t32, u)
    assert np.abs(k).max(initial=0) <= 32767
    assert dither_cpu.quantize(t32, u).tolist() == k.tolist()
    assert dither_cpu.reconstruct(k, u).tolist() == dither.reconstruct(k, u).tolist()


def chi_square(counts):
    expected = counts.sum() / counts.size
    return float(np.square(counts - expected).sum() / expected)


@pytest.mark.parametrize("seed", [0, 1, 2, 2**31, 2**32 - 1])
def test_noise_looks_random(seed):
    """Values, neighbours, rows, slices and seeds: even, and independent of one another."""
    n = 1 << 18
    u = dither_cpu.noise(dither.slice_key(seed, 0), 0, numbers(n)).astype(np.int64) + 32
    assert chi_square(np.bincount(u, minlength=64)) < CHI2[63]
    assert chi_square(np.bincount(u & 15, minlength=16)) < CHI2[15]
    others = {f"{lag} before": np.roll(u, lag) for lag in (1, 2, 64, 4096)}
    for name, key in (
        ("next slice", dither.slice_key(seed, 1)),
        ("next seed", dither.slice_key(seed + 1 & MAX_SEED, 0)),
    ):
        others[name] = dither_cpu.noise(key, 0, numbers(n)).astype(np.int64) + 32
    for name, other in others.items():
        pairs = np.bincount((u >> 2) * 16 + (other >> 2), minlength=256)
        assert chi_square(pairs) < CHI2[255], name


# ---- the rounding ----


def test_errors_are_the_same_whatever_the_latent():
    """All noises for every latent of two steps: 33 errors, those at the ends half as often."""
    u = np.arange(-32, 32, dtype=np.int8)
    for t32 in [*range(-32, 33), 32 * 32766, -32 * 32766]:
        t = np.full(64, t32, np.int32)
        errors = t - dither.reconstruct(dither.quantize(t, u), u)
        assert np.bincount(errors + 16, minlength=33).tolist() == [1, *[2] * 31, 1]


def test_errors_are_independent_of_the_latent():
    """With the real noise, and latents as skewed as they come."""
    rng = np.random.default_rng(0)
    n = 200_000
    t32 = np.rint(np.abs(rng.normal(0, 25, n))).astype(np.int32)
    u = dither_cpu.noise(dither.slice_key(SEED, 3), 0, numbers(n))
    errors = t32 - dither_cpu.reconstruct(dither_cpu.quantize(t32, u), u)
    assert np.abs(errors).max() == 16
    inner = np.abs(errors) < 16
    values = np.digitize(t32, np.quantile(t32, np.arange(1, 8) / 8))
    table = np.zeros((8, 31))
    np.add.at(table, (values[inner], errors[inner] + 15), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = float((np.square(table - expected) / expected).sum())
    assert statistic < 210 + 4 * np.sqrt(2 * 210)  # 7 x 30 degrees of freedom
    assert abs(np.corrcoef(errors, t32)[0, 1]) < 0.01
    assert np.square(errors / 32).mean() == pytest.approx(85.5 / 1024, rel=0.01)


def test_mirrored_noise_mirrors_everything():
    rng = np.random.default_rng(1)
    t32 = rng.integers(-3000, 3000, 5000).astype(np.int32)
    u = rng.integers(-32, 32, 5000).astype(np.int8)
    k, turned = dither.quantize(t32, u), (-1 - u).astype(np.int8)
    assert dither.quantize(-t32, turned).tolist() == (-k).tolist()
    assert dither.reconstruct(-k, turned).tolist() == (-dither.reconstruct(k, u)).tolist()
    assert (dither.classes(turned) + dither.classes(u).astype(int) == 3 + 18).all()


# ---- the tables ----


def random_dither(rng, scales=4):
    width = rng.integers(0, 5, (8, scales)).astype(np.uint16)
    sizes = 2 * width.ravel() + 2
    freqs = [np.full(size, 1, np.uint16) for size in sizes.tolist()]
    for freq in freqs:
        share = rng.multinomial((1 << 15) - len(freq), rng.dirichlet(np.ones(len(freq))))
        freq += share.astype(np.uint16)
    return DitherTables(width, np.concatenate(freqs))


def with_dither(rng, scales=4):
    three = random_dither(rng, scales)
    freqs = three.freqs[: int(three.sizes[: 3 * scales].sum())]
    off = np.zeros((3, scales, 4), np.int16)
    return Tables(three.half_width[:3], freqs, off, 21, dither=random_dither(rng, scales))


def test_buckets_are_stored_once_and_mirrored():
    tables = with_dither(np.random.default_rng(2))
    book, stored = tables.dithered, tables.dither
    assert book.half_width.shape == (19, 4)
    own = np.split(book.freqs, book.start[1:])
    kept = np.split(stored.freqs, stored.start[1:])
    for bucket in range(16):
        for scale in range(4):
            freq = own[(3 + bucket) * 4 + scale].tolist()
            if bucket < 8:
                assert freq == kept[bucket * 4 + scale].tolist()
            else:
                source = kept[(15 - bucket) * 4 + scale].tolist()
                assert freq == [*source[-2::-1], source[-1]]
    assert [t.tolist() for t in own[:12]] == [
        t.tolist() for t in np.split(tables.freqs, tables.start[1:])
    ]


def test_tables_survive_a_file(tmp_path):
    tables = with_dither(np.random.default_rng(3))
    tables.save(tmp_path / "a.npz")
    back = Tables.load(tmp_path / "a.npz")
    for name, array in tables.to_arrays().items():
        np.testing.assert_array_equal(back.to_arrays()[name], array)
    assert sorted(tables.to_arrays())[:2] == ["dither.freqs", "dither.half_width"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("dither.freqs"), "no array 'dither.freqs'"),
        (lambda a: a.pop("dither.half_width"), "no array 'dither.half_width'"),
        (lambda a: a.update({"dither.half_width": a["dither.half_width"][:7]}), "frequencies"),
        (lambda a: a.update({"dither.freqs": a["dither.freqs"] // 2}), "frequency 0|sums to"),
        (lambda a: a.update({"dither.freqs": a["dither.freqs"] / 1.0}), "float64"),
    ],
)
def test_half_a_family_is_refused(change, message):
    arrays = with_dither(np.random.default_rng(4)).to_arrays()
    change(arrays)
    with pytest.raises(BadBundle, match=message):
        Tables.from_arrays(arrays)


def test_families_must_fit_together(codec):
    rng = np.random.default_rng(5)
    with pytest.raises(BadBundle, match="of 3 scale indices"):
        dataclasses.replace(codec.bundle.tables, dither=random_dither(rng, 3))
    with pytest.raises(BadBundle, match=r"\(8, S\)"):
        DitherTables(np.zeros((7, 1), np.uint16), np.full(14, 1 << 14, np.uint16))
    bare = dataclasses.replace(codec.bundle.tables, dither=None)
    with pytest.raises(BadBundle, match="no tables for dither"):
        _ = bare.dithered


def test_an_offset_belongs_to_the_tables(tmp_path, monkeypatch):
    """Tables for dither without their quality offset: the parts do not fit together."""
    with np.load(make_dither.ARRAYS) as stored:
        arrays = {name: stored[name] for name in stored.files if name.startswith("dither.")}
    np.savez(tmp_path / "less.npz", **arrays)
    monkeypatch.setattr(make_dither, "ARRAYS", tmp_path / "less.npz")
    path = make_dither.dithered_bundle(tmp_path / "a.zip")
    with pytest.raises(BadBundle, match="do not fit together"):
        Codec.load(str(path), device="cpu")


@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_both_coders_know_all_classes(lanes):
    rng = np.random.default_rng(lanes)
    book = with_dither(rng).dithered
    segments, classes, indices = [], [], []
    for n in (0, 1, 37, 500):
        cls = rng.integers(3 if n else 0, 19, n).astype(np.uint8)
        index = rng.integers(0, 4, n).astype(np.uint8)
        k = np.rint(rng.laplace(0, 4, n)).astype(np.int32)  # a third are escapes
        segments.append(Segment(k, (cls.astype(np.uint16) * 4 + index).astype(np.uint16)))
        classes.append(cls)
        indices.append(index)
    coded = reference.encode(segments, book, lanes)
    assert cpu.encode(segments, book, lanes) == coded
    for coder in (reference, cpu):
        decoder = coder.Decoder(coded[0], book, lanes)
        for data, segment, cls, index in zip(coded, segments, classes, indices, strict=True):
            assert decoder.known(data, index, cls).tolist() == segment.k.tolist()
        decoder.finish()


@pytest.mark.parametrize("coder", [reference, cpu], ids=["reference", "cpu"])
def test_classes_without_tables_are_refused(coder):
    tables = with_dither(np.random.default_rng(6))
    index = np.zeros(3, np.uint8)
    coded = coder.encode([Segment(np.zeros(3, np.int32), np.zeros(3, np.uint16))], tables, 1)
    for book, first in ((tables, 3), (tables.dithered, 19)):
        decoder = coder.Decoder(coded[0], book, 1)
        with pytest.raises(BadParameter, match=f"class {first}"):
            decoder.known(coded[0], index, np.full(3, first, np.uint8))
        with pytest.raises(BadParameter, match="classes"):
            decoder.known(coded[0], index, np.zeros(2, np.uint8))
    beyond = Segment(np.zeros(1, np.int32), np.array([3 * 4], np.uint16))
    with pytest.raises(BadParameter, match="table 12"):
        coder.encode([beyond], tables, 1)


def test_fitting_finds_the_distribution():
    """Laplacian latents against a normal prior: tables close to the best there can be."""
    rng = np.random.default_rng(8)
    sigmas = np.array([0.2, 1.0])
    prior = parametric_dither(sigmas)
    n = 400_000
    index = rng.integers(0, 2, n).astype(np.uint8)
    t32 = np.rint(32 * rng.laplace(0, sigmas[index] / np.sqrt(2))).astype(np.int32)
    u = dither_cpu.noise(dither.slice_key(0, 0), 0, numbers(n))
    k, cls = dither_cpu.quantize(t32, u), dither_cpu.classes(u)
    fitted = refit_dither(prior, t32, index)
    assert fitted.half_width.tolist() == prior.half_width.tolist()
    before, after = (mean_bits(t, index, k, cls) for t in (prior, fitted))
    bound = exact_bits(index, k, cls)
    assert bound <= after <= 1.002 * bound < before
    none = refit_dither(prior, t32[:0], index[:0])
    assert np.abs(none.freqs.astype(int) - prior.freqs).max() <= 1


def mean_bits(stored: DitherTables, index, k, cls) -> float:
    """Ideal code length over the tables, in bits a symbol; escapes' digits included."""
    book = FrequencyTables(
        np.concatenate([stored.half_width, stored.half_width[::-1]]),
        np.concatenate([stored.freqs, stored.mirrored()]),
    )
    table = (cls.astype(np.int64) - 3) * book.scales + index
    width = book.half_width.ravel()[table].astype(np.int64)
    beyond = np.abs(k) - width
    place = book.start[table] + np.where(beyond > 0, 2 * width + 1, k + width)
    digits = np.where(beyond > 0, 2 * (1 + np.floor(np.log2(np.maximum(beyond, 1)))), 0)
    return float((15 - np.log2(book.freqs[place]) + digits).mean())


def exact_bits(index, k, cls) -> float:
    """Entropy of the symbols given scale index and bucket, mirrored ones taken together."""
    bucket = cls.astype(np.int64) - 3
    k = np.where(bucket > 7, -k, k)
    group = (np.minimum(bucket, 15 - bucket) * 2 + index) * 1000 + k + 500
    count = np.bincount(group).reshape(-1).astype(float)
    total = np.bincount(np.arange(len(count)) // 1000, count)
    bits = sum(float(c) * np.log2(total[i // 1000] / c) for i, c in enumerate(count) if c)
    return bits / len(k)


def test_the_model_of_latents_is_a_distribution():
    shifts = np.concatenate([bucket_shifts(bucket) for bucket in range(16)])
    assert shifts.tolist() == [(2 * u + 1) / 128 for u in range(-32, 32)]
    for sigma in (0.05, 1.0, 30.0):
        pmf = shifted_pmf(sigma, bucket_shifts(0), 40)
        assert pmf.sum() == pytest.approx(1)
        assert (pmf >= 0).all()
        mirrored = shifted_pmf(sigma, bucket_shifts(15), 40)
        np.testing.assert_allclose(np.append(pmf[-2::-1], pmf[-1]), mirrored, atol=1e-12)


# ---- streams ----


def latents(codec, data):
    stream = bitstream.read(data)
    head = stream.header
    plane = Plane(head.width, head.height)
    sizes = head.lanes, plane, level_of(codec.bundle, head), head.trellis, head.slice_side
    lattice = quantizer.lattice_of(head)
    return codec._decoding.latents().decode(stream.segments, *sizes, lattice=lattice)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (65, 130), (20, 1300)])
def test_pictures_come_back(codec, height, width):
    pixels = make_dither.scene(height, width)
    data = codec.encode(pixels, trellis=0, dither=SEED)
    header = bitstream.read_header(data)
    assert (header.trellis, header.dither) == (0, SEED)
    back, plain = codec.decode(data), codec.decode(codec.encode(pixels, trellis=0))
    error = [np.square(pixels.astype(float) - other).mean() for other in (back, plain)]
    assert error[0] < 1.5 * error[1] + 1
    assert data == codec.encode(pixels, trellis=0, dither=SEED)
    assert data == codec.encode(pixels, trellis=0, dither=np.uint8(SEED))
    assert data != codec.encode(pixels, trellis=0, dither=SEED + 1)


@pytest.mark.parametrize("lanes", [1, 64])
@pytest.mark.parametrize("side", [16, 64])
def test_every_latent_has_its_own_noise(codec, monkeypatch, lanes, side):
    """Encoder and decoder agree, errors are bounded, and means stay where nothing is coded."""
    planes, shown = [], []
    add = SliceContext.add

    def spy(self, *rest):
        add(self, *rest)
        if not any(self.v32 is seen for seen in planes):
            planes.append(self.v32)

    monkeypatch.setattr(SliceContext, "add", spy)
    f, h, plane = analysed(codec, make_dither.scene(100, 400))
    level = codec.bundle.levels.at(1400, 0, dithered=True)
    coder, decoder = codec._encoding.latents(), codec._decoding.latents()
    grid = slice_grid(*plane.latents, side)
    coded = coder.encode(
        f, h, plane, level, Quantizer(0, 0, dither=SEED), lanes=[lanes] * len(grid),
        slice_side=side, observe=lambda *part: shown.append(part),
    )  # fmt: skip
    expected = np.zeros((len(f), *plane.latents), np.int32)
    for part, v32 in zip(grid, planes, strict=True):
        expected[(slice(None), *part.index())] = v32
    sizes = coded.lanes, plane, level, 0, side
    v32 = decoder.decode(coded.segments, *sizes, lattice=quantizer.Lattice(SEED))
    np.testing.assert_array_equal(v32, expected)
    y32 = np.floor(f * (level.gain_float * 32)[:, None, None] + 0.5)
    classes = np.concatenate([cls for _, _, _, cls in shown])
    assert set(classes.tolist()) == set(range(3, 19))
    assert (np.abs(y32 - v32) <= 16).sum() >= len(classes) > 500


def test_latents_are_numbered_over_the_whole_slice(codec):
    """Classes as the specification has them: from (channel, row, column) alone."""
    f, h, plane = analysed(codec, make_dither.scene(70, 100))
    level = codec.bundle.levels.at(1400, 0, dithered=True)
    made = codec._encoding.latents().quantize(f, h, plane, level, Quantizer(0, 0, dither=SEED))
    u = dither.noise(dither.slice_key(SEED, 0), 0, numbers(f.size)).reshape(f.shape)
    coded = made.cls != NOT_CODED
    assert 100 < coded.sum() < f.size
    assert made.cls[coded].tolist() == dither.classes(u[coded]).tolist()
    mean32 = made.v32 - np.where(coded, dither.reconstruct(made.k, u), 0)
    t32 = np.floor(f * (level.gain_float * 32)[:, None, None] + 0.5) - mean32
    assert made.k[coded].tolist() == dither.quantize(t32.astype(np.int32), u)[coded].tolist()


def test_streams_of_the_reference_are_the_same(codec, monkeypatch):
    pixels = make_dither.scene(30, 40)
    data = codec.encode(pixels, trellis=0, dither=SEED)
    for room in (quantizer, predictor, decoder):
        monkeypatch.setattr(room, "dithering", dither)
    monkeypatch.setattr(entropy, "encode", reference.encode)
    assert codec.encode(pixels, trellis=0, dither=SEED) == data
    v32 = latents(codec, data)
    monkeypatch.setattr(entropy, "Decoder", reference.Decoder)
    np.testing.assert_array_equal(latents(codec, data), v32)


@pytest.mark.parametrize("trellis", [0, 8])
def test_streams_without_dither_are_those_of_the_old_bundle(codec, tiny, trellis):
    """Tables for dither give another stream id, and nothing else."""
    pixels = make_dither.scene(50, 60)
    old, new = (
        bitstream.read(one.encode(pixels, trellis=trellis, quality=77)) for one in (tiny, codec)
    )
    assert list(new.segments) == list(old.segments)
    assert dataclasses.replace(new.header, stream_id=old.header.stream_id) == old.header


def test_a_region_is_a_part_of_the_whole(codec):
    data = codec.encode(make_dither.scene(20, 1300), trellis=0, dither=SEED)
    whole = codec.decode(data)
    np.testing.assert_array_equal(
        codec.decode(data, region=(1040, 3, 50, 15)), whole[3:18, 1040:1090]
    )


def test_damage_is_found(codec):
    """Every bit and every length; then a forged seed whose checks all hold."""
    pixels = make_dither.scene(20, 30)
    data = codec.encode(pixels, trellis=0, dither=SEED, quality=95)
    for at in range(len(data)):
        with pytest.raises(StreamError):
            bitstream.read(data[:at])
        for bit in range(8):
            with pytest.raises(StreamError):
                bitstream.read(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
    stream = bitstream.read(data)
    for seed in (SEED + 1, SEED ^ 1 << 31, None):
        header = dataclasses.replace(stream.header, dither=seed)
        with pytest.raises(CorruptStream):
            codec.decode(bitstream.write(bitstream.Stream(header, stream.segments)))
    cut = codec.decode_timed(data[:-6], best_effort=True)
    assert cut.damage is not None
    assert cut.picture.pixels.shape == pixels.shape


def test_altered_segments_under_forged_checksums(codec):
    """What the entropy coder itself finds: words over or out, or a wrong final state.

    As in all streams, one flip in a hundred or two meets the true states again by chance; then a
    picture comes out, and no other error.
    """
    stream = bitstream.read(codec.encode(make_dither.scene(64, 96), trellis=0, dither=SEED))
    rng, found = np.random.default_rng(9), 0
    for _ in range(60):
        segments = list(stream.segments)
        number = int(rng.integers(len(segments)))
        altered = bytearray(segments[number])
        altered[int(rng.integers(len(altered)))] ^= 1 << int(rng.integers(8))
        segments[number] = bytes(altered)
        try:
            codec.decode(bitstream.write(bitstream.Stream(stream.header, segments)))
        except CorruptStream:
            found += 1
    assert found > 55


def test_the_seed_takes_five_bytes(codec):
    header = bitstream.read_header(codec.encode(make_dither.scene(8, 8), trellis=0))
    stream = bitstream.Stream(header, [b""] * header.segments)
    plain = bitstream.write(stream)
    for seed in (0, 1, 2**32 - 1):
        dithered = dataclasses.replace(header, dither=seed)
        data = bitstream.write(dataclasses.replace(stream, header=dithered))
        assert len(data) == len(plain) + 5
        assert data[13:18] == b"\x20" + seed.to_bytes(4, "little")
        assert bitstream.read_header(data).dither == seed
    both = dataclasses.replace(header, dither=9, slice_side=16)
    data = bitstream.write(bitstream.Stream(both, stream.segments))
    assert data[13:19] == b"\x30\x04\x09\0\0\0"
    assert bitstream.read_header(data) == both
    for seed in (-1, 2**32):
        with pytest.raises(BadParameter, match="seed of dither"):
            dataclasses.replace(header, dither=seed)


def test_quality_is_corrected_for_dither(codec):
    levels = codec.bundle.levels
    shift = make_dither.OFFSET
    for name in ("gain", "scale_shift"):
        dithered = getattr(levels.at(800, 0, dithered=True), name)
        np.testing.assert_array_equal(dithered, getattr(levels.at(800 + shift, 0), name))


def test_a_size_is_met(codec):
    pixels = make_dither.scene(100, 150)
    largest = len(codec.encode(pixels, quality=100, trellis=0, dither=1))
    encoded = codec.encode_picture(Picture(pixels), max_bytes=largest * 3 // 4, trellis=0, dither=1)
    assert 0.9 * largest * 3 // 4 < len(encoded.data) <= largest * 3 // 4
    assert bitstream.read_header(encoded.data).dither == 1


GOLDEN_LATENTS = "983244b2168692671bf24cb0cb6cdddd33af20329a9d8eb4e628429b55ab8066"


def test_golden_stream(codec):
    """Decided by the format and the stored tables for ever; never made anew."""
    data = make_dither.GOLDEN.read_bytes()
    header = bitstream.read_header(data)
    assert (header.slices, header.dither) == (3, make_dither.SEED)
    digest = hashlib.sha256(latents(codec, data).astype("<i4").tobytes()).hexdigest()
    assert digest == GOLDEN_LATENTS
    assert codec.decode(data).shape == (40, 2060, 3)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dither": 1}, "dither with trellis 32; expected trellis 0"),
        ({"dither": 1, "trellis": 256}, "expected trellis 0"),
        ({"dither": 1, "trellis": 0, "search": "round"}, "search 'round' with dither"),
        ({"dither": -1, "trellis": 0}, "a seed, 0 to 4294967295"),
        ({"dither": 2**32, "trellis": 0}, "a seed, 0 to 4294967295"),
        ({"dither": 1.0, "trellis": 0}, "a seed, 0 to 4294967295"),
    ],
)
def test_bad_parameters(codec, options, message):
    with pytest.raises(BadParameter, match=message):
        codec.encode(make_dither.scene(8, 8), **options)


def test_a_model_without_tables(tiny):
    with pytest.raises(BadParameter, match="'tiny' has no tables for dither; encode without"):
        tiny.encode(make_dither.scene(8, 8), trellis=0, dither=1)
    stream = bitstream.read(tiny.encode(make_dither.scene(8, 8), trellis=0))
    header = dataclasses.replace(stream.header, dither=1)
    with pytest.raises(CorruptStream, match="'tiny' has no tables for it"):
        tiny.decode(bitstream.write(bitstream.Stream(header, stream.segments)))


# ---- the command line ----


def test_commands(codec, dithered_path, tmp_path, trellic):
    pixels = make_dither.scene(40, 50)
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "a.png")
    source, target = tmp_path / "a.png", tmp_path / "a.tlc"
    model = ("--model", dithered_path, "--device", "cpu")
    result = trellic("encode", source, target, *model, "--trellis", 0, "--dither", 99)
    assert (result.code, result.err) == (0, "")
    assert target.read_bytes() == codec.encode(pixels, trellis=0, dither=99)
    assert json.loads(trellic("info", target, "--json").out)["dither"] == 99
    assert "dither      99\n" in trellic("info", target).out
    for bad in (["--dither", 1], ["--dither", -1, "--trellis", 0], ["--dither", "x"]):
        result = trellic("encode", source, tmp_path / "b.tlc", *model, *bad)
        assert (result.code, result.out) == (2, "")
        assert not (tmp_path / "b.tlc").exists()
    assert trellic("encode", source, tmp_path / "b.tlc", *model).code == 0
    assert "dither" not in trellic("info", tmp_path / "b.tlc").out

"""One stream, many decoders: mixtures, previews from the first segments, labels."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.runtime.family import DECODERS, LABELS, make_family

from trellic import bitstream, choice, memory
from trellic.bitstream import Chunks, Rectangle, Stream
from trellic.bundle import Bundle, DecoderInfo
from trellic.codec import Codec
from trellic.coding import Quantizer
from trellic.engines.mixture import Mixture
from trellic.engines.pool import EnginePool
from trellic.errors import (
    BadBundle,
    BadParameter,
    CorruptStream,
    EngineError,
    ImageTooLarge,
    StreamError,
    TruncatedStream,
    UnknownDecoder,
)
from trellic.images import Picture
from trellic.region import crop
from trellic.results import Clock


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of noise, which cost something in every context step."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def sliced_stream(codec: Codec, pixels: np.ndarray, chunks: Chunks) -> bytes:
    """A stream of several slices of 256 x 256 pixels."""
    height, width = pixels.shape[:2]
    plane, level = codec.bundle.manifest.layout.plane(width, height), codec.bundle.levels.at(960, 8)
    f, h = codec._analyse(Picture(pixels), plane, Clock(), None)
    coded = codec._coder().encode(f, h, plane, level, Quantizer(8, 28), slice_side=16)
    usual = bitstream.read_header(codec.encode(pixels))
    header = dataclasses.replace(usual, slice_side=16, lanes=tuple(coded.lanes))
    return bitstream.write(Stream(header, coded.segments, chunks))


@pytest.fixture(scope="module")
def family_path(tiny_path, tmp_path_factory):
    return make_family(tiny_path, tmp_path_factory.mktemp("family") / "family.zip")


@pytest.fixture(scope="module")
def family(family_path):
    return Codec.load(str(family_path), device="cpu", threads=1)


@pytest.fixture(scope="module")
def plain(family):
    return family.encode(noise(100, 150))


@pytest.fixture(scope="module")
def sliced(family):
    alpha = np.random.default_rng(1).integers(0, 256, (300, 515), dtype=np.uint8)
    return sliced_stream(family, noise(300, 515), Chunks(alpha=alpha, icc=b"profile"))


@pytest.fixture
def spied(family_path, monkeypatch):
    """A fresh codec, and the names of the graphs that its pool loads."""
    loaded: list[str] = []
    load = EnginePool._load

    def spy(self, graph):
        loaded.append(graph.file.removeprefix("graphs/").removesuffix(".onnx"))
        return load(self, graph)

    monkeypatch.setattr(EnginePool, "_load", spy)
    return Codec.load(str(family_path), device="cpu", threads=1), loaded


# ---- names ----


def info(**fields) -> DecoderInfo:
    return DecoderInfo(graph={"file": "x", "kmac_per_pixel": 1}, purpose="", **fields)


KNOWN = {
    "quality": info(),
    "perceptual": info(base="quality"),
    "class": info(kind="labels", labels=["a"]),
}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("quality", {"quality": 1}),
        ("perceptual", {"perceptual": 1}),
        ("perceptual:1", {"perceptual": 1}),
        ("perceptual:0", {"quality": 1}),
        ("perceptual:0.25", {"perceptual": 0.25, "quality": 0.75}),
        ("perceptual:1e-1", {"perceptual": 0.1, "quality": 0.9}),
    ],
)
def test_what_a_name_stands_for(text, parts):
    found = choice.choose(KNOWN, text, "m")
    assert {part.name: part.weight for part in found.parts} == parts


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("best", UnknownDecoder, "it has: class, perceptual, quality"),
        ("best:0.5", UnknownDecoder, "no decoder 'best'"),
        ("perceptual:1.01", BadParameter, "expected NAME, or NAME:x with x in 0..1"),
        ("perceptual:-0.1", BadParameter, "x in 0..1"),
        ("perceptual:nan", BadParameter, "x in 0..1"),
        ("perceptual:", BadParameter, "x in 0..1"),
        ("perceptual:0.1:0.2", BadParameter, "x in 0..1"),
        (":0.5", BadParameter, "expected NAME"),
        ("", BadParameter, "expected NAME"),
        (None, BadParameter, "decoder None"),
        ("quality:1", BadParameter, "'quality' has no base.*can be mixed: perceptual"),
        ("class:0.5", BadParameter, "'class' has no base"),
    ],
)
def test_names_that_stand_for_nothing(text, error, said):
    with pytest.raises(error, match=said):
        choice.choose(KNOWN, text, "m")


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": 9},
        {"channels": 32},
        {"channels": 0},
        {"scale": 3},
        {"scale": 32},
        {"channels": 8, "steps": 3},
        {"steps": 1},
        {"steps": 4},
        {"steps": 0},
        {"steps": 2, "base": "quality"},
        {"base": "nobody"},
        {"base": "odd"},
        {"base": "class"},
        {"base": "preview"},
        {"kind": "labels"},
        {"labels": ["a"]},
        {"kind": "labels", "labels": []},
        {"kind": "labels", "labels": ["a", "a"]},
        {"kind": "labels", "labels": ["a\x1b[31m"]},
        {"kind": "labels", "labels": ["a"], "scale": 2},
        {"kind": "labels", "labels": ["a"], "base": "quality"},
        {"kind": "sound"},
        {"loud": True},
    ],
)
def test_bundles_whose_decoders_do_not_fit(tmp_path, family_path, fields):
    with zipfile.ZipFile(family_path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    manifest["decoders"]["odd"] = manifest["decoders"]["quality"] | fields
    files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(BadBundle, match="has no valid manifest"):
        Bundle(tmp_path / "odd.zip")


def test_decoders_do_not_change_the_stream_id(family, tiny):
    assert set(family.decoders) == {"quality", *DECODERS}
    assert family.bundle.manifest.stream_id == tiny.bundle.manifest.stream_id
    data = tiny.encode(noise(40, 50))
    np.testing.assert_array_equal(family.decode(data), tiny.decode(data))


# ---- mixtures ----


def test_the_ends_of_a_mixture_are_its_decoders(family, plain):
    quality, perceptual = (family.decode(plain, decoder=n) for n in ("quality", "perceptual"))
    assert (quality != perceptual).any()
    np.testing.assert_array_equal(family.decode(plain, decoder="perceptual:0"), quality)
    np.testing.assert_array_equal(family.decode(plain, decoder="perceptual:1"), perceptual)


@pytest.mark.parametrize("x", [0.001, 0.4, 0.5, 0.999])
def test_between_its_ends(family, plain, x):
    ends = [family.decode(plain, decoder=n).astype(float) for n in ("perceptual", "quality")]
    mixed = family.decode(plain, decoder=f"perceptual:{x}")
    assert np.abs(mixed - (x * ends[0] + (1 - x) * ends[1])).max() <= 0.5 + 1e-3


@given(st.floats(1e-9, 1 - 1e-9), st.integers(0, 255))
def test_mixing_equal_pictures_changes_nothing(x, level):
    image = np.full((1, 1, 1, 3), level, np.uint8)
    same = lambda _: [image]  # noqa: E731
    mixed = Mixture([(same, 1, x), (same, 1, 1 - x)])({"latents": np.zeros((1, 1, 1, 1))})
    np.testing.assert_array_equal(mixed[0], image)


def test_parts_of_a_mixture_read_their_own_channels():
    seen = []

    def engine(inputs):
        seen.append(inputs["latents"].shape[1])
        assert inputs["latents"].flags.c_contiguous
        return [np.zeros((2, 1, 1, 3), np.uint8)]

    Mixture([(engine, 8, 0.5), (engine, 24, 0.5)])({"latents": np.zeros((2, 24, 1, 1))})
    assert seen == [8, 24]


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


def graph_output(codec: Codec, data: bytes, name: str) -> np.ndarray:
    """What a decoder's graph makes of the latents: all decoded, later steps' then taken away."""
    stream = bitstream.read(data)
    header = stream.header
    plane = codec.bundle.manifest.layout.plane(header.width, header.height)
    level = codec.bundle.levels.at(header.quality16, header.trellis)
    sizes = header.lanes, plane, level, header.trellis, header.slice_side
    v32 = codec._coder().decode(stream.segments, *sizes).astype(np.float32)
    latents = v32 * (np.float32(128) / level.gain.astype(np.float32))[:, None, None]
    info, layout = codec.decoders[name], codec.bundle.manifest.layout
    rows, columns = np.indices(plane.latents)
    latents[layout.step_of[:, (rows + columns) & 1] >= info.steps_in(layout)] = 0
    own = latents[None, : info.channels]
    return codec._pool.decoder(name)({"latents": own})[0][0]


def reference_preview(codec: Codec, data: bytes, name: str) -> np.ndarray:
    header, scale = bitstream.read_header(data), codec.decoders[name].scale
    rows, columns = -(-header.height // scale), -(-header.width // scale)
    return graph_output(codec, data, name)[:rows, :columns]


@pytest.mark.parametrize("name", ["preview", "thumb", "half", "glimpse"])
@pytest.mark.parametrize("stream", ["plain", "sliced"])
def test_previews_are_made_of_the_true_latents(request, family, name, stream):
    data = request.getfixturevalue(stream)
    expected = reference_preview(family, data, name)
    np.testing.assert_array_equal(family.decode(data, decoder=name)[..., :3], expected)


@pytest.mark.parametrize("trellis", [0, 8])
def test_scalar_streams_have_previews_too(family, trellis):
    data = family.encode(noise(70, 90), trellis=trellis)
    expected = reference_preview(family, data, "preview")
    np.testing.assert_array_equal(family.decode(data, decoder="preview"), expected)


@pytest.mark.parametrize("name", ["preview", "half"])
def test_tiled_previews_are_the_whole(monkeypatch, family, sliced, name):
    whole = family.decode(sliced, decoder=name)
    monkeypatch.setattr(memory, "SIDES", (4,))
    np.testing.assert_array_equal(family.decode(sliced, decoder=name), whole)


@pytest.mark.parametrize("region", [(0, 0, 1, 1), (10, 30, 301, 77), (511, 299, 4, 1)])
@pytest.mark.parametrize(("name", "scale"), [("preview", 8), ("half", 2), ("perceptual:0.3", 1)])
def test_a_region_is_the_part_of_the_preview_that_touches_it(family, sliced, region, name, scale):
    x, y, width, height = region
    whole = family.decode(sliced, decoder=name)
    part = family.decode(sliced, decoder=name, region=region)
    area = Rectangle(y, y + height, x, x + width).coarser(scale)
    np.testing.assert_array_equal(part, whole[area.index()])


def test_alpha_is_the_mean_of_its_blocks(family, sliced):
    alpha = bitstream.read(sliced).chunks.alpha.astype(float)
    small = family.decode(sliced, decoder="preview")[..., 3]
    for row, column in [(0, 0), (5, 7), (37, 64), (37, 0), (0, 64)]:
        block = alpha[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert abs(small[row, column] - block.mean()) <= 0.5
    picture = family.decode_picture(sliced, decoder="preview")
    assert picture.icc == b"profile"


def test_alpha_of_the_full_size_is_left_alone():
    chunks = Chunks(alpha=np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert crop(chunks, Rectangle(0, 2, 0, 3)) is chunks
    assert crop(chunks, Rectangle(1, 2, 1, 3)).alpha.tolist() == [[4, 5]]
    assert crop(chunks, Rectangle(0, 2, 0, 3), 2).alpha.tolist() == [[2, 4]]  # 8 / 4, 7 / 2


# ---- previews need a part of the file only ----


def needed_end(data: bytes, steps: int) -> int:
    """Where the last segment of the first steps ends, check included."""
    layout = bitstream.read_layout(data)
    return layout.needed_for(range(layout.header.slices), steps)[-1].end


@pytest.mark.parametrize("stream", ["plain", "sliced"])
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


@pytest.mark.parametrize("stream", ["plain", "sliced"])
def test_damage_behind_the_needed_segments_does_not_matter(request, family, stream):
    data = request.getfixturevalue(stream)
    end = needed_end(data, 2)
    whole = family.decode(data, decoder="preview")
    broken = data[:end] + bytes(byte ^ 0x5A for byte in data[end:])
    np.testing.assert_array_equal(family.decode(broken, decoder="preview"), whole)
    header = bitstream.read_header(data)
    for index in range(1 + 2 * header.slices):  # damage in them does
        span = bitstream.read_layout(data).segment(index)
        if span.length:
            bad = bytearray(data)
            bad[span.end - 1] ^= 1
            with pytest.raises(CorruptStream):
                family.decode(bytes(bad), decoder="preview")


def test_every_decoder_that_needs_all_checks_all(family, plain):
    bad = bytearray(plain)
    bad[-1] ^= 1
    for name in ("quality", "perceptual:0.5", "half"):
        with pytest.raises(CorruptStream, match="checksum of the file"):
            family.decode(bytes(bad), decoder=name)
    with pytest.raises(CorruptStream, match="checksum of the file"):
        family.classify(bytes(bad))
    assert family.classify(bytes(bad), decoder="class8")


def test_other_segments_are_not_even_looked_at(family, sliced):
    layout = bitstream.read_layout(sliced)
    spans = layout.needed_for(range(layout.header.slices), 2)
    spans += [bitstream.Span(s.offset, s.length + 2) for s in layout.chunks.values()]
    sparse = bytearray(len(sliced))
    for span in spans:
        sparse[span.offset : span.end] = sliced[span.offset : span.end]
    assert sum(span.length for span in spans) < len(sliced)
    expected = family.decode(sliced, decoder="preview")
    np.testing.assert_array_equal(family.decode(bytes(sparse), decoder="preview"), expected)


def test_best_effort_of_a_preview(family, sliced):
    end = needed_end(sliced, 2)
    whole = family.decode_timed(sliced, decoder="preview", best_effort=True)
    assert whole.damage is None
    cut = family.decode_timed(sliced[:end], decoder="preview", best_effort=True)
    assert (cut.damage.lost, cut.damage.segments) == (0, 2 * 6)
    np.testing.assert_array_equal(cut.picture.pixels, whole.picture.pixels)
    less = family.decode_timed(sliced[: end - 1], decoder="preview", best_effort=True)
    assert (less.damage.lost, less.damage.slices) == (1, (5,))
    assert less.picture.pixels.shape == whole.picture.pixels.shape


def test_a_preview_of_a_stream_with_other_steps(family, plain):
    stream = bitstream.read(plain)
    for steps in (1, 2):
        header = dataclasses.replace(stream.header, steps=steps)
        changed = bitstream.write(Stream(header, stream.segments[: 1 + steps]))
        with pytest.raises(CorruptStream, match=f"{1 + steps} segments"):
            family.decode(changed, decoder="preview")


# ---- labels ----


def test_labels_with_probabilities(family, plain):
    found = family.classify(plain)
    assert sorted(label for label, _ in found) == LABELS
    chances = [chance for _, chance in found]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1)
    other = family.classify(family.encode(255 - noise(100, 150)))
    assert dict(other) != dict(found)
    assert found == family.classify(plain, decoder="class")


def test_labels_are_the_softmax_of_what_the_graph_says(family, plain):
    for name in ("class", "class8"):
        logits = graph_output(family, plain, name).astype(float)
        expected = np.exp(logits) / np.exp(logits).sum()
        found = dict(family.classify(plain, decoder=name))
        np.testing.assert_allclose([found[label] for label in LABELS], expected, rtol=1e-5)


def test_labels_from_several_slices(family, sliced):
    end = needed_end(sliced, 2)
    assert family.classify(sliced[:end], decoder="class8") == family.classify(
        sliced, decoder="class8"
    )


def test_pictures_are_no_labels_and_labels_no_pictures(family, plain):
    with pytest.raises(BadParameter, match=r"'class' of model .* gives labels.*use classify"):
        family.decode(plain, decoder="class")
    with pytest.raises(BadParameter, match=r"'quality' of model .* gives a picture.*use decode"):
        family.classify(plain, decoder="quality")
    with pytest.raises(UnknownDecoder, match="it has: class, class8, glimpse"):
        family.classify(plain, decoder="classes")


def test_labels_of_too_large_pictures(family, plain):
    with pytest.raises(ImageTooLarge):
        family.classify(plain, max_pixels=100 * 150 - 1)
    with pytest.raises(ImageTooLarge, match="--max-memory"):
        family.classify(plain, max_memory=10**8)
    assert family.classify(plain, max_pixels=100 * 150, max_memory=10**9)


# ---- graphs that are not what the bundle says ----


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scale": 4, "made": 8}, "expected uint8"),
        ({"kind": "labels", "labels": LABELS[:3], "made": LABELS}, "one for each label"),
    ],
)
def test_graphs_of_another_size(monkeypatch, tmp_path, tiny_path, plain, fields, said):
    from tests.runtime import family as make

    made = fields.pop("made")
    graph_of = make.graph_of
    lying = {"labels": made} if "labels" in fields else {"scale": made}
    monkeypatch.setattr(make, "graph_of", lambda f, seed, halo: graph_of(f | lying, seed, halo))
    path = make_family(tiny_path, tmp_path / "odd.zip", {"odd": {"seed": 0, **fields}})
    codec = Codec.load(str(path), device="cpu", threads=1)
    with pytest.raises(EngineError, match=said):
        (codec.classify if "labels" in fields else codec.decode)(plain, decoder="odd")


# ---- what is loaded ----


@pytest.mark.parametrize(
    ("name", "graphs"),
    [
        ("quality", {"quality", "h_s", "context_0", "context_1", "context_2"}),
        ("preview", {"preview", "h_s", "context_0", "context_1"}),
        ("thumb", {"thumb", "h_s", "context_0", "context_1"}),
        ("glimpse", {"glimpse", "h_s", "context_0"}),
        ("perceptual", {"perceptual", "h_s", "context_0", "context_1", "context_2"}),
        ("perceptual:0", {"quality", "h_s", "context_0", "context_1", "context_2"}),
        (
            "perceptual:0.5",
            {"perceptual", "quality", "h_s", "context_0", "context_1", "context_2"},
        ),
        ("class", {"class", "h_s", "context_0", "context_1", "context_2"}),
        ("class8", {"class8", "h_s", "context_0", "context_1"}),
    ],
)
def test_only_what_is_needed_is_loaded(spied, plain, name, graphs):
    codec, loaded = spied
    (codec.classify if name.startswith("class") else codec.decode)(plain, decoder=name)
    assert set(loaded) == graphs
    assert len(loaded) == len(graphs)
    loaded.clear()
    codec.warm_up(decoder=name)  # all is there
    assert loaded == []


@pytest.mark.parametrize(
    "name", ["quality", "preview", "half", "perceptual:0.5", "class", "class8"]
)
def test_warming_up_loads_all_that_is_needed(spied, plain, name):
    codec, loaded = spied
    codec.warm_up(decoder=name)
    assert loaded
    loaded.clear()
    (codec.classify if name.startswith("class") else codec.decode)(plain, decoder=name)
    assert loaded == []


def test_warming_up_what_is_not_there(spied):
    codec, loaded = spied
    with pytest.raises(UnknownDecoder):
        codec.warm_up(decoder="best")
    assert loaded == []


def test_later_steps_are_not_run(monkeypatch, family, plain):
    """Neither their networks nor their entropy decoding."""
    networks = family._pool.exact(2)
    assert set(networks) == {"h_s", "context_0", "context_1"}
    seen = []
    exact = EnginePool.exact

    def spy(self, steps=None):
        seen.append(steps)
        return exact(self, steps)

    monkeypatch.setattr(EnginePool, "exact", spy)
    family.decode(plain, decoder="preview")
    assert seen == [2]


# ---- Pillow, memory ----


def test_pillow_shows_previews(monkeypatch, tmp_path, family_path, plain):
    assert importlib.import_module("trellic.pillow").FORMAT == "TLC"
    monkeypatch.setenv("TRELLIC_MODELS", str(family_path.parent))
    (tmp_path / "a.tlc").write_bytes(plain)
    for name, size in [("preview", (19, 13)), ("perceptual:0.5", (150, 100))]:
        with Image.open(tmp_path / "a.tlc") as image:
            assert image.size == (150, 100)
            image.decoder = name
            image.load()
            assert image.size == size
            assert np.asarray(image).shape[:2] == size[::-1]
    with Image.open(tmp_path / "a.tlc") as image:
        image.decoder = "class"
        with pytest.raises(OSError, match="gives labels"):
            image.load()


def test_a_preview_takes_less_memory():
    header = SimpleNamespace(width=8000, height=8000, grey=False, slice_side=64)
    whole = Rectangle(0, 8000, 0, 8000)
    rest = {"halo": 2, "alpha": False}
    full = memory.decoding(header, whole, 320, **rest)(64)
    assert memory.decoding(header, whole, 48, scale=8, **rest)(64) < full - 3 * 63 * 1000**2 * 0.9


# ---- command line ----


@pytest.fixture
def installed(monkeypatch, tmp_path, family_path):
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(family_path, folder)
    monkeypatch.setenv("TRELLIC_MODELS", str(folder))
    return tmp_path


@pytest.fixture
def file(installed, plain):
    (installed / "a.tlc").write_bytes(plain)
    return installed / "a.tlc"


CPU = ("--device", "cpu")


def test_decode_to_labels(file, trellic, family, plain):
    shutil.copy(file, file.with_name("b.tlc"))
    both = file, file.with_name("b.tlc")
    result = trellic("decode", *both, "--decoder", "class", "--json", *CPU)
    assert (result.code, result.err) == (0, "")
    for line, path in zip(result.out.splitlines(), both, strict=True):
        fields = json.loads(line)
        assert fields.pop("seconds") > 0
        expected = [{"label": a, "probability": b} for a, b in family.classify(plain)]
        assert fields == {
            "input": str(path),
            "width": 150,
            "height": 100,
            "decoder": "class",
            "labels": expected,
        }
    assert sorted(p.name for p in file.parent.iterdir()) == ["a.tlc", "b.tlc", "models"]


def test_labels_for_people(file, trellic, family, plain):
    result = trellic("decode", file, "--decoder", "class", *CPU)
    (label, chance), *_ = family.classify(plain)
    assert result.code == 0
    assert result.out.startswith(f"{file}: {label} {chance:.1%}, ")
    assert "(decoder class, " in result.out


def test_at_most_five_labels(monkeypatch, file, trellic, tiny_path, tmp_path):
    many = [f"label {i}" for i in range(12)]
    decoders = {"class": {"kind": "labels", "labels": many, "seed": 0}}
    make_family(tiny_path, file.parent / "models" / "family.zip", decoders)
    fields = json.loads(trellic("decode", file, "--decoder", "class", "--json", *CPU).out)
    assert len(fields["labels"]) == 5


def test_a_bad_file_among_those_to_label(file, trellic):
    bad = file.with_name("bad.tlc")
    bad.write_bytes(b"TLC")
    result = trellic("decode", bad, file, "--decoder", "class", *CPU)
    assert result.code == 1
    assert result.err.startswith(f"error: {bad}: ")
    assert result.out.startswith(f"{file}: ")


@pytest.mark.parametrize("option", [["--region", "0,0,5,5"], ["--best-effort"]])
def test_labels_are_of_whole_pictures(file, trellic, option):
    result = trellic("decode", file, "--decoder", "class", *option, *CPU)
    assert result.code == 1
    assert "leave out --region and --best-effort" in result.err


def test_pictures_need_out(file, trellic):
    result = trellic("decode", file, "--decoder", "perceptual:0.5", *CPU)
    assert result.code == 2
    assert "Missing argument 'OUT'" in result.err
    assert "No installed model" not in result.err
    result = trellic("decode", file, "--decoder", "clas", *CPU)
    assert result.code == 2
    assert "No installed model has the decoder 'clas'" in " ".join(result.err.split())


@pytest.mark.parametrize("name", ["preview", "perceptual:0.4", "half"])
def test_decode_with_a_decoder(file, trellic, family, plain, name):
    out = file.with_name("out.png")
    result = trellic("decode", file, out, "--decoder", name, "--json", *CPU)
    assert (result.code, result.err) == (0, "")
    fields, expected = json.loads(result.out), family.decode(plain, decoder=name)
    assert (fields["height"], fields["width"]) == expected.shape[:2]
    assert fields["decoder"] == name
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_preview_of_a_file_that_is_cut(file, trellic, plain):
    file.write_bytes(plain[: needed_end(plain, 2)])
    out = file.with_name("out.png")
    assert trellic("decode", file, out, "--decoder", "preview", *CPU).code == 0
    result = trellic("decode", file, out, *CPU)
    assert result.code == 1
    assert "the stream ends after" in result.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quality:0.5", "'quality' has no base to be mixed with; expected 'quality' alone"),
        ("best", "no decoder 'best'; it has: class, class8, glimpse"),
    ],
)
def test_decoders_that_cannot_be_used(file, trellic, name, said):
    result = trellic("decode", file, file.with_name("out.png"), "--decoder", name, *CPU)
    assert result.code == 1
    assert said in result.err
    assert not file.with_name("out.png").exists()


def test_info_says_what_a_file_can_become(file, trellic, plain):
    fields = json.loads(trellic("info", file, "--json").out)["decoders"]
    assert set(fields) == {"quality", *DECODERS}
    assert fields["preview"] == {
        "kind": "picture",
        "kmac_per_pixel": 0.01,
        "purpose": "tests, preview",
        "scale": 8,
        "base": None,
        "labels": None,
        "bytes": needed_end(plain, 2),
    }
    assert fields["quality"]["bytes"] == len(plain)
    assert fields["perceptual"]["base"] == "quality"
    assert (fields["class"]["kind"], fields["class"]["labels"]) == ("labels", 4)
    out = trellic("info", file).out
    assert "preview: tests, preview (picture at 1/8, 0.0 kMAC/pixel, reads " in out
    assert "class: tests, class (4 labels, " in out


def test_models_say_what_decoders_give(installed, trellic):
    found = [json.loads(line) for line in trellic("models", "--json").out.splitlines()]
    (fields,) = [model for model in found if model["name"] == "tiny"]
    assert fields["decoders"]["half"]["scale"] == 2
    assert fields["decoders"]["class"]["labels"] == 4
    out = " ".join(trellic("models").out.split())
    assert "picture at 1/8" in out
    assert "4 labels" in out


def test_compare_needs_the_full_size(installed, trellic):
    Image.fromarray(noise(40, 50)).save(installed / "a.png")
    options = ["--decoder", "preview", "--model", "tiny", *CPU]
    result = trellic("compare", installed / "a.png", *options)
    assert result.code == 1
    assert "makes smaller pictures" in result.err

"""One stream, many decoders: their names, mixtures, labels, and what is loaded for them."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.family import (
    DECODERS,
    LABELS,
    graph_output,
    make_family,
    needed_end,
    noise,
)

from trellic.codec import Codec
from trellic.engines.mixture import Mixture
from trellic.engines.pool import EnginePool
from trellic.errors import BadBundle, BadParameter, EngineError, ImageTooLarge, UnknownDecoder
from trellic.gpu import tensorrt
from trellic.model import choice
from trellic.model.bundle import Bundle
from trellic.model.decoders import DecoderInfo


@pytest.fixture
def spied(family_path, monkeypatch):
    """A fresh codec, and the names of the networks that its pool loads."""
    loaded: list[str] = []
    load, exact = EnginePool._load, EnginePool._exact_network

    def spy(self, graph):
        loaded.append(graph.file.removeprefix("graphs/").removesuffix(".onnx"))
        return load(self, graph)

    def spy_exact(self, name):
        loaded.append(name)
        return exact(self, name)

    monkeypatch.setattr(EnginePool, "_load", spy)
    monkeypatch.setattr(EnginePool, "_exact_network", spy_exact)
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


def test_the_ends_of_a_mixture_are_its_decoders(family, plain_stream):
    quality, perceptual = (
        family.decode(plain_stream, decoder=n) for n in ("quality", "perceptual")
    )
    assert (quality != perceptual).any()
    np.testing.assert_array_equal(family.decode(plain_stream, decoder="perceptual:0"), quality)
    np.testing.assert_array_equal(family.decode(plain_stream, decoder="perceptual:1"), perceptual)


@pytest.mark.parametrize("x", [0.001, 0.4, 0.5, 0.999])
def test_between_its_ends(family, plain_stream, x):
    ends = [family.decode(plain_stream, decoder=n).astype(float) for n in ("perceptual", "quality")]
    mixed = family.decode(plain_stream, decoder=f"perceptual:{x}")
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


# ---- labels ----


def test_labels_with_probabilities(family, plain_stream):
    found = family.classify(plain_stream)
    assert sorted(label for label, _ in found) == LABELS
    chances = [chance for _, chance in found]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1)
    other = family.classify(family.encode(255 - noise(100, 150)))
    assert dict(other) != dict(found)
    assert found == family.classify(plain_stream, decoder="class")


def test_labels_are_the_softmax_of_what_the_graph_says(family, plain_stream):
    for name in ("class", "class8"):
        logits = graph_output(family, plain_stream, name).astype(float)
        expected = np.exp(logits) / np.exp(logits).sum()
        found = dict(family.classify(plain_stream, decoder=name))
        np.testing.assert_allclose([found[label] for label in LABELS], expected, rtol=1e-5)


def test_labels_from_several_slices(family, sliced_stream):
    end = needed_end(sliced_stream, 2)
    assert family.classify(sliced_stream[:end], decoder="class8") == family.classify(
        sliced_stream, decoder="class8"
    )


def test_pictures_are_no_labels_and_labels_no_pictures(family, plain_stream):
    with pytest.raises(BadParameter, match=r"'class' of model .* gives labels.*use classify"):
        family.decode(plain_stream, decoder="class")
    with pytest.raises(BadParameter, match=r"'quality' of model .* gives a picture.*use decode"):
        family.classify(plain_stream, decoder="quality")
    with pytest.raises(UnknownDecoder, match="it has: class, class8, glimpse"):
        family.classify(plain_stream, decoder="classes")


def test_labels_of_too_large_pictures(family, plain_stream):
    with pytest.raises(ImageTooLarge):
        family.classify(plain_stream, max_pixels=100 * 150 - 1)
    with pytest.raises(ImageTooLarge, match="--max-memory"):
        family.classify(plain_stream, max_memory=10**8)
    assert family.classify(plain_stream, max_pixels=100 * 150, max_memory=10**9)


# ---- graphs that are not what the bundle says ----


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scale": 4, "made": 8}, "expected uint8"),
        ({"kind": "labels", "labels": LABELS[:3], "made": LABELS}, "one for each label"),
    ],
)
def test_graphs_of_another_size(monkeypatch, tmp_path, tiny_path, plain_stream, fields, said):
    from tests.runtime import family as make

    made = fields.pop("made")
    graph_of = make.graph_of
    lying = {"labels": made} if "labels" in fields else {"scale": made}
    monkeypatch.setattr(make, "graph_of", lambda f, seed, halo: graph_of(f | lying, seed, halo))
    path = make_family(tiny_path, tmp_path / "odd.zip", {"odd": {"seed": 0, **fields}})
    codec = Codec.load(str(path), device="cpu", threads=1)
    with pytest.raises(EngineError, match=said):
        (codec.classify if "labels" in fields else codec.decode)(plain_stream, decoder="odd")


def test_engines_are_built_for_the_channels_that_a_decoder_reads(family):
    for name, channels in [("quality", 24), ("half", 24), ("preview", 8)]:
        profiles = tensorrt.profiles_of(family.bundle, f"decoder {name}", tensorrt.Target())
        smallest = profiles[0]["latents"][0]
        assert smallest == (1, channels, 4, 4)


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
def test_only_what_is_needed_is_loaded(spied, plain_stream, name, graphs):
    codec, loaded = spied
    (codec.classify if name.startswith("class") else codec.decode)(plain_stream, decoder=name)
    assert set(loaded) == graphs
    assert len(loaded) == len(graphs)
    loaded.clear()
    codec.warm_up(decoder=name)  # all is there
    assert loaded == []


@pytest.mark.parametrize(
    "name", ["quality", "preview", "half", "perceptual:0.5", "class", "class8"]
)
def test_warming_up_loads_all_that_is_needed(spied, plain_stream, name):
    codec, loaded = spied
    codec.warm_up(decoder=name)
    assert loaded
    loaded.clear()
    (codec.classify if name.startswith("class") else codec.decode)(plain_stream, decoder=name)
    assert loaded == []


def test_warming_up_what_is_not_there(spied):
    codec, loaded = spied
    with pytest.raises(UnknownDecoder):
        codec.warm_up(decoder="best")
    assert loaded == []


def test_later_steps_are_not_run(monkeypatch, family, plain_stream):
    """Neither their networks nor their entropy decoding."""
    networks = family._pool.exact(2)
    assert set(networks) == {"h_s", "context_0", "context_1"}
    seen = []
    exact = EnginePool.exact

    def spy(self, steps=None):
        seen.append(steps)
        return exact(self, steps)

    monkeypatch.setattr(EnginePool, "exact", spy)
    family.decode(plain_stream, decoder="preview")
    assert seen == [2]

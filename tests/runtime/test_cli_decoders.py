"""Decoders on the command line: labels, previews, and what info and models say."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.runtime.family import (
    DECODERS,
    make_family,
    needed_end,
    noise,
)

# ---- command line ----


@pytest.fixture
def installed(monkeypatch, tmp_path, family_path):
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(family_path, folder)
    monkeypatch.setenv("TRELLIC_MODELS", str(folder))
    return tmp_path


@pytest.fixture
def file(installed, plain_stream):
    (installed / "a.tlc").write_bytes(plain_stream)
    return installed / "a.tlc"


CPU = ("--device", "cpu")


def test_decode_to_labels(file, trellic, family, plain_stream):
    shutil.copy(file, file.with_name("b.tlc"))
    both = file, file.with_name("b.tlc")
    result = trellic("decode", *both, "--decoder", "class", "--json", *CPU)
    assert (result.code, result.err) == (0, "")
    for line, path in zip(result.out.splitlines(), both, strict=True):
        fields = json.loads(line)
        assert fields.pop("seconds") > 0
        expected = [{"label": a, "probability": b} for a, b in family.classify(plain_stream)]
        assert fields == {
            "input": str(path),
            "width": 150,
            "height": 100,
            "decoder": "class",
            "labels": expected,
        }
    assert sorted(p.name for p in file.parent.iterdir()) == ["a.tlc", "b.tlc", "models"]


def test_labels_for_people(file, trellic, family, plain_stream):
    result = trellic("decode", file, "--decoder", "class", *CPU)
    (label, chance), *_ = family.classify(plain_stream)
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


def test_labels_have_no_out(file, trellic):
    result = trellic("decode", file, file.with_name("b.png"), "--decoder", "class", *CPU)
    assert result.code == 2
    assert "gives labels, not a picture: leave out" in " ".join(result.err.split())
    assert not result.out


def test_pictures_need_out(file, trellic):
    result = trellic("decode", file, "--decoder", "perceptual:0.5", *CPU)
    assert result.code == 2
    assert "Missing argument 'OUT'" in result.err
    assert "No installed model" not in result.err
    result = trellic("decode", file, "--decoder", "clas", *CPU)
    assert result.code == 2
    assert "No installed model has the decoder 'clas'" in " ".join(result.err.split())


@pytest.mark.parametrize("name", ["preview", "perceptual:0.4", "half"])
def test_decode_with_a_decoder(file, trellic, family, plain_stream, name):
    out = file.with_name("out.png")
    result = trellic("decode", file, out, "--decoder", name, "--json", *CPU)
    assert (result.code, result.err) == (0, "")
    fields, expected = json.loads(result.out), family.decode(plain_stream, decoder=name)
    assert (fields["height"], fields["width"]) == expected.shape[:2]
    assert fields["decoder"] == name
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_preview_of_a_file_that_is_cut(file, trellic, plain_stream):
    file.write_bytes(plain_stream[: needed_end(plain_stream, 2)])
    out = file.with_name("out.png")
    assert trellic("decode", file, out, "--decoder", "preview", *CPU).code == 0
    result = trellic("decode", file, out, *CPU)
    assert result.code == 1
    assert "the stream ends after" in result.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quality:0.5", "'quality' has no base to be mixed with; expected only 'quality'"),
        ("best", "no decoder 'best'; it has: class, class8, glimpse"),
    ],
)
def test_decoders_that_cannot_be_used(file, trellic, name, said):
    result = trellic("decode", file, file.with_name("out.png"), "--decoder", name, *CPU)
    assert result.code == 1
    assert said in result.err
    assert not file.with_name("out.png").exists()


def test_info_says_what_a_file_can_become(file, trellic, plain_stream):
    fields = json.loads(trellic("info", file, "--json").out)["decoders"]
    assert set(fields) == {"quality", *DECODERS}
    assert fields["preview"] == {
        "kind": "picture",
        "kmac_per_pixel": 0.01,
        "precisions": ["fp32"],
        "purpose": "tests, preview",
        "scale": 8,
        "base": None,
        "labels": None,
        "bytes": needed_end(plain_stream, 2),
    }
    assert fields["quality"]["bytes"] == len(plain_stream)
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

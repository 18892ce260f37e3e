"""Decoders of cut files: all are given the same bytes, and the table says what each gains."""

import json

import numpy as np
import pytest
from benchmarks.progressive import LENGTHS
from PIL import Image

from benchmarks import cut_decoders
from trellic.codec import Codec


@pytest.fixture(scope="module")
def codec():
    return Codec.load("photo", "cpu", 1)


def picture(rows=192, columns=192):
    y, x = np.mgrid[:rows, :columns]
    waves = 90 * np.sin(x / 7) * np.cos(y / 11)
    return np.clip(128 + waves[..., None] * [1, 0.6, -0.4], 0, 255).astype(np.uint8)


def test_files_are_cuts_by_length_and_ordinary_ones(codec):
    files = cut_decoders.files_of(codec, picture())
    whole = len(files["quality 75"])
    assert list(files)[-4:] == ["all layers", "quality 30", "quality 53", "quality 75"]
    cuts = {name: data for name, data in files.items() if name.endswith("%")}
    assert cuts
    for share in LENGTHS:
        if f"{share:.0%}" in cuts:
            assert len(cuts[f"{share:.0%}"]) <= round(share * whole)
    assert len(files["all layers"]) > whole


def test_a_run_writes_its_record_and_a_table(tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out.json"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(picture(128, 128)).save(folder / f"{name}.png")
    arguments = ["--bundle", "fast=photo", "--images", str(folder), "--limit", "1"]
    assert cut_decoders.main([*arguments, "--out", str(out)]) == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [image["name"] for image in record["images"]] == ["a.png"]
    assert {row["decoder"] for row in record["rows"]} == {"quality", "fast"}
    sizes = {}
    for row in record["rows"]:
        assert sizes.setdefault(row["file"], row["bytes"]) == row["bytes"]
    assert "`fast`" in capsys.readouterr().out


def test_gains_are_means_over_photos():
    rows = [
        {"file": "20%", "decoder": decoder, "psnr": psnr, "ssimulacra2": score}
        for decoder, psnr, score in (
            ("quality", 30.0, 50.0), ("cut", 30.5, 49.0), ("quality", 32.0, 60.0),
            ("cut", 32.25, 60.5),
        )
    ]  # fmt: skip
    machine = {"date": "2026-01-02T", "commit": "abc", "processor": "P"}
    drawn = cut_decoders.markdown({"rows": rows, "machine": machine})
    assert "| 20% | 2 | 31.00 | +0.38 | 55.0 | -0.25 |" in drawn

"""The benchmark of precisions: its arithmetic, and a run where the variant is the same graph."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import precisions
from trellic.engines.precision import saturates

needs_vnni = pytest.mark.skipif(
    saturates(), reason="this processor has no VNNI: its 8-bit products saturate"
)


@pytest.fixture
def twin(tiny_path, tmp_path):
    """The tiny bundle with each graph as its own variant: nothing may be lost."""
    path = tmp_path / "twin.zip"
    with zipfile.ZipFile(tiny_path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    for graph in (manifest["encoder"], manifest["decoders"]["quality"]["graph"]):
        graph["int8"] = graph["file"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"manifest.json": json.dumps(manifest), **files}.items():
            archive.writestr(name, data)
    return path


def test_bd_rates_of_known_curves():
    rows = [
        {"bpp": r, "psnr": p, "int8": {"lost_decoding": 0.0, "bpp": 1.02 * r, "psnr": p}}
        for r, p in ((0.1, 26.0), (0.2, 29.0), (0.4, 32.0), (0.8, 35.0))
    ]
    assert precisions.bd_rates(rows, "int8") == pytest.approx({"decode": 0.0, "both": 2.0})


@needs_vnni
def test_a_run(twin, tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "QUALITIES", (30.0, 90.0))
    monkeypatch.setattr(precisions, "OTHERS", ("int8",))
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = tmp_path / "out.json"
    arguments = ["--images", str(tmp_path), "--model", str(twin), "--json", str(out)]
    assert precisions.main([*arguments, "--repeat", "1", "--threads", "1"]) == 0
    result = json.loads(out.read_text())
    for row in result["distortion"]:
        assert row["int8"] == {"lost_decoding": 0, "bpp": row["bpp"], "psnr": row["psnr"]}
    assert set(result["times"]) == {"1"}
    assert len(result["times"]["1"]) == 4
    assert all(row["float32 / int8"] > 0 for row in result["times"]["1"])


def test_what_is_missing_is_left_out(tiny_path, capsys):
    assert "int8" not in precisions.load(str(tiny_path), 1)
    assert "without int8: " in capsys.readouterr().err

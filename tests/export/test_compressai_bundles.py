"""From a checkpoint of CompressAI to a bundle that the runtime uses, by the command."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trellic.codec import Codec
from trellic.errors import BadBundle, BadParameter
from trellic.geometry import Plane
from trellic.integer.networks import IntegerLayer, IntegerNetwork
from trellic.latents.quantizer import Quantizer
from trellic.model.bundle import Bundle
from trellic.pipeline import transforms
from trellic_export import bundle as export
from trellic_export import calibrate, cli
from trellic_export.graphs import integer_graph
from trellic_export.macs import integer_macs_per_pixel
from trellic_export.proof import prove
from trellic_training.models.compressai import ARCHITECTURES

FOLDER = Path(__file__).parents[1] / "data" / "compressai"


def import_arguments(architecture, out, photos, *more):
    checkpoint = FOLDER / f"{architecture}.pth.tar"
    source = ["--from", f"compressai:{architecture}", "--checkpoint", checkpoint]
    return [str(a) for a in (*source, "--photos", photos, out, *more)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exported(request, tmp_path_factory):
    """A bundle of each architecture, calibrated quickly on the picture that it is tested with."""
    folder = tmp_path_factory.mktemp("imported")
    with np.load(FOLDER / f"{request.param}.npz") as archive:
        expected = dict(archive)
    (folder / "photos").mkdir()
    for turns in range(3):
        turned = np.rot90(expected["pixels"], turns)
        pixels = np.pad(turned, ((0, 64), (0, 64), (0, 0)), "symmetric")
        Image.fromarray(pixels).save(folder / "photos" / f"{turns}.png")
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(export, "CALIBRATION_SIDE", 192)
        quick.setattr(calibrate, "REFERENCE_QUALITIES", (40, 80))
        quick.setattr(calibrate, "ROUNDS", 2)
        out = folder / "new" / f"{request.param}.zip"
        more = ("--keep", folder / "weights.pt")
        assert cli.main(import_arguments(request.param, out, folder / "photos", *more)) == 0
    return out, expected


def psnr(a, b):
    return 10 * math.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.mark.slow("a whole import, against figures kept from CompressAI")
def test_rates_and_pictures_are_compressais(exported):
    path, expected = exported
    codec = Codec.load(str(path), device="cpu", threads=1)
    assert all(network.exact_engine for network in codec._pool.exact().values())
    pixels = expected["pixels"]
    theirs = (expected["y_bits"] + expected["z_bits"]) / 8
    their_psnr = psnr(expected["x_hat"], pixels)
    data = codec.encode(pixels, quality=60, trellis=0, search="round")
    # 32 bytes of container, and tables that a handful of small pictures was enough for
    assert len(data) - 32 < 1.05 * theirs
    assert psnr(codec.decode(data), pixels) > their_psnr - 0.1
    for states in (0, 8):
        chosen = codec.encode(pixels, quality=60, trellis=states)
        assert len(chosen) < len(data)
        assert psnr(codec.decode(chosen), pixels) > their_psnr - 1.5


@pytest.mark.slow("an imported model of each kind is exported")
def test_quality_goes_both_ways(exported):
    codec = Codec.load(str(exported[0]), device="cpu", threads=1)
    pixels = exported[1]["pixels"]
    streams = [codec.encode(pixels, quality=q) for q in (20, 60, 100)]
    assert sorted(map(len, streams)) == list(map(len, streams))
    errors = [psnr(codec.decode(data), pixels) for data in streams]
    assert sorted(errors) == errors


def test_the_bundle_predicts_without_context(exported):
    path, _ = exported
    bundle = Bundle(path)
    manifest = bundle.manifest
    assert list(bundle.networks) == ["h_s"]
    assert set(manifest.exact) == set(manifest.probes) == {"h_s"}
    assert len(manifest.layout.steps) == 1
    assert manifest.training["imported_from"] == f"compressai:{path.stem}"
    assert len(manifest.training["checkpoint_sha256"]) == 64
    assert manifest.training["largest_accumulator"]["h_s"] < 2**22
    # four 5x5 layers of stride 2 and their normalizations, N = 8, M = 12
    macs = 25 * (3 * 8 / 4 + 8 * 8 / 16 + 8 * 8 / 64 + 8 * 12 / 256) + 64 / 4 + 64 / 16 + 64 / 64
    assert manifest.encoder.kmac_per_pixel == round(macs / 1000, 3)


@pytest.mark.slow("imported models are exported twice")
def test_the_kept_weights_export_the_same_stream(exported, tmp_path, monkeypatch):
    path, _ = exported
    monkeypatch.setattr(export, "CALIBRATION_SIDE", 192)
    monkeypatch.setattr(calibrate, "REFERENCE_QUALITIES", (40, 80))
    monkeypatch.setattr(calibrate, "ROUNDS", 2)
    again = tmp_path / "again.zip"
    photos = path.parents[1] / "photos"
    assert cli.main([str(path.parents[1] / "weights.pt"), str(again), "--photos", str(photos)]) == 0
    assert Bundle(again).manifest.stream_id == Bundle(path).manifest.stream_id


def test_tiles_have_no_seams(exported):
    """Halos are wide enough, and no wider than they need to be."""
    codec = Codec.load(str(exported[0]), device="cpu", threads=1)
    manifest, pool, plane = codec.bundle.manifest, codec._pool, Plane(384, 384)
    pixels = np.tile(exported[1]["pixels"], (3, 3, 1))
    whole = transforms.analysis(pool.encoder(), pixels, plane, 12, 0)
    tiled = transforms.analysis(pool.encoder(), pixels, plane, 12, manifest.encoder.halo, 8)
    np.testing.assert_allclose(tiled, whole, atol=1e-4)
    h_a, halo = pool.hyper_encoder(), manifest.hyper_encoder.halo
    hyper = transforms.hyper_analysis(h_a, whole, plane, 0)
    cut = transforms.hyper_analysis(h_a, whole, plane, halo, 8)
    np.testing.assert_allclose(cut, hyper, atol=1e-4)
    g_s, halo = pool.decoder("quality"), manifest.decoders["quality"].graph.halo
    picture = transforms.synthesis(g_s, whole, plane, halo).astype(int)
    again, less = (transforms.synthesis(g_s, whole, plane, n, tile=8) for n in (halo, halo - 1))
    assert np.abs(again - picture).max() <= 1
    assert np.abs(less - picture).max() > 1


def test_predictions_know_no_slices(exported):
    """h_s sees beyond a slice: every latent keeps its scale index, however the plane is cut."""
    codec = Codec.load(str(exported[0]), device="cpu", threads=1)
    pool, plane = codec._pool, Plane(512, 512)
    pixels = np.tile(exported[1]["pixels"], (4, 4, 1))
    f = transforms.analysis(pool.encoder(), pixels, plane, 12, 0)
    h = transforms.hyper_analysis(pool.hyper_encoder(), f, plane, 0)
    level = codec.bundle.levels.at(16 * 60, 0)
    whole, cut = (scale_indices(codec, f, h, plane, level, side) for side in (64, 16))
    np.testing.assert_array_equal(whole, cut)


def scale_indices(codec, f, h, plane, level, side):
    """All scale indices, in any order, where slices are so large."""
    shown = []
    codec._encoding.latents().encode(
        f,
        h,
        plane,
        level,
        Quantizer(0, 0, "round"),
        lanes=[1] * max(1, plane.latents[0] // side) ** 2,
        slice_side=side,
        observe=lambda t32, index, k, cls: shown.append(index),
    )
    return np.sort(np.concatenate(shown))


# ---- dense integer layers ----


def dense(table=()):
    rng = np.random.default_rng(3)
    return IntegerLayer(
        "conv",
        rng.integers(-127, 128, (6, 5, 3, 3), dtype=np.int8),
        rng.integers(-999, 999, 6, dtype=np.int32),
        np.full(6, 9, np.uint8),
        -50,
        40,
        np.array(table, np.int32),
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (12, 12)])
@pytest.mark.parametrize("table", [(), np.arange(91) ** 2], ids=["plain", "table"])
def test_graphs_of_dense_layers(size, table):
    network = IntegerNetwork((dense(table),), (pointwise(),))
    engine = export.OrtEngine(integer_graph(network), threads=1)
    x = np.random.default_rng(0).integers(-127, 128, (5, *size)).astype(np.float32)
    (seen,) = engine({"x": x[None]})
    np.testing.assert_array_equal(seen[0], network(x)[0])
    assert integer_macs_per_pixel(network, 1) == 6 * 5 * 9 + 2 * 6


def pointwise():
    weight = np.random.default_rng(4).integers(-9, 9, (2, 6), dtype=np.int8)
    return IntegerLayer(
        "pointwise", weight, np.zeros(2, np.int32), np.ones(2, np.uint8), -(2**20), 2**20
    )


def test_tables_bound_what_comes_next():
    bound = 127 * np.abs(dense().weight.astype(int)).sum((1, 2, 3)) + np.abs(dense().bias) + 256
    assert prove("n", IntegerNetwork((dense(),))) == bound.max()
    weight = np.abs(pointwise().weight.astype(int)).sum(1).max()
    network = IntegerNetwork((dense(np.arange(91) * 1000),), (pointwise(),))
    assert prove("n", network) == max(bound.max(), 90_000 * weight + 1)
    with pytest.raises(BadBundle, match="may reach"):
        prove("n", IntegerNetwork((dense(np.arange(91) * 40_000),), (pointwise(),)))
    with pytest.raises(BadBundle, match="a table of 'n' has values beyond"):
        prove("n", IntegerNetwork((dense(np.arange(91) * 50_000),)))


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.zip"], "0 weights"),
        (["w.pt", "a.zip", "--from", "compressai:mbt2018_mean"], "1 weights"),
        (["a.zip", "--from", "compressai:mbt2018_mean"], "0 weights"),
        (["a.zip", "--checkpoint", "c.pth"], "0 weights"),
        (["w.pt", "v.pt", "a.zip"], "2 weights"),
        (["w.pt", "a.zip", "--keep", "k.pt"], "1 weights"),
        (["a.tlc", "--from", "compressai:mbt2018_mean", "--checkpoint", "c.pth"], "bundle 'a.tlc'"),
        (["a.zip", "--from", "compressai:mbt2018", "--checkpoint", "c.pth"], "compressai:mbt2018'"),
        (["a.zip", "--from", "mbt2018_mean", "--checkpoint", "c.pth"], "--from 'mbt2018_mean'"),
        (["a.zip", "--from", "compressai:mbt2018_mean", "--checkpoint", "c.pth"], "No such file"),
    ],
    ids=" ".join,
)
def test_arguments_that_do_not_fit(photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadParameter, match=message):
        cli.main([*arguments, "--photos", str(photos)])
    assert not (tmp_path / "a.zip").exists()

"""From weights and photos to a bundle that the runtime uses."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from trellic import bitstream
from trellic.codec import Codec
from trellic.constants import TRELLIS_STATES
from trellic.errors import BadBundle, BadParameter
from trellic.integer.networks import from_arrays, to_arrays
from trellic.latents.quantizer import Quantizer
from trellic.model.bundle import Bundle
from trellic.quantize.cpu import reconstruct
from trellic_export import bundle as export
from trellic_export import calibrate, cli
from trellic_export.checkpoint import load_model
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.models.decoder_weights import load_decoder
from trellic_training.models.integers import (
    FIRST_LEVEL,
    LAST_LEVEL,
    integer_networks,
    level_tables,
    widened,
)
from trellic_training.models.photo import MEAN_UNIT, SCALE_PARTS, PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.models.weights import save_weights
from trellic_training.pixels import to_network
from trellic_training.recipes.codec import QuantizedRecipe
from trellic_training.stages.samples import BundleQuantizer

from .conftest import ATTENDING, CONFIG, COUPLED, shaken, synthetic


@pytest.fixture
def packed(photos, tmp_path):
    assert pack(photos, tmp_path / "packed") == 3
    return tmp_path / "packed"


@pytest.fixture
def sensible(model, packed):
    """The model with principal components, so that it codes pictures more or less."""
    crops = PackedPhotos(packed).crops(np.random.default_rng(0), 60, 64)
    start_from_components(model, to_network(crops))
    return model


@pytest.fixture
def quick(monkeypatch):
    """Calibration in a second: small photos, fewer rounds and qualities."""
    monkeypatch.setattr(export, "CALIBRATION_SIDE", 64)
    monkeypatch.setattr(calibrate, "ROUNDS", 1)
    monkeypatch.setattr(calibrate, "REFERENCE_QUALITIES", (30, 70))


OPTIONS = export.Options(name="mini", photos=3, description="For one test.", skip_index=1)


def psnr(a, b):
    return 10 * math.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.mark.slow(
    "a model is exported, and pictures go through training's and the runtime's networks"
)
def test_there_and_back(sensible, packed, photos, tmp_path, quick):
    facts = {"recipe": {"name": "mini"}, "steps": 0}
    path = tmp_path / "new" / "mini.zip"
    manifest = export.export_bundle(sensible, facts, PackedPhotos(packed), path, OPTIONS)
    opened = Bundle(path)
    assert opened.manifest == manifest

    # everything is in the manifest
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        for name, digest in manifest.sha256.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
    assert names == {"manifest.json", *manifest.sha256}
    graphs = [manifest.encoder, manifest.hyper_encoder, *manifest.exact.values()]
    graphs += [info.graph for info in manifest.decoders.values()]
    assert {graph.file for graph in graphs} | {"normative.npz"} == set(manifest.sha256)
    assert all(graph.kmac_per_pixel > 0 for graph in graphs)
    assert (manifest.name, manifest.description) == ("mini", "For one test.")
    assert (manifest.layout.skip_index, manifest.layout.scales) == (1, 24)
    assert manifest.search["scalar"].lam == 20
    assert manifest.search["trellis"].lam == 24
    assert set(manifest.made_with) == {"numpy", "torch", "onnx", "onnxruntime", "python"}
    assert manifest.training["steps"] == 0
    assert set(manifest.training["largest_accumulator"]) == set(opened.networks)
    assert set(manifest.probes) == set(manifest.exact) == set(opened.networks)
    np.testing.assert_array_equal(
        opened.levels.scale_shift,
        widened(level_tables(sensible), OPTIONS.widening).scale_shift,
    )
    assert opened.levels.level_offset[0] == 0
    assert np.abs(opened.levels.level_offset).max() <= calibrate.MAX_OFFSET

    # and it codes pictures
    codec = Codec.load(str(path), device="cpu", threads=1)
    assert all(network.exact_engine for network in codec._pool.exact().values())
    with Image.open(photos / "wave-1.png") as image:
        pixels = np.array(image)
    for trellis in TRELLIS_STATES:
        data = codec.encode(pixels, quality=80, trellis=trellis)
        assert psnr(pixels, codec.decode(data)) > 20
    assert opened.levels.has_dither
    dithered = codec.encode(pixels, quality=80, trellis=0, dither=3)
    assert psnr(pixels, codec.decode(dithered)) > 20

    # the same export gives the same bytes
    again = tmp_path / "again.zip"
    export.export_bundle(sensible, facts, PackedPhotos(packed), again, OPTIONS)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.slow("exports a model and codes with it")
def test_a_model_that_sees_the_quality(photos, packed, tmp_path, quick):
    torch.manual_seed(4)
    model = PhotoModel(CONFIG.model_copy(update={"modulated": True}))
    start_from_components(
        model, to_network(PackedPhotos(packed).crops(np.random.default_rng(0), 60, 64))
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modulation" in name:
                parameter.normal_(0, 0.05)
    model.eval().requires_grad_(requires_grad=False)
    path = tmp_path / "seeing.zip"
    manifest = export.export_bundle(model, {}, PackedPhotos(packed), path, OPTIONS)
    assert manifest.encoder.sees_quality
    assert manifest.decoders["quality"].graph.sees_quality
    assert not manifest.hyper_encoder.sees_quality
    codec = Codec.load(path, device="cpu", threads=1)
    with Image.open(photos / "wave-1.png") as image:
        pixels = np.array(image)[:128, :128]
    for quality in (15, 90):
        data = codec.encode(pixels, quality=quality, trellis=8)
        latents, level = BundleQuantizer(codec.bundle, 1)(pixels[None], np.array([quality]), [8])
        x_hat = model.g_s(torch.from_numpy(latents), torch.from_numpy(level))
        expected = ((x_hat[0] + 0.5) * 255).round().clamp(0, 255).permute(1, 2, 0)
        assert np.abs(codec.decode(data) - expected.numpy()).max() <= 1
    encoded = codec.encode(pixels, max_bytes=len(data) * 2 // 3, trellis=8)
    assert 0.6 * len(data) < len(encoded) <= len(data) * 2 // 3


@pytest.mark.slow("a model of each stride is exported")
@pytest.mark.parametrize("strides", [(4, 2), (8, 4)])
def test_other_strides(photos, packed, tmp_path, quick, monkeypatch, strides):
    monkeypatch.setattr(export, "CALIBRATION_SIDE", 32)
    config = dict(zip(("stride", "cell"), strides, strict=True)) | {"wide": 16, "deep": 16}
    torch.manual_seed(3)
    model = PhotoModel(CONFIG.model_copy(update=config)).eval().requires_grad_(requires_grad=False)
    crops = PackedPhotos(packed).crops(np.random.default_rng(0), 60, 64)
    start_from_components(model, to_network(crops))
    path = tmp_path / "fine.zip"
    made = export.export_bundle(model, {}, PackedPhotos(packed), path, OPTIONS)
    assert (made.layout.stride, made.layout.cell) == strides
    codec = Codec.load(path, device="cpu", threads=1)
    with Image.open(photos / "wave-1.png") as image:
        pixels = np.array(image)[:77, :101]
    for trellis in (0, 8):
        data = codec.encode(pixels, quality=80, trellis=trellis)
        decoded = codec.decode(data)
        assert psnr(pixels, decoded) > 20
        part = codec.decode(data, region=(9, 17, 70, 33))
        assert np.abs(part.astype(int) - decoded[17:50, 9:79]).max() <= 1
    tall = np.tile(pixels[:, :12], (17, 1, 1))  # two slices
    data = codec.encode(tall, quality=80)
    assert bitstream.read_header(data).slices == 2
    whole, part = codec.decode(data), codec.decode(data, region=(0, 900, 12, 200))
    assert psnr(tall, whole) > 20
    assert np.abs(part.astype(int) - whole[900:1100]).max() <= 1


@pytest.mark.slow("fits tables to photos")
def test_fitting_lowers_the_cost(sensible, packed, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(export, "CALIBRATION_SIDE", 192)
    monkeypatch.setattr(calibrate, "QUALITIES", (60,))
    made = tmp_path / "mini.zip"
    export.export_bundle(sensible, {}, PackedPhotos(packed), made, OPTIONS)
    codec = Codec.load(str(made), device="cpu", threads=1)
    engines, manifest = codec._pool, codec.bundle.manifest
    encode = calibrate.Encoder(
        engines.encoder(), engines.hyper_encoder(), manifest.encoder, manifest.layout
    )
    photos = [calibrate.Photo(p, encode) for p in export.centres(PackedPhotos(packed), 99)]
    assert len(photos) == 3
    sigmas = SIGMA_MIN * scale_ratio(24) ** np.arange(24)
    calibration = calibrate.Calibration(
        manifest.layout, codec.bundle.levels, engines.exact(), sigmas, photos, 21
    )
    for states, lam in ((0, 26), (8, 28)):
        costs = [
            sum(cost(calibration, tables, p, states, lam, 60) for p in photos)
            for tables in (calibration.prior, codec.bundle.tables)
        ]
        assert costs[1] < costs[0]
        # hyper-latents, scalar in every stream, must not refit the scalar tables in a trellis run
        assert classes_shown(calibration, photos[0], states) == ({1, 2} if states else {0})
    # with the same tables for hyper-latents, which are not dithered
    prior = dataclasses.replace(codec.bundle.tables, dither=calibration.dither_prior)
    sizes = [
        sum(dithered_size(calibration, tables, p) for p in photos)
        for tables in (prior, codec.bundle.tables)
    ]
    assert sizes[1] < sizes[0]


def dithered_size(calibration, tables, photo) -> int:
    """Bytes of one photo with a dither that no table was fitted to."""
    level, quantizer = calibration.levels.at(16 * 60, 0), Quantizer(0, 0, dither=999)
    coder = calibration.encoder(tables)
    f, h = photo.analysed(level.quality)
    coded = coder.encode(f, h, photo.plane, level, quantizer, lanes=[1])
    return sum(map(len, coded.segments))


def classes_shown(calibration, photo, states) -> set[int]:
    """Classes of the symbols that a fit is shown."""
    shown: set[int] = set()
    level = calibration.levels.at(16 * 60, states)
    calibration.encoder(calibration.prior).encode(
        *photo.analysed(level.quality),
        photo.plane,
        level,
        Quantizer(states, 28),
        lanes=[1],
        observe=lambda t32, index, k, cls: shown.update(cls.tolist()),
    )
    return shown


def cost(calibration, tables, photo, states, lam, quality) -> int:
    """What the search minimises: 16 e32^2 + lam * rate64, over one photo."""
    level = calibration.levels.at(16 * quality, states)
    total = 0

    def observe(t32, index, k, cls):
        nonlocal total
        error = t32.astype(np.int64) - reconstruct(k, cls, index, tables)
        total += 16 * int(np.square(error).sum())

    coder = calibration.encoder(tables)
    quantizer = Quantizer(states, lam)
    f, h = photo.analysed(level.quality)
    coded = coder.encode(f, h, photo.plane, level, quantizer, lanes=[1], observe=observe)
    return total + lam * 64 * 8 * sum(map(len, coded.segments))


def test_networks_that_overflow_are_not_exported(model, packed, tmp_path):
    with torch.no_grad():
        model.contexts[0][0].bias[2] = 1e6
    with pytest.raises(BadBundle, match=r"context_0.*may reach"):
        export.export_bundle(model, {}, PackedPhotos(packed), tmp_path / "a.zip", OPTIONS)
    assert not (tmp_path / "a.zip").exists()


def test_a_skip_index_beyond_the_scales_is_refused_at_once(packed, tmp_path):
    model, options = PhotoModel(CONFIG).eval(), dataclasses.replace(OPTIONS, skip_index=24)
    with pytest.raises(BadParameter, match=r"skip index 24; expected 0 to 23, .* 24 scales"):
        export.export_bundle(model, {}, PackedPhotos(packed), tmp_path / "a.zip", options)
    assert not (tmp_path / "a.zip").exists()


def test_integers_survive_the_file(model):
    rng = np.random.default_rng(0)
    for name, network in integer_networks(model).items():
        again = from_arrays(name, to_arrays(name, network))
        x = rng.integers(-127, 128, (network.channels_in, 5, 4))
        for a, b in zip(network(x), again(x), strict=True):
            np.testing.assert_array_equal(a, b)


def test_level_tables_are_the_gains(model):
    tables = level_tables(model)
    assert (tables.first_level, len(tables.gain)) == (FIRST_LEVEL, LAST_LEVEL - FIRST_LEVEL + 1)
    assert next(model.parameters()).dtype == torch.float32
    for quality in (1.0, 33.0, 50.0, 100.0):
        level = tables.at(round(16 * quality), 8)
        gain = model.gains(torch.tensor([quality]))[0, :, 0, 0].numpy()
        np.testing.assert_allclose(level.gain_float, gain, rtol=1e-3)
        bucket = model.hyper_quality(torch.tensor([quality])).clamp(1, 100)
        hyper = model.hyper_gains(bucket)[0, :, 0, 0].numpy()
        np.testing.assert_allclose(level.hyper_gain_float, hyper, rtol=1e-4)
        mean = (model.hyper_mean * torch.from_numpy(hyper)).round().numpy()
        np.testing.assert_array_equal(level.hyper_mean, mean)


def test_the_second_stage_quantizes_as_exports_do_by_default():
    options, recipe = export.Options(name="x"), QuantizedRecipe(name="x")
    for name in ("lam", "fit_lam", "trellis_step", "skip_index", "widening"):
        assert getattr(options, name) == getattr(recipe, name), name


def test_widened_scales_are_larger_up_to_quality_75_and_the_same_from_90_on(model):
    tables = level_tables(model)
    wide = widened(tables, 96)
    for quality, more in ((1, 96), (75, 96), (80, 64), (90, 0), (100, 0)):
        before, after = (of.at(16 * quality, 0).scale_shift for of in (tables, wide))
        np.testing.assert_array_equal(after - before, more)
    np.testing.assert_array_equal(wide.gain, tables.gain)


@pytest.mark.parametrize("quality", [5.0, 50.0, 93.0])
def test_integer_evaluation_is_what_training_computes(model, quality):
    """Means and scale indices: the runtime's integers against torch, up to their units."""
    level = level_tables(model).at(round(16 * quality), 0)
    networks, rng = integer_networks(model), np.random.default_rng(0)
    z = rng.integers(-40, 40, (4, 2, 3))
    v32 = rng.integers(-400, 400, (8, 8, 12))
    scaled = np.clip((z * level.hyper_scale[:, None, None] + 2**15) >> 16, -127, 127)
    x = np.concatenate([scaled, np.full((1, 2, 3), level.plane)])
    features = networks["h_s"](x)[0]
    at = torch.tensor([quality])
    gain = torch.from_numpy(level.hyper_gain_float)[None, :, None, None]
    torch_features = model.features(torch.from_numpy(z)[None] / gain, at)[0].numpy()
    np.testing.assert_array_equal(features, torch_features)
    y_hat = torch.from_numpy(v32 / 32)[None].float()
    for k, step in enumerate(model.steps):
        x = features
        if step.context:
            m = level.context_scale[: step.context, None, None]
            seen = np.clip((v32[: step.context] * m + 2**15) >> 16, -127, 127)
            x = np.concatenate([features, seen])
        mu, s = networks[f"context_{k}"](x)
        coded = slice(step.first, step.last)
        mean, index = model.parameters_of(k, torch.from_numpy(features)[None].float(), y_hat, at)
        mean32 = np.clip((mu * level.gain[coded, None, None] + 2**15) // 2**16, -(2**20), 2**20)
        # gains are rounded to 2^-12, and a context activation may round the other way
        assert np.mean(np.abs(mean[0].numpy() - mean32 / 32) > 0.05) < 0.01
        shift = level.scale_shift[coded, None, None]
        exact = np.clip((s * 16 + shift + 64) // 128, 0, 23)
        assert np.mean(np.abs(index[0].numpy() - exact) > 0.5 + 1 / SCALE_PARTS) < 0.01
    assert MEAN_UNIT == 2.0**-9


# ---- the command ----


@pytest.mark.slow("the command exports a model")
def test_the_command(sensible, photos, tmp_path, quick, capsys):
    save_weights(sensible, {"recipe": {}, "steps": 5}, tmp_path / "weights.pt")
    out = tmp_path / "out" / "mini.zip"
    arguments = [tmp_path / "weights.pt", out, "--photos", photos, "--licence", "CC0-1.0"]
    assert cli.main([str(a) for a in arguments]) == 0
    assert "model 'mini', stream id" in capsys.readouterr().out
    manifest = Bundle(out).manifest
    assert (manifest.licence, manifest.training["steps"]) == ("CC0-1.0", 5)
    assert [path.name for path in out.parent.iterdir()] == ["mini.zip"]


def test_photos_are_packed_for_a_while_and_not_into_their_own_folder(photos, packed, tmp_path):
    """``export weights.pt shop.zip --photos shop-photos`` wrote the pack into shop-photos."""
    own = photos.rename(tmp_path / "shop-photos")
    before = sorted(path.name for path in own.iterdir())
    with cli._packed(own, tmp_path / "shop.zip") as found:
        assert len(found.training) == 3
    assert sorted(path.name for path in own.iterdir()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"shop-photos", "packed"}
    with cli._packed(packed, tmp_path / "shop.zip") as found:
        assert len(found.training) == 3
    assert (packed / "photos.bin").is_file()


@pytest.mark.slow("exports a model twice")
def test_the_g_s_of_the_second_stage_becomes_a_decoder(sensible, photos, tmp_path, quick):
    save_weights(sensible, {"recipe": {}, "steps": 5}, tmp_path / "first.pt")
    tuned = copy.deepcopy(sensible)
    with torch.no_grad():
        next(tuned.g_s.parameters()).add_(0.01)
    facts = {"steps": 5, "finetuning": {"recipe": {"distortion": {"jod": 1.0}}, "steps": 7}}
    save_weights(tuned, facts, tmp_path / "tuned.pt")
    out = tmp_path / "mini.zip"
    arguments = [tmp_path / "first.pt", out, "--photos", photos]
    arguments += ["--decoder", f"quality={tmp_path / 'tuned.pt'}"]
    assert cli.main([str(a) for a in arguments]) == 0
    manifest = Bundle(out).manifest
    assert manifest.training["steps"] == 5
    assert manifest.training["decoders"]["quality"]["steps"] == 7
    assert manifest.decoders["quality"].purpose == "what people see, by CVVDP"
    kept = load_decoder(tmp_path / "mini-quality.pt").network.state_dict()
    for name, value in tuned.g_s.state_dict().items():
        assert torch.equal(kept[name], value.half().float())
    with torch.no_grad():
        next(tuned.g_a.parameters()).add_(0.01)
    save_weights(tuned, facts, tmp_path / "tuned.pt")
    with pytest.raises(BadParameter, match="was trained on latents of encoder"):
        cli.main([str(a) for a in (*arguments, "--replace")])


@pytest.mark.parametrize("name", ["mini", "mini.tlc", "mini.ZIP", "My Model.zip", ".zip", "ä.zip"])
def test_bundles_need_a_proper_name(model, photos, tmp_path, name):
    save_weights(model, {}, tmp_path / "weights.pt")
    arguments = [tmp_path / "weights.pt", tmp_path / name, "--photos", photos]
    with pytest.raises(BadParameter, match="expected"):
        cli.main([str(a) for a in arguments])
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["g_a", "h_a", "h_s", "context_0"])
def test_decoders_named_like_a_network_are_refused_before_the_export(model, tmp_path, name):
    save_weights(model, {}, tmp_path / "weights.pt")
    arguments = [tmp_path / "weights.pt", tmp_path / "mini.zip", "--photos", tmp_path]
    arguments += ["--decoder", f"{name}={tmp_path / 'weights.pt'}"]
    with pytest.raises(BadParameter, match=f"decoder name '{name}'"):
        cli.main([str(a) for a in arguments])
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_a_decoder_of_another_encoder_leaves_no_file(model, tmp_path):
    save_weights(model, {}, tmp_path / "weights.pt")
    with torch.no_grad():
        next(model.g_a.parameters()).add_(0.1)
    save_weights(model, {}, tmp_path / "other.pt")
    arguments = [tmp_path / "weights.pt", tmp_path / "mini.zip", "--photos", tmp_path]
    arguments += ["--decoder", f"quality={tmp_path / 'other.pt'}"]
    with pytest.raises(BadParameter, match="was trained on latents of encoder"):
        cli.main([str(a) for a in arguments])
    assert not list(tmp_path.glob("mini*"))


def not_checkpoints():
    yield "nothing", b""
    yield "text", b"Dear diary"
    yield "picture", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "zip", b"PK\x03\x04" + bytes(100)
    yield "pickle", pickle.dumps({"trellic_weights": 1}, protocol=2)
    yield "json", json.dumps({"trellic_weights": 1}).encode()


@pytest.mark.parametrize(
    "content", [pytest.param(data, id=name) for name, data in not_checkpoints()]
)
def test_what_is_no_checkpoint_is_refused(photos, tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    arguments = [tmp_path / "weights.pt", tmp_path / "a.zip", "--photos", photos]
    with pytest.raises(BadParameter, match=r"weights\.pt is not a Trellic checkpoint") as raised:
        cli.main([str(a) for a in arguments])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"a": 1},
        {"trellic_weights": 2},
        {"trellic_weights": 1},
        {"trellic_weights": 1, "config": {"wide": "x"}},
    ],
    ids=str,
)
def test_other_torch_files_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BadParameter, match="is not a Trellic checkpoint"):
        load_model(tmp_path / "weights.pt")


def test_weights_of_other_shapes_are_refused(model, tmp_path):
    save_weights(model, {}, tmp_path / "weights.pt")
    content = torch.load(tmp_path / "weights.pt")
    content["config"]["wide"] = 16
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BadParameter, match="is not a Trellic checkpoint"):
        load_model(tmp_path / "weights.pt")


def test_missing_weights(tmp_path):
    with pytest.raises(BadParameter, match="No such file"):
        load_model(tmp_path / "gone.pt")


def test_checkpoints_are_read_for_evaluation(model, tmp_path):
    save_weights(model, {"steps": 3}, tmp_path / "weights.pt")
    again, facts = load_model(tmp_path / "weights.pt")
    assert facts == {"steps": 3}
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    for a, b in zip(integer_networks(model).items(), integer_networks(again).items(), strict=True):
        for x, y in zip(a[1].layers, b[1].layers, strict=True):
            np.testing.assert_array_equal(x.weight, y.weight)


def test_quality_is_for_what_it_was_trained_for():
    eye = {"recipe": {"distortion": {"squared_error": 0.5, "ssimulacra2": 0.25, "jod": 0.25}}}
    assert export.purpose_of(eye) == "what people see, by SSIMULACRA 2, CVVDP"
    assert export.purpose_of({}) == export.purpose_of({"recipe": {}}) == "least squared error"
    assert export.purpose_of(eye | {"finetuning": {"recipe": {}}}) == "least squared error"


@pytest.mark.slow("models with added layers are exported and code a picture")
@pytest.mark.parametrize("config", [ATTENDING, COUPLED], ids=["attending", "coupled"])
def test_models_with_added_layers_code(config, packed, tmp_path, quick):
    path = tmp_path / "added.zip"
    facts = {"recipe": {"name": "mini"}, "steps": 0}
    export.export_bundle(shaken(config), facts, PackedPhotos(packed), path, OPTIONS)
    codec, picture = Codec.load(str(path), device="cpu", threads=1), synthetic(4)[:50, :70]
    assert codec.decode(codec.encode(picture)).shape == picture.shape

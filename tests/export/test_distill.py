"""``trellic distill``: small networks for the streams of a large model, and the command."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from tests.data.make_adapter import TINY
from tests.data.make_dither import scene
from typer.testing import CliRunner

from trellic.cli import models
from trellic.codec import Codec
from trellic.errors import BadParameter
from trellic.model import bundle as bundles
from trellic.model.bundle import Bundle
from trellic_export.adapters.pictures import Pictures
from trellic_export.distill import check, cli, made
from trellic_export.distill import training as distill_training
from trellic_export.distill.settings import Settings
from trellic_export.distill.students import WIDTHS, Students, Width, details_of
from trellic_export.distill.training import Distiller
from trellic_export.macs import macs_per_pixel

from .commands import fold, run_app

SMALL = Settings(crop=64, batch=2, minutes=1e-9)
NARROW = Width(8, 12, (1, 1), (1, 1))


@pytest.fixture(scope="module")
def bundle():
    return Bundle(TINY)


@pytest.fixture
def students(bundle):
    torch.manual_seed(1)
    return Students(NARROW, bundle.manifest.layout, details_of(bundle))


def run(*words, code=0):
    return run_app(cli.app, *words, code=code)


# ---- training ----


def test_steps_bring_the_encoder_nearer_and_the_picture_too(bundle, students):
    distiller = Distiller(bundle, students, SMALL)
    pictures = Pictures([scene(96, 96)], [])
    crops = pictures.crops(np.random.default_rng(0), 2, 64)
    level = distiller._coding.level(60 * 16)
    both = [*students.encoder.parameters(), *students.decoder.parameters()]
    optimizer = torch.optim.Adam(both, 3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = distiller.loss(crops, level, imitating=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("imitating", [True, False])
def test_both_networks_learn_in_both_parts(bundle, students, imitating):
    distiller = Distiller(bundle, students, SMALL)
    crops = torch.from_numpy(scene(64, 64)[None])
    distiller.loss(crops, distiller._coding.level(60 * 16), imitating).backward()
    for network in (students.encoder, students.decoder):
        reached = [p.grad is not None and bool(p.grad.any()) for p in network.parameters()]
        assert sum(reached) > len(reached) / 2


def test_the_decoder_does_not_move_an_encoder_that_imitates(bundle, students):
    """It reads the latents of the large encoder then."""
    distiller = Distiller(bundle, students, SMALL)
    crops = torch.from_numpy(scene(64, 64)[None])
    level = distiller._coding.level(60 * 16)

    def gradient():
        students.encoder.zero_grad()
        distiller.loss(crops, level, imitating=True).backward()
        return students.encoder[1].weight.grad.clone()

    before = gradient()
    with torch.no_grad():
        students.decoder[0].trunk[0].weight.mul_(3) if hasattr(
            students.decoder[0], "trunk"
        ) else students.decoder[0].weight.mul_(3)
    assert torch.equal(gradient(), before)


def test_an_encoder_imitates_by_the_distance_in_steps(bundle, students, monkeypatch):
    distiller = Distiller(bundle, students, SMALL)
    crops = torch.from_numpy(scene(64, 64)[None])
    level = distiller._coding.level(60 * 16)
    quality = torch.full((1,), level.quality)
    target = distiller._teacher({"image": crops, "quality": quality})[0].detach()
    step = 1 / torch.from_numpy(level.gain_float[:, None, None])
    losses = []
    for far in (0, 1, -1):
        monkeypatch.setattr(students, "encoder", lambda *_, far=far: target + far * step)
        losses.append(float(distiller.loss(crops, level, imitating=True).detach()))
    least = distill_training.LEAST_ERROR
    expected = np.log(1 + least) - np.log(least)
    np.testing.assert_allclose(np.array(losses[1:]) - losses[0], expected, rtol=1e-3)


def test_training_moves_both(bundle, students):
    networks = students.encoder, students.decoder
    before = [parameters_of(network) for network in networks]
    distiller = Distiller(bundle, students, replace(SMALL, minutes=0.02))
    assert distiller.train(Pictures([scene(96, 96)], [])) >= 1  # one on a busy machine
    for network, parameters in zip(networks, before, strict=True):
        assert not network.training
        assert not torch.equal(parameters_of(network), parameters)


def parameters_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# ---- the bundle ----


def test_its_files_are_those_of_the_large_model(bundle, students, tmp_path):
    students.encoder.eval(), students.decoder.eval()
    path = tmp_path / "slim.zip"
    manifest = made.write(bundle, students, "slim", {"steps": 1}, path)
    assert manifest.stream_id == bundle.manifest.stream_id
    assert list(manifest.decoders) == ["quality"]
    assert manifest.training["distilled"] == {"from": bundle.manifest.name, "steps": 1}
    assert manifest.name == "slim"
    assert bundle.manifest.name in manifest.description
    check_graphs(bundle, students, manifest)
    decoder = onnx.load_from_string(Bundle(path).graph(manifest.decoders["quality"].graph)).graph
    assert channels_of(decoder.input[0], 1) == bundle.manifest.layout.latents
    assert channels_of(decoder.output[0], 3) == 3
    pixels = scene(70, 90)
    slim, large = Codec(path, "cpu", 1), Codec(bundle.path, "cpu", 1)
    for writer, reader in ((slim, large), (large, slim), (slim, slim)):
        assert reader.decode(writer.encode(pixels)).shape == pixels.shape
    assert slim.encode(pixels) != large.encode(pixels)


def test_it_is_installed_beside_the_large_model(bundle, students, tmp_path, monkeypatch):
    """It was refused, because it has the stream id of the large one."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TRELLIC_MODELS", str(bundle.path.parent))
    students.encoder.eval(), students.decoder.eval()
    path = tmp_path / "game.zip"
    stream_id = made.write(bundle, students, "game", {"steps": 1}, path).stream_id
    models.add(str(path), replace=False)
    assert bundles.find("game").read_bytes() == path.read_bytes()
    assert bundles.find_stream(stream_id) == bundle.path
    monkeypatch.setenv("TRELLIC_MODELS", "")
    models.add(str(bundle.path), replace=False)  # the large one after the slim one
    assert bundles.find_stream(stream_id).read_bytes() == bundle.path.read_bytes()


def channels_of(value, axis):
    return value.type.tensor_type.shape.dim[axis].dim_value


def check_graphs(bundle, students, manifest):
    """What is said of both graphs is so; the networks of the streams are the large model's."""
    g_a, g_s = manifest.encoder, manifest.decoders["quality"].graph
    costs = [macs_per_pixel(students.encoder, 1), macs_per_pixel(students.decoder, 16)]
    assert [g_a.kmac_per_pixel, g_s.kmac_per_pixel] == [round(cost / 1000, 3) for cost in costs]
    assert (g_a.halo, g_s.halo) == (students.encoder_halo, students.sizes.halo)
    assert g_a.sees_quality
    assert g_s.sees_quality
    old = bundle.manifest
    assert manifest.hyper_encoder.file == old.hyper_encoder.file
    kept = {file for file in old.sha256 if not file.endswith(".onnx")}
    kept |= {graph.file for graph in (old.hyper_encoder, *old.exact.values())}
    assert set(manifest.sha256) == kept | {"graphs/g_a.onnx", "graphs/quality.onnx"}
    assert manifest.sha256[g_a.file] != old.sha256.get(g_a.file)


def test_what_the_large_model_has_beside_is_left_out(bundle, students, tmp_path):
    """Its other decoders, and networks in 8 bits."""
    students.encoder.eval(), students.decoder.eval()
    old, path, beside = bundle.manifest, tmp_path / "large.zip", ("graphs/8.onnx", "graphs/x.onnx")
    path.write_bytes(TINY.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        for name in beside:
            archive.writestr(name, b"a network")
    changed = {
        "hyper_encoder": old.hyper_encoder.model_copy(update={"int8": beside[0]}),
        "sha256": old.sha256 | dict.fromkeys(beside, 64 * "0"),
        "training": {**old.training, "decoders": {"x": {}}},
    }
    large = SimpleNamespace(path=path, manifest=old.model_copy(update=changed))
    manifest = made.write(large, students, "slim", {}, tmp_path / "slim.zip")
    assert manifest.hyper_encoder == old.hyper_encoder
    assert manifest.training["decoders"] == {}
    with zipfile.ZipFile(tmp_path / "slim.zip") as archive:
        assert set(archive.namelist()) == {"manifest.json", *manifest.sha256}
    assert not set(manifest.sha256) & set(beside)


def test_costs_are_in_thousands_of_multiplications_a_pixel(bundle, students, tmp_path, monkeypatch):
    students.encoder.eval(), students.decoder.eval()
    monkeypatch.setattr(made, "macs_per_pixel", lambda network, stride: 123_456.7 * stride)
    manifest = made.write(bundle, students, "slim", {}, tmp_path / "slim.zip")
    assert manifest.encoder.kmac_per_pixel == 123.457
    assert manifest.decoders["quality"].graph.kmac_per_pixel == 1975.307


def test_tiles_of_the_small_networks_fit_together(bundle, students, tmp_path):
    """The halo in the manifest is as far as the networks reach."""
    with torch.no_grad():
        for network in (students.encoder, students.decoder):
            for p in network.parameters():
                p.copy_(torch.randn_like(p) * 0.2)
    halo, stride = students.encoder_halo, bundle.manifest.layout.stride
    size = 2 * (halo // stride + 2) * stride
    x = torch.randn(1, 3, size, size)
    changed = x.clone()
    changed[..., : size // 2, :] += 1
    with torch.no_grad():
        quality = torch.tensor([50.0])
        moved = (students.encoder(x, quality) - students.encoder(changed, quality)).abs()
    rows = moved.amax((0, 1, 3)) > 0
    reached = int(torch.nonzero(rows).max()) + 1 - size // 2 // stride
    assert 0 < reached <= -(-halo // stride)


def test_the_widths_are_half_and_a_quarter_of_fast():
    assert [(w.wide, w.deep) for w in WIDTHS.values()] == [(112 // 2, 192 // 2), (28, 48)]


def test_a_bundle_without_a_recipe_is_refused(bundle, monkeypatch):
    monkeypatch.setitem(bundle.manifest.training, "recipe", {})
    with pytest.raises(BadParameter, match="does not say what its networks are like"):
        details_of(bundle)


# ---- the command ----


def test_the_command_writes_a_bundle_and_says_what_it_costs(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    out = tmp_path / "game.zip"
    words = "--name", "game", "--model", TINY, "--minutes", "0.01", "--threads", "1"
    done = run(fold(folder, 6), *words, "--out", out)
    assert "kMAC a pixel" in done.output
    assert "bits on 2 pictures" in done.output
    assert Codec(out, "cpu", 1).bundle.manifest.name == "game"


def test_ctrl_c_in_the_check_does_not_deny_the_model(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    def train(distiller, _):
        distiller.students.encoder.eval(), distiller.students.decoder.eval()
        return 1

    monkeypatch.setattr(check, "percent_more", stop)
    monkeypatch.setattr(Distiller, "train", train)
    out = tmp_path / "game.zip"
    words = fold(tmp_path, 6), "--name", "game", "--model", TINY, "--out", out
    assert cli.main([str(word) for word in words]) == 130
    said = capsys.readouterr()
    assert f"{out}: {out.stat().st_size} bytes" in said.out
    assert "no model was written, unless its file is named above" in said.err


def test_wrong_names_are_refused_before_anything_is_read(tmp_path):
    for words, message in (
        (("--name", "A B"), "model name"),
        (("--name", "game", "--out", tmp_path / "game.tla"), "ends in .zip"),
    ):
        done = CliRunner().invoke(cli.app, [str(tmp_path / "none"), *map(str, words)])
        assert done.exit_code
        assert message in str(done.exception)


def test_the_large_model_is_not_overwritten(tmp_path, bundle):
    copy = tmp_path / "large.zip"
    copy.write_bytes(TINY.read_bytes())
    for words in (("--name", bundle.manifest.name), ("--name", "slim", "--out", copy)):
        words = str(tmp_path), "--replace", "--model", str(copy), *map(str, words)
        done = CliRunner().invoke(cli.app, words)
        assert "expected another name" in str(done.exception)
    assert copy.read_bytes() == TINY.read_bytes()


def test_an_installed_slim_model_leaves_other_files_alone(students, bundle, tmp_path, monkeypatch):
    """Files name the streams, which both decode: the large model does it."""
    students.encoder.eval(), students.decoder.eval()
    slim = made.write(bundle, students, "game", {}, tmp_path / "game.zip")
    both = [(tmp_path / "game.zip", slim), (bundle.path, bundle.manifest)]
    monkeypatch.setattr(bundles, "installed", lambda: both)
    assert bundles.find_stream(slim.stream_id) == bundle.path
    monkeypatch.setattr(bundles, "installed", lambda: both[:1])
    assert bundles.find_stream(slim.stream_id) == tmp_path / "game.zip"
    monkeypatch.setattr(bundles, "SHIPPED", {"tiny": (slim.stream_id, "0")})
    assert bundles.stands_in_for(*both[0]) == ""
    renamed = slim.model_copy(update={"name": "tiny"})
    assert bundles.stands_in_for(tmp_path / "game.zip", renamed) == "tiny"


def test_what_cannot_be_compared_is_said():
    assert check.said(float("nan"), 3, "psnr").endswith("not comparable")
    assert check.said(12.34, 3, "ssimulacra2").endswith("+12.3 %")

"""Decoders trained for a bundle and added to it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conformance import kit
from tests.data.make_dither import scene

from trellic import bitstream
from trellic.codec import Codec
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.layers import layering_for, told16
from trellic_export import cli, family, family_cli
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.decoder_weights import TrainedDecoder, load_decoder, save_decoder
from trellic_training.models.decoders import PreviewSizes, SynthesisSizes, start_from
from trellic_training.models.transforms import synthesis
from trellic_training.recipes import codec as recipe
from trellic_training.recipes.decoder import load_decoder_recipe
from trellic_training.stages.decoder_training import stage_of, train_decoder
from trellic_training.stages.samples import BundleQuantizer, Samples
from trellic_training.stages.stage import Clock

from .conftest import synthetic

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
RECIPE = Path(recipe.__file__).parent / "decoders-tiny.yaml"
NAMES = ("fast", "preview", "perceptual")


@pytest.fixture(scope="module")
def bundle():
    return Bundle(TINY)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        Image.fromarray(synthetic(i)).save(folder / f"wave-{i}.png")
    pack(folder, folder / "packed")
    return folder / "packed"


def fresh(name: str, bundle: Bundle) -> torch.nn.Sequential:
    torch.manual_seed(1)
    return load_decoder_recipe(RECIPE, name).network.make(bundle.manifest.layout)


def trained(name: str, bundle: Bundle, network: torch.nn.Sequential) -> TrainedDecoder:
    settings = load_decoder_recipe(RECIPE, name)
    return TrainedDecoder(
        settings.network,
        network.eval(),
        settings.purpose,
        settings.base,
        None,
        bundle.manifest.layout,
        family.encoder_digest(bundle),
        {"steps": 0},
    )


@pytest.mark.slow("each kind of decoder is trained for a few steps")
@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_lower_the_loss(name, bundle, packed, tmp_path):
    settings = load_decoder_recipe(RECIPE, name)
    network = fresh(name, bundle)
    before = {n: value.clone() for n, value in network.state_dict().items()}
    tuned, steps = train_decoder(
        settings, network, bundle, packed, tmp_path / name, 10, steps=12, progress=False
    )
    assert steps == 12
    start = fresh(name, bundle)
    start.load_state_dict(before)
    samples = Samples(BundleQuantizer(bundle, 1), PackedPhotos(packed), settings)
    batch = samples(np.random.default_rng(4), 8, 64)
    losses = []
    for each in (start, tuned):
        stage = stage_of(settings)(settings, Clock(1), each)
        stage.log = lambda *args, **kwargs: None
        with torch.no_grad():
            losses.append(float(stage.lost(batch)))
    assert losses[1] < losses[0]


def test_a_result_may_stay_a_share_of_the_start(bundle, packed, tmp_path):
    settings = load_decoder_recipe(RECIPE, "fast")
    found = {}
    for stay in (0.0, 0.75):
        chosen = settings.model_copy(update={"stay": stay})
        found[stay], _ = train_decoder(
            chosen,
            fresh("fast", bundle),
            bundle,
            packed,
            tmp_path / "a",
            10,
            steps=3,
            progress=False,
        )
    start = fresh("fast", bundle).state_dict()
    far, near = found[0.0].state_dict(), found[0.75].state_dict()
    assert any(not torch.equal(far[n], start[n]) for n in start)
    for name, value in start.items():
        expected = 0.75 * value + 0.25 * far[name]
        assert torch.allclose(near[name], expected, rtol=1e-4, atol=1e-6)


def test_latents_of_cut_files(bundle, packed):
    """A share of the crops is that of layered files cut anywhere, and told what `decode` is."""
    settings = load_decoder_recipe(RECIPE, "preview")
    sizes = SynthesisSizes(wide=8, deep=24, blocks=(0, 1))
    changes = {"cut": 1.0, "network": sizes, "quantizers": (8,)}
    settings = settings.model_copy(update=changes)
    quantizer = BundleQuantizer(bundle, 1)
    samples = Samples(quantizer, PackedPhotos(packed), settings)
    batch = samples(np.random.default_rng(4), 6, 64)
    whole = samples.of(batch["x"], batch["quality"], [8] * 6)
    assert batch["latents"].shape == whole["latents"].shape
    assert not torch.equal(batch["latents"], whole["latents"])
    crop = scene(64, 64)
    coder = Codec.load(str(TINY), device="cpu")
    large = layering_for(1200, 3)  # as if the crop were a photo
    coder._encoding = StreamEncoder(coder.bundle, coder._pool, layering=lambda *_: large)
    data = coder.encode(crop, quality=75, progressive=True)
    rng = SimpleNamespace(integers=lambda low, high: 17)
    latents, level, quality = quantizer.cut(crop, 75.0, rng)
    cut = bitstream.cut(data, passes=17).data
    codec = Codec.load(str(TINY), device="cpu")
    v32 = kit.latents(codec, cut)[1]
    gain = bundle.levels.at(848, 0).gain
    np.testing.assert_allclose(latents, v32 * (128 / gain)[:, None, None], rtol=1e-5)
    assert (level, quality) == (told16(large, 1200, 3, 17) / 16, 53.0)


def test_cut_latents_are_for_decoders_without_a_teacher():
    settings = load_decoder_recipe(RECIPE, "fast")
    with pytest.raises(ValueError, match="cut needs a decoder of pictures"):
        type(settings).model_validate(settings.model_dump() | {"cut": 0.5, "distill": 0.5})


def test_a_share_of_no_start_is_refused(bundle):
    settings = load_decoder_recipe(RECIPE, "fast").model_copy(update={"stay": 0.5})
    with pytest.raises(BadParameter, match="--weights"):
        family_cli._start(settings, bundle, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_goes_on_from_its_own_weights(name, bundle, tmp_path):
    settings = load_decoder_recipe(RECIPE, name)
    kept = fresh(name, bundle)
    save_decoder(trained(name, bundle, kept), tmp_path / "kept.pt")
    started = family_cli._start(settings, bundle, tmp_path / "kept.pt", None)
    for own, value in zip(started.parameters(), kept.parameters(), strict=True):
        assert torch.equal(own, value.half().float())


def test_weights_of_another_scale_keep_what_each_lmbda_does(bundle, tmp_path):
    settings = load_decoder_recipe(RECIPE, "fast")
    sizes = settings.network.model_copy(update={"modulated": True})
    settings = settings.model_copy(update={"network": sizes, "lmbda": (0.001, 0.1)})
    kept = trained("fast", bundle, sizes.make(bundle.manifest.layout, 0))
    kept.sizes, kept.facts = sizes, {"recipe": {"lmbda": [0.001, 10.0]}}
    ramp = torch.arange(9.0)[:, None]
    for name, parameter in kept.network.named_parameters():
        if "modulation" in name:
            parameter.data = ramp.expand_as(parameter).clone()
    save_decoder(kept, tmp_path / "kept.pt")
    started = family_cli._start(settings, bundle, tmp_path / "kept.pt", None)
    tables = [value for name, value in started.named_parameters() if "modulation" in name]
    assert tables
    for table in tables:  # half of the old range, in logarithms
        torch.testing.assert_close(table, (ramp / 2).expand_as(table))


@pytest.mark.slow("each kind of decoder is exported")
def test_every_kind_is_added_and_the_rest_stays(bundle, tmp_path):
    out = tmp_path / "new.zip"
    opened = bundle
    for name in NAMES:
        manifest = family.add_decoder(opened, name, trained(name, bundle, fresh(name, bundle)), out)
        opened = Bundle(out)
        assert opened.manifest == manifest
    assert list(manifest.decoders) == ["quality", *NAMES]
    assert manifest.stream_id == bundle.manifest.stream_id
    with zipfile.ZipFile(TINY) as old, zipfile.ZipFile(out) as new:
        added = {f"graphs/{name}.onnx" for name in NAMES}
        assert set(new.namelist()) == set(old.namelist()) | added
        for member in set(old.namelist()) - {"manifest.json"}:
            assert new.read(member) == old.read(member)
    preview, perceptual = manifest.decoders["preview"], manifest.decoders["perceptual"]
    assert (preview.channels, preview.scale, preview.graph.halo) == (8, 8, 1)
    assert preview.steps == 1
    assert perceptual.base == "quality"
    quality = bundle.manifest.decoders["quality"].graph
    assert perceptual.graph.kmac_per_pixel == quality.kmac_per_pixel
    assert perceptual.graph.halo == quality.halo
    assert preview.graph.kmac_per_pixel < quality.kmac_per_pixel / 10


def test_old_files_decode_with_the_new_decoder(bundle, tmp_path):
    pixels = synthetic(7)
    codec = Codec.load(str(TINY), device="cpu", threads=1)
    data = codec.encode(pixels, quality=60)
    family.add_decoder(
        bundle, "fast", trained("fast", bundle, fresh("fast", bundle)), tmp_path / "n.zip"
    )
    new = Codec.load(str(tmp_path / "n.zip"), device="cpu", threads=1)
    assert np.array_equal(new.decode(data), codec.decode(data))
    assert new.decode(data, decoder="fast").shape == pixels.shape
    # replacing it changes its graph alone
    other = trained("fast", bundle, synthesis(8, 24, 24, (0, 1)))
    family.add_decoder(new.bundle, "fast", other, tmp_path / "o.zip")
    with zipfile.ZipFile(tmp_path / "n.zip") as a, zipfile.ZipFile(tmp_path / "o.zip") as b:
        assert a.namelist() == b.namelist()
        differ = {n for n in a.namelist() if a.read(n) != b.read(n)}
    assert differ == {"manifest.json", "graphs/fast.onnx"}


def test_samples_are_what_a_decoder_of_the_runtime_reads(bundle):
    pixels = synthetic(3)[:128, :128]
    codec = Codec.load(str(TINY), device="cpu", threads=1)
    quantizer = BundleQuantizer(bundle, 1)
    for states in (8, 0):
        data = codec.encode(pixels, quality=45.0625, trellis=states)
        latents, level = quantizer(pixels[None], np.array([45.0625]), [states])
        assert level.tolist() == [bundle.levels.at(721, states).quality]
        pictures = quantizer.pictures(latents, level, "quality")
        assert np.array_equal(pictures[0], codec.decode(data))


def test_samples_are_quantized_as_the_recipe_says(bundle, packed, monkeypatch):
    recipe = load_decoder_recipe(RECIPE, "fast")
    own = recipe.model_copy(update={"quantizers": ("round", 0, 8)})
    quantizer = BundleQuantizer(bundle, 1)
    samples = Samples(quantizer, PackedPhotos(packed), own)
    kinds = samples.kinds(np.random.default_rng(0), 60)
    assert set(kinds) == {"round", 0, 8}
    assert min(map(kinds.count, ("round", 0, 8))) > 10
    asked = []
    monkeypatch.setattr(samples, "of", lambda x, quality, kinds: asked.extend(kinds))
    samples(np.random.default_rng(0), 9, 64)
    assert set(asked) == {"round", 0, 8}
    pixels, quality = synthetic(3)[None, :64, :64], np.array([70.0])
    found = [quantizer(pixels, quality, [kind])[0] for kind in ("round", 0, 8)]
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


def test_a_decoder_that_sees_the_quality(bundle, packed, tmp_path):
    """From its recipe to a file's pixels, from samples to its training."""
    sizes = SynthesisSizes(wide=8, deep=24, blocks=(1, 1), modulated=True)
    torch.manual_seed(2)
    network = sizes.make(bundle.manifest.layout)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made = dataclasses.replace(trained("fast", bundle, network), sizes=sizes)
    save_decoder(made, tmp_path / "seeing.pt")
    kept = load_decoder(tmp_path / "seeing.pt")
    out = tmp_path / "seeing.zip"
    manifest = family.add_decoder(bundle, "fast", kept, out)
    assert manifest.decoders["fast"].graph.sees_quality
    assert not manifest.decoders["quality"].graph.sees_quality

    codec, pixels = Codec.load(str(out), device="cpu", threads=1), synthetic(3)[:64, :64]
    data = codec.encode(pixels, quality=30, trellis=8)
    latents, level = BundleQuantizer(codec.bundle, 1)(pixels[None], np.array([30.0]), [8])
    for told, equal in ((level, True), (level + 30, False)):
        x_hat = kept.network(torch.from_numpy(latents), torch.from_numpy(told))
        expected = ((x_hat[0] + 0.5) * 255).round().clamp(0, 255).permute(1, 2, 0)
        apart = np.abs(codec.decode(data, decoder="fast") - expected.detach().numpy())
        assert (apart.max() <= 1) == equal

    settings = load_decoder_recipe(RECIPE, "fast").model_copy(update={"network": sizes})
    before = network.state_dict()[_table(network)].clone()
    tuned, _ = train_decoder(
        settings, network, codec.bundle, packed, tmp_path / "run", 10, steps=3, progress=False
    )
    assert not torch.equal(tuned.state_dict()[_table(network)], before)


def _table(network) -> str:
    return next(name for name in network.state_dict() if name.endswith("modulation.shift"))


def test_a_preview_learns_from_what_it_will_see(bundle, packed, tmp_path):
    """Latents of context steps that are not decoded for it are 0, as in the runtime."""
    samples = Samples(
        BundleQuantizer(bundle, 1), PackedPhotos(packed), load_decoder_recipe(RECIPE, "preview")
    )
    pixels = synthetic(5)[:128, :128]
    out = tmp_path / "new.zip"
    decoder = trained("preview", bundle, fresh("preview", bundle))
    family.add_decoder(bundle, "preview", decoder, out)
    codec = Codec.load(str(out), device="cpu", threads=1)
    data = codec.encode(pixels, quality=60, trellis=8)
    batch = samples.of(torch.from_numpy(pixels)[None], torch.tensor([60.0]), [8])
    latents, level = batch["latents"], batch["level"].numpy()
    assert latents.shape == (1, 8, 8, 8)
    made = BundleQuantizer(Bundle(out), 1).pictures(latents.float().numpy(), level, "preview")[0]
    seen = codec.decode(data, decoder="preview")
    assert seen.shape == made.shape == (16, 16, 3)
    assert np.abs(seen.astype(int) - made).max() <= 1  # latents were rounded to float16


def test_a_small_picture_may_depend_on_the_quality(bundle, tmp_path):
    sizes = PreviewSizes(kind="preview", channels=8, scale=2, hidden=8, modulated=True)
    network = sizes.make(bundle.manifest.layout)
    decoder = dataclasses.replace(trained("preview", bundle, network), sizes=sizes)
    out, data = tmp_path / "new.zip", Codec(TINY, "cpu", 1).encode(synthetic(5)[:50, :61])
    seen = []
    for change in (0.0, 0.5):  # of the blocks' shifts
        network.state_dict()[_table(network)][:] = change
        info = family.add_decoder(bundle, "preview", decoder, out).decoders["preview"]
        assert info.graph.sees_quality
        assert info.scale == 2
        seen.append(Codec(out, "cpu", 1).decode(data, decoder="preview"))
        assert seen[-1].shape == (25, 31, 3)
    assert (seen[0] != seen[1]).any()


@pytest.mark.slow("the command trains a decoder and adds it to a bundle")
def test_the_command_trains_and_adds(packed, tmp_path, capsys):
    out = tmp_path / "new.zip"
    arguments = ["decoders-tiny", "--add-decoder", "fast", "--bundle", TINY, "--photos", packed]
    arguments += ["--minutes", "0.02", "--threads", "1", "--out", out]
    assert family_cli.main([str(a) for a in arguments]) == 0
    assert "decoders quality, fast" in capsys.readouterr().out
    facts = Bundle(out).manifest.training["decoders"]["fast"]
    assert facts["recipe"]["network"]["wide"] == 8
    assert facts["steps"] > 0
    # the weights beside it give the same bundle again
    again = tmp_path / "again.zip"
    family.add_decoder(Bundle(TINY), "fast", load_decoder(tmp_path / "new-fast.pt"), again)
    assert again.read_bytes() == out.read_bytes()
    # and are a start for another run
    more = [*arguments[:-1], tmp_path / "more.zip", "--weights", tmp_path / "new-fast.pt"]
    assert family_cli.main([str(a) for a in more]) == 0
    facts = Bundle(tmp_path / "more.zip").manifest.training["decoders"]["fast"]
    digest = hashlib.sha256((tmp_path / "new-fast.pt").read_bytes()).hexdigest()
    assert facts["started_from"] == {"file": "new-fast.pt", "sha256": digest}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--add-decoder": "best"}, "has no decoder 'best'"),
        ({"--add-decoder": "Fast!"}, "decoder name 'Fast!'"),
        ({"--out": "new.tlc"}, "ends in .zip"),
        ({"--weights": "gone.pt"}, "gone.pt"),
        ({"recipe": "crops"}, "crops of 72 pixels; expected a multiple of 64"),
        ({"--weights": __file__}, "cannot be started from"),
    ],
)
def test_bad_arguments_are_refused(packed, tmp_path, changed, message):
    options = {"--add-decoder": "fast", "--bundle": TINY, "--photos": packed, "--out": "new.zip"}
    (tmp_path / "crops.yaml").write_text(RECIPE.read_text().replace("crop: 64", "crop: 72"))
    name = tmp_path / "crops.yaml" if "recipe" in changed else "decoders-tiny"
    options |= {key: value for key, value in changed.items() if key != "recipe"}
    options["--out"] = tmp_path / options["--out"]
    arguments = [str(part) for option in options.items() for part in option]
    with pytest.raises(BadParameter, match=message):
        family_cli.main([str(name), *arguments])


def test_a_bundle_that_cannot_be_written_is_refused_before_training(packed, tmp_path):
    (tmp_path / "new.zip").mkdir()
    words = ["decoders-tiny", "--add-decoder", "fast", "--bundle", TINY, "--photos", packed]
    with pytest.raises(IsADirectoryError):
        family_cli.main([str(word) for word in (*words, "--out", tmp_path / "new.zip")])
    assert not (tmp_path / "new-fast").exists()


def test_decoders_of_another_encoder_are_refused(bundle, tmp_path):
    decoder = trained("fast", bundle, fresh("fast", bundle))
    decoder.encoder = "0" * 16
    with pytest.raises(BadParameter, match="was trained on latents of encoder 0000"):
        family.add_decoder(bundle, "fast", decoder, tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


@pytest.mark.parametrize("name", ["g_a", "h_a", "h_s", "context_0"])
def test_a_decoder_takes_no_other_networks_place(bundle, tmp_path, name):
    with pytest.raises(BadParameter, match=f"decoder name '{name}'"):
        family.add_decoder(bundle, name, trained("fast", bundle, fresh("fast", bundle)), tmp_path)


def test_a_decoder_without_its_base_is_refused(bundle, tmp_path):
    decoder = trained("perceptual", bundle, fresh("perceptual", bundle))
    decoder.base = "gone"
    with pytest.raises(BadParameter, match="has the base 'gone'"):
        family.add_decoder(bundle, "perceptual", decoder, tmp_path / "new.zip")


def test_what_is_no_decoder_is_refused(bundle, tmp_path):
    path = tmp_path / "decoder.pt"
    for content in (b"", b"Dear diary", json.dumps({"trellic_decoder": 1}).encode()):
        path.write_bytes(content)
        with pytest.raises(BadParameter, match="holds no decoder"):
            load_decoder(path)
    save_decoder(trained("fast", bundle, fresh("fast", bundle)), path)
    content = torch.load(path)
    content["sizes"]["wide"] = 4
    torch.save(content, path)
    with pytest.raises(BadParameter, match="holds no decoder"):
        load_decoder(path)


@pytest.mark.parametrize("details", [0, 16])
def test_a_decoder_starts_from_a_trained_one(details):
    torch.manual_seed(2)
    given = synthesis(12, 24, 40, (2, 2), details)
    latents = torch.randn(1, 40, 4, 4)
    same = SynthesisSizes(wide=12, deep=24, blocks=(2, 2), details=details)
    again = synthesis(12, 24, 40, same.blocks, details)
    start_from(again, given)
    torch.testing.assert_close(again(latents), given(latents))
    larger = synthesis(12, 24, 40, (3, 4), details)  # its further blocks hand on what they get
    start_from(larger, given)
    torch.testing.assert_close(larger(latents), given(latents))
    # without blocks at 1/8 the narrower one is the best linear stand-in
    plain, narrow = synthesis(12, 24, 40, (0, 2), details), synthesis(9, 24, 40, (0, 2), details)
    start_from(plain, given)
    start_from(narrow, plain)
    new = synthesis(9, 24, 40, (0, 2), details)
    error = [(each(latents) - plain(latents)).square().mean() for each in (narrow, new)]
    assert error[0] < 0.5 * error[1]
    with pytest.raises(RuntimeError):
        start_from(synthesis(12, 16, 40, (2, 2), details), given)


def test_export_adds_decoders_that_were_kept(monkeypatch, bundle, tmp_path):
    """What ``trellic export --decoder NAME=FILE`` does once the bundle is made."""
    kept = tmp_path / "fast.pt"
    save_decoder(trained("fast", bundle, fresh("fast", bundle)), kept)
    out = tmp_path / "tiny.zip"
    out.write_bytes(TINY.read_bytes())
    cli._add_decoders(out, cli._kept([f"fast={kept}"], out, None))
    assert list(Bundle(out).manifest.decoders) == ["quality", "fast"]
    for wrong in ("fast", f"fast={tmp_path / 'gone.pt'}"):
        with pytest.raises(BadParameter):
            cli._kept([wrong], out, None)

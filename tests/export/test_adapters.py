"""``trellic adapt``: the graphs that train, the pictures, and the command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.data.make_adapter import TINY
from tests.data.make_dither import scene

from trellic import bitstream
from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter
from trellic.model import adapters
from trellic.model.bundle import Bundle
from trellic_export.adapters import check, cli, pacing, training
from trellic_export.adapters.networks import AdaptedGraph, places_of, size_of
from trellic_export.adapters.pictures import Pictures, read
from trellic_export.adapters.settings import Settings
from trellic_training.losses.eye import Distortion

from .commands import fold, run_app

SMALL = Settings(share=1.0, crop=64, batch=1, minutes=1e-9)


@pytest.fixture(scope="module")
def bundle():
    return Bundle(TINY)


@pytest.fixture(scope="module")
def trainer(bundle):
    return training.Trainer(bundle, SMALL)


def run(*words, code=0):
    return run_app(cli.app, *words, code=code)


# ---- graphs ----


def test_it_begins_as_the_model_itself(bundle):
    graph = bundle.graph(bundle.manifest.decoders["quality"].graph)
    network = AdaptedGraph(graph, places_of(graph, 2))
    layout = bundle.manifest.layout
    latents = np.random.default_rng(0).standard_normal((1, layout.latents, 8, 8)).astype(np.float32)
    (expected,) = OrtEngine(graph, "cpu", 1)({"latents": latents})
    with torch.no_grad():
        found = network({"latents": torch.from_numpy(latents)}).numpy()
    assert np.abs(found - expected).max() < 0.51  # the runtime's are rounded


def test_what_trains_is_what_an_adapter_holds(bundle, trainer):
    """The runtime's decoder with the adapter makes what the network that trained makes."""
    torch.manual_seed(3)
    network = trainer.networks["quality"]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.05)
    changed = bundle.with_adapter(trainer.adapter("it"))
    graph = bundle.manifest.decoders["quality"].graph
    assert changed.graph(graph) != bundle.graph(graph)
    layout = bundle.manifest.layout
    latents = np.random.default_rng(0).standard_normal((1, layout.latents, 8, 8)).astype(np.float32)
    (expected,) = OrtEngine(changed.graph(graph), "cpu", 1)({"latents": latents})
    with torch.no_grad():
        found = network({"latents": torch.from_numpy(latents)}).numpy()
    assert np.abs(found - expected).max() < 1.5
    (before,) = OrtEngine(bundle.graph(graph), "cpu", 1)({"latents": latents})
    assert np.abs(found - before).max() > 20


def test_the_shipped_model_gets_less_than_2_percent():
    photo = Codec.load("photo", "cpu").bundle
    assert set(training.whole(photo)) == {"quality", "fast"}  # and none that is mixed with another
    total = training.parameters(photo)
    files = {name: photo.graph(info.graph) for name, info in training.whole(photo).items()}
    places = training.fitting(files, Settings(), total)
    count = sum(size_of(files[name], of) for name, of in places.items())
    assert count < 0.02 * total
    assert count * 2 < 150_000


def test_a_model_that_is_too_small_is_refused(bundle):
    with pytest.raises(BadParameter, match="too small to be adapted"):
        training.Trainer(bundle, Settings())


# ---- training ----


def test_latents_in_training_are_those_of_the_encoder(bundle, trainer):
    pixels = scene(64, 64)
    codec = Codec(str(TINY), "cpu", 1)
    level = bundle.levels.at(60 * 16, SMALL.states)
    with torch.no_grad():
        f = trainer._encoder({"image": torch.from_numpy(pixels[None])})[0]
        coded = trainer._coded(f, level)
    data = codec.encode(pixels, quality=60, trellis=SMALL.states)
    plane = bundle.manifest.layout.plane(64, 64)
    segments, lanes = bitstream.read(data).segments, bitstream.read_header(data).lanes
    decoder = codec._decoding.latents()
    v32 = decoder.decode(segments, lanes, plane, level, SMALL.states, 64)
    y_hat = v32 * (np.float32(128) / level.gain.astype(np.float32))[:, None, None]
    np.testing.assert_allclose(coded.y_hat[0].numpy(), y_hat, atol=1e-4)
    real = 8 * sum(map(len, segments[1:]))
    assert 0.7 < float(coded.bits) / real < 1.4


@pytest.mark.slow("trains for some seconds: the loss of pictures that are trained on falls")
def test_training_helps(bundle, monkeypatch):
    torch.set_num_threads(1)
    settings = Settings(share=1.0, crop=64, batch=2, minutes=0.03, learning_rate=3e-3)
    trainer = training.Trainer(bundle, settings)
    pictures = Pictures([scene(64, 64)], [scene(64, 64)])

    def loss():
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        batches = [trainer._quantized(pictures, rng) for _ in range(8)]
        with torch.no_grad():
            return float(np.mean([float(trainer._loss(batch, rng)) for batch in batches]))

    before = loss()
    assert trainer.train(pictures) > 5
    assert loss() < before
    monkeypatch.setattr(check, "QUALITIES", (40.0, 80.0))
    score, (picture,) = check.scored_by("psnr"), pictures.checking
    plain = Codec(str(bundle.path), "cpu", 1)
    adapted = Codec(str(bundle.path), "cpu", 1, adapter=trainer.adapter("it"))
    before, after = (check.curve(one, picture, score) for one in (plain, adapted))
    assert (after[:, 1] > before[:, 1]).all()  # it has learned the picture by heart
    assert isinstance(trainer._distortion, Distortion)
    assert trainer.measure == "psnr"


@pytest.mark.parametrize(("steps", "enough"), [(1, False), (199, False), (200, True)])
def test_a_run_that_was_too_short_is_warned_of(monkeypatch, capsys, steps, enough):
    monkeypatch.setattr(pacing, "elapsed", lambda *_: [0.5] * steps)
    optimizer = torch.optim.SGD([torch.zeros(1)])
    assert len(list(pacing.paced(optimizer, Settings(minutes=1), 20, "adapting"))) == steps
    said = capsys.readouterr().err
    assert ("too few to be of use" in said) != enough
    assert said.startswith("" if enough else f"warning: {steps} step")


def test_a_gain_is_fewer_bits_with_the_adapter(bundle, trainer, monkeypatch):
    """Of files with it against files without it, in percent."""
    plain = np.array([[0.1, 50.0], [0.2, 60.0], [0.4, 70.0]])
    made = {True: plain * [0.5, 1], False: plain}
    monkeypatch.setattr(check, "curve", lambda codec, *_: made[codec.bundle.adapter is not None])
    gained = check.gain(bundle, trainer.adapter("it"), [scene(64, 64)] * 2, "psnr")
    assert gained == pytest.approx(-50)


def test_crops_are_used_several_times(bundle, monkeypatch):
    trainer = training.Trainer(bundle, replace(SMALL, first=3, reuse=2))
    made, quantized = [], trainer._quantized
    monkeypatch.setattr(trainer, "_quantized", lambda *a: made.append(1) or quantized(*a))
    monkeypatch.setattr(training, "paced", lambda *_: range(7))
    assert trainer.train(Pictures([scene(80, 90)], [])) == 7
    assert len(made) == 3 + 3  # before the first step, then before the third, fifth and seventh


def test_curves_are_compared_where_both_reach():
    before = np.array([[0.1, 50.0], [0.2, 60.0], [0.4, 70.0]])
    half = before * [0.5, 1]
    assert check.percent(before, half) == pytest.approx(-50)
    assert check.percent(before, before) == pytest.approx(0)
    assert np.isnan(check.percent(before, np.add(before, [0, 100])))


def test_the_check_shows_how_far_it_is(bundle, monkeypatch):
    bars = []
    monkeypatch.setattr(check, "shown", lambda items, what: bars.append(what) or items)
    monkeypatch.setattr(check, "Codec", lambda *_, **__: None)
    assert np.isnan(check.gain(bundle, None, [], "psnr"))
    assert bars == ["checking"]


# ---- pictures ----


def test_pictures_are_parted(tmp_path):
    (tmp_path / "note.txt").write_text("no picture")
    parted = read([fold(tmp_path, 11, (70, 80))], 64)
    assert (len(parted.training), len(parted.checking)) == (8, 3)
    crops = parted.crops(np.random.default_rng(0), 3, 64)
    assert (crops.shape, crops.dtype) == ((3, 64, 64, 3), torch.uint8)


@pytest.mark.parametrize(
    ("count", "size", "shift", "said"),
    [
        (4, (200, 200), 31, "4 pictures to adapt to; expected 5 or more"),
        (6, (100, 300), 31, "0 pictures to adapt to, and 6 smaller than 192x192"),
        (6, (200, 200), 0, "6 pictures that are all alike"),
    ],
)
def test_pictures_that_will_not_do(tmp_path, count, size, shift, said):
    done = run(fold(tmp_path, count, size, shift), "--name", "x", code=1)
    assert isinstance(done.exception, BadParameter)
    assert said in str(done.exception)


def test_names_that_will_not_do(tmp_path):
    fold(tmp_path, 5)
    for words, said in (
        (("--name", "../x"), "adapter name"),
        (("--name", "x", "--out", "x.zip"), "ends in .tla"),
        (("--name", "photo"), "expected another name"),
        (("--name", "x", "--model", "none"), "no model 'none'"),
    ):
        done = run(tmp_path, *words, code=1)
        assert said in str(done.exception)
    assert "no file or folder" in str(run(tmp_path / "no", "--name", "x", code=1).exception)


@pytest.mark.slow("a step of training with the model that ships, and its check")
def test_the_command(tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    fold(folder, 5)
    monkeypatch.chdir(tmp_path)
    words = (folder, "--name", "kind", "--minutes", "0.01", "--threads", "1")
    monkeypatch.setattr(check, "gain", lambda *_: 0.5)
    done = run(*words, code=1)
    assert "nothing is gained" in str(done.exception)
    assert not (tmp_path / "kind.tla").exists()
    done = run(*words, "--anyway")
    assert "install it with: trellic models add kind.tla" in done.output
    made = adapters.read(tmp_path / "kind.tla")
    assert made.name == "kind"
    assert len(made.to_bytes()) < 150_000
    codec = Codec.load("photo", "cpu", adapter=tmp_path / "kind.tla", embed_adapter=True)
    pixels = scene(64, 64)
    plain = Codec.load("photo", "cpu")
    shown = plain.decode(codec.encode(pixels))
    np.testing.assert_array_equal(shown, codec.decode(codec.encode(pixels)))
    graph = plain.bundle.manifest.encoder
    assert codec.bundle.graph(graph) == plain.bundle.graph(graph)  # only decoders are changed

"""Slim models, part by part: a loop with its loss, what the students are like, what is compared."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from trellic.constants import COLOURS
from trellic.pipeline.rate_control import to_quality16
from trellic_export.distill import check, cli
from trellic_export.distill import students as students_module
from trellic_export.distill import training as distill_training
from trellic_export.distill.settings import Settings
from trellic_export.distill.students import WIDTHS, Students, Width, details_of
from trellic_export.distill.training import Distiller
from trellic_training.models.decoders import SynthesisSizes
from trellic_training.models.transforms import ANCHORS
from trellic_training.recipes.lmbda import lmbda_at

from .conftest import DETAILED

LMBDA = (0.001, 0.01, 0.1)
LEVEL = SimpleNamespace(quality=60.0, gain_float=np.float32([2.0, 4.0]))


def bare(**parts) -> Distiller:
    """A distiller of these parts, for which no model is read."""
    distiller = object.__new__(Distiller)
    vars(distiller).update(parts)
    return distiller


# ---- the loss ----


@pytest.fixture
def crops():
    shape = (2, 4, 8, 3)
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


def losses_of(crops, exponent):
    """The loss of both parts, of networks that are arithmetic; and what these were given."""
    given = []

    def noting(name, answer):
        def network(*arguments):
            given.append((name, *arguments))
            return answer(*arguments)

        return network

    x = crops.permute(0, 3, 1, 2).float() / 255 - 0.5
    students = SimpleNamespace(
        encoder=noting("encoder", lambda x, quality: x[:, :2, ::2, ::2]),
        decoder=noting("decoder", lambda y_hat, quality: x + 0.1),
    )
    coded = SimpleNamespace(y_hat="coded", bits=torch.tensor([3.0, 5.0]))
    target = x[:, :2, ::2, ::2] + torch.tensor([0.5, 1.0])[:, None, None, None]
    distiller = bare(
        students=students,
        settings=Settings(weight_exponent=exponent),
        _teacher=noting("teacher", lambda inputs: [target]),
        _coding=noting("coding", lambda f, level: coded),
        _lmbda=LMBDA,
        _distortion=noting("distortion", lambda *_: torch.tensor([7.0, 9.0])),
        _plain=noting("plain", lambda *_: torch.tensor([2.0, 4.0])),
    )
    found = [float(distiller.loss(crops, LEVEL, imitating)) for imitating in (True, False)]
    return found, given, target


@pytest.mark.parametrize("exponent", [-0.5, -1.0, 0.0])
def test_the_loss_of_both_parts_in_numbers(crops, exponent):
    (imitating, then), given, target = losses_of(crops, exponent)
    quality = torch.full((2,), 60.0)
    lmbda = float(lmbda_at(LMBDA, quality)[0])
    weight = lmbda**exponent
    missed = [((far * 2) ** 2 + (far * 4) ** 2) / 2 for far in (0.5, 1.0)]  # squared steps
    logs = [math.log(each + distill_training.LEAST_ERROR) for each in missed]
    expected = weight * (2 + 4) / 2 + sum(logs) / 2
    assert imitating == pytest.approx(expected, rel=1e-5)
    bits = (3 + 5) / 2 / 32  # a pixel
    assert then == pytest.approx(weight * ((7 + 9) / 2 + bits), rel=1e-5)

    order = ["encoder", "teacher", "coding", "decoder", "plain"]
    assert [name for name, *_ in given] == [*order, "encoder", "coding", "decoder", "distortion"]
    by_name = {name: arguments for name, *arguments in reversed(given)}
    x = crops.permute(0, 3, 1, 2).float() / 255 - 0.5
    torch.testing.assert_close(by_name["encoder"][0], x)
    for name in ("encoder", "decoder"):
        assert torch.equal(by_name[name][1], quality)
    assert by_name["decoder"][0] == "coded"
    (inputs,) = by_name["teacher"]
    assert torch.equal(inputs["image"], crops)
    assert torch.equal(inputs["quality"], quality)
    first, second = (arguments for name, *arguments in given if name == "coding")
    assert torch.equal(first[0], target)
    torch.testing.assert_close(second[0], x[:, :2, ::2, ::2])
    assert first[1] is second[1] is LEVEL
    for name in ("plain", "distortion"):
        x_hat, original, at, weights = by_name[name]
        torch.testing.assert_close(x_hat - original, torch.full_like(x, 0.1))
        assert torch.equal(at, quality)
        assert weights.tolist() == pytest.approx([lmbda, lmbda])


# ---- the loop ----


def test_each_step_has_new_crops_and_a_quality_and_the_encoder_imitates_at_first(monkeypatch):
    settings = replace(Settings(), batch=3, crop=32, imitating=0.4, clip=0.25, seed=5)
    students = SimpleNamespace(encoder=nn.Linear(1, 1).eval(), decoder=nn.Linear(1, 1).eval())
    both = [*students.encoder.parameters(), *students.decoder.parameters()]
    before = [p.detach().clone() for p in both]
    seen = SimpleNamespace(paced=[], made=[], clipped=[], losses=[], training=[])

    def paced(*given):
        seen.paced.append(given)
        return iter((0.0, 0.39, 0.4, 0.9))

    def make(networks, *given):
        assert {id(p) for p in networks.parameters()} == {id(p) for p in both}
        seen.made.append(given)
        return torch.optim.SGD(networks.parameters(), 0.125)

    def clip(parameters, limit):
        seen.clipped.append(([id(p) for p in parameters], limit))

    def loss(*given):
        seen.losses.append(given)
        seen.training.append(students.encoder.training and students.decoder.training)
        return sum(p.sum() for p in both)

    monkeypatch.setattr(distill_training, "paced", paced)
    monkeypatch.setattr(distill_training, "make_optimizer", make)
    monkeypatch.setattr(distill_training, "clip_gradients", clip)
    coding = SimpleNamespace(level=lambda quality16: ("level", quality16))
    distiller = bare(students=students, settings=settings, _coding=coding, loss=loss)
    pictures = SimpleNamespace(crops=lambda rng, batch, side: (float(rng.random()), batch, side))
    torch.manual_seed(9)
    assert distiller.train(pictures) == 4

    ((optimizer, *rest),) = seen.paced
    assert rest == [settings, distill_training.WARM_UP, "distilling"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert seen.made == [("soap", settings.learning_rate)]
    assert seen.clipped == [([id(p) for p in both], 0.25)] * 4
    assert seen.training == [True] * 4
    assert not students.encoder.training
    assert not students.decoder.training
    rng = np.random.default_rng(5)
    for number, (crops, level, imitating) in enumerate(seen.losses):
        assert crops == (float(rng.random()), 3, 32)
        assert level == ("level", to_quality16(float(rng.uniform(15, 90))))
        assert imitating == (number < 2)
    for p, start in zip(both, before, strict=True):  # gradients do not add up
        torch.testing.assert_close(p, start - 4 * 0.125)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_a_distiller_trains_for_what_the_model_was_trained_for(monkeypatch):
    objective = SimpleNamespace(
        lmbda=LMBDA, measure="psnr", distortion=lambda shares: ("distortion", shares)
    )
    objectives = SimpleNamespace(of=lambda given: objective if given is bundle else None)
    monkeypatch.setattr(distill_training, "Objective", objectives)
    monkeypatch.setattr(distill_training, "Coding", lambda *given: ("coding", *given))
    monkeypatch.setattr(distill_training, "TorchGraph", lambda graph: ("graph", graph))
    manifest = SimpleNamespace(encoder="encoder")
    bundle = SimpleNamespace(manifest=manifest, graph=lambda info: f"bytes of {info}")
    settings, students = replace(Settings(), states=4), object()
    distiller = Distiller(bundle, students, settings)
    assert (distiller.students, distiller.settings) == (students, settings)
    assert distiller._teacher == ("graph", "bytes of encoder")
    assert distiller._coding == ("coding", bundle, 4)
    assert distiller._lmbda == LMBDA
    assert distiller.measure == "psnr"
    assert distiller._distortion == ("distortion", settings.shares)
    x = torch.zeros(2, 3, 4, 4)
    lmbda = torch.tensor([1.0, 2.0])
    found = distiller._plain(x + 0.5, x, None, lmbda)
    assert found.tolist() == pytest.approx([255**2 / 4, 255**2 / 2])


# ---- the students ----


def test_students_have_the_sizes_of_their_width(monkeypatch):
    made = []
    monkeypatch.setattr(students_module, "analysis", lambda *given: made.append(given) or "g_a")
    layouts = []
    monkeypatch.setattr(
        SynthesisSizes, "make", lambda self, layout: layouts.append((self, layout)) or "g_s"
    )
    layout = SimpleNamespace(stride=16, bands=COLOURS, latents=20)
    students = Students(Width(8, 12, (2, 3), (4, 5)), layout, 3)
    sizes = SynthesisSizes(wide=8, deep=12, blocks=(4, 5), details=3, modulated=True)
    assert students.sizes == sizes
    assert layouts == [(sizes, layout)]
    assert made == [(8, 12, 20, (2, 3), 3, (8, COLOURS), ANCHORS)]
    assert (students.encoder, students.decoder) == ("g_a", "g_s")
    assert students.encoder_halo == 8 * 2 + 16 * 3
    assert type(students.encoder_halo) is int
    assert students.layout is layout


def test_details_are_those_of_the_recipe():
    def with_training(training):
        return SimpleNamespace(manifest=SimpleNamespace(training=training, name="it"))

    assert details_of(with_training({"recipe": {"model": DETAILED.model_dump()}})) == 3
    for training in ({}, {"recipe": {}}, {"recipe": {"model": None}}):
        with pytest.raises(students_module.BadParameter, match="'it' does not say"):
            details_of(with_training(training))


# ---- what is said ----


def test_the_slim_model_is_compared_with_the_large_one_picture_by_picture(monkeypatch):
    """Of twelve at most, each by the codec that wrote it."""
    compared = []

    def percent(before, after):
        compared.append((before, after))
        return float(before[1])

    monkeypatch.setattr(check, "Codec", lambda *given: given)
    monkeypatch.setattr(check, "scored_by", lambda measure: f"by {measure}")
    monkeypatch.setattr(check, "middle", lambda picture: 10 * picture)
    monkeypatch.setattr(check, "curve", lambda *given: given)
    bars = []
    monkeypatch.setattr(check, "shown", lambda items, what: bars.append(what) or items)
    monkeypatch.setattr(check, "percent", percent)
    monkeypatch.setattr(check, "mean", sum)
    found = check.percent_more("large", "slim", [*range(1, 15)], "psnr")
    assert found == 10 * sum(range(1, 13))
    assert bars == ["checking"]
    large, slim = ("large", "cpu", 1), ("slim", "cpu", 1)
    for number, pair in enumerate(compared, 1):
        assert pair == tuple((c, 10 * number, "by psnr") for c in (large, slim))
    assert check.said(3.0, 5, "psnr") == (
        "bits on 5 pictures that it was not trained on, at equal PSNR, against the large model: "
        + check.spoken(3.0)
    )


def test_sizes_of_the_command_are_those_that_there_are():
    assert [size.value for size in cli.Size] == list(WIDTHS)

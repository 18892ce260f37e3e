"""A few seconds of the first stage, from photos to weights."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode

from trellic.errors import BadParameter
from trellic_training.cli import train as cli
from trellic_training.data.photos import DeviceCrops, PackedPhotos
from trellic_training.models.photo import PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.models.weights import average_of, load_weights, save_weights
from trellic_training.optimizers.clipping import clip_gradients
from trellic_training.pixels import to_network
from trellic_training.recipes.codec import Phase, load_recipe
from trellic_training.stages import end_to_end
from trellic_training.stages.average import RunningAverage
from trellic_training.stages.end_to_end import (
    Clock,
    CropStream,
    EndToEnd,
    sample_quality,
    train,
)
from trellic_training.stages.keeping import WeightsFile

CPU = torch.device("cpu")


@pytest.fixture
def quick(tiny_recipe):
    """The tiny recipe with small crops, a short warm-up and a short memory."""
    phases = (Phase(until=1.0, crop=64, batch=4),)
    return tiny_recipe.model_copy(update={"phases": phases, "warmup_steps": 5, "ema": 0.8})


def loss_of(model: PhotoModel, recipe, photos: PackedPhotos) -> float:
    """Loss on crops and qualities that are always the same."""
    module = EndToEnd(recipe, Clock(1))
    module.model.load_state_dict(model.state_dict())
    module.log = lambda *args, **kwargs: None
    torch.manual_seed(5)
    with torch.no_grad():
        return float(module.training_step(photos.crops(np.random.default_rng(5), 16, 64), 0))


@pytest.mark.slow("trains, stops and goes on")
def test_a_short_run_lowers_the_loss_and_can_be_resumed(quick, packed, tmp_path):
    photos = PackedPhotos(packed)
    start = PhotoModel(quick.model)
    crops = photos.crops(np.random.default_rng(quick.seed), 400, 128)
    start_from_components(start, to_network(crops))
    before = loss_of(start, quick, photos)

    checkpoint = train(quick, packed, tmp_path / "run", 10, steps=25, progress=False)
    assert checkpoint == tmp_path / "run" / "last.ckpt"
    model, steps = average_of(checkpoint, quick.model)
    assert steps == 25
    after = loss_of(model, quick, photos)
    assert after < before
    assert list((tmp_path / "run" / "log").rglob("events.*"))

    more = tmp_path / "more"
    again = train(quick, packed, more, 10, resume=checkpoint, steps=30, progress=False)
    model, steps = average_of(again, quick.model)
    assert steps == 30
    assert loss_of(model, quick, photos) < before


@pytest.mark.slow("the command trains")
def test_the_command_trains_and_writes_weights(photos, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["tiny", "--photos", photos, "--out", out, "--minutes", "0.02"]
    threads = torch.get_num_threads()
    try:
        assert cli.main([*map(str, arguments), "--threads", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "weights.pt: export it" in capsys.readouterr().out
    model, facts = load_weights(out / "weights.pt")
    assert facts["recipe"]["name"] == "tiny"
    assert facts["steps"] > 0
    assert facts["share"] == 1
    assert (out / "photos" / "photos.json").is_file()
    # weights alone are another start
    recipe = load_recipe(cli.shipped_recipe(cli.Path("tiny")))
    module = EndToEnd(recipe, Clock(1))
    assert end_to_end._start(module, PackedPhotos(out / "photos"), out, out / "weights.pt") is None
    for a, b in zip(module.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b.float())


@pytest.mark.slow("trains, stops and goes on")
def test_a_resumed_run_goes_on_where_its_schedule_was(quick, packed, tmp_path):
    now = SimpleNamespace(value=0.0)

    def tick() -> float:
        now.value += 1
        return now.value

    facts = {}
    kept = WeightsFile(tmp_path / "weights.pt", lambda run: facts.update(run) or run)
    checkpoint = train(
        quick, packed, tmp_path, 2, steps=5, progress=False, now=tick, watchers=[kept]
    )
    used = torch.load(checkpoint, weights_only=True)["trellic"]["share"]
    assert 0.1 < used < 0.9
    assert facts["share"] == pytest.approx(used, abs=0.1)
    shares = []

    class Watch(EndToEnd):
        def on_train_batch_end(self, *args: object) -> None:
            shares.append(self.clock.share())
            super().on_train_batch_end(*args)

    Watch.__name__ = "EndToEnd"
    for resume in (checkpoint, tmp_path / "weights.pt"):
        shares.clear()
        settings = {"progress": False, "now": tick, "stage": Watch}
        train(quick, packed, tmp_path / "b", 2, resume=resume, steps=7, **settings)
        assert used < shares[0] < 1
    # a run of another recipe begins at its own start
    other = quick.model_copy(update={"seed": 9})
    shares.clear()
    train(
        other, packed, tmp_path / "c", 2, resume=tmp_path / "weights.pt", steps=1, progress=False,
        now=tick, stage=Watch,
    )  # fmt: skip
    assert shares[0] < used


def test_weights_are_small_and_written_while_a_run_goes_on(quick, packed, tmp_path):
    seen = []

    class Look(lightning.Callback):
        def on_train_batch_end(self, *args: object) -> None:
            seen.append((tmp_path / "weights.pt").exists())

    kept = WeightsFile(tmp_path / "weights.pt", lambda run: run, every=2)
    watchers = [kept, Look()]
    checkpoint = train(quick, packed, tmp_path, 2, steps=3, progress=False, watchers=watchers)
    assert seen == [False, True, True]
    assert (tmp_path / "weights.pt").stat().st_size < checkpoint.stat().st_size / 3
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--minutes", "inf"), ("--minutes", "nan"), ("--minutes", "1e300"), ("--minutes", "0"),
        ("--seed", "4294967296"), ("--threads", "100000000"),
    ],
)  # fmt: skip
def test_options_have_limits(option, value, tmp_path):
    with pytest.raises(typer.BadParameter, match=r"range|less than"):
        cli.main(["tiny", "--photos", str(tmp_path), "--out", str(tmp_path / "run"), option, value])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory; .* smaller batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory; .*crop"),
        (torch.OutOfMemoryError(), "not enough memory; .*crop"),
        (RuntimeError("another"), "another"),
    ],
    ids=repr,
)
def test_a_lack_of_memory_is_named(error, said, tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "packed_photos", fails)
    with pytest.raises((BadParameter, RuntimeError), match=f"^{said}"):
        cli.main(["tiny", "--photos", str(tmp_path), "--out", str(tmp_path / "run")])


def test_unknown_recipes_are_refused(tmp_path):
    arguments = ["no-such-recipe", "--photos", tmp_path, "--out", tmp_path]
    with pytest.raises(
        BadParameter,
        match=r"shipped recipes: cifar, .*finetune, .*photo, photo-encoder, photo-eye, .*tiny",
    ):
        cli.main([*map(str, arguments)])


# ---- its parts ----


def test_the_clock():
    now = SimpleNamespace(value=100.0)
    clock = Clock(2, lambda: now.value)
    assert clock.share() == 0
    now.value += 30
    assert clock.share() == 0.25
    assert clock.minutes() == 0.5
    again = Clock(4, lambda: now.value)  # another budget: the share counts
    again.go_on(**clock.state())
    assert again.share() == 0.25
    now.value += 60
    assert again.share() == 0.5
    assert again.minutes() == 1
    assert again.state() == {"share": 0.5, "minutes": 1.5}
    now.value += 500
    assert clock.share() == 1
    again.go_on(1.0, 4.0)  # what was finished begins anew
    again.restart()
    assert again.share() == 0


def test_crops_follow_the_clock(tiny_recipe, packed):
    phases = (Phase(until=0.5, crop=64, batch=3), Phase(until=1.0, crop=128, batch=1))
    recipe = tiny_recipe.model_copy(update={"phases": phases})
    clock = SimpleNamespace(share=lambda: clock.at, at=0.0)
    stream = iter(CropStream(PackedPhotos(packed), recipe, clock, lambda: [1], CPU))
    assert next(stream).shape == (3, 64, 64, 3)
    clock.at = 0.5
    assert next(stream).shape == (1, 128, 128, 3)
    clock.at = 1.0
    assert next(stream).shape == (1, 128, 128, 3)


def test_photos_move_to_another_device_than_the_cpu_and_are_cut_there(
    tiny_recipe, packed, monkeypatch
):
    given = []

    class There:
        def __init__(self, *arguments: object) -> None:
            given.append(arguments)

        def crops(self, batch: int, size: int) -> torch.Tensor:
            return torch.zeros(batch, size, size, 3, dtype=torch.uint8)

    monkeypatch.setattr(end_to_end, "DeviceCrops", There)
    photos, elsewhere = PackedPhotos(packed), torch.device("meta")
    for seed in (1, 1, 2):
        stream = CropStream(photos, tiny_recipe, Clock(1), lambda: [seed], elsewhere)  # noqa: B023
        next(iter(stream))
    assert next(iter(CropStream(photos, tiny_recipe, Clock(1), lambda: [1], CPU))).any()
    assert [arguments[:2] for arguments in given] == [(photos, elsewhere)] * 3
    first, again, other = (arguments[2] for arguments in given)
    assert first == again != other
    assert min(first, other) > 2**50
    assert max(first, other) < 2**62


def test_weights_are_the_start_and_those_of_the_same_recipe_go_on(quick, packed, model, tmp_path):
    path = tmp_path / "weights.pt"
    now = SimpleNamespace(value=0.0)
    whole = {"recipe": quick.model_dump(mode="json"), "share": 0.25, "minutes": 3.0}
    other = whole | {"recipe": whole["recipe"] | {"seed": 9}}
    for facts, state in (
        (whole, {"share": 0.25, "minutes": 3.0}),
        ({"recipe": whole["recipe"]}, {"share": 0.0, "minutes": 0.0}),
        (other, {"share": 0.0, "minutes": 0.0}),
        ({}, {"share": 0.0, "minutes": 0.0}),
    ):
        save_weights(model, facts, path)
        module = EndToEnd(quick, Clock(4, lambda: now.value))
        assert end_to_end._start(module, PackedPhotos(packed), tmp_path, path) is None
        assert module.clock.state() == state
        for ours in (module.model, module.ema.module):
            for p, q in zip(ours.parameters(), model.parameters(), strict=True):
                torch.testing.assert_close(p, q, atol=1e-3, rtol=1e-3)


def test_gains_are_stretched_where_weights_had_another_lambda(
    quick, packed, model, tmp_path, monkeypatch
):
    """Twice as large, it is what it was at a lower quality: lambda rises along one curve."""
    path, given = tmp_path / "weights.pt", []
    assert quick.lmbda == (0.0006, 0.2)
    before = quick.model_copy(update={"lmbda": (0.0012, 0.4)}).model_dump(mode="json")
    save_weights(model, {"recipe": before}, path)
    monkeypatch.setattr(end_to_end, "stretched", lambda *both: given.append(both) or both[0])
    module = EndToEnd(quick, Clock(4))
    assert end_to_end._start(module, PackedPhotos(packed), tmp_path, path) is None
    ((trained, moved),) = given
    assert trained.config == model.config
    lower = 50 - 99 * math.log(2) / math.log(0.2 / 0.0006)
    assert moved(np.array([50.0])) == pytest.approx([lower], abs=0.05)


def test_a_checkpoint_is_left_to_lightning(quick, packed, tmp_path):
    module, checkpoint = EndToEnd(quick, Clock(4)), tmp_path / "last.ckpt"
    before = [p.detach().clone() for p in module.parameters()]
    assert end_to_end._start(module, PackedPhotos(packed), tmp_path, checkpoint) == checkpoint
    assert all(map(torch.equal, before, module.parameters()))


def test_qualities_cover_their_range():
    torch.manual_seed(0)
    quality = sample_quality(20_000, torch.device("cpu"))
    assert quality.min() >= 1
    assert quality.max() <= 100
    middle = ((quality >= 15) & (quality <= 85)).float().mean().item()
    assert middle == pytest.approx(0.5 + 0.5 * 70 / 99, abs=0.02)


def test_pictures_for_the_network():
    batch = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(2, 64, 64, 3)
    x = to_network(batch)
    assert x.shape == (2, 3, 64, 64)
    assert x[0, :, 0, 0].tolist() == pytest.approx([-0.5, 128 / 255 - 0.5, 0.5], abs=1e-6)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_the_learning_rate_follows_the_clock(quick):
    clock = SimpleNamespace(share=lambda: clock.at, at=0.0)
    module = EndToEnd(quick, clock)
    module.log = lambda *args, **kwargs: None
    optimizer = module.configure_optimizers()

    def rate():
        module.on_before_optimizer_step(optimizer)
        return optimizer.param_groups[0]["lr"] / quick.learning_rate

    assert [rate() for _ in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    clock.at = 0.8
    assert rate() == pytest.approx(0.5)
    clock.at = 1.0
    assert rate() == pytest.approx(quick.final_rate)


def test_a_gradient_that_is_not_finite_counts_as_0(quick):
    module = EndToEnd(quick, Clock(1))
    module.log = lambda *args, **kwargs: None
    optimizer = module.configure_optimizers()
    for value in (1.0, math.nan, math.inf):
        for parameter in module.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        module.model.hyper_mean.grad[0] = value
        module.on_before_optimizer_step(optimizer)
        total = sum(float(p.grad.square().sum()) for p in module.model.parameters())
        assert total == pytest.approx(quick.gradient_clip**2 if value == 1.0 else 0, rel=1e-3)
    before = [p.detach().clone() for p in module.model.parameters()]
    optimizer.step()
    for a, b in zip(before, module.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_gradients_are_clipped_as_torch_does():
    torch.manual_seed(1)
    kernels = [torch.nn.Parameter(torch.randn(4, 3, 2, 2)) for _ in range(2)]
    kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
    for limit in (0.5, 100.0):
        for p in kernels:
            p.grad = torch.arange(p.numel()).view(p.shape).float() - 5
        expected = [p.grad.clone() for p in kernels]
        norm = torch.stack([g.norm() for g in expected]).norm()
        assert clip_gradients([*kernels, torch.nn.Parameter(torch.ones(1))], limit) == norm
        for p, gradient in zip(kernels, expected, strict=True):
            torch.testing.assert_close(p.grad, gradient * min(1, limit / norm))


def test_without_gradients_nothing_is_clipped():
    assert clip_gradients([torch.nn.Parameter(torch.ones(2))], 1.0) == 0


def test_the_average_forgets_its_start_and_what_is_frozen_stays():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    model[1].requires_grad_(False)
    average = RunningAverage(model, 0.9)
    assert average.keeps(0) == pytest.approx(0.1)
    assert average.keeps(1000) == pytest.approx(0.9)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight += 1
        model[1].weight += 1
    average.update(model)  # the first one is the model itself
    assert average.module[0].weight.item() == pytest.approx(start.item() + 1)
    with torch.no_grad():
        model[0].weight += 1
    average.update(model)
    kept = 2 / 11
    assert average.module[0].weight.item() == pytest.approx(start.item() + 2 - kept)
    assert average.module[1].weight.item() == pytest.approx(model[1].weight.item() - 1)
    again = RunningAverage(model, 0.9)
    again.load_state_dict(average.state_dict())
    assert again.count == 2


@pytest.mark.slow("twelve steps, each watched")
def test_a_step_asks_the_device_for_no_number(quick, packed, tmp_path, monkeypatch):
    """On a GPU each such question waits for all that was launched before; to send one does, too.

    The whole loop is watched, with Lightning's part, from the second step to the twelfth: new bases
    are among them, but not the numbers that are logged at every 25th. Crops are cut as on a GPU.
    """
    there = DeviceCrops(PackedPhotos(packed), CPU, 0)
    monkeypatch.setattr(PackedPhotos, "crops", lambda _, __, batch, size: there.crops(batch, size))
    phases = (Phase(until=1.0, crop=192, batch=1),)
    changed = {"phases": phases, "cutouts": 0.5, "optimizer": "soap"}
    changed["distortion"] = load_recipe(cli.shipped_recipe(Path("photo-eye"))).distortion
    asked, steps = [], []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names = ("_local_scalar", "nonzero", "lift_fresh")
            if 0 < len(steps) < 12 and any(name in str(function) for name in names):
                asked.append((len(steps), str(function)))
            return function(*args, **(kwargs or {}))

    class Count(lightning.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            steps.append(len(asked))

    with Watch():
        train(
            quick.model_copy(update=changed), packed, tmp_path, 60, steps=12, progress=False,
            watchers=[Count()],
        )  # fmt: skip
    assert len(steps) == 12
    assert asked == []


# ---- weights ----


def test_weights_last(model, tmp_path):
    save_weights(model, {"steps": 7}, tmp_path / "weights.pt")
    again, facts = load_weights(tmp_path / "weights.pt")
    assert facts == {"steps": 7}
    for (name, a), (_, b) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        rounded = a.half().float() if name.startswith(("g_a.", "g_s.", "h_a.")) else a
        assert torch.equal(rounded, b), name
    # rounding the rounded changes nothing
    save_weights(again, facts, tmp_path / "twice.pt")
    twice, _ = load_weights(tmp_path / "twice.pt")
    for a, b in zip(again.parameters(), twice.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("value", [math.nan, 1e6], ids=["no number", "too large for float16"])
def test_weights_that_are_not_finite_are_not_written(value, quick, packed, tmp_path):
    class Spoil(lightning.Callback):
        def on_train_batch_end(self, trainer: object, stage: EndToEnd, *_: object) -> None:
            if stage.global_step == 2:
                next(stage.average.g_s.parameters()).fill_(value)

    path = tmp_path / "weights.pt"
    kept = WeightsFile(path, lambda run: run, every=1)
    with pytest.raises(BadParameter, match=r"diverged: .*weights.pt is not written.*learning_rate"):
        train(quick, packed, tmp_path, 2, steps=3, progress=False, watchers=[Spoil(), kept])
    assert load_weights(path)[1]["steps"] == 1


def test_weights_that_are_not_finite_are_refused(model, tmp_path):
    path = tmp_path / "weights.pt"
    save_weights(model, {}, path)
    content = torch.load(path, weights_only=True)
    content["state"]["hyper_mean"][0] = math.nan
    torch.save(content, path)
    with pytest.raises(BadParameter, match=r"weights.pt .*\(its numbers are not finite\)"):
        load_weights(path)


def test_other_files_are_no_weights(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"trellic_weights": 99}, path)
    with pytest.raises(BadParameter, match="version 1"):
        load_weights(path)
    path.write_bytes(b"Dear diary")
    with pytest.raises(BadParameter, match=r"not a Trellic checkpoint \(no file of torch.save\)$"):
        load_weights(path)

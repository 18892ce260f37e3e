"""Universal representations on MNIST, in miniature: made-up digits, a few steps of each kind."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from trellic.errors import BadParameter
from trellic_training.cli import train as cli
from trellic_training.recipes.codec import kind_of
from trellic_training.stages.interrupted import Interrupted
from trellic_training.stages.stage import Clock
from trellic_training.universal import measure
from trellic_training.universal.digits import Digits, load_digits
from trellic_training.universal.jobs import Job, all_jobs, end_to_end, on_encoder
from trellic_training.universal.measure import (
    Measuring,
    decode_all,
    scores,
    sliced_wasserstein,
    wasserstein,
)
from trellic_training.universal.networks import (
    Classifier,
    Critic,
    Decoder,
    Encoder,
    gradient_penalty,
    scaled,
)
from trellic_training.universal.parts import Part
from trellic_training.universal.quantizer import DitheredQuantizer
from trellic_training.universal.report import write_report
from trellic_training.universal.results import lower_hull, penalty_at, read_points
from trellic_training.universal.run import Work, affordable, run_universal
from trellic_training.universal.settings import Target, UniversalRecipe, load_universal_recipe
from trellic_training.universal.training import (
    Batches,
    Classification,
    Compression,
    critic_loss,
    critic_optimizer,
    fit,
)

RECIPES = cli.RECIPES
TINY = {
    "kind": "universal",
    "name": "tiny",
    "epochs": 1,
    "batch": 8,
    "width": 0.1,
    "classifier_epochs": 1,
    "measuring_epochs": 0.2,
    "classification": {
        "end_to_end": [0, 0.05],
        "encoders": [0.05],
        "universal": [0],
        "mixture": [0, 0.05],
    },
    "perception": {"end_to_end": [0.015], "encoder": 0.015, "universal": [0]},
    "rates": {"latents": [[2, 2]], "end_to_end": [0.05], "mixture": True},
}


def write_idx(path: Path, values: np.ndarray) -> None:
    head = np.array([0x800 + values.ndim, *values.shape], ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes(), 1))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Bars: the label is the row of a bright line."""
    folder = tmp_path_factory.mktemp("digits")
    rng = np.random.default_rng(0)
    for part, count in (("train", 32), ("t10k", 16)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = rng.integers(0, 40, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 3 : 2 * label + 5, 4:24] = 220
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture
def tiny() -> UniversalRecipe:
    return UniversalRecipe.model_validate(TINY)


# ---- dither and rate ----


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_error_of_dithered_quantization_is_uniform_and_independent_of_the_input(levels):
    quantizer = DitheredQuantizer(1, levels)
    count = 20000
    u = quantizer.dither(count, torch.Generator().manual_seed(1))
    errors = []
    for y in (-1.0, -0.4, 0.05, 0.77, 1.0):  # at the ends too: no overload
        sent = torch.full((count, 1), y)
        error = (quantizer.received(quantizer.indices(sent, u), u) - sent).ravel() / quantizer.step
        assert error.abs().max() <= 0.5 + 1e-5
        uniform = (torch.arange(count) + 0.5) / count - 0.5
        assert (error.sort().values - uniform).abs().max() < 0.015  # Kolmogorov-Smirnov
        errors.append(error)
    y = 2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(2)) - 1
    error = quantizer(y, u) - y
    assert abs(float(torch.corrcoef(torch.cat([y, error], 1).T)[0, 1])) < 0.03
    assert abs(float(torch.corrcoef(torch.cat([y.square(), error.square()], 1).T)[0, 1])) < 0.03


def test_without_dither_the_error_does_depend_on_the_input():
    """So that the test above can fail."""
    quantizer = DitheredQuantizer(1, 3)
    y = torch.full((100, 1), 0.3)
    error = quantizer.received(quantizer.indices(y, torch.zeros(100, 1)), torch.zeros(100, 1)) - y
    assert error.std() == 0


def test_the_gradient_is_that_of_the_expected_loss():
    """d/dy E[(q - u)^3] is E[3 (y + n)^2] = 3 y^2 + 3 Var n, with n uniform over a step."""
    quantizer = DitheredQuantizer(1, 3)
    y = torch.full((200000, 1), 0.4, requires_grad=True)
    u = quantizer.dither(len(y), torch.Generator().manual_seed(3))
    quantizer(y, u).pow(3).sum().backward()
    assert float(y.grad.mean()) == pytest.approx(3 * 0.16 + 3 / 12, abs=0.01)


def test_rates_are_counted_from_the_indices_that_occur():
    quantizer = DitheredQuantizer(3, 3)
    assert quantizer.bits == pytest.approx(4.755, abs=1e-3)  # the paper's 3 log2 3
    assert DitheredQuantizer(3, 4).bits == 6
    y = torch.rand(5000, 3, generator=torch.Generator().manual_seed(4)) * 2 - 1
    indices = quantizer.indices(y, quantizer.dither(5000, torch.Generator().manual_seed(5)))
    assert len(indices.unique(dim=0)) == 27 == round(2**quantizer.bits)
    assert indices.min() == 0
    assert indices.max() == 2


def test_training_decodes_what_a_receiver_has_also_of_latents_beyond_the_ends():
    quantizer = DitheredQuantizer(3, 4)
    u = quantizer.dither(500, torch.Generator().manual_seed(6))
    y = 4 * torch.rand(500, 3, generator=torch.Generator().manual_seed(7)) - 2
    indices = quantizer.indices(y, u)
    assert sorted(indices.unique().tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(quantizer(y, u), quantizer.received(indices, u))
    assert (indices[y < -1.7] == 0).all()
    assert (indices[y > 1.7] == 3).all()


def test_the_receiver_needs_the_same_dither():
    quantizer = DitheredQuantizer(3, 3)
    one, two = (quantizer.dither(4, torch.Generator().manual_seed(s)) for s in (7, 7))
    assert torch.equal(one, two)
    assert not torch.equal(one, quantizer.dither(4, torch.Generator().manual_seed(8)))


# ---- data ----


def test_digits_are_read_as_they_are(data):
    digits = load_digits(data, "training")
    assert digits.images.shape == (32, 1, 28, 28)
    assert len(digits) == 32
    row = 2 * int(digits.labels[5]) + 3
    assert float(digits.images[5, 0, row, 10]) == pytest.approx(220 / 255)


@pytest.mark.parametrize(
    ("bytes_", "message"),
    [
        (None, "--data"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"\0\0\x08\x01" + bytes(12), mtime=0), "expected 00000803"),
        (
            gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x02" * 3, mtime=0),
            "0 values for axes (2, 2, 2)",
        ),
        (gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + bytes(8), mtime=0), "28x28"),
    ],
)
def test_bad_files_are_one_clear_error(data, tmp_path, bytes_, message):
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoilt = tmp_path / "train-images-idx3-ubyte.gz"
    spoilt.unlink() if bytes_ is None else spoilt.write_bytes(bytes_)
    with pytest.raises(BadParameter) as caught:
        load_digits(tmp_path, "training")
    assert message in str(caught.value)


def test_batches_see_every_digit_once_an_epoch(data):
    batches = Batches(load_digits(data, "training"), 8, 10, seed=1)
    assert len(batches) == 10
    assert sorted(batches.order[:4].ravel().tolist()) == list(range(32))
    assert batches[9][0].shape == (8, 1, 28, 28)


# ---- recipes and jobs ----


@pytest.mark.parametrize(
    "name", ["mnist_universal", "mnist_universal_paper", "mnist_universal_seeds"]
)
def test_shipped_recipes_ask_for_each_model_once_and_encoders_first(name):
    recipe = load_universal_recipe(RECIPES / f"{name}.yaml")
    names = [job.name for job in all_jobs(recipe)]
    assert len(names) == len(set(names)) > 15
    for job in all_jobs(recipe):
        assert job.encoder is None or names.index(job.encoder) < names.index(job.name)
    assert kind_of(RECIPES / f"{name}.yaml") == "universal"
    assert kind_of(RECIPES / "photo.yaml") is None


GRIDS = {
    "classification": {
        "end_to_end": [0, 0.01],
        "encoders": [0.01, 0.03],
        "universal": [0, 0.01, 0.02],
        "mixture": [0, 0.02],
    },
    "perception": {"end_to_end": [0.5, 0], "encoder": 0.25, "universal": [0, 1]},
    "rates": {"latents": [[2, 4], [1, 2]], "end_to_end": [0.01, 0], "mixture": True},
}


def test_jobs_are_in_the_order_of_what_they_tell():
    """Encoders with the mixture, decoders for two targets, perception, other decoders, rates."""
    recipe = UniversalRecipe.model_validate(TINY | GRIDS)
    encoders = ["3x3-mse", "3x3-c0.01", "3x3-c0.03", "3x3-mse+c0.02"]
    first = ["3x3-c0.01--mse", "3x3-c0.03--mse", "3x3-c0.03--c0.01", "3x3-mse+c0.02--c0.01"]
    perception = ["3x3-p0.25", "3x3-p0.25--mse", "3x3-p0.25--p1", "3x3-p0.5"]
    others = ["3x3-c0.01--c0.02", "3x3-c0.03--c0.02"]
    rates = ["2x4-c0.01", "1x2-c0.01", "2x4-mse", "1x2-mse", "2x4-mse+c0.02", "1x2-mse+c0.02"]
    jobs = all_jobs(recipe)
    assert [job.name for job in jobs] == encoders + first + perception + others + rates
    for job in jobs:
        encoder, _, own = job.name.rpartition("--")
        assert job.encoder == (encoder or None)
        assert len(job.targets) == 1 + own.count("+")
        assert "x".join(map(str, job.latent)) == job.name.partition("-")[0]
        assert job.adversarial == ("p" in own)
    mixed = next(job for job in jobs if job.name == "3x3-mse+c0.02")
    assert mixed.targets == (Target(), Target(classification=0.02))
    assert jobs[8].targets == (Target(perception=0.25),)
    grids = TINY | GRIDS | {"rates": GRIDS["rates"] | {"mixture": False}}
    fewer = all_jobs(UniversalRecipe.model_validate(grids))
    assert [job.name for job in fewer] == [job.name for job in jobs[:-2]]


def test_a_job_is_named_after_both_weights():
    both = Target(perception=0.5, classification=0.125)
    assert end_to_end((2, 3), both).name == "2x3-p0.5c0.125"
    one = end_to_end((2, 3), Target(), Target(perception=0.5))
    assert one.adversarial
    assert not end_to_end((2, 3), Target(classification=1)).adversarial


# ---- a few steps of each kind ----


def train_a_little(job: Job, data: Path, encoder: Encoder | None = None) -> Compression:
    torch.manual_seed(1)
    module = Compression(job, Classifier().eval(), 0.1, 1e-3, 4, 1, encoder)
    fit(module, Batches(load_digits(data, "training"), 8, 4, 1))
    return module


def changed(before: dict[str, torch.Tensor], net: torch.nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "targets",
    [
        (Target(),),
        (Target(), Target(classification=0.05), Target(perception=0.01)),
    ],
)
def test_a_few_steps_move_encoder_decoders_and_critics_but_not_the_classifier(data, targets):
    job = end_to_end((3, 3), *targets)
    torch.manual_seed(1)
    start = Compression(job, Classifier().eval(), 0.1, 1e-3, 4, 1)
    parts = ("encoder", "decoders", "critics", "classifier")
    before = {part: getattr(start, part).state_dict() for part in parts}
    module = train_a_little(job, data)
    assert changed(before["encoder"], module.encoder)
    assert all(changed(start.decoders[i].state_dict(), g) for i, g in enumerate(module.decoders))
    assert len(module.critics) == sum(t.perception > 0 for t in targets)
    assert changed(before["critics"], module.critics) == bool(module.critics)
    assert not changed(before["classifier"], module.classifier)


def test_networks_have_the_latents_and_the_width_of_the_job():
    module = Compression(end_to_end((2, 5), Target()), Classifier(), 0.1, 1e-3, 6, 1)
    assert module.encoder(torch.rand(4, 1, 28, 28)).shape == (4, 2)
    assert shapes(module.decoders[0]) == shapes(Decoder(2, 0.1)) != shapes(Decoder(2))


def shapes(net: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in net.parameters()]


def test_a_fit_writes_its_log_and_nothing_else(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    batches = Batches(load_digits(data, "training"), 8, 2, 1)
    for log in (None, tmp_path / "logs" / "one"):
        module = of_targets(Target())
        fit(module, batches, log=log)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path.parent for path in files if path.name != "hparams.yaml"] == [log] * bool(log)
    (events,) = log.glob("events.*")
    assert b"loss" in events.read_bytes()
    assert capsys.readouterr() == ("", "")


def test_a_re_used_encoder_stays_as_it_is_to_the_bit(data):
    first = end_to_end((3, 3), Target(classification=0.05))
    encoder = train_a_little(first, data).encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    job = on_encoder(first, Target(perception=0.01))
    assert job.encoder == first.name
    module = train_a_little(job, data, encoder)
    assert not changed(before, module.encoder)  # running means of the batch norms included


def test_gradient_penalty_is_zero_for_a_critic_of_slope_one():
    x = torch.rand(5, 1, 28, 28)
    slope_one = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 1, bias=False))
    torch.nn.init.constant_(slope_one[1].weight, 1 / 28)
    assert float(gradient_penalty(slope_one, x, x.flip(0)).detach()) == pytest.approx(0, abs=1e-9)
    torch.nn.init.constant_(slope_one[1].weight, 3 / 28)
    assert float(gradient_penalty(slope_one, x, x.flip(0)).detach()) == pytest.approx(4, rel=1e-4)
    gradient_penalty(slope_one, x, x.flip(0)).backward()  # of (|w| - 1)^2
    torch.testing.assert_close(slope_one[1].weight.grad, torch.full((1, 784), 4 / 28))
    assert Critic(0.1)(x).shape == (5, 1)


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def slope(steepness: float) -> torch.nn.Sequential:
    """A critic whose score is 28 times the mean brightness, times the steepness."""
    critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 1, bias=False))
    torch.nn.init.constant_(critic[1].weight, steepness / 28)
    return critic


def test_a_critic_scores_real_above_made_at_ten_times_the_penalty():
    real, made = torch.full((5, 1, 28, 28), 0.75), torch.full((5, 1, 28, 28), 0.25)
    apart = 28 * 0.5
    assert number(critic_loss(slope(1), real, made)) == pytest.approx(-apart, rel=1e-5)
    assert number(critic_loss(slope(1), made, real)) == pytest.approx(apart, rel=1e-5)
    assert number(critic_loss(slope(3), real, made)) == pytest.approx(-3 * apart + 40, rel=1e-4)


def test_the_penalty_is_taken_between_real_and_made():
    """Of a critic that is the square of the mean, the slope tells where it was taken."""

    class Square(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 14 * x.flatten(1).mean(1, keepdim=True).square()

    torch.manual_seed(0)
    real, made = torch.full((4000, 1, 28, 28), 2.0), torch.full((4000, 1, 28, 28), 4.0)
    # The slope's norm is 28 m / 28 = m, uniform over [2, 4]: mean of (m - 1)^2 is 13/3.
    found = number(gradient_penalty(Square(), real, made))
    assert found == pytest.approx(13 / 3, rel=0.03)


def of_targets(*targets: Target) -> Compression:
    torch.manual_seed(1)
    return Compression(end_to_end((3, 3), *targets), Classifier().eval(), 0.1, 2e-3, 6, 1)


def test_the_loss_of_a_decoder_has_all_its_terms():
    target = Target(classification=0.25, perception=0.5)
    module = of_targets(target)
    x, x_hat = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    labels = torch.tensor([1, 2, 3, 9])
    mse = (x - x_hat).square().mean()
    surprise = -module.classifier(x_hat).log_softmax(1)[torch.arange(4), labels].mean()
    score = slope(2)(x_hat).mean()
    given = (x_hat, x, labels)
    whole = module._loss_of(target, *given, slope(2))
    assert number(whole) == pytest.approx(number(mse + 0.25 * surprise - 0.5 * score), rel=1e-5)
    alone = module._loss_of(Target(), *given, None)
    assert number(alone) == pytest.approx(number(mse), rel=1e-5)


def test_losses_are_the_mean_over_the_decoders_each_with_its_critic():
    targets = (Target(perception=0.5), Target(), Target(perception=0.25, classification=0.1))
    module = of_targets(*targets)
    module.critics = torch.nn.ModuleList([slope(1), slope(2)])
    x, labels = torch.rand(4, 1, 28, 28), torch.tensor([1, 2, 3, 9])
    pictures = [torch.rand(4, 1, 28, 28, requires_grad=True) for _ in targets]
    critics = (module.critics[0], None, module.critics[1])
    triples = zip(targets, pictures, critics, strict=True)
    each = [module._loss_of(t, made, x, labels, h) for t, made, h in triples]
    assert number(module._loss(pictures, x, labels)) == pytest.approx(
        number(sum(each)) / 3, rel=1e-5
    )
    loss = module._critic_loss(x, pictures)
    own = [critic_loss(slope(k), x, pictures[i]) for k, i in ((1, 0), (2, 2))]
    assert number(loss) == pytest.approx(number(sum(own)), rel=1e-4)
    loss.backward()
    assert all(made.grad is None for made in pictures)  # critics don't teach the decoders here


def test_a_step_moves_critics_by_their_loss_and_decoders_by_theirs(monkeypatch):
    module = of_targets(Target(perception=0.01))
    losses = {"critic": [], "loss": []}
    own = torch.optim.SGD([*module.encoder.parameters(), *module.decoders.parameters()], 0.05)
    optimizers = [own, torch.optim.SGD(module.critics.parameters(), 0.01)]
    monkeypatch.setattr(module, "optimizers", lambda: optimizers)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(module, "log", lambda name, loss, **_: losses[name].append(number(loss)))
    critics = module._critic_loss

    def watched(x, pictures):
        loss = critics(x, pictures)
        losses["critic"].append(number(loss))
        return loss

    monkeypatch.setattr(module, "_critic_loss", watched)
    x, labels = torch.rand(8, 1, 28, 28).round(), torch.zeros(8, dtype=torch.long)
    for step in range(12):
        torch.manual_seed(3)
        module.training_step((x, labels), step)
    for found in losses.values():
        assert len(found) == 12
        assert found[-1] < found[0]
    assert all(p.requires_grad for p in module.critics.parameters())


def test_optimizers_are_those_of_the_papers():
    module = of_targets(Target(), Target(perception=0.01))
    own, critic = module.configure_optimizers()
    parts = [*module.encoder.parameters(), *module.decoders.parameters()]
    assert {id(p) for p in own.param_groups[0]["params"]} == {id(p) for p in parts}
    expected = {id(p) for p in module.critics.parameters()}
    assert {id(p) for p in critic.param_groups[0]["params"]} == expected
    both = (own.param_groups[0], critic.param_groups[0])
    assert [group["betas"] for group in both] == [(0.5, 0.999), (0.5, 0.9)]
    assert [group["lr"] for group in both] == [2e-3, 2e-3]
    assert len(of_targets(Target()).configure_optimizers()) == 1


def test_the_learning_rate_drops_to_a_fifth_once_at_two_thirds():
    module = of_targets(Target())
    optimizer = torch.optim.SGD(module.parameters(), 1.0)
    module._trainer = SimpleNamespace(optimizers=[optimizer])  # 6 steps
    rates = []
    for module.done in range(6):
        module.on_train_batch_start(None, 0)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([2e-3] * 4 + [4e-4] * 2)


def test_the_classifier_learns_by_cross_entropy():
    module = Classification(2e-3)
    x, labels = torch.rand(4, 1, 28, 28), torch.tensor([0, 5, 7, 9])
    surprise = -module.net(x).log_softmax(1)[torch.arange(4), labels].mean()
    assert number(module.training_step((x, labels), 0)) == pytest.approx(number(surprise), rel=1e-5)
    assert module.configure_optimizers().param_groups[0]["lr"] == 2e-3


def test_batches_are_shuffled_by_the_seed(data):
    digits = load_digits(data, "training")
    orders = [Batches(digits, 8, 4, seed).order for seed in (1, 1, 2)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    images, labels = Batches(digits, 8, 4, 1)[2]
    assert torch.equal(images, digits.images[orders[0][2]])
    assert torch.equal(labels, digits.labels[orders[0][2]])


def test_sliced_distance_of_a_shift_is_its_mean_projection():
    """A set against itself moved by d along one axis: E[(d theta)^2] is d^2 / 784."""
    a = torch.rand(50, 1, 28, 28)
    b = a.clone()
    b[:, 0, 3, 4] += 20
    assert sliced_wasserstein(a, a) == 0
    assert sliced_wasserstein(a, b) == pytest.approx(20 / 28, rel=0.2)


@pytest.mark.parametrize(
    ("make", "convolutions", "full"),
    [
        (lambda: Encoder(3), [], [(784, 512), (512, 256), (256, 128), (128, 128), (128, 3)]),
        (Critic, [(1, 64, 4), (64, 128, 4), (128, 256, 4)], [(256 * 9, 1)]),
        (lambda: Critic(0.1), [(1, 6, 4), (6, 13, 4), (13, 26, 4)], [(26 * 9, 1)]),
        (Classifier, [(1, 16, 5), (16, 32, 5)], [(32 * 49, 64), (64, 10)]),
        (lambda: Decoder(3), [(32, 64, 3), (64, 128, 4), (128, 1, 4)], [(3, 128), (128, 512)]),
        (lambda: Decoder(3, 0.1), [(32, 6, 3), (6, 13, 4), (13, 1, 4)], [(3, 128), (128, 512)]),
    ],
)
def test_networks_have_the_layers_of_the_papers(make, convolutions, full):
    net = make()
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    found = [layer for layer in net if isinstance(layer, kinds)]
    sizes = [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in found]
    assert sizes == convolutions
    assert all(layer.stride == (2, 2) for layer in found)
    linear = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == full
    leaks = [layer.negative_slope for layer in net if isinstance(layer, torch.nn.LeakyReLU)]
    last = 0 if isinstance(net, Classifier) else len(found) + len(full) - 1
    assert leaks == [0.2] * last


def test_networks_go_from_pixels_to_numbers_and_back():
    x = torch.rand(2, 1, 28, 28)
    assert isinstance(Encoder(3)[-1], torch.nn.Tanh)
    shown = Decoder(3)(100 * torch.randn(2, 3))
    assert shown.shape == x.shape
    assert 0 <= shown.min() < shown.max() <= 1
    assert (Critic()(x).shape, Classifier()(x).shape) == ((2, 1), (2, 10))
    assert [scaled(64, width) for width in (0.01, 0.1, 1)] == [4, 6, 64]


def test_all_is_decoded_from_the_dither_that_every_model_gets(monkeypatch):
    """Parts of the digits take the next numbers, not the same ones again."""
    monkeypatch.setattr(measure, "CHUNK", 3)
    quantizer, images = DitheredQuantizer(784, 3), torch.rand(7, 1, 28, 28)
    made = decode_all(torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 28, 28)), quantizer, images)
    generator = torch.Generator().manual_seed(measure.DITHER_SEED)
    u = torch.cat([quantizer.dither(count, generator) for count in (3, 3, 1)])
    expected = quantizer.received(quantizer.indices(images.flatten(1), u), u)
    assert torch.equal(made.flatten(1), expected)
    assert not made.requires_grad


def test_scores_of_decoded_digits(monkeypatch):
    monkeypatch.setattr(measure, "CHUNK", 3)
    test = Digits(torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 2]))
    x_hat = test.images + 0.5
    logits = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 0, 5], [0, 5, 0]])
    parts = iter(logits.split(3))
    found = scores(x_hat, test, lambda _: next(parts))
    assert found["mse"] == pytest.approx(0.25, rel=1e-5)
    assert found["accuracy"] == 0.75
    surprise = -logits.log_softmax(1)[range(4), test.labels].mean()
    assert found["cross_entropy"] == pytest.approx(float(surprise), rel=1e-5)
    assert found["sliced"] == sliced_wasserstein(test.images, x_hat) > 0


def test_sliced_distance_is_over_the_same_unit_directions_each_time():
    a, b = torch.rand(2, 6, 1, 28, 28)
    generator = torch.Generator().manual_seed(measure.PROJECTION_SEED)
    directions = torch.nn.functional.normalize(torch.randn(784, 256, generator=generator), dim=0)
    one, two = (np.sort((x.flatten(1) @ directions).numpy(), axis=0) for x in (a, b))
    expected = np.sqrt(np.square(one - two).mean())
    assert sliced_wasserstein(a, b) == pytest.approx(float(expected), rel=1e-4)


def test_a_measuring_critic_is_new_and_trained_on_what_is_decoded(monkeypatch):
    """The same steps, made here one by one."""
    monkeypatch.setattr(measure, "CHUNK", 3)
    torch.manual_seed(5)
    training, test = (Digits(torch.rand(n, 1, 28, 28), torch.zeros(n).long()) for n in (8, 4))
    quantizer = DitheredQuantizer(784, 3)
    encoder, decoder = torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 28, 28))
    found = wasserstein(encoder, decoder, quantizer, Measuring(training, test, 0.1, 4, 5))

    torch.manual_seed(measure.DITHER_SEED)
    critic = Critic(0.1)
    optimizer = critic_optimizer(critic, measure.RATE)
    batches = Batches(training, 4, 5, measure.DITHER_SEED)
    for index in range(5):
        real = batches[index][0]
        u = quantizer.dither(4, torch.Generator().manual_seed(index))
        optimizer.zero_grad()
        critic_loss(critic, real, decoder(quantizer(encoder(real), u))).backward()
        optimizer.step()
    made = decode_all(encoder, decoder, quantizer, test.images)
    expected = critic(test.images).mean() - critic(made).mean()
    assert found == pytest.approx(number(expected), rel=1e-4)


# ---- in parts ----


class Killed(Exception):
    """What ends a process in the middle of a model."""


class Kill(lightning.Callback):
    """Ends a run before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if module.done == self.step:
            raise Killed


EVERYTHING = (Target(), Target(classification=0.05), Target(perception=0.01))
STEPS = 6  # the learning rate drops after 4


def part_of(path: Path, encoder: Encoder | None, minutes: float = 60) -> tuple[Compression, Part]:
    torch.manual_seed(1)
    targets = EVERYTHING if encoder is None else (Target(perception=0.01),)
    job = end_to_end((3, 3), *targets)
    classifier = Classifier().eval()
    module = Compression(job, classifier, 0.1, 1e-3, STEPS, 1, encoder)
    return module, Part(path, module, Clock(minutes), every=0)


def go_on(path: Path, data: Path, encoder: Encoder | None, *others, **budget) -> Compression:
    """Make as many steps as there is time for, in a new process as far as torch can tell."""
    module, part = part_of(path, encoder, **budget)
    if module.done < STEPS:
        digits = load_digits(data, "training")
        fit(module, Batches(digits, 8, STEPS, 1, module.done), watchers=(part, *others))
    return module


def frozen_encoder() -> Encoder:
    torch.manual_seed(5)
    return Encoder(3).eval()


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return not changed(one.state_dict(), two)


def test_a_model_that_was_killed_twice_is_the_model_made_at_once(data, tmp_path):
    whole = go_on(tmp_path / "whole.pt", data, None)
    assert whole.done == STEPS
    path = tmp_path / "killed.pt"
    for step in (1, 4):  # 4: the step at which the learning rate drops
        with pytest.raises(Killed):
            go_on(path, data, None, Kill(step))
        assert torch.load(path)["done"] == step
    assert same(go_on(path, data, None), whole)


def test_a_decoder_made_a_step_a_run_is_the_one_made_at_once(data, tmp_path):
    whole = go_on(tmp_path / "whole.pt", data, frozen_encoder())
    path = tmp_path / "chunks.pt"
    for done in range(1, STEPS + 1):  # the time is up after each step
        assert go_on(path, data, frozen_encoder(), minutes=1e-9).done == done
    assert same(part_of(path, frozen_encoder())[0], whole)


def test_without_its_random_numbers_a_model_in_parts_is_another(data, tmp_path):
    """So that the test above can fail."""
    whole = go_on(tmp_path / "whole.pt", data, frozen_encoder())
    path = tmp_path / "killed.pt"
    with pytest.raises(Killed):
        go_on(path, data, frozen_encoder(), Kill(3))
    content = torch.load(path)
    content["random"]["shared"] = torch.Generator().manual_seed(9).get_state()
    torch.save(content, path)
    assert not same(go_on(path, data, frozen_encoder()), whole)


def test_time_spent_on_a_model_adds_up_over_its_parts(data, tmp_path):
    path = tmp_path / "part.pt"
    go_on(path, data, frozen_encoder(), minutes=1e-9)
    first = torch.load(path)["spent"]
    later = part_of(path, frozen_encoder())[1].spent()
    assert set(first) == {"seconds", "cpu_seconds"}
    assert all(later[name] >= first[name] > 0 for name in first)


@pytest.mark.parametrize("content", [b"", {"done": 1}, {"networks": {}}])
def test_an_unfinished_model_that_is_damaged_is_one_error(tmp_path, content):
    path = tmp_path / "part.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(BadParameter, match="delete it, and the model begins anew"):
        part_of(path, None)


def points_of(work: Work, job: Job) -> object:
    return json.loads(work.result(job).read_text())["points"]


def test_a_run_that_a_signal_stops_goes_on_in_the_middle_of_a_model(
    tiny, data, tmp_path, monkeypatch
):
    recipe = tiny.model_copy(update={"shorten": False})
    job = end_to_end((3, 3), Target(perception=0.01, classification=0.05))
    works = []
    for name in ("whole", "stopped"):
        works.append(Work(recipe, data, tmp_path / name))
        works[-1].classifier, works[-1].epochs = Classifier().eval(), 1.0
        works[-1].classifier.load_state_dict(works[0].classifier.state_dict())
    whole, stopped = works
    assert whole.finish(job, Clock(60))
    step = Compression.training_step

    def signalled(module: Compression, batch: object, index: int) -> None:
        step(module, batch, index)
        if module.done == 2:  # not os.kill: a late one would end the process of the tests
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    with monkeypatch.context() as patched:
        patched.setattr(Compression, "training_step", signalled)
        with pytest.raises(Interrupted, match="continue by the same command"):
            stopped.finish(job, Clock(60))
    unfinished = tmp_path / "stopped" / "unfinished" / f"{job.name}.pt"
    assert torch.load(unfinished)["done"] == 2
    assert not stopped.result(job).exists()
    assert not stopped.finish(job, Clock(1e-9))  # one step more
    assert torch.load(unfinished)["done"] == 3
    assert stopped.finish(job, Clock(60))
    assert points_of(stopped, job) == points_of(whole, job)
    assert not unfinished.exists()


def test_a_recipe_whose_epochs_are_fixed_keeps_them_and_says_how_long(
    tiny, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Work, "_seconds_a_step", lambda self, job: 900.0)
    work = Work(tiny.model_copy(update={"shorten": False}), data, tmp_path)
    work.prepare(Clock(1e-6))
    assert work.epochs == 1  # of 4 steps
    count = len(all_jobs(tiny))
    assert f"{count} models left: about {count} h 0 min of training" in capsys.readouterr().out
    short = Work(tiny, data, tmp_path / "short")
    with pytest.raises(BadParameter, match="raise --minutes"):
        short.prepare(Clock(1e-6))


# ---- a whole run, and its report ----


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """What ``trellic train`` leaves by a recipe of this kind."""
    out = tmp_path_factory.mktemp("run")
    recipe = out / "tiny.yaml"
    recipe.write_text(json.dumps(TINY))
    result = CliRunner().invoke(cli.app, [str(recipe), "--data", str(data), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert f"{out / 'report.md'}" in result.output.replace("\n", "")
    return out


@pytest.mark.long
@pytest.mark.slow("all models of a small recipe are trained")
def test_a_run_leaves_models_results_tables_and_plots(finished, tiny):
    jobs = all_jobs(tiny)
    assert {p.stem for p in (finished / "results").iterdir()} == {job.name for job in jobs}
    for job in jobs:
        assert (finished / "models" / f"{job.name}.pt").is_file()
    assert json.loads((finished / "plan.json").read_text())["epochs"] == 1
    report = (finished / "report.md").read_text()
    assert "Partial" not in report
    assert "mixture 0 + 0.05 |" in report
    assert "mixture 0 + 0.05, 2 x 2 |" in report
    for name in ("perception", "rates", "reuse"):
        assert f"![{name}]({name}.svg)" in report
        assert "<svg" in (finished / f"{name}.svg").read_text()[:2000]


@pytest.mark.slow("models of a small recipe are trained")
def test_digits_of_one_stream_are_shown_by_decoder(finished):
    with Image.open(finished / "digits.png") as picture:
        width, height = picture.size
    assert width == 9 * 120
    assert height == 5 * 60  # originals, p0.015, mse on it, and the mixture's two


@pytest.mark.slow("all models of a small recipe are trained")
def test_a_second_run_makes_only_what_is_missing(finished, tiny, data):
    gone = finished / "results" / "3x3-mse.json"
    before = {p: p.stat().st_mtime_ns for p in (finished / "results").iterdir() if p != gone}
    measured = json.loads(gone.read_text())["points"]
    gone.unlink()
    run_universal(tiny, data, finished, 5)
    assert json.loads(gone.read_text())["points"] == measured  # seeds: the same model again
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.slow("models of a small recipe are trained")
def test_a_run_whose_time_is_up_reports_what_there_is(finished, tiny, data, capsys):
    gone = finished / "results" / "3x3-p0.015--mse.json"
    kept = gone.read_bytes()
    gone.unlink()
    report = run_universal(tiny, data, finished, 1e-6).read_text()
    gone.write_bytes(kept)
    assert "run the same command again" in capsys.readouterr().out
    assert "**Partial: 1 models are missing:** 3x3-p0.015--mse" in report


def test_the_budget_decides_the_epochs():
    assert affordable(30, 600, 60) == 10
    assert affordable(3, 600, 60) == 3
    with pytest.raises(BadParameter, match="raise --minutes"):
        affordable(30, 1, 60)


@pytest.mark.slow("models of a small recipe are trained")
def test_a_folder_of_another_recipe_is_refused(finished, tiny, data):
    with pytest.raises(BadParameter, match="another recipe"):
        run_universal(tiny.model_copy(update={"seed": 2}), data, finished, 5)


def test_resume_is_refused_since_the_folder_is_what_is_resumed(data, tmp_path):
    arguments = ["mnist_universal", "--data", str(data), "--out", str(tmp_path)]
    refused = CliRunner().invoke(cli.app, [*arguments, "--resume", "x.ckpt"])
    assert isinstance(refused.exception, BadParameter)
    assert "--out" in str(refused.exception)


def test_a_seed_takes_the_place_of_the_recipes(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "trellic_training.universal.run.run_universal",
        lambda recipe, data, out, minutes: seen.append((recipe.seed, out)),
    )
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--seed", "3"]):
        given = CliRunner().invoke(cli.app, ["mnist_universal", "--data", str(data), *more])
        assert given.exit_code == 0, given.output
    names = ("mnist_universal", "mnist_universal-seed-3")
    assert seen == [(seed, Path("runs") / name) for seed, name in zip((1, 3), names, strict=True)]
    refused = CliRunner().invoke(cli.app, [str(data), "--seed", "3"])
    assert isinstance(refused.exception, BadParameter)


def fake_result(out: Path, name: str, encoder: str | None, c: float, mse: float, ce: float) -> None:
    point = {"perception": 0.0, "classification": c, "mse": mse, "accuracy": 0.5}
    job = {"name": name, "latent": [3, 3], "encoder": encoder, "bits": 4.755, "seconds": 60.0}
    job |= {"cpu_seconds": 30.0, "points": [point | {"cross_entropy": ce, "sliced": 0.1}]}
    (out / "results" / f"{name}.json").write_text(json.dumps(job))


def test_the_report_of_made_up_results_counts_the_penalty(tmp_path, tiny):
    (tmp_path / "results").mkdir()
    limits = {"classifier": {"accuracy": 0.99, "cross_entropy": 0.03}, "sliced_floor": 0.01}
    plan = {"recipe": tiny.model_dump(mode="json"), "epochs": 1.0, "limits": limits}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    fake_result(tmp_path, "3x3-mse", None, 0.0, 0.050, 2.0)
    fake_result(tmp_path, "3x3-c0.05", None, 0.05, 0.060, 1.0)
    fake_result(tmp_path, "3x3-c0.05--mse", "3x3-c0.05", 0.0, 0.058, 1.5)
    report = write_report(tiny, tmp_path).read_text()
    assert "**Partial: 5 models are missing:**" in report
    assert "2.0 min" not in report
    assert "3 models: 3.0 min, 1.5 min of one core" in report
    tables = json.loads((tmp_path / "report.json").read_text())["tables"]
    reused = tables["Re-used encoders: distortion and classification"]
    assert [row["lambda_c"] for row in reused] == [0.0, 0.05]
    assert reused[0]["extra loss"] == pytest.approx(0.008)  # 0.058 against 0.050
    assert reused[0]["extra MSE at equal cross entropy"] == pytest.approx(0.003)  # hull: 0.055
    assert reused[1]["extra loss"] == 0  # the encoder's own decoder is the end-to-end model
    assert tables["Penalty of re-using an encoder"] == [
        {
            "encoder": "lambda_c = 0.05",
            "targets": "2",
            "mean extra loss": pytest.approx(0.004),
            "largest": pytest.approx(0.008),
        }
    ]


def test_penalties_are_measured_from_the_lower_hull(tmp_path):
    assert lower_hull([(0, 4), (1, 3.9), (2, 1), (3, 2)]) == [(0, 4), (2, 1)]
    (tmp_path / "results").mkdir()
    for name, mse, ce in (("a", 4.0, 0.0), ("b", 1.0, 2.0), ("good", 2.0, 1.0), ("low", 1.0, -1.0)):
        fake_result(tmp_path, name, None, 0.0, mse, ce)
    a, b, good, low = read_points(tmp_path)
    assert penalty_at(good, [a, b], "cross_entropy") == pytest.approx(-0.5)
    assert penalty_at(low, [a, b], "cross_entropy") is None
    assert penalty_at(a, [], "cross_entropy") is None


@pytest.mark.parametrize("name", ["mnist_universal", "photo"])
def test_a_recipe_is_named_or_given_by_its_path(name):
    shipped = RECIPES / f"{name}.yaml"
    short = RECIPES.parents[1] / "recipes" / f"{name}.yaml"  # training/recipes, a link
    for given in (Path(name), shipped, short):
        assert cli.shipped_recipe(given).samefile(shipped)


def test_the_path_of_a_recipe_that_is_not_there_is_refused():
    with pytest.raises(BadParameter, match="mnist_universal"):
        cli.shipped_recipe(Path("elsewhere/mnist_universal.yaml"))

"""Classification and perception in the loss: which way they pull, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trellic.errors import BadParameter
from trellic_training.cli import train as cli
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.picture_classifier import (
    PictureClassifierSizes,
    TrainedClassifier,
    load_classifier,
    save_classifier,
)
from trellic_training.models.transforms import Chain
from trellic_training.recipes.classifier import ClassifierRecipe
from trellic_training.recipes.codec import Phase, Recipe, load_as
from trellic_training.recipes.decoder import DecoderRecipe, load_decoder_recipe
from trellic_training.recipes.terms import Classification, Perception
from trellic_training.stages.classifier import train_classifier
from trellic_training.stages.decoder import DecoderStage
from trellic_training.stages.end_to_end import CropStream, EndToEnd, train
from trellic_training.stages.perceptual import PerceptualStage
from trellic_training.stages.samples import Samples
from trellic_training.stages.stage import Clock
from trellic_training.stages.terms import ClassificationTerm

from .conftest import RECIPES

LABELS = ["cold", "warm"]
SIDE = 64


def tiles(label: int, count: int) -> np.ndarray:
    """Pictures that are cold (blue, label 0) or warm."""
    noise = np.random.default_rng(label).integers(0, 120, (count, SIDE, SIDE, 3))
    noise[..., 2 - 2 * label] += 120
    return noise.astype(np.uint8)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A packed set of two labels."""
    folder = tmp_path_factory.mktemp("labelled")
    for label, name in enumerate(LABELS):
        (folder / "set" / name).mkdir(parents=True)
        for i, pixels in enumerate(tiles(label, 6)):
            Image.fromarray(pixels).save(folder / "set" / name / f"{name}{i}.png")
    pack(folder / "set", folder / "packed", min_side=SIDE)
    return folder / "packed"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A file of a classifier that was never trained, with batch normalisation."""
    torch.manual_seed(3)
    sizes = PictureClassifierSizes(kind="dense", hidden=(4, 8), blocks=(0, 0))
    path = tmp_path_factory.mktemp("classifier") / "classifier.pt"
    save_classifier(TrainedClassifier(sizes, sizes.make(2), LABELS, SIDE, {}), path)
    return path


def with_terms(recipe: Recipe, classifier, lambda_c=0.5, lambda_p=None) -> Recipe:
    changed = {
        "phases": (Phase(until=1.0, crop=SIDE, batch=4),),
        "warmup_steps": 1,
        "autocast": False,
        "classification": classifier and Classification(classifier=classifier, lambda_c=lambda_c),
        "perception": None,
    }
    if lambda_p is not None:
        changed["perception"] = Perception(lambda_p=lambda_p, hidden=4, from_share=0.0)
    return recipe.model_copy(update=changed)


def silent(stage):
    stage.log = lambda *_, **__: None
    return stage


def batch_of(labelled, recipe):
    stream = CropStream(
        PackedPhotos(labelled), recipe, Clock(1), lambda: [1], torch.device("cpu"), labelled=True
    )
    return next(iter(stream))


# ---- the classifier ----


def test_the_gradient_moves_the_classifiers_verdict_up(classifier):
    term = ClassificationTerm(Classification(classifier=classifier, lambda_c=0.5))
    x_hat = (torch.rand(4, 3, SIDE, SIDE) * 0.8 - 0.4).requires_grad_()
    label, told = torch.tensor([0, 1, 1, 0]), {}
    cost = term(x_hat, label, told.__setitem__)
    likely = term.network(x_hat).log_softmax(1)[torch.arange(4), label]
    torch.testing.assert_close(cost, -0.5 * likely)
    assert float(told["cross_entropy"]) == pytest.approx(-float(likely.detach().mean()))
    cost.sum().backward()
    better = term.network(x_hat - 0.05 * x_hat.grad.sign()).log_softmax(1)[torch.arange(4), label]
    assert bool((better > likely).all())


def test_the_classifier_stays_as_it_is(classifier):
    """In training mode too: statistics of batch normalisation do not move, nothing is trained."""
    term = ClassificationTerm(Classification(classifier=classifier, lambda_c=1.0))
    before = {name: value.clone() for name, value in term.state_dict().items()}
    outer = nn.ModuleList([term]).train()
    term(torch.rand(4, 3, SIDE, SIDE), torch.zeros(4, dtype=torch.int64), lambda *_: None)
    assert not any(p.requires_grad for p in outer.parameters())
    for name, value in term.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_classifier_of_other_pictures_is_refused(classifier, labelled, packed, tmp_path):
    term = ClassificationTerm(Classification(classifier=classifier, lambda_c=1.0))
    term.check(PackedPhotos(labelled), [SIDE])
    with pytest.raises(BadParameter, match="crops of 32 pixels; expected 64"):
        term.check(PackedPhotos(labelled), [SIDE, 32])
    with pytest.raises(BadParameter, match="1 labels"):
        term.check(PackedPhotos(packed), [SIDE])
    term.labels = ["owl", "cat"]
    with pytest.raises(BadParameter, match=r"labels cold, warm .*owl, cat"):
        term.check(PackedPhotos(labelled), [SIDE])
    (tmp_path / "no.pt").write_bytes(b"Dear diary")
    with pytest.raises(BadParameter, match="holds no classifier of pictures"):
        load_classifier(tmp_path / "no.pt")
    torch.save({"trellic_classifier": 99}, tmp_path / "old.pt")
    with pytest.raises(BadParameter, match="no classifier of version 1"):
        load_classifier(tmp_path / "old.pt")


@pytest.mark.parametrize("kind", ["depthwise", "dense"])
def test_a_classifier_learns_and_its_file_lasts(kind, labelled, tmp_path):
    sizes = PictureClassifierSizes(kind=kind, hidden=(4, 8), blocks=(1, 0))
    recipe = ClassifierRecipe(kind="classifier", name="two", network=sizes, steps=30, batch=8)
    made = train_classifier(recipe, labelled, progress=False)
    assert made.facts["accuracy"] == 1.0
    save_classifier(made, tmp_path / "classifier.pt")
    again = load_classifier(tmp_path / "classifier.pt")
    assert (again.labels, again.side, again.facts) == (LABELS, SIDE, made.facts)
    x = torch.rand(2, 3, SIDE, SIDE) - 0.5
    assert torch.equal(again.network(x), made.network(x))


def test_the_command_trains_a_classifier(labelled, tmp_path, capsys):
    recipe = tmp_path / "two.yaml"
    head = "{kind: classifier, name: two, steps: 1, "
    recipe.write_text(head + "network: {hidden: [4], blocks: [0]}}")
    out = tmp_path / "out"
    arguments = [recipe, "--photos", labelled, "--out", out, "--seed", "5"]
    assert cli.main([*map(str, arguments)]) == 0
    assert "classifier.pt: right for" in capsys.readouterr().out
    assert load_classifier(out / "classifier.pt").facts["recipe"]["seed"] == 5
    with pytest.raises(BadParameter, match="--resume with a recipe of the kind classifier"):
        cli.main([*map(str, arguments), "--resume", str(out / "classifier.pt")])
    recipe.write_text(head + "network: {hidden: [4], blocks: [0, 1]}}")
    with pytest.raises(BadParameter, match="2 numbers of blocks for 1 groups"):
        cli.main([*map(str, arguments)])


# ---- end to end ----


def loss_of(recipe, batch):
    torch.manual_seed(7)
    module = silent(EndToEnd(recipe, Clock(1)))
    torch.manual_seed(6)
    return module, module.training_step(batch, 0)


def value_of(recipe, batch):
    return float(loss_of(recipe, batch)[1].detach())


def test_a_term_of_weight_0_is_none(tiny_recipe, labelled, classifier):
    """And one of another weight is in the loss, by the weight of each picture."""
    batch = batch_of(labelled, with_terms(tiny_recipe, classifier))
    base = value_of(with_terms(tiny_recipe, None), batch[0])
    assert value_of(with_terms(tiny_recipe, classifier, 0.0, 0.0), batch) == base
    module, loss = loss_of(with_terms(tiny_recipe, classifier, 0.5), batch)
    once = float(loss.detach()) - base
    twice = value_of(with_terms(tiny_recipe, classifier, 1.0), batch) - base
    assert once > 0
    assert twice == pytest.approx(2 * once, rel=1e-3)
    assert "cross_entropy" in module.shown


def test_the_classifiers_gradient_reaches_encoder_and_decoder(tiny_recipe, labelled, classifier):
    batch = batch_of(labelled, with_terms(tiny_recipe, classifier))
    gradients = []
    for lambda_c in (0.0, 50.0):
        module, loss = loss_of(with_terms(tiny_recipe, classifier, lambda_c), batch)
        loss.backward()
        parts = module.model.g_a, module.model.g_s
        gradients.append([next(part.parameters()).grad.clone() for part in parts])
    for plain, pulled in zip(*gradients, strict=True):
        assert not torch.allclose(plain, pulled, rtol=0.01)


def test_the_critic_is_deceived_and_learns(tiny_recipe, labelled, monkeypatch):
    recipe = with_terms(tiny_recipe, None, lambda_p=0.25)
    crops = batch_of(labelled, recipe)[0]
    base = loss_of(with_terms(tiny_recipe, None), crops)[1]
    torch.manual_seed(7)
    module = silent(EndToEnd(recipe, Clock(1)))
    plain = silent(EndToEnd(with_terms(tiny_recipe, None), Clock(1)))
    module.model.load_state_dict(plain.model.state_dict())
    taught = []
    monkeypatch.setattr(module.critic, "learn", lambda *given: taught.append(given) or base)
    monkeypatch.setattr(module.critic, "verdict", lambda x_hat: torch.full((4, 1, 2, 2), 3.0))
    losses = []
    for stage in (plain, module):
        torch.manual_seed(6)
        losses.append(float(stage.training_step(crops, 0).detach()))
        torch.manual_seed(6)
        stage.weights_of_quality = lambda q: (torch.zeros(4), torch.ones(4))
        losses.append(float(stage.training_step(crops, 0).detach()))
    assert losses[3] - losses[1] == pytest.approx(-0.25 * 3, rel=1e-3)
    real, made = taught[0]
    assert real.shape == made.shape == (4, 3, SIDE, SIDE)
    late = recipe.model_copy(update={"perception": Perception(lambda_p=0.25, from_share=1.0)})
    module.recipe = late
    torch.manual_seed(6)
    assert float(module.training_step(crops, 0).detach()) == pytest.approx(losses[1])


@pytest.mark.slow("a model is trained for two steps")
def test_a_run_with_both_terms_trains_and_goes_on(tiny_recipe, labelled, classifier, tmp_path):
    recipe = with_terms(tiny_recipe, classifier, lambda_p=0.1)
    checkpoint = train(recipe, labelled, tmp_path, 10, steps=2, progress=False)
    train(recipe, labelled, tmp_path / "b", 10, steps=3, resume=checkpoint, progress=False)
    smaller = recipe.model_copy(update={"phases": (Phase(until=1.0, crop=128, batch=1),)})
    with pytest.raises(BadParameter, match="crops of 128 pixels"):
        train(smaller, labelled, tmp_path, 10, steps=2, progress=False)


# ---- decoders ----


def decoder_recipe(name: str, classifier, lambda_c: float) -> DecoderRecipe:
    recipe = load_decoder_recipe(RECIPES / "decoders-tiny.yaml", name)
    term = Classification(classifier=classifier, lambda_c=lambda_c)
    return recipe.model_copy(update={"classification": term, "autocast": False})


class Given(Chain):
    """A decoder whose picture is its only parameter."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        self.picture = nn.Parameter(picture)

    def forward(self, x, quality=None):
        return self.picture


def given_batch():
    torch.manual_seed(1)
    x = torch.randint(0, 256, (3, SIDE, SIDE, 3), dtype=torch.uint8)
    batch = {"x": x, "quality": torch.full((3,), 40.0), "label": torch.tensor([1, 0, 1])}
    teacher = (x.int() + 9).clamp(0, 255).to(torch.uint8)
    return batch | {"teacher": teacher, "latents": torch.zeros(3, 1, 1, 1), "level": None}


@pytest.mark.parametrize(
    ("name", "kind"), [("fast", DecoderStage), ("perceptual", PerceptualStage)]
)
def test_a_decoder_learns_what_the_classifier_wants(name, kind, classifier):
    batch, losses = given_batch(), []
    picture = torch.rand(3, 3, SIDE, SIDE) * 0.8 - 0.4
    for lambda_c in (0.0, 2.0):
        recipe = decoder_recipe(name, classifier, lambda_c)
        stage = silent(kind(recipe, Clock(1), Given(picture.clone())))
        losses.append(stage.lost(batch))
    _, weight = stage.weights_of_quality(batch["quality"])
    share = weight if kind is DecoderStage else torch.ones(3)
    likely = stage.classification.network(picture).log_softmax(1)[torch.arange(3), batch["label"]]
    expected = float((share * 2 * -likely).mean())
    assert float((losses[1] - losses[0]).detach()) == pytest.approx(expected, rel=1e-3)


class NoLatents:
    """A bundle's quantizer whose latents and pictures are all 0."""

    def __init__(self, layout) -> None:
        self.layout = layout

    def __call__(self, pixels, quality, states):
        shape = len(pixels), self.layout.latents, SIDE // 16, SIDE // 16
        return np.zeros(shape, np.float32), quality.astype(np.float32)

    def pictures(self, latents, quality, decoder):
        return np.zeros((len(latents), SIDE, SIDE, 3), np.uint8)


def test_samples_for_a_classifier_have_labels(tiny_config, labelled, classifier):
    recipe = decoder_recipe("fast", classifier, 1.0)
    samples = Samples(NoLatents(tiny_config.layout()), PackedPhotos(labelled), recipe)
    batch = samples(np.random.default_rng(0), 6, SIDE)
    warm = batch["x"][..., 0].float().mean((1, 2)) > batch["x"][..., 2].float().mean((1, 2))
    assert batch["label"].tolist() == warm.int().tolist()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("class", {}),
        ("fast", {"network": {"kind": "preview", "channels": 4, "scale": 2, "hidden": 4}}),
    ],
)
def test_a_classifier_needs_whole_pictures(name, changed):
    source = "decoders-cifar" if name == "class" else "decoders-tiny"
    fields = load_decoder_recipe(RECIPES / f"{source}.yaml", name).model_dump()
    term = {"classifier": "c.pt", "lambda_c": 1.0}
    with pytest.raises(ValueError, match="a decoder of pictures at their full size"):
        DecoderRecipe.model_validate(fields | changed | {"classification": term})


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("classification: {lambda_c: 0.1}", "the field 'classification.classifier' is missing"),
        (
            "classification: {classifier: a.pt, lambda_c: -1}",
            "classification.lambda_c: -1; expected greater than or",
        ),
        ("perception: {hidden: 4}", "the field 'perception.lambda_p' is missing"),
        ("perception: {lambda_p: 1, weight: 2}", "unknown field 'perception.weight'"),
    ],
)
def test_faults_of_recipes_are_named(term, said, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text((RECIPES / "tiny.yaml").read_text() + f"\n{term}\n")
    with pytest.raises(BadParameter, match=said):
        load_as(path, Recipe)

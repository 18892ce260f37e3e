"""Training of an encoder alone: what moves, what stays, and which decoder it is for."""

from __future__ import annotations

import pytest
import torch

from trellic.errors import BadParameter
from trellic_export.family import decoder_of
from trellic_training.models.decoder_weights import save_decoder
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import load_weights, save_weights
from trellic_training.recipes.codec import Phase, Recipe, load_recipe
from trellic_training.stages.encoder_alone import EncoderAlone
from trellic_training.stages.end_to_end import train
from trellic_training.stages.keeping import WeightsFile
from trellic_training.stages.stage import Clock

from .conftest import RECIPES

ENCODER = ("g_a.", "h_a.")


@pytest.fixture
def recipe(tiny_recipe) -> Recipe:
    changed = {
        "train": "encoder",
        "identity": 4.0,
        "autocast": False,
        "warmup_steps": 1,
        "ema": 0.0,  # the newest weights are the average
        "phases": (Phase(until=1.0, crop=64, batch=2),),
    }
    return tiny_recipe.model_copy(update=changed)


@pytest.fixture
def tuned(model, tmp_path):
    """A file of a decoder for the same latents, with other weights than g_s."""
    other = PhotoModel(model.config)
    other.g_a.load_state_dict(model.g_a.state_dict())
    save_decoder(decoder_of(other, {}), tmp_path / "tuned.pt")
    return tmp_path / "tuned.pt"


def test_h_a_alone_moves(recipe, model, packed, tmp_path):
    """With attention to all positions, which the trained model lacks."""
    config = recipe.model.model_copy(update={"nonlocal_hyper": True})
    alone = recipe.model_copy(update={"train": "hyper", "identity": 0.0, "model": config})
    made = trained(alone, model, packed, tmp_path).state_dict()
    for name, value in load_weights(tmp_path / "first.pt")[0].state_dict().items():
        if not name.startswith("h_a."):
            assert torch.equal(made[name], value), name
    moved = [value for name, value in made.items() if name.endswith("project.weight")]
    assert len(moved) == 1
    assert moved[0].any()


def trained(recipe, model, packed, folder) -> PhotoModel:
    save_weights(model, {"recipe": {"lmbda": recipe.lmbda}}, folder / "first.pt")
    kept = WeightsFile(folder / "weights.pt", dict)
    train(
        recipe, packed, folder, 5, resume=folder / "first.pt", steps=2, progress=False,
        stage=EncoderAlone, watchers=[kept],
    )  # fmt: skip
    return load_weights(folder / "weights.pt")[0]


def test_the_encoder_alone_moves(recipe, model, packed, tuned, tmp_path):
    """g_s has the weights of the recipe's decoder; what decides streams is as it was."""
    made = trained(recipe.model_copy(update={"decoder": tuned}), model, packed, tmp_path)
    before = load_weights(tmp_path / "first.pt")[0].state_dict()
    decoder = torch.load(tuned, weights_only=True)["state"]
    for name, value in made.state_dict().items():
        if name.startswith("g_s."):
            assert torch.equal(value, decoder[name.removeprefix("g_s.")].float()), name
        elif not name.startswith(ENCODER):
            assert torch.equal(value, before[name]), name
    for part in ENCODER:
        moved = [n for n in before if n.startswith(part) and not n.endswith(("scale", "shift"))]
        assert any(not torch.equal(made.state_dict()[n], before[n]) for n in moved), part


def test_what_encoding_again_moves_reaches_g_a_alone(recipe, model):
    stage = EncoderAlone(recipe, Clock(1))
    stage.model.load_state_dict(model.state_dict())
    stage.log = lambda *_, **__: None
    x, quality = torch.rand(2, 3, 64, 64) - 0.5, torch.tensor([30.0, 90.0])
    output = stage.model(x, quality)
    beside = stage.beside(output, quality)
    assert beside.shape == (2,)
    assert bool((beside > 0).all())
    stage.model.zero_grad()
    beside.sum().backward()
    graded = {name for name, p in stage.model.named_parameters() if p.grad is not None}
    assert graded
    assert all(name.startswith("g_a.") for name in graded)
    silent = EncoderAlone(recipe.model_copy(update={"identity": 0.0}), Clock(1))
    assert silent.beside(output, quality).tolist() == [0.0, 0.0]


def test_a_decoder_of_other_layers_is_refused(recipe, model, tmp_path):
    small = PhotoModel(model.config.model_copy(update={"decoder_blocks": (1, 2)}))
    small.g_a.load_state_dict(model.g_a.state_dict())
    save_decoder(decoder_of(small, {}), tmp_path / "other.pt")
    stage = EncoderAlone(recipe.model_copy(update={"decoder": tmp_path / "other.pt"}), Clock(1))
    with pytest.raises(BadParameter, match="has other layers than g_s"):
        stage.started()


@pytest.mark.parametrize("field", ["identity: 2.0", "decoder: a.pt"])
def test_a_decoder_is_for_an_encoder(field, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text((RECIPES / "tiny.yaml").read_text("utf-8") + f"{field}\n", "utf-8")
    with pytest.raises(BadParameter, match="decoder and identity need train: encoder"):
        load_recipe(path)


def test_the_shipped_recipe_of_h_a():
    made = load_recipe(RECIPES / "photo-hyper.yaml")
    assert made.train == "hyper"
    assert made.lmbda == load_recipe(RECIPES / "photo-eye.yaml").lmbda


def test_the_shipped_recipe():
    made = load_recipe(RECIPES / "photo-encoder.yaml")
    assert made.train == "encoder"
    assert made.distortion == load_recipe(RECIPES / "photo-eye.yaml").distortion

"""Weights that are given another meaning of quality, with the decoders that belong to them."""

import copy

import pytest
import torch
import yaml

from trellic.errors import BadParameter
from trellic_export import rescale
from trellic_export.family import decoder_of, model_digest
from trellic_training.models.decoder_weights import load_decoder, save_decoder
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import load_weights, save_weights

OLD, NEW = [0.001, 0.1], [0.001, 0.01, 0.1, 1.0]


@pytest.fixture
def kept(model, tmp_path):
    """A model that sees the quality, its second stage, and a decoder, as files."""
    torch.manual_seed(2)
    seeing = PhotoModel(model.config.model_copy(update={"modulated": True}))
    with torch.no_grad():
        for name, parameter in seeing.named_parameters():
            if "modulation" in name:
                parameter.copy_(torch.arange(9.0)[:, None].expand_as(parameter) / 8)
    tuned = copy.deepcopy(seeing)
    facts = {"recipe": {"lmbda": OLD}, "steps": 3}
    save_weights(seeing, facts, tmp_path / "first.pt")
    save_weights(tuned, facts | {"finetuning": {"recipe": {"lmbda": OLD}}}, tmp_path / "tuned.pt")
    save_decoder(decoder_of(*load_weights(tmp_path / "first.pt")), tmp_path / "fast.pt")
    recipe = {"name": "other", "lmbda": NEW, "phases": [{"until": 1.0, "crop": 256, "batch": 2}]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def run(folder, *names):
    paths = [str(folder / name) for name in names]
    return rescale.main([str(folder / "other.yaml"), str(folder / "out"), *paths])


@pytest.mark.slow("makes and rescales models")
def test_each_lmbda_stays_what_it_was_and_all_belong_together(kept):
    assert run(kept, "first.pt", "tuned.pt", "fast.pt") == 0
    first, facts = load_weights(kept / "out" / "first.pt")
    assert facts["recipe"]["lmbda"] == NEW
    assert facts["rescaled_from"]["file"] == "first.pt"
    assert facts["rescaled_from"]["lmbda"] == OLD
    _, tuned = load_weights(kept / "out" / "tuned.pt")
    assert tuned["finetuning"]["recipe"]["lmbda"] == NEW
    decoder = load_decoder(kept / "out" / "fast.pt")
    assert decoder.encoder == model_digest(first)
    for network in (first, decoder.network):
        tables = [v for name, v in network.named_parameters() if "modulation" in name]
        assert tables
        for table in tables:  # three times the old range: lines of three times the slope
            wanted = 1.5 * torch.arange(9.0)[:, None] / 8
            torch.testing.assert_close(table.float(), wanted.expand_as(table), rtol=1e-2, atol=0.01)


@pytest.mark.slow("makes and rescales models")
def test_what_does_not_belong_is_refused(kept, capsys):
    assert run(kept, "fast.pt") == 1
    other, facts = load_weights(kept / "first.pt")
    with torch.no_grad():
        next(other.g_a.parameters()).add_(1.0)
    save_weights(other, facts, kept / "other.pt")
    assert run(kept, "first.pt", "other.pt") == 1
    assert "has another encoder" in capsys.readouterr().err
    assert run(kept, "other.pt", "fast.pt") == 1
    assert "is for another encoder" in capsys.readouterr().err
    save_weights(other, {}, kept / "bare.pt")
    with pytest.raises(BadParameter, match="do not say the lmbda"):
        rescale.rescale(NEW, [kept / "bare.pt"], kept / "out")

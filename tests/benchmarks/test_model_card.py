"""Cards of models say what their bundles say."""

from pathlib import Path

import pytest
from benchmarks.model_card import _stage, card, main

from trellic.model.bundle import Bundle, find

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"


@pytest.mark.parametrize("model", ["photo", "cifar", str(TINY)])
def test_a_card_says_what_the_bundle_says(model, capsys):
    manifest = Bundle(find(model)).manifest
    assert main([model]) == 0
    text = capsys.readouterr().out
    assert text == card(model) + "\n"
    assert f"| stream id | `{manifest.stream_id}` |" in text
    for name, info in manifest.decoders.items():
        assert f"| `{name}` | {info.graph.kmac_per_pixel:.1f} | {info.purpose} |" in text
    if steps := manifest.training.get("steps"):
        assert f"{steps:,} steps" in text


def test_a_stage_names_its_start():
    facts = {
        "recipe": {"name": "x", "seed": 3},
        "steps": 1200,
        "minutes": 41.6,
        "started_from": {"file": "a.pt", "sha256": "0123456789abcdef"},
    }
    assert _stage(facts) == "recipe `x`, seed 3, 1,200 steps, 42 minutes, from `a.pt` (01234567)"
    assert _stage({}) == "not recorded"


def test_a_card_names_the_recipe_that_was_recorded_and_what_was_another():
    recorded = Bundle(find("photo")).manifest.training
    fast, first = recorded["decoders"]["fast"], recorded
    assert "name" not in fast["recipe"]
    assert _stage(fast, "fast").startswith("recipe `decoders-eye`, seed 1")
    assert _stage(fast, "preview").startswith("seed 1")
    other = fast | {"recipe": fast["recipe"] | {"distill": 0.25}}
    assert _stage(other, "fast").startswith("seed 1")
    assert _stage(first).startswith("recipe `photo-eye` with decay_from 0.35, seed 1")
    assert _stage(first).endswith("then moved by `python -m trellic_export.rescale`")
    phases = first["recipe"] | {"phases": [], "decay_from": 0.7}
    assert _stage(first | {"recipe": phases}).startswith("recipe `photo-eye` with other phases,")
    noted = {"minutes": 3, "runs": "two of them"}
    assert _stage(noted) == "3 minutes (two of them)"

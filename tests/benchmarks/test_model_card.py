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

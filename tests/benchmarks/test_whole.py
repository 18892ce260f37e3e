"""Training all weights in place of an adapter."""

import numpy as np
import pytest
import torch
from tests.benchmarks.pages import not_stated, result
from tests.data.make_adapter import TINY
from tests.data.make_dither import scene

from benchmarks import adapter_tables, whole
from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.model.bundle import Bundle
from trellic_export.adapters.pictures import Pictures
from trellic_export.adapters.settings import Settings

SMALL = Settings(share=1.0, crop=64, batch=1, minutes=1e-9)


@pytest.fixture(scope="module")
def bundle():
    return Bundle(TINY)


def test_what_trains_is_what_the_bundle_holds(bundle, tmp_path):
    trainer = whole.WholeTrainer(bundle, SMALL)
    torch.manual_seed(3)
    network = trainer.networks["quality"]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.02)
    trainer.write(tmp_path / "changed.zip")
    changed = Bundle(tmp_path / "changed.zip")
    assert changed.manifest.stream_id == bundle.manifest.stream_id
    layout = bundle.manifest.layout
    latents = np.random.default_rng(0).standard_normal((1, layout.latents, 8, 8)).astype(np.float32)
    before, after = (
        OrtEngine(one.graph(one.manifest.decoders["quality"].graph), "cpu", 1)({"latents": latents})
        for one in (bundle, changed)
    )
    with torch.no_grad():
        found = network({"latents": torch.from_numpy(latents)}).numpy()
    assert np.abs(found - after[0]).max() < 1.5
    assert np.abs(found - before[0]).max() > 5


def test_all_weights_train(bundle):
    graph = bundle.graph(bundle.manifest.decoders["quality"].graph)
    places = whole.every(graph)
    assert {place.rank for place in places} == {0}
    trainer = whole.WholeTrainer(bundle, SMALL)
    trainer.train(Pictures([scene(80, 90)], []))
    moved = [bool(np.any(change)) for change in trainer.networks["quality"].changes().values()]
    assert len(moved) == len(places)
    assert all(moved)


def test_the_checking_pictures_choose_the_learning_rate(bundle, tmp_path, monkeypatch):
    gains = iter((-1.0, -2.0, 3.0))
    monkeypatch.setattr(whole, "checked", lambda *_: next(gains))
    pictures = Pictures([scene(80, 90)], [scene(64, 64)])
    best, tried = whole.best(bundle, pictures, SMALL, tmp_path, (1e-5, 2e-5, 3e-5))
    assert best.facts["learning_rate"] == 2e-5
    assert [one["checked"] for one in tried] == [-1, -2, 3]
    assert Codec(best.path, "cpu", 1).decode(Codec(str(TINY), "cpu", 1).encode(scene(64, 64))).any()


def test_a_pair_is_drawn_in_two_rows():
    points = [{"bytes": 100 * q, "ssimulacra2": q, "psnr": 30 + q / 10} for q in (20, 50, 80)]
    fewer = [point | {"bytes": 0.9 * point["bytes"]} for point in points]
    picture = {"name": "a", "plain": points, "adapted": fewer}
    row = {"steps": 300, "minutes": 5.0, "pictures": [picture, picture]}
    drawn = adapter_tables.paired({"pairs": {"aerial_mixed": [{"adapter": row, "whole": row}]}})
    assert "| aerial | an adapter | 5 | 300 | 2 | -10.0 % (-10.0 to -10.0) |" in drawn
    assert "| aerial | all weights | 5 | 300 | 2 | -10.0 % (-10.0 to -10.0) |" in drawn


def test_the_page_says_what_came_out():
    (blood,) = result("domains")["pairs"]["medical_bccd"]
    shares = [
        100
        * np.mean(adapter_tables.rates([blood["adapter"]], "adapted", measure))
        / np.mean(adapter_tables.rates([blood["whole"]], "adapted", measure))
        for measure in ("ssimulacra2", "psnr")
    ]
    assert [one["learning_rate"] for one in blood["whole"]["tried"]] == [3e-5, 1e-4]
    assert blood["whole"]["learning_rate"] == 1e-4
    facts = [
        f"gives {shares[0]:.0f} % of what training everything gives by SSIMULACRA 2, and"
        f" {shares[1]:.0f} % by PSNR",
    ]
    assert not_stated("docs/domains.md", facts) == []

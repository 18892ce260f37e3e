"""Choices among adapters: clusters, slices, and what curves with known rates come to."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.benchmarks.pages import not_stated, result
from tests.data.make_adapter import ADAPTER, TINY
from tests.data.make_dither import scene

from benchmarks import choice, choice_clusters, choice_measure, choice_tables
from trellic.codec import Codec
from trellic.model import adapters
from trellic.model.bundle import Bundle
from trellic_export.adapters import training
from trellic_training.data.photos import is_validation


def curve(factor=1.0, gained=0.0):
    return [
        {
            "quality": q,
            "bytes": factor * 1000 * 2 ** (q / 20),
            "ssimulacra2": q + gained,
            "psnr": 30 + q / 10 + gained,
        }
        for q in (20, 40, 60, 80)
    ]


def record():
    better = {"slices": 2, "curves": [curve(), curve(0.9), curve(1.1)], "by_slice": curve(0.8)}
    worse = {"slices": 1, "curves": [curve(), curve(1.2), curve(1.1)]}
    row = {"photos": 1234, "sources": {"a": 1000, "b": 234}, "steps": 567}
    sets = {"validation photos": [better, worse], "aerial_mixed": [worse]}
    return {"clusters": [row, row], "sets": sets}


# ---- clusters ----


def test_clusters_are_found_the_largest_first():
    rng = np.random.default_rng(0)
    apart = [np.full((count, 4), place) for count, place in ((5, -9.0), (20, 0.0), (10, 9.0))]
    rows = np.concatenate(apart)
    own = choice_clusters.k_means(rows + rng.normal(0, 0.1, rows.shape), 3, seed=1)
    assert own.tolist() == [2] * 5 + [0] * 20 + [1] * 10


def test_features_are_normalized():
    bundle = Bundle(TINY)
    held = [choice_clusters.Photo("a", np.roll(scene(200, 210), 31 * i, 1)) for i in range(4)]
    found = choice_clusters.features(bundle, held)
    assert found.shape == (4, bundle.manifest.layout.latents)
    assert np.abs(found.mean(0)).max() < 1e-9


def test_validation_photos_are_never_trained_on(tmp_path):
    for i in range(60):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
    training_paths = choice_clusters.paths_of(tmp_path, validation=False)
    others = choice_clusters.paths_of(tmp_path, validation=True)
    assert others
    assert not set(training_paths) & set(others)
    assert len(training_paths) + len(others) == 60
    assert all(is_validation(path.name) for path in others)


# ---- choices ----


def test_slices_of_512_pixels_leave_no_thin_strip():
    assert choice_measure.slice_side(1024, 1024) == 32
    assert choice_measure.slice_side(960, 540) == 36
    assert choice_measure.slice_side(200, 200) == 32


def test_prices_are_slopes():
    sizes = np.array([1.0, 2, 4, 8])
    assert choice_measure.prices(sizes, 1 / sizes) == pytest.approx(sizes**2)


def test_slices_are_told_apart():
    codec = Codec(str(TINY), "cpu", 1)
    pixels = scene(600, 1100)
    with choice_measure.small_slices():
        found, parts = choice_measure.coded(codec, pixels, 60)
    assert len(parts) == len(found.slices) > 1
    assert 0 < found.slices.sum() < found.size
    whole = np.square(found.shown.astype(float) - pixels).sum()
    assert found.errors.sum() == pytest.approx(whole)


def test_a_choice_per_slice_is_no_worse_by_its_own_cost():
    bundle = Bundle(TINY)
    adapter = adapters.read(ADAPTER)
    codecs = [Codec(bundle.path, "cpu", 1), Codec(bundle.path, "cpu", 1, adapter=adapter)]
    row = choice_measure.measured(codecs, scene(600, 1100))
    assert len(row["curves"]) == 2
    assert [len(chosen) for chosen in row["chosen"]] == [row["slices"]] * 3
    again = choice_measure.measured([codecs[0]] * 2, scene(64, 64))
    assert again["curves"][0] == again["curves"][1]
    assert again["slices"] == 1
    assert "by_slice" not in again


@pytest.mark.parametrize("measure", choice_measure.MEASURES)
def test_the_best_is_chosen(measure):
    found = choice_tables.rates(record()["sets"]["validation photos"][0], measure)
    assert found["1"] == found["best"] == found["cost"] == pytest.approx(-10)
    assert found["2"] == pytest.approx(10)
    assert found["slices"] == pytest.approx(-20)
    worse = choice_tables.rates(record()["sets"]["aerial_mixed"][0], measure)
    assert worse["best"] == worse["cost"] == 0


def test_tables_say_what_choices_save():
    drawn = choice_tables.markdown(record())
    assert "| validation photos | 2 | SSIMULACRA 2 | +5.00 %" in drawn
    assert "| aerial | 1 | PSNR | +20.00 %" in drawn
    assert "| validation photos | 1 | 2.0 | PSNR | -10.00 %" in choice_tables.slices(record())
    assert "aerial" not in choice_tables.slices(record())
    assert "| 1 | 1,234 | a (1000), b (234) | 567 |" in choice_tables.clusters(record())


# ---- the run ----


def test_a_run_trains_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "CLUSTERS", 2)
    small = {"share": 1.0, "crop": 64, "batch": 1}
    monkeypatch.setattr(choice, "Settings", lambda **own: training.Settings(**own, **small))
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    for i in range(6):
        Image.fromarray(np.roll(scene(200, 210), i * 31, 1)).save(folder / f"{i}.png")
    rows = choice.train(Bundle(TINY), folder.parent, tmp_path / "made", 1e-9)
    assert sum(row["photos"] for row in rows) == len(
        choice_clusters.paths_of(folder, validation=False)
    )
    assert adapters.read(tmp_path / "made" / "1.tla").name == "cluster-2"
    again = choice.train(Bundle(TINY), Path("nowhere"), tmp_path / "made", 1e-9)
    assert again == json.loads(json.dumps(rows))


def test_pictures_are_evenly_spaced():
    paths = [Path(str(i)) for i in range(9)]
    assert choice.spread(paths, 3) == [paths[0], paths[4], paths[8]]
    assert choice.spread(paths, 20) == paths


def test_sets_are_tested_in_turn():
    sets = {"a": [Path(str(i)) for i in range(4)], "b": [Path("x"), Path("y")]}
    names = [name for name, _ in choice.in_turn(sets)]
    assert names == ["a", "a", "b", "a", "a", "b"]


def mean(name, measure, key, several=False):
    pictures = result("choice")["sets"][name]
    chosen = [one for one in pictures if one["slices"] > 1 or not several]
    return np.mean([choice_tables.rates(one, measure)[key] for one in chosen])


def span(values):
    few, many = (f"{value:.1f}" for value in values)
    return f"{few} %" if few == many else f"{few} to {many} %"


def test_the_page_says_what_came_out():
    photos, games, screens = "validation photos", "game3d_godot", "screen-content"
    best, cost = (
        [-mean(photos, measure, key) for measure in choice_measure.MEASURES]
        for key in ("best", "cost")
    )
    more = [
        mean(name, "psnr", "cost", several=True) - mean(name, "psnr", "slices", several=True)
        for name in (photos, games, screens)
    ]
    steps = [row["steps"] for row in result("choice")["clusters"]]
    of_games, of_screens = (
        [
            -mean(name, measure, key)
            for measure in choice_measure.MEASURES
            for key in ("best", "cost")
        ]
        for name in (games, screens)
    )
    facts = [
        f"saves {best[0]:.2f} % by SSIMULACRA 2 and {best[1]:.2f} % by PSNR",
        f"A choice by cost saves {cost[0]:.2f} % and {cost[1]:.2f} %",
        f"saves {more[0]:.2f} % more on photos than one for the picture, {more[1]:.2f} % more on"
        f" games, and {more[2]:.2f} % more on screens",
        f"{min(steps):,} to {max(steps):,} steps",
        f"On games it saves {span(of_games[:2])} by SSIMULACRA 2",
        f"on screens {span(of_screens[:2])} and {span(of_screens[2:])}",
    ]
    assert not_stated("docs/experiments/choice.md", facts) == []

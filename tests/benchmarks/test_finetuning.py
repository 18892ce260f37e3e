"""The control of fine-tuning: every arm trained and measured, small; chunks; intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.bootstrap import mean_interval, two_way_interval
from benchmarks.finetuning import __main__ as command
from benchmarks.finetuning import arms
from benchmarks.finetuning.arms import ARMS, Setting, advance, share_of
from benchmarks.finetuning.evaluate import (
    Coder,
    always,
    encoder_digest,
    evaluate,
    kept_in,
    whole_cells,
)
from benchmarks.finetuning.report import markdown, plateau, rates, summary
from PIL import Image

from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.photo import PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.models.weights import load_weights, save_weights
from trellic_training.pixels import to_network
from trellic_training.quantization.symbols import Collector
from trellic_training.recipes import codec
from trellic_training.recipes.codec import load_recipe

RECIPES = Path(codec.__file__).parent
SETTING = Setting(steps=4, crop=64, batch=2, lmbda=(0.0006, 0.2), fit_crops=3)


def wave(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 192
    planes = [
        128 + sum(30 * np.sin(rng.uniform(-25, 25) * x + rng.uniform(-25, 25) * y) for _ in "abcd")
        for _ in range(3)
    ]
    noisy = np.stack(planes, 2) + rng.normal(0, 4, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Photos to train on, two to measure, and first-stage weights."""
    folder = tmp_path_factory.mktemp("world")
    for part, count, size in (("photos", 4, (192, 192)), ("test", 2, (130, 200))):
        (folder / part).mkdir()
        for i in range(count):
            Image.fromarray(wave(i + 10 * count, *size)).save(folder / part / f"{i}.png")
    pack(folder / "photos", folder / "packed")
    torch.manual_seed(1)
    recipe = load_recipe(RECIPES / "tiny.yaml")
    model = PhotoModel(recipe.model)
    crops = PackedPhotos(folder / "packed").crops(np.random.default_rng(1), 100, 64)
    start_from_components(model, to_network(crops))
    save_weights(model, {"recipe": recipe.model_dump(mode="json")}, folder / "first.pt")
    return folder


def arguments(world: Path, out: Path, *more: str) -> list[str]:
    given = {
        "--weights": world / "first.pt",
        "--photos": world / "packed",
        "--images": world / "test",
        "--work": out / "work",
        "--out": out / "result.json",
        "--steps": 3,
        "--crop": 64,
        "--batch": 2,
        "--fit-crops": 3,
        "--quality": "10,40,70",
    }
    return [*(str(part) for pair in given.items() for part in pair), *more]


@pytest.mark.long
@pytest.mark.slow("five arms are trained and measured in real bytes")
def test_all_arms_are_trained_measured_and_compared(world, tmp_path, capsys):
    told = arguments(world, tmp_path, "--quantizers", "round,8")
    assert command.main([*told, "--seeds", "1"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    rows = {(row["arm"], row["quantizer"]): row for row in result["rows"]}
    assert set(rows) == {(arm, name) for arm in ARMS for name in ("round", "8")}
    for row in rows.values():
        assert row["interval"][0] <= row["percent"] <= row["interval"][1]
    assert rows["proxy-decoder", "8"]["over_proxy"]["percent"] == 0
    printed = capsys.readouterr().out
    for arm in ARMS.values():
        assert f"| {arm.what} |" in printed
    assert "More of the first stage gains" in printed
    # arms that leave the encoder alone spend the same bytes; the others do not
    runs = result["runs"]
    bytes_of = {
        unit: [point[0] for points in runs[unit]["test"]["8"].values() for point in points]
        for unit in runs
    }
    for name, arm in ARMS.items():
        assert (bytes_of[f"{name}-1"] == bytes_of["start"]) == (arm.trains == "g_s"), name
        assert runs[f"{name}-1"]["test"]["8"] != runs["start"]["test"]["8"], name  # trained
    # nothing is done again, and another seed is another run
    assert command.main([*told, "--seeds", "1", "--minutes", "0"]) == 0
    assert command.main([*told, "--seeds", "1,2", "--arms", "round"]) == 0
    again = json.loads((tmp_path / "result.json").read_text())
    assert {name: again["runs"][name] for name in runs} == runs
    seeds = [again["runs"][name]["test"]["8"] for name in ("round-1", "round-2")]
    assert seeds[0] != seeds[1]
    assert again["seeds"] == [1, 2]


@pytest.mark.long
@pytest.mark.slow("trains twice")
def test_it_goes_on_in_chunks(world, tmp_path, capsys):
    few = ("--arms", "round", "--seeds", "1", "--quantizers", "round")
    assert command.main(arguments(world, tmp_path, *few, "--minutes", "0")) == 3
    assert "run the same command again" in capsys.readouterr().out
    assert json.loads((tmp_path / "result.json").read_text())["rows"] == []
    assert command.main(arguments(world, tmp_path, *few)) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["round"]
    with pytest.raises(SystemExit, match="of another setting; name a new file by --out"):
        command.main(arguments(world, tmp_path, *few, "--limit", "1"))


@pytest.mark.long
@pytest.mark.slow("each arm is trained twice, whole and in parts")
@pytest.mark.parametrize("name", ["proxy", "proxy-decoder", "round"])
def test_an_arm_goes_on_where_the_time_ended(name, world, tmp_path):
    where = world / "first.pt", world / "packed", tmp_path
    shares = []
    for _ in range(SETTING.steps - 1):  # a deadline that is over: one step a call
        assert advance(ARMS[name], 1, SETTING, *where, 0.0) is None
        shares.append(share_of(tmp_path / "last.ckpt"))
    assert shares == [0.25, 0.5, 0.75]
    model = advance(ARMS[name], 1, SETTING, *where, 0.0)
    assert share_of(tmp_path / "last.ckpt") == 1
    before = load_weights(world / "first.pt")[0].state_dict()
    moved = {n.partition(".")[0] for n, v in model.state_dict().items() if (v != before[n]).any()}
    assert moved == {"g_s"} if name != "proxy" else {"g_s", "g_a", "h_s"} <= moved


@pytest.mark.slow("a model is exported and writes files")
def test_what_is_measured_is_what_files_hold(world):
    model = load_weights(world / "first.pt")[0].float().eval()
    crops = PackedPhotos(world / "packed").crops(np.random.default_rng(0), 3, 64)
    pixels = whole_cells(wave(3, 150, 200), 64)
    assert pixels.shape == (128, 192, 3)
    found = {}
    for name in ("round", "0", "8"):
        coder = Coder(model, name, crops)
        found[name] = evaluate(coder, {"a": pixels}, (10.0, 40.0, 80.0), always)["a"]
        rate, psnr = np.array(found[name]).T
        assert (np.diff(rate) > 0).all()
        assert (np.diff(psnr) > 0).all()
        size, v32 = coder.code(pixels, 40.0)
        assert found[name][1][0] == pytest.approx(8 * size / (128 * 192), rel=1e-4)
        error = coder.picture(v32, 40.0).astype(float) - pixels
        assert found[name][1][1] == pytest.approx(
            10 * np.log10(255**2 / np.square(error).mean()), abs=1e-3
        )
    assert found["8"][1] != found["round"][1] != found["0"][1]


@pytest.mark.slow("tables are fitted on latents of photos")
@pytest.mark.parametrize("name", ["round", "0", "8"])
def test_tables_are_fitted_to_the_quantizer(name, world, monkeypatch):
    model = load_weights(world / "first.pt")[0].float().eval()
    crops = PackedPhotos(world / "packed").crops(np.random.default_rng(0), 12, 64)
    pixels = whole_cells(wave(3, 150, 200), 64)
    fitted = Coder(model, name, crops).code(pixels, 70.0)[0]
    monkeypatch.setattr(Collector, "refit", lambda self, tables, prior: tables)
    assert fitted < Coder(model, name, crops).code(pixels, 70.0)[0]


def test_each_arm_has_its_own_quantizer_in_the_loop(world, tmp_path, monkeypatch):
    recipes = {}
    for way in ("finetune", "train"):
        monkeypatch.setattr(
            arms, way, lambda recipe, *a, **more: recipes.update({current: (recipe, more)})
        )
    for current, arm in ARMS.items():
        where = world / "first.pt", world / "packed", tmp_path
        assert advance(arm, 7, SETTING, *where, 0.0) is None
        recipe, _ = recipes[current]
        assert recipe.seed == 7
        assert recipe.learning_rate == 2e-4
        assert recipe.lmbda == SETTING.lmbda
        if arm.loop is not None:
            assert recipe.quantizers == (arm.loop,)
            assert recipe.identity == 0
            assert [(p.train, p.reuse) for p in recipe.phases] == [(arm.trains, 1)]
    loops = [arm.loop for arm in ARMS.values()]
    assert loops == [None, None, "round", 0, 8, 32, 8]
    assert recipes["proxy-decoder"][1]["stage"] is arms.ReusedEncoder
    assert recipes["proxy"][1]["resume"] == world / "first.pt"


def test_latents_are_kept_and_read_again(tmp_path):
    kept = kept_in(tmp_path / "a")
    v32 = np.arange(6, dtype=np.int16).reshape(1, 2, 3)
    assert kept("x", lambda: (7, v32))[0] == 7
    size, again = kept("x", lambda: pytest.fail("made again"))
    assert size == 7
    assert np.array_equal(again, v32)


def test_the_digest_is_of_all_but_the_decoder(world):
    model = load_weights(world / "first.pt")[0]
    before = encoder_digest(model)
    with torch.no_grad():
        next(model.g_s.parameters()).add_(1)
    assert encoder_digest(model) == before
    with torch.no_grad():
        next(model.h_s.parameters()).add_(1)
    assert encoder_digest(model) != before


# ---- report ----


def runs_with(change: float) -> dict:
    """A start, and two seeds of two arms with so many dB more."""
    rng = np.random.default_rng(0)

    def points(gain: float) -> dict:
        return {
            f"{i}": [[0.1 * 2**k, 25 + i + 3 * k + gain + 0.01 * rng.normal()] for k in range(5)]
            for i in range(4)
        }

    runs = {"start": {"k": {"round": points(0.0)}}}
    for seed in (1, 2):
        runs[f"proxy-{seed}"] = {"k": {"round": points(change)}}
        runs[f"proxy-decoder-{seed}"] = {"k": {"round": points(change / 2)}}
        runs[f"round-{seed}"] = {"k": {"round": points(change)}}
    return runs


def test_gains_are_fewer_bits_and_the_control_is_taken_off():
    rows = summary(runs_with(0.3), (1, 2), ["k"], ["round"])
    by_arm = {row["arm"]: row for row in rows}
    # 3 dB are a factor of 2 in rate
    assert by_arm["round"]["percent"] == pytest.approx(100 * (2**-0.1 - 1), abs=0.5)
    assert by_arm["round"]["decibels"] == pytest.approx(0.3, abs=0.02)
    assert by_arm["round"]["over_proxy"]["percent"] == pytest.approx(-3.4, abs=0.5)
    assert "| rounding in the loop | -6." in markdown(rows, ["round"])
    assert rates(runs_with(0.3), "round", (1, 2, 3), "k", "round") is None


def test_each_metric_has_rows_of_its_own():
    def points(first: float, second: float) -> dict:
        return {
            f"{i}": [[0.1 * 2**k, 25 + i + 3 * k + first, 40 + 3 * k + second] for k in range(5)]
            for i in range(3)
        }

    runs = {
        "start": {"k": {"8": points(0.0, 0.0)}},
        "trellis-8-1": {"k": {"8": points(0.3, -0.3)}},
    }
    rows = summary(runs, (1,), ["k"], ["8"], ("psnr", "ssimulacra2"))
    found = {row["metric"]: row for row in rows}
    assert found["psnr"]["percent"] == pytest.approx(100 * (2**-0.1 - 1), abs=0.1)
    assert found["ssimulacra2"]["percent"] == pytest.approx(100 * (2**0.1 - 1), abs=0.1)
    assert "decibels" in found["psnr"]
    assert "decibels" not in found["ssimulacra2"]
    assert "k, ssimulacra2: decoded by" in markdown(rows, ["8"])


@pytest.mark.parametrize(("change", "verdict"), [(0.3, "no plateau"), (0.0, "is a plateau")])
def test_a_start_that_more_training_improves_is_no_plateau(change, verdict):
    assert verdict in plateau(summary(runs_with(change), (1, 2), ["k"], ["round"]))
    assert "is not known" in plateau([])


def test_intervals_over_runs_and_pictures():
    rng = np.random.default_rng(3)
    pictures = rng.normal(0, 1, (1, 30))
    alone = two_way_interval(pictures)
    assert alone == pytest.approx(mean_interval(pictures[0].tolist()), abs=0.05)
    apart = two_way_interval(pictures + np.array([[-3.0], [0.0], [3.0]]))
    assert apart[1] - apart[0] > 2 * (alone[1] - alone[0])
    assert two_way_interval(np.ones((3, 1))) is None

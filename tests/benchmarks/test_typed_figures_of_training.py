"""Figures of training in the text of docs are those of JSON, of csv, of recipes and of bundles."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest
import yaml
from benchmarks.curve_tables import MEASURES, change, curve
from benchmarks.tuning_tables import runs
from tests.benchmarks.pages import name_of, not_stated, result

from benchmarks import readme
from trellic.model.bundle import Bundle, find
from trellic_export.bundle import Options


def training_of(model: str) -> dict[str, Any]:
    return Bundle(find(model)).manifest.training


# ---- fine-tuning ----


def gains_of_fine_tuning() -> list[str]:
    found = result("quantizers-aerial_mixed")
    rows = {row["quantizer"]: row for row in found["bd_rates"]}
    few, many = rows["8"], rows["128"]
    gain, whole = (
        [f"{row[kind]['percent']:.1f}" for row in (few, many)] for kind in ("gain", "after")
    )
    return [
        f"A second set has {len(found['images'])} aerial pictures",
        f"{gain[0]} with 8 states and {gain[1]} with 128. In all, it was {whole[0]} and {whole[1]}",
    ]


def results_of_the_control() -> list[str]:
    found = result("finetuning")
    whole = [r["decibels"] for r in found["rows"] if r["arm"] == "proxy" and "decibels" in r]
    rounded = [
        r["decibels"]
        for r in found["rows"]
        if (r["metric"], r["arm"], r["quantizer"]) == ("psnr", "proxy", "round")
    ]
    assert max(whole) < 0.02
    cells = {
        (r["metric"], r["arm"], r["folder"]): r["percent"]
        for r in found["rows"]
        if r["quantizer"] == "8"
    }
    control, eight, plain, paper = (
        {metric: [cells[metric, arm, folder] for folder in found["images"]]
         for metric in found["metrics"]}
        for arm in ("proxy-decoder", "trellis-8", "round", "trellis-8-entropy")
    )  # fmt: skip
    seen, squared = eight["ssimulacra2"], eight["psnr"]
    less = sorted(p - e for p, e in zip(plain["psnr"], squared, strict=True))
    behind = {m: sorted(p - e for p, e in zip(paper[m], eight[m], strict=True)) for m in paper}
    return [
        f"with the stand-in gains {np.mean(rounded):.2f} dB.",
        f"The control gains {-np.mean(control['ssimulacra2']):.1f} % by SSIMULACRA 2.",
        f"gains {-max(seen):.0f} to {-min(seen):.0f} % by SSIMULACRA 2 on latents of 8 states**,"
        f" and {-max(squared):.1f} to {-min(squared):.0f} % by PSNR",
        f"rounding in the loop gains {less[0]:.1f} to {less[1]:.1f} % less than 8 states",
        "is {:.1f} to {:.1f} % behind `trellis-8` by SSIMULACRA 2".format(*behind["ssimulacra2"]),
        f"and {np.mean(behind['psnr']):.1f} % by PSNR",
    ]


def steps_of_fine_tuning() -> list[str]:
    first = training_of("photo-psnr")["finetuning"]
    second = training_of("photo")["decoders"]["quality"]
    assert set(second["recipe"]["quantizers"]) == {8, 32, 128, 0}
    return [
        f"The run made {first['steps']:,} steps in {first['minutes']:.0f} minutes of one thread.",
        f"g_s for {second['minutes']:.0f} minutes on one core ({second['steps']:,} steps;"
        " 8, 32 and 128 states and RDOQ in the loop)",
    ]


def points_from_the_same_bytes() -> list[str]:
    codecs = runs(readme.RESULTS)
    before, after = (
        codecs[name].mean_curve("ssimulacra2").quality for name in ("first-stage", "fine-tuned")
    )
    rise = dict(zip((10, 30, 50, 70, 85, 95), after - before, strict=True))
    return [
        f"SSIMULACRA 2 rises by {rise[10]:.1f} points at quality 10, by {rise[30]:.1f} at 30, by"
        f" {rise[50]:.1f} at 50, by {rise[70]:.1f} at 70 and by {rise[95]:.1f} at 95."
    ]


def points_on_rounded_latents() -> list[str]:
    start, *_, end = curve(readme.RESULTS, "photo-tuned-curve")
    lost = {
        int(a["quality"]): a["ssimulacra2"] - b["ssimulacra2"]
        for a, b in zip(start.points, end.points, strict=True)
    }
    return [f"by {lost[5]:.1f} points at quality 5, {lost[40]:.1f} at 40 and {lost[95]:.1f} at 95"]


def price_of_exactness() -> list[str]:
    found = result("exactness_price")
    price = {one["quality"]: one["price_percent"] for one in found["qualities"]}
    assert round(price[50], 2) == round(price[70], 2)
    return [
        f"On {len(found['images'])} Kodak photos, exactness costs"
        f" **{found['mean_price_percent']:.2f} %** of the rate as a mean over qualities"
        f" ({price[10]:.2f} at quality 10, {price[50]:.2f} at 50 and 70)."
    ]


def lagrangians_that_were_kept() -> list[str]:
    made = Options("any")
    assert made.lam == {"scalar": 20, "trellis": 24}
    return [
        f"We kept {made.fit_lam['trellis']} to fit and {made.lam['trellis']} to search for the"
        f" trellis, and {made.fit_lam['scalar']} and {made.lam['scalar']} for RDOQ"
    ]


# ---- for the eye ----


def recipe_for_the_eye() -> list[str]:
    path = readme.ROOT / "training" / "trellic_training" / "recipes" / "photo-eye.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    shares = recipe["distortion"]
    text = ", ".join(f"{name}: {value}" for name, value in shares.items())
    return [
        f"distortion: {{{text}}} cutouts: {recipe['cutouts']} lmbda: {recipe['lmbda']}",
        f"| squared error | {shares['squared_error']:.2f} |",
        f"| {shares['ssimulacra2']:.2f} | structure at five scales",
        f"| MS-SSIM in dB (package `pytorch-msssim`) | {shares['ms_ssim']:.2f} |",
        f"| {shares['jod']:.2f} | contrast sensitivity and masking",
    ]


def runs_for_the_eye() -> list[str]:
    codecs, stage = runs(readme.RESULTS), training_of("photo")
    top = [codecs[name].mean_curve("ssimulacra2").quality.max() for name in ("fine-tuned", "eye")]
    *_, first = curve(readme.RESULTS, "photo-eye-curve")
    *_, second = curve(readme.RESULTS, "photo-eye-curve-2")
    assert (second.step, round(second.minutes)) == (stage["steps"], round(stage["minutes"]))
    return [
        f"({top[0]:.1f} points, while the first ended at {top[1]:.1f})",
        f"Then it made {first.step:,} steps of `photo-eye`",
        f"trained for another {second.step:,} steps in {second.minutes:.0f} minutes on one core",
    ]


def third_run_for_the_eye() -> list[str]:
    start, *later = curve(readme.RESULTS, "photo-eye-curve-3")
    end = later[-1]
    found = {name: change(end.points, start.points, name) for name in MEASURES}
    cost = max(change(step.points, start.points, "ssimulacra2") for step in later)
    return [
        f"another {end.minutes:.0f} minutes on one core ({end.step:,} steps",
        f"is {found['ssimulacra2']:.1f} % by SSIMULACRA 2, {found['jod']:.1f} % by CVVDP,"
        f" {found['ms_ssim']:+.1f} % by MS-SSIM and {found['psnr']:+.1f} % by PSNR",
        f"The full learning rate cost {cost:.0f} % at once",
    ]


def stage_at_a_32nd() -> list[str]:
    *_, end = curve(readme.RESULTS, "coarse-stage-curve")
    return [
        f"for {end.minutes:.0f} minutes on one core ({end.step:,} steps, recipe `photo-eye`",
        f"**no gain after {end.minutes:.0f} minutes of training**",
    ]


def lessons_of_the_learning_curve() -> list[str]:
    found = result("learning-curve-photo")
    rate = {int(minutes): percent for minutes, percent in found["bd_rate_percent"].items()}
    return [
        f"gained {rate[202] - rate[241]:.1f} points in {241 - 202} minutes at the full learning"
        f" rate, and {rate[241] - rate[298]:.1f} more in {298 - 241} minutes",
        f"({-found['gain_of_doubling_percent']:.0f} points for twice the time)",
    ]


# ---- decoders, and the model for small pictures ----


def gains_of_perceptual() -> list[str]:
    kodak, aerial = (result(f"decoders-{name}") for name in ("kodak", "aerial_mixed"))
    small = sum((one["width"], one["height"]) == (256, 256) for one in aerial["images"])
    both = [one for run in (kodak, aerial) for one in run["differences"]]
    of = {
        score: [
            one["mean"] for one in both if (one["decoder"], one["score"]) == ("perceptual", score)
        ]
        for score in ("ms_ssim", "vsi", "haarpsi", "ssimulacra2", "sliced_wasserstein")
    }
    assert max(np.abs(of["ms_ssim"] + of["vsi"])).round(3) == 0.001
    assert round(min(of["haarpsi"]), 3) == -0.001
    assert min(of["ssimulacra2"] + of["sliced_wasserstein"]) > 0
    time = {
        name: [one["mean"] for one in run["differences"] if one["decoder"] == "preview"]
        for name, run in (("kodak", kodak), ("aerial", aerial))
    }
    assert {round(100 * share) for share in time["aerial"]} == {15}
    low, high = (round(100 * share) for share in (min(time["kodak"]), max(time["kodak"])))
    return [
        f"Kodak has {len(kodak['images'])} photos. The set aerial_mixed has"
        f" {len(aerial['images'])} aerial pictures, {small} of them of 256x256 pixels.",
        f"`preview` takes {low} to {high} % of the time of `quality`, and on aerial_mixed 15 %.",
    ]


def cost_of_a_preview() -> list[str]:
    exact = Bundle(find("photo")).manifest.exact
    cost = {name: graph.kmac_per_pixel for name, graph in exact.items()}
    first = cost["h_s"] + cost["context_0"]
    mse = 255**2 / 10**4
    return [
        f"a preview from 48 channels take {first + cost['context_1']:.2f} kMAC per pixel. Those of"
        f" step 0 alone take {first:.2f}",
        f"at most 1/12 to the squared error, which is {10 * np.log10(1 + 1 / 12 / mse):.2f} dB at"
        " 40 dB",
    ]


def labels_of_cifar() -> list[str]:
    run = result("labels-rate")
    rows = [row for row in run["rows"] if row["codec"] == "trellic"]
    lost = [row["accuracy"]["pictures"] - row["accuracy"]["latents"] for row in rows]
    reach = 196 * np.sqrt(0.25 / run["test_pictures"])
    steps = run["steps"]
    return [
        f"by {100 * min(lost):.0f} to {100 * max(lost):.0f} points at every quality",
        f"that classifier had {steps['from_pictures']:,} steps (`class` {steps['from_latents']:,})",
        f"With {run['test_pictures']:,} pictures a 95 % interval reaches {reach:.0f} points",
    ]


def texture_of_cifar() -> list[str]:
    run = result("decoders-cifar")
    found = {(one["quality"], one["score"]): one for one in run["differences"]}
    share = {}
    for quality in (15, 40, 65):
        plain = [
            row["scores"]["sliced_wasserstein"]
            for row in run["rows"]
            if (row["quality"], row["decoder"]) == (quality, "quality")
        ]
        share[quality] = found[quality, "sliced_wasserstein"]["mean"] / np.mean(plain)
    better = [q for q in (15, 40, 65) if found[q, "ssimulacra2"]["ci95"][0] > 0]
    worse = [q for q in (15, 40, 65) if found[q, "ssimulacra2"]["ci95"][1] < 0]
    lost = max(-found[quality, "psnr"]["mean"] for quality in (15, 40, 65))
    assert (better, worse) == ([15], [])
    return [
        f"On {len(run['images'])} test pictures",
        f"by {100 * share[15]:.0f} % at quality 15 and {100 * share[65]:.0f} % at quality 65, for"
        f" at most {lost:.2f} dB of PSNR",
    ]


def gain_on_a_dozen_pictures() -> list[str]:
    with (readme.ROOT / "docs" / "experiments" / "own-pictures-curve.csv").open() as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    score = {(int(row["step"]), row["quality"]): float(row["ssimulacra2"]) for row in rows}
    last = max(step for step, _ in score)
    low, high = (score[last, quality] - score[0, quality] for quality in ("5", "95"))
    return [
        f"({last} steps), SSIMULACRA 2 rose by {low:.1f} points at quality 5 and fell by"
        f" {-high:.1f} at quality 95"
    ]


@pytest.mark.parametrize(
    ("page", "facts"),
    [
        ("docs/your-own-pictures.md", gain_on_a_dozen_pictures),
        ("docs/decoders.md", gains_of_perceptual),
        ("docs/decoders.md", cost_of_a_preview),
        ("docs/fine-tuning.md", gains_of_fine_tuning),
        ("docs/fine-tuning.md", results_of_the_control),
        ("docs/fine-tuning.md", steps_of_fine_tuning),
        ("docs/fine-tuning.md", points_from_the_same_bytes),
        ("docs/fine-tuning.md", points_on_rounded_latents),
        ("docs/fine-tuning.md", price_of_exactness),
        ("docs/model-cifar.md", labels_of_cifar),
        ("docs/model-cifar.md", texture_of_cifar),
        ("docs/experiments/coarse-stage.md", stage_at_a_32nd),
        ("docs/experiments/eye.md", recipe_for_the_eye),
        ("docs/experiments/eye.md", runs_for_the_eye),
        ("docs/experiments/eye.md", third_run_for_the_eye),
        ("docs/experiments/learning-curve.md", lessons_of_the_learning_curve),
        ("docs/experiments/rate-allocation.md", lagrangians_that_were_kept),
    ],
    ids=name_of,
)
def test_typed_figures_are_those_of_their_source(page, facts):
    assert not_stated(page, facts()) == []

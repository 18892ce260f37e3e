"""Figures of docs/training.md that follow from the counts of a training step."""

import json
from pathlib import Path

import yaml
from benchmarks.gpu_tables import step_total, train_step
from benchmarks.readme import RESULTS, ROOT
from benchmarks.train_step import RECIPES

BEFORE, BATCH_BEFORE = 4536, 16  # operators of a step of `photo`, as they were counted once
OPERATOR = 10e-6  # seconds of the host
BANDWIDTH = 3.35e12  # bytes a second of an H100


def batch(recipe: str) -> int:
    settings = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text("utf-8"))
    return int(settings["phases"][0]["batch"])


def test_estimates_follow_from_the_counts():
    rows = json.loads((RESULTS / "train-step.json").read_text("utf-8"))["parts"]
    page = " ".join((ROOT / "docs" / "training.md").read_text("utf-8").split())
    before, of_gpu = BATCH_BEFORE / (BEFORE * OPERATOR), batch("photo-eye-gpu")
    assert of_gpu == 128
    assert (
        f"{1 / (BEFORE * OPERATOR):.0f} such steps a second, which are {before:.0f} crops" in page
    )
    for recipe, times in (("photo", 10), ("photo-eye-gpu", 5)):
        operators = step_total(rows, recipe, "operators")
        crops = of_gpu / (operators * OPERATOR)
        assert crops / before > times
        own = [row for row in rows if row["recipe"] == recipe]
        moved = sum(row["bytes"] for row in own if row["part"] in ("forward", "backward"))
        assert f"{operators:,.0f} operators" in page
        assert f"{crops:,.0f} crops: {crops / before:.1f} times as many" in page
        assert f"{moved / 1e9:.2f} GB" in page
        assert f"{1e3 * of_gpu * moved / BANDWIDTH:.0f} ms" in page
        assert all(row.get("reads", 0) == 0 for row in own)


def test_the_table_names_what_asks_the_host(tmp_path: Path):
    parts = ("forward", "backward", "optimizer", "optimizer, new bases")
    rows = [
        {"recipe": "one", "part": part, "operators": 10 * (n + 1), "bytes": 5e8, "reads": n}
        for n, part in enumerate(parts)
    ]
    (tmp_path / "train-step.json").write_text(json.dumps({"parts": rows}), encoding="utf-8")
    lines = train_step(tmp_path).splitlines()
    assert lines[3] == "| backward | 20 | 1 |"
    assert lines[-2:] == [
        "| mean of ten steps | **61** |  |",
        "| GB read and written for a crop | 1.00 |  |",
    ]

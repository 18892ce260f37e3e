"""Seeds of the MNIST experiments side by side, and what a recipe of them takes."""

from __future__ import annotations

import copy
import json
from collections import Counter

import pytest
import torch
from benchmarks.universal_tables import between, cost, report_beside, spread

from benchmarks import readme, universal, universal_cost
from trellic_training.universal.digits import Digits
from trellic_training.universal.jobs import all_jobs
from trellic_training.universal.run import job_kind
from trellic_training.universal.settings import UniversalRecipe


@pytest.fixture
def one() -> dict:
    return report_beside(readme.RESULTS)


@pytest.fixture
def two(one) -> dict:
    """The recorded run as another seed might have made it; unfinished, and with a weight more."""
    other = copy.deepcopy(one)
    other["recipe"]["seed"] = 2
    tables = other["tables"]
    for row in (*tables[universal.RATES], *tables[universal.REUSE]):
        row["MSE"] += 0.001
    beyond = tables[universal.REUSE][0] | {"lambda_c": 0.5, "extra loss": None}
    tables[universal.REUSE] = [beyond, *tables[universal.REUSE]]
    tables[universal.PERCEPTION] = tables[universal.REUSED_PERCEPTION] = []
    return other


def named(result: dict, *key: object) -> dict:
    return next(r for r in result["rows"] if (r["encoder"], r["axis"], r["weight"]) == key)


def test_rows_of_two_seeds_are_put_side_by_side(one, two):
    result = universal.compare([one, two])
    row = named(result, "end to end", "lambda_c", 0)
    assert row["seeds"] == [1, 2]
    assert row["MSE"] == pytest.approx([0.04712, 0.04812], abs=1e-5)
    assert len(row["accuracy"]) == 2
    assert "extra" not in row
    penalty = named(result, "lambda_c = 0.05", "lambda_c", 0)
    assert penalty["extra"][0] == pytest.approx(0.125, abs=5e-4)  # as docs/universal.md has it
    assert named(result, "lambda_c = 0", "lambda_c", 0.05)["extra"][0] == pytest.approx(
        0.631, abs=5e-4
    )
    assert all(row["axis"] == "lambda_c" for row in result["rows"])  # one run has no other
    assert all(row["weight"] != 0.5 for row in result["rows"])
    assert all("x" not in row["encoder"].split() for row in result["rows"])  # no other rate
    encoders = Counter(row["encoder"] for row in result["rows"])
    assert encoders["end to end"] == 5


def test_perception_is_compared_by_squared_error(one):
    other = copy.deepcopy(one)
    other["recipe"]["seed"] = 3
    row = named(universal.compare([one, other]), "lambda_p = 0.015", "lambda_p", 0.005)
    assert row["extra"] == pytest.approx([0.008, 0.008], abs=5e-4)
    assert row["sliced W"] == pytest.approx([0.0923, 0.0923], abs=5e-5)


def test_a_weight_beyond_the_range_has_no_extra(two):
    third = copy.deepcopy(two)
    third["recipe"]["seed"] = 3
    result = universal.compare([two, third])
    row = named(result, two["tables"][universal.REUSE][0]["encoder"], "lambda_c", 0.5)
    assert "extra" not in row
    assert len(row["accuracy"]) == 2


def test_what_cannot_be_compared_is_refused(one, two):
    with pytest.raises(ValueError, match="one run a seed"):
        universal.compare([one, one])
    two["epochs"] = 30.0
    with pytest.raises(ValueError, match="epochs"):
        universal.compare([one, two])


def test_the_command_writes_and_prints(one, two, tmp_path, capsys):
    for name, report in (("a", one), ("b", two)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    out = tmp_path / "universal.json"
    folders = [str(tmp_path / name) for name in "ab"]
    assert universal.main([*folders, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert spread(json.loads(out.read_text())) in printed
    assert "| end to end | lambda_c = 0 | 2 | 0.04762 (0.04712 to 0.04812) |" in printed
    assert universal.main([folders[0], folders[0], "--out", str(out)]) == 2


def test_ranges():
    assert between([0.25, 0.5, 0.75], ".0%") == "50% (25% to 75%)"
    assert between([], ".0%") == ""


RECIPE = {
    "kind": "universal",
    "name": "tiny",
    "epochs": 2,
    "batch": 8,
    "width": 0.1,
    "classifier_epochs": 1,
    "measuring_epochs": 0.5,
    "classification": {"end_to_end": [0], "encoders": [0], "universal": [0.5], "mixture": [0]},
    "perception": {"end_to_end": [0.015], "encoder": 0.015, "universal": [0]},
    "rates": {"latents": [], "end_to_end": []},
}


def test_the_cost_of_a_recipe_is_steps_times_their_time(monkeypatch):
    recipe = UniversalRecipe.model_validate(RECIPE)
    digits = Digits(torch.rand(16, 1, 28, 28), torch.arange(16) % 10)
    for part in ("_classifier", "_training"):
        monkeypatch.setattr(universal_cost, part, lambda *given: 0.5)
    monkeypatch.setattr(universal_cost, "_measuring", lambda *given: 2.0)
    found = universal_cost.cost(recipe, digits, count=80)
    rows = {row["kind"]: row for row in found["rows"]}
    kinds = Counter(job_kind(job) for job in all_jobs(recipe))
    assert set(rows) == {"classifier", "measuring critic", *kinds}
    for kind, models in kinds.items():
        assert (rows[kind]["models"], rows[kind]["steps"]) == (models, 20)
        assert rows[kind]["hours"] == pytest.approx(models * 20 * 0.5 / 3600)
    assert rows["classifier"]["steps"] == 10
    measuring = rows["measuring critic"]  # of 3x3-mse, 3x3-p0.015 and mse on its encoder
    assert (measuring["models"], measuring["steps"]) == (3, 5)
    assert found["hours"] == pytest.approx(sum(row["hours"] for row in found["rows"]))


def test_steps_are_timed(monkeypatch):
    recipe = UniversalRecipe.model_validate(RECIPE)
    digits = Digits(torch.rand(16, 1, 28, 28), torch.arange(16) % 10)
    critic = next(job for job in all_jobs(recipe) if job.adversarial)
    assert 0 < universal_cost._training(recipe, critic, digits) < 60
    assert universal_cost._measuring(recipe, critic, digits) > 0


def test_the_table_of_the_cost_adds_up():
    run = json.loads((readme.RESULTS / "universal-cost.json").read_text(encoding="utf-8"))
    assert run["hours"] == pytest.approx(sum(row["hours"] for row in run["rows"]))
    for row in run["rows"]:
        hours = row["models"] * row["steps"] * row["seconds_a_step"] / 3600
        assert row["hours"] == pytest.approx(hours)
    assert f"| all |  |  |  | {run['hours']:.0f} |" in cost(readme.RESULTS)

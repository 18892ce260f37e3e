"""The colour pictures' experiment: what is trained, how it is compared, what is not made twice."""

import json

import numpy as np
import pytest
import torch
from benchmarks.picture_labels import LabelledSet
from benchmarks.universal_colour import measure, training
from benchmarks.universal_colour.plan import (
    BUNDLE_DECODERS,
    CLASSIFIER,
    END_TO_END,
    RUNS,
    TARGETS,
    Run,
    decoder_recipe,
    recipe_of,
)
from benchmarks.universal_colour.report import against, markdown, plot, summary
from torch import nn

from benchmarks import reuse
from trellic_training.models.photo import Output, PhotoModel
from trellic_training.models.picture_classifier import TrainedClassifier, load_classifier
from trellic_training.models.weights import load_weights, save_weights
from trellic_training.stages.stage import Clock

RNG = np.random.default_rng(3)


# ---- what is trained ----


def test_each_encoder_is_trained_before_its_decoders():
    assert len({run.name for run in RUNS}) == len(RUNS)
    seen = set()
    for run in RUNS:
        assert run.encoder is None or Run(run.encoder) in seen
        seen.add(run)
    assert set(END_TO_END) <= seen
    for target in TARGETS:  # and a control on its own encoder, of as many steps
        assert Run(target, target) in seen


def test_recipes_differ_in_their_terms_alone(tmp_path):
    recipes = {run.target: recipe_of(run, tmp_path, 50) for run in END_TO_END}
    plain = [
        r.model_dump(exclude={"name", "classification", "perception"}) for r in recipes.values()
    ]
    assert all(each == plain[0] for each in plain)
    weights = {
        target: (r.classification.lambda_c, r.perception.lambda_p if r.perception else 0.0)
        for target, r in recipes.items()
    }
    assert weights == {name: (w.lambda_c, w.lambda_p) for name, w in TARGETS.items()}
    assert sorted(map(bool, sum(weights.values(), ()))) == [False] * 5 + [True] * 3
    made = [decoder_recipe(weight, tmp_path, 50) for weight in BUNDLE_DECODERS.values()]
    assert len({each.classification.lambda_c for each in made}) == len(made)
    assert made[-1].classification.lambda_c == 0
    plain = [each.model_dump(exclude={"classification"}) for each in made]
    assert all(each == plain[0] for each in plain)


def test_on_a_reused_encoder_only_the_decoder_learns(tmp_path, classifier):
    recipe = recipe_of(RUNS[0], classifier, 50)
    stage = reuse.ReusedEncoder(recipe, Clock(1))
    stage.log = lambda *_, **__: None
    stage.started()
    crops = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    stage.training_step((crops, torch.tensor([0, 1])), 0).backward()
    moved = {name.split(".")[0] for name, p in stage.model.named_parameters() if p.grad is not None}
    assert moved == {"g_s"}


def test_the_clock_counts_steps():
    clock = reuse.StepClock()
    run = Clock(50 / 60, clock)
    for _ in range(25):
        clock.on_train_batch_end()
    assert run.share() == pytest.approx(0.5)


@pytest.fixture
def classifier(tmp_path):
    """A file of a classifier of the recipe, never trained."""
    save_untrained(training.Work(tmp_path, tmp_path), CLASSIFIER)
    return tmp_path / f"{CLASSIFIER}.pt"


def save_untrained(work, name):
    recipe = training.load_classifier_recipe(training.shipped_recipe(training.Path(name)))
    network = recipe.network.make(2).eval()
    facts = {"recipe": recipe.model_dump(mode="json")}
    made = TrainedClassifier(recipe.network, network, ["a", "b"], 32, facts)
    training.save_classifier(made, work.file(name))


def test_what_is_finished_is_not_made_again(tmp_path, classifier, monkeypatch):
    made = []

    def fake(self, recipe, start, stage, out):
        made.append((recipe.name, start.name, stage))
        return PhotoModel(recipe.model), self.steps

    monkeypatch.setattr(training.Work, "_end_to_end", fake)
    monkeypatch.setattr(training, "train_classifier", None)  # the file is known, so never called
    first = tmp_path / "first.pt"
    save_weights(PhotoModel(recipe_of(RUNS[0], classifier, 1).model), {"recipe": {}}, first)
    work = training.Work(tmp_path, tmp_path, first, steps=2)
    run = Run("squared error", "classification")
    path = work.model(run)
    assert load_weights(path)[1]["steps"] == 2
    assert made == [
        ("classification", "first.pt", reuse.EndToEnd),
        (run.name, "classification.pt", reuse.ReusedEncoder),
    ]
    assert work.model(run) == path
    assert len(made) == 2
    training.Work(tmp_path, tmp_path, first, steps=3).model(run)
    assert len(made) == 4
    assert not [each for each in tmp_path.iterdir() if each.is_dir()]


def test_a_classifier_of_another_recipe_is_trained_again(tmp_path, classifier, monkeypatch):
    known = load_classifier(classifier)
    work = training.Work(tmp_path, tmp_path)
    known.facts["recipe"]["steps"] += 1
    training.save_classifier(known, classifier)
    calls = []

    def fake(recipe, photos):
        known.facts["recipe"] = recipe.model_dump(mode="json")
        calls.append(photos)
        return known

    monkeypatch.setattr(training, "train_classifier", fake)
    assert work.classifier(CLASSIFIER) == work.classifier(CLASSIFIER) == classifier
    assert calls == [tmp_path]


# ---- how it is measured ----


class Model(nn.Module):
    """Spends quality / 10 bits a pixel, and errs by one level."""

    def forward(self, x, quality):
        bits = quality / 10 * x[0, 0].numel()
        return Output(x + 1 / 255, x, bits * 0.9, bits * 0.1)


class Warm(nn.Module):
    """Says 1 for pictures that are more red than blue."""

    def forward(self, x):
        red = (x[:, 0] - x[:, 2]).mean((1, 2))
        return torch.stack([-red, red], 1)


class Cold(Warm):
    """Says the opposite."""

    def forward(self, x):
        return -super().forward(x)


@pytest.fixture
def test_set():
    pixels = RNG.integers(1, 100, (6, 32, 32, 3)).astype(np.uint8)
    pixels[::2, ..., 0] += 100
    pixels[1::2, ..., 2] += 100
    return LabelledSet(pixels, np.array([1, 0, 1, 0, 1, 1]), ("cold", "warm"))


def test_rows_have_bits_errors_and_verdicts(test_set):
    rows = measure.model_rows(
        Model(), test_set, measure.Judges(Warm(), Cold()), lambda _: None, (0.5, 2.0)
    )
    assert [row["bpp"] for row in rows] == pytest.approx([0.5, 2.0])
    assert [row["quality"] for row in rows] == pytest.approx([5, 20])
    assert rows[0]["mse"] == pytest.approx(1 / 255**2)
    assert rows[0]["hits"] == [1, 1, 1, 1, 1, 0]
    assert rows[0]["accuracy"] == pytest.approx(5 / 6)
    assert rows[0]["known"]["accuracy"] == pytest.approx(1 / 6)
    assert rows[0]["sliced_wasserstein"] > 0
    with pytest.raises(ValueError, match=r"the model spends 0\.10 to"):
        measure.model_rows(
            Model(), test_set, measure.Judges(Warm(), Cold()), lambda _: None, (0.01,)
        )


def test_pixels_are_rounded_and_clipped():
    x_hat = torch.tensor([-0.7, -0.5, 0.6 / 255 - 0.5, 0.5, 9.0]).expand(1, 3, 1, 5)
    assert measure.as_pixels(x_hat)[0, 0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_verdicts_are_cross_entropies_in_nats(test_set):
    hits, entropy = measure.verdicts(
        lambda x: torch.zeros(len(x), 2), test_set.pixels, test_set.labels
    )
    assert entropy == pytest.approx(np.log(2))
    assert hits.tolist() == (test_set.labels == 0).tolist()


# ---- how it is told ----


def row(mse=0.004, hits=(1, 0, 1, 1), sliced=50.0, **more):
    verdict = {"accuracy": float(np.mean(hits)), "cross_entropy": 1.25, "hits": list(hits)}
    known = {"accuracy": 0.875, "cross_entropy": 0.5}
    return {"mse": mse, "sliced_wasserstein": sliced, "known": known, **verdict, **more}


@pytest.fixture
def record():
    """A run of which not all is finished."""
    rates = [{"rate": r, "bpp": r + 0.001, "quality": 9.0} for r in (0.25, 0.65)]
    models = {
        Run("squared error"): [row(**rate) for rate in rates],
        Run("classification"): [row(0.005, (1, 1, 1, 1), **rate) for rate in rates],
        Run("squared error", "classification"): [row(0.0042, **rate) for rate in rates],
        Run("perception", "squared error"): [row(sliced=40.0, **rate) for rate in rates],
    }
    decoders = {"quality": row(), "classified": row(0.0041, (1, 1, 1, 1)), "control": row(0.0039)}
    files = [{"quality": 12, "file_bpp": 0.6, "payload_bpp": 0.4, "decoders": decoders}]
    return {**summary(models, files, row()), "steps": 3, "test_pictures": 4}


def test_what_reuse_costs_is_against_the_model_of_the_same_target(record):
    rows = {(r["encoder"], r["target"], r["rate"]): r for r in record["models"]}
    reused = rows["classification", "squared error", 0.25]
    assert reused["extra_mse"] == pytest.approx(0.05)
    assert reused["accuracy_more"] == [0.0, 0.0, 0.0]
    assert "extra_mse" not in rows["its own", "classification", 0.25]
    # no end-to-end model for perception is finished yet: nothing to compare with
    assert "extra_mse" not in rows["squared error", "perception", 0.65]
    assert "hits" not in json.dumps(record)


def test_differences_are_of_the_same_pictures():
    gain = against(row(hits=(1, 1, 1, 0)), row(hits=(0, 1, 0, 0), sliced=100.0))
    assert gain["accuracy_more"][0] == pytest.approx(0.5)
    assert 0 <= gain["accuracy_more"][1] < 0.5 < gain["accuracy_more"][2] <= 1
    assert gain["extra_sliced"] == pytest.approx(-0.5)


def test_tables_show_what_is_finished(record):
    text = markdown(record)
    assert "| 0.65 | classification | 5.000 | 100.0% | 1.250 | 87.5% | 50.0 |" in text
    assert "| 0.25 | classification | squared error | 4.200 | 75.0% |" in text
    assert "| +5.0% | +0.0% | +0.0 (+0.0 to +0.0) |" in text
    assert "| 12 | 0.60 | 0.40 | `classified` | 4.100 | 100.0% |" in text


@pytest.mark.slow("two plots are drawn")
def test_plots_are_the_same_each_time(record, tmp_path):
    written = plot(record, tmp_path)
    assert [path.name for path in written] == ["colour-reuse.svg", "colour-files.svg"]
    first = written[0].read_bytes()
    assert plot({**record, "files": []}, tmp_path) == written[:1]
    assert written[0].read_bytes() == first

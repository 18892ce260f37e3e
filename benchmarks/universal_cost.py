"""How long a recipe of the kind universal takes on this machine: a step's time, times the steps.

::

    python -m benchmarks.universal_cost mnist_universal_paper --data DIR

A few steps of each kind of model are timed, in processor time, which a busy machine disturbs less
than the time on the clock. Nothing is kept of these models. DIR holds MNIST's four files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import torch

from benchmarks import _machine
from trellic_training.cli.train import shipped_recipe
from trellic_training.universal.digits import Digits, load_digits
from trellic_training.universal.jobs import Job, all_jobs
from trellic_training.universal.measure import Measuring, wasserstein
from trellic_training.universal.networks import Classifier, Encoder
from trellic_training.universal.run import job_kind
from trellic_training.universal.settings import UniversalRecipe, load_universal_recipe
from trellic_training.universal.training import Batches, Classification, Compression, fit

OUT = Path(__file__).resolve().parent / "results" / "universal-cost.json"
WARM_UP, TIMED = 2, 5  # steps


class Steps(lightning.Callback):
    """Takes the processor time of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        """Start the clock."""
        self.began = time.process_time()

    def on_train_batch_end(self, *_: object) -> None:
        """Stop it."""
        self.seconds.append(time.process_time() - self.began)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.universal_cost")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    recipe = load_universal_recipe(shipped_recipe(options.recipe))
    digits = load_digits(options.data, "test")
    count = len(load_digits(options.data, "training"))
    result = {
        "benchmark": "universal_cost",
        "machine": _machine.describe(("numpy", "torch", "lightning")),
        "recipe": recipe.name,
        **cost(recipe, digits, count),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["rows"], indent=1), f"{result['hours']:.1f} hours", sep="\n")
    return 0


def cost(recipe: UniversalRecipe, digits: Digits, count: int) -> dict[str, Any]:
    """Return a row for each kind of work, and the hours of all.

    Parameters
    ----------
    digits : to time with
    count : of training digits
    """

    def steps(epochs: float) -> int:
        return max(1, round(epochs * count / recipe.batch))

    jobs = all_jobs(recipe)
    one = {job_kind(job): job for job in reversed(jobs)}
    rows = [_row("classifier", 1, steps(recipe.classifier_epochs), _classifier(recipe, digits))]
    for kind, models in Counter(job_kind(job) for job in jobs).items():
        seconds = _training(recipe, one[kind], digits)
        rows.append(_row(kind, models, steps(recipe.epochs), seconds))
    measured = sum(
        not target.classification
        for job in jobs
        if job.latent == recipe.perception.latent
        for target in job.targets
    )
    measuring = _measuring(recipe, jobs[0], digits)
    rows.append(_row("measuring critic", measured, steps(recipe.measuring_epochs), measuring))
    return {"rows": rows, "hours": sum(row["hours"] for row in rows)}


def _row(kind: str, models: int, steps: int, seconds: float) -> dict[str, Any]:
    hours = models * steps * seconds / 3600
    return {
        "kind": kind,
        "models": models,
        "steps": steps,
        "seconds_a_step": seconds,
        "hours": hours,
    }


def _timed(module: lightning.LightningModule, digits: Digits, batch: int) -> float:
    watch = Steps()
    fit(module, Batches(digits, batch, WARM_UP + TIMED, 1), watchers=[watch])
    return median(watch.seconds[WARM_UP:])


def _classifier(recipe: UniversalRecipe, digits: Digits) -> float:
    return _timed(Classification(recipe.learning_rate), digits, recipe.batch)


def _training(recipe: UniversalRecipe, job: Job, digits: Digits) -> float:
    encoder = Encoder(job.latent[0]).eval() if job.encoder else None
    rate, steps = recipe.learning_rate, WARM_UP + TIMED
    classifier = Classifier().eval()
    module = Compression(job, classifier, recipe.width, rate, steps, recipe.seed, encoder)
    return _timed(module, digits, recipe.batch)


def _measuring(recipe: UniversalRecipe, job: Job, digits: Digits) -> float:
    """Time the critic that measures, by the difference of a long and a short training of it."""
    module = Compression(job, Classifier().eval(), recipe.width, recipe.learning_rate, 1, 1).eval()
    few = Digits(digits.images[:10], digits.labels[:10])

    def train(steps: int) -> Callable[[], float]:
        with_ = Measuring(digits, few, recipe.width, recipe.batch, steps)
        return lambda: wasserstein(module.encoder, module.decoders[0], module.quantizer, with_)

    times = []
    for run in (train(WARM_UP), train(WARM_UP + TIMED)):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return (times[1] - times[0]) / TIMED


if __name__ == "__main__":
    raise SystemExit(main())

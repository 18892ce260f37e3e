"""Train and measure every model of a recipe, in order of importance, within a time budget.

The out folder holds ``plan.json`` (recipe and epochs), ``models/NAME.pt``, ``results/NAME.json``
and the report. Files that exist are not made again, so a run continues where an earlier one ended.
``unfinished/NAME.pt`` holds a model whose training stopped; it is continued from there.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import typer
from torch import nn

from trellic.errors import BadParameter
from trellic_training.data.files import load, reading, save
from trellic_training.stages.interrupted import Interrupted
from trellic_training.stages.progress import spell
from trellic_training.stages.stage import Clock
from trellic_training.stages.stopping import StopOnSignal
from trellic_training.universal.digits import load_digits
from trellic_training.universal.jobs import Job, all_jobs, end_to_end, mixture_of
from trellic_training.universal.measure import (
    Measuring,
    decode_all,
    scores,
    sliced_wasserstein,
    wasserstein,
)
from trellic_training.universal.networks import Classifier, Encoder
from trellic_training.universal.parts import Part
from trellic_training.universal.pictures import draw_digits
from trellic_training.universal.report import write_report
from trellic_training.universal.settings import Target, UniversalRecipe
from trellic_training.universal.training import Batches, Classification, Compression, fit

PROBE_STEPS = (3, 12)  # to warm up, and to time
GRIDS = {"perception", "classification", "rates"}  # may grow: that does not change other models
FEWEST_EPOCHS = 0.02
BROKEN = "holds no model of this report: delete it, and it is made again"
TRAINING_SHARE = 0.85  # of the time; the rest measures


def run_universal(recipe: UniversalRecipe, data: Path, out: Path, minutes: float) -> Path:
    """Train what is missing, measure it, and write the report; returns the report's path.

    Parameters
    ----------
    data : folder of MNIST's four ``idx.gz`` files
    out : folder for models, results, logs, plots and tables
    minutes : time budget; it decides the epochs when the out folder is new and the recipe lets it,
        and how much of the training this run does

    Raises
    ------
    Interrupted
        When a signal stopped the run; the model that it was at is saved.
    """
    clock = Clock(minutes)
    work = Work(recipe, data, out)
    work.prepare(clock)
    jobs = all_jobs(recipe)
    left = [job for job in jobs if not work.result(job).is_file()]
    for job in left:
        if clock.share() >= 1 or not work.finish(job, clock):
            typer.echo("the time is used up: run the same command again to continue")
            break
        typer.echo(f"{work.done(jobs)} of {len(jobs)} models: {job.name}")
    work.show()
    return write_report(recipe, out)


class Work:
    """A recipe, its data and its out folder."""

    def __init__(self, recipe: UniversalRecipe, data: Path, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.training, self.test = (load_digits(data, part) for part in ("training", "test"))
        self.progress = sys.stderr.isatty()
        for folder in ("models", "results", "unfinished"):
            (out / folder).mkdir(parents=True, exist_ok=True)

    def result(self, job: Job) -> Path:
        """Path of a job's measurements: the last file written, so that it stands for the job."""
        return self.out / "results" / f"{job.name}.json"

    def done(self, jobs: list[Job]) -> int:
        """How many jobs are finished."""
        return sum(self.result(job).is_file() for job in jobs)

    def prepare(self, clock: Clock) -> None:
        """Load or train the classifier, then read or make the plan.

        Raises
        ------
        BadParameter
            When the out folder belongs to a recipe that differs in more than its grids.
        """
        self.classifier = self._classifier()
        path = self.out / "plan.json"
        settings = self.recipe.model_dump(mode="json", exclude=GRIDS)
        if not path.is_file():
            _write({"recipe": settings} | self._plan(clock), path)
        plan = json.loads(path.read_text())
        if plan["recipe"] != settings:
            raise BadParameter(
                f"{self.out} holds results of another recipe", remedy="name a new folder by --out"
            )
        self.epochs = float(plan["epochs"])
        typer.echo(f"{self.epochs:.2f} epochs a model (recipe: {self.recipe.epochs:g})")
        left = [job for job in all_jobs(self.recipe) if not self.result(job).is_file()]
        if left:
            typer.echo(
                f"{len(left)} models left: about {spell(self.minutes_of(left, plan))} of training"
            )

    def minutes_of(self, jobs: list[Job], plan: dict[str, Any]) -> float:
        """Estimate how long jobs train, from the step of each kind that the plan timed.

        A kind that came with a grown grid counts as the slowest.
        """
        cost: dict[str, float] = plan["seconds_a_step"]
        most = max(cost.values())
        return self._steps(self.epochs) * sum(cost.get(job_kind(j), most) for j in jobs) / 60

    def finish(self, job: Job, clock: Clock) -> bool:
        """Train one job or go on with it, keep its weights, and write its measurements.

        Returns
        -------
        whether there was time to finish it

        Raises
        ------
        Interrupted
            When a signal stopped it.
        """
        steps, unfinished = self._steps(self.epochs), self.out / "unfinished" / f"{job.name}.pt"
        module = self._module(job, steps)
        part, stop = Part(unfinished, module, clock), StopOnSignal()
        recipe = self.recipe
        if module.done < steps:
            rest = Batches(self.training, recipe.batch, steps, recipe.seed, module.done)
            log = self.out / "log" / job.name
            fit(module, rest, log=log, progress=self.progress, watchers=(part, stop))
        if stop.signum is not None:
            raise Interrupted(stop.signum)
        if module.done < steps:
            return False
        parts = {"encoder": module.encoder, "decoders": module.decoders}
        save({name: net.state_dict() for name, net in parts.items()}, self._weights(job.name))
        spent = {"steps": steps, **part.spent()}
        measured = {**asdict_of(job), "bits": module.quantizer.bits, **spent}
        measured["points"] = [self._point(job, module, i) for i in range(len(job.targets))]
        _write(measured, self.result(job))
        unfinished.unlink(missing_ok=True)
        return True

    def show(self) -> None:
        """Draw digits as the decoders of the perceptual encoder and of the mixture make them."""
        grid = self.recipe.perception
        encoders = end_to_end(grid.latent, Target(perception=grid.encoder)), mixture_of(self.recipe)
        names = [encoder.name for encoder in encoders]
        jobs = [j for j in all_jobs(self.recipe) if j.name in names or j.encoder == names[0]]
        path = self.out / "digits.png"
        draw_digits(jobs, self.out / "models", self.recipe.width, self.test.images, path)

    def _point(self, job: Job, module: Compression, index: int) -> dict[str, float]:
        encoder, decoder, quantizer = module.encoder, module.decoders[index], module.quantizer
        x_hat = decode_all(encoder, decoder, quantizer, self.test.images)
        target = job.targets[index]
        point = {**target.model_dump(), **scores(x_hat, self.test, self.classifier)}
        if job.latent == self.recipe.perception.latent and not target.classification:
            steps = self._steps(self.recipe.measuring_epochs)
            recipe = self.recipe
            measuring = Measuring(self.training, self.test, recipe.width, recipe.batch, steps)
            point["wasserstein"] = wasserstein(encoder, decoder, quantizer, measuring)
        return point

    def _module(self, job: Job, steps: int) -> Compression:
        recipe = self.recipe
        encoder = None if job.encoder is None else self._encoder(job.encoder, job.latent[0])
        lightning.seed_everything(recipe.seed, verbose=False)
        return Compression(
            job, self.classifier, recipe.width, recipe.learning_rate, steps, recipe.seed, encoder
        )

    def _encoder(self, name: str, dimension: int) -> Encoder:
        encoder = Encoder(dimension)
        if self._weights(name).is_file():  # always, but when the plan times a step
            with reading(self._weights(name), BROKEN):
                encoder.load_state_dict(load(self._weights(name))["encoder"])
        return encoder.eval()

    def _weights(self, name: str) -> Path:
        return self.out / "models" / f"{name}.pt"

    def _steps(self, epochs: float) -> int:
        return max(1, round(epochs * len(self.training) / self.recipe.batch))

    def _classifier(self) -> nn.Module:
        classifier, path = Classifier(), self._weights("classifier")
        if path.is_file():
            with reading(path, BROKEN):
                classifier.load_state_dict(load(path))
        else:
            classifier = self._train_classifier()
            save(classifier.state_dict(), path)
        return classifier.eval()

    def _train_classifier(self) -> Classifier:
        recipe = self.recipe
        lightning.seed_everything(recipe.seed, verbose=False)
        module = Classification(recipe.learning_rate)
        steps = self._steps(recipe.classifier_epochs)
        fit(module, self._batches(steps), progress=self.progress)
        return module.net

    def _batches(self, steps: int) -> Batches:
        return Batches(self.training, self.recipe.batch, steps, self.recipe.seed)

    def _plan(self, clock: Clock) -> dict[str, object]:
        """Time a step, and choose the epochs: the recipe's, or as many as all have time for."""
        cost: dict[str, float] = {}
        for job in all_jobs(self.recipe):
            if job_kind(job) not in cost:
                cost[job_kind(job)] = self._seconds_a_step(job)
        epochs = self.recipe.epochs
        if self.recipe.shorten:
            epoch = self._steps(1) * sum(cost[job_kind(job)] for job in all_jobs(self.recipe))
            time_left = clock.seconds * (1 - clock.share()) * TRAINING_SHARE
            epochs = affordable(epochs, time_left, epoch)
        limits = {
            "classifier": scores(self.test.images, self.test, self.classifier),
            "sliced_floor": sliced_wasserstein(
                self.test.images, self.training.images[: len(self.test)]
            ),
        }
        return {"epochs": epochs, "seconds_a_step": cost, "limits": limits}

    def _seconds_a_step(self, job: Job) -> float:
        for steps in PROBE_STEPS:
            module = self._module(job, steps)
            started = time.monotonic()
            fit(module, self._batches(steps))
        return (time.monotonic() - started) / steps


def _write(value: object, path: Path) -> None:
    """Write JSON whole or not at all: a file that is there counts as finished."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(value, indent=1))
    unfinished.replace(path)


def affordable(epochs: float, seconds: float, seconds_an_epoch: float) -> float:
    """Return how many epochs all models have time for, at most ``epochs``.

    Raises
    ------
    BadParameter
        When that is less than a fiftieth of one: nothing could be learned from such models.
    """
    if seconds < seconds_an_epoch * min(epochs, FEWEST_EPOCHS):
        raise BadParameter(
            f"the time budget leaves {seconds / 60:.2g} minutes to train",
            expected=f"{seconds_an_epoch / 60:.2g} for one epoch of every model",
            remedy="raise --minutes, or thin the recipe's grids",
        )
    return min(epochs, seconds / seconds_an_epoch)


def job_kind(job: Job) -> str:
    """Return a name that jobs share whose steps take the same time."""
    end = "decoder" if job.encoder else "end to end"
    return f"{end}, {len(job.targets)} targets, {'critic' if job.adversarial else 'no critic'}"


def asdict_of(job: Job) -> dict[str, object]:
    """Return a job as JSON can hold it."""
    return {"name": job.name, "latent": list(job.latent), "encoder": job.encoder}

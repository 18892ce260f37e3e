"""Training of the models; each lies in the work folder when it is finished, and is made once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.reuse import Facts, StepClock, Trained
from benchmarks.universal_colour.plan import (
    BUNDLE,
    BUNDLE_DECODERS,
    CLASSIFIER,
    JUDGE,
    SHIPPED,
    Run,
    decoder_recipe,
    recipe_of,
)
from trellic.model.bundle import Bundle, find
from trellic_export.family import add_decoder, decoder_by
from trellic_training.cli.train import shipped_recipe
from trellic_training.data.files import sha256_of
from trellic_training.models.decoder_weights import load_decoder, save_decoder
from trellic_training.models.picture_classifier import load_classifier, save_classifier
from trellic_training.models.weights import load_weights
from trellic_training.recipes.classifier import load_classifier_recipe
from trellic_training.stages.classifier import train_classifier
from trellic_training.stages.decoder_training import train_decoder


@dataclass(frozen=True)
class Work(Trained):
    """The folder of finished models, classifiers and decoders."""

    shipped: Path = SHIPPED
    steps: int = 200

    def classifier(self, name: str) -> Path:
        """Return the file of a classifier, trained first if there is none by its recipe."""
        path, recipe = self.file(name), load_classifier_recipe(shipped_recipe(Path(name)))
        known = load_classifier(path).facts if path.is_file() else {}
        if known.get("recipe") != recipe.model_dump(mode="json"):
            save_classifier(train_classifier(recipe, self.photos), path)
        return path

    def model(self, run: Run) -> Path:
        """Return the file of a model, trained first if there is none of the same settings."""
        classifier = self.classifier(CLASSIFIER)
        recipe = recipe_of(run, classifier, self.steps)
        start = self.shipped if run.encoder is None else self.model(Run(run.encoder))
        setting = self._setting(recipe.model_dump(mode="json"), classifier, start)
        return self.kept(run.name, recipe, start, setting, alone=run.encoder is not None)

    def _setting(self, recipe: Facts, classifier: Path, start: Path) -> Facts:
        named = recipe | {"classification": recipe["classification"] | {"classifier": ""}}
        return {
            "recipe": named,
            "steps": self.steps,
            "classifier": sha256_of(classifier),
            "start": sha256_of(start),
        }

    def decoder(self, name: str) -> Path:
        """Return the file of a decoder of the bundle, trained first if there is none."""
        path, classifier = self.file(name), self.classifier(CLASSIFIER)
        recipe = decoder_recipe(BUNDLE_DECODERS[name], classifier, self.steps)
        setting = self._setting(recipe.model_dump(mode="json"), classifier, self.shipped)
        if path.is_file() and load_decoder(path).facts.get("setting") == setting:
            return path
        bundle, clock = Bundle(find(BUNDLE)), StepClock()
        torch.manual_seed(recipe.seed)
        network = recipe.network.make(bundle.manifest.layout)
        network.load_state_dict(load_weights(self.shipped)[0].g_s.state_dict())
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            network, steps = train_decoder(
                recipe, network, bundle, self.photos, Path(out), self.steps / 60,
                steps=self.steps, now=clock, watchers=[clock],
            )  # fmt: skip
        facts = {"setting": setting, "steps": steps}
        save_decoder(decoder_by(recipe, network, bundle, facts), path)
        return path

    def bundle(self) -> Path:
        """Return the bundle with the decoders that are trained so far."""
        out = self.folder / f"{BUNDLE}.zip"
        opened = Bundle(find(BUNDLE))
        for name in BUNDLE_DECODERS:
            if self.file(name).is_file():
                add_decoder(opened, name, load_decoder(self.file(name)), out)
                opened = Bundle(out)
        return out

    def judge(self) -> Path:
        """Return the file of the classifier that no codec is trained by."""
        return self.classifier(JUDGE)

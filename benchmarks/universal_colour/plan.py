"""What is trained: targets, end-to-end models, decoders on their encoders, decoders of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellic_training.cli.train import shipped_recipe
from trellic_training.recipes.codec import Recipe, load_recipe
from trellic_training.recipes.decoder import DecoderRecipe, load_decoder_recipe

BUNDLE = "cifar"
SHIPPED = Path("training") / "checkpoints" / f"{BUNDLE}.pt"
CLASSIFIER, JUDGE = "classifier-cifar", "judge-cifar"  # recipes, and names of files
ERROR, PERCEPTION, CLASSIFICATION = "squared error", "perception", "classification"
STRONG = "strong classification"  # ten times the weight
LEARNING_RATE = 1e-3
LMBDA = (0.0001, 0.03)  # an eighth of the recipe's: labels are lost at low rates
WARM_UP, DECAY_FROM = 0.1, 0.3  # shares of the steps


@dataclass(frozen=True)
class Weights:
    """Weights of the two terms, in bits per pixel; see `trellic_training.recipes.terms`."""

    lambda_c: float = 0.0
    lambda_p: float = 0.0


TARGETS = {
    ERROR: Weights(),
    PERCEPTION: Weights(lambda_p=0.1),
    CLASSIFICATION: Weights(lambda_c=0.1),
    STRONG: Weights(lambda_c=1.0),
}
BUNDLE_DECODERS = {"classified": 0.3, "classified-strong": 3.0, "control": 0.0}  # lambda_c


@dataclass(frozen=True)
class Run:
    """One model: end to end, or a decoder on the frozen encoder of an end-to-end model."""

    target: str
    encoder: str | None = None

    @property
    def name(self) -> str:
        """Name of its files."""
        parts = [self.target] + ([] if self.encoder is None else ["on", self.encoder])
        return "-".join(parts).replace(" ", "-")


END_TO_END = tuple(Run(target) for target in TARGETS)
RUNS = (
    Run(ERROR),
    Run(CLASSIFICATION),
    Run(CLASSIFICATION, ERROR),
    Run(ERROR, CLASSIFICATION),
    Run(PERCEPTION),
    Run(PERCEPTION, ERROR),
    Run(ERROR, PERCEPTION),
    Run(STRONG),
    Run(STRONG, ERROR),
    Run(ERROR, STRONG),
    Run(ERROR, ERROR),
    Run(STRONG, STRONG),
    Run(CLASSIFICATION, CLASSIFICATION),
    Run(PERCEPTION, PERCEPTION),
)


def recipe_of(run: Run, classifier: Path, steps: int) -> Recipe:
    """Return the recipe of a model: that of `cifar`, with the target's terms, for so many steps.

    All name the classifier, so that all see the same pictures in the same order.
    """
    weights = TARGETS[run.target]
    changed: dict[str, Any] = {
        "name": run.name,
        "learning_rate": LEARNING_RATE,
        "lmbda": LMBDA,
        "warmup_steps": max(1, round(WARM_UP * steps)),
        "decay_from": DECAY_FROM,
        "classification": {"classifier": classifier, "lambda_c": weights.lambda_c},
        "perception": {"lambda_p": weights.lambda_p} if weights.lambda_p else None,
    }
    base = load_recipe(shipped_recipe(Path("cifar")))
    return Recipe.model_validate(base.model_dump() | changed)


def decoder_recipe(lambda_c: float, classifier: Path, steps: int) -> DecoderRecipe:
    """Return the recipe of a decoder for the bundle: `classified`, with this weight."""
    base = load_decoder_recipe(shipped_recipe(Path("decoders-cifar")), "classified")
    changed: dict[str, Any] = {
        "warmup_steps": max(1, round(WARM_UP * steps)),
        "validate_every": steps,
        "classification": {"classifier": classifier, "lambda_c": lambda_c},
    }
    return DecoderRecipe.model_validate(base.model_dump() | changed)

"""The models that a recipe asks for, the most informative first."""

from __future__ import annotations

from dataclasses import dataclass

from trellic_training.universal.settings import Latent, Target, UniversalRecipe


@dataclass(frozen=True)
class Job:
    """One model: an encoder with a decoder for each target, or a decoder for a frozen encoder.

    Attributes
    ----------
    name : of its files; names what decides the model
    latent : latent dimension and levels a latent
    targets : loss of each decoder; the encoder of several is trained on their mean
    encoder : name of the job whose encoder is frozen and re-used, if any
    """

    name: str
    latent: Latent
    targets: tuple[Target, ...]
    encoder: str | None = None

    @property
    def adversarial(self) -> bool:
        """Whether a critic takes part in training."""
        return any(target.perception for target in self.targets)


def all_jobs(recipe: UniversalRecipe) -> list[Job]:
    """Return every model of a recipe once; an encoder comes before its decoders.

    Order: classification end to end and the mixture, decoders on their encoders for the first two
    targets of the recipe, perception, decoders for the other targets, more rates.
    """
    alone, decoders = _classification(recipe)
    first = [job for job in decoders if job.targets[0] in _targets(recipe)[:2]]
    jobs = [*alone, *first, *_perception(recipe), *decoders, *_rates(recipe)]
    return list({job.name: job for job in jobs}.values())


def end_to_end(latent: Latent, *targets: Target) -> Job:
    """Return the job of an encoder and decoders that are trained together."""
    weights = "+".join(_weights(target) for target in targets)
    return Job(f"{latent[0]}x{latent[1]}-{weights}", latent, targets)


def on_encoder(encoder: Job, target: Target) -> Job:
    """Return the job of a decoder for the frozen encoder of another job."""
    return Job(f"{encoder.name}--{_weights(target)}", encoder.latent, (target,), encoder.name)


def _weights(target: Target) -> str:
    named = {"p": target.perception, "c": target.classification}
    return "".join(f"{name}{value:g}" for name, value in named.items() if value) or "mse"


def _targets(recipe: UniversalRecipe) -> list[Target]:
    return [Target(classification=c) for c in recipe.classification.universal]


def _classification(recipe: UniversalRecipe) -> tuple[list[Job], list[Job]]:
    """Return end-to-end models with the mixture, and decoders on re-used encoders."""
    grid = recipe.classification
    alone = [end_to_end(grid.latent, Target(classification=c)) for c in grid.end_to_end]
    encoders = [end_to_end(grid.latent, Target(classification=c)) for c in grid.encoders]
    encoders.append(mixture_of(recipe))
    decoders = [  # an encoder's own targets are left out: it has decoders for them
        on_encoder(encoder, target)
        for target in _targets(recipe)
        for encoder in encoders
        if target not in encoder.targets
    ]
    return [*alone, *encoders], decoders


def mixture_of(recipe: UniversalRecipe, latent: Latent | None = None) -> Job:
    """Return the job whose encoder is trained on several classification targets at once.

    Parameters
    ----------
    latent : its rate, that of the classification grid if left out
    """
    grid = recipe.classification
    targets = (Target(classification=c) for c in grid.mixture)
    return end_to_end(latent or grid.latent, *targets)


def _perception(recipe: UniversalRecipe) -> list[Job]:
    grid = recipe.perception
    alone = [end_to_end(grid.latent, Target(perception=p)) for p in grid.end_to_end]
    encoder = end_to_end(grid.latent, Target(perception=grid.encoder))
    decoders = [on_encoder(encoder, Target(perception=p)) for p in grid.universal]
    return [encoder, *decoders, *alone]


def _rates(recipe: UniversalRecipe) -> list[Job]:
    grid = recipe.rates
    alone = [
        end_to_end(latent, Target(classification=c))
        for c in grid.end_to_end
        for latent in grid.latents
    ]
    return alone + [mixture_of(recipe, latent) for latent in grid.latents if grid.mixture]

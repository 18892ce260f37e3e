"""Measures of a finished model, on the test digits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic_training.universal.digits import Digits
from trellic_training.universal.networks import Critic
from trellic_training.universal.quantizer import DitheredQuantizer
from trellic_training.universal.training import Batches, critic_loss, critic_optimizer

DITHER_SEED, PROJECTION_SEED = 2, 3  # the same for every model
CHUNK = 1000  # digits decoded at once
PROJECTIONS = 256
RATE = 1e-3  # learning rate of the measuring critic


@dataclass(frozen=True)
class Measuring:
    """Settings of the measuring critic."""

    training: Digits
    test: Digits
    width: float
    batch: int
    critic_steps: int


@torch.no_grad()
def decode_all(
    encoder: nn.Module, decoder: nn.Module, quantizer: DitheredQuantizer, images: Tensor
) -> Tensor:
    """Return what a receiver decodes, (N, 1, 28, 28), from indices and shared dither."""
    generator = torch.Generator().manual_seed(DITHER_SEED)
    made = []
    for x in torch.split(images, CHUNK):
        u = quantizer.dither(len(x), generator)
        indices = quantizer.indices(encoder(x), u)
        made.append(decoder(quantizer.received(indices, u)))
    return torch.cat(made)


@torch.no_grad()
def scores(x_hat: Tensor, test: Digits, classifier: nn.Module) -> dict[str, float]:
    """Return ``mse`` (pixels in [0, 1]), ``accuracy``, ``cross_entropy`` (nats) and ``sliced``."""
    logits = torch.cat([classifier(x) for x in torch.split(x_hat, CHUNK)])
    return {
        "mse": float((x_hat - test.images).square().mean()),
        "accuracy": float((logits.argmax(1) == test.labels).float().mean()),
        "cross_entropy": float(functional.cross_entropy(logits, test.labels)),
        "sliced": sliced_wasserstein(test.images, x_hat),
    }


def sliced_wasserstein(a: Tensor, b: Tensor) -> float:
    """Sliced 2-Wasserstein distance of two sets of as many pictures, over random unit directions.

    Root of the mean squared difference of the sorted projections (Bonneel et al. 2015).
    """
    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    directions = torch.randn(a[0].numel(), PROJECTIONS, generator=generator)
    directions = directions / directions.norm(dim=0)
    one, two = ((x.flatten(1) @ directions).sort(0).values for x in (a, b))
    return float((one - two).square().mean().sqrt())


def wasserstein(
    encoder: nn.Module, decoder: nn.Module, quantizer: DitheredQuantizer, with_: Measuring
) -> float:
    """Critic's estimate of the 1-Wasserstein distance between test digits and decoded ones.

    Every model gets a new critic, trained on decoded training digits for equally many steps,
    because the critics of training have different histories. The estimate is a lower bound, as from
    every critic that is not perfect.
    """
    torch.manual_seed(DITHER_SEED)
    critic = Critic(with_.width)
    optimizer = critic_optimizer(critic, RATE)
    batches = Batches(with_.training, with_.batch, with_.critic_steps, DITHER_SEED)
    for index in range(len(batches)):
        real = batches[index][0]
        u = quantizer.dither(len(real), torch.Generator().manual_seed(index))
        with torch.no_grad():
            fake = decoder(quantizer(encoder(real), u))
        optimizer.zero_grad()
        torch.autograd.backward(critic_loss(critic, real, fake))
        optimizer.step()
    made = decode_all(encoder, decoder, quantizer, with_.test.images)
    with torch.no_grad():
        real_score, made_score = (
            torch.cat([critic(x) for x in torch.split(images, CHUNK)]).mean()
            for images in (with_.test.images, made)
        )
    return float(real_score - made_score)

"""Training loops: the classifier, and an auto-encoder with a decoder (and critic) a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from trellic_training.stages.quiet import quiet
from trellic_training.universal.digits import Digits
from trellic_training.universal.jobs import Job
from trellic_training.universal.networks import (
    Classifier,
    Critic,
    Decoder,
    Encoder,
    gradient_penalty,
)
from trellic_training.universal.quantizer import DitheredQuantizer
from trellic_training.universal.settings import Target

PENALTY = 10.0  # weight of the gradient penalty (Gulrajani et al. 2017)
DROP_FROM, DROP = 2 / 3, 1 / 5  # the papers' schedule: a fifth of the rate after 20 of 30 epochs
BETAS = (0.5, 0.999)
Batch = tuple[Tensor, Tensor]


class Batches(Dataset[Batch]):
    """``steps`` batches of shuffled digits, the same for every model of one seed.

    The first ``done`` are left out: an earlier run has had them.
    """

    def __init__(self, digits: Digits, batch: int, steps: int, seed: int, done: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        rounds = -(-steps * batch // len(digits))
        orders = [torch.randperm(len(digits), generator=generator) for _ in range(rounds)]
        order = torch.cat(orders)[: steps * batch].view(steps, batch)
        self.digits, self.order = digits, order[done:]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        chosen = self.order[index]
        return self.digits.images[chosen], self.digits.labels[chosen]


class Classification(lightning.LightningModule):
    """Train C with cross entropy."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.net = Classifier()
        self.learning_rate = learning_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.net.parameters(), self.learning_rate)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Cross entropy in nats."""
        return functional.cross_entropy(self.net(batch[0]), batch[1])


class Compression(lightning.LightningModule):
    """Train f (unless it is given, and then frozen), {g_i} and {h_i} on a job's targets.

    ::

        x -> f -> + u -> Q -> - u -> g_i -> x_hat_i -> squared error, h_i, C
    """

    def __init__(
        self,
        job: Job,
        classifier: nn.Module,
        width: float,
        learning_rate: float,
        steps: int,
        seed: int,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.job, self.learning_rate, self.steps = job, learning_rate, steps
        self.quantizer = DitheredQuantizer(*job.latent)
        self.frozen = encoder is not None
        self.encoder = encoder or Encoder(job.latent[0])
        self.decoders = nn.ModuleList(Decoder(job.latent[0], width) for _ in job.targets)
        self.critics = nn.ModuleList(Critic(width) for t in job.targets if t.perception)
        self.encoder.requires_grad_(not self.frozen)
        self.classifier = classifier.requires_grad_(False)
        self.seed = seed
        self.done = 0  # steps, those of earlier runs too
        self.shared = torch.Generator()  # where u comes from

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam over encoder and decoders, and one over the critics if there are any."""
        trained = [p for p in self.parameters() if p.requires_grad]
        critics = set(self.critics.parameters())
        own = [p for p in trained if p not in critics]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(own, self.learning_rate, betas=BETAS)
        ]
        if critics:
            optimizers.append(critic_optimizer(self.critics, self.learning_rate))
        return optimizers

    def on_train_start(self) -> None:
        """Keep frozen networks in evaluation mode, and seed the shared randomness on our device."""
        self.classifier.eval()
        if self.frozen:
            self.encoder.eval()
        self.shared = torch.Generator(self.device).manual_seed(self.seed)

    def training_step(self, batch: Batch, index: int) -> None:
        """One step of the critics, then one of encoder and decoders."""
        x, labels = batch
        y = self.encoder(x)
        received = self.quantizer(y, self.quantizer.dither(len(x), self.shared))
        pictures = [decoder(received) for decoder in self.decoders]
        optimizers = self.optimizers()
        own, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in others:
            optimizer.zero_grad()
            self.manual_backward(self._critic_loss(x, pictures))
            optimizer.step()
        self.critics.requires_grad_(False)
        loss = self._loss(pictures, x, labels)
        own.zero_grad()
        self.manual_backward(loss)
        own.step()
        self.critics.requires_grad_(True)
        self.done += 1
        self.log("loss", loss, prog_bar=True)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, which drops once, after two thirds of the steps."""
        factor = DROP if self.done >= round(self.steps * DROP_FROM) else 1.0
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * factor

    def _loss(self, pictures: list[Tensor], x: Tensor, labels: Tensor) -> Tensor:
        critics = iter(self.critics)
        losses = []
        for target, x_hat in zip(self.job.targets, pictures, strict=True):
            critic = next(critics) if target.perception else None
            losses.append(self._loss_of(target, x_hat, x, labels, critic))
        return torch.stack(losses).mean()

    def _loss_of(
        self, target: Target, x_hat: Tensor, x: Tensor, labels: Tensor, critic: nn.Module | None
    ) -> Tensor:
        loss = (x_hat - x).square().mean()
        if target.classification:
            surprise = functional.cross_entropy(self.classifier(x_hat), labels)
            loss = loss + target.classification * surprise
        if critic is not None:
            loss = loss - target.perception * critic(x_hat).mean()
        return loss

    def _critic_loss(self, x: Tensor, pictures: list[Tensor]) -> Tensor:
        pairs = zip(self.job.targets, pictures, strict=True)
        fakes = [x_hat.detach() for target, x_hat in pairs if target.perception]
        losses = [critic_loss(h, x, fake) for h, fake in zip(self.critics, fakes, strict=True)]
        return torch.stack(losses).sum()


def critic_optimizer(critic: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Return Adam as WGAN-GP wants it: little momentum."""
    return torch.optim.Adam(critic.parameters(), learning_rate, betas=(0.5, 0.9))


def critic_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return the loss of a critic: the negative Wasserstein estimate plus the penalty."""
    difference: Tensor = critic(fake).mean() - critic(real).mean()
    return difference + PENALTY * gradient_penalty(critic, real, fake)


def fit(
    module: lightning.LightningModule,
    batches: Batches,
    *,
    log: Path | None = None,
    progress: bool = False,
    watchers: Sequence[lightning.Callback] = (),
) -> None:
    """Run a module once over batches; TensorBoard events go to ``log``."""
    with quiet():
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=1,
            callbacks=list(watchers),
            logger=TensorBoardLogger(str(log.parent), log.name, version="") if log else False,
            log_every_n_steps=min(50, len(batches)),
            enable_checkpointing=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))
    module.cpu().eval()
